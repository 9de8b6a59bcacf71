// Runs the SQL on standard input on the SQLite file that is named, and prints the rows of its last statement, as
// `psql -At` does. Not a contestant: the runner counts rows and fills tables with it, and so needs no database library
// of its own.

import { readFileSync } from 'node:fs'
import Database from 'better-sqlite3'

const db = new Database(process.argv[2])
// A fill touches pages all over its indexes. With SQLite's own 2 MB each is read and written anew.
db.pragma('cache_size = -2000000')
const statements = readFileSync(0, 'utf8').split(/;\s*$/m).filter((text) => text.trim() !== '')
for (const [index, text] of statements.entries()) {
  const statement = db.prepare(text)
  if (!statement.reader) {
    statement.run()
    continue
  }
  const rows = statement.raw().all()
  if (index === statements.length - 1) {
    for (const row of rows) console.log(row.join('|'))
  }
}

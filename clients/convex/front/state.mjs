// The tables, and the file that they outlive a kill in: what is committed is in it before it is answered.

import { existsSync } from 'node:fs'
import { open, readFile, rename } from 'node:fs/promises'

/** Rows that are put back in one transaction, of the 16,000 that it may write. */
const CHUNK = 4000

export class State {
  constructor(convex, names, file) {
    Object.assign(this, { convex, names, file })
  }

  static async open(convex, names, file) {
    const state = new State(convex, names, file)
    if (file !== undefined && existsSync(file)) await state.#restore(JSON.parse(await readFile(file, 'utf8')))
    return state
  }

  /** All rows of all tables. Pages, because a transaction may read 32,000 rows. */
  async tables() {
    const tables = {}
    for (const name of this.names) {
      tables[name] = []
      for (let cursor = null, isDone = false; !isDone; ) {
        const page = await this.convex.run((ctx) => ctx.db.query(name).paginate({ cursor, numItems: CHUNK }))
        tables[name].push(...page.page)
        cursor = page.continueCursor
        isDone = page.isDone
      }
    }
    return tables
  }

  async save() {
    if (this.file === undefined) return
    const file = await open(`${this.file}.new`, 'w')
    try {
      await file.writeFile(JSON.stringify(await this.tables()))
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${this.file}.new`, this.file)
  }

  async clear(names = this.names) {
    for (const name of names) {
      const clearSome = (ctx) => ctx.db.query(name).take(CHUNK).then((rows) => this.#deleteAll(ctx, rows))
      while ((await this.convex.run(clearSome)) > 0);
    }
    await this.save()
  }

  async #deleteAll(ctx, rows) {
    for (const { _id } of rows) await ctx.db.delete(_id)
    return rows.length
  }

  /** Convex gives ids and times of creation anew. */
  async #restore(tables) {
    for (const [name, rows] of Object.entries(tables)) {
      for (let at = 0; at < rows.length; at += CHUNK) {
        await this.convex.run(async (ctx) => {
          for (const { _id, _creationTime, ...row } of rows.slice(at, at + CHUNK)) await ctx.db.insert(name, row)
        })
      }
    }
  }
}

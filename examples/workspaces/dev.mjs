// `npm run dev`: the sandbox, the service and the page, until Ctrl-C.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { createServer } from 'vite'
import { Local } from './local.mjs'

// With a key of Clerk's own the page talks to Clerk, and to the service that you run (FAIRCOPY_URL).
const isClerk = process.env.VITE_CLERK_PUBLISHABLE_KEY !== undefined
const local = isClerk ? undefined : await Local.start()
if (local) {
  Object.assign(process.env, { FAIRCOPY_URL: local.url, SANDBOX_URL: local.sandboxUrl, SANDBOX_SECRET_KEY: local.secretKey })
  await rooms(local)
}
const server = await createServer({ root: fileURLToPath(new URL('.', import.meta.url)) })
await server.listen()
console.log(`
  page       ${server.resolvedUrls?.local[0]}      sign in as two people in two tabs
${local ? `  sandbox    ${local.sandboxUrl}/      be Clerk yourself: rename, invite, delete\n  Faircopy   ${local.url}/docs` : ''}
`)

let isEnding = false
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, async () => {
    if (isEnding) return
    isEnding = true
    await server.close()
    await local?.stop()
    process.exit(0)
  })
}

/** What the application itself would write: a few rooms in each workspace. SQLite is spoken by newer versions of Node, and by Python. */
async function rooms({ database, clerk }) {
  const { data } = await clerk.call(local, 'GET', '/v1/organizations?limit=100')
  const rows = data.flatMap(({ id }) => [['Roadmap', 'document'], ['Sketches', 'whiteboard'], ['Stand-up', 'conference']].map(([name, kind]) => [`${id}-${kind}`, id, name, kind]))
  const quoted = (word) => `'${word.replaceAll("'", "''")}'`
  const text = `PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;
    INSERT OR IGNORE INTO rooms (id, workspace_id, name, kind) VALUES ${rows.map((row) => `(${row.map(quoted).join(', ')})`).join(', ')};`
  const sqlite = await import('node:sqlite').catch(() => undefined)
  if (sqlite) {
    const connection = new sqlite.DatabaseSync(database)
    connection.exec(text)
    connection.close()
    return
  }
  const script = 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.stdin.read()); c.close()'
  const child = spawn('python3', ['-c', script, database], { stdio: ['pipe', 'ignore', 'inherit'] })
  const code = await new Promise((resolve) => {
    child.on('error', () => resolve(1))
    child.on('exit', resolve)
    child.stdin.on('error', () => undefined)
    child.stdin.end(text)
  })
  if (code !== 0) console.log('  the workspaces have no rooms yet: that takes Node 22.13 or Python')
}

// The SQLite peer: Fastify, Svix's own verification, better-sqlite3, one durable transaction per delivery.

import Database from 'better-sqlite3'
import { Webhook } from 'svix'
import { isUserSnapshot, serve, upsertUser, userValues } from './server.mjs'

const webhook = new Webhook(process.env.CLERK_WEBHOOK_SIGNING_SECRET)
const db = new Database(process.env.DATABASE_URL.replace(/^sqlite:\/\//, ''))
db.pragma('journal_mode = WAL')
db.pragma('synchronous = FULL')
db.exec(`
  CREATE TABLE IF NOT EXISTS webhook_deliveries (
    svix_id TEXT PRIMARY KEY,
    event_type TEXT NOT NULL,
    received_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    payload TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS users (
    clerk_user_id TEXT PRIMARY KEY,
    external_id TEXT,
    username TEXT,
    first_name TEXT,
    last_name TEXT,
    name TEXT,
    email TEXT,
    image_url TEXT,
    workspace_id TEXT,
    public_metadata TEXT,
    banned INTEGER,
    locked INTEGER,
    provenance TEXT,
    created_at TEXT,
    updated_at TEXT
  ) STRICT;`)

const insertDelivery = db.prepare(`INSERT INTO webhook_deliveries (svix_id, event_type, payload) VALUES (?, ?, ?)
  ON CONFLICT (svix_id) DO NOTHING`)
const upsert = db.prepare(upsertUser('users', () => '?'))

const record = db.transaction((id, event, text) => {
  insertDelivery.run(id, event.type, text)
  if (isUserSnapshot(event)) {
    // better-sqlite3 binds no booleans.
    upsert.run(userValues(event.data).map((value) => (typeof value === 'boolean' ? Number(value) : value)))
  }
})

async function receive(body, headers) {
  const text = body.toString('utf8')
  let event
  try {
    event = webhook.verify(text, headers)
  } catch {
    return false
  }
  record(headers['svix-id'], event, text)
  return true
}

await serve(receive)

// The plain peer: Fastify, Svix's own verification, `pg`, one transaction per delivery. What the guides show.

import pg from 'pg'
import { Webhook } from 'svix'
import { isUserSnapshot, postgresTables, serve, upsertUser, userValues } from './server.mjs'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })
const webhook = new Webhook(process.env.CLERK_WEBHOOK_SIGNING_SECRET)

const INSERT_DELIVERY = `INSERT INTO plain.webhook_deliveries (svix_id, event_type, payload) VALUES ($1, $2, $3)
  ON CONFLICT (svix_id) DO NOTHING`
const UPSERT_USER = upsertUser('plain.users', (n) => `$${n}`)

async function receive(body, headers) {
  const text = body.toString('utf8')
  let event
  try {
    event = webhook.verify(text, headers)
  } catch {
    return false
  }

  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await client.query(INSERT_DELIVERY, [headers['svix-id'], event.type, text])
    if (isUserSnapshot(event)) {
      await client.query(UPSERT_USER, userValues(event.data))
    }
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
  return true
}

await pool.query(postgresTables('plain'))
await serve(receive)

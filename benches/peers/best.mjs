// The best peer: Fastify, HMAC from node:crypto, one prepared statement: a delivery costs one round trip.

import { createHmac, timingSafeEqual } from 'node:crypto'
import pg from 'pg'
import { isUserSnapshot, postgresTables, serve, upsertUser, userValues } from './server.mjs'

const TOLERANCE_S = 300

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })
const key = Buffer.from(process.env.CLERK_WEBHOOK_SIGNING_SECRET.replace(/^whsec_/, ''), 'base64')

const INSERT_DELIVERY = `INSERT INTO best.webhook_deliveries (svix_id, event_type, payload) VALUES ($1, $2, $3)
  ON CONFLICT (svix_id) DO NOTHING`
const RECORD_AND_UPSERT = `WITH delivery AS (${INSERT_DELIVERY}) ${upsertUser('best.users', (n) => `$${n + 3}`)}`

function isAuthentic(body, headers) {
  const id = headers['svix-id']
  const timestamp = headers['svix-timestamp']
  const signatures = headers['svix-signature']
  if (!id || !timestamp || !signatures) return false
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE_S)) return false

  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()
  return signatures.split(' ').some((entry) => {
    const [version, encoded] = entry.split(',')
    const given = Buffer.from(encoded ?? '', 'base64')
    return version === 'v1' && given.length === expected.length && timingSafeEqual(given, expected)
  })
}

async function receive(body, headers) {
  if (!isAuthentic(body, headers)) return false

  const text = body.toString('utf8')
  const event = JSON.parse(text)
  const delivery = [headers['svix-id'], event.type, text]
  if (isUserSnapshot(event)) {
    await pool.query({ name: 'user', text: RECORD_AND_UPSERT, values: [...delivery, ...userValues(event.data)] })
  } else {
    await pool.query({ name: 'other', text: INSERT_DELIVERY, values: delivery })
  }
  return true
}

await pool.query(postgresTables('best'))
await serve(receive)

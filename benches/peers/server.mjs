// What the three peers share: the Fastify server, and how Clerk's user becomes a row.

import Fastify from 'fastify'

/** Starts a server that hands the raw body and the headers to `receive` and answers 200 once it has resolved. */
export async function serve(receive) {
  const app = Fastify({ logger: false })
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

  app.get('/healthz', async () => 'ok')
  app.post('/webhooks/clerk', async (request, reply) => {
    if (!(await receive(request.body, request.headers))) {
      return reply.code(400).send({ error: 'The signature is not valid.' })
    }
    return { received: true }
  })

  await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
}

/** True for the two event types whose data is a user to keep. */
export const isUserSnapshot = (event) => event.type === 'user.created' || event.type === 'user.updated'

/** The profile columns, in this order in every statement. */
export const USER_COLUMNS = [
  'clerk_user_id', 'external_id', 'username', 'first_name', 'last_name', 'name', 'email', 'image_url', 'workspace_id',
  'public_metadata', 'banned', 'locked', 'provenance', 'created_at', 'updated_at',
]

/** The values of `USER_COLUMNS` for one of Clerk's users. */
export function userValues(user) {
  const name = [user.first_name, user.last_name].filter(Boolean).join(' ') || user.username
  const email =
    user.email_addresses.find((address) => address.id === user.primary_email_address_id) ??
    user.email_addresses.find((address) => address.verification?.status === 'verified')
  return [
    user.id, user.external_id, user.username, user.first_name, user.last_name, name, email?.email_address ?? null,
    user.image_url, null, JSON.stringify(user.public_metadata), user.banned, user.locked, 'webhook',
    new Date(user.created_at).toISOString(), new Date(user.updated_at).toISOString(),
  ]
}

/** `INSERT … ON CONFLICT … DO UPDATE` of a user's row; `placeholder` writes the n-th parameter, counted from 1. */
export function upsertUser(table, placeholder) {
  const placeholders = USER_COLUMNS.map((_, index) => placeholder(index + 1)).join(', ')
  const assignments = USER_COLUMNS.slice(1).map((column) => `${column} = excluded.${column}`).join(', ')
  return `INSERT INTO ${table} (${USER_COLUMNS.join(', ')}) VALUES (${placeholders})
    ON CONFLICT (clerk_user_id) DO UPDATE SET ${assignments}`
}

/** The two tables of the Postgres peers, in a schema of their own. Several processes may start at once. */
export const postgresTables = (schema) => `
  BEGIN;
  SELECT pg_advisory_xact_lock(1);
  CREATE SCHEMA IF NOT EXISTS ${schema};
  CREATE TABLE IF NOT EXISTS ${schema}.webhook_deliveries (
    svix_id text PRIMARY KEY,
    event_type text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    payload text NOT NULL
  );
  CREATE TABLE IF NOT EXISTS ${schema}.users (
    clerk_user_id text PRIMARY KEY,
    external_id text,
    username text,
    first_name text,
    last_name text,
    name text,
    email text,
    image_url text,
    workspace_id text,
    public_metadata jsonb,
    banned boolean,
    locked boolean,
    provenance text,
    created_at timestamptz,
    updated_at timestamptz
  );
  COMMIT;`

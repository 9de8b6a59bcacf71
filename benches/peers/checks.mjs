// What the two token peers share: a session check as a user would write it. The token is verified without any network,
// and one statement asks whether user and membership are there; who is new is stored.

import Fastify from 'fastify'
import pg from 'pg'

const TABLES = `
  BEGIN;
  SELECT pg_advisory_xact_lock(1);
  CREATE SCHEMA IF NOT EXISTS checks;
  CREATE TABLE IF NOT EXISTS checks.users (clerk_user_id text PRIMARY KEY);
  CREATE TABLE IF NOT EXISTS checks.organization_members (
    clerk_org_id text NOT NULL,
    clerk_user_id text NOT NULL,
    role text NOT NULL,
    PRIMARY KEY (clerk_org_id, clerk_user_id)
  );
  COMMIT;`

const CHECK = {
  name: 'check',
  text: `SELECT u.clerk_user_id, m.role FROM checks.users u
    LEFT JOIN checks.organization_members m ON m.clerk_user_id = u.clerk_user_id AND m.clerk_org_id = $2
    WHERE u.clerk_user_id = $1`,
}

/** Serves `GET /v1/auth`; `verify` gives the claims of a good token and throws for any other. */
export async function serveChecks(verify) {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })
  await pool.query(TABLES)

  async function stored(userId, organization) {
    await pool.query('INSERT INTO checks.users VALUES ($1) ON CONFLICT DO NOTHING', [userId])
    if (organization) {
      await pool.query('INSERT INTO checks.organization_members VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [
        organization.id, userId, `org:${organization.rol}`,
      ])
    }
    return check(userId, organization)
  }

  const check = async (userId, organization) =>
    (await pool.query({ ...CHECK, values: [userId, organization?.id ?? null] })).rows[0]

  const app = Fastify({ logger: false })
  app.get('/healthz', async () => 'ok')
  app.get('/v1/auth', async (request, reply) => {
    const token = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
    let claims
    try {
      claims = await verify(token)
    } catch {
      return reply.code(401).send({ error: 'The token is not valid.' })
    }
    let row = await check(claims.sub, claims.o)
    if (!row || (claims.o && !row.role)) row = await stored(claims.sub, claims.o)
    reply.header('x-auth-user-id', row.clerk_user_id)
    if (row.role) reply.header('x-auth-org-id', claims.o.id).header('x-auth-org-role', row.role)
    return reply.send('')
  })
  await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
}

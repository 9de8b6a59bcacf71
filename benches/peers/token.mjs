// The token peer: Fastify, Clerk's own `verifyToken` with the PEM (no network), `pg`.

import { verifyToken } from '@clerk/backend'
import { serveChecks } from './checks.mjs'

const jwtKey = process.env.CLERK_JWT_KEY

await serveChecks((token) => verifyToken(token, { jwtKey }))

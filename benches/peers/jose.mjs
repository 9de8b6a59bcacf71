// The same check with `jose` in place of Clerk's SDK.

import { importSPKI, jwtVerify } from 'jose'
import { serveChecks } from './checks.mjs'

const key = await importSPKI(process.env.CLERK_JWT_KEY, 'RS256')
const options = { algorithms: ['RS256'], issuer: process.env.CLERK_JWT_ISSUER_DOMAIN, clockTolerance: 5 }

await serveChecks(async (token) => (await jwtVerify(token, key, options)).payload)

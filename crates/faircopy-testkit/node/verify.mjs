// Judges tokens with Clerk's own SDK. Standard input: {"now": ms, "pem": "…", "cases": [{"token": "…", "options": {…}}]};
// standard output: for each case {"auth": {…}, "claims": {…}} when it is good, else {"reason": "…"}.

import { readFileSync } from 'node:fs'
import { verifyToken } from '@clerk/backend'
import { signedInAuthObject } from '@clerk/backend/internal'

const { now, pem, cases } = JSON.parse(readFileSync(0, 'utf8'))
Date.now = () => now

async function judge({ token, options }) {
  let claims
  try {
    claims = await verifyToken(token, { jwtKey: pem, ...options })
  } catch (error) {
    return { reason: error.reason ?? `no reason: ${error.message}` }
  }
  const { userId, sessionId, orgId, orgRole, orgSlug, orgPermissions, actor } = signedInAuthObject({}, token, claims)
  return { auth: { userId, sessionId, orgId, orgRole, orgSlug, orgPermissions, actor }, claims }
}

const verdicts = []
for (const one of cases) verdicts.push(await judge(one))
process.stdout.write(JSON.stringify(verdicts))

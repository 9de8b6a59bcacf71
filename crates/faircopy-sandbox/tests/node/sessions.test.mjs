// Sessions and their tokens: made by the sandbox, judged by Clerk's own code.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyToken } from '@clerk/backend'
import { decodeJwt } from '@clerk/backend/jwt'
import { aUser, anOrganization, clerk, jwtKey, publishableKey, refused, secretKey, url } from './sandbox.mjs'

/** Who issues tokens: at Clerk always `https://` and the host that the publishable key names. */
const issuer = process.env.SANDBOX_ISSUER
const networked = { secretKey, apiUrl: url }

async function signedIn(params = {}) {
  const user = await aUser()
  const session = await clerk.sessions.createSession({ userId: user.id, ...params })
  const { jwt } = await clerk.sessions.getToken(session.id)
  return { user, session, jwt }
}

async function rejected(promise, reason) {
  const error = await promise.then(() => assert.fail(`accepted where ${reason} was expected`), (error) => error)
  assert.equal(error.reason, reason, error.stack)
}

test('a session is made, read, listed, revoked', async () => {
  const { user, session } = await signedIn()
  assert.match(session.id, /^sess_[0-9A-Za-z]{27}$/)
  assert.deepEqual([session.userId, session.status], [user.id, 'active'])
  assert.equal((await clerk.sessions.getSession(session.id)).id, session.id)
  const listed = await clerk.sessions.getSessionList({ userId: user.id })
  assert.deepEqual(listed.data.map((one) => one.id), [session.id])
  assert.equal((await clerk.sessions.revokeSession(session.id)).status, 'revoked')
  assert.equal((await clerk.sessions.getSession(session.id)).status, 'revoked')
  await refused(clerk.sessions.getSession('sess_that_is_not'), 404, 'resource_not_found')
  await refused(clerk.sessions.createSession({ userId: 'user_that_is_not' }), 404, 'resource_not_found')
})

test('a token is verified without the network, and with the keys of the API', async () => {
  const { user, session, jwt } = await signedIn()
  for (const keys of [{ jwtKey }, networked]) {
    const claims = await verifyToken(jwt, { ...keys, issuer })
    assert.deepEqual([claims.sub, claims.sid, claims.iss, claims.v], [user.id, session.id, issuer, 2])
    assert.equal(claims.exp - claims.iat, 60)
    assert.equal(claims.o, undefined)
  }
})

test('an active organization is told in the form of version 2', async () => {
  const { admin, organization } = await anOrganization()
  const session = await clerk.sessions.createSession({ userId: admin.id, activeOrganizationId: organization.id })
  const { jwt } = await clerk.sessions.getToken(session.id)
  const claims = await verifyToken(jwt, { jwtKey })
  assert.deepEqual([claims.o.id, claims.o.rol, claims.o.slg], [organization.id, 'admin', organization.slug])
  const request = new Request('https://app.example.com/', { headers: { authorization: `Bearer ${jwt}` } })
  const state = await clerk.authenticateRequest(request, { jwtKey })
  const auth = state.toAuth()
  assert.deepEqual([auth.orgId, auth.orgRole, auth.orgSlug], [organization.id, 'org:admin', organization.slug])
  assert.equal(auth.has({ role: 'org:admin' }), true)
})

test('a token ends', async () => {
  const { jwt } = await signedIn()
  const now = Date.now
  try {
    Date.now = () => now() + 70_000
    await rejected(verifyToken(jwt, { jwtKey }), 'token-expired')
  } finally {
    Date.now = now
  }
  assert.ok(await verifyToken(jwt, { jwtKey }))
})

test('a token for somebody else is refused', async () => {
  const { session, jwt } = await signedIn()
  const { payload } = decodeJwt(jwt).data ?? decodeJwt(jwt)
  await rejected(verifyToken(jwt, { jwtKey, authorizedParties: ['https://other.example.com'] }), 'token-invalid-authorized-parties')
  if (payload.azp) assert.ok(await verifyToken(jwt, { jwtKey, authorizedParties: [payload.azp] }))
  const changed = `${jwt.slice(0, -8)}${jwt.at(-8) === 'A' ? 'B' : 'A'}${jwt.slice(-7)}`
  await rejected(verifyToken(changed, { jwtKey }), 'token-invalid-signature')
  await rejected(verifyToken(jwt, { jwtKey, issuer: 'https://clerk.other.example.com' }), 'token-invalid-issuer')
  assert.ok(session.id)
})

test('a token lives as long as it was asked to', async () => {
  const { session } = await signedIn()
  const { jwt } = await clerk.sessions.getToken(session.id, undefined, 600)
  const claims = await verifyToken(jwt, { jwtKey })
  assert.equal(claims.exp - claims.iat, 600)
})

test('a revoked session gives no more tokens', async () => {
  const { session } = await signedIn()
  await clerk.sessions.revokeSession(session.id)
  await assert.rejects(clerk.sessions.getToken(session.id))
})

test('a banned user has no session left', async () => {
  const { user, session } = await signedIn()
  await clerk.users.banUser(user.id)
  assert.notEqual((await clerk.sessions.getSession(session.id)).status, 'active')
})

test('requests are authenticated by header and by cookie, with and without the network', async () => {
  const { user, session, jwt } = await signedIn()
  const request = (headers) => new Request('https://app.example.com/', { headers })
  for (const options of [{ jwtKey }, {}]) {
    const state = await clerk.authenticateRequest(request({ authorization: `Bearer ${jwt}` }), options)
    assert.equal(state.status, 'signed-in', `${state.reason} ${state.message}`)
    const auth = state.toAuth()
    assert.deepEqual([auth.userId, auth.sessionId, auth.orgId], [user.id, session.id, undefined])
  }
  for (const headers of [{}, { authorization: 'Bearer not.a.token' }, { authorization: `Bearer ${jwt}x` }]) {
    const state = await clerk.authenticateRequest(request(headers), { jwtKey })
    assert.notEqual(state.status, 'signed-in')
  }
})

test('the keys are those of the instance', async () => {
  const { jwt } = await signedIn()
  const { header } = decodeJwt(jwt).data ?? decodeJwt(jwt)
  const { keys } = await clerk.jwks.getJwks()
  const key = keys.find((one) => one.kid === header.kid)
  assert.match(header.kid, /^ins_/)
  assert.deepEqual([key.use, key.kty, key.alg], ['sig', 'RSA', 'RS256'])
  const instance = await clerk.instance.get()
  assert.equal(instance.id, header.kid)
  const open = await (await fetch(`${url}/.well-known/jwks.json`)).json()
  assert.deepEqual(open.keys, keys)
  const configuration = await (await fetch(`${url}/.well-known/openid-configuration`)).json()
  assert.equal(configuration.issuer, issuer)
  assert.equal(`${new URL(issuer).host}$`, atob(publishableKey.split('_')[2]))
})

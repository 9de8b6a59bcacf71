// Sessions and their tokens: made by the sandbox, judged by Clerk's own code.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyToken } from '@clerk/backend'
import { decodeJwt } from '@clerk/backend/jwt'
import { aUser, anOrganization, clerk, control, jwtKey, publishableKey, refused, secretKey, url } from './sandbox.mjs'

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
  const { data } = await clerk.organizations.getOrganizationMembershipList({ organizationId: organization.id })
  const own = data[0].permissions.filter((key) => !key.startsWith('org:sys_'))
  assert.ok(own.length > 0)
  assert.deepEqual([...auth.orgPermissions].sort(), own.sort(), 'as the membership has them, but for those of the system')
  assert.equal(auth.has({ permission: own[0] }), true)
  assert.equal(auth.has({ permission: 'org:nothing:manage' }), false)
})

test('version 1 has the same in flat claims', async () => {
  const { admin, organization } = await anOrganization()
  const session = await clerk.sessions.createSession({ userId: admin.id, activeOrganizationId: organization.id })
  await control('PATCH', '/options', { token_version: '1' })
  const { jwt } = await clerk.sessions.getToken(session.id)
  await control('PATCH', '/options', { token_version: '2' })
  const claims = await verifyToken(jwt, { jwtKey })
  assert.deepEqual([claims.v, claims.o], [undefined, undefined])
  assert.deepEqual([claims.org_id, claims.org_role, claims.org_slug], [organization.id, 'org:admin', organization.slug])
  const request = new Request('https://app.example.com/', { headers: { authorization: `Bearer ${jwt}` } })
  const auth = (await clerk.authenticateRequest(request, { jwtKey })).toAuth()
  assert.deepEqual([auth.orgId, auth.orgRole, auth.orgSlug], [organization.id, 'org:admin', organization.slug])
  assert.equal(auth.has({ permission: auth.orgPermissions[0] }), true)
})

test('a template makes the claims that it names', async () => {
  const { user, session } = await signedIn()
  const claims = { role: 'authenticated', email: '{{user.primary_email_address}}', org: "{{org.name || 'none'}}", sid: 'no' }
  await control('PATCH', '/options', { templates: { supabase: { claims, lifetime_s: 120 } } })
  const { jwt } = await clerk.sessions.getToken(session.id, 'supabase')
  const token = await verifyToken(jwt, { jwtKey, issuer })
  assert.deepEqual([token.sub, token.role, token.email, token.org], [user.id, 'authenticated', user.primaryEmailAddress.emailAddress, 'none'])
  assert.deepEqual([token.sid, token.v, token.exp - token.iat], [undefined, undefined, 120])
  await refused(clerk.sessions.getToken(session.id, 'unknown'), 404, 'resource_not_found')
})

test('tokens that are wrong on purpose are refused for what is wrong with them', async () => {
  const user = await aUser()
  const mint = async (wanted) => (await control('POST', '/tokens', { user_id: user.id, ...wanted })).jwt
  const party = 'https://app.example.com'
  const good = await mint({ azp: party })
  assert.equal((await verifyToken(good, { jwtKey, authorizedParties: [party] })).sub, user.id)
  await rejected(verifyToken(good, { jwtKey, authorizedParties: ['https://other.example.com'] }), 'token-invalid-authorized-parties')
  await rejected(verifyToken(await mint({ age_s: 120 }), { jwtKey }), 'token-expired')
  await rejected(verifyToken(await mint({ forged: true }), { jwtKey }), 'token-invalid-signature')
  const soon = Math.floor(Date.now() / 1000) + 600
  await rejected(verifyToken(await mint({ claims: { nbf: soon, exp: soon + 60 } }), { jwtKey }), 'token-not-active-yet')
  await rejected(verifyToken(await mint({ claims: { iat: soon, exp: soon + 60 } }), { jwtKey }), 'token-iat-in-the-future')
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

test('requests are authenticated by header, with and without the network', async () => {
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

test('requests are authenticated by the cookies of a front end', async () => {
  const { user, jwt } = await signedIn()
  const { payload } = decodeJwt(jwt).data ?? decodeJwt(jwt)
  // What Clerk's front end keeps beside the session in development: when somebody signed in, and the browser's own name.
  const cookie = `__session=${jwt}; __client_uat=${payload.iat - 1}; __clerk_db_jwt=dvb_made_up`
  const request = new Request('https://app.example.com/', { headers: { cookie, 'sec-fetch-dest': 'document' } })
  const state = await clerk.authenticateRequest(request, { jwtKey })
  assert.equal(state.status, 'signed-in', `${state.reason} ${state.message}`)
  assert.equal(state.toAuth().userId, user.id)
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

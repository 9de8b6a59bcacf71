import { expect, test, vi } from 'vitest'
import { createClient, membersPath, membershipsPath, userPath } from '../src/index.js'
import { connect, serve, until } from './kit.js'
import { fresh } from './server.js'

test('an answer, and how fresh it is', async () => {
  const server = await serve()
  const sequence = server.set('/v1/me', { clerk_user_id: 'user_ada' })
  const client = connect(server)
  expect(await client.get('/v1/me')).toEqual({ value: { clerk_user_id: 'user_ada' }, sequence, asOf: null, basis: 'none' })
  server.asOf = '2026-01-01T00:00:00Z'
  const answer = await client.get('/v1/me', { maxStaleness: 60, minSequence: 7 })
  expect(answer).toMatchObject({ asOf: '2026-01-01T00:00:00Z', basis: 'reconciled' })
  expect(server.requests[1]).toMatchObject({ method: 'GET', path: '/v1/me', headers: { 'faircopy-max-staleness': '60', 'faircopy-min-sequence': '7', accept: 'application/json' } })
  // Nothing is left open, and nothing is listened to.
  expect([server.streams.size, client.connection().state]).toEqual([0, 'idle'])
})

test('on a server: a token for each request, and no session', async () => {
  const server = await serve()
  server.set('/v1/organization', 'a', 'org_a')
  server.set('/v1/organization', 'b', 'org_b')
  const client = createClient({ url: server.url })
  const [a, b] = await Promise.all(['org_a', 'org_b'].map((org_id) => client.get('/v1/organization', { token: fresh({ org_id }) })))
  expect([a?.value, b?.value]).toEqual(['a', 'b'])
  await expect(client.get('/v1/organization')).rejects.toMatchObject({ code: 'signed-out' })
})

test('paths with their parameters', () => {
  expect(membersPath()).toBe('/v1/organization/members')
  expect(membersPath({ limit: 10, after: 'a+b/c=' })).toBe('/v1/organization/members?limit=10&after=a%2Bb%2Fc%3D')
  expect(membershipsPath({ after: null, limit: undefined })).toBe('/v1/me/organizations')
  expect(userPath('../session')).toBe('/v1/users/..%2Fsession')
})

test.each([
  [{ status: 404, code: 'record-not-found' }, { code: 'record-not-found', status: 404, retryable: false }],
  [{ status: 503, code: 'copy-stale', retryAfter: '7' }, { code: 'copy-stale', status: 503, retryable: true, retryAfterMs: 7000 }],
  [{ status: 500, body: 'oops' }, { code: 'answer-unreadable', status: 500, retryable: true }],
  [{ status: 200, body: '{"clerk_user_' }, { code: 'answer-unreadable', status: 200, retryable: true }],
  [{ closes: true }, { code: 'unreachable', status: undefined, retryable: true }],
  [{ stalls: true }, { code: 'timeout', retryable: true }],
])('a failure is typed: %o', async (fault, error) => {
  const server = await serve()
  server.requestFaults.push(fault)
  await expect(connect(server, { limits: { requestMs: 100 } }).get('/v1/me')).rejects.toMatchObject({ name: 'FaircopyError', ...error })
})

test('a request can be given up', async () => {
  const server = await serve()
  const controller = new AbortController()
  server.requestFaults.push({ stalls: true })
  const asked = connect(server).get('/v1/me', { signal: controller.signal })
  await until(() => expect(server.requests).toHaveLength(1))
  controller.abort()
  await expect(asked).rejects.toMatchObject({ code: 'aborted' })
  await expect(connect(server).get('/v1/me', { signal: controller.signal })).rejects.toMatchObject({ code: 'aborted' })
})

test('a token that has just ended is replaced once', async () => {
  const server = await serve()
  server.set('/v1/me', 1)
  const getToken = vi.fn(async (options?: { skipCache?: boolean }) => fresh({}, options?.skipCache ? 60_000 : -1_000))
  expect((await connect(server, { getToken }).get('/v1/me')).value).toBe(1)
  expect(getToken).toHaveBeenCalledTimes(2)
  await expect(connect(server, { getToken: async () => fresh({}, -1_000) }).get('/v1/me')).rejects.toMatchObject({ code: 'token-expired', status: 401 })
})

test('the caller is stored, again where that can help, and not for ever', async () => {
  const server = await serve()
  const client = connect(server, { limits: { requestMs: 200 } })
  server.requestFaults.push({ status: 503, code: 'overloaded', retryAfter: '0' }, { closes: true })
  expect(await client.storeUser()).toMatchObject({ identity: { clerk_user_id: 'user_ada' }, created: [] })
  expect(server.requests.map(({ method, path }) => `${method} ${path}`)).toEqual(Array(3).fill('POST /v1/session'))
  server.requestFaults.push(...Array.from({ length: 9 }, () => ({ status: 503, code: 'database-unavailable' })))
  await expect(client.storeUser()).rejects.toMatchObject({ code: 'database-unavailable' })
  expect(server.requests).toHaveLength(7)
  server.requestFaults.splice(0)
  server.requestFaults.push({ status: 401, code: 'token-invalid-issuer' })
  await expect(client.storeUser()).rejects.toMatchObject({ code: 'token-invalid-issuer' })
  expect(server.requests).toHaveLength(8)
  const controller = new AbortController()
  server.requestFaults.push({ status: 503, code: 'overloaded', retryAfter: '60' })
  const slow = connect(server).storeUser({ signal: controller.signal })
  await until(() => expect(server.requests).toHaveLength(9))
  controller.abort()
  await expect(slow).rejects.toMatchObject({ code: 'aborted' })
})

test('the whole surface, without a fetch of one’s own', async () => {
  const server = await serve()
  server.set('/v1/me', 1)
  vi.stubGlobal('fetch', vi.fn(fetch))
  expect((await createClient({ url: server.url, getToken: async () => fresh() }).get('/v1/me')).value).toBe(1)
  expect(fetch).toHaveBeenCalledOnce()
})

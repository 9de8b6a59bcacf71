import { setTimeout as elapsed } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { FaircopyError } from '../src/error.js'
import type { Path } from '../src/queries.js'
import { connect, listen, serve, until } from './kit.js'
import { fresh, problem, token } from './server.js'

const ME = '/v1/me'
const MEMBERS = '/v1/organization/members'
const ada = (name: string) => ({ clerk_user_id: 'user_ada', name })
const live = (client: ReturnType<typeof connect>) => until(() => expect(client.connection().state).toBe('live'))

test('all queries of a page share one stream, and each shows what changes', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  server.set(MEMBERS, { data: [], next: null })
  const client = connect(server)
  const [me, members] = [listen(client, ME), listen(client, MEMBERS)]
  expect(me.now()).toMatchObject({ value: undefined, isLoading: true })
  expect(client.connection().state).toBe('connecting')
  await until(() => expect([me.now().value, members.now().value]).toEqual([ada('Ada'), { data: [], next: null }]))
  const sequence = server.set(ME, ada('Ada Lovelace'))
  await until(() => expect(me.now()).toMatchObject({ value: ada('Ada Lovelace'), sequence, isLoading: false, error: undefined }))
  expect(me.values()).toEqual([ada('Ada'), ada('Ada Lovelace')])
  expect(members.values()).toHaveLength(1)
  expect(server.asked.map(({ queries }) => queries)).toEqual([[{ path: ME }, { path: MEMBERS }]])
  expect(client.connection()).toMatchObject({ state: 'live', sequence: 102, error: undefined })
})

test('it is asked as the protocol says', async () => {
  const server = await serve()
  const asked = vi.fn<(input: string, init: RequestInit) => Promise<Response>>((input, init) => fetch(input, init))
  const client = connect({ url: `${server.url}/` }, { fetch: asked, getToken: async () => 'a.b.c' })
  listen(client, ME)
  await live(client)
  const [input, init] = asked.mock.calls[0] ?? []
  const headers = Object.fromEntries(new Headers(init?.headers))
  expect(input).toBe(`${server.url}/v1/live`)
  expect(init).toMatchObject({ method: 'POST', credentials: 'omit', redirect: 'error', cache: 'no-store', body: '{"queries":[{"path":"/v1/me"}]}' })
  expect(headers).toEqual({ accept: 'text/event-stream', authorization: 'Bearer a.b.c', 'content-type': 'application/json' })
})

test('a query that joins opens the next stream before the one before is let go, and goes on where it was', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  server.set(MEMBERS, { data: [], next: null })
  const client = connect(server)
  const me = listen(client, ME)
  await live(client)
  const states: string[] = []
  client.subscribeConnection(() => states.push(client.connection().state))
  const members = listen(client, MEMBERS)
  const again = listen(client, MEMBERS)
  await until(() => expect(members.now().value).toBeDefined())
  await until(() => expect(server.streams.size).toBe(1))
  expect(server.asked[1]?.queries).toEqual([{ path: ME, since: 102 }, { path: MEMBERS }])
  expect(server.mostStreams).toBe(2)
  expect(new Set(states)).toEqual(new Set(['live']))
  expect([me.values().length, members.values().length, again.values().length]).toEqual([1, 1, 1])
})

test('a client that is closed leaves nothing behind', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  server.set(MEMBERS, { data: [], next: null })
  const client = connect(server, { limits: { lingerMs: 60_000 } })
  const [me, members] = [listen(client, ME), listen(client, MEMBERS)]
  await live(client)
  members.stop()
  client.close()
  // Whoever still listens sees what comes next; what nobody listens to is not asked for again.
  client.setSession({ key: 'again', getToken: async () => fresh() })
  await until(() => expect(me.now().value).toEqual(ada('Ada')))
  expect(server.asked.at(-1)?.queries).toEqual([{ path: ME }])
})

test('mounting twice, as StrictMode does, asks once; the last to leave lets go, a while later', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  const client = connect(server)
  listen(client, ME).stop()
  const second = listen(client, ME)
  const third = listen(client, ME)
  await live(client)
  expect(server.asked).toHaveLength(1)
  second.stop()
  second.stop()
  third.stop()
  // Whoever comes back in time is shown the same at once.
  const back = listen(client, ME)
  expect(back.now().value).toEqual(ada('Ada'))
  back.stop()
  await until(() => expect(server.streams.size).toBe(0))
  expect(client.connection().state).toBe('idle')
  expect(client.snapshot(ME).isLoading).toBe(true)
  expect(server.asked).toHaveLength(1)
  // And whoever comes after that begins anew.
  const late = listen(client, ME)
  await until(() => expect(late.now().value).toEqual(ada('Ada')))
})

test('a query that leaves is no longer asked; one that leaves and comes back is', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  server.set(MEMBERS, { data: [], next: null })
  const client = connect(server)
  listen(client, ME)
  const members = listen(client, MEMBERS)
  await live(client)
  members.stop()
  await until(() => expect([...server.streams].map(({ queries }) => queries.map(({ path }) => path))).toEqual([[ME]]))
  const back = listen(client, MEMBERS)
  await until(() => expect(back.now().value).toEqual({ data: [], next: null }))
})

test('equal values are not announced again', async () => {
  const server = await serve()
  server.set(ME, { ...ada('Ada'), public_metadata: { a: [1, { b: 2 }] } })
  const client = connect(server)
  const me = listen(client, ME)
  await live(client)
  const first = me.now().value
  const sequence = server.set(ME, { ...ada('Ada'), public_metadata: { a: [1, { b: 2 }] } })
  await until(() => expect(me.now().sequence).toBe(sequence))
  expect(me.now().value).toBe(first)
  expect(me.shown).toHaveLength(1)
})

test('numbers only go forward', async () => {
  const server = await serve()
  server.set(ME, ada('new'))
  const client = connect(server)
  const me = listen(client, ME)
  await live(client)
  const old = `event: value\ndata: ${JSON.stringify({ query: ME, sequence: 7, value: ada('old') })}\n\n`
  server.raw(old)
  server.beat()
  server.set(MEMBERS, 1)
  server.raw('event: value\ndata: {"query": "/v1/unasked", "sequence": 500, "value": 1}\n\n')
  server.set(ME, ada('newer'))
  await until(() => expect(me.now().value).toEqual(ada('newer')))
  expect(me.values()).toEqual([ada('new'), ada('newer')])
})

test('an equal number may have another value: what an application writes has none', async () => {
  const server = await serve()
  const sequence = server.set('/v1/workspace', { channels: [] })
  const client = connect(server)
  const workspace = listen(client, '/v1/workspace')
  await live(client)
  server.raw(`event: value\ndata: ${JSON.stringify({ query: '/v1/workspace', sequence, value: { channels: [1] } })}\n\n`)
  await until(() => expect(workspace.now().value).toEqual({ channels: [1] }))
  // And after a loss it is asked for whole, or what was written meanwhile would be missed.
  server.cut()
  await until(() => expect(server.asked).toHaveLength(2))
  expect(server.asked[1]?.queries).toEqual([{ path: '/v1/workspace' }])
})

test('a copy that was restored counts anew', async () => {
  const server = await serve()
  server.set(ME, ada('before'))
  const client = connect(server)
  const me = listen(client, ME)
  await live(client)
  await server.stop()
  server.restore(3)
  server.shown.set(ME, { value: ada('restored') })
  await server.listen()
  await until(() => expect(me.now()).toMatchObject({ value: ada('restored'), sequence: 3 }))
  server.set(ME, ada('after'))
  await until(() => expect(me.now()).toMatchObject({ value: ada('after'), sequence: 4 }))
  // From here on they only go forward again.
  server.raw(`event: value\ndata: ${JSON.stringify({ query: ME, sequence: 3, value: ada('older') })}\n\n`)
  server.set(ME, ada('last'))
  await until(() => expect(me.now().value).toEqual(ada('last')))
  expect(me.values()).toEqual(['before', 'restored', 'after', 'last'].map(ada))
})

test('the next stream may be behind the one before for a moment: nobody is shown that', async () => {
  const server = await serve()
  server.set(ME, ada('1'))
  const client = connect(server)
  const me = listen(client, ME)
  await live(client)
  // Another replica, which has not heard of the change yet, is slow to begin.
  server.faults.push({ delayMs: 100 })
  listen(client, MEMBERS)
  await until(() => expect(server.asked).toHaveLength(2))
  server.set(ME, ada('2'))
  await until(() => expect(me.now().value).toEqual(ada('2')))
  server.shown.set(ME, { value: ada('1') })
  server.restore(100)
  await until(() => expect(server.asked).toHaveLength(2))
  await until(() => expect([...server.streams].map(({ queries }) => queries.length)).toEqual([2]))
  server.restore(102)
  server.set(ME, ada('3'))
  await until(() => expect(me.now().value).toEqual(ada('3')))
  expect(me.values()).toEqual([ada('1'), ada('2'), ada('3')])
})

test('cut in the middle of an event: it resumes without a gap or a duplicate', async () => {
  const server = await serve()
  server.set(ME, ada('1'))
  const client = connect(server)
  const me = listen(client, ME)
  await live(client)
  const states: string[] = []
  client.subscribeConnection(() => states.push(client.connection().state))
  server.raw('event: value\ndata: {"query": "/v1/me", "sequence": 900, "value": {"na')
  server.cut()
  await until(() => expect(server.asked).toHaveLength(2))
  await live(client)
  expect(me.values()).toEqual([ada('1')])
  // What happens while nobody listens is there afterwards.
  await server.stop()
  await until(() => expect(client.connection()).toMatchObject({ state: 'offline', error: { code: 'unreachable', retryable: true } }))
  expect(me.now().value).toEqual(ada('1'))
  server.set(ME, ada('2'))
  server.set(ME, ada('3'))
  await server.listen()
  await until(() => expect(me.now().value).toEqual(ada('3')))
  expect(me.values()).toEqual([ada('1'), ada('3')])
  expect(server.asked.at(-1)?.queries).toEqual([{ path: ME, since: 101 }])
  expect(states.filter((state, index) => state !== states[index - 1])).toEqual(['connecting', 'live', 'offline', 'live'])
  expect(client.connection().error).toBeUndefined()
})

test('a stream that says nothing is lost', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  server.beatMs = 20
  const client = connect(server, { limits: { silenceMs: 150 } })
  listen(client, ME)
  await live(client)
  // Beats keep it.
  await until(() => expect(server.asked).toHaveLength(1))
  await elapsed(300)
  expect(server.asked).toHaveLength(1)
  server.beatMs = 60_000
  for (const listener of server.streams) for (const timer of listener.timers.splice(0)) clearTimeout(timer)
  await until(() => expect(server.asked.length).toBeGreaterThan(1))
})

test('a service that takes the request and says nothing is given up, and the wait of the query ends in a typed error', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  server.faults.push(...Array.from({ length: 3 }, () => ({ stalls: true })))
  const client = connect(server, { limits: { connectMs: 120, loadingMs: 200 } })
  const me = listen(client, ME)
  await until(() => expect(me.now().error).toBeInstanceOf(FaircopyError))
  expect(me.now()).toMatchObject({ value: undefined, isLoading: false, error: { code: 'timeout', retryable: true, cause: { code: 'timeout' } } })
  // It is no end: a value may follow.
  await until(() => expect(me.now()).toMatchObject({ value: ada('Ada'), error: undefined }))
})

test('whoever comes back to a query that failed begins anew', async () => {
  const server = await serve()
  server.faults.push({ stalls: true })
  const client = connect(server, { limits: { loadingMs: 50, lingerMs: 60_000 } })
  const me = listen(client, ME)
  await until(() => expect(me.now().error?.code).toBe('timeout'))
  me.stop()
  expect(client.snapshot(ME)).toMatchObject({ isLoading: true, error: undefined })
})

test.each([
  [{ status: 503, code: 'overloaded', retryAfter: '1' }, 'overloaded', true],
  [{ status: 502, body: '<html>Bad gateway</html>' }, 'answer-unreadable', true],
  [{ status: 404, code: 'not-found' }, 'not-found', false],
  [{ closes: true }, 'unreachable', true],
])('refused with %o, it comes again later', async (fault, code, retryable) => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  server.faults.push(fault)
  const client = connect(server)
  const me = listen(client, ME)
  const before = performance.now()
  const errors: (FaircopyError | undefined)[] = []
  client.subscribeConnection(() => errors.push(client.connection().error))
  await until(() => expect(me.now()).toMatchObject({ value: ada('Ada'), error: undefined }))
  expect(errors.find((error) => error !== undefined)).toMatchObject({ code, retryable })
  // What can help is waited for; what cannot is said at once.
  expect(me.shown.map(({ error }) => error)).toEqual(retryable ? [undefined] : [code, undefined])
  await until(() => expect(client.connection().error).toBeUndefined())
  if ('retryAfter' in fault) expect(performance.now() - before).toBeGreaterThan(990)
})

test('an answer that is no stream is none', async () => {
  const server = await serve()
  const answer = async () => new Response('{}', { status: 200, headers: { 'content-type': 'application/json' } })
  const client = connect(server, { fetch: answer })
  listen(client, ME)
  await until(() => expect(client.connection().error?.code).toBe('answer-unreadable'))
})

test.each(['event: value\ndata: {\n\n', 'event: value\ndata: 7\n\n', 'event: value\ndata: {"query": "/v1/me"}\n\n', 'event: beat\ndata: {}\n\n', 'event: problem\ndata: {}\n\n'])(
  'an event that cannot be read ends the stream: %j', async (event) => {
    const server = await serve()
    server.set(ME, ada('Ada'))
    const client = connect(server)
    const me = listen(client, ME)
    await live(client)
    server.raw('event: unheard-of\ndata: {\n\ndata: {\n\n')
    server.raw(event)
    await until(() => expect(server.asked).toHaveLength(2))
    await live(client)
    expect(me.values()).toEqual([ada('Ada')])
  },
)

test('the next stream is opened with a new token before the token of the one before ends', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  let cached = fresh({}, 1_500)
  const asked: boolean[] = []
  // As Clerk's: the cache gives the same token until it is told not to.
  const getToken = async (options?: { skipCache?: boolean }) => {
    asked.push(options?.skipCache ?? false)
    if (options?.skipCache) cached = fresh({}, 1_500)
    return cached
  }
  const client = connect(server, { getToken, limits: { renewMs: 1_000 } })
  const me = listen(client, ME)
  await live(client)
  const states = new Set<string>()
  client.subscribeConnection(() => states.add(client.connection().state))
  await until(() => expect(server.asked.length).toBeGreaterThanOrEqual(4))
  await until(() => expect(server.streams.size).toBe(1))
  expect(states).toEqual(new Set(['live']))
  expect(new Set(server.asked.map(({ authorization }) => authorization)).size).toBe(server.asked.length)
  expect(server.mostStreams).toBe(2)
  expect(asked.slice(0, 3)).toEqual([false, false, true])
  expect(me.values()).toEqual([ada('Ada')])
})

test('a token that has ended is asked for anew, past the cache', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  // This device's clock is behind: it takes the token for good.
  const getToken = vi.fn(async (options?: { skipCache?: boolean }) => (options?.skipCache ? fresh() : fresh({}, -1_000)))
  const client = connect(server, { getToken, now: () => Date.now() - 3_600_000 })
  const me = listen(client, ME)
  await until(() => expect(me.now().value).toEqual(ada('Ada')))
  expect(getToken.mock.calls).toEqual([[undefined], [{ skipCache: true }]])
  expect(server.asked).toHaveLength(2)
})

test('a stream that is ended for its token comes again at once', async () => {
  const server = await serve()
  server.set(ME, ada('1'))
  const client = connect(server, { limits: { backoffMs: 60_000, backoffMaxMs: 60_000 } })
  const me = listen(client, ME)
  await live(client)
  server.end('token-expired', 401)
  server.set(ME, ada('2'))
  await until(() => expect(me.now().value).toEqual(ada('2')))
  expect(server.asked[1]?.queries).toEqual([{ path: ME, since: 101 }])
})

test('a token that is refused again and again is not asked for in a frenzy', async () => {
  const server = await serve()
  server.faults.push(...Array.from({ length: 100 }, () => ({ status: 401, code: 'token-invalid-issuer' })))
  const client = connect(server, { random: () => 1, limits: { backoffMs: 200, backoffMaxMs: 10_000 } })
  const me = listen(client, ME)
  await until(() => expect(me.now()).toMatchObject({ isLoading: false, error: { code: 'token-invalid-issuer', status: 401, retryable: false } }))
  await elapsed(500)
  // Two at once, two after 200 ms, and two after another 400 ms.
  expect(server.asked.length).toBeLessThanOrEqual(6)
})

test.each(['stream-moved', 'shutting-down'])('a service that stops (%s) is come back to at once, and only once at once', async (code) => {
  const server = await serve()
  server.set(ME, ada('1'))
  const client = connect(server, { random: () => 1, limits: { backoffMs: 300, backoffMaxMs: 300 } })
  const me = listen(client, ME)
  await live(client)
  const before = performance.now()
  server.end(code, 503)
  await until(() => expect(server.asked).toHaveLength(2))
  expect(performance.now() - before).toBeLessThan(280)
  await live(client)
  server.end(code, 503)
  await until(() => expect(server.asked).toHaveLength(3))
  expect(performance.now() - before).toBeGreaterThan(280)
  expect(me.values()).toEqual([ada('1')])
})

test('what is not there is null, and shows when it is', async () => {
  const server = await serve()
  server.deny(MEMBERS, 'no-active-organization')
  server.set(ME, ada('Ada'))
  const client = connect(server)
  const [members] = [listen(client, MEMBERS), listen(client, ME)]
  await until(() => expect(members.now()).toMatchObject({ value: null, absence: 'no-active-organization', error: undefined, isLoading: false }))
  server.set(MEMBERS, { data: [1], next: null })
  await until(() => expect(members.now()).toMatchObject({ value: { data: [1], next: null }, absence: undefined }))
  // Removed: gone at once, and everything else goes on.
  server.deny(MEMBERS, 'record-not-found')
  await until(() => expect(members.now()).toMatchObject({ value: null, absence: 'record-not-found' }))
  server.cut()
  await until(() => expect(server.asked).toHaveLength(2))
  expect(server.asked[1]?.queries).toEqual([{ path: MEMBERS }, { path: ME, since: 102 }])
  await live(client)
  expect(members.shown).toHaveLength(3)
})

test('a trouble of the service leaves the value, and says that it may be old', async () => {
  const server = await serve()
  server.set(ME, ada('1'))
  const client = connect(server)
  const me = listen(client, ME)
  await live(client)
  server.deny(ME, 'database-unavailable', 503)
  await until(() => expect(me.now()).toMatchObject({ value: ada('1'), error: { code: 'database-unavailable' } }))
  server.set(ME, ada('1'))
  await until(() => expect(me.now()).toMatchObject({ value: ada('1'), error: undefined }))
  server.deny(ME, 'not-permitted', 403)
  await until(() => expect(me.now()).toMatchObject({ value: undefined, error: { code: 'not-permitted' } }))
  // A path that leads nowhere shows nothing, which is not the same as that there is nothing.
  server.deny(ME, 'not-found', 404)
  await until(() => expect(me.now()).toMatchObject({ value: undefined, error: { code: 'not-found' } }))
})

test('a user who is deleted sees nothing any more, and nobody is asked again until somebody else signs in', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  const client = connect(server)
  const me = listen(client, ME)
  await live(client)
  server.end('user-deleted', 401)
  await until(() => expect(me.now()).toMatchObject({ value: null, absence: 'user-deleted' }))
  expect(client.connection()).toMatchObject({ state: 'offline', error: { code: 'user-deleted' } })
  const later = listen(client, '/v1/workspace')
  expect(later.now()).toMatchObject({ value: null, absence: 'user-deleted' })
  await elapsed(150)
  expect(server.asked).toHaveLength(1)
  server.set(ME, { clerk_user_id: 'user_bob' })
  client.setSession({ key: 'bob', getToken: async () => fresh({ sub: 'user_bob' }) })
  expect(me.now().isLoading).toBe(true)
  await until(() => expect(me.now().value).toEqual({ clerk_user_id: 'user_bob' }))
})

test('another user, or another organization: everything is forgotten at once, and nobody sees what was the other’s', async () => {
  const server = await serve()
  server.set(MEMBERS, { data: ['a'], next: null }, 'org_a')
  server.set(MEMBERS, { data: ['b'], next: null }, 'org_b')
  const client = connect(server)
  const session = (organizationId: string) => ({ key: organizationId, organizationId, userId: 'user_ada', getToken: async () => fresh({ org_id: organizationId }) })
  client.setSession(session('org_a'))
  const members = listen(client, MEMBERS)
  await until(() => expect(members.now().value).toEqual({ data: ['a'], next: null }))
  client.setSession(session('org_b'))
  expect(client.sessionKey()).toBe('org_b')
  expect(members.now()).toMatchObject({ value: undefined, isLoading: true })
  await until(() => expect(members.now().value).toEqual({ data: ['b'], next: null }))
  // The same again, with another function: nothing happens.
  client.setSession(session('org_b'))
  expect(members.now().value).toEqual({ data: ['b'], next: null })
  client.setSession(null)
  expect(members.now()).toMatchObject({ value: null, absence: 'signed-out' })
  expect(client.snapshot(ME).value).toBeNull()
  expect(client.connection().state).toBe('idle')
  await until(() => expect(server.streams.size).toBe(0))
  client.setSession(undefined)
  expect(members.now().isLoading).toBe(true)
  expect(members.values()).toEqual([{ data: ['a'], next: null }, undefined, { data: ['b'], next: null }, null, undefined])
  // What was on its way for somebody else does not arrive.
  server.faults.push({ delayMs: 60 })
  client.setSession(session('org_a'))
  await until(() => expect(server.asked).toHaveLength(3))
  client.setSession(session('org_b'))
  await until(() => expect(members.now().value).toEqual({ data: ['b'], next: null }))
  await until(() => expect(server.streams.size).toBe(1))
  expect(members.values().slice(5)).toEqual([{ data: ['b'], next: null }])
})

test('a token of somebody else makes everything forgotten, whoever forgot to say so', async () => {
  const server = await serve()
  server.set(ME, { clerk_user_id: 'user_ada' }, 'org_a')
  server.set(ME, { clerk_user_id: 'user_bob' }, 'org_b')
  let who = { sub: 'user_ada', org_id: 'org_a' }
  const client = connect(server, { getToken: async () => fresh(who) })
  const me = listen(client, ME)
  await until(() => expect(me.now().value).toEqual({ clerk_user_id: 'user_ada' }))
  who = { sub: 'user_bob', org_id: 'org_b' }
  server.cut()
  await until(() => expect(me.now().value).toEqual({ clerk_user_id: 'user_bob' }))
  expect(me.values()).toEqual([{ clerk_user_id: 'user_ada' }, undefined, { clerk_user_id: 'user_bob' }])
  expect(server.asked.at(-1)?.queries).toEqual([{ path: ME }])
})

test('a token that is not of who is signed in is not used', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  const tokens = [fresh({ org_id: 'org_old' }), fresh({ org_id: 'org_old' }), fresh({ sub: 'user_bob' }), fresh({ sub: 'user_bob' })]
  const getToken = vi.fn(async () => tokens.shift() ?? fresh())
  const client = connect(server)
  client.setSession({ key: 'ada', userId: 'user_ada', organizationId: 'org_a', getToken })
  const me = listen(client, ME)
  const errors: (string | undefined)[] = []
  client.subscribeConnection(() => errors.push(client.connection().error?.code))
  await until(() => expect(me.now().value).toEqual(ada('Ada')))
  expect(errors).toContain('token-unavailable')
  expect(server.asked.map(({ claims }) => [claims.sub, claims.org_id])).toEqual([['user_ada', 'org_a']])
})

test('without a token nothing is shown; it is asked for again', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  let isSignedIn = true
  const client = connect(server, { getToken: async () => (isSignedIn ? fresh() : null) })
  const me = listen(client, ME)
  await until(() => expect(me.now().value).toEqual(ada('Ada')))
  isSignedIn = false
  server.cut()
  await until(() => expect(me.now()).toMatchObject({ value: null, absence: 'signed-out' }))
  isSignedIn = true
  await until(() => expect(me.now().value).toEqual(ada('Ada')))
})

test.each([
  ['fails', () => Promise.reject(new Error('no network')), 'token-unavailable'],
  ['throws', () => { throw new Error('not yet') }, 'token-unavailable'],
  ['never ends', () => new Promise<never>(() => undefined), 'timeout'],
])('a getToken that %s', async (_, failing, code) => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  let isFailing = true
  const client = connect(server, { getToken: () => (isFailing ? failing() : Promise.resolve(fresh())), limits: { tokenMs: 50 } })
  const me = listen(client, ME)
  await until(() => expect(client.connection().error).toMatchObject({ code, retryable: true }))
  isFailing = false
  await until(() => expect(me.now().value).toEqual(ada('Ada')))
})

test('more queries than a stream takes need a second, more than the client keeps are refused', async () => {
  const server = await serve()
  const path = (n: number): Path => `/v1/users/user_${n}`
  for (let n = 0; n < 130; n += 1) server.shown.set(path(n), { value: { n } })
  const client = connect(server)
  const some = Array.from({ length: 40 }, (_, n) => listen(client, path(n)))
  await until(() => expect(some.map((one) => one.now().value)).toEqual(some.map((_, n) => ({ n }))))
  expect([...server.streams].map(({ queries }) => queries.length).sort()).toEqual([32, 8].sort())
  const all = [...some, ...Array.from({ length: 88 }, (_, n) => listen(client, path(40 + n)))]
  await until(() => expect(all.map((one) => one.now().value)).toEqual(all.map((_, n) => ({ n }))))
  const over = listen(client, path(128))
  expect(over.now()).toMatchObject({ value: undefined, error: { code: 'too-many-queries', retryable: false } })
  over.stop()
  for (const one of all.slice(0, 100)) one.stop()
  await until(() => expect([...server.streams].reduce((sum, { queries }) => sum + queries.length, 0)).toBe(28))
  const fits = listen(client, path(129))
  await until(() => expect(fits.now().value).toEqual({ n: 129 }))
})

test('beats say how fresh the copy is', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  let now = Date.parse('2026-01-01T00:00:10Z')
  const client = connect(server, { now: () => now })
  const heard: unknown[] = []
  client.subscribeConnection(() => heard.push(client.connection().asOf))
  listen(client, ME)
  await live(client)
  expect(client.connection()).toMatchObject({ asOf: null, basis: 'none', lag: null, heardAt: now })
  server.asOf = '2026-01-01T00:00:09Z'
  now += 1_000
  server.beat()
  await until(() => expect(client.connection()).toMatchObject({ asOf: server.asOf, basis: 'reconciled', lag: 2_000, heardAt: now, sequence: 101 }))
  // A clock that is behind makes nothing fresher than fresh.
  now -= 60_000
  server.beat()
  await until(() => expect(client.connection().lag).toBe(0))
  expect(heard.length).toBeGreaterThanOrEqual(3)
  // Changes of others move the number on, too: after a loss nothing is sent twice.
  server.set(MEMBERS, 1)
  server.beat()
  await until(() => expect(client.connection().sequence).toBe(102))
  server.cut()
  await until(() => expect(server.asked[1]?.queries).toEqual([{ path: ME, since: 102 }]))
})

/** A page and its window, as far as the client knows them. */
function page() {
  const [page, window] = [Object.assign(new EventTarget(), { visibilityState: 'visible' }), new EventTarget()]
  vi.stubGlobal('document', page)
  vi.stubGlobal('self', window)
  const turn = (state: 'visible' | 'hidden') => {
    page.visibilityState = state
    page.dispatchEvent(new Event('visibilitychange'))
  }
  return { turn, tell: (event: 'online' | 'offline') => window.dispatchEvent(new Event(event)) }
}

test('in the background the stream is kept for a while, then let go; in the foreground it is back at once', async () => {
  const server = await serve()
  server.set(ME, ada('1'))
  const { turn } = page()
  const client = connect(server, { limits: { hiddenMs: 100, backoffMs: 60_000 } })
  const me = listen(client, ME)
  await live(client)
  turn('hidden')
  turn('visible')
  turn('hidden')
  server.set(ME, ada('2'))
  await until(() => expect(me.now().value).toEqual(ada('2')))
  await until(() => expect(client.connection().state).toBe('offline'))
  await until(() => expect(server.streams.size).toBe(0))
  server.set(ME, ada('3'))
  // Nobody looks: what is asked for meanwhile waits.
  const members = listen(client, MEMBERS)
  expect(server.asked).toHaveLength(1)
  turn('visible')
  await until(() => expect([me.now().value, members.now().value]).toEqual([ada('3'), null]))
  expect(server.asked.map(({ queries }) => queries)).toEqual([[{ path: ME }], [{ path: ME, since: 102 }, { path: MEMBERS }]])
  // A page that was never looked at.
  client.close()
  turn('hidden')
  const second = connect(server, { limits: { hiddenMs: 20 } })
  listen(second, ME)
  await until(() => expect(second.connection().state).toBe('offline'))
})

test('a device that goes offline says so at once, and is back as soon as it is online', async () => {
  const server = await serve()
  server.set(ME, ada('1'))
  const { tell } = page()
  const client = connect(server, { random: () => 1, limits: { backoffMs: 60_000, backoffMaxMs: 60_000 } })
  const me = listen(client, ME)
  await live(client)
  tell('offline')
  expect(client.connection()).toMatchObject({ state: 'offline', error: { code: 'unreachable' } })
  expect(me.now().value).toEqual(ada('1'))
  await until(() => expect(server.streams.size).toBe(0))
  server.set(ME, ada('2'))
  tell('online')
  await until(() => expect(me.now().value).toEqual(ada('2')))
  expect(client.connection()).toMatchObject({ state: 'live', error: undefined })
})

test('a listener that throws keeps nobody else from hearing', async () => {
  const server = await serve()
  server.set(ME, ada('Ada'))
  const thrown: unknown[] = []
  const catchIt = (error: unknown) => thrown.push(error)
  process.once('uncaughtException', catchIt)
  // The runner listens, too, and would fail the test.
  const others = process.listeners('uncaughtException').filter((one) => one !== catchIt)
  for (const other of others) process.off('uncaughtException', other)
  try {
    const client = connect(server)
    const stop = client.subscribe(ME, () => {
      stop()
      throw new Error('mine')
    })
    const me = listen(client, ME)
    await until(() => expect(me.shown).toHaveLength(1))
    await until(() => expect(thrown).toEqual([new Error('mine')]))
  } finally {
    for (const other of others) process.on('uncaughtException', other as NodeJS.UncaughtExceptionListener)
  }
})

test('only paths of the API are listened to', async () => {
  const client = connect(await serve())
  expect(() => client.subscribe('https://elsewhere.example/v1/me' as Path, () => undefined)).toThrow(TypeError)
})

type Act = { kind: 'set' | 'deny' | 'join' | 'leave'; path: number } | { kind: 'cut' | 'restart' | 'moved' | 'expired' | 'beat' | 'busy' | 'old' | 'breathe' }

test('whatever happens, everybody ends with what there is, and nobody sees time go back', async () => {
  const paths: Path[] = [ME, MEMBERS, '/v1/workspace', '/v1/organization']
  const act = fc.oneof<fc.Arbitrary<Act>[]>(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('set'), path: fc.nat(3) }) } as never,
    fc.record({ kind: fc.constantFrom('deny', 'join', 'leave'), path: fc.nat(3) }) as fc.Arbitrary<Act>,
    fc.record({ kind: fc.constantFrom('cut', 'restart', 'moved', 'expired', 'beat', 'busy', 'old', 'breathe') }) as fc.Arbitrary<Act>,
  )
  await fc.assert(
    fc.asyncProperty(fc.array(act, { minLength: 5, maxLength: 25 }), async (acts) => {
      const server = await serve()
      const client = connect(server, { limits: { lingerMs: 1, backoffMs: 2, backoffMaxMs: 4 } })
      const joined: { path: Path; me: ReturnType<typeof listen> }[] = [{ path: ME, me: listen(client, ME) }]
      const all = [...joined]
      for (const one of acts) {
        if (one.kind === 'set') server.set(paths[one.path] ?? ME, { number: server.sequence })
        else if (one.kind === 'deny') server.deny(paths[one.path] ?? ME, 'record-not-found')
        else if (one.kind === 'join') {
          const path = paths[one.path] ?? ME
          const it = { path, me: listen(client, path) }
          joined.push(it)
          all.push(it)
        } else if (one.kind === 'leave') joined.splice(one.path, 1)[0]?.me.stop()
        else if (one.kind === 'cut') server.cut()
        else if (one.kind === 'restart') {
          await server.stop()
          await server.listen()
        } else if (one.kind === 'moved') server.end('stream-moved', 503)
        else if (one.kind === 'expired') server.end('token-expired', 401)
        else if (one.kind === 'beat') server.beat()
        else if (one.kind === 'busy') server.faults.push({ status: 503, code: 'overloaded' })
        // Older than a value that every stream has been told.
        else if (one.kind === 'old' && 'value' in server.look(ME, {})) server.raw(`event: value\ndata: ${JSON.stringify({ query: ME, sequence: 1, value: { number: -1 } })}\n\n`)
        else await elapsed(5)
      }
      await until(() => {
        for (const { path, me } of joined) {
          const shown = server.look(path, { org_id: 'org_a' })
          expect(me.now().value).toEqual('value' in shown ? shown.value : null)
        }
      })
      for (const { me } of all) {
        const numbers = me.shown.flatMap(({ value }) => (typeof value === 'object' && value !== null && 'number' in value ? [value.number as number] : []))
        expect(numbers).toEqual([...numbers].sort((a, b) => a - b))
      }
      client.close()
      await server.stop()
    }),
    { numRuns: 100, endOnFailure: true, seed: Number(process.env['FAIRCOPY_TEST_SEED'] ?? Date.now()) },
  )
}, 60_000)

test('tokens and problems of the kit are formed as they come', () => {
  expect(token({ sub: 'a' }).split('.')).toHaveLength(3)
  expect(problem('overloaded', 503)).toMatchObject({ code: 'overloaded', status: 503 })
})

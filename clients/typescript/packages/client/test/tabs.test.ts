import { beforeEach, expect, test } from 'vitest'
import type { ClientOptions } from '../src/client.js'
import { FaircopyError } from '../src/error.js'
import type { Path } from '../src/queries.js'
import { Browser, Tab } from './browser.js'
import { connect, listen, serve, until } from './kit.js'
import { type FakeServer, fresh } from './server.js'

const ME = '/v1/me'
const MEMBERS = '/v1/organization/members'

let browser: Browser
beforeEach(() => {
  browser = new Browser()
})

let sessions = 0
/** Tabs of one user; with a name of its own for each test. */
function user(server: FakeServer, options: Partial<ClientOptions> = {}) {
  const key = `session ${(sessions += 1)}`
  return {
    open: (path: Path = ME, more: Partial<ClientOptions> = {}) => {
      const tab = new Tab(browser)
      tab.enter()
      const client = connect(server, { ...options, ...more, limits: { answerMs: 60, ...options.limits, ...more.limits } })
      client.setSession({ key, userId: 'user_ada', organizationId: 'org_a', getToken: async () => fresh() })
      return { tab, client, ...listen(client, path) }
    },
  }
}

const listened = (server: FakeServer) => [...server.streams].map(({ queries }) => queries.map(({ path }) => path))

test('many tabs listen through one of them, and all show the same', async () => {
  const server = await serve()
  server.set(ME, { name: '1' })
  const ada = user(server)
  const tabs = Array.from({ length: 8 }, () => ada.open())
  await until(() => expect(tabs.map((one) => one.now().value)).toEqual(Array(8).fill({ name: '1' })))
  await until(() => expect(tabs.map(({ client }) => client.connection().state)).toEqual(Array(8).fill('live')))
  const sequence = server.set(ME, { name: '2' })
  await until(() => expect(tabs.map((one) => one.now())).toEqual(Array(8).fill(expect.objectContaining({ value: { name: '2' }, sequence, isLoading: false }))))
  expect(tabs.map((one) => one.values())).toEqual(Array(8).fill([{ name: '1' }, { name: '2' }]))
  expect([server.asked.length, server.mostStreams]).toEqual([1, 1])
  server.asOf = '2026-01-01T00:00:00Z'
  server.beat()
  await until(() => expect(tabs.map(({ client }) => client.connection().asOf)).toEqual(Array(8).fill(server.asOf)))
})

test('each tab has its own queries, until it lets go of them', async () => {
  const server = await serve()
  server.set(ME, 'me')
  server.set(MEMBERS, 'members')
  const ada = user(server)
  const first = ada.open(ME)
  await until(() => expect(first.now().value).toBe('me'))
  const second = ada.open(MEMBERS)
  expect(second.client.connection().state).toBe('connecting')
  await until(() => expect(second.now().value).toBe('members'))
  const third = ada.open('/v1/workspace')
  await until(() => expect(third.now()).toMatchObject({ value: null, absence: 'record-not-found' }))
  await until(() => expect(listened(server)).toEqual([[ME, MEMBERS, '/v1/workspace']]))
  second.stop()
  third.client.close()
  await until(() => expect(listened(server)).toEqual([[ME]]))
  expect(first.client.connection().state).toBe('live')
  expect(second.client.connection().state).toBe('idle')
})

test('errors are errors in every tab', async () => {
  const server = await serve()
  server.deny(ME, 'not-permitted', 403)
  const ada = user(server)
  const tabs = [ada.open(), ada.open()]
  await until(() => expect(tabs.map((one) => one.now().error?.code)).toEqual(['not-permitted', 'not-permitted']))
  for (const one of tabs) expect(one.now().error).toBeInstanceOf(FaircopyError)
  expect(tabs[1]?.now().error).toMatchObject({ status: 403, retryable: false, problem: { code: 'not-permitted' } })
  await server.stop()
  await until(() => expect(tabs.map(({ client }) => client.connection())).toEqual(Array(2).fill(expect.objectContaining({ state: 'offline', error: expect.any(FaircopyError) }))))
})

test.each(['closes', 'dies'])('when the tab that leads %s, another takes over without a gap or a duplicate', async (end) => {
  const server = await serve()
  server.set(ME, 1)
  const ada = user(server)
  const leader = ada.open()
  await until(() => expect(leader.now().value).toBe(1))
  const others = [ada.open(), ada.open()]
  await until(() => expect(others.map((one) => one.now().value)).toEqual([1, 1]))
  if (end === 'dies') leader.tab.die()
  leader.client.close()
  server.set(ME, 2)
  await until(() => expect(others.map((one) => one.now().value)).toEqual([2, 2]))
  await until(() => expect(server.streams.size).toBe(1))
  server.set(ME, 3)
  await until(() => expect(others.map((one) => one.values())).toEqual([[1, 2, 3], [1, 2, 3]]))
  expect(server.asked[1]?.queries).toEqual([{ path: ME, since: 101 }])
  expect(others.map(({ client }) => client.connection().state)).toEqual(['live', 'live'])
})

test('a tab that dies is forgotten', async () => {
  const server = await serve()
  server.set(ME, 1)
  server.set(MEMBERS, 2)
  const ada = user(server)
  const first = ada.open(ME)
  await until(() => expect(first.now().value).toBe(1))
  const second = ada.open(MEMBERS)
  await until(() => expect(second.now().value).toBe(2))
  second.tab.die()
  await until(() => expect(listened(server)).toEqual([[ME]]))
})

test('a tab that leads and sleeps loses the lead, and is told so when it wakes', async () => {
  const server = await serve()
  server.set(ME, 1)
  const ada = user(server)
  const first = ada.open()
  await until(() => expect(first.now().value).toBe(1))
  first.tab.isAsleep = true
  const second = ada.open()
  await until(() => expect(second.now().value).toBe(1))
  first.tab.wake()
  await until(() => expect(server.streams.size).toBe(1))
  server.set(ME, 2)
  await until(() => expect([first.now().value, second.now().value]).toEqual([2, 2]))
  expect([first.values(), second.values()]).toEqual([[1, 2], [1, 2]])
})

test('a tab that leads and says nothing for too long is asked, and then loses the lead', async () => {
  const server = await serve()
  server.set(ME, 1)
  server.beatMs = 20
  const ada = user(server, { limits: { silenceMs: 200 } })
  const first = ada.open()
  await until(() => expect(first.now().value).toBe(1))
  const second = ada.open()
  await until(() => expect(second.now().value).toBe(1))
  expect(server.asked).toHaveLength(1)
  // It neither hears nor speaks, but the browser still takes it for alive.
  first.tab.isAsleep = true
  first.tab.isDead = true
  await until(() => expect(server.asked.length).toBeGreaterThan(1))
  server.set(ME, 2)
  await until(() => expect(second.now().value).toBe(2))
})

test('a tab that leads in the background leaves the lead to one that is looked at', async () => {
  const server = await serve()
  server.set(ME, 1)
  const ada = user(server, { limits: { hiddenMs: 30 } })
  const first = ada.open()
  await until(() => expect(first.now().value).toBe(1))
  const second = ada.open()
  await until(() => expect(second.now().value).toBe(1))
  first.tab.turn('hidden')
  await until(() => expect(first.client.connection().state).toBe('offline'))
  await until(() => expect(server.asked).toHaveLength(2))
  server.set(ME, 2)
  await until(() => expect(second.now().value).toBe(2))
  expect(first.now().value).toBe(1)
  first.tab.turn('visible')
  await until(() => expect(first.now().value).toBe(2))
  await until(() => expect([first.client.connection().state, server.streams.size]).toEqual(['live', 1]))
  expect(server.asked).toHaveLength(2)
})

test('another user, or who does not want to: connections of their own', async () => {
  const server = await serve()
  server.set(ME, 'a')
  const tabs = [user(server).open(), user(server).open(), user(server).open(ME, { isShared: false })]
  await until(() => expect(tabs.map((one) => one.now().value)).toEqual(['a', 'a', 'a']))
  expect(server.streams.size).toBe(3)
})

test('who is another from now on shows nothing of before, and leaves the others what they have', async () => {
  const server = await serve()
  server.set(ME, 'a', 'org_a')
  server.set(ME, 'b', 'org_b')
  const ada = user(server)
  const first = ada.open()
  await until(() => expect(first.now().value).toBe('a'))
  const second = ada.open()
  await until(() => expect(second.now().value).toBe('a'))
  first.tab.enter()
  first.client.setSession({ key: `another ${sessions}`, userId: 'user_ada', organizationId: 'org_b', getToken: async () => fresh({ org_id: 'org_b' }) })
  expect(first.now().isLoading).toBe(true)
  await until(() => expect([first.now().value, second.now().value]).toEqual(['b', 'a']))
  server.set(ME, 'a2', 'org_a')
  await until(() => expect(second.now().value).toBe('a2'))
  expect([first.values(), second.values()]).toEqual([['a', undefined, 'b'], ['a', 'a2']])
})

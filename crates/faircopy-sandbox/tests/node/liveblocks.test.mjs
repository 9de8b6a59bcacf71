// Rooms through Liveblocks' own client.

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { Liveblocks, LiveblocksError } from '@liveblocks/node'

const baseUrl = process.env.LIVEBLOCKS_API_URL
const secret = process.env.LIVEBLOCKS_SECRET_KEY
const liveblocks = new Liveblocks({ secret, baseUrl })

async function control(method, path, body) {
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(`${baseUrl}/sandbox/v1/liveblocks${path}`, { method, headers, body: body && JSON.stringify(body) })
  assert.ok(response.ok, `${method} ${path}: ${response.status}`)
  return response.status === 204 ? undefined : response.json()
}

async function refused(promise, status, message) {
  const error = await promise.then(() => assert.fail(`answered where ${status} was expected`), (error) => error)
  assert.ok(error instanceof LiveblocksError, error.stack)
  assert.equal(error.status, status, `${error}`)
  assert.match(error.message, message)
  return error
}

const ids = (page) => page.data.map((room) => room.id)

beforeEach(async () => {
  await control('PUT', '/faults', {})
  for await (const room of liveblocks.iterRooms({}, { pageSize: 100 })) await liveblocks.deleteRoom(room.id)
})

test('a room is made, read, found again, deleted', async () => {
  const params = {
    defaultAccesses: ['room:write'], organizationId: 'org_1', metadata: { kind: 'doc', tags: ['a', 'b'] },
    usersAccesses: { user_1: ['room:write'] }, groupsAccesses: { g: ['room:read', 'room:presence:write'] },
  }
  const before = Date.now()
  const made = await liveblocks.createRoom('doc:1', params)
  const { createdAt, lastConnectionAt, ...rest } = made
  assert.deepEqual(rest, { type: 'room', id: 'doc:1', ...params })
  assert.ok(createdAt instanceof Date && Math.abs(createdAt.getTime() - before) < 60_000)
  assert.equal(lastConnectionAt, undefined)
  assert.deepEqual(await liveblocks.getRoom('doc:1'), made)
  assert.deepEqual((await liveblocks.getRooms()).data, [made])
  await refused(liveblocks.createRoom('doc:1', params), 409, /already exists/)
  assert.deepEqual(await liveblocks.getOrCreateRoom('doc:1', { defaultAccesses: [] }), made)
  assert.equal(await liveblocks.deleteRoom('doc:1'), undefined)
  await refused(liveblocks.getRoom('doc:1'), 404, /not found/i)
  await refused(liveblocks.deleteRoom('doc:1'), 404, /not found/i)
})

test('names are encoded by the client and understood', async () => {
  for (const id of ['../v2/rooms', 'a/b?c#d%2f', 'ü 漢 🏠', 'room:org_1/2']) {
    await liveblocks.createRoom(id, { defaultAccesses: [] })
    assert.equal((await liveblocks.getRoom(id)).id, id)
    await liveblocks.deleteRoom(id)
  }
  assert.deepEqual((await liveblocks.getRooms()).data, [])
})

test('pages are followed to their end, by hand and by the client', async () => {
  const made = []
  for (let at = 0; at < 27; at += 1) made.push((await liveblocks.createRoom(`room:${at}`, { defaultAccesses: [] })).id)
  const newest = made.reverse()
  const first = await liveblocks.getRooms()
  assert.deepEqual(ids(first), newest.slice(0, 20))
  const second = await liveblocks.getRooms({ startingAfter: first.nextCursor })
  assert.deepEqual(ids(second), newest.slice(20))
  assert.equal(second.nextCursor, null)
  const seen = []
  for await (const room of liveblocks.iterRooms({ query: { roomId: { startsWith: 'room:' } } }, { pageSize: 20 })) seen.push(room.id)
  assert.deepEqual(seen, newest)
  await refused(liveblocks.getRooms({ limit: 101 }), 422, /limit/)
})

test('rooms are filtered by what the client can ask', async () => {
  const make = (id, organizationId, metadata, userId, groupId) =>
    liveblocks.createRoom(id, {
      defaultAccesses: [], organizationId, metadata, usersAccesses: { [userId]: ['room:write'] }, groupsAccesses: { [groupId]: ['room:write'] },
    })
  await make('doc:1', 'org_1', { ws: '1', quote: `it's "so"` }, 'ann', 'red')
  await make('doc:2', 'org_2', { ws: '2', list: ['1'] }, 'bob', 'blue')
  await make('code:1', 'org_1', { ws: '1' }, 'cy', 'green')
  const found = async (params) => ids(await liveblocks.getRooms(params))
  assert.deepEqual(await found({ query: { roomId: { startsWith: 'doc:' } } }), ['doc:2', 'doc:1'])
  assert.deepEqual(await found({ query: { metadata: { ws: '1' } } }), ['code:1', 'doc:1'])
  assert.deepEqual(await found({ query: { roomId: { startsWith: 'doc:' }, metadata: { ws: '1' } } }), ['doc:1'])
  assert.deepEqual(await found({ query: { metadata: { ws: { startsWith: '' } } } }), ['code:1', 'doc:2', 'doc:1'])
  assert.deepEqual(await found({ query: { metadata: { quote: `it's "so"` } } }), ['doc:1'])
  assert.deepEqual(await found({ query: `roomId^'doc:' AND metadata['ws']:'2'` }), ['doc:2'])
  assert.deepEqual(await found({ query: { metadata: { list: '1' } } }), [])
  assert.deepEqual(await found({ organizationId: 'org_1' }), ['code:1', 'doc:1'])
  assert.deepEqual(await found({ userId: 'bob' }), ['doc:2'])
  assert.deepEqual(await found({ groupIds: ['red', 'green'] }), ['code:1', 'doc:1'])
  await refused(liveblocks.getRooms({ query: 'roomId~x' }), 422, /query/)
})

test('a wrong key is told from a room that is gone', async () => {
  const stranger = new Liveblocks({ secret: 'sk_of_somebody_else', baseUrl })
  const error = await refused(stranger.deleteRoom('doc:1'), 403, /secret key/)
  assert.match(error.details, /Suggestion: /)
})

test('limits, errors and lost answers look to the client as they would', async () => {
  await liveblocks.createRoom('doc:1', { defaultAccesses: [] })
  await control('PUT', '/faults', { next: [{ limited: 3 }, { status: 500 }, 'lost'] })
  await refused(liveblocks.deleteRoom('doc:1'), 429, /too many/i)
  await refused(liveblocks.deleteRoom('doc:1'), 500, /./)
  await assert.rejects(liveblocks.deleteRoom('doc:1'), (error) => !(error instanceof LiveblocksError))
  await refused(liveblocks.deleteRoom('doc:1'), 404, /not found/i)
})

test('a room comes back when a client reconnects', async () => {
  const made = await liveblocks.createRoom('doc:1', { defaultAccesses: [], metadata: { k: 'v' } })
  await liveblocks.deleteRoom('doc:1')
  await control('POST', '/rooms/doc%3A1/reconnect')
  const back = await liveblocks.getRoom('doc:1')
  assert.deepEqual(back.metadata, made.metadata)
  assert.ok(back.lastConnectionAt instanceof Date)
  await liveblocks.deleteRoom('doc:1')
  const { counts } = await control('GET', '/requests')
  assert.ok(counts.delete >= 2)
})

// What goes wrong, as Clerk's client shows it.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { aUser, clerk, clientWith, control, refused, secretKey, url } from './sandbox.mjs'

const chaos = (api) => control('PATCH', '/chaos', { api })
const calm = () => control('DELETE', '/chaos')
after(calm)

test('a wrong key and no key', async () => {
  await refused(clientWith({ secretKey: 'sk_test_of-somebody-else' }).users.getUserList(), 401, 'clerk_key_invalid')
  const response = await fetch(`${url}/v1/users`)
  assert.equal(response.status, 401)
  assert.ok((await response.json()).errors[0].code)
})

test('an error says what it is about, and has a trace', async () => {
  const error = await refused(clerk.users.getUser('user_that_is_not'), 404, 'resource_not_found')
  assert.ok(error.clerkTraceId)
  assert.ok(error.errors[0].message && error.errors[0].longMessage.includes('user_that_is_not'))
  assert.equal(error.retryAfter, undefined)
})

test('a limit is told with the seconds to wait', async () => {
  const user = await aUser()
  await chaos({ limited_percent: 100, retry_after_s: 17 })
  const error = await clerk.users.getUser(user.id).then(assert.fail, (error) => error)
  await calm()
  assert.deepEqual([error.status, error.retryAfter], [429, 17])
  assert.equal((await clerk.users.getUser(user.id)).id, user.id)
})

test('an error of the server is one for the client', async () => {
  await chaos({ error_percent: 100, error_status: 503 })
  const error = await clerk.users.getCount().then(assert.fail, (error) => error)
  await calm()
  assert.equal(error.status, 503)
})

test('versions: none, each that Clerk has, one that nobody has, two at once', async () => {
  const status = async (version, query = '') => {
    const headers = { authorization: `Bearer ${secretKey}`, ...(version && { 'clerk-api-version': version }) }
    const response = await fetch(`${url}/v1/users${query}`, { headers })
    const body = await response.json()
    return response.ok ? response.status : `${response.status} ${body.errors[0].code}`
  }
  for (const version of ['', '2021-02-05', '2024-10-01', '2025-04-10', '2025-11-10', '2026-05-12']) {
    assert.equal(await status(version), 200, version)
  }
  assert.equal(await status('', '?__clerk_api_version=2025-11-10'), 200)
  assert.equal(await status('1999-01-01'), '400 api_version_invalid')
  assert.equal(await status('2025-11-10', '?__clerk_api_version=2025-11-10'), '400 api_version_invalid')
})

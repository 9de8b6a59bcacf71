// The limit of a development instance: a hundred requests in ten seconds.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isClerkAPIResponseError } from '@clerk/backend/errors'
import { clerk } from './sandbox.mjs'

/** Asks until the limit is met: how many were answered, and the refusal. */
async function untilLimited() {
  for (let answered = 0; answered < 1000; answered += 1) {
    const error = await clerk.users.getCount().then(() => undefined, (refusal) => refusal)
    if (error) return { answered, error }
  }
  return assert.fail('no limit was met')
}

test('a hundred requests are answered, and soon after them one is not', async () => {
  const began = Date.now()
  const { answered, error } = await untilLimited()
  // A machine that is stopped for a while sees other windows begin.
  const windows = 1 + Math.ceil((Date.now() - began) / 10_000)
  assert.ok(answered >= 100 && answered <= 100 * windows, `${answered} answered in ${windows} windows`)
  assert.ok(isClerkAPIResponseError(error), error.stack)
  assert.equal(error.status, 429)
  assert.ok(error.retryAfter >= 1 && error.retryAfter <= 10, `${error.retryAfter}`)
})

test('the keys have no limit', async () => {
  await untilLimited()
  for (let at = 0; at < 20; at += 1) assert.equal((await clerk.jwks.getJwks()).keys.length, 1)
})

test('whoever waits as long as was asked is answered', async () => {
  const { error } = await untilLimited()
  await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000))
  assert.equal(await clerk.users.getCount(), 0)
})

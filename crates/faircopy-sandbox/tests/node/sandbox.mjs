// What all suites share: where the sandbox is, Clerk's client for it, and what is done to it beside Clerk's API.

import assert from 'node:assert/strict'
import { createClerkClient } from '@clerk/backend'
import { isClerkAPIResponseError } from '@clerk/backend/errors'

function given(name) {
  const value = process.env[name]
  assert.ok(value, `${name} is set by the test that starts this one`)
  return value
}

export const url = given('SANDBOX_URL')
export const secretKey = given('SANDBOX_SECRET_KEY')
export const publishableKey = given('SANDBOX_PUBLISHABLE_KEY')
export const jwtKey = given('SANDBOX_JWT_KEY')

// Statistics of use would go to Clerk.
export const settings = { secretKey, publishableKey, apiUrl: url, telemetry: { disabled: true } }
export const clerk = createClerkClient(settings)

/** A client whose key, or whatever else, is another. */
export const clientWith = (other) => createClerkClient({ ...settings, ...other })

/** The sandbox's own API. */
export async function control(method, path, body) {
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(`${url}/sandbox/v1${path}`, { method, headers, body: body && JSON.stringify(body) })
  const text = await response.text()
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`)
  return text ? JSON.parse(text) : undefined
}

let made = 0
/** A word that nothing else in this instance has. */
export const word = (of) => `${of}${process.pid.toString(36)}x${(made += 1)}`

/** Waits until what is made next is younger: lists are in the order of whole milliseconds. */
export async function older(made) {
  while (Date.now() <= made.createdAt) await new Promise((resolve) => setTimeout(resolve, 1))
  return made
}

/** A new user, with an address of its own. */
export const aUser = async (params = {}) =>
  older(await clerk.users.createUser({ emailAddress: [`${word('u')}@example.com`], skipPasswordRequirement: true, ...params }))

/** A new organization, whose creator is its admin. */
export async function anOrganization(params = {}) {
  const admin = await aUser()
  const organization = await clerk.organizations.createOrganization({ name: word('Org '), createdBy: admin.id, ...params })
  await older(organization)
  return { admin, organization }
}

/** The error that Clerk's client makes of a refusal, with this status and the code of its first reason. */
export async function refused(promise, status, code) {
  const error = await promise.then(
    () => assert.fail(`answered where ${status} ${code} was expected`),
    (error) => error,
  )
  assert.ok(isClerkAPIResponseError(error), `${error.stack}`)
  assert.deepEqual([error.status, error.errors[0]?.code], [status, code], JSON.stringify(error.errors))
  return error
}

export const ids = (list) => list.data.map((one) => one.id)

/** Waits for what comes soon, and says what did not. */
export async function until(what, look) {
  const deadline = Date.now() + 20_000
  for (;;) {
    const found = await look()
    if (found) return found
    assert.ok(Date.now() < deadline, `${what} did not come`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

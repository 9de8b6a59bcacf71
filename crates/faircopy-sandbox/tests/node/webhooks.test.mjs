// Deliveries that the sandbox really sends, verified by Clerk's own code and by Svix's.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { verifyWebhook } from '@clerk/backend/webhooks'
import { Webhook } from 'svix'
import { aUser, anOrganization, clerk, control, until, word } from './sandbox.mjs'

/** What came, in the order in which it came: headers as they were sent, and the bytes of the body. */
const came = []
/** What the next deliveries are answered; 200 when there is nothing here. */
const answers = []
const receiver = createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const { method, headers, url } = request
    came.push({ method, url, headers, body: Buffer.concat(chunks).toString('utf8') })
    response.writeHead(answers.shift() ?? 200).end()
  })
})
let endpoint

before(async () => {
  await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  // Five seconds become five milliseconds.
  await control('PATCH', '/schedule', { speed: 1000 })
  endpoint = await control('POST', '/endpoints', { url: `http://127.0.0.1:${receiver.address().port}/webhooks/clerk` })
})
after(() => {
  receiver.close()
  receiver.closeAllConnections()
})

const eventOf = (delivery) => JSON.parse(delivery.body)
/** The first delivery so far, or soon, that fits. */
const delivered = (what, fits) => until(what, () => came.find((delivery) => fits(eventOf(delivery), delivery)))
const deliveredFor = (type, id) => delivered(`${type} of ${id}`, (event) => event.type === type && event.data.id === id)

const asRequest = ({ headers, body }) => new Request('https://app.example.com/webhooks/clerk', { method: 'POST', headers, body })
const asClerk = (delivery, signingSecret) => verifyWebhook(asRequest(delivery), { signingSecret })
const asSvix = (delivery, secret) => new Webhook(secret).verify(delivery.body, delivery.headers)

test('a delivery is verified by both libraries, and says what the API says', async () => {
  const sent = Date.now()
  const user = await aUser({ firstName: 'Web', publicMetadata: { nested: { 'ü': [1, 2.5, null] } } })
  const delivery = await deliveredFor('user.created', user.id)
  assert.equal(delivery.method, 'POST')
  assert.equal(delivery.url, '/webhooks/clerk')
  assert.match(delivery.headers['svix-id'], /^msg_[0-9A-Za-z]{27}$/)
  assert.match(delivery.headers['svix-timestamp'], /^\d{10}$/)
  assert.match(delivery.headers['content-type'], /^application\/json/)
  assert.match(delivery.headers['user-agent'], /^Svix-Webhooks\//)
  assert.equal(Number(delivery.headers['content-length']), Buffer.byteLength(delivery.body))

  const event = await asClerk(delivery, endpoint.secret)
  assert.deepEqual([event.type, event.object, event.data.id], ['user.created', 'event', user.id])
  assert.ok(Math.abs(event.timestamp - sent) < 60_000, 'milliseconds')
  assert.equal(event.instance_id, (await clerk.instance.get()).id)
  assert.ok(event.event_attributes.http_request)
  // `raw` is the API's answer; only deliveries may say more.
  for (const [name, value] of Object.entries(user.raw)) assert.deepEqual(event.data[name], value, name)
  assert.deepEqual(asSvix(delivery, endpoint.secret), eventOf(delivery))
})

test('every kind of change is told', async () => {
  const { admin, organization } = await anOrganization({ slug: word('told-') })
  const user = await aUser()
  const pair = { organizationId: organization.id, userId: user.id }
  await clerk.users.updateUser(user.id, { firstName: 'New' })
  await clerk.organizations.updateOrganization(organization.id, { name: 'New' })
  const membership = await clerk.organizations.createOrganizationMembership({ ...pair, role: 'org:member' })
  await clerk.organizations.updateOrganizationMembership({ ...pair, role: 'org:admin' })
  const invite = () =>
    clerk.organizations.createOrganizationInvitation({
      organizationId: organization.id, inviterUserId: admin.id, emailAddress: `${word('told')}@example.com`, role: 'org:member',
    })
  const [revoked, accepted] = [await invite(), await invite()]
  await clerk.organizations.revokeOrganizationInvitation({ organizationId: organization.id, invitationId: revoked.id, requestingUserId: admin.id })
  await control('POST', `/invitations/${accepted.id}/accept`, {})
  const session = await clerk.sessions.createSession({ userId: admin.id })
  await clerk.sessions.revokeSession(session.id)
  await clerk.organizations.deleteOrganizationMembership(pair)
  await clerk.organizations.deleteOrganization(organization.id)
  await clerk.users.deleteUser(user.id)

  for (const [type, id] of [
    ['user.updated', user.id], ['user.deleted', user.id],
    ['organization.created', organization.id], ['organization.updated', organization.id], ['organization.deleted', organization.id],
    ['organizationMembership.created', membership.id], ['organizationMembership.updated', membership.id], ['organizationMembership.deleted', membership.id],
    ['organizationInvitation.created', revoked.id], ['organizationInvitation.revoked', revoked.id], ['organizationInvitation.accepted', accepted.id],
    ['session.created', session.id], ['session.revoked', session.id],
  ]) {
    const event = await asClerk(await deliveredFor(type, id), endpoint.secret)
    assert.equal(event.type, type)
    if (type === 'user.deleted' || type === 'organization.deleted') {
      assert.deepEqual([event.data.deleted, event.data.object], [true, type.split('.')[0]])
    }
    if (type.startsWith('organizationMembership.')) {
      assert.deepEqual([event.data.organization.id, event.data.public_user_data.user_id], [organization.id, user.id])
    }
    if (type === 'organizationInvitation.accepted') assert.ok(event.data.user_id)
    if (type.startsWith('session.')) assert.equal(event.data.user.id, admin.id)
  }
  const own = came.map(eventOf).filter((event) => event.type === 'organizationMembership.created')
  assert.ok(own.some((event) => event.data.public_user_data.user_id === admin.id), 'the creator becomes a member')
})

test('what was not signed so is not verified', async () => {
  const user = await aUser()
  const delivery = await deliveredFor('user.created', user.id)
  const other = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const changed = { ...delivery, body: delivery.body.replace(user.id, `${user.id.slice(0, -1)}_`) }
  const late = { ...delivery, headers: { ...delivery.headers, 'svix-timestamp': `${delivery.headers['svix-timestamp'] - 301}` } }
  for (const [wrong, secret] of [[delivery, other], [changed, endpoint.secret], [late, endpoint.secret]]) {
    await assert.rejects(asClerk(wrong, secret))
    assert.throws(() => asSvix(wrong, secret))
  }
})

test('a resend is the same message, signed anew', async () => {
  const user = await aUser()
  const first = await deliveredFor('user.created', user.id)
  const id = first.headers['svix-id']
  await control('POST', `/messages/${id}/resend`, {})
  const again = await delivered('the resend', (_, delivery) => delivery !== first && delivery.headers['svix-id'] === id)
  assert.equal(again.body, first.body)
  assert.ok(Number(again.headers['svix-timestamp']) >= Number(first.headers['svix-timestamp']))
  assert.deepEqual((await asClerk(again, endpoint.secret)).data, (await asClerk(first, endpoint.secret)).data)
  assert.deepEqual(asSvix(again, endpoint.secret), eventOf(first))
})

test('a delivery that fails is made again, with the same id', async () => {
  const already = came.length
  answers.push(500, 503)
  const user = await aUser()
  const mine = () => came.slice(already).filter((delivery) => eventOf(delivery).data.id === user.id)
  const attempts = await until('a third attempt', () => (mine().length >= 3 ? mine() : undefined))
  assert.equal(new Set(attempts.map((delivery) => delivery.headers['svix-id'])).size, 1)
  for (const attempt of attempts) assert.equal((await asClerk(attempt, endpoint.secret)).data.id, user.id)
})

test('after a rotation both secrets verify, and a stranger still not', async () => {
  const old = endpoint.secret
  await control('POST', `/endpoints/${endpoint.id}/rotate-secret`, {})
  const rotated = await control('GET', `/endpoints/${endpoint.id}`)
  assert.notEqual(rotated.secret, old)
  const user = await aUser()
  const delivery = await deliveredFor('user.created', user.id)
  assert.equal(delivery.headers['svix-signature'].split(' ').length, 2)
  for (const secret of [old, rotated.secret]) {
    assert.equal((await asClerk(delivery, secret)).data.id, user.id)
    assert.equal(asSvix(delivery, secret).data.id, user.id)
  }
  endpoint = rotated
})

test('what a disabled endpoint missed is replayed', async () => {
  await control('PATCH', `/endpoints/${endpoint.id}`, { disabled: true })
  const user = await aUser()
  await control('PATCH', `/endpoints/${endpoint.id}`, { disabled: false })
  const marker = await aUser()
  await deliveredFor('user.created', marker.id)
  assert.ok(!came.some((delivery) => eventOf(delivery).data.id === user.id), 'not sent while nobody wanted it')
  await control('POST', `/endpoints/${endpoint.id}/replay-missing`, {})
  const delivery = await deliveredFor('user.created', user.id)
  assert.equal((await asClerk(delivery, endpoint.secret)).data.id, user.id)
})

test('the way to the deliveries is an address, as at Clerk', async () => {
  const { svix_url: address } = await clerk.webhooks.generateSvixAuthURL()
  assert.ok(new URL(address))
})

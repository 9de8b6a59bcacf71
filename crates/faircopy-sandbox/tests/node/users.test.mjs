// Users through Clerk's client.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aUser, anOrganization, clerk, ids, refused, word } from './sandbox.mjs'

test('a user is made with everything that was said', async () => {
  const address = `${word('ann')}@example.com`
  const [username, externalId] = [word('ann'), word('ext')]
  const before = Date.now()
  const made = await clerk.users.createUser({
    emailAddress: [address], username, externalId, password: 'correct horse battery staple', firstName: 'Ann', lastName: 'Lee',
    publicMetadata: { plan: 'pro', nested: { a: 1 } }, privateMetadata: { secret: true }, unsafeMetadata: { theme: 'dark' },
  })
  assert.match(made.id, /^user_[0-9A-Za-z]{27}$/)
  assert.deepEqual([made.firstName, made.lastName, made.fullName], ['Ann', 'Lee', 'Ann Lee'])
  assert.deepEqual([made.username, made.externalId, made.passwordEnabled], [username, externalId, true])
  assert.equal(made.primaryEmailAddress.emailAddress, address)
  assert.equal(made.primaryEmailAddress.verification.status, 'verified')
  assert.deepEqual(made.publicMetadata, { plan: 'pro', nested: { a: 1 } })
  assert.deepEqual(made.privateMetadata, { secret: true })
  assert.deepEqual(made.unsafeMetadata, { theme: 'dark' })
  assert.deepEqual([made.banned, made.locked, made.twoFactorEnabled, made.lastSignInAt], [false, false, false, null])
  assert.ok(Math.abs(made.createdAt - before) < 60_000 && made.updatedAt >= made.createdAt)
  assert.deepEqual((await clerk.users.getUser(made.id)).raw, made.raw)
})

test('lists are paged by offset, newest first', async () => {
  const made = []
  for (let at = 0; at < 13; at += 1) made.push((await aUser()).id)
  const page = (params) => clerk.users.getUserList({ userId: made, ...params })
  const first = await page()
  assert.equal(first.data.length, 10, 'ten when nothing is said')
  assert.equal(first.totalCount, 13)
  const newest = [...made].reverse()
  assert.deepEqual(ids(first), newest.slice(0, 10))
  assert.deepEqual(ids(await page({ offset: 10 })), newest.slice(10))
  assert.deepEqual(ids(await page({ limit: 4, offset: 3 })), newest.slice(3, 7))
  assert.deepEqual(ids(await page({ limit: 500 })), newest)
  assert.deepEqual(ids(await page({ offset: 13 })), [])
  await refused(page({ limit: 501 }), 422, 'form_param_value_invalid')
  await refused(page({ offset: -1 }), 422, 'form_param_value_invalid')
})

test('lists are ordered as they are asked to be', async () => {
  const [b, c, a] = [await aUser({ firstName: 'Bea' }), await aUser({ firstName: 'Cy' }), await aUser({ firstName: 'Ada' })]
  const ordered = async (orderBy) => ids(await clerk.users.getUserList({ userId: [a.id, b.id, c.id], orderBy }))
  assert.deepEqual(await ordered('created_at'), [b.id, c.id, a.id])
  assert.deepEqual(await ordered('+created_at'), [b.id, c.id, a.id])
  assert.deepEqual(await ordered('-created_at'), [a.id, c.id, b.id])
  assert.deepEqual(await ordered('first_name'), [a.id, b.id, c.id])
  assert.deepEqual(await ordered('-first_name'), [c.id, b.id, a.id])
  await clerk.users.updateUser(b.id, { lastName: 'Last' })
  assert.equal((await ordered('-updated_at'))[0], b.id)
  await refused(ordered('shoe_size'), 422, 'form_param_value_invalid')
})

test('the cursor that the API has, and the client has not', async () => {
  const { url, secretKey } = await import('./sandbox.mjs')
  const made = []
  for (let at = 0; at < 7; at += 1) made.push((await aUser()).id)
  const page = async (after, more = '') => {
    const query = made.map((id) => `user_id=${id}`).join('&')
    const headers = { authorization: `Bearer ${secretKey}`, 'clerk-api-version': '2026-05-12' }
    const response = await fetch(`${url}/v1/users?${query}&limit=3&order_by=created_at${after ? `&starting_after=${after}` : ''}${more}`, { headers })
    return { status: response.status, rows: await response.json() }
  }
  const seen = []
  for (let after = ''; ; after = seen.at(-1)) {
    const { status, rows } = await page(after)
    assert.equal(status, 200)
    seen.push(...rows.map((row) => row.id))
    if (rows.length < 3) break
  }
  assert.deepEqual(seen, made)
  assert.equal((await page(made[0], '&offset=1')).status, 422)
})

test('lists are filtered by what identifies a user', async () => {
  const [one, two] = [await aUser({ username: word('one'), externalId: word('e') }), await aUser({ username: word('two') })]
  const addresses = [one, two].map((user) => user.primaryEmailAddress.emailAddress)
  const found = async (filter) => ids(await clerk.users.getUserList({ orderBy: '+created_at', ...filter }))
  assert.deepEqual(await found({ emailAddress: [addresses[0]] }), [one.id])
  assert.deepEqual(await found({ emailAddress: addresses }), [one.id, two.id])
  assert.deepEqual(await found({ username: [two.username] }), [two.id])
  assert.deepEqual(await found({ externalId: [one.externalId] }), [one.id])
  assert.deepEqual(await found({ userId: [one.id, 'user_that_is_not'] }), [one.id])
  assert.deepEqual(await found({ emailAddress: ['nobody@example.com'] }), [])
  assert.deepEqual(await found({ userId: [one.id, two.id], createdAtAfter: two.createdAt + 1 }), [])
  assert.deepEqual(await found({ userId: [one.id, two.id], createdAtBefore: one.createdAt - 1 }), [])
  assert.deepEqual((await found({ userId: [one.id, two.id], createdAtBefore: two.createdAt + 1000 })), [one.id, two.id])
})

test('a query finds parts of names and addresses, whatever their case', async () => {
  const rare = word('Zephyr')
  const user = await aUser({ firstName: rare })
  const found = async (query) => ids(await clerk.users.getUserList({ query }))
  assert.deepEqual(await found(rare), [user.id])
  assert.deepEqual(await found(rare.slice(1).toUpperCase()), [user.id])
  assert.deepEqual(await found(user.primaryEmailAddress.emailAddress.slice(0, -4)), [user.id])
  assert.deepEqual(await found(user.id), [user.id])
  assert.deepEqual(await found('nothing-is-called-this'), [])
})

test('users of an organization, with and without', async () => {
  const { admin, organization } = await anOrganization()
  const outside = await aUser()
  const found = async (organizationId) => ids(await clerk.users.getUserList({ userId: [admin.id, outside.id], organizationId }))
  assert.deepEqual(await found([organization.id]), [admin.id])
  assert.deepEqual(await found([`+${organization.id}`]), [admin.id])
  assert.deepEqual(await found([`-${organization.id}`]), [outside.id])
})

test('counts count what the list would hold', async () => {
  const before = await clerk.users.getCount()
  const user = await aUser({ externalId: word('count') })
  assert.equal(await clerk.users.getCount(), before + 1)
  assert.equal(await clerk.users.getCount({ externalId: [user.externalId] }), 1)
  assert.equal(await clerk.users.getCount({ query: 'nothing-is-called-this' }), 0)
  await clerk.users.deleteUser(user.id)
  assert.equal(await clerk.users.getCount(), before)
})

test('an update changes what it names', async () => {
  const user = await aUser({ firstName: 'Old', lastName: 'Name', publicMetadata: { keep: 1 } })
  const updated = await clerk.users.updateUser(user.id, { firstName: 'New' })
  assert.deepEqual([updated.firstName, updated.lastName], ['New', 'Name'])
  assert.deepEqual(updated.publicMetadata, { keep: 1 })
  assert.ok(updated.updatedAt >= user.updatedAt)
  assert.equal(updated.createdAt, user.createdAt)
  const replaced = await clerk.users.updateUser(user.id, { lastName: 'Both', publicMetadata: { only: 2 } })
  assert.deepEqual([replaced.lastName, replaced.publicMetadata], ['Both', { only: 2 }])
})

test('metadata is merged deeply, and null takes away', async () => {
  const user = await aUser({ publicMetadata: { a: { b: 1, c: 2 }, list: [1, 2] }, privateMetadata: { p: 1 } })
  const merged = await clerk.users.updateUserMetadata(user.id, { publicMetadata: { a: { b: null, d: 3 }, list: [9] } })
  assert.deepEqual(merged.publicMetadata, { a: { c: 2, d: 3 }, list: [9] })
  assert.deepEqual(merged.privateMetadata, { p: 1 })
  const replaced = await clerk.users.replaceUserMetadata(user.id, { publicMetadata: { x: 1 } })
  assert.deepEqual([replaced.publicMetadata, replaced.privateMetadata], [{ x: 1 }, { p: 1 }])
})

test('bans and locks, and their ends', async () => {
  const user = await aUser()
  assert.equal((await clerk.users.banUser(user.id)).banned, true)
  assert.equal((await clerk.users.getUser(user.id)).banned, true)
  assert.equal((await clerk.users.unbanUser(user.id)).banned, false)
  assert.equal((await clerk.users.lockUser(user.id)).locked, true)
  assert.equal((await clerk.users.unlockUser(user.id)).locked, false)
})

test('what a migration brings along is kept', async () => {
  const createdAt = new Date('2020-02-02T02:02:02.000Z')
  const phone = `+1415555${String(process.pid % 10_000).padStart(4, '0')}`
  const addresses = [`${word('first')}@example.com`, `${word('second')}@example.com`]
  const user = await aUser({ createdAt, phoneNumber: [phone], emailAddress: addresses, banned: true, locale: 'de-CH' })
  assert.equal(user.createdAt, createdAt.getTime())
  assert.equal(user.primaryPhoneNumber.phoneNumber, phone)
  assert.deepEqual(user.emailAddresses.map((one) => one.emailAddress).sort(), [...addresses].sort())
  assert.equal(user.primaryEmailAddress.emailAddress, addresses[0])
  assert.deepEqual([user.banned, user.locale], [true, 'de-CH'])
  assert.deepEqual(ids(await clerk.users.getUserList({ phoneNumber: [phone] })), [user.id])
  assert.deepEqual(ids(await clerk.users.getUserList({ userId: [user.id], createdAtBefore: Date.parse('2021-01-01') })), [user.id])
})

test('the invitations of a user are found by its addresses', async () => {
  const user = await aUser()
  const { admin, organization } = await anOrganization()
  const invitation = await clerk.organizations.createOrganizationInvitation({
    organizationId: organization.id, inviterUserId: admin.id, emailAddress: user.primaryEmailAddress.emailAddress, role: 'org:member',
  })
  const list = (params) => clerk.users.getOrganizationInvitationList({ userId: user.id, ...params })
  assert.deepEqual(ids(await list()), [invitation.id])
  assert.deepEqual(ids(await list({ status: 'accepted' })), [])
})

test('a deleted user is gone', async () => {
  const user = await aUser({ externalId: word('gone') })
  const deleted = await clerk.users.deleteUser(user.id)
  assert.deepEqual([deleted.object, deleted.id, deleted.deleted], ['user', user.id, true])
  await refused(clerk.users.getUser(user.id), 404, 'resource_not_found')
  await refused(clerk.users.deleteUser(user.id), 404, 'resource_not_found')
  await refused(clerk.users.updateUser(user.id, { firstName: 'X' }), 404, 'resource_not_found')
  assert.deepEqual(ids(await clerk.users.getUserList({ externalId: [user.externalId] })), [])
})

test('what identifies somebody else is refused', async () => {
  const user = await aUser({ username: word('taken'), externalId: word('taken') })
  const address = user.primaryEmailAddress.emailAddress
  const same = await refused(aUser({ emailAddress: [address] }), 422, 'form_identifier_exists')
  assert.equal(same.errors[0].meta.paramName, 'email_address')
  const upper = await refused(aUser({ emailAddress: [address.toUpperCase()] }), 422, 'form_identifier_exists')
  assert.equal(upper.errors[0].meta.paramName, 'email_address')
  await refused(aUser({ username: user.username }), 422, 'form_identifier_exists')
  await clerk.users.deleteUser(user.id)
  assert.notEqual((await aUser({ emailAddress: [address] })).id, user.id, 'free again, with another id')
})

test('what is no address is refused', async () => {
  const error = await refused(aUser({ emailAddress: ['no address'] }), 422, 'form_param_format_invalid')
  assert.equal(error.errors[0].meta.paramName, 'email_address')
})

// Organizations and memberships through Clerk's client.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aUser, anOrganization, clerk, ids, refused, word } from './sandbox.mjs'

const organizations = clerk.organizations

test('an organization is made with everything that was said, and its creator is its admin', async () => {
  const admin = await aUser()
  const slug = word('acme-')
  const made = await organizations.createOrganization({
    name: 'Acme', slug, createdBy: admin.id, maxAllowedMemberships: 7, publicMetadata: { a: 1 }, privateMetadata: { b: 2 },
  })
  assert.match(made.id, /^org_[0-9A-Za-z]{27}$/)
  assert.deepEqual([made.name, made.slug, made.createdBy, made.maxAllowedMemberships], ['Acme', slug, admin.id, 7])
  assert.deepEqual([made.publicMetadata, made.privateMetadata], [{ a: 1 }, { b: 2 }])
  const members = await organizations.getOrganizationMembershipList({ organizationId: made.id })
  assert.equal(members.totalCount, 1)
  assert.deepEqual([members.data[0].publicUserData.userId, members.data[0].role], [admin.id, 'org:admin'])
})

test('an organization is read by id and by slug, with its members counted when asked', async () => {
  const { organization } = await anOrganization({ slug: word('by-slug-') })
  const byId = await organizations.getOrganization({ organizationId: organization.id })
  assert.equal(byId.id, organization.id)
  assert.equal(byId.membersCount, undefined, 'not counted unless asked')
  const bySlug = await organizations.getOrganization({ slug: organization.slug, includeMembersCount: true })
  assert.deepEqual([bySlug.id, bySlug.membersCount], [organization.id, 1])
  await refused(organizations.getOrganization({ organizationId: 'org_that_is_not' }), 404, 'resource_not_found')
})

test('lists of organizations: pages, order, query, counts', async () => {
  const family = word('Family')
  const made = []
  for (const name of ['b', 'c', 'a']) made.push((await anOrganization({ name: `${family} ${name}` })).organization)
  const list = (params) => organizations.getOrganizationList({ query: family, ...params })
  const all = await list()
  assert.equal(all.totalCount, 3)
  assert.deepEqual(ids(all), made.map((one) => one.id).reverse(), 'newest first')
  assert.deepEqual((await list({ orderBy: 'name' })).data.map((one) => one.name.at(-1)), ['a', 'b', 'c'])
  assert.deepEqual((await list({ orderBy: '-name' })).data.map((one) => one.name.at(-1)), ['c', 'b', 'a'])
  assert.deepEqual(ids(await list({ limit: 1, offset: 1, orderBy: 'created_at' })), [made[1].id])
  const user = await aUser()
  await organizations.createOrganizationMembership({ organizationId: made[0].id, userId: user.id, role: 'org:member' })
  const counted = await list({ orderBy: '-members_count', includeMembersCount: true })
  assert.deepEqual(counted.data.map((one) => one.membersCount), [2, 1, 1])
  assert.equal(counted.data[0].id, made[0].id)
  assert.deepEqual(ids(await organizations.getOrganizationList({ organizationId: [made[2].id] })), [made[2].id])
  await refused(list({ limit: 501 }), 422, 'form_param_value_invalid')
  await refused(list({ orderBy: 'slug' }), 422, 'form_param_value_invalid')
})

test('an organization is renamed, its metadata merged and replaced', async () => {
  const { organization } = await anOrganization({ publicMetadata: { a: { b: 1 } } })
  const renamed = await organizations.updateOrganization(organization.id, { name: 'New name', slug: word('new-') })
  assert.deepEqual([renamed.name, renamed.publicMetadata], ['New name', { a: { b: 1 } }])
  const merged = await organizations.updateOrganizationMetadata(organization.id, { publicMetadata: { a: { c: 2 } }, privateMetadata: { p: 1 } })
  assert.deepEqual([merged.publicMetadata, merged.privateMetadata], [{ a: { b: 1, c: 2 } }, { p: 1 }])
  const without = await organizations.updateOrganizationMetadata(organization.id, { publicMetadata: { a: null } })
  assert.deepEqual(without.publicMetadata, {})
  const replaced = await organizations.replaceOrganizationMetadata(organization.id, { privateMetadata: { q: 2 } })
  assert.deepEqual(replaced.privateMetadata, { q: 2 })
})

test('a slug is taken once', async () => {
  const { organization } = await anOrganization({ slug: word('once-') })
  const error = await refused(anOrganization({ slug: organization.slug }), 422, 'form_identifier_exists')
  assert.equal(error.errors[0].meta.paramName, 'slug')
})

test('a deleted organization is gone, with its memberships and invitations', async () => {
  const { admin, organization } = await anOrganization()
  await organizations.createOrganizationInvitation({ organizationId: organization.id, emailAddress: `${word('i')}@example.com`, role: 'org:member', inviterUserId: admin.id })
  const deleted = await organizations.deleteOrganization(organization.id)
  assert.deepEqual([deleted.object, deleted.id, deleted.deleted], ['organization', organization.id, true])
  await refused(organizations.getOrganization({ organizationId: organization.id }), 404, 'resource_not_found')
  await refused(organizations.deleteOrganization(organization.id), 404, 'resource_not_found')
  assert.equal((await clerk.users.getOrganizationMembershipList({ userId: admin.id })).totalCount, 0)
})

test('a membership is made, changed, described, ended', async () => {
  const { organization } = await anOrganization()
  const user = await aUser({ firstName: 'Mem', lastName: 'Ber', username: word('mem') })
  const pair = { organizationId: organization.id, userId: user.id }
  const made = await organizations.createOrganizationMembership({ ...pair, role: 'org:member' })
  assert.match(made.id, /^orgmem_[0-9A-Za-z]{27}$/)
  assert.equal(made.organization.id, organization.id)
  const { userId, firstName, lastName, identifier } = made.publicUserData
  assert.deepEqual([userId, firstName, lastName], [user.id, 'Mem', 'Ber'])
  assert.equal(identifier, user.primaryEmailAddress.emailAddress)
  assert.ok(Array.isArray(made.permissions) && made.permissions.every((key) => key.startsWith('org:')))

  const promoted = await organizations.updateOrganizationMembership({ ...pair, role: 'org:admin' })
  assert.deepEqual([promoted.id, promoted.role], [made.id, 'org:admin'])
  assert.ok(promoted.permissions.length > made.permissions.length)
  const described = await organizations.updateOrganizationMembershipMetadata({ ...pair, publicMetadata: { team: 'x' } })
  assert.deepEqual([described.publicMetadata, described.role], [{ team: 'x' }, 'org:admin'])

  const ended = await organizations.deleteOrganizationMembership(pair)
  assert.deepEqual([ended.id, ended.publicUserData.userId], [made.id, user.id], 'the whole membership comes back')
  await refused(organizations.deleteOrganizationMembership(pair), 404, 'resource_not_found')
  const again = await organizations.createOrganizationMembership({ ...pair, role: 'org:member' })
  assert.notEqual(again.id, made.id, 'a membership that begins anew is another one')
  assert.deepEqual(again.publicMetadata, {})
})

test('memberships that cannot be are refused', async () => {
  const { admin, organization } = await anOrganization()
  const user = await aUser()
  const make = (params) => organizations.createOrganizationMembership({ organizationId: organization.id, userId: user.id, role: 'org:member', ...params })
  await refused(make({ userId: admin.id }), 400, 'already_a_member_in_organization')
  await refused(make({ organizationId: 'org_that_is_not' }), 404, 'resource_not_found')
  await refused(make({ userId: 'user_that_is_not' }), 404, 'resource_not_found')
  await refused(make({ role: 'org:emperor' }), 404, 'resource_not_found')
})

test('no more members than allowed', async () => {
  const { organization } = await anOrganization({ maxAllowedMemberships: 2 })
  const join = async () => organizations.createOrganizationMembership({ organizationId: organization.id, userId: (await aUser()).id, role: 'org:member' })
  await join()
  await refused(join(), 403, 'organization_membership_quota_exceeded')
  await organizations.updateOrganization(organization.id, { maxAllowedMemberships: 3 })
  await join()
})

test('lists of members: pages, order, filters', async () => {
  const { admin, organization } = await anOrganization()
  const users = []
  for (const firstName of ['Bo', 'Cid', 'Al']) users.push(await aUser({ firstName, username: word(firstName.toLowerCase()) }))
  const [bo, cid, al] = users
  for (const user of users) {
    const role = user === cid ? 'org:admin' : 'org:member'
    await organizations.createOrganizationMembership({ organizationId: organization.id, userId: user.id, role })
  }
  const list = (params) => organizations.getOrganizationMembershipList({ organizationId: organization.id, ...params })
  const whose = async (params) => (await list(params)).data.map((one) => one.publicUserData.userId)
  assert.equal((await list()).totalCount, 4)
  assert.deepEqual(await whose({ orderBy: 'created_at' }), [admin.id, bo.id, cid.id, al.id])
  assert.deepEqual(await whose({ orderBy: '-created_at', limit: 2 }), [al.id, cid.id])
  assert.deepEqual(await whose({ orderBy: 'created_at', limit: 2, offset: 2 }), [cid.id, al.id])
  assert.deepEqual(await whose({ role: ['org:admin'], orderBy: 'created_at' }), [admin.id, cid.id])
  assert.deepEqual(await whose({ userId: [bo.id, al.id], orderBy: 'first_name' }), [al.id, bo.id])
  assert.deepEqual(await whose({ username: [bo.username] }), [bo.id])
  assert.deepEqual(await whose({ emailAddress: [cid.primaryEmailAddress.emailAddress] }), [cid.id])
  assert.deepEqual(await whose({ query: al.username }), [al.id])
  assert.equal((await list({ role: ['org:admin'] })).totalCount, 2)
})

test('memberships of one user, and of the whole instance', async () => {
  const user = await aUser()
  const made = []
  for (let at = 0; at < 3; at += 1) {
    const { organization } = await anOrganization()
    made.push(await organizations.createOrganizationMembership({ organizationId: organization.id, userId: user.id, role: 'org:member' }))
  }
  const own = await clerk.users.getOrganizationMembershipList({ userId: user.id, limit: 2 })
  assert.deepEqual([own.data.length, own.totalCount], [2, 3])
  const rest = await clerk.users.getOrganizationMembershipList({ userId: user.id, limit: 2, offset: 2 })
  assert.deepEqual([...ids(own), ...ids(rest)].sort(), made.map((one) => one.id).sort())
  const seen = []
  for (let offset = 0; ; offset += 2) {
    const page = await organizations.getInstanceOrganizationMembershipList({ limit: 2, offset, orderBy: 'created_at' })
    seen.push(...ids(page))
    if (seen.length >= page.totalCount || page.data.length === 0) break
  }
  assert.equal(new Set(seen).size, seen.length)
  for (const membership of made) assert.ok(seen.includes(membership.id))
})

test('a user that is deleted leaves its organizations', async () => {
  const { organization } = await anOrganization()
  const user = await aUser()
  await organizations.createOrganizationMembership({ organizationId: organization.id, userId: user.id, role: 'org:member' })
  await clerk.users.deleteUser(user.id)
  const members = await organizations.getOrganizationMembershipList({ organizationId: organization.id })
  assert.equal(members.totalCount, 1)
})

test('roles are listed', async () => {
  const { data } = await clerk.organizationRoles.getOrganizationRoleList()
  const keys = data.map((role) => role.key)
  assert.ok(keys.includes('org:admin') && keys.includes('org:member'), `${keys}`)
})

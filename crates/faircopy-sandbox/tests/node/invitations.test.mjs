// Invitations to organizations, and to the application, through Clerk's client.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { anOrganization, clerk, ids, older, refused, secretKey, url, word } from './sandbox.mjs'

const organizations = clerk.organizations

async function anInvitation(params = {}) {
  const { admin, organization } = await anOrganization()
  const invite = async (more = {}) =>
    older(await organizations.createOrganizationInvitation({
      organizationId: organization.id, inviterUserId: admin.id, emailAddress: `${word('guest')}@example.com`, role: 'org:member', ...params, ...more,
    }))
  return { admin, organization, invite, invitation: await invite() }
}

test('an invitation is made with everything that was said', async () => {
  const emailAddress = `${word('g')}@example.com`
  const { organization, invitation } = await anInvitation({ emailAddress, publicMetadata: { a: 1 }, privateMetadata: { b: 2 }, expiresInDays: 3 })
  assert.match(invitation.id, /^orginv_[0-9A-Za-z]{27}$/)
  assert.deepEqual([invitation.emailAddress, invitation.role, invitation.status], [emailAddress, 'org:member', 'pending'])
  assert.equal(invitation.organizationId, organization.id)
  assert.deepEqual([invitation.publicMetadata, invitation.privateMetadata], [{ a: 1 }, { b: 2 }])
  assert.equal(invitation.expiresAt - invitation.createdAt, 3 * 24 * 3600 * 1000)
  const read = await organizations.getOrganizationInvitation({ organizationId: organization.id, invitationId: invitation.id })
  assert.deepEqual([read.id, read.status], [invitation.id, 'pending'])
})

test('an invitation is revoked once', async () => {
  const { admin, organization, invitation } = await anInvitation()
  const pair = { organizationId: organization.id, invitationId: invitation.id, requestingUserId: admin.id }
  const revoked = await organizations.revokeOrganizationInvitation(pair)
  assert.deepEqual([revoked.id, revoked.status], [invitation.id, 'revoked'])
  await refused(organizations.revokeOrganizationInvitation(pair), 404, 'organization_invitation_not_pending')
})

test('lists of an organization: pages and status', async () => {
  const { admin, organization, invite, invitation } = await anInvitation()
  const others = [await invite(), await invite()]
  await organizations.revokeOrganizationInvitation({ organizationId: organization.id, invitationId: invitation.id, requestingUserId: admin.id })
  const list = (params) => organizations.getOrganizationInvitationList({ organizationId: organization.id, ...params })
  assert.equal((await list()).totalCount, 3)
  assert.deepEqual(ids(await list({ status: ['pending'] })), ids({ data: others }).reverse())
  assert.deepEqual(ids(await list({ status: ['revoked'] })), [invitation.id])
  assert.equal((await list({ status: ['revoked', 'pending'] })).totalCount, 3)
  assert.deepEqual(ids(await list({ limit: 1, offset: 2 })), [invitation.id], 'newest first')
})

test('invitations of the whole instance, which the client has no method for', async () => {
  const { organization, invitation } = await anInvitation()
  const headers = { authorization: `Bearer ${secretKey}`, 'clerk-api-version': '2026-05-12' }
  const response = await fetch(`${url}/v1/organization_invitations?limit=500&status=pending`, { headers })
  assert.equal(response.status, 200)
  const { data, total_count } = await response.json()
  assert.equal(data.length, total_count)
  const found = data.find((one) => one.id === invitation.id)
  assert.equal(found.public_organization_data?.id, organization.id)
})

test('invitations that cannot be are refused', async () => {
  const { organization, invite, invitation } = await anInvitation()
  await refused(invite({ emailAddress: 'no address' }), 422, 'form_param_format_invalid')
  await refused(invite({ emailAddress: invitation.emailAddress }), 400, 'organization_invitation_not_unique')
  const { data } = await organizations.getOrganizationMembershipList({ organizationId: organization.id })
  await refused(invite({ emailAddress: data[0].publicUserData.identifier }), 400, 'already_a_member_in_organization')
  await refused(invite({ organizationId: 'org_that_is_not' }), 404, 'resource_not_found')
  await refused(
    organizations.getOrganizationInvitation({ organizationId: organization.id, invitationId: 'orginv_that_is_not' }), 404, 'resource_not_found',
  )
})

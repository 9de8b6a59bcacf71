// The example in a real browser, against the real service and the sandbox: what changes in Clerk shows on the page.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Local } from '../../../examples/workspaces/local.mjs'
import { axe, closeBrowser, open, page, picture, until } from './kit.mjs'
import { build, site } from './site.mjs'

/** What is changed is on the page within this, from the change's own answer on. */
const SOON_MS = 1_000

let local
let served
let companies

before(async () => {
  await build()
  local = await Local.start({ users: 16, organizations: 2, members: 4, settings: { FAIRCOPY_LOG: 'warn' } })
  served = await site(local)
  const { data } = await local.clerk('GET', '/v1/organizations?limit=10')
  companies = []
  for (const { id, name } of data) {
    const { data: memberships } = await local.clerk('GET', `/v1/organizations/${id}/memberships?limit=50`)
    const members = memberships.map(({ role, public_user_data: { user_id: user, first_name, last_name } }) => ({ id: user, role, name: [first_name, last_name].filter(Boolean).join(' ') }))
    companies.push({ id, name, members })
  }
})
after(async () => {
  await closeBrowser()
  await served?.close()
  await local?.stop()
})

async function signedIn(opened, user, organization) {
  await opened.addInitScript(([userId, orgId]) => {
    if (sessionStorage.getItem('signed-in') === null && sessionStorage.getItem('was-here') === null) sessionStorage.setItem('signed-in', JSON.stringify({ userId, orgId }))
    sessionStorage.setItem('was-here', 'yes')
  }, [user, organization])
  await opened.goto(served.url)
  await opened.locator('#connection[data-state=live]').waitFor()
  await opened.locator('#members tbody tr').first().waitFor()
  return opened
}

/** From now on the page writes down everything that an element shows. */
const record = (opened, selector) =>
  opened.evaluate((what) => {
    window.recorded = []
    const look = () => {
      const text = document.querySelector(what)?.textContent ?? null
      if (text !== window.recorded.at(-1)) window.recorded.push(text)
    }
    look()
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true })
  }, selector)
const recorded = (opened) => opened.evaluate(() => window.recorded)

const row = (opened, user) => opened.locator(`#members tr[data-user="${user}"]`)

/** Does it, and waits for what it makes of the page. */
async function shows(what, change, seen) {
  const changed = await change()
  const at = Date.now()
  await seen()
  const took = Date.now() - at
  assert.ok(took < SOON_MS, `${what}: seen after ${took} ms`)
  return changed
}

const rename = (user, first_name, last_name = 'Live') => local.clerk('PATCH', `/v1/users/${user}`, { first_name, last_name })

test('a person signs in, sees their workspace, and can use the page with any senses', async () => {
  const context = await open({ colorScheme: 'dark' })
  const opened = await page(context)
  await opened.goto(served.url)
  await opened.getByRole('heading', { name: 'Sign in' }).waitFor()
  await picture(opened, 'example-sign-in')
  assert.deepEqual(await axe(opened), [])
  const [company] = companies
  await opened.getByRole('button', { name: company.members[0].name }).first().click()
  await opened.locator('#connection[data-state=live]').waitFor()
  await opened.locator('#members tbody tr').nth(company.members.length - 1).waitFor()
  assert.equal(await opened.locator('#workspace-name').textContent(), company.name)
  assert.equal(await opened.locator('#channels').textContent(), '# general')
  assert.deepEqual(await axe(opened), [])
  await picture(opened, 'example-dark')
  await opened.emulateMedia({ colorScheme: 'light' })
  await opened.setViewportSize({ width: 320, height: 640 })
  assert.deepEqual(await axe(opened), [])
  assert.ok(await opened.evaluate(() => document.documentElement.scrollWidth <= 320), 'the page scrolls sideways')
  await picture(opened, 'example-narrow')
  await opened.getByRole('button', { name: 'Sign out' }).click()
  await opened.getByRole('heading', { name: 'Sign in' }).waitFor()
  await until('the stream is let go', () => opened.streams.every(({ request }) => request.failure() !== null))
  assert.deepEqual(opened.complaints, [])
  await context.close()
})

test('what changes in Clerk is on the page within a second', async () => {
  const [{ id, name, members: [admin, other] }] = companies
  const context = await open()
  const opened = await signedIn(await page(context), admin.id, id)
  for (let round = 0; round < 3; round += 1) {
    await shows('a name', () => rename(other.id, `Renamed${round}`), () => row(opened, other.id).getByText(`Renamed${round} Live`).waitFor())
  }
  await shows('a role', () => local.clerk('PATCH', `/v1/organizations/${id}/memberships/${other.id}`, { role: 'org:admin' }), () => row(opened, other.id).locator('.role', { hasText: 'admin' }).waitFor())
  await shows('an organization’s name', () => local.clerk('PATCH', `/v1/organizations/${id}`, { name: `${name} & Sons` }), () => opened.locator('#workspace-name', { hasText: '& Sons' }).waitFor())
  const newcomer = await shows('who joins', async () => {
    const user = await local.clerk('POST', '/v1/users', { first_name: 'New', last_name: 'Comer', email_address: ['newcomer@example.com'] })
    await local.clerk('POST', `/v1/organizations/${id}/memberships`, { user_id: user.id, role: 'org:member' })
    return user
  }, () => opened.getByRole('rowheader', { name: 'New Comer' }).waitFor())
  await shows('who leaves', () => local.clerk('DELETE', `/v1/organizations/${id}/memberships/${newcomer.id}`), () => row(opened, newcomer.id).waitFor({ state: 'detached' }))
  await shows('one’s own name', () => local.clerk('PATCH', `/v1/users/${admin.id}`, { first_name: 'Still', last_name: 'Here' }), () => opened.locator('#who', { hasText: 'Still Here' }).waitFor())
  assert.equal(opened.streams.length, 1, 'one stream for all of it')
  assert.deepEqual(opened.complaints, [])
  await context.close()
})

test('an admin changes a role and removes somebody, who sees both at once', async () => {
  const [, { id, name, members }] = companies
  const admin = members.find(({ role }) => role === 'org:admin')
  const other = members.find(({ role, id: user }) => role !== 'org:admin' && user !== admin.id) ?? members.find(({ id: user }) => user !== admin.id)
  // In one browser, as two people at one machine would not be: each tab is somebody else.
  const context = await open()
  const [boss, theirs] = [await signedIn(await page(context), admin.id, id), await signedIn(await page(context), other.id, id)]
  const wanted = other.role === 'org:admin' ? 'Make member' : 'Make admin'
  await shows('one’s own role', () => row(boss, other.id).getByRole('button', { name: wanted }).click(), () => theirs.locator('#notice[data-kind=role]', { hasText: wanted === 'Make admin' ? 'You are now owner' : 'You are now member' }).waitFor())
  await picture(theirs, 'example-role')
  await shows('being removed', () => row(boss, other.id).getByRole('button', { name: /^Remove/ }).click(), () => theirs.locator('#notice[data-kind=removed]', { hasText: `no longer a member of ${name}` }).waitFor())
  assert.equal(await theirs.locator('#members').count(), 0, 'a removed member sees no members')
  await picture(theirs, 'example-removed')
  await row(boss, other.id).waitFor({ state: 'detached' })
  // Back again: what is shown is shown anew.
  await local.clerk('POST', `/v1/organizations/${id}/memberships`, { user_id: other.id, role: 'org:member' })
  await row(boss, other.id).waitFor()
  assert.deepEqual([...boss.complaints, ...theirs.complaints], [])
  await context.close()
})

test('two users see only their own organization, whatever happens in the other', async () => {
  // Whom the sandbox makes may be in both.
  const onlyIn = async ({ id }, first_name) => {
    const user = await local.clerk('POST', '/v1/users', { first_name, last_name: 'Person', email_address: [`${first_name}@example.com`] })
    await local.clerk('POST', `/v1/organizations/${id}/memberships`, { user_id: user.id, role: 'org:member' })
    return user
  }
  const [one, other] = companies
  const [his, hers] = [await onlyIn(one, 'his'), await onlyIn(other, 'hers')]
  const context = await open()
  const [first, second] = [await signedIn(await page(context), his.id, one.id), await signedIn(await page(context), hers.id, other.id)]
  await record(first, '#members tbody')
  await rename(hers.id, 'Secret', 'Person')
  await row(second, hers.id).getByText('Secret Person').waitFor()
  await rename(his.id, 'Own', 'Person')
  await row(first, his.id).getByText('Own Person').waitFor()
  assert.ok(!(await recorded(first)).some((text) => text.includes('Secret')), 'the other organization’s change was shown')
  assert.equal(await first.getByText('Own Person').count() > 0 && (await second.getByText('Own Person').count()), 0)
  assert.deepEqual([...first.complaints, ...second.complaints], [])
  await context.close()
})

test('the service is killed and started again: the page resumes without a gap or a duplicate', async () => {
  const [{ id, members: [admin, other] }] = companies
  const context = await open()
  const opened = await signedIn(await page(context), admin.id, id)
  await rename(other.id, 'Before', 'Kill')
  await row(opened, other.id).getByText('Before Kill').waitFor()
  await record(opened, `#members tr[data-user="${other.id}"] .name`)
  await local.kill()
  await opened.locator('#connection[data-state=offline]').waitFor()
  assert.equal(await row(opened, other.id).locator('.name').textContent(), 'Before Kill', 'what was known stays')
  await picture(opened, 'example-offline')
  // The sandbox tries again after 5 seconds; the first attempt fails.
  await rename(other.id, 'After', 'Kill')
  await local.serve()
  await row(opened, other.id).getByText('After Kill').waitFor({ timeout: 30_000 })
  await opened.locator('#connection[data-state=live]').waitFor()
  await rename(other.id, 'And', 'On')
  await row(opened, other.id).getByText('And On').waitFor()
  assert.deepEqual(await recorded(opened), ['Before Kill', 'After Kill', 'And On'])
  const again = opened.streams.at(-1).queries.filter(({ path }) => path !== '/v1/workspace')
  assert.ok(again.every(({ since }) => since > 0), `resumed where it was: ${JSON.stringify(again)}`)
  assert.deepEqual(opened.complaints, [])
  await context.close()
})

test('eight tabs of one browser are all live, and take one connection', async () => {
  const [{ id, members: [admin, other] }] = companies
  const context = await open()
  const tabs = []
  for (let count = 0; count < 8; count += 1) tabs.push(await signedIn(await page(context), admin.id, id))
  await shows('a name in eight tabs', () => rename(other.id, 'Eight', 'Tabs'), () => Promise.all(tabs.map((opened) => row(opened, other.id).getByText('Eight Tabs').waitFor())))
  const standing = () => tabs.flatMap(({ streams }) => streams).filter(({ request }) => request.failure() === null)
  await until('one stream is open', () => standing().length === 1)
  // The tab that listens for all of them is closed.
  const leader = tabs.findIndex(({ streams }) => streams.some(({ request }) => request.failure() === null))
  const [closed] = tabs.splice(leader, 1)
  await closed.close()
  await rename(other.id, 'Seven', 'Tabs')
  await Promise.all(tabs.map((opened) => row(opened, other.id).getByText('Seven Tabs').waitFor()))
  await until('one stream is open', () => standing().length === 1)
  assert.deepEqual(tabs.flatMap(({ complaints }) => complaints), [])
  await context.close()
})

test('offline and back', async () => {
  const [{ id, members: [admin, other] }] = companies
  const context = await open()
  const opened = await signedIn(await page(context), admin.id, id)
  await rename(other.id, 'On', 'Line')
  await row(opened, other.id).getByText('On Line').waitFor()
  await record(opened, `#members tr[data-user="${other.id}"] .name`)
  await context.setOffline(true)
  await opened.locator('#connection[data-state=offline]').waitFor({ timeout: 2_000 })
  await rename(other.id, 'Mean', 'While')
  assert.equal(await row(opened, other.id).locator('.name').textContent(), 'On Line')
  await context.setOffline(false)
  const back = Date.now()
  await row(opened, other.id).getByText('Mean While').waitFor()
  await opened.locator('#connection[data-state=live]').waitFor()
  assert.ok(Date.now() - back < 2_000, `back after ${Date.now() - back} ms`)
  assert.deepEqual(await recorded(opened), ['On Line', 'Mean While'])
  assert.deepEqual(opened.complaints, [])
  await context.close()
})

test('the page outlives its tokens', { timeout: 120_000 }, async () => {
  const [{ id, members: [admin, other] }] = companies
  const context = await open()
  const opened = await page(context)
  // A minute is long for a test: these have ten seconds left.
  await opened.route('**/sandbox/v1/tokens', (route) => route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), lifetime_s: 30, age_s: 20 }) }))
  await signedIn(opened, admin.id, id)
  await record(opened, '#connection')
  await until('the fourth stream', () => opened.streams.length >= 4, 60_000)
  await rename(other.id, 'Still', 'Live')
  await row(opened, other.id).getByText('Still Live').waitFor()
  assert.ok(!(await recorded(opened)).some((text) => /Connecting|Offline/.test(text)), 'it was live all the time')
  assert.deepEqual(opened.complaints, [])
  await context.close()
})

test('a user who is deleted sees nothing any more', async () => {
  const [, { id, members }] = companies
  const context = await open()
  const gone = members.at(-1)
  const opened = await signedIn(await page(context), gone.id, id)
  await local.clerk('DELETE', `/v1/users/${gone.id}`)
  await opened.locator('#members').waitFor({ state: 'detached' })
  assert.equal(await opened.locator('#workspace-name').count(), 0)
  assert.deepEqual(opened.complaints, [])
  await context.close()
})

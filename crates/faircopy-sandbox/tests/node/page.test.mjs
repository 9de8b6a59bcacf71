// The sandbox's page in a browser: a user made by hand, its delivery seen and resent, and nothing that the page's own
// policy forbids.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { chromium } from 'playwright-core'
import { clerk, control, until, url, word } from './sandbox.mjs'

const came = []
const receiver = createServer((request, response) => {
  came.push(request.headers['svix-id'])
  request.resume().on('end', () => response.end())
})
let browser
let page
/** Whatever the browser complains about. */
const complaints = []

before(async () => {
  await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  // The tests of this project may run as root, where Chromium's own sandbox does not work.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] })
  page = await browser.newPage()
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(`${error}`))
  await page.addInitScript(() => {
    window.violations = []
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`))
  })
  await page.goto(`${url}/`)
  await page.locator('#users-title').waitFor()
})
after(async () => {
  await browser?.close()
  receiver.close()
  receiver.closeAllConnections()
})

test('an endpoint is made by hand', async () => {
  await page.getByRole('button', { name: 'New endpoint' }).click()
  const address = `http://127.0.0.1:${receiver.address().port}/webhooks/clerk`
  await page.getByLabel('Address').fill(address)
  await page.locator('#dialog-submit').click()
  await page.getByText(address).first().waitFor()
  const { data } = await control('GET', '/endpoints')
  assert.deepEqual(data.map((one) => one.url), [address])
})

test('a user is made by hand, its delivery is seen and resent', async () => {
  const name = word('Hand')
  await page.getByRole('button', { name: 'New user' }).click()
  await page.getByLabel('E-mail').fill(`${name}@example.com`)
  await page.getByLabel('First name').fill(name)
  await page.locator('#dialog-submit').click()
  await page.locator('#users-list').getByText(name, { exact: true }).waitFor()
  const { data } = await clerk.users.getUserList({ query: name })
  assert.equal(data[0].firstName, name)

  const row = page.locator('#messages-list > li', { hasText: 'user.created' }).first()
  await row.getByText('delivered').waitFor()
  const id = (await row.locator('code').textContent()).trim()
  assert.deepEqual(came.filter((one) => one === id), [id])
  await row.getByRole('button', { name: /Resend/ }).click()
  await until('the resend', () => came.filter((one) => one === id).length === 2)
})

test('names that look like HTML are text', async () => {
  const name = '<img src=x onerror=alert(1)><b>bold'
  await clerk.users.createUser({ emailAddress: [`${word('h')}@example.com`], firstName: name, skipPasswordRequirement: true })
  await page.locator('#users-list').getByText(name).waitFor()
  assert.equal(await page.locator('#users-list img, #users-list b').count(), 0)
})

test('an organization is made and deleted by hand', async () => {
  const name = word('Org ')
  await page.getByRole('button', { name: 'New organization' }).click()
  await page.locator('#dialog').getByLabel('Name', { exact: true }).fill(name)
  await page.locator('#dialog-submit').click()
  await page.locator('#organizations-list').getByText(name, { exact: true }).waitFor()
  await page.getByRole('button', { name: `Delete ${name}` }).click()
  await page.locator('#dialog-submit').click()
  await page.locator('#organizations-list').getByText(name, { exact: true }).waitFor({ state: 'detached' })
  assert.equal((await clerk.organizations.getOrganizationList({ query: name })).totalCount, 0)
})

test('the browser had nothing to complain about', async () => {
  assert.deepEqual(await page.evaluate(() => window.violations), [])
  assert.deepEqual(complaints, [])
})

// What is done from the page, and what happens while it is open.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Receiver, Service, TOKEN, blameless, closeBrowser, event, open, organization, picture, settled, signIn, until, user, word } from './service.mjs'

let service
let receiver
let page

before(async () => {
  receiver = await Receiver.start()
  service = await Service.start({ clerk: true, database: process.env.REPAIRED, settings: receiver.settings('crm') })
  page = await open(service)
})
after(async () => {
  await closeBrowser()
  await service?.stop()
  await receiver?.stop()
})

test('only the token lets in, and too many guesses do not', async () => {
  await page.goto(`${service.url}/dashboard/users`)
  const field = page.getByLabel('Admin token')
  await field.waitFor()
  await picture(page, 'login')
  for (let guess = 0; guess < 10; guess += 1) {
    await field.fill(`guess ${guess}`)
    const answered = page.waitForResponse((response) => response.url().endsWith('/dashboard/login'))
    await page.keyboard.press('Enter')
    await answered
  }
  await page.getByText('This is not the admin token.').waitFor()
  await field.fill('one more')
  await page.keyboard.press('Enter')
  await page.getByText('Too many wrong tokens.').waitFor()
  await picture(page, 'login-refused')
  await field.fill(TOKEN)
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Users', level: 1 }).waitFor()
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]))
  assert.ok(!kept.includes(TOKEN) && !kept.includes('faircopy='), `the page can read ${kept}`)
  const [cookie] = await page.context().cookies()
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ['faircopy', true, 'Strict'])
})

test('a delivery is seen within a second', async () => {
  await page.visit('/dashboard/deliveries')
  await page.locator('#connection[data-state=live]').waitFor()
  for (let round = 0; round < 3; round += 1) {
    const id = word('user_live')
    await service.deliver(word('msg_live'), event('user.created', user(id)))
    const committed = Date.now()
    await page.locator('tbody tr', { hasText: id }).waitFor({ timeout: 5_000 })
    const took = Date.now() - committed
    assert.ok(took < 1_000, `seen after ${took} ms`)
  }
  // The landing page as well: its sentence counts.
  await page.visit('/dashboard')
  const id = word('user_live')
  const before = (await service.admin('GET', '/overview')).body.rows.users.rows
  await service.deliver(word('msg_live'), event('user.created', user(id)))
  const committed = Date.now()
  await page.locator('#sentence', { hasText: `${before + 1} users` }).waitFor({ timeout: 5_000 })
  assert.ok(Date.now() - committed < 1_000)
  await page.locator('#newest tbody tr', { hasText: id }).waitFor()
})

test('a filter is in the address, and holds for what comes', async () => {
  await page.visit('/dashboard/deliveries')
  await page.getByLabel('Outcome').selectOption('quarantined')
  await page.waitForURL(/outcome=quarantined/)
  await page.locator('a[href="/dashboard/deliveries/msg_repaired"]').waitFor()
  assert.equal(await page.locator('tbody tr').count(), 1)
  await service.deliver(word('msg_live'), event('user.created', user(word('user_live'))))
  await service.deliver('msg_odd', 'not json')
  await page.locator('a[href="/dashboard/deliveries/msg_odd"]').waitFor()
  const held = await page.locator('tbody tr').evaluateAll((rows) => rows.map((row) => row.textContent.includes('quarantined')))
  assert.deepEqual(held, [true, true])
  await page.reload()
  await page.locator('tbody tr').first().waitFor()
  assert.equal(await page.getByLabel('Outcome').inputValue(), 'quarantined')
  await page.goBack()
  await page.waitForURL((url) => !url.search.includes('outcome'))
})

test('a quarantined delivery is replayed from the page', async () => {
  await page.visit('/dashboard')
  await page.locator('#problem-quarantined').getByRole('link', { name: 'See them' }).click()
  await page.waitForURL(/outcome=quarantined/)
  await page.locator('a[href="/dashboard/deliveries/msg_repaired"]').click()
  await page.locator('#came .status', { hasText: 'quarantined' }).waitFor()
  await picture(page, 'quarantined')
  await page.getByRole('button', { name: 'Replay' }).focus()
  await page.keyboard.press('Enter')
  await page.getByText('Replayed: applied.').waitFor()
  await page.locator('#came .status', { hasText: 'applied' }).waitFor()
  await picture(page, 'replayed')
  const delivery = (await service.admin('GET', '/deliveries/msg_repaired')).body
  assert.deepEqual([delivery.outcome, delivery.entity_id], ['applied', 'user_repaired'])
  // What still cannot be understood says so.
  await page.visit('/dashboard/deliveries/msg_odd')
  await page.getByRole('button', { name: 'Replay' }).click()
  await page.getByText('Replayed: quarantined.').waitFor()
})

test('a lost connection is told, nothing old looks new, and it comes back by itself', async () => {
  await page.visit('/dashboard')
  await page.locator('#connection[data-state=live]').waitFor()
  await service.kill()
  await page.locator('#lost').getByText('Connection lost').waitFor({ timeout: 5_000 })
  await page.locator('#connection[data-state=lost]').waitFor()
  assert.ok(await page.evaluate(() => document.querySelector('#main').hasAttribute('data-stale')))
  await picture(page, 'lost')
  await service.run()
  const id = word('user_after')
  await service.deliver(word('msg_after'), event('user.created', user(id)))
  await page.locator('#connection[data-state=live]').waitFor({ timeout: 20_000 })
  await page.locator('#newest tbody tr', { hasText: id }).waitFor({ timeout: 5_000 })
  assert.equal(await page.locator('#lost').isHidden(), true)
  assert.equal(await page.evaluate(() => document.querySelector('#main').hasAttribute('data-stale')), false)
})

test('drift is found by a dry run and mended by a reconcile, from the page', async () => {
  await page.visit('/dashboard/drift')
  await page.getByRole('button', { name: 'Dry run' }).click()
  await page.getByText('The dry run has begun.').waitFor()
  await page.locator('#last').getByText('dry run: nothing was changed').waitFor()
  await page.locator('#last tbody tr', { hasText: 'missing' }).first().waitFor()
  await picture(page, 'drift-found')
  await page.getByRole('button', { name: 'Reconcile' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Leave it' }).click()
  await page.getByText('Left as it is.').waitFor()
  await until('the dry run is over and a reconcile begins', async () => {
    await page.getByRole('button', { name: 'Reconcile' }).click()
    await page.locator('#ask-yes').click()
    await page.locator('#run .said').first().filter({ hasText: /begun|under way/ }).waitFor()
    return (await page.locator('#run .said').first().textContent()).includes('has begun')
  })
  await page.locator('#last').getByText('repaired', { exact: true }).first().waitFor({ timeout: 30_000 })
  await page.visit('/dashboard')
  await page.locator('#sentence', { hasText: 'Exact as of' }).waitFor()
  assert.match(await page.locator('#sentence').innerText(), /Exact as of .* · \d+ users, \d+ organizations?, 0 differences/s)
  await picture(page, 'exact')
})

test('a deletion is followed, cancelled and resumed', async () => {
  await service.deliver(word('msg_org'), event('organization.created', organization('org_end', { name: 'Ends Ltd' })))
  await service.deliver(word('msg_org'), event('organization.deleted', { object: 'organization', id: 'org_end', deleted: true }))
  await page.visit('/dashboard/deletions')
  await page.getByRole('link', { name: 'Ends Ltd' }).click()
  await page.getByRole('heading', { name: 'Deletion of an organization' }).waitFor()
  await page.locator('#tree').getByText('Rows', { exact: true }).waitFor()
  const state = async () => (await service.admin('GET', '/jobs/org_end')).body.state
  assert.equal(await state(), 'waiting')
  await page.locator('#state').getByText('on hold').waitFor()
  await page.locator('#cancel-button').click()
  await page.locator('#ask-yes').click()
  await page.locator('#state').getByText('cancelled').waitFor()
  assert.equal(await state(), 'cancelled')
  await page.locator('#resume-button').click()
  await page.locator('#ask-yes').click()
  // It is as it was before: it waits out its hold.
  await page.locator('#state').getByText('on hold').waitFor()
  assert.equal(await state(), 'waiting')
  await picture(page, 'resumed')
})

test('a destination is paused, resumed and sent everything', async () => {
  const has = (id) => receiver.taken.some((change) => change.id === id && change.operation === 'put')
  await page.visit('/dashboard/destinations')
  await page.getByRole('link', { name: 'crm' }).click()
  await page.getByRole('heading', { name: 'crm', level: 1 }).waitFor()
  await page.locator('#state').getByText('running').waitFor()
  await page.locator('#pause-button').click()
  await page.locator('#state').getByText('paused', { exact: true }).waitFor()
  const id = word('user_told')
  await service.deliver(word('msg_told'), event('user.created', user(id)))
  await page.locator('#state').getByText(/1 change, for/).waitFor()
  assert.ok(!has(id))
  await page.locator('#resume-button').click()
  await until('the user is told', () => has(id))
  await page.locator('#state').getByText('nothing', { exact: true }).waitFor()
  const before = receiver.taken.length
  await page.locator('#resend-button').click()
  await page.locator('#ask-yes').click()
  await until('everything is sent', () => receiver.taken.slice(before).some((change) => change.operation === 'sweep'))
  assert.ok(receiver.taken.slice(before).some((change) => change.id === id && change.resend))
  await picture(page, 'destination')
})

test('whoever signs out is out, in every window', async () => {
  const other = await page.context().newPage()
  await other.goto(`${service.url}/dashboard`)
  await other.locator('#connection[data-state=live]').waitFor()
  await blameless(page)
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByLabel('Admin token').waitFor()
  await other.getByLabel('Admin token').waitFor({ timeout: 15_000 })
  const answer = await page.request.get(`${service.url}/admin/v1/overview`)
  assert.equal(answer.status(), 401)
})

test('for development a browser of this machine needs no token', async () => {
  const open_here = await Service.start({ arguments: ['--dev'] })
  try {
    const other = await open(open_here)
    await other.goto(`${open_here.url}/dashboard`)
    await other.locator('#page-title').waitFor()
    await other.getByRole('button', { name: 'Sign out' }).click()
    await other.getByRole('button', { name: 'Continue without a token' }).click()
    await other.locator('#page-title').waitFor()
    await blameless(other)
    await other.context().close()
  } finally {
    await open_here.stop()
  }
})

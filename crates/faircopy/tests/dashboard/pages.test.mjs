// Every page, as it looks and as it is read: both themes, narrow and large, by keyboard alone, with names that would like to be more.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Receiver, Service, axe, blameless, closeBrowser, event, open, organization, picture, settled, signIn, until, user } from './service.mjs'

const HOSTILE = ['<img src=x onerror="window.hacked=1">', '</script><script>window.hacked=1</script>', '\u202egnp.exe', '=cmd|calc', '{{7*7}}', 'javascript:alert(1)']
let service
let receiver
let page
const PAGES = [
  ['overview', '/dashboard'],
  ['deliveries', '/dashboard/deliveries'],
  ['deliveries-quarantined', '/dashboard/deliveries?outcome=quarantined'],
  ['delivery', '/dashboard/deliveries/msg_hostile_0'],
  ['delivery-quarantined', '/dashboard/deliveries/msg_odd'],
  ['users', '/dashboard/users'],
  ['user', '/dashboard/users/user_hostile0'],
  ['organizations', '/dashboard/organizations'],
  ['organization', '/dashboard/organizations/org_hostile'],
  ['drift', '/dashboard/drift'],
  ['drift-report', '/dashboard/drift/1'],
  ['deletions', '/dashboard/deletions'],
  ['deletion', '/dashboard/deletions/org_gone'],
  ['destinations', '/dashboard/destinations'],
  ['destination', '/dashboard/destinations/crm'],
  ['health', '/dashboard/health'],
  ['nowhere', '/dashboard/nowhere'],
]

before(async () => {
  receiver = await Receiver.start()
  service = await Service.start({ clerk: true, settings: receiver.settings('crm') })
  await until('the destination is taken up', () => receiver.taken.some((change) => change.operation === 'sweep'))
  // From here on it takes nothing: its page has something to show.
  receiver.status = 422
  for (const [at, name] of HOSTILE.entries()) {
    const id = `user_hostile${at}`
    const image = ['javascript:window.hacked=1', 'https://evil.example/x.png', 'data:text/html,x', 'https://img.clerk.com/ok', '//evil.example/x', null][at]
    assert.equal(await service.deliver(`msg_hostile_${at}`, event('user.created', user(id, { first_name: name, last_name: name, image_url: image, public_metadata: { [name]: name } }))), 'applied')
  }
  await service.deliver('msg_org', event('organization.created', organization('org_hostile', { name: HOSTILE[0], slug: HOSTILE[1] })))
  for (const at of [0, 1, 2]) {
    await service.deliver(`msg_member_${at}`, event('organizationMembership.created', {
      object: 'organization_membership', id: `orgmem_${at}`, role: 'org:admin', permissions: [], organization_id: 'org_hostile', user_id: `user_hostile${at}`, created_at: Date.now(), updated_at: Date.now() }))
  }
  await service.deliver('msg_odd', `{"type":"${'<b>x</b>'}","data":`)
  await service.deliver('msg_session', event('session.created', { id: 'sess_1', object: 'session' }))
  await service.deliver('msg_gone_1', event('organization.created', organization('org_gone', { name: HOSTILE[0] })))
  await service.deliver('msg_gone_2', event('organization.deleted', { object: 'organization', id: 'org_gone', deleted: true }))
  assert.equal((await service.admin('POST', '/drift/run?dry_run=true')).status, 202)
  await until('some changes are refused', async () => (await service.admin('GET', '/destinations/crm')).body.subjects.length > 3)
  page = await open(service)
  await signIn(page)
  await page.visit('/dashboard/drift')
  await page.waitForFunction(() => document.querySelector('#all')?.textContent.includes('left'))
})
after(async () => {
  await closeBrowser()
  await service?.stop()
  await receiver?.stop()
})

for (const theme of ['light', 'dark']) {
  test(`every page in ${theme}`, async () => {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' })
    for (const [name, path] of PAGES) {
      await page.visit(path)
      assert.deepEqual(await axe(page), [], `${name} in ${theme}`)
      assert.equal(await page.locator('h1').count(), 1, name)
      await picture(page, `${name}-${theme}`)
    }
    await blameless(page)
  })
}

test('the switch goes before what the system wants', async () => {
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' })
  await page.visit('/dashboard')
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  const light = await ground()
  await page.getByRole('button', { name: 'Theme: System' }).click()
  assert.equal(await ground(), light)
  await page.getByRole('button', { name: 'Theme: Light' }).click()
  const dark = await ground()
  assert.notEqual(dark, light)
  await page.reload()
  await page.locator('#page-title').waitFor()
  assert.equal(await ground(), dark, 'it is remembered')
  await page.getByRole('button', { name: 'Theme: Dark' }).click()
  assert.equal(await ground(), light)
})

test('320 pixels, and twice the size, need no sideways scrolling', async () => {
  for (const [width, scale] of [[320, 1], [640, 2]]) {
    const narrow = await open(service, { viewport: { width, height: 720 }, deviceScaleFactor: 1 })
    await signIn(narrow)
    for (const [name, path] of PAGES) {
      await narrow.visit(path)
      // Zoom of a browser halves the pixels of the page.
      if (scale > 1) await narrow.setViewportSize({ width: width / scale, height: 720 / scale })
      const { scroll, seen } = await narrow.evaluate(() => ({ scroll: document.documentElement.scrollWidth, seen: document.documentElement.clientWidth }))
      assert.ok(scroll <= seen, `${name} at ${width}: ${scroll} > ${seen}`)
      if (scale === 1) {
        assert.deepEqual(await axe(narrow), [], `${name} narrow`)
        await picture(narrow, `${name}-320`)
      }
    }
    await narrow.context().close()
  }
})

test('hostile names are text', async () => {
  for (const [, path] of PAGES) {
    await page.visit(path)
    assert.equal(await page.evaluate(() => window.hacked), undefined, path)
    assert.equal(await page.locator('#main script, #main iframe, #main b, #main object').count(), 0, path)
    const pictures = await page.locator('#main img').evaluateAll((images) => images.map((image) => image.getAttribute('src')))
    assert.ok(pictures.every((src) => src.startsWith('https://img.clerk.com/')), `${path}: ${pictures}`)
    const links = await page.locator('a').evaluateAll((anchors) => anchors.map((anchor) => anchor.getAttribute('href')))
    assert.ok(links.every((href) => /^(\/(?!\/)|#)/.test(href)), `${path}: ${links}`)
    const turned = await page.evaluate(() => document.body.innerText.includes('\u202e'))
    assert.equal(turned, false, `${path} turns its writing around`)
  }
  await page.visit('/dashboard/deliveries/msg_hostile_0')
  await page.getByText('<img src=x onerror=').first().waitFor()
  await blameless(page)
})

test('personal data is masked on demand, everywhere, and it is remembered', async () => {
  await page.visit('/dashboard/deliveries/msg_hostile_3')
  await page.getByText('user_hostile3@example.com').waitFor()
  await page.getByRole('button', { name: /^Mask/ }).click()
  await page.waitForFunction(() => !document.body.innerText.includes('user_hostile3@example.com'))
  assert.equal(await page.getByText('user_hostile3').first().isVisible(), true, 'ids are shown')
  for (const [name, path] of PAGES) {
    await page.visit(path)
    const text = await page.evaluate(() => `${document.title}\n${document.body.innerText}`)
    for (const secret of ['@example.com', 'calc', 'gnp.exe', 'onerror', 'Lovelace']) assert.ok(!text.includes(secret), `${name} shows ${secret}`)
    assert.equal(await page.locator('#main img').count(), 0, name)
  }
  assert.deepEqual(await axe(page), [])
  await page.visit('/dashboard/deliveries/msg_hostile_3')
  await picture(page, 'masked')
  await page.getByRole('button', { name: /^Mask/ }).click()
  await page.getByText('user_hostile3@example.com').waitFor()
})

test('the setting masks until somebody chooses', async () => {
  const masked = await Service.start({ more: { FAIRCOPY_DASHBOARD_MASK: 'on' } })
  try {
    await masked.deliver('msg_1', event('user.created', user('user_ada')))
    const other = await open(masked)
    await signIn(other)
    await other.visit('/dashboard/deliveries/msg_1')
    assert.equal(await other.getByText('user_ada@example.com').count(), 0)
    await other.getByRole('button', { name: /^Mask/ }).click()
    await other.getByText('user_ada@example.com').waitFor()
    await other.reload()
    await other.getByText('user_ada@example.com').waitFor()
    await other.context().close()
  } finally {
    await masked.stop()
  }
})

test('the keyboard is enough', async () => {
  await page.visit('/dashboard')
  const focused = () => page.evaluate(() => {
    const node = document.activeElement
    const outline = getComputedStyle(node)
    return { tag: node.tagName, id: node.id, text: node.textContent.trim().slice(0, 60), isSeen: outline.outlineStyle !== 'none' && parseFloat(outline.outlineWidth) >= 2 }
  })
  // The skip link comes first, and leads to the page.
  await page.evaluate(() => document.activeElement.blur())
  await page.keyboard.press('Tab')
  assert.equal((await focused()).text, 'Skip to the page')
  await page.keyboard.press('Enter')
  assert.equal((await focused()).id, 'main')
  // Everything that can be used is reached, once each, and is seen to be.
  await page.evaluate(() => document.activeElement.blur())
  await page.reload()
  await page.locator('#page-title').waitFor()
  await settled(page)
  const reached = []
  for (let step = 0; step < 120; step += 1) {
    await page.keyboard.press('Tab')
    const now = await focused()
    if (now.tag === 'BODY') break
    assert.ok(now.isSeen, `focus is not seen on ${now.tag} ${now.text}`)
    reached.push(now)
  }
  const usable = await page.locator('a[href]:visible, button:visible, summary:visible').count()
  assert.ok(reached.length >= usable, `${reached.length} of ${usable} reached`)
  // From the overview to a quarantined delivery, and back, without a mouse.
  await page.locator('#navigation-links a', { hasText: 'Deliveries' }).focus()
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Deliveries', level: 1 }).waitFor()
  assert.equal((await focused()).id, 'page-title', 'a new page is where the keyboard is')
  await page.keyboard.press('/')
  assert.equal((await focused()).id, 'entity')
  await page.keyboard.type('user_hostile0')
  await page.keyboard.press('Enter')
  await page.waitForURL(/entity=user_hostile0/)
  await settled(page)
  await page.locator('tbody th a').first().focus()
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'user.created', level: 1 }).waitFor()
  await page.goBack()
  await page.waitForURL(/entity=user_hostile0/)
})

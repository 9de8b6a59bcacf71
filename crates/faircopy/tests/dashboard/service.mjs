// The real binary, a local Clerk, signed deliveries, and a browser that tells of everything its policy forbade.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHmac, randomBytes } from 'node:crypto'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const BINARY = process.env.FAIRCOPY_BIN
const PICTURES = process.env.PICTURES
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
export const TOKEN = 'a-token-for-the-dashboard-of-32-letters'
const SECRET = randomBytes(24)
/** The instance that events are of: the local Clerk's, where there is one. */
let instance = 'ins_2dashboard'
const CLERK_KEY = 'sk_test_dashboarddashboarddashboarddash'

/** Waits until it holds; fails with what it was waiting for. */
export async function until(what, holds, within = 20_000) {
  const end = Date.now() + within
  for (;;) {
    if (await holds()) return
    assert.ok(Date.now() < end, `not within ${within} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

async function launch(command, environment, folder, url, path) {
  const said = []
  const child = spawn(BINARY, command, { cwd: folder, env: { PATH: process.env.PATH, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => said.push(data))
  await until(`${command[0]} answers`, async () => {
    assert.equal(child.exitCode, null, `${command[0]} ended: ${Buffer.concat(said)}`)
    return fetch(`${url}${path}`).then((answer) => answer.status < 500, () => false)
  }, 60_000)
  return child
}

const end = (child, signal) =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.on('exit', resolve)
    child.kill(signal)
  })

/** Somebody who is told of changes: answers with a status that the test sets, and remembers what was taken. */
export class Receiver {
  static async start() {
    const receiver = new Receiver()
    Object.assign(receiver, { status: 204, taken: [] })
    receiver.server = createHttpServer(async (request, response) => {
      let body = ''
      for await (const piece of request) body += piece
      response.writeHead(receiver.status).end()
      if (receiver.status < 300) receiver.taken.push(JSON.parse(body))
    })
    await new Promise((resolve) => receiver.server.listen(0, '127.0.0.1', resolve))
    receiver.url = `http://127.0.0.1:${receiver.server.address().port}/changes`
    return receiver
  }

  /** The part of the settings that names it. */
  settings(name) {
    const secret = `whsec_${randomBytes(24).toString('base64')}`
    return `[[destination]]\nname = "${name}"\nkind = "webhook"\nurl = "${this.url}"\nsecret = "${secret}"\nallow_private = true\n`
  }

  stop() {
    this.server.closeAllConnections()
    return new Promise((resolve) => this.server.close(resolve))
  }
}

/** A service on a database of its own; `more` are variables beside the usual ones, `settings` the text of its file. */
export class Service {
  static async start({ clerk = false, more = {}, arguments: words = [], database, settings } = {}) {
    const service = new Service()
    service.folder = mkdtempSync(join(tmpdir(), 'faircopy-dashboard-'))
    service.port = await freePort()
    service.url = `http://127.0.0.1:${service.port}`
    service.words = words
    service.environment = {
      DATABASE_URL: `sqlite://${join(service.folder, 'faircopy.db')}`,
      FAIRCOPY_LISTEN: `127.0.0.1:${service.port}`,
      FAIRCOPY_ADMIN_TOKEN: TOKEN,
      CLERK_WEBHOOK_SIGNING_SECRET: `whsec_${SECRET.toString('base64')}`,
      FAIRCOPY_RECONCILE_EVERY: 'never',
      FAIRCOPY_RECONCILE_GRACE_SECONDS: '0',
      FAIRCOPY_CASCADE_HOLD_SECONDS: '3600',
      FAIRCOPY_PROBE: 'off',
      FAIRCOPY_LOG: 'warn',
      ...more,
    }
    if (clerk) {
      const port = await freePort()
      service.clerkUrl = `http://127.0.0.1:${port}`
      const command = ['sandbox', '--listen', `127.0.0.1:${port}`, '--secret-key', CLERK_KEY, '--seed', '7', '--users', '12', '--organizations', '3', '--members', '4', '--rate-limit', 'off']
      service.clerk = await launch(command, {}, service.folder, service.clerkUrl, '/')
      const told = await fetch(`${service.clerkUrl}/v1/instance`, { headers: { authorization: `Bearer ${CLERK_KEY}` } })
      instance = (await told.json()).id
      Object.assign(service.environment, { CLERK_SECRET_KEY: CLERK_KEY, CLERK_API_URL: service.clerkUrl })
    }
    if (settings) writeFileSync(join(service.folder, 'faircopy.toml'), settings)
    if (database) copyFileSync(database, join(service.folder, 'faircopy.db'))
    await service.run()
    return service
  }

  async run() {
    this.child = await launch(['serve', ...this.words], this.environment, this.folder, this.url, '/readyz')
  }

  kill() {
    return end(this.child, 'SIGKILL')
  }

  async stop() {
    await end(this.child, 'SIGTERM')
    if (this.clerk) await end(this.clerk, 'SIGTERM')
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** A signed delivery; its outcome. */
  async deliver(id, body) {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const at = Math.floor(Date.now() / 1000)
    const signature = createHmac('sha256', SECRET).update(`${id}.${at}.${text}`).digest('base64')
    const answer = await fetch(`${this.url}/webhooks/clerk`, {
      method: 'POST', body: text,
      headers: { 'content-type': 'application/json', 'svix-id': id, 'svix-timestamp': String(at), 'svix-signature': `v1,${signature}` },
    })
    const said = await answer.json()
    assert.equal(answer.status, 200, JSON.stringify(said))
    return said.outcome
  }

  async admin(method, path) {
    const answer = await fetch(`${this.url}/admin/v1${path}`, { method, headers: { authorization: `Bearer ${TOKEN}` } })
    return { status: answer.status, body: await answer.json() }
  }
}

let number = 0
/** A name that nothing else has. */
export const word = (stem) => `${stem}${(number += 1)}`

export const event = (type, data, at = Date.now()) => ({ object: 'event', type, instance_id: instance, timestamp: at, data })

export const user = (id, more = {}, at = Date.now()) => ({
  object: 'user', id, first_name: 'Ada', last_name: 'Lovelace', username: null, image_url: 'https://img.clerk.com/ada', public_metadata: {}, banned: false,
  locked: false, primary_email_address_id: 'idn_1', email_addresses: [{ id: 'idn_1', email_address: `${id}@example.com`, verification: { status: 'verified' } }],
  created_at: at - 1000, updated_at: at, ...more,
})

export const organization = (id, more = {}, at = Date.now()) => ({
  object: 'organization', id, name: 'Analytical Engines', slug: `slug-${id}`, image_url: null, created_by: 'user_boss', public_metadata: {}, created_at: at - 1000, updated_at: at, ...more,
})

let browser
/** A page of a browser of its own, which remembers what its policy forbade and what it complained about. */
export async function open(service, options = {}) {
  // The tests of this project may run as root, where Chromium's own sandbox does not work.
  browser ??= await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
  })
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, reducedMotion: 'reduce', ...options })
  const page = await context.newPage()
  page.complaints = []
  page.requests = []
  // Pictures are Clerk's; here there is no way out.
  await context.route((url) => url.host === 'img.clerk.com', (route) => route.fulfill({ status: 200, contentType: 'image/svg+xml', body: '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><rect width="1" height="1" fill="#7a8"/></svg>' }))
  page.on('request', (request) => page.requests.push(request.url()))
  page.on('pageerror', (error) => page.complaints.push(`${error.stack ?? error}`))
  page.on('console', (message) => {
    // That a question is answered 4xx, or not at all, the browser says in words of its own: tests look at what the page says.
    if (['error', 'warning'].includes(message.type()) && !/Failed to load resource|net::ERR_|^EventSource's response/.test(message.text())) page.complaints.push(message.text())
  })
  await page.addInitScript(() => {
    window.violations = []
    document.addEventListener('securitypolicyviolation', (found) => window.violations.push(`${found.violatedDirective} ${found.blockedURI}`))
  })
  page.service = service
  page.visit = async (path) => {
    await page.goto(`${service.url}${path}`)
    await page.locator('#page-title').waitFor()
    await settled(page)
  }
  return page
}

export const closeBrowser = () => browser?.close()

/** Nothing on the page is being waited for any more. */
export const settled = (page) => page.waitForFunction(() => document.querySelectorAll('.loading').length === 0)

export async function signIn(page) {
  await page.goto(`${page.service.url}/dashboard`)
  await page.getByLabel('Admin token').fill(TOKEN)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.locator('#page-title').waitFor()
  await page.locator('#connection[data-state=live]').waitFor()
}

/** What axe finds wrong. It is put in beside the page's own policy, which forbids it as it should. */
export async function axe(page) {
  const session = await page.context().newCDPSession(page)
  await session.send('Runtime.evaluate', { expression: AXE })
  const found = await session.send('Runtime.evaluate', {
    expression: `axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }).then((result) =>
      JSON.stringify(result.violations.map((one) => [one.id, one.nodes.map((node) => node.html.slice(0, 200) + ' ' + node.failureSummary)])))`,
    awaitPromise: true, returnByValue: true,
  })
  await session.detach()
  return JSON.parse(found.result.value)
}

export const picture = (page, name) => page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true })

/** Whatever the page should not have done. */
export async function blameless(page) {
  assert.deepEqual(await page.evaluate(() => window.violations), [], 'content security policy')
  assert.deepEqual(page.complaints, [])
  const elsewhere = page.requests.filter((url) => !url.startsWith(page.service.url) && !url.startsWith('https://img.clerk.com/'))
  assert.deepEqual(elsewhere, [], 'requests to others')
}

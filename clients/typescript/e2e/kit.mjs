// A browser, and people in it. The program is the one that FAIRCOPY_BIN names.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

let browser
export async function open(options = {}) {
  // These tests may run as root, where Chromium's own sandbox does not work.
  browser ??= await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
  })
  return browser.newContext({ viewport: { width: 1100, height: 800 }, reducedMotion: 'reduce', ...options })
}
export const closeBrowser = () => browser?.close()

/** A page that remembers what it complained about, and every stream that it opened. */
export async function page(context) {
  const opened = await context.newPage()
  opened.complaints = []
  opened.streams = []
  opened.on('pageerror', (error) => opened.complaints.push(`${error.stack ?? error}`))
  opened.on('console', (message) => {
    // That a question is answered 4xx or 5xx, or not at all, the browser says in words of its own.
    if (['error', 'warning'].includes(message.type()) && !/Failed to load resource|net::ERR_/.test(message.text())) opened.complaints.push(message.text())
  })
  opened.on('request', (request) => {
    if (request.url().endsWith('/v1/live')) opened.streams.push({ request, ...JSON.parse(request.postData() ?? '{}') })
  })
  return opened
}

/** Waits until it holds; fails with what it was waiting for. */
export async function until(what, holds, within = 20_000) {
  const end = Date.now() + within
  while (!(await holds())) {
    assert.ok(Date.now() < end, `not within ${within} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export async function axe(opened) {
  await opened.evaluate(AXE)
  return opened.evaluate(() =>
    globalThis.axe
      .run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
      .then(({ violations }) => violations.map((one) => [one.id, one.nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`)])),
  )
}

/** Left for a person to look at, where PICTURES names a folder. */
export const picture = async (opened, name) => {
  if (process.env.PICTURES) await opened.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage: true })
}

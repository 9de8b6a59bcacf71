// A sandbox and a service that copies from it, both of the program `faircopy`, in a folder of their own.

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

/** The program: what FAIRCOPY_BIN names, or what was built here, or what is installed. */
export function program() {
  const built = ['release', 'debug'].map((profile) => fileURLToPath(new URL(`../../target/${profile}/faircopy`, import.meta.url)))
  return [process.env.FAIRCOPY_BIN, ...built].find((path) => path && existsSync(path)) ?? 'faircopy'
}

const end = (child, signal) =>
  new Promise((resolve) => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return resolve()
    child.on('exit', resolve)
    child.kill(signal)
  })

/** Starts a command, and waits until it answers. */
async function launch(words, environment, folder, url) {
  const said = []
  let failed
  const child = spawn(program(), words, { cwd: folder, env: { PATH: process.env.PATH, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] })
  child.on('error', (error) => (failed = error))
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => said.push(data))
  for (const deadline = Date.now() + 60_000; ; ) {
    if (failed?.code === 'ENOENT') throw new Error('there is no program `faircopy`: build it with `cargo build`, or name it in FAIRCOPY_BIN')
    if (failed || child.exitCode !== null || Date.now() > deadline) {
      await end(child, 'SIGKILL')
      throw new Error(`faircopy ${words[0]} does not answer: ${failed ?? ''}${Buffer.concat(said)}`)
    }
    if (await fetch(url).then((answer) => answer.status < 500, () => false)) return child
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function run(words, environment, folder) {
  return new Promise((resolve, reject) => {
    const said = []
    const child = spawn(program(), words, { cwd: folder, env: { PATH: process.env.PATH, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => said.push(data))
    child.on('error', reject)
    child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`faircopy ${words[0]}: ${Buffer.concat(said)}`))))
  })
}

export class Local {
  /** `settings` are variables of the service beside the usual ones. */
  static async start({ users = 12, organizations = 3, members = 5, seed, settings = {} } = {}) {
    const local = new Local()
    local.folder = mkdtempSync(join(tmpdir(), 'faircopy-example-'))
    local.database = join(local.folder, 'faircopy.db')
    try {
      const [sandboxPort, port] = [await freePort(), await freePort()]
      local.sandboxUrl = `http://127.0.0.1:${sandboxPort}`
      local.url = `http://127.0.0.1:${port}`
      local.secretKey = `sk_test_${randomBytes(24).toString('hex')}`
      const secret = `whsec_${randomBytes(24).toString('base64')}`
      const words = [
        'sandbox', '--listen', `127.0.0.1:${sandboxPort}`, '--secret-key', local.secretKey, '--rate-limit', 'off', '--users', `${users}`,
        '--organizations', `${organizations}`, '--members', `${members}`, '--webhook-url', `${local.url}/webhooks/clerk`, '--webhook-secret', secret,
      ]
      if (seed !== undefined) words.push('--seed', `${seed}`)
      local.sandbox = await launch(words, {}, local.folder, `${local.sandboxUrl}/sandbox/v1/status`)
      local.environment = {
        DATABASE_URL: `sqlite://${local.database}`,
        FAIRCOPY_LISTEN: `127.0.0.1:${port}`,
        CLERK_WEBHOOK_SIGNING_SECRET: secret,
        CLERK_SECRET_KEY: local.secretKey,
        CLERK_API_URL: local.sandboxUrl,
        CLERK_JWT_ISSUER_DOMAIN: local.sandboxUrl,
        ...settings,
      }
      // Who was there before anybody looked sends no webhook.
      await run(['backfill'], local.environment, local.folder)
      await local.serve()
      return local
    } catch (error) {
      await local.stop()
      throw error
    }
  }

  async serve() {
    this.service = await launch(['serve'], this.environment, this.folder, `${this.url}/readyz`)
  }

  /** As if the power had failed. */
  kill() {
    return end(this.service, 'SIGKILL')
  }

  async stop() {
    await end(this.service, 'SIGTERM')
    await end(this.sandbox, 'SIGTERM')
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Asks the sandbox as Clerk's Backend API is asked. */
  async clerk(method, path, body) {
    const answer = await fetch(`${this.sandboxUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.secretKey}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const said = await answer.json()
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(said)}`)
    return said
  }
}

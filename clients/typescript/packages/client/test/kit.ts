import { afterEach, vi } from 'vitest'
import { type ClientOptions, type FaircopyClient, createClient } from '../src/client.js'
import type { Limits } from '../src/limits.js'
import type { Path } from '../src/queries.js'
import { FakeServer, fresh } from './server.js'

const servers: FakeServer[] = []
const clients: FaircopyClient[] = []

afterEach(async () => {
  for (const client of clients.splice(0)) client.close()
  await Promise.all(servers.splice(0).map((server) => server.stop()))
  vi.unstubAllGlobals()
})

export async function serve(): Promise<FakeServer> {
  const server = await FakeServer.start()
  servers.push(server)
  return server
}

/** Short waits, so that a test that waits for one ends soon; those that would spoil others are long. */
export const SHORT: Partial<Limits> = { backoffMs: 20, backoffMaxMs: 100, lingerMs: 30 }

export function connect(server: { url: string }, options: Partial<ClientOptions> = {}): FaircopyClient {
  const client = createClient({
    url: server.url, getToken: async () => fresh(), ...options, limits: { ...SHORT, ...options.limits },
  })
  clients.push(client)
  return client
}

/** Waits until it holds. */
export const until = (holds: () => void | Promise<void>) => vi.waitFor(holds, { timeout: 8_000, interval: 5 })

/** Whoever listens, and everything that they were shown. */
export function listen(client: FaircopyClient, path: Path) {
  const shown: { value: unknown; sequence: number | undefined; error: string | undefined }[] = []
  const look = () => {
    const { value, sequence, error } = client.snapshot(path)
    shown.push({ value, sequence, error: error?.code })
  }
  const stop = client.subscribe(path, look)
  return { shown, values: () => shown.map((one) => one.value), stop, now: () => client.snapshot(path) }
}

import { type IncomingMessage, type ServerResponse, createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Socket } from 'node:net'

export interface Claims {
  sub?: string
  org_id?: string
  exp?: number
  iat?: number
  [claim: string]: unknown
}

const encoded = (part: unknown) => Buffer.from(JSON.stringify(part)).toString('base64url')
/** A token as Clerk's are formed; nobody verifies its signature here. */
export const token = (claims: Claims) => `${encoded({ alg: 'RS256', typ: 'JWT' })}.${encoded(claims)}.signature`

let minted = 0
/** A token that lives for so long from now on, and differs from all others. */
export const fresh = (claims: Claims = {}, lifeMs = 60_000) =>
  token({ sub: 'user_ada', org_id: 'org_a', jti: String((minted += 1)), iat: Date.now() / 1000, exp: (Date.now() + lifeMs) / 1000, ...claims })

export const problem = (code: string, status: number) => ({ type: `urn:faircopy:problem:${code}`, title: code, status, code, detail: `It is ${code}.` })

function claimsIn(authorization: string): Claims {
  try {
    return JSON.parse(Buffer.from(authorization.split('.')[1] ?? '', 'base64url').toString()) as Claims
  } catch {
    return {}
  }
}

type Shown = { value: unknown } | { problem: ReturnType<typeof problem> }

interface Question {
  path: string
  since?: number
}

/** One stream, as the service keeps it. */
class Listener {
  readonly claims: Claims
  readonly queries: Question[]
  readonly response: ServerResponse
  timers: NodeJS.Timeout[] = []

  constructor(claims: Claims, queries: Question[], response: ServerResponse) {
    this.claims = claims
    this.queries = queries
    this.response = response
  }

  send(event: string, data: unknown): void {
    this.response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
  }

  end(): void {
    for (const timer of this.timers) clearTimeout(timer)
    this.response.end()
  }
}

export interface Fault {
  /** Answered instead of a stream. */
  status?: number
  code?: string
  retryAfter?: string
  body?: string
  /** Takes the request and never says anything. */
  stalls?: boolean
  /** The connection is closed without an answer. */
  closes?: boolean
  /** The stream begins so late. */
  delayMs?: number
}

/** A service that speaks the protocol of live queries, in this process, and fails on request. */
export class FakeServer {
  /** What there is, by organization and path, or by path alone. */
  readonly shown = new Map<string, Shown>()
  readonly touched = new Map<string, number>()
  sequence = 100
  asOf: string | null = null
  beatMs = 10_000
  /** What the next requests for a stream meet. */
  readonly faults: Fault[] = []
  /** What the next other requests meet. */
  readonly requestFaults: Fault[] = []
  readonly streams = new Set<Listener>()
  readonly asked: { claims: Claims; authorization: string; queries: Question[] }[] = []
  readonly requests: { method: string; path: string; headers: IncomingMessage['headers'] }[] = []
  mostStreams = 0
  readonly #sockets = new Set<Socket>()
  readonly #server = createServer((request, response) => void this.#answer(request, response))
  #port = 0

  static async start(): Promise<FakeServer> {
    const server = new FakeServer()
    server.#server.on('connection', (socket) => {
      server.#sockets.add(socket)
      socket.on('close', () => server.#sockets.delete(socket))
    })
    await server.listen()
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  listen(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.listen(this.#port, '127.0.0.1', () => {
        this.#port = (this.#server.address() as AddressInfo).port
        resolve()
      })
    })
  }

  /** Dies: every connection ends, and none is taken. */
  async stop(): Promise<void> {
    this.cut()
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
      for (const socket of this.#sockets) socket.destroy()
    })
  }

  /** A change: whoever listens is told. */
  set(path: string, value: unknown, organization?: string): number {
    return this.#change(path, { value }, organization)
  }

  deny(path: string, code: string, status = 404, organization?: string): number {
    return this.#change(path, { problem: problem(code, status) }, organization)
  }

  #change(path: string, shown: Shown, organization: string | undefined): number {
    this.sequence += 1
    this.shown.set(organization === undefined ? path : `${organization} ${path}`, shown)
    this.touched.set(path, this.sequence)
    for (const listener of this.streams) {
      if (organization !== undefined && listener.claims.org_id !== organization) continue
      if (listener.queries.some((query) => query.path === path)) this.tell(listener, path)
    }
    return this.sequence
  }

  /** Another copy: its numbers count from elsewhere. */
  restore(sequence: number): void {
    this.sequence = sequence
    this.touched.clear()
  }

  look(path: string, claims: Claims): Shown {
    return this.shown.get(`${claims.org_id ?? ''} ${path}`) ?? this.shown.get(path) ?? { problem: problem('record-not-found', 404) }
  }

  tell(listener: Listener, path: string, sequence = this.sequence): void {
    const shown = this.look(path, listener.claims)
    if ('value' in shown) listener.send('value', { query: path, sequence, value: shown.value })
    else listener.send('problem', { query: path, problem: shown.problem })
  }

  beat(): void {
    for (const listener of this.streams) listener.send('beat', this.#beat())
  }

  /** Every stream gets these bytes. */
  raw(text: string): void {
    for (const listener of this.streams) listener.response.write(text)
  }

  end(code: string, status: number): void {
    for (const listener of [...this.streams]) {
      listener.send('end', problem(code, status))
      listener.end()
      this.streams.delete(listener)
    }
  }

  /** Every stream is cut off, in the middle of whatever it says. */
  cut(): void {
    for (const listener of [...this.streams]) {
      listener.response.socket?.destroy()
      this.streams.delete(listener)
    }
  }

  #beat() {
    return { sequence: this.sequence, as_of: this.asOf, as_of_basis: this.asOf === null ? 'none' : 'reconciled' }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const path = request.url ?? ''
    const isLive = path === '/v1/live'
    if (!isLive) this.requests.push({ method: request.method ?? '', path, headers: request.headers })
    const authorization = request.headers.authorization ?? ''
    const claims = claimsIn(authorization)
    const queries = isLive ? (JSON.parse(Buffer.concat(chunks).toString()) as { queries: Question[] }).queries : []
    if (isLive) this.asked.push({ claims, authorization, queries })
    const fault = (isLive ? this.faults : this.requestFaults).shift()
    if (fault?.stalls) return
    if (fault?.closes) {
      request.socket.destroy()
      return
    }
    if (fault?.status !== undefined) {
      const headers = { 'content-type': 'application/problem+json', ...(fault.retryAfter === undefined ? {} : { 'retry-after': fault.retryAfter }) }
      response.writeHead(fault.status, headers).end(fault.body ?? JSON.stringify(problem(fault.code ?? 'internal-error', fault.status)))
      return
    }
    if (claims.exp !== undefined && claims.exp * 1000 < Date.now()) {
      this.#refuse(response, problem('token-expired', 401))
      return
    }
    if (fault?.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.delayMs))
    if (isLive) this.#stream(claims, queries, response)
    else this.#once(path, claims, response)
  }

  #refuse(response: ServerResponse, refusal: ReturnType<typeof problem>): void {
    response.writeHead(refusal.status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(refusal))
  }

  #once(path: string, claims: Claims, response: ServerResponse): void {
    const shown = path === '/v1/session' ? { value: { identity: { clerk_user_id: claims.sub }, created: [], sequence: this.sequence } } : this.look(path, claims)
    if ('problem' in shown) {
      this.#refuse(response, shown.problem)
      return
    }
    response.writeHead(200, {
      'content-type': 'application/json',
      'faircopy-sequence': String(this.sequence),
      'faircopy-as-of': this.asOf ?? '1970-01-01T00:00:00Z',
      'faircopy-as-of-basis': this.asOf === null ? 'none' : 'reconciled',
    })
    response.end(JSON.stringify(shown.value))
  }

  #stream(claims: Claims, queries: Question[], response: ServerResponse): void {
    const listener = new Listener(claims, queries, response)
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    this.streams.add(listener)
    this.mostStreams = Math.max(this.mostStreams, this.streams.size)
    response.on('close', () => {
      this.streams.delete(listener)
      for (const timer of listener.timers) clearTimeout(timer)
    })
    for (const { path, since } of queries) {
      const isKnown = since !== undefined && since <= this.sequence && (this.touched.get(path) ?? 0) <= since
      if (!isKnown) this.tell(listener, path)
    }
    listener.send('beat', this.#beat())
    listener.timers.push(setInterval(() => listener.send('beat', this.#beat()), this.beatMs))
    if (claims.exp !== undefined) {
      listener.timers.push(
        setTimeout(() => {
          listener.send('end', problem('token-expired', 401))
          listener.end()
          this.streams.delete(listener)
        }, Math.min(claims.exp * 1000 - Date.now(), 2 ** 31 - 1)),
      )
    }
  }
}

import type { Entry } from './entry.js'
import { FaircopyError, fromProblem } from './error.js'
import { type Fetch, common, lost, refusal, timeout } from './http.js'
import { type Limits, backoff } from './limits.js'
import { EventParser, type StreamEvent } from './sse.js'
import { type Claims, remainingMs } from './token.js'

/** What a beat says: up to which change everything is known, and up to when the copy is complete. */
export interface Beat {
  readonly sequence: number
  readonly as_of: string | null
  readonly as_of_basis: string
}

/** What the lanes need of the client. */
export interface Host {
  readonly url: string
  readonly fetch: Fetch
  readonly limits: Limits
  readonly now: () => number
  readonly random: () => number
  /** A token of who is signed in; `isFresh` asks for one that nobody has used. */
  token(isFresh: boolean): Promise<{ token: string; claims: Claims }>
  entry(path: string): Entry | undefined
  beat(beat: Beat): void
  /** The lane's state or error has changed. */
  changed(): void
  /** Nobody is signed in, or the user is gone: nothing may be shown any more. The lanes are told what to do. */
  over(error: FaircopyError): void
}

/** A stream that has lived for so long was a good one: what ends it is the first failure, not the next. */
const STEADY_MS = 5_000

/** The service stops, and another one, or the next, is there. */
const MOVED: readonly string[] = ['stream-moved', 'shutting-down']

/** One connection, from asking for its token to its end. */
class Stream {
  readonly controller = new AbortController()
  /** What it was asked for and is still wanted, once it was asked. */
  paths: Set<string> | undefined
  /** Whether it was asked for more than is wanted now. */
  isExcessive = false
  /** The number of what was shown when it was opened. */
  readonly floors = new Map<string, number>()
  readonly isForced: boolean
  claims: Claims | undefined
  tokenAt = 0
  establishedAt: number | undefined
  heardAt = 0
  watchdog: ReturnType<typeof setTimeout> | undefined

  constructor(isForced: boolean) {
    this.isForced = isForced
  }

  get isOver(): boolean {
    return this.controller.signal.aborted
  }

  end(reason?: FaircopyError): void {
    clearTimeout(this.watchdog)
    this.controller.abort(reason)
  }
}

/**
 * One multiplexed stream for up to 32 queries, and its successor while that is being opened: the next is there before the one before
 * is let go.
 */
export class Lane {
  error: FaircopyError | undefined
  readonly #paths = new Set<string>()
  readonly #host: Host
  #current: Stream | undefined
  #next: Stream | undefined
  #failures = 0
  #isPaused = false
  /** The token of the current stream is about to end: one that ends no later is of no use. */
  #isRenewing = false
  #retry: ReturnType<typeof setTimeout> | undefined
  #renewal: ReturnType<typeof setTimeout> | undefined
  #update: ReturnType<typeof setTimeout> | undefined

  constructor(host: Host) {
    this.#host = host
  }

  get state(): 'connecting' | 'live' | 'offline' {
    if (this.#isPaused) return 'offline'
    if (this.#current !== undefined) return 'live'
    return this.#failures > 1 ? 'offline' : 'connecting'
  }

  get size(): number {
    return this.#paths.size
  }

  has(path: string): boolean {
    return this.#paths.has(path)
  }

  add(path: string): void {
    this.#paths.add(path)
    this.#soon()
  }

  delete(path: string): void {
    if (!this.#paths.delete(path)) return
    for (const stream of [this.#current, this.#next]) {
      // If it is wanted again, it is asked for again: whoever asks then knows nothing.
      if (stream?.paths?.delete(path)) stream.isExcessive = true
    }
    this.#soon()
  }

  /** What changes within one turn is asked for together. */
  #soon(): void {
    this.#update ??= setTimeout(() => {
      this.#update = undefined
      this.#reconcile()
    }, 0)
  }

  /** Lets go of everything, until {@link resume}. */
  pause(): void {
    this.#isPaused = true
    this.#cut()
    this.#host.changed()
  }

  /** Comes (again) at once. */
  resume(): void {
    this.#isPaused = false
    if (this.#current !== undefined && this.#host.now() - this.#current.heardAt > this.#host.limits.silenceMs) this.#cut()
    if (this.#current === undefined) {
      this.#failures = 0
      this.#next?.end()
      this.#next = undefined
      clearTimeout(this.#retry)
      this.#retry = undefined
      this.#reconcile()
    }
    this.#host.changed()
  }

  /** Everything known is void: begins anew, with another token. */
  restart(): void {
    this.#cut()
    this.#isPaused = false
    this.#failures = 0
    this.error = undefined
    this.#soon()
  }

  /** Lets go of everything for the time being: the network is gone, or who was signed in. */
  lose(error: FaircopyError): void {
    if (this.#isPaused || this.#paths.size === 0) return
    this.#cut()
    this.#failures = Math.max(this.#failures, 1)
    this.#wait(error)
  }

  close(): void {
    this.#cut()
    clearTimeout(this.#update)
    this.#update = undefined
  }

  #cut(): void {
    clearTimeout(this.#retry)
    clearTimeout(this.#renewal)
    this.#retry = undefined
    this.#renewal = undefined
    this.#current?.end()
    this.#next?.end()
    this.#current = undefined
    this.#next = undefined
  }

  #reconcile(): void {
    if (this.#paths.size === 0) {
      this.#cut()
      return
    }
    if (this.#isPaused || this.#retry !== undefined) return
    const newest = this.#next ?? this.#current
    // One that waits for its token has asked for nothing yet.
    if (newest !== undefined && newest.paths === undefined) return
    const lacks = newest === undefined || [...this.#paths].some((path) => !newest.paths?.has(path))
    // What is no longer wanted can wait for a stream that stands.
    if (lacks || (newest === this.#current && newest?.isExcessive)) this.#open(false)
  }

  #open(isForced: boolean): void {
    clearTimeout(this.#retry)
    this.#retry = undefined
    this.#next?.end()
    const stream = new Stream(isForced)
    this.#next = stream
    this.#run(stream).catch((error: unknown) => {
      const { reason } = stream.controller.signal as { reason: unknown }
      // Its own watchdog ended it; whoever else did does not want to hear of it.
      if (stream.isOver && !(reason instanceof FaircopyError)) return
      this.#failed(stream, reason instanceof FaircopyError ? reason : lost(error))
    })
    this.#host.changed()
  }

  async #run(stream: Stream): Promise<void> {
    const { limits, now } = this.#host
    const { signal } = stream.controller
    let { token, claims } = await this.#host.token(stream.isForced)
    // A cache gave the token that the current stream has, or one that is no better.
    const before = this.#current?.claims?.expiresAt
    if (!stream.isOver && !stream.isForced && this.#isRenewing && before !== undefined && claims.expiresAt !== undefined && claims.expiresAt <= before) {
      ;({ token, claims } = await this.#host.token(true))
    }
    if (stream.isOver) return
    stream.claims = claims
    stream.tokenAt = now()
    stream.heardAt = stream.tokenAt
    const queries = this.#questions(stream)
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(lost(signal.reason)))
    })
    // Nobody may be waiting for it.
    aborted.catch(() => undefined)
    stream.watchdog = setTimeout(() => stream.end(timeout('The first event of a stream', limits.connectMs)), limits.connectMs)
    const headers = { accept: 'text/event-stream', 'content-type': 'application/json' }
    const init = { method: 'POST', body: JSON.stringify({ queries }), ...common(token, headers), signal }
    const response = await Promise.race([this.#host.fetch(`${this.#host.url}/v1/live`, init), aborted])
    if (!response.ok) throw await Promise.race([refusal(response, now()), aborted])
    if (response.body === null || !/^text\/event-stream\b/i.test(response.headers.get('content-type') ?? '')) {
      throw new FaircopyError('answer-unreadable', 'The answer is no stream of events.', { status: response.status, retryable: true })
    }
    const parser = new EventParser((event) => {
      if (!stream.isOver) this.#take(stream, event)
    })
    const reader = response.body.getReader()
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), aborted])
      if (done) throw new FaircopyError('unreachable', 'The stream was cut.', { retryable: true })
      stream.heardAt = now()
      if (stream.establishedAt !== undefined) this.#watch(stream)
      parser.push(value)
    }
  }

  #renew(): void {
    // One that is on its way, or is waited for, will do.
    this.#isRenewing = true
    if (this.#next === undefined && this.#retry === undefined) this.#open(false)
  }

  /** How long after its token was handed out a stream's successor is opened. */
  #renewIn(claims: Claims, at: number): number {
    const left = remainingMs(claims, at)
    return Math.max(left - this.#host.limits.renewMs, left / 2)
  }

  #watch(stream: Stream): void {
    clearTimeout(stream.watchdog)
    const { silenceMs } = this.#host.limits
    stream.watchdog = setTimeout(() => stream.end(timeout('A beat of the stream', silenceMs)), silenceMs)
  }

  /** What a new stream is asked, and where each query goes on. */
  #questions(stream: Stream): { path: string; since?: number }[] {
    stream.paths = new Set(this.#paths)
    return [...this.#paths].map((path) => {
      const { since, floor } = this.#host.entry(path) ?? {}
      if (floor !== undefined) stream.floors.set(path, floor)
      // What an application writes into its workspace has no number: only the whole value tells.
      return since === undefined || path.startsWith('/v1/workspace') ? { path } : { path, since }
    })
  }

  #take(stream: Stream, { event, data }: StreamEvent): void {
    if (event !== 'value' && event !== 'problem' && event !== 'beat' && event !== 'end') return
    const said = read(data)
    if (event === 'end') throw fromProblem(said)
    if (stream.establishedAt === undefined) this.#establish(stream)
    if (event === 'beat') this.#beat(stream, said)
    else this.#answer(stream, event, said)
  }

  #beat(stream: Stream, said: Record<string, unknown>): void {
    const { sequence, as_of, as_of_basis } = said
    if (typeof sequence !== 'number') throw unreadable()
    for (const path of stream.paths ?? []) {
      const entry = this.#host.entry(path)
      if (entry?.since !== undefined) entry.since = sequence
    }
    this.#host.beat({ sequence, as_of: typeof as_of === 'string' ? as_of : null, as_of_basis: typeof as_of_basis === 'string' ? as_of_basis : 'none' })
  }

  #answer(stream: Stream, event: 'value' | 'problem', said: Record<string, unknown>): void {
    const { query, sequence, value, problem } = said
    if (typeof query !== 'string') throw unreadable()
    const entry = stream.paths?.has(query) ? this.#host.entry(query) : undefined
    if (event === 'problem') {
      const error = fromProblem(problem)
      if (error.code === 'user-deleted') throw error
      entry?.problem(error)
      return
    }
    if (typeof sequence !== 'number' || value === undefined) throw unreadable()
    if (entry === undefined) return
    if (entry.floor !== undefined && sequence < entry.floor) {
      // Older than what is shown: the stream before was quicker. Unless nothing has come since this stream was opened, which was told
      // what is shown: then the service has another copy (one that was restored), and its numbers count from here on.
      if (stream.floors.get(query) !== entry.floor) return
      stream.floors.delete(query)
    }
    entry.value(sequence, value)
  }

  /** The next stream stands; the one before is let go. */
  #establish(stream: Stream): void {
    stream.establishedAt = this.#host.now()
    this.#current?.end()
    this.#current = stream
    this.#next = undefined
    this.#isRenewing = false
    this.error = undefined
    this.#watch(stream)
    clearTimeout(this.#renewal)
    if (stream.claims !== undefined) {
      const due = this.#renewIn(stream.claims, stream.tokenAt) - (this.#host.now() - stream.tokenAt)
      // Timers hold no more than 31 bits.
      this.#renewal = setTimeout(() => this.#renew(), Math.min(Math.max(due, 100), 2 ** 31 - 1))
    }
    this.#host.changed()
    this.#soon()
  }

  #failed(stream: Stream, error: FaircopyError): void {
    stream.end()
    const wasCurrent = stream === this.#current
    if (wasCurrent) this.#current = undefined
    else if (stream === this.#next) this.#next = undefined
    else return
    const isSteady = stream.establishedAt !== undefined && this.#host.now() - stream.establishedAt >= STEADY_MS
    if (isSteady) this.#failures = 0
    if (error.code === 'user-deleted' || error.code === 'signed-out') {
      this.#host.over(error)
      return
    }
    // The successor is on its way already.
    if (wasCurrent && this.#next !== undefined) {
      this.#host.changed()
      return
    }
    if (error.status === 401 && (!stream.isForced || isSteady)) this.#open(true)
    else if (MOVED.includes(error.code) && this.#failures === 0) {
      this.#failures = 1
      this.#open(false)
    } else this.#wait(error)
  }

  #wait(error: FaircopyError): void {
    const { limits, random } = this.#host
    this.#failures += 1
    this.error = error
    if (!error.retryable) for (const path of this.#paths) this.#host.entry(path)?.fail(error)
    const own = backoff(this.#failures, limits, random)
    // Asked to come later: not before, and not all at the same moment.
    const asked = error.retryAfterMs === undefined ? 0 : Math.min(error.retryAfterMs, limits.retryAfterMaxMs)
    clearTimeout(this.#retry)
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      this.#open(false)
    }, asked + own)
    this.#host.changed()
  }
}

const unreadable = (): FaircopyError => new FaircopyError('answer-unreadable', 'An event of the stream cannot be read.', { retryable: true })

function read(data: string): Record<string, unknown> {
  try {
    const said: unknown = JSON.parse(data)
    if (typeof said === 'object' && said !== null) return said as Record<string, unknown>
  } catch {
    // Said below.
  }
  throw unreadable()
}

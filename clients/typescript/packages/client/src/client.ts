import { Entry, LOADING, SIGNED_OUT, type Snapshot } from './entry.js'
import { FaircopyError } from './error.js'
import { type Fetch, ask, within } from './http.js'
import { type Beat, type Host, Lane } from './lane.js'
import { LIMITS, type Limits, MAX_ATTEMPTS, MAX_QUERIES_PER_STREAM, MAX_STREAMS, backoff } from './limits.js'
import type { Path, Stored, Value } from './queries.js'
import { type TabHost, Tabs, canShare } from './tabs.js'
import { type Claims, type GetToken, claimsOf } from './token.js'

export interface ClientOptions {
  /** Where Faircopy answers: `https://faircopy.example.com`, or `''` where the page's own origin leads to it. */
  readonly url: string
  /**
   * Gives the session token of who is signed in, or null; Clerk's `getToken` does. Without it nobody is signed in until
   * {@link FaircopyClient.setSession} says so.
   */
  readonly getToken?: GetToken
  readonly fetch?: Fetch
  /** Milliseconds since 1970. */
  readonly now?: () => number
  /** From 0 to 1; spreads those out who come again. */
  readonly random?: () => number
  /**
   * Whether the tabs of a browser that show the same to the same user share one connection. `true` unless set; it takes a secure page, and
   * a {@link Session.userId}.
   */
  readonly isShared?: boolean
  readonly limits?: Partial<Limits>
}

/** Who is signed in. */
export interface Session {
  /** Differs between users, sessions and active organizations: when it changes, everything that is known is forgotten at once. */
  readonly key: string
  readonly getToken: GetToken
  /** Where these are known, a token of somebody else, or of another organization, is not used. */
  readonly userId?: string | null | undefined
  readonly organizationId?: string | null | undefined
}

export interface Connection {
  /**
   * `idle`: nothing is listened to, or nobody is signed in. `connecting`: the first attempt, or the first one after a loss. `live`:
   * what is shown is what the copy has. `offline`: what is shown may be old; it comes back by itself.
   */
  readonly state: 'idle' | 'connecting' | 'live' | 'offline'
  /** The number of the last change that is known to be here. */
  readonly sequence: number | undefined
  /** Up to when the copy is known to be complete (RFC 3339), or null where nothing is known. */
  readonly asOf: string | null
  /** What {@link asOf} is known from: `reconciled`, `delivered`, `none`. */
  readonly basis: string | undefined
  /** How far {@link asOf} lay back when the service last spoke, in milliseconds by this device's clock. */
  readonly lag: number | null
  /** When the service last spoke of its freshness, in milliseconds since 1970. */
  readonly heardAt: number | undefined
  /** Why it is not live, or why the next connection could not be opened yet. */
  readonly error: FaircopyError | undefined
}

export interface RequestOptions {
  /** A token for this request, or what gives one, in place of the session's. */
  readonly token?: string | GetToken
  readonly signal?: AbortSignal
  /** How many seconds ago the answer's `asOf` may be: Clerk is asked where the copy is older. */
  readonly maxStaleness?: number
  /** The number of a change that the answer must hold: reads your own writes from any replica. */
  readonly minSequence?: number
}

/** An answer, and how fresh it is. */
export interface Answer<T> {
  readonly value: T
  readonly sequence: number | undefined
  readonly asOf: string | null
  readonly basis: string | undefined
}

export interface FaircopyClient {
  /** Asks once. Every failure, also that the time is up, is a {@link FaircopyError}. */
  get<P extends Path>(path: P, options?: RequestOptions): Promise<Answer<Value<P>>>
  /** Stores the caller: user, organization and membership are in the copy when it resolves. Tries again where that can help, for a bounded time. */
  storeUser(options?: Pick<RequestOptions, 'token' | 'signal'>): Promise<Stored>
  /** Listens to a query until the function that it returns is called. `listener` says that {@link snapshot} is another. */
  subscribe(path: Path, listener: () => void): () => void
  /** What is known of a query. The same object until something of it changes. */
  snapshot<P extends Path>(path: P): Snapshot<Value<P>>
  connection(): Connection
  subscribeConnection(listener: () => void): () => void
  /**
   * Who is signed in: null for nobody, undefined while that is not known. With another {@link Session.key} everything that is known is
   * forgotten before this returns; with the same, only `getToken` is taken over.
   */
  setSession(session: Session | null | undefined): void
  /** The key of who is signed in. */
  sessionKey(): string | null | undefined
  /** Signs out, ends every connection, and lets go of the page's events. */
  close(): void
}

/** A client of Faircopy. It asks for nothing and listens to nothing until somebody does. */
export function createClient(options: ClientOptions): FaircopyClient {
  return new Client(options)
}

/** Nothing is listened to. */
export const IDLE: Connection = Object.freeze({
  state: 'idle', sequence: undefined, asOf: null, basis: undefined, lag: null, heardAt: undefined, error: undefined,
})

class Client implements FaircopyClient, Host, TabHost {
  readonly url: string
  readonly fetch: Fetch
  readonly limits: Limits
  readonly now: () => number
  readonly random: () => number
  readonly #entries = new Map<string, Entry>()
  readonly #lanes: Lane[] = []
  readonly #onConnection = new Set<{ readonly listener: () => void }>()
  #session: Session | null | undefined
  /** Whom the last token was of. */
  #speaker: string | undefined
  #connection: Connection = IDLE
  #isTold = false
  /** The user is gone: no stream is opened until somebody else signs in. */
  #gone: FaircopyError | undefined
  #unlisten: (() => void) | undefined
  #hidden: ReturnType<typeof setTimeout> | undefined
  readonly #isShared: boolean
  #tabs: Tabs | undefined
  /** Nobody has looked at the page for a while. */
  #isAsleep = false

  constructor(options: ClientOptions) {
    this.url = options.url.replace(/\/+$/, '')
    // A detached `fetch` of a browser throws.
    this.fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init))
    this.now = options.now ?? Date.now
    this.random = options.random ?? Math.random
    this.limits = { ...LIMITS, ...options.limits }
    this.#isShared = options.isShared ?? true
    this.#session = options.getToken === undefined ? undefined : { key: '', getToken: options.getToken }
  }

  // --- Once. ---

  async get<P extends Path>(path: P, options: RequestOptions = {}): Promise<Answer<Value<P>>> {
    const headers = new Headers({ accept: 'application/json' })
    if (options.maxStaleness !== undefined) headers.set('faircopy-max-staleness', String(options.maxStaleness))
    if (options.minSequence !== undefined) headers.set('faircopy-min-sequence', String(options.minSequence))
    const { body, headers: told } = await this.#ask(path, { method: 'GET', headers }, options)
    const sequence = told.get('faircopy-sequence')
    const basis = told.get('faircopy-as-of-basis') ?? undefined
    return {
      value: body as Value<P>,
      sequence: sequence === null ? undefined : Number(sequence),
      // Where nothing is known the header says 1970.
      asOf: basis === 'none' ? null : told.get('faircopy-as-of'),
      basis,
    }
  }

  async storeUser(options: Pick<RequestOptions, 'token' | 'signal'> = {}): Promise<Stored> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const { body } = await this.#ask('/v1/session', { method: 'POST' }, options)
        return body as Stored
      } catch (error) {
        const retryable = error instanceof FaircopyError && error.retryable && error.code !== 'signed-out'
        if (!retryable || attempt === MAX_ATTEMPTS || options.signal?.aborted) throw error
        const asked = Math.min(error.retryAfterMs ?? 0, this.limits.requestMs)
        await pause(asked + backoff(attempt, this.limits, this.random), options.signal)
      }
    }
  }

  async #ask(path: string, init: RequestInit, options: RequestOptions) {
    const given = options.token
    const once = (token: string) => ask(this.fetch, `${this.url}${path}`, init, token, this.limits, this.now, options.signal)
    if (typeof given === 'string') return once(given)
    const session = given === undefined ? this.#session : { key: '', getToken: given }
    const { token } = await this.#tokenOf(session, false)
    try {
      return await once(token)
    } catch (error) {
      // Clerk's cache may hold a token that has just ended.
      if (!(error instanceof FaircopyError) || error.code !== 'token-expired') throw error
      return once((await this.#tokenOf(session, true)).token)
    }
  }

  // --- Live. ---

  subscribe(path: Path, listener: () => void): () => void {
    if (!path.startsWith('/v1/')) throw new TypeError(`not a path of the API: ${String(path)}`)
    const one = { listener }
    const entry = this.#entries.get(path) ?? this.#begin(path)
    entry.listeners.add(one)
    clearTimeout(entry.linger)
    entry.linger = undefined
    return () => {
      if (!entry.listeners.delete(one) || entry.listeners.size > 0 || this.#entries.get(path) !== entry) return
      // Whoever comes back to a query that failed begins anew.
      if (entry.snapshot.error !== undefined && entry.snapshot.value === undefined) this.#end(entry)
      else entry.linger = setTimeout(() => this.#end(entry), this.limits.lingerMs)
    }
  }

  snapshot<P extends Path>(path: P): Snapshot<Value<P>> {
    const entry = this.#entries.get(path)
    if (entry !== undefined) return entry.snapshot as Snapshot<Value<P>>
    return this.#session === null ? SIGNED_OUT : LOADING
  }

  #begin(path: string): Entry {
    const entry = new Entry(path)
    this.#entries.set(path, entry)
    if (this.#session === null) entry.snapshot = SIGNED_OUT
    else if (this.#session !== undefined) this.#listen(entry)
    return entry
  }

  #end(entry: Entry): void {
    clearTimeout(entry.linger)
    clearTimeout(entry.wait)
    this.#entries.delete(entry.path)
    const lane = this.#lanes.find((one) => one.has(entry.path))
    lane?.delete(entry.path)
    if (lane?.size === 0) {
      lane.close()
      this.#lanes.splice(this.#lanes.indexOf(lane), 1)
    }
    if (this.#entries.size === 0) this.#detach()
    this.#tabs?.ask()
    this.changed()
  }

  /** Takes a query into a stream, of this tab or of the one that leads. */
  #listen(entry: Entry): void {
    if (this.#gone !== undefined) {
      entry.problem(this.#gone)
      return
    }
    this.#attach()
    if (!this.#isAsleep) this.#meet()
    this.#bound(entry)
    if (this.#tabs === undefined || this.#tabs.isLeading) this.#enlist(entry)
    else this.#tabs.ask()
    this.changed()
  }

  #enlist(entry: Entry): void {
    let lane = this.#lanes.find((one) => one.has(entry.path)) ?? this.#lanes.find((one) => one.size < MAX_QUERIES_PER_STREAM)
    if (lane === undefined) {
      if (this.#lanes.length === MAX_STREAMS) {
        entry.fail(new FaircopyError('too-many-queries', `More than ${MAX_STREAMS * MAX_QUERIES_PER_STREAM} live queries at once.`))
        return
      }
      lane = new Lane(this)
      this.#lanes.push(lane)
      if (this.#isAsleep) lane.pause()
    }
    lane.add(entry.path)
  }

  /** The first value comes within its time, or an error does. */
  #bound(entry: Entry): void {
    clearTimeout(entry.wait)
    entry.wait = setTimeout(() => {
      const cause = this.#lanes.find((one) => one.has(entry.path))?.error
      const message = `No value of ${entry.path} within ${this.limits.loadingMs / 1000} seconds.`
      entry.fail(new FaircopyError('timeout', message, { retryable: true, cause }))
    }, this.limits.loadingMs)
  }

  // --- Other tabs. ---

  #meet(): void {
    const session = this.#session
    if (this.#tabs !== undefined || !this.#isShared || session?.userId == null || this.#gone !== undefined || !canShare()) return
    this.#tabs = new Tabs(JSON.stringify(['faircopy', this.url, session.key, session.userId, session.organizationId ?? null]), this)
  }

  #part(): void {
    const tabs = this.#tabs
    this.#tabs = undefined
    tabs?.close()
  }

  wanted(): string[] {
    return [...this.#entries.keys()]
  }

  lead(): void {
    for (const entry of this.#entries.values()) this.#enlist(entry)
    this.changed()
  }

  follow(): void {
    for (const lane of this.#lanes.splice(0)) lane.close()
  }

  adopt(path: string, snapshot: Snapshot<unknown>): void {
    this.#entries.get(path)?.adopt(snapshot)
  }

  adoptConnection(connection: Connection): void {
    this.#say(connection)
  }

  // --- Who is signed in. ---

  sessionKey(): string | null | undefined {
    return this.#session === undefined ? undefined : (this.#session?.key ?? null)
  }

  setSession(session: Session | null | undefined): void {
    const before = this.#session
    this.#session = session
    if (session === before || (session != null && before != null && session.key === before.key)) return
    this.#speaker = undefined
    this.#gone = undefined
    this.#part()
    this.#forget(session === null ? SIGNED_OUT : LOADING)
    if (session == null) {
      for (const lane of this.#lanes.splice(0)) lane.close()
      this.#detach()
    } else {
      for (const lane of this.#lanes.splice(0)) lane.close()
      for (const entry of this.#entries.values()) this.#listen(entry)
    }
    this.#connection = IDLE
    this.changed()
  }

  #forget(shown: Snapshot<never>): void {
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.wait)
      entry.forget(shown)
    }
  }

  close(): void {
    this.setSession(null)
    // What lingers, too: a timer of 2 s keeps a program from ending, and comes back when the page may be gone.
    for (const entry of [...this.#entries.values()]) if (entry.listeners.size === 0) this.#end(entry)
  }

  async #tokenOf(session: Session | null | undefined, isFresh: boolean): Promise<{ token: string; claims: Claims }> {
    if (session == null) throw new FaircopyError('signed-out', 'Nobody is signed in.')
    const asked = (async () => session.getToken(isFresh ? { skipCache: true } : undefined))()
    const token = await within(this.limits.tokenMs, 'A session token', asked).catch((cause: unknown) => {
      if (cause instanceof FaircopyError) throw cause
      throw new FaircopyError('token-unavailable', 'No session token could be had.', { retryable: true, cause })
    })
    if (token === null) throw new FaircopyError('signed-out', 'Nobody is signed in: there is no session token.', { retryable: true })
    const claims = claimsOf(token)
    if (!contradicts(session, claims)) return { token, claims }
    // A cache may lag behind a change of the active organization.
    if (!isFresh) return this.#tokenOf(session, true)
    throw new FaircopyError('token-unavailable', 'The session token is of another user or organization than is signed in.', { retryable: true })
  }

  // --- What the lanes need. ---

  async token(isFresh: boolean): Promise<{ token: string; claims: Claims }> {
    const session = this.#session
    const found = await this.#tokenOf(session, isFresh)
    // Whoever asked has been cut off, and does not go on.
    if (session?.key !== this.#session?.key) return found
    const speaker = JSON.stringify([found.claims.subject, found.claims.organization])
    if (this.#speaker !== undefined && this.#speaker !== speaker) {
      // Somebody else, or in another organization, before anybody said so.
      this.#speaker = speaker
      this.#forget(LOADING)
      for (const entry of this.#entries.values()) this.#bound(entry)
      for (const lane of this.#lanes) lane.restart()
    }
    this.#speaker = speaker
    return found
  }

  entry(path: string): Entry | undefined {
    return this.#entries.get(path)
  }

  over(error: FaircopyError): void {
    if (error.code === 'user-deleted') {
      this.#gone = error
      for (const lane of this.#lanes) lane.pause()
      for (const entry of this.#entries.values()) entry.problem(error)
    } else {
      // Between two sessions there is no token for a moment: it is asked for again.
      this.#forget(SIGNED_OUT)
      for (const lane of this.#lanes) lane.lose(error)
    }
    this.changed()
  }

  // --- The connection. ---

  connection(): Connection {
    return this.#connection
  }

  subscribeConnection(listener: () => void): () => void {
    const one = { listener }
    this.#onConnection.add(one)
    return () => this.#onConnection.delete(one)
  }

  beat({ sequence, as_of: asOf, as_of_basis: basis }: Beat): void {
    const heardAt = this.now()
    const lag = asOf === null ? null : Math.max(heardAt - Date.parse(asOf), 0)
    this.#say({ ...this.#connection, sequence, asOf, basis, lag, heardAt })
  }

  changed(): void {
    const state = this.#state()
    const error = this.#gone ?? this.#lanes.find((lane) => lane.error !== undefined)?.error
    // The tab that leads says how it stands, once it has been heard.
    if (this.#tabs !== undefined && !this.#tabs.isLeading && state !== 'idle' && this.#connection.state !== 'idle') return
    if (state !== this.#connection.state || error !== this.#connection.error) this.#say({ ...this.#connection, state, error })
  }

  #state(): Connection['state'] {
    if (this.#session == null || this.#entries.size === 0) return 'idle'
    if (this.#isAsleep || this.#gone !== undefined) return 'offline'
    if (this.#lanes.length === 0) return 'connecting'
    const states = this.#lanes.map((lane) => lane.state)
    return states.find((state) => state === 'offline') ?? states.find((state) => state === 'connecting') ?? 'live'
  }

  #say(connection: Connection): void {
    this.#connection = connection
    this.#tabs?.tell()
    if (this.#isTold) return
    // What changes within one step is told once.
    this.#isTold = true
    queueMicrotask(() => {
      this.#isTold = false
      for (const one of [...this.#onConnection]) one.listener()
    })
  }

  // --- The page. ---

  #attach(): void {
    if (this.#unlisten !== undefined) return
    const page = typeof document === 'undefined' ? undefined : document
    const target = typeof self !== 'undefined' && typeof self.addEventListener === 'function' ? self : undefined
    const offline = () => {
      for (const lane of this.#lanes) lane.lose(new FaircopyError('unreachable', 'This device is offline.', { retryable: true }))
    }
    const online = () => this.#resume()
    const visibility = () => this.#turn(isHidden())
    target?.addEventListener('offline', offline)
    target?.addEventListener('online', online)
    page?.addEventListener('visibilitychange', visibility)
    this.#unlisten = () => {
      target?.removeEventListener('offline', offline)
      target?.removeEventListener('online', online)
      page?.removeEventListener('visibilitychange', visibility)
    }
    if (isHidden()) this.#turn(true)
  }

  #detach(): void {
    this.#unlisten?.()
    this.#unlisten = undefined
    clearTimeout(this.#hidden)
    this.#hidden = undefined
    this.#isAsleep = false
    this.#part()
  }

  #turn(isAway: boolean): void {
    clearTimeout(this.#hidden)
    this.#hidden = undefined
    if (!isAway) this.#resume()
    else {
      this.#hidden = setTimeout(() => this.#sleep(), this.limits.hiddenMs)
    }
  }

  /** Another tab may need the lead. */
  #sleep(): void {
    this.#isAsleep = true
    this.#part()
    for (const lane of this.#lanes) lane.pause()
    this.changed()
  }

  #resume(): void {
    if (this.#gone !== undefined) return
    const hasSlept = this.#isAsleep
    this.#isAsleep = false
    this.#meet()
    if (this.#tabs !== undefined && !this.#tabs.isLeading) {
      if (hasSlept) this.follow()
      this.#tabs.ask()
    }
    for (const lane of this.#lanes) lane.resume()
    this.changed()
  }
}

const isHidden = (): boolean => typeof document !== 'undefined' && document.visibilityState === 'hidden'

/** Whether a token is surely not of this session. One that names no organization may be of a template that leaves it out. */
function contradicts(session: Session, claims: Claims): boolean {
  const isOther = (expected: string | null | undefined, found: string | undefined) => expected != null && found !== undefined && expected !== found
  return isOther(session.userId, claims.subject) || isOther(session.organizationId, claims.organization)
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer)
      reject(new FaircopyError('aborted', 'The request was given up.'))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', abort, { once: true })
  })
}

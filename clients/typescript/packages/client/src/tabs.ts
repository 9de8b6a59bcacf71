import type { Connection } from './client.js'
import type { Snapshot } from './entry.js'
import { FaircopyError, type Problem } from './error.js'
import type { Limits } from './limits.js'

/** An error on its way to another tab, which gets no classes. */
interface PlainError {
  code: string
  message: string
  status: number | undefined
  problem: Problem | undefined
  retryable: boolean
}

type Plain<T> = Omit<T, 'error'> & { error: PlainError | undefined }

type Message =
  /** A tab says what it wants shown, and that it waits for a word. */
  | { kind: 'wants'; tab: string; paths: string[] }
  /** A tab has taken the lead, and asks what the others want. */
  | { kind: 'leads' }
  | { kind: 'shows'; path: string; snapshot: Plain<Snapshot<unknown>> }
  | { kind: 'connection'; connection: Plain<Connection> }

/** What a client lets its tabs do. */
export interface TabHost {
  readonly limits: Limits
  readonly random: () => number
  /** The queries that this tab's page listens to. */
  wanted(): string[]
  /** Opens its own streams from now on. */
  lead(): void
  /** Opens none from now on. */
  follow(): void
  /** The tab that leads shows this. */
  adopt(path: string, snapshot: Snapshot<unknown>): void
  adoptConnection(connection: Connection): void
  subscribe(path: string, listener: () => void): () => void
  snapshot(path: string): Snapshot<unknown>
  connection(): Connection
}

/** Whether this page can share with others: it is one, and the browser has what that takes (only where the page is secure). */
export const canShare = (): boolean =>
  typeof document !== 'undefined' && typeof navigator !== 'undefined' && (navigator as { locks?: LockManager }).locks !== undefined && typeof BroadcastChannel !== 'undefined'

const plain = <T extends { readonly error: FaircopyError | undefined }>(it: T): Plain<T> => {
  const { error } = it
  const said = error && { code: error.code, message: error.message, status: error.status, problem: error.problem, retryable: error.retryable }
  return { ...it, error: said }
}

const revived = (said: PlainError | undefined): FaircopyError | undefined => said && new FaircopyError(said.code, said.message, said)

/**
 * The tabs of one browser that show the same to the same user: one of them leads and listens for all, since a browser keeps no more than
 * six HTTP/1.1 connections to a host, for all tabs together. When it goes, another one takes over; when it is silent (a browser may put
 * a tab to sleep), the lead is taken from it.
 */
export class Tabs {
  isLeading = false
  readonly #name: string
  readonly #host: TabHost
  readonly #locks = navigator.locks
  readonly #channel: BroadcastChannel
  readonly #id: string
  /** What other tabs want, and how each query of theirs is let go. */
  readonly #others = new Map<string, Map<string, () => void>>()
  #isReady = false
  #isOver = false
  #isAsking = false
  #release: (() => void) | undefined
  #withdraw: AbortController | undefined
  #patience: ReturnType<typeof setTimeout> | undefined
  #letGo: (() => void) | undefined

  constructor(name: string, host: TabHost) {
    this.#name = name
    this.#host = host
    this.#id = `${name} ${Date.now().toString(36)} ${Math.random().toString(36).slice(2)}`
    this.#channel = new BroadcastChannel(name)
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#hear(data)
    // Held as long as this tab lives: whoever gets it knows that the tab is gone.
    this.#hold(this.#id, {}, () => {
      if (this.#isOver) return Promise.resolve()
      this.#isReady = true
      this.#compete()
      this.ask()
      return new Promise<void>((resolve) => (this.#letGo = resolve))
    }).catch(() => undefined)
  }

  /** Says what this tab wants. A tab that leads answers, or leads no longer. */
  ask(): void {
    if (this.#isAsking || !this.#isReady) return
    this.#isAsking = true
    // What changes within one turn is said together.
    queueMicrotask(() => {
      this.#isAsking = false
      if (this.#isOver || this.isLeading) return
      this.#post({ kind: 'wants', tab: this.#id, paths: this.#host.wanted() })
      const { answerMs } = this.#host.limits
      clearTimeout(this.#patience)
      // Not all at the same moment.
      this.#patience = setTimeout(() => this.#steal(), answerMs * (1 + this.#host.random()))
    })
  }

  /** The connection of the tab that leads has changed. */
  tell(): void {
    if (this.isLeading && this.#others.size > 0) this.#post({ kind: 'connection', connection: plain(this.#host.connection()) })
  }

  close(): void {
    if (this.#isOver) return
    this.#post({ kind: 'wants', tab: this.#id, paths: [] })
    this.#isOver = true
    clearTimeout(this.#patience)
    this.#dropOthers()
    this.#withdraw?.abort()
    this.isLeading = false
    this.#release?.()
    this.#release = undefined
    this.#letGo?.()
    this.#channel.close()
  }

  #post(message: Message): void {
    this.#channel.postMessage(message)
  }

  async #hold(name: string, options: LockOptions, work: () => Promise<void>): Promise<void> {
    await this.#locks.request(name, options, work)
  }

  #compete(): void {
    this.#withdraw = new AbortController()
    this.#campaign({ signal: this.#withdraw.signal })
  }

  #steal(): void {
    this.#withdraw?.abort()
    this.#campaign({ steal: true })
  }

  #campaign(options: LockOptions): void {
    let term: (() => void) | undefined
    const lead = (): Promise<void> => {
      if (this.#isOver) return Promise.resolve()
      return new Promise((resolve) => {
        term = resolve
        this.#release = resolve
        clearTimeout(this.#patience)
        this.isLeading = true
        this.#host.lead()
        this.#post({ kind: 'leads' })
      })
    }
    this.#hold(this.#name, options, lead).catch(() => {
      // Taken away; or withdrawn, before there was a term.
      if (term !== undefined && this.#release === term) this.#yield()
    })
  }

  /** Another one leads. */
  #yield(): void {
    this.isLeading = false
    this.#dropOthers()
    this.#release?.()
    this.#release = undefined
    this.#host.follow()
    this.#compete()
  }

  #hear(message: Message): void {
    if (this.#isOver) return
    if (message.kind === 'wants') {
      if (this.isLeading) this.#serve(message.tab, message.paths)
      return
    }
    if (message.kind === 'leads') {
      // The one that was robbed may hear of it from the other first.
      if (this.isLeading) this.#yield()
      this.ask()
      return
    }
    if (this.isLeading) return
    if (message.kind === 'shows') this.#host.adopt(message.path, { ...message.snapshot, error: revived(message.snapshot.error) })
    else {
      const connection = { ...message.connection, error: revived(message.connection.error) }
      this.#host.adoptConnection(connection)
      clearTimeout(this.#patience)
      // Whoever is live says so every few seconds. Silence is asked about before it is acted upon.
      if (connection.state === 'live') this.#patience = setTimeout(() => this.ask(), this.#host.limits.silenceMs)
    }
  }

  #serve(tab: string, paths: string[]): void {
    let known = this.#others.get(tab)
    if (known === undefined) {
      if (paths.length === 0) return
      known = new Map()
      this.#others.set(tab, known)
      this.#hold(tab, {}, async () => this.#drop(tab)).catch(() => undefined)
    }
    for (const [path, stop] of known) {
      if (paths.includes(path)) continue
      stop()
      known.delete(path)
    }
    for (const path of paths) {
      const show = () => this.#post({ kind: 'shows', path, snapshot: plain(this.#host.snapshot(path)) })
      if (!known.has(path)) known.set(path, this.#host.subscribe(path, show))
      if (!this.#host.snapshot(path).isLoading) show()
    }
    this.#post({ kind: 'connection', connection: plain(this.#host.connection()) })
    if (paths.length === 0) this.#others.delete(tab)
  }

  #drop(tab: string): void {
    for (const stop of this.#others.get(tab)?.values() ?? []) stop()
    this.#others.delete(tab)
  }

  #dropOthers(): void {
    for (const tab of [...this.#others.keys()]) this.#drop(tab)
  }
}

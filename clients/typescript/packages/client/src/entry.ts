import { share } from './equal.js'
import { type FaircopyCode, type FaircopyError, isAbsence } from './error.js'

/** What is known of a query, now. The same object as long as nothing of it changes. */
export interface Snapshot<T> {
  /** `undefined` while nothing is known, `null` where there is nothing: no such record, no active organization, nobody signed in. */
  readonly value: T | null | undefined
  /** Why the value is `null`: `record-not-found`, `no-active-organization`, `user-deleted`, `signed-out`. */
  readonly absence: FaircopyCode | undefined
  /** What went wrong. With a value beside it: that value may be old. */
  readonly error: FaircopyError | undefined
  /** The change number of the value. */
  readonly sequence: number | undefined
  /** Nothing is known yet, and nothing went wrong yet. */
  readonly isLoading: boolean
}

const NOTHING = { value: undefined, absence: undefined, error: undefined, sequence: undefined, isLoading: false } as const

export const LOADING: Snapshot<never> = Object.freeze({ ...NOTHING, isLoading: true })
/** A query that is not asked. */
export const SKIPPED: Snapshot<never> = Object.freeze(NOTHING)
export const SIGNED_OUT: Snapshot<never> = Object.freeze({ ...NOTHING, value: null, absence: 'signed-out' })

/** One query: who listens, and what is known. */
export class Entry {
  readonly path: string
  readonly listeners = new Set<{ readonly listener: () => void }>()
  snapshot: Snapshot<unknown> = LOADING
  /** The change number of the newest value that was shown: an older one is not shown after it. */
  floor: number | undefined
  /** Up to this change number everything is known: where a stream goes on. */
  since: number | undefined
  linger: ReturnType<typeof setTimeout> | undefined
  /** Bounds the wait for something to show. */
  wait: ReturnType<typeof setTimeout> | undefined

  constructor(path: string) {
    this.path = path
  }

  value(sequence: number, value: unknown): void {
    this.floor = sequence
    this.since = sequence
    const known = this.snapshot
    const shared = share(known.value, value)
    // Equal values are not announced again. Their number is not news either, but the next reader gets it.
    if (shared === known.value && known.error === undefined && !known.isLoading) {
      this.snapshot = known.sequence === sequence ? known : { ...known, sequence }
      return
    }
    this.#show({ ...NOTHING, value: shared, sequence })
  }

  /** The service says that there is no value now. */
  problem(error: FaircopyError): void {
    // What is asked for again is asked for whole: nobody knows since when there was none.
    this.since = undefined
    if (isAbsence(error)) {
      if (this.snapshot.value === null && this.snapshot.absence === error.code && this.snapshot.error === undefined) return
      this.#show({ ...NOTHING, value: null, absence: error.code })
    } else if (error.retryable && this.snapshot.value !== undefined) {
      this.#show({ ...this.snapshot, error })
    } else {
      this.#show({ ...NOTHING, error })
    }
  }

  /** Shows what another tab shows. */
  adopt(snapshot: Snapshot<unknown>): void {
    const known = this.snapshot
    this.floor = snapshot.sequence
    this.since = snapshot.sequence
    const value = share(known.value, snapshot.value)
    const isSame = value === known.value && snapshot.absence === known.absence && snapshot.error?.code === known.error?.code && snapshot.isLoading === known.isLoading
    if (isSame) this.snapshot = known.sequence === snapshot.sequence ? known : { ...known, sequence: snapshot.sequence }
    else this.#show({ ...snapshot, value })
  }

  /** Nothing could be known in time, or at all. What is known stays. */
  fail(error: FaircopyError): void {
    if (this.snapshot.value === undefined) this.#show({ ...NOTHING, error })
  }

  /** Forgets everything: it may be another's. */
  forget(shown: Snapshot<never>): void {
    this.floor = undefined
    this.since = undefined
    if (this.snapshot !== shown) this.#show(shown)
  }

  #show(snapshot: Snapshot<unknown>): void {
    clearTimeout(this.wait)
    this.wait = undefined
    this.snapshot = snapshot
    // A listener may go, or throw: the others still hear.
    for (const one of [...this.listeners]) {
      try {
        one.listener()
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }
}

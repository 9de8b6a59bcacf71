import { vi } from 'vitest'

// Tabs put their own in its place.
const Channel = BroadcastChannel

interface Request {
  tab: Tab
  grant: () => void
}

/** What a browser keeps for all its tabs: locks, one holder each. */
export class Browser {
  readonly held = new Map<string, { tab: Tab; lose: () => void }>()
  readonly waiting = new Map<string, Request[]>()

  next(name: string): void {
    if (!this.held.has(name)) this.waiting.get(name)?.shift()?.grant()
  }

  request(tab: Tab, name: string, options: LockOptions, work: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      const one: Request = {
        tab,
        grant: () => {
          const mine = { tab, lose: () => reject(new DOMException('stolen', 'AbortError')) }
          this.held.set(name, mine)
          void work().then(resolve, reject).finally(() => {
            if (this.held.get(name) !== mine) return
            this.held.delete(name)
            this.next(name)
          })
        },
      }
      // A browser asks another process.
      setTimeout(() => {
        if (options.signal?.aborted) return
        const holder = this.held.get(name)
        if (options.steal && holder) {
          this.held.delete(name)
          holder.lose()
        }
        if (!this.held.has(name)) {
          one.grant()
          return
        }
        const queue = this.waiting.get(name) ?? []
        this.waiting.set(name, queue)
        queue.push(one)
        options.signal?.addEventListener('abort', () => {
          if (queue.includes(one)) queue.splice(queue.indexOf(one), 1)
          reject(new DOMException('withdrawn', 'AbortError'))
        })
      }, 0)
    })
  }
}

/** One tab: it can be put to sleep, and it can die. */
export class Tab {
  isAsleep = false
  isDead = false
  readonly page = Object.assign(new EventTarget(), { visibilityState: 'visible' })
  readonly #browser: Browser
  readonly #locks: Pick<LockManager, 'request'>
  readonly #channel: typeof BroadcastChannel
  #missed: (() => void)[] = []

  constructor(browser: Browser) {
    this.#browser = browser
    const hears = (hear: () => void) => {
      if (this.isAsleep) this.#missed.push(hear)
      else if (!this.isDead) hear()
    }
    const speaks = () => !this.isDead
    this.#locks = { request: ((name: string, options: LockOptions, work: () => Promise<void>) => browser.request(this, name, options, work)) as LockManager['request'] }
    this.#channel = class {
      readonly #inner: BroadcastChannel
      constructor(name: string) {
        this.#inner = new Channel(name)
      }
      postMessage(message: unknown) {
        if (speaks()) this.#inner.postMessage(message)
      }
      set onmessage(hear: (event: MessageEvent) => void) {
        this.#inner.onmessage = (event) => hears(() => hear(event as MessageEvent))
      }
      close() {
        this.#inner.close()
      }
    } as never
  }

  /** Whatever begins from here begins in this tab. */
  enter(): void {
    vi.stubGlobal('navigator', { locks: this.#locks })
    vi.stubGlobal('BroadcastChannel', this.#channel)
    vi.stubGlobal('document', this.page)
  }

  die(): void {
    this.isDead = true
    for (const [name, { tab }] of [...this.#browser.held]) {
      if (tab !== this) continue
      this.#browser.held.delete(name)
      this.#browser.next(name)
    }
  }

  wake(): void {
    this.isAsleep = false
    for (const hear of this.#missed.splice(0)) hear()
  }

  turn(state: 'visible' | 'hidden'): void {
    this.enter()
    this.page.visibilityState = state
    this.page.dispatchEvent(new Event('visibilitychange'))
  }
}

/** One event of a stream. */
export interface StreamEvent {
  /** `message` where the stream names none. */
  readonly event: string
  readonly data: string
  /** The newest id that the stream has named. */
  readonly id: string
}

/** The longest event, in characters: a page of a hundred rows or a workspace of two thousand things is far below. */
export const MAX_EVENT_LENGTH = 8 * 1024 * 1024

/**
 * Reads server-sent events out of bytes, wherever these are cut: within a character, between CR and LF, within a word.
 * What is not complete when the stream ends is no event.
 */
export class EventParser {
  readonly #onEvent: (event: StreamEvent) => void
  // It drops one byte order mark at the beginning, as the form of streams wants it.
  readonly #decoder = new TextDecoder()
  #line = ''
  #afterReturn = false
  #event = ''
  #data: string | undefined
  #id = ''
  #length = 0

  constructor(onEvent: (event: StreamEvent) => void) {
    this.#onEvent = onEvent
  }

  /** @throws RangeError when an event is longer than {@link MAX_EVENT_LENGTH}. */
  push(bytes: Uint8Array): void {
    const text = this.#decoder.decode(bytes, { stream: true })
    let start = 0
    if (this.#afterReturn && text !== '') {
      if (text[0] === '\n') start = 1
      this.#afterReturn = false
    }
    const ends = /\r\n?|\n/g
    ends.lastIndex = start
    for (let end = ends.exec(text); end !== null; end = ends.exec(text)) {
      this.#grow(end.index - start)
      this.#take(this.#line + text.slice(start, end.index))
      this.#line = ''
      start = ends.lastIndex
      // The LF that belongs to this CR may come with the next bytes.
      this.#afterReturn = end[0] === '\r' && start === text.length
    }
    this.#grow(text.length - start)
    this.#line += text.slice(start)
  }

  #grow(by: number): void {
    this.#length += by
    if (this.#length > MAX_EVENT_LENGTH) throw new RangeError('an event of the stream is too long')
  }

  #take(line: string): void {
    if (line === '') {
      const data = this.#data
      const event = this.#event === '' ? 'message' : this.#event
      this.#event = ''
      this.#data = undefined
      this.#length = 0
      if (data !== undefined) this.#onEvent({ event, data, id: this.#id })
      return
    }
    const colon = line.indexOf(':')
    // A comment.
    if (colon === 0) {
      this.#length -= line.length
      return
    }
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`
    else if (field === 'event') this.#event = value
    else if (field === 'id' && !value.includes('\0')) this.#id = value
  }
}

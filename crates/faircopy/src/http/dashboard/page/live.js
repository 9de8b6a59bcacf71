// What happens, as it happens. The connection's state is shown always: nothing on the page is silently stale.

import { session } from './api.js'

export const feed = new EventTarget()

/** The service speaks every four seconds; so long after its last word the connection is lost. */
const SILENCE_MS = 12_000
const AGAIN_MS = 1_000

let source = null
let heardAt = 0
let retry = null
/** `connecting`, `live` or `lost`. */
export const connection = { state: 'connecting', since: Date.now() }

function become(state) {
  if (connection.state === state) return
  const before = connection.state
  Object.assign(connection, { state, since: Date.now() })
  feed.dispatchEvent(new Event('connection'))
  // What was missed is not told again where it was too much: pages read anew.
  if (state === 'live' && before === 'lost') feed.dispatchEvent(new Event('resumed'))
}

function heard() {
  heardAt = Date.now()
  become('live')
}

function tell(name) {
  source.addEventListener(name, (event) => {
    heard()
    feed.dispatchEvent(new CustomEvent(name, { detail: JSON.parse(event.data) }))
  })
}

function open() {
  close()
  heardAt = Date.now()
  source = new EventSource('/admin/v1/live')
  source.addEventListener('open', () => heard())
  for (const name of ['beat', 'changes', 'deliveries', 'findings', 'reset']) tell(name)
  source.addEventListener('error', () => {
    become('lost')
    // A browser comes again by itself after a connection that broke, and gives up after an answer that was no stream.
    if (source?.readyState === EventSource.CLOSED) again()
  })
}

function again() {
  clearTimeout(retry)
  retry = setTimeout(async () => {
    const standing = await session().catch(() => null)
    if (standing && !standing.is_signed_in) return feed.dispatchEvent(new Event('signed-out'))
    if (standing) open()
    else again()
  }, AGAIN_MS)
}

function close() {
  clearTimeout(retry)
  source?.close()
  source = null
}

let watch = null

/** Listens until `stop`. */
export function start() {
  if (source) return
  Object.assign(connection, { state: 'connecting', since: Date.now() })
  open()
  clearInterval(watch)
  watch = setInterval(() => {
    if (source && Date.now() - heardAt > SILENCE_MS) {
      become('lost')
      open()
    }
  }, 1000)
}

export function stop() {
  clearInterval(watch)
  close()
}

/** A request was not answered: the connection is lost, whatever the stream says. */
export function doubt() {
  if (source && connection.state === 'live') {
    become('lost')
    open()
  }
}

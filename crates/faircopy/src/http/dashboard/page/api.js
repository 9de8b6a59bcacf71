// Questions to the admin API. Whoever is not signed in any more is told once, and asked to sign in.

/** Why there is no answer. */
export class Problem extends Error {
  constructor(status, code, title, detail) {
    super(detail || title)
    Object.assign(this, { status, code, title, detail })
  }

  /** This service has no such route: it is older, or that part is switched off. */
  get isMissing() {
    return this.code === 'not-found' || this.status === 405
  }

  /** There was no answer at all. */
  get isLost() {
    return this.code === 'unreachable'
  }
}

export const events = new EventTarget()

async function ask(method, path, body, signal) {
  let response
  try {
    response = await fetch(path, {
      method,
      signal,
      credentials: 'same-origin',
      cache: 'no-store',
      headers: { accept: 'application/json', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    events.dispatchEvent(new Event('lost'))
    throw new Problem(0, 'unreachable', 'The service does not answer', 'The service could not be reached.')
  }
  events.dispatchEvent(new Event('answered'))
  if (response.status === 204) return null
  const answer = await response.json().catch(() => null)
  if (response.ok) return answer
  const problem = new Problem(response.status, answer?.code ?? 'unknown', answer?.title ?? `Status ${response.status}`, answer?.detail ?? '')
  if (problem.status === 401 && path.startsWith('/admin/')) events.dispatchEvent(new Event('signed-out'))
  throw problem
}

const ADMIN = '/admin/v1'

/** Reads from the admin API. `query` leaves out what is empty. */
export function get(path, query, signal) {
  const search = new URLSearchParams(Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== ''))
  const text = search.toString()
  return ask('GET', `${ADMIN}${path}${text ? `?${text}` : ''}`, undefined, signal)
}

/** Changes something through the admin API. */
export const post = (path, query) => ask('POST', `${ADMIN}${path}${query ? `?${new URLSearchParams(query)}` : ''}`)

export const session = () => ask('GET', '/dashboard/session')
export const signIn = (token) => ask('POST', '/dashboard/login', token === null ? {} : { token })
export const signOut = () => ask('POST', '/dashboard/logout')

/** One part of a path. */
export const part = (text) => encodeURIComponent(text)

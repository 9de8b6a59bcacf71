import { FaircopyError, fromProblem } from './error.js'
import type { Limits } from './limits.js'

export type Fetch = (input: string, init: RequestInit) => Promise<Response>

/** Ends in the value, or in a typed error once the time is up. What is waited for may go on; nobody hears of it. */
export function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(timeout(what, ms)), ms)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

export const timeout = (what: string, ms: number): FaircopyError =>
  new FaircopyError('timeout', `${what}: nothing came within ${ms / 1000} seconds.`, { retryable: true })

/** Whatever a `fetch` or a reader threw, as an error of ours. */
export function lost(cause: unknown): FaircopyError {
  if (cause instanceof FaircopyError) return cause
  return new FaircopyError('unreachable', 'Faircopy cannot be reached.', { retryable: true, cause })
}

/** `Retry-After`: seconds, or a date. */
export function retryAfterMs(headers: Headers, now: number): number | undefined {
  const said = headers.get('retry-after')?.trim()
  if (said === undefined || said === '') return undefined
  const ms = /^\d+$/.test(said) ? Number(said) * 1000 : Date.parse(said) - now
  return Number.isFinite(ms) ? Math.max(ms, 0) : undefined
}

/** The error that an answer is which is not 2xx. */
export async function refusal(response: Response, now: number): Promise<FaircopyError> {
  const body: unknown = await response.json().catch(() => undefined)
  return fromProblem(body, response.status, retryAfterMs(response.headers, now))
}

/** One request, asked once, within its time. */
export async function ask(
  send: Fetch, url: string, init: RequestInit, token: string | null, limits: Limits, now: () => number, signal?: AbortSignal,
): Promise<{ body: unknown; headers: Headers }> {
  const controller = new AbortController()
  const abort = () => controller.abort(new FaircopyError('aborted', 'The request was given up.'))
  if (signal?.aborted) abort()
  signal?.addEventListener('abort', abort)
  const timer = setTimeout(() => controller.abort(timeout(url, limits.requestMs)), limits.requestMs)
  try {
    const response = await send(url, { ...init, ...common(token, init.headers), signal: controller.signal })
    if (!response.ok) throw await refusal(response, now())
    try {
      return { body: await response.json(), headers: response.headers }
    } catch (cause) {
      if (controller.signal.aborted) throw cause
      throw new FaircopyError('answer-unreadable', 'The answer is not JSON.', { status: response.status, retryable: true, cause })
    }
  } catch (error) {
    // Some runtimes throw a reason of their own.
    if (controller.signal.aborted && controller.signal.reason instanceof FaircopyError) throw controller.signal.reason
    throw lost(error)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
}

/** No cookies: Clerk's own would say a second time who is asking. No redirects: the token is for this address. */
export function common(token: string | null, headers: RequestInit['headers']): RequestInit {
  const sent = new Headers(headers)
  if (token !== null) sent.set('authorization', `Bearer ${token}`)
  return { headers: sent, credentials: 'omit', cache: 'no-store', redirect: 'error' }
}

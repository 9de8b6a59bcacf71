import type { components } from './api.js'

/** A problem document (RFC 9457), as the service answers it. */
export type Problem = components['schemas']['Problem']

/** What this package finds itself, beside the codes of the service. */
export type ClientCode =
  /** A wait had its bound, and nothing came. */
  | 'timeout'
  /** The service could not be reached, or the connection was lost. */
  | 'unreachable'
  /** The answer was none of the service's: another program answered, or half of it came. */
  | 'answer-unreadable'
  /** `getToken` failed, or gave a token of somebody else than is signed in. */
  | 'token-unavailable'
  /** Nobody is signed in: `getToken` gave none. */
  | 'signed-out'
  /** There are more live queries at once than the client keeps. */
  | 'too-many-queries'
  /** The caller gave up. */
  | 'aborted'

/** What to branch on. The service may have learned more codes than this package knows. */
export type FaircopyCode = Problem['code'] | ClientCode | (string & {})

interface Details {
  status?: number | undefined
  problem?: Problem | undefined
  retryable?: boolean | undefined
  retryAfterMs?: number | undefined
  cause?: unknown
}

/** Every error of this package. `message` is a sentence for people; branch on `code`. */
export class FaircopyError extends Error {
  override readonly name = 'FaircopyError'
  /** Has a section in Faircopy's `docs/errors.md`, or is a {@link ClientCode}. */
  readonly code: FaircopyCode
  /** The status of the answer, if there was one. */
  readonly status: number | undefined
  /** The whole problem document, if the service sent one. */
  readonly problem: Problem | undefined
  /** Whether the same may succeed later. */
  readonly retryable: boolean
  /** When the service wants to be asked again, if it said so. */
  readonly retryAfterMs: number | undefined

  constructor(code: FaircopyCode, message: string, details: Details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.status = details.status
    this.problem = details.problem
    this.retryable = details.retryable ?? false
    this.retryAfterMs = details.retryAfterMs
  }
}

/** Whether the same request may be answered otherwise later. */
export function isRetryable(status: number, code: string): boolean {
  // Without its settings the service will not answer however often it is asked.
  if (code === 'sessions-not-configured') return false
  return status === 408 || status === 425 || status === 429 || status >= 500
}

function isProblem(body: unknown): body is Problem {
  if (typeof body !== 'object' || body === null) return false
  const { code, status, detail } = body as Record<string, unknown>
  return typeof code === 'string' && typeof status === 'number' && typeof detail === 'string'
}

/** The error that a problem document is; anything else is an answer that cannot be read. */
export function fromProblem(body: unknown, status?: number, retryAfterMs?: number): FaircopyError {
  if (!isProblem(body)) {
    const said = status === undefined ? 'The service sent something that is no problem document.' : `The answer has the status ${status} and is none of Faircopy's.`
    return new FaircopyError('answer-unreadable', said, { status, retryAfterMs, retryable: status === undefined || isRetryable(status, '') })
  }
  return new FaircopyError(body.code, body.detail, {
    status: body.status, problem: body, retryAfterMs, retryable: isRetryable(body.status, body.code),
  })
}

const ABSENCES: readonly string[] = ['record-not-found', 'no-active-organization', 'user-deleted']

/** Nothing that is there: `null` to whoever reads, and no failure. A path that leads nowhere is one. */
export const isAbsence = (error: FaircopyError): boolean => ABSENCES.includes(error.code)

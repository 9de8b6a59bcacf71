/** How a token is asked for. Clerk's `getToken` has this form. */
export type GetToken = (options?: { skipCache?: boolean }) => Promise<string | null>

/** What a token says of itself. Nothing here is verified: the service does that. */
export interface Claims {
  readonly subject: string | undefined
  readonly organization: string | undefined
  /** Milliseconds since 1970, by the issuer's clock. */
  readonly expiresAt: number | undefined
  readonly issuedAt: number | undefined
}

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)
const seconds = (value: unknown): number | undefined => (typeof value === 'number' && Number.isFinite(value) ? value * 1000 : undefined)

/** Reads the claims of a JWT, of version 1 and 2. What is no JWT has none. */
export function claimsOf(token: string): Claims {
  let claims: Record<string, unknown> = {}
  try {
    const body = (token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/')
    const parsed: unknown = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0))))
    if (typeof parsed === 'object' && parsed !== null) claims = parsed as Record<string, unknown>
  } catch {
    // The service will say what is wrong with it.
  }
  const active = claims['o']
  const second = typeof active === 'object' && active !== null ? text((active as Record<string, unknown>)['id']) : undefined
  return {
    subject: text(claims['sub']),
    organization: second ?? text(claims['org_id']),
    expiresAt: seconds(claims['exp']),
    issuedAt: seconds(claims['iat']),
  }
}

/** A token that says no end is taken for one of Clerk's, which live for a minute. */
const USUAL_LIFE_MS = 60_000

/**
 * How long a token may be used from now on. This device's clock may be wrong: no token lives longer than it was made for, and
 * one that was just handed out is not over.
 */
export function remainingMs(claims: Claims, now: number): number {
  const { expiresAt, issuedAt } = claims
  if (expiresAt === undefined) return USUAL_LIFE_MS
  const life = issuedAt === undefined ? USUAL_LIFE_MS : Math.max(expiresAt - issuedAt, 0)
  const left = expiresAt - now
  return left <= 0 ? life / 2 : Math.min(left, life)
}

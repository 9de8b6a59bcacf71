'use client'

import { type ClientOptions, FaircopyError, type FaircopyClient, type Limits, type Stored, createClient } from '@faircopy/client'
import { type ReactNode, createContext, useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react'

/** What `useAuth` of Clerk's packages gives, as far as it is needed here. */
export interface Auth {
  readonly isLoaded: boolean
  readonly isSignedIn: boolean | undefined
  readonly getToken: (options?: { skipCache?: boolean }) => Promise<string | null>
  readonly userId?: string | null | undefined
  readonly orgId?: string | null | undefined
  readonly sessionId?: string | null | undefined
}

interface ProviderBase {
  /** `useAuth` of your Clerk package, or anything of its form. It is a hook: always pass the same one. */
  readonly useAuth: () => Auth
  /** Whether to store whoever signs in (`POST /v1/session`) before anything is listened to. `true` unless set. */
  readonly storeUser?: boolean
  readonly children?: ReactNode
}

export type FaircopyProviderProps = ProviderBase &
  (
    | {
        /** Where Faircopy answers: `https://faircopy.example.com`, or `''` where the page's own origin leads to it. */
        readonly url: string
        readonly limits?: Partial<Limits>
        readonly client?: never
      }
    | {
        /** A client of your own making. Who is signed in is told to it from here. */
        readonly client: FaircopyClient
        readonly url?: never
        readonly limits?: never
      }
  )

/** Whether the caller is in the copy. */
export interface StoredUser {
  /** Clerk is still loading, or the caller is being stored. */
  readonly isLoading: boolean
  /** Somebody is signed in, and in the copy. */
  readonly isAuthenticated: boolean
  /** What storing has brought into the copy, and who is signed in. */
  readonly stored: Stored | undefined
  /** Storing has failed, after further attempts where these could help. */
  readonly error: FaircopyError | undefined
  /** Tries once more. */
  readonly retry: () => void
}

interface Context {
  readonly client: FaircopyClient
  /** Of who is signed in, as this rendering sees it: undefined while Clerk loads, null for nobody. */
  readonly sessionKey: string | null | undefined
  readonly user: StoredUser
}

const FaircopyContext = createContext<Context | undefined>(undefined)

export function useFaircopyContext(): Context {
  const context = useContext(FaircopyContext)
  if (context === undefined) throw new Error('Faircopy’s hooks need a <FaircopyProvider> above them.')
  return context
}

// On a server there is no layout, and React 18 complains of the hook.
const useBeforePaint = typeof window === 'undefined' ? useEffect : useLayoutEffect

/** Gives the hooks below it their client, and tells that client who is signed in. Goes inside Clerk's provider. */
export function FaircopyProvider({ useAuth, storeUser = true, children, ...given }: FaircopyProviderProps): ReactNode {
  const client = useClient(given.client, given.url, given.limits)
  const auth = useAuth()
  const sessionKey = keyOf(auth)
  const { userId, orgId } = auth
  // Clerk gives another function with each rendering; the newest is asked.
  const newest = useRef(auth.getToken)
  useBeforePaint(() => {
    newest.current = auth.getToken
  })
  const getToken = useCallback((options?: { skipCache?: boolean }) => newest.current(options), [])
  const user = useStoring(client, sessionKey, getToken, storeUser)
  // Whoever has just signed up is not in the copy until they are stored: until then no query is asked, or it would find nobody.
  const isReady = typeof sessionKey === 'string' && !user.isLoading
  useBeforePaint(() => {
    if (typeof sessionKey !== 'string') client.setSession(sessionKey)
    else if (isReady) client.setSession({ key: sessionKey, getToken, userId, organizationId: orgId })
    else if (client.sessionKey() !== sessionKey) client.setSession(undefined)
  }, [client, sessionKey, isReady, getToken, userId, orgId])
  const context = useMemo(() => ({ client, sessionKey, user }), [client, sessionKey, user])
  return <FaircopyContext.Provider value={context}>{children}</FaircopyContext.Provider>
}

function keyOf({ isLoaded, isSignedIn, userId, sessionId, orgId }: Auth): string | null | undefined {
  if (!isLoaded || isSignedIn === undefined) return undefined
  return isSignedIn ? JSON.stringify([userId ?? null, sessionId ?? null, orgId ?? null]) : null
}

function useClient(client: FaircopyClient | undefined, url: string | undefined, limits: ClientOptions['limits']): FaircopyClient {
  // An object that is written anew with each rendering is the same limits.
  const written = JSON.stringify(limits)
  const own = useMemo(() => {
    if (url === undefined) return undefined
    return createClient({ url, ...(written === undefined ? {} : { limits: JSON.parse(written) as Partial<Limits> }) })
  }, [url, written])
  const used = client ?? own
  if (used === undefined) throw new Error('<FaircopyProvider> needs a `url` or a `client`.')
  return used
}

interface Outcome {
  readonly client: FaircopyClient
  readonly sessionKey: string
  readonly attempt: number
  readonly stored: Stored | undefined
  readonly error: FaircopyError | undefined
}

/** What is under way for a client. StrictMode asks twice, and providers may share one. */
const underWay = new WeakMap<FaircopyClient, { name: string; storing: Promise<Stored> }>()

function useStoring(client: FaircopyClient, sessionKey: string | null | undefined, getToken: Auth['getToken'], isWanted: boolean): StoredUser {
  const [outcome, setOutcome] = useState<Outcome>()
  const [attempt, setAttempt] = useState(0)
  const retry = useCallback(() => setAttempt((before) => before + 1), [])
  useEffect(() => {
    if (!isWanted || typeof sessionKey !== 'string') return undefined
    let isCurrent = true
    const end = (stored: Stored | undefined, error: FaircopyError | undefined) => {
      if (isCurrent) setOutcome({ client, sessionKey, attempt, stored, error })
    }
    const name = JSON.stringify([sessionKey, attempt])
    let one = underWay.get(client)
    if (one?.name !== name) {
      // With the token of whom this page says is signed in: the client is not told of them before they are stored.
      const started = { name, storing: client.storeUser({ token: getToken }) }
      underWay.set(client, started)
      // Whoever mounts after a failure tries anew.
      started.storing.catch(() => underWay.get(client) === started && underWay.delete(client))
      one = started
    }
    one.storing.then(
      (stored) => end(stored, undefined),
      (error: unknown) => end(undefined, error instanceof FaircopyError ? error : new FaircopyError('unreachable', 'The caller could not be stored.', { cause: error })),
    )
    return () => {
      isCurrent = false
    }
  }, [client, sessionKey, getToken, isWanted, attempt])
  return useMemo(() => {
    const isSignedIn = typeof sessionKey === 'string'
    if (sessionKey === undefined || !isSignedIn) {
      return { isLoading: sessionKey === undefined, isAuthenticated: false, stored: undefined, error: undefined, retry }
    }
    if (!isWanted) return { isLoading: false, isAuthenticated: true, stored: undefined, error: undefined, retry }
    const known = outcome?.client === client && outcome.sessionKey === sessionKey ? outcome : undefined
    // A further attempt takes nothing away from the page: what failed before is shown until it ends.
    return { isLoading: known === undefined, isAuthenticated: known?.stored !== undefined, stored: known?.stored, error: known?.error, retry }
  }, [client, sessionKey, isWanted, outcome, retry])
}


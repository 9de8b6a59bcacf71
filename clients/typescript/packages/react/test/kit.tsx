import { waitFor } from '@testing-library/react'
import { Component, type ReactNode, StrictMode } from 'react'
import { afterAll, afterEach } from 'vitest'
import { FakeServer, fresh } from '../../client/test/server.js'
import type { FaircopyError } from '../src/index.js'
import { type Auth, AuthLoading, Authenticated, FaircopyProvider, type FaircopyProviderProps, Unauthenticated, useConnection, useCurrentUser } from '../src/index.js'

const servers: FakeServer[] = []

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()))
})

export async function serve(): Promise<FakeServer> {
  const server = await FakeServer.start()
  servers.push(server)
  return server
}

export const until = (holds: () => void) => waitFor(holds, { timeout: 8_000, interval: 5 })

export const SIGNED_OUT: Auth = { isLoaded: true, isSignedIn: false, getToken: async () => null, userId: null, orgId: null, sessionId: null }

/** Clerk is still loading. */
export const UNKNOWN: Auth = { ...SIGNED_OUT, isLoaded: false, isSignedIn: undefined }

export const signedIn = (userId = 'user_ada', orgId: string | null = 'org_a'): Auth => ({
  isLoaded: true, isSignedIn: true, userId, orgId, sessionId: `sess_${userId}`,
  // Another function each time, as Clerk gives it.
  getToken: async () => fresh({ sub: userId, ...(orgId === null ? { org_id: undefined } : { org_id: orgId }) } as never),
})

/** Clerk, as far as the hooks see it: whoever is in it, until that changes and the page is rendered anew. */
export class Clerk {
  auth: Auth
  constructor(auth: Auth = signedIn()) {
    this.auth = auth
  }
  readonly useAuth = () => this.auth
}

export const LIMITS = { backoffMs: 20, backoffMaxMs: 100, lingerMs: 30 }

// What a page asked for is let go of a little later, while there still is a page.
afterAll(() => new Promise((resolve) => setTimeout(resolve, 4 * LIMITS.lingerMs)))

export function Page({ server, clerk, children, ...more }: { server: { url: string }; clerk: Clerk; children?: ReactNode } & Partial<Omit<FaircopyProviderProps, 'url' | 'client'>>) {
  return (
    <FaircopyProvider url={server.url} useAuth={clerk.useAuth} {...more} limits={{ ...LIMITS, ...more.limits }}>
      {children}
    </FaircopyProvider>
  )
}

function Everything() {
  return (
    <>
      <p>{JSON.stringify(useCurrentUser()) ?? 'loading'}</p>
      <p>{useConnection().state}</p>
      <AuthLoading><b>wait</b></AuthLoading>
      <Authenticated />
      <Unauthenticated><b>out</b></Unauthenticated>
    </>
  )
}

/** A page that is rendered on a server first, and what that makes of it. */
export const Served = (props: { server: { url: string }; clerk: Clerk }) => (
  <StrictMode><Page {...props}><Everything /></Page></StrictMode>
)
export const SERVED = '<p>loading</p><p>idle</p><b>wait</b>'

/** Shows what was thrown, and lets its children begin anew. */
export class Boundary extends Component<{ children: ReactNode }, { error: FaircopyError | undefined }> {
  override state: { error: FaircopyError | undefined } = { error: undefined }
  static getDerivedStateFromError(error: FaircopyError) {
    return { error }
  }
  override render() {
    const { error } = this.state
    if (error === undefined) return this.props.children
    return <button onClick={() => this.setState({ error: undefined })}>thrown: {error.code}</button>
  }
}

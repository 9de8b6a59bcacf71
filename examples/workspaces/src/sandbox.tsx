// Stands in for Clerk's provider: whoever is chosen is signed in, with tokens of the sandbox.

import { type Auth, FaircopyProvider, useMemberships } from '@faircopy/react'
import { type ReactNode, createContext, useCallback, useContext, useEffect, useMemo, useRef, useState } from 'react'
import { App, type MemberActions } from './app.js'

interface SignedIn {
  userId: string
  orgId: string | null
}

interface SandboxContext {
  auth: Auth
  signIn: (who: SignedIn | null) => void
  activate: (orgId: string | null) => void
}

const Context = createContext<SandboxContext | undefined>(undefined)

function useSandbox(): SandboxContext {
  const context = useContext(Context)
  if (context === undefined) throw new Error('outside of <SandboxProvider>')
  return context
}

async function ask(method: string, path: string, body?: unknown): Promise<unknown> {
  const init = body === undefined ? { method } : { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
  const answer = await fetch(path, init)
  const said = (await answer.json().catch(() => undefined)) as { errors?: { code?: string; message?: string }[] } | undefined
  if (!answer.ok) throw new Error(said?.errors?.[0]?.message ?? `the sandbox answers ${answer.status}`, { cause: said?.errors?.[0]?.code })
  return said
}

/** Clerk's own page keeps who is signed in for all tabs; here each tab may be somebody else. */
const KEPT = 'signed-in'

function kept(): SignedIn | null {
  const text = sessionStorage.getItem(KEPT)
  return text === null ? null : (JSON.parse(text) as SignedIn)
}

/** As Clerk does: a token is used until shortly before its end. */
const SPARE_MS = 10_000

function SandboxProvider({ children }: { children: ReactNode }) {
  const [who, setWho] = useState(kept)
  const cached = useRef<{ key: string; jwt: string; until: number } | undefined>(undefined)
  const signIn = useCallback((next: SignedIn | null) => {
    if (next === null) sessionStorage.removeItem(KEPT)
    else sessionStorage.setItem(KEPT, JSON.stringify(next))
    setWho(next)
  }, [])
  const getToken = useCallback(
    async (options?: { skipCache?: boolean }) => {
      if (who === null) return null
      const key = JSON.stringify(who)
      const known = cached.current
      if (known?.key === key && known.until > Date.now() && options?.skipCache !== true) return known.jwt
      try {
        const made = await ask('POST', '/sandbox/v1/tokens', { user_id: who.userId, ...(who.orgId === null ? {} : { organization_id: who.orgId }) })
        const { jwt, claims } = made as { jwt: string; claims: { exp: number } }
        cached.current = { key, jwt, until: claims.exp * 1000 - SPARE_MS }
        return jwt
      } catch (error) {
        if (!(error instanceof Error) || error.cause !== 'resource_not_found') throw error
        // The user is no longer a member there, or is gone: as Clerk does, without an organization, or signed out.
        signIn(who.orgId === null ? null : { ...who, orgId: null })
        return null
      }
    },
    [who, signIn],
  )
  const context = useMemo(
    () => ({
      auth: {
        isLoaded: true, isSignedIn: who !== null, getToken,
        userId: who?.userId ?? null, orgId: who?.orgId ?? null, sessionId: who === null ? null : `sess_${who.userId}`,
      },
      signIn,
      activate: (orgId: string | null) => who !== null && signIn({ ...who, orgId }),
    }),
    [who, getToken, signIn],
  )
  return <Context.Provider value={context}>{children}</Context.Provider>
}

const useAuth = (): Auth => useSandbox().auth

interface Candidate {
  id: string
  first_name: string | null
  last_name: string | null
  memberships: { organization: { id: string; name: string }; role: string }[]
}

async function candidates(): Promise<Candidate[]> {
  const users = (await ask('GET', '/clerk/v1/users?limit=50&order_by=-created_at')) as Omit<Candidate, 'memberships'>[]
  const all = await Promise.all(
    users.map(async (user) => {
      const { data } = (await ask('GET', `/clerk/v1/users/${user.id}/organization_memberships`)) as { data: Candidate['memberships'] }
      return { ...user, memberships: data }
    }),
  )
  return all.sort((a, b) => b.memberships.length - a.memberships.length)
}

function SignIn() {
  const { signIn } = useSandbox()
  const [found, setFound] = useState<Candidate[] | Error>()
  useEffect(() => {
    let isCurrent = true
    candidates().then((all) => isCurrent && setFound(all), (error: Error) => isCurrent && setFound(error))
    return () => {
      isCurrent = false
    }
  }, [])
  if (found instanceof Error) return <p role="alert">The sandbox cannot be asked: {found.message}</p>
  if (found === undefined) return <p className="wait">Asking the sandbox who there is…</p>
  return (
    <ul className="people">
      {found.map(({ id, first_name, last_name, memberships }) => (
        <li key={id}>
          <button onClick={() => signIn({ userId: id, orgId: memberships[0]?.organization.id ?? null })}>
            <strong>{[first_name, last_name].filter(Boolean).join(' ') || id}</strong>
            <span>{memberships.map(({ organization, role }) => `${organization.name} (${role.replace('org:', '')})`).join(', ') || 'in no organization'}</span>
          </button>
        </li>
      ))}
    </ul>
  )
}

function Account() {
  const { auth, signIn, activate } = useSandbox()
  const memberships = useMemberships()
  return (
    <>
      <label>
        Organization{' '}
        <select value={auth.orgId ?? ''} onChange={(event) => activate(event.target.value || null)}>
          <option value="">none</option>
          {memberships?.data.map(({ clerk_org_id, name }) => <option key={clerk_org_id} value={clerk_org_id}>{name ?? clerk_org_id}</option>)}
        </select>
      </label>
      <button onClick={() => signIn(null)}>Sign out</button>
    </>
  )
}

/** What an administrator does in Clerk's dashboard; here it is done to the sandbox, which tells Faircopy as Clerk does. */
const actions: MemberActions = {
  setRole: (organization, user, role) => ask('PATCH', `/clerk/v1/organizations/${organization}/memberships/${user}`, { role }),
  remove: (organization, user) => ask('DELETE', `/clerk/v1/organizations/${organization}/memberships/${user}`),
}

export default function WithSandbox() {
  return (
    <SandboxProvider>
      <FaircopyProvider url="" useAuth={useAuth}>
        <App signIn={<SignIn />} account={<Account />} actions={actions} />
      </FaircopyProvider>
    </SandboxProvider>
  )
}

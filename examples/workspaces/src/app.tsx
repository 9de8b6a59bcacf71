import {
  AuthLoading, Authenticated, type FaircopyError, type Membership, Unauthenticated, useConnection, useCurrentUser, useMembers, useOrganization, useStoreUser, useWorkspace,
} from '@faircopy/react'
import { Component, type ReactNode, useEffect, useRef, useState } from 'react'

/** What only an administrator of Clerk can do. Without it the page only shows. */
export interface MemberActions {
  setRole: (organization: string, user: string, role: string) => Promise<unknown>
  remove: (organization: string, user: string) => Promise<unknown>
}

interface Parts {
  signIn: ReactNode
  account: ReactNode
  actions?: MemberActions
}

export function App({ signIn, account, actions }: Parts) {
  return (
    <>
      <header>
        <h1>Workspaces</h1>
        <Authenticated>
          <Boundary>
            <Who />
            <div className="account">{account}</div>
          </Boundary>
        </Authenticated>
      </header>
      <main>
        <AuthLoading><p className="wait">Signing in…</p></AuthLoading>
        <Unauthenticated>
          <section aria-labelledby="sign-in">
            <h2 id="sign-in">Sign in</h2>
            {signIn}
          </section>
        </Unauthenticated>
        <Authenticated>
          <ConnectionBar />
          <NotStored />
          <Boundary>
            <Standing />
            <div className="columns">
              <WorkspacePanel />
              <Members {...(actions === undefined ? {} : { actions })} />
            </div>
          </Boundary>
        </Authenticated>
      </main>
    </>
  )
}

function Who() {
  const me = useCurrentUser()
  return <p className="who" id="who">{me === undefined ? '…' : (me?.name ?? me?.email ?? me?.clerk_user_id ?? 'not known yet')}</p>
}

const time = (at: string | number) => new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const STATES = { idle: 'Nothing to show', connecting: 'Connecting…', live: 'Live', offline: 'Offline: what you see may be old. It comes back by itself' }

function ConnectionBar() {
  const { state, asOf, basis, sequence } = useConnection()
  const fresh = asOf === null ? 'Not compared with Clerk yet.' : basis === 'reconciled' ? `Complete up to ${time(asOf)}.` : `Last heard of Clerk at ${time(asOf)}.`
  return (
    <p className="connection" id="connection" data-state={state} role="status">
      <span className="dot" aria-hidden="true" /> {STATES[state]}. <span className="fresh">{fresh}{sequence === undefined ? '' : ` Change ${sequence}.`}</span>
    </p>
  )
}

function NotStored() {
  const { error, retry } = useStoreUser()
  if (error === undefined) return null
  return <p role="alert" className="notice">You could not be stored: {error.message} <button onClick={retry}>Try again</button></p>
}

const roleName = (role: string | null | undefined) => (role ?? '').replace('org:', '') || 'member'

/** Says at once when one's own role changes, or when one is no member any more. */
function Standing() {
  const organization = useOrganization()
  const workspace = useWorkspace()
  const before = useRef<{ id: string; name: string; role: string | undefined } | undefined>(undefined)
  const [notice, setNotice] = useState<{ kind: 'removed' | 'role'; text: string }>()
  const role = workspace?.role
  useEffect(() => {
    const known = before.current
    if (organization === null && known !== undefined) {
      setNotice({ kind: 'removed', text: `You are no longer a member of ${known.name}.` })
      before.current = undefined
    } else if (organization) {
      const name = organization.name ?? organization.clerk_org_id
      const isSame = known?.id === organization.clerk_org_id
      if (!isSame) setNotice(undefined)
      else if (known.role !== undefined && role !== undefined && known.role !== role) setNotice({ kind: 'role', text: `You are now ${role} of ${name}.` })
      before.current = { id: organization.clerk_org_id, name, role: role ?? (isSame ? known.role : undefined) }
    }
  }, [organization, role])
  return <div aria-live="assertive">{notice && <p className="notice" id="notice" data-kind={notice.kind}>{notice.text}</p>}</div>
}

function WorkspacePanel() {
  const workspace = useWorkspace()
  if (workspace === undefined) return <section aria-busy="true"><h2>Workspace</h2><p className="wait">Loading…</p></section>
  if (workspace === null) return <section id="workspace"><h2>Workspace</h2><p>No organization is active. Choose one above.</p></section>
  return (
    <section id="workspace" aria-labelledby="workspace-name">
      <h2 id="workspace-name">{workspace.name ?? 'Not named yet'}</h2>
      <p>Your role: <strong id="role">{workspace.role}</strong></p>
      <h3>Channels</h3>
      <ul id="channels">{workspace.channels.map(({ id, name }) => <li key={id}># {name}</li>)}</ul>
      <h3>Rooms</h3>
      {workspace.rooms.length === 0 ? <p>None yet.</p> : <ul id="rooms">{workspace.rooms.map(({ id, name, kind }) => <li key={id}>{name || id} <span className="kind">{kind}</span></li>)}</ul>}
    </section>
  )
}

function Members({ actions }: { actions?: MemberActions }) {
  const members = useMembers({ limit: 100 })
  const [trouble, setTrouble] = useState<string>()
  if (members === undefined) return <section aria-busy="true"><h2>Members</h2><p className="wait">Loading…</p></section>
  if (members === null) return null
  const act = (work: Promise<unknown>) => {
    setTrouble(undefined)
    work.catch((error: Error) => setTrouble(error.message))
  }
  return (
    <section id="members" aria-labelledby="members-title">
      <h2 id="members-title">Members</h2>
      {trouble && <p role="alert" className="notice">{trouble}</p>}
      <div className="scroll" tabIndex={0} role="group" aria-labelledby="members-title">
        <table>
          <thead><tr><th scope="col">Name</th><th scope="col">Role</th>{actions && <th scope="col">In Clerk</th>}</tr></thead>
          <tbody>
            {members.data.map((member) => (
              <tr key={member.clerk_user_id} data-user={member.clerk_user_id}>
                <th scope="row"><span className="name">{member.name ?? member.clerk_user_id}</span> <span className="email">{member.email}</span></th>
                <td className="role">{roleName(member.role)}</td>
                {actions && <td><Actions member={member} actions={actions} act={act} /></td>}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {members.next !== null && <p>There are more.</p>}
    </section>
  )
}

function Actions({ member, actions, act }: { member: Membership; actions: MemberActions; act: (work: Promise<unknown>) => void }) {
  const { clerk_org_id: organization, clerk_user_id: user, name } = member
  const isAdmin = member.role === 'org:admin'
  return (
    <span className="actions">
      <button aria-label={`${isAdmin ? 'Make member' : 'Make admin'}: ${name}`} onClick={() => act(actions.setRole(organization, user, isAdmin ? 'org:member' : 'org:admin'))}>
        {isAdmin ? 'Make member' : 'Make admin'}
      </button>
      <button aria-label={`Remove: ${name}`} onClick={() => act(actions.remove(organization, user))}>Remove</button>
    </span>
  )
}

/** What cannot be shown says why, and can be tried again. */
class Boundary extends Component<{ children: ReactNode }, { error: FaircopyError | undefined }> {
  override state: { error: FaircopyError | undefined } = { error: undefined }
  static getDerivedStateFromError(error: FaircopyError) {
    return { error }
  }
  override render() {
    const { error } = this.state
    if (error === undefined) return this.props.children
    return <p role="alert" className="notice">{error.message} ({error.code}) <button onClick={() => this.setState({ error: undefined })}>Try again</button></p>
  }
}

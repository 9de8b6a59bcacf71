import { act, fireEvent, render, screen } from '@testing-library/react'
import { StrictMode, memo, startTransition, useState, version } from 'react'
import { hydrateRoot } from 'react-dom/client'
import { describe, expect, test, vi } from 'vitest'
import {
  AuthLoading, Authenticated, type Path, Unauthenticated, createClient, useConnection, useCurrentUser, useFaircopy, useMembers, useMemberships, useOrganization, useQuery,
  useQueryResult, useStoreUser, useUser, useWorkspace,
} from '../src/index.js'
import { FaircopyProvider } from '../src/index.js'
import { Boundary, Clerk, Page, SERVED, SIGNED_OUT, Served, UNKNOWN, serve, signedIn, until } from './kit.js'

const ME = '/v1/me'
const MEMBERS = '/v1/organization/members'
const text = (value: unknown) => (value === undefined ? 'loading' : JSON.stringify(value))
const shown = (id: string) => screen.getByTestId(id).textContent

function Me() {
  return <p data-testid="me">{text(useCurrentUser())}</p>
}

function Query({ path }: { path: Path | 'skip' }) {
  return <p data-testid={path}>{text(useQuery(path))}</p>
}

test('the React that is meant', () => {
  expect(['18.3.1', '19.3.1']).toContain(version)
})

test('loading, the value, each new value, and null where there is nothing', async () => {
  const server = await serve()
  server.set(ME, { name: 'Ada' })
  const clerk = new Clerk()
  render(<Page server={server} clerk={clerk}><Me /><Query path={MEMBERS} /><Query path="skip" /></Page>)
  expect([shown('me'), shown(MEMBERS), shown('skip')]).toEqual(['loading', 'loading', 'loading'])
  await until(() => expect([shown('me'), shown(MEMBERS)]).toEqual(['{"name":"Ada"}', 'null']))
  server.set(ME, { name: 'Grace' })
  server.set(MEMBERS, { data: [], next: null })
  await until(() => expect([shown('me'), shown(MEMBERS)]).toEqual(['{"name":"Grace"}', '{"data":[],"next":null}']))
  expect(shown('skip')).toBe('loading')
  expect(server.asked).toHaveLength(1)
})

test('every hook asks for what it is named after', async () => {
  const server = await serve()
  const seen: unknown[] = []
  function All() {
    const all = [useCurrentUser(), useOrganization(), useMembers(), useMembers({ limit: 3 }), useMemberships({ after: 'x' }), useWorkspace(), useUser('user_bob')]
    const none = [useCurrentUser('skip'), useOrganization('skip'), useMembers('skip'), useMemberships('skip'), useWorkspace('skip'), useUser('skip')]
    seen.push([...all, ...none])
    return <p data-testid="count">{all.filter((one) => one === null).length}</p>
  }
  render(<Page server={server} clerk={new Clerk()}><All /></Page>)
  await until(() => expect(shown('count')).toBe('7'))
  expect(server.asked.map(({ queries }) => queries.map(({ path }) => path))).toEqual([
    [ME, '/v1/organization', MEMBERS, `${MEMBERS}?limit=3`, '/v1/me/organizations?after=x', '/v1/workspace', '/v1/users/user_bob'],
  ])
  expect(seen.at(-1)).toEqual([...Array(7).fill(null), ...Array(6).fill(undefined)])
})

test('StrictMode: one stream, and the caller is stored once', async () => {
  const server = await serve()
  server.set(ME, { name: 'Ada' })
  render(<StrictMode><Page server={server} clerk={new Clerk()}><Me /><Me /></Page></StrictMode>)
  await until(() => expect(screen.getAllByTestId('me').map((one) => one.textContent)).toEqual(Array(2).fill('{"name":"Ada"}')))
  expect(server.asked).toHaveLength(1)
  expect(server.mostStreams).toBe(1)
  expect(server.requests.map(({ method, path }) => `${method} ${path}`)).toEqual(['POST /v1/session'])
  server.set(ME, { name: 'Grace' })
  await until(() => expect(screen.getAllByTestId('me').map((one) => one.textContent)).toEqual(Array(2).fill('{"name":"Grace"}')))
})

test('whoever leaves lets go of the stream', async () => {
  const server = await serve()
  const page = render(<Page server={server} clerk={new Clerk()}><Me /></Page>)
  await until(() => expect(server.streams.size).toBe(1))
  page.unmount()
  await until(() => expect(server.streams.size).toBe(0))
})

test('a path that changes shows nothing of the one before', async () => {
  const server = await serve()
  server.set('/v1/users/a', 'A')
  server.set('/v1/users/b', 'B')
  const clerk = new Clerk()
  const seen: string[] = []
  function User({ id }: { id: string }) {
    const value = text(useUser(id))
    seen.push(`${id} ${value}`)
    return <p data-testid="user">{value}</p>
  }
  const page = render(<Page server={server} clerk={clerk}><User id="a" /></Page>)
  await until(() => expect(shown('user')).toBe('"A"'))
  page.rerender(<Page server={server} clerk={clerk}><User id="b" /></Page>)
  expect(shown('user')).toBe('loading')
  await until(() => expect(shown('user')).toBe('"B"'))
  expect(new Set(seen)).toEqual(new Set(['a loading', 'a "A"', 'b loading', 'b "B"']))
})

test('only what differs is rendered anew', async () => {
  const server = await serve()
  server.set(ME, { name: 'Ada' })
  server.set(MEMBERS, { data: [{ clerk_user_id: 'a', name: 'A' }, { clerk_user_id: 'b', name: 'B' }], next: null })
  const rendered: string[] = []
  const Row = memo(function Row({ member }: { member: { clerk_user_id: string; name: string | null } }) {
    rendered.push(`${member.clerk_user_id} ${member.name}`)
    return <li>{member.name}</li>
  })
  function Members() {
    const members = useMembers()
    rendered.push('list')
    return <ul data-testid="list">{members?.data.map((member) => <Row key={member.clerk_user_id} member={member as never} />)}</ul>
  }
  render(<Page server={server} clerk={new Clerk()}><Members /><Me /></Page>)
  await until(() => expect([shown('list'), shown('me')]).toEqual(['AB', '{"name":"Ada"}']))
  rendered.length = 0
  // The same again, and something of another query: nobody hears.
  server.set(MEMBERS, { data: [{ clerk_user_id: 'a', name: 'A' }, { clerk_user_id: 'b', name: 'B' }], next: null })
  server.set(ME, { name: 'Grace' })
  await until(() => expect(shown('me')).toBe('{"name":"Grace"}'))
  expect(rendered).toEqual([])
  server.set(MEMBERS, { data: [{ clerk_user_id: 'a', name: 'A' }, { clerk_user_id: 'b', name: 'Bob' }], next: null })
  await until(() => expect(shown('list')).toBe('ABob'))
  expect(rendered).toEqual(['list', 'b Bob'])
})

test('no rendering mixes two values: a slow one in the background either', async () => {
  const server = await serve()
  server.set(ME, { name: '0' })
  const mixed: string[] = []
  function Slow() {
    const name = useCurrentUser()?.name ?? '–'
    const until = performance.now() + 1
    while (performance.now() < until);
    return <i className="cell">{name}</i>
  }
  let grow: (count: number) => void = () => undefined
  function Cells() {
    const [count, setCount] = useState(1)
    grow = (more) => startTransition(() => setCount(more))
    return <div>{Array.from({ length: count }, (_, index) => <Slow key={index} />)}</div>
  }
  const { container } = render(<Page server={server} clerk={new Clerk()}><Cells /></Page>)
  const cells = () => [...container.querySelectorAll('.cell')].map((one) => one.textContent)
  const watcher = new MutationObserver(() => {
    if (new Set(cells()).size > 1) mixed.push(cells().join())
  })
  watcher.observe(container, { childList: true, subtree: true, characterData: true })
  await until(() => expect(cells()).toEqual(['0']))
  let round = 0
  // Each of them interrupts the slow rendering; without an end it would be put off until React loses patience.
  const changing = setInterval(() => round < 20 && server.set(ME, { name: String((round += 1)) }), 5)
  // Outside of act, or React would do all of it at once.
  ;(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = false
  try {
    grow(60)
    await until(() => expect(cells()).toHaveLength(60))
    await until(() => expect(new Set(cells())).toEqual(new Set(['20'])))
  } finally {
    clearInterval(changing)
    watcher.disconnect()
    ;(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true
  }
  expect(mixed).toEqual([])
})

describe('who is signed in', () => {
  test('the gates', async () => {
    const server = await serve()
    const clerk = new Clerk(UNKNOWN)
    const gates = () => (
      <Page server={server} clerk={clerk}>
        <div data-testid="gate"><AuthLoading>loading</AuthLoading><Authenticated>in</Authenticated><Unauthenticated>out</Unauthenticated></div>
        <Me />
      </Page>
    )
    const page = render(gates())
    expect([shown('gate'), shown('me')]).toEqual(['loading', 'loading'])
    clerk.auth = SIGNED_OUT
    page.rerender(gates())
    expect([shown('gate'), shown('me')]).toEqual(['out', 'null'])
    expect(server.requests).toEqual([])
    clerk.auth = signedIn()
    page.rerender(gates())
    expect([shown('gate'), shown('me')]).toEqual(['loading', 'loading'])
    await until(() => expect(shown('gate')).toBe('in'))
    await until(() => expect(shown('me')).toBe('null'))
    clerk.auth = SIGNED_OUT
    page.rerender(gates())
    expect([shown('gate'), shown('me')]).toEqual(['out', 'null'])
    await until(() => expect(server.streams.size).toBe(0))
  })

  test('whoever has just signed up is stored before anything is asked: they are never told that they are not there', async () => {
    const server = await serve()
    server.requestFaults.push({ delayMs: 60 })
    const seen: string[] = []
    function Seen() {
      const value = text(useCurrentUser())
      seen.push(value)
      return <p data-testid="me">{value}</p>
    }
    render(<Page server={server} clerk={new Clerk()}><Seen /></Page>)
    await until(() => expect(server.requests).toHaveLength(1))
    expect(server.asked).toHaveLength(0)
    server.set(ME, { name: 'Ada' })
    await until(() => expect(shown('me')).toBe('{"name":"Ada"}'))
    expect(new Set(seen)).toEqual(new Set(['loading', '{"name":"Ada"}']))
  })

  test('another user or organization: no rendering shows what was the other’s', async () => {
    const server = await serve()
    for (const organization of ['org_a', 'org_b', 'org_c']) server.set(MEMBERS, organization, organization)
    const clerk = new Clerk(signedIn('user_ada', 'org_a'))
    const seen: string[] = []
    function Seen({ organization }: { organization: string }) {
      const members = text(useMembers())
      seen.push(`${organization}: ${members}`)
      return <p data-testid="members">{members}</p>
    }
    const show = (user: string, organization: string) => {
      clerk.auth = signedIn(user, organization)
      return <StrictMode><Page server={server} clerk={clerk}><Seen organization={organization} /></Page></StrictMode>
    }
    const page = render(show('user_ada', 'org_a'))
    await until(() => expect(shown('members')).toBe('"org_a"'))
    page.rerender(show('user_ada', 'org_b'))
    expect(shown('members')).toBe('loading')
    await until(() => expect(shown('members')).toBe('"org_b"'))
    // Before the one before is done.
    page.rerender(show('user_bob', 'org_c'))
    page.rerender(show('user_ada', 'org_a'))
    page.rerender(show('user_bob', 'org_c'))
    await until(() => expect(shown('members')).toBe('"org_c"'))
    page.rerender(show('user_ada', 'org_a'))
    await until(() => expect(shown('members')).toBe('"org_a"'))
    const wrong = seen.filter((one) => {
      const [organization, value] = one.split(': ')
      return value !== 'loading' && value !== `"${organization}"`
    })
    expect(wrong).toEqual([])
    expect(new Set(server.asked.map(({ claims }) => `${claims.sub} ${claims.org_id}`))).toContain('user_bob org_c')
  })

  test('storing that fails is told, keeps nobody out, and can be tried again', async () => {
    const server = await serve()
    server.set(ME, { name: 'Ada' })
    server.requestFaults.push({ status: 401, code: 'token-invalid-issuer' })
    function Stored() {
      const { isLoading, isAuthenticated, stored, error, retry } = useStoreUser()
      return <button data-testid="stored" onClick={retry}>{JSON.stringify([isLoading, isAuthenticated, stored?.identity.clerk_user_id ?? null, error?.code ?? null])}</button>
    }
    render(<Page server={server} clerk={new Clerk()}><Stored /><Authenticated><Me /></Authenticated></Page>)
    expect(shown('stored')).toBe('[true,false,null,null]')
    await until(() => expect(shown('stored')).toBe('[false,false,null,"token-invalid-issuer"]'))
    await until(() => expect(shown('me')).toBe('{"name":"Ada"}'))
    fireEvent.click(screen.getByTestId('stored'))
    await until(() => expect(shown('stored')).toBe('[false,true,"user_ada",null]'))
    expect(server.requests).toHaveLength(2)
    expect(shown('me')).toBe('{"name":"Ada"}')
  })

  test('without storing', async () => {
    const server = await serve()
    server.set(ME, { name: 'Ada' })
    render(<Page server={server} clerk={new Clerk()} storeUser={false}><Authenticated><Me /></Authenticated></Page>)
    await until(() => expect(shown('me')).toBe('{"name":"Ada"}'))
    expect(server.requests).toEqual([])
  })

  test('the newest getToken is asked, and a rendering changes nothing else', async () => {
    const server = await serve()
    server.set(ME, { name: 'Ada' })
    const clerk = new Clerk()
    const show = () => <Page server={server} clerk={clerk}><Me /></Page>
    const page = render(show())
    await until(() => expect(shown('me')).toBe('{"name":"Ada"}'))
    const getToken = vi.fn(signedIn().getToken)
    clerk.auth = { ...signedIn(), getToken }
    page.rerender(show())
    expect(getToken).not.toHaveBeenCalled()
    server.cut()
    await until(() => expect(server.asked).toHaveLength(2))
    expect(getToken).toHaveBeenCalledOnce()
    expect(shown('me')).toBe('{"name":"Ada"}')
  })
})

describe('what goes wrong', () => {
  test('is thrown where there is nothing to show, and the boundary can begin anew', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined)
    const server = await serve()
    server.faults.push({ status: 404, code: 'not-found' })
    render(<Page server={server} clerk={new Clerk()} limits={{ backoffMs: 60_000, backoffMaxMs: 60_000 }}><Boundary><Me /></Boundary></Page>)
    await until(() => expect(screen.getByRole('button').textContent).toBe('thrown: not-found'))
    server.set(ME, { name: 'Ada' })
    fireEvent.click(screen.getByRole('button'))
    await until(() => expect(shown('me')).toBe('{"name":"Ada"}'))
    vi.restoreAllMocks()
  })

  test('a wait that is over is thrown as well', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined)
    const server = await serve()
    server.faults.push({ stalls: true })
    render(<Page server={server} clerk={new Clerk()} limits={{ loadingMs: 100 }}><Boundary><Me /></Boundary></Page>)
    await until(() => expect(screen.getByRole('button').textContent).toBe('thrown: timeout'))
    vi.restoreAllMocks()
  })

  test('is returned by useQueryResult, beside the value that may be old', async () => {
    const server = await serve()
    server.set(ME, { name: 'Ada' })
    function Result() {
      const { value, error, isLoading, absence } = useQueryResult(ME)
      return <p data-testid="result">{JSON.stringify([value ?? null, error?.code ?? null, isLoading, absence ?? null])}</p>
    }
    render(<Page server={server} clerk={new Clerk()}><Result /></Page>)
    expect(shown('result')).toBe('[null,null,true,null]')
    await until(() => expect(shown('result')).toBe('[{"name":"Ada"},null,false,null]'))
    server.deny(ME, 'database-unavailable', 503)
    await until(() => expect(shown('result')).toBe('[{"name":"Ada"},"database-unavailable",false,null]'))
    server.deny(ME, 'not-permitted', 403)
    await until(() => expect(shown('result')).toBe('[null,"not-permitted",false,null]'))
    server.deny(ME, 'record-not-found')
    await until(() => expect(shown('result')).toBe('[null,null,false,"record-not-found"]'))
  })

  test('a lost connection leaves the value, and says so', async () => {
    const server = await serve()
    server.set(ME, { name: 'Ada' })
    const states: string[] = []
    function State() {
      const { state, sequence, lag } = useConnection()
      states.push(state)
      return <p data-testid="state">{`${state} ${sequence} ${lag}`}</p>
    }
    render(<Page server={server} clerk={new Clerk()}><Me /><State /></Page>)
    expect(shown('state')).toMatch(/^(idle|connecting) undefined null$/)
    await until(() => expect(shown('state')).toBe('live 101 null'))
    await act(() => server.stop())
    await until(() => expect(shown('state')).toBe('offline 101 null'))
    expect(shown('me')).toBe('{"name":"Ada"}')
    server.set(ME, { name: 'Grace' })
    await act(() => server.listen())
    await until(() => expect([shown('me'), shown('state')]).toEqual(['{"name":"Grace"}', 'live 102 null']))
  })

  test('hooks without a provider, and a provider without an address, say what is missing', () => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined)
    expect(() => render(<Me />)).toThrow('<FaircopyProvider>')
    const incomplete = { useAuth: () => SIGNED_OUT } as never as { url: string; useAuth: () => typeof SIGNED_OUT }
    expect(() => render(<FaircopyProvider {...incomplete} />)).toThrow('`url` or a `client`')
    vi.restoreAllMocks()
  })
})

test('a client of one’s own, and asking once', async () => {
  const server = await serve()
  server.set(ME, { name: 'Ada' })
  const client = createClient({ url: server.url })
  const clerk = new Clerk()
  let given: unknown
  function Given() {
    given = useFaircopy()
    return null
  }
  const page = render(<FaircopyProvider client={client} useAuth={clerk.useAuth}><Me /><Given /></FaircopyProvider>)
  await until(() => expect(shown('me')).toBe('{"name":"Ada"}'))
  expect(given).toBe(client)
  expect((await client.get(ME)).value).toEqual({ name: 'Ada' })
  page.unmount()
  client.close()
  await until(() => expect(server.streams.size).toBe(0))
})

test('another address is another service', async () => {
  const [one, other] = [await serve(), await serve()]
  one.set(ME, 'one')
  other.set(ME, 'other')
  const clerk = new Clerk()
  const page = render(<Page server={one} clerk={clerk}><Me /></Page>)
  await until(() => expect(shown('me')).toBe('"one"'))
  page.rerender(<Page server={other} clerk={clerk}><Me /></Page>)
  expect(shown('me')).toBe('loading')
  await until(() => expect(shown('me')).toBe('"other"'))
  await until(() => expect(one.streams.size).toBe(0))
})

test('a page that a server has rendered is taken over without a word', async () => {
  const complaints = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  const server = await serve()
  server.set(ME, { name: 'Ada' })
  const clerk = new Clerk(UNKNOWN)
  const root = document.body.appendChild(document.createElement('div'))
  root.innerHTML = SERVED
  const page = await act(async () => hydrateRoot(root, <Served server={server} clerk={clerk} />))
  clerk.auth = signedIn()
  await act(async () => page.render(<Served server={server} clerk={clerk} />))
  await until(() => expect(root.innerHTML).toBe('<p>{"name":"Ada"}</p><p>live</p>'))
  await act(async () => page.unmount())
  root.remove()
  expect(complaints.mock.calls).toEqual([])
  vi.restoreAllMocks()
})

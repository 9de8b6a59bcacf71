'use client'

import {
  type Connection, type FaircopyClient, IDLE, LOADING, type ListOptions, type Membership, type Organization, type Page, type Path, type Person, SIGNED_OUT, SKIPPED,
  type Snapshot, type User, type Value, type Workspace, membersPath, membershipsPath, userPath,
} from '@faircopy/client'
import { useCallback, useSyncExternalStore } from 'react'
import { type StoredUser, useFaircopyContext } from './provider.js'

const nothing = () => undefined
const loading = (): Snapshot<never> => LOADING
const idle = () => IDLE
const skipped = (): Snapshot<never> => SKIPPED

/**
 * A live query with everything that is known of it: `{ value, absence, error, sequence, isLoading }`. It never throws. With `"skip"` nothing is
 * asked.
 */
export function useQueryResult<P extends Path>(path: P | 'skip'): Snapshot<Value<P>> {
  const { client, sessionKey } = useFaircopyContext()
  const subscribe = useCallback((listener: () => void) => (path === 'skip' ? nothing : client.subscribe(path, listener)), [client, path])
  const look = useCallback((): Snapshot<Value<P>> => {
    if (path === 'skip') return SKIPPED
    // What the client knows may be of whoever was signed in before this rendering, and is not shown to whom it is not.
    if (client.sessionKey() === sessionKey) return client.snapshot(path)
    return sessionKey === null ? SIGNED_OUT : LOADING
  }, [client, path, sessionKey])
  return useSyncExternalStore(subscribe, look, path === 'skip' ? skipped : loading)
}

/**
 * A live query: `undefined` while it is loading, `null` where there is nothing (no such record, no active organization, nobody signed in), and
 * else the value, anew whenever it changes.
 *
 * @throws FaircopyError to the nearest error boundary when there is no value to show and none is to be expected: the query is refused, or
 * nothing came within its time (`timeout`). Once there is a value, a lost connection does not throw: {@link useConnection} tells of it.
 */
export function useQuery<P extends Path>(path: P | 'skip'): Value<P> | null | undefined {
  const { value, error } = useQueryResult(path)
  if (value === undefined && error !== undefined) throw error
  return value
}

/** The caller's own record. */
export const useCurrentUser = (skip?: 'skip'): User | null | undefined => useQuery(skip ?? '/v1/me')

/** The active organization. */
export const useOrganization = (skip?: 'skip'): Organization | null | undefined => useQuery(skip ?? '/v1/organization')

/** A page of the active organization's members, with names. */
export const useMembers = (options: ListOptions | 'skip' = {}): Page<Membership> | null | undefined => useQuery(options === 'skip' ? options : membersPath(options))

/** A page of the caller's own memberships, with the organizations' names. */
export const useMemberships = (options: ListOptions | 'skip' = {}): Page<Membership> | null | undefined =>
  useQuery(options === 'skip' ? options : membershipsPath(options))

/** The active organization's workspace, with its channels and rooms. */
export const useWorkspace = (skip?: 'skip'): Workspace | null | undefined => useQuery(skip ?? '/v1/workspace')

/** A user that the caller is or shares an organization with. */
export const useUser = (clerkUserId: string): Person | null | undefined => useQuery(clerkUserId === 'skip' ? clerkUserId : userPath(clerkUserId))

/** Whether the caller is in the copy. They are stored once per session and active organization, however often this is called. */
export const useStoreUser = (): StoredUser => useFaircopyContext().user

/** Whether what is shown is what the copy has, and how fresh the copy is. */
export function useConnection(): Connection {
  const { client } = useFaircopyContext()
  const subscribe = useCallback((listener: () => void) => client.subscribeConnection(listener), [client])
  const look = useCallback(() => client.connection(), [client])
  return useSyncExternalStore(subscribe, look, idle)
}

/** The client itself, to ask once. */
export const useFaircopy = (): FaircopyClient => useFaircopyContext().client

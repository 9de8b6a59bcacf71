'use client'

export type {
  Channel, Connection, FaircopyClient, FaircopyCode, Identity, Limits, ListOptions, Membership, Organization, Page, Path, Person, Problem, Room, Snapshot, Stored, User,
  Value, Workspace,
} from '@faircopy/client'
export { FaircopyError, createClient, membersPath, membershipsPath, userPath } from '@faircopy/client'
export { AuthLoading, Authenticated, Unauthenticated } from './gates.js'
export {
  useConnection, useCurrentUser, useFaircopy, useMembers, useMemberships, useOrganization, useQuery, useQueryResult, useStoreUser, useUser, useWorkspace,
} from './hooks.js'
export type { Auth, FaircopyProviderProps, StoredUser } from './provider.js'
export { FaircopyProvider } from './provider.js'

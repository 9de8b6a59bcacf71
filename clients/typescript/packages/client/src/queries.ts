import type { components, paths } from './api.js'

type Schemas = components['schemas']
/** The caller's own record. */
export type User = Schemas['UserRecord']
/** A user as those see them who share an organization with them. */
export type Person = Schemas['Person']
export type Organization = Schemas['OrganizationRecord']
/** A membership: of an organization's list of members, or of a user's list of organizations. */
export type Membership = Schemas['Page_Membership']['data'][number]
export type Workspace = Schemas['Workspace']
export type Channel = Schemas['Channel']
export type Room = Schemas['Room']
/** Who is signed in, as the copy knows them. */
export type Identity = Schemas['Identity']
/** What storing the caller has brought into the copy. */
export type Stored = Schemas['Stored']

/** A page of a list; `next` is the `after` of the page that follows, or null. */
export type Page<T> = Omit<Schemas['Page_Membership'], 'data'> & { data: T[] }

type Body<Route> = Route extends { get: { responses: { 200: { content: { 'application/json': infer Found } } } } } ? Found : never

/** The routes of the API that can be read and listened to, and what each shows. */
export type Routes = {
  [Route in keyof paths as Body<paths[Route]> extends never ? never : Route]: Body<paths[Route]>
}

type Filled<Route extends string> = Route extends `${infer Before}{${string}}${infer After}` ? `${Before}${string}${After}` : Route

/** A path of the API, with its parameters filled in and perhaps a query: `/v1/users/user_29w8…`, `/v1/organization/members?limit=10`. */
export type Path = Filled<keyof Routes & string> | `${Filled<keyof Routes & string>}?${string}`

type Bare<P extends string> = P extends `${infer Before}?${string}` ? Before : P

/** What a path shows. */
export type Value<P extends Path> = {
  [Route in keyof Routes]: Bare<P> extends Filled<Route & string> ? Routes[Route] : never
}[keyof Routes]

/** Which part of a list. */
export interface ListOptions {
  /** How many at most: 1 to 100, 50 unless set. */
  readonly limit?: number | undefined
  /** The `next` of the page before. */
  readonly after?: string | null | undefined
}

function list<P extends string>(path: P, { limit, after }: ListOptions): P | `${P}?${string}` {
  const query = new URLSearchParams()
  if (limit !== undefined) query.set('limit', String(limit))
  if (after !== undefined && after !== null) query.set('after', after)
  const written = query.toString()
  return written === '' ? path : `${path}?${written}`
}

/** The path of the active organization's members. */
export const membersPath = (options: ListOptions = {}) => list('/v1/organization/members', options)
/** The path of the caller's own memberships. */
export const membershipsPath = (options: ListOptions = {}) => list('/v1/me/organizations', options)
/** The path of a user. */
export const userPath = (clerkUserId: string): `/v1/users/${string}` => `/v1/users/${encodeURIComponent(clerkUserId)}`

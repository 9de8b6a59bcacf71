import { expectTypeOf, test } from 'vitest'
import { useAuth } from './clerk.js'
import {
  type Auth, FaircopyProvider, type FaircopyProviderProps, type Membership, type Page, type Person, type User, createClient, useCurrentUser, useMembers, useQuery, useQueryResult, useUser,
} from '../src/index.js'

test('what hooks give', () => {
  expectTypeOf(useCurrentUser).returns.toEqualTypeOf<User | null | undefined>()
  expectTypeOf(useMembers).returns.toEqualTypeOf<Page<Membership> | null | undefined>()
  expectTypeOf(useUser).returns.toEqualTypeOf<Person | null | undefined>()
  const use = (isThere: boolean) => {
    expectTypeOf(useQuery(isThere ? '/v1/me' : 'skip')).toEqualTypeOf<User | null | undefined>()
    expectTypeOf(useQueryResult('/v1/users/user_1').value).toEqualTypeOf<Person | null | undefined>()
    // @ts-expect-error: no such route
    useQuery('/v1/nothing')
  }
  expectTypeOf(use).toBeFunction()
})

test('the provider takes Clerk’s own hook, and either an address or a client', () => {
  expectTypeOf<ReturnType<typeof useAuth>>().toExtend<Auth>()
  expectTypeOf({ url: '', useAuth }).toExtend<FaircopyProviderProps>()
  expectTypeOf({ client: createClient({ url: '' }), useAuth }).toExtend<FaircopyProviderProps>()
  expectTypeOf({ useAuth }).not.toExtend<FaircopyProviderProps>()
  expectTypeOf({ client: createClient({ url: '' }), url: '', useAuth }).not.toExtend<FaircopyProviderProps>()
  expectTypeOf(FaircopyProvider).toBeFunction()
})

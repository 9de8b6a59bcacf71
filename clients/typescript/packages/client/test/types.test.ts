import { expectTypeOf, test } from 'vitest'
import {
  type Answer, type FaircopyClient, type FaircopyCode, FaircopyError, type Membership, type Organization, type Page, type Path, type Person, type Problem, type Routes, type Snapshot,
  type User, type Value, type Workspace, membersPath, membershipsPath, userPath,
} from '../src/index.js'

// What is said of types here is checked by the compiler (`npm run types`); running it checks nothing.

test('each path has the type of what it shows', () => {
  expectTypeOf<Value<'/v1/me'>>().toEqualTypeOf<User>()
  expectTypeOf<Value<'/v1/organization'>>().toEqualTypeOf<Organization>()
  expectTypeOf<Value<'/v1/workspace'>>().toEqualTypeOf<Workspace>()
  expectTypeOf<Value<'/v1/organization/members'>>().toExtend<Page<Membership>>()
  expectTypeOf<Value<'/v1/organization/members?limit=3'>>().toExtend<Page<Membership>>()
  expectTypeOf<Value<'/v1/me/organizations?after=x'>>().toExtend<Page<Membership>>()
  expectTypeOf<Value<'/v1/users/user_1'>>().toEqualTypeOf<Person>()
  expectTypeOf<Value<ReturnType<typeof userPath>>>().toEqualTypeOf<Person>()
  expectTypeOf<Value<ReturnType<typeof membersPath>>>().toExtend<Page<Membership>>()
  expectTypeOf<Value<ReturnType<typeof membershipsPath>>>().toExtend<Page<Membership>>()
})

test('what can be listened to is what can be read', () => {
  expectTypeOf<keyof Routes>().toEqualTypeOf<
    '/v1/me' | '/v1/me/organizations' | '/v1/organization' | '/v1/organization/members' | '/v1/users/{clerk_user_id}' | '/v1/workspace'
  >()
  expectTypeOf<'/v1/auth'>().not.toExtend<Path>()
  expectTypeOf<'/v1/session'>().not.toExtend<Path>()
  expectTypeOf<'/v1/mine'>().not.toExtend<Path>()
  expectTypeOf<'https://elsewhere.example/v1/me'>().not.toExtend<Path>()
})

test('answers and snapshots', () => {
  const use = (client: FaircopyClient) => {
    expectTypeOf(client.get('/v1/me')).resolves.toEqualTypeOf<Answer<User>>()
    expectTypeOf(client.snapshot('/v1/workspace')).toEqualTypeOf<Snapshot<Workspace>>()
    expectTypeOf(client.snapshot('/v1/me').value).toEqualTypeOf<User | null | undefined>()
    // @ts-expect-error: no such route
    void client.get('/v1/nothing')
    // @ts-expect-error: exactly optional
    void client.get('/v1/me', { maxStaleness: undefined })
  }
  expectTypeOf(use).toBeFunction()
})

test('codes are known by name, and may be others', () => {
  const error = new FaircopyError('timeout', '')
  expectTypeOf(error.code).toEqualTypeOf<FaircopyCode>()
  expectTypeOf<'token-expired' | 'timeout' | 'of a later version'>().toExtend<FaircopyCode>()
  expectTypeOf(error.problem).toEqualTypeOf<Problem | undefined>()
})

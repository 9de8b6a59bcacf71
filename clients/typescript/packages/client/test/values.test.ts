import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Entry, LOADING, SIGNED_OUT } from '../src/entry.js'
import { share } from '../src/equal.js'
import { FaircopyError, fromProblem } from '../src/error.js'
import { retryAfterMs } from '../src/http.js'
import { LIMITS, backoff } from '../src/limits.js'
import { claimsOf, remainingMs } from '../src/token.js'
import { problem, token } from './server.js'

test('what is shared equals what came, and is the older object where nothing differs', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (older, newer) => {
      // As they come: parsed, each its own objects.
      const [a, b] = [JSON.parse(JSON.stringify(older)), JSON.parse(JSON.stringify(newer))] as [unknown, unknown]
      const shared = share(a, b)
      expect(JSON.stringify(shared)).toBe(JSON.stringify(b))
      expect(share(a, structuredClone(a))).toBe(a)
      expect(share(shared, structuredClone(b))).toBe(shared)
    }),
    { numRuns: 500 },
  )
})

test('parts that did not change stay the same objects', () => {
  const before = { data: [{ id: 1, name: 'Ada' }, { id: 2, name: 'Grace' }], next: null }
  const after = share(before, { data: [{ id: 1, name: 'Ada' }, { id: 2, name: 'Hopper' }], next: null })
  expect(after).not.toBe(before)
  expect(after.data[0]).toBe(before.data[0])
  expect(after.data[1]).toEqual({ id: 2, name: 'Hopper' })
  const odd = share({}, JSON.parse('{"__proto__": {"a": 1}}') as object)
  expect(Object.getPrototypeOf(odd)).toBe(Object.prototype)
  expect(Object.keys(odd)).toEqual(['__proto__'])
})

type Step = { kind: 'value'; by: number; value: number } | { kind: 'absent' } | { kind: 'busy' } | { kind: 'forget' }

test('an entry announces exactly what differs', () => {
  const step = fc.oneof<fc.Arbitrary<Step>[]>(
    fc.record({ kind: fc.constant('value'), by: fc.nat(2), value: fc.nat(2) }),
    fc.constant({ kind: 'absent' }), fc.constant({ kind: 'busy' }), fc.constant({ kind: 'forget' }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const entry = new Entry('/v1/me')
      let [sequence, heard] = [10, 0]
      entry.listeners.add({ listener: () => (heard += 1) })
      for (const one of steps) {
        const before = entry.snapshot
        const heardBefore = heard
        if (one.kind === 'value') entry.value((sequence += one.by), { number: one.value })
        else if (one.kind === 'absent') entry.problem(fromProblem(problem('record-not-found', 404)))
        else if (one.kind === 'busy') entry.problem(fromProblem(problem('database-unavailable', 503)))
        else entry.forget(LOADING)
        const after = entry.snapshot
        const look = ({ value, absence, error, isLoading }: typeof after) => JSON.stringify([value, absence, error?.code, isLoading])
        // An error is a new one each time.
        expect(heard - heardBefore).toBe(look(before) !== look(after) || one.kind === 'busy' ? 1 : 0)
        if (one.kind === 'value') expect(after).toMatchObject({ value: { number: one.value }, error: undefined, isLoading: false, sequence })
        if (one.kind === 'absent') expect(after).toMatchObject({ value: null, absence: 'record-not-found', error: undefined })
        if (one.kind === 'busy') expect(after).toMatchObject({ value: before.value, error: { code: 'database-unavailable', retryable: true } })
        if (one.kind === 'forget') expect([after, entry.floor, entry.since]).toEqual([LOADING, undefined, undefined])
      }
    }),
    { numRuns: 500 },
  )
})

test('a refusal for good takes the value away', () => {
  const entry = new Entry('/v1/me')
  entry.value(1, { a: 1 })
  entry.problem(fromProblem(problem('not-permitted', 403)))
  expect(entry.snapshot).toMatchObject({ value: undefined, isLoading: false, error: { code: 'not-permitted', status: 403, retryable: false } })
  entry.forget(SIGNED_OUT)
  expect(entry.snapshot.value).toBeNull()
})

test('claims of both versions, and of what is no token', () => {
  const both = [{ sub: 'user_ä', org_id: 'org_1', exp: 100, iat: 40 }, { sub: 'user_ä', v: 2, o: { id: 'org_1', rol: 'admin' }, exp: 100, iat: 40 }]
  for (const claims of both) {
    expect(claimsOf(token(claims))).toEqual({ subject: 'user_ä', organization: 'org_1', expiresAt: 100_000, issuedAt: 40_000 })
  }
  const none = { subject: undefined, organization: undefined, expiresAt: undefined, issuedAt: undefined }
  for (const text of ['', 'a.b.c', 'a', `a.${Buffer.from('null').toString('base64url')}.c`, `a.${Buffer.from('{"sub": 7, "exp": "x"}').toString('base64url')}.c`]) {
    expect(claimsOf(text)).toEqual(none)
  }
})

test.each([
  ['by this clock', 100_000, 40_000, 50_000, 50_000],
  ['a clock that is behind makes it no longer', 100_000, 40_000, 0, 60_000],
  ['a clock that is ahead does not end it', 100_000, 40_000, 500_000, 30_000],
  ['without its beginning', 100_000, undefined, 99_000, 1_000],
  ['without its end', undefined, undefined, 99_000, 60_000],
])('how long a token is good: %s', (_, expiresAt, issuedAt, now, left) => {
  expect(remainingMs({ subject: undefined, organization: undefined, expiresAt, issuedAt }, now)).toBe(left)
})

test('waits grow, are spread out, and have a bound', () => {
  expect([1, 2, 3, 7, 1000].map((failures) => backoff(failures, LIMITS, () => 1))).toEqual([500, 1000, 2000, 30_000, 30_000])
  expect(backoff(3, LIMITS, () => 0)).toBe(0)
})

test('Retry-After is a number or a date', () => {
  const said = (value: string) => retryAfterMs(new Headers({ 'retry-after': value }), Date.parse('2026-01-01T00:00:00Z'))
  expect(['3', 'Thu, 01 Jan 2026 00:00:05 GMT', 'Wed, 31 Dec 2025 00:00:00 GMT', 'soon', ''].map(said)).toEqual([3000, 5000, 0, undefined, undefined])
})

test('an error tells what to do', () => {
  const busy = fromProblem(problem('overloaded', 503), 503, 2000)
  expect(busy).toBeInstanceOf(FaircopyError)
  expect(busy).toMatchObject({ name: 'FaircopyError', code: 'overloaded', status: 503, retryable: true, retryAfterMs: 2000, message: 'It is overloaded.' })
  expect(fromProblem('<html>', 502)).toMatchObject({ code: 'answer-unreadable', status: 502, retryable: true })
  expect(fromProblem(undefined, 418)).toMatchObject({ code: 'answer-unreadable', retryable: false })
  expect(fromProblem(problem('sessions-not-configured', 503))).toMatchObject({ retryable: false })
})

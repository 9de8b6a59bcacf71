import fc from 'fast-check'
import { expect, test } from 'vitest'
import { EventParser, MAX_EVENT_LENGTH, type StreamEvent } from '../src/sse.js'

const encoder = new TextEncoder()

function parse(pieces: Iterable<Uint8Array>): StreamEvent[] {
  const events: StreamEvent[] = []
  const parser = new EventParser((event) => events.push(event))
  for (const piece of pieces) parser.push(piece)
  return events
}

const parsed = (text: string) => parse([encoder.encode(text)])
const message = (data: string, event = 'message', id = '') => ({ event, data, id })

test.each<[string, string, StreamEvent[]]>([
  ['one line', 'data: a\n\n', [message('a')]],
  ['several lines', 'data: a\ndata: b\ndata\n\n', [message('a\nb\n')]],
  ['names and ids', 'event: beat\nid: 7\ndata: x\n\ndata: y\n\n', [message('x', 'beat', '7'), message('y', 'message', '7')]],
  ['an empty id takes the id away', 'id: 7\ndata: x\n\nid\ndata: y\n\n', [message('x', 'message', '7'), message('y')]],
  ['an id with a zero is none', 'id: a\0b\ndata: x\n\n', [message('x')]],
  ['one space goes, the second stays', 'data:a\n\ndata:  b\n\n', [message('a'), message(' b')]],
  ['CR', 'data: a\rdata: b\r\r', [message('a\nb')]],
  ['CR LF', 'data: a\r\n\r\n', [message('a')]],
  ['all of them', 'data: a\r\ndata: b\rdata: c\n\r\n', [message('a\nb\nc')]],
  ['comments', ': hello\n:\ndata: a\n: between\n\n', [message('a')]],
  ['without data there is no event, and its name is forgotten', 'event: beat\n\ndata: a\n\n', [message('a')]],
  ['unknown fields', 'what: ever\nretry: 5\ndata: a\n\n', [message('a')]],
  ['a colon within', 'data: {"a": 1}\n\n', [message('{"a": 1}')]],
  ['a byte order mark at the beginning only', '\uFEFFdata: a\n\n\uFEFFdata: b\n\ndata: c\n\n', [message('a'), message('c')]],
  ['what is not complete is no event', 'data: a\n\ndata: b\n', [message('a')]],
  ['empty data', 'data\n\n', [message('')]],
])('%s', (_, text, events) => {
  expect(parsed(text)).toEqual(events)
})

const end = fc.constantFrom('\n', '\r', '\r\n')
const word = fc.string({ unit: 'binary', maxLength: 12 }).map((text) => text.replace(/[\r\n\0\uFEFF]/g, '–'))
const line = fc.oneof(
  word.map((text) => `data: ${text}`), word.map((text) => `data:${text}`), word.map((text) => `event: ${text}`), word.map((text) => `id: ${text}`),
  word.map((text) => `:${text}`), word, fc.constant(''), fc.constant(''), fc.constant('data'),
)
const stream = fc
  .tuple(fc.boolean(), fc.array(fc.tuple(line, end), { maxLength: 40 }))
  .map(([isMarked, lines]) => (isMarked ? '\uFEFF' : '') + lines.map(([text, newline]) => text + newline).join(''))

/** The form's own words, of the whole text at once. */
function model(text: string): StreamEvent[] {
  const events: StreamEvent[] = []
  let [event, data, id] = ['', [] as string[], '']
  // The last piece has no end.
  for (const one of text.replace(/^\uFEFF/, '').split(/\r\n|\r|\n/).slice(0, -1)) {
    if (one === '') {
      if (data.length > 0) events.push({ event: event || 'message', data: data.join('\n'), id })
      ;[event, data] = ['', []]
    } else {
      const [, field = '', value = ''] = /^([^:]*)(?::[ ]?([^]*))?$/.exec(one) ?? []
      if (field === 'data') data.push(value)
      if (field === 'event') event = value
      if (field === 'id' && !value.includes('\0')) id = value
    }
  }
  return events
}

test('wherever the bytes are cut, the events are the same', () => {
  fc.assert(
    fc.property(stream, fc.array(fc.nat(), { maxLength: 30 }), (text, cuts) => {
      const bytes = encoder.encode(text)
      const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
      const pieces = at.slice(1).map((to, index) => bytes.subarray(at[index], to))
      expect(parse(pieces)).toEqual(model(text))
    }),
    { numRuns: 1_000 },
  )
})

test('byte by byte, in every character of four bytes and every CR LF', () => {
  const text = '\uFEFFevent: beat\r\ndata: 𝄞ä€\r\ndata: 👩‍🚀\r\n\r\n: c\r\rdata: z\n\n'
  expect(parse([...encoder.encode(text)].map((byte) => Uint8Array.of(byte)))).toEqual(model(text))
})

test('an event that never ends is refused, comments without end are not', () => {
  const parser = new EventParser(() => undefined)
  const piece = encoder.encode(`data: ${'x'.repeat(1024 * 1024)}\n`)
  expect(() => {
    for (let pieces = 0; pieces <= MAX_EVENT_LENGTH / (1024 * 1024); pieces += 1) parser.push(piece)
  }).toThrow(RangeError)
  const patient = new EventParser(() => undefined)
  const comment = encoder.encode(`:${'x'.repeat(1024 * 1024)}\n`)
  for (let pieces = 0; pieces <= 2 * (MAX_EVENT_LENGTH / (1024 * 1024)); pieces += 1) patient.push(comment)
})

// What arrived, and what became of it: the list, live; and one delivery with its payload, the change it made, and replay.

import { get, part, post } from './api.js'
import { announce, el } from './dom.js'
import { ago, id, json, number, plain, span, time } from './format.js'
import { decision } from './people.js'
import { action, empty, facts, link, namedLink, outcome, pager, place, section, table } from './parts.js'

const PAGE = 50
const OUTCOMES = ['applied', 'stale', 'ignored', 'quarantined']

const lag = (delivery) => (delivery.event_at ? span(Math.max(0, Date.parse(delivery.received_at) - Date.parse(delivery.event_at))) : '–')

/** Where the subject of a delivery is shown. */
export function subjectLink(text, name) {
  if (!text) return id(text)
  const list = text.startsWith('user_') ? 'users' : text.startsWith('org_') ? 'organizations' : null
  return list ? namedLink(name, `/dashboard/${list}/${part(text)}`, id(text)) : id(text)
}

export function deliveryTable(caption, deliveries) {
  return table(caption, [
    { name: 'Arrived', cell: (one) => time(one.received_at) },
    { name: 'Event', isHead: true, cell: (one) => namedLink(`delivery-${one.svix_id}`, `/dashboard/deliveries/${part(one.svix_id)}`, plain(one.event_type || '(none)')) },
    { name: 'Subject', cell: (one) => subjectLink(one.entity_id, `subject-${one.svix_id}`) },
    { name: 'Outcome', cell: (one) => outcome(one.outcome) },
    { name: 'Lag', class: 'right', cell: lag },
    { name: 'Attempts', class: 'right', cell: (one) => number(one.attempts) },
  ], deliveries)
}

/** A list with what has just come in front, each once. */
export function merged(known, came) {
  const all = new Map(known.map((one) => [one.svix_id, one]))
  for (const one of came) all.set(one.svix_id, { ...one, rowClass: all.has(one.svix_id) ? null : 'fresh' })
  return [...all.values()].sort((a, b) => (a.received_at < b.received_at || (a.received_at === b.received_at && a.svix_id < b.svix_id) ? 1 : -1))
}

const field = (name, label, input) => el('div', { class: 'field' }, el('label', { for: name }, label), input)

const local = (value) => {
  const at = new Date(value ?? '')
  return Number.isNaN(at.getTime()) ? '' : new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
}
const utc = (value) => (value ? new Date(value).toISOString() : null)

export const deliveries = {
  title: 'Deliveries',
  show(context) {
    const filter = () => Object.fromEntries(['outcome', 'type', 'entity', 'since', 'until'].map((name) => [name, context.query.get(name)]))
    const after = context.query.get('after')
    const wanted = filter()
    const choose = (name) => (event) => context.go({ [name]: event.target.value.trim() || null, after: null })
    const form = el(
      'form',
      { class: 'filters', role: 'search', 'aria-label': 'Filter deliveries', on: { submit: (event) => {
        event.preventDefault()
        const data = new FormData(event.target)
        context.go({ outcome: data.get('outcome') || null, type: data.get('type').trim() || null, entity: data.get('entity').trim() || null,
          since: utc(data.get('since')), until: utc(data.get('until')), after: null })
      } } },
      field('outcome', 'Outcome', el('select', { id: 'outcome', name: 'outcome', on: { change: choose('outcome') } },
        el('option', { value: '' }, 'Any'), OUTCOMES.map((name) => el('option', { value: name, selected: wanted.outcome === name }, name)))),
      field('type', 'Event type', el('input', { id: 'type', name: 'type', type: 'text', value: wanted.type ?? '', placeholder: 'user.created', spellcheck: 'false', autocomplete: 'off' })),
      field('entity', 'Subject', el('input', { id: 'entity', name: 'entity', type: 'text', value: wanted.entity ?? '', placeholder: 'user_…', spellcheck: 'false', autocomplete: 'off' })),
      field('since', 'From', el('input', { id: 'since', name: 'since', type: 'datetime-local', value: local(wanted.since) })),
      field('until', 'Until', el('input', { id: 'until', name: 'until', type: 'datetime-local', value: local(wanted.until) })),
      el('div', { class: 'field field-buttons' }, el('button', { type: 'submit', class: 'primary' }, 'Filter'),
        Object.values(wanted).some(Boolean) && link('/dashboard/deliveries', 'Clear')),
    )
    let shown = []
    let next = null
    const list = place(context, (signal) => get('/deliveries', { ...wanted, limit: PAGE, after }, signal), (found) => {
      shown = found.data
      next = found.next
      return draw()
    })
    const draw = () => [
      shown.length ? deliveryTable('Deliveries, newest first', shown)
        : empty('No delivery fits', el('p', {}, Object.values(wanted).some(Boolean) ? 'Loosen the filter.' : 'They appear here as they arrive.')),
      pager({ hasBefore: Boolean(after), next, before: () => context.go({ after: null }), after: () => context.go({ after: next }) }),
    ]
    const fits = (one) => (!wanted.outcome || one.outcome === wanted.outcome) && (!wanted.type || one.event_type === wanted.type)
      && (!wanted.entity || one.entity_id === wanted.entity) && (!wanted.since || one.received_at >= wanted.since) && (!wanted.until || one.received_at < wanted.until)
    if (!after) {
      context.live('deliveries', ({ data }) => {
        if (!list.known) return
        // One that does not fit any more goes.
        const gone = new Set(data.filter((one) => !fits(one)).map((one) => one.svix_id))
        const came = data.filter(fits)
        const fresh = came.filter((one) => !shown.some((known) => known.svix_id === one.svix_id)).length
        list.known.data = merged(shown.filter((one) => !gone.has(one.svix_id)), came).slice(0, PAGE)
        context.redraw()
        if (fresh) announce(`${fresh} new ${fresh === 1 ? 'delivery' : 'deliveries'}`)
      })
      context.on('reset', () => list.load())
    }
    context.on('resumed', () => list.load())
    return [form, el('div', { class: 'card card-table' }, list.node)]
  },
}

/** One delivery: what came, when, what became of it and of its subject. */
export const delivery = {
  title: 'Delivery',
  back: ['/dashboard/deliveries', 'Deliveries'],
  show(context, [svixId]) {
    const replay = action('Replay', 'again', async () => {
      const done = await post(`/deliveries/${part(svixId)}/replay`)
      await Promise.all([one.load(), changes.load()])
      return `Replayed: ${done.outcome}.`
    }, { class: 'primary', id: 'replay-button' })
    const one = place(context, (signal) => get(`/deliveries/${part(svixId)}`, {}, signal), (found) => {
      context.name(found.event_type || 'Delivery', 'Delivery')
      return [
        el('div', { class: 'columns' },
          section('What came', { id: 'came' }, facts(
            ['Outcome', outcome(found.outcome)],
            found.error && ['Why', plain(found.error)],
            ['Message', id(found.svix_id, { whole: true })],
            ['Event', plain(found.event_type || '–')],
            ['Subject', subjectLink(found.entity_id)],
            ['Instance', id(found.instance_id)],
          )),
          section('When', { id: 'when' }, facts(
            ['Happened', time(found.event_at)],
            ['Signed', time(found.signed_at)],
            ['Arrived', [time(found.received_at), ' · ', ago(found.received_at)]],
            ['Lag', lag(found)],
            ['Attempts', number(found.attempts)],
            found.conflicts > 0 && ['With another body', number(found.conflicts)],
          ))),
        section('Replay', { id: 'replay' },
          el('p', {}, found.payload ? 'Applies what is stored again. It is safe at any time: what is older than the copy changes nothing.'
            : 'Nothing of this delivery’s body was kept. Resend it from Clerk’s dashboard.'),
          found.payload && replay),
        section('Payload', { id: 'payload' }, found.payload ? json(found.payload) : empty('Not kept', el('p', {}, 'Erased, or never stored.'))),
      ]
    })
    const changes = place(context, async (signal) => {
      const found = one.known ?? await get(`/deliveries/${part(svixId)}`, {}, signal)
      return found.entity_id ? get(`/explain/${part(found.entity_id)}`, {}, signal).catch((problem) => (problem.isMissing || problem.status === 404 ? null : Promise.reject(problem))) : null
    }, (found) => {
      const step = found?.steps?.find((step) => step.svix_id === svixId)
      if (!step) return el('p', { class: 'hint' }, 'The subject’s history does not name this delivery.')
      return facts(['Decision', decision(step.outcome)], ['Reason', plain(step.reason ?? step.code ?? '–')], ['Version', time(step.updated_at)],
        ['History', subjectLink(found.subject)])
    })
    context.on('resumed', () => one.load())
    return [one.node, section('The change it made', { id: 'change' }, changes.node)]
  },
}

// The places that the copy goes on to: where each stands, what it did not take, and the few things that can be said of it.

import { get, part, post } from './api.js'
import { el } from './dom.js'
import { id, number, plain, plural, span, time } from './format.js'
import { action, ask, empty, facts, link, place, section, status, table } from './parts.js'

const STATES = {
  running: ['ok', 'running'],
  resending: ['info', 'sending everything'],
  failing: ['failed', 'takes nothing'],
  paused: ['warning', 'paused'],
  'not-started': ['waiting', 'not started'],
  'not-set': ['quiet', 'not in the settings'],
}

const state = (one) => status(...(STATES[one.state] ?? ['info', one.state]))

const behind = (one) => {
  if (one.resending_since) return 'everything is on its way'
  return one.behind ? `${number(one.behind)} ${plural(one.behind, 'change')}, for ${span(one.behind_seconds * 1000)}` : 'nothing'
}

const parked = (one) => (one.parked ? status('warning', `${number(one.parked)} parked`) : one.waiting ? status('waiting', `${number(one.waiting)} waiting`) : 'none')

export const destinations = {
  title: 'Destinations',
  show(context) {
    const list = place(context, (signal) => get('/destinations', {}, signal), (found) => (found.data.length ? table('Destinations', [
      { name: 'Destination', isHead: true, cell: (one) => link(`/dashboard/destinations/${part(one.name)}`, plain(one.name)) },
      { name: 'Kind', cell: (one) => plain(one.kind) },
      { name: 'Address', cell: (one) => (one.url ? el('code', {}, plain(one.url)) : '–') },
      { name: 'State', cell: state },
      { name: 'Lacks', cell: behind },
      { name: 'Refused', cell: parked },
      { name: 'Last took', cell: (one) => time(one.last_ok_at) },
      { name: 'Trouble', cell: (one) => plain(one.last_error ?? '–') },
    ], found.data) : empty('The copy goes nowhere else', el('p', {}, 'Name a webhook, a Convex deployment or a NATS stream in the settings, and each change goes there too.'))))
    context.every(3_000, () => list.load())
    context.on('resumed', () => list.load())
    return [el('section', { class: 'card card-table', 'aria-label': 'Destinations' }, list.node)]
  },
}

export const destination = {
  title: 'Destination',
  back: ['/dashboard/destinations', 'Destinations'],
  show(context, [name]) {
    const order = async (what) => {
      await post(`/destinations/${part(name)}/${what}`)
      await one.load()
      return 'Done.'
    }
    const pause = action('Pause', 'stop', () => order('pause'), { id: 'pause-button' })
    const resume = action('Resume', 'play', () => order('resume'), { class: 'primary', id: 'resume-button' })
    const resend = action('Send everything', 'again', async () => {
      const isMeant = await ask('Send everything', 'Everything that the copy holds is sent to it again, and then what the copy does not hold is told.', 'Send everything')
      return isMeant ? order('resend') : 'Left as it is.'
    }, { id: 'resend-button' })
    const one = place(context, (signal) => get(`/destinations/${part(name)}`, {}, signal), (found) => {
      context.name(found.name, 'Destination')
      const canResume = found.state === 'paused' || found.state === 'failing' || found.parked + found.waiting > 0
      const isKnown = found.state !== 'not-started' && found.state !== 'not-set'
      return [
        section('State', { id: 'state' }, facts(
          ['State', state(found)],
          ['Kind', plain(found.kind)],
          found.url && ['Address', el('code', {}, plain(found.url))],
          found.entities.length > 0 && ['Is told of', plain(found.entities.join(', '))],
          ['Was told up to change', number(found.place)],
          ['Lacks', behind(found)],
          found.resending_since && ['Everything is being sent since', time(found.resending_since)],
          ['Last took', time(found.last_ok_at)],
          found.failing_since && ['Takes nothing since', time(found.failing_since)],
          found.last_error && ['Last trouble', plain(found.last_error)],
        ), isKnown && el('div', { class: 'buttons' }, found.state !== 'paused' && pause, canResume && resume, resend)),
        section('What it did not take', { id: 'subjects' }, found.subjects.length ? table('Subjects whose message was not taken', [
          { name: 'Subject', isHead: true, cell: (row) => id(row.subject) },
          { name: 'Change', cell: (row) => `${number(row.sequence)} (${plain(row.operation)})` },
          { name: 'State', cell: (row) => (row.state === 'parked' ? status('warning', 'parked') : status('waiting', 'waiting')) },
          { name: 'Attempts', cell: (row) => number(row.attempts) },
          { name: 'Next', cell: (row) => (row.due_at ? time(row.due_at) : 'when it is resumed') },
          { name: 'Since', cell: (row) => time(row.since) },
          { name: 'Why', cell: (row) => plain(row.error) },
        ], found.subjects) : el('p', {}, status('ok', 'It took everything that it was sent'))),
      ]
    })
    context.every(3_000, () => one.load())
    context.on('resumed', () => one.load())
    return [one.node]
  },
}

// Is the service itself well? The doctor's findings, the secrets by their last four characters, and who is told of trouble.

import { get, part, post } from './api.js'
import { el } from './dom.js'
import { ago, plain, time } from './format.js'
import { icon } from './icons.js'
import { action, empty, place, section, status, table, words } from './parts.js'

const CHECKS = { ok: ['ok', 'well'], warning: ['warning', 'warning'], failed: ['failed', 'failed'], skipped: ['quiet', 'skipped'] }
const ORDER = ['failed', 'warning', 'ok', 'skipped']

const check = (one) =>
  el(
    'li',
    { class: 'check' },
    el('div', { class: 'check-head' }, status(...(CHECKS[one.status] ?? ['info', one.status])), el('h3', {}, plain(one.title ?? one.name))),
    one.evidence && el('p', {}, plain(one.evidence)),
    one.remedy && el('p', {}, el('strong', {}, 'Remedy'), ' ', words(plain(one.remedy))),
    one.code && el('p', { class: 'hint' }, el('code', {}, plain(one.code)), ' has a section in docs/errors.md'),
  )

const ALARMS = [
  { name: 'Alarm', isHead: true, cell: (row) => plain(row.title ?? row.name) },
  { name: 'State', cell: (row) => (row.state === 'resolved' || row.resolved_at ? status('ok', 'resolved') : status(row.severity === 'critical' ? 'failed' : 'warning', row.severity ?? 'firing')) },
  { name: 'What', cell: (row) => plain(row.detail ?? '–') },
  { name: 'Since', cell: (row) => time(row.since) },
  { name: 'Over', cell: (row) => time(row.resolved_at) },
]

export const health = {
  title: 'Health',
  show(context) {
    const doctor = place(context, (signal) => get('/doctor', {}, signal), (found) => {
      const checks = [...(found.checks ?? [])].sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status))
      return [
        el('p', { class: 'doctor' }, status(...(CHECKS[found.status] ?? ['info', found.status])), el('span', { class: 'hint' }, 'checked ', ago(found.checked_at))),
        el('ul', { class: 'checks' }, checks.map(check)),
        el('h3', {}, 'Secrets'),
        found.secrets?.length ? table('Secrets by their last four characters', [
          { name: 'Name', isHead: true, cell: (one) => el('code', {}, plain(one.name)) },
          { name: 'Ends in', cell: (one) => (one.last_four ? el('code', {}, `…${plain(one.last_four)}`) : status('quiet', 'not set')) },
        ], found.secrets) : empty('No secret is set'),
      ]
    })
    const alerts = place(context, (signal) => get('/alerts', {}, signal), (found) => [
      el('h3', {}, 'Alarms'),
      found.data?.length ? table('Alarms, newest first', ALARMS, found.data) : el('p', {}, status('ok', 'No alarm')),
      el('h3', {}, 'Who is told'),
      found.targets?.length ? table('Targets of alarms', [
        { name: 'Target', isHead: true, cell: (one) => plain(one.name) },
        { name: 'Address', cell: (one) => el('code', {}, plain(one.url ?? '–')) },
        { name: 'Form', cell: (one) => plain(one.format ?? '–') },
        { name: 'From', cell: (one) => plain(one.minimum ?? '–') },
        { name: 'Last', cell: (one) => (one.last_error ? status('failed', plain(one.last_error)) : one.last_ok_at ? el('span', {}, 'reached ', ago(one.last_ok_at)) : 'never used') },
        { name: 'Test', isNameUnseen: true, cell: (one) => action('Test', 'bell', async () => { await post(`/alerts/${part(one.name)}/test`); return 'Sent.' }, { id: `test-${one.name}` }) },
      ], found.targets) : empty('Nobody is told', el('p', {}, 'Name a target in the settings, and alarms are posted there.')),
    ])
    const findings = place(context, (signal) => get('/findings', {}, signal), (found) => (found.data.length ? table('Findings', [
      { name: 'Finding', isHead: true, cell: (one) => el('code', { class: 'name' }, plain(one.name)) },
      { name: 'What', cell: (one) => plain(one.detail) },
      { name: 'Since', cell: (one) => time(one.since) },
      { name: 'Seen', cell: (one) => ago(one.seen_at) },
    ], found.data) : el('p', {}, status('ok', 'Nothing is known to be wrong'))))
    context.on('findings', () => findings.load())
    const again = () => [alerts, findings].forEach((part) => part.load())
    context.on('resumed', () => [doctor, alerts, findings].forEach((part) => part.load()))
    // The doctor asks Clerk and others: he is called by hand, and his report says when it was made.
    context.every(30_000, again)
    return [
      section('Findings', { id: 'findings' }, findings.node),
      section('Doctor', { id: 'doctor', extra: el('button', { type: 'button', id: 'doctor-again', on: { click: () => doctor.load() } }, icon('again'), 'Check again') }, doctor.node),
      section('Alerts', { id: 'alerts' }, alerts.node),
    ]
  },
}

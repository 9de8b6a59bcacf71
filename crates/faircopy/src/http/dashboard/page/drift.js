// How far the copy is Clerk's: what each comparison found, row by row; and comparing now.

import { get, part, post } from './api.js'
import { el } from './dom.js'
import { id, number, plain, span, time } from './format.js'
import { action, ask, empty, facts, link, pager, place, section, status, table } from './parts.js'
import { subjectLink } from './deliveries.js'

const KINDS = [['user', 'Users'], ['organization', 'Organizations'], ['member', 'Members'], ['invitation', 'Invitations']]

const ending = (one) => ({
  exact: () => status('ok', 'exact'),
  repaired: () => status('ok', 'repaired'),
  differences: () => status('failed', `${number(one.left)} left`),
  abandoned: () => status('quiet', 'abandoned'),
}[one.outcome] ?? (() => status('waiting', 'under way')))()

const took = (one) => (one.finished_at ? span(Date.parse(one.finished_at) - Date.parse(one.began_at)) : '–')

const summaryTable = (list) => table('Backfills and reconciles, newest first', [
  { name: 'Began', isHead: true, cell: (one) => link(`/dashboard/drift/${one.id}`, time(one.began_at)) },
  { name: 'Kind', cell: (one) => one.kind },
  { name: 'Ended', cell: ending },
  { name: 'Missing', class: 'right', cell: (one) => number(one.missing) },
  { name: 'Extra', class: 'right', cell: (one) => number(one.extra) },
  { name: 'Different', class: 'right', cell: (one) => number(one.different) },
  { name: 'Left', class: 'right', cell: (one) => number(one.left) },
  { name: 'Took', class: 'right', cell: took },
], list)

/** What a guard says that held a repair back. */
const HOLDS = {
  failed: (found) => `a page could not be read: ${found.reason}`,
  incomplete: (found) => `Clerk says that there are ${number(found.total)}, and its list held ${number(found.seen)}`,
  empty: (found) => `Clerk has none, and the copy has ${number(found.shown)}`,
  shrunk: (found) => `the list shrank from ${number(found.before)} to ${number(found.after)} while it was read`,
  too_many: (found) => `${number(found.absent)} are absent, more than ${number(found.limit)}`,
}
const hold = (found) => (found ? plain((HOLDS[found.guard] ?? (() => found.guard))(found)) : 'no')

const kindTable = (report) => table('What was found, by kind', [
  { name: 'Kind', isHead: true, cell: ([, word]) => word },
  { name: 'At Clerk', class: 'right', cell: ([, , tally]) => number(tally.total ?? tally.seen) },
  { name: 'Missing', class: 'right', cell: ([, , tally]) => number(tally.missing) },
  { name: 'Extra', class: 'right', cell: ([, , tally]) => number(tally.extra) },
  { name: 'Different', class: 'right', cell: ([, , tally]) => number(tally.different) },
  { name: 'Mended', class: 'right', cell: ([, , tally]) => number(tally.repaired + tally.removed) },
  { name: 'Left', class: 'right', cell: ([, , tally]) => number(tally.left) },
  { name: 'Held back', cell: ([, , tally]) => hold(tally.hold) },
], KINDS.filter(([name]) => report.kinds[name]).map(([name, word]) => [name, word, report.kinds[name]]))

const DIRECTIONS = { missing: ['warning', 'missing'], extra: ['warning', 'extra'], different: ['info', 'different'] }

function report(found) {
  const { report } = found
  const differences = report.differences ?? []
  return [
    facts(['Ended', ending(found)], ['Began', time(found.began_at)], ['Took', took(found)], ['Kind', `${found.kind}${report.dry_run ? ', dry run: nothing was changed' : ''}`],
      ['Questions to Clerk', number(report.requests)], ['Waited for its rate limit', span(report.waited_ms)]),
    kindTable(report),
    el('h3', {}, 'Row by row'),
    differences.length === 0 ? empty('No difference') : table('Differences', [
      { name: 'Kind', cell: (one) => one.kind },
      { name: 'Row', isHead: true, cell: (one) => (one.kind === 'user' || one.kind === 'organization' ? subjectLink(one.id) : id(one.id, { whole: true })) },
      { name: 'Difference', cell: (one) => status(...(DIRECTIONS[one.difference] ?? ['info', one.difference])) },
      { name: 'Fields', cell: (one) => (one.columns?.length ? el('span', {}, one.columns.map((column, at) => [at > 0 && ', ', el('code', {}, column)])) : '–') },
      { name: 'Then', cell: (one) => plain(one.then) },
    ], differences),
    report.has_more && el('p', { class: 'hint' }, `The first ${number(differences.length)} are told; the counts above are of all.`),
  ]
}

export const drift = {
  title: 'Drift',
  show(context) {
    const after = context.query.get('after')
    const list = place(context, (signal) => get('/drift', { limit: 20, after }, signal), (page) => [
      page.data.length ? summaryTable(page.data) : empty('Nothing was compared yet', el('p', {}, 'With CLERK_SECRET_KEY the service compares by itself, soon after its start and then at intervals.')),
      pager({ hasBefore: Boolean(after), next: page.next, before: () => context.go({ after: null }), after: () => context.go({ after: page.next }) }),
    ])
    const newest = place(context, async (signal) => {
      const { data } = await get('/drift', { limit: 20 }, signal)
      const last = data.find((one) => one.outcome !== 'abandoned' && one.kind === 'reconcile') ?? data[0]
      return last ? get(`/drift/${last.id}`, {}, signal) : null
    }, (found) => (found ? report(found) : empty('No comparison yet')))
    const again = () => Promise.all([list.load(), newest.load()])
    const run = async (dry) => {
      if (!dry && !(await ask('Reconcile now?', 'The copy is compared with Clerk, and every difference is repaired: rows that Clerk lacks go, after a grace and behind guards.', 'Reconcile'))) return 'Left as it is.'
      await post('/drift/run', dry ? { dry_run: 'true' } : undefined)
      await again()
      return dry ? 'The dry run has begun.' : 'The reconcile has begun.'
    }
    const isUnderWay = () => list.known?.data.some((one) => !one.outcome)
    context.every(2_000, () => isUnderWay() && again())
    context.every(15_000, again)
    context.on('resumed', again)
    return [
      section('Compare now', { id: 'run' },
        el('p', {}, 'Reads every user, organization, membership and invitation from Clerk and sets them beside the copy.'),
        el('div', { class: 'buttons' }, action('Reconcile', 'play', () => run(false), { class: 'primary', id: 'run-button' }), action('Dry run', 'eye', () => run(true), { id: 'dry-run-button' }))),
      section('Last comparison', { id: 'last' }, newest.node),
      section('All comparisons', { id: 'all' }, list.node),
    ]
  },
}

export const driftReport = {
  title: 'Comparison',
  back: ['/dashboard/drift', 'Drift'],
  show(context, [number]) {
    const one = place(context, (signal) => get(`/drift/${part(number)}`, {}, signal), (found) => {
      context.name(`${found.kind === 'backfill' ? 'Backfill' : 'Reconcile'} ${found.id}`, 'Drift')
      return report(found)
    })
    context.every(2_000, () => one.known && !one.known.outcome && one.load())
    context.on('resumed', () => one.load())
    return [section('What it found', { id: 'found' }, one.node)]
  },
}

// The landing page. In order: is my copy right, now? If not, what broke, since when, for whom, and what mends it?

import { get } from './api.js'
import { activityChart } from './chart.js'
import { deliveryTable } from './deliveries.js'
import { el } from './dom.js'
import { ago, count, number, plain, plural, span, time, timeText } from './format.js'
import { icon } from './icons.js'
import { empty, link, place, section, words } from './parts.js'

const WINDOWS = [['hour', 'Hour', 'the last hour'], ['day', 'Day', 'the last day'], ['week', 'Week', 'the last week']]
const SHOWN = 8
const OLD_MS = 26 * 3_600_000

/** The sentence of the page: how the copy stands. */
function sentence(overview) {
  const rows = `${count(overview.rows.users)} ${plural(overview.rows.users.rows, 'user')}, ${count(overview.rows.organizations)} ${plural(overview.rows.organizations.rows, 'organization')}`
  const left = overview.reconcile?.left ?? 0
  const differences = `${number(left)} ${plural(left, 'difference')}`
  switch (overview.state) {
    case 'exact':
      return { kind: 'ok', head: ['Exact as of ', time(overview.as_of)], rest: `${rows}, ${differences}` }
    case 'different':
      return { kind: 'failed', head: [left > 0 ? `${differences} left` : 'The copy is behind Clerk'], rest: `${rows} · complete as of ${timeText(overview.as_of)}` }
    case 'unproven':
      return { kind: 'warning', head: ['Following deliveries, not yet compared with Clerk'], rest: `${rows} · newest delivery ${timeText(overview.as_of)}` }
    default:
      return { kind: 'waiting', head: ['Waiting for the first delivery'], rest: 'Nothing was copied yet' }
  }
}

/** What is known to be wrong, what may have caused it, and what mends it. */
const CAUSES = {
  silence: ['Deliveries have stopped', 'Nothing happens at Clerk, the endpoint there is disabled, or requests do not get through to this service.', 'In Clerk’s dashboard look at Webhooks, the endpoint’s state and its message attempts. `faircopy endpoint` names the steps.'],
  undelivered: ['A change was not delivered', 'The endpoint at Clerk is disabled or lacks an event type, or requests are refused before they reach this service.', 'What was missed is read from Clerk by itself. Enable the endpoint and tick every event that `faircopy endpoint` lists.'],
  'counts-differ': ['The copy has other counts than Clerk', 'Deliveries were lost, or rows were changed by hand.', 'A reconcile finds every difference and repairs it.', ['/dashboard/drift', 'Go to drift']],
  'clerk-unreadable': ['Clerk’s API cannot be read', 'The key was revoked or is of another instance, or the network does not let requests out.', 'Set a valid CLERK_SECRET_KEY of this instance and start the service again.'],
  'destination-behind': ['A destination is behind', 'It is down, its address or key has changed, or something in between does not let requests through.', 'Mend it: what it lacks follows by itself.', ['/dashboard/destinations', 'Go to destinations']],
  'destination-parked': ['A destination refuses some changes', 'What receives them fails, or they are too large.', 'Look at the reasons, mend it, then resume.', ['/dashboard/destinations', 'Go to destinations']],
  'cascade-burst': ['Many deletions at once', 'So many organizations or users were deleted that this may be a mistake.', 'Look at them, then resume or cancel.', ['/dashboard/deletions', 'Go to deletions']],
}

function problems(overview, now) {
  const cards = overview.findings.map((finding) => {
    const [title, cause, fix, way] = CAUSES[finding.name] ?? [finding.name, null, `docs/errors.md has a section “${finding.name}”.`]
    return { id: finding.name, kind: 'failed', title, detail: finding.detail, since: finding.since, cause, fix, way }
  })
  if (overview.quarantined.rows > 0) {
    const many = overview.quarantined.rows
    cards.push({
      id: 'quarantined', kind: 'failed', title: `${count(overview.quarantined)} ${plural(many, 'delivery', 'deliveries')} not understood`,
      detail: 'Stored whole and not applied.', since: overview.quarantined_at, sinceWord: 'newest',
      cause: 'Their content is not what Clerk documents, or the database refused it.', fix: 'Look at why. After an upgrade or a repair, replay them.',
      way: ['/dashboard/deliveries?outcome=quarantined', 'See them'],
    })
  }
  if (overview.paused.rows > 0) {
    cards.push({
      id: 'paused', kind: 'warning', title: `${count(overview.paused)} ${plural(overview.paused.rows, 'deletion')} paused`, detail: 'Nothing more is deleted until somebody decides.',
      cause: 'Too many at once, Clerk still has the record, or a key was refused.', fix: 'Each one names its reason. Resume or cancel it.',
      way: ['/dashboard/deletions', 'Go to deletions'],
    })
  }
  const left = overview.reconcile?.left ?? 0
  if (left > 0) {
    cards.push({
      id: 'left', kind: 'failed', title: `${number(left)} ${plural(left, 'difference')} left by the last reconcile`, since: overview.reconcile.finished_at, sinceWord: 'found',
      detail: 'The copy and Clerk are known to differ.', cause: 'It was a dry run, or a guard held the repair back because too much would have gone.',
      fix: 'See what differs, then run a reconcile.', way: [`/dashboard/drift/${overview.reconcile.id}`, 'See what differs'],
    })
  }
  const finished = Date.parse(overview.reconcile?.finished_at ?? '')
  if (overview.has_key && Number.isFinite(finished) && now - finished > OLD_MS) {
    cards.push({
      id: 'old', kind: 'warning', title: 'The last reconcile is more than a day old', since: overview.reconcile.finished_at, sinceWord: 'ended',
      detail: 'What was lost since was not looked for.', cause: 'Reconciles are switched off, or fail.', fix: 'Run one, and look at FAIRCOPY_RECONCILE_EVERY.', way: ['/dashboard/drift', 'Go to drift'],
    })
  }
  return cards
}

const sentenceOf = (text) => plain(text).replace(/^./, (first) => first.toUpperCase())

const card = (one) =>
  el(
    'li',
    { class: `problem problem-${one.kind}`, id: `problem-${one.id}` },
    icon(one.kind === 'failed' ? 'failed' : 'warning'),
    el(
      'div',
      {},
      el('h3', {}, el('span', { class: 'unseen' }, one.kind === 'failed' ? 'Problem: ' : 'Warning: '), one.title),
      el('p', {}, sentenceOf(one.detail), one.since && [' · ', one.sinceWord ?? 'since', ' ', time(one.since)]),
      one.cause && el('p', {}, el('strong', {}, 'Cause'), ' ', words(one.cause)),
      one.fix && el('p', {}, el('strong', {}, 'Fix'), ' ', words(one.fix)),
    ),
    one.way && el('a', { class: 'button', id: `way-${one.id}`, href: one.way[0] }, one.way[1]),
  )

const tile = (name, value, note, href) =>
  el('li', { class: 'tile' }, el(href ? 'a' : 'div', { href, id: `tile-${name.toLowerCase().replaceAll(' ', '-')}`, class: 'tile-in' }, el('span', { class: 'tile-name' }, name), el('span', { class: 'tile-value' }, value), el('span', { class: 'tile-note' }, note)))

function tiles(overview, now) {
  const { lag, reconcile, under_way: running } = overview
  const oldest = Date.parse(overview.oldest_deletion_at ?? '')
  const failures = overview.quarantined
  return el(
    'ul',
    { class: 'tiles', 'aria-label': 'Figures' },
    tile('Lag', lag ? span(lag.median_ms) : '–', lag ? `slowest of the last ${number(lag.of)}: ${span(lag.max_ms)}` : 'no delivery says', '/dashboard/deliveries'),
    tile('Oldest waiting work', Number.isFinite(oldest) ? span(now - oldest) : 'none', `${count(overview.deletions)} ${plural(overview.deletions.rows, 'deletion')}, ${count(overview.steps)} steps outside`, '/dashboard/deletions'),
    tile('Deliveries a minute', count(overview.last_minute), overview.last_delivery_at ? ['newest ', ago(overview.last_delivery_at)] : 'none yet', '/dashboard/deliveries'),
    tile('Failures', count(failures), failures.rows ? ['newest ', ago(overview.quarantined_at)] : 'nothing quarantined', '/dashboard/deliveries?outcome=quarantined'),
    tile('Drift', reconcile ? number(reconcile.left) : '–', running ? 'comparing now' : reconcile ? ['compared ', ago(reconcile.finished_at)] : overview.has_key ? 'not compared yet' : 'no API key', '/dashboard/drift'),
    tile('Provisional rows', count(overview.provisional), 'known from a token only', null),
  )
}

export const overview = {
  title: 'Overview',
  show(context) {
    let window = WINDOWS.some(([name]) => name === context.query.get('window')) ? context.query.get('window') : 'hour'
    const state = place(context, (signal) => get('/overview', {}, signal), (found) => {
      const said = sentence(found)
      const now = Date.parse(found.now)
      const cards = problems(found, now)
      return [
        el('p', { class: `sentence sentence-${said.kind}`, id: 'sentence' }, icon({ ok: 'ok', failed: 'failed', warning: 'warning', waiting: 'waiting' }[said.kind]),
          el('span', {}, el('strong', {}, said.head), el('span', { class: 'sentence-rest' }, el('span', { 'aria-hidden': 'true' }, ' · '), said.rest))),
        cards.length > 0 && el('section', { class: 'problems', 'aria-labelledby': 'problems-title' },
          el('h2', { id: 'problems-title' }, `${cards.length} ${plural(cards.length, 'thing')} to look at`), el('ul', {}, cards.map(card))),
        tiles(found, now),
      ]
    })
    const windowWords = () => WINDOWS.find(([name]) => name === window)[2]
    const activity = place(context, (signal) => get('/activity', { window }, signal), (found) => activityChart(found, windowWords()), { class: 'activity' })
    const choices = el('div', { class: 'segments', role: 'group', 'aria-label': 'How far back' }, WINDOWS.map(([name, word]) =>
      el('button', {
        type: 'button', id: `window-${name}`, 'aria-pressed': String(name === window),
        on: { click: (event) => {
          window = name
          for (const other of choices.children) other.setAttribute('aria-pressed', String(other === event.currentTarget))
          context.keep({ window: name === 'hour' ? null : name })
          activity.load()
        } },
      }, word)))
    const latest = place(context, (signal) => get('/deliveries', { limit: SHOWN }, signal), (found) =>
      found.data.length ? deliveryTable('The newest deliveries', found.data) : empty('No delivery yet', el('p', {}, 'They appear here as they arrive.')))
    context.freshen([state, activity, latest])
    context.every(30_000, () => activity.load())
    return [
      state.node,
      section('Deliveries', { id: 'activity', extra: choices }, activity.node),
      section('Newest', { id: 'newest', extra: link('/dashboard/deliveries', 'All deliveries') }, latest.node),
    ]
  },
}

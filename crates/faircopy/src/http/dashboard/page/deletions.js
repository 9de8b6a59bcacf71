// What goes with organizations and users that were deleted: each as a tree of rows and of what they had outside, with its hold, its
// tries and, in the end, its receipt.

import { get, part, post } from './api.js'
import { el } from './dom.js'
import { id, number, personal, plain, plural, span, time } from './format.js'
import { icon } from './icons.js'
import { action, ask, empty, facts, link, pager, place, section, status, table } from './parts.js'

const STATES = {
  waiting: ['waiting', 'on hold'],
  deleting: ['info', 'deleting rows'],
  calling: ['info', 'calling outside'],
  done: ['ok', 'done'],
  paused: ['warning', 'paused'],
  cancelled: ['quiet', 'cancelled'],
}
const REASONS = {
  burst: 'Too many were deleted at once: this may be a mistake.',
  'still-there': 'Clerk still has it.',
  'key-refused': 'A service outside refuses the key.',
}
const STEP_STATES = { waiting: ['waiting', 'waiting'], gone: ['ok', 'gone'], was_gone: ['ok', 'was gone'], 'was-gone': ['ok', 'was gone'], kept: ['quiet', 'kept: a live row claims it'], skipped: ['warning', 'left: no key'] }

const state = (one) => status(...(STATES[one.state] ?? ['info', one.state]))

const isOpen = (one) => !['done', 'cancelled'].includes(one.state)

const jobTable = (jobs) => table('Deletions, newest first', [
  { name: 'Deleted', isHead: true, cell: (one) => link(`/dashboard/deletions/${part(one.id)}`, one.name ? personal(one.name) : id(one.id)) },
  { name: 'Kind', cell: (one) => one.kind },
  { name: 'State', cell: state },
  { name: 'Told', cell: (one) => time(one.created_at) },
  { name: 'Goes on', cell: (one) => (one.due_at && isOpen(one) ? time(one.due_at) : '–') },
  { name: 'Trouble', cell: (one) => plain(REASONS[one.reason] ?? one.error ?? '–') },
], jobs)

export const deletions = {
  title: 'Deletions',
  show(context) {
    const after = context.query.get('after')
    const open = context.query.get('open') === 'true'
    const list = place(context, (signal) => get('/jobs', { open: open ? 'true' : null, limit: 50, after }, signal), (page) => [
      page.data.length ? jobTable(page.data) : empty(open ? 'Nothing is being deleted' : 'Nothing was deleted yet', el('p', {}, 'When an organization or a user is deleted at Clerk, what hangs on it goes here, step by step.')),
      pager({ hasBefore: Boolean(after), next: page.next, before: () => context.go({ after: null }), after: () => context.go({ after: page.next }) }),
    ])
    context.every(3_000, () => list.load())
    context.on('resumed', () => list.load())
    const choices = el('div', { class: 'segments', role: 'group', 'aria-label': 'Which deletions' },
      el('button', { type: 'button', id: 'jobs-all', 'aria-pressed': String(!open), on: { click: () => context.go({ open: null, after: null }) } }, 'All'),
      el('button', { type: 'button', id: 'jobs-open', 'aria-pressed': String(open), on: { click: () => context.go({ open: 'true', after: null }) } }, 'Under way'))
    const erased = place(context, (signal) => get('/erasures', { limit: 10 }, signal), (page) => {
      const data = page.data ?? []
      if (!data.length) return empty('Nothing was erased yet')
      return table('Erasures of personal data, newest first', [
        { name: 'User', isHead: true, cell: (one) => id(one.clerk_user_id ?? one.id) },
        { name: 'State', cell: (one) => (one.finished_at ? status('ok', 'erased') : status('waiting', 'under way')) },
        { name: 'Begun', cell: (one) => time(one.began_at) },
        { name: 'Ended', cell: (one) => time(one.finished_at) },
      ], data)
    })
    return [
      el('section', { class: 'card card-table', 'aria-label': 'Deletions' }, el('div', { class: 'card-head' }, el('h2', {}, 'Cascades'), choices), list.node),
      section('Erasures', { id: 'erasures' }, el('p', { class: 'hint' }, 'A deleted user’s personal data leaves what is stored of deliveries too.'), erased.node),
    ]
  },
}

const branch = (label, note, children) =>
  el('li', {}, el('span', { class: 'branch' }, icon('branch'), el('span', {}, label), note && el('span', { class: 'branch-note' }, note)), children?.length > 0 && el('ul', {}, children))

/** The rows and rooms of a deletion as a tree: what is gone, and what is left. */
function tree(receipt, plan) {
  const removed = new Map(receipt.removed.map((one) => [one.table ?? one.place, one.rows ?? one.removed]))
  const left = new Map((plan?.rows ?? []).map((one) => [one.table, one]))
  const tables = [...new Set([...left.keys(), ...removed.keys()])]
  const rows = tables.map((name) => {
    const gone = removed.get(name) ?? 0
    const rest = left.get(name)
    const still = rest && rest.rows > 0 ? `, ${number(rest.rows)}${rest.is_at_least ? '+' : ''} left` : ''
    return branch(el('code', {}, plain(name.replace(/^faircopy\./, ''))), `${number(gone)} ${plural(gone, 'row')} gone${still}`)
  })
  const targets = [...new Set(receipt.outside.map((one) => one.target))]
  const outside = targets.map((target) => branch(el('strong', {}, plain(target)), null, receipt.outside.filter((one) => one.target === target).map((one) =>
    branch(status(...(STEP_STATES[one.state] ?? ['info', one.state])),
      [`${number(one.steps)} ${plural(one.steps, 'id')}, ${number(one.attempts)} ${plural(one.attempts, 'call')}`, one.due_at && one.state === 'waiting' && [', next ', time(one.due_at)], one.error && ` · ${plain(one.error)}`]))))
  const planned = (plan?.outside ?? []).filter((one) => one.ids > 0).map((one) => branch(el('code', {}, plain(`${one.target} ${one.pattern}`)), `${number(one.ids)} ${plural(one.ids, 'id')} to go${one.has_key ? '' : ', and no key'}`))
  return el('ul', { class: 'tree' },
    branch(el('strong', {}, receipt.kind === 'user' ? 'User' : 'Organization'), [id(receipt.id), receipt.workspace_id && [' · workspace ', id(receipt.workspace_id)]], [
      branch('Rows', rows.length ? null : 'none', rows),
      branch('Rooms and steps outside', outside.length + planned.length ? null : 'none', [...outside, ...planned]),
    ]))
}

export const deletion = {
  title: 'Deletion',
  back: ['/dashboard/deletions', 'Deletions'],
  show(context, [subject]) {
    const change = async (what, title, text) => {
      if (!(await ask(title, text, title))) return 'Left as it is.'
      await post(`/jobs/${part(subject)}/${what}`)
      await one.load()
      return 'Done.'
    }
    const cancel = action('Cancel', 'stop', () => change('cancel', 'Cancel the deletion', 'Nothing more is deleted. What is gone is gone.'), { id: 'cancel-button' })
    const resume = action('Resume', 'play', () => change('resume', 'Resume the deletion', 'Rows and rooms are deleted, once its hold is over. This cannot be undone.'), { class: 'primary', id: 'resume-button' })
    const one = place(context, async (signal) => {
      const receipt = await get(`/jobs/${part(subject)}`, {}, signal)
      const plan = isOpen(receipt) || receipt.state === 'cancelled' ? await get(`/jobs/${part(subject)}/plan`, {}, signal).catch(() => null) : null
      return { receipt, plan }
    }, ({ receipt, plan }) => {
      context.name(`Deletion of ${receipt.kind === 'user' ? 'a user' : 'an organization'}`, 'Deletion')
      const canCancel = isOpen(receipt)
      const canResume = ['paused', 'cancelled'].includes(receipt.state) || receipt.outside.some((step) => step.state === 'skipped')
      const due = Date.parse(receipt.due_at ?? '')
      return [
        el('div', { class: 'columns' },
          section(receipt.state === 'done' ? 'Receipt' : 'State', { id: 'state' }, facts(
            ['State', state(receipt)],
            receipt.reason && ['Why', plain(REASONS[receipt.reason] ?? receipt.reason)],
            receipt.error && ['Last trouble', plain(receipt.error)],
            receipt.name && ['Was called', personal(receipt.name)],
            receipt.state === 'waiting' && Number.isFinite(due) && ['Hold ends', [time(receipt.due_at), due > Date.now() && ` · in ${span(due - Date.now())}`]],
          ), el('div', { class: 'buttons' },
            canCancel && cancel, canResume && resume)),
          section('Course', { id: 'course' }, facts(
            ['Told by Clerk', time(receipt.created_at)],
            ['Confirmed by Clerk', time(receipt.confirmed_at)],
            ['Rows gone', time(receipt.rows_gone_at)],
            ['Nothing left outside', time(receipt.outside_gone_at)],
            ['Looked for once more', time(receipt.finished_at)],
          ))),
        section('What goes', { id: 'tree' }, tree(receipt, plan)),
      ]
    })
    context.every(3_000, () => one.known && isOpen(one.known.receipt) && one.load())
    context.on('resumed', () => one.load())
    return [one.node]
  },
}

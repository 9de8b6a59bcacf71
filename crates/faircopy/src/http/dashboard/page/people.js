// Users and organizations: found by id, e-mail or name; one of them with its memberships, its history, and Clerk's own record.

import { get, part } from './api.js'
import { el, swap } from './dom.js'
import { count, id, json, mask, number, personal, picture, plain, plural, time } from './format.js'
import { icon } from './icons.js'
import { deliveryTable } from './deliveries.js'
import { empty, facts, link, loading, outcome, pager, place, section, status, table, trouble } from './parts.js'

const PAGE = 50

/** What a row is known from; only what a token alone says is worth a colour. */
const provenance = (name) => (name === 'token' ? status('warning', 'provisional') : el('span', { class: 'quiet' }, name === 'api' ? 'API' : 'webhook'))

const KINDS = {
  users: {
    title: 'Users', one: 'User', key: 'clerk_user_id', what: 'Id, e-mail or name',
    columns: [
      { name: 'User', isHead: true, cell: (row) => link(`/dashboard/users/${part(row.clerk_user_id)}`, picture(row.image_url, row.name, row.clerk_user_id), personal(row.name, 'no name')) },
      { name: 'E-mail', cell: (row) => personal(row.email) },
      { name: 'Id', cell: (row) => id(row.clerk_user_id) },
      { name: 'Known from', cell: (row) => provenance(row.provenance) },
      { name: 'Updated', cell: (row) => time(row.updated_at) },
    ],
  },
  organizations: {
    title: 'Organizations', one: 'Organization', key: 'clerk_org_id', what: 'Id, slug or name',
    columns: [
      { name: 'Organization', isHead: true, cell: (row) => link(`/dashboard/organizations/${part(row.clerk_org_id)}`, picture(row.image_url, row.name, row.clerk_org_id), personal(row.name, 'no name')) },
      { name: 'Slug', cell: (row) => personal(row.slug) },
      { name: 'Id', cell: (row) => id(row.clerk_org_id) },
      { name: 'Known from', cell: (row) => provenance(row.provenance) },
      { name: 'Updated', cell: (row) => time(row.updated_at) },
    ],
  },
}

const list = (kind) => ({
  title: KINDS[kind].title,
  show(context) {
    const { what, columns, title } = KINDS[kind]
    const search = context.query.get('search') ?? ''
    const after = context.query.get('after')
    const input = el('input', { id: 'search', name: 'search', type: 'search', value: search, placeholder: what, spellcheck: 'false', autocomplete: 'off', autocapitalize: 'none', maxlength: 200 })
    const form = el(
      'form',
      { class: 'search', role: 'search', on: { submit: (event) => { event.preventDefault(); context.go({ search: input.value.trim() || null, after: null }) } } },
      el('label', { for: 'search', class: 'unseen' }, `Search ${title.toLowerCase()}`),
      el('span', { class: 'search-icon' }, icon('search')), input, el('button', { type: 'submit', class: 'primary' }, 'Search'),
    )
    const found = place(context, (signal) => get(`/${kind}`, { search, limit: PAGE, after }, signal), (page) => [
      page.data.length ? table(title, columns, page.data) : empty(search ? 'Nobody fits' : 'Nobody yet', el('p', {}, search ? 'Ids, addresses and names are searched from their beginning.' : 'Rows appear with the first delivery or backfill.')),
      pager({ hasBefore: Boolean(after), next: page.next, before: () => context.go({ after: null }), after: () => context.go({ after: page.next }) }),
    ])
    context.slowly(['changes'], () => found.load())
    context.on('resumed', () => found.load())
    const total = place(context, (signal) => get('/overview', {}, signal), (overview) => el('p', { class: 'hint' }, `${count(overview.rows[kind])} in the copy`))
    return [el('div', { class: 'bar-line' }, form, total.node), el('div', { class: 'card card-table' }, found.node)]
  },
})

/** What the copy shows, column by column: what is personal can be masked, the rest stands. */
const OPEN = /^(clerk_.*|workspace_id|provenance|created_at|updated_at|banned|locked|created_by|role|status)$/
const value = (name, found) => {
  if (found === null || found === undefined || found === '') return el('span', { class: 'quiet' }, '–')
  if (/_at$/.test(name)) return time(found)
  if (name === 'provenance') return provenance(found)
  if (typeof found === 'object') return mask.isOn ? personal('x') : json(found)
  if (typeof found === 'boolean') return found ? 'yes' : 'no'
  if (/^clerk_|_id$|created_by/.test(name)) return id(String(found), { whole: true })
  return OPEN.test(name) ? plain(found) : personal(String(found))
}

const record = (row) => facts(...Object.entries(row).filter(([, found]) => !Array.isArray(found)).map(([name, found]) => [name, value(name, found)]))

function memberships(kind, found) {
  if (!found?.length) return empty('No membership')
  const other = kind === 'users'
    ? { name: 'Organization', isHead: true, cell: (row) => link(`/dashboard/organizations/${part(row.clerk_org_id)}`, row.name ? personal(row.name) : id(row.clerk_org_id)) }
    : { name: 'User', isHead: true, cell: (row) => link(`/dashboard/users/${part(row.clerk_user_id)}`, row.name ? personal(row.name) : id(row.clerk_user_id)) }
  return table('Memberships', [other, { name: 'Role', cell: (row) => el('code', {}, plain(row.role ?? '–')) }, { name: 'Known from', cell: (row) => (row.provenance ? provenance(row.provenance) : '–') }, { name: 'Since', cell: (row) => time(row.created_at) }], found)
}

const DECISIONS = {
  won: ['ok', 'won'], filled: ['ok', 'filled in'], ended: ['warning', 'ended it'], withdrawn: ['warning', 'withdrawn'], same: ['quiet', 'nothing new'],
  lost: ['quiet', 'lost', 'older'], absorbed: ['quiet', 'absorbed'], erased: ['quiet', 'erased'],
}

/** What the merge made of something that came. */
export const decision = (name) => (DECISIONS[name] ? status(...DECISIONS[name]) : outcome(name))

/** Every observation of a subject in order: which won, which lost, and why. */
export function history(found) {
  const steps = found.steps ?? []
  return [
    found.agrees === false && el('div', { class: 'note note-warning' }, icon('warning'),
      el('p', {}, 'What is stored of deliveries and what the copy shows differ', found.differs?.length > 0 && [' in ', found.differs.map((column, at) => [at > 0 && ', ', el('code', {}, plain(column))])], '.')),
    steps.length === 0 ? empty('Nothing is stored of it') : el('ol', { class: 'history' }, [...steps].reverse().map((step) =>
      el('li', {}, el('div', { class: 'history-head' }, time(step.at), decision(step.outcome), el('span', {}, plain(step.event_type ?? step.source ?? ''))),
        el('p', {}, plain(step.reason ?? step.code ?? '')),
        el('p', { class: 'hint' }, plain(step.source ?? ''), step.updated_at && [' · version ', time(step.updated_at)],
          step.svix_id && [' · ', link(`/dashboard/deliveries/${part(step.svix_id)}`, id(step.svix_id))])))),
    found.complete_since && el('p', { class: 'hint' }, 'Complete since ', time(found.complete_since), '.'),
  ]
}

/** The copy beside Clerk, field by field. */
function comparison(found) {
  const different = found.fields.filter((field) => !field.agrees).length
  const verdict = found.agrees ? status('ok', 'Alike in every field')
    : !found.in_clerk ? status('warning', 'Clerk does not have it')
      : !found.in_copy ? status('failed', 'The copy does not have it') : status('failed', `${number(different)} ${plural(different, 'field differs', 'fields differ')}`)
  return [
    el('p', { class: 'doctor' }, verdict, el('span', { class: 'hint' }, 'read ', time(found.read_at))),
    found.fields.length > 0 && table('The copy beside Clerk', [
      { name: 'Field', isHead: true, cell: (field) => el('code', {}, plain(field.column)) },
      { name: 'Copy', cell: (field) => value(field.column, field.copy) },
      { name: 'Clerk', cell: (field) => value(field.column, field.clerk) },
      { name: 'Verdict', cell: (field) => (field.agrees ? status('ok', 'alike') : status('failed', 'different')) },
    ], found.fields),
  ]
}

const one = (kind) => ({
  title: KINDS[kind].one,
  back: [`/dashboard/${kind}`, KINDS[kind].title],
  show(context, [subject]) {
    const base = `/${kind}/${part(subject)}`
    const found = place(context, (signal) => get(base, {}, signal), (answer) => {
      const { memberships: members, members: size, ...shown } = answer
      context.name(mask.isOn ? subject : shown.name || subject, KINDS[kind].one)
      return [
        section('Record', { id: 'record' }, el('div', { class: 'person' }, picture(shown.image_url, shown.name, subject), el('strong', {}, personal(shown.name, 'no name')), provenance(shown.provenance), size !== undefined && el('span', { class: 'hint' }, `${number(size)} ${plural(size, 'member')}`)), record(shown)),
        members && section('Memberships', { id: 'memberships' }, memberships(kind, members)),
      ]
    })
    const members = kind === 'organizations' && place(context, (signal) => get('/members', { organization: subject, limit: PAGE }, signal), (answer) => memberships(kind, answer.data))
    const steps = place(context, (signal) => get(`/explain/${part(subject)}`, {}, signal), history)
    const came = place(context, (signal) => get('/deliveries', { entity: subject, limit: 10 }, signal), (answer) => (answer.data.length ? deliveryTable('Its deliveries, newest first', answer.data) : empty('No delivery names it')))
    const beside = el('div')
    const compare = async () => {
      swap(beside, loading())
      try {
        swap(beside, comparison(await get(`${base}/compare`, {}, context.signal)))
      } catch (problem) {
        if (problem.name !== 'AbortError') swap(beside, trouble(problem, compare))
      }
    }
    const again = () => [found, members, steps, came].forEach((part) => part && part.load())
    context.on('changes', ({ data }) => data.some((entry) => entry.id === subject || entry.id.includes(subject)) && again())
    context.on('resumed', again)
    return [
      found.node,
      members && section('Members', { id: 'members' }, members.node),
      section('Compare with Clerk', { id: 'compare', extra: el('button', { type: 'button', id: 'compare-button', on: { click: compare } }, 'Compare now') },
        el('p', { class: 'hint' }, 'Reads the record from Clerk’s API and sets it beside the copy. Nothing is changed.'), beside),
      section('History', { id: 'history' }, steps.node),
      section('Deliveries', { id: 'its-deliveries' }, came.node),
    ]
  },
})

export const users = list('users')
export const organizations = list('organizations')
export const user = one('users')
export const organization = one('organizations')

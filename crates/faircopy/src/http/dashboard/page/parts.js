// What pages are made of: words of state, tables, panels, buttons that ask first.

import { el, swap } from './dom.js'
import { icon } from './icons.js'

/** A state: a drawing, a word and a colour that say the same. `kind` is ok, warning, failed, waiting, quiet or info. */
export function status(kind, word, drawing) {
  const drawings = { ok: 'ok', warning: 'warning', failed: 'failed', waiting: 'waiting', quiet: 'skipped', info: 'info' }
  return el('span', { class: `status status-${kind}` }, icon(drawing ?? drawings[kind]), word)
}

const OUTCOMES = {
  applied: ['ok', 'applied'],
  stale: ['quiet', 'stale', 'older'],
  ignored: ['quiet', 'ignored'],
  quarantined: ['failed', 'quarantined'],
}

/** What became of a delivery. */
export const outcome = (name) => status(...(OUTCOMES[name] ?? ['info', name ?? 'unknown']))

/** A sentence of ours, in which backticks mark what is typed. */
export const words = (text) => text.split('`').map((piece, at) => (at % 2 ? el('code', {}, piece) : piece))

/** A link to a page of the dashboard. */
export const link = (href, ...children) => el('a', { href }, ...children)

/** The same with an id: where the page is drawn anew under the keyboard, it stays there. */
export const namedLink = (id, href, ...children) => el('a', { id, href }, ...children)

/** A real table. On a narrow page each row stands as a list of its cells, each with the name of its column. */
export function table(caption, columns, rows, { isCaptionShown = false } = {}) {
  const head = columns.map((column) => el('th', { scope: 'col', role: 'columnheader', class: column.class }, el('span', { class: column.isNameUnseen ? 'unseen' : null }, column.name)))
  const cell = (column, row) =>
    el(
      column.isHead ? 'th' : 'td',
      { role: column.isHead ? 'rowheader' : 'cell', scope: column.isHead ? 'row' : null, class: column.class, 'data-column': column.isNameUnseen ? '' : column.name },
      el('span', { class: 'cell' }, column.cell(row)),
    )
  const line = (row) => el('tr', { role: 'row', class: row.rowClass }, columns.map((column) => cell(column, row)))
  return el(
    'table',
    { role: 'table', class: 'stacks' },
    el('caption', { class: isCaptionShown ? null : 'unseen' }, caption),
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, head)),
    el('tbody', { role: 'rowgroup' }, rows.map(line)),
  )
}

/** Names and values. */
export function facts(...pairs) {
  const shown = pairs.filter((pair) => pair && pair[1] !== undefined)
  return el('dl', { class: 'facts' }, shown.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value ?? '–'))))
}

/** A part of a page with a heading of its own. */
export function section(title, attributes, ...children) {
  const name = attributes?.id ?? title.toLowerCase().replace(/[^a-z]+/g, '-')
  const { extra, ...rest } = attributes ?? {}
  return el(
    'section',
    { class: 'card', 'aria-labelledby': `${name}-title`, ...rest },
    el('div', { class: 'card-head' }, el('h2', { id: `${name}-title` }, title), extra),
    ...children,
  )
}

/** What stands where there is nothing to show. */
export function empty(title, ...children) {
  return el('div', { class: 'empty' }, el('p', { class: 'empty-title' }, title), ...children)
}

/** Why something cannot be shown. */
export function trouble(problem, retry) {
  const isMissing = problem.isMissing
  return el(
    'div',
    { class: 'note note-warning', role: isMissing ? null : 'alert' },
    icon(isMissing ? 'info' : 'warning'),
    el(
      'div',
      {},
      el('p', { class: 'note-title' }, isMissing ? 'Not available' : problem.title ?? 'This cannot be shown'),
      el('p', {}, isMissing ? 'This service does not have this part.' : `${problem.message}${problem.code ? ` (${problem.code})` : ''}`),
      !isMissing && retry && el('button', { type: 'button', on: { click: retry } }, 'Try again'),
    ),
  )
}

export const loading = () => el('p', { class: 'loading', role: 'status' }, 'Loading…')

/**
 * A place of the page that is filled by a question, and again when it is asked anew. What it shows stays until there is something
 * else to show; a failure after that is told beside it, because it is then not of now.
 */
export function place(context, ask, draw, attributes) {
  const node = el('div', attributes, loading())
  let known
  let text
  let turn = 0
  const show = () => {
    if (known !== undefined) swap(node, draw(known))
  }
  const load = async () => {
    const mine = ++turn
    try {
      const found = await ask(context.signal)
      if (mine !== turn || context.signal.aborted) return
      const now = JSON.stringify(found)
      node.removeAttribute('data-stale')
      if (now === text) return
      known = found
      text = now
      show()
    } catch (problem) {
      if (problem.name === 'AbortError' || context.signal.aborted || mine !== turn) return
      if (known === undefined || !problem.isLost) {
        text = known = undefined
        swap(node, trouble(problem, load))
      } else {
        node.setAttribute('data-stale', 'true')
      }
    }
  }
  context.onRedraw(show)
  load()
  return { node, load, get known() { return known } }
}

/** A button that does something and says how it went. */
export function action(label, drawing, run, { class: kind, id } = {}) {
  const said = el('span', { class: 'said', role: 'status' })
  const button = el('button', { type: 'button', class: kind, id, on: { click: () => start() } }, drawing && icon(drawing), label)
  const start = async () => {
    if (button.getAttribute('aria-disabled') === 'true') return
    button.setAttribute('aria-disabled', 'true')
    said.textContent = ''
    said.className = 'said'
    try {
      said.textContent = (await run()) ?? 'Done.'
    } catch (problem) {
      said.className = 'said said-failed'
      said.textContent = problem.message
    }
    button.removeAttribute('aria-disabled')
  }
  return el('span', { class: 'action' }, button, said)
}

/** Asks before something is done that cannot be undone. Resolves to whether it may be. */
export function ask(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = el(
      'dialog',
      { 'aria-labelledby': 'ask-title' },
      el('h2', { id: 'ask-title' }, title),
      el('p', {}, text),
      el(
        'div',
        { class: 'buttons' },
        el('button', { type: 'button', on: { click: () => dialog.close('no') } }, 'Leave it'),
        el('button', { type: 'button', class: 'primary', id: 'ask-yes', on: { click: () => dialog.close('yes') } }, yes),
      ),
    )
    dialog.addEventListener('close', () => {
      dialog.remove()
      resolve(dialog.returnValue === 'yes')
    })
    document.body.append(dialog)
    dialog.showModal()
  })
}

/** Back and on through a list. */
export function pager({ hasBefore, next, before, after }) {
  if (!hasBefore && !next) return null
  return el(
    'nav',
    { class: 'pager', 'aria-label': 'Pages of the list' },
    el('button', { type: 'button', id: 'pager-first', disabled: !hasBefore, on: { click: before } }, icon('back'), 'First page'),
    el('button', { type: 'button', id: 'pager-next', disabled: !next, on: { click: after } }, 'Next page', icon('next')),
  )
}

// The frame: who is signed in, which page is shown, how it looks, and whether what it shows is of now.

import { events, session, signIn, signOut } from './api.js'
import { announce, el } from './dom.js'
import { deletion, deletions } from './deletions.js'
import { deliveries, delivery } from './deliveries.js'
import { destination, destinations } from './destinations.js'
import { drift, driftReport } from './drift.js'
import { mask, tick, timeText } from './format.js'
import { health } from './health.js'
import { icon, mark } from './icons.js'
import { connection, doubt, feed, start, stop } from './live.js'
import { login } from './login.js'
import { overview } from './overview.js'
import { empty } from './parts.js'
import { organization, organizations, user, users } from './people.js'

const ROUTES = [
  [/^\/dashboard\/?$/, overview, 'overview'],
  [/^\/dashboard\/deliveries$/, deliveries, 'deliveries'],
  [/^\/dashboard\/deliveries\/([^/]+)$/, delivery, 'deliveries'],
  [/^\/dashboard\/users$/, users, 'users'],
  [/^\/dashboard\/users\/([^/]+)$/, user, 'users'],
  [/^\/dashboard\/organizations$/, organizations, 'organizations'],
  [/^\/dashboard\/organizations\/([^/]+)$/, organization, 'organizations'],
  [/^\/dashboard\/drift$/, drift, 'drift'],
  [/^\/dashboard\/drift\/([^/]+)$/, driftReport, 'drift'],
  [/^\/dashboard\/deletions$/, deletions, 'deletions'],
  [/^\/dashboard\/deletions\/([^/]+)$/, deletion, 'deletions'],
  [/^\/dashboard\/destinations$/, destinations, 'destinations'],
  [/^\/dashboard\/destinations\/([^/]+)$/, destination, 'destinations'],
  [/^\/dashboard\/health$/, health, 'health'],
]
const NAVIGATION = [
  ['overview', 'Overview', '/dashboard'],
  ['deliveries', 'Deliveries', '/dashboard/deliveries'],
  ['users', 'Users', '/dashboard/users'],
  ['organizations', 'Organizations', '/dashboard/organizations'],
  ['drift', 'Drift', '/dashboard/drift'],
  ['deletions', 'Deletions', '/dashboard/deletions'],
  ['destinations', 'Destinations', '/dashboard/destinations'],
  ['health', 'Health', '/dashboard/health'],
]
const THEMES = [['system', 'System', 'screen'], ['light', 'Light', 'sun'], ['dark', 'Dark', 'moon']]
const THEME_KEY = 'faircopy-theme'
const OUT_KEY = 'faircopy-signed-out'
/** Pages are read anew at most so often, however much happens: well within a second of it. */
const FRESHEN_MS = 400
const SLOWLY_MS = 2_000
const nowhere = { title: 'Not found', show: () => [empty('There is no such page', el('p', {}, el('a', { href: '/dashboard' }, 'Go to the overview')))] }

let standing = null
let page = null

// --- How it looks ---------------------------------------------------------------------------------------------------

const theme = () => localStorage.getItem(THEME_KEY) ?? 'system'

function dress(name) {
  localStorage.setItem(THEME_KEY, name)
  if (name === 'system') document.documentElement.removeAttribute('data-theme')
  else document.documentElement.setAttribute('data-theme', name)
}

function themeButton() {
  const button = el('button', { type: 'button', class: 'ghost', id: 'theme', on: { click: () => {
    const at = THEMES.findIndex(([name]) => name === theme())
    dress(THEMES[(at + 1) % THEMES.length][0])
    draw()
  } } })
  const draw = () => {
    const [, word, drawing] = THEMES.find(([name]) => name === theme()) ?? THEMES[0]
    button.replaceChildren(icon(drawing), el('span', { class: 'ghost-word' }, el('span', { class: 'unseen' }, 'Theme: '), word))
  }
  draw()
  return button
}

function maskButton() {
  const button = el('button', { type: 'button', class: 'ghost', id: 'mask', on: { click: () => {
    mask.turn(!mask.isOn)
    draw()
    page?.redraw()
    announce(mask.isOn ? 'Personal data is masked' : 'Personal data is shown')
  } } })
  const draw = () => {
    button.setAttribute('aria-pressed', String(mask.isOn))
    button.replaceChildren(icon(mask.isOn ? 'hidden' : 'eye'), el('span', { class: 'ghost-word' }, 'Mask'), el('span', { class: 'unseen' }, ' personal data'))
  }
  draw()
  return button
}

// --- The frame --------------------------------------------------------------------------------------------------------

function connectionState() {
  const node = el('span', { class: 'connection', id: 'connection', role: 'status' })
  const draw = () => {
    const words = { connecting: 'Connecting', live: 'Live', lost: 'Connection lost' }
    node.setAttribute('data-state', connection.state)
    node.replaceChildren(el('span', { class: 'dot', 'aria-hidden': 'true' }), words[connection.state])
  }
  feed.addEventListener('connection', draw)
  draw()
  return node
}

function lostBanner() {
  const node = el('div', { class: 'lost', id: 'lost', role: 'alert', hidden: true })
  feed.addEventListener('connection', () => {
    const isLost = connection.state === 'lost'
    node.hidden = !isLost
    document.getElementById('main')?.toggleAttribute('data-stale', isLost)
    node.replaceChildren(...(isLost ? [icon('warning'), el('span', {}, el('strong', {}, 'Connection lost'), ` at ${timeText(connection.since)}. What you see is from then; trying again.`)] : []))
  })
  return node
}

function frame() {
  const links = el('ul', { id: 'navigation-links' }, NAVIGATION.map(([name, word, href]) => el('li', {}, el('a', { href, 'data-name': name }, icon(name), word))))
  const toggle = el('button', { type: 'button', class: 'ghost menu', 'aria-expanded': 'false', 'aria-controls': 'navigation-links', on: { click: () => {
    const isOpen = toggle.getAttribute('aria-expanded') === 'true'
    toggle.setAttribute('aria-expanded', String(!isOpen))
    links.toggleAttribute('data-open', !isOpen)
  } } }, icon('menu'), el('span', { class: 'unseen' }, 'Pages'))
  const out = el('button', { type: 'button', class: 'ghost', id: 'sign-out', on: { click: async () => {
    sessionStorage.setItem(OUT_KEY, 'true')
    await signOut().catch(() => null)
    begin()
  } } }, icon('out'), el('span', { class: 'ghost-word' }, 'Sign out'))
  document.body.replaceChildren(
    el('a', { class: 'skip', href: '#main' }, 'Skip to the page'),
    el('div', { class: 'shell' },
      el('header', { class: 'top' }, el('a', { class: 'brand', href: '/dashboard' }, mark(), el('span', {}, 'Faircopy')), toggle,
        el('nav', { class: 'navigation', 'aria-label': 'Pages' }, links),
        el('div', { class: 'tools' }, connectionState(), maskButton(), themeButton(), out)),
      el('div', { class: 'content' }, lostBanner(), el('main', { id: 'main', tabindex: -1 }))),
    el('div', { id: 'announcements', class: 'unseen', 'aria-live': 'polite' }),
  )
  close = () => {
    toggle.setAttribute('aria-expanded', 'false')
    links.removeAttribute('data-open')
  }
}

let close = () => {}

// --- Pages --------------------------------------------------------------------------------------------------------------

/** What a page may do, until another one is shown. */
function contextOf(query) {
  const life = new AbortController()
  const { signal } = life
  const redraws = []
  const go = (changes) => {
    const next = new URLSearchParams(location.search)
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) next.delete(name)
      else next.set(name, value)
    }
    return `${location.pathname}${next.size ? `?${next}` : ''}`
  }
  /** Calls at most so often, and once more after the last time. */
  const calm = (ms, run) => {
    let timer = null
    let isWanted = false
    const turn = () => {
      timer = null
      if (isWanted) fire()
    }
    const fire = () => {
      isWanted = false
      timer = setTimeout(turn, ms)
      run()
    }
    signal.addEventListener('abort', () => clearTimeout(timer))
    return () => {
      isWanted = true
      if (timer === null) fire()
    }
  }
  const on = (name, run) => feed.addEventListener(name, (event) => run(event.detail), { signal })
  return {
    signal,
    query,
    end: () => life.abort(),
    redraw: () => redraws.forEach((draw) => draw()),
    onRedraw: (draw) => redraws.push(draw),
    on,
    live: on,
    /** Reads places of the page anew whenever something happens. */
    freshen(places) {
      const run = calm(FRESHEN_MS, () => places.forEach((one) => one.load()))
      for (const name of ['changes', 'deliveries', 'findings', 'reset', 'resumed']) on(name, run)
    },
    slowly(names, run) {
      const calmly = calm(SLOWLY_MS, run)
      for (const name of names) on(name, calmly)
    },
    every(ms, run) {
      const timer = setInterval(() => { if (!document.hidden && connection.state !== 'lost') run() }, ms)
      signal.addEventListener('abort', () => clearInterval(timer))
    },
    /** Shows the same page with another query. */
    go: (changes) => navigate(go(changes)),
    /** Keeps something in the address without showing the page anew. */
    keep: (changes) => history.replaceState(null, '', go(changes)),
    /** Names the page by what it shows. */
    name(text, title) {
      const heading = document.querySelector('#main h1')
      if (heading) heading.textContent = text
      document.title = `${title} · Faircopy`
    },
  }
}

function show({ isFirst = false, keepsFocus = false } = {}) {
  page?.end()
  const found = ROUTES.map(([pattern, view, name]) => ({ match: pattern.exec(location.pathname), view, name })).find(({ match }) => match)
  const { view, name } = found ?? { view: nowhere, name: null }
  let parts
  try {
    parts = (found?.match ?? []).slice(1).map(decodeURIComponent)
  } catch {
    return navigate('/dashboard')
  }
  page = contextOf(new URLSearchParams(location.search))
  for (const anchor of document.querySelectorAll('#navigation-links a')) {
    if (anchor.getAttribute('data-name') === name) anchor.setAttribute('aria-current', 'page')
    else anchor.removeAttribute('aria-current')
  }
  close()
  document.title = `${view.title} · Faircopy`
  const heading = el('h1', { id: 'page-title', tabindex: -1 }, view.title)
  const back = view.back && el('p', { class: 'back' }, el('a', { href: view.back[0] }, icon('back'), view.back[1]))
  const main = document.getElementById('main')
  const focused = keepsFocus ? document.activeElement?.id : null
  const body = view.show(page, parts)
  main.replaceChildren(el('div', { class: 'page-head' }, back || '', heading), ...body.flat().filter(Boolean))
  const again = focused && document.getElementById(focused)
  if (again) again.focus({ preventScroll: true })
  else if (!isFirst) {
    heading.focus({ preventScroll: true })
    scrollTo(0, 0)
  }
}

/** Shows another page of the dashboard. */
function navigate(address) {
  const isSame = new URL(address, location.href).pathname === location.pathname
  history.pushState(null, '', address)
  show({ keepsFocus: isSame })
}

document.addEventListener('click', (event) => {
  const anchor = event.target.closest?.('a[href]')
  if (!anchor || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
  const href = anchor.getAttribute('href')
  if (href === '#main') {
    event.preventDefault()
    document.getElementById('main').focus()
  } else if (/^\/dashboard(?![^/?])/.test(href)) {
    event.preventDefault()
    navigate(href)
  }
})
addEventListener('popstate', () => page && show())
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? '') && !event.ctrlKey && !event.metaKey) {
    const search = document.querySelector('#search, #entity')
    if (search) {
      event.preventDefault()
      search.focus()
    }
  }
})
document.addEventListener('visibilitychange', () => { if (!document.hidden) tick() })
setInterval(tick, 1000)

// --- Who is signed in ------------------------------------------------------------------------------------------------------

function leave() {
  page?.end()
  page = null
  stop()
}

async function begin() {
  leave()
  try {
    standing = await session()
  } catch {
    document.title = 'Faircopy'
    document.body.replaceChildren(el('main', { class: 'login', id: 'main' }, el('div', { class: 'login-card' }, el('h1', {}, 'The service does not answer'), el('p', { role: 'status' }, 'Trying again…'))))
    setTimeout(begin, 1000)
    return
  }
  mask.start(standing.mask)
  if (!standing.is_signed_in && standing.is_open && !sessionStorage.getItem(OUT_KEY)) {
    await signIn(null).then(() => { standing.is_signed_in = true }, () => null)
  }
  if (standing.is_signed_in) return enter()
  document.title = 'Sign in · Faircopy'
  document.body.replaceChildren(login(standing, () => {
    sessionStorage.removeItem(OUT_KEY)
    begin()
  }))
  document.querySelector('#token')?.focus()
}

function enter() {
  frame()
  start()
  show({ isFirst: true })
}

events.addEventListener('signed-out', () => { if (page) begin() })
events.addEventListener('lost', () => doubt())
feed.addEventListener('signed-out', () => begin())

dress(theme())
begin()

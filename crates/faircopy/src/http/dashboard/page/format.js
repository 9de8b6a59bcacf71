// Numbers, times and texts for people; and what is masked.

import { el } from './dom.js'

const whole = new Intl.NumberFormat('en')
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const minutes = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' })
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })
const full = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'long' })

export const number = (value) => whole.format(value ?? 0)

/** A bounded count as it may be claimed. */
export const count = (value) => `${number(value?.rows)}${value?.is_at_least ? '+' : ''}`

export const plural = (value, one, many = `${one}s`) => (value === 1 ? one : many)

export const asDate = (value) => (value === null || value === undefined ? null : new Date(value))

/** The time of day; with the day where it is another one. */
export function timeText(value) {
  const date = asDate(value)
  if (!date || Number.isNaN(date.getTime())) return '–'
  const isToday = date.toDateString() === new Date().toDateString()
  return isToday ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`
}

export const minuteText = (date) => minutes.format(date)
export const dayText = (date) => day.format(date)

/** A time, with the whole of it when asked. */
export function time(value, attributes) {
  const date = asDate(value)
  if (!date || Number.isNaN(date.getTime())) return el('span', { class: 'quiet' }, '–')
  return el('time', { datetime: date.toISOString(), title: full.format(date), ...attributes }, timeText(date))
}

/** How long something took or lasts. */
export function span(ms) {
  if (ms === null || ms === undefined) return '–'
  if (ms < 1000) return `${Math.round(ms)} ms`
  const seconds = ms / 1000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}

const agoText = (date, now) => {
  const ms = Math.max(0, now - date.getTime())
  return ms < 1500 ? 'just now' : `${span(Math.max(1000, Math.round(ms / 1000) * 1000)).replace('.0', '')} ago`
}

/** How long ago, kept true by `tick`. */
export function ago(value) {
  const date = asDate(value)
  if (!date || Number.isNaN(date.getTime())) return el('span', { class: 'quiet' }, 'never')
  return el('time', { datetime: date.toISOString(), title: full.format(date), 'data-ago': true }, agoText(date, Date.now()))
}

/** Brings every `ago` of the page up to now. */
export function tick() {
  for (const node of document.querySelectorAll('time[data-ago]')) {
    const text = agoText(new Date(node.getAttribute('datetime')), Date.now())
    if (node.textContent !== text) node.textContent = text
  }
}

// Signs that turn the writing around or cannot be seen: a name shall not rearrange the page.
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g

/** A text of somebody's, as it may stand in the page. */
export const plain = (text) => String(text).replace(UNSEEN, '\ufffd')

const KEY = 'faircopy-mask'

/** Whether personal data is masked: what this browser chose, or else the setting. */
export const mask = {
  isOn: false,
  start(setting) {
    const chosen = localStorage.getItem(KEY)
    this.isOn = chosen === null ? setting : chosen === 'on'
  },
  turn(isOn) {
    this.isOn = isOn
    localStorage.setItem(KEY, isOn ? 'on' : 'off')
  },
}

const hidden = () => el('span', { class: 'masked' }, el('span', { 'aria-hidden': 'true' }, '••••••'), el('span', { class: 'unseen' }, 'masked'))

/** Something personal: a name, an address. */
export function personal(text, none = '–') {
  if (text === null || text === undefined || text === '') return el('span', { class: 'quiet' }, none)
  return mask.isOn ? hidden() : el('bdi', {}, plain(text))
}

/** Somebody's picture, or the first letters of their name; neither while it is masked. */
export function picture(address, name, id) {
  const letters = mask.isOn ? '' : plain(name ?? '').split(/\s+/).map((word) => [...word][0] ?? '').join('').slice(0, 2).toUpperCase()
  const tint = [...String(id ?? '')].reduce((sum, sign) => (sum * 31 + sign.codePointAt(0)) % 6, 0)
  const frame = el('span', { class: `picture tint-${tint}`, 'aria-hidden': 'true' }, letters)
  if (mask.isOn || !address) return frame
  const image = el('img', { picture: address, alt: '', width: 28, height: 28, loading: 'lazy', referrerpolicy: 'no-referrer' })
  if (!image.hasAttribute('src')) return frame
  image.addEventListener('error', () => image.remove())
  frame.append(image)
  return frame
}

/** An id, short enough for a table; whole for whoever points at it. */
export function id(text, { whole: isWhole = false } = {}) {
  if (!text) return el('span', { class: 'quiet' }, '–')
  const safe = plain(text)
  const short = isWhole || safe.length <= 22 ? safe : `${safe.slice(0, 12)}…${safe.slice(-6)}`
  return el('code', { class: 'id', title: safe }, short)
}

// What is nobody's secret in Clerk's JSON: how things are connected, and when they happened.
const OPEN_KEY = /^(id|type|object|role|permissions?|status|deleted|timestamp|instance_id|locked|banned|slug|.*_id|.*_at|.*_enabled|strategy|linked_to|verification)$/
const OPEN_VALUE = /^(user|org|orgmem|orginv|idn|sess|ins|evt|msg|client|role)_[A-Za-z0-9]+$/

// Metadata is the application's own: even its names may be personal.
const masked = (value, key) => {
  if (Array.isArray(value)) return value.map((one) => masked(one, key))
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, /_metadata$/.test(name) ? '••••••' : masked(one, name)]))
  if (value === null || typeof value === 'boolean') return value
  if (typeof value === 'number') return OPEN_KEY.test(key ?? '') ? value : 0
  return value === '' || OPEN_VALUE.test(value) || (OPEN_KEY.test(key ?? '') && !/@/.test(value)) ? value : '••••••'
}

const escaped = (text) => text.replace(UNSEEN, (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, '0')}`)

/** JSON for reading, one value a line, names apart from values. */
export function json(text) {
  let value
  try {
    value = typeof text === 'string' ? JSON.parse(text) : text
  } catch {
    return el('pre', { class: 'json', tabindex: 0 }, mask.isOn ? '••••••' : escaped(String(text)))
  }
  const lines = JSON.stringify(mask.isOn ? masked(value) : value, null, 2).split('\n')
  return el('pre', { class: 'json', tabindex: 0 }, lines.map((line, at) => {
    const found = /^(\s*)("(?:[^"\\]|\\.)*")(: )(.*)$/.exec(line)
    const end = at + 1 < lines.length ? '\n' : ''
    if (!found) return `${escaped(line)}${end}`
    return [found[1], el('span', { class: 'json-name' }, escaped(found[2])), found[3], escaped(found[4]), end]
  }))
}

// Elements are made here and nowhere else: texts are texts, and only the attributes of a list can be set. No part of the page
// is ever read as HTML, so nothing that a person is called can become an element.

const SVG = 'http://www.w3.org/2000/svg'
const SVG_TAGS = new Set(['svg', 'g', 'path', 'rect', 'line'])
const ATTRIBUTES = new Set([
  'alt', 'autocomplete', 'autocapitalize', 'checked', 'class', 'colspan', 'datetime', 'dir', 'disabled', 'for', 'height', 'hidden', 'id',
  'inputmode', 'lang', 'loading', 'maxlength', 'name', 'open', 'placeholder', 'referrerpolicy', 'required', 'role', 'scope', 'selected',
  'spellcheck', 'tabindex', 'title', 'type', 'value', 'width',
  // of drawings
  'd', 'focusable', 'preserveAspectRatio', 'rx', 'viewBox', 'x', 'x1', 'x2', 'y', 'y1', 'y2',
])

function set(node, name, value) {
  if (name === 'on') {
    for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener)
  } else if (name === 'href') {
    // Only to pages of this dashboard and of this service.
    if (!/^(\/(?!\/)|#)/.test(value)) throw new Error(`no link to ${value}`)
    node.setAttribute('href', value)
  } else if (name === 'picture') {
    const address = pictureOf(value)
    if (address) node.setAttribute('src', address)
  } else if (ATTRIBUTES.has(name) || /^(aria|data)-[a-z-]+$/.test(name)) {
    node.setAttribute(name, value === true ? '' : String(value))
  } else {
    throw new Error(`the attribute ${name} is not on the list`)
  }
}

/** An element. What is null, undefined or false among attributes and children is left out. */
export function el(tag, attributes, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag)
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue
    set(node, name, value)
  }
  add(node, children)
  return node
}

function add(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue
    if (Array.isArray(child)) add(node, child)
    else node.append(child instanceof Node ? child : document.createTextNode(String(child)))
  }
}

/** Where a picture may come from: Clerk's own host, over https, as the policy says too. Else nothing. */
export function pictureOf(address) {
  try {
    const url = new URL(address)
    return url.protocol === 'https:' && url.host === 'img.clerk.com' ? url.href : null
  } catch {
    return null
  }
}

/** Puts other children into an element, and keeps what the reader has opened and where the keyboard is. */
export function swap(node, ...children) {
  const active = node.contains(document.activeElement) ? document.activeElement : null
  const place = active?.id ? { id: active.id, start: active.selectionStart } : null
  const open = new Map([...node.querySelectorAll('details[id]')].map((details) => [details.id, details.open]))
  node.replaceChildren()
  add(node, children)
  for (const details of node.querySelectorAll('details[id]')) {
    if (open.has(details.id)) details.open = open.get(details.id)
  }
  if (!place) return
  const again = document.getElementById(place.id)
  if (!again) return
  again.focus({ preventScroll: true })
  if (typeof place.start === 'number' && 'setSelectionRange' in again) {
    try {
      again.setSelectionRange(place.start, place.start)
    } catch {
      // Some kinds of input have no place.
    }
  }
}

/** Says something to whoever does not see the page. */
export function announce(text) {
  const place = document.getElementById('announcements')
  if (place) place.textContent = text
}

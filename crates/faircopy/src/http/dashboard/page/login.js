// Signing in: the admin token once, a cookie from then on.

import { signIn } from './api.js'
import { el } from './dom.js'
import { icon, mark } from './icons.js'

/** The page for whoever is not signed in. Calls `done` once they are. */
export function login(standing, done) {
  const input = el('input', {
    id: 'token', name: 'token', type: 'password', autocomplete: 'current-password', autocapitalize: 'none', spellcheck: 'false',
    required: true, maxlength: 2048, 'aria-describedby': 'token-hint token-error',
  })
  const error = el('p', { id: 'token-error', class: 'field-error', role: 'alert' })
  const enter = async (token) => {
    error.textContent = ''
    try {
      await signIn(token)
      done()
    } catch (problem) {
      input.setAttribute('aria-invalid', 'true')
      const texts = {
        unauthorized: 'This is not the admin token.',
        'too-many-attempts': 'Too many wrong tokens. Wait a minute, then try again.',
        unreachable: 'The service does not answer. Is it running?',
      }
      error.textContent = texts[problem.code] ?? problem.message
      input.focus()
      input.select()
    }
  }
  const form = el(
    'form',
    { class: 'login-form', on: { submit: (event) => { event.preventDefault(); enter(input.value.trim()) } } },
    el('label', { for: 'token' }, 'Admin token'),
    input,
    error,
    el('p', { id: 'token-hint', class: 'hint' }, 'The value of ', el('code', {}, 'FAIRCOPY_ADMIN_TOKEN'), '. It is sent once, and not kept in this browser.'),
    el('button', { type: 'submit', class: 'primary wide' }, icon('key'), 'Sign in'),
  )
  const open = standing.is_open && el(
    'div',
    { class: 'login-open' },
    el('button', { type: 'button', class: 'wide', id: 'enter-open', on: { click: () => enter(null) } }, 'Continue without a token'),
    el('p', { class: 'hint' }, 'Possible from this machine while the service runs for development.'),
  )
  const off = el(
    'div',
    { class: 'note note-info' },
    icon('info'),
    el('div', {}, el('p', { class: 'note-title' }, 'The dashboard is off'),
      el('p', {}, 'Set ', el('code', {}, 'FAIRCOPY_ADMIN_TOKEN'), ' to a random text of at least 32 characters and start the service again.')),
  )
  return el(
    'main',
    { id: 'main', class: 'login', tabindex: -1 },
    el('div', { class: 'login-card' }, el('div', { class: 'brand' }, mark(), el('span', {}, 'Faircopy')),
      el('h1', {}, 'Sign in'), standing.is_on ? [form, open] : off),
  )
}

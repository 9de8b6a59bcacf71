// Small drawings. Each stands beside a word that says the same.

import { el } from './dom.js'

const PATHS = {
  overview: ['M3 12h4l2.5-7 5 14L17 12h4'],
  deliveries: ['M4 6h16v12H4z', 'M4 7l8 6 8-6'],
  users: ['M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z', 'M2.5 20c.5-3.5 3-5.5 6.5-5.5s6 2 6.5 5.5', 'M15.5 4.3a3.5 3.5 0 0 1 0 6.4', 'M18 14.9c2 .8 3.2 2.5 3.5 5.1'],
  organizations: ['M4 21V5l8-2v18', 'M12 9h8v12', 'M2.5 21h19', 'M7.5 8h1M7.5 12h1M7.5 16h1M15.5 13h1M15.5 17h1'],
  drift: ['M7 4v12a4 4 0 0 0 4 4h2', 'M17 20V8a4 4 0 0 0-4-4h-2', 'M4 7l3-3 3 3', 'M14 17l3 3 3-3'],
  deletions: ['M4 7h16', 'M9 7V4h6v3', 'M6 7l1 13h10l1-13', 'M10 11v5M14 11v5'],
  destinations: ['M3 12h10', 'M9.5 8.5L13 12l-3.5 3.5', 'M14 4h6v16h-6'],
  health: ['M12 20s-7.5-4.6-7.5-10.2A4.3 4.3 0 0 1 12 7a4.3 4.3 0 0 1 7.5 2.8C19.5 15.4 12 20 12 20z'],
  ok: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z', 'M8 12.2l2.8 2.8L16 9.5'],
  warning: ['M12 4L2.8 20h18.4z', 'M12 10v4.5M12 17.3v.2'],
  failed: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z', 'M9 9l6 6M15 9l-6 6'],
  waiting: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z', 'M12 7.5V12l3 2'],
  skipped: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z', 'M8 12h8'],
  info: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z', 'M12 11v5.5M12 7.7v.2'],
  older: ['M4 12a8 8 0 1 0 2.6-5.9', 'M4 4v4h4', 'M12 8v4.3l2.8 1.7'],
  moon: ['M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z'],
  sun: ['M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z', 'M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M18.7 5.3l-1.4 1.4M6.7 17.3l-1.4 1.4'],
  screen: ['M3 5h18v11H3z', 'M9 20h6M12 16v4'],
  eye: ['M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z', 'M12 9.3a2.7 2.7 0 1 0 0 5.4 2.7 2.7 0 0 0 0-5.4z'],
  hidden: ['M4 4l16 16', 'M9.9 5.8A9 9 0 0 1 12 5.5c6 0 9.5 6.5 9.5 6.5a16 16 0 0 1-2.7 3.4M6.3 7.5A15.5 15.5 0 0 0 2.5 12S6 18.5 12 18.5a9 9 0 0 0 4-.9', 'M9.9 10.2a2.7 2.7 0 0 0 3.8 3.8'],
  out: ['M14 4h5v16h-5', 'M3.5 12H14', 'M10.5 8.5L14 12l-3.5 3.5'],
  menu: ['M4 7h16M4 12h16M4 17h16'],
  search: ['M11 4.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z', 'M16 16l4.5 4.5'],
  again: ['M20 12a8 8 0 1 1-2.6-5.9', 'M20 4v4h-4'],
  back: ['M14.5 6L8.5 12l6 6'],
  next: ['M9.5 6l6 6-6 6'],
  play: ['M7 5l11 7-11 7z'],
  stop: ['M6 6h12v12H6z'],
  bell: ['M6 16.5V11a6 6 0 1 1 12 0v5.5l1.5 1.5h-15z', 'M10 20.5h4'],
  key: ['M8 12a4 4 0 1 0 0 8 4 4 0 0 0 0-8z', 'M11 13L20 4M16.5 7.5L19 10M14 10l2 2'],
  branch: ['M6 4v11a3 3 0 0 0 3 3h9', 'M15 15l3 3-3 3'],
}

/** A drawing of 16 pixels, for the eye only. */
export function icon(name, attributes) {
  return el(
    'svg',
    { class: 'icon', viewBox: '0 0 24 24', width: 16, height: 16, 'aria-hidden': 'true', focusable: 'false', ...attributes },
    (PATHS[name] ?? PATHS.info).map((d) => el('path', { d })),
  )
}

/** The mark of the program. */
export function mark() {
  return el(
    'svg',
    { class: 'mark', viewBox: '0 0 24 24', width: 24, height: 24, 'aria-hidden': 'true', focusable: 'false' },
    el('rect', { class: 'mark-ground', x: 1, y: 1, width: 22, height: 22, rx: 6.5 }),
    el('rect', { class: 'mark-one', x: 5.8, y: 5.8, width: 8.6, height: 8.6, rx: 2 }),
    el('rect', { class: 'mark-two', x: 9.6, y: 9.6, width: 8.6, height: 8.6, rx: 2 }),
  )
}

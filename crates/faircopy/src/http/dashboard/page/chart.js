// Charts, drawn as SVG, each with a table of the same numbers.

import { el } from './dom.js'
import { dayText, minuteText, number, span } from './format.js'

const WIDTH = 840
const HEIGHT = 150
const SERIES = [
  ['quarantined', 'Quarantined'],
  ['refused', 'Refused signatures'],
  ['applied', 'Applied'],
  ['stale', 'Stale'],
  ['ignored', 'Ignored'],
]

const total = (one) => SERIES.reduce((sum, [name]) => sum + one[name], 0)

/** The next round number, for the top of the scale. */
export function ceiling(value) {
  if (value <= 4) return 4
  const unit = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 4, 5, 10].map((factor) => factor * unit).find((round) => round >= value)
}

const label = (date, stretch) => (stretch >= 3_600_000 ? `${dayText(date)}, ${minuteText(date)}` : minuteText(date))

const sentence = (one, stretch) => {
  const parts = SERIES.filter(([name]) => one[name] > 0).map(([name, word]) => `${number(one[name])} ${word.toLowerCase()}`)
  const lag = one.lag_ms === null ? '' : ` · lag ${span(one.lag_ms)}`
  return `${label(new Date(one.at), stretch)} · ${parts.join(', ') || 'nothing'}${lag}`
}

/** Deliveries over time, stacked by outcome. */
export function activityChart(activity, words) {
  const { data, stretch_ms: stretch } = activity
  const top = ceiling(Math.max(0, ...data.map(total)))
  const step = WIDTH / data.length
  const gap = Math.min(2, step * 0.2)
  const sum = data.reduce((all, one) => all + total(one), 0)
  const failures = data.reduce((all, one) => all + one.quarantined + one.refused, 0)
  const rest = `${number(sum)} in all, ${number(failures)} of them failures`
  const readout = el('p', { class: 'readout' }, rest)
  const bars = data.map((one, at) => {
    let y = HEIGHT
    const parts = SERIES.filter(([name]) => one[name] > 0).map(([name]) => {
      const height = Math.max(1.5, (one[name] / top) * HEIGHT)
      y -= height
      return el('rect', { class: `bar bar-${name}`, x: (at * step + gap / 2).toFixed(2), y: Math.max(0, y).toFixed(2), width: (step - gap).toFixed(2), height: height.toFixed(2) })
    })
    const show = () => { readout.textContent = sentence(one, stretch) }
    return el('g', { class: 'stretch', on: { pointerenter: show } },
      el('rect', { class: 'hit', x: (at * step).toFixed(2), y: 0, width: step.toFixed(2), height: HEIGHT }), parts)
  })
  const lines = [0, 0.5, 1].map((part) => el('line', { class: 'grid', x1: 0, x2: WIDTH, y1: HEIGHT * (1 - part), y2: HEIGHT * (1 - part) }))
  const picture = el(
    'svg',
    {
      class: 'chart', viewBox: `0 -1 ${WIDTH} ${HEIGHT + 2}`, preserveAspectRatio: 'none', role: 'img',
      'aria-label': `Deliveries over ${words}: ${rest}. The table below has every number.`,
      on: { pointerleave: () => { readout.textContent = rest } },
    },
    lines,
    bars,
  )
  const ends = [data[0], data[Math.floor(data.length / 2)], data[data.length - 1]].map((one) => el('span', {}, label(new Date(one.at), stretch)))
  const legend = el('ul', { class: 'legend', 'aria-hidden': 'true' }, SERIES.map(([name, word]) => el('li', {}, el('span', { class: `swatch bar-${name}` }), word)))
  return el(
    'figure',
    { class: 'figure' },
    el('figcaption', { class: 'figure-head' }, readout, legend),
    el('div', { class: 'plot' }, el('div', { class: 'scale', 'aria-hidden': 'true' }, [top, top / 2, 0].map((value) => el('span', {}, number(value)))),
      el('div', { class: 'plot-area' }, picture, el('div', { class: 'ends', 'aria-hidden': 'true' }, ends))),
    activity.is_partial && el('p', { class: 'hint' }, 'So much arrives that the last seconds are added up later.'),
    twin(data, stretch, words),
  )
}

function twin(data, stretch, words) {
  const head = ['From', ...SERIES.map(([, word]) => word), 'Lag'].map((word, at) => el('th', { scope: 'col', class: at ? 'right' : null }, word))
  const rows = data.filter((one) => total(one) > 0).reverse().map((one) =>
    el('tr', {}, el('th', { scope: 'row' }, label(new Date(one.at), stretch)),
      SERIES.map(([name]) => el('td', { class: 'right' }, number(one[name]))), el('td', { class: 'right' }, span(one.lag_ms))))
  return el(
    'details',
    { class: 'twin', id: 'activity-table' },
    el('summary', { id: 'activity-table-summary' }, 'The numbers as a table'),
    rows.length === 0 ? el('p', { class: 'hint' }, `Nothing arrived over ${words}.`)
      : el('div', { class: 'scrolls', tabindex: 0, role: 'region', 'aria-label': 'The numbers of the chart' },
        el('table', {}, el('caption', { class: 'unseen' }, `Deliveries over ${words}, newest first; stretches without any are left out`),
          el('thead', {}, el('tr', {}, head)), el('tbody', {}, rows))),
  )
}

/** How much goes in and out, how fast it is answered, and how far this device is behind: as lines, and as figures. */

import { useEffect, useRef, useState } from 'preact/hooks'
import 'uplot/dist/uPlot.min.css'
import { useDaemon } from '../daemon.js'
import { bytes, duration, ms } from '../format.js'
import { Card, Notice, Page } from '../parts.js'
import { EVERY_MS, MOST, ringOf, type Drawing, type Line, type Sample } from '../ring.js'

const FILE = '/assets/charts.js'

type Draw = (place: HTMLElement, lines: readonly Line[], say: (value: number) => string, least: number) => Drawing

let loading: Promise<Draw> | null = null

/** The library, fetched once. */
function library(): Promise<Draw> {
  loading ??= import(/* @vite-ignore */ FILE).then((found: { draw: Draw }) => found.draw)
  loading.catch(() => (loading = null)) // tried again with the next visit
  return loading
}

const rate = (value: number): string => `${bytes(Math.round(value))}/s`
const SOLID = { colour: '--accent' } as const
const DASHED = { colour: '--warn', dash: [6, 4] } as const

interface Chart {
  title: string
  about: string
  lines: readonly Line[]
  say: (value: number) => string
  /** Where nothing happens the scale goes so far up. */
  least: number
}

const CHARTS: readonly Chart[] = [
  {
    title: 'Programs of this computer', about: 'What they send to HybridGW and get from it. This page is one of them.', say: rate, least: 1_000,
    lines: [{ name: 'in', ...SOLID, of: (one) => one.in_bps }, { name: 'out', ...DASHED, of: (one) => one.out_bps }],
  },
  {
    title: 'Other devices', about: 'Over relays and directly, all sealed.', say: rate, least: 1_000,
    lines: [{ name: 'sent', ...SOLID, of: (one) => one.up_bps }, { name: 'received', ...DASHED, of: (one) => one.down_bps }],
  },
  {
    title: 'Time to an answer', about: 'Of HybridGW to this page, and of the relay to HybridGW.', say: ms, least: 5,
    lines: [{ name: 'HybridGW', ...SOLID, of: (one) => one.answer_ms }, { name: 'relay', ...DASHED, of: (one) => one.relay_ms }],
  },
  {
    title: 'Behind', about: 'How long ago this device was in step with the others, while it is not.', say: (value) => duration(value), least: 10,
    lines: [{ name: 'for', ...SOLID, of: (one) => one.lag_s }],
  },
  {
    title: 'Waits', about: 'Changes to be sealed, and batches to be sent or applied.', say: (value) => String(Math.round(value)), least: 4,
    lines: [{ name: 'waiting', ...SOLID, of: (one) => one.waits }],
  },
]

/** The charts. */
export function TrafficPage() {
  const db = useDaemon()
  const ring = ringOf(db)
  const [, turn] = useState(0)
  const [draw, got] = useState<{ draw: Draw } | null>(null)
  const [error, tell] = useState(false)
  const scheme = useScheme()
  useEffect(() => ring.follow(() => turn((before) => before + 1)), [ring])
  useEffect(() => {
    let isGone = false
    library().then((found) => !isGone && got({ draw: found }), () => !isGone && tell(true))
    return () => void (isGone = true)
  }, [])
  return (
    <Page title="Traffic" lead={`Looked at every ${EVERY_MS / 1000} s since this page was first opened in this tab, and kept for ${(MOST * EVERY_MS) / 60_000} minutes. For longer times there are metrics for Prometheus.`}>
      {error && <Notice tone="warn">The charts cannot be loaded. The figures are here all the same.</Notice>}
      <div class="charts">
        {CHARTS.map((chart) => <One key={`${chart.title} ${scheme}`} chart={chart} samples={ring.samples} draw={draw?.draw ?? null} />)}
      </div>
    </Page>
  )
}

function One({ chart, samples, draw }: { chart: Chart; samples: readonly Sample[]; draw: Draw | null }) {
  const place = useRef<HTMLDivElement>(null)
  const drawing = useRef<Drawing | null>(null)
  useEffect(() => {
    if (draw === null || place.current === null) return
    drawing.current = draw(place.current, chart.lines, chart.say, chart.least)
    return () => {
      drawing.current?.end()
      drawing.current = null
    }
  }, [draw, chart])
  const latest = samples.at(-1)
  useEffect(() => {
    drawing.current?.show(samples.map((one) => one.at_s), chart.lines.map((line) => samples.map(line.of)))
  }, [draw, latest, samples, chart])
  const figures = chart.lines.map((line) => {
    const known = samples.map(line.of).filter((value) => value !== null)
    return { line, now: latest === undefined ? null : line.of(latest), most: known.length === 0 ? null : Math.max(...known) }
  })
  const text = (value: number | null): string => (value === null ? '–' : chart.say(value))
  return (
    <Card title={chart.title}>
      <p class="quiet">{chart.about}</p>
      <div class="chart" ref={place} role="img" aria-label={`${chart.title} over time: ${figures.map(({ line, now, most }) => `${line.name} now ${text(now)}, at most ${text(most)}`).join('; ')}`} />
      <ul class="legend">
        {figures.map(({ line, now, most }) => (
          <li key={line.name}>
            <svg viewBox="0 0 24 8" width="24" height="8" aria-hidden="true" class={line.dash === undefined ? 'one' : 'two'}><path d="M0 4h24" stroke-dasharray={line.dash?.join(' ')} /></svg>
            <span>{line.name} <strong data-now={`${chart.title} ${line.name}`}>{text(now)}</strong> <span class="quiet">at most {text(most)}</span></span>
          </li>
        ))}
      </ul>
    </Card>
  )
}

/** light or dark as the system has it: a canvas does not change its colours by itself. */
function useScheme(): string {
  const [scheme, set] = useState(() => (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'))
  useEffect(() => {
    const query = matchMedia('(prefers-color-scheme: dark)')
    const changed = (): void => set(query.matches ? 'dark' : 'light')
    query.addEventListener('change', changed)
    return () => query.removeEventListener('change', changed)
  }, [])
  return scheme
}

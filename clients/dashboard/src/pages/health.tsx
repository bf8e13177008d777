/** Whether everything works, with figures, and what the daemon has logged. */

import { useState } from 'preact/hooks'
import type { Component, HealthReport, Items, LogEntry } from '../api.js'
import { useAnswer } from '../daemon.js'
import { bytes, duration, ms, oneLine } from '../format.js'
import { Badge, Card, Empty, Facts, Field, Loaded, Page, Said, type Tone } from '../parts.js'
import { Doctor } from './doctor.js'

const TONES: Readonly<Record<string, Tone>> = { ok: 'good', starting: 'calm', not_configured: 'calm', degraded: 'warn', failed: 'bad' }

/** The page. */
export function HealthPage() {
  const report = useAnswer<HealthReport>('config.health', {}, [], 5_000)
  return (
    <Page title="Logs and health" lead="What works, how fast, and what happened. The same in a terminal: hybridgw doctor, hybridgw logs">
      <Loaded answer={report}>{(health) => (
        <>
          <Card title={<>All in all <Badge tone={TONES[health.status] ?? 'calm'}>{health.status}</Badge></>}>
            <ul class="rows">{[...health.components, ...health.services.filter((one) => !health.components.some((other) => other.name === one.name))].map((one) => <Part key={one.name} part={one} />)}</ul>
          </Card>
          <div class="two">
            <Machine health={health} />
            <Speed health={health} />
          </div>
        </>
      )}</Loaded>
      <Doctor />
      <Logs />
    </Page>
  )
}

function Part({ part }: { part: Component }) {
  return (
    <li>
      <div><strong><Said text={part.name} most={40} /></strong> <Badge tone={TONES[part.state] ?? 'calm'}>{oneLine(part.state.replaceAll('_', ' '), 30)}</Badge></div>
      {(part.message !== null || part.help) && <p class="quiet">{part.message !== null && oneLine(part.message, 300)} {part.help && <>What helps: {oneLine(part.help, 200)}</>}</p>}
    </li>
  )
}

function Machine({ health: { system, version, uptime_s } }: { health: HealthReport }) {
  return (
    <Card title="This program">
      <Facts facts={[
        ['Version', version],
        ['Runs for', duration(uptime_s)],
        ['Memory', `${bytes(system.process_rss_bytes)} (of ${bytes(system.memory_total_bytes)}, ${bytes(system.memory_available_bytes)} free)`],
        ['Processor', `${system.process_cpu_percent.toFixed(1)} % of one of ${system.cpu_count} cores`],
        ['Database', bytes(system.disk?.database_bytes)],
        ['Disk', `${bytes(system.disk?.free_bytes)} of ${bytes(system.disk?.total_bytes)} free`],
        ['Open files', system.process_open_files === null ? '–' : String(system.process_open_files)],
      ]} />
    </Card>
  )
}

function Speed({ health: { performance: p } }: { health: HealthReport }) {
  const at = (s: number | null): string => (s === null ? '–' : ms(s * 1000))
  const share = (rate: number): string => `${(rate * 100).toFixed(rate > 0 && rate < 0.001 ? 3 : 1)} %`
  return (
    <Card title="Calls since the start">
      <Facts facts={[
        ['Calls', p.requests.toLocaleString('en')],
        ['Half of them within', at(p.request_p50_s)],
        ['95 of 100 within', at(p.request_p95_s)],
        ['99 of 100 within', at(p.request_p99_s)],
        ['Failed by our fault', share(p.error_rate)],
        ['Refused', share(p.refused_rate)],
        ['Writes to the disk', `${p.commits.toLocaleString('en')}, half within ${at(p.commit_p50_s)}`],
      ]} />
    </Card>
  )
}

function Logs() {
  const [level, setLevel] = useState('INFO')
  const [limit, setLimit] = useState(100)
  const [calls, setCalls] = useState(false)
  const logs = useAnswer<Items<LogEntry>>('logs.list', { level, limit, calls }, [], 3_000)
  return (
    <Card title="Log">
      <div class="line">
        <Field label="From" short><select value={level} onChange={(event) => setLevel(event.currentTarget.value)}><option value="DEBUG">everything</option><option value="INFO">information</option><option value="WARNING">warnings</option><option value="ERROR">errors</option></select></Field>
        <Field label="Latest" short><select value={limit} onChange={(event) => setLimit(Number(event.currentTarget.value))}><option value="100">100 lines</option><option value="500">500 lines</option></select></Field>
        <label class="check"><input type="checkbox" checked={calls} onChange={(event) => setCalls(event.currentTarget.checked)} /><span>every call of a program too</span></label>
      </div>
      <Loaded answer={logs}>{({ items }) => items.length === 0 ? <Empty>Nothing of this kind.</Empty> : (
        <ol class="log" tabIndex={0} aria-label="Log, latest first">
          {items.map((line, n) => (
            <li key={`${line.timestamp} ${n}`} class={line.level.toLowerCase()}>
              <time>{oneLine(line.timestamp, 30).replace('T', ' ').replace(/\.\d+Z$/, '')}</time> <b>{oneLine(line.level, 10)}</b> <span>{oneLine(line.message, 400)}</span>
            </li>
          ))}
        </ol>
      )}</Loaded>
    </Card>
  )
}

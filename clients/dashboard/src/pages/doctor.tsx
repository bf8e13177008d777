/** Everything that is not as it should be, each line with what helps: what `hybridgw doctor` asks the daemon, asked here. */

import { useEffect, useState } from 'preact/hooks'
import type { HybridGW } from '../../../js/src/client.js'
import { asError } from '../../../js/src/errors.js'
import type { Alarm, HealthReport, Items, LanReport, LogEntry, Recovery, Relay, RelayCheck, Setting, SyncStatus } from '../api.js'
import { call } from '../api.js'
import { useDaemon } from '../daemon.js'
import { bytes, count, duration, ms, oneLine } from '../format.js'
import { Badge, Button, Card, Notice, type Tone } from '../parts.js'

const LOW_DISK_BYTES = 200 * 1024 * 1024
const NO_DISK_BYTES = 20 * 1024 * 1024
const LOW_MEMORY_BYTES = 100 * 1024 * 1024
const BAD_ERROR_RATE = 0.01
const CLOCK_WARN_MS = 60_000
const CLOCK_BOUND_MS = 15 * 60_000 // writes of a clock further off wait
const SLOW_MS = 60_000
const NEWS_MS = 24 * 3_600_000 // errors of the log that are older are no news

/** One line. to: the page where it is put right. */
interface Check {
  name: string
  state: 'ok' | 'warn' | 'fail'
  text: string
  help?: string
  to?: string
}

type Look = (db: HybridGW) => Promise<Check[]>

const check = (name: string, state: Check['state'], text: string, more: { help?: string; to?: string } = {}): Check => ({ name, state, text, ...more })

const daemon: Look = async (db) => {
  const { version, uptime_s, components, system, performance } = await call<HealthReport>(db, 'config.health')
  const found = [check('HybridGW', 'ok', `Version ${version} answers, up ${duration(uptime_s)}.`)]
  for (const one of components) {
    if (one.name === 'disk' && one.state === 'ok') continue // told with figures
    found.push(check(one.name, one.state === 'ok' ? 'ok' : one.state === 'failed' ? 'fail' : 'warn', one.message ?? (one.state === 'ok' ? 'works' : one.state.replaceAll('_', ' ')), one.help ? { help: one.help } : {}))
  }
  if (system.disk !== null) {
    const { free_bytes, database_bytes } = system.disk
    const text = `${bytes(free_bytes)} free; the data takes ${bytes(database_bytes)}.`
    found.push(free_bytes < LOW_DISK_BYTES ? check('disk', free_bytes < NO_DISK_BYTES ? 'fail' : 'warn', text, { help: 'free some space; no restart is needed' }) : check('disk', 'ok', text))
  }
  const isLow = system.memory_available_bytes < LOW_MEMORY_BYTES
  found.push(check('memory', isLow ? 'warn' : 'ok', `${bytes(system.memory_available_bytes)} free; HybridGW takes ${bytes(system.process_rss_bytes)}.`, isLow ? { help: 'close programs that take much memory' } : {}))
  const isFailing = performance.error_rate > BAD_ERROR_RATE
  const p95 = performance.request_p95_s === null ? '' : `, 95 of 100 within ${ms(performance.request_p95_s * 1000)}`
  found.push(check('speed', isFailing ? 'warn' : 'ok', `${count(performance.requests, 'call')}${p95}${isFailing ? `; ${(performance.error_rate * 100).toFixed(1)} % failed by our fault` : ''}.`, isFailing ? { to: 'health' } : {}))
  return found
}

const settings: Look = async (db) => {
  const { items, warnings } = await call<Items<Setting> & { warnings: string[] }>(db, 'config')
  const store = items.find((one) => one.name === 'SECRET_STORE')?.value
  return [
    // A plain file is told among the parts.
    ...(store === 'insecure-file' ? [] : [check('secret store', 'ok', `The key of this device is kept ${store === 'keyring' ? 'in the keyring of this system' : 'in a file under a passphrase'}.`)]),
    ...(warnings.length === 0 ? [check('configuration', 'ok', 'Every setting is understood.')] : warnings.map((text) => check('configuration', 'warn', text, { to: 'settings' }))),
  ]
}

const paper: Look = async (db) => {
  const { state } = await call<Recovery>(db, 'recovery.get')
  if (state === 'here') return [check('recovery words', 'warn', 'They are not on paper yet: if this device is lost, nothing brings your data back.', { to: 'devices' })]
  return [check('recovery words', 'ok', state === 'confirmed' ? 'On your paper.' : 'With the first device of yours.')]
}

const relays: Look = async (db) => {
  const { items } = await call<Items<Relay>>(db, 'relays.list')
  if (items.length === 0) return [check('relays', 'ok', 'None; this device keeps its data to itself, and to devices on this network.')]
  const found: Check[] = []
  for (const { url } of items) {
    const tried = await call<RelayCheck>(db, 'relays.test', { url }, SLOW_MS)
    if (!tried.ok) {
      found.push(check('relay', 'fail', `${url}: ${tried.error ?? 'no answer'}`, { to: 'connections' }))
      continue
    }
    found.push(check('relay', 'ok', `${url} answers${tried.rtt_ms === null ? '' : ` in ${ms(tried.rtt_ms)}`}.`))
    const offset = tried.clock_offset_ms
    if (offset === null) continue
    const off = Math.abs(offset)
    const text = `This clock is ${duration(off / 1000)} ${offset > 0 ? 'behind' : 'ahead of'} that of ${url}.`
    if (off > CLOCK_BOUND_MS) found.push(check('clock', 'fail', `${text} New writes wait until it is right.`, { help: 'set the clock of this computer' }))
    else if (off > CLOCK_WARN_MS) found.push(check('clock', 'warn', text, { help: 'set the clock of this computer' }))
    else found.push(check('clock', 'ok', `It agrees with that of ${url}.`))
  }
  return found
}

const network: Look = async (db) => {
  const { items } = await call<LanReport>(db, 'lan.test', {}, SLOW_MS)
  return items.map((one) => check('local network', one.state, one.message, { ...(one.help === '' ? {} : { help: one.help }), ...(one.state === 'ok' ? {} : { to: 'connections' }) }))
}

const sync: Look = async (db) => {
  const found = await call<SyncStatus>(db, 'sync.status')
  const text = found.message ?? found.state.replaceAll('_', ' ')
  const isStuck = ['offline', 'parked'].includes(found.state) && found.relays.length > 0
  return [
    found.state === 'locked' ? check('sync', 'fail', 'It waits until the keys are open.', { help: 'hybridgw doctor' }) : check('sync', isStuck ? 'warn' : 'ok', text, isStuck ? { to: 'connections' } : {}),
    ...(found.conflicts > 0 ? [check('conflicts', 'warn', `${count(found.conflicts, 'document')} to decide.`, { to: 'conflicts' })] : []),
  ]
}

const alarms: Look = async (db) => {
  const { items } = await call<Items<Alarm>>(db, 'alarms.list')
  if (items.length === 0) return [check('alarms', 'ok', 'None.')]
  return items.map((one) => check('alarm', 'fail', one.message, { to: 'alarms' }))
}

const log: Look = async (db) => {
  const { items } = await call<Items<LogEntry>>(db, 'logs.list', { level: 'ERROR', limit: 20 })
  const recent = items.filter((one) => Date.now() - Date.parse(one.timestamp) < NEWS_MS)
  if (recent[0] === undefined) return [check('log', 'ok', 'No error within a day.')]
  return [check('log', 'warn', `${count(recent.length, 'error')} of late, the last: ${recent[0].message}`, { to: 'health' })]
}

const LOOKS: readonly (readonly [string, Look])[] = [
  ['HybridGW', daemon], ['configuration', settings], ['recovery words', paper], ['relays', relays], ['local network', network], ['sync', sync], ['alarms', alarms], ['log', log],
]
const TONES: Readonly<Record<Check['state'], Tone>> = { ok: 'good', warn: 'warn', fail: 'bad' }
const WORDS: Readonly<Record<Check['state'], string>> = { ok: 'good', warn: 'look', fail: 'failed' }

/** Check everything, at once or when asked to. */
export function Doctor({ atOnce = false }: { atOnce?: boolean }) {
  const db = useDaemon()
  const [found, tell] = useState<Check[] | null>(null)
  const [isOver, end] = useState(false)
  const [turn, again] = useState(atOnce ? 1 : 0)

  useEffect(() => {
    if (turn === 0) return
    let isGone = false
    tell([])
    end(false)
    void (async () => {
      for (const [name, look] of LOOKS) {
        // One that breaks is a failure of its own, and stops no other one.
        const lines = await look(db).catch((thrown: unknown) => [check(name, 'fail', asError(thrown).message)])
        if (isGone) return
        tell((before) => [...(before ?? []), ...lines])
      }
      end(true)
    })()
    return () => void (isGone = true)
  }, [db, turn])

  const bad = found?.filter((one) => one.state === 'fail').length ?? 0
  const odd = found?.filter((one) => one.state === 'warn').length ?? 0
  return (
    <Card title="Is everything as it should be?" actions={<Button busy={found !== null && !isOver} onClick={() => again(turn + 1)}>{found === null ? 'Check everything' : 'Check again'}</Button>}>
      <div aria-live="polite">
        {found !== null && !isOver && <p class="quiet">Checking …</p>}
        {isOver && <Notice tone={bad > 0 ? 'bad' : odd > 0 ? 'warn' : 'good'}><span data-doctor={bad > 0 ? 'bad' : odd > 0 ? 'warn' : 'good'}>{bad + odd === 0 ? 'Everything is as it should be.' : `${[...(bad > 0 ? [count(bad, 'failure')] : []), ...(odd > 0 ? [`${count(odd, 'thing')} to look at`] : [])].join(', ')}. Everything else is as it should be.`}</span></Notice>}
      </div>
      {found !== null && (
        <ul class="rows checks">
          {[...found].sort((one, other) => rank(other) - rank(one)).map((one) => (
            <li key={`${one.name} ${one.text}`} class="with-action">
              <div>
                <p><Badge tone={TONES[one.state]}>{WORDS[one.state]}</Badge> <strong>{oneLine(one.name, 40)}</strong> {oneLine(one.text, 300)}</p>
                {one.help !== undefined && one.state !== 'ok' && <p class="quiet">What helps: {oneLine(one.help, 300)}</p>}
              </div>
              {one.to !== undefined && <a class="button" href={`#/${one.to}`}>Put it right<span class="hidden">: {oneLine(one.name, 40)}</span></a>}
            </li>
          ))}
        </ul>
      )}
      {isOver && <p class="quiet">Rights of files and folders are seen from outside only: <code>hybridgw doctor</code></p>}
    </Card>
  )
}

function rank({ state }: Check): number {
  return { ok: 0, warn: 1, fail: 2 }[state]
}

/** In step or not, and why; what waits for the person; the first steps. */

import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import type { Alarm, Contact, ContactRequest, Device, Grant, Items, Readiness, Recovery, SyncStatus } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, appText, bytes, count, ms, oneLine } from '../format.js'
import { Badge, Button, Card, Loaded, Page, Problem, Said, type Tone } from '../parts.js'
import { remember, remembered } from '../theme.js'
import { FIRST_STEPS } from './start.js'


/** The first page. */
export function HomePage() {
  const db = useDaemon()
  const sync = useAnswer<SyncStatus>('sync.status', {}, ['sync', 'devices'], 5_000)
  const ready = useAnswer<Readiness>('health.ready', {}, [], 10_000)
  const devices = useAnswer<Items<Device>>('devices.list', {}, ['devices'], 30_000)
  const grants = useAnswer<Items<Grant>>('auth.grants.list', {}, ['grants'], 15_000)
  const alarms = useAnswer<Items<Alarm>>('alarms.list', {}, ['alarms'], 30_000)
  const notes = useAnswer<{ waiting: number }>('messages.notifications', { limit: 1 }, ['messages'], 30_000)
  const asking = useAnswer<Items<ContactRequest>>('contacts.requests', {}, ['contacts'], 30_000)
  const contacts = useAnswer<Items<Contact>>('contacts.list', {}, ['contacts'], 30_000)
  const recovery = useAnswer<Recovery>('recovery.get', {}, ['devices'], 60_000)
  const action = useAction()
  const own = devices.data?.items.find((device) => device.own)
  const syncNow = async (): Promise<void> => {
    await call(db, 'sync.trigger', { sync_type: 'all', wait: true, timeout_s: 30 }, 40_000)
    sync.reload()
  }
  return (
    <Page title="Home" lead={own === undefined ? undefined : <>This device is <Said text={own.name} most={64} /></>}>
      <Loaded answer={sync}>{(status) => (
        <>
          <State sync={status} ready={ready.data} action={(status.relays.length > 0 || status.direct.length > 0) && <Button kind="main" busy={action.isRunning} onClick={() => void action.run(syncNow)}>Sync now</Button>} />
          <Problem error={action.error} />
          <Waiting grants={grants.data?.items ?? []} notes={notes.data?.waiting ?? 0} people={asking.data?.items.length ?? 0} changed={contacts.data?.items.filter((one) => one.changed && one.state !== 'blocked') ?? []} sync={status} alarms={alarms.data?.items ?? []} />
          <Steps ready={ready.data} recovery={recovery.data} sync={status} devices={devices.data?.items ?? []} grants={grants.data?.items ?? []} />
          {status.relays.length + status.direct.length > 0 && <Ways sync={status} />}
        </>
      )}</Loaded>
    </Page>
  )
}

/** What the state of sync means to a person. */
export function stateOf(sync: SyncStatus): { tone: Tone; title: string; text: string } {
  const left = waiting(sync)
  if (sync.standing !== 'active' && sync.state !== 'locked') return { tone: 'bad', title: 'Not one of your devices', text: 'What you write stays on this device, and nothing of the others arrives here.' }
  switch (sync.state) {
    case 'in_step':
      return { tone: 'good', title: 'In step', text: 'Everything written here has been handed on, and everything that your other devices wrote is here.' }
    case 'syncing':
      return { tone: 'calm', title: 'Syncing', text: left || 'Changes are on their way.' }
    case 'offline':
      if (sync.relays.length === 0) return { tone: 'calm', title: 'On this device only', text: 'Your data is complete here and can be used. Nothing goes to another device, because none is in reach and there is no relay.' }
      return { tone: 'warn', title: 'Offline', text: `Everything works here; changes wait until another device or the relay is reached. ${left}` }
    case 'parked':
      return { tone: 'warn', title: 'Waiting', text: [sync.message, left].filter(Boolean).join(' ') || 'Something has arrived that cannot be applied yet.' }
    case 'locked':
      return { tone: 'bad', title: 'Locked', text: 'The keys of this device are not open, so nothing is synced. Data on this device can be used.' }
  }
}

function waiting(sync: SyncStatus): string {
  const parts: string[] = []
  if (sync.pending > 0) parts.push(`${count(sync.pending, 'change')} to seal`)
  if (sync.to_send > 0 && sync.relays.length > 0) parts.push(`${count(sync.to_send, 'batch', 'batches')} to send`)
  if (sync.waiting > 0) parts.push(`${count(sync.waiting, 'batch', 'batches')} received and not applied yet`)
  return parts.length === 0 ? '' : `${parts.join(', ')}.`
}

function State({ sync, ready, action }: { sync: SyncStatus; ready: Readiness | null; action: ComponentChildren }) {
  const now = useNow(10_000)
  const { tone, title, text } = stateOf(sync)
  const broken = ready?.components.filter((one) => one.state === 'failed' || one.state === 'degraded') ?? []
  return (
    <section class={`card state ${tone}`}>
      <div class="state-mark" aria-hidden="true">{sync.state === 'syncing' ? '↻' : { good: '✓', calm: '•', warn: '!', bad: '×' }[tone]}</div>
      <div class="state-text">
        <h2 aria-live="polite">{title}</h2>
        <p>{text}</p>
        {sync.message !== null && sync.state !== 'in_step' && sync.state !== 'locked' && (sync.relays.length > 0 || sync.standing !== 'active') && <p><strong>Why:</strong> {oneLine(sync.message, 400)}</p>}
        {sync.path_reason !== '' && sync.state !== 'locked' && <p class="quiet">{oneLine(sync.path_reason, 400)}</p>}
        {broken.map((one) => <p key={one.name} class="quiet"><strong>{oneLine(one.name)}:</strong> {oneLine(one.message ?? one.state, 300)}{one.help ? ` What helps: ${oneLine(one.help, 200)}` : ''}</p>)}
        {sync.last_sync_ms !== null && <p class="quiet">Last in step {ago(sync.last_sync_ms, now)}</p>}
      </div>
      <div class="actions">{action}</div>
    </section>
  )
}

function Waiting({ grants, notes, people, changed, sync, alarms }: { grants: Grant[]; notes: number; people: number; changed: Contact[]; sync: SyncStatus; alarms: Alarm[] }) {
  const pending = grants.filter((grant) => grant.state === 'pending')
  if (pending.length + notes + people + changed.length === 0 && sync.conflicts === 0 && alarms.length === 0) return null
  return (
    <Card title="Waits for you" tone="warn">
      <ul class="links">
        {pending.map((grant) => <li key={grant.id}><a href="#/apps"><Said text={appText(grant.origin, `The program “${grant.name}”`)} most={80} /> asks to be let in</a></li>)}
        {notes > 0 && <li><a href="#/messages">{count(notes, 'message')} that nobody has dealt with</a></li>}
        {people > 0 && <li><a href="#/people">{count(people, 'person asks', 'people ask')} to be your contact</a></li>}
        {changed.slice(0, 3).map((one) => <li key={one.id}><a href={`#/people/${encodeURIComponent(one.id)}`}><Said text={one.name} most={64} /> has another key than before</a></li>)}
        {sync.conflicts > 0 && <li><a href="#/conflicts">{count(sync.conflicts, 'document')} changed on two devices at once</a></li>}
        {alarms.slice(0, 3).map((alarm) => <li key={alarm.id}><a href="#/alarms">{oneLine(alarm.message, 160)}</a></li>)}
        {alarms.length > 3 && <li><a href="#/alarms">{count(alarms.length - 3, 'more alarm')}</a></li>}
      </ul>
    </Card>
  )
}

function Steps({ ready, sync, devices, grants, recovery }: { ready: Readiness | null; recovery: Recovery | null; sync: SyncStatus; devices: Device[]; grants: Grant[] }) {
  const [isHidden, hide] = useState(() => remembered(FIRST_STEPS) === 'hidden')
  const isOpen = sync.state !== 'locked'
  const steps: [boolean, string, ComponentChildren][] = [
    [ready?.ready === true, 'HybridGW runs', 'This computer keeps your data, with or without a network.'],
    [isOpen, 'The keys of this device are open', isOpen ? 'They seal what leaves this computer.' : <>Nothing is synced before. What helps: <code>hybridgw doctor</code></>],
    [sync.relays.length > 0 || devices.filter((device) => device.state === 'active').length > 1, 'Add a relay, or join your other devices', <>First device: <a href="#/connections">add a relay</a>, which carries sealed changes and can read none of them. A further device: <a href="#/devices">enter the code</a> that the first one shows.</>],
    [devices.filter((device) => device.state === 'active').length > 1, 'Pair a second device', <>Then everything is in two places. <a href="#/devices">Show a code</a></>],
    [recovery !== null && recovery.state !== 'here', 'Put the recovery words on paper', <>They bring everything back if your devices are gone. <a href="#/start/words">Show them</a></>],
    [grants.some((grant) => grant.state === 'approved'), 'Let an app in', <>Open an app, click its button to connect, compare six digits <a href="#/apps">here</a>.</>],
  ]
  const done = steps.filter(([isDone]) => isDone).length
  if (isHidden || ready === null || done === steps.length) return null
  const dismiss = (): void => {
    remember(FIRST_STEPS, 'hidden')
    hide(true)
  }
  return (
    <Card title="First steps" actions={<><a class="button main" href="#/start">Set up, step by step</a><Button onClick={dismiss}>Hide</Button></>}>
      <p class="quiet">{done} of {steps.length} done. <a href="#/start/check">Check everything</a></p>
      <ol class="steps">
        {steps.map(([isDone, title, text]) => (
          <li key={title} class={isDone ? 'done' : ''}>
            <span class="tick" aria-hidden="true">{isDone ? '✓' : ''}</span>
            <div><strong>{title}</strong>{isDone && <span class="hidden"> (done)</span>}<p>{text}</p></div>
          </li>
        ))}
      </ol>
    </Card>
  )
}

const RELAY_TONE: Readonly<Record<string, Tone>> = { connected: 'good', connecting: 'calm', offline: 'warn', refused: 'bad' }

function Ways({ sync }: { sync: SyncStatus }) {
  return (
    <Card title="Ways to your other devices" actions={<a href="#/connections">All connections</a>}>
      <ul class="rows">
        {sync.direct.map((link) => (
          <li key={link.device}>
            <div><Said text={link.name} most={64} /> <Badge tone="good">direct</Badge></div>
            <p class="quiet"><Said text={link.address} most={60} />, sent {bytes(link.sent_bytes)}, received {bytes(link.received_bytes)}</p>
          </li>
        ))}
        {sync.relays.map((relay) => (
          <li key={relay.url}>
            <div><Said text={relay.url} /> <Badge tone={RELAY_TONE[relay.state] ?? 'calm'}>{relay.state}</Badge></div>
            <p class="quiet">{relay.rtt_ms !== null && `${ms(relay.rtt_ms)}, `}sent {bytes(relay.sent_bytes)}, received {bytes(relay.received_bytes)}{relay.error !== null && `. ${oneLine(relay.error, 300)}`}</p>
          </li>
        ))}
      </ul>
    </Card>
  )
}

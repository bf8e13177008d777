/** One device: its name, and how it is put out, taken back, or lost. What that will and cannot do is said before. */

import { useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import type { Device, DeviceChange, Items, Removal } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, count, oneLine, time } from '../format.js'
import { Badge, Button, Card, Dialog, Facts, Field, Loaded, Notice, Page, Problem, Said } from '../parts.js'
import { WordsField } from '../words.js'
import { Quarantine, STANDING, WAYS } from './devices.js'

const SLOW_MS = 60_000

type Open = 'remove' | 'lost' | 'restore' | 'leave' | 'undo' | 'settle' | null

/** A device. */
export function DevicePage({ id }: { id: string }) {
  const devices = useAnswer<Items<Device>>('devices.list', {}, ['devices', 'sync'], 10_000)
  const device = devices.data?.items.find((one) => one.id === id)
  return (
    <Page title={device === undefined ? 'Device' : oneLine(device.name, 64)} lead={<a href="#/devices">All devices</a>}>
      <Loaded answer={devices}>{() => device === undefined ? <Notice tone="warn">There is no such device.</Notice> : <One device={device} reload={devices.reload} />}</Loaded>
    </Page>
  )
}

function One({ device, reload }: { device: Device; reload: () => void }) {
  const [isOpen, open] = useState<Open>(null)
  const [said, say] = useState<{ text: string; change: DeviceChange | null } | null>(null)
  const close = (): void => open(null)
  const done = (text: string) => (change: DeviceChange): void => {
    say({ text, change })
    close()
    reload()
  }
  const window = { device, close }
  const name = oneLine(device.name, 64)
  const isOut = device.state === 'expelled'
  return (
    <>
      {said !== null && <Notice tone="good"><span data-said>{said.text}{said.change !== null && ` ${toldText(said.change)}`}</span></Notice>}
      <About device={device} />
      <Name device={device} done={(text) => { say({ text, change: null }); reload() }} />
      {device.own && device.state === 'active' && (
        <Choice title="Leave" text="Puts this device out of your space. What is stored here stays here. It gets nothing new from then on, and what is written here reaches nobody." button="Leave with this device" act={() => open('leave')} />
      )}
      {!device.own && device.state === 'active' && (
        <Choice title="Remove it" text="For a device that you still have, or that nobody will misuse: sold, given away, broken. You can take it back." button="Remove it" act={() => open('remove')} />
      )}
      {device.state === 'removed' && !device.own && (
        <Choice title="Take it back" text="It belongs again and gets everything. Where another device removed it, that takes the recovery words." button="Take it back" isCalm act={() => open('restore')} />
      )}
      {!device.own && !isOut && (
        <Choice title="It is lost or stolen" text="For good, with your recovery words, also against a thief: whatever it signs from then on, nothing brings it back." button="It is lost" act={() => open('lost')} />
      )}
      {isOut && (
        <Choice title="It wrote wrong things before already" text="If you find later that it flooded your data before the time that you named: name an earlier one. What it wrote from then on does not count any more, and is kept aside." button="Let less count" act={() => open('undo')} />
      )}
      <Quarantine of={device.id} />
      {!device.own && (
        <details class="card">
          <summary>An alarm says that its log is forked</summary>
          <p>A device whose database was put back or copied signs two batches for one place. It mostly settles that by itself and loses nothing. If the alarm stays, end it here, on the device that has more of it. If somebody else may have its keys, it is lost.</p>
          <Button onClick={() => open('settle')}>Let count what is here</Button>
        </details>
      )}
      {isOpen === 'remove' && <Remove {...window} done={done(`${name} is removed.`)} />}
      {isOpen === 'lost' && <Lost {...window} done={done(`${name} is out for good.`)} />}
      {isOpen === 'restore' && <Restore {...window} done={(change) => done(change.device.state === 'active' ? `${name} belongs again. It connects within a minute.` : `That is told, but ${name} is still out: ${STANDING[change.device.state].text}.`)(change)} />}
      {isOpen === 'leave' && <Leave {...window} done={done('This device has left. Its data is still here.')} />}
      {isOpen === 'undo' && <Undo {...window} done={done(`What ${name} wrote since then does not count any more.`)} />}
      {isOpen === 'settle' && <Settle {...window} done={done(`The log of ${name} ends where this device has it.`)} />}
    </>
  )
}

function toldText({ told, waiting }: DeviceChange): string {
  const later = waiting.length > 0 ? ` Will be told when reached: ${oneLine(waiting.join(', '), 200)}.` : ''
  return `Told: ${told.length > 0 ? oneLine(told.join(', '), 200) : 'nobody yet'}.${later}`
}

function About({ device }: { device: Device }) {
  const now = useNow(30_000)
  const { tone, text } = STANDING[device.state]
  return (
    <Card title={<>About it <Badge tone={tone}>{text}</Badge>{device.own && <> <Badge tone="good">this device</Badge></>}</>}>
      <Facts facts={[
        ['Fingerprint', <code>{oneLine(device.fingerprint, 60)}</code>],
        ['System', device.platform === null ? '–' : <Said text={device.platform} most={30} />],
        ['Belongs since', time(device.added_ms)],
        ...(device.removed_by.length > 0 ? [['Removed by', oneLine(device.removed_by.join(', '), 200)] as const] : []),
        ...(device.own ? [] : [
          ['Last heard', ago(device.last_seen_ms, now)] as const,
          ['Reached', device.path === 'none' ? 'not now' : WAYS[device.path]] as const,
          ['Of it to come', count(device.behind ?? 0, 'batch', 'batches')] as const,
          ['It had not seen', device.lacks === null ? '–' : count(device.lacks, 'batch', 'batches')] as const,
        ]),
        ...(device.quarantined > 0 ? [['Does not count', `${count(device.quarantined, 'batch', 'batches')} of it`] as const] : []),
      ]} />
    </Card>
  )
}

/** What all devices call it. */
export function Name({ device, done, title = 'Name' }: { device: Device; done: (text: string) => void; title?: string }) {
  const db = useDaemon()
  const action = useAction()
  const [typed, type] = useState<string | null>(null)
  const rename = async (): Promise<void> => {
    const { name } = await call<Device>(db, 'devices.rename', { id: device.id, name: (typed ?? device.name).trim() })
    type(null)
    done(`It is called ${oneLine(name, 64)} now, on all your devices.`)
  }
  return (
    <Card title={title}>
      <form class="line" onSubmit={(event) => { event.preventDefault(); void action.run(rename) }}>
        <Field label="What all your devices call it"><input name="name" value={typed ?? device.name} onInput={(event) => type(event.currentTarget.value)} required maxLength={64} autocomplete="off" /></Field>
        <Button type="submit" busy={action.isRunning}>Rename</Button>
      </form>
      <Problem error={action.error} />
    </Card>
  )
}

function Choice({ title, text, button, isCalm = false, act }: { title: string; text: string; button: string; isCalm?: boolean; act: () => void }) {
  return (
    <Card title={title}>
      <p>{text}</p>
      <Button kind={isCalm ? 'plain' : 'danger'} onClick={act}>{button}</Button>
    </Card>
  )
}

// ---- windows -----------------------------------------------------------------------------------------------------
interface Window {
  device: Device
  close: () => void
  done: (change: DeviceChange) => void
}

/** Runs a command that changes who belongs. */
function useChange(done: (change: DeviceChange) => void) {
  const db = useDaemon()
  const action = useAction()
  const run = (command: string, params: Record<string, unknown>): void => {
    let change: DeviceChange | null = null
    void action.run(async () => { change = await call<DeviceChange>(db, command, params, SLOW_MS) }).then((isDone) => isDone && change !== null && done(change))
  }
  return { action, run }
}

function Plan({ plan }: { plan: Removal }) {
  return (
    <div class="plan">
      <h3>It will</h3>
      <ul>{plan.will.map((one) => <li key={one}>{oneLine(one, 300)}</li>)}</ul>
      <h3>It cannot</h3>
      <ul>{plan.cannot.map((one) => <li key={one}>{oneLine(one, 300)}</li>)}</ul>
      {plan.acts.length > 0 && (
        <>
          <h3>What it did to your devices</h3>
          <ul>
            {plan.acts.map((act) => <li key={`${act.what} ${act.name} ${act.at_ms}`}>It {act.what} <Said text={act.name} most={64} />, {time(act.at_ms)}: {act.undone ? 'undone' : 'stands'}</li>)}
            {plan.comes_back.map((name) => <li key={`+${name}`}><Said text={name} most={64} /> belongs again</li>)}
            {plan.goes_too.map((name) => <li key={`-${name}`}><Said text={name} most={64} /> goes out with it</li>)}
          </ul>
        </>
      )}
    </div>
  )
}

function Ends({ close, no = 'Cancel', children }: { close: () => void; no?: string; children: ComponentChildren }) {
  return <div class="actions"><Button onClick={close}>{no}</Button>{children}</div>
}

function Remove({ device, close, done }: Window) {
  const plan = useAnswer<Removal>('devices.plan', { id: device.id })
  const { action, run } = useChange(done)
  return (
    <Dialog title={<>Remove <Said text={device.name} most={64} />?</>} close={close}>
      <Loaded answer={plan}>{(found) => <Plan plan={found} />}</Loaded>
      <Problem error={action.error} />
      <Ends close={close} no="Keep it"><Button kind="danger" data-sure disabled={plan.data === null} busy={action.isRunning} onClick={() => run('devices.remove', { id: device.id })}>Remove it</Button></Ends>
    </Dialog>
  )
}

function Lost({ device, close, done }: Window) {
  const [since, know] = useState<'all' | 'time' | null>(null)
  const [when, type] = useState('')
  const [words, setWords] = useState('')
  const { action, run } = useChange(done)
  const typed_ms = new Date(when).getTime()
  const since_ms = since === 'time' && Number.isFinite(typed_ms) ? typed_ms : null
  const plan = useAnswer<Removal>('devices.plan', { id: device.id, lost: true, ...(since_ms === null ? {} : { since_ms }) })
  const isSaid = since === 'all' || since_ms !== null
  const expel = (): void => run('devices.expel', { id: device.id, words, ...(since_ms === null ? {} : { since_ms }) })
  return (
    <Dialog title={<>Put <Said text={device.name} most={64} /> out for good?</>} close={close}>
      <Loaded answer={plan}>{(found) => <Plan plan={found} />}</Loaded>
      <form onSubmit={(event) => { event.preventDefault(); expel() }}>
        <fieldset>
          <legend>When did you have it last?</legend>
          <label class="check"><input type="radio" name="since" checked={since === 'time'} onChange={() => know('time')} /><span>At a time: what it did and wrote after that does not count, and is kept aside</span></label>
          {since === 'time' && <Field label="When" short><input type="datetime-local" name="when" value={when} onInput={(event) => type(event.currentTarget.value)} required /></Field>}
          <label class="check"><input type="radio" name="since" checked={since === 'all'} onChange={() => know('all')} /><span>Just now: all of it that is known here counts</span></label>
        </fieldset>
        <WordsField value={words} change={setWords} />
        <Problem error={action.error} />
        <Ends close={close} no="Keep it"><Button kind="danger" type="submit" data-sure disabled={plan.data === null || !isSaid} busy={action.isRunning}>Put it out for good</Button></Ends>
      </form>
    </Dialog>
  )
}

function Restore({ device, close, done }: Window) {
  const [needsWords, need] = useState(false)
  const [words, setWords] = useState('')
  const { action, run } = useChange(done)
  return (
    <Dialog title={<>Take <Said text={device.name} most={64} /> back?</>} close={close}>
      <form onSubmit={(event) => { event.preventDefault(); run('devices.restore', { id: device.id, ...(needsWords ? { words } : {}) }) }}>
        <p>It gets everything that was written meanwhile.</p>
        <label class="check"><input type="checkbox" checked={needsWords} onChange={(event) => need(event.currentTarget.checked)} /><span>With the recovery words, because another device removed it</span></label>
        {needsWords && <WordsField value={words} change={setWords} />}
        <Problem error={action.error} />
        <Ends close={close}><Button kind="main" type="submit" data-sure busy={action.isRunning}>Take it back</Button></Ends>
      </form>
    </Dialog>
  )
}

function Leave({ close, done }: Window) {
  const { action, run } = useChange(done)
  return (
    <Dialog title="Leave with this device?" close={close}>
      <div class="plan">
        <h3>It will</h3>
        <ul><li>put this device out, after all that was written here is with the others, if they are in reach</li><li>leave your other devices as they are, with everything</li></ul>
        <h3>It cannot</h3>
        <ul><li>be taken back: to be one of your devices again, this one is set up anew, in a new profile</li><li>erase what is stored here</li></ul>
      </div>
      <Problem error={action.error} />
      <Ends close={close} no="Stay"><Button kind="danger" data-sure busy={action.isRunning} onClick={() => run('devices.leave', {})}>Leave</Button></Ends>
    </Dialog>
  )
}

function Undo({ device, close, done }: Window) {
  const [when, type] = useState('')
  const [words, setWords] = useState('')
  const { action, run } = useChange(done)
  return (
    <Dialog title={<>Let less of <Said text={device.name} most={64} /> count?</>} close={close}>
      <form onSubmit={(event) => { event.preventDefault(); run('devices.undo', { id: device.id, words, since_ms: new Date(when).getTime() }) }}>
        <Field label="Nothing counts that it wrote from" short><input type="datetime-local" name="when" value={when} onInput={(event) => type(event.currentTarget.value)} required /></Field>
        <WordsField value={words} change={setWords} />
        <Problem error={action.error} />
        <Ends close={close}><Button kind="danger" type="submit" data-sure busy={action.isRunning}>Let it not count</Button></Ends>
      </form>
    </Dialog>
  )
}

function Settle({ device, close, done }: Window) {
  const [words, setWords] = useState('')
  const { action, run } = useChange(done)
  return (
    <Dialog title={<>Let count what this device has of <Said text={device.name} most={64} />?</>} close={close}>
      <form onSubmit={(event) => { event.preventDefault(); run('devices.settle', { id: device.id, words }) }}>
        <WordsField value={words} change={setWords} />
        <Problem error={action.error} />
        <Ends close={close}><Button kind="danger" type="submit" data-sure busy={action.isRunning}>Let it count</Button></Ends>
      </form>
    </Dialog>
  )
}

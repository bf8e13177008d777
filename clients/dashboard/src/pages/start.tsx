/** The first-run guide: a name, the first device or a further one, the words, an app, a relay; it ends in what the doctor says. */

import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import type { Device, Grant, Items, Recovery, Relay } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon } from '../daemon.js'
import { appText, count, oneLine } from '../format.js'
import { Pair } from '../pairing.js'
import { Button, Card, Field, Loaded, Notice, Page, Problem, Said } from '../parts.js'
import { remember } from '../theme.js'
import { RecoveryWords, WordsField } from '../words.js'
import { Asking } from './apps.js'
import { Name } from './device.js'
import { Doctor } from './doctor.js'

/** Remembered under this name once the guide was gone through, or hidden. */
export const FIRST_STEPS = 'first-steps'
const SLOW_MS = 120_000

const STEPS = [
  ['name', 'Name this device', 'Name'],
  ['place', 'First device, or a further one', 'Which device'],
  ['words', 'Recovery words', 'Recovery words'],
  ['apps', 'Browser and apps', 'Browser and apps'],
  ['relay', 'A relay', 'Relay'],
  ['check', 'Is everything well?', 'Check'],
] as const

/** A step of it. */
export function StartPage({ step }: { step: string | undefined }) {
  const found = STEPS.findIndex(([path]) => path === step)
  const at = Math.max(0, found)
  const devices = useAnswer<Items<Device>>('devices.list', {}, ['devices'], 10_000)
  const next = STEPS[at + 1]
  const before = STEPS[at - 1]
  return (
    <Page title={STEPS[at]?.[1] ?? ''} lead={`Step ${at + 1} of ${STEPS.length} of setting up. Everything can be done later too, and in any order.`}>
      <div class="way" role="navigation" aria-label="Steps of setting up">
        <ol>{STEPS.map(([path, , name], n) => <li key={path}><a href={`#/start/${path}`} aria-current={n === at ? 'step' : undefined}><span class="tick" aria-hidden="true">{n + 1}</span>{name}</a></li>)}</ol>
      </div>
      <Loaded answer={devices}>{({ items }) => <Step path={STEPS[at]?.[0] ?? 'name'} devices={items} reload={devices.reload} />}</Loaded>
      <div class="actions">
        {before !== undefined && <a class="button" href={`#/start/${before[0]}`}>Back</a>}
        {next !== undefined && <a class="button main" data-next-step href={`#/start/${next[0]}`}>Next: {next[2]}</a>}
        {next === undefined && <a class="button main" href="#/" onClick={() => remember(FIRST_STEPS, 'hidden')}>Done</a>}
      </div>
    </Page>
  )
}

function Step({ path, devices, reload }: { path: (typeof STEPS)[number][0]; devices: Device[]; reload: () => void }) {
  const [said, say] = useState<string | null>(null)
  const own = devices.find((one) => one.own)
  switch (path) {
    case 'name':
      return (
        <>
          {said !== null && <Notice tone="good"><span data-said>{said}</span></Notice>}
          {own === undefined ? <Notice tone="warn">The keys of this device are not open yet, so it has no name that others could see.</Notice> : <Name device={own} title="What shall it be called?" done={(text) => { say(text); reload() }} />}
        </>
      )
    case 'place':
      return <Place devices={devices} reload={reload} />
    case 'words':
      return <Words />
    case 'apps':
      return <Apps />
    case 'relay':
      return <RelayStep />
    case 'check':
      return <Doctor atOnce />
  }
}

type Where = 'first' | 'join' | 'words'

function Place({ devices, reload }: { devices: Device[]; reload: () => void }) {
  const others = devices.filter((one) => !one.own && one.state === 'active')
  const [where, go] = useState<Where>('first')
  if (others.length > 0) {
    return (
      <>
        <Notice tone="good">This device belongs with {count(others.length, 'other one')}: {oneLine(others.map((one) => one.name).join(', '), 200)}</Notice>
        <p class="quiet">Is it a copy of another machine, or was it removed? It comes back as a new device under <a href="#/devices">Devices</a>.</p>
        <Pair only="add" paired={reload} />
      </>
    )
  }
  const choice = (one: Where, text: string, more: string): ComponentChildren => (
    <label class="check" key={one}><input type="radio" name="where" value={one} checked={where === one} onChange={() => go(one)} /><span><strong>{text}</strong><br /><span class="quiet">{more}</span></span></label>
  )
  return (
    <>
      <Card>
        <fieldset>
          <legend>Which one is this?</legend>
          {choice('first', 'My first device', 'Nothing has to be done. Others join it with a code that it shows.')}
          {choice('join', 'A further device', 'Enter the code that one of your other devices shows. What is written here already comes along.')}
          {choice('words', 'My devices are gone; I have the recovery words', 'Everything comes back from the relay that they used.')}
        </fieldset>
      </Card>
      {where === 'first' && <Pair only="add" paired={reload} />}
      {where === 'join' && <Pair only="join" paired={reload} />}
      {where === 'words' && <Recover devices={devices} reload={reload} />}
    </>
  )
}

function Recover({ devices, reload }: { devices: Device[]; reload: () => void }) {
  const db = useDaemon()
  const action = useAction()
  const [words, setWords] = useState('')
  const [relay, setRelay] = useState('')
  const [name, setName] = useState(devices.find((one) => one.own)?.name ?? '')
  const recover = async (): Promise<void> => {
    await call(db, 'recovery.recover', { words, relay: relay.trim(), ...(name.trim() === '' ? {} : { name: name.trim() }) }, SLOW_MS)
    setWords('')
    reload()
  }
  return (
    <Card title="Bring everything back">
      <p>What is written here already comes along. Your old devices still belong until you put them out, each under <a href="#/devices">Devices</a>.</p>
      <form onSubmit={(event) => { event.preventDefault(); void action.run(recover) }}>
        <WordsField value={words} change={setWords} />
        <Field label="The relay that your devices used" hint="Its address, or a link to it."><input name="relay" value={relay} onInput={(event) => setRelay(event.currentTarget.value)} required autocomplete="off" spellcheck={false} placeholder="https://relay.example.com" /></Field>
        <Field label="What this device shall be called"><input name="name" value={name} onInput={(event) => setName(event.currentTarget.value)} maxLength={64} autocomplete="off" /></Field>
        <Problem error={action.error} />
        <Button kind="main" type="submit" busy={action.isRunning}>Bring it back</Button>
      </form>
    </Card>
  )
}

function Words() {
  const recovery = useAnswer<Recovery>('recovery.get', {}, ['devices'])
  return (
    <>
      <RecoveryWords />
      {recovery.data?.state === 'here' && <p class="quiet">You can do it later too; best before you need it, at the latest when you add your second device.</p>}
    </>
  )
}

function Apps() {
  const grants = useAnswer<Items<Grant>>('auth.grants.list', {}, ['grants'], 5_000)
  return (
    <Loaded answer={grants}>{({ items }) => {
      const pending = items.filter((one) => one.state === 'pending')
      const inside = items.filter((one) => one.state === 'approved')
      return (
        <>
          <div aria-live="assertive">{pending.map((one) => <Asking key={one.id} grant={one} done={grants.reload} />)}</div>
          <Card title="Connect your browser">
            {inside.length > 0 && <p>Let in already: {inside.map((one, n) => <span key={one.id}>{n > 0 && ', '}<Said text={appText(one.origin, one.name)} most={60} /></span>)}</p>}
            <ol class="numbered">
              <li>Install the extension, or open a web app that works with HybridGW.</li>
              <li>Click its button to connect. It shows six digits.</li>
              <li>The same six digits appear here. Compare them, look at what it wants, and let it in.</li>
            </ol>
            <p class="quiet" role="status">{pending.length === 0 ? 'Nothing asks to be let in at the moment. This page shows it at once.' : `${count(pending.length, 'app asks', 'apps ask')}.`}</p>
          </Card>
        </>
      )
    }}</Loaded>
  )
}

function RelayStep() {
  const db = useDaemon()
  const relays = useAnswer<Items<Relay>>('relays.list', {}, ['sync'], 5_000)
  const action = useAction()
  const [link, setLink] = useState('')
  const add = async (): Promise<void> => {
    await call(db, 'relays.add', { link: link.trim() }, SLOW_MS)
    setLink('')
    relays.reload()
  }
  return (
    <Card title="A relay, if you want one">
      <p>It stores sealed changes until your other devices fetch them, and can read none of them. Devices on one network need none.</p>
      <Loaded answer={relays}>{({ items }) => items.length === 0 ? <p class="quiet">None yet. Somebody who runs one gives you a link; you can run one yourself.</p> : <ul class="plain-list">{items.map((one) => <li key={one.url}><Said text={one.url} /> is used</li>)}</ul>}</Loaded>
      <form class="line" onSubmit={(event) => { event.preventDefault(); void action.run(add) }}>
        <Field label="Link of a relay"><input name="relay" value={link} onInput={(event) => setLink(event.currentTarget.value)} required autocomplete="off" spellcheck={false} placeholder="https://relay.example.com/#hgw-invite=…" /></Field>
        <Button type="submit" busy={action.isRunning}>Add</Button>
      </form>
      <Problem error={action.error} />
    </Card>
  )
}

/** What was sent and what arrived, what became of each, and a note to another device. */

import { useState, type Dispatch, type StateUpdater } from 'preact/hooks'
import type { Contact, Data, Device, Items, Message, MessageState, Program, Route } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, count, lines, oneLine, time, valueText } from '../format.js'
import { Badge, Button, Card, Empty, Facts, Field, Loaded, Notice, Page, Problem, Said, Sure, Table, type Tone } from '../parts.js'

type Box = 'all' | 'in' | 'out' | 'dead'

/** What a state means, for one who waits for a message to arrive. */
export const STATES: Readonly<Record<MessageState, { tone: Tone; text: string }>> = {
  queued: { tone: 'warn', text: 'waits here' },
  stored: { tone: 'calm', text: 'at the relay' },
  handed: { tone: 'calm', text: 'on its way' },
  delivered: { tone: 'calm', text: 'arrived' },
  handled: { tone: 'good', text: 'dealt with' },
  expired: { tone: 'bad', text: 'too late' },
  failed: { tone: 'bad', text: 'failed' },
}
const DEAD: readonly MessageState[] = ['expired', 'failed']
const OPEN: readonly MessageState[] = ['queued', 'stored', 'handed']
const HOUR_S = 3_600

/** Whom a message is for, in words: targets as programs write them, with devices and people by their names. */
export function useNames(): { devices: Device[]; people: Contact[]; named: (target: string) => string } {
  const devices = useAnswer<Items<Device>>('devices.list', {}, ['devices']).data?.items ?? []
  const people = useAnswer<Items<Contact>>('contacts.list', {}, ['contacts']).data?.items ?? []
  const named = (target: string): string => {
    if (target.startsWith('person:')) return people.find((one) => one.id === target.slice(7))?.name ?? target.slice(7)
    const at = target.lastIndexOf('@')
    const [programs, place] = target.startsWith('device:') ? ['all', target.slice(7)] : at < 0 ? [target, ''] : [target.slice(0, at), target.slice(at + 1)]
    const where = place === 'here' ? 'this device' : (devices.find((one) => one.fingerprint === place)?.name ?? place)
    if (programs === 'all') return where === '' ? 'every device' : where
    const [kind, ...rest] = programs.split(':')
    const what = { client: 'program', app: 'app', topic: 'topic', mode: 'all of the kind' }[kind ?? ''] ?? kind
    return `${what} ${rest.join(':').replaceAll('_', ' ')}${where === '' ? '' : `, ${where}`}`
  }
  return { devices, people, named }
}

/** The list, and the form for a note. */
export function MessagesPage() {
  const [box, choose] = useState<Box>('all')
  const [type, setType] = useState('')
  const [limit, more] = useState(50)
  const params = { box, limit, ...(type.trim() === '' ? {} : { type: type.trim() }) }
  const messages = useAnswer<Items<Message>>('messages.list', params, ['messages', 'sync'], 10_000)
  const { devices, people, named } = useNames()
  const now = useNow(10_000)
  return (
    <Page title="Messages" lead="What programs, devices and people have told each other. Each is kept until somebody has dealt with it, or until its time is over." actions={<a class="button" href="#/messages/rules">Rules</a>}>
      <Send devices={devices} people={people} named={named} sent={messages.reload} />
      <Card title="Sent and received">
        <div class="line">
          <Field label="Which" short>
            <select name="box" value={box} onChange={(event) => choose(event.currentTarget.value as Box)}>
              <option value="all">all</option>
              <option value="in">received</option>
              <option value="out">sent</option>
              <option value="dead">those that did not arrive</option>
            </select>
          </Field>
          <Field label="Of this type" short><input name="only-type" value={type} onInput={(event) => setType(event.currentTarget.value)} placeholder="note, tab.*" autocomplete="off" spellcheck={false} /></Field>
        </div>
        <Loaded answer={messages}>{({ items, next_cursor }) => items.length === 0 ? <Empty>{box === 'dead' ? 'Nothing was lost.' : 'None.'}</Empty> : (
          <>
            <Table
              caption="Messages"
              head={['When', 'From or to', 'What', 'State', '']}
              rows={items.map((one) => ({
                key: one.id,
                cells: [
                  <span title={time(one.created_ms)}>{ago(one.created_ms, now)}</span>,
                  <>{one.incoming ? 'from ' : 'to '}<strong><Said text={whoOf(one, named)} most={60} /></strong></>,
                  <><Badge tone="calm">{oneLine(one.type, 40)}</Badge> <bdi>{valueText(one.body, 100)}</bdi></>,
                  <State message={one} />,
                  <a href={`#/messages/${encodeURIComponent(one.id)}`}>Open<span class="hidden"> the message {oneLine(one.type, 40)} of {time(one.created_ms)}</span></a>,
                ],
              }))}
            />
            {next_cursor !== null && limit < 1_000 && <Button onClick={() => more(Math.min(1_000, limit * 4))}>Show more</Button>}
          </>
        )}</Loaded>
      </Card>
      <Programs />
    </Page>
  )
}

/** The other side of a message: a person rather than one of their devices. */
function whoOf(message: Message, named: (target: string) => string): string {
  return message.person ?? (message.incoming ? message.device : named(message.to))
}

function State({ message }: { message: Message }) {
  const { tone, text } = STATES[message.state]
  return <Badge tone={tone}>{text}{message.priority === 'urgent' && ', urgent'}</Badge>
}

function Send({ devices, people, named, sent }: { devices: Device[]; people: Contact[]; named: (target: string) => string; sent: () => void }) {
  const db = useDaemon()
  const action = useAction()
  const others = devices.filter((one) => !one.own && one.state === 'active')
  const [to, choose] = useState('')
  const [target, setTarget] = useState('')
  const [text, write] = useState('')
  const [type, setType] = useState('note')
  const [priority, setPriority] = useState('normal')
  const [hours, setHours] = useState('')
  const [last, tell] = useState<Message | null>(null)
  const [route, explain] = useState<Route | null>(null)
  const first = others[0] === undefined ? 'all' : `device:${others[0].fingerprint}`
  const chosen = to === '' ? first : to
  const whom = (): Data => (chosen === 'other' ? (target.trim() === '' ? {} : { to: target.trim() }) : { to: chosen })
  const send = async (): Promise<void> => {
    explain(null)
    tell(await call<Message>(db, 'messages.send', { ...whom(), type: type.trim(), body: text, priority, ...(hours === '' ? {} : { ttl_s: Number(hours) * HOUR_S }) }))
    write('')
    sent()
  }
  const ask = async (): Promise<void> => {
    tell(null)
    explain(await call<Route>(db, 'messages.explain', { ...whom(), type: type.trim() }))
  }
  return (
    <Card title="Send a note">
      <form onSubmit={(event) => { event.preventDefault(); void action.run(send) }}>
        <div class="line">
          <Field label="To" short>
            <select name="to" value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
              {others.map((one) => <option key={one.id} value={`device:${one.fingerprint}`}>{oneLine(one.name, 60)}</option>)}
              {people.filter((one) => one.state !== 'blocked' && !one.changed).map((one) => <option key={one.id} value={`person:${one.id}`}>{oneLine(one.name, 60)}, a person</option>)}
              <option value="all">every device</option>
              <option value="all@here">this device</option>
              <option value="other">a program, topic, or as the rules say</option>
            </select>
          </Field>
          <Field label="Text"><input name="text" value={text} onInput={(event) => write(event.currentTarget.value)} required maxLength={20_000} autocomplete="off" /></Field>
          <Button kind="main" type="submit" busy={action.isRunning}>Send</Button>
        </div>
        {chosen === 'other' && <Field label="Target" hint="client:ID, app:NAME, mode:MODE or topic:TOPIC, each with @DEVICE or @here behind it for one device; left out, the rules decide (see Rules)."><input name="target" value={target} onInput={(event) => setTarget(event.currentTarget.value)} autocomplete="off" spellcheck={false} /></Field>}
        <details>
          <summary>More</summary>
          <div class="line">
            <Field label="Type" short><input name="type" value={type} onInput={(event) => setType(event.currentTarget.value)} required maxLength={128} autocomplete="off" spellcheck={false} /></Field>
            <Field label="What goes first" short><select name="priority" value={priority} onChange={(event) => setPriority(event.currentTarget.value)}><option value="bulk">last of all</option><option value="normal">in turn</option><option value="high">early</option><option value="urgent">before everything</option></select></Field>
            <Field label="Give up after hours" short><input name="hours" type="number" min="0.001" max="720" step="any" value={hours} onInput={(event) => setHours(event.currentTarget.value)} placeholder="168" /></Field>
            <Button busy={action.isRunning} onClick={() => void action.run(ask)}>Where would it go?</Button>
          </div>
        </details>
      </form>
      <Problem error={action.error} />
      {last !== null && <Sent id={last.id} />}
      {route !== null && <Way route={route} named={named} />}
    </Card>
  )
}

/** The one that was sent just now, while it goes its way. */
function Sent({ id }: { id: string }) {
  const message = useAnswer<Message>('messages.get', { id }, ['messages', 'sync'], 2_000)
  if (message.data === null) return null
  const { tone, text } = STATES[message.data.state]
  return <Notice tone={tone === 'warn' ? 'calm' : tone}><span data-sent={message.data.state}>Sent: <strong>{text}</strong>. <a href={`#/messages/${encodeURIComponent(id)}`}>What becomes of it</a></span></Notice>
}

/** Where it would go, step by step. */
export function Way({ route, named }: { route: Route; named: (target: string) => string }) {
  return (
    <div role="status" data-route>
      {route.steps.length === 0 && <Notice tone="warn">Nowhere: no rule is for the type “{oneLine(route.type, 60)}”, so it would be refused.</Notice>}
      <ul class="rows">
        {route.steps.map((step) => (
          <li key={step.to}>
            <strong><Said text={named(step.to)} most={80} /></strong> <span class="quiet">({step.why === 'named' ? 'you named it' : oneLine(step.why.replace(/^rule '(.*)'$/, 'by “$1”'), 80)})</span>
            {step.devices.map((one) => <p key={one.device} class="quiet"><Said text={one.device} most={64} />{one.here && ' (this device)'}{one.programs.length > 0 ? `: ${oneLine(one.programs.join(', '), 200)}` : one.here && step.problem === null ? ': no program listens yet; it waits' : ''}</p>)}
            {step.problem !== null && <Notice tone="warn">{oneLine(step.problem, 300)}</Notice>}
          </li>
        ))}
      </ul>
    </div>
  )
}

function Programs() {
  const programs = useAnswer<Items<Program>>('messages.programs', {}, ['programs', 'messages'], 20_000)
  const now = useNow(30_000)
  return (
    <Card title="Programs that listen here">
      <Loaded answer={programs}>{({ items }) => items.length === 0 ? <Empty>None. What comes for a program waits until it listens; you can deal with it here.</Empty> : (
        <Table
          caption="Programs that listen for messages"
          head={['Program', 'Topics', 'Here', 'Waits for it']}
          rows={items.map((one) => ({
            key: one.client,
            cells: [
              <><strong><Said text={one.app || one.client} most={60} /></strong><br /><span class="quiet"><Said text={one.client} most={64} /></span></>,
              oneLine(one.topics.join(', ') || '–', 200),
              one.online ? <Badge tone="good">now</Badge> : ago(one.last_seen_ms, now),
              count(one.waiting, 'message'),
            ],
          }))}
        />
      )}</Loaded>
    </Card>
  )
}

// ---- one ---------------------------------------------------------------------------------------------------------
/** Behind the id in the address of a message that was sent again just now. */
export const AGAIN = 'again'

/** One message, with what became of it at each device. */
export function MessagePage({ id, isAgain }: { id: string; isAgain: boolean }) {
  const message = useAnswer<Message>('messages.get', { id }, ['messages', 'sync'], 5_000)
  const { named } = useNames()
  const [said, say] = useState<string | null>(isAgain ? 'Sent again, as this new message.' : null)
  return (
    <Page title="Message" lead={<a href="#/messages">All messages</a>}>
      {said !== null && <Notice tone="good"><span data-said>{said}</span></Notice>}
      {said === null || message.data !== null ? <Loaded answer={message}>{(found) => <One message={found} named={named} reload={message.reload} say={say} />}</Loaded> : null}
    </Page>
  )
}

function One({ message, named, reload, say }: { message: Message; named: (target: string) => string; reload: () => void; say: Dispatch<StateUpdater<string | null>> }) {
  const db = useDaemon()
  const action = useAction()
  const { id } = message
  const isDead = DEAD.includes(message.state)
  const waits = message.deliveries.some((one) => one.here && one.state === 'delivered')
  const acknowledge = (): void => void action.run(async () => {
    await call(db, 'messages.acknowledge', { id })
    say('Dealt with. Who sent it sees that.')
    reload()
  })
  const retry = (): void => void action.run(async () => {
    const again = await call<Message>(db, 'messages.retry', { id })
    location.hash = `#/messages/${encodeURIComponent(again.id)}/${AGAIN}`
  })
  const forget = async (): Promise<void> => {
    await call(db, 'messages.delete', { id })
    location.hash = '#/messages'
  }
  return (
    <>
      <Card title={<><Badge tone="calm">{oneLine(message.type, 60)}</Badge> {message.incoming ? 'from' : 'to'} <Said text={whoOf(message, named)} most={60} /> <State message={message} /></>}>
        <pre class="body" tabIndex={0} aria-label="What it says"><bdi>{typeof message.body === 'string' ? lines(message.body, 20_000) : lines(JSON.stringify(message.body, null, 2), 20_000)}</bdi></pre>
        {message.gap && <Notice tone="calm">Something that was sent before it is missing.</Notice>}
        <Facts facts={[
          ...(message.person_id === null ? [] : [['Person', <a href={`#/people/${encodeURIComponent(message.person_id)}`}><Said text={message.person} most={64} /></a>] as const]),
          [message.incoming ? 'Sent by' : 'Sent here by', message.client === 'owner' ? 'a person, not a program' : <Said text={message.client} most={64} />],
          ['Written', time(message.created_ms)],
          ['Given up', time(message.expires_ms)],
          ['Goes first', { bulk: 'last of all', normal: 'in turn', high: 'early', urgent: 'before everything' }[message.priority]],
          ...(message.reply_to === null ? [] : [['Answers', <a href={`#/messages/${encodeURIComponent(message.reply_to)}`}>another message</a>] as const]),
        ]} />
        <Problem error={action.error} />
        <div class="actions">
          {waits && <Button kind="main" busy={action.isRunning} onClick={acknowledge}>Done with it</Button>}
          {isDead && !message.incoming && <Button kind="main" busy={action.isRunning} onClick={retry}>Send it again</Button>}
          {!OPEN.includes(message.state) && <Sure label="Forget it" question="It is gone here, for good." yes="Forget it" action={action} work={forget} small />}
        </div>
      </Card>
      <Card title="What became of it">
        <Table
          caption="What became of it at each device"
          head={['Device', 'State', 'Since', 'Tries']}
          rows={message.deliveries.map((one) => ({
            key: one.device,
            cells: [
              <><Said text={one.device} most={64} />{one.here && <span class="quiet"> (this device)</span>}</>,
              <><Badge tone={STATES[one.state].tone}>{STATES[one.state].text}</Badge>{one.error !== null && <p class="quiet">{oneLine(one.error, 200)}</p>}</>,
              time(one.at_ms), String(one.tries),
            ],
          }))}
        />
      </Card>
    </>
  )
}

/** One other person: how one stands with them, the number to compare, a note to them, and the end of it. */

import { useEffect, useState } from 'preact/hooks'
import type { Contact, Items, Message, MessageState } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, isTricky, oneLine, time, valueText } from '../format.js'
import { Badge, Button, Card, Empty, Facts, Field, Loaded, Notice, Page, Problem, Said, Sure } from '../parts.js'
import { Qr } from '../qr.js'
import { STATES } from './messages.js'
import { standingOf } from './people.js'

const SHOWN = 20
const OVER: readonly MessageState[] = ['handled', 'expired', 'failed']
const SOON_MS = 2_000 // the daemon has no news of each receipt
const CALM_MS = 10_000

interface Part {
  contact: Contact
  done: (text: string) => void
}

/** The page. */
export function PersonPage({ id }: { id: string }) {
  const contact = useAnswer<Contact>('contacts.get', { contact: id }, ['contacts'], 20_000)
  const [said, say] = useState<string | null>(null)
  const done = (text: string): void => {
    say(text)
    contact.reload()
  }
  return (
    <Page title={contact.data === null ? 'Person' : oneLine(contact.data.name, 64)} lead={<a href="#/people">All people</a>}>
      {said !== null && <Notice tone="good"><span data-said>{said}</span></Notice>}
      <Loaded answer={contact}>{(found) => (
        <>
          <Standing contact={found} />
          {found.state !== 'blocked' && <Compare key={`${found.verified} ${found.changed}`} contact={found} done={done} />}
          <Talk contact={found} />
          <Manage contact={found} done={done} />
        </>
      )}</Loaded>
    </Page>
  )
}

/** What stops messages, why, and what to do about it. */
function Standing({ contact }: { contact: Contact }) {
  const name = <Said text={contact.name} most={64} />
  if (contact.state === 'blocked') return <Notice tone="calm">{name} is blocked: you hear nothing of them, nothing goes to them, and they are not told. You can end that below.</Notice>
  if (contact.changed) {
    return (
      <Notice tone="bad">
        <p><strong>{name} has another key than before, so nothing goes either way.</strong> What you write is refused, and what they send waits at the relay.</p>
        <p>It happens when somebody loses all devices and the recovery words, and begins anew. It also happens when somebody else pretends to be them. <strong>Ask them by another way, best in person or in a call, and compare the number below.</strong> If they did not begin anew, block this one.</p>
      </Notice>
    )
  }
  if (contact.state === 'asked') return <Notice tone="calm">{name} has not agreed yet. What you write waits here until then.</Notice>
  return null
}

/** The safety number: as text, as QR code, and what came of comparing. */
function Compare({ contact, done }: Part) {
  const db = useDaemon()
  const action = useAction()
  const [typed, type] = useState('')
  const [isOdd, find] = useState(false)
  const [hasAsked, ask] = useState(!contact.changed)
  const { tone, text } = standingOf(contact)
  const groups = oneLine(contact.number ?? '', 80).split(' ')
  const verify = (number: string) => (): void => {
    find(false)
    void action.run(async () => {
      await call(db, 'contacts.verify', { contact: contact.id, number })
      done(`The number is the same on both sides: nobody sits between you and ${oneLine(contact.name, 64)}.`)
    })
  }
  const number = (
    <div class="offer">
      <Qr text={contact.number_link ?? ''} label="QR code with the safety number" />
      <div>
        <p>Compare it once with <Said text={contact.name} most={64} />, side by side or in a call, and not by messages. Theirs shows it under <em>People</em> too, or by <code>hybridgw contacts verify</code>.</p>
        <p class="number" data-number>{groups.map((one, n) => <span key={n}>{one}{n < groups.length - 1 && ' '}</span>)}</p>
      </div>
    </div>
  )
  if (contact.verified && !contact.changed) {
    return (
      <Card title={<>Safety number <Badge tone={tone}>{text}</Badge></>}>
        <p>You have compared it. It stays the same whatever devices they add or lose; if it ever changes, everything stops until you have looked.</p>
        <details><summary>Show the number</summary>{number}</details>
      </Card>
    )
  }
  return (
    <Card title={<>Safety number <Badge tone={tone}>{text}</Badge></>}>
      {number}
      <Problem error={action.error} />
      {isOdd && <Notice tone="bad"><span data-odd>Then one of you talks to somebody else, or a digit was misread. Read it once more. If it stays different, tell this contact nothing that others must not hear, ask for the address by another way, and block this one.</span></Notice>}
      {contact.changed && <label class="check"><input type="checkbox" name="asked" checked={hasAsked} onChange={(event) => ask(event.currentTarget.checked)} /><span>I have spoken with them by another way, and they did begin anew</span></label>}
      <div class="actions">
        <Button kind="main" data-same disabled={!hasAsked} busy={action.isRunning} onClick={verify(contact.number ?? '')}>Both numbers are the same</Button>
        <Button kind="danger" onClick={() => { action.clear(); find(true) }}>They differ</Button>
      </div>
      <details>
        <summary>Type what the other side shows, instead of comparing by eye</summary>
        <form class="line" onSubmit={(event) => { event.preventDefault(); verify(typed)() }}>
          <Field label="Their number" hint="60 digits, or the text of their QR code."><input name="number" value={typed} onInput={(event) => type(event.currentTarget.value)} required maxLength={600} autocomplete="off" spellcheck={false} /></Field>
          <Button type="submit" disabled={!hasAsked} busy={action.isRunning}>Compare</Button>
        </form>
      </details>
    </Card>
  )
}

/** A note to them, and what was said last. */
function Talk({ contact }: { contact: Contact }) {
  const db = useDaemon()
  const action = useAction()
  const now = useNow(10_000)
  const [everyMs, look] = useState(CALM_MS)
  const messages = useAnswer<Items<Message>>('messages.list', { peer: `person:${contact.id}`, limit: SHOWN }, ['messages', 'sync'], everyMs)
  useEffect(() => look(messages.data?.items.some((one) => !OVER.includes(one.state)) === true ? SOON_MS : CALM_MS), [messages.data])
  const [text, write] = useState('')
  const send = async (): Promise<void> => {
    await call(db, 'messages.send', { to: `person:${contact.id}`, type: 'note', body: text })
    write('')
    messages.reload()
  }
  return (
    <Card title="Messages">
      {contact.state !== 'blocked' && !contact.changed && (
        <form class="line" onSubmit={(event) => { event.preventDefault(); void action.run(send) }}>
          <Field label="Write"><input name="text" value={text} onInput={(event) => write(event.currentTarget.value)} required maxLength={20_000} autocomplete="off" /></Field>
          <Button kind="main" type="submit" busy={action.isRunning}>Send</Button>
        </form>
      )}
      <Problem error={action.error} />
      <Loaded answer={messages}>{({ items, next_cursor }) => items.length === 0 ? <Empty>Nothing was said yet.</Empty> : (
        <>
          <ul class="rows">
            {items.map((one) => (
              <li key={one.id} class="with-action" data-message={one.id}>
                <div>
                  <p><strong>{one.incoming ? 'They' : 'You'}:</strong> <bdi>{valueText(one.body, 200)}</bdi></p>
                  <p class="quiet"><span title={time(one.created_ms)}>{ago(one.created_ms, now)}</span>{one.type !== 'note' && <>, <Said text={one.type} most={40} /></>} <Badge tone={STATES[one.state].tone}>{STATES[one.state].text}</Badge></p>
                </div>
                <a href={`#/messages/${encodeURIComponent(one.id)}`}>Open<span class="hidden"> the message of {time(one.created_ms)}</span></a>
              </li>
            ))}
          </ul>
          {next_cursor !== null && <p class="quiet">These are the last {SHOWN}. <a href="#/messages">All messages</a></p>}
        </>
      )}</Loaded>
    </Card>
  )
}

function Manage({ contact, done }: Part) {
  const db = useDaemon()
  const action = useAction()
  const name = oneLine(contact.name, 64)
  const block = async (): Promise<void> => {
    await call(db, 'contacts.block', { contact: contact.id })
    done(`You hear nothing more of ${name}, and they are not told.`)
  }
  const unblock = (): void => void action.run(async () => {
    await call(db, 'contacts.accept', { contact: contact.id })
    done(`${name} is not blocked any more.`)
  })
  const [typed, type] = useState<string | null>(null)
  const rename = async (): Promise<void> => {
    const found = await call<Contact>(db, 'contacts.rename', { contact: contact.id, name: (typed ?? contact.name).trim() })
    type(null)
    done(`This is ${oneLine(found.name, 64)} now, on all your devices. They are not told.`)
  }
  const remove = async (): Promise<void> => {
    await call(db, 'contacts.remove', { contact: contact.id })
    location.hash = '#/people'
  }
  return (
    <Card title="Who this is">
      <Facts facts={[
        ['Address', <code class="long all">{oneLine(contact.address, 600)}</code>],
        ['Their devices', contact.devices === 0 ? 'none that takes messages is known' : String(contact.devices)],
      ]} />
      <form class="line" onSubmit={(event) => { event.preventDefault(); void action.run(rename) }}>
        <Field label="What you call them" {...(isTricky(typed ?? contact.name) ? { hint: 'This name holds marks that turn or hide text: it may not be what it looks like.' } : {})}><input name="rename" value={typed ?? contact.name} onInput={(event) => type(event.currentTarget.value)} required maxLength={64} autocomplete="off" dir="auto" /></Field>
        <Button type="submit" busy={action.isRunning}>Rename</Button>
      </form>
      <Problem error={action.error} />
      <div class="actions">
        {contact.state === 'blocked'
          ? <Button busy={action.isRunning} onClick={unblock}>End the block</Button>
          : <Sure label="Block" question="You hear nothing more of them; they are not told." yes="Block" action={action} work={block} small />}
        <Sure label="Remove" question="Forgotten on all your devices; they may ask again." yes="Remove" action={action} work={remove} small />
      </div>
    </Card>
  )
}

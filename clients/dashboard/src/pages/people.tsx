/** Other people: who asks, whom one knows, how one adds somebody, and the address to give away. */

import { useState } from 'preact/hooks'
import type { Contact, ContactRequest, Items, OwnAddress } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, count, isTricky, oneLine, time } from '../format.js'
import { Badge, Button, Card, Empty, Field, Loaded, Notice, Page, Problem, Said, Sure, type Tone } from '../parts.js'
import { Qr } from '../qr.js'

const SLOW_MS = 60_000 // a relay is asked for the person
const MOST_NAME = 64
const MOST_NOTE = 500

/** How one stands with a contact. */
export function standingOf(contact: Contact): { tone: Tone; text: string } {
  if (contact.state === 'blocked') return { tone: 'calm', text: 'blocked' }
  if (contact.changed) return { tone: 'bad', text: 'another key than before' }
  if (contact.state === 'asked') return { tone: 'calm', text: 'asked, no answer yet' }
  return contact.verified ? { tone: 'good', text: 'compared' } : { tone: 'warn', text: 'not compared yet' }
}

/** The page of all of them. */
export function PeoplePage() {
  const contacts = useAnswer<Items<Contact>>('contacts.list', {}, ['contacts'], 20_000)
  const requests = useAnswer<Items<ContactRequest>>('contacts.requests', {}, ['contacts'], 20_000)
  const [said, say] = useState<string | null>(null)
  const known = contacts.data?.items ?? []
  const blocked = (name: string): void => {
    say(`You hear nothing more of ${name}, and they are not told. To end that, open them below.`)
    contacts.reload()
    requests.reload()
  }
  return (
    <Page title="People" lead="Those whom you write to. Only your devices and theirs can read it, and nobody can write to you before you have agreed.">
      {said !== null && <Notice tone="good"><span data-said>{said}</span></Notice>}
      <div class="asking-all" aria-live="polite">{requests.data?.items.map((one) => <Asks key={one.id} request={one} blocked={blocked} />)}</div>
      <Card title="Your contacts">
        <Loaded answer={contacts}>{({ items }) => items.length === 0 ? <Empty>None yet. Give somebody your address, or enter theirs; both of you need the same relay.</Empty> : (
          <ul class="rows">{items.map((one) => <Row key={one.id} contact={one} />)}</ul>
        )}</Loaded>
      </Card>
      <div class="two">
        <Add known={known} />
        <Address />
      </div>
    </Page>
  )
}

function Row({ contact }: { contact: Contact }) {
  const { tone, text } = standingOf(contact)
  return (
    <li class="with-action" data-contact={contact.id}>
      <div>
        <strong><Said text={contact.name} most={64} /></strong> <Badge tone={tone}>{text}</Badge>
        <p class="quiet">{contact.changed && contact.state !== 'blocked' ? 'Nothing goes either way until you have looked at it.' : `${count(contact.devices, 'device')} of theirs ${contact.devices === 1 ? 'takes' : 'take'} messages`}</p>
      </div>
      <a class="button" href={`#/people/${encodeURIComponent(contact.id)}`}>Open<span class="hidden"> {oneLine(contact.name, 64)}</span></a>
    </li>
  )
}

/** Somebody asks: what they say of themselves, and the answer. */
function Asks({ request, blocked }: { request: ContactRequest; blocked: (name: string) => void }) {
  const db = useDaemon()
  const action = useAction()
  const now = useNow(30_000)
  // A name that looks like another one, or that somebody has already, is for the person to make.
  const isUsable = request.known === null && !isTricky(request.name) && !request.name.includes('@')
  const [name, setName] = useState(isUsable ? request.name : '')
  const accept = async (): Promise<void> => {
    const { id } = await call<Contact>(db, 'contacts.accept', { contact: request.id, name: name.trim() })
    location.hash = `#/people/${encodeURIComponent(id)}`
  }
  const block = async (): Promise<void> => {
    await call(db, 'contacts.block', { contact: request.id })
    blocked(oneLine(request.name, 64))
  }
  return (
    <section class="card asking warn" aria-label="Somebody asks to be a contact" data-request={request.id}>
      <div class="asking-who">
        <p class="eyebrow">Somebody asks to be your contact, <span aria-live="off" title={time(request.at_ms)}>{ago(request.at_ms, now)}</span></p>
        <h2><Said text={request.name === '' ? 'Somebody without a name' : request.name} most={64} /></h2>
        {request.note !== '' && <blockquote><Said text={request.note} most={500} /></blockquote>}
        <p class="quiet">Nobody has checked who this is. If you did not expect it, ask them by another way, or leave it: they are told nothing before you answer.</p>
      </div>
      {request.known !== null && <Notice tone="bad">This is not your contact <Said text={request.known} most={64} />: the key is another one. Either they began anew, or somebody uses their name. Ask them by another way before you accept.</Notice>}
      <form onSubmit={(event) => { event.preventDefault(); void action.run(accept) }}>
        <Field label="What you call them"><input name="call" value={name} onInput={(event) => setName(event.currentTarget.value)} required maxLength={MOST_NAME} autocomplete="off" /></Field>
        <Problem error={action.error} />
        <div class="actions">
          <Button kind="main" type="submit" busy={action.isRunning}>Accept</Button>
          <Sure label="Refuse and block" question="You hear nothing more of them; they are not told." yes="Refuse and block" no="Not now" action={action} work={block} />
        </div>
      </form>
    </section>
  )
}

function Add({ known }: { known: Contact[] }) {
  const db = useDaemon()
  const action = useAction()
  const [address, setAddress] = useState('')
  const [name, setName] = useState('')
  const [note, setNote] = useState('')
  const namesake = known.find((one) => one.name === name.trim().replace(/\s+/g, ' '))
  const add = async (): Promise<void> => {
    const { id } = await call<Contact>(db, 'contacts.add', { address: address.trim(), name: name.trim(), note: note.trim() }, SLOW_MS)
    location.hash = `#/people/${encodeURIComponent(id)}`
  }
  return (
    <Card title="Add somebody">
      <form onSubmit={(event) => { event.preventDefault(); void action.run(add) }}>
        <Field label="Their address" hint="What they read to you, or the link in their QR code."><input name="address" value={address} onInput={(event) => setAddress(event.currentTarget.value)} required maxLength={600} autocomplete="off" autocapitalize="off" spellcheck={false} /></Field>
        <Field label="What you call them"><input name="name" value={name} onInput={(event) => setName(event.currentTarget.value)} required maxLength={MOST_NAME} autocomplete="off" /></Field>
        <Field label="What they are told with it" hint="So that they know who asks."><input name="note" value={note} onInput={(event) => setNote(event.currentTarget.value)} maxLength={MOST_NOTE} autocomplete="off" /></Field>
        {namesake !== undefined && <Notice tone="warn">You have a contact of this name. With another address this says that they began anew: the old one is forgotten, and nothing goes either way until you have compared the number. If it is somebody else, choose another name.</Notice>}
        <Problem error={action.error} />
        <Button kind={namesake === undefined ? 'main' : 'danger'} type="submit" busy={action.isRunning}>{namesake === undefined ? 'Ask them' : 'They began anew: take this address'}</Button>
      </form>
    </Card>
  )
}

function Address() {
  const db = useDaemon()
  const own = useAnswer<OwnAddress>('contacts.address', {}, ['contacts', 'sync'], 60_000)
  const action = useAction()
  const [typed, type] = useState<string | null>(null)
  const leaving = useAction()
  const [said, say] = useState<string | null>(null)
  const withdraw = async (): Promise<void> => {
    await call(db, 'contacts.withdraw', {}, SLOW_MS)
    say('Nobody finds you any more, and nobody can write to you. Your contacts stay, and are not told.')
    own.reload()
  }
  const publish = async (): Promise<void> => {
    say(null)
    await call(db, 'contacts.publish', (typed ?? '').trim() === '' ? {} : { name: (typed ?? '').trim() }, SLOW_MS)
    type(null)
    own.reload()
  }
  return (
    <Card title="Your address">
      {said !== null && <Notice tone="good"><span data-said>{said}</span></Notice>}
      <Loaded answer={own}>{({ address, link, name, published }) => {
        const form = (
          <form onSubmit={(event) => { event.preventDefault(); void action.run(publish) }}>
            <Field label="What others are told to call you" {...(published ? {} : { hint: 'Left empty, the name of this device.' })}><input name="own-name" value={typed ?? name} onInput={(event) => type(event.currentTarget.value)} maxLength={MOST_NAME} autocomplete="off" /></Field>
            <Problem error={action.error} />
            <Button kind={published ? 'plain' : 'main'} type="submit" busy={action.isRunning}>{published ? 'Change the name' : 'Let others find me'}</Button>
          </form>
        )
        if (!published) return <><p>Nobody can find you now. Once you let them, whoever knows your address can ask to be your contact; you decide each time.</p>{form}</>
        return (
          <>
            {!address.includes('@') && <Notice tone="warn">You use no relay, so nobody can reach you yet. <a href="#/connections">Add one</a></Notice>}
            <div class="give-away">
              <Qr text={link} label="QR code with your address" />
              <div>
                <p>Read it to them, or let them see the code. It is no secret: whoever knows it can only ask.</p>
                <p><strong class="code long all" data-address>{oneLine(address, 600)}</strong></p>
              </div>
            </div>
            {form}
            <div class="apart">
              <p class="quiet">Taken back, it is found by nobody, and no person can write to you, your contacts neither. They stay, are not told, and reach you again once you let others find you, at this same address.</p>
              <Problem error={leaving.error} />
              <Sure label="Take the address back" question="Nobody can write to you until you undo it." yes="Take it back" action={leaving} work={withdraw} small />
            </div>
          </>
        )
      }}</Loaded>
    </Card>
  )
}

/** How another device is added: a code, a QR code, four words on both screens. */

import { useEffect, useState } from 'preact/hooks'
import type { HybridGW } from '../../js/src/client.js'
import type { Items, Pairing, PairingOffer, Relay, SyncStatus } from './api.js'
import { call } from './api.js'
import { useAction, useAnswer, useDaemon, useNow, type Action } from './daemon.js'
import { duration, oneLine } from './format.js'
import { Button, Card, Field, Notice, Problem, Said } from './parts.js'
import { Qr } from './qr.js'

const POLL_MS = 400
const MEET_MS = 60_000

type Stage =
  | { name: 'none' }
  | { name: 'show'; offer: PairingOffer; pairing: Pairing | null }
  | { name: 'join'; pairing: Pairing }
  | { name: 'ended'; isDone: boolean; text: string }

/** One side of a pairing, or both to choose from. paired: told when it has gone well. */
export function Pair({ paired, only }: { paired: () => void; only?: 'join' | 'add' }) {
  const db = useDaemon()
  const action = useAction()
  const [stage, set] = useState<Stage>({ name: 'none' })
  const id = stage.name === 'show' ? stage.offer.id : stage.name === 'join' ? stage.pairing.id : null

  // How far it is, until it is over.
  useEffect(() => {
    if (id === null) return
    const timer = setInterval(() => {
      void call<Pairing>(db, 'pairing.get', { id }).then((pairing) => {
        set((before) => {
          if (before.name !== 'show' && before.name !== 'join') return before
          if (pairing.state === 'failed') return { name: 'ended', isDone: false, text: pairing.error ?? 'It failed. Begin again with a new code.' }
          if (pairing.state === 'done') {
            paired()
            return { name: 'ended', isDone: true, text: before.name === 'show' ? `${oneLine(pairing.peer?.name ?? 'The device', 40)} is one of your devices now. It fetches your data by itself.` : 'This device has joined. Your data comes by itself.' }
          }
          return { ...before, pairing }
        })
      }, () => undefined)
    }, POLL_MS)
    return () => clearInterval(timer)
  }, [db, id, paired])

  const cancel = (): void => {
    if (id !== null) void refuse(db, id).catch(() => undefined)
    action.clear()
    set({ name: 'none' })
  }
  switch (stage.name) {
    case 'show':
      return <Showing offer={stage.offer} pairing={stage.pairing} action={action} cancel={cancel} />
    case 'join':
      return <Card title="Join my other devices"><Progress pairing={stage.pairing} action={action} cancel={cancel} /></Card>
    case 'ended':
      return <Notice tone={stage.isDone ? 'good' : 'bad'} actions={<Button onClick={() => set({ name: 'none' })}>{stage.isDone ? 'Good' : 'Try again'}</Button>}><span data-ended={stage.isDone ? 'done' : 'failed'}>{oneLine(stage.text, 500)}</span></Notice>
    case 'none':
      return <Begin only={only} action={action} show={(offer) => set({ name: 'show', offer, pairing: null })} join={(pairing) => set({ name: 'join', pairing })} />
  }
}

/** End it, whatever it is doing: a first no may only be noted, a further one stops it. */
async function refuse(db: HybridGW, id: string): Promise<void> {
  for (let turn = 0; turn < 3; turn++) {
    await call(db, 'pairing.confirm', { id, accept: false })
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    if (['done', 'failed'].includes((await call<Pairing>(db, 'pairing.get', { id })).state)) return
  }
}

function Begin({ only, action, show, join }: { only: 'join' | 'add' | undefined; action: Action; show: (offer: PairingOffer) => void; join: (pairing: Pairing) => void }) {
  const db = useDaemon()
  const relays = useAnswer<Items<Relay>>('relays.list', {}, ['sync'])
  const [code, setCode] = useState('')
  const [relay, setRelay] = useState('')
  // A device that belongs to others already can come back to them as a new one, if a person says so.
  const sync = useAnswer<SyncStatus>(only === 'add' ? null : 'sync.status', {}, ['devices'])
  const mayReturn = sync.data !== null && sync.data.standing === 'active' && sync.data.devices > 1
  const [isReturn, come] = useState(false)
  const known = relays.data?.items ?? []
  const start = async (): Promise<void> => show(await call<PairingOffer>(db, 'pairing.start', relay === '' ? {} : { relay }, MEET_MS))
  const enter = async (): Promise<void> => join(await call<Pairing>(db, 'pairing.join', { code: code.trim(), ask: true, ...(mayReturn && isReturn ? { anew: true } : {}) }, MEET_MS))
  return (
    <>
      <div class="two">
        {only !== 'join' && <Card title="Add another device">
          <p>Shows a code to enter there. It works once, for ten minutes.</p>
          {known.length > 1 && (
            <Field label="Through this relay">
              <select value={relay} onChange={(event) => setRelay(event.currentTarget.value)}>
                <option value="">the first one</option>
                {known.map((one) => <option key={one.url} value={one.url}>{oneLine(one.url, 80)}</option>)}
              </select>
            </Field>
          )}
          <Button kind="main" data-pair busy={action.isRunning} onClick={() => void action.run(start)}>Show a code</Button>
        </Card>}
        {only !== 'add' && <Card title="Join my other devices">
          <form onSubmit={(event) => { event.preventDefault(); void action.run(enter) }}>
            <Field label="The code that the other device shows" hint="Like 417-803-265@relay.example.com, or the link of the QR code.">
              <input name="code" value={code} onInput={(event) => setCode(event.currentTarget.value)} required autocomplete="off" spellcheck={false} />
            </Field>
            {mayReturn && (
              <details>
                <summary>This device is one of them already</summary>
                <label class="check"><input type="checkbox" name="anew" checked={isReturn} onChange={(event) => come(event.currentTarget.checked)} /><span>Come back as a new device, with all it has: it is a copy of another machine, or was removed and has not heard of it</span></label>
              </details>
            )}
            <Button type="submit" busy={action.isRunning}>Join</Button>
          </form>
        </Card>}
      </div>
      <Problem error={action.error} />
    </>
  )
}

function Showing({ offer, pairing, action, cancel }: { offer: PairingOffer; pairing: Pairing | null; action: Action; cancel: () => void }) {
  const now = useNow()
  const left = (offer.expires_ms - now) / 1000
  if (pairing !== null && pairing.state !== 'waiting') return <Card title="Add another device"><Progress pairing={pairing} action={action} cancel={cancel} /></Card>
  return (
    <Card title="Add another device" actions={<Button onClick={cancel}>Cancel</Button>}>
      <div class="offer">
        <Qr text={offer.link} />
        <div>
          <p>On the other device open its dashboard, choose <em>Join my other devices</em>, and enter:</p>
          <p><strong class={offer.code === '' ? 'code long' : 'code'} data-offer>{oneLine(offer.code === '' ? offer.link : offer.code, 400)}</strong></p>
          <p>In a terminal there: <code>hybridgw pair {oneLine(offer.code === '' ? `'${offer.link}'` : offer.code, 400)}</code></p>
          <p class="quiet"><span role="status">{left > 0 ? 'Waiting for it. The relay never sees the last six digits of the code.' : 'The code is too old now. Cancel, and ask for another one.'}</span>{left > 0 && ` It works once, for ${duration(left)} more.`}</p>
        </div>
      </div>
    </Card>
  )
}

/** From the moment the two have met: who is there, the words, the decision. */
function Progress({ pairing, action, cancel }: { pairing: Pairing; action: Action; cancel: () => void }) {
  const db = useDaemon()
  const [isSaid, say] = useState(false)
  const agree = async (): Promise<void> => {
    await call(db, 'pairing.confirm', { id: pairing.id, accept: true }, MEET_MS)
    say(true)
  }
  const peer = pairing.peer
  return (
    <>
      {peer !== null && <p><strong><Said text={peer.name} most={40} /></strong> (<Said text={peer.platform} most={30} />), fingerprint <code>{oneLine(peer.fingerprint, 60)}</code></p>}
      {pairing.words !== null && !isSaid
        ? (
          <div class="words" role="status">
            <p>Both screens show four words. Are these the same on the other one?</p>
            <p><strong class="code" data-words>{oneLine(pairing.words, 100)}</strong></p>
            <p class="quiet">If they differ, somebody is in between: say no, and ask for a new code.</p>
            <Problem error={action.error} />
            <div class="actions">
              <Button kind="main" data-agree busy={action.isRunning} onClick={() => void action.run(agree)}>The words are the same</Button>
              <Button kind="danger" onClick={cancel}>They differ</Button>
            </div>
          </div>
        )
        : (
          <div class="words" role="status">
            <p class="quiet">{isSaid || pairing.state === 'joining' ? 'Waiting until the other device agrees …' : 'Meeting the other device …'}</p>
            <Button onClick={cancel}>Cancel</Button>
          </div>
        )}
    </>
  )
}

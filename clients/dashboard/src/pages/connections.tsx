/** Both directions: the relays that carry changes away, and the programs of this machine that are connected. */

import { useState } from 'preact/hooks'
import type { Connection, Grant, Items, LanReport, LanStatus, Relay, RelayCheck, SyncStatus } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, appText, bytes, count, ms, oneLine } from '../format.js'
import { Badge, Button, Card, Empty, Facts, Field, Loaded, Notice, Page, Problem, Said, Sure, Table, type Tone } from '../parts.js'

/** The page. */
export function ConnectionsPage() {
  return (
    <Page title="Connections" lead="How changes leave this device, and which programs on it are connected.">
      <Relays />
      <Network />
      <Programs />
    </Page>
  )
}

const TONES: Readonly<Record<string, Tone>> = { connected: 'good', connecting: 'calm', offline: 'warn', refused: 'bad' }

function Relays() {
  const db = useDaemon()
  const relays = useAnswer<Items<Relay>>('relays.list', {}, ['sync'], 10_000)
  const sync = useAnswer<SyncStatus>('sync.status', {}, ['sync'], 5_000)
  const action = useAction()
  const [link, setLink] = useState('')
  const [check, tell] = useState<RelayCheck | null>(null)
  const add = async (): Promise<void> => {
    await call(db, 'relays.add', { link: link.trim() }, 60_000)
    setLink('')
    relays.reload()
    sync.reload()
  }
  const test = (url: string) => (): void => {
    tell(null)
    void action.run(async () => tell(await call<RelayCheck>(db, 'relays.test', { url }, 60_000)))
  }
  return (
    <Card title="Relays">
      <p class="quiet">A relay stores sealed changes until your other devices fetch them. It can read none of them.</p>
      <Loaded answer={relays}>{({ items }) => items.length === 0 ? <Empty>No relay yet. Somebody who runs one gives you a link (<code>hybridgw-relay invite</code>); you can run one yourself.</Empty> : (
        <ul class="rows">
          {items.map((relay) => {
            const now = sync.data?.relays.find((one) => one.url === relay.url)
            const state = now?.state ?? relay.state
            const error = now?.error ?? relay.error
            return (
              <li key={relay.url} class="with-action">
                <div>
                  <div><strong><Said text={relay.url} /></strong> <Badge tone={TONES[state] ?? 'calm'}>{oneLine(state, 30)}</Badge></div>
                  <p class="quiet">{now === undefined ? '' : `${now.rtt_ms === null ? '' : `${ms(now.rtt_ms)}, `}sent ${bytes(now.sent_bytes)}, received ${bytes(now.received_bytes)}`}{error !== null && <>. {oneLine(error, 300)}</>}</p>
                </div>
                <div class="actions">
                  <Button busy={action.isRunning} onClick={test(relay.url)}>Test</Button>
                  <Sure label="Remove" question="This device stops using it." yes="Remove" action={action} small work={async () => { await call(db, 'relays.remove', { url: relay.url }); relays.reload() }} />
                </div>
              </li>
            )
          })}
        </ul>
      )}</Loaded>
      {check !== null && <Check check={check} />}
      <Problem error={action.error} />
      <form class="line" onSubmit={(event) => { event.preventDefault(); void action.run(add) }}>
        <Field label="Link of another relay"><input name="relay" value={link} onInput={(event) => setLink(event.currentTarget.value)} required autocomplete="off" spellcheck={false} placeholder="https://relay.example.com/#hgw-invite=…" /></Field>
        <Button type="submit" kind={relays.data?.items.length === 0 ? 'main' : 'plain'} busy={action.isRunning}>Add</Button>
      </form>
    </Card>
  )
}

function Check({ check }: { check: RelayCheck }) {
  if (!check.ok) return <Notice tone="bad">{oneLine(check.error ?? 'It does not answer as a relay does.', 400)}</Notice>
  return (
    <Notice tone="good">
      <Said text={check.url} /> works.
      <Facts facts={[
        ['Answers after', ms(check.rtt_ms)],
        ['Encrypted on the way', check.tls ? 'yes, TLS' : 'no TLS; what it carries is sealed all the same'],
        ['Its clock', check.clock_offset_ms === null ? '–' : `${(check.clock_offset_ms / 1000).toFixed(1)} s from ours`],
        ['Room', `${bytes(check.used_bytes)} of ${bytes(check.quota_bytes)} used`],
        ['Can read your data', check.can_read ? 'yes' : 'no'],
      ]} />
    </Notice>
  )
}

const SOURCES = { manual: 'entered by hand', last_good: 'worked before', found: 'announces itself' } as const
const INTERFACES: Readonly<Record<string, Tone>> = { announced: 'good', skipped: 'calm', waiting: 'calm', failed: 'bad' }
const CHECKS: Readonly<Record<string, Tone>> = { ok: 'good', warn: 'warn', fail: 'bad' }

/** Direct links: with whom, over what, and why not. */
function Network() {
  const db = useDaemon()
  const lan = useAnswer<LanStatus>('lan.status', {}, ['sync'], 10_000)
  const sync = useAnswer<SyncStatus>('sync.status', {}, ['sync'], 5_000)
  const action = useAction()
  const now = useNow(30_000)
  const [address, setAddress] = useState('')
  const [report, tell] = useState<LanReport | null>(null)
  const add = async (): Promise<void> => {
    await call(db, 'lan.add', { address: address.trim() })
    setAddress('')
    lan.reload()
  }
  const test = async (): Promise<void> => tell(await call<LanReport>(db, 'lan.test', {}, 60_000))
  const links = sync.data?.direct ?? []
  return (
    <Card title="On this network" actions={<Button busy={action.isRunning} onClick={() => { tell(null); void action.run(test) }}>Find out what is in the way</Button>}>
      <p class="quiet">Devices on one network sync directly, without a relay and without the internet.</p>
      {links.length > 0 && (
        <ul class="rows">
          {links.map((link) => <li key={link.device}><strong><Said text={link.name} most={64} /></strong> <Badge tone="good">connected</Badge><p class="quiet"><Said text={link.address} most={60} />, sent {bytes(link.sent_bytes)}, received {bytes(link.received_bytes)}</p></li>)}
        </ul>
      )}
      <Loaded answer={lan}>{(found) => !found.enabled ? <Notice tone="calm">{oneLine(found.message ?? 'Direct links are switched off.', 300)}</Notice> : (
        <>
          <Facts facts={[
            ['Listens on port', String(found.port)],
            ['Interfaces', found.interfaces.length === 0 ? 'none is up' : <ul class="plain-list">{found.interfaces.map((one) => <li key={one.name}>{oneLine(one.name, 40)} <Badge tone={INTERFACES[one.state] ?? 'calm'}>{one.state}</Badge> <span class="quiet">{oneLine(one.reason ?? one.addresses.join(', '), 200)}</span></li>)}</ul>],
          ]} />
          {found.addresses.length > 0 && (
            <Table
              caption="Addresses of other devices"
              head={['Address', 'Known because', 'Last reached', '']}
              rows={found.addresses.map((one) => ({
                key: `${one.source} ${one.address}`,
                cells: [
                  <Said text={one.address} most={80} />, SOURCES[one.source], ago(one.last_ms, now),
                  one.source === 'manual' ? <Sure label="Remove" question="It is tried no more." yes="Remove" action={action} small work={async () => { await call(db, 'lan.remove', { address: one.address }); lan.reload() }} /> : null,
                ],
              }))}
            />
          )}
        </>
      )}</Loaded>
      {report !== null && (
        <ul class="rows" role="status">
          {report.items.map((one) => <li key={`${one.code} ${one.message}`}><Badge tone={CHECKS[one.state] ?? 'calm'}>{one.state}</Badge> {oneLine(one.message, 300)}{one.help !== '' && <p class="quiet">What helps: {oneLine(one.help, 300)}</p>}</li>)}
        </ul>
      )}
      <Problem error={action.error} />
      <form class="line" onSubmit={(event) => { event.preventDefault(); void action.run(add) }}>
        <Field label="Address of another device"><input name="address" value={address} onInput={(event) => setAddress(event.currentTarget.value)} required autocomplete="off" spellcheck={false} placeholder="192.168.1.20:47801" /></Field>
        <Button type="submit" busy={action.isRunning}>Add</Button>
      </form>
    </Card>
  )
}

function Programs() {
  const report = useAnswer<{ items: Connection[]; archived: Connection[] }>('analytics.connections', { archived: 20 }, [], 2_000)
  const grants = useAnswer<Items<Grant>>('auth.grants.list', { all: true }, ['grants'])
  const now = useNow(5_000)
  const names = new Map(grants.data?.items.map((grant) => [`grant:${grant.id}`, appText(grant.origin, grant.name)]))
  const who = (one: Connection) => {
    const principal = one.principal ?? 'not signed in yet'
    if (principal === 'owner') return 'command line'
    if (principal.startsWith('dashboard:')) return 'a dashboard'
    return <Said text={names.get(principal) ?? principal} most={60} />
  }
  const about = (one: Connection) => <><strong>{who(one)}</strong><br /><span class="quiet" title={oneLine(one.user_agent, 200)}>{one.kind === 'events' ? 'event stream' : oneLine((one.mode ?? '').replaceAll('_', ' '), 30)}</span></>
  const traffic = (one: Connection) => <>{count(one.received_messages, 'message')} in ({bytes(one.received_bytes)})<br />{count(one.sent_messages, 'message')} out ({bytes(one.sent_bytes)})</>
  return (
    <Loaded answer={report}>{({ items, archived }) => (
      <>
        <Card title={`Connected now (${items.length})`}>
          {items.length === 0 ? <Empty>No program is connected.</Empty> : (
            <Table
              caption="Programs that are connected"
              head={['Program', 'Since', 'State', 'Answers after', 'Traffic']}
              rows={items.map((one) => ({ key: one.id, cells: [about(one), ago(one.opened_ms, now), <Badge tone={one.state === 'open' ? 'good' : 'warn'}>{oneLine(one.state, 20)}</Badge>, ms(one.rtt_ms), traffic(one)] }))}
            />
          )}
        </Card>
        {archived.length > 0 && (
          <Card title="Ended lately">
            <Table
              caption="Connections that ended"
              head={['Program', 'Ended', 'Why', 'Traffic']}
              rows={archived.map((one) => ({ key: one.id, cells: [about(one), ago(one.closed_ms, now), `${oneLine(one.close_reason || 'closed', 120)} (${one.close_code ?? '–'})`, traffic(one)] }))}
            />
          </Card>
        )}
      </>
    )}</Loaded>
  )
}

/** The frame around all pages: where one is, what needs the person, whether the daemon is there. */

import { Component, type ComponentChildren } from 'preact'
import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { connect, type HybridGW } from '../../js/src/client.js'
import { asError } from '../../js/src/errors.js'
import type { Items, Alarm, Contact, ContactRequest, Grant, SyncStatus } from './api.js'
import { call } from './api.js'
import { Connected, useAnswer, useDaemon, useStatus } from './daemon.js'
import { useKeptFocus } from './focus.js'
import { oneLine } from './format.js'
import { Notice } from './parts.js'
import { AlarmsPage } from './pages/alarms.js'
import { AppsPage } from './pages/apps.js'
import { ConflictsPage } from './pages/conflicts.js'
import { ConnectionsPage } from './pages/connections.js'
import { DataPage } from './pages/data.js'
import { DevicePage } from './pages/device.js'
import { DevicesPage } from './pages/devices.js'
import { HealthPage } from './pages/health.js'
import { HomePage } from './pages/home.js'
import { AGAIN, MessagePage, MessagesPage } from './pages/messages.js'
import { PeoplePage } from './pages/people.js'
import { PersonPage } from './pages/person.js'
import { RulesPage } from './pages/rules.js'
import { SettingsPage } from './pages/settings.js'
import { StartPage } from './pages/start.js'
import { TrafficPage } from './pages/traffic.js'
import { keepSession, type Session } from './session.js'

const PAGES = [
  ['', 'Home'],
  ['devices', 'Devices'],
  ['data', 'Data'],
  ['conflicts', 'Conflicts'],
  ['messages', 'Messages'],
  ['people', 'People'],
  ['apps', 'Apps'],
  ['connections', 'Connections'],
  ['traffic', 'Traffic'],
  ['health', 'Logs and health'],
  ['alarms', 'Alarms'],
  ['settings', 'Settings'],
] as const
const SETTLE_MS = 3_000 // a lost connection is there again, or refused

/** The parts of the address behind `#/`, decoded. */
function usePlace(): string[] {
  const read = (): string[] =>
    location.hash.replace(/^#\/?/, '').split('/').map((part) => {
      try {
        return decodeURIComponent(part)
      } catch {
        return part
      }
    })
  const [place, set] = useState(read)
  useEffect(() => {
    const went = (): void => set(read())
    addEventListener('hashchange', went)
    return () => removeEventListener('hashchange', went)
  }, [])
  return place
}

/** Everything, for a session. over: told when it has ended, with whether the person wanted it. */
export function App({ session, over }: { session: Session; over: (why: 'ended' | 'left') => void }) {
  const db = useMemo(() => connect({ app: 'Dashboard', url: location.origin, token: session.token, outbox: 'memory', ask: 'never' }), [session])
  useEffect(() => () => db.close(), [db])
  const { status } = useStatus(db)
  const isLeaving = useRef(false)
  useEffect(() => {
    // revoked: signed out in another tab, or by another program
    if (status === 'failed' || status === 'revoked') over(isLeaving.current ? 'left' : 'ended')
  }, [status, over])
  /** Throws what kept the others in: whoever is told that they are out has to be able to rely on it. */
  const leave = async (everybody = false): Promise<void> => {
    isLeaving.current = true
    try {
      await call(db, 'auth.logout', { scope: everybody ? 'all_clients' : 'client' })
    } catch (error) {
      if (everybody && !(asError(error).code === 'offline' && (await isOut(db)))) {
        isLeaving.current = false
        throw error
      }
    }
    keepSession(null)
    over('left')
  }
  return (
    <Connected.Provider value={db}>
      <Frame status={status} session={session} leave={leave} />
    </Connected.Provider>
  )
}

/** The connection was lost before the answer: was it because our own session has ended with the others. */
function isOut(db: HybridGW): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => over(false), SETTLE_MS)
    let wasLost = false
    const end = db.subscribe(({ status }) => {
      if (status === 'failed' || status === 'revoked') over(true)
      else if (status !== 'online') wasLost = true
      else if (wasLost) over(false)
    })
    function over(isOut: boolean): void {
      clearTimeout(timer)
      setTimeout(() => end()) // it may be told at once
      resolve(isOut)
    }
  })
}

function Frame({ status, session, leave }: { status: string; session: Session; leave: (everybody?: boolean) => Promise<void> }) {
  const place = usePlace()
  const [isOpen, open] = useState(false)
  const here = PAGES.find(([path]) => path === place[0])?.[0]
  useEffect(() => open(false), [place])
  useKeptFocus('h1, h2')
  const needs = useNeeds()
  const news = useNews(status, needs)
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>('h1')?.focus() }}>Go to the content</a>
      <header class="top">
        <a class="brand" href="#/"><img src="/assets/icon.svg" alt="" width="24" height="24" />HybridGW</a>
        <button type="button" class="button plain menu" aria-expanded={isOpen} aria-controls="nav" onClick={() => open(!isOpen)}>Menu</button>
      </header>
      <nav id="nav" aria-label="Pages" class={isOpen ? 'open' : ''}>
        <div class="stays">
          <ul>
            {PAGES.map(([path, name]) => (
              <li key={path}>
                <a href={`#/${path}`} aria-current={path === here ? 'page' : undefined}>
                  {name}
                  {(needs[path] ?? 0) > 0 && <span class="count">{needs[path]}<span class="hidden"> to decide</span></span>}
                </a>
              </li>
            ))}
          </ul>
          <button type="button" class="button plain sign-out" onClick={() => void leave()}>Sign out</button>
        </div>
      </nav>
      <p class="hidden" role="status" data-news>{news}</p>
      <main id="main">
        {status === 'offline' && <Notice tone="warn">HybridGW does not answer. What you see is what there was before; this page goes on by itself as soon as it runs. To start it: <code>hybridgw up</code></Notice>}
        <Fallen key={place.join('/')}><Content place={place} session={session} leave={leave} /></Fallen>
      </main>
    </>
  )
}

function Content({ place, session, leave }: { place: string[]; session: Session; leave: (everybody?: boolean) => Promise<void> }) {
  switch (place[0]) {
    case '':
    case 'main':
      return <HomePage />
    case 'devices':
      return place[1] ? <DevicePage id={place[1]} /> : <DevicesPage />
    case 'data':
      return <DataPage collection={place[1]} document={place[2]} />
    case 'conflicts':
      return <ConflictsPage />
    case 'messages':
      if (place[1] === 'rules') return <RulesPage />
      return place[1] ? <MessagePage id={place[1]} isAgain={place[2] === AGAIN} /> : <MessagesPage />
    case 'people':
      return place[1] ? <PersonPage id={place[1]} /> : <PeoplePage />
    case 'apps':
      return <AppsPage />
    case 'connections':
      return <ConnectionsPage />
    case 'start':
      return <StartPage step={place[1]} />
    case 'traffic':
      return <TrafficPage />
    case 'health':
      return <HealthPage />
    case 'alarms':
      return <AlarmsPage />
    case 'settings':
      return <SettingsPage session={session} leave={leave} />
    default:
      return <Missing />
  }
}

/** A page that fails takes no other one down. */
class Fallen extends Component<{ children: ComponentChildren }, { error: string | null }> {
  override state = { error: null }

  static override getDerivedStateFromError(error: unknown): { error: string } {
    return { error: String(error) }
  }

  override render(): ComponentChildren {
    if (this.state.error === null) return this.props.children
    return <Notice tone="bad">This page has failed: {oneLine(this.state.error, 300)}. Your data is as it was; the other pages work. Reload to try again.</Notice>
  }
}

function Missing() {
  return <p class="empty">There is no such page. <a href="#/">Home</a></p>
}

const WAITS: Readonly<Record<string, (n: number) => string>> = {
  apps: (n) => (n === 1 ? 'An app asks to be let in.' : `${n} apps ask to be let in.`),
  messages: (n) => (n === 1 ? 'A message waits.' : `${n} messages wait.`),
  people: (n) => (n === 1 ? 'A person waits for you to decide.' : `${n} people wait for you to decide.`),
  conflicts: (n) => (n === 1 ? 'Two devices changed the same document.' : `Two devices changed the same ${n} documents.`),
  alarms: (n) => (n === 1 ? 'There is an alarm.' : `There are ${n} alarms.`),
}

/** What a screen reader says by itself, wherever one is: the connection is lost or back, something waits that did not. */
function useNews(status: string, needs: Readonly<Record<string, number>>): string {
  const [news, tell] = useState('')
  const before = useRef({ status, needs })
  useEffect(() => {
    const was = before.current
    before.current = { status, needs }
    const found = Object.entries(WAITS).filter(([page]) => (needs[page] ?? 0) > (was.needs[page] ?? 0)).map(([page, text]) => text(needs[page] ?? 0))
    if (status === 'offline' && was.status !== 'offline') found.push('HybridGW does not answer.')
    if (status === 'online' && was.status === 'offline') found.push('HybridGW answers again.')
    if (found.length > 0) tell(found.join(' '))
  })
  return news
}

/** How much waits for the person, by page. */
function useNeeds(): Readonly<Record<string, number>> {
  const grants = useAnswer<Items<Grant>>('auth.grants.list', {}, ['grants'], 20_000)
  const sync = useAnswer<SyncStatus>('sync.status', {}, ['sync', 'devices'], 5_000)
  const alarms = useAnswer<Items<Alarm>>('alarms.list', {}, ['alarms'], 30_000)
  const notes = useAnswer<{ waiting: number }>('messages.notifications', { limit: 1 }, ['messages'], 30_000)
  const asking = useAnswer<Items<ContactRequest>>('contacts.requests', {}, ['contacts'], 30_000)
  const contacts = useAnswer<Items<Contact>>('contacts.list', {}, ['contacts'], 30_000)
  const changed = contacts.data?.items.filter((one) => one.changed && one.state !== 'blocked').length ?? 0
  const pending = grants.data?.items.filter((grant) => grant.state === 'pending').length ?? 0
  const db = useDaemon()
  useEffect(() => {
    const waiting = pending > 0 ? `(${pending}) ` : ''
    document.title = waiting + document.title.replace(/^\(\d+\) /, '')
  }, [db, pending])
  return { apps: pending, messages: notes.data?.waiting ?? 0, people: (asking.data?.items.length ?? 0) + changed, conflicts: sync.data?.conflicts ?? 0, alarms: alarms.data?.items.length ?? 0 }
}

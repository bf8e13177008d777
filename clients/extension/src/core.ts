/** One client of the daemon for this browser profile, and what the views show of it. */

import { DEFAULT_URL, HybridGW, type State, type Status } from '../../js/src/client.js'
import { asError } from '../../js/src/errors.js'
import { newId } from '../../js/src/ids.js'
import { browserKey } from '../../js/src/key.js'
import { databaseOutbox, databaseTokens, type TokenKeeper } from '../../js/src/keeping.js'
import type { Rejection } from '../../js/src/outbox.js'
import { Activity } from './activity.js'
import { keep, kept, t } from './api.js'
import { Inbox } from './inbox.js'
import { whole } from './piece.js'
import { Choices, DOCUMENT } from './preferences.js'
import { Refusals } from './refusals.js'
import { NOTHING, targetOf, type Ask, type Device, type Piece, type Shown } from './shared.js'
import { TaskList, type TaskData } from './tasks.js'
import { Transport } from './transport.js'
import { Unsent } from './unsent.js'

export const PIECE = 'browser.page' // the type of what browsers send each other, and the topic that the rights name
export const APP = 'hybridgw-extension'
const SCOPES = ['read:tasks', 'write:tasks', `read:settings/${DOCUMENT}`, `write:settings/${DOCUMENT}`, `send:${PIECE}`, `listen:${PIECE}`]
const LOGGING = 'write:activities' // asked for once the person turns the log on
const NO_RIGHTS: readonly Status[] = ['unapproved', 'refused', 'revoked']
const MOST_TEXT = 300 // of a piece that has arrived, as the popup shows it
type Watcher = (shown: Shown) => void

export class Core {
  shown = NOTHING
  private client: HybridGW | null = null
  private state: State | null = null
  private readonly key = browserKey()
  private readonly transport: Transport
  private readonly inbox: Inbox
  private readonly unsent: Unsent
  private readonly tasks: TaskList
  private readonly choices: Choices
  private readonly refusals: Refusals
  readonly activity: Activity
  private readonly watchers = new Map<Watcher, boolean>()
  private devices: Device[] = []
  private readonly started: Promise<void>
  private begun: () => void = () => undefined
  private isLoaded = false // until then nobody is told anything: what views show of last time is nearer to the truth
  private isTold = false
  private moved: Promise<void> = Promise.resolve() // to where the host has said that the daemon is
  private turn: Promise<void> = Promise.resolve() // of the changes of client

  constructor() {
    this.started = new Promise((resolve) => (this.begun = resolve))
    this.transport = new Transport({ ready: (url) => void (this.moved = this.ready(url)), changed: () => this.touch() })
    this.inbox = new Inbox(() => this.touch())
    this.tasks = new TaskList(() => this.touch())
    this.choices = new Choices(() => this.touch())
    this.refusals = new Refusals(() => this.touch())
    this.activity = new Activity(browserName(), () => this.choices.now.excluded, async (entry, id) => await this.online().collection<object>('activities').create(entry, id))
    this.unsent = new Unsent(
      (id, to, piece) => this.online().messages().send(PIECE, piece, { id, to }),
      (piece, why) => this.refusals.note(nameOf(piece), why),
      () => this.touch(),
    )
  }

  /** Take up what was kept, and connect. */
  async start(): Promise<void> {
    await Promise.all([this.inbox.load(), this.unsent.load(), this.activity.load(), this.tasks.load(), this.choices.load(), this.refusals.load()])
    this.devices = await kept('devices', this.devices)
    this.isLoaded = true
    this.touch()
    await this.transport.host.reach()
    if (this.client === null) await this.connect(this.transport.host.url ?? (await kept('url', DEFAULT_URL)))
    this.begun()
  }

  /** The alarm: is it still as it looks. */
  look(): void {
    void this.started.then(() => {
      void this.transport.host.reach()
      this.client?.retry()
      void this.activity.look()
      this.touch()
    })
  }

  /** Called at once and after every change. isView: somebody looks at tasks. Returns what ends it. */
  watch(watcher: Watcher, isView: boolean): () => void {
    this.watchers.set(watcher, isView)
    if (this.isLoaded) watcher(this.shown)
    this.follow()
    if (isView && this.client !== null) void this.listDevices()
    return () => {
      this.watchers.delete(watcher)
      this.follow()
    }
  }

  /** Do what a view asks for. Returns whether it waits for the daemon. */
  async ask(ask: Ask): Promise<boolean> {
    await this.started
    if (ask.do === 'send') return await this.unsent.add(ask.id, ask.to, ask.piece)
    await this.act(ask)
    return false
  }

  private async act(ask: Exclude<Ask, { do: 'send' }>): Promise<void> {
    const client = this.online()
    const tasks = client.collection<TaskData>('tasks')
    switch (ask.do) {
      case 'connect':
        await this.transport.host.reach(true)
        await this.moved
        return await this.online().ask()
      case 'retry':
        await this.transport.host.reach(true)
        await this.moved
        if (this.online() !== client) return
        return this.state?.status === 'offline' ? client.retry() : await this.connect(client.url) // one that has failed does no more
      case 'leave':
        await this.forget()
        await client.leave()
        return await this.connect(client.url)
      case 'activity': {
        const { settings } = ask
        const isOther = settings.isOn !== this.activity.settings.isOn
        // Other rights: the person is asked anew, for more or for less. It is on only once the old ones are gone: asked
        // again by a view whose worker was ended here, another one finds what is left to do.
        if (isOther && settings.isOn) await client.leave()
        await this.activity.set(settings)
        this.touch()
        if (!isOther) return
        if (!settings.isOn) await client.leave()
        await this.connect(client.url)
        return await this.online().ask()
      }
      case 'prefer':
        await this.choices.set(ask.change)
        return await this.activity.look()
      case 'address':
        await this.connect(addressOf(ask.url))
        return await keep('url', this.online().url)
      case 'add': {
        const title = whole(ask.title.trim())
        if (title === '') throw new Error(t('emptyTask'))
        try {
          await tasks.create({ title, status: 'open', created_at: new Date().toISOString() }, ask.id)
        } catch (error) {
          if (asError(error).code !== 'already_exists') throw error // it was asked before
        }
        return
      }
      case 'check':
        await tasks.patch(ask.id, { status: ask.isDone ? 'done' : 'open' })
        if (ask.isDone) this.tasks.left(ask.id)
        return
      case 'remove':
        await tasks.delete(ask.id)
        this.tasks.left(ask.id)
        return
      case 'seen':
        return await this.inbox.see(ask.id)
      case 'forget':
        return await this.inbox.forget(ask.id)
      case 'understood':
        return await this.refusals.clear()
    }
  }

  /** Where the person sends things without saying where: to the device that they have chosen, else to all. */
  send(piece: Piece): void {
    const to = (): string => targetOf({ preferences: this.choices.now, devices: this.devices })
    void this.unseen(nameOf(piece), this.started.then(() => this.ask({ do: 'send', id: newId(), piece, to: to() })))
  }

  /** A task from a menu, or the address bar. */
  add(title: string): void {
    void this.unseen(title, this.ask({ do: 'add', id: newId(), title }))
  }

  /** Who asked has no place where it is said what went wrong: the badge and the popup say it. */
  private async unseen(what: string, asked: Promise<unknown>): Promise<void> {
    await asked.catch((error: unknown) => this.refusals.note(what, messageOf(error)))
  }

  // ---- the client --------------------------------------------------------------------------------------------------
  private online(): HybridGW {
    return this.client as HybridGW
  }

  /** There is a daemon now: at another address a new client, at the same one another try. */
  private async ready(url: string): Promise<void> {
    await keep('url', url)
    if (this.client === null) return
    if (this.client.url === url) this.client.retry()
    else await this.connect(url)
  }

  /** A client of this address, instead of the one before. One after the other: there is one port, and one outbox. */
  private async connect(url: string): Promise<void> {
    const run = this.turn.then(() => this.begin(url))
    this.turn = run.catch(() => undefined)
    await run
  }

  /** Throws where no daemon can be; then the client before stays. */
  private async begin(url: string): Promise<void> {
    let clientId = await kept('clientId', '')
    if (clientId === '') await keep('clientId', (clientId = `extension-${newId().slice(-12)}`))
    const client = new HybridGW({
      app: `${browserName()} extension`,
      scopes: this.activity.settings.isOn ? [...SCOPES, LOGGING] : SCOPES,
      url,
      ask: 'never',
      mode: 'browser_extension',
      clientId,
      keep: tokensAnywhere(url),
      key: this.key,
      outbox: databaseOutbox(),
      onRejected: (rejection) => this.rejected(rejection),
      fetch: this.transport.fetch,
      openSocket: this.transport.openSocket,
    })
    this.client?.close()
    this.tasks.leave()
    this.client = client
    client.subscribe((state) => {
      if (this.client !== client) return
      const wasOnline = this.state?.status === 'online'
      this.state = state
      if (NO_RIGHTS.includes(state.status)) void this.forget()
      if (state.status === 'online' && !wasOnline) {
        this.tasks.online()
        void this.unsent.flush()
        void this.listDevices()
      }
      this.touch()
    })
    this.choices.follow(client)
    client.messages({ app: APP }).on(PIECE, async (message) => {
      if (!message.from.client.endsWith(`/${clientId}`)) await this.inbox.take(message) // not what we have sent to all ourselves
    })
    this.follow()
  }

  /** Whose rights have ended shows nothing more of what it could read. What has arrived is the browser's own. */
  private async forget(): Promise<void> {
    this.tasks.forget()
    if (this.devices.length === 0) return
    this.devices = []
    await keep('devices', this.devices)
  }

  /** A change that had waited was not taken. */
  private rejected(rejection: Rejection): void {
    const { change: { op, collection, content }, error } = rejection
    // Asked for twice, by a view whose worker was ended: it is as it was wanted.
    const isDone = op === 'create' ? error.code === 'already_exists' : op === 'delete' && ['deleted', 'not_found'].includes(error.code)
    if (this.choices.rejected(rejection) || isDone || collection === 'activities') return
    void this.refusals.note(typeof content?.['title'] === 'string' ? content['title'] : collection === 'tasks' ? t('aTask') : t('aChoice'), error.message)
  }

  /** Where pieces can go. What was known last stays while nobody answers. */
  private async listDevices(): Promise<void> {
    try {
      const { items } = await this.online().call<{ items: { name: string; fingerprint: string }[] }>('messages.devices')
      this.devices = items.map(({ name, fingerprint }) => ({ name, mark: fingerprint }))
      await keep('devices', this.devices)
      this.touch()
    } catch {
      // the next connection asks again
    }
  }

  /** Tasks are followed while somebody looks at them. */
  private follow(): void {
    const isLooked = [...this.watchers.values()].some(Boolean)
    if (isLooked && this.client !== null) this.tasks.follow(this.client)
    else this.tasks.leave()
  }

  // ---- what is shown -----------------------------------------------------------------------------------------------
  private touch(): void {
    if (this.isTold || !this.isLoaded) return
    this.isTold = true
    queueMicrotask(() => {
      this.isTold = false
      this.shown = this.make()
      for (const watcher of [...this.watchers.keys()]) watcher(this.shown)
    })
  }

  private make(): Shown {
    const { state, transport } = this
    const error = state?.error ?? null
    return {
      status: state === null ? 'starting' : state.status === 'closed' ? 'connecting' : state.status, // closed: another one follows
      code: state?.code ?? null,
      sentence: state?.sentence ?? null,
      problem: error === null ? null : { code: error.code, message: error.message, next: error.next },
      way: transport.way,
      host: { state: transport.host.state, problem: transport.host.problem },
      url: this.client?.url ?? NOTHING.url,
      waiting: (state?.queued ?? 0) + this.unsent.size,
      refusals: this.refusals.items,
      mayRead: state?.status !== 'online' || state.scopes.includes('read:tasks'),
      mayLog: state?.status !== 'online' || state.scopes.includes(LOGGING),
      tasks: this.tasks.now,
      inbox: this.inbox.items.map((one) => ({ ...one, title: one.title.slice(0, MOST_TEXT), text: one.text.slice(0, MOST_TEXT) })),
      devices: this.devices,
      activity: this.activity.settings,
      preferences: this.choices.now,
    }
  }
}

/** The daemon's port may change; what was given to us counts at each of its addresses, and is bound to our key. */
function tokensAnywhere(url: string): TokenKeeper {
  const inner = databaseTokens()
  return {
    load: async () => {
      const found = await inner.load()
      return found === null ? null : { ...found, url }
    },
    save: (value) => inner.save(value),
    clear: () => inner.clear(),
  }
}

/** What a piece is called. */
function nameOf({ text, title, url }: Piece): string {
  return text || title || url
}

/** What a person has typed as an address of this computer. */
function addressOf(typed: string): string {
  const text = typed.trim()
  try {
    return new URL(text.includes('://') ? text : `http://${text}`).origin
  } catch {
    throw new Error(t('badAddress'))
  }
}

/** What went wrong, in words. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function browserName(): string {
  const agent = navigator.userAgent
  return /Firefox\//.test(agent) ? 'Firefox' : /Edg\//.test(agent) ? 'Edge' : /Vivaldi/.test(agent) ? 'Vivaldi' : 'Chrome'
}

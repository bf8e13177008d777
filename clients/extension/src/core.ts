/** One client of the daemon for this browser profile, and what the views show of it. */

import { DEFAULT_URL, HybridGW, type State } from '../../js/src/client.js'
import { asError } from '../../js/src/errors.js'
import { newId } from '../../js/src/ids.js'
import { browserKey } from '../../js/src/key.js'
import { databaseOutbox, databaseTokens, type TokenKeeper } from '../../js/src/keeping.js'
import { Activity } from './activity.js'
import { keep, kept, t } from './api.js'
import { Inbox } from './inbox.js'
import { Choices, DOCUMENT } from './preferences.js'
import { NOTHING, targetOf, type Ask, type Device, type Piece, type Shown } from './shared.js'
import { TaskList, type TaskData } from './tasks.js'
import { Transport } from './transport.js'
import { Unsent } from './unsent.js'

export const PIECE = 'browser.page' // the type of what browsers send each other, and the topic that the rights name
export const APP = 'hybridgw-extension'
const SCOPES = ['read:tasks', 'write:tasks', `read:settings/${DOCUMENT}`, `write:settings/${DOCUMENT}`, `send:${PIECE}`, `listen:${PIECE}`]
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
  readonly activity: Activity
  private readonly watchers = new Map<Watcher, boolean>()
  private devices: Device[] = []
  private readonly started: Promise<void>
  private begun: () => void = () => undefined
  private isLoaded = false // until then nobody is told anything: what views show of last time is nearer to the truth
  private isTold = false

  constructor() {
    this.started = new Promise((resolve) => (this.begun = resolve))
    this.transport = new Transport({ ready: (url) => void this.ready(url), changed: () => this.touch() })
    this.inbox = new Inbox(() => this.touch())
    this.tasks = new TaskList(() => this.touch())
    this.choices = new Choices(() => this.touch())
    this.activity = new Activity(browserName(), () => this.choices.now.excluded, async (entry) => await this.online().collection<object>('activities').create(entry))
    this.unsent = new Unsent(
      (id, to, piece) => this.online().messages().send(PIECE, piece, { id, to }),
      () => this.touch(),
    )
  }

  /** Take up what was kept, and connect. */
  async start(): Promise<void> {
    await Promise.all([this.inbox.load(), this.unsent.load(), this.activity.load(), this.tasks.load(), this.choices.load()])
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

  /** Do what a view, a menu or a key asks for. */
  async ask(ask: Ask): Promise<void> {
    await this.started
    const client = this.client as HybridGW
    const tasks = client.collection<TaskData>('tasks')
    switch (ask.do) {
      case 'connect':
        await this.transport.host.reach(true)
        return await (this.client as HybridGW).ask()
      case 'retry':
        await this.transport.host.reach(true)
        return client.retry()
      case 'leave':
        await client.leave()
        this.tasks.forget()
        return await this.connect(client.url)
      case 'activity': {
        const isOther = ask.settings.isOn !== this.activity.settings.isOn
        await this.activity.set(ask.settings)
        this.touch()
        if (!isOther) return
        await client.leave() // other rights: the person is asked anew, for more or for less
        await this.connect(client.url)
        return await this.online().ask()
      }
      case 'prefer':
        await this.choices.set(ask.change)
        return await this.activity.look()
      case 'address':
        await this.connect(new URL(ask.url).origin)
        return await keep('url', this.online().url)
      case 'add': {
        const title = ask.title.trim()
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
      case 'send':
        return await this.unsent.add(ask.id, ask.to, ask.piece)
      case 'seen':
        return await this.inbox.see(ask.id)
      case 'forget':
        return await this.inbox.forget(ask.id)
    }
  }

  /** Where the person sends things without saying where: to the device that they have chosen, else to all. */
  async send(piece: Piece): Promise<void> {
    await this.started
    await this.ask({ do: 'send', id: newId(), piece, to: targetOf({ preferences: this.choices.now, devices: this.devices }) })
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

  private async connect(url: string): Promise<void> {
    this.client?.close()
    this.tasks.leave()
    let clientId = await kept('clientId', '')
    if (clientId === '') await keep('clientId', (clientId = `extension-${newId().slice(-12)}`))
    const client = new HybridGW({
      app: `${browserName()} extension`,
      scopes: this.activity.settings.isOn ? [...SCOPES, 'write:activities'] : SCOPES,
      url,
      ask: 'never',
      mode: 'browser_extension',
      clientId,
      keep: tokensAnywhere(url),
      key: this.key,
      outbox: databaseOutbox(),
      onRejected: (rejection) => this.choices.rejected(rejection),
      fetch: this.transport.fetch,
      openSocket: this.transport.openSocket,
    })
    this.client = client
    client.subscribe((state) => {
      if (this.client !== client) return
      const wasOnline = this.state?.status === 'online'
      this.state = state
      if (state.status === 'revoked') this.tasks.forget()
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
      status: state?.status ?? 'starting',
      code: state?.code ?? null,
      sentence: state?.sentence ?? null,
      problem: error === null ? null : { code: error.code, message: error.message, next: error.next },
      way: transport.way,
      host: { state: transport.host.state, problem: transport.host.problem },
      url: this.client?.url ?? NOTHING.url,
      waiting: (state?.queued ?? 0) + this.unsent.size,
      rejected: state?.rejected.length ?? 0,
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

function browserName(): string {
  const agent = navigator.userAgent
  return /Firefox\//.test(agent) ? 'Firefox' : /Edg\//.test(agent) ? 'Edge' : /Vivaldi/.test(agent) ? 'Vivaldi' : 'Chrome'
}

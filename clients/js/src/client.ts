/** The client: finds the daemon, gets let in, stays connected, and gives collections and topics that work all the while. */

import { Access, type Asking, type Mode } from './access.js'
import { fullJitter, pause } from './backoff.js'
import type { Change } from './change.js'
import { Collection } from './collection.js'
import { asError, HybridGWError, START_OR_ALLOW } from './errors.js'
import { Close, type AuthOk, type EventFrame, type Resume } from './frames.js'
import { Http, type Fetch } from './http.js'
import { newId } from './ids.js'
import { proofOf, type AppKey } from './key.js'
import { databaseOutbox, databaseTokens, memoryOutbox, memoryTokens, sessionTokens, type OutboxKeeper, type TokenKeeper } from './keeping.js'
import { Link, PATIENCE, type End, type OpenSocket, type Patience, type Prove } from './link.js'
import { Outbox, type Rejection, type WireDocument } from './outbox.js'
import { isActivated, mayBeKeptAway, networkPermission, watchPermission } from './permission.js'
import type { Data } from './query.js'
import { report, Store, type Listener, type Readable } from './store.js'
import { Messages, type MessageState } from './messages.js'
import { Topic } from './topic.js'
import type { Subscriber, View } from './view.js'
import { watchWake } from './wake.js'

export const DEFAULT_URL = 'http://127.0.0.1:8000'
const STABLE_MS = 5_000 // a connection that held so long ends the series of failures
const FOLLOW_AGAIN_MS = 1_000 // what was refused for a moment, as by a daemon whose keys are not open yet
const RENEW_LOOK_MS = 30_000 // whether the token in use has to be exchanged
const RENEW_AGAIN_MS = 2_000 // after it could not be
const MAX_TIMER_MS = 2 ** 31 - 1 // a longer one would fire at once
const MAX_REJECTED = 100 // kept in the state; the callback gets all

/** How to connect. Only `app` is needed. */
export interface ConnectOptions {
  /** What the app calls itself; the person sees it beside the address of the page. */
  app: string
  /** `read:COLLECTION`, `write:COLLECTION`, `send:TOPIC`, `listen:TOPIC`. */
  scopes?: readonly string[]
  /** Where HybridGW answers. */
  url?: string
  /**
   * When to ask the person to be let in. `auto`: at once if connect() was called from a click, or where there are no
   * pages; otherwise `ask()` does it. `always`, `never`: as they say.
   */
  ask?: 'auto' | 'always' | 'never'
  /** Instead of asking: an API key, or a function that gives a token. */
  token?: string | (() => string | Promise<string>)
  /** Where what was given is kept: for ever, until the tab is closed, not at all, or where you say. */
  keep?: 'browser' | 'session' | 'memory' | TokenKeeper
  /** A key that everything the app is given is bound to, see `browserKey`; what was given without it does not count with it. */
  key?: AppKey
  /** Where unsent changes are kept. */
  outbox?: 'browser' | 'memory' | OutboxKeeper
  mode?: Mode
  /** By what name others send messages to this program: 1 to 64 of A-Z a-z 0-9 . _ -. Else it is made anew each time. */
  clientId?: string
  /** Called with the six digits. */
  onCode?: (asking: Asking) => void
  /** Called for each kept change that the daemon did not take. */
  onRejected?: (rejection: Rejection) => void
  /** Other parts: for tests, and for platforms that lack some. */
  fetch?: Fetch
  openSocket?: OpenSocket
  patience?: Partial<Patience>
  random?: () => number
}

/**
 * starting: looking for what was kept. unapproved: nobody has let the app in; `ask()`. asking: the code waits for the
 * person. connecting, online. offline: the daemon is not there; it is tried again. blocked: the browser keeps the page
 * from it. refused, revoked: the person said no, or no longer; `ask()`. failed: see `error`. closed.
 */
export type Status = 'starting' | 'unapproved' | 'asking' | 'connecting' | 'online' | 'offline' | 'blocked' | 'refused' | 'revoked' | 'failed' | 'closed'

/** Where the client stands; a new object with every change. */
export interface State {
  readonly status: Status
  /** Six digits for the person, while the status is `asking`. */
  readonly code: string | null
  /** What is asked for, in words. */
  readonly sentence: string | null
  /** What went wrong last, with what to do about it. */
  readonly error: HybridGWError | null
  /** What the app may do, once it was online. */
  readonly scopes: readonly string[]
  /** Changes that wait for the daemon. */
  readonly queued: number
  /** Kept changes that it did not take, latest last. */
  readonly rejected: readonly Rejection[]
}

interface Followed {
  readonly by: Subscriber
  sub: number | null
}

/** A connection to the person's own HybridGW. Made by `connect`. */
export class HybridGW implements Readable<State> {
  readonly url: string
  readonly getSnapshot: () => State
  private readonly store: Store<State>
  private state: State = { status: 'starting', code: null, sentence: null, error: null, scopes: [], queued: 0, rejected: [] }
  private readonly access: Access | null
  private readonly token: (() => Promise<string>) | null
  private readonly prove: Prove | undefined
  private readonly outbox: Outbox
  private readonly patience: Patience
  private readonly openSocket: OpenSocket
  private readonly random: () => number
  private readonly mode: Mode
  private clientId: string
  private link: Link | null = null
  private resume: Resume | null = null
  private lastToken = ''
  private renewal: ReturnType<typeof setTimeout> | undefined
  private readonly followed = new Map<Subscriber, Followed>()
  private readonly bySub = new Map<number, Set<Followed>>()
  private readonly strangers = new Set<number>() // whose end the daemon was told at this connection
  private readonly collections = new Map<string, Collection<any>>()
  private readonly views = new Set<View<any>>()
  private readonly over = new AbortController()
  private stir = new AbortController() // aborted to end a pause
  private wanted: (() => void) | null = null // somebody asked to be let in
  private willAsk = false
  private readonly ends: (() => void)[] = []

  constructor(private readonly options: ConnectOptions) {
    if (options.app.trim() === '') throw new HybridGWError('bad_value', 'An app needs a name.')
    const url = new URL(options.url ?? DEFAULT_URL)
    if (url.protocol !== 'http:' || !/^(localhost|\[::1\]|127(\.\d+){3})$/.test(url.hostname)) {
      throw new HybridGWError('bad_value', 'HybridGW answers on this computer only: http://127.0.0.1, http://localhost or http://[::1], with its port.')
    }
    if (!/^[A-Za-z0-9._-]{1,64}$/.test(options.clientId ?? 'x')) throw new HybridGWError('bad_value', 'A client id is 1 to 64 of A-Z a-z 0-9 . _ -')
    this.clientId = options.clientId ?? newId()
    this.url = url.origin
    this.store = new Store(() => this.state)
    this.getSnapshot = this.store.getSnapshot
    this.mode = options.mode ?? (typeof document === 'undefined' ? 'local_install' : 'web_app')
    this.patience = { ...PATIENCE, ...options.patience }
    this.random = options.random ?? Math.random
    this.openSocket = options.openSocket ?? openBrowserSocket
    const { token } = options
    this.token = token === undefined ? null : async () => (typeof token === 'string' ? token : await token())
    const http = new Http(this.url, options.app.replace(/[^\x21-\x7e]+/g, '-').slice(0, 64), options.fetch)
    const request = { name: options.app, scopes: options.scopes ?? [], mode: this.mode }
    this.access = this.token === null ? new Access(http, tokensOf(options.keep), request, options.key) : null
    const { key } = options
    this.prove = key === undefined || token !== undefined ? undefined : (shown) => proofOf(key, this.url, 'ws', shown)
    this.outbox = new Outbox(
      outboxOf(options.outbox),
      {
        call: (command, params) => this.call(command, params),
        isOnline: () => this.link !== null && this.state.status === 'online',
        touched: (collection) => this.touched(collection),
        stored: (document) => this.stored(document),
        rejected: (rejection) => this.rejected(rejection),
      },
      `hybridgw ${this.url}`,
    )
    this.willAsk = options.ask === 'always' || (options.ask !== 'never' && isActivated() !== false)
    this.ends.push(watchWake({ slept: () => this.woke(), doubt: () => this.doubt() }))
    this.ends.push(watchPermission(() => this.stir.abort()))
    void this.run().catch((error: unknown) => this.set({ status: 'failed', error: asError(error) }))
  }

  /** Called at once and after every change of the state. */
  readonly subscribe = (listener: Listener<State>): (() => void) => this.store.subscribe(listener)

  /** A named set of documents. The same object for the same name. */
  collection<T extends object = Data>(name: string): Collection<T> {
    let found = this.collections.get(name)
    if (found === undefined) {
      found = new Collection<any>(name, {
        call: (command, params) => this.call(command, params),
        write: (change) => this.outbox.write(change),
        host: { follow: (subscriber) => this.follow(subscriber), changesOf: (collection) => this.outbox.of(collection) },
        keep: (view) => void this.views.add(view),
      })
      this.collections.set(name, found)
    }
    return found as Collection<T>
  }

  /** Messages between the programs of this computer that are there now; nothing is stored. */
  topic<T = unknown>(name: string): Topic<T> {
    return new Topic<T>(name, (command, params) => this.call(command, params), (subscriber) => this.follow(subscriber))
  }

  /**
   * What changes beside documents: `sync`, `devices`, `alarms`, `collections`, `grants`; each says only that there is
   * news. `missed`: there may have been some while the connection was lost. Needs `admin`. Returns what ends it.
   */
  news(listener: (what: string) => void, failed?: (error: HybridGWError) => void): () => void {
    let isNew = true
    return this.follow({
      command: 'events.subscribe',
      params: {},
      event: (frame) => listener(frame.event),
      renewed: () => {
        if (!isNew) listener('missed')
        isNew = false
      },
      failed: (error) => failed?.(error),
    })
  }

  /** Messages to and from programs, here and on other devices. One object per client: it is one listener. Give `connect`
   *  a client id that stays, so that what is sent while the program is away waits for it. */
  messages(options: { app?: string; topics?: string[]; onState?: (state: MessageState) => void; failed?: (error: HybridGWError) => void } = {}): Messages {
    return new Messages((command, params) => this.call(command, params), (subscriber) => this.follow(subscriber), options)
  }

  /** Ask the person to be let in. In a page: from a click. Resolves when it is asked; then `state.code` is there. */
  ask(): Promise<void> {
    const before = this.state
    if (before.status === 'online' || before.status === 'asking' || before.status === 'closed') return Promise.resolve()
    this.willAsk = true
    this.wanted?.()
    this.stir.abort()
    return new Promise((resolve, reject) => {
      let end: (() => void) | undefined
      let isOver = false
      end = this.subscribe((state) => {
        if (isOver || state === before || state.status === 'starting' || state.status === 'connecting') return
        isOver = true
        if (state.status === 'asking' || state.status === 'online') resolve()
        else reject(state.error ?? new HybridGWError('closed', 'The client was closed.'))
        end?.()
      })
      if (isOver) end()
    })
  }

  /** Try to connect now, instead of after the pause that is left. */
  retry(): void {
    if (this.state.status === 'offline') this.stir.abort()
  }

  /** Resolves when the app is connected. Rejects where only a person can go on: refused, revoked, blocked, failed. */
  ready(): Promise<this> {
    return new Promise((resolve, reject) => {
      let end: (() => void) | undefined
      let isOver = false
      end = this.subscribe(({ status, error }) => {
        if (isOver) return
        if (status === 'online') resolve(this)
        else if (['refused', 'revoked', 'blocked', 'failed', 'closed'].includes(status) || error?.code === 'expired') reject(error ?? new HybridGWError('closed', 'The client was closed.'))
        else return
        isOver = true
        end?.()
      })
      if (isOver) end()
    })
  }

  /** Resolves when no change waits any more. */
  flushed(): Promise<void> {
    return new Promise((resolve) => {
      let end: (() => void) | undefined
      let isOver = false
      end = this.subscribe(({ queued }) => {
        if (isOver || queued > 0) return
        isOver = true
        resolve()
        end?.()
      })
      if (isOver) end()
    })
  }

  /** Any command of docs/reference/websocket.md. Rejects with `offline` while there is no connection. */
  call<R = any>(command: string, params: Record<string, unknown> = {}, timeoutMs?: number): Promise<R> {
    return new Promise((resolve, reject) => {
      if (this.link === null) reject(new HybridGWError('offline', 'HybridGW cannot be reached now.', { retryable: true }))
      else this.link.ask(command, params, resolve, reject, timeoutMs)
    })
  }

  /** End the connection. What was kept stays: the next page goes on with it. */
  close(): void {
    if (this.over.signal.aborted) return
    this.over.abort()
    this.stir.abort()
    this.wanted?.()
    clearTimeout(this.renewal)
    for (const end of this.ends) end()
    this.outbox.close()
    this.link?.close()
    this.link = null
    this.set({ status: 'closed', code: null, sentence: null })
  }

  /** Give the rights back and forget them, then close. Works without the daemon too. */
  async leave(): Promise<void> {
    this.close()
    await this.access?.leave()
  }

  // ---- the one loop --------------------------------------------------------------------------------------------------------
  private async run(): Promise<void> {
    await this.outbox.load().catch(() => undefined) // no IndexedDB: nothing is kept, everything else works
    const kept = this.access === null ? 'granted' : await this.access.load()
    if (kept === 'pending') this.willAsk = true
    let attempt = 0
    while (!this.over.signal.aborted) {
      try {
        const token = await this.credential()
        const began = Date.now()
        const end = await this.connected(token)
        if (this.over.signal.aborted) return
        if (end.wasOpen && Date.now() - began >= STABLE_MS) attempt = 0
        await this.judge(end, token)
        if (end.reason === 'woke up') continue
      } catch (thrown) {
        const error = asError(thrown)
        if (this.over.signal.aborted) return
        if (!(await this.overcome(error))) continue
      }
      await this.wait(fullJitter(attempt++, this.random))
    }
  }

  /** A token that counts, after asking for it if that is what is wanted. */
  private async credential(): Promise<string> {
    if (this.token !== null) return (this.lastToken = await this.token())
    const access = this.access as Access
    try {
      return (this.lastToken = await access.token())
    } catch (thrown) {
      const error = asError(thrown)
      if (error.code !== 'not_approved') throw error
      await this.mayKnock()
      if (!this.willAsk) throw error
    }
    this.willAsk = false
    const told = (asking: Asking): void => {
      this.set({ status: 'asking', code: asking.code, sentence: asking.sentence, error: null })
      const { onCode } = this.options
      if (onCode !== undefined) report(() => onCode(asking))
    }
    await access.ask(told, this.over.signal)
    this.set({ status: 'connecting', code: null, sentence: null, error: null })
    return (this.lastToken = await access.token())
  }

  /** Throws unless a request is let through, or the person has just clicked so that the browser may put its question. */
  private async mayKnock(): Promise<void> {
    const permission = await networkPermission()
    if (permission === 'denied') throw denied()
    if (permission === 'prompt' && this.willAsk && isActivated() === false) throw unanswered()
  }

  private async connected(token: string): Promise<End> {
    const permission = await networkPermission()
    if (permission === 'denied') throw denied()
    if (this.state.status !== 'offline') this.set({ status: 'connecting' })
    const link = new Link(
      this.openSocket,
      { opened: (ok) => this.opened(link, ok), renewed: (ok) => this.renewFor(link, ok), event: (frame) => this.event(frame) },
      this.patience,
    )
    this.link = link
    const url = `${this.url.replace(/^http/, 'ws')}/ws/${this.mode}/${this.clientId}`
    const end = await link.run(url, token, this.resume, this.prove)
    if (this.link === link) this.link = null
    clearTimeout(this.renewal)
    return end
  }

  /** What the end of a connection means. Throws what the loop has to overcome; returns where it is only tried again. */
  private async judge(end: End, token: string): Promise<void> {
    switch (end.code) {
      case Close.revoked:
        if (this.access === null) throw new HybridGWError('revoked', 'The person ended the rights of this app.')
        await this.access.lost()
        this.resumeLater()
        return
      case Close.unauthorized:
        this.resumeLater()
        if (this.access === null) throw new HybridGWError('unauthorized', end.refusal?.message ?? 'The token does not count.', { retryable: typeof this.options.token === 'function' })
        await this.access.refresh(token)
        return
      case Close.badFrames:
      case Close.unknownMode:
      case Close.protocolError:
      case Close.badText:
      case Close.tooBig:
        throw new HybridGWError('bad_frame', `The connection was ended: ${end.reason || end.code}.`)
      case Close.replaced:
        this.clientId = newId()
        this.resume = null
        break
    }
    if (end.refusal?.code === 'bad_frame') throw new HybridGWError('not_running', `Another program answers at ${this.url}, not HybridGW.`, { retryable: true })
    const said = end.reason.startsWith('HTTP ') ? `refuses the connection (${end.reason})` : 'does not answer'
    this.set({ status: 'offline', error: await unreachable(`HybridGW ${said} at ${this.url}.`) })
    // A page cannot see why its WebSocket was refused. If it never opened, the rights may have ended meanwhile.
    if (!end.wasOpen && this.access !== null) await this.access.check(token)
  }

  /** Show it. Returns whether to try again after a while; otherwise waits for the person first. */
  private async overcome(error: HybridGWError): Promise<boolean> {
    const idle = { code: null, sentence: null, error }
    this.willAsk = false
    switch (error.code) {
      case 'not_approved':
      case 'permission_needed':
      case 'expired':
        this.set({ ...idle, status: 'unapproved' })
        break
      case 'permission_denied':
        this.set({ ...idle, status: 'blocked' })
        break
      case 'refused':
      case 'revoked':
        this.resume = null
        this.set({ ...idle, status: error.code })
        break
      default:
        if (error.code === 'not_running') {
          const permission = await networkPermission()
          if (permission === 'denied') return await this.overcome(denied())
          if (permission === 'prompt') return await this.overcome(unanswered()) // had it been answered, it would not be `prompt`
          idle.error = await unreachable(error.message, error)
        }
        if (error.code === 'too_many_requests' && (await this.access?.load()) === 'nothing') {
          this.set({ ...idle, status: 'unapproved' })
          break
        }
        if (error.retryable) {
          if (this.access !== null && (await this.access.load()) !== 'granted') this.willAsk = true // once it is there
          this.set({ ...idle, status: 'offline' })
          return true
        }
        this.set({ ...idle, status: 'failed' })
    }
    await new Promise<void>((resolve) => {
      this.wanted = resolve
      this.stir = new AbortController()
      this.stir.signal.addEventListener('abort', () => resolve()) // the person changed the permission
    })
    this.wanted = null
    return false
  }

  private async wait(ms: number): Promise<void> {
    this.stir = new AbortController()
    await pause(ms, this.stir.signal)
  }

  // ---- the connection ------------------------------------------------------------------------------------------------------
  private opened(link: Link, ok: AuthOk): void {
    this.resume = { session: ok.session, epoch: ok.epoch, offset: ok.offset }
    this.set({ status: 'online', code: null, sentence: null, error: null, scopes: ok.scopes })
    this.strangers.clear()
    if (!ok.recovered) {
      this.bySub.clear()
      for (const entry of this.followed.values()) {
        entry.sub = null
        entry.by.renewed()
      }
    }
    for (const entry of this.followed.values()) {
      if (entry.sub === null) this.begin(link, entry)
      else entry.by.resumed?.()
    }
    this.renewFor(link, ok)
    this.outbox.drain()
  }

  private event(frame: EventFrame): void {
    if (this.resume !== null) this.resume = { ...this.resume, offset: frame.offset }
    const sharing = this.bySub.get(frame.sub)
    if (sharing === undefined) return this.strange(frame)
    for (const entry of sharing) report(() => entry.by.event(frame))
  }

  /** Nobody follows it: its answer was lost with the connection before, so that it was asked for once more, or it ends just now. */
  private strange({ sub, data }: EventFrame): void {
    if (this.strangers.has(sub)) return
    this.strangers.add(sub)
    this.ended(sub, (data as { topic?: unknown } | null)?.topic)
  }

  private renewFor(link: Link, ok: AuthOk): void {
    if (ok.expires_ms === null) return
    if (this.access !== null) return this.renewBefore(link)
    if (typeof this.options.token !== 'function') return // there is no other one
    clearTimeout(this.renewal)
    const ask = (): void => {
      const got = this.token as () => Promise<string>
      void got().then(
        (token) => this.link === link && link.renew((this.lastToken = token)),
        () => undefined, // its end will tell, and another connection asks again
      )
    }
    this.renewal = setTimeout(ask, Math.min(Math.max((ok.expires_ms - Date.now()) * 0.7, RENEW_AGAIN_MS), MAX_TIMER_MS))
    ;(this.renewal as { unref?: () => void }).unref?.()
  }

  /** A fresh token before the old one ends, so that the connection stays. */
  private renewBefore(link: Link, waitMs = 0): void {
    clearTimeout(this.renewal)
    const access = this.access as Access
    const again = (): void => {
      const stale = this.lastToken
      void access.token().then(
        (token) => {
          if (this.link !== link) return
          if (token !== stale) this.renew(link, token)
          this.renewBefore(link, RENEW_AGAIN_MS)
        },
        () => this.link === link && this.renewBefore(link, RENEW_AGAIN_MS), // its end will tell, if it cannot be had
      )
    }
    // Not later than every half a minute: another tab may have exchanged it, and the computer's clock may be set.
    this.renewal = setTimeout(again, Math.min(Math.max(access.freshForMs(), waitMs), RENEW_LOOK_MS))
    ;(this.renewal as { unref?: () => void }).unref?.()
  }

  private renew(link: Link, token: string): void {
    this.lastToken = token
    if (this.prove === undefined) return link.renew(token)
    void this.prove(token).then((proof) => this.link === link && link.renew(token, proof), () => undefined) // its end will tell
  }

  private follow(subscriber: Subscriber): () => void {
    const entry: Followed = { by: subscriber, sub: null }
    this.followed.set(subscriber, entry)
    if (this.link !== null && this.state.status === 'online') this.begin(this.link, entry)
    return () => {
      this.followed.delete(subscriber)
      this.unfollow(entry)
    }
  }

  private unfollow(entry: Followed): void {
    const { by, sub } = entry
    if (sub === null) return
    const sharing = this.bySub.get(sub) // several listeners of one topic
    sharing?.delete(entry)
    if (sharing !== undefined && sharing.size > 0) return
    this.ended(sub, by.params['topic'])
  }

  /** Tell the daemon. topic: undefined: it is of none. */
  private ended(sub: number, topic: unknown): void {
    const isTopic = topic !== undefined
    // One whose subscription is not answered yet has the same number.
    if (isTopic && [...this.followed.values()].some((one) => one.sub === null && one.by.params['topic'] === topic)) return
    this.bySub.delete(sub)
    void this.call(isTopic ? 'topic.unsubscribe' : 'live.unsubscribe', isTopic ? { topic } : { sub }).catch(() => undefined)
  }

  private begin(link: Link, entry: Followed): void {
    link.ask(
      entry.by.command,
      entry.by.params,
      (result: { sub: number }) => {
        entry.sub = result.sub
        this.bySub.set(result.sub, (this.bySub.get(result.sub) ?? new Set()).add(entry))
        if (this.followed.get(entry.by) !== entry) this.unfollow(entry) // given up meanwhile
      },
      (error) => {
        if (!error.retryable) return entry.by.failed(error)
        const told = error.detail['retry_after_s']
        const again = (): void => {
          if (this.link === link && this.followed.get(entry.by) === entry) this.begin(link, entry) // else the next connection does it
        }
        const timer = setTimeout(again, typeof told === 'number' ? told * 1000 : FOLLOW_AGAIN_MS)
        ;(timer as { unref?: () => void }).unref?.()
      },
    )
  }

  /** This computer has slept: what was open is not, whatever it looks like. */
  private woke(): void {
    this.stir.abort()
    this.link?.abandon('woke up')
  }

  private doubt(): void {
    if (this.state.status === 'offline') this.stir.abort()
    this.link?.probe()
  }

  private resumeLater(): void {
    if (this.state.status === 'online') this.set({ status: 'connecting' })
  }

  // ---- state ---------------------------------------------------------------------------------------------------------------
  private touched(collection: string): void {
    for (const view of this.views) if (view.collection === collection) view.touch()
    if (this.state.queued !== this.outbox.size) this.set({ queued: this.outbox.size })
  }

  private stored(document: WireDocument): void {
    for (const view of this.views) if (view.collection === document.collection) view.stored(document)
  }

  private rejected(rejection: Rejection): void {
    this.set({ rejected: [...this.state.rejected, rejection].slice(-MAX_REJECTED) })
    const { onRejected } = this.options
    if (onRejected !== undefined) report(() => onRejected(rejection))
  }

  private set(change: Partial<State>): void {
    if (this.state.status === 'closed') return
    this.state = { ...this.state, ...change }
    this.store.touch()
  }
}

/** Connect this app. Returns at once: collections may be used before anybody has let it in. */
export function connect(options: ConnectOptions): HybridGW {
  return new HybridGW(options)
}

export type { Change }

function denied(): HybridGWError {
  return new HybridGWError('permission_denied', 'The browser does not let this page reach HybridGW.')
}

async function unreachable(message: string, cause?: unknown): Promise<HybridGWError> {
  return new HybridGWError('not_running', message, { retryable: true, cause, ...((await mayBeKeptAway()) && { next: START_OR_ALLOW }) })
}

function unanswered(): HybridGWError {
  return new HybridGWError('permission_needed', 'The browser has to ask whether this page may reach HybridGW.')
}

function openBrowserSocket(url: string, protocol: string): WebSocket {
  return new WebSocket(url, protocol)
}

function tokensOf(keep: ConnectOptions['keep']): TokenKeeper {
  if (typeof keep === 'object') return keep
  if (keep === 'session') return sessionTokens()
  return keep === 'memory' || typeof indexedDB === 'undefined' ? memoryTokens() : databaseTokens()
}

function outboxOf(outbox: ConnectOptions['outbox']): OutboxKeeper {
  if (typeof outbox === 'object') return outbox
  return outbox === 'memory' || typeof indexedDB === 'undefined' ? memoryOutbox() : databaseOutbox()
}

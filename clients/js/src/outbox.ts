/**
 * Changes of this app on their way to the daemon: at once while it is there, else kept, and sent in order and once.
 *
 * While the connection holds, a change goes straight out; those of one document follow each other. When it breaks, or
 * while there is none, changes are kept durably and replayed one after the other, by one tab for all. A change that was
 * sent and whose answer was lost is looked up before it is sent again: ids are made here, so its effect can be seen. What
 * waits for the keys of the daemon, as settings do, lets other collections pass.
 */

import { asError, HybridGWError } from './errors.js'
import { fullJitter, pause } from './backoff.js'
import type { Change } from './change.js'
import type { OutboxKeeper } from './keeping.js'
import { exclusive } from './locks.js'
import { patched, same, type Data } from './query.js'

/** A document as the daemon tells it. */
export interface WireDocument {
  readonly id: string
  readonly collection: string
  readonly version: number
  readonly conflicts: number
  readonly data?: Data
  readonly deleted?: boolean
}

/** What became of a write. `queued`: the daemon is not there; it is kept and sent later. */
export type Written = { readonly state: 'stored'; readonly id: string; readonly version: number } | { readonly state: 'queued'; readonly id: string }

/** A kept change that the daemon did not take. */
export interface Rejection {
  readonly change: Change
  readonly error: HybridGWError
}

export interface OutboxEvents {
  /** Ask the daemon. Rejects with `offline` where nobody is there. */
  call(command: string, params: Record<string, unknown>): Promise<any>
  isOnline(): boolean
  /** What is shown has changed. */
  touched(collection: string): void
  /** The daemon has this document now. */
  stored(document: WireDocument): void
  rejected(rejection: Rejection): void
}

export const MAX_QUEUED = 10_000
const KEYS_MS = 2_000 // whether the keys of the daemon are open by now

/** The writes of one client. */
export class Outbox {
  /** In the order in which they were made; what the app shows already. */
  private pending: Change[] = []
  private readonly queued = new Set<number>()
  private readonly tails = new Map<string, Promise<unknown>>()
  private readonly closing = new AbortController()
  private draining: Promise<void> | null = null
  private again = false
  private readonly locked = new Set<string>() // collections whose changes wait for the keys of the daemon; the others do not wait for them
  private keys: ReturnType<typeof setTimeout> | undefined
  private arriving = 0 // being written into the keeper: what comes after them waits for its turn
  private readonly channel: BroadcastChannel | null

  constructor(
    private readonly keeper: OutboxKeeper,
    private readonly events: OutboxEvents,
    private readonly name: string,
  ) {
    this.channel = typeof document !== 'undefined' && typeof BroadcastChannel !== 'undefined' ? new BroadcastChannel(name) : null
    if (this.channel !== null) this.channel.onmessage = (event) => this.hear(event.data as { key: string; document: WireDocument | null })
  }

  /** What an earlier page left. */
  async load(): Promise<void> {
    const found = await this.keeper.load()
    for (const change of found) this.queued.add(change.number)
    this.pending = [...found, ...this.pending]
    for (const collection of new Set(found.map((change) => change.collection))) this.events.touched(collection)
  }

  /** Changes of a collection that the daemon has not confirmed, oldest first. */
  of(collection: string): Change[] {
    return this.pending.filter((change) => change.collection === collection)
  }

  /** How many wait. */
  get size(): number {
    return this.queued.size + this.arriving
  }

  /** Do it: shown at once. Throws what the daemon says to it; while it is not there, it is kept. */
  write(change: Change): Promise<Written> {
    this.pending.push(change)
    this.events.touched(change.collection)
    const key = `${change.collection}/${change.id}`
    const before = this.tails.get(key) ?? Promise.resolve()
    const run = before.then(() => this.go(change))
    const tail = run.catch(() => undefined).then(() => {
      if (this.tails.get(key) === tail) this.tails.delete(key)
    })
    this.tails.set(key, tail)
    return run
  }

  /** The daemon is there: send what waits. */
  drain(): void {
    this.again = true
    this.draining ??= this.run().finally(() => {
      this.draining = null
      if (this.again && this.events.isOnline()) this.drain()
    })
  }

  /** Send no more. */
  close(): void {
    this.closing.abort()
    clearTimeout(this.keys)
    this.channel?.close()
  }

  // ---- at once -----------------------------------------------------------------------------------------------------------
  private async go(change: Change): Promise<Written> {
    if (!this.events.isOnline() || this.isBehind(change)) return await this.keep(change)
    try {
      return this.confirm(change, (await this.send(change)) as WireDocument)
    } catch (thrown) {
      const error = asError(thrown)
      if (error.code === 'offline' || error.code === 'timeout') return await this.keep({ ...change, isTried: true })
      if (error.retryable) return await this.keep(change)
      this.drop(change)
      throw error
    }
  }

  /** Does it have to wait for those before it. */
  private isBehind({ collection }: Change): boolean {
    return this.arriving > 0 || this.locked.has(collection) || this.pending.some((one) => one.number > 0 && !this.locked.has(one.collection))
  }

  private async keep(change: Change): Promise<Written> {
    if (this.size >= MAX_QUEUED) {
      this.drop(change)
      throw new HybridGWError('queue_full', `${MAX_QUEUED} changes wait to be sent.`)
    }
    this.arriving++
    try {
      const { number: _, ...rest } = change
      const kept = await this.keeper.add(rest)
      this.queued.add(kept.number)
      this.pending = this.pending.map((one) => (one.key === change.key ? kept : one))
    } catch (error) {
      this.drop(change)
      throw new HybridGWError('queue_full', 'This browser has no room to keep the change.', { cause: error })
    } finally {
      this.arriving--
      this.events.touched(change.collection)
    }
    if (this.events.isOnline()) this.drain()
    return { state: 'queued', id: change.id }
  }

  // ---- what waits --------------------------------------------------------------------------------------------------------
  private async run(): Promise<void> {
    while (this.again && this.events.isOnline() && !this.closing.signal.aborted) {
      this.again = false
      // It was closed; or the keeper fails now, and what it has waits there for the next change or connection.
      await exclusive(`${this.name} outbox`, () => this.replay(), this.closing.signal).catch(() => undefined)
    }
  }

  /** Everything in the keeper, also what other tabs left there. */
  private async replay(): Promise<void> {
    const found = await this.keeper.load()
    const there = new Set(found.map((change) => change.number))
    for (const change of this.pending.filter((one) => one.number > 0 && !there.has(one.number))) this.settle(change, null)
    const locked = new Set<string>()
    for (const change of found) {
      if (locked.has(change.collection)) continue
      for (let attempt = 0; ; attempt++) {
        if (!this.events.isOnline() || this.closing.signal.aborted) return
        try {
          await this.deliver(change, attempt > 0)
          break
        } catch (error) {
          if (!(error instanceof HybridGWError)) throw error // the keeper's, not the daemon's
          if (error.code === 'secrets_locked') {
            locked.add(change.collection)
            this.locked.add(change.collection)
            break
          }
          if (!error.retryable) {
            await this.finish(change, null)
            this.events.rejected({ change, error })
            break
          }
          if (!this.events.isOnline()) return
          const told = error.detail['retry_after_s']
          await pause(typeof told === 'number' ? told * 1000 : 100 + fullJitter(attempt), this.closing.signal)
        }
      }
    }
    for (const collection of this.locked) if (!locked.has(collection)) this.locked.delete(collection)
    clearTimeout(this.keys)
    if (locked.size === 0) return
    this.keys = setTimeout(() => this.drain(), KEYS_MS)
    ;(this.keys as { unref?: () => void }).unref?.()
  }

  private async deliver(change: Change, isTried: boolean): Promise<void> {
    if (change.isTried === true || isTried) {
      const seen = await this.effect(change)
      if (seen !== null) return await this.finish(change, seen)
    } else {
      await this.keeper.mark(change.number).catch(() => undefined) // no room for the mark is no reason to keep it back
    }
    await this.finish(change, (await this.send(change)) as WireDocument)
  }

  /** The document, if it shows what the change would do: then it arrived the first time. */
  private async effect(change: Change): Promise<WireDocument | null> {
    let found: WireDocument
    try {
      found = (await this.events.call('data.get', { collection: change.collection, id: change.id })) as WireDocument
    } catch (thrown) {
      const error = asError(thrown)
      if (error.retryable) throw error
      const isGone = error.code === 'not_found' || error.code === 'deleted'
      return isGone && change.op === 'delete' ? { id: change.id, collection: change.collection, version: 0, conflicts: 0, deleted: true } : null
    }
    if (change.op === 'delete') return found.deleted === true ? found : null
    if (found.deleted === true || found.data === undefined || change.content === undefined) return null
    switch (change.op) {
      case 'patch':
        return same(found.data, patched(found.data, change.content)) ? found : null
      case 'put': // twice does no harm, but a version that must match fails the second time
        return (change.version === undefined ? same : covers)(found.data, change.content) ? found : null
      case 'create': // of a set the daemon has each element once, in its own order
        return covers(found.data, change.content, alike) ? found : null
    }
  }

  private async finish(change: Change, document: WireDocument | null): Promise<void> {
    await this.keeper.remove(change.number)
    this.settle(change, document)
    this.channel?.postMessage({ key: change.key, document })
  }

  private settle(change: Change, document: WireDocument | null): void {
    this.queued.delete(change.number)
    if (document !== null) this.events.stored(document)
    this.pending = this.pending.filter((one) => one.key !== change.key)
    this.events.touched(change.collection)
  }

  /** Another tab has sent it; or something of its own, if it keeps its changes in another place. */
  private hear(told: { key: string; document: WireDocument | null }): void {
    const change = this.pending.find((one) => one.key === told.key)
    if (change !== undefined) this.settle(change, told.document)
  }

  // ---- both --------------------------------------------------------------------------------------------------------------
  private send(change: Change): Promise<unknown> {
    const { op, collection, id, content, version, exists, confirm } = change
    return this.events.call(`data.${op}`, {
      collection,
      id,
      ...(content === undefined ? {} : { [op === 'patch' ? 'patch' : 'data']: content }),
      ...(version === undefined ? {} : { version }),
      ...(exists === undefined ? {} : { exists }),
      ...(confirm === undefined ? {} : { confirm }),
    })
  }

  private confirm(change: Change, document: WireDocument): Written {
    this.events.stored(document)
    this.drop(change)
    return { state: 'stored', id: document.id, version: document.version }
  }

  private drop(change: Change): void {
    this.pending = this.pending.filter((one) => one.key !== change.key)
    this.events.touched(change.collection)
  }
}

/** Holds the document all that was written; the daemon adds fields of its own, such as the time of creation. */
function covers(found: Data, written: Data, is = same): boolean {
  return Object.entries(written).every(([name, value]) => value === null || is(found[name], value))
}

/** The same, or lists of the same elements. */
function alike(one: unknown, other: unknown): boolean {
  if (same(one, other)) return true
  const holds = (list: unknown[], all: unknown[]): boolean => all.every((item) => list.some((found) => same(found, item)))
  return Array.isArray(one) && Array.isArray(other) && holds(one, other) && holds(other, one)
}

/** A live list: what the daemon holds, with our own unconfirmed changes on top; the same object until something changes. */

import type { Change } from './change.js'
import type { HybridGWError } from './errors.js'
import type { EventFrame } from './frames.js'
import type { WireDocument } from './outbox.js'
import { matches, patched, sorter, type Data, type Filter } from './query.js'
import { Store, type Listener, type Readable } from './store.js'

/** A document as an app sees it. Never change it in place. */
export interface Doc<T = Data> {
  readonly id: string
  readonly data: T
  /** Rises with every change on this device; 0: the daemon has not seen it yet. */
  readonly version: number
  /** Fields that two devices changed without having seen each other; the person chooses in HybridGW. */
  readonly conflicts: number
  /** A change of ours is not confirmed yet. */
  readonly isPending: boolean
}

/** What a live list shows. */
export interface Snapshot<T = Data> {
  readonly docs: readonly Doc<T>[]
  /** Everything that was there has arrived. Until then `docs` holds only our own changes. */
  readonly isReady: boolean
  /** Why there is nothing: the daemon refuses this list. */
  readonly error: HybridGWError | null
}

/** Which documents, in which order. */
export interface Query {
  /** Only this one. */
  readonly id?: string
  readonly filter?: Filter
  /** `-due,title`; without it the order is by id. */
  readonly sort?: string
}

/** What a subscription of the connection needs of its owner. */
export interface Subscriber {
  readonly command: string
  readonly params: Record<string, unknown>
  event(frame: EventFrame): void
  /** A new session: everything is told anew. */
  renewed(): void
  /** The session goes on at another connection; what was asked for meanwhile was not heard. */
  resumed?(): void
  failed(error: HybridGWError): void
}

export interface ViewHost {
  follow(subscriber: Subscriber): () => void
  changesOf(collection: string): Change[]
}

const LINGER_MS = 1_000 // between two listeners, as when a page is drawn anew, nothing is ended

/** A live list. */
export class View<T = Data> implements Readable<Snapshot<T>>, Subscriber {
  readonly command = 'live.subscribe'
  readonly params: Record<string, unknown>
  readonly getSnapshot: () => Snapshot<T>
  private readonly store: Store<Snapshot<T>>
  private readonly order: (one: Doc, other: Doc) => number
  private docs = new Map<string, Doc>()
  private incoming: Map<string, Doc> | null = null
  private readonly gone = new Map<string, number>()
  private isReady = false
  private error: HybridGWError | null = null
  private unfollow: (() => void) | null = null
  private linger: ReturnType<typeof setTimeout> | undefined

  constructor(
    private readonly host: ViewHost,
    readonly collection: string,
    private readonly query: Query = {},
  ) {
    const { id, filter } = query
    this.params = { collection, ...(id === undefined ? {} : { id }), ...(filter === undefined ? {} : { filter }) }
    this.order = sorter(query.sort)
    this.store = new Store<Snapshot<T>>(() => this.make(), (isWatched) => this.watched(isWatched))
    this.getSnapshot = this.store.getSnapshot
  }

  /** Called at once and after every change. The list is live while somebody listens. */
  readonly subscribe = (listener: Listener<Snapshot<T>>): (() => void) => this.store.subscribe(listener)

  /** Resolves with the list once everything has arrived; rejects where the daemon refuses it. */
  ready(): Promise<Snapshot<T>> {
    return new Promise((resolve, reject) => {
      let end: (() => void) | undefined
      let isOver = false
      end = this.subscribe((snapshot) => {
        if (isOver || (!snapshot.isReady && snapshot.error === null)) return
        isOver = true
        if (snapshot.error === null) resolve(snapshot)
        else reject(snapshot.error)
        end?.()
      })
      if (isOver) end()
    })
  }

  // ---- from the connection -----------------------------------------------------------------------------------------------
  event({ event, data }: EventFrame): void {
    switch (event) {
      case 'initial':
        for (const document of (data as { items: WireDocument[] }).items) this.told(document)
        return
      case 'ready':
        if (!this.isReady || this.incoming !== null) this.docs = this.incoming ?? new Map()
        this.incoming = null
        this.gone.clear()
        this.isReady = true
        this.error = null
        break
      case 'document':
        this.stored(data as WireDocument)
        break
      case 'left':
        this.remove(data as { id: string; version: number })
        break
      case 'reset':
        this.renewed()
        break
      default:
        return
    }
    this.store.touch(true)
  }

  renewed(): void {
    this.incoming = new Map()
    this.gone.clear()
  }

  /** The daemon refuses it: what was there before, under other rights perhaps, is shown no more. */
  failed(error: HybridGWError): void {
    this.error = error
    this.docs = new Map()
    this.incoming = null
    this.isReady = false
    this.touch()
  }

  // ---- from the outbox ---------------------------------------------------------------------------------------------------
  /** The daemon has this document: by an event, or as the answer to a write. */
  stored(document: WireDocument): void {
    if (this.unfollow === null) return // nobody looks
    const isIn = document.deleted !== true && this.concerns(document.id) && (document.data === undefined || matches(document.data, this.query.filter))
    if (!isIn) return this.remove(document)
    if (document.data === undefined) return // an app that may only write gets no content
    const before = this.docs.get(document.id)?.version ?? this.gone.get(document.id) ?? -1
    if (document.version <= before) return
    this.gone.delete(document.id)
    this.docs.set(document.id, shown(document))
    this.incoming?.set(document.id, shown(document))
    this.store.touch(true)
  }

  /** Changes of ours came or went. */
  touch(): void {
    this.store.touch()
  }

  /** One of those that were there. The answer to a write of ours may have told a newer state of it already. */
  private told(document: WireDocument): void {
    this.incoming ??= new Map()
    const before = this.incoming.get(document.id)?.version ?? this.gone.get(document.id) ?? -1
    if (document.version > before) this.incoming.set(document.id, shown(document))
  }

  private remove({ id, version }: { id: string; version: number }): void {
    if ((this.docs.get(id)?.version ?? -1) > version && version > 0) return
    this.docs.delete(id)
    this.incoming?.delete(id)
    this.gone.set(id, version) // an event from before it may still be on its way
    if (this.gone.size > 1_000) this.gone.delete(this.gone.keys().next().value as string)
    this.store.touch(true)
  }

  private concerns(id: string): boolean {
    return this.query.id === undefined || this.query.id === id
  }

  // ---- what is shown -----------------------------------------------------------------------------------------------------
  private make(): Snapshot<T> {
    const changes = this.host.changesOf(this.collection).filter((change) => this.concerns(change.id))
    let docs = this.docs
    if (changes.length > 0) {
      docs = new Map(docs)
      for (const change of changes) this.apply(docs, change)
    }
    return { docs: [...docs.values()].sort(this.order) as unknown as Doc<T>[], isReady: this.isReady, error: this.error }
  }

  private apply(docs: Map<string, Doc>, { op, id, content = {} }: Change): void {
    const before = docs.get(id)
    if (op === 'delete') return void docs.delete(id)
    if (op === 'patch' && before === undefined) return // not in this list; the daemon tells if it comes into it
    const data = op === 'patch' ? patched(before?.data ?? {}, content) : content
    if (!matches(data, this.query.filter)) return void docs.delete(id)
    docs.set(id, { id, data, version: before?.version ?? 0, conflicts: before?.conflicts ?? 0, isPending: true })
  }

  private watched(isWatched: boolean): void {
    clearTimeout(this.linger)
    if (isWatched) {
      this.unfollow ??= this.host.follow(this)
      return
    }
    this.linger = setTimeout(() => {
      this.unfollow?.()
      this.unfollow = null
      this.isReady = false
      this.incoming = null
      this.docs = new Map()
      this.error = null
      this.touch()
    }, LINGER_MS)
    ;(this.linger as { unref?: () => void }).unref?.()
  }
}

function shown(document: WireDocument): Doc {
  return { id: document.id, data: document.data ?? {}, version: document.version, conflicts: document.conflicts, isPending: false }
}

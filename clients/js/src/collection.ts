/** A collection: reads and writes of documents, and live lists of them. */

import type { Change } from './change.js'
import { asError, HybridGWError } from './errors.js'
import { isHalved } from './frames.js'
import { newId } from './ids.js'
import type { WireDocument, Written } from './outbox.js'
import type { Data } from './query.js'
import type { Listener, Readable } from './store.js'
import { View, type Doc, type Query, type Snapshot, type ViewHost } from './view.js'

export interface CollectionHost {
  call(command: string, params: Record<string, unknown>): Promise<any>
  write(change: Change): Promise<Written>
  readonly host: ViewHost
  keep(view: View<any>): void
}

/** Conditions of a write. */
export interface WriteOptions {
  /** Only if the document still has this version; else `precondition_failed`. */
  version?: number
}

/** One page of a list. next: hand it in for the following page; null on the last one. */
export interface Page<T> {
  readonly docs: readonly Doc<T>[]
  readonly next: string | null
}

/** A named set of documents. Itself the live list of all of them, by id. */
export class Collection<T extends object = Data> implements Readable<Snapshot<T>> {
  private readonly all: View<T>
  private readonly lists = new Map<string, View<T>>()
  /** The list as it is now. Bound. */
  readonly getSnapshot: () => Snapshot<T>
  /** Called at once and after every change. Bound. */
  readonly subscribe: (listener: Listener<Snapshot<T>>) => () => void

  constructor(
    readonly name: string,
    private readonly from: CollectionHost,
  ) {
    this.all = this.live()
    this.getSnapshot = this.all.getSnapshot
    this.subscribe = this.all.subscribe
  }

  /** A live list of some documents. The same object for the same query. */
  live(query: Query = {}): View<T> {
    const key = JSON.stringify(query)
    let found = this.lists.get(key)
    if (found === undefined) {
      found = new View<T>(this.from.host, this.name, query)
      this.lists.set(key, found)
      this.from.keep(found)
    }
    return found
  }

  /** The live list once everything has arrived. */
  ready(): Promise<Snapshot<T>> {
    return this.all.ready()
  }

  /** One document, null if there is none. Without the daemon: as a live list has it, else rejects with `offline`. */
  async get(id: string): Promise<Doc<T> | null> {
    try {
      const found = (await this.from.call('data.get', { collection: this.name, id })) as WireDocument
      return found.deleted === true ? null : (doc(found) as Doc<T>)
    } catch (thrown) {
      const error = asError(thrown)
      if (error.code === 'not_found' || error.code === 'deleted') return null
      if (error.code !== 'offline') throw error
      for (const view of this.lists.values()) {
        const known = view.getSnapshot().docs.find((one) => one.id === id)
        if (known !== undefined) return known
      }
      throw error
    }
  }

  /** One page of documents as they are now. limit: 1 to 1,000. */
  async list(query: Omit<Query, 'id'> & { limit?: number; after?: string } = {}): Promise<Page<T>> {
    const { after, ...rest } = query
    const page = await this.from.call('data.list', { collection: this.name, ...rest, ...(after === undefined ? {} : { cursor: after }) })
    return { docs: (page.items as WireDocument[]).map(doc) as Doc<T>[], next: page.next_cursor as string | null }
  }

  /** Every document, page by page. */
  async *each(query: Omit<Query, 'id'> = {}): AsyncGenerator<Doc<T>> {
    for (let after: string | undefined; ; ) {
      const page = await this.list({ ...query, limit: 500, ...(after === undefined ? {} : { after }) })
      yield* page.docs
      if (page.next === null) return
      after = page.next
    }
  }

  /** A new document; rejects with `already_exists` if the id is taken. Without an id it gets one that sorts by time. */
  create(data: T, id: string = newId()): Promise<Written> {
    return this.write({ op: 'create', id, content: data as Data })
  }

  /** Replace all of a document, or make it. */
  put(id: string, data: T, options: WriteOptions & { exists?: boolean } = {}): Promise<Written> {
    return this.write({ op: 'put', id, content: data as Data, ...options })
  }

  /** Change some fields (RFC 7396): null removes one; `{$add: […], $remove: […]}` changes a set. */
  patch(id: string, patch: Data, options: WriteOptions = {}): Promise<Written> {
    return this.write({ op: 'patch', id, content: patch, ...options })
  }

  /** Delete it on all devices. confirm: a person has agreed to delete many at once. */
  delete(id: string, options: WriteOptions & { confirm?: boolean } = {}): Promise<Written> {
    return this.write({ op: 'delete', id, ...options })
  }

  private async write(change: Pick<Change, 'op' | 'id'> & Partial<Change>): Promise<Written> {
    const { content, ...rest } = change
    const plain = content === undefined ? {} : { content: plainJson(content) }
    return await this.from.write({ ...rest, ...plain, number: 0, key: newId(), collection: this.name, atMs: Date.now() })
  }
}

/** A copy that the app cannot change any more, and only what JSON can say. */
function plainJson(content: Data): Data {
  const text = JSON.stringify(content, (name, value: unknown) => {
    if (typeof value === 'number' && !Number.isFinite(value)) throw new HybridGWError('bad_value', `${name || 'A value'} is neither NaN nor infinite.`, { detail: { field: name } })
    if (typeof value === 'bigint') throw new HybridGWError('bad_value', `${name} is a bigint, which JSON does not have.`, { detail: { field: name } })
    if (isHalved(name) || (typeof value === 'string' && isHalved(value))) throw new HybridGWError('bad_value', `${isHalved(name) ? 'The name of a field' : name || 'A value'} holds half of a character, as cutting a text leaves it.`, { detail: { field: name } })
    return value
  })
  const copy: unknown = text === undefined ? undefined : JSON.parse(text)
  if (typeof copy !== 'object' || copy === null || Array.isArray(copy)) throw new HybridGWError('bad_value', 'A document is an object.')
  return copy as Data
}

function doc(document: WireDocument): Doc {
  return { id: document.id, data: document.data ?? {}, version: document.version, conflicts: document.conflicts, isPending: false }
}

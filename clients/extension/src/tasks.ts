/**
 * The open tasks that are shown, latest first: one page, live. For the others the daemon is not asked, however many there are.
 *
 * A page ends at the time when its last task was made; the list follows what was made from then on, so that it hears of
 * changes and of new tasks without hearing of all.
 */

import type { HybridGW } from '../../js/src/client.js'
import type { Doc, Snapshot, View } from '../../js/src/view.js'
import { keep, kept } from './api.js'
import type { Task, Tasks } from './shared.js'

export interface TaskData {
  title: string
  status?: string
  due?: string | null
  created_at?: string
}

const PAGE = 40
const MOST = 3 * PAGE // followed; of more, as after an import, the list is begun anew, shorter
const NARROW_MS = 1_000 // not more often, for that has its price too
const OPEN = { status: { $in: ['open', 'waiting'] } }
const SORT = '-created_at'
const NONE: Tasks = { items: [], isMore: false, isReady: false }

export class TaskList {
  now = NONE
  private from = '' // as created_at; '': everything
  private client: HybridGW | null = null
  private view: View<TaskData> | null = null
  private end: (() => void) | null = null
  private isPaged = false // since the connection was made, what there is was read
  private snapshot: Snapshot<TaskData> | null = null
  private narrowedMs = 0

  constructor(private readonly changed: () => void) {}

  /** What was shown last; at the very first start nothing, and what is made from now on. */
  async load(): Promise<void> {
    const { from, ...now } = await kept<Tasks & { from: string }>('tasks', { ...NONE, from: new Date().toISOString() })
    this.now = { ...now, isReady: false }
    this.from = from
  }

  /** Somebody looks. Idempotent. */
  follow(client: HybridGW): void {
    if (this.client === client) return
    this.leave()
    this.client = client
    this.see(client)
    void this.page(client)
  }

  /** Nobody looks any more. */
  leave(): void {
    this.end?.()
    this.end = this.client = this.view = this.snapshot = null
    this.isPaged = false
  }

  /** The daemon is there, perhaps again. */
  online(): void {
    this.isPaged = false
    if (this.client !== null) void this.page(this.client)
  }

  /** Whose rights have ended shows nothing more of what it could read. */
  forget(): void {
    this.now = NONE
    this.save()
  }

  /** Done or thrown away by the person. Until everything has arrived, no list but this one knows of it. */
  left(id: string): void {
    this.now = { ...this.now, items: this.now.items.filter((one) => one.id !== id) }
    this.save()
    this.changed()
  }

  private see(client: HybridGW): void {
    const filter = this.from === '' ? OPEN : { ...OPEN, created_at: { $gte: this.from } }
    const view = client.collection<TaskData>('tasks').live({ filter, sort: SORT })
    if (view === this.view) return
    this.end?.()
    this.view = view
    this.end = null
    // It is told at once, and what it is told may have it follow another one already.
    const end = view.subscribe((snapshot) => this.view === view && this.listed(snapshot))
    if (this.view === view) this.end = end
    else end()
  }

  /** Where the page ends. If the daemon does not say it: where it ended before. */
  private async page(client: HybridGW): Promise<void> {
    const found = await client.collection<TaskData>('tasks').list({ filter: OPEN, sort: SORT, limit: PAGE }).catch(() => null)
    if (this.client !== client) return
    this.isPaged = true
    if (found === null) return
    const last = found.docs.at(-1)?.data.created_at
    const isMore = found.next !== null
    const from = isMore && typeof last === 'string' ? last : ''
    const isAsBefore = from === this.from || (from !== '' && this.from !== '' && this.from < from && (this.snapshot?.docs.length ?? 0) <= MOST)
    this.now = { ...this.now, isMore }
    if (isAsBefore) return this.snapshot === null ? undefined : this.listed(this.snapshot)
    this.from = from
    this.see(client)
  }

  private listed(snapshot: Snapshot<TaskData>): void {
    this.snapshot = snapshot
    const items = snapshot.docs.slice(0, PAGE).map(shown)
    const isCut = snapshot.docs.length > PAGE
    if (snapshot.isReady && this.isPaged) {
      this.now = { items, isMore: this.now.isMore || isCut, isReady: true }
      this.save()
      if (isCut) this.narrow(snapshot.docs)
      if (this.now.isMore && items.length < PAGE / 2 && this.client !== null) void this.page(this.client) // much was done: the next ones
    } else {
      // Not everything has arrived: what was there last, with our own changes before it.
      const known = new Set(items.map((one) => one.id))
      const before = this.now.items.filter((one) => !known.has(one.id) && !one.isPending)
      this.now = { ...this.now, items: [...items, ...before].slice(0, PAGE), isReady: false }
    }
    this.changed()
  }

  private narrow(docs: readonly Doc<TaskData>[]): void {
    const from = docs[PAGE - 1]?.data.created_at
    if (docs.length <= MOST || typeof from !== 'string' || from <= this.from || this.client === null) return
    if (Date.now() - this.narrowedMs < NARROW_MS) return
    this.narrowedMs = Date.now()
    this.from = from
    this.see(this.client)
  }

  private save(): void {
    void keep('tasks', { ...this.now, from: this.from })
  }
}

function shown({ id, data, isPending }: Doc<TaskData>): Task {
  return { id, title: String(data.title), isDone: data.status === 'done', due: typeof data.due === 'string' ? data.due : null, isPending }
}

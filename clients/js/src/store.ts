/** A value that others can watch: what React, Svelte and Vue each need to show it. */

export type Listener<T> = (value: T) => void

/** Readable state: `getSnapshot` gives the same object until something has changed. */
export interface Readable<T> {
  /** The value now. Bound: may be handed to useSyncExternalStore as it is. */
  readonly getSnapshot: () => T
  /** Called at once and after every change; gives the function that ends it. Bound. */
  readonly subscribe: (listener: Listener<T>) => () => void
}

const PACE_MS = 16 // a frame of most screens: nobody sees more

/** A store whose snapshot is made when somebody asks, and told once per turn however much has changed. */
export class Store<T> implements Readable<T> {
  private readonly listeners = new Set<{ call: Listener<T>; seen: T }>()
  private snapshot: T
  private isDirty = false
  private isScheduled = false
  private timer: ReturnType<typeof setTimeout> | undefined
  private toldMs = -PACE_MS

  /** make: the value now; called again only after `touch`. */
  constructor(
    private readonly make: () => T,
    private readonly watched: (isWatched: boolean) => void = () => undefined,
  ) {
    this.snapshot = make()
  }

  readonly getSnapshot = (): T => {
    if (this.isDirty) {
      this.isDirty = false
      this.snapshot = this.make()
    }
    return this.snapshot
  }

  readonly subscribe = (call: Listener<T>): (() => void) => {
    if (this.listeners.size === 0) this.watched(true)
    const entry = { call, seen: this.getSnapshot() }
    this.listeners.add(entry)
    call(entry.seen)
    return () => {
      if (this.listeners.delete(entry) && this.listeners.size === 0) this.watched(false)
    }
  }

  /** Something has changed. isOneOfMany: it may come a thousand times in a row, as an import does; told at once, and
   *  then once per PACE_MS. */
  touch(isOneOfMany = false): void {
    this.isDirty = true
    if (this.isScheduled) return
    const pause = isOneOfMany ? this.toldMs + PACE_MS - performance.now() : 0
    if (pause > 0) {
      this.timer ??= setTimeout(() => this.tell(), pause)
      return
    }
    this.isScheduled = true
    queueMicrotask(() => this.tell())
  }

  private tell(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    this.isScheduled = false
    const value = this.getSnapshot()
    for (const entry of [...this.listeners]) {
      if (entry.seen === value || !this.listeners.has(entry)) continue
      entry.seen = value
      report(() => entry.call(value))
    }
    this.toldMs = performance.now()
  }
}

/** Call what belongs to the app: its error is its own and stops nothing here. */
export function report(call: () => void): void {
  try {
    call()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

/** A value that others can watch: what React, Svelte and Vue each need to show it. */

export type Listener<T> = (value: T) => void

/** Readable state: `getSnapshot` gives the same object until something has changed. */
export interface Readable<T> {
  /** The value now. Bound: may be handed to useSyncExternalStore as it is. */
  readonly getSnapshot: () => T
  /** Called at once and after every change; gives the function that ends it. Bound. */
  readonly subscribe: (listener: Listener<T>) => () => void
}

/** A store whose snapshot is made when somebody asks, and told once per turn however much has changed. */
export class Store<T> implements Readable<T> {
  private readonly listeners = new Set<{ call: Listener<T>; seen: T }>()
  private snapshot: T
  private isDirty = false
  private isScheduled = false

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

  /** Something has changed. */
  touch(): void {
    this.isDirty = true
    if (this.isScheduled) return
    this.isScheduled = true
    queueMicrotask(() => {
      this.isScheduled = false
      const value = this.getSnapshot()
      for (const entry of [...this.listeners]) {
        if (entry.seen === value || !this.listeners.has(entry)) continue
        entry.seen = value
        report(() => entry.call(value))
      }
    })
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

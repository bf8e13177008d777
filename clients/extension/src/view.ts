/** A view's line to the background: what is shown, and what it is asked to do. A worker that was asleep is woken by it. */

import { useLayoutEffect, useState } from 'preact/hooks'
import { api, t } from './api.js'
import { NOTHING, type Ask, type FromView, type Shown, type ToView } from './shared.js'

const AGAIN_MS = 50
// What was there last, so that the page can be used before a worker that was asleep has come up: asked for at once.
const last = api.storage.local.get({ tasks: NOTHING.tasks, preferences: NOTHING.preferences }) as Promise<Pick<Shown, 'tasks' | 'preferences'>>

export class Line {
  private port: chrome.runtime.Port | null = null
  private nextId = 1
  private readonly waiting = new Map<number, { ask: Ask; done(isWaiting: boolean): void; failed(error: Error): void }>()
  private isOver = false

  constructor(
    private readonly name: 'popup' | 'options',
    private readonly told: (shown: Shown) => void,
  ) {
    this.connect()
  }

  private connect(): void {
    if (this.isOver || this.port !== null) return
    const port = (this.port = api.runtime.connect({ name: this.name }))
    port.onMessage.addListener((message: ToView) => {
      if (message.kind === 'shown') return this.told(message.shown)
      const waiting = this.waiting.get(message.id)
      this.waiting.delete(message.id)
      if (message.error === null) waiting?.done(message.isWaiting)
      else waiting?.failed(new Error(message.error))
    })
    // The browser has ended the worker: a new port starts another one, which is asked what the first did not answer.
    port.onDisconnect.addListener(() => this.lost(port))
    for (const [id, { ask }] of this.waiting) this.post(port, { id, ask })
  }

  private post(port: chrome.runtime.Port, message: FromView): void {
    try {
      port.postMessage(message)
    } catch {
      this.lost(port) // it is gone, and we were not told yet
    }
  }

  private lost(port: chrome.runtime.Port): void {
    if (this.port !== port) return
    this.port = null
    setTimeout(() => this.connect(), AGAIN_MS)
  }

  /** Resolves when it is done, with whether it waits for HybridGW. */
  ask(ask: Ask): Promise<boolean> {
    const id = this.nextId++
    return new Promise((done, failed) => {
      this.waiting.set(id, { ask, done, failed })
      if (this.port !== null) this.post(this.port, { id, ask })
    })
  }

  close(): void {
    this.isOver = true
    this.port?.disconnect()
    this.port = null
  }
}

/** What the background shows, null until it has answered, and how to ask it. */
export function useBackground(name: 'popup' | 'options'): [Shown | null, (ask: Ask) => Promise<boolean>] {
  const [shown, set] = useState<Shown | null>(null)
  const [line, open] = useState<Line | null>(null)
  useLayoutEffect(() => {
    const made = new Line(name, set)
    open(made)
    void last.then(({ tasks, preferences }) => set((shown) => shown ?? { ...NOTHING, tasks: { ...tasks, isReady: false }, preferences }))
    return () => made.close()
  }, [name])
  const theme = shown?.preferences.theme ?? 'system'
  useLayoutEffect(() => void (document.documentElement.dataset['theme'] = theme), [theme])
  const isShown = shown !== null
  useLayoutEffect(() => void (isShown && performance.mark('usable')), [isShown]) // how long it took, for who measures
  return [shown, (ask) => line?.ask(ask) ?? Promise.reject(new Error(t('status_starting')))]
}

/** A view's line to the background: what is shown, and what it is asked to do. A worker that was asleep is woken by it. */

import { useEffect, useState } from 'preact/hooks'
import { api } from './api.js'
import type { Ask, FromView, Shown, ToView } from './shared.js'

export class Line {
  private port: chrome.runtime.Port | null = null
  private nextId = 1
  private readonly waiting = new Map<number, { done(): void; failed(error: Error): void }>()
  private isOver = false

  constructor(
    private readonly name: 'popup' | 'options',
    private readonly told: (shown: Shown) => void,
  ) {
    this.connect()
  }

  private connect(): void {
    const port = (this.port = api.runtime.connect({ name: this.name }))
    port.onMessage.addListener((message: ToView) => {
      if (message.kind === 'shown') return this.told(message.shown)
      const waiting = this.waiting.get(message.id)
      this.waiting.delete(message.id)
      if (message.error === null) waiting?.done()
      else waiting?.failed(new Error(message.error))
    })
    port.onDisconnect.addListener(() => {
      // The browser has ended the worker: another one is started by the new port.
      for (const waiting of this.waiting.values()) waiting.failed(new Error('interrupted'))
      this.waiting.clear()
      if (!this.isOver) setTimeout(() => this.connect(), 100)
    })
  }

  ask(ask: Ask): Promise<void> {
    const id = this.nextId++
    return new Promise((done, failed) => {
      this.waiting.set(id, { done, failed })
      this.port?.postMessage({ id, ask } satisfies FromView)
    })
  }

  close(): void {
    this.isOver = true
    this.port?.disconnect()
  }
}

/** What the background shows, null until it has answered, and how to ask it. */
export function useBackground(name: 'popup' | 'options'): [Shown | null, (ask: Ask) => Promise<void>] {
  const [shown, set] = useState<Shown | null>(null)
  const [line, open] = useState<Line | null>(null)
  useEffect(() => {
    const made = new Line(name, set)
    open(made)
    return () => made.close()
  }, [name])
  return [shown, (ask) => line?.ask(ask) ?? Promise.reject(new Error('not connected'))]
}

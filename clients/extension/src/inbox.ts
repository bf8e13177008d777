/** Pieces that have arrived: kept here before they are acknowledged, the latest first. */

import type { Received } from '../../js/src/messages.js'
import { keep, kept } from './api.js'
import { piece } from './piece.js'
import type { Arrived } from './shared.js'

const MOST = 100

export class Inbox {
  items: Arrived[] = []

  constructor(private readonly changed: () => void) {}

  async load(): Promise<void> {
    this.items = await kept<Arrived[]>('inbox', [])
  }

  /** Returns once it is kept; then it may be acknowledged. Whatever was sent, what is kept has our form and our bounds. */
  async take(message: Received): Promise<void> {
    if (this.items.some((one) => one.id === message.id)) return
    const arrived: Arrived = { ...piece(message.body), id: message.id, from: String(message.from.device), atMs: Date.now(), isSeen: false }
    await this.put([arrived, ...this.items].slice(0, MOST))
  }

  /** The person has looked. id: at this one; without: at all. */
  async see(id?: string): Promise<void> {
    if (this.items.every((one) => one.isSeen)) return
    await this.put(this.items.map((one) => (id === undefined || one.id === id ? { ...one, isSeen: true } : one)))
  }

  async forget(id: string): Promise<void> {
    await this.put(this.items.filter((one) => one.id !== id))
  }

  private async put(items: Arrived[]): Promise<void> {
    this.items = items
    await keep('inbox', items)
    this.changed()
  }
}

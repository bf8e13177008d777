/**
 * What HybridGW did not take when nobody was there to be told: changes that had waited, and what menus, keys and the
 * address bar asked for. Kept until the person has seen it.
 */

import { keep, kept } from './api.js'
import type { Refusal } from './shared.js'

const MOST = 20
const MOST_TEXT = 300

export class Refusals {
  items: Refusal[] = []

  constructor(private readonly changed: () => void) {}

  async load(): Promise<void> {
    this.items = await kept<Refusal[]>('refusals', [])
  }

  async note(what: string, why: string): Promise<void> {
    const refusal = { what: what.slice(0, MOST_TEXT), why: why.slice(0, MOST_TEXT) }
    if (this.items.some((one) => one.what === refusal.what && one.why === refusal.why)) return
    await this.put([refusal, ...this.items].slice(0, MOST))
  }

  /** The person has seen them. */
  async clear(): Promise<void> {
    await this.put([])
  }

  private async put(items: Refusal[]): Promise<void> {
    this.items = items
    await keep('refusals', items)
    this.changed()
  }
}

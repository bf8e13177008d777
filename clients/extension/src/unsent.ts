/** Pieces on their way: kept until the daemon has them, sent in order and, by their ids, once. */

import { asError } from '../../js/src/errors.js'
import { keep, kept, t } from './api.js'
import { piece } from './piece.js'
import type { Piece } from './shared.js'

const MOST = 200

interface Waiting {
  id: string
  to: string
  piece: Piece
}

export class Unsent {
  private items: Waiting[] = []
  private sending: Promise<void> | null = null

  constructor(
    private readonly send: (id: string, to: string, piece: Piece) => Promise<unknown>,
    private readonly refused: (piece: Piece, why: string) => Promise<void>,
    private readonly changed: () => void,
  ) {}

  get size(): number {
    return this.items.length
  }

  async load(): Promise<void> {
    this.items = await kept<Waiting[]>('unsent', [])
  }

  /** Resolves when it is kept, with whether it waits. Rejects where the daemon refuses it, and where too many wait. */
  async add(id: string, to: string, what: Piece): Promise<boolean> {
    const isKnown = this.items.some((one) => one.id === id)
    if (!isKnown && this.items.length >= MOST) throw new Error(t('tooMany'))
    if (!isKnown) await this.put([...this.items, { id, to, piece: piece(what) }])
    await this.flush(id)
    return this.items.some((one) => one.id === id)
  }

  /** Send what waits. mine: whose refusal is to be thrown. */
  async flush(mine?: string): Promise<void> {
    let refused: Error | null = null
    const before = this.sending ?? Promise.resolve()
    const run = before.then(async () => {
      for (const one of [...this.items]) {
        try {
          await this.send(one.id, one.to, one.piece)
        } catch (thrown) {
          const error = asError(thrown)
          if (error.retryable) return // the daemon is away: the next connection goes on here
          if (one.id === mine) refused = error
          else await this.refused(one.piece, error.message) // nobody waits for its answer any more
        }
        await this.put(this.items.filter((other) => other.id !== one.id))
      }
    })
    this.sending = run.catch(() => undefined)
    await run
    if (refused !== null) throw refused
  }

  private async put(items: Waiting[]): Promise<void> {
    this.items = items
    await keep('unsent', items)
    this.changed()
  }
}

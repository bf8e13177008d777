/**
 * What the daemon does, second by second: it keeps totals and no history, so the page keeps one, bounded, for as long as
 * its tab is open. Looking begins when somebody first wants to see it.
 */

import type { HybridGW } from '../../js/src/client.js'
import type { Stats, SyncStatus } from './api.js'
import { call } from './api.js'

export const EVERY_MS = 2_000
export const MOST = 900 // half an hour

/** One look. Rates are since the look before; null: not known. */
export interface Sample {
  at_s: number
  in_bps: number | null
  out_bps: number | null
  up_bps: number | null
  down_bps: number | null
  answer_ms: number | null
  relay_ms: number | null
  waits: number | null
  lag_s: number | null
}

export type Times = readonly number[]

/** A line of a chart. dash: so that lines are told apart without colours. */
export interface Line {
  name: string
  colour: string
  dash?: readonly number[]
  of: (sample: Sample) => number | null
}

/** A chart that is there. */
export interface Drawing {
  show: (times: Times, values: readonly (readonly (number | null)[])[]) => void
  end: () => void
}

interface Totals {
  at_ms: number
  in: number
  out: number
  up: number
  down: number
}

/** The samples of a connection, latest last. */
export class Ring {
  readonly samples: Sample[] = []
  private before: Totals | null = null
  private readonly listeners = new Set<() => void>()
  private timer: ReturnType<typeof setInterval> | undefined

  constructor(private readonly db: HybridGW) {}

  /** Look from now on; tell *listener* of each sample. Returns what ends the telling; the looking goes on. */
  follow(listener: () => void): () => void {
    this.listeners.add(listener)
    if (this.timer === undefined) {
      void this.look()
      this.timer = setInterval(() => !document.hidden && void this.look(), EVERY_MS)
    }
    return () => void this.listeners.delete(listener)
  }

  private async look(): Promise<void> {
    if (this.db.getSnapshot().status === 'closed') {
      clearInterval(this.timer)
      return
    }
    const began = performance.now()
    let answer_ms: number | null = null
    let found: [Stats, SyncStatus] | null = null
    try {
      const stats = await call<Stats>(this.db, 'config.stats')
      answer_ms = performance.now() - began
      found = [stats, await call<SyncStatus>(this.db, 'sync.status')]
    } catch {
      this.before = null // a gap
    }
    this.add(found === null ? empty() : this.sample(...found, answer_ms))
  }

  private sample(stats: Stats, sync: SyncStatus, answer_ms: number | null): Sample {
    const ways = [...sync.relays, ...sync.direct]
    const now: Totals = {
      at_ms: Date.now(),
      in: stats.received_bytes,
      out: stats.sent_bytes,
      up: ways.reduce((sum, one) => sum + one.sent_bytes, 0),
      down: ways.reduce((sum, one) => sum + one.received_bytes, 0),
    }
    const { before } = this
    this.before = now
    const rate = (name: 'in' | 'out' | 'up' | 'down'): number | null => {
      if (before === null || now.at_ms <= before.at_ms) return null
      // Less than before: the daemon or a link began anew.
      return Math.max(0, now[name] - before[name]) / ((now.at_ms - before.at_ms) / 1000)
    }
    const rtts = sync.relays.flatMap((one) => (one.rtt_ms === null ? [] : [one.rtt_ms]))
    const isAlone = sync.relays.length + sync.direct.length === 0
    return {
      at_s: now.at_ms / 1000,
      in_bps: rate('in'), out_bps: rate('out'), up_bps: rate('up'), down_bps: rate('down'),
      answer_ms,
      relay_ms: rtts.length === 0 ? null : Math.min(...rtts),
      waits: sync.pending + sync.to_send + sync.waiting,
      lag_s: sync.state === 'in_step' ? 0 : isAlone || sync.last_sync_ms === null ? null : Math.max(0, now.at_ms - sync.last_sync_ms) / 1000,
    }
  }

  private add(sample: Sample): void {
    this.samples.push(sample)
    if (this.samples.length > MOST) this.samples.splice(0, this.samples.length - MOST)
    this.listeners.forEach((listener) => listener())
  }
}

function empty(): Sample {
  return { at_s: Date.now() / 1000, in_bps: null, out_bps: null, up_bps: null, down_bps: null, answer_ms: null, relay_ms: null, waits: null, lag_s: null }
}

const rings = new WeakMap<HybridGW, Ring>()

/** The one ring of a connection. */
export function ringOf(db: HybridGW): Ring {
  let ring = rings.get(db)
  if (ring === undefined) {
    ring = new Ring(db)
    rings.set(db, ring)
  }
  return ring
}

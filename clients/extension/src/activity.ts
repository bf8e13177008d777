/**
 * Which pages were looked at, and how long: off until the person turns it on, and then only what they do not leave out.
 *
 * An entry has the page's title and its address without query and fragment, where secrets often stand. Private windows,
 * pages that are not of the web, and whatever an exclusion names leave no trace. What is under way outlives the worker.
 */

import { newId } from '../../js/src/ids.js'
import { api, keep, kept } from './api.js'
import { whole } from './piece.js'
import { NO_ACTIVITY, type ActivitySettings } from './shared.js'

const LEAST_MS = 2_000 // shorter looks are none
const ASLEEP_MS = 120_000 // the browser asks every half minute: after such a gap nobody has looked

interface Look {
  id: string
  url: string
  title: string
  fromMs: number
  seenMs: number
}

export interface Entry {
  title: string
  kind: string
  app: string
  url: string
  started_at: string
  ended_at: string
}

export class Activity {
  settings = NO_ACTIVITY
  private now: Look | null = null
  private turn: Promise<void> = Promise.resolve()

  constructor(
    private readonly app: string,
    private readonly excluded: () => readonly string[],
    private readonly write: (entry: Entry, id: string) => Promise<unknown>,
    private readonly clock: () => number = Date.now,
  ) {}

  async load(): Promise<void> {
    this.settings = await kept('activity', NO_ACTIVITY)
    this.now = await kept<Look | null>('look', null)
    if (this.now !== null) this.now.id ??= newId() // of a version before it had one
  }

  async set(settings: ActivitySettings): Promise<void> {
    this.settings = settings
    await keep('activity', settings)
    await this.look()
  }

  /** To be called in the first turn of the worker. */
  listen(): void {
    api.tabs.onActivated.addListener(() => void this.look())
    api.tabs.onUpdated.addListener((_id, changed) => void ((changed.url ?? changed.title) !== undefined && this.look()))
    api.windows.onFocusChanged.addListener(() => void this.look())
  }

  /** What is looked at now; one after the other, however many events come. */
  look(): Promise<void> {
    return (this.turn = this.turn.then(() => this.once()).catch(() => undefined))
  }

  private async once(): Promise<void> {
    const nowMs = this.clock()
    const { isOn, pausedUntilMs } = this.settings
    const tab = isOn && pausedUntilMs <= nowMs ? await frontTab() : null
    const url = tab === null ? null : plain(tab.url ?? '')
    const is = url !== null && !isExcluded(url, this.excluded()) ? url : null
    const before = this.now
    if (before !== null && nowMs - before.seenMs < ASLEEP_MS) before.seenMs = nowMs
    if (before !== null && before.url === is) before.title = tab?.title || before.title
    else {
      this.now = is === null ? null : { id: newId(), url: is, title: tab?.title || is, fromMs: nowMs, seenMs: nowMs }
      if (before !== null && before.seenMs - before.fromMs >= LEAST_MS) await this.done(before).catch(() => undefined)
    }
    if (before !== null || this.now !== null) await keep('look', this.now)
  }

  /** It is written under the id that it has had from its beginning: a worker that is ended now does it once more. */
  private async done({ id, url, title, fromMs, seenMs }: Look): Promise<void> {
    if (isExcluded(url, this.excluded())) return // said while it was looked at
    const time = (ms: number): string => new Date(ms).toISOString()
    await this.write({ title: whole(title.slice(0, 1_000)), kind: 'browsing', app: this.app, url, started_at: time(fromMs), ended_at: time(seenMs) }, id)
  }
}

async function frontTab(): Promise<chrome.tabs.Tab | null> {
  const window = await api.windows.getLastFocused()
  if (window.incognito || window.focused === false) return null
  const [tab] = await api.tabs.query({ active: true, windowId: window.id })
  return tab === undefined || tab.incognito ? null : tab
}

/** The address without what may be secret in it; null: not a page of the web. */
export function plain(url: string): string | null {
  try {
    const { protocol, origin, pathname } = new URL(url)
    return protocol === 'https:' || protocol === 'http:' ? (origin + pathname).slice(0, 2_000) : null
  } catch {
    return null
  }
}

/** Does an exclusion name its host, or one above it: `bank.example` leaves out `www.bank.example` too. */
export function isExcluded(url: string, excluded: readonly string[]): boolean {
  const { hostname } = new URL(url)
  return excluded.some((name) => hostname === name || hostname.endsWith(`.${name}`))
}

/** What the background tells the popup and the options page, and what they ask of it. */

import { DEFAULT_URL, type Status } from '../../js/src/client.js'
import type { Way } from './transport.js'
import type { HostState } from './native.js'

export interface Task {
  id: string
  title: string
  isDone: boolean
  due: string | null
  isPending: boolean
}

/** What was sent: a tab, a link, selected text or a page. */
export interface Piece {
  kind: 'tab' | 'link' | 'selection' | 'page'
  url: string
  title: string
  text: string
}

/** A piece that has arrived. */
export interface Arrived extends Piece {
  id: string
  from: string
  atMs: number
  isSeen: boolean
}

/** Another device of the person. mark: its fingerprint, which names it exactly. */
export interface Device {
  name: string
  mark: string
}

/** Where pieces go that are for nobody in particular: to the browsers of all other devices. */
export const EVERYWHERE = 'app:hybridgw-extension'

/** Where a piece goes that is sent without saying where. */
export function targetOf({ preferences: { device }, devices }: Pick<Shown, 'preferences' | 'devices'>): string {
  return devices.some(({ mark }) => mark === device) ? `${EVERYWHERE}@${device}` : EVERYWHERE
}

/** Open tasks, the latest first. isMore: there are others; isReady: it is what the daemon has. */
export interface Tasks {
  items: Task[]
  isMore: boolean
  isReady: boolean
}

/** Of this browser alone. isOn: the person wants it here. */
export interface ActivitySettings {
  isOn: boolean
  pausedUntilMs: number
}

export const NO_ACTIVITY: ActivitySettings = { isOn: false, pausedUntilMs: 0 }

/**
 * Of the person, for all their browsers. device: the mark of the one that pieces go to, empty: all; excluded: hosts that
 * the activity log leaves out, in lower case; isShared: the other browsers hear of it.
 */
export interface Preferences {
  theme: 'system' | 'light' | 'dark'
  device: string
  excluded: string[]
  isShared: boolean
}

export const NO_PREFERENCES: Preferences = { theme: 'system', device: '', excluded: [], isShared: false }

/** Something that HybridGW did not take, and why. */
export interface Refusal {
  what: string
  why: string
}

/** Where the extension stands; a new one with every change. */
export interface Shown {
  status: Status
  code: string | null
  sentence: string | null
  problem: { code: string; message: string; next: string } | null
  way: Way | null
  host: { state: HostState; problem: string | null }
  url: string
  /** Changes and pieces that wait for the daemon. */
  waiting: number
  /** What the daemon did not take and nobody has seen yet, the latest first. */
  refusals: Refusal[]
  /** Does HybridGW let it read tasks, and write the activity log; as far as is known. */
  mayRead: boolean
  mayLog: boolean
  tasks: Tasks
  inbox: Arrived[]
  devices: Device[]
  activity: ActivitySettings
  preferences: Preferences
}

/** Before anything is known. */
export const NOTHING: Shown = {
  status: 'starting', code: null, sentence: null, problem: null, way: null, host: { state: 'unknown', problem: null },
  url: DEFAULT_URL, waiting: 0, refusals: [], mayRead: true, mayLog: true, tasks: { items: [], isMore: false, isReady: false }, inbox: [], devices: [],
  activity: NO_ACTIVITY, preferences: NO_PREFERENCES,
}

/** What may be asked twice: a view asks again when the worker was ended before it had answered. Ids are the view's. */
export type Ask =
  | { do: 'connect' }
  | { do: 'retry' }
  | { do: 'leave' }
  | { do: 'activity'; settings: ActivitySettings }
  | { do: 'prefer'; change: Partial<Preferences> }
  | { do: 'address'; url: string }
  | { do: 'add'; id: string; title: string }
  | { do: 'check'; id: string; isDone: boolean }
  | { do: 'remove'; id: string }
  | { do: 'send'; id: string; piece: Piece; to: string }
  | { do: 'seen'; id?: string }
  | { do: 'forget'; id: string }
  | { do: 'understood' }

/** isWaiting: it was asked for while HybridGW was away, and is done when it is there. */
export type ToView = { kind: 'shown'; shown: Shown } | { kind: 'done'; id: number; error: string | null; isWaiting: boolean }
export type FromView = { id: number; ask: Ask }

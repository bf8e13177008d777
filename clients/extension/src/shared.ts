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

/** isOn: the person wants it; excluded: hosts, in lower case. */
export interface ActivitySettings {
  isOn: boolean
  pausedUntilMs: number
  excluded: string[]
}

export const NO_ACTIVITY: ActivitySettings = { isOn: false, pausedUntilMs: 0, excluded: [] }

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
  /** Changes that the daemon did not take. */
  rejected: number
  tasks: { items: Task[]; total: number; isReady: boolean }
  inbox: Arrived[]
  devices: Device[]
  activity: ActivitySettings
}

/** Before anything is known. */
export const NOTHING: Shown = {
  status: 'starting', code: null, sentence: null, problem: null, way: null, host: { state: 'unknown', problem: null },
  url: DEFAULT_URL, waiting: 0, rejected: 0, tasks: { items: [], total: 0, isReady: false }, inbox: [], devices: [],
  activity: NO_ACTIVITY,
}

/** What may be asked twice: a view asks again when the worker was ended before it had answered. Ids are the view's. */
export type Ask =
  | { do: 'connect' }
  | { do: 'retry' }
  | { do: 'leave' }
  | { do: 'activity'; settings: ActivitySettings }
  | { do: 'address'; url: string }
  | { do: 'add'; id: string; title: string }
  | { do: 'check'; id: string; isDone: boolean }
  | { do: 'remove'; id: string }
  | { do: 'send'; id: string; piece: Piece; to: string }
  | { do: 'seen'; id?: string }
  | { do: 'forget'; id: string }

export type ToView = { kind: 'shown'; shown: Shown } | { kind: 'done'; id: number; error: string | null }
export type FromView = { id: number; ask: Ask }

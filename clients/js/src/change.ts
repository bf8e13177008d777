/** One write of an app, as it is shown, kept and sent. */

import type { Data } from './query.js'

/** One write. */
export interface Change {
  /** Its place in the queue; 0 while it is not in one. */
  readonly number: number
  /** Tells it apart from every other, in the queue and before. */
  readonly key: string
  readonly op: 'create' | 'put' | 'patch' | 'delete'
  readonly collection: string
  readonly id: string
  readonly atMs: number
  /** data of create and put, patch of patch. */
  readonly content?: Data
  readonly version?: number
  readonly exists?: boolean
  readonly confirm?: boolean
  /** It was sent once, and its answer did not arrive. */
  readonly isTried?: boolean
}

/** The frames of the WebSocket, as docs/reference/websocket.md has them. Golden ones: protocol/vectors/local_frames.json. */

import { asError, HybridGWError, isRecord } from './errors.js'

export const PROTOCOL = 'hybridgw.v1.json'
export const MAX_FRAME_BYTES = 1024 * 1024 // of a frame of ours; the daemon ends a connection that sends more

/** Close codes; below 4000 they are of RFC 6455. */
export const Close = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  badText: 1007,
  tooBig: 1009,
  internal: 1011,
  badFrames: 4400,
  unauthorized: 4401,
  revoked: 4403,
  unknownMode: 4404,
  timedOut: 4408,
  replaced: 4409,
  tooMany: 4429,
  stopping: 4503,
} as const

/** Where a session was left. */
export interface Resume {
  readonly session: string
  readonly epoch: string
  readonly offset: number
}

export type ClientFrame =
  | { type: 'auth'; token: string; resume?: Resume; renew?: boolean; proof?: string }
  | { type: 'command'; id: number; command: string; params: Record<string, unknown> }
  | { type: 'heartbeat'; offset?: number }
  | { type: 'heartbeat_ack'; t: number }

export interface AuthOk {
  type: 'auth_ok'
  connection: string
  session: string
  epoch: string
  offset: number
  recovered: boolean
  scopes: string[]
  heartbeat_s: number
  mode: string
  expires_ms: number | null
}

export interface EventFrame {
  type: 'event'
  offset: number
  sub: number
  event: string
  data: unknown
}

export type ServerFrame =
  | AuthOk
  | { type: 'auth_error'; code: string; message: string }
  | { type: 'result'; id: number; result: unknown }
  | { type: 'error'; id: number | null; code: string; message: string; retryable: boolean; field?: string; detail?: Record<string, unknown> }
  | EventFrame
  | { type: 'heartbeat'; t: number }
  | { type: 'heartbeat_ack'; t: number }

const HALF = /\p{Surrogate}/u

/** Does a text hold half of a character, as cutting it may leave one. JSON can say that, and the daemon cannot read it. */
export function isHalved(text: string): boolean {
  return HALF.test(text)
}

/** The text of a frame. Throws `bad_value`, `too_big` for what no frame can hold: the daemon could not read it, nor say to
 *  what it answers, and would end this connection, and each later one if it is sent again. */
export function encodeFrame(frame: ClientFrame): string {
  try {
    const text = JSON.stringify(frame)
    if (/\\ud[89a-f]/.test(text)) JSON.stringify(frame, wellFormed) // as halves are written, or as somebody writes about them
    const bytes = text.length * 3 > MAX_FRAME_BYTES ? new TextEncoder().encode(text).length : 0
    if (bytes > MAX_FRAME_BYTES) throw new HybridGWError('too_big', `What is sent at once has at most ${MAX_FRAME_BYTES} bytes, this has ${bytes}.`)
    return text
  } catch (error) {
    throw asError(error, 'bad_value')
  }
}

function wellFormed(name: string, value: unknown): unknown {
  if (isHalved(name) || (typeof value === 'string' && isHalved(value))) throw new HybridGWError('bad_value', 'A text holds half of a character.')
  return value
}

/** A frame of the daemon; null for a type that a later version has and this one does not know. Throws `bad_frame`. */
export function decodeFrame(text: string): ServerFrame | null {
  let frame: unknown
  try {
    frame = JSON.parse(text)
  } catch (error) {
    throw new HybridGWError('bad_frame', 'What answers is not HybridGW: a frame is no JSON.', { cause: error })
  }
  if (!isRecord(frame) || typeof frame['type'] !== 'string') throw new HybridGWError('bad_frame', 'What answers is not HybridGW: a frame has no type.')
  const wanted = FIELDS[frame['type']]
  if (wanted === undefined) return null
  for (const [name, kind] of Object.entries(wanted)) {
    if (typeof frame[name] !== kind) throw new HybridGWError('bad_frame', `What answers is not HybridGW: ${frame['type']}.${name} is no ${kind}.`)
  }
  return frame as unknown as ServerFrame
}

const FIELDS: Readonly<Record<string, Readonly<Record<string, 'string' | 'number' | 'boolean'>>>> = {
  auth_ok: { connection: 'string', session: 'string', epoch: 'string', offset: 'number', recovered: 'boolean', heartbeat_s: 'number' },
  auth_error: { code: 'string', message: 'string' },
  result: { id: 'number' },
  error: { code: 'string', message: 'string', retryable: 'boolean' },
  event: { offset: 'number', sub: 'number', event: 'string' },
  heartbeat: { t: 'number' },
  heartbeat_ack: { t: 'number' },
}

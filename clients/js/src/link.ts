/** One WebSocket from its opening to its end: auth, commands and their answers, events, signs of life. */

import { asError, errorOf, HybridGWError } from './errors.js'
import { Close, decodeFrame, encodeFrame, PROTOCOL, type AuthOk, type ClientFrame, type EventFrame, type Resume } from './frames.js'

/** What we need of a WebSocket, of a browser or our own in Node. */
export interface Socket {
  onopen: ((event: any) => void) | null
  onmessage: ((event: any) => void) | null
  onclose: ((event: any) => void) | null
  onerror: ((event: any) => void) | null
  send(data: string): void
  close(code?: number, reason?: string): void
}

/** Proves the key of the app for a token. */
export type Prove = (token: string) => Promise<string>

export type OpenSocket = (url: string, protocol: string) => Socket

/** How long is waited, milliseconds. */
export interface Patience {
  /** For a connection and the answer to `auth`. */
  readonly openMs: number
  /** For the answer to a command. */
  readonly commandMs: number
  /** Between two signs of life; the daemon's own wish counts where it is less. */
  readonly heartbeatMs: number
  /** For any traffic after one. */
  readonly deadlineMs: number
  /** The same when there is a reason to doubt: the page was hidden, the network changed. */
  readonly probeMs: number
}

export const PATIENCE: Patience = { openMs: 15_000, commandMs: 30_000, heartbeatMs: 20_000, deadlineMs: 8_000, probeMs: 3_000 }

/** How a connection ended. wasOpen: the token counted; refusal: what the daemon said about it. */
export interface End {
  readonly code: number
  readonly reason: string
  readonly wasOpen: boolean
  readonly refusal?: { code: string; message: string }
}

export interface LinkEvents {
  opened(ok: AuthOk): void
  /** The answer to `renew`. */
  renewed(ok: AuthOk): void
  event(frame: EventFrame): void
}

interface Waiting {
  done(result: unknown): void
  failed(error: HybridGWError): void
  timer: ReturnType<typeof setTimeout>
}

export const MAX_WAITING = 100 // commands under way; the daemon stops reading at 128

/** One connection. `run` it once. */
export class Link {
  private socket: Socket | null = null
  private finish: (end: End) => void = () => undefined
  private isOpen = false
  private refusal: { code: string; message: string } | undefined
  private nextId = 1
  private readonly waiting = new Map<number, Waiting>()
  private readonly held: (() => void)[] = []
  private beat: ReturnType<typeof setTimeout> | undefined
  private deadline: ReturnType<typeof setTimeout> | undefined
  private heartbeatMs: number
  private offset = 0

  constructor(
    private readonly open: OpenSocket,
    private readonly events: LinkEvents,
    private readonly patience: Patience = PATIENCE,
  ) {
    this.heartbeatMs = patience.heartbeatMs
  }

  /** Connect, show the token, and stay until the end. Never throws. */
  run(url: string, token: string, resume: Resume | null, prove?: Prove): Promise<End> {
    return new Promise((resolve) => {
      this.finish = resolve
      let socket: Socket
      try {
        socket = this.socket = this.open(url, PROTOCOL)
      } catch (error) {
        resolve({ code: 1006, reason: String(error), wasOpen: false })
        return
      }
      this.deadline = setTimeout(() => this.abandon('no answer in time'), this.patience.openMs)
      const shown = { type: 'auth', token, ...(resume === null ? {} : { resume }) } as const
      socket.onopen = () => {
        if (prove === undefined) return this.send(shown)
        prove(token).then((proof) => this.send({ ...shown, proof }), (error: unknown) => this.abandon(String(error)))
      }
      socket.onmessage = (event: { data: unknown }) => this.receive(event.data)
      socket.onerror = () => undefined // a close follows
      socket.onclose = (event: { code: number; reason: string }) => this.end(event.code, event.reason)
    })
  }

  /** Ask; the callbacks run before any later frame is looked at. */
  ask(command: string, params: Record<string, unknown>, done: (result: any) => void, failed: (error: HybridGWError) => void, timeoutMs?: number): void {
    if (!this.isOpen) return failed(lost())
    if (this.waiting.size >= MAX_WAITING) {
      this.held.push(() => this.ask(command, params, done, failed, timeoutMs))
      return
    }
    const id = this.nextId++
    let text: string
    try {
      text = encodeFrame({ type: 'command', id, command, params })
    } catch (error) {
      return failed(asError(error))
    }
    const wait = timeoutMs ?? this.patience.commandMs
    const timer = setTimeout(() => {
      this.waiting.delete(id)
      failed(new HybridGWError('timeout', `No answer to ${command} within ${Math.round(wait / 1000)} s.`, { retryable: true }))
      this.release()
    }, wait)
    this.waiting.set(id, { done, failed, timer })
    this.put(text)
  }

  /** A fresh token for this connection. */
  renew(token: string, proof?: string): void {
    if (this.isOpen) this.send({ type: 'auth', token, renew: true, ...(proof === undefined ? {} : { proof }) })
  }

  /** Is anybody there? If nothing comes back soon, the connection is given up, whatever `readyState` says. */
  probe(): void {
    if (this.isOpen) this.ping(this.patience.probeMs)
  }

  /** Give it up without waiting for anybody: after a sleep, or a silence. */
  abandon(reason: string): void {
    const socket = this.socket
    this.end(1006, reason)
    try {
      socket?.close()
    } catch {
      // one that was never open
    }
  }

  /** End it in order. */
  close(): void {
    const socket = this.socket
    this.end(Close.normal, 'closed')
    socket?.close(Close.normal)
  }

  // ---- inside ----------------------------------------------------------------------------------------------------------
  private send(frame: ClientFrame): void {
    this.put(encodeFrame(frame))
  }

  private put(text: string): void {
    try {
      this.socket?.send(text)
    } catch {
      this.abandon('cannot send')
    }
  }

  private receive(data: unknown): void {
    if (this.isOpen) this.alive()
    let frame
    try {
      frame = decodeFrame(String(data))
    } catch (error) {
      this.refusal = { code: 'bad_frame', message: (error as Error).message }
      return this.abandon('not HybridGW')
    }
    switch (frame?.type) {
      case 'auth_ok':
        return this.greeted(frame)
      case 'auth_error':
        this.refusal = frame
        return
      case 'result':
      case 'error':
        return this.answered(frame)
      case 'event':
        this.offset = frame.offset
        return this.events.event(frame)
      case 'heartbeat':
        return this.send({ type: 'heartbeat_ack', t: frame.t })
    }
  }

  private greeted(ok: AuthOk): void {
    if (this.isOpen) return this.events.renewed(ok)
    this.isOpen = true
    this.offset = ok.offset
    this.heartbeatMs = Math.min(this.patience.heartbeatMs, ok.heartbeat_s * 700)
    this.alive()
    this.events.opened(ok)
  }

  private answered(frame: { type: 'result'; id: number; result: unknown } | { type: 'error'; id: number | null }): void {
    const found = frame.id === null ? undefined : this.waiting.get(frame.id)
    if (found === undefined) return // it was given up on
    this.waiting.delete(frame.id as number)
    clearTimeout(found.timer)
    if (frame.type === 'result') found.done(frame.result)
    else found.failed(errorOf(frame))
    this.release()
  }

  private release(): void {
    while (this.isOpen && this.waiting.size < MAX_WAITING) {
      const next = this.held.shift()
      if (next === undefined) return
      next()
    }
  }

  /** Something came: wait for the next sign of life from now on. */
  private alive(): void {
    clearTimeout(this.deadline)
    this.deadline = undefined
    clearTimeout(this.beat)
    this.beat = setTimeout(() => this.ping(this.patience.deadlineMs), this.heartbeatMs)
  }

  private ping(deadlineMs: number): void {
    if (this.deadline !== undefined) return
    this.deadline = setTimeout(() => this.abandon('no sign of life'), deadlineMs)
    this.send({ type: 'heartbeat', offset: this.offset })
  }

  private end(code: number, reason: string): void {
    const socket = this.socket
    if (socket === null) return
    this.socket = null
    socket.onopen = socket.onmessage = socket.onclose = null
    clearTimeout(this.deadline)
    clearTimeout(this.beat)
    const wasOpen = this.isOpen
    this.isOpen = false
    const left = [...this.waiting.values()]
    this.waiting.clear()
    for (const one of left) {
      clearTimeout(one.timer)
      one.failed(lost())
    }
    for (const one of this.held.splice(0)) one()
    this.finish({ code, reason, wasOpen, ...(this.refusal === undefined ? {} : { refusal: this.refusal }) })
  }
}

/** Nobody knows whether the command arrived. */
function lost(): HybridGWError {
  return new HybridGWError('offline', 'HybridGW cannot be reached now.', { retryable: true })
}

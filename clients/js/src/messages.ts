/** Messages: content for programs, here and on the person's other devices, shown until it is acknowledged. */

import { HybridGWError } from './errors.js'
import type { EventFrame } from './frames.js'
import { newId } from './ids.js'
import type { Subscriber } from './view.js'

const KNOWN = 10_000 // ids that were acknowledged: one that comes again is acknowledged again and not shown

export interface SendOptions {
  /** client:ID, app:NAME, mode:MODE, topic:TOPIC, device:NAME or all, each with @DEVICE or @here; person:NAME, a contact; else the rules decide. */
  to?: string | string[]
  priority?: 'bulk' | 'normal' | 'high' | 'urgent'
  /** Seconds after which it is given up; 7 days if not said. */
  ttl_s?: number
  /** A UUID: a repeated call with it sends once. */
  id?: string
  reply_to?: string
}

/** What became of a message at one device. */
export interface MessageState {
  id: string
  device: string
  state: 'queued' | 'stored' | 'handed' | 'delivered' | 'handled' | 'expired' | 'failed'
  at_ms: number
}

/** A message that has arrived. */
export interface Received<T = any> {
  readonly id: string
  readonly type: string
  readonly body: T
  /** person, person_id: the contact who sent it, another person; null: it is from a device of one's own. */
  readonly from: { device: string; client: string; person: string | null; person_id: string | null }
  readonly to: string
  readonly priority: string
  readonly expires_ms: number
  readonly reply_to: string | null
  /** Something before it is missing. */
  readonly gap: boolean
  /** It is dealt with: it is not shown again, and its sender sees it as handled. */
  ack(): Promise<void>
  /** Answer to the program, or the other person, that sent it. */
  reply(body: unknown, more?: SendOptions & { type?: string }): Promise<any>
}

type Call = (command: string, params: Record<string, unknown>) => Promise<any>
type Handler = (message: Received) => unknown
interface Entry {
  type: string
  person: string | undefined
  handler: Handler
}

/** The messages of one program. It listens from the first `on` or `request` on. */
export class Messages {
  private readonly handlers: Entry[] = []
  private readonly waiting = new Map<string, (message: Received) => void>()
  private readonly shown = new Map<string, Received>() // not acknowledged yet
  private readonly handed = new Set<string>() // of these: given to a handler, to one and once, also if it fails
  private readonly done = new Set<string>()
  private readonly unsaid = new Set<string>() // acknowledged here, and the daemon may not have heard of it
  private end: (() => void) | null = null

  constructor(
    private readonly call: Call,
    private readonly follow: (subscriber: Subscriber) => () => void,
    private readonly options: { app?: string; topics?: string[]; onState?: (state: MessageState) => void; failed?: (error: HybridGWError) => void } = {},
  ) {}

  /** Send a message; it is stored when this resolves. Rejects with `offline` while there is no connection. */
  send(type: string, body: unknown, more: SendOptions = {}): Promise<any> {
    return this.call('messages.send', { type, body: body ?? null, ...(typeof more.to === 'string' ? { id: newId() } : {}), ...more })
  }

  /** Have *handler* called for messages of a type; * at its end is any rest. What it returns is waited for, then the
   *  message is acknowledged; one whose handler fails stays, and comes again at the next start. Returns what ends it.
   *  person: only from this contact, by name or id; other people's messages come to programs with the topic `people`. */
  on(type: string, handler: Handler, { person }: { person?: string } = {}): () => void {
    const entry: Entry = { type, person, handler }
    this.handlers.push(entry)
    this.listen()
    for (const message of [...this.shown.values()]) if (fits(entry, message)) void this.handle(message)
    return () => {
      const at = this.handlers.indexOf(entry)
      if (at >= 0) this.handlers.splice(at, 1)
    }
  }

  /** Send a message and resolve with the body of its answer. Rejects with `request_timeout` if none comes in time. */
  async request<T = any>(type: string, body: unknown, more: SendOptions & { to: string; timeout_s?: number }): Promise<T> {
    const { timeout_s = 30, ...rest } = more
    const id = newId()
    this.listen() // what is asked first is done first, so the answer finds a listener
    let clock: ReturnType<typeof setTimeout> | undefined
    try {
      const answer = new Promise<Received>((resolve, reject) => {
        this.waiting.set(id, resolve)
        clock = setTimeout(() => reject(new HybridGWError('request_timeout', `No answer to ${type} came within ${timeout_s} s.`, { retryable: true })), timeout_s * 1000)
      })
      answer.catch(() => undefined)
      await this.send(type, body, { ...rest, id, ttl_s: timeout_s })
      const message = await answer
      await message.ack().catch(() => undefined) // it has come all the same
      return message.body as T
    } finally {
      clearTimeout(clock)
      this.waiting.delete(id)
    }
  }

  /** Listen no more. */
  close(): void {
    this.end?.()
    this.end = null
  }

  private listen(): void {
    if (this.end !== null) return
    const { app = '', topics = [], onState, failed } = this.options
    this.end = this.follow({
      command: 'messages.listen',
      params: { app, topics },
      event: (frame: EventFrame) => {
        if (frame.event === 'message') this.take(frame.data as any)
        else if (frame.event === 'message_state') onState?.(frame.data as MessageState)
      },
      renewed: () => this.unsaid.clear(), // what was shown and not acknowledged comes again, and is known
      resumed: () => {
        if (this.unsaid.size > 0) void this.say([...this.unsaid]).catch(() => undefined)
      },
      failed: (error) => failed?.(error),
    })
  }

  private take(data: any): void {
    const id = data.id as string
    if (this.done.has(id)) {
      void this.say([id]).catch(() => undefined)
      return
    }
    if (this.shown.has(id)) return
    const message: Received = {
      ...data,
      ack: async () => {
        this.shown.delete(id)
        this.handed.delete(id)
        this.done.add(id)
        if (this.done.size > KNOWN) this.done.delete(this.done.values().next().value as string)
        await this.say([id])
      },
      reply: (body, more = {}) => {
        const { type = 'reply', ...rest } = more
        if (data.from.person_id) return this.send(type, body, { to: `person:${data.from.person_id}`, priority: data.priority, ...rest, reply_to: id })
        const client = String(data.from.client).split('/')[1]
        if (client === undefined) return Promise.reject(new HybridGWError('bad_request', 'Who sent this has no connection that an answer could go to.'))
        return this.send(type, body, { to: `client:${client}@${data.from.device}`, priority: data.priority, ...rest, reply_to: id })
      },
    }
    this.shown.set(id, message)
    const waiting = this.waiting.get(message.reply_to ?? '')
    if (waiting !== undefined) waiting(message)
    else void this.handle(message)
  }

  private async say(ids: string[]): Promise<void> {
    for (const id of ids) this.unsaid.add(id)
    await this.call('messages.ack', { ids })
    for (const id of ids) this.unsaid.delete(id)
  }

  private async handle(message: Received): Promise<void> {
    const found = this.handlers.find((entry) => fits(entry, message))
    if (found === undefined || this.handed.has(message.id)) return
    this.handed.add(message.id)
    try {
      await found.handler(message)
      if (this.shown.has(message.id)) await message.ack()
    } catch (error) {
      if (!(error instanceof HybridGWError)) console.error(error)
    }
  }
}

function fits({ type: pattern, person }: Entry, { type, from }: Received): boolean {
  if (person !== undefined && person !== from.person && person !== from.person_id) return false
  return pattern.endsWith('*') ? type.startsWith(pattern.slice(0, -1)) : type === pattern
}

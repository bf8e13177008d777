/**
 * The native messaging host as a transport of the JavaScript client: a `fetch` for the calls by which one is let in, and
 * a socket for everything else. Messages: docs/reference/native-host.md.
 */

import type { Fetch } from '../../js/src/http.js'
import type { Socket } from '../../js/src/link.js'
import { api, t } from './api.js'

const HOST = 'hybridgw.host'
const HELLO_MS = 10_000
const AGAIN_MS = 60_000 // a browser without the host is not asked for it more often, unless the person asks

/** here: it answers; missing: the browser cannot start it. */
export type HostState = 'unknown' | 'here' | 'missing'

interface FromHost {
  type: string
  [field: string]: any
}

/** The one port of this browser profile. */
export class NativeHost {
  state: HostState = 'unknown'
  /** Why it is missing, or what it says about the daemon. */
  problem: string | null = null
  /** Where the daemon answers, once it was there. */
  url: string | null = null
  private port: chrome.runtime.Port | null = null
  private greeting: Promise<boolean> | null = null
  private triedMs = -Infinity
  private socket: NativeSocket | null = null
  private parts: string[] = []
  private nextCall = 1
  private readonly calls = new Map<number, { done(answer: Response): void; failed(error: Error): void }>()

  /** ready: there is a daemon now; changed: look at the state again. */
  constructor(private readonly told: { ready(url: string): void; changed(): void }) {}

  /** Is the host there. Starts it if need be; false: use another way. */
  reach(isAsked = false): Promise<boolean> {
    if (this.greeting !== null) return this.greeting
    if (!isAsked && this.state === 'missing' && Date.now() - this.triedMs < AGAIN_MS) return Promise.resolve(false)
    this.triedMs = Date.now()
    return (this.greeting = new Promise((resolve) => this.start(resolve)))
  }

  private start(resolve: (isHere: boolean) => void): void {
    let port: chrome.runtime.Port
    const missing = (why: string): void => {
      this.port = null
      this.greeting = null
      this.state = 'missing'
      this.problem = why
      resolve(false)
      this.told.changed()
    }
    try {
      port = api.runtime.connectNative(HOST)
    } catch (error) {
      return missing(String(error)) // a browser without native messaging
    }
    this.port = port
    const timer = setTimeout(() => {
      port.disconnect() // which is not told to who does it
      missing(t('hostSilent'))
    }, HELLO_MS)
    let said: string | null = null
    port.onMessage.addListener((message: FromHost) => {
      if (message.type === 'host_error') said = String(message['message'])
      else if (message.type === 'host_hello') {
        clearTimeout(timer)
        this.state = 'here'
        this.url = message['url'] as string | null
        this.problem = this.url === null ? String(message['message']) : null
        resolve(true)
        if (this.url !== null) this.told.ready(this.url)
        this.told.changed()
      } else this.receive(message)
    })
    port.onDisconnect.addListener((gone) => {
      clearTimeout(timer)
      const why = said ?? (gone as { error?: Error }).error?.message ?? api.runtime.lastError?.message ?? t('hostEnded')
      const wasHere = this.state === 'here' && this.port === port
      this.over()
      if (wasHere) {
        this.state = 'unknown'
        this.port = this.greeting = null
        this.told.changed()
      } else missing(why)
    })
    port.postMessage({ type: 'host_hello', origin: new URL(api.runtime.getURL('/')).origin })
  }

  private receive(message: FromHost): void {
    switch (message.type) {
      case 'host_ready':
        this.url = message['url'] as string
        this.problem = null
        this.told.ready(this.url)
        this.told.changed()
        return
      case 'host_opened':
        this.url = message['url'] as string
        this.problem = null
        this.told.changed()
        return this.socket?.opened()
      case 'host_closed': {
        const { socket } = this
        this.socket = null
        this.parts = []
        if (message['problem'] !== undefined) this.problem = String(message['reason'])
        return socket?.ended(Number(message['code']), String(message['reason']))
      }
      case 'host_part':
        this.parts.push(String(message['text']))
        if (message['is_last'] !== true) return
        this.socket?.onmessage?.({ data: this.parts.join('') })
        this.parts = []
        return
      case 'host_answer':
      case 'host_failed': {
        const waiting = this.calls.get(Number(message['call']))
        this.calls.delete(Number(message['call']))
        if (message.type === 'host_failed') return waiting?.failed(new TypeError(String(message['message'])))
        const headers = new Headers(message['headers'] as Record<string, string>)
        // An answer that a page could not read counts as none, as it does over HTTP: the client knows what that means.
        if (!headers.has('Access-Control-Allow-Origin')) return waiting?.failed(new TypeError('the answer may not be read'))
        return waiting?.done(new Response(message['body'] as string, { status: Number(message['status']), headers }))
      }
    }
    if (!message.type.startsWith('host_')) this.socket?.onmessage?.({ data: JSON.stringify(message) })
  }

  private over(): void {
    const { socket } = this
    this.socket = null
    this.parts = []
    for (const waiting of this.calls.values()) waiting.failed(new TypeError('the host ended'))
    this.calls.clear()
    socket?.ended(1006, 'the host ended')
  }

  say(message: object): void {
    this.port?.postMessage(message)
  }

  /** As globalThis.fetch, for the calls of the daemon that the host passes on. */
  readonly fetch: Fetch = async (target, init) => {
    const { origin, pathname, search } = new URL(String(target))
    const call = this.nextCall++
    const { signal } = init ?? {}
    return await new Promise<Response>((done, failed) => {
      this.calls.set(call, { done, failed })
      signal?.addEventListener('abort', () => this.calls.delete(call) && failed(new DOMException('aborted', 'AbortError')))
      this.say({ type: 'host_call', call, url: origin, method: init?.method ?? 'GET', path: pathname + search, headers: init?.headers ?? {}, body: init?.body ?? null })
    })
  }

  /** A connection to the daemon; it ends the one before. */
  open(url: string): Socket {
    const before = this.socket
    this.parts = []
    this.socket = new NativeSocket(this)
    before?.ended(1006, 'another one was opened')
    this.say({ type: 'host_open', url: new URL(url).origin.replace(/^ws/, 'http'), client_id: url.slice(url.lastIndexOf('/') + 1) })
    return this.socket
  }

  closed(socket: NativeSocket): void {
    if (this.socket !== socket) return
    this.socket = null
    this.say({ type: 'host_close' })
  }
}

/** Looks like a WebSocket, as far as the client uses it. */
class NativeSocket implements Socket {
  onopen: ((event: object) => void) | null = null
  onmessage: ((event: { data: string }) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror: ((event: object) => void) | null = null
  private isOver = false

  constructor(private readonly host: NativeHost) {}

  opened(): void {
    this.onopen?.({})
  }

  send(data: string): void {
    this.host.say(JSON.parse(data) as object)
  }

  close(): void {
    this.host.closed(this)
    this.ended(1000, '')
  }

  ended(code: number, reason: string): void {
    if (this.isOver) return
    this.isOver = true
    this.onclose?.({ code, reason })
  }
}

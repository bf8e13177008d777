/** Which way to the daemon: the native messaging host first, a WebSocket where the browser cannot start it. */

import type { Fetch } from '../../js/src/http.js'
import type { OpenSocket, Socket } from '../../js/src/link.js'
import { NativeHost } from './native.js'

export type Way = 'native' | 'websocket'

export class Transport {
  readonly host: NativeHost
  /** The way that was taken last. */
  way: Way | null = null

  constructor(told: { ready(url: string): void; changed(): void }) {
    this.host = new NativeHost(told)
  }

  readonly fetch: Fetch = async (target, init) => {
    if (await this.host.reach()) return await this.host.fetch(target, init)
    return await globalThis.fetch(target, init)
  }

  readonly openSocket: OpenSocket = (url, protocol) => new Chosen(this, url, protocol)
}

/** A socket that is chosen when the host has answered, or has not. */
class Chosen implements Socket {
  onopen: ((event: any) => void) | null = null
  onmessage: ((event: any) => void) | null = null
  onclose: ((event: any) => void) | null = null
  onerror: ((event: any) => void) | null = null
  private inner: Socket | null = null
  private isClosed = false

  constructor(transport: Transport, url: string, protocol: string) {
    void transport.host.reach().then((isHere) => {
      if (this.isClosed) return this.onclose?.({ code: 1000, reason: '' })
      transport.way = isHere ? 'native' : 'websocket'
      const inner: Socket = (this.inner = isHere ? transport.host.open(url) : new WebSocket(url, protocol))
      inner.onopen = (event) => this.onopen?.(event)
      inner.onmessage = (event) => this.onmessage?.(event)
      inner.onclose = (event) => this.onclose?.(event)
      inner.onerror = (event) => this.onerror?.(event)
    })
  }

  send(data: string): void {
    this.inner?.send(data)
  }

  close(code?: number, reason?: string): void {
    this.isClosed = true
    this.inner?.close(code, reason)
  }
}

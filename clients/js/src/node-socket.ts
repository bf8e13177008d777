/** A WebSocket client for Node, which has none of its own before version 22. RFC 6455, without extensions. */

import { createHash, randomBytes } from 'node:crypto'
import { request, type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Socket } from './link.js'

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const MAX_BYTES = 64 * 1024 * 1024 // of one message of the daemon
const CLOSE_MS = 2_000 // for the other side to answer a close

/** Looks like the browser's, as far as this client uses it. */
export class NodeSocket implements Socket {
  onopen: ((event: object) => void) | null = null
  onmessage: ((event: { data: string }) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror: ((event: object) => void) | null = null
  private stream: Duplex | null = null
  private readonly abort: () => void
  private buffer: Buffer = Buffer.alloc(0)
  private parts: Buffer[] = []
  private size = 0
  private isClosing = false
  private isOver = false

  constructor(url: string, protocol: string) {
    const key = randomBytes(16).toString('base64')
    const asked = request(url.replace(/^ws/, 'http'), {
      headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key, 'Sec-WebSocket-Protocol': protocol },
    })
    this.abort = () => asked.destroy()
    asked.on('error', () => this.over(1006, ''))
    asked.on('response', (answer) => {
      answer.resume()
      this.over(1006, `HTTP ${answer.statusCode ?? ''}`)
    })
    asked.on('upgrade', (answer: IncomingMessage, stream: Duplex, head: Buffer) => {
      const proof = createHash('sha1').update(key + GUID).digest('base64')
      if (answer.headers['sec-websocket-accept'] !== proof) {
        stream.destroy()
        return this.over(1006, 'not a WebSocket')
      }
      this.stream = stream
      stream.on('data', (data: Buffer) => this.feed(data))
      stream.on('error', () => this.over(1006, ''))
      stream.on('close', () => this.over(1006, ''))
      this.onopen?.({})
      if (head.length > 0) this.feed(head)
    })
    asked.end()
  }

  send(data: string): void {
    if (this.stream === null || this.isClosing) throw new Error('not open')
    this.write(0x1, Buffer.from(data))
  }

  close(code = 1000, reason = ''): void {
    if (this.stream === null) {
      this.abort()
      return this.over(1006, '')
    }
    if (this.isClosing) return
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason))
    payload.writeUInt16BE(code)
    payload.write(reason, 2)
    this.write(0x8, payload)
    this.isClosing = true
    setTimeout(() => this.over(1006, ''), CLOSE_MS).unref()
  }

  private write(opcode: number, payload: Buffer): void {
    const { length } = payload
    const head = Buffer.alloc(length < 126 ? 6 : length < 65_536 ? 8 : 14)
    head[0] = 0x80 | opcode
    if (length < 126) head[1] = 0x80 | length
    else if (length < 65_536) {
      head[1] = 0x80 | 126
      head.writeUInt16BE(length, 2)
    } else {
      head[1] = 0x80 | 127
      head.writeBigUInt64BE(BigInt(length), 2)
    }
    const mask = randomBytes(4)
    mask.copy(head, head.length - 4)
    const masked = Buffer.allocUnsafe(length)
    for (let at = 0; at < length; at++) masked[at] = payload[at]! ^ mask[at & 3]!
    this.stream?.write(Buffer.concat([head, masked]))
  }

  private feed(data: Buffer): void {
    this.buffer = this.buffer.length === 0 ? data : Buffer.concat([this.buffer, data])
    while (!this.isOver && this.buffer.length >= 2) {
      const first = this.buffer[0]!
      let length = this.buffer[1]! & 0x7f
      let start = 2
      if (length === 126) {
        if (this.buffer.length < 4) return
        length = this.buffer.readUInt16BE(2)
        start = 4
      } else if (length === 127) {
        if (this.buffer.length < 10) return
        length = Number(this.buffer.readBigUInt64BE(2))
        start = 10
      }
      if (length + this.size > MAX_BYTES) return this.over(1009, 'too big')
      if (this.buffer.length < start + length) return
      const payload = this.buffer.subarray(start, start + length)
      this.buffer = this.buffer.subarray(start + length)
      this.frame(first, payload)
    }
  }

  private frame(first: number, payload: Buffer): void {
    switch (first & 0x0f) {
      case 0x8: {
        const code = payload.length >= 2 ? payload.readUInt16BE() : 1005
        if (!this.isClosing) this.write(0x8, payload.subarray(0, 2))
        return this.over(code, payload.subarray(2).toString())
      }
      case 0x9:
        if (!this.isClosing) this.write(0xa, payload)
        return
      case 0xa:
        return
    }
    this.parts.push(payload)
    this.size += payload.length
    if ((first & 0x80) === 0) return
    const text = (this.parts.length === 1 ? payload : Buffer.concat(this.parts)).toString()
    this.parts = []
    this.size = 0
    this.onmessage?.({ data: text })
  }

  private over(code: number, reason: string): void {
    if (this.isOver) return
    this.isOver = true
    const stream = this.stream
    stream?.end() // after what was written
    setTimeout(() => stream?.destroy(), CLOSE_MS).unref()
    this.onclose?.({ code, reason })
  }
}

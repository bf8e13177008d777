/** A real daemon as a process, in a folder of its own. HYBRIDGW_PYTHON: the Python of the project's .venv. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const PYTHON = process.env.HYBRIDGW_PYTHON ?? new URL('../../../.venv/bin/python', import.meta.url).pathname
export const FAST = { openMs: 5_000, commandMs: 5_000, heartbeatMs: 500, deadlineMs: 700, probeMs: 400 }

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

export class Daemon {
  /** more: settings, by their names in the environment. */
  static async start(more = {}) {
    const daemon = new Daemon()
    daemon.more = more
    daemon.home = await mkdtemp(join(tmpdir(), 'hybridgw-js-'))
    daemon.port = await freePort()
    await daemon.up()
    return daemon
  }

  get url() {
    return `http://127.0.0.1:${this.port}`
  }

  /** Start it, always on the same port. */
  async up() {
    const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(HYBRIDGW_|DBUS_|NODE_)/.test(name)))
    this.process = spawn(PYTHON, ['-m', 'hybridgw_daemon', '--home', this.home, '--port', String(this.port), '--secret-store', 'insecure-file'], {
      env: { ...environment, ...this.more },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    this.process.stderr.on('data', (text) => (said = (said + text).slice(-4_000)))
    this.ended = once(this.process, 'exit')
    for (let turn = 0; turn < 1_200; turn++) {
      if (this.process.exitCode !== null) throw new Error(`the daemon ended: ${said}`)
      const endpoint = await this.endpoint().catch(() => null)
      if (endpoint?.pid === this.process.pid && (await fetch(`${this.url}/health`).catch(() => null))?.ok) {
        this.token = endpoint.token
        return
      }
      await sleep(25)
    }
    throw new Error(`the daemon does not answer: ${said}`)
  }

  async endpoint() {
    return JSON.parse(await readFile(join(this.home, 'endpoint.json'), 'utf8'))
  }

  /** End it: as the system does (SIGTERM), or as nobody should (SIGKILL). */
  async down(signal = 'SIGTERM') {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill(signal)
    await this.ended
  }

  freeze() {
    this.process.kill('SIGSTOP')
  }

  thaw() {
    this.process.kill('SIGCONT')
  }

  /** The owner over HTTP. */
  async call(method, path, body) {
    const headers = { Authorization: `Bearer ${this.token}`, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) }
    const answer = await fetch(this.url + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })
    return { status: answer.status, body: await answer.json() }
  }

  async end() {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.thaw()
      await this.down('SIGKILL')
    }
    await rm(this.home, { recursive: true, force: true })
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Waits until *look* gives something. */
export async function until(look, ms = 30_000) {
  const end = Date.now() + ms
  for (;;) {
    const found = await look()
    if (found) return found
    if (Date.now() > end) throw new Error(`in ${ms} ms not: ${look}`)
    await sleep(10)
  }
}

/** A TCP way to the daemon that can be slow, silent, cut or shut. */
export async function wayTo(port) {
  const { connect } = await import('node:net')
  const way = { delayMs: 0, isSilent: false, isShut: false, sockets: new Set() }
  const server = createServer((near) => {
    if (way.isShut) return void near.on('error', () => undefined).destroy()
    const far = connect(port, '127.0.0.1')
    way.sockets.add(near)
    let isHead = true // the daemon answers to its own address only
    const readdressed = (data) => Buffer.from(data.toString('latin1').replace(`Host: 127.0.0.1:${way.port}`, `Host: 127.0.0.1:${port}`), 'latin1')
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('data', (data) => {
        if (way.isSilent) return
        if (from === near && isHead) {
          isHead = false
          data = readdressed(data)
        }
        setTimeout(() => !way.isSilent && to.writable && to.write(data), way.delayMs)
      })
      from.on('error', () => to.destroy())
      from.on('close', () => {
        way.sockets.delete(near)
        to.destroy()
      })
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  way.port = server.address().port
  way.cut = () => way.sockets.forEach((socket) => socket.destroy())
  way.close = () => {
    server.close()
    way.cut()
  }
  return way
}

/** Messages against a real daemon: shown until acknowledged, answered, each once. */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { connect } from '../dist/node.js'
import { Daemon, FAST, sleep, until, wayTo } from './_daemon.mjs'

let daemon
const clients = new Set()

before(async () => {
  daemon = await Daemon.start()
})
after(async () => {
  for (const client of clients) client.close()
  await daemon?.end()
})

function client(clientId, more = {}) {
  const made = connect({ app: clientId, clientId, url: daemon.url, token: () => daemon.token, patience: FAST, ...more })
  clients.add(made)
  return made.ready()
}

test('a message is handled once and its sender hears of it', async () => {
  const [a, b] = [await client('a1'), await client('b1')]
  const states = []
  const mine = a.messages({ onState: (state) => states.push(state) })
  mine.on('nothing', () => undefined)
  const seen = []
  b.messages({ app: 'notes' }).on('note.*', (message) => void seen.push(message))
  await sleep(100)
  const sent = await mine.send('note.one', { n: 1 }, { to: 'app:notes@here', priority: 'high' })
  await until(() => states.some((state) => state.id === sent.id && state.state === 'handled'))
  assert.deepEqual(seen.map((message) => [message.id, message.body, message.priority]), [[sent.id, { n: 1 }, 'high']])
})

test('what a handler fails at comes again to the next start, and only that', async () => {
  const a = await client('a2')
  const first = await client('b2')
  const seen = []
  first.messages().on('note', (message) => {
    seen.push(message.body)
    if (message.body === 1) throw new Error('planted')
  })
  const messages = a.messages()
  for (const body of [0, 1, 2]) await messages.send('note', body, { to: 'client:b2@here' })
  await until(() => seen.length === 3)
  await until(async () => (await a.call('messages.list', { type: 'note', state: 'handled' })).items.length === 2)
  first.close()
  const again = []
  const second = await client('b2')
  second.messages().on('note', (message) => void again.push(message.body))
  await until(() => again.length === 1)
  assert.deepEqual(again, [1])
})

test('a request gets its answer, or an end', async () => {
  const [a, b] = [await client('a3'), await client('b3')]
  b.messages().on('double', (message) => message.reply(message.body * 2))
  const messages = a.messages()
  assert.equal(await messages.request('double', 21, { to: 'client:b3@here', timeout_s: 30 }), 42)
  await assert.rejects(messages.request('other', 1, { to: 'client:b3@here', timeout_s: 0.3 }), { code: 'request_timeout' })
})

test('what was dealt with while the connection was lost is acknowledged once it is back', async (t) => {
  const way = await wayTo(daemon.port)
  t.after(way.close)
  const [a, b] = [await client('a5'), await client('b5', { url: `http://127.0.0.1:${way.port}`, random: () => 0 })]
  const states = []
  const mine = a.messages({ onState: (state) => states.push(state) })
  mine.on('nothing', () => undefined)
  const seen = []
  b.messages().on('note', async (message) => {
    seen.push(message.body)
    way.isShut = true
    way.cut()
    await until(() => b.getSnapshot().status === 'offline')
  })
  const sent = await mine.send('note', 'once', { to: 'client:b5@here' })
  await until(() => way.isShut && b.getSnapshot().status === 'offline')
  await sleep(100) // the handler has returned
  way.isShut = false
  await until(() => states.some((state) => state.id === sent.id && state.state === 'handled'))
  assert.deepEqual(seen, ['once'])
})

test('what is refused says why', async () => {
  const a = await client('a4')
  await assert.rejects(a.messages().send('note', 1, { to: 'nowhere' }), { code: 'bad_value' })
  await assert.rejects(a.messages().send('note', 'x'.repeat(65_535), { to: 'all@here' }), { code: 'too_big' })
})

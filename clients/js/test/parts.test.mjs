/** Parts of the client that need no daemon. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Access } from '../dist/access.js'
import { CAP_MS, FIRST_MS, fullJitter } from '../dist/backoff.js'
import { errorOf, HybridGWError } from '../dist/errors.js'
import { decodeFrame, encodeFrame, MAX_FRAME_BYTES } from '../dist/frames.js'
import { newId } from '../dist/ids.js'
import { memoryOutbox, memoryTokens } from '../dist/keeping.js'
import { browserKey } from '../dist/key.js'
import { Messages } from '../dist/messages.js'
import { connect, fileTokens, ownerOf } from '../dist/node.js'
import { Outbox } from '../dist/outbox.js'
import { matches, patched, same, sorter } from '../dist/query.js'
import { Store } from '../dist/store.js'
import { View } from '../dist/view.js'
import { watchWake } from '../dist/wake.js'
import { sleep, until } from './_daemon.mjs'

const golden = JSON.parse(readFileSync(new URL('../../../protocol/vectors/local_frames.json', import.meta.url)))

test('golden frames of a program are what this client writes', () => {
  const known = new Set(['auth', 'command', 'heartbeat', 'heartbeat_ack'])
  for (const { frame } of golden.client) {
    assert.ok(known.has(frame.type), frame.type)
    assert.deepEqual(JSON.parse(encodeFrame(frame)), frame)
  }
})

test('golden frames of the daemon are understood', () => {
  const seen = new Set()
  for (const { json, frame } of golden.server) {
    assert.deepEqual(decodeFrame(json), frame)
    seen.add(frame.type)
  }
  assert.deepEqual([...seen].sort(), ['auth_error', 'auth_ok', 'error', 'event', 'heartbeat', 'heartbeat_ack', 'result'])
})

test('what is no frame is an error, an unknown type is not', () => {
  for (const { text } of golden.malformed) assert.throws(() => decodeFrame(text), { code: 'bad_frame' }, text)
  assert.equal(decodeFrame('{"type":"of a later version"}'), null)
})

test('a frame is as big as the daemon takes it, and no bigger', () => {
  const frame = (text) => ({ type: 'command', id: 1, command: 'x', params: { text } })
  const room = MAX_FRAME_BYTES - encodeFrame(frame('')).length
  for (const letter of ['a', 'ü', '\u{1F600}']) {
    const bytes = Buffer.byteLength(letter)
    assert.ok(encodeFrame(frame(letter.repeat(Math.floor(room / bytes)))))
    assert.throws(() => encodeFrame(frame(letter.repeat(Math.floor(room / bytes) + 1))), { code: 'too_big', retryable: false }, letter)
  }
})

test('waits grow to a cap, over their whole width', () => {
  assert.equal(fullJitter(0, () => 0), 0)
  assert.equal(fullJitter(0, () => 0.999), Math.floor(FIRST_MS * 0.999))
  assert.equal(fullJitter(3, () => 0.5), FIRST_MS * 4)
  assert.equal(fullJitter(1_000, () => 0.5), CAP_MS / 2)
  assert.ok(Number.isFinite(fullJitter(Number.MAX_SAFE_INTEGER)))
})

test('ids are UUIDs of version 7 and sort by time', () => {
  const zeros = new Uint8Array(16)
  assert.equal(newId(0x0123456789ab, zeros), '01234567-89ab-7000-8000-000000000000')
  assert.equal(newId(0, new Uint8Array(16).fill(255)), '00000000-0000-7fff-bfff-ffffffffffff')
  assert.ok(newId(1_000) < newId(2_000))
})

test('an error says what to do, whatever came', () => {
  const known = errorOf({ code: 'precondition_failed', detail: 'Another version.', retryable: false, version: 7 }, 412)
  assert.deepEqual([known.code, known.message, known.detail.version], ['precondition_failed', 'Another version.', 7])
  assert.match(known.next, /read it/)
  for (const odd of [null, 'text', [], {}, { code: 7 }, { code: 'new_one', message: 'M', retryable: true }]) {
    const error = errorOf(odd, 500)
    assert.ok(error instanceof HybridGWError && error.code && error.message && error.next)
  }
})

test('patches are those of RFC 7396, and sets have words', () => {
  // Appendix A of the RFC, as far as documents are objects.
  for (const [data, patch, wanted] of [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    [{ tags: ['a', 'b'] }, { tags: { $add: ['c', 'a'], $remove: ['b'] } }, { tags: ['a', 'c'] }],
    [{}, { tags: { $add: ['c'] } }, { tags: ['c'] }],
  ]) {
    const before = structuredClone(data)
    assert.deepEqual(patched(data, patch), wanted)
    assert.deepEqual(data, before, 'nothing is changed in place')
    assert.deepEqual(patched(patched(data, patch), patch), patched(data, patch), 'twice is as once')
  }
  assert.equal(Object.getPrototypeOf(patched({}, JSON.parse('{"__proto__": {"x": 1}}'))).x, undefined)
})

test('sameness does not depend on the order of names', () => {
  assert.ok(same({ a: 1, b: [{ c: null }] }, { b: [{ c: null }], a: 1 }))
  for (const [one, other] of [[{ a: 1 }, { a: 1, b: 2 }], [[1], { 0: 1 }], [null, {}], [{ a: undefined }, { b: undefined }]]) assert.ok(!same(one, other))
})

test('a filter of an unknown operator keeps the document', () => {
  assert.ok(matches({ a: 1 }, { a: { $later: 2 } }))
  assert.ok(!matches({ a: 1 }, { a: 2 }))
})

test('text sorts by code points', () => {
  const docs = ['\u{1F600}', '\uFFFD', 'b', 'a'].map((name, at) => ({ id: String(at), version: at, data: { name } }))
  assert.deepEqual(docs.sort(sorter('name')).map((doc) => doc.data.name), ['a', 'b', '\uFFFD', '\u{1F600}'])
  assert.deepEqual(docs.sort(sorter('-$version')).map((doc) => doc.version), [3, 2, 1, 0])
})

test('a store keeps its snapshot, tells once per turn, and survives a listener that throws', async () => {
  let value = 0
  const watched = []
  const store = new Store(() => ({ value }), (is) => watched.push(is))
  assert.equal(store.getSnapshot(), store.getSnapshot())
  const seen = []
  const end = store.subscribe((snapshot) => seen.push(snapshot.value))
  const other = store.subscribe(() => undefined)
  for (value = 1; value < 4; value++) store.touch()
  value = 3
  await Promise.resolve()
  assert.deepEqual(seen, [0, 3])
  end()
  end()
  other()
  store.touch()
  await Promise.resolve()
  assert.deepEqual(seen, [0, 3])
  assert.deepEqual(watched, [true, false])
})

test('of many changes in a row a store tells the first at once, and the last', async () => {
  let value = 0
  const store = new Store(() => ({ value }))
  const seen = []
  store.subscribe((snapshot) => seen.push(snapshot.value))
  for (value = 1; value < 1_000; value++) {
    store.touch(true)
    await Promise.resolve()
    if (value === 1) assert.deepEqual(seen, [0, 1])
  }
  value = 999
  assert.equal(store.getSnapshot().value, 999, 'who asks need not wait')
  while (seen.at(-1) !== 999) await new Promise((done) => setTimeout(done, 5))
  assert.ok(seen.length < 500, `${seen.length} times`)
  const before = seen.length
  value = 1_000
  store.touch(true)
  store.touch()
  await Promise.resolve()
  assert.deepEqual([seen.length, seen.at(-1)], [before + 1, 1_000], 'what the person does is told at once')
})

test('a list keeps what it is told while what there was still arrives', () => {
  const list = new View({ follow: () => () => undefined, changesOf: () => [] }, 'notes', { filter: { isOpen: true } })
  const one = (id, version, isOpen = true) => ({ id, collection: 'notes', version, conflicts: 0, data: { isOpen } })
  const initial = (...items) => list.event({ event: 'initial', data: { items } })
  list.subscribe(() => undefined)
  for (const n of [10, 20]) { // and again after the connection was lost
    list.renewed()
    initial(one('a', n + 1), one('b', n + 2))
    list.stored(one('c', n + 7)) // answers to writes
    list.stored(one('b', n + 8))
    list.stored(one('d', n + 9, false))
    initial(one('b', n + 2), one('c', n + 3), one('d', n + 4), one('e', n + 5))
    list.event({ event: 'ready', data: {} })
    const shown = list.getSnapshot().docs.map(({ id, version }) => `${id}${version - n}`)
    assert.equal(shown.join(), 'a1,b8,c7,e5')
  }
})

test('a timer that comes far too late has slept', async () => {
  let now = 0
  const told = []
  const end = watchWake({ slept: () => told.push('slept'), doubt: () => told.push('doubt') }, () => now)
  now = 60_000
  await new Promise((resolve) => setTimeout(resolve, 2_100))
  end()
  assert.deepEqual(told, ['slept'])
})

test('only this computer is ever connected to', () => {
  for (const url of ['http://192.168.1.4:8000', 'https://127.0.0.1:8000', 'http://127.0.0.1.example.com', 'http://localhost.example.com', 'ftp://localhost']) {
    assert.throws(() => connect({ app: 'T', url }), { code: 'bad_value' }, url)
  }
  assert.throws(() => connect({ app: '  ' }), { code: 'bad_value' })
})

test('a file for tokens is only for its owner, and an endpoint file is checked', async (t) => {
  const { mkdtemp, readdir, rm, stat, writeFile } = await import('node:fs/promises')
  const folder = await mkdtemp('/tmp/hybridgw-js-')
  t.after(() => rm(folder, { recursive: true }))
  const keeper = fileTokens(`${folder}/tokens`)
  assert.equal(await keeper.load(), null)
  await keeper.save({ url: 'u' })
  assert.deepEqual(await keeper.load(), { url: 'u' })
  assert.equal((await stat(`${folder}/tokens`)).mode & 0o777, 0o600)
  await keeper.clear()
  assert.equal(await keeper.load(), null)
  const saved = Array.from({ length: 50 }, (_, n) => ({ url: String(n).repeat(20_000) }))
  await Promise.all(saved.map((kept) => fileTokens(`${folder}/many`).save(kept))) // as several clients of one file do
  const { url } = await fileTokens(`${folder}/many`).load()
  assert.ok(saved.some((kept) => kept.url === url))
  assert.deepEqual(await readdir(folder), ['many'], 'nothing else is left')
  await assert.rejects(ownerOf(`${folder}/none`), { code: 'not_running' })
  await writeFile(`${folder}/endpoint`, '{"url": 7}')
  await assert.rejects(ownerOf(`${folder}/endpoint`), { code: 'not_running' })
})

test('messages of a person go to the handler that names the person, and are answered to the person', async () => {
  const calls = []
  let event
  const messages = new Messages(
    async (command, params) => void calls.push([command, params]),
    (subscriber) => {
      event = (data) => subscriber.event({ type: 'event', event: 'message', data })
      return () => undefined
    },
    { topics: ['people'] },
  )
  const seen = []
  messages.on('note', (message) => void seen.push(['bob', message.body]), { person: 'bob' })
  messages.on('note', (message) => void seen.push(['id', message.body]), { person: 'ee'.repeat(16) })
  messages.on('note', (message) => message.reply('who?'))
  const from = (person, person_id) => ({ device: 'd', client: person === null ? 'web_app/me' : '', person, person_id })
  event({ id: '1', type: 'note', body: 1, from: from('bob', 'bb'.repeat(16)), priority: 'normal', reply_to: null })
  event({ id: '2', type: 'note', body: 2, from: from('eve', 'ee'.repeat(16)), priority: 'normal', reply_to: null })
  event({ id: '3', type: 'note', body: 3, from: from('ida', 'dd'.repeat(16)), priority: 'high', reply_to: null })
  event({ id: '4', type: 'note', body: 4, from: from(null, null), priority: 'normal', reply_to: null })
  await new Promise((resolve) => setTimeout(resolve, 10))
  assert.deepEqual(seen, [['bob', 1], ['id', 2]])
  const sent = calls.filter(([command]) => command === 'messages.send').map(([, params]) => [params.to, params.reply_to, params.priority])
  assert.deepEqual(sent, [[`person:${'dd'.repeat(16)}`, '3', 'high'], ['client:me@d', '4', 'normal']])
})

test('a message that is in the hands of a handler is given to no other, nor once more', async () => {
  const calls = []
  let event
  const messages = new Messages(
    async (command, params) => void calls.push([command, params]),
    (subscriber) => {
      event = (data) => subscriber.event({ type: 'event', event: 'message', data })
      return () => undefined
    },
  )
  const seen = []
  let done
  messages.on('order', async (message) => {
    seen.push(['first', message.body])
    if (message.body === 2) throw new HybridGWError('planted', 'It fails.')
    await new Promise((resolve) => (done = resolve))
  })
  const from = { device: 'd', client: 'web_app/me', person: null, person_id: null }
  for (const body of [1, 2]) event({ id: String(body), type: 'order', body, from, priority: 'normal', reply_to: null })
  await Promise.resolve()
  messages.on('*', (message) => void seen.push(['other', message.body])) // as a page that comes to its next part
  event({ id: '3', type: 'news', body: 3, from, priority: 'normal', reply_to: null })
  done()
  await new Promise((resolve) => setTimeout(resolve, 10))
  assert.deepEqual(seen, [['first', 1], ['first', 2], ['other', 3]])
  assert.deepEqual(calls.map(([command, params]) => [command, params.ids[0]]).sort(), [['messages.ack', '1'], ['messages.ack', '3']])
})

test('an answer that has come counts, though the connection is lost before it is acknowledged', async () => {
  const calls = []
  let isLost = true
  let subscriber
  const messages = new Messages(
    async (command, params) => {
      calls.push([command, params.ids ?? params.id])
      if (command === 'messages.ack' && isLost) throw new HybridGWError('offline', 'Nobody is there.', { retryable: true })
    },
    (by) => {
      subscriber = by
      return () => undefined
    },
  )
  const asked = messages.request('ask', 1, { to: 'client:b@here' })
  await Promise.resolve()
  const from = { device: 'd', client: 'web_app/b', person: null, person_id: null }
  subscriber.event({ event: 'message', data: { id: 'answer', type: 'reply', body: 42, from, priority: 'normal', reply_to: calls[0][1] } })
  assert.equal(await asked, 42)
  isLost = false
  subscriber.resumed()
  await sleep(1)
  subscriber.resumed() // it is acknowledged
  assert.deepEqual(calls.slice(1), [['messages.ack', ['answer']], ['messages.ack', ['answer']]])
})

// ---- unsent changes ----------------------------------------------------------------------------------------------------
const change = (id) => ({ number: 0, key: newId(), op: 'create', collection: 'notes', id, atMs: 0, content: { id } })

/** The writes of a client; sent: what its daemon has got. */
function outboxOf(keeper, name = 'parts') {
  const made = { isOnline: false, sent: [], rejected: [] }
  made.outbox = new Outbox(keeper, {
    call: async (command, { collection, id }) => {
      if (command === 'data.get') throw new HybridGWError('not_found', 'There is none.')
      made.sent.push(id)
      return { id, collection, version: 1, conflicts: 0 }
    },
    isOnline: () => made.isOnline,
    touched: () => undefined,
    stored: () => undefined,
    rejected: (rejection) => made.rejected.push(rejection),
  }, name)
  return made
}

test('who keeps changes in memory is not told of those of other pages by their numbers', async (t) => {
  globalThis.document = {} // pages of one origin hear of each other
  t.after(() => delete globalThis.document)
  const [one, two] = [outboxOf(memoryOutbox()), outboxOf(memoryOutbox())]
  const heard = new Promise((resolve) => {
    const witness = new BroadcastChannel('parts')
    witness.onmessage = () => resolve(witness.close())
  })
  for (const { outbox } of [one, two]) assert.equal((await outbox.write(change('a'))).state, 'queued')
  one.isOnline = true
  one.outbox.drain()
  await heard
  await sleep(50)
  assert.deepEqual([one.outbox.size, two.outbox.size], [0, 1])
  assert.deepEqual(two.outbox.of('notes').map(({ id }) => id), ['a'], 'it is still shown')
  for (const { outbox } of [one, two]) outbox.close()
})

test('a place for changes that fails for a while breaks nothing and loses none', async () => {
  const inner = memoryOutbox()
  const failing = new Set()
  const failingOr = (name) => async (...args) => {
    if (failing.has(name)) throw new Error(`planted: ${name}`)
    return await inner[name](...args)
  }
  const made = outboxOf(Object.fromEntries(['load', 'add', 'mark', 'remove'].map((name) => [name, failingOr(name)])))
  const { outbox } = made
  for (const id of ['a', 'b']) await outbox.write(change(id))
  const turn = async (name, isOver) => {
    failing.clear()
    failing.add(name)
    made.isOnline = true
    outbox.drain()
    await until(isOver)
    await sleep(20) // nobody catches what a drain throws: it would end this process
  }
  await turn('load', () => true)
  assert.deepEqual(made.sent, [])
  await turn('mark', () => outbox.size === 0)
  assert.deepEqual([made.sent, made.rejected], [['a', 'b'], []])
  made.isOnline = false
  failing.clear()
  await outbox.write(change('c'))
  await turn('remove', () => made.sent.includes('c'))
  assert.deepEqual([made.rejected, outbox.size], [[], 1])
  await turn('nothing', () => outbox.size === 0)
  assert.deepEqual(made.rejected, [])
  outbox.close()
})

// ---- being let in ------------------------------------------------------------------------------------------------------
test('a tab whose question is answered too soon asks again after a while, not at once', async () => {
  let asked = 0
  const http = {
    url: 'http://127.0.0.1:1',
    call: async (method, path, { signal }) => {
      if (signal.aborted) throw new HybridGWError('closed', 'The client was closed.')
      if (method === 'POST') return { id: 'g', code: '123 456', secret: 's', expires_ms: Date.now() + 60_000, sentence: 'read tasks' }
      asked++ // as the daemon answers the fifth tab that waits for one request
      await sleep(1)
      return { state: 'pending' }
    },
  }
  const end = new AbortController()
  const over = new Access(http, memoryTokens(), { name: 'Tabs', scopes: [], mode: 'web_app' }).ask(() => undefined, end.signal)
  await until(() => asked > 0)
  await sleep(300)
  end.abort()
  await assert.rejects(over, { code: 'closed' })
  assert.ok(asked < 5, `${asked} times`)
})

test('a browser that has no such key says so to who asks for it, and to nobody else', async () => {
  const key = browserKey() // there is no IndexedDB here; a rejection that nobody awaits would end this process
  await sleep(20)
  await assert.rejects(key.public, { code: 'no_key' })
  await assert.rejects(key.sign(new Uint8Array(1)), { code: 'no_key' })
})

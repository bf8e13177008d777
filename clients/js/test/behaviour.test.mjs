/** The client against a real daemon: what an app relies on while all goes well, and when nothing does. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { MAX_FRAME_BYTES } from '../dist/frames.js'
import { Http } from '../dist/http.js'
import { connect, memoryOutbox, newId, NodeSocket } from '../dist/node.js'
import { matches, sorter } from '../dist/query.js'
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

function client(more = {}) {
  const made = connect({ app: 'behaviour', url: daemon.url, token: () => daemon.token, patience: FAST, ...more })
  clients.add(made)
  return made
}

const titles = (snapshot) => snapshot.docs.map((doc) => doc.data.title)
const online = (db) => until(() => db.getSnapshot().status === 'online')
const offline = (db) => until(() => db.getSnapshot().status === 'offline')

/** All snapshots that a live list went through. */
function watch(list) {
  const seen = []
  seen.end = list.subscribe((snapshot) => seen.push(snapshot))
  return seen
}

test('writes are shown at once and confirmed', async () => {
  const notes = (await client().ready()).collection('notes-a')
  const seen = watch(notes)
  await notes.ready()
  const written = notes.create({ title: 'One' }, 'one')
  assert.deepEqual(notes.getSnapshot().docs.map((doc) => [doc.id, doc.isPending]), [['one', true]])
  const { state, version } = await written
  assert.equal(state, 'stored')
  await notes.put('two', { title: 'Two' })
  await notes.patch('one', { title: 'Eins', extra: [1, { deep: null }] })
  await notes.delete('two')
  await until(() => seen.at(-1).docs.length === 1 && !seen.at(-1).docs[0].isPending)
  assert.equal(titles(seen.at(-1))[0], 'Eins')
  assert.ok(seen.at(-1).docs[0].version > version)
  assert.equal(notes.getSnapshot(), notes.getSnapshot(), 'the same object until something changes')
  assert.equal((await notes.get('one')).data.title, 'Eins')
  assert.equal(await notes.get('two'), null)
  assert.equal(await notes.get('never'), null)
})

test('what others write is told, in a filter and an order', async () => {
  const db = await client().ready()
  const list = db.collection('notes-b').live({ filter: { status: 'open' }, sort: '-rank' })
  assert.equal(list, db.collection('notes-b').live({ filter: { status: 'open' }, sort: '-rank' }), 'one list for one query')
  await list.ready()
  const seen = watch(list)
  for (const [id, rank] of [['a', 1], ['b', 3], ['c', 2]]) await daemon.call('PUT', `/api/data/notes-b/${id}`, { status: 'open', rank })
  await until(() => seen.at(-1).docs.map((doc) => doc.id).join('') === 'bca')
  await daemon.call('PATCH', '/api/data/notes-b/c', { status: 'done' })
  await until(() => seen.at(-1).docs.map((doc) => doc.id).join('') === 'ba')
  const done = db.collection('notes-b').patch('b', { status: 'done' })
  assert.equal(list.getSnapshot().docs.length, 1, 'our own change leaves the list at once')
  await done
  assert.equal(list.getSnapshot().docs.length, 1)
})

test('a filter means here what it means in the daemon', async () => {
  const db = await client().ready()
  const notes = db.collection('notes-c')
  const values = [null, true, false, 0, 1, 1.5, '', 'a', 'ab', 'B', '\u{1F600}', '\uFFFD', [], ['a', 1], { a: 1 }]
  for (const [at, value] of values.entries()) await notes.put(`v${String(at).padStart(2, '0')}`, value === null ? { n: 1 } : { value })
  const all = (await notes.list({ limit: 100 })).docs
  assert.equal(all.length, values.length)
  const scalars = [null, true, 0, 1.5, 'a', 'ab', '\uFFFD']
  const filters = [
    ...scalars.map((value) => ({ value })),
    ...scalars.flatMap((value) => ['$eq', '$ne', '$has'].map((operator) => ({ value: { [operator]: value } }))),
    ...[0, 1.5, 'a', '\uFFFD'].flatMap((value) => ['$lt', '$lte', '$gt', '$gte'].map((operator) => ({ value: { [operator]: value } }))),
    { value: { $in: ['a', 1, null] } }, { value: { $prefix: 'a' } }, { value: { $exists: true } }, { value: { $exists: false } }, { 'value.a': 1 },
  ]
  for (const filter of filters) {
    const wanted = (await notes.list({ filter, limit: 100 })).docs.map((doc) => doc.id)
    assert.deepEqual(all.filter((doc) => matches(doc.data, filter)).map((doc) => doc.id), wanted, JSON.stringify(filter))
  }
  for (const sort of ['value', '-value', '$version', '-$version', '$id', 'n,-value']) {
    const wanted = (await notes.list({ sort, limit: 100 })).docs.map((doc) => doc.id)
    assert.deepEqual([...all].sort(sorter(sort)).map((doc) => doc.id), wanted, sort)
  }
  const paged = []
  for await (const doc of notes.each({ sort: '-value' })) paged.push(doc.id)
  assert.equal(paged.length, values.length)
})

test('a refusal rejects with a code and what to do, and is undone', async () => {
  const db = await client().ready()
  const notes = db.collection('notes-d')
  await notes.put('x', { title: 'There' })
  await notes.ready()
  const seen = watch(notes)
  await assert.rejects(notes.create({ title: 'Again' }, 'x'), { code: 'already_exists', retryable: false })
  const { version } = await notes.get('x')
  await notes.patch('x', { title: 'Newer' }, { version })
  await assert.rejects(notes.patch('x', { title: 'Older' }, { version }), (error) => error.code === 'precondition_failed' && error.detail.version > version && /read it/.test(error.next))
  await assert.rejects(notes.put('y', { $bad: 1 }), { code: 'bad_value' })
  await assert.rejects(db.call('no.such.command'), { code: 'not_found' })
  await assert.rejects(notes.put('y', { n: NaN }), { code: 'bad_value' })
  await assert.rejects(notes.put('y', [1]), { code: 'bad_value' })
  await assert.rejects(db.collection('Not A Name').put('y', {}), { code: 'bad_value' })
  assert.deepEqual(titles(notes.getSnapshot()), ['Newer'])
  assert.ok(seen.some((snapshot) => titles(snapshot)[0] === 'Older'), 'it was shown')
  await assert.rejects(db.collection('notes-d').live({ filter: { a: { $bad: 1 } } }).ready(), { code: 'bad_value' })
})

test('what no frame can hold is refused at once, also out of the queue, and stops nothing behind it', async () => {
  const rejected = []
  const halves = ['half \ud83d', '\udc00', { ['\ud800']: 1 }]
  const whole = 'after it \u{1f33b} \\ud800'
  const outbox = memoryOutbox() // as an older version has left it
  await outbox.add({ key: newId(), op: 'create', collection: 'notes-h', id: newId(), atMs: 1, content: { title: halves[0] } })
  await outbox.add({ key: newId(), op: 'create', collection: 'notes-h', id: newId(), atMs: 2, content: { title: whole } })
  const db = client({ outbox, onRejected: ({ change, error }) => rejected.push([change.content.title, error.code]) })
  const notes = db.collection('notes-h')
  await assert.rejects(notes.create({ title: halves[0] }), { code: 'bad_value' }) // not there yet
  await db.ready()
  await db.flushed()
  assert.deepEqual(rejected, [[halves[0], 'bad_value']])
  for (const title of [...halves, 1n]) await assert.rejects(notes.create({ title }), { code: 'bad_value' })
  for (const body of [...halves, 1n]) await assert.rejects(db.messages().send('note', body, { to: 'all@here' }), { code: 'bad_value', retryable: false })
  assert.equal(db.getSnapshot().status, 'online')
  assert.deepEqual((await notes.list()).docs.map((doc) => doc.data.title), [whole])
})

test('what is too big for a frame is refused at once, also out of the queue, and ends no connection', async () => {
  assert.equal((await daemon.call('GET', '/api/config/deployments')).body.max_frame_bytes, MAX_FRAME_BYTES)
  const big = 'ü'.repeat(600_000)
  const outbox = memoryOutbox() // as an app has left it that was started without the daemon
  for (const title of [big, 'after it']) await outbox.add({ key: newId(), op: 'create', collection: 'notes-o', id: newId(), atMs: 1, content: { title } })
  const rejected = []
  const db = await client({ outbox, onRejected: ({ error }) => rejected.push(error.code) }).ready()
  const seen = watch(db)
  await db.flushed()
  assert.deepEqual(rejected, ['too_big'])
  await assert.rejects(db.collection('notes-o').create({ title: big }), { code: 'too_big', retryable: false })
  await assert.rejects(db.call('topic.publish', { topic: 't', data: big }), { code: 'too_big' })
  assert.deepEqual(titles(await db.collection('notes-o').list()), ['after it'])
  assert.ok(seen.every(({ status }) => status === 'online'), seen.map(({ status }) => status).join())
})

/** Sockets through which a daemon looks as one whose keys are not open: what it answers to some commands. */
function locking(isLocked) {
  return (url, protocol) => {
    const socket = new NodeSocket(url, protocol)
    const send = socket.send.bind(socket)
    socket.send = (text) => {
      const frame = JSON.parse(text)
      if (frame.type !== 'command' || !isLocked(frame)) return send(text)
      setTimeout(() => socket.onmessage?.({ data: JSON.stringify({ type: 'error', id: frame.id, code: 'secrets_locked', message: 'Locked.', retryable: true }) }))
    }
    return socket
  }
}

test('what waits for the keys of the daemon holds nothing else back', async () => {
  let isLocked = true
  const outbox = memoryOutbox()
  const change = (collection, id) => ({ key: newId(), op: 'put', collection, id, atMs: 1, content: { value: id } })
  for (const one of [change('settings', 'early'), change('notes-s', 'early')]) await outbox.add(one)
  const db = await client({ outbox, openSocket: locking(({ params }) => isLocked && params.collection === 'settings') }).ready()
  await until(async () => (await daemon.call('GET', '/api/data/notes-s/early')).status === 200)
  assert.equal((await db.collection('settings').put('late', { value: 'late' })).state, 'queued')
  await until(() => db.getSnapshot().queued === 2)
  assert.equal((await db.collection('notes-s').create({ value: 'late' }, 'late')).state, 'stored')
  assert.equal((await db.collection('settings').patch('late', { value: 'later' })).state, 'queued')
  isLocked = false
  await db.flushed()
  const { body } = await daemon.call('GET', '/api/data/settings')
  assert.deepEqual(body.items.map(({ data }) => data.value).sort(), ['early', 'later'])
  assert.deepEqual(db.getSnapshot().rejected, [])
  assert.equal((await db.collection('settings').put('early', { value: 'again' })).state, 'stored')
})

test('a list that is refused for a moment comes by itself', async () => {
  let left = 2
  const db = await client({ openSocket: locking(({ command }) => command === 'live.subscribe' && left > 0 && left-- > 0) }).ready()
  await daemon.call('PUT', '/api/data/notes-q/one', { title: 'There' })
  const seen = watch(db.collection('notes-q'))
  await until(() => seen.at(-1).isReady)
  assert.deepEqual([left, titles(seen.at(-1)), seen.some(({ error }) => error !== null)], [0, ['There'], false])
})

test('a subscription whose answer was lost with its connection is ended, and the list is told everything once', async (t) => {
  const way = await wayTo(daemon.port)
  t.after(way.close)
  let [asked, recovered] = [0, false]
  const events = []
  const openSocket = (url, protocol) => {
    const inner = new NodeSocket(url, protocol)
    const outer = { onopen: null, onmessage: null, onclose: null, onerror: null, close: (...args) => inner.close(...args) }
    outer.send = (text) => {
      const { id, command } = JSON.parse(text)
      if (command === 'live.subscribe') asked = id
      inner.send(text)
    }
    inner.onopen = (event) => outer.onopen?.(event)
    inner.onclose = (event) => outer.onclose?.(event)
    let isOver = false
    inner.onmessage = (event) => {
      const { type, id, sub, data, ...more } = JSON.parse(event.data)
      if (type === 'result' && id === asked && !openSocket.hasLost) {
        openSocket.hasLost = isOver = true
        way.cut()
      }
      if (isOver) return
      if (type === 'auth_ok') recovered = more.recovered
      if (type === 'event') events.push([sub, data.id])
      outer.onmessage?.(event)
    }
    return outer
  }
  const db = await client({ openSocket, random: () => 0, url: `http://127.0.0.1:${way.port}` }).ready()
  const seen = watch(db.collection('notes-r'))
  await until(() => seen.at(-1).isReady)
  for (const id of ['one', 'two']) {
    await daemon.call('PUT', `/api/data/notes-r/${id}`, { title: id })
    await until(() => titles(seen.at(-1)).includes(id))
    await db.call('auth.status') // what the first event led to is answered
  }
  assert.equal(events.filter(([, id]) => id === 'two').length, 1)
  assert.ok(recovered, 'the session went on')
})

test('a listener of a topic that takes the place of another one hears', async () => {
  const [one, two] = await Promise.all([client().ready(), client().ready()])
  const first = two.topic('turn').subscribe(() => undefined)
  await until(async () => (await one.topic('turn').publish(0)) === 1)
  const heard = []
  const second = two.topic('turn').subscribe((data) => heard.push(data))
  first() // before the daemon has answered
  await two.call('auth.status') // what was asked before is answered
  assert.equal(await one.topic('turn').publish(1), 1)
  await until(() => heard.length === 1)
  second()
  await two.call('auth.status')
  assert.equal(await one.topic('turn').publish(2), 0)
  assert.deepEqual(heard, [1])
})

test('topics reach all that listen, on both sides of a broken connection', async (t) => {
  const way = await wayTo(daemon.port)
  t.after(way.close)
  const one = await client().ready()
  const two = await client({ url: `http://127.0.0.1:${way.port}` }).ready()
  const heard = []
  let missed = 0
  const ends = ['a', 'b'].map((name) => two.topic('timer').subscribe((data) => heard.push([name, data]), { missed: () => missed++ }))
  await until(async () => (await one.topic('timer').publish('hello')) === 1)
  await until(() => heard.length >= 2)
  heard.length = 0
  way.cut()
  await until(() => two.getSnapshot().status !== 'online')
  await one.topic('timer').publish({ while: 'away' })
  await online(two)
  await until(() => heard.length === 2)
  assert.deepEqual(heard, [['a', { while: 'away' }], ['b', { while: 'away' }]], 'the session was resumed')
  assert.equal(missed, 0)
  ends.forEach((end) => end())
  await until(async () => (await one.topic('timer').publish('?')) === 0)
  await assert.rejects(one.topic('no topic').publish(1), { code: 'bad_value' })
})

test('news beside documents reaches who may hear it, and says when some may have been missed', async (t) => {
  const way = await wayTo(daemon.port)
  t.after(way.close)
  const db = await client({ url: `http://127.0.0.1:${way.port}` }).ready()
  const heard = []
  const end = db.news((what) => heard.push(what))
  await db.call('auth.status') // what was asked before is answered before
  const ask = async (name) => await fetch(`${daemon.url}/api/auth/grants`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ name, scopes: ['read:tasks'] }) })
  assert.equal((await ask('news-one')).status, 202)
  await until(() => heard.includes('grants'))
  assert.ok(!heard.includes('missed'))
  end()
  heard.length = 0
  assert.equal((await ask('news-two')).status, 202)
  await db.call('auth.status')
  assert.deepEqual(heard, [])
  const { body: key } = await daemon.call('POST', '/api/auth/keys', { scopes: ['read:tasks'] })
  const other = await client({ token: key.key }).ready()
  const refused = await new Promise((resolve) => other.news(() => undefined, resolve))
  assert.equal(refused.code, 'forbidden')
})

test('a connection that breaks a hundred times loses and repeats nothing', async (t) => {
  const way = await wayTo(daemon.port)
  t.after(way.close)
  const db = await client({ url: `http://127.0.0.1:${way.port}`, random: () => 0 }).ready()
  const notes = db.collection('notes-e')
  const versions = []
  const known = new Map()
  notes.subscribe(({ docs }) => {
    for (const doc of docs) if (!doc.isPending) {
      const before = known.get(doc.id) ?? 0
      if (doc.version !== before) versions.push([before, doc.version])
      known.set(doc.id, doc.version)
    }
  })
  await notes.ready()
  for (let turn = 0; turn < 100; turn++) {
    await daemon.call('PUT', `/api/data/notes-e/d${turn % 7}`, { turn })
    if (turn % 2) way.cut()
    if (turn % 5 === 0) await online(db)
  }
  await online(db)
  await until(() => [...notes.getSnapshot().docs].filter((doc) => doc.data.turn >= 93).length === 7)
  assert.ok(versions.every(([before, now]) => now > before))
})

test('changes made without a daemon are sent in order and once, after kill -9 and on the same port', async () => {
  const db = await client({ random: () => 0 }).ready()
  const notes = db.collection('notes-f')
  await notes.put('kept', { title: 'Before' })
  await notes.ready()
  await daemon.down('SIGKILL')
  await offline(db)
  assert.deepEqual(await notes.create({ title: 'New' }, 'new'), { state: 'queued', id: 'new' })
  for (const title of ['1', '2', '3']) await notes.patch('kept', { title })
  await notes.create({ title: 'Gone again' }, 'gone')
  await notes.delete('gone')
  assert.deepEqual(titles(notes.getSnapshot()), ['3', 'New'])
  assert.equal(db.getSnapshot().queued, 6)
  assert.equal((await notes.get('new')).isPending, true, 'what we wrote can be read')
  await assert.rejects(db.topic('t').publish(1), { code: 'offline', retryable: true })
  await daemon.up()
  await db.flushed()
  const kept = (await daemon.call('GET', '/api/data/notes-f/kept')).body
  assert.equal(kept.data.title, '3')
  assert.deepEqual(titles(await notes.ready()), ['3', 'New'])
  assert.ok(notes.getSnapshot().docs.every((doc) => !doc.isPending))
  assert.deepEqual(db.getSnapshot().rejected, [])
})

test('a kept change that is not taken is reported, and the next ones go on', async (t) => {
  const way = await wayTo(daemon.port)
  t.after(way.close)
  const told = []
  const db = await client({ url: `http://127.0.0.1:${way.port}`, onRejected: (rejection) => told.push(rejection), random: () => 0 }).ready()
  const notes = db.collection('notes-g')
  const { version } = await notes.put('x', { title: 'Mine' })
  await notes.ready()
  way.isShut = true
  way.cut()
  await offline(db)
  await notes.patch('x', { title: 'Offline' }, { version })
  await notes.create({ title: 'Fine' }, 'y')
  assert.deepEqual(titles(notes.getSnapshot()), ['Offline', 'Fine'])
  await daemon.call('PATCH', '/api/data/notes-g/x', { title: 'Theirs' })
  way.isShut = false
  await db.flushed()
  assert.deepEqual(told.map((one) => [one.change.id, one.error.code]), [['x', 'precondition_failed']])
  assert.deepEqual(db.getSnapshot().rejected, told)
  await until(() => titles(notes.getSnapshot()).join() === 'Theirs,Fine')
})

test('a change whose answer was lost is not made twice', async (t) => {
  const way = await wayTo(daemon.port)
  t.after(way.close)
  const db = await client({ url: `http://127.0.0.1:${way.port}`, random: () => 0 }).ready()
  const notes = db.collection('notes-h')
  const base = await notes.put('c', { n: 1, title: 'T' })
  way.delayMs = 150 // the command arrives, its answer does not
  const writes = [
    notes.create({ title: 'Once' }, 'a'),
    notes.put('b', { title: 'Once' }),
    notes.patch('c', { n: 2 }, { version: base.version }),
    db.collection('tasks').create({ title: 'With fields of the daemon' }, 'lost-answer'),
  ]
  await sleep(200)
  way.cut()
  way.delayMs = 0
  assert.deepEqual((await Promise.all(writes)).map((one) => one.state), ['queued', 'queued', 'queued', 'queued'])
  await db.flushed()
  assert.deepEqual(db.getSnapshot().rejected, [])
  assert.equal((await notes.get('c')).version, base.version + 3, 'three writes since, each made once')
  for (const id of ['a', 'b']) assert.equal((await notes.get(id)).data.title, 'Once')
})

test('changes left by one process are sent by the next, also those it had sent already', async () => {
  const outbox = memoryOutbox() // stands for a place that outlives the process
  const notes = (await client().ready()).collection('notes-i')
  await notes.create({ title: 'Arrived' }, 'one')
  const change = (id, title, isTried) => ({ key: newId(), op: 'create', collection: 'notes-i', id, atMs: 0, content: { title }, ...(isTried && { isTried }) })
  await outbox.add(change('one', 'Arrived', true))
  await outbox.add(change('two', 'Never sent', false))
  const task = { title: 'Arrived', tags: ['soon', 'home', 'soon'] } // a set: the daemon has its elements once, in its own order
  await client().ready().then((db) => db.collection('tasks').create(task, 'tagged'))
  await outbox.add({ ...change('tagged', '', true), collection: 'tasks', content: task })
  const next = client({ outbox })
  await next.ready()
  await next.flushed()
  assert.deepEqual(await outbox.load(), [])
  assert.deepEqual(next.getSnapshot().rejected, [])
  assert.equal((await notes.get('two')).data.title, 'Never sent')
})

test('two clients with one outbox send each change once', async () => {
  const outbox = memoryOutbox()
  for (let n = 0; n < 40; n++) await outbox.add({ key: newId(), op: 'create', collection: 'notes-j', id: `n${n}`, atMs: 0, content: { n } })
  const both = [client({ outbox }), client({ outbox })]
  await Promise.all(both.map((db) => db.ready()))
  await until(async () => (await outbox.load()).length === 0)
  await Promise.all(both.map((db) => db.flushed()))
  assert.deepEqual(both.flatMap((db) => db.getSnapshot().rejected), [])
  assert.equal((await both[0].collection('notes-j').list({ limit: 100 })).docs.length, 40)
})

test('a daemon that is frozen is noticed though the socket looks open, and nothing is lost', async () => {
  const db = await client({ random: () => 0 }).ready()
  const notes = db.collection('notes-k')
  await notes.ready()
  daemon.freeze()
  const began = Date.now()
  const write = notes.put('x', { title: 'Into the silence' })
  await offline(db)
  assert.ok(Date.now() - began < 20_000, 'by the heartbeat, not by a timeout of the system')
  assert.equal((await write).state, 'queued')
  daemon.thaw()
  await db.flushed()
  assert.equal((await notes.get('x')).data.title, 'Into the silence')
})

test('a slow network delays and breaks nothing', async (t) => {
  const way = await wayTo(daemon.port)
  t.after(way.close)
  way.delayMs = 120
  const db = await client({ url: `http://127.0.0.1:${way.port}`, patience: { ...FAST, deadlineMs: 2_000 } }).ready()
  let ended = 0
  db.subscribe(({ status }) => status === 'offline' && ended++)
  const notes = db.collection('notes-l')
  await notes.ready()
  await Promise.all(Array.from({ length: 150 }, (_, n) => notes.put(`n${n}`, { n })))
  await until(() => notes.getSnapshot().docs.length === 150 && notes.getSnapshot().docs.every((doc) => !doc.isPending))
  assert.equal(ended, 0)
})

test('after a sleep of the program the connection is made anew and the session goes on', async () => {
  const code = `
    import { connect } from ${JSON.stringify(new URL('../dist/node.js', import.meta.url).href)}
    const db = connect({ app: 'sleeper', url: ${JSON.stringify(daemon.url)}, token: ${JSON.stringify(daemon.token)}, random: () => 0 })
    db.subscribe((state) => console.log('state ' + state.status))
    await db.ready()
    db.collection('notes-m').subscribe(({ docs }) => docs.length && console.log('docs ' + docs.map((doc) => doc.id)))
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.on('data', (text) => (said += text))
  try {
    await until(() => said.includes('online'))
    await daemon.call('PUT', '/api/data/notes-m/before', { n: 1 })
    await until(() => said.includes('docs before'))
    child.kill('SIGSTOP')
    await daemon.call('PUT', '/api/data/notes-m/meanwhile', { n: 2 })
    await sleep(7_000)
    said = ''
    child.kill('SIGCONT')
    await until(() => said.includes('state online') && said.includes('docs before,meanwhile'))
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
})

test('the owner\'s token changes with the daemon, and the function that gives it is asked again', async () => {
  const db = await client({ random: () => 0 }).ready()
  const before = daemon.token
  await daemon.down()
  await daemon.up()
  assert.notEqual(daemon.token, before)
  await online(db)
  const wrong = client({ token: 'not-a-token' })
  await assert.rejects(wrong.ready(), { code: 'unauthorized' })
  assert.equal(wrong.getSnapshot().status, 'failed')
})

test('who is told to wait for a moment waits', async () => {
  const http = new Http(daemon.url, 'behaviour')
  for (let n = 0; n < 12; n++) await assert.rejects(http.call('POST', '/api/auth/login', { body: {} }), (error) => error.code !== 'too_many_requests')
})

test('another program at the address is not taken for HybridGW', async (t) => {
  const { createServer } = await import('node:http')
  const server = createServer((_, answer) => answer.end('<html>')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const db = client({ url: `http://127.0.0.1:${server.address().port}` })
  await offline(db)
  assert.equal(db.getSnapshot().error.code, 'not_running')
  db.close()
  await assert.rejects(db.ready(), { code: 'closed' }).catch(() => assert.equal(db.getSnapshot().status, 'closed'))
})

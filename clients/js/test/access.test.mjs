/** To be let in, to stay so, and to be thrown out: the client as an app that the person knows by its name. */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { connect, memoryTokens, NodeSocket } from '../dist/node.js'
import { Daemon, FAST, until } from './_daemon.mjs'

let daemon
const clients = new Set()

before(async () => {
  daemon = await Daemon.start({ HYBRIDGW_RATE_LIMIT_PER_MINUTE: '6000', HYBRIDGW_RATE_LIMIT_BURST: '1000' }) // all are one stranger here
})
after(async () => {
  for (const client of clients) client.close()
  await daemon?.end()
})

function app(name, more = {}) {
  const made = connect({ app: name, scopes: ['read:tasks', 'write:tasks'], url: daemon.url, patience: FAST, random: () => 0, ...more })
  clients.add(made)
  return made
}

const status = (db, wanted) => until(() => db.getSnapshot().status === wanted)

/** The person's side: find the request, compare the code, decide. */
async function person(db) {
  const { code } = await until(() => db.getSnapshot().status === 'asking' && db.getSnapshot())
  const { body } = await daemon.call('GET', '/api/auth/grants')
  const found = body.items.find((grant) => grant.state === 'pending' && grant.code === code)
  assert.ok(found, 'the same code on both sides')
  assert.match(code, /^\d{3} \d{3}$/)
  return {
    id: found.id,
    approve: (more = {}) => daemon.call('POST', `/api/auth/grants/${found.id}/approve`, { code, lasts: '30d', ...more }),
    refuse: () => daemon.call('POST', `/api/auth/grants/${found.id}/refuse`, {}),
    revoke: () => daemon.call('DELETE', `/api/auth/grants/${found.id}`),
  }
}

async function letIn(name, more) {
  const db = app(name, more)
  const decision = await person(db)
  await decision.approve()
  await db.ready()
  return { db, ...decision }
}

test('an app asks, shows a code, is let in, and may do what was approved and nothing else', async () => {
  const codes = []
  const db = app('Shopping', { onCode: (asking) => codes.push(asking) })
  const early = db.collection('tasks').create({ title: 'Before anybody agreed' }, 'early')
  const decision = await person(db)
  assert.equal(codes[0].sentence, 'read and write tasks')
  assert.equal((await early).state, 'queued')
  await decision.approve()
  await db.ready()
  await db.flushed()
  assert.deepEqual([...db.getSnapshot().scopes].sort(), ['read:tasks', 'write:tasks'])
  assert.equal((await db.collection('tasks').get('early')).data.title, 'Before anybody agreed')
  await assert.rejects(db.collection('notes').put('x', {}), (error) => error.code === 'forbidden' && /write:notes/.test(error.message) && error.next !== '')
  await assert.rejects(db.collection('notes').ready(), { code: 'forbidden' })
  await assert.rejects(db.topic('timer').publish(1), { code: 'forbidden' })
  await assert.rejects(db.call('daemon.stop', {}), { code: 'forbidden' })
})

test('a revoked app is out at once, and may ask again', async () => {
  const { db, revoke } = await letIn('Revoked')
  const began = Date.now()
  await revoke()
  await status(db, 'revoked')
  assert.ok(Date.now() - began < 15_000, `${Date.now() - began} ms`)
  assert.equal(db.getSnapshot().error.code, 'revoked')
  await assert.rejects(db.ready(), { code: 'revoked' })
  await db.ask()
  await (await person(db)).approve()
  await db.ready()
})

test('a refusal is told, and remembered', async () => {
  const db = app('Refused')
  await (await person(db)).refuse()
  await status(db, 'refused')
  await assert.rejects(db.ask(), (error) => error.code === 'refused' && error.detail.retry_after_s > 80_000)
  assert.equal(db.getSnapshot().status, 'refused')
})

test('wrong codes end a request, and asking goes on from there', async () => {
  const db = app('Wrong codes')
  const decision = await person(db)
  for (let n = 0; n < 5; n++) assert.equal((await decision.approve({ code: '000 000' })).body.code, 'wrong_code')
  await status(db, 'unapproved')
  assert.equal(db.getSnapshot().error.code, 'expired')
  await db.ask()
  await (await person(db)).approve()
  await db.ready()
})

test('a request that waits is found again by the next page', async () => {
  const keep = memoryTokens()
  const first = app('Reloaded', { keep })
  const decision = await person(first)
  const { code } = first.getSnapshot()
  first.close()
  const second = app('Reloaded', { keep, ask: 'never' })
  await status(second, 'asking')
  assert.equal(second.getSnapshot().code, code)
  await decision.approve()
  await second.ready()
})

test('what was given holds over a restart of the daemon and of the app, and while nobody is there', async () => {
  const keep = memoryTokens()
  const { db } = await letIn('Lasting', { keep })
  await daemon.down()
  await status(db, 'offline')
  db.close()
  const next = app('Lasting', { keep, ask: 'never' })
  await status(next, 'offline')
  assert.equal(next.getSnapshot().error.code, 'not_running')
  assert.ok((await keep.load()).grant, 'not signed out')
  await daemon.up()
  await next.ready()
})

test('two tabs refresh one after the other, and nobody takes it for theft', async () => {
  const keep = memoryTokens()
  const { db } = await letIn('Tabs', { keep })
  db.close()
  for (let turn = 0; turn < 3; turn++) {
    const kept = await keep.load()
    await keep.save({ ...kept, grant: { ...kept.grant, expiresMs: 0 } })
    const tabs = [1, 2, 3].map(() => app('Tabs', { keep, ask: 'never' }))
    await Promise.all(tabs.map((tab) => tab.ready()))
    tabs.forEach((tab) => tab.close())
    assert.notEqual((await keep.load()).grant.refresh, kept.grant.refresh)
  }
})

async function newKey() {
  const { publicKey, privateKey } = await crypto.subtle.generateKey({ name: 'Ed25519' }, false, ['sign', 'verify'])
  const raw = Buffer.from(await crypto.subtle.exportKey('raw', publicKey))
  return { public: Promise.resolve(raw.toString('base64url')), sign: async (text) => new Uint8Array(await crypto.subtle.sign({ name: 'Ed25519' }, privateKey, text)) }
}

test('two callers of one client ask the person once, and have one connection', async () => {
  const db = app('Two callers', { ask: 'never' })
  await status(db, 'unapproved')
  await Promise.all([db.ask(), db.ask()])
  const decision = await person(db)
  await db.ask() // it is asked already
  const waiting = async () => (await daemon.call('GET', '/api/auth/grants')).body.items.filter(({ name }) => name === 'Two callers')
  assert.equal((await waiting()).length, 1)
  await decision.approve()
  assert.deepEqual(await Promise.all([db.ready(), db.ready(), db.ask()]), [db, db, undefined])
  const writes = await Promise.all(['a', 'b'].map((title) => db.collection('tasks').create({ title }, 'two-callers').then(({ state }) => state, ({ code }) => code)))
  assert.deepEqual(writes, ['stored', 'already_exists'], 'each caller has its own answer')
  assert.deepEqual((await waiting()).map(({ state }) => state), ['approved'])
  const { body } = await daemon.call('GET', '/api/analytics/connections')
  assert.equal(body.items.filter(({ client_id }) => client_id === db.clientId).length, 1)
})

test('two tabs with one key that begin at once ask the person once, and both stay in', async () => {
  const more = { keep: memoryTokens(), key: await newKey() }
  const tabs = [1, 2].map(() => app('Two tabs', more))
  const decision = await person(tabs[0])
  await status(tabs[1], 'asking')
  assert.equal(tabs[0].getSnapshot().code, tabs[1].getSnapshot().code)
  const waiting = async () => (await daemon.call('GET', '/api/auth/grants')).body.items.filter(({ name }) => name === 'Two tabs')
  assert.deepEqual((await waiting()).map(({ has_key }) => has_key), [true])
  await decision.approve()
  await Promise.all(tabs.map((tab) => tab.ready()))
  assert.deepEqual((await waiting()).map(({ state }) => state), ['approved'])
  const states = await Promise.all(tabs.map((tab, n) => tab.collection('tasks').create({ title: `Tab ${n}` })))
  assert.deepEqual(states.map(({ state }) => state), ['stored', 'stored'])
  tabs.forEach((tab) => tab.close())
  const kept = await more.keep.load()
  await more.keep.save({ ...kept, grant: { ...kept.grant, expiresMs: 0 } })
  const next = [1, 2].map(() => app('Two tabs', { ...more, ask: 'never' })) // both find a token that has to be exchanged
  await Promise.all(next.map((tab) => tab.ready()))
  assert.deepEqual((await waiting()).map(({ state }) => state), ['approved'])
})

/** A socket that tells of its end later: as to a tab that the browser had frozen meanwhile. */
function lateSockets() {
  const held = []
  const open = (url, protocol) => {
    const inner = new NodeSocket(url, protocol)
    const outer = { onopen: null, onmessage: null, onclose: null, onerror: null, send: (text) => inner.send(text), close: (...args) => inner.close(...args) }
    inner.onopen = (event) => outer.onopen?.(event)
    inner.onmessage = (event) => outer.onmessage?.(event)
    inner.onclose = (event) => held.push(() => outer.onclose?.(event))
    return outer
  }
  return { open, held }
}

test('a tab that hears late of the end of its rights leaves those that another tab was given since', async () => {
  const keep = memoryTokens()
  const { db, revoke } = await letIn('Late', { keep })
  const late = lateSockets()
  const other = app('Late', { keep, ask: 'never', openSocket: late.open, patience: {} })
  await other.ready()
  await revoke()
  await status(db, 'revoked')
  await db.ask()
  await (await person(db)).approve()
  await db.ready()
  const { grant } = await keep.load()
  await until(() => late.held.length === 1)
  const seen = []
  other.subscribe((state) => seen.push(state.status))
  late.held.shift()()
  await until(() => seen.length > 1)
  await other.ready()
  assert.equal((await keep.load()).grant.id, grant.id)
  assert.equal(db.getSnapshot().status, 'online')
})

test('a token that was tampered with is exchanged; a refresh token that is unknown ends it', async () => {
  const keep = memoryTokens()
  const { db } = await letIn('Tampered', { keep })
  db.close()
  const kept = await keep.load()
  await keep.save({ ...kept, grant: { ...kept.grant, access: `${kept.grant.access.slice(0, -8)}AAAAAAAA` } })
  const next = app('Tampered', { keep, ask: 'never' })
  await next.ready()
  next.close()
  const last = await keep.load()
  await keep.save({ ...last, grant: { ...last.grant, access: 'x', refresh: 'hgr_unknown' } })
  const over = app('Tampered', { keep, ask: 'never' })
  await status(over, 'revoked')
  assert.equal(await keep.load(), null)
})

test('what an app with a key was given is worth nothing to who copies it', async () => {
  const key = await newKey()
  const keep = memoryTokens()
  const { db } = await letIn('With a key', { keep, key })
  const kept = await keep.load()
  const copy = memoryTokens()
  await copy.save(kept)
  const thief = app('With a key', { keep: copy })
  await status(thief, 'revoked') // for all it knows
  const read = await fetch(`${daemon.url}/api/auth/validate`, { headers: { Authorization: `Bearer ${kept.grant.access}` } })
  assert.equal(read.status, 401)
  db.close()
  await keep.save({ ...kept, grant: { ...kept.grant, expiresMs: 0 } })
  const again = app('With a key', { keep, key })
  await again.ready() // by a token that was exchanged, at another connection
  assert.notEqual((await keep.load()).grant.access, kept.grant.access)
  assert.equal((await again.collection('tasks').create({ title: 'Mine' })).state, 'stored')
  await again.leave()
})

test('who leaves gives the rights back', async () => {
  const { db, id } = await letIn('Leaver')
  await db.leave()
  assert.equal(db.getSnapshot().status, 'closed')
  const { body } = await daemon.call('GET', '/api/auth/grants?all=true')
  const ended = await until(async () => (await daemon.call('GET', '/api/auth/grants?all=true')).body.items.find((grant) => grant.id === id && grant.state === 'ended'))
  assert.ok(body && ended)
})

test('an API key is enough, and it is not asked twice', async () => {
  const { body } = await daemon.call('POST', '/api/auth/keys', { scopes: ['read:tasks'], note: 'test' })
  const db = app('Script', { token: body.key })
  await db.ready()
  await assert.rejects(db.collection('tasks').put('x', { title: 'T' }), { code: 'forbidden' })
  await daemon.call('DELETE', `/api/auth/keys/${body.id}`)
  await until(() => ['revoked', 'failed'].includes(db.getSnapshot().status))
})

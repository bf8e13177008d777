/** The activity log beside a real daemon, in a browser that is played here, for its worker is ended where it hurts most. */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { connect } from '../../js/dist/node.js'
import { Daemon, FAST, until } from '../../js/test/_daemon.mjs'
import { browser, moduleOf } from './_browser.mjs'

const LOOK_MS = 5_000 // longer than the log counts as one

let daemon
let Activity
let db

before(async () => {
  ;({ Activity } = await moduleOf('activity'))
  daemon = await Daemon.start()
  db = await connect({ app: 'extension', url: daemon.url, token: () => daemon.token, patience: FAST }).ready()
})
after(async () => {
  db?.close()
  await daemon?.end()
})

test('an entry is there once, wherever the worker is ended', async () => {
  let nowMs = Date.now()
  const written = []
  const worker = async () => {
    const made = new Activity('Chrome', () => [], (entry, id) => {
      written.push(id)
      return db.collection('activities').create(entry, id)
    }, () => nowMs)
    await made.load()
    return made
  }
  const entries = async () => (await daemon.call('GET', '/api/data/activities?sort=started_at')).body.items.map(({ data }) => data.url)
  const rejected = () => db.getSnapshot().rejected.map(({ error }) => error.code)

  browser.url = 'https://example.com/a'
  let log = await worker()
  await log.set({ isOn: true, pausedUntilMs: 0 })
  nowMs += LOOK_MS
  browser.url = 'https://example.com/b'
  browser.isEnded = true // after the write, before its note
  void log.look()
  await until(async () => (await entries()).length === 1)
  assert.equal(browser.kept.get('look').url, 'https://example.com/a')
  browser.isEnded = false
  log = await worker()
  await log.look()
  assert.deepEqual(written, [written[0], written[0]], 'it was written again, under its id')
  assert.deepEqual(await entries(), ['https://example.com/a'])
  assert.equal(browser.kept.get('look').url, 'https://example.com/b')

  // The same without the daemon: what waits twice is made once.
  await daemon.down()
  await until(() => db.getSnapshot().status === 'offline')
  nowMs += LOOK_MS
  browser.url = 'https://example.com/c'
  browser.isEnded = true
  void log.look()
  await until(() => db.getSnapshot().queued === 1)
  browser.isEnded = false
  log = await worker()
  await log.look()
  assert.equal(db.getSnapshot().queued, 2)
  await daemon.up()
  await db.flushed()
  assert.deepEqual(await entries(), ['https://example.com/a', 'https://example.com/b'])
  assert.deepEqual(rejected(), ['already_exists'])
})

test('what is left out of the log is taken as a person types it', async () => {
  const { hosts } = await moduleOf('preferences')
  const { isExcluded, plain } = await moduleOf('activity')
  const typed = ['bank.example', 'https://Doctor.example/login?a=b', '*.shop.example', 'sch\u00f6n.example', 'localhost:8080', 'nothing at all!', '', 7]
  const found = hosts(typed)
  assert.deepEqual(found, ['bank.example', 'doctor.example', 'shop.example', 'xn--schn-7qa.example', 'localhost'])
  assert.deepEqual(hosts(found), found)
  const out = (url) => isExcluded(plain(url), found)
  for (const url of ['https://www.bank.example/', 'https://doctor.example/x', 'http://a.shop.example', 'https://sch\u00f6n.example/', 'http://localhost:8080/']) assert.ok(out(url), url)
  assert.ok(!out('https://otherbank.example/'))
})

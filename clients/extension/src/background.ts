/** The background of the extension: listens to the browser, and holds everything together. */

import { api } from './api.js'
import { showBadge } from './badge.js'
import { Core, messageOf } from './core.js'
import { listenToMenus, makeMenus } from './menus.js'
import { listenToOmnibox } from './omnibox.js'
import type { FromView, ToView } from './shared.js'

const ALARM = 'look'
const LOOK_MIN = 0.5 // the least that browsers allow; what a badge says is never older than two of these
const STAY_MS = 15_000 // Firefox puts a page to sleep after 30 s without a call of its interface, sockets or not

const core = new Core()

// Whoever wakes a worker is told only by listeners that stand in its first turn.
listenToMenus(core)
listenToOmnibox(core)
core.activity.listen()
api.runtime.onInstalled.addListener(makeMenus)
api.runtime.onStartup.addListener(() => undefined)
api.alarms.onAlarm.addListener(() => core.look())
api.runtime.onConnect.addListener((port) => {
  if (port.sender?.id !== api.runtime.id) return port.disconnect()
  const post = (message: ToView): void => {
    try {
      port.postMessage(message)
    } catch {
      // the view was closed before it was answered
    }
  }
  const end = core.watch((shown) => post({ kind: 'shown', shown }), port.name === 'popup')
  port.onMessage.addListener(({ id, ask }: FromView) => {
    core.ask(ask).then(
      (isWaiting) => post({ kind: 'done', id, error: null, isWaiting }),
      (error: unknown) => post({ kind: 'done', id, error: messageOf(error), isWaiting: false }),
    )
  })
  port.onDisconnect.addListener(end)
})

core.watch(showBadge, false)
setInterval(() => core.shown.way === 'websocket' && void api.runtime.getPlatformInfo(), STAY_MS)
void api.alarms.create(ALARM, { periodInMinutes: LOOK_MIN })
void core.start()

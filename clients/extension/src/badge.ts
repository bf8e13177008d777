/** What the icon says: nothing while all is well, and never that all is well when it is not known. */

import { api, t } from './api.js'
import type { Shown } from './shared.js'

interface Badge {
  text: string
  colour: string
  title: string
}

const BAD = '#a3231f'
const WARN = '#7a4b00'
const GOOD = '#0b6a5a'

export function badgeOf(shown: Shown): Badge {
  const unseen = shown.inbox.filter((one) => !one.isSeen).length
  switch (shown.status) {
    case 'online':
      if (shown.refusals.length > 0) return { text: '!', colour: BAD, title: t('badgeRefused', shown.refusals.length) }
      if (unseen > 0) return { text: String(Math.min(unseen, 99)), colour: GOOD, title: t('badgeArrived', unseen) }
      return shown.waiting > 0 ? { text: '…', colour: WARN, title: t('badgeWaiting', shown.waiting) } : { text: '', colour: GOOD, title: t('badgeOnline') }
    case 'asking':
      return { text: '?', colour: WARN, title: t('badgeAsking') }
    case 'unapproved':
      return { text: '?', colour: WARN, title: t('badgeUnapproved') }
    case 'starting':
    case 'connecting':
      return { text: '…', colour: WARN, title: t('badgeConnecting') }
    default:
      return { text: '!', colour: BAD, title: t(shown.status === 'offline' ? 'badgeOffline' : 'badgeEnded') }
  }
}

let last = ''

export function showBadge(shown: Shown): void {
  if (shown.status === 'starting') return // a worker that has just been woken knows nothing yet: what stood there stays
  const { text, colour, title } = badgeOf(shown)
  const now = JSON.stringify([text, colour, title])
  if (now === last) return
  last = now
  void api.action.setBadgeText({ text })
  void api.action.setBadgeBackgroundColor({ color: colour })
  void api.action.setTitle({ title: `HybridGW: ${title}` })
}

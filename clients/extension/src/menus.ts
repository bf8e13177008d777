/** The menu of the right mouse button and the keyboard: what is under the pointer, or the tab in front, goes off. */

import { api, t } from './api.js'
import type { Core } from './core.js'
import type { Piece } from './shared.js'

type Kind = Piece['kind']
const CONTEXTS: readonly [Kind, 'link' | 'selection' | 'page'][] = [
  ['link', 'link'],
  ['selection', 'selection'],
  ['page', 'page'],
]
export function makeMenus(): void {
  api.contextMenus.removeAll(() => {
    for (const [kind, context] of CONTEXTS) {
      api.contextMenus.create({ id: kind, title: t(`menu_${kind}`), contexts: [context] })
    }
    api.contextMenus.create({ id: 'task', title: t('menu_task'), contexts: ['selection', 'page'] })
  })
}

export function listenToMenus(core: Core): void {
  api.contextMenus.onClicked.addListener((info, tab) => {
    const title = tab?.title ?? ''
    const page = info.pageUrl ?? tab?.url ?? ''
    switch (info.menuItemId) {
      case 'link':
        return core.send({ kind: 'link', url: info.linkUrl ?? '', title: info.selectionText ?? '', text: '' })
      case 'selection':
        return core.send({ kind: 'selection', url: page, title, text: info.selectionText ?? '' })
      case 'page':
        return core.send({ kind: 'page', url: page, title, text: '' })
      case 'task':
        return core.add((info.selectionText ?? title).slice(0, 1_000) || page)
    }
  })
  api.commands.onCommand.addListener((command) => {
    if (command !== 'send-tab') return
    void frontTab().then((piece) => (piece === null ? undefined : core.send(piece)))
  })
}

/** The tab in front; null where there is none that may be sent. Needs the person's click or key just before. */
export async function frontTab(): Promise<Piece | null> {
  const [tab] = await api.tabs.query({ active: true, currentWindow: true })
  const url = tab?.url ?? ''
  return url === '' ? null : { kind: 'tab', url, title: tab?.title ?? '', text: '' }
}

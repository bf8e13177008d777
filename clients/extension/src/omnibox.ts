/** `task` and a space in the address bar: what follows becomes a task. */

import { newId } from '../../js/src/ids.js'
import { api, t } from './api.js'
import type { Core } from './core.js'

export function listenToOmnibox(core: Core): void {
  api.omnibox.setDefaultSuggestion({ description: t('omnibox') })
  api.omnibox.onInputEntered.addListener((text) => {
    if (text.trim() !== '') void core.ask({ do: 'add', id: newId(), title: text.trim().slice(0, 1_000) })
  })
}

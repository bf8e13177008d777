/** `task` and a space in the address bar: what follows becomes a task. */

import { api, t } from './api.js'
import type { Core } from './core.js'

export function listenToOmnibox(core: Core): void {
  api.omnibox.setDefaultSuggestion({ description: t('omnibox') })
  api.omnibox.onInputEntered.addListener((text) => {
    if (text.trim() !== '') core.add(text.trim().slice(0, 1_000))
  })
}

/** What is remembered in this browser: light, dark, or as the system has it; whether the first steps are hidden. */

export type Theme = 'system' | 'light' | 'dark'
const THEME = 'theme'

/** What was remembered under a name; null: nothing, or storage is switched off. */
export function remembered(name: string): string | null {
  try {
    return localStorage.getItem(`hybridgw.${name}`)
  } catch {
    return null
  }
}

/** Remember it, null: no more. Where storage is switched off it counts until the page is closed. */
export function remember(name: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(`hybridgw.${name}`)
    else localStorage.setItem(`hybridgw.${name}`, value)
  } catch {
    // as above
  }
}

/** What was chosen. */
export function theme(): Theme {
  const found = remembered(THEME)
  return found === 'light' || found === 'dark' ? found : 'system'
}

/** Show it; with a choice: from now on. */
export function applyTheme(chosen?: Theme): void {
  if (chosen !== undefined) remember(THEME, chosen === 'system' ? null : chosen)
  document.documentElement.dataset['theme'] = chosen ?? theme()
}

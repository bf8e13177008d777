/** The browser's own interface, which Firefox calls `browser`, and the texts of the person's language. */

export const api: typeof chrome = (globalThis as unknown as { browser?: typeof chrome }).browser ?? chrome

/** A text of _locales; `$1` in it is the first of *values*. */
export function t(key: string, ...values: (string | number)[]): string {
  return api.i18n.getMessage(key, values.map(String)) || key
}

const UNITS = [['day', 86_400_000], ['hour', 3_600_000], ['minute', 60_000]] as const
const OLD_MS = 30 * 86_400_000

/** `3 minutes ago`, in the language of the texts. */
export function ago(atMs: number, nowMs = Date.now()): string {
  const past = nowMs - atMs
  if (past > OLD_MS) return new Date(atMs).toLocaleDateString(t('lang'))
  const [unit, ms] = UNITS.find(([, ms]) => past >= ms) ?? ['second', Infinity] // less than a minute is now
  return new Intl.RelativeTimeFormat(t('lang'), { numeric: 'auto' }).format(-Math.floor(past / ms) || 0, unit)
}

/** What storage.local holds under a name, or *otherwise*. */
export async function kept<T>(name: string, otherwise: T): Promise<T> {
  const found = (await api.storage.local.get(name))[name]
  return found === undefined ? otherwise : (found as T)
}

export async function keep(name: string, value: unknown): Promise<void> {
  await api.storage.local.set({ [name]: value })
}

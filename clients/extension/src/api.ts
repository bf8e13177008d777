/** The browser's own interface, which Firefox calls `browser`, and the texts of the person's language. */

export const api: typeof chrome = (globalThis as unknown as { browser?: typeof chrome }).browser ?? chrome

/** A text of _locales; `$1` in it is the first of *values*. */
export function t(key: string, ...values: (string | number)[]): string {
  return api.i18n.getMessage(key, values.map(String)) || key
}

/** What storage.local holds under a name, or *otherwise*. */
export async function kept<T>(name: string, otherwise: T): Promise<T> {
  const found = (await api.storage.local.get(name))[name]
  return found === undefined ? otherwise : (found as T)
}

export async function keep(name: string, value: unknown): Promise<void> {
  await api.storage.local.set({ [name]: value })
}

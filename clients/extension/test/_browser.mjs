/** A browser that is played: what is kept, which page is in front, and whether the worker is still there. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'

export const browser = { kept: new Map(), url: '', isEnded: false }

globalThis.chrome = {
  storage: {
    local: {
      get: async (name) => (browser.kept.has(name) ? { [name]: structuredClone(browser.kept.get(name)) } : {}),
      set: async (values) => {
        if (browser.isEnded) return await new Promise(() => undefined) // nothing is done any more
        for (const [name, value] of Object.entries(values)) browser.kept.set(name, structuredClone(value))
      },
    },
  },
  tabs: { query: async () => [{ url: browser.url, title: browser.url, incognito: false }] },
  windows: { getLastFocused: async () => ({ id: 1, incognito: false, focused: true }) },
}

/** What a module of the extension exports. */
export async function moduleOf(name) {
  const folder = await mkdtemp(join(tmpdir(), 'hybridgw-extension-'))
  try {
    const outfile = join(folder, `${name}.mjs`)
    await build({ entryPoints: [new URL(`../src/${name}.ts`, import.meta.url).pathname], bundle: true, format: 'esm', outfile, logLevel: 'error' })
    return await import(outfile)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * What the person has chosen, for all their browsers: one document of the collection `settings`, and here what it said last.
 *
 * It is chosen and counts without the daemon too. Where HybridGW did not give the right to that document, it counts in
 * this browser.
 */

import type { HybridGW } from '../../js/src/client.js'
import type { Data } from '../../js/src/query.js'
import { asError } from '../../js/src/errors.js'
import type { Rejection } from '../../js/src/outbox.js'
import { keep, kept } from './api.js'
import { NO_PREFERENCES, type Preferences } from './shared.js'

export const DOCUMENT = 'hybridgw-extension' // its id in `settings`, and the name that rights have
const FORM = 1 // `value`, which every setting has: what the fields beside it mean
const MOST_EXCLUDED = 500
const HOST = /^[a-z0-9.-]{1,253}$/
const MARK = /^[A-Za-z0-9-]{0,64}$/

export class Choices {
  now = NO_PREFERENCES
  private isThere = false // the document, as far as is known
  private client: HybridGW | null = null

  constructor(private readonly changed: () => void) {}

  async load(): Promise<void> {
    const { isThere, ...now } = await kept('preferences', { ...NO_PREFERENCES, isThere: false })
    this.now = { ...now, isShared: false }
    this.isThere = isThere
  }

  /** Of a client that was made now. */
  follow(client: HybridGW): void {
    this.client = client
    client.collection<Data>('settings').live({ id: DOCUMENT }).subscribe(({ docs: [doc], isReady, error }) => {
      if (this.client !== client) return
      if (doc !== undefined) this.now = { ...this.now, ...read(doc.data) }
      if (isReady) this.isThere = doc !== undefined && doc.version > 0
      this.now = { ...this.now, isShared: isReady && error === null }
      void this.save()
    })
  }

  async set(change: Partial<Preferences>): Promise<void> {
    const fields = read({ ...this.now, ...change })
    this.now = { ...this.now, ...fields }
    await this.save()
    const changed = Object.fromEntries(Object.entries(fields).filter(([name]) => name in change)) as Data
    try {
      await this.write(changed)
    } catch (error) {
      // Without the right, and while secrets are locked, it counts here.
      if (!['forbidden', 'secrets_locked'].includes(asError(error).code)) throw error
    }
  }

  /** A kept change was not taken. Was it only that another browser had made the document first? Then ours goes into it. */
  rejected({ change, error }: Rejection): boolean {
    if (change.collection !== 'settings' || error.code !== 'already_exists') return false
    void this.join(change.content ?? {}).catch(() => undefined)
    return true
  }

  private async write(changed: Data): Promise<void> {
    const settings = this.settings()
    try {
      if (this.isThere) await settings.patch(DOCUMENT, changed)
      else await settings.create({ app: DOCUMENT, value: FORM, ...changed }, DOCUMENT)
    } catch (thrown) {
      const { code } = asError(thrown)
      if (code === 'already_exists') await this.join(changed)
      else if (code === 'not_found' || code === 'deleted') await settings.put(DOCUMENT, { app: DOCUMENT, value: FORM, ...read({ ...this.now }) })
      else throw thrown
    }
  }

  /** Our choice into a document that we had not seen. What one of the two leaves out of the log stays out. */
  private async join(changed: Data): Promise<void> {
    const before = read((await this.settings().get(DOCUMENT))?.data ?? {})
    const { app: _app, value: _value, ...fields } = changed
    if (Array.isArray(fields['excluded'])) fields['excluded'] = hosts([...(before.excluded ?? []), ...(fields['excluded'] as unknown[])])
    await this.settings().patch(DOCUMENT, fields)
  }

  private settings() {
    return (this.client as HybridGW).collection<Data>('settings')
  }

  private async save(): Promise<void> {
    await keep('preferences', { ...this.now, isThere: this.isThere })
    this.changed()
  }
}

/** What of it we understand, in our form: whoever wrote it. */
function read(data: Data): Partial<Preferences> {
  const { theme, device, excluded } = data
  return {
    ...(theme === 'system' || theme === 'light' || theme === 'dark' ? { theme } : {}),
    ...(typeof device === 'string' && MARK.test(device) ? { device } : {}),
    ...(Array.isArray(excluded) ? { excluded: hosts(excluded) } : {}),
  }
}

/** Names of hosts, each once, as the addresses of their pages have them; also out of an address, or of `*.bank.example`. */
export function hosts(found: readonly unknown[]): string[] {
  const names = found.filter((name): name is string => typeof name === 'string').map(hostOf)
  return [...new Set(names.filter((name) => HOST.test(name)))].slice(0, MOST_EXCLUDED)
}

function hostOf(typed: string): string {
  const text = typed.trim().toLowerCase().replace(/^\*\./, '')
  try {
    return new URL(text.includes('://') ? text : `http://${text}`).hostname
  } catch {
    return text
  }
}

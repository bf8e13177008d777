/**
 * A key of this app that its tokens are bound to: whoever copies a token has nothing without it. It is made here, cannot
 * be read out, and is proved at every connection and call. Rules: docs/reference/http-api.md, "Apps with a key".
 */

import { HybridGWError } from './errors.js'
import { databaseValue } from './keeping.js'

/** A key pair that signs with Ed25519. */
export interface AppKey {
  /** The public half, 32 bytes in base64url. */
  readonly public: Promise<string>
  sign(text: Uint8Array): Promise<Uint8Array>
}

const NAME = 'key'

/** The key of this origin, in IndexedDB; made at the first use. Not even this page can read its private half. */
export function browserKey(database = 'hybridgw'): AppKey {
  const pair = (async () => {
    const place = databaseValue<CryptoKeyPair>(database, NAME)
    const found = await place.load()
    if (found !== null) return found
    const made = (await crypto.subtle.generateKey({ name: 'Ed25519' }, false, ['sign', 'verify'])) as CryptoKeyPair
    await place.save(made)
    return (await place.load()) ?? made // of two tabs that made one, both use what was kept
  })().catch((error: unknown) => {
    throw new HybridGWError('no_key', 'This browser cannot make or keep a key of the kind Ed25519.', { cause: error })
  })
  const shown = pair.then(async ({ publicKey }) => base64url(new Uint8Array(await crypto.subtle.exportKey('raw', publicKey))))
  shown.catch(() => undefined) // whoever asks for it hears of it
  return {
    public: shown,
    sign: async (text) => new Uint8Array(await crypto.subtle.sign({ name: 'Ed25519' }, (await pair).privateKey, text as BufferSource)),
  }
}

/** What proves the key for one token and purpose: `ws`, `login`, `refresh`, or method and path. Good once, for a minute. */
export async function proofOf(key: AppKey, url: string, purpose: string, token: string, nowMs = Date.now(), entropy = crypto.getRandomValues(new Uint8Array(18))): Promise<string> {
  const nonce = base64url(entropy)
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(token)))
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
  const port = new URL(url).port || '80'
  const text = `hybridgw proof 1\n${port}\n${purpose}\n${nowMs}\n${nonce}\n${hex}`
  return `${nowMs}.${nonce}.${base64url(await key.sign(new TextEncoder().encode(text)))}`
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
}

/**
 * Who we are to the daemon: a token that a one-time link is exchanged for, in memory and, so that a reload keeps it, in
 * the session storage of this tab. It is in no cookie (those cross ports) and in no address.
 */

import { errorOf, HybridGWError } from '../../js/src/errors.js'

const KEY = 'hybridgw.dashboard'

/** A token of the owner, for this tab. */
export interface Session {
  readonly token: string
  readonly expiresMs: number
}

/** What the link held, taken out of the address and of the history at once; null: the page was opened without one. */
export function takeLink(): string | null {
  const found = /^#link=([\w-]{1,200})$/.exec(location.hash)
  if (found === null) return null
  history.replaceState(null, '', '/#/')
  return found[1] ?? null
}

/** The session of this tab, if there is one that has not ended. */
export function keptSession(): Session | null {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEY) ?? 'null') as Session | null
    return found !== null && typeof found.token === 'string' && found.expiresMs > Date.now() ? found : null
  } catch {
    return null // storage is switched off: the session lives as long as the page
  }
}

/** Keep it for this tab, or forget it. */
export function keepSession(session: Session | null): void {
  try {
    if (session === null) sessionStorage.removeItem(KEY)
    else sessionStorage.setItem(KEY, JSON.stringify(session))
  } catch {
    // as above
  }
}

/** Exchange what the link held. Throws HybridGWError `link_over` with a sentence that says why, or `not_running`. */
export async function openSession(code: string): Promise<Session> {
  let answer: Response
  let body: unknown
  try {
    answer = await fetch('/api/auth/dashboard', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-HybridGW-Client': 'dashboard' },
      body: JSON.stringify({ code }),
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      signal: AbortSignal.timeout(15_000),
    })
    body = await answer.json()
  } catch (error) {
    throw new HybridGWError('not_running', 'HybridGW does not answer.', { retryable: true, cause: error })
  }
  if (!answer.ok) throw errorOf(body, answer.status)
  const { token, expires_ms } = body as { token: string; expires_ms: number }
  return { token, expiresMs: expires_ms }
}

/**
 * To be let in: ask, show six digits, wait for the person, keep the tokens and refresh them, one tab at a time.
 *
 * Only an answer of the daemon ends what was given; a daemon that is not there never does.
 */

import { pause } from './backoff.js'
import { asError, HybridGWError } from './errors.js'
import type { Http } from './http.js'
import type { Kept, TokenKeeper } from './keeping.js'
import { proofOf, type AppKey } from './key.js'
import { exclusive } from './locks.js'

export type Mode = 'web_app' | 'browser_extension' | 'local_install'

/** What the person compares, while a request waits. */
export interface Asking {
  /** Six digits, like `482 193`: show them. */
  readonly code: string
  /** What is asked for, in words. */
  readonly sentence: string
  readonly expiresMs: number
}

const POLL_S = 20 // one long poll
const POLL_AGAIN_MS = 3_000 // where the daemon has enough of them for one request, and answers at once
const EARLY_MS = 60_000 // before its end a token is exchanged, or a quarter of its life where that is less

/** The credentials of this app at one daemon. */
export class Access {
  private kept: Kept | null = null
  private lifeMs = 4 * EARLY_MS // of a token that an earlier page left, as far as we know

  constructor(
    private readonly http: Http,
    private readonly keeper: TokenKeeper,
    private readonly request: { name: string; scopes: readonly string[]; mode: Mode },
    private readonly key: AppKey | null = null,
    private readonly nowMs: () => number = Date.now,
  ) {}

  /** What an earlier page left. A place that cannot be read counts as empty. */
  async load(): Promise<'granted' | 'pending' | 'nothing'> {
    const found = await this.keeper.load().catch(() => null)
    this.kept = found !== null && found.url === this.http.url ? found : null
    if (this.kept?.grant !== undefined) return 'granted'
    return this.kept?.pending !== undefined && this.kept.pending.expiresMs > this.nowMs() ? 'pending' : 'nothing'
  }

  /** Ask, or go on waiting for what was asked. Ends when there are tokens. Throws `refused`, `expired`, and others. */
  async ask(told: (asking: Asking) => void, signal: AbortSignal): Promise<void> {
    const pending = await exclusive(this.lock('ask'), async () => {
      if ((await this.load()) === 'granted') return null // by another tab
      const before = this.kept?.pending
      if (before !== undefined && before.expiresMs > this.nowMs()) return before
      const asked = await this.http.call('POST', '/api/auth/grants', {
        body: { name: this.request.name, scopes: this.request.scopes, ...(this.key === null ? {} : { key: await this.key.public }) },
        signal,
      })
      const made = {
        id: String(asked['id']),
        code: String(asked['code']),
        secret: String(asked['secret']),
        expiresMs: Number(asked['expires_ms']),
        sentence: String(asked['sentence']),
      }
      await this.save({ url: this.http.url, pending: made })
      return made
    }, signal)
    if (pending === null) return
    told({ code: pending.code, sentence: pending.sentence, expiresMs: pending.expiresMs })
    const state = await this.decided(pending, signal)
    if (state !== 'approved') {
      if ((await this.load()) === 'granted') return // by another tab, which has asked anew
      if (this.kept?.pending?.id === pending.id) await this.forget()
      if (state === 'refused') throw new HybridGWError('refused', 'The person did not let this app in.')
      throw new HybridGWError('expired', 'Nobody approved in time.')
    }
    await exclusive(this.lock('tokens'), async () => {
      if ((await this.load()) === 'granted') return
      const body = { deployment_mode: this.request.mode, credentials: { grant: pending.id, secret: pending.secret, ...(await this.proof('login', pending.secret)) } }
      await this.take(pending.id, await this.http.call('POST', '/api/auth/login', { body, signal }))
    }, signal)
  }

  private async decided(pending: NonNullable<Kept['pending']>, signal: AbortSignal): Promise<string> {
    const path = `/api/auth/grants/${pending.id}?wait_s=${POLL_S}`
    for (;;) {
      const beganMs = this.nowMs()
      try {
        const found = await this.http.call('GET', path, { token: pending.secret, timeoutMs: (POLL_S + 10) * 1000, signal })
        if (found['state'] !== 'pending') return String(found['state'])
        if (this.nowMs() - beganMs < POLL_AGAIN_MS) await pause(POLL_AGAIN_MS, signal)
      } catch (thrown) {
        const error = asError(thrown)
        if (error.code === 'not_found') return 'expired' // the daemon was started anew and forgot
        if (!error.retryable || this.nowMs() > pending.expiresMs) throw error
        await pause(500, signal)
      }
    }
  }

  /** A token that counts for a while. Throws `not_approved`: there is none; `revoked`: there was one. */
  async token(): Promise<string> {
    const grant = this.kept?.grant
    if (grant === undefined) throw new HybridGWError('not_approved', 'Nobody has let this app in yet.')
    return this.freshForMs() > 0 ? grant.access : await this.refresh(grant.access)
  }

  /** How long the token that we have need not be exchanged, milliseconds; 0 or less: now. */
  freshForMs(): number {
    const grant = this.kept?.grant
    return grant === undefined ? 0 : grant.expiresMs - Math.min(EARLY_MS, this.lifeMs / 4) - this.nowMs()
  }

  /** Another token than *stale*. Throws `revoked`; network errors leave everything as it is. */
  async refresh(stale: string): Promise<string> {
    return await exclusive(this.lock('tokens'), async () => {
      await this.load()
      const grant = this.kept?.grant
      if (grant === undefined) throw new HybridGWError('revoked', 'The rights of this app have ended.')
      if (grant.access !== stale) return grant.access // another tab was here
      if (grant.refresh === null) throw await this.ended('The token has expired.')
      let answer: Record<string, unknown>
      try {
        answer = await this.http.call('POST', '/api/auth/refresh', { body: await this.refreshing(grant.refresh) })
      } catch (thrown) {
        const error = asError(thrown)
        if (error.code === 'invalid_credentials' || error.code === 'unauthorized') throw await this.ended('The rights of this app have ended.')
        throw error.code === 'not_running' ? await this.why(grant, error) : error
      }
      return await this.take(grant.id, answer)
    })
  }

  /**
   * Nothing that we may read came back. A page whose rights were ended may ask for nothing but to be let in, so that it
   * hears about its own request while everything else stays silent is the answer.
   */
  private async why(grant: NonNullable<Kept['grant']>, silence: HybridGWError): Promise<HybridGWError> {
    try {
      await this.shown('GET', `/api/auth/grants/${grant.id}`, grant.access)
      return silence // it answers now: the daemon was starting
    } catch (error) {
      if (asError(error).code !== 'not_found') return silence
    }
    try {
      await this.http.call('POST', '/api/auth/refresh', { body: await this.refreshing(grant.refresh ?? '') })
      return silence
    } catch (error) {
      return asError(error).code === 'not_running' ? await this.ended('The rights of this app have ended.') : silence
    }
  }

  /** Is the connection refused because the rights have ended. Resolves where they have not; throws `revoked`. */
  async check(token: string): Promise<void> {
    const grant = this.kept?.grant
    if (grant === undefined) return
    try {
      await this.shown('GET', '/api/auth/validate', token)
    } catch (thrown) {
      const error = asError(thrown)
      if (error.code === 'unauthorized') await this.refresh(token)
      else if (error.code === 'not_running') {
        const why = await this.why(grant, error)
        if (why.code === 'revoked') throw why
      }
    }
  }

  /** The daemon has ended our rights. Throws `revoked`, unless another tab was let in again since. */
  async lost(): Promise<void> {
    const before = this.kept?.grant?.id
    if ((await this.load()) !== 'granted' || this.kept?.grant?.id === before) throw await this.ended('The person ended the rights of this app.')
  }

  /** Give the rights back: here at once, at the daemon if it is there. */
  async leave(): Promise<void> {
    const grant = this.kept?.grant
    await this.forget()
    if (grant !== undefined) await this.shown('POST', '/api/auth/logout', grant.access, {}).catch(() => undefined)
  }

  /** What was kept does not count any more. */
  async forget(): Promise<void> {
    this.kept = null
    await this.keeper.clear().catch(() => undefined)
  }

  /** What proves our key for a token; nothing where we have none. */
  private async proof(purpose: string, token: string): Promise<{ proof?: string }> {
    return this.key === null ? {} : { proof: await proofOf(this.key, this.http.url, purpose, token, this.nowMs()) }
  }

  private async refreshing(token: string): Promise<Record<string, unknown>> {
    return { refresh_token: token, ...(await this.proof('refresh', token)) }
  }

  /** A call that shows a token. */
  private async shown(method: string, path: string, token: string, body?: object): Promise<Record<string, unknown>> {
    const { key } = this
    const proof = key === null ? {} : { proof: () => proofOf(key, this.http.url, `${method} ${path}`, token, this.nowMs()) }
    return await this.http.call(method, path, { token, ...proof, ...(body === undefined ? {} : { body }) })
  }

  private async ended(message: string): Promise<HybridGWError> {
    await this.forget()
    return new HybridGWError('revoked', message)
  }

  private async take(grant: string, answer: Record<string, unknown>): Promise<string> {
    this.lifeMs = Number(answer['expires_in']) * 1000
    const access = String(answer['access_token'])
    const refresh = typeof answer['refresh_token'] === 'string' ? answer['refresh_token'] : null
    const scopes = Array.isArray(answer['scopes']) ? answer['scopes'].map(String) : []
    await this.save({ url: this.http.url, grant: { id: grant, access, refresh, expiresMs: this.nowMs() + this.lifeMs, scopes } })
    return access
  }

  private async save(kept: Kept): Promise<void> {
    this.kept = kept
    await this.keeper.save(kept).catch(() => undefined) // a private window: it counts until the page is closed
  }

  private lock(what: string): string {
    return `hybridgw ${this.http.url} ${what}`
  }
}

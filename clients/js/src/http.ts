/** Calls over HTTP: only what has to be done before there is a WebSocket, which is to be let in and to get tokens. */

import { pause } from './backoff.js'
import { errorOf, HybridGWError } from './errors.js'

export type Fetch = typeof globalThis.fetch

export const TIMEOUT_MS = 15_000
const MAX_WAIT_S = 3 // a limit of calls, not a person who has to decide first
const MAX_TURNS = 5

export interface CallOptions {
  body?: unknown
  token?: string
  /** Makes a proof of the key that the token is bound to; each is good for one call. */
  proof?: () => Promise<string>
  timeoutMs?: number
  signal?: AbortSignal
}

/** The local API at one address. */
export class Http {
  /** client: who we are, like `tasks/1.2`: a header that no form of another page can set. */
  constructor(
    readonly url: string,
    private readonly client: string,
    private readonly fetch: Fetch = (...args) => globalThis.fetch(...args),
  ) {}

  /** As `once`; told to wait for a moment, it waits. */
  async call(method: string, path: string, options: CallOptions = {}): Promise<Record<string, unknown>> {
    for (let turn = 1; ; turn++) {
      try {
        return await this.once(method, path, options)
      } catch (error) {
        const wait_s = error instanceof HybridGWError && error.code === 'too_many_requests' ? Number(error.detail['retry_after_s']) : NaN
        if (turn === MAX_TURNS || !(wait_s <= MAX_WAIT_S)) throw error
        await pause(wait_s * 1000, options.signal)
      }
    }
  }

  /** What the daemon answers. Throws HybridGWError; `not_running`: nobody, or nothing that a page may read, answered. */
  async once(method: string, path: string, options: CallOptions = {}): Promise<Record<string, unknown>> {
    const timeout = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS)
    const headers: Record<string, string> = { 'X-HybridGW-Client': this.client }
    if (options.token !== undefined) headers['Authorization'] = `Bearer ${options.token}`
    if (options.proof !== undefined) headers['X-HybridGW-Proof'] = await options.proof()
    if (options.body !== undefined) headers['Content-Type'] = 'application/json'
    const init: RequestInit = {
      method,
      headers,
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
      signal: options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]),
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    }
    let response: Response
    let body: unknown
    try {
      response = await this.fetch(this.url + path, withAddressSpace(this.url, init))
      body = await response.json()
    } catch (error) {
      if (options.signal?.aborted === true) throw new HybridGWError('closed', 'The client was closed.', { cause: error })
      if (timeout.aborted) throw new HybridGWError('timeout', `HybridGW at ${this.url} did not answer in time.`, { retryable: true, cause: error })
      if (error instanceof SyntaxError) {
        throw new HybridGWError('not_running', `Another program answers at ${this.url}, not HybridGW.`, { retryable: true, cause: error })
      }
      throw new HybridGWError('not_running', `HybridGW does not answer at ${this.url}.`, { retryable: true, cause: error })
    }
    if (!response.ok) {
      const wait = Number(response.headers.get('Retry-After'))
      const error = errorOf(body, response.status)
      throw wait > 0 ? new HybridGWError(error.code, error.message, { retryable: error.retryable, detail: { ...error.detail, retry_after_s: wait } }) : error
    }
    return body as Record<string, unknown>
  }
}

/** Tells the browser that the address is of this computer, in the words that this browser knows. */
function withAddressSpace(url: string, init: RequestInit): RequestInit {
  for (const space of addressSpace === undefined ? ['loopback', 'local'] : [addressSpace]) {
    if (space === null) break
    const tried = { ...init, targetAddressSpace: space } as RequestInit
    try {
      if (addressSpace === undefined) void new Request(url, { targetAddressSpace: space } as RequestInit)
      addressSpace = space
      return tried
    } catch {
      continue // an older browser that has only the older word
    }
  }
  addressSpace = null
  return init
}

let addressSpace: string | null | undefined

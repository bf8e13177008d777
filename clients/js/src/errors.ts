/**
 * The one error of this client: a stable code, a sentence for a person, whether trying again can help, and what to do.
 *
 * Codes of the daemon are those of docs/reference/exit-codes-and-errors.md. Codes of this client alone: `not_running`,
 * `permission_needed`, `permission_denied`, `not_approved`, `expired`, `revoked`, `timeout`, `queue_full`, `closed`.
 */

/** What a call can fail with. */
export class HybridGWError extends Error {
  override readonly name = 'HybridGWError'
  /** Stable, the same on every carrier. */
  readonly code: string
  /** Whether the same call may succeed later. */
  readonly retryable: boolean
  /** What the person, or the app, can do now. */
  readonly next: string
  /** Facts that belong to the code, such as `version` or `field`. */
  readonly detail: Readonly<Record<string, unknown>>

  constructor(code: string, message: string, options: { retryable?: boolean; detail?: Record<string, unknown>; next?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retryable = options.retryable ?? false
    this.next = options.next ?? NEXT[code] ?? (this.retryable ? 'Try again in a moment.' : 'Change the call as the message says.')
    this.detail = options.detail ?? {}
  }
}

const START = 'Start HybridGW on this computer (hybridgw up). This page connects by itself as soon as it runs.'

const ALLOW =
  'Allow "local network access" (also called "apps on device") in the settings of this site, left of the address, then ' +
  'try again.'

/** For a page of the internet in a browser that does not tell whether it keeps the page from this computer. */
export const START_OR_ALLOW = `${START} If it runs, the browser may keep this page from it. ${ALLOW}`

const NEXT: Readonly<Record<string, string>> = {
  not_running: START,
  offline: START,
  permission_needed: 'Call ask() from a click: only then does the browser show its question.',
  permission_denied:
    `The browser keeps this page from programs on this computer. ${ALLOW} A page without https is never let through; in ` +
    'a frame, the page around it needs allow="loopback-network; local-network-access".',
  not_approved: 'Call ask() from a click, then compare the six digits in HybridGW (hybridgw apps) and approve.',
  expired: 'Ask again: a request waits for two minutes.',
  refused: 'The person said no. It may ask again after a day.',
  too_many_requests: 'A request waits for the person already, or there were too many. Wait, then ask again.',
  revoked: 'The person ended the rights of this app. Call ask() from a click to ask anew.',
  unauthorized: 'Ask to be let in again.',
  invalid_credentials: 'Ask to be let in again.',
  forbidden: 'Ask for the right that the message names, with the scopes of connect().',
  precondition_failed: 'Somebody changed the document: read it, then write again.',
  already_exists: 'Use put() or patch() for a document that is there.',
  deleted: 'The document was deleted: put() it anew.',
  not_found: 'The document is not there: create it.',
  needs_person: 'Ask the person, then call again with confirm: true.',
  invalid_document: 'Correct the fields in detail.errors.',
  too_big: 'Split it: into several documents, or several calls.',
  queue_full: 'Too many changes wait to be sent. Start HybridGW, then go on.',
  timeout: 'Try again.',
}

/** From problem details (HTTP) or an `error` frame; whatever it holds beside the known fields becomes the detail. */
export function errorOf(body: unknown, status?: number): HybridGWError {
  const fields = isRecord(body) ? body : {}
  const { code, message, detail, retryable, field, ...more } = fields
  delete more['type']
  delete more['id']
  const own = isRecord(detail) ? detail : {}
  const text = typeof message === 'string' ? message : typeof detail === 'string' ? detail : `The daemon answered ${status ?? 'something unknown'}.`
  return new HybridGWError(typeof code === 'string' ? code : 'internal', text, {
    retryable: retryable === true,
    detail: { ...more, ...own, ...(field === undefined ? {} : { field }), ...(status === undefined ? {} : { status }) },
  })
}

/** The error as it is, or anything else wrapped. */
export function asError(thrown: unknown, code = 'internal'): HybridGWError {
  if (thrown instanceof HybridGWError) return thrown
  return new HybridGWError(code, thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown })
}

/** A plain object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

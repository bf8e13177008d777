/** What is sent from browser to browser, in the one form that both sides rely on. */

import { isRecord } from '../../js/src/errors.js'
import type { Piece } from './shared.js'

const KINDS: readonly Piece['kind'][] = ['tab', 'link', 'selection', 'page']
const MOST_URL = 8_000
const MOST_TITLE = 500
const MOST_TEXT = 20_000

/** Anything at all as a piece: unknown kinds are pages, missing fields empty, long ones cut. */
export function piece(found: unknown): Piece {
  const fields = isRecord(found) ? found : {}
  const text = (name: string, most: number): string => (typeof fields[name] === 'string' ? cut(fields[name], most) : '')
  const kind = KINDS.find((one) => one === fields['kind']) ?? 'page'
  return { kind, url: text('url', MOST_URL), title: text('title', MOST_TITLE), text: text('text', MOST_TEXT) }
}

/** The address as one that may be opened by a click; null: it is only shown. Never a script, a file or data. */
export function openable(url: string): string | null {
  try {
    const { protocol, href } = new URL(url)
    return protocol === 'https:' || protocol === 'http:' ? href : null
  } catch {
    return null
  }
}

function cut(text: string, most: number): string {
  return whole(text.length <= most ? text : `${text.slice(0, most - 1)}…`)
}

/** Without halves of characters, which pages leave where they cut their titles, and which nothing can be sent with. */
export function whole(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd')
}

/** How things are told: times, sizes, counts, and text from outside, which may hold anything. */

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

// Marks that turn, hide or break text: shown by their number instead. A line break of a long text stays one.
const HARMFUL = /[\p{Cc}\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu

/** Text from outside on one line, harmless and at most *most* characters long. */
export function oneLine(text: string, most = 120): string {
  const cut = [...text.slice(0, most * 2 + 2)]
  const kept = cut.length > most || text.length > most * 2 + 2 ? `${cut.slice(0, most - 1).join('')}…` : text
  return kept.replace(/[\t\r\n]+/g, ' ').replace(HARMFUL, named)
}

/** The same with its line breaks. */
export function lines(text: string, most = 4_000): string {
  const kept = text.length > most ? `${text.slice(0, most)}…` : text
  return kept.replace(/\r\n?/g, '\n').replace(HARMFUL, (mark) => (mark === '\n' || mark === '\t' ? mark : named(mark)))
}

/** Of our own extension in Chromium: it follows from the key in clients/extension/manifest.mjs. Firefox makes one per profile. */
const OUR_EXTENSION = 'chrome-extension://iaangbjflhnfnmoabopfpiplhdjcddpj'

/** Whose rights something is about: an address, the name of a program, or our own extension, whose address tells nobody anything. */
export function appText(origin: string | null, name: string): string {
  return origin === OUR_EXTENSION ? 'extension of HybridGW' : origin ?? name
}

function named(mark: string): string {
  return `⟨U+${(mark.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`
}

/** Does text that is shown as it stands, because it is edited, hold marks that make it look like another. */
export function isTricky(text: string): boolean {
  return text.replace(/[\t\r\n]+/g, '').search(HARMFUL) >= 0
}

/** A value of a document on one line. */
export function valueText(value: unknown, most = 120): string {
  if (value === undefined || value === null) return '–'
  if (typeof value === 'string') return oneLine(value, most)
  if (Array.isArray(value) && value.length === 0) return '–'
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return oneLine(value.join(', '), most)
  return oneLine(JSON.stringify(value), most)
}

/** `3 minutes ago`. */
export function ago(atMs: number | null | undefined, nowMs = Date.now()): string {
  if (atMs === null || atMs === undefined || atMs === 0) return 'never'
  const past = nowMs - atMs
  if (past < -MINUTE) return time(atMs)
  if (past < 10_000) return 'just now'
  if (past < MINUTE) return `${Math.floor(past / 1000)} s ago`
  if (past < HOUR) return `${count(Math.floor(past / MINUTE), 'minute')} ago`
  if (past < DAY) return `${count(Math.floor(past / HOUR), 'hour')} ago`
  if (past < 30 * DAY) return `${count(Math.floor(past / DAY), 'day')} ago`
  return time(atMs)
}

/** `2 min 5 s`. */
export function duration(s: number): string {
  const whole = Math.max(0, Math.floor(s))
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
  return `${count(Math.floor(whole / 86_400), 'day')} ${Math.floor((whole % 86_400) / 3600)} h`
}

/** Date and time of this person's clock and language. */
export function time(atMs: number | null | undefined): string {
  if (atMs === null || atMs === undefined || atMs === 0) return '–'
  return new Date(atMs).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })
}

/** `1,204 documents`. */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`
}

/** `1.2 MB`. */
export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined) return '–'
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let size = n
  let unit = 0
  for (; size >= 1000 && unit < units.length - 1; unit++) size /= 1000
  return `${unit === 0 ? size : size.toFixed(size < 10 ? 1 : 0)} ${units[unit]}`
}

/** Milliseconds, with as many digits as mean something. */
export function ms(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–'
  return `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en')} ms`
}

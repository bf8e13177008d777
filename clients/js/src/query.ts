/**
 * Filter, sort and patch as the daemon does them (docs/reference/http-api.md), for changes it has not seen yet.
 *
 * What a query holds is decided by the daemon. These only place a change of our own until its answer is there.
 */

import { isRecord } from './errors.js'

export type Data = Record<string, unknown>
export type Filter = Record<string, unknown>

/** Does a document satisfy all conditions. An operator that this version does not know counts as satisfied. */
export function matches(data: Data, filter: Filter | undefined): boolean {
  for (const [name, wanted] of Object.entries(filter ?? {})) {
    const value = at(data, name.split('.'))
    if (!isRecord(wanted)) {
      if (!equal(value, wanted)) return false
      continue
    }
    for (const [operator, operand] of Object.entries(wanted)) {
      if (!(OPERATORS[operator]?.(value, operand) ?? true)) return false
    }
  }
  return true
}

const OPERATORS: Readonly<Record<string, (value: unknown, operand: any) => boolean>> = {
  $eq: equal,
  $ne: (value, operand) => !equal(value, operand),
  $lt: (value, operand) => typeof value === typeof operand && compare(value, operand) < 0,
  $lte: (value, operand) => typeof value === typeof operand && compare(value, operand) <= 0,
  $gt: (value, operand) => typeof value === typeof operand && compare(value, operand) > 0,
  $gte: (value, operand) => typeof value === typeof operand && compare(value, operand) >= 0,
  $in: (value, operand: unknown[]) => operand.some((one) => equal(value, one)),
  $has: (value, operand) => Array.isArray(value) && value.some((one) => equal(one, operand)),
  $prefix: (value, operand: string) => typeof value === 'string' && value.startsWith(operand),
  $exists: (value, operand: boolean) => (value !== undefined && value !== null) === operand,
}

function at(data: unknown, path: readonly string[]): unknown {
  let value = data
  for (const part of path) {
    if (!isRecord(value)) return undefined
    value = Object.hasOwn(value, part) ? value[part] : undefined
  }
  return value
}

function equal(value: unknown, wanted: unknown): boolean {
  return wanted === null || wanted === undefined ? value === null || value === undefined : value === wanted
}

/** Text by code points, all else by value. */
function compare(one: unknown, other: unknown): number {
  if (typeof one !== 'string' || typeof other !== 'string') return Number(one) - Number(other)
  const length = Math.min(one.length, other.length)
  let place = 0
  while (place < length && one.charCodeAt(place) === other.charCodeAt(place)) place++
  if (place === length) return one.length - other.length
  // Halves of a surrogate pair stand above everything but 0xE000 to 0xFFFF, which as code points they follow.
  const above = (unit: number): number => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit)
  return above(one.charCodeAt(place)) - above(other.charCodeAt(place))
}

/** Missing values, lists and objects first, then booleans (as 0 and 1) and numbers, then text. */
function rank(value: unknown): number {
  if (typeof value === 'string') return 2
  return typeof value === 'number' || typeof value === 'boolean' ? 1 : 0
}

interface Sortable {
  readonly id: string
  readonly version: number
  readonly data: Data
}

/** An order out of `-due,title`; the id decides what is left open. */
export function sorter(sort: string | undefined): (one: Sortable, other: Sortable) => number {
  const keys = (sort ?? '').split(',').filter((text) => text.trim() !== '').map((text) => {
    const name = text.trim()
    const isDescending = name.startsWith('-')
    return { path: (isDescending ? name.slice(1) : name).split('.'), sign: isDescending ? -1 : 1 }
  })
  const value = (doc: Sortable, path: readonly string[]): unknown =>
    path[0] === '$id' ? doc.id : path[0] === '$version' ? doc.version : at(doc.data, path)
  return (one, other) => {
    for (const { path, sign } of keys) {
      const a = value(one, path)
      const b = value(other, path)
      const by = rank(a) - rank(b) || (rank(a) === 0 ? 0 : compare(a, b))
      if (by !== 0) return by * sign
    }
    return compare(one.id, other.id)
  }
}

/** A merge patch (RFC 7396) with `$add` and `$remove` for lists that are sets. Changes nothing in place. */
export function patched(data: Data, patch: Data): Data {
  const result: Data = { ...data }
  for (const [name, change] of Object.entries(patch)) {
    const before = Object.hasOwn(result, name) ? result[name] : undefined
    if (change === null) delete result[name]
    else if (!isRecord(change)) set(result, name, change)
    else set(result, name, isSetChange(change) ? changedSet(before, change) : patched(isRecord(before) ? before : {}, change))
  }
  return result
}

/** Also of the one name whose assignment would do something else. */
function set(data: Data, name: string, value: unknown): void {
  if (name === '__proto__') Object.defineProperty(data, name, { value, enumerable: true, configurable: true, writable: true })
  else data[name] = value
}

function isSetChange(change: Data): boolean {
  const words = Object.keys(change)
  return words.length > 0 && words.every((word) => word === '$add' || word === '$remove')
}

function changedSet(before: unknown, change: Data): unknown[] {
  const removed = new Set(Array.isArray(change['$remove']) ? change['$remove'] : [])
  const kept = (Array.isArray(before) ? before : []).filter((one) => !removed.has(one))
  const added = (Array.isArray(change['$add']) ? change['$add'] : []).filter((one) => !kept.includes(one))
  return added.length === 0 && kept.length === (Array.isArray(before) ? before.length : 0) ? (before as unknown[] | undefined) ?? [] : [...kept, ...added]
}

/** The same JSON, whatever the order of names. */
export function same(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true
  if (Array.isArray(one)) return Array.isArray(other) && one.length === other.length && one.every((item, i) => same(item, other[i]))
  if (!isRecord(one) || !isRecord(other)) return false
  const names = Object.keys(one)
  return names.length === Object.keys(other).length && names.every((name) => Object.hasOwn(other, name) && same(one[name], other[name]))
}

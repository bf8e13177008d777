/** The daemon as components see it: one connection, what it answers kept fresh by its news, and what a click does. */

import { createContext } from 'preact'
import { useCallback, useContext, useEffect, useRef, useState } from 'preact/hooks'
import type { HybridGW, State } from '../../js/src/client.js'
import { asError, type HybridGWError } from '../../js/src/errors.js'
import { call, type Data } from './api.js'

export const Connected = createContext<HybridGW>(null as unknown as HybridGW)

/** The connection. */
export function useDaemon(): HybridGW {
  return useContext(Connected)
}

/** Where the connection stands. */
export function useStatus(db: HybridGW): State {
  const [state, set] = useState(db.getSnapshot)
  useEffect(() => db.subscribe(set), [db])
  return state
}

/** An answer, and how fresh it is. data: the last one there was, also while a newer one is asked for or fails to come. */
export interface Answer<T> {
  readonly data: T | null
  readonly error: HybridGWError | null
  readonly reload: () => void
}

interface Kept<T> {
  about: string
  data: T | null
  error: HybridGWError | null
}

/**
 * What a command answers; asked anew when the connection comes back, when the daemon has news of one of *kinds*, and
 * every *everyMs*. The command is not asked while it is null. `limit` of the parameters is how much of a list: what there is
 * stays while more of it is asked for.
 */
export function useAnswer<T>(command: string | null, params: Data = {}, kinds: readonly string[] = [], everyMs = 0): Answer<T> {
  const db = useDaemon()
  const [turn, setTurn] = useState(0)
  const [kept, keep] = useState<Kept<T>>({ about: '', data: null, error: null })
  const asking = useRef<{ key: string; isOld: boolean } | null>(null)
  const key = `${command} ${JSON.stringify(params)}`
  const about = `${command} ${JSON.stringify({ ...params, limit: undefined })}`
  const reload = useCallback(() => setTurn((before) => before + 1), [])
  const wanted = kinds.join(' ')

  useEffect(() => {
    // One question at a time: who answers more slowly than there is news, or than it is asked, is heard all the same.
    if (asking.current?.key === key) return void (asking.current.isOld = true)
    asking.current = null
    if (command === null) return
    const mine = (asking.current = { key, isOld: false })
    const over = (next: Kept<T> | null): void => {
      if (asking.current !== mine) return // something else is asked for now
      asking.current = null
      if (next !== null) keep((before) => (next.error?.retryable === true && before.about === about ? { ...before, error: next.error } : next))
      if (mine.isOld) reload()
    }
    call<T>(db, command, JSON.parse(key.slice(command.length + 1)) as Data).then(
      (data) => over({ about, data, error: null }),
      (thrown: unknown) => {
        const error = asError(thrown)
        // While the connection is lost, what was there before is shown, and the page says that it is old.
        over(error.code === 'offline' ? null : { about, data: null, error })
      },
    )
  }, [db, command, key, turn])
  useEffect(() => () => void (asking.current = null), [])

  useEffect(() => {
    const ends = [watchOnline(db, reload)]
    if (wanted !== '') ends.push(onNews(db, (what) => (what === 'missed' || wanted.split(' ').includes(what)) && reload()))
    if (everyMs > 0) {
      const timer = setInterval(() => !document.hidden && reload(), everyMs)
      ends.push(() => clearInterval(timer))
    }
    return () => ends.forEach((end) => end())
  }, [db, wanted, everyMs, reload])

  const isCurrent = kept.about === about
  return { data: isCurrent ? kept.data : null, error: isCurrent ? kept.error : null, reload }
}

const told = new WeakMap<HybridGW, Set<(what: string) => void>>()

/** News of the daemon, over one subscription however many listen. */
function onNews(db: HybridGW, listener: (what: string) => void): () => void {
  let listeners = told.get(db)
  if (listeners === undefined) {
    const made = (listeners = new Set())
    told.set(db, made)
    db.news((what) => made.forEach((one) => one(what)))
  }
  listeners.add(listener)
  return () => void listeners.delete(listener)
}

function watchOnline(db: HybridGW, back: () => void): () => void {
  let was = db.getSnapshot().status
  return db.subscribe(({ status }) => {
    if (status === 'online' && was !== 'online') back()
    was = status
  })
}

/** Something that a click does. */
export interface Action {
  readonly isRunning: boolean
  readonly error: HybridGWError | null
  readonly run: (work: () => Promise<unknown>) => Promise<boolean>
  readonly clear: () => void
}

/** One thing at a time; what went wrong stays until the next try. */
export function useAction(): Action {
  const [state, set] = useState<{ isRunning: boolean; error: HybridGWError | null }>({ isRunning: false, error: null })
  const isThere = useRef(true)
  const isBusy = useRef(false)
  useEffect(() => {
    isThere.current = true
    return () => void (isThere.current = false)
  }, [])
  const run = useCallback(async (work: () => Promise<unknown>): Promise<boolean> => {
    if (isBusy.current) return false
    isBusy.current = true
    set({ isRunning: true, error: null })
    try {
      await work()
      isBusy.current = false
      if (isThere.current) set({ isRunning: false, error: null })
      return true
    } catch (thrown) {
      isBusy.current = false
      if (isThere.current) set({ isRunning: false, error: asError(thrown) })
      return false
    }
  }, [])
  const clear = useCallback(() => set({ isRunning: false, error: null }), [])
  return { ...state, run, clear }
}

/** The time, told every *everyMs*. */
export function useNow(everyMs = 1_000): number {
  const [now, set] = useState(Date.now)
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), everyMs)
    return () => clearInterval(timer)
  }, [everyMs])
  return now
}

/** One at a time across all tabs of an origin, by Web Locks; where there are none, within this page or process. */

const tails = new Map<string, Promise<unknown>>()

/** Runs *work* while no other tab runs some under the same *name*. Rejects if *signal* ends the wait. */
export function exclusive<T>(name: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  if (typeof navigator !== 'undefined' && navigator.locks !== undefined) {
    return navigator.locks.request(name, signal === undefined ? {} : { signal }, work) as Promise<T>
  }
  const before = tails.get(name) ?? Promise.resolve()
  const run = before.then(() => {
    signal?.throwIfAborted()
    return work()
  })
  const tail = run.catch(() => undefined).then(() => {
    if (tails.get(name) === tail) tails.delete(name)
  })
  tails.set(name, tail)
  return run
}

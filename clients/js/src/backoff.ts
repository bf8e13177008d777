/** Waits before trying again. Full jitter: Brooker 2015, "Exponential Backoff And Jitter". */

export const FIRST_MS = 250
export const CAP_MS = 10_000 // a daemon of this machine that was started again is found within seconds

/** Milliseconds to wait before attempt *attempt* (0 is the first retry). random: in [0, 1). */
export function fullJitter(attempt: number, random: () => number = Math.random): number {
  return Math.floor(random() * Math.min(CAP_MS, FIRST_MS * 2 ** Math.min(attempt, 16)))
}

/** Resolves after *ms*, or when *signal* is aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve()
    const done = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done)
  })
}

/** Notices that this computer has slept, or that the page was looked away from: then an open connection proves nothing. */

const TICK_MS = 2_000
const GAP_MS = 5_000 // a timer that comes so much too late has slept

export interface WakeEvents {
  /** It has slept: whatever was open is not. */
  slept(): void
  /** It may have: ask. */
  doubt(): void
}

/** Watch until the returned function is called. */
export function watchWake(events: WakeEvents, nowMs: () => number = Date.now): () => void {
  let last = nowMs()
  const isHidden = (): boolean => typeof document !== 'undefined' && document.visibilityState === 'hidden'
  const timer = setInterval(() => {
    const gap = nowMs() - last
    last = nowMs()
    if (gap < GAP_MS) return
    if (isHidden()) events.doubt() // browsers slow the timers of hidden pages down to one a minute
    else events.slept()
  }, TICK_MS)
  ;(timer as { unref?: () => void }).unref?.()
  const ends: (() => void)[] = [() => clearInterval(timer)]
  const on = (target: EventTarget | undefined, name: string, then: (event: Event) => void): void => {
    target?.addEventListener(name, then)
    ends.push(() => target?.removeEventListener(name, then))
  }
  if (typeof document !== 'undefined' && typeof window !== 'undefined') {
    on(document, 'visibilitychange', () => {
      if (!isHidden()) events.doubt()
    })
    on(document, 'resume', () => events.slept()) // the browser had frozen the page
    on(window, 'pageshow', (event) => {
      if ((event as PageTransitionEvent).persisted === true) events.slept()
    })
    on(window, 'online', () => events.doubt())
  }
  return () => ends.forEach((end) => end())
}

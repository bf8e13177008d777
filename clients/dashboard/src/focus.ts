/** Where the focus of the keyboard is, when what had it goes. Of the dashboard and the extension. */

import { useEffect } from 'preact/hooks'

/** What the Tab key leads to. */
export const CAN_FOCUS = 'a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea:not(:disabled), summary, [tabindex="0"]'

/**
 * What had the focus may go, as the row of something that was just done, or the button that asked once more: then it is
 * at what the row stood in, and the next Tab goes on from there, not from the top of the page.
 *
 * Args: places: a selector of what may have it then, such as headings; the nearest one counts.
 */
export function useKeptFocus(places: string): void {
  useEffect(() => {
    let inside: Element[] = []
    const entered = (event: Event): void => {
      inside = []
      if (!(event.target instanceof Element)) return
      for (let one = event.target.closest(CAN_FOCUS); one !== null; one = one.parentElement) inside.push(one)
    }
    const watch = new MutationObserver(() => {
      if (inside[0] === undefined || inside[0].isConnected || document.activeElement !== document.body) return
      const around = inside.filter((one) => one.isConnected)
      inside = []
      for (const one of around) {
        const place = one.matches(places) ? one : one.querySelector(places)
        if (!(place instanceof HTMLElement)) continue
        place.tabIndex = -1
        return place.focus({ preventScroll: true })
      }
    })
    addEventListener('focusin', entered)
    addEventListener('click', entered, true) // not every browser gives the focus to a button that is clicked
    watch.observe(document.body, { childList: true, subtree: true })
    return () => {
      removeEventListener('focusin', entered)
      removeEventListener('click', entered, true)
      watch.disconnect()
    }
  }, [places])
}

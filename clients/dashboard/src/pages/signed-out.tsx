/** Without a session: why, and how to get in. */

import { useEffect, useRef } from 'preact/hooks'
import type { HybridGWError } from '../../../js/src/errors.js'
import { oneLine } from '../format.js'
import { Notice } from '../parts.js'

export type Why = 'none' | 'refused' | 'ended' | 'left'

/** The page of somebody who is not signed in. */
export function SignedOut({ why, error }: { why: Why; error?: HybridGWError | null }) {
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    document.title = 'HybridGW' // not that of the page that was left, nor what waited there
    if (why === 'ended' || why === 'left') heading.current?.focus()
  }, [why])
  return (
    <main class="signed-out">
      <img src="/assets/icon.svg" alt="" width="56" height="56" />
      <h1 tabIndex={-1} ref={heading}>HybridGW</h1>
      {why === 'refused' && <Notice tone="bad">{oneLine(error?.message ?? 'This link does not open the dashboard.', 500)}</Notice>}
      {why === 'ended' && <Notice tone="warn">This session has ended: it lasts for twelve hours, until you sign out, or until the daemon is started anew. Your data is where it was.</Notice>}
      {why === 'left' && <Notice tone="good">You are signed out.</Notice>}
      <p>The dashboard opens with a link that works once, from the computer that it belongs to. Type this in a terminal:</p>
      <pre><code>hybridgw dashboard</code></pre>
      <p class="quiet">The link is good for five minutes and for one browser tab. Nobody else can make one: it takes the files of your own account on this computer.</p>
    </main>
  )
}

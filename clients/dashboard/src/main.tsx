/** Begins: a link is exchanged, a session of this tab is taken up, or the page says how to get in. */

import { render } from 'preact'
import { useCallback, useState } from 'preact/hooks'
import { asError, type HybridGWError } from '../../js/src/errors.js'
import { App } from './app.js'
import { SignedOut, type Why } from './pages/signed-out.js'
import { keepSession, keptSession, openSession, takeLink, type Session } from './session.js'
import { applyTheme } from './theme.js'
import './style.css'

applyTheme()
const link = takeLink()

function Root({ first, refused }: { first: Session | null; refused: HybridGWError | null }) {
  const [session, set] = useState(first)
  const [why, say] = useState<Why>(refused === null ? 'none' : 'refused')
  const over = useCallback((reason: 'ended' | 'left') => {
    keepSession(null)
    say(reason)
    set(null)
  }, [])
  if (session === null) return <SignedOut why={why} error={refused} />
  return <App session={session} over={over} />
}

async function begin(): Promise<void> {
  let session = keptSession()
  let refused: HybridGWError | null = null
  if (link !== null) {
    try {
      session = await openSession(link)
      keepSession(session)
    } catch (thrown) {
      refused = asError(thrown)
      session = null
    }
  }
  const place = document.querySelector('#app') as HTMLElement
  render(<Root first={session} refused={refused} />, place)
}

// The person opened another link in this tab: begin anew.
addEventListener('hashchange', () => location.hash.startsWith('#link=') && location.reload())
void begin()

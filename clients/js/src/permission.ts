/**
 * The browser's own question before a page may reach programs on this computer (Local Network Access).
 *
 * Chromium 142 brought it as `local-network-access`, 145 split it into `loopback-network` and `local-network`; Firefox
 * follows, and does not tell how it stands. The state is asked for silently; the question itself is only ever caused by
 * a click, for a browser that was told no keeps to it.
 */

export type NetworkPermission = 'granted' | 'denied' | 'prompt' | 'unknown'

const NAMES = ['loopback-network', 'local-network-access'] // newest first

/** How it stands, without asking the person anything. `unknown`: this browser has no such question, or hides it. */
export async function networkPermission(): Promise<NetworkPermission> {
  const found = await status()
  if (found === null) return 'unknown'
  return isSecureContext ? found.state : 'denied' // a page without https is not even asked about
}

/** May this browser keep us from this computer without telling: a page of the internet, and no answer to how it stands. */
export async function mayBeKeptAway(): Promise<boolean> {
  return isPage() && !isLoopback(location.hostname) && (await status()) === null
}

/** Calls back when the person changes it. Returns what ends that. */
export function watchPermission(changed: (state: NetworkPermission) => void): () => void {
  let end = (): void => undefined
  let isOver = false
  void status().then((found) => {
    if (found === null || isOver) return
    const tell = (): void => changed(found.state)
    found.addEventListener('change', tell)
    end = () => found.removeEventListener('change', tell)
  })
  return () => {
    isOver = true
    end()
  }
}

async function status(): Promise<PermissionStatus | null> {
  if (!isPage() || isLoopback(location.hostname)) return null // loopback to loopback is not asked about
  for (const name of NAMES) {
    try {
      return await navigator.permissions.query({ name: name as PermissionName })
    } catch {
      continue // a browser that does not know the name
    }
  }
  return null
}

/** Are we in a document that a person looks at. */
export function isPage(): boolean {
  return typeof document !== 'undefined' && typeof location !== 'undefined' && typeof navigator !== 'undefined' && navigator.permissions !== undefined
}

/** Does the code run because the person has just clicked or typed; null where nobody can tell. */
export function isActivated(): boolean | null {
  if (typeof navigator === 'undefined' || !('userActivation' in navigator) || navigator.userActivation === undefined) return null
  return navigator.userActivation.isActive
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '[::1]' || /^127(\.\d+){3}$/.test(host)
}

/** HybridGW for Node programs: the same client, with a WebSocket of its own and files to keep things in. */

import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { HybridGW, type ConnectOptions } from './client.js'
import { HybridGWError, isRecord } from './errors.js'
import type { Kept, TokenKeeper } from './keeping.js'
import { NodeSocket } from './node-socket.js'

export * from './index.js'
export { NodeSocket }

/** As `connect` of a page. By default everything is kept in memory; see `fileTokens`. */
export function connect(options: ConnectOptions): HybridGW {
  return new HybridGW({ openSocket: (url, protocol) => new NodeSocket(url, protocol), ...options })
}

let saves = 0

/** In a file that only this user can read. */
export function fileTokens(path: string): TokenKeeper {
  return {
    load: async () => {
      try {
        return JSON.parse(await readFile(path, 'utf8')) as Kept
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
        throw error
      }
    },
    save: async (kept) => {
      const made = `${path}.${process.pid}.${++saves}.new` // of its own: others may save at the same time
      await writeFile(made, JSON.stringify(kept), { mode: 0o600 })
      await rename(made, path)
    },
    clear: async () => await rm(path, { force: true }),
  }
}

/** Address and owner's token out of the endpoint file (`hybridgw paths` says where), for programs of the person's own. */
export async function ownerOf(endpointFile: string): Promise<{ url: string; token: string }> {
  let found: unknown
  try {
    found = JSON.parse(await readFile(endpointFile, 'utf8'))
  } catch (error) {
    throw new HybridGWError('not_running', 'There is no endpoint file that can be read: HybridGW does not run.', { retryable: true, cause: error })
  }
  if (!isRecord(found) || typeof found['url'] !== 'string' || typeof found['token'] !== 'string') {
    throw new HybridGWError('not_running', 'The endpoint file cannot be understood. Start HybridGW again: hybridgw up.')
  }
  return { url: found['url'], token: found['token'] }
}

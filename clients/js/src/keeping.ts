/** Where credentials and unsent changes are kept: places with one small interface each, so that an app can bring its own. */

import type { Change } from './change.js'

/** What was given to this app at one address. */
export interface Kept {
  url: string
  /** A request that waits for the person. */
  pending?: { id: string; code: string; secret: string; expiresMs: number; sentence: string }
  grant?: { id: string; access: string; refresh: string | null; expiresMs: number; scopes: string[] }
}

/** A place for credentials. */
export interface TokenKeeper {
  load(): Promise<Kept | null>
  save(kept: Kept): Promise<void>
  clear(): Promise<void>
}

/** A place for changes that were not sent yet; in the order of their numbers. */
export interface OutboxKeeper {
  /** All that are kept. */
  load(): Promise<Change[]>
  /** Keeps it durably and gives it the next number. */
  add(change: Omit<Change, 'number'>): Promise<Change>
  /** It was given to the daemon once, and nobody knows whether it arrived. */
  mark(number: number): Promise<void>
  remove(number: number): Promise<void>
}

/** In memory: gone with the page or process. */
export function memoryTokens(): TokenKeeper {
  let kept: Kept | null = null
  return {
    load: async () => kept,
    save: async (value) => void (kept = value),
    clear: async () => void (kept = null),
  }
}

/** In sessionStorage: until the tab is closed. */
export function sessionTokens(key = 'hybridgw'): TokenKeeper {
  return {
    load: async () => JSON.parse(sessionStorage.getItem(key) ?? 'null') as Kept | null,
    save: async (value) => sessionStorage.setItem(key, JSON.stringify(value)),
    clear: async () => sessionStorage.removeItem(key),
  }
}

/** In IndexedDB: until the person, or the app, ends it. Shared by all tabs of the origin. */
export function databaseTokens(name = 'hybridgw'): TokenKeeper {
  return {
    load: async () => ((await request(name, 'tokens', 'readonly', (store) => store.get('kept'))) as Kept | undefined) ?? null,
    save: async (value) => void (await request(name, 'tokens', 'readwrite', (store) => store.put(value, 'kept'))),
    clear: async () => void (await request(name, 'tokens', 'readwrite', (store) => store.delete('kept'))),
  }
}

/** One value of its own beside the tokens; null: there is none yet. Saving keeps what is there already. */
export function databaseValue<T>(name: string, key: string): { load(): Promise<T | null>; save(value: T): Promise<void> } {
  return {
    load: async () => ((await request(name, 'tokens', 'readonly', (store) => store.get(key))) as T | undefined) ?? null,
    save: async (value) => {
      await request(name, 'tokens', 'readwrite', (store) => {
        const got = store.get(key)
        got.onsuccess = () => {
          if (got.result === undefined) store.put(value, key)
        }
        return got
      })
    },
  }
}

/** In memory: changes are lost with the process. */
export function memoryOutbox(): OutboxKeeper {
  let last = 0
  const kept = new Map<number, Change>()
  return {
    load: async () => [...kept.values()],
    add: async (change) => {
      const numbered = { ...change, number: ++last }
      kept.set(last, numbered)
      return numbered
    },
    mark: async (number) => {
      const found = kept.get(number)
      if (found !== undefined) kept.set(number, { ...found, isTried: true })
    },
    remove: async (number) => void kept.delete(number),
  }
}

/** In IndexedDB: changes outlive the page, the browser and, flushed to the disk, the computer. */
export function databaseOutbox(name = 'hybridgw'): OutboxKeeper {
  return {
    load: async () => (await request(name, 'outbox', 'readonly', (store) => store.getAll())) as Change[],
    add: async (change) => {
      const number = (await request(name, 'outbox', 'readwrite', (store) => store.add(change))) as number
      return { ...change, number }
    },
    mark: async (number) => {
      await request(name, 'outbox', 'readwrite', (store) => {
        const got = store.get(number)
        got.onsuccess = () => {
          if (got.result !== undefined) store.put({ ...(got.result as Change), isTried: true })
        }
        return got
      })
    },
    remove: async (number) => void (await request(name, 'outbox', 'readwrite', (store) => store.delete(number))),
  }
}

// ---- IndexedDB ------------------------------------------------------------------------------------------------------
const opened = new Map<string, Promise<IDBDatabase>>()

function database(name: string): Promise<IDBDatabase> {
  const found = opened.get(name)
  if (found !== undefined) return found
  const made = new Promise<IDBDatabase>((resolve, reject) => {
    const asked = indexedDB.open(name, 1)
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore('tokens')
      asked.result.createObjectStore('outbox', { keyPath: 'number', autoIncrement: true })
    }
    asked.onsuccess = () => {
      const db = asked.result
      const forget = (): void => void (opened.get(name) === made && opened.delete(name)) // the next request opens it anew
      db.onversionchange = () => {
        db.close() // another tab with a later version of the page, or one that throws all of it away
        forget()
      }
      db.onclose = forget
      resolve(db)
    }
    asked.onerror = () => reject(asked.error ?? new Error('IndexedDB cannot be opened'))
  })
  opened.set(name, made)
  made.catch(() => opened.delete(name))
  return made
}

/** One request, durable before it resolves. */
async function request(name: string, store: string, mode: IDBTransactionMode, make: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
  const db = await database(name)
  return await new Promise((resolve, reject) => {
    const transaction = db.transaction(store, mode, { durability: 'strict' })
    const asked = make(transaction.objectStore(store))
    transaction.oncomplete = () => resolve(asked.result)
    transaction.onabort = () => reject(transaction.error ?? new Error('IndexedDB gave up'))
  })
}

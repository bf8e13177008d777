/** What the daemon answers, as far as the pages show it: docs/reference/http-api.md. Times are Unix milliseconds. */

import type { HybridGW } from '../../js/src/client.js'

export type Data = Record<string, unknown>

/** A list of something. */
export interface Items<T> {
  items: T[]
  next_cursor: string | null
}

export interface RelayStatus {
  url: string
  state: 'connected' | 'connecting' | 'offline' | 'refused'
  error: string | null
  rtt_ms: number | null
  last_ms: number | null
  sent_bytes: number
  received_bytes: number
}

export type Path = 'relay' | 'lan' | 'both' | 'none'

/** A connection with another device, without a relay. */
export interface DirectLink {
  device: string
  name: string
  address: string
  sent_bytes: number
  received_bytes: number
}

export interface SyncStatus {
  state: 'in_step' | 'syncing' | 'offline' | 'parked' | 'locked'
  standing: 'active' | 'left' | 'removed' | 'expelled' | 'refused'
  path: Path
  path_reason: string
  direct: DirectLink[]
  lan: boolean
  pending: number
  to_send: number
  waiting: number
  conflicts: number
  alarms: number
  devices: number
  relays: RelayStatus[]
  last_sync_ms: number | null
  message: string | null
}

export interface Component {
  name: string
  state: 'ok' | 'starting' | 'degraded' | 'failed' | 'not_configured'
  message: string | null
  help?: string | null
}

export interface Readiness {
  ready: boolean
  version: string
  uptime_s: number
  components: Component[]
}

export interface HealthReport extends Readiness {
  status: 'ok' | 'degraded' | 'failed'
  services: Component[]
  system: {
    cpu_count: number
    load_1m: number | null
    memory_total_bytes: number
    memory_available_bytes: number
    process_rss_bytes: number
    process_cpu_percent: number
    process_threads: number
    process_open_files: number | null
    disk: { path: string; free_bytes: number; total_bytes: number; database_bytes: number } | null
  }
  performance: {
    requests: number
    error_rate: number
    unavailable_rate: number
    refused_rate: number
    request_p50_s: number | null
    request_p95_s: number | null
    request_p99_s: number | null
    commits: number
    commit_p50_s: number | null
    commit_p99_s: number | null
  }
}

export interface Device {
  id: string
  name: string
  fingerprint: string
  state: 'active' | 'removed' | 'left' | 'expelled'
  own: boolean
  platform: string | null
  last_seen_ms: number | null
  behind: number | null
  path: Path
  lacks: number | null
  added_ms: number | null
  removed_by: string[]
  quarantined: number
}

/** Who knows of a change of the devices, and who will be told. */
export interface DeviceChange {
  device: Device
  told: string[]
  waiting: string[]
}

/** What a removal would do. */
export interface Removal {
  device: Device
  will: string[]
  cannot: string[]
  acts: { what: 'added' | 'removed' | 'restored'; name: string; at_ms: number; undone: boolean }[]
  comes_back: string[]
  goes_too: string[]
  keeps: number
  voids: number
}

export interface Quarantined {
  device: Device
  batches: number
  readable: number
  operations: number
  documents: string[]
  first_ms: number | null
  last_ms: number | null
}

/** Where the recovery words are. */
export interface Recovery {
  state: 'here' | 'confirmed' | 'elsewhere'
  confirmed_ms: number | null
}

export interface PairingOffer {
  id: string
  code: string
  link: string
  expires_ms: number
}

export interface Pairing {
  id: string
  state: 'waiting' | 'exchanging' | 'confirm' | 'joining' | 'done' | 'failed'
  words: string | null
  peer: { name: string; platform: string; fingerprint: string } | null
  error: string | null
}

export interface Relay {
  url: string
  added_ms: number
  enrolled: boolean
  state: string
  error: string | null
}

export interface RelayCheck {
  url: string
  ok: boolean
  tls: boolean
  rtt_ms: number | null
  clock_offset_ms: number | null
  quota_bytes: number | null
  used_bytes: number | null
  can_read: boolean
  error: string | null
}

export interface LanStatus {
  enabled: boolean
  port: number
  interfaces: { name: string; state: 'announced' | 'skipped' | 'failed' | 'waiting'; addresses: string[]; reason: string | null }[]
  addresses: { address: string; source: 'manual' | 'last_good' | 'found'; device: string | null; last_ms: number | null }[]
  message: string | null
}

export interface LanReport {
  ok: boolean
  items: { code: string; state: 'ok' | 'warn' | 'fail'; message: string; help: string }[]
}

export interface Alarm {
  id: number
  at_ms: number
  code: string
  message: string
  acknowledged: boolean
}

export type Lasts = 'session' | '30d' | 'until_revoked'

export interface Grant {
  id: string
  state: 'pending' | 'approved' | 'refused' | 'expired' | 'ended'
  kind: 'web' | 'extension' | 'program'
  origin: string | null
  name: string
  scopes: string[]
  sentence: string
  asked_ms: number
  code: string | null
  tries_left: number | null
  lasts: Lasts | null
  approved_ms: number | null
  expires_ms: number | null
  last_used_ms: number | null
  ended_ms: number | null
  reason: string | null
}

export interface ApiKey {
  id: string
  note: string
  scopes: string[]
  sentence: string
  created_ms: number
  expires_ms: number | null
  last_used_ms: number | null
}

export interface AuditEntry {
  id: number
  at_ms: number
  event: string
  message: string
  origin: string | null
  principal: string | null
  count: number
}

export interface Collection {
  name: string
  documents: number
  conflicts: number
  builtin: boolean
  secret: boolean
  read_only: boolean
  title: string | null
  schema: Data | null
}

export interface Document {
  id: string
  collection: string
  version: number
  conflicts: number
  data?: Data
  deleted?: boolean
}

export interface Alternative {
  key: string
  value: unknown
  at_ms: number | null
  device: string | null
}

export interface FieldConflict {
  field: string
  kind: 'value' | 'element'
  others: Alternative[]
  shown?: unknown
  buried: boolean
}

export interface Conflict {
  collection: string
  id: string
  version: number
  count: number
  fields: FieldConflict[]
  data?: Data
  deleted: boolean
}

export interface Connection {
  id: string
  kind: 'websocket' | 'events'
  state: string
  opened_ms: number
  mode: string | null
  client_id: string | null
  principal: string | null
  user_agent: string
  rtt_ms: number | null
  received_messages: number
  received_bytes: number
  sent_messages: number
  sent_bytes: number
  last_ms: number | null
  closed_ms: number | null
  close_code: number | null
  close_reason: string | null
}

export interface LogEntry {
  timestamp: string
  level: string
  event: string
  message: string
}

export interface Setting {
  name: string
  value: unknown
  default: unknown
  source: string
  effect: string
}

export type MessageState = 'queued' | 'stored' | 'handed' | 'delivered' | 'handled' | 'expired' | 'failed'

export interface Message {
  id: string
  incoming: boolean
  device: string
  client: string
  to: string
  type: string
  body: unknown
  priority: 'bulk' | 'normal' | 'high' | 'urgent'
  created_ms: number
  expires_ms: number
  state: MessageState
  deliveries: { device: string; here: boolean; state: MessageState; at_ms: number; tries: number; error: string | null }[]
  reply_to: string | null
  gap: boolean
  person: string | null
  person_id: string | null
  also: string[]
}

/** Where a message would go, and why. */
export interface Route {
  type: string
  steps: { to: string; why: string; devices: { device: string; here: boolean; programs: string[] }[]; problem: string | null }[]
}

/** A rule for messages that name no target. */
export interface RouteRule {
  name: string
  type: string
  to: string[]
  go_on: boolean
  fixed: boolean
}

/** Another person. number: null in lists. */
export interface Contact {
  id: string
  name: string
  state: 'asked' | 'accepted' | 'blocked'
  verified: boolean
  changed: boolean
  relay: string
  address: string
  devices: number
  number: string | null
  number_link: string | null
}

/** Somebody who asks to be a contact; nobody has checked what they say. */
export interface ContactRequest {
  id: string
  name: string
  note: string
  at_ms: number
  known: string | null
}

/** Where other people find this one. */
export interface OwnAddress {
  address: string
  link: string
  name: string
  published: boolean
}

/** A program that listens for messages here. */
export interface Program {
  client: string
  app: string
  topics: string[]
  online: boolean
  last_seen_ms: number
  waiting: number
}

/** Of the programs' connections, since the daemon was started. */
export interface Stats {
  open: number
  received_messages: number
  received_bytes: number
  sent_messages: number
  sent_bytes: number
}

/** A command of the daemon's table, with its answer's type. */
export function call<T>(db: HybridGW, command: string, params: Data = {}, timeoutMs?: number): Promise<T> {
  return db.call<T>(command, params, timeoutMs)
}

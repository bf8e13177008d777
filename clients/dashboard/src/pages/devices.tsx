/** The devices of the person: which there are, how another one is added, the recovery words, what lost ones wrote. */

import type { Device, Items, Quarantined } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, count, oneLine, time } from '../format.js'
import { Pair } from '../pairing.js'
import { Badge, Card, Empty, Loaded, Page, Problem, Said, Sure, type Tone } from '../parts.js'
import { RecoveryWords } from '../words.js'

export const WAYS = { relay: 'by relay', lan: 'direct', both: 'direct and by relay', none: '' } as const

/** What is said of a device that does not belong, or of one that does. */
export const STANDING: Readonly<Record<Device['state'], { tone: Tone; text: string }>> = {
  active: { tone: 'good', text: 'belongs' },
  removed: { tone: 'bad', text: 'removed' },
  left: { tone: 'calm', text: 'has left' },
  expelled: { tone: 'bad', text: 'out for good' },
}

/** All devices. */
export function DevicesPage() {
  const devices = useAnswer<Items<Device>>('devices.list', {}, ['devices', 'sync'], 10_000)
  const now = useNow(30_000)
  return (
    <Page title="Devices" lead="Each has keys of its own. What one of them writes, the others get, and nobody in between can read it.">
      <Pair paired={devices.reload} />
      <Card title="Your devices">
        <Loaded answer={devices}>{({ items }) => items.length === 0 ? <Empty>This device has no keys yet.</Empty> : (
          <ul class="rows">
            {[...items].sort((one, other) => Number(other.own) - Number(one.own) || Number(other.state === 'active') - Number(one.state === 'active')).map((device) => (
              <li key={device.id} data-device={device.id} class="with-action">
                <div>
                  <strong><Said text={device.name} most={64} /></strong>{' '}
                  {device.own && <Badge tone="good">this device</Badge>}{' '}
                  {!device.own && device.state === 'active' && device.path !== 'none' && <Badge tone="calm">{WAYS[device.path]}</Badge>}{' '}
                  {device.state !== 'active' && <Badge tone={STANDING[device.state].tone}>{STANDING[device.state].text}{device.removed_by.length > 0 && ` by ${oneLine(device.removed_by.join(', '), 80)}`}</Badge>}
                  <p class="quiet">
                    {device.platform !== null && <><Said text={device.platform} most={30} />, </>}
                    fingerprint <code>{oneLine(device.fingerprint, 60)}</code>
                    {!device.own && <>, last heard {ago(device.last_seen_ms, now)}</>}
                    {(device.behind ?? 0) > 0 && <>, {count(device.behind ?? 0, 'batch', 'batches')} of it to come</>}
                  </p>
                </div>
                {device.id !== '' && <a class="button" href={`#/devices/${encodeURIComponent(device.id)}`}>Manage<span class="hidden"> {oneLine(device.name, 64)}</span></a>}
              </li>
            ))}
          </ul>
        )}</Loaded>
      </Card>
      <RecoveryWords />
      <Quarantine />
    </Page>
  )
}

/** What lost devices wrote and does not count. of: only that device. */
export function Quarantine({ of }: { of?: string }) {
  const db = useDaemon()
  const found = useAnswer<Items<Quarantined>>('devices.quarantine', {}, ['devices'], 60_000)
  const action = useAction()
  const items = (found.data?.items ?? []).filter((one) => of === undefined || one.device.id === of)
  const take = (id: string) => async (): Promise<void> => {
    await call(db, 'devices.quarantine.import', { id }, 60_000)
    found.reload()
  }
  if (items.length === 0 && action.error === null) return null
  return (
    <Card title="Kept aside">
      <p class="quiet">Lost devices wrote this after you had them last, or a device was put back from a backup and went on without it; so it does not count. What you take keeps its times: where somebody wrote something else meanwhile, that becomes a conflict, and nothing is written over.</p>
      <Problem error={action.error} />
      <ul class="rows">
        {items.map((one) => (
          <li key={one.device.id} class="with-action" data-kept={one.device.id}>
            <div>
              <strong>{count(one.operations, 'change')}</strong> of <Said text={one.device.name} most={64} />
              {one.first_ms !== null && <>, {time(one.first_ms)}{one.last_ms !== one.first_ms && <> to {time(one.last_ms)}</>}</>}
              {one.documents.length > 0 && <p class="quiet">{oneLine(one.documents.slice(0, 5).join(', '), 300)}{one.documents.length > 5 && ' …'}</p>}
              {one.readable < one.batches && <p class="quiet">{count(one.batches - one.readable, 'batch', 'batches')} of it cannot be opened here.</p>}
            </div>
            {one.operations > 0 && <Sure label="Take it after all" question="It will count as if this device had written it then." yes="Take it" no="Leave it" action={action} work={take(one.device.id)} small />}
          </li>
        ))}
      </ul>
    </Card>
  )
}

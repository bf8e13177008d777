/** The conflict inbox: what two devices wrote without having seen each other, side by side; one click decides. */

import { useState } from 'preact/hooks'
import type { Alternative, Conflict, Device, FieldConflict, Items } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, count, lines, oneLine, time, valueText } from '../format.js'
import { Badge, Button, Card, Empty, Loaded, Page, Problem, Said } from '../parts.js'

/** The inbox. */
export function ConflictsPage() {
  const [limit, more] = useState(20)
  const conflicts = useAnswer<Items<Conflict> & { total: number }>('conflicts.list', { limit }, ['sync', 'collections'], 5_000)
  const devices = useAnswer<Items<Device>>('devices.list', {}, ['devices'])
  const names = new Map(devices.data?.items.map((device) => [device.id, device.own ? `${device.name} (this device)` : device.name]))
  return (
    <Page title="Conflicts" lead="Changed on two devices that had not seen each other’s change. Nothing is lost and nothing waits for you; all devices show the same value until you decide.">
      <Loaded answer={conflicts}>{({ items, total, next_cursor }) => items.length === 0
        ? <Card><Empty>{total === 0 ? 'No conflicts.' : `${count(total, 'document')} in a locked collection.`}</Empty></Card>
        : (
          <>
            {items.map((conflict) => <One key={`${conflict.collection}/${conflict.id}`} conflict={conflict} names={names} done={conflicts.reload} />)}
            {next_cursor !== null && limit < 1_000 && <Button onClick={() => more(Math.min(1_000, limit + 50))}>Show more of {total}</Button>}
          </>
        )}</Loaded>
    </Page>
  )
}

function titleOf(conflict: Conflict): string {
  const data = conflict.data ?? {}
  for (const name of ['title', 'name', 'subject', 'key']) if (typeof data[name] === 'string') return data[name]
  return conflict.id
}

/** A field may stand there twice: values of this life of the document, and of one before it was deleted. */
function byField(conflict: Conflict): [string, FieldConflict[]][] {
  const found = new Map<string, FieldConflict[]>()
  for (const field of conflict.fields) found.set(field.field, [...(found.get(field.field) ?? []), field])
  return [...found]
}

function One({ conflict, names, done }: { conflict: Conflict; names: ReadonlyMap<string, string>; done: () => void }) {
  const db = useDaemon()
  const action = useAction()
  const { collection, id, version } = conflict
  const resolve = (more: Record<string, unknown>) => (): void => {
    void action.run(() => call(db, 'conflicts.resolve', { collection, id, version, ...more })).then(done)
  }
  const fields = byField(conflict)
  return (
    <Card
      title={<><a href={`#/data/${encodeURIComponent(collection)}/${encodeURIComponent(id)}`}><Said text={titleOf(conflict)} most={80} /></a> <span class="quiet">in <Said text={collection} most={60} /></span> {conflict.deleted && <Badge tone="warn">deleted</Badge>}</>}
      actions={fields.length > 1 && <><Button busy={action.isRunning} onClick={resolve({ keep: 'shown' })}>Keep all that is shown</Button><Button busy={action.isRunning} onClick={resolve({ keep: 'other' })}>Take all the others</Button></>}
    >
      <Problem error={action.error} />
      {fields.map(([name, parts]) => <Field key={name} name={name} parts={parts} names={names} busy={action.isRunning} choose={(choice) => resolve({ choices: { [name]: choice } })} />)}
    </Card>
  )
}

type Choose = (choice: Record<string, unknown>) => () => void

function Field({ name, parts, names, busy, choose }: { name: string; parts: FieldConflict[]; names: ReadonlyMap<string, string>; busy: boolean; choose: Choose }) {
  const now = useNow(30_000)
  const shown = parts.find((part) => 'shown' in part)?.shown
  const elements = parts.filter((part) => part.kind === 'element').flatMap((part) => part.others)
  const values = parts.filter((part) => part.kind === 'value').flatMap((part) => part.others)
  const isBuried = parts.some((part) => part.buried)
  const from = (other: Alternative): string => {
    const who = names.get(other.device ?? '') ?? 'another device'
    return `${oneLine(who, 60)}${other.at_ms === null ? '' : `, ${ago(other.at_ms, now)}`}`
  }
  return (
    <div class="conflict" role="group" aria-label={`Field ${oneLine(name, 60)}`}>
      <h3><Said text={name} most={60} /> {isBuried && <span class="quiet">written before the document was deleted</span>}</h3>
      {elements.length > 0 && values.length === 0
        ? (
          <div class="sides">
            <Side label="Shown now" text="without these" action={<Button busy={busy} onClick={choose({ keep: 'shown' })}>Leave them out</Button>} />
            <Side label={`Also written${elements[0] === undefined ? '' : ` by ${from(elements[0])}`}`} text={elements.map((one) => valueText(one.value, 60)).join(', ')} action={<Button kind="main" busy={busy} onClick={choose({ keep: 'other' })}>{elements.length === 1 ? 'Take it' : 'Take them'}</Button>} />
          </div>
        )
        : (
          <div class="sides">
            <Side label="Shown now" value={shown} other={values[0]?.value} action={<Button kind="main" busy={busy} data-keep onClick={choose({ keep: 'shown' })}>Keep this</Button>} />
            {values.map((other) => (
              <Side key={other.key} label={from(other)} title={time(other.at_ms)} value={other.value} other={shown} action={<Button busy={busy} data-take onClick={choose({ key: other.key })}>Take this</Button>} />
            ))}
          </div>
        )}
    </div>
  )
}

function Side({ label, title, text, value, other, action }: { label: string; title?: string; text?: string; value?: unknown; other?: unknown; action: preact.ComponentChildren }) {
  return (
    <div class="side">
      <p class="eyebrow" title={title}>{label}</p>
      <div class="value">{text !== undefined ? text : typeof value === 'string' ? <Difference text={lines(value, 2_000)} other={typeof other === 'string' ? lines(other, 2_000) : ''} /> : value === undefined || value === null ? <em>nothing</em> : lines(JSON.stringify(value, null, 2), 2_000)}</div>
      {action}
    </div>
  )
}

/** The text with what the other one does not have set off: what lies between the same beginning and the same end. */
function Difference({ text, other }: { text: string; other: string }) {
  const [one, two] = [[...text], [...other]]
  let head = 0
  while (head < one.length && head < two.length && one[head] === two[head]) head++
  let tail = 0
  while (tail < one.length - head && tail < two.length - head && one[one.length - 1 - tail] === two[two.length - 1 - tail]) tail++
  if (other === '' || head + tail === 0) return <bdi>{text}</bdi>
  return <bdi>{one.slice(0, head).join('')}<mark>{one.slice(head, one.length - tail).join('')}</mark>{one.slice(one.length - tail).join('')}</bdi>
}

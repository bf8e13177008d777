/** The data browser: collections, their documents with a filter, one document to read and change. */

import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { Collection, Data, Document, Items } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon } from '../daemon.js'
import { count, isTricky, lines, oneLine, valueText } from '../format.js'
import { Badge, Button, Card, Empty, Field, Loaded, Notice, Page, Problem, Said, Sure, Table } from '../parts.js'

const PAGE = 50
const MOST = 1_000 // of a list that the daemon gives at once
const COLUMNS = 4

/** Which of the three is shown stands in the address. */
export function DataPage({ collection, document }: { collection: string | undefined; document: string | undefined }) {
  if (collection === undefined || collection === '') return <Collections />
  if (document === undefined || document === '') return <Documents key={collection} collection={collection} />
  return <One key={`${collection}/${document}`} collection={collection} id={document} />
}

function place(...parts: string[]): string {
  return `#/data/${parts.map(encodeURIComponent).join('/')}`
}

// ---- collections ----------------------------------------------------------------------------------------------------
function Collections() {
  const collections = useAnswer<Items<Collection>>('collections.list', {}, ['collections', 'sync'], 10_000)
  const [name, setName] = useState('')
  return (
    <Page title="Data" lead="Everything that this device has. Other devices get what you change here.">
      <Card title="Collections">
        <Loaded answer={collections}>{({ items }) => (
          <Table
            caption="Collections"
            head={['Collection', 'Documents', 'Conflicts', 'Kind']}
            rows={items.map((one) => ({
              key: one.name,
              cells: [
                <><a href={place(one.name)}><strong><Said text={one.name} most={60} /></strong></a>{one.title !== null && <><br /><span class="quiet"><Said text={one.title} most={100} /></span></>}</>,
                one.documents.toLocaleString('en'),
                one.conflicts > 0 ? <a href="#/conflicts">{one.conflicts}</a> : '0',
                <>{one.builtin ? <Badge tone="calm">built in</Badge> : 'yours'} {one.secret && <Badge tone="calm">sealed at rest</Badge>} {one.read_only && <Badge tone="warn">read only</Badge>}</>,
              ],
            }))}
          />
        )}</Loaded>
      </Card>
      <Card title="Another collection">
        <form class="line" onSubmit={(event) => { event.preventDefault(); location.hash = `${place(name.trim())}/+` }}>
          <Field label="Name" hint="Lower-case letters, digits and . _ -; it begins with its first document."><input value={name} onInput={(event) => setName(event.currentTarget.value)} required pattern="[a-z][a-z0-9._\-]*" autocomplete="off" /></Field>
          <Button type="submit">Write its first document</Button>
        </form>
      </Card>
    </Page>
  )
}

// ---- documents ------------------------------------------------------------------------------------------------------
const OPERATORS = [['$eq', 'is'], ['$prefix', 'begins with'], ['$ne', 'is not'], ['$lt', 'is before or under'], ['$gt', 'is after or over'], ['$has', 'holds'], ['$exists', 'is there']] as const

interface Condition {
  field: string
  operator: string
  text: string
}

/** JSON where it reads as JSON, else text: as the command line takes values. */
function valueOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function Documents({ collection }: { collection: string }) {
  const [condition, setCondition] = useState<Condition>({ field: '', operator: '$eq', text: '' })
  const [filter, setFilter] = useState<Data | null>(null)
  const [sort, setSort] = useState('')
  const [withDeleted, setDeleted] = useState(false)
  const [length, grow] = useState({ of: '', limit: PAGE })
  const wanted = { collection, ...(filter === null ? {} : { filter }), ...(sort === '' ? {} : { sort }), ...(withDeleted ? { deleted: true } : {}) }
  const of = JSON.stringify(wanted)
  const limit = length.of === of ? length.limit : PAGE
  // All that is shown is one answer: pages read one after the other lack what moves over their ends meanwhile, and keep what is gone.
  const found = useAnswer<Items<Document>>('data.list', { ...wanted, limit }, ['sync'], Math.max(5_000, limit * 25))
  const about = useAnswer<Collection>('collections.get', { name: collection }, ['collections', 'sync'], 5_000)
  const items = found.data?.items ?? []
  const columns = useMemo(() => columnsOf(items, about.data), [found.data, about.data])
  const search = (): void => {
    const { field, operator, text } = condition
    setFilter(field.trim() === '' ? null : { [field.trim()]: operator === '$exists' ? { $exists: text !== 'false' } : { [operator]: operator === '$prefix' ? text : valueOf(text) } })
  }
  return (
    <Page title={oneLine(collection, 60)} lead={<><a href="#/data">All collections</a>{about.data !== null && <> · {count(about.data.documents, 'document')}</>}</>} actions={about.data?.read_only !== true && <a class="button main" href={place(collection, '+')}>New document</a>}>
      <Card>
        <form class="filter" onSubmit={(event) => { event.preventDefault(); search() }} role="search">
          <Field label="Field"><input value={condition.field} list="fields" onInput={(event) => setCondition({ ...condition, field: event.currentTarget.value })} autocomplete="off" spellcheck={false} /></Field>
          <datalist id="fields">{columns.known.map((name) => <option value={name} label={oneLine(name, 60)} key={name} />)}</datalist>
          <Field label="Condition"><select value={condition.operator} onChange={(event) => setCondition({ ...condition, operator: event.currentTarget.value })}>{OPERATORS.map(([value, name]) => <option key={value} value={value}>{name}</option>)}</select></Field>
          <Field label="Value"><input value={condition.text} onInput={(event) => setCondition({ ...condition, text: event.currentTarget.value })} autocomplete="off" spellcheck={false} /></Field>
          <Field label="Order"><select value={sort} onChange={(event) => setSort(event.currentTarget.value)}><option value="">by id</option>{columns.known.flatMap((name) => [<option key={name} value={name}>{oneLine(name, 30)} ↑</option>, <option key={`-${name}`} value={`-${name}`}>{oneLine(name, 30)} ↓</option>])}</select></Field>
          <div class="actions">
            <Button type="submit" kind="main">Filter</Button>
            {filter !== null && <Button onClick={() => { setFilter(null); setCondition({ field: '', operator: '$eq', text: '' }) }}>Show all</Button>}
            <label class="check"><input type="checkbox" checked={withDeleted} onChange={(event) => setDeleted(event.currentTarget.checked)} /><span>deleted too</span></label>
          </div>
        </form>
      </Card>
      <Card>
        <Loaded answer={found}>{({ next_cursor }) => items.length === 0 ? <Empty>{filter === null ? 'No documents yet.' : 'No document fits.'}</Empty> : (
          <>
            <Table
              caption={`Documents of ${oneLine(collection, 60)}`}
              head={[...columns.shown.map((name) => oneLine(name, 40)), 'Id']}
              rows={items.map((one) => ({
                key: one.id,
                cells: [
                  ...columns.shown.map((name, n) => {
                    const text = <bdi>{valueText(one.data?.[name], 90)}</bdi>
                    return n === 0 ? <a href={place(collection, one.id)}>{text}</a> : text
                  }),
                  <><a href={place(collection, one.id)}><code>{oneLine(one.id, 40)}</code></a> {one.deleted === true && <Badge tone="warn">deleted</Badge>} {one.conflicts > 0 && <Badge tone="warn">{count(one.conflicts, 'conflict')}</Badge>}</>,
                ],
              }))}
            />
            {next_cursor !== null && (limit < MOST ? <Button onClick={() => grow({ of, limit: Math.min(MOST, limit * 2) })}>Show more</Button> : <p class="quiet">These are the first {count(MOST, 'document')}. A filter, or another order, shows others.</p>)}
          </>
        )}</Loaded>
      </Card>
    </Page>
  )
}

function rank(name: string): number {
  return ['title', 'name', 'key', 'subject', 'value'].indexOf(name) + 1 || 9
}

/** Fields that most documents have, title-like ones first. */
function columnsOf(items: readonly Document[], about: Collection | null): { known: string[]; shown: string[] } {
  const often = new Map<string, number>()
  for (const name of Object.keys((about?.schema?.['properties'] as Data | undefined) ?? {})) often.set(name, 0)
  for (const one of items) for (const name of Object.keys(one.data ?? {})) often.set(name, (often.get(name) ?? 0) + 1)
  const known = [...often].sort(([one, n], [other, m]) => rank(one) - rank(other) || m - n || (one < other ? -1 : 1)).map(([name]) => name)
  return { known: known.slice(0, 100), shown: known.filter((name) => (often.get(name) ?? 0) > 0).slice(0, COLUMNS) }
}

// ---- one document ---------------------------------------------------------------------------------------------------
/** How a field is edited; text holds what stands in its input. */
interface Edited {
  name: string
  kind: 'text' | 'number' | 'boolean' | 'json'
  text: string
}

function One({ collection, id }: { collection: string; id: string }) {
  const isNew = id === '+'
  const answer = useAnswer<Document>(isNew ? null : 'data.get', { collection, id }, ['sync'], 4_000)
  const about = useAnswer<Collection>('collections.get', { name: collection })
  const isGone = answer.error?.code === 'deleted' || answer.data?.deleted === true
  const last = useRef<Document | null>(null) // as it was before another device deleted it, while somebody writes here
  if (!isGone && answer.data !== null) last.current = answer.data
  const document = answer.data === null && !isGone ? null : last.current
  const lead = <><a href={place(collection)}>All of <Said text={collection} most={40} /></a>{!isNew && <> · <code>{oneLine(id, 64)}</code></>}</>
  return (
    <Page title={isNew ? `New in ${oneLine(collection, 40)}` : titleOf(answer.data) ?? 'Document'} lead={lead}>
      {isGone && <Notice tone="warn">This document is deleted, on all devices. Its fields are not kept.</Notice>}
      {(answer.data?.conflicts ?? 0) > 0 && <Notice tone="warn" actions={<a class="button plain" href="#/conflicts">Compare</a>}>It was changed on two devices at once: {count(answer.data?.conflicts ?? 0, 'conflict')}.</Notice>}
      {isNew
        ? <Editor collection={collection} document={null} schema={about.data?.schema ?? null} isReadOnly={about.data?.read_only === true} reload={() => undefined} />
        : (
          <>
            {!isGone && <Loaded answer={answer}>{() => null}</Loaded>}
            {document !== null && <Editor collection={collection} document={document} schema={about.data?.schema ?? null} isReadOnly={about.data?.read_only === true} isGone={isGone} reload={answer.reload} />}
          </>
        )}
    </Page>
  )
}

function titleOf(document: Document | null): string | null {
  for (const name of ['title', 'name', 'subject', 'key']) {
    const found = document?.data?.[name]
    if (typeof found === 'string' && found !== '') return oneLine(found, 80)
  }
  return null
}

function editedOf(data: Data): Edited[] {
  const made = Object.entries(data).map(([name, value]) => ({ name, ...inputOf(value) }))
  return made.sort((one, other) => rank(one.name) - rank(other.name)) // what names it comes first
}

function inputOf(value: unknown): Omit<Edited, 'name'> {
  switch (typeof value) {
    case 'string':
      return { kind: 'text', text: value }
    case 'number':
      return { kind: 'number', text: String(value) }
    case 'boolean':
      return { kind: 'boolean', text: String(value) }
    default:
      return { kind: 'json', text: JSON.stringify(value, null, 2) }
  }
}

/** Throws with the name of the field that cannot be read. */
function contentOf({ name, kind, text }: Edited): unknown {
  if (kind === 'text') return text
  if (kind === 'boolean') return text === 'true'
  if (kind === 'number') {
    const number = Number(text)
    if (text.trim() === '' || !Number.isFinite(number)) throw new Error(`${name} is no number.`)
    return number
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`${name} is no JSON: ${(error as Error).message}`)
  }
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

function Editor({ collection, document, schema, isReadOnly, isGone = false, reload }: { collection: string; document: Document | null; schema: Data | null; isReadOnly: boolean; isGone?: boolean; reload: () => void }) {
  const db = useDaemon()
  const action = useAction()
  const [base, setBase] = useState(document)
  const [fields, setFields] = useState<Edited[]>(() => editedOf(document?.data ?? {}))
  const [isRaw, setRaw] = useState(false)
  const [raw, setRawText] = useState('')
  const [added, setAdded] = useState('')
  const [addedKind, setAddedKind] = useState<Edited['kind']>('text')
  const [isSaved, saved] = useState(false)
  const properties = (schema?.['properties'] as Record<string, Data> | undefined) ?? {}
  const original = base?.data ?? {}
  const isTouched = isRaw ? raw !== JSON.stringify(original, null, 2) : !same(editedOf(original), fields)
  const isNewer = document !== null && base !== null && document.version > base.version

  // What another program or device wrote meanwhile is taken over, unless the person is in the middle of something.
  useEffect(() => {
    if (!isNewer || isTouched) return
    setBase(document)
    setFields(editedOf(document?.data ?? {}))
    setRawText(JSON.stringify(document?.data ?? {}, null, 2))
  }, [document, isNewer, isTouched])

  const takeOver = (): void => {
    setBase(document)
    setFields(editedOf(document?.data ?? {}))
    setRawText(JSON.stringify(document?.data ?? {}, null, 2))
    action.clear()
  }
  const change = (name: string, text: string): void => {
    saved(false)
    setFields((before) => before.map((one) => (one.name === name ? { ...one, text } : one)))
  }
  const content = (): Data => {
    if (!isRaw) return Object.fromEntries(fields.map((one) => [one.name, contentOf(one)]))
    const found: unknown = JSON.parse(raw)
    if (typeof found !== 'object' || found === null || Array.isArray(found)) throw new Error('A document is a JSON object.')
    return found as Data
  }
  const save = async (): Promise<void> => {
    const data = content()
    let made: Document
    if (base === null) made = await call<Document>(db, 'data.create', { collection, data })
    else if (isGone) made = await call<Document>(db, 'data.put', { collection, id: base.id, data })
    else {
      // Only what was changed is written, so that a change of another field on another device is no conflict.
      const patch: Data = {}
      for (const [name, value] of Object.entries(data)) if (!same(value, original[name])) patch[name] = value
      for (const name of Object.keys(original)) if (!(name in data)) patch[name] = null
      const isDeep = Object.values(patch).some(isObject) // a patch would go into it, and leave out what is null there
      made = isDeep
        ? await call<Document>(db, 'data.put', { collection, id: base.id, data, version: base.version })
        : await call<Document>(db, 'data.patch', { collection, id: base.id, patch, version: base.version })
    }
    setBase(made)
    setFields(editedOf(made.data ?? {}))
    setRawText(JSON.stringify(made.data ?? {}, null, 2))
    saved(true)
    reload()
    if (base === null) location.hash = place(collection, made.id)
  }
  const remove = async (): Promise<void> => {
    await call(db, 'data.delete', { collection, id: base?.id, version: base?.version })
    location.hash = place(collection)
  }
  const addField = (name: string, kind: Edited['kind']): void => {
    if (name === '' || fields.some((one) => one.name === name)) return
    setFields([...fields, { name, kind, text: kind === 'boolean' ? 'false' : kind === 'json' ? '[]' : kind === 'number' ? '0' : '' }])
    setAdded('')
  }
  const toRaw = (): void => {
    void action.run(async () => {
      const data = content()
      if (isRaw) setFields(editedOf(data))
      else setRawText(JSON.stringify(data, null, 2))
      setRaw(!isRaw)
    })
  }
  const missing = Object.keys(properties).filter((name) => !fields.some((one) => one.name === name))
  if (isGone && !isTouched) return null
  if (isReadOnly) return <Card><Notice tone="calm">This collection belongs to HybridGW, or needs a newer version: it can be read here and not changed.</Notice><pre class="json">{lines(JSON.stringify(original, null, 2), 50_000)}</pre></Card>
  return (
    <Card>
      <form onSubmit={(event) => { event.preventDefault(); void action.run(save) }}>
        {isGone && <Notice tone="calm">What you were writing is still here. Saving it makes the document anew.</Notice>}
        {isNewer && isTouched && <Notice tone="warn" actions={<Button onClick={takeOver}>Show the new one</Button>}>Somebody changed this document meanwhile. Saving is refused until you have seen it.</Notice>}
        {isRaw
          ? <Field label="The document as JSON"><textarea class="json" rows={16} value={raw} onInput={(event) => { saved(false); setRawText(event.currentTarget.value) }} spellcheck={false} /></Field>
          : fields.map((one) => <Input key={one.name} edited={one} choices={choicesOf(properties[one.name])} change={(text) => change(one.name, text)} remove={() => { saved(false); setFields(fields.filter((other) => other !== one)) }} />)}
        {!isRaw && fields.length === 0 && <Empty>No fields yet.</Empty>}
        {!isRaw && (
          <fieldset class="line">
            <legend>Add a field</legend>
            <Field label="Name"><input value={added} list="more-fields" onInput={(event) => { const name = event.currentTarget.value; setAdded(name); const kind = kindOf(properties[name]); if (kind !== null) setAddedKind(kind) }} onKeyDown={(event) => { if (event.key === 'Enter') { event.preventDefault(); addField(added.trim(), addedKind) } }} autocomplete="off" spellcheck={false} /></Field>
            <datalist id="more-fields">{missing.map((name) => <option value={name} label={oneLine(name, 60)} key={name} />)}</datalist>
            <Field label="Kind"><select value={addedKind} onChange={(event) => setAddedKind(event.currentTarget.value as Edited['kind'])}><option value="text">text</option><option value="number">number</option><option value="boolean">yes or no</option><option value="json">list or object</option></select></Field>
            <Button data-add onClick={() => addField(added.trim(), addedKind)}>Add</Button>
          </fieldset>
        )}
        <Problem error={action.error} />
        <div class="actions">
          <Button kind="main" type="submit" data-save disabled={!isTouched && base !== null} busy={action.isRunning}>{base === null ? 'Create' : 'Save'}</Button>
          <Button onClick={toRaw}>{isRaw ? 'Edit field by field' : 'Edit as JSON'}</Button>
          {base !== null && !isGone && <Sure label="Delete" question="On all devices." yes="Delete" action={action} work={remove} />}
          <span role="status" class="good-text">{isSaved && !isTouched ? 'Saved.' : ''}</span>
        </div>
      </form>
    </Card>
  )
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function kindOf(property: Data | undefined): Edited['kind'] | null {
  switch (property?.['type']) {
    case 'string': return 'text'
    case 'number': case 'integer': return 'number'
    case 'boolean': return 'boolean'
    case 'array': case 'object': return 'json'
    default: return null
  }
}

function choicesOf(property: Data | undefined): string[] | null {
  const found = property?.['enum']
  return Array.isArray(found) && found.every((one) => typeof one === 'string') ? (found as string[]) : null
}

function Input({ edited, choices, change, remove }: { edited: Edited; choices: string[] | null; change: (text: string) => void; remove: () => void }) {
  const { name, kind, text } = edited
  const label = oneLine(name, 60)
  const set = (event: { currentTarget: { value: string } }): void => change(event.currentTarget.value)
  return (
    <div class="edited">
      {kind === 'boolean'
        ? <label class="check"><input type="checkbox" name={label} checked={text === 'true'} onChange={(event) => change(String(event.currentTarget.checked))} /><span>{label}</span></label>
        : (
          <Field label={label} {...(isTricky(text) ? { hint: 'This text holds marks that turn or hide text: it may not be what it looks like.' } : {})}>
            {kind === 'text' && choices !== null && choices.includes(text)
              ? <select name={label} value={text} onChange={set}>{choices.map((one) => <option key={one} value={one}>{oneLine(one, 60)}</option>)}</select>
              : kind === 'json'
                ? <textarea class="json" name={label} rows={Math.min(12, text.split('\n').length + 1)} value={text} onInput={set} spellcheck={false} />
                : kind === 'text' && (text.length > 80 || text.includes('\n'))
                  ? <textarea name={label} rows={Math.min(10, Math.max(2, text.split('\n').length + 1, Math.ceil(text.length / 100)))} value={text} onInput={set} dir="auto" />
                  : <input name={label} value={text} onInput={set} inputMode={kind === 'number' ? 'decimal' : undefined} dir="auto" autocomplete="off" />}
          </Field>
        )}
      <Button aria-label={`Remove the field ${label}`} title="Remove this field" onClick={remove}>×</Button>
    </div>
  )
}

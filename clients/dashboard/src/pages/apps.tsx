/** The apps that were let in, those that ask, the keys of scripts, and what happened. */

import { useEffect, useState } from 'preact/hooks'
import type { ApiKey, AuditEntry, Grant, Items, Lasts } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, appText, count, duration, oneLine, time } from '../format.js'
import { Badge, Button, Card, Empty, Field, Loaded, Notice, Page, Problem, Said, Sure, Table } from '../parts.js'

const CALM_MS = 1_000 // a request that has just appeared under the pointer is not approved by a click meant for another

/** Who may use this daemon. */
export function AppsPage() {
  const grants = useAnswer<Items<Grant>>('auth.grants.list', {}, ['grants'], 10_000)
  return (
    <Page title="Apps" lead="Web pages, extensions and programs that may use your data, each only what you gave it.">
      <Loaded answer={grants}>{({ items }) => {
        const pending = items.filter((grant) => grant.state === 'pending')
        const let_in = items.filter((grant) => grant.state === 'approved')
        return (
          <>
            <div aria-live="assertive">{pending.map((grant) => <Asking key={grant.id} grant={grant} done={grants.reload} />)}</div>
            <Card title="Let in">
              {let_in.length === 0
                ? <Empty>No apps yet. An app that wants to be let in shows six digits and appears here; compare them, then decide.</Empty>
                : <LetIn grants={let_in} reload={grants.reload} />}
            </Card>
          </>
        )
      }}</Loaded>
      <Keys />
      <Audit />
    </Page>
  )
}

/** A scope in the words of a person. */
export function scopeText(scope: string): string {
  const [right, ...rest] = scope.split(':')
  const name = oneLine(rest.join(':'), 140)
  const [collection, document] = name.split('/')
  if (document !== undefined && (right === 'read' || right === 'write')) {
    return `${right === 'read' ? 'read' : 'write, change and delete'} the one document “${document}” in “${collection}”, and no other there`
  }
  switch (right) {
    case 'read': return `read everything in “${name}”`
    case 'write': return `add, change and delete in “${name}”`
    case 'send': return `send messages to “${name}”`
    case 'listen': return `listen to messages of “${name}”`
    case 'admin': return 'read and change everything, settings and other apps’ data included'
    default: return oneLine(scope, 80)
  }
}

/** A request that waits for the person: who, what, the code, and the decision. */
export function Asking({ grant, done }: { grant: Grant; done: () => void }) {
  const db = useDaemon()
  const action = useAction()
  const now = useNow()
  const [isCalm, calm] = useState(false)
  const [left, choose] = useState<readonly string[]>(grant.scopes)
  useEffect(() => {
    const timer = setTimeout(() => calm(true), CALM_MS)
    return () => clearTimeout(timer)
  }, [])
  const decide = (command: string, more: Record<string, unknown>) => (): void => {
    void action.run(() => call(db, command, { id: grant.id, ...more })).then(done)
  }
  const approve = (lasts: Lasts) => decide('auth.grants.approve', { code: grant.code, lasts, ...(left.length === grant.scopes.length ? {} : { scopes: left }) })
  const off = !isCalm || left.length === 0
  const seconds = ((grant.expires_ms ?? 0) - now) / 1000
  const who = appText(grant.origin, grant.name)
  return (
    <section class="card asking warn" aria-label="An app asks to be let in">
      <div class="asking-who">
        <p class="eyebrow">{grant.kind === 'program' ? 'A program on this computer asks to be let in' : grant.kind === 'extension' ? 'A browser extension asks to be let in' : 'A web page asks to be let in'}</p>
        <h2><Said text={who} most={80} /></h2>
        <p>{grant.origin === null ? 'Any program can give itself this name.' : <>It calls itself “<Said text={grant.name} most={60} />”.{who !== grant.origin && <> Its address is <Said text={grant.origin} most={80} />.</>}</>}</p>
      </div>
      <div class="asking-code">
        <span class="eyebrow">Does it show this code?</span>
        <strong class="code" data-code>{grant.code}</strong>
        <span class="quiet" aria-live="off">{seconds > 0 ? `for ${duration(seconds)} more` : 'over'}</span>
      </div>
      <fieldset>
        <legend>It wants to</legend>
        {grant.scopes.map((scope) => (
          <label class="check" key={scope}>
            <input type="checkbox" checked={left.includes(scope)} onChange={(event) => choose(event.currentTarget.checked ? [...left, scope] : left.filter((one) => one !== scope))} />
            <span>{scopeText(scope)}</span>
          </label>
        ))}
      </fieldset>
      <p class="quiet">If it shows another code, or none, somebody else is asking: refuse.</p>
      <Problem error={action.error} />
      <div class="actions">
        <Button kind="main" data-approve disabled={off} busy={action.isRunning} onClick={approve('30d')}>Same code: let in for 30 days</Button>
        <Button disabled={off} busy={action.isRunning} onClick={approve('session')}>This session</Button>
        <Button disabled={off} busy={action.isRunning} onClick={approve('until_revoked')}>Until I revoke it</Button>
        <Button kind="danger" busy={action.isRunning} onClick={decide('auth.grants.refuse', {})}>Refuse</Button>
      </div>
    </section>
  )
}

function LetIn({ grants, reload }: { grants: Grant[]; reload: () => void }) {
  const db = useDaemon()
  const action = useAction()
  const now = useNow(30_000)
  return (
    <>
      <Problem error={action.error} />
      <Table
        caption="Apps that were let in"
        head={['App', 'May', 'Until', 'Last used', '']}
        rows={grants.map((grant) => ({
          key: grant.id,
          cells: [
            <><strong><Said text={appText(grant.origin, grant.name)} most={60} /></strong><br /><span class="quiet">{grant.origin === null ? 'program' : <Said text={grant.name} most={40} />}</span></>,
            <ul class="plain-list">{grant.scopes.map((scope) => <li key={scope}>{scopeText(scope)}</li>)}</ul>,
            grant.lasts === 'session' ? 'the daemon ends' : grant.expires_ms === null ? 'you revoke it' : time(grant.expires_ms),
            ago(grant.last_used_ms, now),
            <Sure label="Revoke" question="Its connections end at once." yes="Revoke" action={action} small work={async () => { await call(db, 'auth.grants.revoke', { id: grant.id }); reload() }} />,
          ],
        }))}
      />
    </>
  )
}

function Keys() {
  const db = useDaemon()
  const keys = useAnswer<Items<ApiKey>>('auth.keys.list', {}, [], 60_000)
  const action = useAction()
  const now = useNow(30_000)
  const [made, show] = useState<string | null>(null)
  const [isOpen, open] = useState(false)
  const [scopes, setScopes] = useState('')
  const [note, setNote] = useState('')
  const create = async (): Promise<void> => {
    const found = await call<{ key: string }>(db, 'auth.keys.create', { scopes: scopes.trim().split(/[\s,]+/), note: note.trim() })
    show(found.key)
    open(false)
    setScopes('')
    setNote('')
    keys.reload()
  }
  return (
    <Card title="Keys of scripts" actions={!isOpen && <Button onClick={() => open(true)}>Make a key</Button>}>
      {made !== null && <Notice tone="good" actions={<Button onClick={() => show(null)}>I have it</Button>}>This key is shown once and kept nowhere. Copy it now:<br /><code class="long">{made}</code></Notice>}
      {isOpen && (
        <form onSubmit={(event) => { event.preventDefault(); void action.run(create) }}>
          <Field label="What it may do" hint="Scopes with spaces between, like read:tasks write:tasks; admin is everything."><input value={scopes} onInput={(event) => setScopes(event.currentTarget.value)} required autocomplete="off" spellcheck={false} /></Field>
          <Field label="What it is for"><input value={note} onInput={(event) => setNote(event.currentTarget.value)} maxLength={200} autocomplete="off" /></Field>
          <div class="actions"><Button kind="main" type="submit" busy={action.isRunning}>Make it</Button><Button onClick={() => open(false)}>Cancel</Button></div>
        </form>
      )}
      <Problem error={action.error} />
      <Loaded answer={keys}>{({ items }) => items.length === 0 ? <Empty>No keys. A script that runs without a person in front of it uses one.</Empty> : (
        <Table
          caption="Keys of scripts"
          head={['Key', 'May', 'Until', 'Last used', '']}
          rows={items.map((key) => ({
            key: key.id,
            cells: [
              <><strong><Said text={key.note || key.id} most={60} /></strong><br /><span class="quiet">{key.id}</span></>,
              key.sentence.length > 0 ? oneLine(key.sentence, 300) : '–',
              key.expires_ms === null ? 'you revoke it' : time(key.expires_ms),
              ago(key.last_used_ms, now),
              <Sure label="Revoke" question="It stops counting at once." yes="Revoke" action={action} small work={async () => { await call(db, 'auth.keys.revoke', { id: key.id }); keys.reload() }} />,
            ],
          }))}
        />
      )}</Loaded>
    </Card>
  )
}

function Audit() {
  const [limit, more] = useState(10)
  const audit = useAnswer<Items<AuditEntry>>('auth.audit', { limit }, ['grants'], 30_000)
  const now = useNow(30_000)
  return (
    <Card title="What happened">
      <Loaded answer={audit}>{({ items, next_cursor }) => items.length === 0 ? <Empty>Nothing yet.</Empty> : (
        <>
          <ul class="rows">
            {items.map((entry) => (
              <li key={entry.id}>
                <div>{oneLine(entry.message, 300)} {entry.count > 1 && <Badge tone="calm">{count(entry.count, 'time')}</Badge>}</div>
                <p class="quiet"><span title={time(entry.at_ms)}>{ago(entry.at_ms, now)}</span>{entry.origin !== null && <>, <Said text={appText(entry.origin, '')} most={80} /></>}</p>
              </li>
            ))}
          </ul>
          {next_cursor !== null && limit < 1_000 && <Button onClick={() => more(Math.min(1_000, limit * 5))}>Show more</Button>}
        </>
      )}</Loaded>
    </Card>
  )
}

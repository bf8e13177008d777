/** Where messages go that name no target: the rules in their order, and a dry run. */

import { useState } from 'preact/hooks'
import type { Items, Route, RouteRule } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon } from '../daemon.js'
import { oneLine } from '../format.js'
import { Badge, Button, Card, Empty, Field, Loaded, Page, Problem, Said, Sure, Table } from '../parts.js'
import { useNames, Way } from './messages.js'

/** The page. */
export function RulesPage() {
  const rules = useAnswer<Items<RouteRule>>('messages.rules', {}, [], 20_000)
  return (
    <Page title="Rules for messages" lead={<>A message that names nobody goes where the first rule for its type sends it. <a href="#/messages">All messages</a></>}>
      <Ask />
      <Loaded answer={rules}>{({ items }) => <Rules rules={items} reload={rules.reload} />}</Loaded>
    </Page>
  )
}

/** A dry run. */
function Ask() {
  const db = useDaemon()
  const action = useAction()
  const { named } = useNames()
  const [type, setType] = useState('')
  const [target, setTarget] = useState('')
  const [route, show] = useState<Route | null>(null)
  const ask = async (): Promise<void> => {
    show(null)
    show(await call<Route>(db, 'messages.explain', { type: type.trim(), ...(target.trim() === '' ? {} : { to: target.trim() }) }))
  }
  return (
    <Card title="Where would a message go, and why?">
      <form class="line" onSubmit={(event) => { event.preventDefault(); void action.run(ask) }}>
        <Field label="Type of the message" short><input name="ask-type" value={type} onInput={(event) => setType(event.currentTarget.value)} required maxLength={128} placeholder="tab.open" autocomplete="off" autocapitalize="off" spellcheck={false} /></Field>
        <Field label="Target, if it names one"><input name="ask-to" value={target} onInput={(event) => setTarget(event.currentTarget.value)} maxLength={256} placeholder="left out: the rules decide" autocomplete="off" autocapitalize="off" spellcheck={false} /></Field>
        <Button kind="main" type="submit" busy={action.isRunning}>Ask</Button>
      </form>
      <p class="quiet">Nothing is sent.</p>
      <Problem error={action.error} />
      {route !== null && <Way route={route} named={named} />}
    </Card>
  )
}

function Rules({ rules, reload }: { rules: RouteRule[]; reload: () => void }) {
  const db = useDaemon()
  const action = useAction()
  const { named } = useNames()
  const [isOpen, open] = useState(false)
  const ours = rules.filter((one) => !one.fixed)
  // All of them are written at once, so nothing that another program wrote meanwhile may be lost unseen.
  const put = async (changed: RouteRule[]): Promise<void> => {
    const { items } = await call<Items<RouteRule>>(db, 'messages.rules')
    if (JSON.stringify(items) !== JSON.stringify(rules)) {
      reload()
      throw new Error('Somebody else has changed the rules meanwhile. You see them now as they are; do it again if it still fits.')
    }
    await call(db, 'messages.rules.put', { rules: changed })
    reload()
  }
  const move = (at: number, by: number): void => {
    const changed = [...ours]
    changed.splice(at + by, 0, ...changed.splice(at, 1))
    void action.run(() => put(changed))
  }
  const first = rules.length - ours.length
  return (
    <Card title="Rules, in the order in which they are asked" actions={!isOpen && <Button onClick={() => open(true)}>Add a rule</Button>}>
      {isOpen && <New taken={rules.map((one) => one.name)} close={() => open(false)} add={(rule) => action.run(() => put([...ours, rule]))} />}
      <Problem error={action.error} />
      {rules.length === 0 ? <Empty>None. A program has to say whom its messages are for; one that does not is refused.</Empty> : (
        <Table
          caption="Rules for messages"
          head={['Rule', 'Type', 'Goes to', 'Then', '']}
          rows={rules.map((rule, n) => ({
            key: rule.name,
            cells: [
              <>{n + 1}. <strong><Said text={rule.name} most={64} /></strong>{rule.fixed && <><br /><Badge tone="calm">from the configuration</Badge></>}</>,
              <code>{oneLine(rule.type, 130)}</code>,
              <ul class="plain-list">{rule.to.map((target) => <li key={target}><Said text={named(target)} most={100} /></li>)}</ul>,
              rule.go_on ? 'the next ones are asked too' : 'it is decided',
              rule.fixed ? <span class="quiet">changed in the file only</span> : (
                <span class="actions">
                  {n > first && <Button onClick={() => move(n - first, -1)}>Earlier<span class="hidden">: {oneLine(rule.name, 64)}</span></Button>}
                  {n < rules.length - 1 && <Button onClick={() => move(n - first, 1)}>Later<span class="hidden">: {oneLine(rule.name, 64)}</span></Button>}
                  <Sure label="Remove" question="Its messages go by the next rule, or nowhere." yes="Remove" action={action} work={() => put(ours.filter((one) => one !== rule))} small />
                </span>
              ),
            ],
          }))}
        />
      )}
    </Card>
  )
}

function New({ taken, add, close }: { taken: readonly string[]; add: (rule: RouteRule) => Promise<boolean>; close: () => void }) {
  const [type, setType] = useState('')
  const [to, setTo] = useState('')
  const [goOn, setGoOn] = useState(false)
  const save = (): void => {
    const targets = to.split(',').map((one) => one.trim()).filter((one) => one !== '')
    void add({ name: freeName(taken), type: type.trim(), to: targets, go_on: goOn, fixed: false }).then((isDone) => isDone && close())
  }
  return (
    <form onSubmit={(event) => { event.preventDefault(); save() }}>
      <div class="line">
        <Field label="Type" short hint="With * at its end: all that begin so."><input name="rule-type" value={type} onInput={(event) => setType(event.currentTarget.value)} required maxLength={128} placeholder="tab.*" autocomplete="off" autocapitalize="off" spellcheck={false} /></Field>
        <Field label="Goes to" hint="client:ID, app:NAME, mode:MODE, topic:TOPIC or all, each with @DEVICE or @here behind it for one device; device:NAME; person:NAME. Several with commas."><input name="rule-to" value={to} onInput={(event) => setTo(event.currentTarget.value)} required maxLength={2_000} placeholder="client:tabs@here" autocomplete="off" autocapitalize="off" spellcheck={false} /></Field>
      </div>
      <label class="check"><input type="checkbox" name="rule-on" checked={goOn} onChange={(event) => setGoOn(event.currentTarget.checked)} /><span>Ask the rules after it too</span></label>
      <div class="actions"><Button kind="main" type="submit">Add it, as the last one</Button><Button onClick={close}>Cancel</Button></div>
    </form>
  )
}

function freeName(taken: readonly string[]): string {
  for (let n = 1; ; n++) {
    if (!taken.includes(`rule ${n}`)) return `rule ${n}`
  }
}

/** What a person should know, until they have said that they do. */

import { useState } from 'preact/hooks'
import type { Alarm, Items } from '../api.js'
import { call } from '../api.js'
import { useAction, useAnswer, useDaemon, useNow } from '../daemon.js'
import { ago, oneLine, time } from '../format.js'
import { Badge, Button, Card, Empty, Loaded, Page, Problem } from '../parts.js'

/** The alarms. */
export function AlarmsPage() {
  const db = useDaemon()
  const [all, showAll] = useState(false)
  const alarms = useAnswer<Items<Alarm>>('alarms.list', { all }, ['alarms'], 15_000)
  const action = useAction()
  const now = useNow(30_000)
  const seen = (id: number) => (): void => void action.run(() => call(db, 'alarms.acknowledge', { id })).then(alarms.reload)
  return (
    <Page title="Alarms" lead="What went wrong and needs a person to know. Each stays until you have seen it." actions={<label class="check"><input type="checkbox" checked={all} onChange={(event) => showAll(event.currentTarget.checked)} /><span>Those I have seen too</span></label>}>
      <Problem error={action.error} />
      <Card>
        <Loaded answer={alarms}>{({ items }) => items.length === 0 ? <Empty>No alarms. Everything is as it should be.</Empty> : (
          <ul class="rows">
            {items.map((alarm) => (
              <li key={alarm.id} class="with-action">
                <div>
                  <p><Badge tone={alarm.acknowledged ? 'calm' : 'bad'}>{oneLine(alarm.code.replaceAll('_', ' '), 40)}</Badge> {oneLine(alarm.message, 600)}</p>
                  <p class="quiet"><span title={time(alarm.at_ms)}>{ago(alarm.at_ms, now)}</span>. What may help: <code>hybridgw doctor</code></p>
                </div>
                {!alarm.acknowledged && <Button busy={action.isRunning} onClick={seen(alarm.id)}>I have seen it</Button>}
              </li>
            ))}
          </ul>
        )}</Loaded>
      </Card>
    </Page>
  )
}

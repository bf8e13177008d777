/** How it looks, this session, and the configuration in force with where each value comes from. */

import { useState } from 'preact/hooks'
import type { Data, Items, Setting } from '../api.js'
import { useAction, useAnswer } from '../daemon.js'
import { oneLine, time, valueText } from '../format.js'
import { Badge, Button, Card, Facts, Loaded, Notice, Page, Problem, Said, Sure, Table } from '../parts.js'
import type { Session } from '../session.js'
import { applyTheme, theme, type Theme } from '../theme.js'

/** The page. */
export function SettingsPage({ session, leave }: { session: Session; leave: (everybody?: boolean) => Promise<void> }) {
  const config = useAnswer<Items<Setting> & { warnings: string[] }>('config')
  const paths = useAnswer<Data>('paths')
  const action = useAction()
  return (
    <Page title="Settings">
      <div class="two">
        <Look />
        <Card title="This session">
          <p>Signed in on this tab until {time(session.expiresMs)}, or until the daemon ends.</p>
          <div class="actions">
            <Button onClick={() => void leave()}>Sign out</Button>
            <Sure label="Sign out everywhere" question="Every app and every dashboard has to come again; apps do so by themselves or ask you." yes="Sign out all" action={action} work={() => leave(true)} />
          </div>
          <Problem error={action.error} />
        </Card>
      </div>
      <Card title="Setting up">
        <p>Name, further devices, recovery words, apps and relay, one after the other: <a href="#/start">step by step</a></p>
      </Card>
      <Card title="Configuration in force">
        <p class="quiet">It is changed in the file, then counts from the next start: <code>{paths.data === null ? 'hybridgw paths' : oneLine(String(paths.data['config']), 300)}</code></p>
        <Loaded answer={config}>{({ items, warnings }) => (
          <>
            {warnings.map((warning) => <Notice tone="warn" key={warning}>{oneLine(warning, 400)}</Notice>)}
            <Table
              caption="Configuration"
              head={['Name', 'Value', 'From', 'Effect']}
              rows={items.map((one) => ({
                key: one.name,
                cells: [<code>{oneLine(one.name, 60)}</code>, <bdi>{valueText(one.value, 100)}</bdi>, one.source === 'default' ? 'default' : <Badge tone="calm">{oneLine(one.source, 100)}</Badge>, <span class="quiet">{oneLine(one.effect, 300)}</span>],
              }))}
            />
          </>
        )}</Loaded>
      </Card>
      <Card title="Where the files are">
        <Loaded answer={paths}>{(found) => <Facts facts={Object.entries(found).filter(([, path]) => typeof path === 'string').map(([name, path]) => [name, <Said text={String(path)} most={300} />] as const)} />}</Loaded>
      </Card>
    </Page>
  )
}

function Look() {
  const [chosen, choose] = useState<Theme>(theme)
  return (
    <Card title="Look">
      <fieldset class="choices">
        <legend>Colours</legend>
        {(['system', 'light', 'dark'] as const).map((one) => (
          <label class="check" key={one}><input type="radio" name="theme" checked={chosen === one} onChange={() => { applyTheme(one); choose(one) }} /><span>{one === 'system' ? 'as the system' : one}</span></label>
        ))}
      </fieldset>
    </Card>
  )
}

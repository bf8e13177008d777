/** The options page: what the person has chosen, how the extension is connected, and how to end it. */

import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { oneLine } from '../../../dashboard/src/format.js'
import { api, t } from '../api.js'
import { Button, Refused, Said, StatusLine, Steps } from '../parts.js'
import { hosts } from '../preferences.js'
import type { ActivitySettings, Ask, Preferences, Shown } from '../shared.js'
import { useBackground } from '../view.js'
import '../style.css'

const PAUSE_MS = 3_600_000
const THEMES: readonly Preferences['theme'][] = ['system', 'light', 'dark']

function Options() {
  const [shown, ask] = useBackground('options')
  const [said, say] = useState('')
  const [url, type] = useState('')
  if (shown === null) return <p class="status warn">{t('status_starting')}</p>
  const run = (what: Ask): void => {
    ask(what).then(() => say(''), (error: Error) => say(error.message))
  }
  const move = (event: Event): void => {
    event.preventDefault()
    run({ do: 'address', url })
  }
  return (
    <>
      <h1>{t('name')}</h1>
      <StatusLine shown={shown} />
      <Steps shown={shown} ask={run} />
      <Refused shown={shown} ask={run} />
      <section class="card">
        <h2>{t('connection')}</h2>
        <dl>
          <dt>{t('way')}</dt>
          <dd id="way">{t(shown.way === null ? 'way_none' : `way_${shown.way}`)}</dd>
          <dt>{t('address')}</dt>
          <dd><Said text={shown.url} /></dd>
          <dt>{t('host')}</dt>
          <dd>{t(`host_${shown.host.state}`)}</dd>
          <dt>{t('extensionId')}</dt>
          <dd><code>{api.runtime.id}</code></dd>
        </dl>
        {shown.host.state === 'missing' && (
          <form id="address" onSubmit={move}>
            <input aria-label={t('address')} placeholder={shown.url} value={url} onInput={(event) => type(event.currentTarget.value)} />
            <button>{t('use')}</button>
          </form>
        )}
        {shown.status !== 'unapproved' && <Button onClick={() => run({ do: 'leave' })}>{t('disconnect')}</Button>}
      </section>
      <PreferencesCard shown={shown} run={run} />
      <ActivityCard shown={shown} run={run} />
      <p role="alert" class="quiet">{said}</p>
    </>
  )
}

type Run = (ask: Ask) => void

/** What counts in all browsers of the person. */
function PreferencesCard({ shown: { preferences, devices, status }, run }: { shown: Shown; run: Run }) {
  const { theme, device, isShared } = preferences
  const isHere = devices.some(({ mark }) => mark === device)
  const prefer = (change: Partial<Preferences>): void => run({ do: 'prefer', change })
  return (
    <section class="card" id="preferences">
      <h2>{t('preferences')}</h2>
      <label class="row">
        {t('theme')}
        <select id="theme" value={theme} onChange={(event) => prefer({ theme: event.currentTarget.value as Preferences['theme'] })}>
          {THEMES.map((one) => <option key={one} value={one}>{t(`theme_${one}`)}</option>)}
        </select>
      </label>
      <label class="row">
        {t('defaultDevice')}
        <select id="device" value={isHere ? device : ''} onChange={(event) => prefer({ device: event.currentTarget.value })}>
          <option value="">{t('everyDevice')}</option>
          {devices.map(({ name, mark }) => <option key={mark} value={mark}>{oneLine(name, 40)}</option>)}
        </select>
      </label>
      {status === 'online' && <p class="quiet" id="shared" data-shared={isShared}>{t(isShared ? 'preferences_shared' : 'preferences_here')}</p>}
    </section>
  )
}

function ActivityCard({ shown: { activity, mayLog, preferences: { excluded } }, run }: { shown: Shown; run: Run }) {
  const { isOn, pausedUntilMs } = activity
  const [seesTabs, see] = useState(true) // what the person may take back in the browser's own list of extensions
  useEffect(() => void api.permissions.contains({ permissions: ['tabs'] }).then(see), [isOn])
  const [typed, type] = useState<string | null>(null) // null: what counts is shown, also when another browser changes it
  const set = (change: Partial<ActivitySettings>): void => run({ do: 'activity', settings: { ...activity, ...change } })
  const turn = async (): Promise<void> => {
    // The browser asks as well, and only because of a click.
    if (!isOn && !(await api.permissions.request({ permissions: ['tabs'] }))) return
    set({ isOn: !isOn })
    if (isOn) await api.permissions.remove({ permissions: ['tabs'] }).catch(() => undefined)
  }
  const exclude = (): void => {
    if (typed !== null) run({ do: 'prefer', change: { excluded: hosts(typed.split(/[\s,]+/)) } })
    type(null)
  }
  const isPaused = pausedUntilMs > Date.now()
  return (
    <section class="card" id="activity">
      <h2>{t('activity')}</h2>
      <p>{t('activityMore')}</p>
      {isOn && !mayLog && <p class="status bad">{t('activityForbidden')}</p>}
      {isOn && !seesTabs && <p class="status bad">{t('activityBlind')}</p>}
      <div class="buttons">
        <Button onClick={() => void turn()}>{t(isOn ? 'activityOff' : 'activityOn')}</Button>
        {isOn && <Button onClick={() => set({ pausedUntilMs: isPaused ? 0 : Date.now() + PAUSE_MS })}>{t(isPaused ? 'activityGoOn' : 'activityPause')}</Button>}
      </div>
      {isOn && (
        <label>
          {t('activityExcluded')}
          <textarea rows={4} value={typed ?? excluded.join('\n')} onInput={(event) => type(event.currentTarget.value)} onChange={exclude} />
        </label>
      )}
    </section>
  )
}

document.documentElement.lang = t('lang')
render(<Options />, document.querySelector('#app') as HTMLElement)

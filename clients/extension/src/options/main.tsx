/** The options page: how the extension is connected, and how to end it. */

import { render } from 'preact'
import { useState } from 'preact/hooks'
import { api, t } from '../api.js'
import { Button, Said, StatusLine, Steps } from '../parts.js'
import type { ActivitySettings, Ask } from '../shared.js'
import { useBackground } from '../view.js'
import '../style.css'

const PAUSE_MS = 3_600_000

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
      <ActivityCard activity={shown.activity} run={run} />
      <p role="alert" class="quiet">{said}</p>
    </>
  )
}

function ActivityCard({ activity, run }: { activity: ActivitySettings; run: (ask: Ask) => void }) {
  const { isOn, pausedUntilMs, excluded } = activity
  const [hosts, type] = useState(excluded.join('\n'))
  const set = (change: Partial<ActivitySettings>): void => run({ do: 'activity', settings: { ...activity, ...change } })
  const turn = async (): Promise<void> => {
    // The browser asks as well, and only because of a click.
    if (!isOn && !(await api.permissions.request({ permissions: ['tabs'] }))) return
    set({ isOn: !isOn })
    if (isOn) await api.permissions.remove({ permissions: ['tabs'] }).catch(() => undefined)
  }
  const isPaused = pausedUntilMs > Date.now()
  return (
    <section class="card" id="activity">
      <h2>{t('activity')}</h2>
      <p>{t('activityMore')}</p>
      <Button onClick={() => void turn()}>{t(isOn ? 'activityOff' : 'activityOn')}</Button>
      {isOn && <Button onClick={() => set({ pausedUntilMs: isPaused ? 0 : Date.now() + PAUSE_MS })}>{t(isPaused ? 'activityGoOn' : 'activityPause')}</Button>}
      {isOn && (
        <label>
          {t('activityExcluded')}
          <textarea rows={4} value={hosts} onInput={(event) => type(event.currentTarget.value)} onChange={() => set({ excluded: hostsIn(hosts) })} />
        </label>
      )}
    </section>
  )
}

function hostsIn(text: string): string[] {
  return [...new Set(text.toLowerCase().split(/[\s,]+/).filter((name) => /^[a-z0-9.-]{1,253}$/.test(name)))].slice(0, 500)
}

document.documentElement.lang = api.i18n.getUILanguage()
render(<Options />, document.querySelector('#app') as HTMLElement)

/** The options page: how the extension is connected, and how to end it. */

import { render } from 'preact'
import { useState } from 'preact/hooks'
import { api, t } from '../api.js'
import { Button, Said, StatusLine, Steps } from '../parts.js'
import type { Ask } from '../shared.js'
import { useBackground } from '../view.js'
import '../style.css'

function Options() {
  const [shown, ask] = useBackground('options')
  const [said, say] = useState('')
  if (shown === null) return <p class="status warn">{t('status_starting')}</p>
  const run = (what: Ask): void => {
    ask(what).then(() => say(''), (error: Error) => say(error.message))
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
        {shown.status !== 'unapproved' && <Button onClick={() => run({ do: 'leave' })}>{t('disconnect')}</Button>}
      </section>
      <p role="alert" class="quiet">{said}</p>
    </>
  )
}

document.documentElement.lang = api.i18n.getUILanguage()
render(<Options />, document.querySelector('#app') as HTMLElement)

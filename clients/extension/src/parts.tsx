/** What popup and options page are put together from. All text from outside goes through `Said`. */

import type { ComponentChildren } from 'preact'
import { oneLine } from '../../dashboard/src/format.js'
import { t } from './api.js'
import type { Ask, Shown } from './shared.js'

/** Text from outside: on one line, cut, its marks that turn or hide text made visible, and never markup. */
export function Said({ text, most = 120 }: { text: string; most?: number }) {
  return <bdi class="said">{oneLine(text, most)}</bdi>
}

export function Button({ children, onClick, kind = 'plain', label }: { children: ComponentChildren; onClick: () => void; kind?: 'plain' | 'main' | 'quiet'; label?: string }) {
  return (
    <button type="button" class={kind} onClick={onClick} {...(label === undefined ? {} : { 'aria-label': label, title: label })}>
      {children}
    </button>
  )
}

const TONES: Readonly<Record<Shown['status'], 'good' | 'warn' | 'bad'>> = {
  online: 'good', starting: 'warn', connecting: 'warn', asking: 'warn', unapproved: 'warn',
  offline: 'bad', blocked: 'bad', refused: 'bad', revoked: 'bad', failed: 'bad', closed: 'bad',
} // prettier-ignore

/** One line on how things are, and what waits. */
export function StatusLine({ shown }: { shown: Shown }) {
  return (
    <p class={`status ${TONES[shown.status]}`} role="status" id="status" data-status={shown.status} data-way={shown.way ?? ''}>
      <span class="dot" aria-hidden="true" />
      {t(`status_${shown.status}`)}
      {shown.waiting > 0 && <span class="waiting" id="waiting">{t('waiting', shown.waiting)}</span>}
    </p>
  )
}

/** What HybridGW did not take, until the person has seen it. */
export function Refused({ shown: { refusals }, ask }: { shown: Shown; ask: (ask: Ask) => void }) {
  if (refusals.length === 0) return null
  return (
    <section class="card" id="refused" aria-live="polite">
      <h2>{t('refused')}</h2>
      <ul>
        {refusals.map(({ what, why }, n) => (
          <li key={n}><div><Said text={what} most={100} /><p class="quiet"><Said text={why} most={300} /></p></div></li>
        ))}
      </ul>
      <Button onClick={() => ask({ do: 'understood' })}>{t('understood')}</Button>
    </section>
  )
}

/** What a person has to do before anything works; nothing while all is well. */
export function Steps({ shown, ask }: { shown: Shown; ask: (ask: Ask) => void }) {
  const { status, host, problem } = shown
  switch (status) {
    case 'online':
      return null
    case 'asking':
      return (
        <section class="card" aria-live="polite">
          <h2>{t('compare')}</h2>
          <p class="code" id="code">{shown.code}</p>
          <p>{t('compareMore')}</p>
          <pre>hybridgw apps approve {(shown.code ?? '').replace(' ', '')} --for until-revoked</pre>
          {shown.sentence !== null && <p class="quiet">{t('wants', shown.sentence)}</p>}
        </section>
      )
    case 'unapproved':
    case 'refused':
    case 'revoked':
      return (
        <section class="card">
          <h2>{t(`title_${status}`)}</h2>
          <p>{t(`text_${status}`)}</p>
          {problem !== null && status !== 'revoked' && problem.code !== 'not_approved' && <p class="quiet"><Said text={`${problem.message} ${problem.next}`} most={300} /></p>}
          <Button kind="main" onClick={() => ask({ do: 'connect' })}>{t('connect')}</Button>
        </section>
      )
    case 'starting':
    case 'connecting':
      return null
    case 'blocked':
    case 'failed':
    case 'closed':
      return (
        <section class="card">
          <h2>{t('title_failed')}</h2>
          {problem !== null && <p><Said text={`${problem.message} ${problem.next}`} most={300} /></p>}
          <Button onClick={() => ask({ do: 'retry' })}>{t('tryAgain')}</Button>
        </section>
      )
    case 'offline':
      return (
        <section class="card">
          <h2>{t('title_offline')}</h2>
          <p>{host.state === 'missing' ? t('hostMissing') : t('hostHere')}</p>
          <pre>{host.state === 'missing' ? 'hybridgw extension install' : 'hybridgw up'}</pre>
          {host.problem !== null && host.state === 'missing' && <p class="quiet"><Said text={host.problem} most={300} /></p>}
          {problem !== null && host.problem === null && <p class="quiet"><Said text={`${problem.message} ${problem.next}`} most={300} /></p>}
          <Button onClick={() => ask({ do: 'retry' })}>{t('tryAgain')}</Button>
        </section>
      )
  }
}

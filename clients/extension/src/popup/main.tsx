/** The popup: tasks, what has arrived, and the tab in front for another device. */

import { render } from 'preact'
import { useState } from 'preact/hooks'
import { useKeptFocus } from '../../../dashboard/src/focus.js'
import { oneLine } from '../../../dashboard/src/format.js'
import { newId } from '../../../js/src/ids.js'
import { ago, api, t } from '../api.js'
import { frontTab } from '../menus.js'
import { Button, Refused, Said, StatusLine, Steps } from '../parts.js'
import { openable } from '../piece.js'
import { EVERYWHERE, targetOf, type Ask, type Shown } from '../shared.js'
import { useBackground } from '../view.js'
import '../style.css'

type Tab = 'tasks' | 'inbox'

function Popup() {
  const [shown, ask] = useBackground('popup')
  const [tab, go] = useState<Tab>('tasks')
  const [said, tell] = useState({ text: '', isWaiting: false }) // isWaiting: true only as long as something waits
  useKeptFocus('ul, [role=tabpanel]')
  if (shown === null) return <p class="status warn" role="status">{t('status_starting')}</p>
  const say = (text: string): void => tell({ text, isWaiting: false })
  const run = (what: Ask, done = '', waits = done): void => {
    ask(what).then(
      (isWaiting) => tell({ text: isWaiting ? waits : done, isWaiting }),
      (error: Error) => say(error.message),
    )
  }
  const text = said.isWaiting && shown.waiting === 0 ? '' : said.text
  const unseen = shown.inbox.filter((one) => !one.isSeen).length
  const tabs: [Tab, string][] = [['tasks', t('tasks')], ['inbox', unseen > 0 ? t('inboxUnseen', unseen) : t('inbox')]]
  const turn = ({ key }: KeyboardEvent): void => {
    if (key !== 'ArrowLeft' && key !== 'ArrowRight') return
    const other = tab === 'tasks' ? 'inbox' : 'tasks'
    go(other)
    document.querySelector<HTMLElement>(`#tab-${other}`)?.focus()
  }
  return (
    <>
      <header>
        <StatusLine shown={shown} />
        <Button kind="quiet" label={t('options')} onClick={() => void api.runtime.openOptionsPage()}>⚙</Button>
      </header>
      <Steps shown={shown} ask={run} />
      <Refused shown={shown} ask={run} />
      <div class="tabs" role="tablist" onKeyDown={turn}>
        {tabs.map(([name, title]) => (
          <button type="button" role="tab" id={`tab-${name}`} aria-selected={tab === name} aria-controls="panel" onClick={() => go(name)} key={name}>{title}</button>
        ))}
      </div>
      <main>
        <div role="tabpanel" id="panel" aria-labelledby={`tab-${tab}`}>
          {tab === 'tasks' ? <Tasks shown={shown} run={run} /> : <Inbox shown={shown} run={run} />}
        </div>
      </main>
      <Send shown={shown} run={run} say={say} />
      <p class="quiet" role="alert" id="said">{text === '' ? '' : <Said text={text} most={300} />}</p>
    </>
  )
}

/** done: what is said when it is done; waits: and where it waits for HybridGW. */
type Run = (what: Ask, done?: string, waits?: string) => void

function Tasks({ shown, run }: { shown: Shown; run: Run }) {
  const [title, type] = useState('')
  const { items, isMore, isReady } = shown.tasks
  const add = (event: Event): void => {
    event.preventDefault()
    if (title.trim() === '') return
    run({ do: 'add', id: newId(), title })
    type('')
  }
  return (
    <>
      <form id="add" onSubmit={add}>
        <input aria-label={t('newTask')} placeholder={t('newTask')} value={title} maxLength={1000} autofocus onInput={(event) => type(event.currentTarget.value)} />
        <button class="main">{t('add')}</button>
      </form>
      <ul id="tasks" aria-label={t('tasks')}>
        {items.map((task) => (
          <li key={task.id} class={task.isPending ? 'pending' : ''}>
            <label>
              <input type="checkbox" checked={task.isDone} onChange={(event) => run({ do: 'check', id: task.id, isDone: event.currentTarget.checked })} />
              <Said text={task.title} most={200} />
            </label>
            {task.due !== null && <span class="quiet">{task.due.slice(0, 10)}</span>}
          </li>
        ))}
      </ul>
      {!shown.mayRead && <p class="quiet">{t('tasksForbidden')}</p>}
      {items.length === 0 && isReady && <p class="quiet">{t('noTasks')}</p>}
      {isMore && <p class="quiet">{t('moreTasks')}</p>}
    </>
  )
}

function Inbox({ shown: { inbox, status }, run }: { shown: Shown; run: Run }) {
  if (inbox.length === 0) return <p class="quiet">{status === 'starting' ? '' : t('noInbox')}</p>
  return (
    <>
      <ul id="inbox" aria-label={t('inbox')}>
        {inbox.map((one) => {
          const url = openable(one.url)
          const title = one.kind === 'selection' ? one.text : one.title || one.url
          const see = (): void => run({ do: 'seen', id: one.id })
          return (
            <li key={one.id} class={one.isSeen ? '' : 'unseen'}>
              <div>
                {url === null ? <Said text={title} most={300} /> : <a href={url} target="_blank" rel="noreferrer noopener" onClick={see}><Said text={title} most={300} /></a>}
                <p class="quiet"><Said text={t('fromDevice', one.from)} most={80} /> · {ago(one.atMs)}</p>
              </div>
              <Button kind="quiet" label={t('remove')} onClick={() => run({ do: 'forget', id: one.id })}>×</Button>
            </li>
          )
        })}
      </ul>
      {inbox.some((one) => !one.isSeen) && <Button kind="quiet" onClick={() => run({ do: 'seen' })}>{t('allSeen')}</Button>}
    </>
  )
}

function Send({ shown, run, say }: { shown: Shown; run: Run; say: (text: string) => void }) {
  const [chosen, choose] = useState<string | null>(null)
  const isThere = chosen === EVERYWHERE || shown.devices.some(({ mark }) => chosen === `${EVERYWHERE}@${mark}`)
  const to = chosen !== null && isThere ? chosen : targetOf(shown)
  if (!['online', 'offline', 'connecting'].includes(shown.status)) return null
  const send = async (): Promise<void> => {
    const piece = await frontTab()
    if (piece === null) return say(t('noTab'))
    run({ do: 'send', id: newId(), piece, to }, t('sent'), t('sentLater'))
  }
  return (
    <footer>
      <select id="to" aria-label={t('sendTo')} value={to} onChange={(event) => choose(event.currentTarget.value)}>
        <option value={EVERYWHERE}>{t('everyDevice')}</option>
        {shown.devices.map(({ name, mark }) => <option key={mark} value={`${EVERYWHERE}@${mark}`}>{oneLine(name, 40)}</option>)}
      </select>
      <Button onClick={() => void send()}>{t('sendTab')}</Button>
    </footer>
  )
}

document.documentElement.lang = t('lang')
render(<Popup />, document.querySelector('#app') as HTMLElement)

/** What every page is put together from. All text from outside goes through `Said` or format.ts. */

import type { ButtonHTMLAttributes, ComponentChildren } from 'preact'
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { HybridGWError } from '../../js/src/errors.js'
import type { Action, Answer } from './daemon.js'
import { CAN_FOCUS } from './focus.js'
import { oneLine } from './format.js'

/** Text from outside: harmless, on one line, and turning nothing around it. */
export function Said({ text, most = 120 }: { text: string | null | undefined; most?: number }) {
  return <bdi class="said">{oneLine(text ?? '–', most)}</bdi>
}

/** A page: its heading gets the focus when it is gone to, so that a screen reader says where one is. */
export function Page({ title, lead, actions, children }: { title: string; lead?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    document.title = `${/^\(\d+\) /.exec(document.title)?.[0] ?? ''}${title} – HybridGW` // what waits stays told
  }, [title])
  // Once: a heading may change while somebody types, as that of a document which another device renames.
  useEffect(() => {
    heading.current?.focus({ preventScroll: true })
    scrollTo(0, 0)
  }, [])
  return (
    <>
      <header class="page-head">
        <div>
          <h1 tabIndex={-1} ref={heading}>{title}</h1>
          {lead !== undefined && <p class="lead">{lead}</p>}
        </div>
        {actions !== undefined && <div class="actions">{actions}</div>}
      </header>
      {children}
    </>
  )
}

/** A part of a page with a heading. */
export function Card({ title, actions, children, tone }: { title?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren; tone?: Tone }) {
  return (
    <section class={`card ${tone ?? ''}`}>
      {(title !== undefined || actions !== undefined) && (
        <div class="card-head">
          <h2>{title}</h2>
          {actions !== undefined && <div class="actions">{actions}</div>}
        </div>
      )}
      {children}
    </section>
  )
}

export type Tone = 'good' | 'calm' | 'warn' | 'bad'

/** One word on how something is; the word says it, the colour only repeats it. */
export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>
}

/** Something to know. */
export function Notice({ tone, children, actions }: { tone: Tone; children: ComponentChildren; actions?: ComponentChildren }) {
  return (
    <div class={`notice ${tone}`} role={tone === 'bad' ? 'alert' : 'status'}>
      <div>{children}</div>
      {actions !== undefined && <div class="actions">{actions}</div>}
    </div>
  )
}

/** What went wrong, and what to do. */
export function Problem({ error }: { error: HybridGWError | null }) {
  if (error === null) return null
  return <Notice tone="bad">{oneLine(error.message, 500)}</Notice>
}

/** The answer of the daemon, or that it is on its way, or why there is none. What there is stays, with what is being typed
 * into it, while another answer fails to come. */
export function Loaded<T>({ answer, children }: { answer: Answer<T>; children: (data: T) => ComponentChildren }) {
  const { data, error } = answer
  if (data === null) return error === null ? <p class="quiet" role="status">Loading …</p> : <Problem error={error} />
  return <>{error === null ? null : <Problem error={error} />}{children(data)}</>
}

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & { kind?: 'main' | 'plain' | 'danger'; busy?: boolean }

/** A button. busy: what it does is under way, so that it does nothing; it keeps the focus, which a disabled one loses. */
export function Button({ kind = 'plain', busy = false, children, onClick, ...more }: ButtonProps) {
  const clicked: typeof onClick = busy ? (event) => event.preventDefault() : onClick
  return (
    <button type="button" {...more} class={`button ${kind}`} onClick={clicked} aria-disabled={busy || undefined} aria-busy={busy}>
      {children}
    </button>
  )
}

/** A button that asks once more before it does what cannot be undone. */
export function Sure({ label, question, yes, no = 'Keep', action, work, small }: { label: ComponentChildren; question: ComponentChildren; yes: string; no?: string; action: Action; work: () => Promise<unknown>; small?: boolean }) {
  const [isAsked, ask] = useState(false)
  const place = useRef<HTMLSpanElement>(null)
  const hasFocus = useRef(false) // it is here, or was when the other buttons came
  useLayoutEffect(() => { // at once: the next key is meant for what is there then
    if (hasFocus.current) place.current?.querySelector<HTMLButtonElement>('button')?.focus()
  }, [isAsked])
  const turn = (to: boolean): void => {
    hasFocus.current = place.current?.contains(document.activeElement) === true
    ask(to)
  }
  if (!isAsked) {
    return <span class="opener" ref={place}><Button kind="danger" onClick={() => turn(true)}>{label}</Button></span>
  }
  const back = (): void => turn(false)
  return (
    <span class={`sure ${small === true ? 'small' : ''}`} role="group" aria-label="Are you sure?" ref={place} onKeyDown={(event) => event.key === 'Escape' && back()}>
      <span>{question}</span>
      <Button onClick={back}>{no}</Button>
      <Button kind="danger" busy={action.isRunning} onClick={() => void action.run(work).then((done) => done && back())}>{yes}</Button>
    </span>
  )
}

/** A window over the page: it keeps the focus until it is closed, Escape closes it, and the focus goes back to where it was. */
export function Dialog({ title, close, children }: { title: ComponentChildren; close: () => void; children: ComponentChildren }) {
  const place = useRef<HTMLDialogElement>(null)
  const id = useId()
  useLayoutEffect(() => {
    const opener = document.activeElement
    const dialog = place.current
    dialog?.showModal()
    dialog?.querySelector('h2')?.focus() // a screen reader begins with what is asked; no button is one key away
    return () => {
      dialog?.close()
      // What opened it may be gone, as the button of something that was just done.
      const back = opener instanceof HTMLElement && opener.isConnected && opener !== document.body ? opener : document.querySelector<HTMLElement>('h1')
      back?.focus({ preventScroll: true })
    }
  }, [])
  // What had the focus is gone, as the button that led to the next question: begin at the top of what is there now.
  useEffect(() => {
    if (document.activeElement === document.body) place.current?.querySelector('h2')?.focus({ preventScroll: true })
  })
  const pressed = (event: KeyboardEvent): void => {
    if (event.key === 'Escape') {
      event.preventDefault()
      event.stopPropagation()
      close()
    }
    if (event.key !== 'Tab' || place.current === null) return
    // A browser's own trap leads out into its bars; this one goes round.
    const all = [...place.current.querySelectorAll<HTMLElement>(CAN_FOCUS)]
    const [first, last] = [all[0], all.at(-1)]
    const isOutside = !place.current.contains(document.activeElement)
    if (event.shiftKey ? isOutside || document.activeElement === first || document.activeElement?.tagName === 'H2' : isOutside || document.activeElement === last) {
      event.preventDefault()
      ;(event.shiftKey ? last : first)?.focus()
    }
  }
  return (
    <dialog ref={place} aria-labelledby={id} onKeyDown={pressed} onCancel={(event) => { event.preventDefault(); close() }}>
      <h2 id={id} tabIndex={-1}>{title}</h2>
      {children}
    </dialog>
  )
}

/** A table that becomes a list of cards where there is no room: each cell then says its column. */
export function Table({ caption, head, rows }: { caption: string; head: readonly string[]; rows: readonly { key: string; cells: readonly ComponentChildren[] }[] }) {
  return (
    <table>
      <caption class="hidden">{caption}</caption>
      <thead>
        <tr>{head.map((name) => <th scope="col" key={name}>{name === '' ? <span class="hidden">What to do</span> : name}</th>)}</tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.key}>{row.cells.map((cell, n) => <td data-name={head[n]} key={n}><div>{cell}</div></td>)}</tr>
        ))}
      </tbody>
    </table>
  )
}

/** Names with their values. */
export function Facts({ facts }: { facts: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

/** What is said where there is nothing yet, with what to do about it. */
export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>
}

/** An input with its name above it. */
export function Field({ label, hint, short, children }: { label: string; hint?: ComponentChildren; short?: boolean; children: ComponentChildren }) {
  return (
    <label class={short === true ? 'field short' : 'field'}>
      <span>{label}</span>
      {children}
      {hint !== undefined && <small>{hint}</small>}
    </label>
  )
}

/** The recovery words: shown after one has said that nobody looks, asked for three of them, typed where they are needed. */

import { useState } from 'preact/hooks'
import type { Recovery } from './api.js'
import { call } from './api.js'
import { useAction, useAnswer, useDaemon, type Answer } from './daemon.js'
import { oneLine, time } from './format.js'
import { Button, Card, Dialog, Field, Loaded, Notice, Problem } from './parts.js'

const ASKED = 3 // of 24; whoever has these right has most likely written all of them
const ENOUGH = 4 // letters of a word: no two words of the list begin alike

/** Where the words are, and what is to be done about it. */
export function RecoveryWords({ title = 'Recovery words' }: { title?: string }) {
  const recovery = useAnswer<Recovery>('recovery.get', {}, ['devices'], 60_000)
  const [isOpen, open] = useState(false)
  const [isNew, told] = useState(false)
  return (
    <Card title={title}>
      <p class="quiet">24 words from which everything comes back on a new machine, and with which a lost device is put out for good.</p>
      <Loaded answer={recovery}>{({ state, confirmed_ms }) => {
        if (isNew) return <Notice tone="good">Right. The words are on your paper only now; this machine cannot show them any more.</Notice>
        switch (state) {
          case 'here':
            return (
              <>
                <p>This device can still show them, and so can whoever steals it unlocked. Write them on paper, then they are erased here.</p>
                <Button kind="main" data-words-open onClick={() => open(true)}>Show the words</Button>
              </>
            )
          case 'confirmed':
            return <p>You confirmed on {time(confirmed_ms)} that you have them. They are on your paper, and gone here.</p>
          case 'elsewhere':
            return <p>They were never on this device. The first device of yours showed them.</p>
        }
      }}</Loaded>
      {isOpen && <Paper recovery={recovery} done={() => { told(true); open(false) }} close={() => open(false)} />}
    </Card>
  )
}

type Stage = { name: 'alone' } | { name: 'shown'; words: string[] } | { name: 'asked'; words: string[]; places: number[] }

/** From "is nobody looking" to three words out of the paper. The words live as long as this window. */
function Paper({ recovery, done, close }: { recovery: Answer<Recovery>; done: () => void; close: () => void }) {
  const db = useDaemon()
  const action = useAction()
  const [stage, set] = useState<Stage>({ name: 'alone' })
  const [typed, type] = useState<Readonly<Record<number, string>>>({})
  const [wrong, say] = useState<number | null>(null)
  const show = async (): Promise<void> => set({ name: 'shown', words: (await call<{ words: string[] }>(db, 'recovery.show')).words })
  const check = (words: string[], places: number[]): void => {
    const found = places.find((place) => !isSame(typed[place] ?? '', words[place] ?? ''))
    say(found ?? null)
    if (found !== undefined) return
    void action.run(() => call(db, 'recovery.confirm', { words: words.join(' ') })).then((isDone) => {
      if (!isDone) return
      recovery.reload()
      done()
    })
  }
  switch (stage.name) {
    case 'alone':
      return (
        <Dialog title="Is nobody looking over your shoulder?" close={close}>
          <p>Whoever sees the words can read all your data and put out your devices. Have paper and a pen ready; a photo or a note in the cloud is not such a place.</p>
          <Problem error={action.error} />
          <div class="actions">
            <Button onClick={close}>Not now</Button>
            <Button kind="main" busy={action.isRunning} onClick={() => void action.run(show)}>Nobody looks: show them</Button>
          </div>
        </Dialog>
      )
    case 'shown':
      return (
        <Dialog title="Write all 24 on paper, in order" close={close}>
          <ol class="word-list" tabIndex={0} aria-label="Recovery words">{stage.words.map((word, n) => <li key={n}>{oneLine(word, 20)}</li>)}</ol>
          <p class="quiet">Next you are asked for three of them. Only then they are erased here.</p>
          <div class="actions">
            <Button onClick={close}>Later</Button>
            <Button kind="main" onClick={() => { type({}); say(null); set({ name: 'asked', words: stage.words, places: some(stage.words.length) }) }}>They are on paper</Button>
          </div>
        </Dialog>
      )
    case 'asked':
      return (
        <Dialog title="Three words, from your paper" close={close}>
          <form onSubmit={(event) => { event.preventDefault(); check(stage.words, stage.places) }}>
            {stage.places.map((place) => (
              <Field key={place} label={`Word ${place + 1}`}>
                <input name={`word-${place + 1}`} value={typed[place] ?? ''} onInput={(event) => type({ ...typed, [place]: event.currentTarget.value })} required autocomplete="off" autocapitalize="off" spellcheck={false} />
              </Field>
            ))}
            {wrong !== null && <Notice tone="bad">Word {wrong + 1} is another one. Look at your paper, or go back and see the words again.</Notice>}
            <Problem error={action.error} />
            <div class="actions">
              <Button onClick={() => set({ name: 'shown', words: stage.words })}>See them again</Button>
              <Button kind="main" type="submit" busy={action.isRunning}>Check, and erase them here</Button>
            </div>
          </form>
        </Dialog>
      )
  }
}

/** Different places, in order. */
function some(length: number): number[] {
  const found = new Set<number>()
  while (found.size < Math.min(ASKED, length)) found.add((crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) % length)
  return [...found].sort((one, other) => one - other)
}

function isSame(typed: string, word: string): boolean {
  const kept = typed.trim().toLowerCase()
  return kept === word || (kept.length >= ENOUGH && word.startsWith(kept))
}

/** The words, typed: covered unless one wants to see them, kept nowhere. */
export function WordsField({ value, change }: { value: string; change: (value: string) => void }) {
  const [isSeen, see] = useState(false)
  return (
    <>
      <Field label="The 24 recovery words" hint="Capitals, commas and numbers do not matter; the first four letters of a word are enough.">
        <textarea name="words" class={isSeen ? '' : 'covered'} rows={3} value={value} onInput={(event) => change(event.currentTarget.value)} required maxLength={1_000} autocomplete="off" autocapitalize="off" spellcheck={false} />
      </Field>
      <label class="check"><input type="checkbox" checked={isSeen} onChange={(event) => see(event.currentTarget.checked)} /><span>Show what I type</span></label>
    </>
  )
}

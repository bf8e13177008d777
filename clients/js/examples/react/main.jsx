import { connect } from '@hybridgw/client'
import { useState, useSyncExternalStore } from 'react'
import { createRoot } from 'react-dom/client'

const url = new URLSearchParams(location.search).get('hybridgw') ?? undefined
const db = connect({ app: 'Tasks', scopes: ['read:tasks', 'write:tasks'], url })
const tasks = db.collection('tasks')

const useReadable = (store) => useSyncExternalStore(store.subscribe, store.getSnapshot)

function App() {
  const { status, code, error, queued } = useReadable(db)
  const { docs } = useReadable(tasks)
  const [title, setTitle] = useState('')
  const [problem, setProblem] = useState(null)
  const shown = problem ?? error

  const add = (event) => {
    event.preventDefault()
    if (title) tasks.create({ title }).catch(setProblem)
    setTitle('')
  }
  return (
    <>
      <h1>Tasks</h1>
      <p>
        HybridGW: <span id="status">{queued > 0 ? `${status}, ${queued} waiting` : status}</span>{' '}
        {['unapproved', 'refused', 'revoked', 'blocked'].includes(status) && (
          <button id="connect" onClick={() => db.ask().catch(() => undefined)}>Connect HybridGW</button>
        )}
      </p>
      <p id="code">{code}</p>
      <p id="problem" role="alert">{shown && `${shown.message} ${shown.next}`}</p>
      <form id="add" onSubmit={add}>
        <input name="title" value={title} onChange={(event) => setTitle(event.target.value)} />
        <button>Add</button>
      </form>
      <ul id="tasks">
        {docs.map(({ id, data, isPending }) => (
          <li key={id} className={isPending ? 'pending' : ''}>
            <input
              type="checkbox"
              checked={data.status === 'done'}
              onChange={(event) => tasks.patch(id, { status: event.target.checked ? 'done' : 'open' }).catch(setProblem)}
            />{' '}
            <span className={data.status === 'done' ? 'done' : ''}>{data.title}</span>
          </li>
        ))}
      </ul>
    </>
  )
}

createRoot(document.getElementById('app')).render(<App />)

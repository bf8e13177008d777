import { connect } from '@hybridgw/client'

const at = (id) => document.getElementById(id)
const url = new URLSearchParams(location.search).get('hybridgw') ?? undefined

const db = connect({ app: 'Tasks', scopes: ['read:tasks', 'write:tasks'], url })
const tasks = db.collection('tasks')

db.subscribe(({ status, code, error, queued }) => {
  at('status').textContent = queued > 0 ? `${status}, ${queued} waiting` : status
  at('code').textContent = code ?? ''
  at('problem').textContent = error ? `${error.message} ${error.next}` : ''
  at('connect').hidden = !['unapproved', 'refused', 'revoked', 'blocked'].includes(status)
})
at('connect').onclick = () => db.ask().catch(() => undefined) // what went wrong is shown already

tasks.subscribe(({ docs }) => at('tasks').replaceChildren(...docs.map(row)))

at('add').onsubmit = (event) => {
  event.preventDefault()
  const { title } = event.target.elements
  if (title.value) tasks.create({ title: title.value }).catch(show)
  title.value = ''
}

function row({ id, data, isPending }) {
  const box = Object.assign(document.createElement('input'), { type: 'checkbox', checked: data.status === 'done' })
  box.onchange = () => tasks.patch(id, { status: box.checked ? 'done' : 'open' }).catch(show)
  const text = Object.assign(document.createElement('span'), { textContent: data.title, className: data.status === 'done' ? 'done' : '' })
  const item = Object.assign(document.createElement('li'), { className: isPending ? 'pending' : '' })
  item.append(box, ' ', text)
  return item
}

function show(error) {
  at('problem').textContent = `${error.message} ${error.next}`
}

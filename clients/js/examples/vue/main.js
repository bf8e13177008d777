import { connect } from '@hybridgw/client'
import { createApp, onScopeDispose, ref, shallowRef } from 'vue'

const url = new URLSearchParams(location.search).get('hybridgw') ?? undefined
const db = connect({ app: 'Tasks', scopes: ['read:tasks', 'write:tasks'], url })
const tasks = db.collection('tasks')

function useReadable(store) {
  const value = shallowRef(store.getSnapshot())
  onScopeDispose(store.subscribe((now) => (value.value = now)))
  return value
}

createApp({
  setup() {
    const state = useReadable(db)
    const list = useReadable(tasks)
    const title = ref('')
    const problem = ref(null)
    const show = (error) => (problem.value = error)
    const add = () => {
      if (title.value) tasks.create({ title: title.value }).catch(show)
      title.value = ''
    }
    const mark = (id, isDone) => tasks.patch(id, { status: isDone ? 'done' : 'open' }).catch(show)
    const ask = () => db.ask().catch(() => undefined)
    return { state, list, title, problem, add, mark, ask }
  },
  template: `
    <h1>Tasks</h1>
    <p>
      HybridGW: <span id="status">{{ state.queued > 0 ? state.status + ', ' + state.queued + ' waiting' : state.status }}</span>
      <button v-if="['unapproved', 'refused', 'revoked', 'blocked'].includes(state.status)" id="connect" @click="ask">Connect HybridGW</button>
    </p>
    <p id="code">{{ state.code }}</p>
    <p id="problem" role="alert">{{ problem ? problem.message + ' ' + problem.next : state.error ? state.error.message + ' ' + state.error.next : '' }}</p>
    <form id="add" @submit.prevent="add"><input name="title" v-model="title" /><button>Add</button></form>
    <ul id="tasks">
      <li v-for="{ id, data, isPending } in list.docs" :key="id" :class="{ pending: isPending }">
        <input type="checkbox" :checked="data.status === 'done'" @change="mark(id, $event.target.checked)" />
        <span :class="{ done: data.status === 'done' }">{{ data.title }}</span>
      </li>
    </ul>`,
}).mount('#app')

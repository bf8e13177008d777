/** Topics: messages between the programs of this computer that listen now. Nothing is stored, nothing leaves it. */

import type { HybridGWError } from './errors.js'
import type { EventFrame } from './frames.js'
import type { Subscriber } from './view.js'

/** One topic. */
export class Topic<T = unknown> {
  constructor(
    readonly name: string,
    private readonly call: (command: string, params: Record<string, unknown>) => Promise<any>,
    private readonly follow: (subscriber: Subscriber) => () => void,
  ) {}

  /** Tell all that listen now. Resolves with how many; rejects with `offline` while there is no connection. */
  async publish(data: T): Promise<number> {
    const answer = await this.call('topic.publish', { topic: this.name, data })
    return answer.listeners as number
  }

  /** Listen, also after the connection broke. missed: messages may have been lost meanwhile. Returns what ends it. */
  subscribe(listener: (data: T) => void, more: { missed?: () => void; failed?: (error: HybridGWError) => void } = {}): () => void {
    let isNew = true
    return this.follow({
      command: 'topic.subscribe',
      params: { topic: this.name },
      event: (frame: EventFrame) => listener((frame.data as { data: T }).data),
      renewed: () => {
        if (!isNew) more.missed?.()
        isNew = false
      },
      failed: (error) => more.failed?.(error),
    })
  }
}

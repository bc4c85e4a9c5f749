/** The engine in the memory of this process: for one node, for several fleets of one process, and for tests. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Directory } from "./directory.ts"
import { BackplaneError, type Engine, type Session } from "./engine.ts"
import { Inbox } from "./inbox.ts"

const mostWaiting = 1024

// what a fleet of several machines would have to keep to as well
const largest = 1_048_576

/** The engine of one process. */
export class Memory implements Engine {
  readonly name = "memory"
  readonly largest = largest
  private readonly inboxes = new Map<string, Inbox>()
  private directory = new Directory(1)
  /** When its memory began: with the first node after it was lost. */
  private bornAt: number | undefined = -Infinity

  /** Forgets all that it knows, as an engine that comes back empty; for tests. */
  wipe(): void {
    this.directory = new Directory(this.directory.epoch + 1)
    this.bornAt = undefined
  }

  readonly join: Engine["join"] = ({ lease, node }) =>
    Effect.gen({ self: this }, function*() {
      const clock = yield* Clock.Clock
      // a lease must end on time, whatever is done to the time of day
      const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
      const inbox = new Inbox(mostWaiting)
      yield* Effect.acquireRelease(
        Effect.sync(() => this.inboxes.set(node, inbox)),
        () =>
          Effect.sync(() => {
            if (this.inboxes.get(node) === inbox) this.inboxes.delete(node)
          })
      )
      this.directory.join(node, lease, now())
      this.bornAt ??= now()
      return this.session(node, inbox, now, now() - this.bornAt)
    })

  private session(node: string, inbox: Inbox, now: () => number, age: number): Session {
    const { epoch } = this.directory
    const ask = <A>(does: (directory: Directory) => A): Effect.Effect<A, BackplaneError> =>
      Effect.suspend(() => {
        const { directory } = this
        if (directory.epoch !== epoch) return Effect.fail(new BackplaneError({ reason: "epoch" }))
        if (!directory.isAlive(node, now())) return Effect.fail(new BackplaneError({ reason: "lease" }))
        return Effect.sync(() => does(directory))
      })
    return {
      epoch,
      age,
      renew: (isLeaving) => ask((directory) => void directory.renew(node, isLeaving, now())),
      nodes: ask((directory) => directory.nodes(now())),
      claim: (key, options = {}) => ask((directory) => directory.claim(node, key, options, now())),
      release: (key, token) => ask((directory) => directory.release(node, key, token, now())),
      find: (key) => ask((directory) => directory.find(key, now())),
      publish: (to, batch) => {
        if (batch.length > this.largest) return Effect.fail(new BackplaneError({ reason: "size" }))
        // an engine elsewhere takes a turn as well: no node is delivered to in the middle of what another one does
        return Effect.map(Effect.yieldNow, () => {
          const inbox = this.inboxes.get(to)
          inbox?.offer(batch)
          return inbox === undefined ? "nobody" : "sent"
        })
      },
      take: inbox.take,
      leave: Effect.sync(() => this.directory.leave(node, now()))
    }
  }
}

/** What is kept of a connection that has ended, for those who come late: who it was and why it ended, and no message. */
import * as Effect from "effect/Effect"
import type { Connection } from "../../Connection.ts"
import * as ConnectionError from "../../ConnectionError.ts"
import * as Policy from "../../Policy.ts"
import { explanationOf } from "../connection/handle/explanation.ts"
import { type Internals, TypeId } from "../connection/handle/internals.ts"

const internalsOf = (
  id: number,
  reason: ConnectionError.Reason,
  look: Internals["look"],
  explain: Internals["explain"]
): Internals => ({
  state: "ended",
  reason,
  isResting: false,
  untouched: 0,
  overdue: 0,
  offerNow: undefined,
  stop: undefined,
  onEnded: (watcher) => watcher(id),
  look,
  explain,
  handledBy: (handler) => handler.connectionGone(),
  fibers: []
})

/** An ended connection that holds neither what it had read nor what it had to send. */
export const remainsOf = <In, Out>(connection: Connection<In, Out>): Connection<In, Out> => {
  const { id, wire } = connection
  const explanation = explanationOf(connection[TypeId])
  const { snapshot } = explanation
  const reason = snapshot.reason ?? new ConnectionError.Closed({ by: "local" })
  const failed = Effect.fail(ConnectionError.make(reason))
  return {
    id,
    receive: failed,
    receiveAll: failed,
    send: () => failed,
    sendAll: () => failed,
    flush: failed,
    isWritable: Effect.succeed(false),
    awaitWritable: Effect.void,
    close: Effect.void,
    closeWith: () => Effect.void,
    drainWith: () => Effect.void,
    leaving: Effect.void,
    ending: failed,
    closed: failed,
    patch: () => Effect.void,
    policy: Effect.succeed(Policy.defaults),
    snapshot: Effect.succeed(snapshot),
    wire,
    offerFrame: () => Effect.succeed(false),
    [TypeId]: internalsOf(id, reason, () => snapshot, () => explanation)
  }
}

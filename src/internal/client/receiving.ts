/** Receiving: from ended connections what they had read, then from the present one. */
import * as Effect from "effect/Effect"
import type { ConnectionError } from "../../ConnectionError.ts"
import type { Policy } from "../../Policy.ts"
import { TypeId } from "../connection/handle/internals.ts"
import { type AnyConnection, calling, type ClientCells } from "./state.ts"

/** Takes from the oldest connection that has something to receive, or waits for one. */
export const receive = <C extends AnyConnection, A>(
  cells: ClientCells<C>,
  take: (connection: C) => Effect.Effect<A, ConnectionError>
): Effect.Effect<A, ConnectionError> =>
  Effect.flatMap(
    cells.awaiting(() => cells.sources[0]),
    (connection) =>
      calling("receive", connection, () => take(connection), () => {
        cells.sources = cells.sources.filter((source) => source !== connection)
        return receive(cells, take)
      })
  )

/** What ended connections left to receive is bounded like one inbox; the oldest goes first. */
export const kept = Effect.fnUntraced(function*<C extends AnyConnection>(sources: ReadonlyArray<C>, policy: Policy) {
  const kept: Array<C> = []
  let messages = 0
  let bytes = 0
  for (const connection of sources.toReversed()) {
    const { inbox } = yield* connection.snapshot
    if (inbox.messages === 0 && inbox.bytes === 0) continue
    // there was no room for what is not decoded
    messages += inbox.messages + (connection[TypeId].hasUndecoded === true ? policy.inboxMessages : 0)
    bytes += inbox.bytes
    if (kept.length > 0 && (messages > policy.inboxMessages || bytes > policy.inboxBytes)) break
    kept.unshift(connection)
  }
  return kept
})

/** A connection that costs next to nothing: it keeps what it was sent, and why it was closed. */
import { Effect, Result } from "effect"
import type { Connection, ConnectionError } from "../../../src/index.ts"
import { TypeId } from "../../../src/internal/connection/handle/internals.ts"

let nextId = 2_000_000_000

export interface Fake {
  readonly connection: Connection.Connection<string>
  readonly sent: Array<string>
  readonly reasons: Array<ConnectionError.Reason>
  readonly isOpen: () => boolean
  readonly end: () => void
}

/** `received` is told of each message as it is taken; `isFull` says that the outbox is. */
export const fake = (
  options: { readonly received?: (message: string) => void; readonly isFull?: () => boolean } = {}
): Fake => {
  const sent: Array<string> = []
  const reasons: Array<ConnectionError.Reason> = []
  const watchers: Array<(id: number) => void> = []
  const snapshot = { id: ++nextId, state: "open" as string, age: 0, quietFor: 0, reason: undefined }
  const end = () => {
    snapshot.state = "ended"
    for (const watcher of watchers.splice(0)) watcher(snapshot.id)
  }
  const take = (message: unknown) => {
    if (options.isFull?.() === true) return false
    sent.push(String(message))
    options.received?.(String(message))
    return true
  }
  const internals = {
    get state() {
      return snapshot.state
    },
    overdue: 0,
    offerNow: take,
    look: () => ({ ...snapshot }),
    onEnded: (watcher: (id: number) => void) => {
      watchers.push(watcher)
    }
  }
  const connection = {
    id: snapshot.id,
    snapshot: Effect.sync(() => ({ ...snapshot })),
    closeWith: (reason: ConnectionError.Reason) =>
      Effect.sync(() => {
        reasons.push(reason)
        end()
      }),
    wire: { encode: (message: string) => Result.succeed(message) },
    offerFrame: (frame: unknown) => Effect.sync(() => take(frame)),
    [TypeId]: internals
  } as unknown as Connection.Connection<string>
  return { connection, sent, reasons, isOpen: () => snapshot.state === "open", end }
}

/** Ends of connections as sockets of `effect/socket`. */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { Machine } from "../fabric/simulatedHost.ts"
import type { End } from "./endpoint.ts"
import type { Chunk } from "./incoming.ts"

type Resume = (effect: Effect.Effect<void>) => void

/** What a socket says of itself to whoever asks by this name; Holdfast's `Connection.describe` does the same. */
const TransportId = "~holdfast/Transport"

/**
 * A socket that gets its connection from `acquire`, anew for every reader. A later reader takes the writer with it.
 */
export const make = (
  machine: Machine,
  options: { readonly messages: boolean; readonly local: string | undefined; readonly remote: string },
  acquire: Effect.Effect<End, Socket.SocketError>
): Socket.Socket => {
  let current: End | undefined
  let waiting: Array<Resume> = []

  const connect = (end: End): void => {
    current = end
    const waiters = waiting
    waiting = []
    for (const resume of waiters) machine.post(() => resume(Effect.void))
  }
  const connected: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (current !== undefined) return resume(Effect.void)
    waiting.push(resume)
    return Effect.sync(() => {
      waiting = waiting.filter((waiter) => waiter !== resume)
    })
  })

  const reader: Socket.Socket["reader"] = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      yield* restore(machine.running)
      const end = yield* acquire
      end.isClaimed = true
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => {
          if (current === end) current = undefined
          end.release()
        })
      )
      yield* restore(end.opened)
      connect(end)
      return { pull: end.pull, upgrade: Socket.SocketUpgradeError.unsupported }
    })
  )

  const write = (chunk: Chunk | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> =>
    Effect.suspend(() => {
      if (current === undefined) return Effect.andThen(connected, write(chunk))
      if (!Socket.isCloseEvent(chunk)) return current.write([chunk])
      return current.close(chunk)
    })
  const writeAll: Socket.Writer["writeAll"] = (chunks) =>
    Effect.suspend(() => current === undefined ? Effect.andThen(connected, writeAll(chunks)) : current.write(chunks))
  const writer: Socket.Socket["writer"] = Effect.acquireRelease(
    Effect.succeed({ write, writeAll }),
    () =>
      Effect.sync(() => {
        // a message transport has no half-close
        if (!options.messages) current?.finish()
      })
  )

  return Object.assign(Socket.make({ reader, writer }), {
    [TransportId]: {
      messages: options.messages,
      get local() {
        return options.local ?? current?.address
      },
      remote: options.remote,
      unsent: () => current?.outgoing.unsent ?? 0
    }
  })
}

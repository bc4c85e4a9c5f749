/** One message for many connections: encoded once for each kind of wire, and offered without waiting. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as ConnectionError from "../../ConnectionError.ts"
import type { Frame } from "../codec/encoder.ts"
import type { Wire } from "../connection/core/setup.ts"
import { TypeId } from "../connection/handle/internals.ts"
import { logError } from "../reasons/logs.ts"
import { type Entry, isLiving, type Member } from "./state.ts"
import * as Trie from "./trie.ts"

/** A connection that messages of this type can be sent to. */
export interface Recipient<in Out> extends Member {
  readonly wire: Wire<Out>
  readonly offerFrame: (frame: Frame) => Effect.Effect<boolean>
}

/** See `Registry.Broadcast`. */
export interface Counts {
  readonly delivered: number
  readonly dropped: number
  readonly failed: number
}

/** A throw in the codec or the wrapper of one connection counts for that connection; the others get the message. */
interface Attempt<A> {
  readonly value: A | undefined
  readonly cause: Cause.Cause<never> | undefined
}

const attempt = <A>(run: () => A | undefined): Attempt<A> => {
  try {
    return { value: run(), cause: undefined }
  } catch (defect) {
    return { value: undefined, cause: Cause.die(defect) }
  }
}

const notTried: Attempt<never> = { value: undefined, cause: undefined }

const encode = <Out>(wire: Wire<Out>, message: Out): Attempt<Frame> =>
  attempt(() => Result.getOrUndefined(wire.encode(message)))

/** Offers a frame to a connection whose `offerFrame` was replaced. */
const offerTo = (connection: Recipient<never>, frame: Frame): Effect.Effect<Attempt<boolean>> =>
  Effect.map(
    Effect.exit(Effect.suspend(() => connection.offerFrame(frame))),
    (exit) => Exit.isSuccess(exit) ? { value: exit.value, cause: undefined } : { value: undefined, cause: exit.cause }
  )

/** Offers a message to one connection, or to none. */
export const offer = <Out>(
  recipient: Recipient<Out> | undefined,
  message: Out
): Effect.Effect<"accepted" | "full" | "offline", ConnectionError.ConnectionError> => {
  if (recipient === undefined || !isLiving(recipient[TypeId].state)) return Effect.succeed("offline")
  const encoded = recipient.wire.encode(message)
  return Result.isFailure(encoded)
    ? Effect.fail(ConnectionError.make(encoded.failure))
    : Effect.map(recipient.offerFrame(encoded.success), (isAccepted) => isAccepted ? "accepted" : "full")
}

/** Sends to every recipient but `except`, in order, and counts. Throws are logged once. */
export const broadcast = <Out>(
  recipients: Trie.Trie<Entry<Recipient<Out>, unknown>>,
  message: Out,
  except: number | undefined
): Effect.Effect<Counts> =>
  Effect.gen(function*() {
    const frames = new Map<Wire<Out>, Attempt<Frame>>()
    // of the recipient before: nearly always that of all
    let lastWire: Wire<Out> | undefined
    let encoded: Attempt<Frame> = notTried
    const counts = { delivered: 0, dropped: 0, failed: 0 }
    let thrown: { readonly id: number; readonly cause: Cause.Cause<never> } | undefined
    let throwing = 0
    for (const { connection } of Trie.toArray(recipients)) {
      const { id, wire } = connection
      if (id === except) continue
      if (wire !== lastWire) {
        encoded = frames.get(wire) ?? encode(wire, message)
        frames.set(wire, encoded)
        lastWire = wire
      }
      const frame = encoded.value
      let isAccepted: boolean | undefined
      let { cause } = encoded
      if (frame !== undefined) {
        const internals = connection[TypeId]
        if (internals.offerNow === undefined) {
          const offered = yield* offerTo(connection, frame)
          isAccepted = offered.value
          cause = offered.cause
        } else {
          // as `attempt`, without a closure and a result for each of them
          try {
            isAccepted = internals.offerNow(frame)
          } catch (defect) {
            cause = Cause.die(defect)
          }
        }
      }
      if (isAccepted === true) counts.delivered++
      else if (isAccepted === false) counts.dropped++
      else counts.failed++
      if (cause === undefined) continue
      throwing++
      thrown ??= { id, cause }
    }
    if (thrown !== undefined) {
      yield* logError(
        `a broadcast failed for ${throwing} connections, the first of them connection ${thrown.id}`,
        thrown.cause
      )
    }
    return counts
  })

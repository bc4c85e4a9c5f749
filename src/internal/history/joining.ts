/** Joins what was missed and what comes by another way: that waits until the replay is out. */
import { isReadonlyArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { spawnIn } from "../scheduling/supervised.ts"
import type { Reader } from "./following.ts"
import { type Event, HistoryError, type Message } from "./log.ts"

/** Waiting live messages. The first that does not fit ends them, after those that do. */
const waiting = <A, E, R>(
  live: Effect.Effect<Stream.Stream<Message<A>, E, R>, E, R | Scope.Scope>,
  limit: number
): Effect.Effect<Queue.Dequeue<Message<A>, E | HistoryError | Cause.Done>, E, R | Scope.Scope> =>
  Effect.gen(function*() {
    const queue = yield* Queue.dropping<Message<A>, E | HistoryError | Cause.Done>(limit)
    const stream = yield* live
    const full = new HistoryError({ reason: "behind" })
    const filling = Stream.runForEachArray(
      stream,
      (messages) => messages.every((message) => Queue.offerUnsafe(queue, message)) ? Effect.void : Effect.fail(full)
    )
    yield* spawnIn(yield* Effect.scope, "history.live", filling, (exit) => {
      if (exit._tag === "Success") Queue.endUnsafe(queue)
      else Queue.failCauseUnsafe(queue, exit.cause)
    }, { startImmediately: true })
    return queue
  })

/** Reads from the history until there is no more, then what has come meanwhile and is not known yet. */
export const joined = <A, E, R>(
  reader: Reader<A>,
  live: Effect.Effect<Stream.Stream<Message<A>, E, R>, E, R | Scope.Scope>,
  limit: number
): Stream.Stream<Event<A>, E | HistoryError, Exclude<R, Scope.Scope>> => {
  const pulling = Effect.map(waiting(live, limit), (queue) => {
    let isReplaying = true
    // live messages that were taken, and not looked at
    let taken: ReadonlyArray<Message<A>> = []

    /** Those that come next. Others are known already, or have a hole before them: then the history has it, and them. */
    const successors = (): Array<Message<A>> => {
      const next: Array<Message<A>> = []
      for (const [i, message] of taken.entries()) {
        const { epoch, offset } = reader.position!
        const isSame = message.position.epoch === epoch
        if (isSame && message.position.offset <= offset) continue
        if (!isSame || message.position.offset > offset + 1) {
          isReplaying = true
          taken = taken.slice(i + 1)
          return next
        }
        reader.position = message.position
        next.push(message)
      }
      taken = []
      return next
    }

    const pull: Effect.Effect<NonEmptyReadonlyArray<Event<A>>, E | HistoryError | Cause.Done> = Effect.suspend(() => {
      if (isReplaying) {
        return Effect.flatMap(reader.next, (events) => {
          if (isReadonlyArrayNonEmpty(events)) return Effect.succeed(events)
          isReplaying = false
          return pull
        })
      }
      if (taken.length === 0) {
        return Effect.flatMap(Queue.takeAll(queue), (messages) => {
          taken = messages
          return pull
        })
      }
      const events = successors()
      return isReadonlyArrayNonEmpty(events) ? Effect.succeed(events) : pull
    })
    return pull
  })
  return Stream.scoped(Stream.fromPull(pulling)) as Stream.Stream<Event<A>, E | HistoryError, Exclude<R, Scope.Scope>>
}

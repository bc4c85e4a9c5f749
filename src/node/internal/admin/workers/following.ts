/** The changes of all workers as one stream: each is asked for its next ones, so that a slow reader holds them up. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { spawnIn } from "../../../../internal/scheduling/supervised.ts"
import type * as S from "../schemas.ts"
import type { Group } from "./group.ts"
import type { Process } from "./process.ts"

// a worker that was started is followed after so long, and one that does not answer is asked again
const lookEvery = "1 second"

// changes that wait for a slow reader; then the workers keep theirs
const mostWaiting = 64

/** Follows one process until it is gone, and begins again once it answers again. */
const follow = (
  group: Group,
  process: Process,
  of: number,
  queue: Queue.Queue<S.Change, Cause.Done>
): Effect.Effect<void> => {
  const round = Effect.gen(function*() {
    yield* process.ask({ op: "follow", of })
    while (true) {
      const told = yield* process.ask<ReadonlyArray<S.Change> | null>({ op: "pull", of })
      if (told === null) return
      for (const change of told) {
        if (change._tag === "Current") yield* Queue.offer(queue, { ...change, registered: yield* group.registered })
        else if (change._tag === "Added" || change._tag === "Ended") {
          const { connection } = change
          yield* Queue.offer(
            queue,
            { ...change, connection: connection === null ? null : group.named(connection) } as S.Change
          )
        } else if (change._tag !== "Figures") yield* Queue.offer(queue, change)
      }
    }
  })
  return Effect.gen(function*() {
    while (!process.isOver) {
      yield* Effect.ignore(round)
      yield* Effect.sleep(lookEvery)
    }
    // what it had is gone
    yield* Queue.offer(queue, { _tag: "Current", registered: yield* group.registered, missed: 0 })
  }).pipe(Effect.ensuring(Effect.sync(() => process.forget(of))))
}

// of all streams that this process asks for
let streams = 0

/** Changes of all, without figures. */
export const followed = (group: Group): Stream.Stream<S.Change> =>
  Stream.callback<S.Change>(
    (queue) =>
      Effect.gen(function*() {
        const scope = yield* Effect.scope
        const known = new Set<Process>()
        while (true) {
          for (const process of group.processes) {
            if (known.has(process)) continue
            known.add(process)
            const following = follow(group, process, ++streams, queue)
            yield* spawnIn(scope, "the changes of a worker", following, () => void known.delete(process))
          }
          yield* Effect.sleep(lookEvery)
        }
      }),
    { bufferSize: mostWaiting }
  )

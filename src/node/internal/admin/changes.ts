/** The stream of changes: a slow reader holds a bounded number of them, and is told how many it missed. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { TypeId } from "../../../internal/connection/handle/internals.ts"
import type { Change as Told } from "../../../Registry.ts"
import { serversOf } from "./figures.ts"
import type { Program } from "./program.ts"
import type * as S from "./schemas.ts"
import { rowOf, shown, tagsOf } from "./views.ts"

const namesOf = ({ id, key, tags }: Exclude<Told<unknown, never, unknown>, { readonly _tag: "Current" }>) => ({
  id,
  key: key === undefined ? null : shown(key),
  tags: tagsOf(tags)
})

const show = (registry: Program["registry"]) => (change: Told<unknown, never, unknown>): Effect.Effect<S.Change> => {
  switch (change._tag) {
    case "Current":
      return Effect.succeed({ _tag: "Current", registered: change.entries.length, missed: change.missed })
    case "Added":
      return Effect.map(registry.get(change.id), (found) => ({
        _tag: "Added",
        ...namesOf(change),
        superseded: change.superseded ?? null,
        // it may have ended since
        connection: Option.match(found, {
          onNone: () => null,
          onSome: (connection) => rowOf(connection[TypeId].look(), change)
        })
      }))
    case "Tagged":
      return Effect.succeed({
        _tag: "Tagged",
        ...namesOf(change),
        added: tagsOf(change.added),
        removed: tagsOf(change.removed)
      })
    case "Ended":
      return Effect.succeed({
        _tag: "Ended",
        ...namesOf(change),
        reason: change.snapshot.reason?._tag ?? null,
        connection: rowOf(change.snapshot, change)
      })
  }
}

/** Who reads the stream, and when it is over. */
export interface Readers {
  count: number
  readonly over: Deferred.Deferred<void>
}

/** Changes, and figures every second, at once the first time and once more when it is over. */
export const withFigures = (
  changes: Stream.Stream<S.Change>,
  counted: Effect.Effect<S.Change>,
  readers: Readers
): Stream.Stream<S.Change> => {
  const ticks = Stream.fromEffectSchedule(counted, Schedule.spaced("1 second"))
  const until = Stream.merge(changes, ticks, { haltStrategy: "left" }).pipe(
    Stream.interruptWhen(Deferred.await(readers.over)),
    Stream.concat(Stream.fromEffect(counted))
  )
  return Stream.unwrap(Effect.as(
    Effect.acquireRelease(
      Effect.sync(() => readers.count++),
      () => Effect.sync(() => readers.count--)
    ),
    until
  ))
}

/** Those of the registry of this process. */
export const changesOf = (
  program: Program,
  figures: Effect.Effect<S.Figures>,
  readers: Readers
): Stream.Stream<S.Change> => {
  const counted = Effect.map(
    Effect.all({ figures, servers: serversOf(program) }),
    (counted): S.Change => ({ _tag: "Figures", ...counted })
  )
  const changes = Stream.mapEffect(program.registry.changes, show(program.registry))
  return withFigures(changes, counted, readers)
}

/** The end of a worker: what it answers when its parent asks for the admin API. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { spawnAmong } from "../../../../internal/scheduling/supervised.ts"
import type { Answerer } from "../../addresses/calls.ts"
import type { Actions } from "../actions.ts"
import type * as S from "../schemas.ts"
import type { Answered, Asked } from "./asking.ts"

/** A stream of changes that is asked for piece by piece, so that the one who reads slowly holds it up. */
interface Followed {
  readonly scope: Scope.Closeable
  readonly pull: Pull.Pull<ReadonlyArray<S.Change>>
}

/** Answers by what the actions say. What goes on behind an answer ends with the scope. */
export const answering = (
  actions: Actions,
  context: Context.Context<never>
): Effect.Effect<Answerer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const fibers = new Set<Fiber.Fiber<unknown, unknown>>()
    const followed = new Map<number, Followed>()
    const parent = yield* Effect.scope
    yield* Effect.addFinalizer(() => Effect.sync(() => fibers.forEach((fiber) => fiber.interruptUnsafe())))

    const follow = (of: number) =>
      Effect.gen(function*() {
        const scope = yield* Scope.fork(parent)
        const pull = yield* Scope.provide(Stream.toPull(actions.changes), scope)
        followed.set(of, { scope, pull })
      })
    const unfollow = (of: number) =>
      Effect.suspend(() => {
        const found = followed.get(of)
        followed.delete(of)
        return found === undefined ? Effect.void : Scope.close(found.scope, Exit.void)
      })
    /** Nothing once the stream is over. */
    const pulled = (of: number): Effect.Effect<ReadonlyArray<S.Change> | null> => {
      const found = followed.get(of)
      return found === undefined
        ? Effect.succeed(null)
        : Pull.catchDone(found.pull, () => Effect.as(unfollow(of), null))
    }

    const does = (asked: Asked): Effect.Effect<unknown, { readonly _tag: string; readonly message: string }> => {
      switch (asked.op) {
        case "list":
          return actions.list(asked.query)
        case "inspect":
          return actions.inspect(asked.id)
        case "close":
          return actions.close(asked.id, asked.closing)
        case "closeMany":
          return actions.closeMany(asked.closing)
        case "patch":
          return actions.patch(asked.id, asked.changes)
        case "ended":
          return actions.ended(asked.query)
        case "follow":
          return follow(asked.of)
        case "unfollow":
          return unfollow(asked.of)
        case "pull":
          return pulled(asked.of)
        case "ping":
          return Effect.void
        default:
          return actions[asked.op]
      }
    }

    return (what, tell) =>
      spawnAmong(fibers, context, "an answer to the parent", does(what as Asked), (exit) => {
        if (Exit.isSuccess(exit)) return tell({ value: exit.value } satisfies Answered)
        const failed = exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error
        const { _tag, message } = failed ?? { _tag: "Failed", message: "the worker could not answer" }
        tell({ failed: { _tag, message } } satisfies Answered)
      })
  })

/** What `serve` does at SIGHUP, which a terminal that closes sends as well. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { background } from "../internal/scheduling/supervised.ts"

/** Stops this process as its signal does. */
export const stop: Effect.Effect<void> = Effect.sync(() => void process.emit("SIGTERM", "SIGTERM"))

const ignore = (): void => {}

/** SIGHUP has this done, in place of ending the process at once. */
export const onHangUp = (done: Effect.Effect<void>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => {
    const signalled = Effect.callback<void>((resume) => {
      const onSignal = (): void => resume(Effect.void)
      process.once("SIGHUP", onSignal)
      return Effect.sync(() => process.off("SIGHUP", onSignal))
    })
    const loop = Effect.forever(Effect.andThen(signalled, done))
    // one that comes meanwhile must not end the process
    const hearing = Effect.acquireRelease(
      Effect.sync(() => process.on("SIGHUP", ignore)),
      () => Effect.sync(() => process.off("SIGHUP", ignore))
    )
    return Effect.andThen(hearing, background(scope, "SIGHUP", loop))
  })

/** Runs an effect in virtual time, to its end, in one synchronous loop. */
import { Cause, Effect, Exit } from "effect"
import { Simulation } from "../../../src/testing/index.ts"

/** The message of its failure, or nothing. */
export const exitOf = <E>(effect: Effect.Effect<void, E>): string | undefined => {
  let failure: string | undefined
  const noted = Effect.catchCause(effect, (cause) => Effect.sync(() => void (failure = String(Cause.squash(cause)))))
  const exit = Effect.runSyncExit(Simulation.run({ seed: 1, faults: { kinds: [] } }, () => noted))
  return Exit.isSuccess(exit) ? failure : String(Cause.squash(exit.cause))
}

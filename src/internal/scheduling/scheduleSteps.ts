/** A `Schedule` that drives something for as long as its owner lives: a sweep, a refill, a ping. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { logError, logLine } from "../reasons/logs.ts"

/** Takes the next step of a schedule: for how many milliseconds to sleep, 1 or more (`Infinity`: for ever). */
export type Cadence<in Input> = (input: Input) => Effect.Effect<number>

// a delay of nothing, again and again, would take a core
const least = 1

const delayOf = (next: readonly [unknown, Duration.Duration]): number =>
  Math.max(least, Duration.toMillis(next[1]) || 0)

/**
 * Steps through `schedule`. When that ends, fails or dies, `fallback`, which must not end, takes its place from that step on,
 * and one log line says so: what a schedule drives does not stop without a word.
 *
 * `mayEnd`: an end is what the schedule says, as `Infinity`, and it is asked again with the next input.
 */
export const make = <Input, E, R>(
  name: string,
  schedule: Schedule.Schedule<unknown, Input, E, R>,
  fallback: Schedule.Schedule<unknown, Input>,
  options?: { readonly mayEnd?: boolean | undefined }
): Effect.Effect<Cadence<Input>, never, R> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<R>()
    const given = yield* Schedule.toStep(schedule)
    const standby = yield* Schedule.toStep(fallback)
    let hasEnded = false
    const fromStandby = (input: Input): Effect.Effect<number> =>
      Effect.orDie(Effect.map(standby(clock.currentTimeMillisUnsafe(), input), delayOf))

    return (input) =>
      Effect.suspend(() => {
        if (hasEnded) return fromStandby(input)
        return Effect.provideContext(
          // suspended: a step may throw when it is called
          Effect.map(Effect.suspend(() => given(clock.currentTimeMillisUnsafe(), input)), delayOf),
          context
        ).pipe(
          Effect.catchCause((cause) => {
            // the fiber that asks is interrupted: the schedule is as good as before
            if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause) as Effect.Effect<never>
            const isDone = cause.reasons.every((reason) => reason._tag === "Fail" && Cause.isDone(reason.error))
            if (isDone && options?.mayEnd === true) return Effect.succeed(Infinity)
            hasEnded = true
            const told = isDone
              ? logLine("Warn", `the schedule of ${name} has ended: the default goes on`)
              : logError(`the schedule of ${name} failed: the default goes on`, cause)
            return Effect.andThen(told, fromStandby(input))
          })
        )
      })
  })

/** A sleep that can be ended early, for less than a race costs. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/**
 * Gives `onWake` what ends the sleep, and `undefined` once there is nothing to end. Whole milliseconds: a rest too short
 * for the clock to tell would come at once.
 */
export const pause = (
  runFork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
  clock: Clock.Clock,
  millis: number,
  onWake: (wake: (() => void) | undefined) => void
): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const wake = () => {
      onWake(undefined)
      sleeper?.interruptUnsafe()
      resume(Effect.void)
    }
    const sleeper = millis === Infinity ? undefined : runFork(clock.sleep(Duration.millis(Math.ceil(millis))))
    sleeper?.addObserver(() => resume(Effect.void))
    onWake(wake)
    return Effect.sync(() => {
      onWake(undefined)
      sleeper?.interruptUnsafe()
    })
  })

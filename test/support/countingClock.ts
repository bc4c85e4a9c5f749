import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** A clock that counts who sleeps on it, and how often somebody has. */
export const countingClock = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  let sleeping = 0
  let slept = 0
  const counted: Clock.Clock = {
    ...clock,
    sleep: (duration) =>
      Effect.suspend(() => {
        sleeping++
        slept++
        return Effect.ensuring(
          clock.sleep(duration),
          Effect.sync(() => {
            sleeping--
          })
        )
      })
  }
  return { clock: counted, sleeping: () => sleeping, slept: () => slept }
})

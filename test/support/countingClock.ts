import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** A clock that counts who sleeps on it. */
export const countingClock = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  let sleeping = 0
  const counted: Clock.Clock = {
    ...clock,
    sleep: (duration) =>
      Effect.suspend(() => {
        sleeping++
        return Effect.ensuring(
          clock.sleep(duration),
          Effect.sync(() => {
            sleeping--
          })
        )
      })
  }
  return { clock: counted, sleeping: () => sleeping }
})

/** A clock that somebody sets, over the one of the test. */
import { Clock, Effect } from "effect"

/** `set` moves the wall clock by so many milliseconds; `stall` lets monotonic time pass in which nothing runs. */
export const settable = Effect.map(Clock.Clock, (clock) => {
  let wall = 0
  let stalled = 0
  const millis = () => clock.currentTimeMillisUnsafe() + wall + stalled
  const nanos = () => clock.currentTimeNanosUnsafe() + BigInt(wall + stalled) * 1_000_000n
  const monotonic = () => clock.monotonicTimeNanosUnsafe() + BigInt(stalled) * 1_000_000n
  const wrapped: Clock.Clock = {
    ...clock,
    currentTimeMillisUnsafe: millis,
    currentTimeNanosUnsafe: nanos,
    monotonicTimeNanosUnsafe: monotonic,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanos: Effect.sync(monotonic)
  }
  return {
    clock: wrapped,
    set: (by: number) => {
      wall = by
    },
    stall: (millis: number) => {
      stalled += millis
    }
  }
})

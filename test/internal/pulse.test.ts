/** Whether a connection to an engine still answers, on a clock that somebody sets. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Pulse } from "../../src/internal/backplane/pulse.ts"
import { settable } from "../support/clocks.ts"

/** A connection that has been asked, and that answers when the test says so. */
const asked = Effect.gen(function*() {
  const { clock, set, stall } = yield* settable
  const pulse = new Pulse(clock, 4000)
  let tell: (answer: Effect.Effect<string>) => void = () => {}
  const over = yield* Effect.forkChild(Effect.catch(pulse.over, Effect.succeed), { startImmediately: true })
  const asking = yield* Effect.forkChild(Effect.result(pulse.ask<string>((told) => tell = told)), {
    startImmediately: true
  })
  return { answer: (text: string) => tell(Effect.succeed(text)), asking, over, set, stall }
})

describe("the pulse of an engine", () => {
  it.effect("an engine that does not answer for its time is given up", () =>
    Effect.gen(function*() {
      const { asking, over } = yield* asked
      yield* TestClock.adjust(3999)
      assert.isUndefined(over.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.include(String((yield* Fiber.join(over)).cause), "no answer for 4000 ms")
      assert.strictEqual((yield* Fiber.join(asking))._tag, "Failure")
    }))

  it.effect("B36 the wall clock is set back: an engine that hangs is given up in its time", () =>
    Effect.gen(function*() {
      const { over, set } = yield* asked
      set(-3_600_000)
      yield* TestClock.adjust(4000)
      assert.isDefined(over.pollUnsafe())
    }))

  it.effect("B36 the wall clock is set forward: an engine that answers stays", () =>
    Effect.gen(function*() {
      const { answer, asking, over, set } = yield* asked
      set(3_600_000)
      yield* TestClock.adjust(3000)
      answer("here")
      yield* TestClock.adjust(10_000)
      assert.isUndefined(over.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(asking))._tag, "Success")
    }))

  it.effect("B35 this process stood still for longer than that: what has come meanwhile is read first", () =>
    Effect.gen(function*() {
      const { answer, asking, over, stall } = yield* asked
      yield* TestClock.adjust(500)
      stall(20_000)
      // its timers come first, and then what the kernel has
      yield* TestClock.adjust(500)
      assert.isUndefined(over.pollUnsafe())
      answer("here")
      yield* TestClock.adjust(10_000)
      assert.isUndefined(over.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(asking))._tag, "Success")
    }))

  it.effect("B35 after a standstill, an engine that has not answered is given up at the next look", () =>
    Effect.gen(function*() {
      const { over, stall } = yield* asked
      stall(20_000)
      yield* TestClock.adjust(1000)
      assert.isUndefined(over.pollUnsafe())
      yield* TestClock.adjust(1000)
      assert.isDefined(over.pollUnsafe())
    }))
})

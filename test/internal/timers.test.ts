import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"
import { timersOf } from "../../src/internal/scheduling/timers.ts"
import { countingClock } from "../support/countingClock.ts"

const settle = Effect.gen(function*() {
  for (let i = 0; i < 10; i++) yield* Effect.yieldNow
})

/** The timers of the clock of this test, and how many sleeps of it are in progress. */
const make = Effect.gen(function*() {
  const { clock, sleeping } = yield* countingClock
  const context = Context.add(yield* Effect.context<never>(), Clock.Clock, clock)
  const timers = timersOf(context)
  assert.strictEqual(timersOf(context), timers)
  const done: Array<string> = []
  const at = (millis: number, name: string) => timers.at(millis, () => done.push(`${name} at ${timers.now() - start}`))
  const start = timers.now()
  return {
    at: (millis: number, name: string) => at(start + millis, name),
    done,
    sleeping,
    start,
    timers
  }
})

describe("timers", () => {
  it.effect("run in the order of their times, and of one time in the order they were set, on one sleep", () =>
    Effect.gen(function*() {
      const { at, done, sleeping } = yield* make
      at(100, "a")
      at(300, "c")
      at(200, "b")
      at(200, "b again")
      yield* settle
      assert.strictEqual(sleeping(), 1)
      yield* TestClock.adjust("250 millis")
      assert.deepStrictEqual(done, ["a at 100", "b at 200", "b again at 200"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(done.slice(3), ["c at 300"])
      assert.strictEqual(sleeping(), 0)
    }))

  it.effect("an earlier one is in time, and what it sets too", () =>
    Effect.gen(function*() {
      const { at, done, start, timers } = yield* make
      at(1000, "late")
      yield* settle
      timers.at(start + 10, () => at(20, "set by the early one"))
      yield* TestClock.adjust("30 millis")
      assert.deepStrictEqual(done, ["set by the early one at 20"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(done.slice(1), ["late at 1000"])
    }))

  it.effect("one that is due runs in a task of its own, not in the middle of whoever sets it", () =>
    Effect.gen(function*() {
      const { at, done } = yield* make
      at(0, "now")
      at(-5, "before")
      assert.deepStrictEqual(done, [])
      yield* settle
      assert.deepStrictEqual(done, ["before at 0", "now at 0"])
    }))

  it.effect("called off, one does not run, and when all are, nothing sleeps", () =>
    Effect.gen(function*() {
      const { at, done, sleeping } = yield* make
      const timers = [at(10, "a"), at(20, "b"), at(30, "c")]
      timers[1]!.cancel()
      timers[1]!.cancel()
      yield* TestClock.adjust("25 millis")
      assert.deepStrictEqual(done, ["a at 10"])
      yield* settle
      assert.strictEqual(sleeping(), 1)
      timers[2]!.cancel()
      // one that has run already
      timers[0]!.cancel()
      yield* settle
      assert.strictEqual(sleeping(), 0)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(done, ["a at 10"])
    }))

  it.effect("when the last one has run nothing sleeps, whatever was called off behind it", () =>
    Effect.gen(function*() {
      const { at, sleeping } = yield* make
      const late = at(30_000, "late")
      yield* settle
      at(10, "early")
      late.cancel()
      yield* TestClock.adjust("10 millis")
      yield* settle
      assert.strictEqual(sleeping(), 0)
    }))

  it.effect("in a crowd, one that may come early comes with one that is due; among few each is exact", () =>
    Effect.gen(function*() {
      for (const many of [10, 1000]) {
        const { start, timers } = yield* make
        let done = 0
        for (let i = 0; i < many; i++) timers.at(start + 1000 + i, () => done++, 5)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(done, many === 10 ? 1 : 6)
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(done, many)
      }
    }))

  it.effect("thousands that come and go leave those that stay", () =>
    Effect.gen(function*() {
      const { at, done } = yield* make
      const stay = Array.from({ length: 10 }, (_, i) => at(60_000 + i, `${i}`))
      for (let i = 0; i < 20_000; i++) at(1 + i, "gone").cancel()
      for (const [i, timer] of stay.entries()) if (i % 2 === 1) timer.cancel()
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(done, [0, 2, 4, 6, 8].map((i) => `${i} at ${60_000 + i}`))
    }))
})

describe("the shared wake-up", () => {
  /** A clock whose sleeps can be broken, and what is logged. */
  const broken = Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
    let fails = 0
    const sleepers: Array<Fiber.Fiber<unknown, unknown>> = []
    const breaking: Clock.Clock = {
      ...clock,
      sleep: (duration) =>
        Effect.withFiber((fiber) => {
          sleepers.push(fiber)
          return fails-- > 0 ? Effect.die(new Error("no time")) : clock.sleep(duration)
        })
    }
    const context = (yield* Effect.context<never>()).pipe(
      Context.add(Clock.Clock, breaking),
      Context.add(Logger.CurrentLoggers, new Set([logger]))
    )
    return {
      timers: timersOf(context),
      lines,
      sleepers,
      fail: (times: number) => {
        fails = times
      }
    }
  })

  it.effect("B101 that is interrupted is repaired, in time, and says so", () =>
    Effect.gen(function*() {
      const { lines, sleepers, timers } = yield* broken
      const done: Array<number> = []
      timers.at(timers.now() + 1000, () => done.push(timers.now()))
      yield* settle
      assert.strictEqual(sleepers.length, 1)
      sleepers[0]!.interruptUnsafe()
      yield* settle
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(done, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(done, [1000])
      assert.deepStrictEqual(lines, ["the shared wake-up of timers failed and is repaired"])
    }))

  it.effect("B101 whose clock fails once is repaired; one whose clock goes on failing tells each owner", () =>
    Effect.gen(function*() {
      const { fail, lines, timers } = yield* broken
      const told: Array<unknown> = []
      let ran = 0
      const task = {
        run: () => void ran++,
        failed: (defect: unknown) => void told.push(defect)
      }
      fail(1)
      timers.at(timers.now() + 1000, task)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([ran, told.length, lines.length], [1, 0, 1])
      fail(3)
      timers.at(timers.now() + 1000, task)
      timers.at(timers.now() + 2000, task)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual([ran, told.map(String)], [1, ["Error: no time", "Error: no time"]])
      // and it works again once the clock does
      timers.at(timers.now() + 1000, task)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(ran, 2)
    }))

  it.effect("B101 the owner of a timer that throws is told, and the others of that time run", () =>
    Effect.gen(function*() {
      const { timers } = yield* broken
      const told: Array<unknown> = []
      const done: Array<string> = []
      timers.at(timers.now() + 1000, {
        run: () => {
          throw new Error("no")
        },
        failed: (defect) => told.push(defect)
      })
      timers.at(timers.now() + 1000, () => done.push("next"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([told.map(String), done], [["Error: no"], ["next"]])
    }))
})

import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Cadence from "../../src/internal/scheduling/scheduleSteps.ts"
import * as Supervised from "../../src/internal/scheduling/supervised.ts"
import { withLogs } from "../support/logs.ts"

const now = Effect.map(Clock.Clock, (clock) => clock.currentTimeMillisUnsafe())
const settle = Effect.repeat(Effect.yieldNow, { times: 20 })

describe("what goes on", () => {
  it.effect("B101 begins again a second after whatever its exit was, with one log line each, until its scope closes", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const begun: Array<number> = []
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        // at once: an end, a failure, a defect. Later: a failure, and a kill
        const ways: Array<Effect.Effect<unknown, unknown>> = [
          Effect.void,
          Effect.fail("failed"),
          Effect.die("died"),
          Effect.andThen(Effect.sleep(500), Effect.fail("late"))
        ]
        const life = Effect.gen(function*() {
          begun.push(yield* now)
          yield* ways.shift() ?? Effect.never
        })
        const scope = yield* Scope.make()
        yield* Scope.provide(
          Supervised.restarted(
            "it",
            Effect.withFiber((fiber) => {
              fibers.push(fiber)
              return life
            })
          ),
          scope
        )
        yield* TestClock.adjust(5000)
        fibers.at(-1)!.interruptUnsafe()
        yield* TestClock.adjust(1000)
        assert.deepStrictEqual(begun, [0, 1000, 2000, 3000, 4500, 6000])
        assert.deepStrictEqual(logged.splice(0).map((line) => line.replace(/^.*: /, "")), [
          "Error it ended and is restarted",
          "failed",
          "died",
          "late",
          "All fibers interrupted without error"
        ])
        yield* Scope.close(scope, Exit.void)
        assert.isDefined(fibers.at(-1)!.pollUnsafe())
        yield* TestClock.adjust(60_000)
        assert.deepStrictEqual([begun.length, logged.length], [6, 0])
      })
    ))

  it.effect("B101 one that ended at once is stopped while it waits to begin again", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        let begun = 0
        const scope = yield* Scope.make()
        yield* Scope.provide(Supervised.restarted("it", Effect.sync(() => begun++)), scope)
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust(60_000)
        assert.deepStrictEqual([begun, logged.length], [1, 1])
      })
    ))

  it.effect("B101 a fiber is among those of its owner for as long as it runs, and its exit is told once", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const fibers = new Set<Fiber.Fiber<unknown, unknown>>()
      const exits: Array<string> = []
      const ended = (exit: Exit.Exit<unknown, unknown>) => exits.push(exit._tag)
      Supervised.spawnAmong(fibers, context, "at once", Effect.void, ended)
      Supervised.spawnAmong(fibers, context, "later", Effect.andThen(Effect.sleep(10), Effect.die("no")), ended)
      assert.deepStrictEqual([fibers.size, exits], [1, ["Success"]])
      yield* TestClock.adjust(10)
      yield* settle
      assert.deepStrictEqual([fibers.size, exits], [0, ["Success", "Failure"]])
    }))

  it.effect("B102 a schedule that may end is asked again after its end; one that dies is replaced for good", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        let steps = 0
        const schedule = Schedule.fromStep(Effect.succeed((at: number, input: string) => {
          steps++
          return input === "die"
            ? Effect.die("bug")
            : Effect.flatMap(
              Schedule.toStep(Schedule.recurs(input === "end" ? 0 : 1)),
              (step) => Effect.map(step(at, input), () => [input, Duration.millis(7)] as [string, Duration.Duration])
            )
        }))
        const cadence = yield* Cadence.make("it", schedule, Schedule.spaced(3), { mayEnd: true })
        assert.deepStrictEqual(
          yield* Effect.forEach(["a", "end", "end", "b", "die", "c"], cadence),
          [7, Infinity, Infinity, 7, 3, 3]
        )
        assert.deepStrictEqual([steps, logged], [5, ["Error the schedule of it failed: the default goes on: bug"]])
      })
    ))
})

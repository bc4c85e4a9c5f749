/** What an exit means: told to the owner, restarted with one line, or joined. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Cadence from "../../src/internal/scheduling/scheduleSteps.ts"
import * as Supervised from "../../src/internal/scheduling/supervised.ts"

const settle = Effect.repeat(Effect.yieldNow, { times: 10 })

const collecting = Effect.sync(() => {
  const lines: Array<string> = []
  return { lines, layer: Logger.layer([Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))]) }
})

describe("supervised", () => {
  it.effect.each(["a function", "an object"])(
    "spawn: %s is told of each way to end, once, also at once",
    (owner) =>
      Effect.gen(function*() {
        const context = yield* Effect.context<never>()
        const told: Array<string> = []
        const spawn = (name: string, effect: Effect.Effect<unknown, unknown>) => {
          const fiberEnded = (exit: Exit.Exit<unknown, unknown>): void => void told.push(`${name} ${exit._tag}`)
          return Supervised.spawn(context, name, effect, owner === "an object" ? { fiberEnded } : fiberEnded)
        }
        spawn("at once", Effect.void)
        spawn("dies", Effect.die("no"))
        spawn("later", Effect.andThen(Effect.yieldNow, Effect.fail("no")))
        const killed = spawn("killed", Effect.never)
        assert.strictEqual(Supervised.census().get("killed"), 1)
        assert.isUndefined(Supervised.census().get("at once"))
        assert.deepStrictEqual(told, ["at once Success", "dies Failure"])
        yield* Fiber.interrupt(killed)
        yield* settle
        assert.deepStrictEqual(told, ["at once Success", "dies Failure", "killed Failure", "later Failure"])
        assert.isUndefined(Supervised.census().get("killed"))
      })
  )

  it.effect("children: the first exit is told with its place, and all are interrupted and awaited", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const children = new Supervised.Children<string>(["a", "b", "c"], {
        childEnded: (index, exit) => order.push(`${index} ${Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)}`)
      })
      const slow = Effect.onInterrupt(
        Effect.never,
        () => Effect.andThen(Effect.yieldNow, Effect.sync(() => order.push("slow")))
      )
      yield* children.fork([Effect.never, slow, Effect.andThen(Effect.yieldNow, Effect.fail("no"))])
      assert.deepStrictEqual(["a", "b", "c"].map((name) => Supervised.census().get(name)), [1, 1, 1])
      yield* settle
      assert.deepStrictEqual(order, ["2 false"])
      yield* children.stop()
      assert.deepStrictEqual(order, ["2 false", "0 true", "slow", "1 true"])
      assert.isUndefined(Supervised.census().get("a"))
    }))

  for (
    const [how, end] of [
      ["an end", Effect.void],
      ["a failure", Effect.fail("no")],
      ["a defect", Effect.die(new Error("no"))],
      ["an interruption", Effect.interrupt]
    ] as const
  ) {
    it.effect(`restarted after ${how}: a second later, with one line; not when its scope closes`, () =>
      Effect.gen(function*() {
        const { layer, lines } = yield* collecting
        const scope = yield* Scope.make()
        let begun = 0
        const program = Effect.suspend(() => {
          begun++
          return begun === 1 ? Effect.andThen(Effect.sleep("10 seconds"), end) : Effect.never
        })
        yield* Supervised.restarted("the sweep of a test", program).pipe(Scope.provide(scope), Effect.provide(layer))
        yield* TestClock.adjust("10999 millis")
        assert.strictEqual(begun, 1)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(begun, 2)
        assert.deepStrictEqual(lines, ["the sweep of a test ended and is restarted"])
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(begun, 2)
        assert.strictEqual(lines.length, 1)
      }))
  }
})

describe("a cadence", () => {
  const fallback = Schedule.spaced("30 seconds")

  for (
    const [how, schedule] of [
      ["ends", Schedule.recurs(0)],
      ["fails", Schedule.fromStep(Effect.succeed(() => Effect.fail("no")))],
      ["dies", Schedule.fromStep(Effect.succeed(() => Effect.die(new Error("no"))))],
      [
        "throws",
        Schedule.fromStep(Effect.succeed((): never => {
          throw new Error("no")
        }))
      ],
      ["cannot begin", Schedule.fromStep(Effect.die(new Error("no")))]
    ] as ReadonlyArray<[string, Schedule.Schedule<unknown, unknown, unknown>]>
  ) {
    it.effect(`B102 whose schedule ${how} goes on with the default, and logs once`, () =>
      Effect.gen(function*() {
        const { layer, lines } = yield* collecting
        yield* Effect.gen(function*() {
          const next = yield* Cadence.make("the sweep", schedule, fallback)
          assert.deepStrictEqual([yield* next(1), yield* next(2), yield* next(3)], [30_000, 30_000, 30_000])
        }).pipe(Effect.provide(layer))
        assert.strictEqual(lines.length, 1, lines.join("\n"))
      }))
  }

  it.effect("passes its input on, and never sleeps for nothing", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const schedule = Schedule.spaced(0).pipe(
        Schedule.tap(({ input }) => Effect.sync(() => seen.push(input as number)))
      )
      const next = yield* Cadence.make<number, never, never>("the sweep", schedule, fallback)
      assert.deepStrictEqual([yield* next(7), yield* next(8)], [1, 1])
      assert.deepStrictEqual(seen, [7, 8])
    }))
})

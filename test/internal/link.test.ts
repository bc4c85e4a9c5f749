/** The connection of histories to their engine, when it is cut again and again. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { BackplaneError } from "../../src/internal/backplane/engine.ts"
import { link } from "../../src/internal/history/link.ts"

describe("a connection of histories that is cut ten times in a row", () => {
  it.effect("is there again within half of the time that an asker waits", () =>
    Effect.gen(function*() {
      let opened = 0
      const cut = Effect.andThen(Effect.sleep(10), Effect.fail(new BackplaneError({ reason: "unreachable" })))
      const made = yield* link({
        name: "test",
        open: Effect.sync(() => ({ over: ++opened > 10 ? Effect.never : cut })),
        timeout: 2000,
        check: 10_000
      })
      // ten of 10 ms, and rests of 200, 400, 800 and 1000 ms
      yield* TestClock.adjust(200 + 400 + 800 + 6 * 1000 + 10 * 10)
      assert.strictEqual(opened, 10)
      const asking = yield* Effect.forkChild(made.once(() => Effect.succeed("here")), { startImmediately: true })
      yield* TestClock.adjust(999)
      assert.isUndefined(asking.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(asking), "here")
    }))
})

describe("B26 what is asked of a connection that is cut before it answers", () => {
  const unreachable = new BackplaneError({ reason: "unreachable" })
  const made = (isRefused: boolean) =>
    Effect.gen(function*() {
      let opened = 0
      const engine = yield* link({
        name: "test",
        open: Effect.sync(() => ({
          number: ++opened,
          over: opened > 1 ? Effect.never : Effect.as(Effect.sleep(10), unreachable)
        })),
        isRefused: () => isRefused,
        timeout: 2000,
        check: 10_000
      })
      const asks = ({ number }: { readonly number: number }) =>
        number > 1 ? Effect.succeed("here") : Effect.andThen(Effect.sleep(10), Effect.fail(unreachable))
      return { asks, engine }
    })

  it.effect("is asked of the next one; what may happen once only is not, nor what is refused", () =>
    Effect.gen(function*() {
      const cut = yield* made(false)
      const asking = yield* Effect.forkChild(cut.engine.ask(cut.asks))
      const once = yield* Effect.forkChild(Effect.flip(cut.engine.once(cut.asks)))
      const refused = yield* made(true)
      const refusing = yield* Effect.forkChild(Effect.flip(refused.engine.ask(refused.asks)))
      yield* TestClock.adjust(500)
      assert.strictEqual(yield* Fiber.join(asking), "here")
      assert.strictEqual((yield* Fiber.join(once)).reason, "unreachable")
      assert.strictEqual((yield* Fiber.join(refusing)).reason, "unreachable")
    }))
})

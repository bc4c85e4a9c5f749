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
      const asking = yield* Effect.forkChild(made.use(() => Effect.succeed("here")), { startImmediately: true })
      yield* TestClock.adjust(999)
      assert.isUndefined(asking.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(asking), "here")
    }))
})

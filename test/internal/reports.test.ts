/** Hooks that an application never returns from: who tells it ends all the same, and nothing of them is left. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionPool, Policy } from "../../src/index.ts"
import { census } from "../../src/internal/scheduling/supervised.ts"
import { Refusing } from "../../src/node/internal/http/refusing.ts"
import type { Settings } from "../../src/node/internal/http/settings.ts"
import { TestSocket } from "../../src/testing/index.ts"

/** Ends it, to the millisecond, and looks at what is left. */
const endsAt = Effect.fnUntraced(function*(end: Effect.Effect<void>, millis: number, name: string) {
  const fiber = yield* Effect.forkChild(end, { startImmediately: true })
  yield* TestClock.adjust(millis - 1)
  assert.isUndefined(fiber.pollUnsafe())
  assert.isAbove(census().get(name) ?? 0, 0)
  yield* TestClock.adjust(1)
  yield* Fiber.join(fiber)
  assert.isUndefined(census().get(name))
})

const open = Effect.flatMap(TestSocket.make(), ({ socket }) => Connection.make({ codec: Codec.lines() })(socket))

describe("a hook that never returns", () => {
  it.effect("B101 of a pool, or of pools by key, is interrupted 5 seconds after the pool has closed", () =>
    Effect.gen(function*() {
      for (const kind of ["one", "keyed"] as const) {
        const scope = yield* Scope.make()
        const options = { onEvent: () => Effect.never }
        const use = kind === "one"
          ? Effect.map(ConnectionPool.make(open, options), (pool) => pool.use(() => Effect.void))
          : Effect.map(
            ConnectionPool.keyed((_: string) => open, options),
            (pools) => pools.use("a", () => Effect.void)
          )
        yield* yield* Scope.provide(use, scope)
        yield* endsAt(Scope.close(scope, Exit.void), 5000, "onEvent of a pool")
      }
    }))

  it.effect("a hook that takes its time hears of the end", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const told: Array<string> = []
      const pool = yield* Scope.provide(
        ConnectionPool.make(open, {
          onEvent: (event) => Effect.andThen(Effect.sleep(1000), Effect.sync(() => void told.push(event._tag)))
        }),
        scope
      )
      yield* pool.use(() => Effect.void)
      yield* endsAt(Scope.close(scope, Exit.void), 1000, "onEvent of a pool")
      assert.deepStrictEqual(told, ["Opened", "Borrowed", "Returned", "Retired"])
    }))

  it.effect("B101 of an HTTP server does not hold its end", () =>
    Effect.gen(function*() {
      const settings = { handshake: 0, policy: Policy.defaults } as Settings
      const refusing = new Refusing(settings, yield* Effect.context<never>(), () => Effect.never)
      refusing.limited("10.0.0.1:1", "maxConnections")
      yield* endsAt(refusing.end, 5000, "onEvent of an HTTP server")
    }))
})

/** Many logins at once: so many claims are with the engine as it can answer in time. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import type { Backplane } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import { lease, node } from "./support/stage.ts"

const most = 128

describe("logins: many at once", () => {
  it.effect("wait for each other, and those that are given up meanwhile are not asked for", () =>
    Effect.gen(function*() {
      const memory = new Memory()
      const asked: Array<string> = []
      const engine: Backplane.Engine = {
        name: "slow",
        largest: memory.largest,
        join: (options) =>
          Effect.map(memory.join(options), (session): Backplane.Session => ({
            ...session,
            claim: (key, how) =>
              Effect.suspend(() => {
                asked.push(key)
                return Effect.delay(session.claim(key, how), 1000)
              })
          }))
      }
      const { fleet, login } = yield* node(engine, { name: "a" })
      yield* TestClock.adjust(lease / 3)
      const logins = yield* Effect.forEach(
        Array.from({ length: 3 * most }),
        (_, i) => Effect.forkChild(login(`user${i}`), { startImmediately: true })
      )
      yield* TestClock.adjust(999)
      assert.strictEqual(asked.length, most)
      yield* Fiber.interruptAll(logins.slice(most, 2 * most))
      yield* TestClock.adjust(1)
      assert.strictEqual(asked.length, 2 * most)
      assert.deepStrictEqual(asked[most], `user${2 * most}`)
      yield* TestClock.adjust(1000)
      assert.strictEqual((yield* fleet.state).served, 2 * most)
    }))
})

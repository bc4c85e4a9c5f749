/** Rules of a fleet that hold only where things come in an unlucky order, on TestClock. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Memory } from "../../src/internal/backplane/memory.ts"
import * as Wire from "../../src/internal/fleet/post/wire.ts"
import { lease, node } from "./support/stage.ts"

/** Nodes that know each other. */
const stage = Effect.gen(function*() {
  const memory = new Memory()
  const a = yield* node(memory, { name: "a" })
  const b = yield* node(memory, { name: "b" })
  yield* TestClock.adjust(lease / 3)
  return { memory, a, b }
})

/** Sends without waiting for the outcome. */
const begin = <A, E>(send: Effect.Effect<A, E>) => Effect.forkScoped(send, { startImmediately: true })

/** In steps: what is said and answered needs turns. */
const pass = (millis: number) =>
  Effect.gen(function*() {
    for (let i = 0; i < millis; i++) yield* TestClock.adjust(1)
  })

describe("the order of messages", () => {
  it.effect("what is sent to a key that has come here waits for what was sent before", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      yield* b.login("ada")
      a.link.lateFind = 20
      const one = yield* begin(a.fleet.send("ada", "one"))
      const ada = yield* a.login("ada")
      const two = yield* begin(a.fleet.send("ada", "two"))
      yield* pass(50)
      assert.deepStrictEqual([yield* Fiber.join(one), yield* Fiber.join(two)], ["accepted", "accepted"])
      assert.deepStrictEqual(ada.sent, ["one", "two"])
    }))

  it.effect("what comes back because its key has moved goes ahead of what was sent after it", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      yield* b.login("ada")
      yield* begin(a.fleet.send("ada", "zero"))
      yield* pass(5)
      // the answers of b are two batches
      b.link.slow = 10
      const login = yield* begin(a.login("ada"))
      const sending = [yield* begin(a.fleet.send("ada", "one"))]
      yield* pass(1)
      sending.push(yield* begin(a.fleet.send("ada", "two")))
      yield* pass(1)
      sending.push(yield* begin(a.fleet.send("ada", "three")))
      yield* pass(60)
      const ada = yield* Fiber.join(login)
      assert.deepStrictEqual(yield* Fiber.joinAll(sending), ["accepted", "accepted", "accepted"])
      assert.deepStrictEqual(ada.sent, ["one", "two", "three"])
    }))

  it.effect("a batch that comes twice, or after those of a later session of its node, is not heard", () =>
    Effect.gen(function*() {
      const { a, memory } = yield* stage
      const ada = yield* a.login("ada")
      const other = yield* memory.join({ node: "x", lease })
      const batch = (run: number, sequence: number, text: string) => {
        const payload = new TextEncoder().encode(text)
        return Wire.join("x", run, sequence, [Wire.encode({ _tag: "Broadcast", id: 1, tag: undefined, payload })])
      }
      for (const bytes of [batch(2, 0, "a"), batch(2, 0, "b"), batch(1, 0, "c"), batch(1, 7, "d"), batch(2, 1, "e")]) {
        yield* other.publish(a.fleet.node, bytes)
      }
      yield* pass(5)
      assert.strictEqual(ada.sent.length, 2)
    }))
})

describe("an answer that is older than a login", () => {
  it.effect("does not settle what was sent after the login", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      a.link.lateFind = 20
      const one = yield* begin(a.fleet.send("ada", "one"))
      const ada = yield* b.login("ada")
      const two = yield* begin(a.fleet.send("ada", "two"))
      yield* pass(50)
      assert.deepStrictEqual([yield* Fiber.join(one), yield* Fiber.join(two)], ["offline", "accepted"])
      assert.deepStrictEqual(ada.sent, ["two"])
    }))
})

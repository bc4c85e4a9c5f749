/** The semantics of a fleet, on the memory engine and TestClock: each line of the table in the guide. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { Fleet } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import { fake } from "./support/fake.ts"
import { lease, node } from "./support/stage.ts"

/** Two nodes that know each other. */
const pair = (options?: Parameters<typeof node>[1]) =>
  Effect.gen(function*() {
    const memory = new Memory()
    const a = yield* node(memory, { name: "a", ...options })
    const b = yield* node(memory, { name: "b", ...options })
    // a third of a lease, until the first has heard of the second
    yield* TestClock.adjust(lease / 3)
    return { memory, a, b }
  })

describe("a fleet of one", () => {
  it.effect("needs nothing: sends, broadcasts, and ends the older of two logins", () =>
    Effect.gen(function*() {
      const fleet = yield* Fleet.make<string>({ registry: { history: 0 } })
      const one = fake()
      const two = fake()
      yield* fleet.registry.add(one.connection, { key: "ada", tags: ["room"] })
      assert.strictEqual(yield* fleet.send("ada", "hello"), "accepted")
      assert.strictEqual(yield* fleet.send("bob", "hello"), "offline")
      yield* fleet.registry.add(two.connection, { key: "ada", tags: ["room"] })
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(one.reasons.map(({ _tag }) => _tag), ["Superseded"])
      assert.strictEqual(yield* fleet.send("ada", "again"), "accepted")
      const { delivered, nodes } = yield* fleet.broadcast("all", { tag: "room" })
      assert.strictEqual(delivered, 1)
      assert.deepStrictEqual(Array.from(nodes.keys()), [fleet.node])
      assert.deepStrictEqual([one.sent, two.sent], [["hello"], ["again", "all"]])
      assert.deepStrictEqual(yield* fleet.where("ada"), { node: fleet.node, isHere: true })
    }))

  it.effect("serves its keys however long nothing happens", () =>
    Effect.gen(function*() {
      const fleet = yield* Fleet.make<string>({ registry: { history: 0 } })
      yield* fleet.registry.add(fake().connection, { key: "ada" })
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* fleet.send("ada", "hello"), "accepted")
      assert.strictEqual((yield* fleet.state).status, "joined")
    }))
})

describe("options", () => {
  it.effect("B34 an answerWithin of nothing is refused by name: each message would be unknown", () =>
    Effect.gen(function*() {
      for (const answerWithin of [0, -1, NaN, "0 seconds"] as const) {
        const exit = yield* Effect.exit(Effect.scoped(Fleet.make<string>({ answerWithin })))
        assert.include(String(exit), "answerWithin must be more than 0", String(answerWithin))
      }
      yield* Fleet.make<string>({ answerWithin: Infinity })
    }))
})

describe("two nodes", () => {
  it.effect("send to a key of the other node, in order", () =>
    Effect.gen(function*() {
      const { a, b } = yield* pair()
      const ada = yield* a.login("ada")
      const texts = Array.from({ length: 100 }, (_, i) => `${i}`)
      const outcomes = yield* Effect.forEach(texts, (text) => b.fleet.send("ada", text), { concurrency: "unbounded" })
      assert.deepStrictEqual(new Set(outcomes), new Set(["accepted"]))
      assert.deepStrictEqual(ada.sent, texts)
      assert.deepStrictEqual(yield* b.fleet.where("ada"), { node: a.fleet.node, isHere: false })
      assert.strictEqual(yield* b.fleet.send("bob", "hello"), "offline")
    }))

  it.effect("a login on the other node ends the older one before it succeeds", () =>
    Effect.gen(function*() {
      const { a, b } = yield* pair()
      const one = yield* a.login("ada")
      const two = yield* b.login("ada")
      assert.deepStrictEqual(one.reasons.map(({ _tag }) => _tag), ["Superseded"])
      assert.strictEqual(yield* a.fleet.send("ada", "from a"), "accepted")
      assert.strictEqual(yield* b.fleet.send("ada", "from b"), "accepted")
      assert.deepStrictEqual([one.sent, two.sent], [[], ["from a", "from b"]])
    }))

  it.effect("a broadcast counts by node, for all and for a tag", () =>
    Effect.gen(function*() {
      const { a, b } = yield* pair()
      const ada = yield* a.login("ada", ["room"])
      const bob = yield* b.login("bob", ["room"])
      const eve = yield* b.login("eve")
      const room = yield* a.fleet.broadcast("room", { tag: "room" })
      assert.deepStrictEqual(Object.fromEntries(room.nodes), {
        [a.fleet.node]: { delivered: 1, dropped: 0, failed: 0 },
        [b.fleet.node]: { delivered: 1, dropped: 0, failed: 0 }
      })
      assert.strictEqual((yield* b.fleet.broadcast("all")).delivered, 3)
      assert.deepStrictEqual([ada.sent, bob.sent, eve.sent], [["room", "all"], ["room", "all"], ["all"]])
    }))
})

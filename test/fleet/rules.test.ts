/** Rules of a fleet that hold only where things come in an unlucky order, on TestClock. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Result } from "effect"
import { TestClock } from "effect/testing"
import { Codec } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import * as Wire from "../../src/internal/fleet/post/wire.ts"
import { withLogs } from "../support/logs.ts"
import { fake } from "./support/fake.ts"
import { lease, node, renewal } from "./support/stage.ts"

/** Nodes that know each other. */
const stage = Effect.gen(function*() {
  const memory = new Memory()
  const a = yield* node(memory, { name: "a", answerWithin: "1 minute" })
  const b = yield* node(memory, { name: "b", answerWithin: "1 minute" })
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
      // each is a batch of its own: the second one comes to b when the first one is back
      a.link.slow = 15
      const large = (text: string) => text.padEnd(50_000, ".")
      const login = yield* begin(a.login("ada"))
      const sending = [
        yield* begin(a.fleet.send("ada", large("one"))),
        yield* begin(a.fleet.send("ada", large("two")))
      ]
      yield* pass(5)
      sending.push(yield* begin(a.fleet.send("ada", "three")))
      yield* pass(60)
      const ada = yield* Fiber.join(login)
      assert.deepStrictEqual(yield* Fiber.joinAll(sending), ["accepted", "accepted", "accepted"])
      assert.deepStrictEqual(ada.sent, [large("one"), large("two"), "three"])
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

describe("what is under way", () => {
  it.effect("when the node is cut off: sends and broadcasts are `unknown` at once", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      yield* b.login("ada")
      assert.strictEqual(yield* a.fleet.send("ada", "zero"), "accepted")
      b.link.set("silent")
      const send = yield* begin(a.fleet.send("ada", "one"))
      const broadcast = yield* begin(a.fleet.broadcast("all"))
      yield* pass(2)
      a.link.set("down")
      yield* pass(2)
      assert.isDefined(send.pollUnsafe())
      assert.strictEqual(yield* Fiber.join(send), "unknown")
      assert.isDefined(broadcast.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(broadcast)).nodes.get(b.fleet.node), "unknown")
    }))

  it.effect("when a node dies: a broadcast counts it as `unknown` once its lease is over", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      b.link.set("silent")
      const broadcast = yield* begin(a.fleet.broadcast("all"))
      // renewed at 1,800 ms, so its lease is over at 7,800, and at 9,000 the other node renews and sees it; now is 2,000
      yield* TestClock.adjust(5 * renewal - lease / 3 - 1)
      assert.isUndefined(broadcast.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.isDefined(broadcast.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(broadcast)).nodes.get(b.fleet.node), "unknown")
    }))

  it.effect("more than 1 MiB that waits for a node: `full`", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      yield* b.login("ada")
      assert.strictEqual(yield* a.fleet.send("ada", "zero"), "accepted")
      a.link.slow = 10
      const sending = yield* begin(
        Effect.forEach(Array.from({ length: 30 }), () => a.fleet.send("ada", "x".repeat(60_000)), {
          concurrency: "unbounded"
        })
      )
      yield* pass(400)
      const outcomes = yield* Fiber.join(sending)
      assert.isAbove(outcomes.filter((outcome) => outcome === "accepted").length, 15)
      assert.isAbove(outcomes.filter((outcome) => outcome === "full").length, 5)
    }))
})

describe("a login whose key a dead node has", () => {
  it.effect("waits for what is left of the lease of that node, not for a whole one", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      yield* b.login("ada")
      b.link.set("silent")
      yield* TestClock.adjust(lease - 1000)
      const login = yield* begin(a.login("ada"))
      for (let i = 0; i < 20; i++) yield* TestClock.adjust(100)
      assert.isDefined(login.pollUnsafe())
    }))
})

describe("a claim that no connection has", () => {
  it.effect("of a login that was given up while it was asked for: is given back", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      a.link.late = 100
      const login = yield* begin(a.login("ada"))
      yield* pass(1)
      yield* Fiber.interrupt(login)
      assert.strictEqual((yield* b.fleet.where("ada"))?.node, a.fleet.node)
      yield* pass(150)
      assert.isUndefined(yield* b.fleet.where("ada"))
    }))

  it.effect("of a login that was refused because no answer came in time: is given back", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage
      a.link.late = lease
      const login = yield* begin(Effect.flip(a.login("ada")))
      yield* TestClock.adjust(lease / 3 - 1)
      assert.isUndefined(login.pollUnsafe())
      yield* pass(50)
      assert.strictEqual((yield* Fiber.join(login)).reason._tag, "Refused")
      yield* TestClock.adjust(lease / 3)
      assert.isUndefined(yield* b.fleet.where("ada"))
    }))
})

describe("an engine whose answers are late", () => {
  it.effect("an older list of nodes does not make a newer node gone: a takeover waits for that node", () =>
    Effect.gen(function*() {
      const memory = new Memory()
      const a = yield* node(memory, { name: "a" })
      yield* pass(10)
      a.link.lateNodes = 1500
      // it has asked by now, when there was no other node
      yield* TestClock.adjust(lease / 3)
      const b = yield* node(memory, { name: "b" })
      yield* b.login("ada")
      b.link.set("silent")
      const login = yield* begin(a.login("ada"))
      for (let i = 0; i < 20; i++) yield* TestClock.adjust(100)
      assert.isUndefined(login.pollUnsafe())
      yield* TestClock.adjust(lease)
      assert.isDefined(login.pollUnsafe())
    }))

  it.effect("an engine that is back is asked for 32 keys at a time", () =>
    Effect.gen(function*() {
      const { a, memory } = yield* stage
      for (let i = 0; i < 100; i++) yield* a.login(`user${i}`)
      a.link.claimTakes = 10
      a.link.mostClaiming = 0
      memory.wipe()
      yield* TestClock.adjust(lease)
      assert.strictEqual(a.link.mostClaiming, 32)
      assert.strictEqual((yield* a.fleet.state).served, 100)
    }))
})

describe("B100 a codec that throws", () => {
  const boom = (message: string) => {
    if (message === "boom") throw new Error("boom")
    return Result.succeed(message)
  }

  it.effect("of the connection that has a key costs the message: its node stays in the fleet", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { a, b } = yield* stage
        const { connection, sent } = fake()
        yield* b.fleet.registry.add(
          Object.assign(Object.create(connection), { wire: { encode: boom } }) as typeof connection,
          { key: "ada" }
        )
        const sending = yield* begin(
          Effect.forEach(["one", "boom", "two"], (text) => a.fleet.send("ada", text), { concurrency: "unbounded" })
        )
        const own = yield* begin(Effect.exit(b.fleet.send("ada", "boom")))
        yield* pass(20)
        assert.deepStrictEqual(yield* Fiber.join(sending), ["accepted", "offline", "accepted"])
        assert.strictEqual((yield* Fiber.join(own))._tag, "Failure")
        assert.deepStrictEqual(sent, ["one", "two"])
        assert.strictEqual((yield* b.fleet.state).status, "joined")
        assert.deepStrictEqual(logged, ["Error a defect in the codec of a message to a key of a fleet: boom"])
      })
    ))

  it.effect("of the fleet costs the message: the node that reads it stays", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const memory = new Memory()
        const text = Codec.lines()
        const decode: typeof text.payload.decode = (frame) => boom(String(frame))
        const codec = { ...text, payload: { ...text.payload, decode } }
        const a = yield* node(memory, { name: "a", codec: text })
        const b = yield* node(memory, { name: "b", codec })
        yield* TestClock.adjust(lease / 3)
        const ada = yield* b.login("ada")
        const sending = yield* begin(
          Effect.forEach(["one", "boom", "two"], (text) => a.fleet.send("ada", text), { concurrency: "unbounded" })
        )
        const telling = yield* begin(a.fleet.broadcast("boom"))
        yield* pass(20)
        assert.deepStrictEqual(yield* Fiber.join(sending), ["accepted", "offline", "accepted"])
        assert.deepStrictEqual((yield* Fiber.join(telling)).nodes.get(b.fleet.node), {
          delivered: 0,
          dropped: 0,
          failed: 1
        })
        assert.deepStrictEqual(ada.sent, ["one", "two"])
        assert.strictEqual((yield* b.fleet.state).status, "joined")
        assert.strictEqual(logged.length, 2)
      })
    ))
})

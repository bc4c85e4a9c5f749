/** Workers as nodes of a fleet: the engine over the channel between processes, with a channel that copies as that one does. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { deserialize, serialize } from "node:v8"
import type { Backplane } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import { Workers } from "../../src/node/index.ts"
import { type Call, Calls } from "../../src/node/internal/addresses/calls.ts"
import { about, engineOver } from "../../src/node/internal/workers/backplane.ts"
import { Sessions } from "../../src/node/internal/workers/sessions.ts"
import { BackplaneContract } from "../../src/testing/index.ts"
import { fake } from "../fleet/support/fake.ts"
import { lease, node } from "../fleet/support/stage.ts"
import { exitOf } from "../fleet/support/virtual.ts"

/** A worker whose parent has this engine. `dies`: as a process does. */
const workerOf = (memory: Backplane.Engine, context: Context.Context<never>) => {
  const channel = { isFrozen: false }
  const copied = (call: Call): Call => deserialize(serialize(call)) as Call
  const worker = new Calls((call) => channel.isFrozen ? undefined : parent.hear(copied(call)))
  const parent: Calls = new Calls((call) => worker.hear(copied(call)))
  const sessions = new Sessions(memory, context)
  parent.answer(about, sessions.answer)
  return {
    channel,
    calls: worker,
    engine: engineOver(worker),
    dies: () => {
      worker.end()
      parent.end()
      sessions.end()
    }
  }
}

const subject: BackplaneContract.Subject = {
  name: "workers",
  open: Effect.gen(function*() {
    const memory = new Memory()
    const context = yield* Effect.context<never>()
    return {
      connect: Effect.sync(() => workerOf(memory, context).engine),
      wipe: Effect.sync(() => memory.wipe())
    }
  })
}

describe("the engine of workers keeps the contract", () => {
  it.each(BackplaneContract.checks)("$name", (check) => {
    assert.strictEqual(exitOf(check.run(subject)), undefined)
  })
})

/** Two workers, with a node of the fleet in each. */
const two = Effect.gen(function*() {
  const memory = new Memory()
  const context = yield* Effect.context<never>()
  const [one, other] = [workerOf(memory, context), workerOf(memory, context)]
  const a = yield* node(one.engine, { name: "a" })
  const b = yield* node(other.engine, { name: "b" })
  yield* TestClock.adjust(lease / 3)
  return { a, b, one, other, memory }
})

describe("two workers", () => {
  it.effect("see each other's connections: send to a key, broadcast, one login a key", () =>
    Effect.gen(function*() {
      const { a, b } = yield* two
      const ada = yield* a.login("ada", ["room"])
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "accepted")
      const { delivered } = yield* b.fleet.broadcast("all", { tag: "room" })
      assert.strictEqual(delivered, 1)
      assert.deepStrictEqual(ada.sent, ["hello", "all"])
      const again = yield* b.login("ada")
      assert.deepStrictEqual(ada.reasons.map(({ _tag }) => _tag), ["Superseded"])
      assert.strictEqual(yield* a.fleet.send("ada", "back"), "accepted")
      assert.deepStrictEqual(again.sent, ["back"])
    }))

  it.effect("a worker that dies: its keys are free at once", () =>
    Effect.gen(function*() {
      const { a, b, one } = yield* two
      yield* a.login("ada")
      one.dies()
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "offline")
      const ada = fake()
      const login = yield* Effect.forkChild(b.fleet.registry.add(ada.connection, { key: "ada" }))
      yield* TestClock.adjust(0)
      assert.isTrue(Exit.isSuccess(login.pollUnsafe()!))
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "accepted")
      assert.deepStrictEqual(ada.sent, ["hello"])
    }))

  it.effect("a worker that hangs keeps its keys until its lease ends", () =>
    Effect.gen(function*() {
      const { a, b, one } = yield* two
      yield* a.login("ada")
      one.channel.isFrozen = true
      const login = yield* Effect.forkChild(b.fleet.registry.add(fake().connection, { key: "ada" }))
      yield* TestClock.adjust(lease / 3)
      assert.isUndefined(login.pollUnsafe())
      yield* TestClock.adjust(lease)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(login)))
    }))
})

describe("the engine of a worker", () => {
  it.effect("an interrupted take leaves to the next one what comes for it", () =>
    Effect.gen(function*() {
      const { engine } = workerOf(new Memory(), yield* Effect.context<never>())
      const session = yield* engine.join({ node: "a", lease })
      const first = yield* Effect.forkChild(session.take)
      yield* TestClock.adjust(0)
      yield* Fiber.interrupt(first)
      yield* session.publish("a", new Uint8Array([1]))
      const arrivals = yield* session.take
      assert.deepStrictEqual(arrivals.map((arrival) => arrival._tag === "Batch" && [...arrival.bytes]), [[1]])
    }))

  it.effect("its parent is gone: all that waits fails, and so does what comes later", () =>
    Effect.gen(function*() {
      const { dies, engine } = workerOf(new Memory(), yield* Effect.context<never>())
      const session = yield* engine.join({ node: "a", lease })
      const taking = yield* Effect.forkChild(Effect.flip(session.take))
      yield* TestClock.adjust(0)
      dies()
      const told = [yield* Fiber.join(taking), yield* Effect.flip(session.renew(false))]
      assert.deepStrictEqual(told.map(({ reason }) => reason), ["unreachable", "unreachable"])
      assert.match(told[0]!.message, /the other process is gone/)
    }))

  it.effect("a parent that knows of no engine says so", () =>
    Effect.gen(function*() {
      const worker: Calls = new Calls((call) => parent.hear(call))
      const parent: Calls = new Calls((call) => worker.hear(call))
      const error = yield* Effect.flip(engineOver(worker).join({ node: "a", lease }))
      assert.match(error.message, /does not know of backplane/)
    }))

  it.effect("the end of a session leaves no fiber and no inbox with the parent", () =>
    Effect.gen(function*() {
      const memory = new Memory()
      const { engine } = workerOf(memory, Context.empty())
      const scope = yield* Scope.make()
      const session = yield* Scope.provide(engine.join({ node: "a", lease }), scope)
      yield* Effect.forkChild(session.take)
      yield* TestClock.adjust(0)
      yield* Scope.close(scope, Exit.void)
      const other = yield* workerOf(memory, Context.empty()).engine.join({ node: "b", lease })
      assert.strictEqual(yield* other.publish("a", new Uint8Array([1])), "nobody")
    }))

  it.effect("elsewhere it is a memory of its own", () =>
    Effect.gen(function*() {
      const engine = yield* Workers.engine
      assert.strictEqual(engine.name, "memory")
    }))
})

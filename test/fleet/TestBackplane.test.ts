/** The simulated engine keeps the contract of engines, over sockets of a simulated network. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { BackplaneContract, Simulation, TestBackplane } from "../../src/testing/index.ts"

/** The message of what fails in a world without faults, or nothing. */
const failureOf = (program: (world: Simulation.World) => Effect.Effect<void, unknown>): string | undefined => {
  const run = Simulation.run({ seed: 1, faults: { kinds: [] }, network: { latency: { uniform: [1, 5] } } }, program)
  const exit = Effect.runSyncExit(run)
  return Exit.isSuccess(exit) ? undefined : String(Cause.squash(exit.cause))
}

const serve = (world: Simulation.World, weaknesses?: Parameters<typeof TestBackplane.serve>[2]) =>
  world.process("engine", TestBackplane.serve(world.network.host("engine"), 6379, weaknesses))

const subject = (world: Simulation.World): BackplaneContract.Subject => {
  let nodes = 0
  return {
    name: "simulated",
    open: Effect.as(serve(world), {
      connect: Effect.sync(() => TestBackplane.connect(world.network.host(`node${nodes++}`), "engine:6379"))
    })
  }
}

describe("the simulated engine", () => {
  it.each(BackplaneContract.checks)("$name", (check) => {
    assert.strictEqual(failureOf((world) => check.run(subject(world))), undefined)
  })

  it("loses its memory in a crash: a greater epoch, and the sessions before are over", () => {
    const failure = failureOf((world) =>
      Effect.scoped(Effect.gen(function*() {
        yield* serve(world)
        const host = world.network.host("engine")
        const engine = TestBackplane.connect(world.network.host("node"), "engine:6379")
        const before = yield* engine.join({ node: "a", lease: 1000 })
        yield* before.claim("key")
        yield* host.crash
        yield* host.restart
        // a host that is back refuses what it knows nothing of
        assert.strictEqual((yield* Effect.flip(before.renew(false))).reason, "unreachable")
        assert.strictEqual((yield* Effect.flip(before.take)).reason, "unreachable")
        yield* Effect.sleep(1000)
        const again = yield* engine.join({ node: "a", lease: 1000 })
        assert.isAbove(again.epoch, before.epoch)
        assert.isUndefined(yield* again.find("key"))
      }))
    )
    assert.strictEqual(failure, undefined)
  })

  it("refuses what a session asks when a later one of its node has begun", () => {
    const failure = failureOf((world) =>
      Effect.scoped(Effect.gen(function*() {
        yield* serve(world)
        const engine = TestBackplane.connect(world.network.host("node"), "engine:6379")
        const before = yield* engine.join({ node: "a", lease: 1000 })
        const again = yield* engine.join({ node: "a", lease: 1000 })
        assert.strictEqual((yield* Effect.flip(before.claim("key"))).reason, "lease")
        assert.isUndefined(yield* again.find("key"))
      }))
    )
    assert.strictEqual(failure, undefined)
  })

  it("with late answers: they are overtaken, and all come", () => {
    const failure = failureOf((world) =>
      Effect.scoped(Effect.gen(function*() {
        yield* serve(world, { late: 0.5 })
        const engine = TestBackplane.connect(world.network.host("node"), "engine:6379")
        const session = yield* engine.join({ node: "a", lease: 10_000 })
        const answered: Array<number> = []
        yield* Effect.forEach(
          Array.from({ length: 30 }, (_, i) => i),
          (i) => Effect.map(session.find(`${i}`), () => answered.push(i)),
          { concurrency: "unbounded", discard: true }
        )
        assert.strictEqual(answered.length, 30)
        assert.notDeepEqual(answered, answered.toSorted((a, b) => a - b))
      }))
    )
    assert.strictEqual(failure, undefined)
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { Chaos, Simulation } from "../../src/testing/index.ts"

const run = (seed: number, program: Effect.Effect<unknown, unknown>) =>
  Effect.runPromise(Simulation.run({ seed, storm: "1 minute" }, () => program))

/** What happened in 400 visits of a point. */
const visits = (options?: Chaos.Options<string>) =>
  Effect.gen(function*() {
    const seen = { failed: 0, longest: 0, delayed: 0 }
    for (let i = 0; i < 400; i++) {
      const before = yield* Clock.currentTimeMillis
      const exit = yield* Effect.result(Chaos.point("point", options))
      const took = (yield* Clock.currentTimeMillis) - before
      if (exit._tag === "Failure") seen.failed++
      if (took > 0) seen.delayed++
      seen.longest = Math.max(seen.longest, took)
    }
    return seen
  })

describe("Chaos", () => {
  it("does nothing outside of a simulation", async () => {
    const seen = await Effect.runPromise(visits({ fail: () => "no", delay: "1 hour", probability: 1 }))
    assert.strictEqual(seen.failed, 0)
  })

  it("a quarter of the points is active in a run, and interferes in a quarter of its visits", async () => {
    let active = 0
    for (let seed = 1; seed <= 200; seed++) {
      let failed = 0
      await run(seed, Effect.map(visits({ fail: () => "no" }), (seen) => failed = seen.failed))
      if (failed === 0) continue
      active++
      assert.isAtLeast(failed, 60)
      assert.isAtMost(failed, 145)
    }
    assert.isAtLeast(active, 30)
    assert.isAtMost(active, 70)
  })

  it("waits for as long as it may, and not longer", async () => {
    let longest = 0
    for (let seed = 1; seed <= 20; seed++) {
      await run(
        seed,
        Effect.map(visits({ delay: "3 seconds" }), (seen) => {
          longest = Math.max(longest, seen.longest)
          assert.strictEqual(seen.failed, 0)
        })
      )
    }
    assert.isAtMost(longest, 3000)
    assert.isAtLeast(longest, 2500)
  })

  it("lets others have their turn when nothing else is asked for", async () => {
    let between = 0
    for (let seed = 1; seed <= 20; seed++) {
      await run(
        seed,
        Effect.scoped(Effect.gen(function*() {
          yield* Effect.forkScoped(Effect.repeat(
            Effect.andThen(Effect.yieldNow, Effect.sync(() => between++)),
            { times: 1000 }
          ))
          for (let i = 0; i < 20; i++) yield* Chaos.point("turns", { probability: 1 })
        }))
      )
    }
    assert.isAbove(between, 0)
  })

  it("the same seed and name decide the same, another name otherwise", async () => {
    const decide = (seed: string, name: string) =>
      Effect.runSync(Effect.forEach(
        Array.from({ length: 100 }),
        () => Effect.result(chaos(seed).visit(name, { fail: () => "no", probability: 0.5 }))
      )).map(({ _tag }) => _tag).join()
    const made = new Map<string, Chaos.Chaos>()
    const chaos = (seed: string) => {
      const known = made.get(seed) ?? Chaos.make(seed)
      made.set(seed, known)
      return known
    }
    const stories = new Set(Array.from({ length: 40 }, (_, i) => decide("seed", `point ${i}`)))
    assert.isAtLeast(stories.size, 5)
    const first = decide("a", "x")
    made.clear()
    assert.strictEqual(decide("a", "x"), first)
    const { interfered, passed } = chaos("a").visits().get("x")!
    assert.strictEqual(passed, 100)
    assert.strictEqual(interfered, first.split(",").filter((tag) => tag === "Failure").length)
  })
})

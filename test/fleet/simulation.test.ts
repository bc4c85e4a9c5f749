/** Fleets in storms: partitions, crashes, pauses past the lease, engines that come back empty, lost batches. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { Simulation } from "../../src/testing/index.ts"
import { isLong, long, often } from "../support/often.ts"
import { noTotals, options, program, type Settings } from "./support/program.ts"

/** The first sentence of what is wrong with a seed, if anything. */
const failureOf = (seed: number, settings: Settings): string | undefined => {
  const exit = Effect.runSyncExit(Simulation.run(options(seed), program(settings)))
  if (Exit.isSuccess(exit)) return undefined
  const error = Cause.squash(exit.cause)
  return error instanceof Simulation.SimulationFailed ? error.message : String(error)
}

describe("three nodes, an engine and clients", () => {
  const seeds = often(2, 10_000)
  it(`hold what the fleet promises in ${seeds} storms`, long(8 * 3_600_000), async () => {
    const totals = noTotals()
    for (let seed = 1; seed <= seeds; seed++) {
      const failure = failureOf(seed, { clients: 20, totals })
      assert.isUndefined(failure, failure)
      // the event loop has its turn: vitest may have to say something
      await new Promise((resolve) => setImmediate(resolve))
    }
    console.log(totals)
    assert.isAbove(totals.logins, 20 * seeds)
    assert.isAbove(totals.accepted, 20 * seeds)
  })

  it("a seed is the same run whatever ran before it", () => {
    const run = () => Effect.runSync(Simulation.run(options(3), program({ clients: 3, totals: noTotals() }))).hash
    assert.strictEqual(run(), run())
  })
})

describe.runIf(isLong)("a guard that is switched off is missed", () => {
  it.each(["tokens", "fence", "revocations", "claimsAgain", "epochs"] as const)(
    "%s, within 300 seeds",
    long(3_600_000),
    async (guard) => {
      for (let seed = 1; seed <= 300; seed++) {
        const failure = failureOf(seed, { clients: 20, totals: noTotals(), guards: { [guard]: false } })
        if (failure !== undefined) return console.log(guard, failure.split("\n")[0])
        await new Promise((resolve) => setImmediate(resolve))
      }
      assert.fail("no seed has missed it")
    }
  )
})

/** Fleets in storms: partitions, crashes, pauses past the lease, engines that come back empty, lost batches. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { Simulation } from "../../src/testing/index.ts"
import { isLong, long, often } from "../support/often.ts"
import { progress } from "../support/progress.ts"
import { noTotals, options, program, type Settings } from "./support/program.ts"

/** The first sentence of what is wrong with a seed, if anything. */
const failureOf = async (seed: number, settings: Settings): Promise<string | undefined> => {
  const exit = await Effect.runPromiseExit(Simulation.run(options(seed), program(settings)))
  if (Exit.isSuccess(exit)) return undefined
  const error = Cause.squash(exit.cause)
  return error instanceof Simulation.SimulationFailed ? error.message : String(error)
}

describe("three nodes, an engine and clients", () => {
  // half a second each: `HOLDFAST_SEEDS=10000 npm run test:long -- test/fleet/simulation.test.ts`; `HOLDFAST_SEED=42` is
  // that one alone, and the first of as many as `HOLDFAST_SEEDS` says: a process for each part of them
  const { HOLDFAST_SEED: begin, HOLDFAST_SEEDS: many } = process.env
  const seeds = Number(many ?? (begin === undefined ? often(2, 6) : 1))
  const first = Number(begin ?? 1)
  it(`hold what the fleet promises in ${seeds} storms`, long(60_000 + 10_000 * seeds), async () => {
    const totals = noTotals()
    const says = progress("storm", seeds)
    const failures: Array<string> = []
    // some more of thousands, before they are looked into
    for (let done = 0; done < seeds && failures.length < 5; done++) {
      const failure = await failureOf(first + done, { clients: 20, totals })
      if (failure !== undefined) failures.push(failure)
      await says(done + 1)
    }
    assert.deepStrictEqual(failures, [], failures.join("\n\n"))
    console.log(totals)
    assert.isAbove(totals.logins, 20 * seeds)
    assert.isAbove(totals.accepted, 20 * seeds)
  })

  it("a seed is the same run whatever ran before it", async () => {
    const run = Effect.map(
      Simulation.run(options(3), program({ clients: 3, totals: noTotals() })),
      ({ hash }) => hash
    )
    const hash = await Effect.runPromise(run)
    assert.isDefined(hash)
    assert.strictEqual(await Effect.runPromise(run), hash)
  })
})

describe.runIf(isLong)("a guard that is switched off is missed", () => {
  const most = 300
  for (const guard of ["tokens", "fence", "revocations", "claimsAgain", "epochs"] as const) {
    it(`${guard}, within ${most} seeds`, long(60_000 + 10_000 * most), async () => {
      const says = progress(`without ${guard}: storm`, most)
      for (let seed = 1; seed <= most; seed++) {
        const failure = await failureOf(seed, { clients: 20, totals: noTotals(), guards: { [guard]: false } })
        if (failure !== undefined) return console.log(guard, failure.split("\n")[0])
        await says(seed)
      }
      assert.fail("no seed has missed it")
    })
  }
})

/** The swarm in small: what `npm run simulate` does for as many and as long runs as somebody has time for. */
import { assert, describe, it } from "@effect/vitest"
import { long, often } from "../support/often.ts"
import { kinds } from "./support/kinds.ts"
import { type Job, type Result, runAll, runJob } from "./support/pool.ts"
import { Tally } from "./support/tally.ts"

const jobs = (seeds: ReadonlyArray<string>, minutes: number, clients: number): Array<Job> =>
  seeds.map((seed) => ({ seed, minutes, clients }))

const count = (n: number): ReadonlyArray<string> => Array.from({ length: n }, (_, i) => String(i + 1))

describe("the swarm", () => {
  const storms = often(4, 100)
  it(`${storms} seeds of 6 clients in a storm of 5 virtual minutes: everything holds`, long(240_000), async () => {
    const seeds = count(storms)
    const tally = new Tally(seeds.length)
    const done = new Set<string>()
    await runAll(jobs(seeds, 5, 6), 2, (result) => {
      tally.add(result)
      done.add(result.seed)
    })
    console.log(
      tally.summary(false, (seed) => `npm run simulate -- --clients 6 --hours ${5 / 60} --seed ${seed}`).join("\n")
    )
    assert.strictEqual(done.size, seeds.length, "no seed is left out")
    assert.deepStrictEqual(tally.failed.map(({ failure }) => failure!.message), [])
    // it does something: connections break and come back, most messages arrive
    const { acknowledged = 0, connections = 0, faults, sent = 0 } = tally.totals(false)
    assert.isAbove(connections, 2 * 6 * seeds.length)
    assert.isAbove(faults, 10 * seeds.length)
    assert.isAbove(acknowledged, 0.5 * sent)
  })

  it.each([
    ["200291", "a packet overtook another that was due in the same moment"],
    ["200934", "the same"],
    ["206055", "the same"],
    ["207688", "a stall that touched the pong limit gave the silence limit all of its time again"]
  ])("seed %s, which once found that %s", async (seed) => {
    const { failure } = await runJob({ seed, minutes: 0.0834 * 60, clients: 6 })
    assert.isUndefined(failure, failure?.message)
  }, 60_000)

  for (const sabotage of kinds) {
    it(`finds a runtime that is broken on purpose: ${sabotage}`, async () => {
      const found: Array<string> = []
      for (const job of jobs(count(20), 30, 4)) {
        const { failure, seed } = await runJob({ ...job, sabotage })
        if (failure === undefined) continue
        found.push(`seed ${seed}: ${failure.kind}: ${failure.detail.split("\n")[0]}`)
        break
      }
      console.log(found[0])
      assert.isNotEmpty(found, "within 20 seeds")
    }, 120_000)
  }

  it("a seed is the same run whatever ran before it, and in another thread", async () => {
    const [a, b] = jobs(["1", "2"], 3, 6)
    const same = ({ failure, faults, hash, steps, time, totals }: Result) => ({
      hash,
      faults,
      steps,
      time,
      totals,
      failure: failure?.message
    })
    const first = await runJob(a)
    const other = await runJob(b)
    const again = await runJob(a)
    let fresh: Result | undefined
    await runAll([a], 1, (result) => {
      fresh = result
    })
    assert.deepStrictEqual(same(again), same(first))
    assert.deepStrictEqual(same(fresh!), same(first))
    assert.notStrictEqual(other.hash, first.hash)
  }, 60_000)
})

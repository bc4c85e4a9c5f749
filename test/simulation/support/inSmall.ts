/** What the tests of the swarm share: jobs for some seeds, and what fails in them. */
import { assert } from "@effect/vitest"
import { type Job, runAll } from "./pool.ts"
import { Tally } from "./tally.ts"

export const jobs = (seeds: ReadonlyArray<string>, minutes: number, clients: number): Array<Job> =>
  seeds.map((seed) => ({ seed, minutes, clients }))

export const count = (n: number): ReadonlyArray<string> => Array.from({ length: n }, (_, i) => String(i + 1))

/** What fails in so many seeds of 6 clients in a storm of 5 virtual minutes. */
export const failuresOf = async (n: number): Promise<ReadonlyArray<string>> => {
  const seeds = count(n)
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
  // it does something: connections break and come back, most messages arrive
  const { acknowledged = 0, connections = 0, faults, sent = 0 } = tally.totals(false)
  assert.isAbove(connections, 2 * 6 * seeds.length)
  assert.isAbove(faults, 10 * seeds.length)
  assert.isAbove(acknowledged, 0.5 * sent)
  return tally.failed.map(({ failure }) => failure!.message)
}

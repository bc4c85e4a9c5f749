/** The swarm of `test/simulation/swarm.test.ts`, with more seeds. */
import { assert, describe, it } from "@effect/vitest"
import { failuresOf } from "../simulation/support/inSmall.ts"

describe("the swarm", () => {
  it("400 seeds of 6 clients in a storm of 5 virtual minutes: everything holds", async () => {
    assert.deepStrictEqual(await failuresOf(400), [])
  }, 240_000)
})

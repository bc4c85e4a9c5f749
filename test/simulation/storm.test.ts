/** Storms on virtual time; `support/storm.ts` states the model, and `test/long` has one of 20,000 clients. */
import { assert, describe, it } from "@effect/vitest"
import { storm } from "../support/storm.ts"
import { storms } from "./support/storms.ts"

describe("a storm: 1,000 clients lose a server that takes 50 handshakes a second", () => {
  it("B84 the advised spread brings all back at about one attempt each; jitter alone takes a few", async () => {
    const { advised, others } = await storms(1000)
    assert.isAtMost(advised.attempts, 1.1)
    assert.isAtMost(advised.back, 23_000)
    assert.strictEqual(advised.wasted, 0)
    assert.isAtMost(others["full jitter"].attempts, 5)
    // what the others cost: the model tells them apart
    for (const other of Object.values(others)) {
      assert.isAbove(other.attempts, 2 * advised.attempts)
      assert.isAbove(other.wasted, 0)
    }
  }, 60_000)

  it("the same seed is the same storm, another one is not", () => {
    const small = (seed: string) => storm({ clients: 300, how: "advised spread", perSecond: 1000, seed })
    assert.deepStrictEqual(small("a"), small("a"))
    assert.notDeepEqual(small("a"), small("b"))
  })
})

/** The storm of `test/simulation/storm.test.ts`, with as many clients as one server has at its best. */
import { assert, describe, it } from "@effect/vitest"
import { storms } from "../simulation/support/storms.ts"

describe("a storm: 20,000 clients lose a server that takes 1,000 handshakes a second", () => {
  it("B84 the advised spread brings all back at about one attempt each; jitter alone takes a few", async () => {
    const { advised, others } = await storms(20_000)
    assert.isAtMost(advised.attempts, 1.1)
    assert.isAtMost(advised.back, 23_000)
    assert.strictEqual(advised.wasted, 0)
    assert.isAtMost(others["full jitter"].attempts, 5)
    // what the others cost: the model tells them apart
    for (const other of Object.values(others)) {
      assert.isAbove(other.attempts, 2 * advised.attempts)
      assert.isAbove(other.wasted, 0)
    }
  }, 300_000)
})

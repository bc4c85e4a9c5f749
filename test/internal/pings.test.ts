import { assert, describe, it } from "@effect/vitest"
import { Pings } from "../../src/internal/connection/core/unansweredPings.ts"

describe("pings", () => {
  it("a token travels in 32 bits: after the last comes 1, and its pong is still known", () => {
    const pings = new Pings(0)
    // as after 4,294,967,294 pings
    Reflect.set(pings, "nextToken", 0xffff_ffff)
    assert.strictEqual(pings.send(1), 0xffff_ffff)
    assert.strictEqual(pings.send(2), 1)
    assert.isTrue(pings.answered(1, 3))
    assert.strictEqual(pings.count, 0)
  })
})

import { assert, describe, it } from "@effect/vitest"
import { type Case, cases } from "./support/cases.ts"
import * as Wire from "./support/wire.ts"

// the long ones are cut everywhere in the headers only
const everywhere: Wire.Cut = (length) =>
  length < 2000 ? Wire.everywhere(length) : Wire.everywhere(length).filter((at) => at < 20 || at % 997 === 0)
const seeded = (seed: number): Wire.Cut => (length) =>
  length < 2000
    ? Wire.seeded(seed)(length)
    : Wire.everywhere(length).filter((at) => at % (500 * seed + 11) === 0)

const cuts: ReadonlyArray<readonly [string, Wire.Cut]> = [
  ["whole", Wire.whole],
  ["in pieces of a byte", everywhere],
  ["cut at random", seeded(1)],
  ["cut at random again", seeded(2)],
  ["cut at random once more", seeded(3)]
]

const check = ({ bytes, maxFrame, pending, role, story, ws }: Case): void => {
  for (const [how, cut] of cuts) {
    const read = Wire.ours(role, maxFrame, Wire.pieces(bytes, cut))
    assert.deepStrictEqual(read.story, story, how)
    if (pending !== undefined) assert.strictEqual(read.pending, pending, how)
    assert.deepStrictEqual(Wire.theirs(role, maxFrame, Wire.pieces(bytes, cut)), ws ?? story, `${how}, by ws`)
  }
}

describe("the frames of a WebSocket, whole, in pieces of a byte, and cut at random, as `ws` reads them", () => {
  for (const one of cases) it(one.name, () => check(one))

  it("are at least 200 cases", () => assert.isAbove(cases.length, 200))
})

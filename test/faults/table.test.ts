/** The table of faults: what fails a row, and that the guide about deadlines has the rows there are. */
import { assert, describe, it } from "@effect/vitest"
import { complaint, lateness, row } from "./fault.ts"
import { parts } from "./parts/index.ts"
import { staleGuide } from "./table.ts"

describe("the table of faults", () => {
  const cut = row({ fault: "link cut", end: "server", reason: ["A", "B"], atLeast: 2, atMost: 3, bound: "`silence`" })

  it("has a row for what was seen within its bound", () => {
    for (const seconds of [2, 3, 3 + lateness]) {
      assert.isUndefined(complaint(cut, { reason: "A", seconds }))
      assert.isUndefined(complaint(cut, { reason: "B", seconds }))
    }
  })

  it("fails a row of which nothing was seen, or another reason, or that was too late or too soon", () => {
    assert.include(complaint(cut, undefined), "nothing was seen")
    assert.include(complaint(cut, { reason: "C", seconds: 2.5 }), "expected A or B")
    assert.include(complaint(cut, { reason: "A", seconds: 3.01 + lateness }), "over the bound")
    assert.include(complaint(cut, { reason: "A", seconds: 1.99 }), "killed while its peer lived")
  })

  it("is that of the guide, but for the seconds", () => assert.isUndefined(staleGuide(parts)))

  it("of the guide is stale when a row changes", () => {
    const [first, ...rest] = parts
    const changed = [{ ...first!, rows: [{ ...first!.rows[0]!, reason: "Other" }, ...first!.rows.slice(1)] }, ...rest]
    assert.include(staleGuide(changed), "lacks")
    assert.include(staleGuide(parts.slice(1)), "deadlines.md has")
  })

  it("tells rows apart", () => {
    const keys = parts.flatMap(({ rows }) =>
      rows.flatMap(({ end, fault, ways }) => ways.map((way) => `${fault} ${end} ${way}`))
    )
    assert.strictEqual(new Set(keys).size, keys.length)
  })
})

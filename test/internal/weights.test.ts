/** What values of JSON are counted as, against what V8 makes of them, and what a process may hold. */
import { assert, describe, it } from "@effect/vitest"
import { weigh } from "../../src/internal/codec/jsonDepth.ts"
import { shareOfHeap } from "../../src/internal/memory/processShare.ts"

const most = 4 * 1024 * 1024
const list = (unit: string, count: number) => `[${Array.from({ length: count }, () => unit).join(",")}]`

/** Texts, and what their values weigh at least and at most: 64 bytes for an object, 48 for an array, 8 for each place. */
const cases: ReadonlyArray<readonly [name: string, text: string, least: number, most: number]> = [
  ["one object", "{}", 64, 64],
  ["5,000 objects", list("{}", 5000), 5000 * 72, 5000 * 73],
  ["5,000 arrays", list("[]", 5000), 5000 * 56, 5000 * 57],
  ["40 objects", list("{}", 40), 40 * 72, 41 * 73],
  ["records", list("{\"id\":1234,\"at\":5678}", 1000), 1000 * 88, 1000 * 120],
  ["numbers", list("1", 5000), 5000 * 8, 10_001 * 5],
  ["a text", `"${"x".repeat(10_000)}"`, 10_000, 50_010],
  ["a text of brackets", `"${"{[".repeat(5000)}"`, 10_000, 10_100]
]

describe("B114 what JSON weighs in memory", () => {
  for (const [name, text, least, greatest] of cases) {
    it(`${name}: as much as V8 makes of it`, () => {
      const weight = weigh(text, most)
      assert.isAtLeast(weight, least)
      assert.isAtMost(weight, greatest)
    })
  }
})

it("B115 connections may hold a third of what is left of the heap, and no less than a sixteenth of it", () => {
  const MiB = 2 ** 20
  assert.strictEqual(shareOfHeap(4288 * MiB, 96 * MiB), 4000 * MiB / 3)
  assert.strictEqual(shareOfHeap(256 * MiB, 60 * MiB), 16 * MiB)
})

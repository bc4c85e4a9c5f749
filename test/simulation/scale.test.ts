/** What `npm run scale` does with 100,000 connections, with as many as `npm test` has time for. */
import { assert, it } from "@effect/vitest"
import { measure, print } from "./scale.ts"

it("B99 a sweep of the registry costs in proportion to the connections", () => {
  const rows = measure([1000, 2000, 8000])
  console.log(print(rows))
  const [, some, many] = rows
  // four times as many; room for what a busy machine adds
  assert.isBelow(many.sweep, 12 * some.sweep + 50)
}, 60_000)

/** Numbers that an application gives: what is none is refused by its name. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Client, Registry, Request } from "../../src/index.ts"

describe("a number of an application", () => {
  const text = "3" as unknown as number
  const never = Effect.never as never
  it.effect.each([
    ["inFlight", Request.make(never, { inFlight: text })],
    ["retries", Request.make(never, { retries: text })],
    ["history", Registry.make({ history: text })],
    ["changes", Client.make(never, { changes: text })]
  ])("B34 %s that is a text is refused by name", ([name, make]) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(make as Effect.Effect<unknown, never, never>)
      assert.include(String(exit), `${name} must be a number, and not "3"`)
    }))
})

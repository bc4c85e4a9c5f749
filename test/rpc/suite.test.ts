import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { isLong, long } from "../support/often.ts"
import { cases, type Stage } from "./support/cases.ts"
import { type By, framed, type Scheme, serializations, stageOf } from "./support/stages.ts"

const schemes: ReadonlyArray<Scheme> = ["tcp", "tls", "unix", "ws"]

// all of them are in `npm run test:long`
const inShort = ["ndjson tcp", "schemaBinary ws", "json tcp"]

/** Runs every case on one pair of ends, one after the other. */
const resultsOf = (by: By, scheme: Scheme, serialization: string): Effect.Effect<Map<string, unknown>> =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const stage: Stage = yield* Effect.orDie(Scope.provide(stageOf(by, scheme, serialization), scope))
    const results = new Map<string, unknown>()
    for (const [i, { name, run }] of cases.entries()) {
      const exit = yield* Effect.exit(
        Effect.scoped(Effect.timeout(run({ ...stage, key: `${stage.key}-${i}` }), "10 seconds"))
      )
      results.set(name, Exit.isSuccess(exit) ? exit.value : String(exit.cause))
    }
    yield* Scope.close(scope, Exit.void)
    return results
  })

describe("Effect's RPC over holdfast/rpc", () => {
  it("has 60 cases at least", () => assert.isAtLeast(cases.length, 60))

  for (const scheme of schemes) {
    for (const serialization of Object.keys(serializations)) {
      if (!isLong && serialization !== "ndjson" && !inShort.includes(`${serialization} ${scheme}`)) continue
      const isTheirs = (scheme === "ws" || framed.includes(serialization)) &&
        (isLong || inShort.includes(`${serialization} ${scheme}`))
      it.live(
        `${cases.length} cases with ${serialization} over ${scheme} end as they should${
          isTheirs ? ", and as over Effect's own protocol" : ""
        }`,
        () =>
          Effect.gen(function*() {
            const wanted = Object.fromEntries(cases.map(({ expected, name }) => [name, expected]))
            assert.deepStrictEqual(Object.fromEntries(yield* resultsOf("holdfast", scheme, serialization)), wanted)
            if (!isTheirs) return
            const theirs = yield* resultsOf("effect", scheme, serialization)
            assert.deepStrictEqual(Object.fromEntries(theirs), wanted, "over Effect's own protocol")
          }),
        isLong ? long(120_000) : {}
      )
    }
  }
})

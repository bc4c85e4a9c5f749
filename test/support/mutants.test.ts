/** What breaks the runtime on purpose notices when there is nothing left to break. */
import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import * as Holdfast from "../../src/index.ts"
import * as Mutants from "./mutants.ts"

const file = "src/Registry.ts"

const failureOf = (mutant: Mutants.Mutant) =>
  Effect.map(Effect.exit(Mutants.load(mutant)), (exit) => Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "")

it.effect("a mutant whose text is gone, or is there twice, fails and says which", () =>
  Effect.gen(function*() {
    const gone = yield* failureOf({ file, find: "not in that file", replace: "" })
    assert.match(gone, /src\/Registry\.ts no longer contains the text that a mutant replaces\..*\nnot in that file$/)
    const twice = yield* failureOf({ file, find: "import ", replace: "" })
    assert.match(twice, /src\/Registry\.ts contains \d+ times, and not once, the text that a mutant replaces\./)
  }))

it.effect("a mutant is a copy of what its file reaches, and shares the rest", () =>
  Effect.gen(function*() {
    const broken = yield* Mutants.load({ file, find: "export const quietFor", replace: "export const noisyFor" })
    assert.notProperty(broken.Registry, "quietFor")
    assert.property(Holdfast.Registry, "quietFor")
    assert.strictEqual(broken.ConnectionError, Holdfast.ConnectionError)
  }))

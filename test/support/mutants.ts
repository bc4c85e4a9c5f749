/**
 * Broken variants of the runtime: a copy of `src` with one piece of text replaced.
 *
 * A test that passes says little before it has been seen to fail. A mutant is the smallest change that brings a bug
 * back, kept as data beside the test that has to notice it.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as FileSystem from "node:fs"
import * as Path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

/** The runtime as a value, so that the same program can run on a broken one. */
export type Runtime = typeof import("../../src/index.ts")

export interface Mutant {
  /** Below the project: `src/internal/deadlines.ts`. */
  readonly file: string
  /** Text that occurs exactly once in the file. */
  readonly find: string
  readonly replace: string
}

const root = fileURLToPath(new URL("../../", import.meta.url))
// below node_modules: ignored by git, by formatters and by a watching test runner, and `effect` is the same instance
const cache = Path.join(root, "node_modules/.cache/holdfast-mutants")

/** The text of the file with the replacement made. */
const mutate = ({ file, find, replace }: Mutant): string => {
  const original = FileSystem.readFileSync(Path.join(root, file), "utf8")
  const pieces = original.split(find)
  if (pieces.length !== 2) {
    const found = pieces.length === 1 ? "no longer contains" : `contains ${pieces.length - 1} times, not once,`
    throw new Error(
      `${file} ${found} the text that a mutant replaces. Bring the bug back in the code as it is now:\n${find}`
    )
  }
  return pieces.join(replace)
}

/** Imports a module of the mutant's `src`, `index.ts` by default; the copy goes with the scope. */
export const load = <Module = Runtime>(
  mutant: Mutant,
  module: string = "src/index.ts"
): Effect.Effect<Module, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const text = mutate(mutant)
      FileSystem.mkdirSync(cache, { recursive: true })
      const copy = FileSystem.mkdtempSync(Path.join(cache, "mutant-"))
      FileSystem.cpSync(Path.join(root, "src"), Path.join(copy, "src"), { recursive: true })
      FileSystem.writeFileSync(Path.join(copy, mutant.file), text)
      return copy
    }),
    (copy) => Effect.sync(() => FileSystem.rmSync(copy, { recursive: true, force: true }))
  ).pipe(
    Effect.flatMap((copy) =>
      Effect.promise(() => import(/* @vite-ignore */ pathToFileURL(Path.join(copy, module)).href))
    )
  )

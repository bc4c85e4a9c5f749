/**
 * Broken variants of the runtime: `src` with one piece of text replaced.
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
const src = Path.join(root, "src")
// below node_modules: ignored by git, by formatters and by a watching test runner, and `effect` is the same instance
const cache = Path.join(root, "node_modules/.cache/holdfast-mutants")

/** The text of the file with the replacement made. */
const mutate = (file: string, { find, replace }: Mutant): string => {
  const pieces = FileSystem.readFileSync(file, "utf8").split(find)
  if (pieces.length === 2) return pieces.join(replace)
  const found = pieces.length === 1 ? "no longer contains" : `contains ${pieces.length - 1} times, and not once,`
  const name = Path.relative(root, file)
  throw new Error(`${name} ${found} the text that a mutant replaces. Bring the bug back in the code as it is:\n${find}`)
}

const imports = /(?<=from )"(\.[^"]+)"/g

/** The file and everything in `src` that it can be reached from; all else is shared with the runtime as it is. */
const affectedBy = (file: string): ReadonlySet<string> => {
  const importers = new Map<string, Array<string>>()
  for (const name of FileSystem.readdirSync(src, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".ts")) continue
    const importer = Path.join(src, name)
    for (const [, specifier] of FileSystem.readFileSync(importer, "utf8").matchAll(imports)) {
      const imported = Path.join(importer, "..", specifier!)
      importers.set(imported, [...(importers.get(imported) ?? []), importer])
    }
  }
  const affected = new Set([file])
  for (const one of affected) for (const importer of importers.get(one) ?? []) affected.add(importer)
  return affected
}

/** Writes the mutant below a fresh directory, which it returns. */
const write = (mutant: Mutant): string => {
  const file = Path.join(root, mutant.file)
  const mutated = mutate(file, mutant)
  const affected = affectedBy(file)
  FileSystem.mkdirSync(cache, { recursive: true })
  // the real path: node_modules may be a link, and what the copy shares is named relative to where it is
  const directory = FileSystem.realpathSync(FileSystem.mkdtempSync(Path.join(cache, "mutant-")))
  for (const original of affected) {
    const copy = Path.join(directory, Path.relative(root, original))
    const text = original === file ? mutated : FileSystem.readFileSync(original, "utf8")
    const linked = text.replace(imports, (quoted, specifier: string) => {
      const imported = Path.join(original, "..", specifier)
      return affected.has(imported) ? quoted : JSON.stringify(Path.relative(Path.dirname(copy), imported))
    })
    FileSystem.mkdirSync(Path.dirname(copy), { recursive: true })
    FileSystem.writeFileSync(copy, linked)
  }
  return directory
}

/** Imports a module of the mutant, `src/index.ts` by default. Its files go with the scope. */
export const load = <Module = Runtime>(
  mutant: Mutant,
  module: string = "src/index.ts"
): Effect.Effect<Module, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => write(mutant)),
    (directory) => Effect.sync(() => FileSystem.rmSync(directory, { recursive: true, force: true }))
  ).pipe(
    Effect.map((directory) => pathToFileURL(Path.join(directory, module)).href),
    Effect.flatMap((url) => Effect.promise(() => import(/* @vite-ignore */ url)))
  )

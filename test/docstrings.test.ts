/** Every exported name has a docstring, and every noun of the index an example: `npm run docs` says the same with a compiler. */
import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  readonly exports: Readonly<Record<string, unknown>>
}

/** The folders of `src` that have an entry. */
const folders = Object.entries(exports).flatMap(([entry, target]) =>
  target !== null && /^\.(?:\/\w+)?$/.test(entry) ? [entry === "." ? "" : `${entry.slice(2)}/`] : []
)

/** The files that can be imported, by their paths in `src`: no barrels, and nothing that the package hides. */
const modules = (): ReadonlyMap<string, string> => {
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, "src", folder)).filter((name) => name.endsWith(".ts") && name !== "index.ts")
      .map((name) => folder + name)
      .filter((name) => exports[`./${name.slice(0, -3)}`] !== null)
  )
  return new Map(files.map((name) => [name, readFileSync(join(root, "src", name), "utf8")]))
}

const declaration = /^export (?:declare )?(?:abstract )?(?:const|function|class|interface|type|namespace|enum) (\w+)/

/** The exported names of a source whose declaration, or first overload, does not follow a docstring with a `@since`. */
const undocumented = (text: string): ReadonlyArray<string> => {
  const lines = text.split("\n")
  const seen = new Set<string>()
  return lines.flatMap((line, at) => {
    const name = declaration.exec(line)?.[1]
    if (name === undefined || seen.has(name)) return []
    seen.add(name)
    if (lines[at - 1]?.trim() !== "*/" && !/^\/\*\*.*\*\/$/.test(lines[at - 1] ?? "")) return [name]
    const from = lines.slice(0, at).findLastIndex((before) => before.startsWith("/**"))
    const doc = lines.slice(from, at).join("\n")
    return /@since \d/.test(doc) && /@category \w/.test(doc) && / \* [A-Z`]/.test(doc) ? [] : [name]
  })
}

const hasExample = (text: string): boolean => / \* ```ts/.test(text)

const nouns = (): ReadonlyArray<string> =>
  folders.flatMap((folder) =>
    Array.from(
      readFileSync(join(root, "src", folder, "index.ts"), "utf8").matchAll(/^export \* as \w+ from "\.\/(.+)"$/gm),
      ([, file]) => folder + file
    )
  )

describe("docstrings", () => {
  it("each exported name of a module that can be imported has one", () => {
    const all = modules()
    assert.isAbove(all.size, 35)
    const wrong = Array.from(all, ([name, text]) => [name, undocumented(text)] as const)
    assert.deepStrictEqual(wrong.filter(([, names]) => names.length > 0), [])
  })

  it("or is reported", () =>
    assert.deepStrictEqual(
      undocumented(
        "/**\n * Makes it.\n *\n * @category a\n * @since 0.1.0\n */\nexport const a = 1\nexport const b = 2\n" +
          "/** Short. */\nexport type C = 1\n\nexport interface D {}\n"
      ),
      ["b", "C", "D"]
    ))

  it("each noun of an index has an example, which the README's test compiles", () => {
    const all = modules()
    const found = nouns()
    assert.isAbove(found.length, 35)
    assert.deepStrictEqual(found.filter((file) => !hasExample(all.get(file) ?? "")), [])
  })

  it("the lock file of the reference names no registry", () => {
    const lock = readFileSync(join(root, ".config/docs/package-lock.json"), "utf8")
    assert.notMatch(lock, /"resolved"|registry\./)
  })
})

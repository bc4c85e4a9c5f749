/**
 * What a user gets: the packed tarball, installed into an empty folder, imported, type checked and run.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Root from "holdfast"
import * as Node from "holdfast/node"
import * as Testing from "holdfast/testing"
import { execFile } from "node:child_process"
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const root = fileURLToPath(new URL("../..", import.meta.url))

const entries = { "holdfast": Root, "holdfast/node": Node, "holdfast/testing": Testing }

/** The kinds of what each namespace of each entry exports. */
type Exports = Record<string, Record<string, Record<string, string>>>

let folder: string
let app: string
let installed: string
let exported: Exports

const run = async (cwd: string, command: string, ...args: ReadonlyArray<string>): Promise<string> => {
  // the Node that runs this test, whatever else the machine has
  const env = { ...process.env, PATH: dirname(process.execPath) + delimiter + process.env.PATH, NODE_OPTIONS: "" }
  try {
    const { stdout } = await promisify(execFile)(command, args, { cwd, env, maxBuffer: 16 * 1024 * 1024 })
    return stdout
  } catch (error) {
    const { code, stdout, stderr } = error as { code: unknown; stdout: string; stderr: string }
    throw new Error(`${command} ${args.join(" ")} ended with ${code}\n${stdout}\n${stderr}`, { cause: error })
  }
}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "holdfast-package-")))
  // built in a copy: the checkout keeps its dist, or its lack of one
  const copy = join(folder, "copy")
  await mkdir(copy)
  for (const name of await readdir(root)) {
    if (["node_modules", "dist", "test", ".git"].includes(name)) continue
    await cp(join(root, name), join(copy, name), { recursive: true })
  }
  await symlink(join(root, "node_modules"), join(copy, "node_modules"))
  await run(copy, "npm", "pack", "--pack-destination", folder)
  const tarball = (await readdir(folder)).find((name) => name.endsWith(".tgz"))
  assert.isDefined(tarball)

  app = join(folder, "app")
  await mkdir(app)
  await writeFile(join(app, "package.json"), JSON.stringify({ private: true, type: "module" }))
  await run(
    app,
    "npm",
    "install",
    "--prefer-offline",
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    join(folder, tarball!)
  )
  installed = join(app, "node_modules", "holdfast")

  await writeFile(
    join(app, "exports.js"),
    `const kinds = (object) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, typeof value]))
    const found = {}
    for (const entry of ${JSON.stringify(Object.keys(entries))}) {
      const namespaces = Object.entries(await import(entry))
      found[entry] = Object.fromEntries(namespaces.map(([name, namespace]) => [name, kinds(namespace)]))
    }
    console.log(JSON.stringify(found))`
  )
  exported = JSON.parse(await run(app, "node", "exports.js")) as Exports
}, 180_000)

afterAll(() => rm(folder, { recursive: true, force: true }))

describe("the published package", () => {
  it("holds the build and what a reader needs, and nothing else", async () => {
    const names = await readdir(installed)
    assert.deepStrictEqual(
      names.filter((name) => !["README.md", "node_modules"].includes(name)).toSorted(),
      ["CHANGELOG.md", "LICENSE", "dist", "package.json"]
    )
    const built = await readdir(join(installed, "dist"), { recursive: true })
    assert.isEmpty(built.filter((name) => /(?<!\.d)\.ts$/.test(name)))
  })

  it("exports what src exports, each a namespace with functions", () => {
    for (const [entry, source] of Object.entries(entries)) {
      console.log(
        entry,
        Object.entries(exported[entry]).map(([name, kinds]) => `${name} { ${Object.keys(kinds).join(", ")} }`)
      )
      assert.isNotEmpty(exported[entry], entry)
      assert.deepStrictEqual(Object.keys(exported[entry]).toSorted(), Object.keys(source).toSorted(), entry)
      for (const [name, kinds] of Object.entries(exported[entry])) {
        assert.include(Object.values(kinds), "function", `${entry} ${name}`)
      }
    }
  })

  it("has a type for every export", { timeout: 180_000 }, async () => {
    // an unresolved declaration is `any`, which would pass every other check
    const lines = ["type IsAny<T> = 0 extends 1 & T ? true : false"]
    for (const [i, [entry, namespaces]] of Object.entries(exported).entries()) {
      lines.push(`import * as E${i} from "${entry}"`)
      for (const [name, kinds] of Object.entries(namespaces)) {
        for (const key of Object.keys(kinds)) {
          lines.push(`false satisfies IsAny<typeof E${i}.${name}.${key}>`)
        }
      }
    }
    const options = {
      strict: true,
      noEmit: true,
      target: "ES2024",
      lib: ["ES2024", "DOM"],
      module: "NodeNext",
      moduleResolution: "NodeNext",
      typeRoots: [join(root, "node_modules", "@types")],
      types: ["node"]
    }
    await writeFile(join(app, "user.ts"), lines.join("\n"))
    // and the check can fail
    const [entry] = Object.keys(exported)
    await writeFile(
      join(app, "wrong.ts"),
      [
        lines[0],
        `import * as E0 from "${entry}"`,
        "false satisfies IsAny<typeof E0.Nothing>",
        "false satisfies IsAny<any>"
      ]
        .join("\n")
    )
    await writeFile(
      join(app, "tsconfig.json"),
      JSON.stringify({ compilerOptions: { ...options, skipLibCheck: false }, files: ["user.ts", "wrong.ts"] })
    )
    let failure = ""
    await run(app, join(root, "node_modules", ".bin", "tsc"), "-p", ".", "--pretty", "false").catch((error) => {
      failure = String(error)
    })
    const errors = failure.split("\n").filter((line) => line.includes("error TS"))
    assert.isEmpty(errors.filter((line) => !line.startsWith("wrong.ts(")), failure)
    assert.include(errors[0], "'Nothing'")
    assert.include(errors[1], "does not satisfy the expected type")
  })

  it("names no internal in a public signature: what a public type takes from an internal file, its module exports", async () => {
    const dist = join(installed, "dist")
    const declared = (await readdir(dist, { recursive: true }))
      .filter((name) => name.endsWith(".d.ts") && !/(?:^|\/)(?:internal|cli)\//.test(name))
    assert.isAbove(declared.length, 20)
    const wrong: Array<string> = []
    for (const name of declared) wrong.push(...hiddenNames(name, await readFile(join(dist, name), "utf8")))
    assert.deepStrictEqual(wrong, [])
    // and the check can fail
    assert.deepStrictEqual(
      hiddenNames(
        "a.d.ts",
        "import type { A, B as C } from \"./internal/a.ts\"\nimport * as D from \"./internal/d.ts\"\n" +
          "/** @internal */\nexport type { A } from \"./internal/a.ts\"\n" +
          "declare const e: [import(\"./internal/a.ts\").A, import(\"./internal/e.ts\").E]"
      ),
      [
        "a.d.ts holds @internal",
        "a.d.ts takes all of ./internal/d.ts",
        "a.d.ts takes B from ./internal/a.ts",
        "a.d.ts takes E from ./internal/e.ts"
      ]
    )
  })

  it("puts the command on the path", { timeout: 60_000 }, async () => {
    assert.include(await run(app, join(app, "node_modules", ".bin", "holdfast"), "--help"), "holdfast")
  })

  it("needs nothing of Node where a browser may run it", async () => {
    for (const entry of ["index.js", "testing/index.js"]) {
      const { files, packages } = await importsBehind(join(installed, "dist", entry))
      assert.isAbove(files.length, 1)
      assert.isEmpty(packages.filter((name) => !/^(?:effect|@msgpack\/msgpack)(?:\/|$)/.test(name)), entry)
    }
    const { packages: forTests } = await importsBehind(join(installed, "dist", "testing", "vitest.js"))
    assert.include(forTests, "@effect/vitest", "in an entry of its own")
    const { packages } = await importsBehind(join(installed, "dist", "node", "index.js"))
    assert.isNotEmpty(packages.filter((name) => name.startsWith("node:") || name.startsWith("@effect/platform-node")))
  })
})

/** The files that a built file loads, and the packages they name. */
const importsBehind = async (entry: string) => {
  const files = [entry]
  const packages = new Set<string>()
  for (const file of files) {
    const text = await readFile(file, "utf8")
    for (const [, name] of text.matchAll(/^(?:import|export)\b[\w\s{},*$]*["']([^"']+)["']/gm)) {
      if (!name.startsWith(".")) packages.add(name)
      else if (!files.includes(join(dirname(file), name))) files.push(join(dirname(file), name))
    }
  }
  return { files, packages: [...packages] }
}

/** What a public declaration shows of the internals without exporting it. */
const hiddenNames = (file: string, text: string): Array<string> => {
  const namesOf = (list: string): Array<string> =>
    list.replace(/\/\*[\s\S]*?\*\//g, "").split(",").map((name) => name.trim().replace(/^type /, "").split(" as ")[0]!)
      .filter((name) => name !== "")
  const all = Array.from(
    text.matchAll(/^import (?:type )?\* as \w+ from "([^"]*\/internal\/[^"]*)"/gm),
    ([, from]) => `${file} takes all of ${from}`
  )
  const exported = Array.from(text.matchAll(/^export (?:type )?\{([^}]*)\}/gm), ([, list]) => namesOf(list!)).flat()
  const taken = Array.from(
    text.matchAll(/^import (?:type )?\{([^}]*)\} from "([^"]*\/internal\/[^"]*)"/gm),
    ([, list, from]) =>
      namesOf(list!).filter((name) => !exported.includes(name)).map((name) => `${file} takes ${name} from ${from}`)
  ).flat()
  const inline = Array.from(
    text.matchAll(/import\("([^"]*\/internal\/[^"]*)"\)\.(\w+)/g),
    ([, from, name]) => exported.includes(name!) ? [] : [`${file} takes ${name} from ${from}`]
  ).flat()
  return [...(/@internal\b/.test(text) ? [`${file} holds @internal`] : []), ...all, ...taken, ...inline]
}

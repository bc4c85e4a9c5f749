/**
 * What a user gets: the packed tarball, installed into an empty folder, imported, type checked and run.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Root from "holdfast"
import * as Codecs from "holdfast/codecs"
import * as Nats from "holdfast/nats"
import * as Node from "holdfast/node"
import * as Redis from "holdfast/redis"
import * as Rpc from "holdfast/rpc"
import * as Testing from "holdfast/testing"
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises"
import { builtinModules } from "node:module"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { gzipSync } from "node:zlib"
import { isLong, long } from "../support/often.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

const entries = {
  "holdfast": Root,
  "holdfast/codecs": Codecs,
  "holdfast/nats": Nats,
  "holdfast/node": Node,
  "holdfast/redis": Redis,
  "holdfast/rpc": Rpc,
  "holdfast/testing": Testing
}

/** For how many milliseconds the main thread of a process has waited for a processor, which others had. */
const waited = async (pid: number): Promise<number> => {
  const [, waits] = (await readFile(`/proc/${pid}/schedstat`, "utf8")).split(" ")
  return Number(waits) / 1e6
}

/** Optional peers, without which an entry cannot be imported. */
const peers = ["redis", "@nats-io/jetstream", "@nats-io/kv", "@nats-io/transport-node"]

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

/** Functions that a barrel exports beside its namespaces: what a main program passes on as an option has its own name there. */
const alone = ["teardown"]

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
    join(folder, tarball!),
    ...peers
  )
  installed = join(app, "node_modules", "holdfast")

  await writeFile(
    join(app, "exports.js"),
    `const kinds = (object) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, typeof value]))
    const found = {}
    for (const entry of ${JSON.stringify(Object.keys(entries))}) {
      const all = Object.entries(await import(entry))
      const namespaces = all.filter(([name]) => !${JSON.stringify(alone)}.includes(name))
      found[entry] = Object.fromEntries(namespaces.map(([name, namespace]) => [name, kinds(namespace)]))
    }
    console.log(JSON.stringify(found))`
  )
  exported = JSON.parse(await run(app, "node", "exports.js")) as Exports
}, 180_000)

afterAll(() => rm(folder, { recursive: true, force: true }))

describe.runIf(isLong)("the published package", { tags: ["long"] }, () => {
  it("holds the build and what a reader needs, and nothing else", async () => {
    const names = await readdir(installed)
    assert.deepStrictEqual(
      names.filter((name) => !["README.md", "node_modules"].includes(name)).toSorted(),
      ["CHANGELOG.md", "LICENSE", "dist", "package.json", "src"]
    )
    // the pages that the README has links to, and no sources
    const guides = await readdir(join(root, "src", "guides"))
    assert.deepStrictEqual(
      (await readdir(join(installed, "src"), { recursive: true })).toSorted(),
      [
        "guides",
        ...guides.map((name) => join("guides", name))
      ].toSorted()
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
      const names = Object.keys(source).filter((name) => !alone.includes(name))
      assert.deepStrictEqual(Object.keys(exported[entry]).toSorted(), names.toSorted(), entry)
      for (const [name, kinds] of Object.entries(exported[entry])) {
        // metrics are made by a layer, and a contract is a list of checks
        const made = /(?:Metrics|Contract)$/.test(name) ? "object" : "function"
        assert.include(Object.values(kinds), made, `${entry} ${name}`)
      }
    }
  })

  it.runIf(isLong)(
    "has a type for every export and noun, and infers what test/types expects: in TypeScript 7 as NodeNext and as a bundler resolve it, " +
      "in 5.8 as NodeNext does",
    long(300_000),
    async () => {
      const types = join(app, "types")
      await cp(join(root, "test", "types"), types, { recursive: true })
      // the expectations of vitest, without vitest
      const modules = join(types, "node_modules")
      await cp(await realpath(join(root, "node_modules", "expect-type")), join(modules, "expect-type"), {
        recursive: true
      })
      await mkdir(join(modules, "vitest"))
      await writeFile(join(modules, "vitest", "package.json"), JSON.stringify({ type: "module", types: "index.d.ts" }))
      await writeFile(join(modules, "vitest", "index.d.ts"), "export { expectTypeOf } from \"expect-type\"")
      await writeFile(join(types, "exports.ts"), typesOfExports(exported))
      await writeFile(join(types, "nouns.ts"), typesOfNouns(exported))
      const files = (await readdir(types)).filter((name) => name.endsWith(".ts"))
      assert.isAbove(files.length, 3)
      // and the checks can fail
      await writeFile(
        join(types, "missing.ts"),
        `${isAny}\nimport * as E0 from "holdfast"\nfalse satisfies IsAny<typeof E0.Nothing>\nfalse satisfies IsAny<any>\n`
      )
      await writeFile(
        join(types, "wrong.ts"),
        "import { Codec, Connection, Policy } from \"holdfast\"\nimport { expectTypeOf } from \"vitest\"\n" +
          "expectTypeOf(Connection.make({ codec: Codec.lines() })).toEqualTypeOf<Connection.Open<number>>()\n" +
          "Connection.make({ codec: Codec.lines(), policy: { silense: \"3 seconds\" } })\n" +
          "Policy.make({ silence: true })\n"
      )
      const versions: Record<string, RegExp> = { "typescript": /^Version 7\./, "typescript-5.8": /^Version 5\.8\./ }
      for (const [compiler, version] of Object.entries(versions)) {
        const tsc = join(root, "node_modules", compiler, "bin", "tsc")
        assert.match(await run(types, "node", tsc, "--version"), version)
        const resolutions = [["NodeNext", "NodeNext"], ["ESNext", "Bundler"]] as const
        // the old one takes half a minute each time
        for (const [module, moduleResolution] of compiler === "typescript" ? resolutions : resolutions.slice(0, 1)) {
          const compilerOptions = {
            strict: true,
            exactOptionalPropertyTypes: true,
            noEmit: true,
            // once for each compiler: how a name is resolved does not change what is declared
            skipLibCheck: module !== "NodeNext",
            allowImportingTsExtensions: true,
            noUncheckedSideEffectImports: true,
            target: "ES2024",
            lib: ["ES2024", "DOM"],
            module,
            moduleResolution,
            typeRoots: [join(root, "node_modules", "@types")],
            types: ["node"]
          }
          await writeFile(
            join(types, "tsconfig.json"),
            JSON.stringify({ compilerOptions, files: [...files, "missing.ts", "wrong.ts"] })
          )
          const told = await run(types, "node", tsc, "-p", ".", "--pretty", "false").then(() => "", String)
          // declarations of the NATS client have errors of their own where libraries are checked
          const errors = told.split("\n").filter((line) =>
            line.includes("error TS") && !line.startsWith("../node_modules/@nats-io/")
          )
          const name = `${compiler}, ${moduleResolution}`
          assert.deepStrictEqual(
            errors.map((line) => line.slice(0, line.indexOf(","))),
            ["missing.ts(3", "missing.ts(4", "wrong.ts(3", "wrong.ts(4", "wrong.ts(5"],
            `${name}\n${told}`
          )
          // one short line, which says what it is that is wrong
          const [, , , field, value] = errors
          assert.match(field!, /'silense' does not exist in type 'Patch'\. Did you mean to write 'silence'\?$/, name)
          assert.isBelow(Math.max(field!.length, value!.length), 160, name)
        }
      }
    }
  )

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

  it("the command needs no package beside it, and listens within half a second", { timeout: 60_000 }, async () => {
    const cli = join(installed, "dist", "cli")
    const alone = join(folder, "alone", "dist", "cli")
    await cp(cli, alone, { recursive: true })
    await cp(join(installed, "package.json"), join(folder, "alone", "package.json"))
    assert.include(await readFile(join(alone, "LICENSES.txt"), "utf8"), "effect ")
    const times: Array<number> = []
    for (let i = 0; i < 11; i++) {
      const began = performance.now()
      const server = spawn(process.execPath, [join(alone, "main.js"), "serve", "--listen", "tcp://127.0.0.1:0"], {
        stdio: ["ignore", "pipe", "pipe"]
      })
      const [said] = await once(server.stdout, "data") as [Buffer]
      times.push(performance.now() - began - await waited(server.pid!))
      assert.match(said.toString(), /^listening tcp/)
      if (i === 0) assert.match(String((await once(server.stderr, "data"))[0]), /admin http:/)
      server.kill()
      await once(server, "exit")
    }
    // the first one fills the cache
    const warm = times.slice(1).toSorted((a, b) => a - b)
    console.log(`listening after ${warm.map(Math.round).join(", ")} ms`)
    // what else runs here is measured too: the quickest start is that of the command
    assert.isBelow(warm[0], 500)
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

  it(
    "has an entry for every noun, the one of its barrel, and none for anything else",
    { timeout: 60_000 },
    async () => {
      const nouns = Object.entries(exported).flatMap(([entry, namespaces]) =>
        Object.keys(namespaces).map((noun) => [`${entry}/${noun}`, entry, noun] as const)
      )
      const files = (await readdir(join(installed, "dist"), { recursive: true }))
        .filter((name) => name.endsWith(".js")).map((name) => `holdfast/${name.slice(0, -".js".length)}`)
      await writeFile(
        join(app, "entries.js"),
        `const same = {}
      for (const [entry, barrel, noun] of ${JSON.stringify(nouns)}) {
        same[entry] = await import(entry) === (await import(barrel))[noun]
      }
      const codes = {}
      for (const name of ${JSON.stringify(files)}) {
        try {
          import.meta.resolve(name)
          codes[name] = "an entry"
        } catch (error) {
          codes[name] = error.code
        }
      }
      const internal = await import("holdfast/internal/bytes/utf8").catch((error) => error.code)
      console.log(JSON.stringify({ same, codes, internal }))`
      )
      const found = JSON.parse(await run(app, "node", "entries.js")) as {
        readonly same: Record<string, boolean>
        readonly codes: Record<string, string>
        readonly internal: string
      }
      assert.deepStrictEqual(found.same, Object.fromEntries(nouns.map(([entry]) => [entry, true])))
      const open = Object.entries(found.codes).filter(([, code]) => code === "an entry").map(([name]) => name)
      assert.sameMembers(open, [...nouns.map(([entry]) => entry), "holdfast/testing/vitest"])
      const closed = Object.entries(found.codes).filter(([name]) => !open.includes(name))
      assert.include(closed.map(([name]) => name), "holdfast/internal/bytes/utf8")
      assert.deepStrictEqual(closed.filter(([, code]) => code !== "ERR_PACKAGE_PATH_NOT_EXPORTED"), [])
      assert.strictEqual(found.internal, "ERR_PACKAGE_PATH_NOT_EXPORTED")
    }
  )

  // bundlers take half a minute
  it.runIf(isLong)("a page that uses Codec.lines carries no MessagePack, and runs", long(180_000), async () => {
    // what a bundler leaves out was not needed: the reason has its message and its answer
    const use = `const { failure } = Codec.encode(Codec.lines({ maxFrame: 3 }), "too long")
      console.log(JSON.stringify([failure._tag, failure.message, failure.isRetryable]))`
    const noun = "import * as Codec from \"holdfast/Codec\"\n"
    const pages = {
      barrel: `import { Codec } from "holdfast"\n${use}`,
      noun: noun + use,
      // and the check can fail
      msgpack: `${noun}globalThis.codec = Codec.msgpack(Codec.bytes())\n${use}`
    }
    const carries: Record<string, boolean> = {}
    const sizes: Array<string> = []
    for (const [page, text] of Object.entries(pages)) {
      await writeFile(join(app, `${page}.js`), text)
      for (const [bundler, flags] of Object.entries(bundlers)) {
        const name = `${page}, ${bundler}`
        const bundle = `${bundler}-${page}.js`
        await run(app, join(root, "node_modules", ".bin", bundler), `${page}.js`, ...flags(bundle))
        assert.match(await run(app, "node", bundle), /^\["FrameTooLong","[^"]*3[^"]*",false\]$/m, name)
        carries[name] = /Unrecognized (?:object|type byte)/.test(await readFile(join(app, bundle), "utf8"))
        const small = await run(app, join(root, "node_modules", ".bin", "esbuild"), bundle, "--minify")
        sizes.push(`${name}: ${Math.round(small.length / 1e3)} kB, gzip ${Math.round(gzipSync(small).length / 1e3)} kB`)
      }
    }
    console.log(sizes.join("\n"))
    assert.deepStrictEqual(carries, {
      // esbuild keeps the whole of a namespace that a barrel exports: the README says to import the noun
      "barrel, esbuild": true,
      "barrel, rollup": false,
      "noun, esbuild": false,
      "noun, rollup": false,
      "msgpack, esbuild": true,
      "msgpack, rollup": true
    })
  })

  it.runIf(isLong)("leaves nothing in a page that imports everything and uses nothing", long(60_000), async () => {
    const nouns = Object.entries(exported).flatMap(([entry, namespaces]) =>
      Object.keys(namespaces).map((noun) => `${entry}/${noun}`)
    )
    // sockets of Node, and clients of engines, are for no page
    const names = [...Object.keys(exported), ...nouns].filter((name) => !/^holdfast\/(?:node|redis|nats)/.test(name))
    await writeFile(join(app, "unused.js"), names.map((name) => `import "${name}"`).join("\n"))
    // to Rollup an empty list of side effects means that everything has some
    await run(app, join(root, "node_modules", ".bin", "rollup"), "unused.js", ...bundlers.rollup("rollup-unused.js"))
    assert.isBelow((await readFile(join(app, "rollup-unused.js"))).length, 10)
  })

  it("declares every package it imports, and imports every package it declares", async () => {
    const { dependencies, peerDependencies } = JSON.parse(await readFile(join(installed, "package.json"), "utf8")) as {
      readonly dependencies: Record<string, string>
      readonly peerDependencies: Record<string, string>
    }
    const dist = join(installed, "dist")
    const imported = new Set<string>()
    const whole: Array<string> = []
    for (const name of await readdir(dist, { recursive: true })) {
      // the command has what it needs inside, and the page too
      if (!/\.(?:js|d\.ts)$/.test(name) || /^(?:cli|admin)\//.test(name)) continue
      // examples in comments import what their program declares
      const code = (await readFile(join(dist, name), "utf8")).replace(/^\s*\/\*\*[\s\S]*?\*\//gm, "")
      for (const [, from] of code.matchAll(/(?:\bfrom|^import|\bimport\()\s*["']([^"'.][^"']*)["']/gm)) {
        const parts = from!.split("/")
        imported.add(parts.slice(0, from!.startsWith("@") ? 2 : 1).join("/"))
        if (from === "@effect/platform-node") whole.push(name)
      }
    }
    const builtin = [...imported].filter((name) => name.startsWith("node:") || builtinModules.includes(name))
    assert.isNotEmpty(builtin)
    // vitest is a peer of @effect/vitest, which asks its user for it
    assert.sameMembers(
      [...imported].filter((name) => !builtin.includes(name)),
      [...Object.keys(dependencies), ...Object.keys(peerDependencies)].filter((name) => name !== "vitest")
    )
    assert.deepStrictEqual(
      whole,
      [],
      "all of @effect/platform-node needs redis, which a strict package manager keeps from it"
    )
  })

  it.runIf(isLong)(
    "the README's first program runs where a package sees only what it declares, as with pnpm and Yarn PnP",
    {
      timeout: 120_000,
      tags: ["long"]
    },
    async () => {
      const readme = await readFile(join(installed, "README.md"), "utf8")
      const program = /^```ts run\n([\s\S]*?)^```/m.exec(readme)![1]!
      const wanted = Array.from(program.matchAll(/from "((?:@[^/"]+\/)?[^/"]+)/g), ([, name]) => name!)
      assert.sameMembers([...new Set(wanted)], ["@effect/platform-node", "effect", "holdfast"])
      const strict = join(folder, "strict")
      await placeStrictly(app, strict, [...new Set(wanted)])
      await writeFile(join(strict, "package.json"), JSON.stringify({ private: true, type: "module" }))

      const free = createServer().listen(0, "127.0.0.1")
      await once(free, "listening")
      const { port } = free.address() as { readonly port: number }
      free.close()
      await once(free, "close")
      await writeFile(join(strict, "server.js"), program.replaceAll("7000", String(port)))
      const child = spawn(process.execPath, ["server.js"], {
        cwd: strict,
        env: { ...process.env, NODE_OPTIONS: "" },
        stdio: ["ignore", "inherit", "pipe"]
      })
      const exited = once(child, "exit")
      let complaint = ""
      child.stderr.setEncoding("utf8").on("data", (text: string) => complaint += text)
      try {
        const dial = async (): Promise<ReturnType<typeof connect>> => {
          // refused until it listens
          for (;;) {
            const socket = connect(port, "127.0.0.1")
            const connected = await once(socket, "connect").then(() => true, () => false)
            if (connected) return socket
            if (child.exitCode !== null) throw new Error(`the program ended with ${child.exitCode}\n${complaint}`)
            await new Promise((resolve) => setTimeout(resolve, 50))
          }
        }
        const socket = await dial()
        socket.write("hello\n")
        assert.strictEqual(String((await once(socket, "data"))[0]), "hello\n")
        child.kill("SIGTERM")
        await once(socket, "close")
      } finally {
        if (child.exitCode === null) child.kill("SIGTERM")
        await exited
      }
    }
  )
})

/**
 * Places packages as pnpm does: each beside links to what it declares and to nothing else. A peer that no program wants
 * is not there.
 */
const placeStrictly = async (from: string, to: string, wanted: ReadonlyArray<string>): Promise<void> => {
  const link = async (name: string, home: string): Promise<void> => {
    const path = join(home, "node_modules", name)
    await mkdir(dirname(path), { recursive: true })
    await symlink(relative(dirname(path), place(name)), path)
  }
  const homeOf = (name: string): string => join(to, "store", name.replace("/", "+"))
  const place = (name: string): string => join(homeOf(name), "node_modules", name)
  const placed = [...wanted]
  // grows while it is walked
  for (const name of placed) {
    const source = join(from, "node_modules", name)
    assert.notInclude(await readdir(source), "node_modules", `${name} has packages of its own`)
    await cp(source, place(name), { recursive: true })
    const { dependencies = {}, peerDependencies = {} } = JSON.parse(
      await readFile(join(source, "package.json"), "utf8")
    ) as {
      readonly dependencies?: Record<string, string>
      readonly peerDependencies?: Record<string, string>
    }
    const seen = [
      ...Object.keys(dependencies),
      ...Object.keys(peerDependencies).filter((peer) => wanted.includes(peer))
    ]
    for (const other of seen) {
      await link(other, homeOf(name))
      if (!placed.includes(other)) placed.push(other)
    }
  }
  for (const name of wanted) await link(name, to)
}

// an unresolved declaration is `any`, which would pass every other check
const isAny = "type IsAny<T> = 0 extends 1 & T ? true : false"

const typesOfExports = (exported: Exports): string => {
  const lines = [isAny]
  for (const [i, [entry, namespaces]] of Object.entries(exported).entries()) {
    lines.push(`import * as E${i} from "${entry}"`)
    for (const [name, kinds] of Object.entries(namespaces)) {
      for (const key of Object.keys(kinds)) lines.push(`false satisfies IsAny<typeof E${i}.${name}.${key}>`)
    }
  }
  return lines.join("\n")
}

const closed = ["internal/bytes/utf8", "node/internal/stream/tcp", "testing/World", "cli/main", "index", "node/index"]

const typesOfNouns = (exported: Exports): string => {
  const lines: Array<string> = []
  for (const [i, [entry, namespaces]] of Object.entries(exported).entries()) {
    lines.push(`import * as E${i} from "${entry}"`)
    for (const noun of Object.keys(namespaces)) {
      lines.push(`import * as ${noun} from "${entry}/${noun}"`, `${noun} satisfies typeof E${i}.${noun}`)
    }
  }
  lines.push("const line: Codec.Codec<string> = Codec.lines()", "export { line }")
  // an unused expectation is an error too
  for (const name of closed) lines.push("// @ts-expect-error no entry", `import "holdfast/${name}"`)
  return lines.join("\n")
}

const resolver = join(root, "node_modules", "@rollup", "plugin-node-resolve", "dist", "es", "index.js")

/** The bundlers of a page, and what they are told. */
const bundlers = {
  esbuild: (to: string) => ["--bundle", "--minify", "--format=esm", `--outfile=${to}`, "--log-level=error"],
  rollup: (to: string) => ["--plugin", resolver, "--format", "es", "--file", to, "--silent"]
}

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

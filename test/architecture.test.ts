/**
 * The file list is the architecture: what may import what, where time may enter, what the top level holds.
 *
 * Every rule is a function over paths and texts that returns what breaks it, so that each rule is also shown to catch
 * a planted violation.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { builtinModules } from "node:module"
import { posix } from "node:path"
import { fileURLToPath } from "node:url"

/**
 * The house, from the ground up. A place is a noun of `src`, or a folder; a file belongs to the longest name that fits. It
 * may import what is below its floor, and what is in its own place: nothing beside it, nothing above.
 */
const floors: ReadonlyArray<ReadonlyArray<string>> = [
  // what knows nothing of connections: what an application gives, bytes, time and fibers, what a transport says of itself, how a
  // reason is said
  ["internal/arguments", "internal/bytes", "internal/transport", "internal/reasons"],
  ["internal/scheduling"],
  // what an engine does for a fleet, which knows no connection
  ["internal/backplane"],
  ["Backplane"],
  // what was said, by position, which knows no connection either
  ["internal/history"],
  ["History"],
  ["ConnectionError"],
  // what a metric is, and what sums it up
  ["internal/endings", "internal/telemetry", "Heartbeat", "Backoff"],
  ["internal/limits"],
  ["internal/memory"],
  ["Policy", "Memory"],
  ["internal/codec"],
  ["internal/codec/framings"],
  ["internal/webSocket"],
  ["Codec"],
  // ready ones, which know no connection
  ["codecs/internal"],
  ["codecs"],
  // a connection: what it knows, the fibers that act on it, what its user holds
  ["internal/connection/core"],
  // what a turn, a rate and a peer that takes nothing leave a connection to read
  ["internal/connection/fairness"],
  ["internal/connection"],
  ["internal/connection/handle"],
  ["Connection"],
  // many of them, and work over them
  [
    "internal/registry",
    "internal/pool",
    "internal/request",
    "internal/protocol",
    "internal/client",
    "internal/dispatcher"
  ],
  ["Registry", "ConnectionPool", "Protocol", "Client", "Dispatcher"],
  ["internal/fleet/post"],
  ["internal/fleet"],
  ["Request", "Metrics", "Fleet"],
  ["internal/server"],
  ["Server"],
  // Effect's RPC over them
  ["rpc/internal"],
  ["rpc"],
  // engines of a fleet, each made of its client
  ["redis/internal", "nats/internal"],
  ["redis", "nats"],
  ["index"],
  // the simulated network, and what tests are made of: beside the library, on the same ground
  ["testing/Transport", "testing/Network"],
  ["testing/internal/fabric"],
  ["testing/internal/tcp", "testing/internal/contract", "testing/internal/backplane"],
  ["testing/internal/network"],
  ["testing/TestNetwork", "testing/TestSocket"],
  ["testing/World"],
  ["testing/Chaos"],
  ["testing/internal/simulation"],
  ["testing"],
  // real sockets, and the command
  ["node/internal/addresses", "node/internal/stream", "node/internal/system"],
  ["node/internal/tls"],
  ["node/internal", "node/internal/deflate"],
  // proxies: what they say of clients, and the way through them
  ["node/Proxy"],
  ["node/internal/proxy", "node/internal/tunnel"],
  // what a request to upgrade is, and what the application says to it
  ["node/internal/upgrade"],
  ["node/Upgrade"],
  ["node/internal/dialling"],
  ["node/internal/webSocket"],
  ["node/internal/listening", "node/Certificates"],
  // several processes behind one socket: what the parent of them does
  ["node/internal/workers"],
  ["node/internal/http/reading"],
  ["node/internal/http", "node/internal/httpClient"],
  // what looks at a running program: what it answers, and the HTTP server around that
  ["node/internal/admin"],
  // how it is said to a person
  ["node/internal/admin/shown", "node/internal/admin/merging"],
  ["node/internal/admin/web"],
  // one for all workers
  ["node/internal/admin/workers"],
  ["node"],
  ["cli"],
  // the page, which is bundled: what the program is made of is there as types
  ["admin/model"],
  ["admin/parts"],
  ["admin/views"],
  ["admin"]
]

/** How large a file, a function or class in it, and a room may be: lines of code, without comments, and files. */
const sizes = { file: 300, block: 200, room: 9 }

const topLevelNames = [
  "src",
  "test",
  "package.json",
  "package-lock.json",
  "tsconfig.json",
  "vitest.config.ts",
  "README.md",
  "LICENSE",
  "CHANGELOG.md"
]

type Area =
  | "index"
  | "noun"
  | "internal"
  | "codecs"
  | "rpc"
  | "redis"
  | "nats"
  | "testing"
  | "vitest"
  | "node"
  | "cli"
  | "admin"

const mayUsePackages: Record<Area, ReadonlyArray<string>> = {
  index: [],
  noun: ["effect", "@msgpack/msgpack"],
  internal: ["effect"],
  codecs: ["effect"],
  rpc: ["effect"],
  redis: ["effect", "redis", "node:"],
  nats: ["effect", "@nats-io/transport-node", "@nats-io/jetstream", "@nats-io/kv", "node:"],
  testing: ["effect"],
  vitest: ["effect", "@effect/vitest"],
  node: ["effect", "@effect/platform-node", "node:"],
  cli: ["effect", "@effect/platform-node", "node:"],
  admin: ["preact", "uplot", "@tanstack/virtual-core"]
}

interface Source {
  readonly path: string
  readonly text: string
}

// ---------------------------------------------------------------------------------------------------------------------
// reading
// ---------------------------------------------------------------------------------------------------------------------

/** Blanks comments and the insides of strings and regular expressions, so that every index stays where it was. */
const bare = (text: string): string => {
  const out = text.split("")
  const blank = (from: number, to: number) => {
    for (let i = from; i < to; i++) if (out[i] !== "\n") out[i] = " "
  }
  const until = (start: number, found: (at: number) => boolean): number => {
    let at = start
    while (at < text.length && !found(at)) at += text[at] === "\\" ? 2 : 1
    return Math.min(at, text.length)
  }
  const regexMayStart = (at: number): boolean =>
    /(?:^|[(,=:[!&|?{};+\-*%~^<>]|\b(?:return|typeof|case|in|of|yield|await|void))\s*$/.test(out.slice(0, at).join(""))
  // `</a>` and `<a />`
  const isTag = (at: number): boolean => text[at - 1] === "<" || text[at + 1] === ">"
  // the depth of braces at which each open `${` ends
  const templates: Array<number> = []
  let depth = 0
  let at = 0
  const template = (start: number) => {
    const end = until(start, (i) => text[i] === "`" || text.startsWith("${", i))
    blank(start, end)
    if (text[end] === "$") {
      templates.push(depth)
      return end + 2
    }
    return end + 1
  }
  while (at < text.length) {
    const char = text[at]
    if (text.startsWith("//", at) || (at === 0 && text.startsWith("#!"))) {
      const end = text.indexOf("\n", at)
      blank(at, end < 0 ? text.length : end)
      at = end < 0 ? text.length : end
    } else if (text.startsWith("/*", at)) {
      const end = text.indexOf("*/", at + 2)
      blank(at, end < 0 ? text.length : end + 2)
      at = end < 0 ? text.length : end + 2
    } else if (char === "\"" || char === "'") {
      const end = until(at + 1, (i) => text[i] === char || text[i] === "\n")
      blank(at + 1, end)
      at = end + 1
    } else if (char === "`") {
      at = template(at + 1)
    } else if (char === "}" && templates.at(-1) === depth) {
      templates.pop()
      at = template(at + 1)
    } else if (char === "/" && !isTag(at) && regexMayStart(at)) {
      let inClass = false
      const end = until(at + 1, (i) => {
        if (text[i] === "[") inClass = true
        else if (text[i] === "]") inClass = false
        return text[i] === "\n" || (text[i] === "/" && !inClass)
      })
      blank(at + 1, end)
      at = end + 1
    } else {
      if (char === "{") depth++
      else if (char === "}") depth--
      at++
    }
  }
  return out.join("")
}

const lineAt = (text: string, index: number): number => text.slice(0, index).split("\n").length

interface Import {
  readonly line: number
  /** `undefined` where the name is computed. */
  readonly specifier: string | undefined
}

const importForms = [
  /\b(?:import|export)\b[\w\s{},*$]*?\bfrom\s*["']( *)["']/dg,
  /\bimport\s*["']( *)["']/dg,
  /\bimport\s*\(\s*["']( *)["']\s*[),]/dg
]

const imports = (text: string): Array<Import> => {
  const code = bare(text)
  const found = importForms.flatMap((form) =>
    Array.from(code.matchAll(form), (match): Import => ({
      line: lineAt(text, match.index),
      specifier: text.slice(...match.indices![1]!)
    }))
  )
  for (const match of code.matchAll(/\bimport\s*\(\s*(?!["'\s])/g)) {
    found.push({ line: lineAt(text, match.index), specifier: undefined })
  }
  return found
}

const areaOf = (path: string): Area | undefined => {
  if (path === "src/index.ts") return "index"
  // an entry of its own, so that nobody else needs vitest
  if (path === "src/testing/vitest.ts") return "vitest"
  if (/^src\/[^/]+\.ts$/.test(path)) return "noun"
  const folder = /^src\/(internal|codecs|rpc|redis|nats|testing|node|cli|admin)\/.+\.tsx?$/.exec(path)
  return folder === null ? undefined : folder[1] as Area
}

const nounOf = (path: string): string => posix.basename(path, ".ts")

const places = floors.flat().toSorted((a, b) => b.length - a.length)

/** The place of a file: a noun, or the innermost folder that has a floor. */
const placeOf = (path: string): string | undefined => {
  const inside = path.slice("src/".length)
  return places.find((place) => inside === `${place}.ts` || inside.startsWith(`${place}/`))
}

const floorOf = (place: string): number => floors.findIndex((floor) => floor.includes(place))

const packageOf = (specifier: string): string =>
  specifier.startsWith("node:") || builtinModules.includes(specifier)
    ? "node:"
    : specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/")

const isRelative = (specifier: string | undefined): specifier is string => specifier?.startsWith(".") === true

const targetOf = (path: string, specifier: string): string => posix.join(posix.dirname(path), specifier)

const graphOf = (sources: ReadonlyArray<Source>): Map<string, ReadonlyArray<string>> =>
  new Map(sources.map(({ path, text }) => [
    path,
    imports(text).flatMap(({ specifier }) => isRelative(specifier) ? [targetOf(path, specifier)] : [])
  ]))

// ---------------------------------------------------------------------------------------------------------------------
// the rules
// ---------------------------------------------------------------------------------------------------------------------

/** Everything has its place: a new noun or folder has to be given one on a floor. */
const placed = (sources: ReadonlyArray<Source>): Array<string> =>
  sources.flatMap(({ path }) => placeOf(path) === undefined ? [`${path} is on no floor`] : [])

/** Packages by area: what is outside `node` and `cli` has to run in a browser. */
const packages = (sources: ReadonlyArray<Source>): Array<string> =>
  sources.flatMap(({ path, text }) => {
    const area = areaOf(path)
    return imports(text).flatMap(({ line, specifier }) => {
      if (area === undefined || isRelative(specifier)) return []
      if (specifier === undefined) return [`${path}:${line} imports a computed name`]
      return mayUsePackages[area].includes(packageOf(specifier))
        ? []
        : [`${path}:${line} may not import ${specifier}`]
    })
  })

/**
 * Imports go down, or stay in their place. The simulated network that tests connections is not made of them; its WebSockets
 * are the frames that all have.
 */
const downward = (sources: ReadonlyArray<Source>): Array<string> => {
  const graph = graphOf(sources)
  return sources.flatMap(({ path, text }) => {
    const place = placeOf(path)
    return imports(text).flatMap(({ line, specifier }): Array<string> => {
      if (place === undefined || !isRelative(specifier)) return []
      const target = targetOf(path, specifier)
      const targetPlace = placeOf(target)
      if (targetPlace === undefined || !graph.has(target)) {
        return [`${path}:${line} imports ${target}, not a file of src`]
      }
      if (targetPlace === place) return []
      const floor = floorOf(targetPlace)
      if (floor >= floorOf(place)) return [`${path}:${line} imports ${target}, which is not below it`]
      const isApart = path.startsWith("src/testing/") && !target.startsWith("src/testing/") &&
        floor >= floorOf("ConnectionError") &&
        targetPlace !== "internal/webSocket"
      return isApart ? [`${path}:${line} imports ${target}, which knows connections`] : []
    })
  })
}

const cycles = (sources: ReadonlyArray<Source>): Array<string> => {
  const graph = graphOf(sources)
  const finished = new Set<string>()
  const found: Array<string> = []
  const visit = (path: string, trail: ReadonlyArray<string>): void => {
    const start = trail.indexOf(path)
    if (start >= 0) {
      found.push([...trail.slice(start), path].join(" -> "))
      return
    }
    if (finished.has(path)) return
    for (const target of graph.get(path) ?? []) visit(target, [...trail, path])
    finished.add(path)
  }
  for (const { path } of sources) visit(path, [])
  return found
}

const ambient = [
  /\bDate\s*\.\s*now\b/g,
  /\bnew\s+Date\b/g,
  /(?<![\w$.])(?:(?:globalThis|window|self)\s*\.\s*)?set(?:Timeout|Interval|Immediate)\b/g,
  /\bMath\s*\.\s*random\b/g,
  /\bperformance\s*\.\s*now\b/g
]

/** Time and randomness come from Clock, Schedule and Random, or a simulation could not be repeated. */
const timeAndRandomness = (sources: ReadonlyArray<Source>): Array<string> =>
  sources.flatMap(({ path, text }) => {
    const area = areaOf(path)
    if (area === "node" || area === "cli" || area === "admin") return []
    const code = bare(text)
    return ambient.flatMap((pattern) =>
      Array.from(code.matchAll(pattern), (match) => `${path}:${lineAt(text, match.index)} uses ${match[0]}`)
    )
  })

/** The one module that forks: no other has a fiber whose exit its owner does not see. */
const supervised = "src/internal/scheduling/supervised.ts"

const forking = /\b(?:forkChild|forkScoped|forkIn|forkDetach|forkUnsafe|runFork\w*|runCallback\w*|addObserver)\b/g

const forks = (sources: ReadonlyArray<Source>): Array<string> =>
  sources.flatMap(({ path, text }) => {
    if (path === supervised) return []
    const code = bare(text)
    return Array.from(code.matchAll(forking), (match) => `${path}:${lineAt(text, match.index)} calls ${match[0]}`)
  })

/** The one module that writes log lines of the library: elsewhere a logger that throws would end what goes on there. */
const lineWriter = "src/internal/reasons/logs.ts"

const logging = /\bEffect\s*\.\s*log(?:WithLevel|Fatal|Error|Warning|Info|Debug|Trace)?\(/g

const logCalls = (sources: ReadonlyArray<Source>): Array<string> =>
  sources.flatMap(({ path, text }) => {
    // the command logs with its own logger; the fleet asks for it when it is changed next
    if (path === lineWriter || areaOf(path) === "cli" || path.startsWith("src/internal/fleet/")) return []
    const code = bare(text)
    return Array.from(code.matchAll(logging), (match) => `${path}:${lineAt(text, match.index)} calls ${match[0]}`)
  })

/** The code of a text: its lines that hold more than a comment, as numbers from 0. */
const codeLines = (text: string): Array<number> =>
  bare(text).split("\n").flatMap((line, i) => line.trim() === "" ? [] : [i])

/** Lines of code between two indices of a text, both included. */
const linesBetween = (lines: ReadonlyArray<number>, from: number, to: number): number =>
  lines.filter((line) => line >= from && line <= to).length

/** The longest pair of braces or parentheses of a text, in lines of code, and where it opens. */
const longestBlock = (text: string): { readonly line: number; readonly size: number } => {
  const code = bare(text)
  const lines = codeLines(text)
  const open: Array<number> = []
  let longest = { line: 0, size: 0 }
  let line = 0
  for (const char of code) {
    if (char === "\n") line++
    else if (char === "{" || char === "(") open.push(line)
    else if (char === "}" || char === ")") {
      const from = open.pop()!
      const size = linesBetween(lines, from, line)
      if (size > longest.size) longest = { line: from + 1, size }
    }
  }
  return longest
}

/** Files one can read in a sitting, rooms one can look over. */
const small = (sources: ReadonlyArray<Source>): Array<string> => {
  const rooms = Map.groupBy(
    sources.filter(({ path }) => /^src\/(?:.*\/internal|admin)\//.test(path) || path.startsWith("src/internal/")),
    ({ path }) => posix.dirname(path)
  )
  return [
    ...sources.flatMap(({ path, text }) => {
      const size = codeLines(text).length
      const block = longestBlock(text)
      return [
        ...(size > sizes.file ? [`${path} has ${size} lines of code`] : []),
        ...(block.size > sizes.block ? [`${path}:${block.line} opens a block of ${block.size} lines`] : [])
      ]
    }),
    ...Array.from(rooms).filter(([, { length }]) => length > sizes.room).map((
      [room, { length }]
    ) => `${room} holds ${length} files`)
  ]
}

/** Each file says what is in it, before anything else. */
const introduced = (sources: ReadonlyArray<Source>): Array<string> =>
  sources.filter(({ path, text }) => !/^(?:#!.*\n)?\/\*\*/.test(text) && !path.endsWith("/index.ts")).map(({ path }) =>
    `${path} does not open with what it is`
  )

/** The index exports every noun as a namespace and does nothing else. */
const index = (sources: ReadonlyArray<Source>): Array<string> => {
  const statement = /^export \* as (\w+) from "\.\/(\w+)\.ts"$/
  const text = sources.find(({ path }) => path === "src/index.ts")?.text ?? ""
  const code = bare(text).split("\n")
  const lines = text.split("\n").map((line, i) => code[i].trim() === "" ? "" : line.trim()).filter((line) =>
    line !== ""
  )
  const exported = lines.flatMap((line) => {
    const match = statement.exec(line)
    return match !== null && match[1] === match[2] ? [match[1]] : []
  })
  const nouns = sources.filter(({ path }) => areaOf(path) === "noun").map(({ path }) => nounOf(path))
  return [
    ...lines.filter((line) => {
      const match = statement.exec(line)
      return match === null || match[1] !== match[2]
    }).map((line) => `src/index.ts holds ${line}`),
    ...nouns.filter((noun) => !exported.includes(noun)).map((noun) => `src/index.ts does not export ${noun}`),
    ...exported.filter((noun, i) => exported.indexOf(noun) !== i).map((noun) => `src/index.ts exports ${noun} twice`)
  ]
}

const topLevel = (paths: ReadonlyArray<string>): Array<string> =>
  [...new Set(paths.map((path) => path.split("/")[0]))]
    .filter((name) => !name.startsWith(".") && !topLevelNames.includes(name))
    .map((name) => `${name} may not be at the top level`)

// ---------------------------------------------------------------------------------------------------------------------
// the tests
// ---------------------------------------------------------------------------------------------------------------------

const root = fileURLToPath(new URL("..", import.meta.url))

const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "-z"], {
  cwd: root,
  encoding: "utf8"
}).split("\0").filter((path) => path !== "" && existsSync(root + path))

const tree: ReadonlyArray<Source> = files
  // guides and styles are no code
  .filter((path) =>
    path.startsWith("src/") && !/^src\/(?:guides\/[a-z-]+\.(?:md|png)|admin\/[a-z]+\.(?:html|css|svg))$/.test(path)
  )
  .map((path) => ({ path, text: readFileSync(root + path, "utf8") }))

const planted = (files: Record<string, string>): Array<Source> =>
  Object.entries(files).map(([path, text]) => ({ path: `src/${path}`, text }))

describe("architecture", () => {
  describe("reads imports", () => {
    it("in every form", () => {
      const text = [
        "import * as Effect from \"effect/Effect\"",
        "import type {\n  A,\n  B as C\n} from \"./A.ts\"",
        "import d, { type E } from './D.ts'",
        "import \"./side.ts\"",
        "export * from \"./F.ts\"",
        "export * as G from \"./G.ts\"",
        "export { H } from \"./H.ts\"",
        "const lazy = import(\"./lazy.ts\")",
        "type T = import(\"./T.ts\").T",
        "const computed = import(name)"
      ].join("\n")
      assert.deepStrictEqual(
        imports(text).map(({ specifier }) => specifier).toSorted(),
        [
          "./A.ts",
          "./D.ts",
          "./F.ts",
          "./G.ts",
          "./H.ts",
          "./T.ts",
          "./lazy.ts",
          "./side.ts",
          "effect/Effect",
          undefined
        ]
      )
    })

    it("and not those in comments, strings, templates and regular expressions", () => {
      const text = [
        "// import \"./a.ts\"",
        "/** import * as B from \"./b.ts\" */",
        "const c = \"import './c.ts'\"",
        "const d = `import \"./d.ts\" ${`import \"./e.ts\"`} import \"./f.ts\"`",
        "const g = /[/]import \"g\"/",
        "const h = 4 / 2 // \" unclosed",
        "import \"./real.ts\""
      ].join("\n")
      assert.deepStrictEqual(imports(text), [{ line: 7, specifier: "./real.ts" }])
    })

    it("of every file of src", () => {
      assert.isAbove(tree.length, 0)
      for (const { path, text } of tree) {
        const statements = text.match(/^(?:import\b|export (?:type )?(?:\*|\{[^}]*\} from))/gm) ?? []
        assert.isAtLeast(imports(text).length, statements.length, path)
      }
    })
  })

  describe("every file has its place", () => {
    it("in src", () => assert.deepStrictEqual(placed(tree), []))

    it("or is reported", () =>
      assert.deepStrictEqual(placed(planted({ "Manager.ts": "", "utils/a.ts": "", "Codec.ts": "", "node/a.ts": "" })), [
        "src/Manager.ts is on no floor",
        "src/utils/a.ts is on no floor"
      ]))
  })

  describe("only node and cli need Node", () => {
    it("in src", () => assert.deepStrictEqual(packages(tree), []))

    it("or is reported", () =>
      assert.deepStrictEqual(
        packages(planted({
          "Codec.ts": "import * as M from \"@msgpack/msgpack\"\nimport type { Socket } from \"node:net\"",
          "Server.ts": "import * as N from \"@effect/platform-node/NodeSocketServer\"",
          "internal/a.ts": "import { readFileSync } from \"fs\"",
          "testing/T.ts": "import * as E from \"effect/Effect\"\nimport * as H from \"holdfast\"",
          "node/N.ts": "import \"node:net\"\nimport \"@effect/platform-node/NodeSocket\"\nimport \"ws\"",
          "Policy.ts": "import(name)"
        })),
        [
          "src/Codec.ts:2 may not import node:net",
          "src/Server.ts:1 may not import @effect/platform-node/NodeSocketServer",
          "src/internal/a.ts:1 may not import fs",
          "src/testing/T.ts:2 may not import holdfast",
          "src/node/N.ts:3 may not import ws",
          "src/Policy.ts:1 imports a computed name"
        ]
      ))
  })

  describe("imports go down", () => {
    it("in src", () => assert.deepStrictEqual(downward(tree), []))

    it("or are reported", () =>
      assert.deepStrictEqual(
        downward(planted({
          "index.ts": "export * as Codec from \"./Codec.ts\"\nexport * as n from \"./node/n.ts\"",
          "ConnectionError.ts": "import \"./internal/codec/a.ts\"\nimport \"./internal/bytes/a.ts\"",
          "Codec.ts": "import \"./ConnectionError.ts\"\nimport type * as Policy from \"./Policy.ts\"",
          "Policy.ts": "import \"./Codec.ts\"",
          "Connection.ts":
            "import \"./Codec.ts\"\nimport \"./internal/connection/a.ts\"\nimport \"./Server.ts\"\nimport \"./internal/pool/a.ts\"",
          "Server.ts": "import \"./Connection.ts\"\nimport \"./node/n.ts\"\nimport \"./testing/t.ts\"",
          "internal/bytes/a.ts": "import \"../scheduling/a.ts\"",
          "internal/scheduling/a.ts": "",
          "internal/codec/a.ts": "import \"../bytes/a.ts\"\nimport \"./b.ts\"",
          "internal/codec/b.ts": "import \"./framings/a.ts\"",
          "internal/codec/framings/a.ts": "import \"../a.ts\"",
          "internal/connection/a.ts": "import \"../../Connection.ts\"",
          "internal/pool/a.ts": "",
          "testing/t.ts": "import \"../Codec.ts\"\nimport \"./u.ts\"\nimport \"../internal/bytes/a.ts\"",
          "testing/u.ts": "",
          "node/n.ts": "import \"../Server.ts\"\nimport \"../cli/main.ts\"",
          "cli/main.ts": "import \"../node/n.ts\"\nimport \"../../test/x.ts\"\nimport \"./gone.ts\""
        })),
        [
          "src/index.ts:2 imports src/node/n.ts, which is not below it",
          "src/ConnectionError.ts:1 imports src/internal/codec/a.ts, which is not below it",
          "src/Policy.ts:1 imports src/Codec.ts, which is not below it",
          "src/Connection.ts:3 imports src/Server.ts, which is not below it",
          "src/Connection.ts:4 imports src/internal/pool/a.ts, which is not below it",
          "src/Server.ts:2 imports src/node/n.ts, which is not below it",
          "src/Server.ts:3 imports src/testing/t.ts, which is not below it",
          "src/internal/bytes/a.ts:1 imports src/internal/scheduling/a.ts, which is not below it",
          "src/internal/codec/b.ts:1 imports src/internal/codec/framings/a.ts, which is not below it",
          "src/internal/connection/a.ts:1 imports src/Connection.ts, which is not below it",
          "src/testing/t.ts:1 imports src/Codec.ts, which knows connections",
          "src/node/n.ts:2 imports src/cli/main.ts, which is not below it",
          "src/cli/main.ts:2 imports test/x.ts, not a file of src",
          "src/cli/main.ts:3 imports src/cli/gone.ts, not a file of src"
        ]
      ))
  })

  describe("no import goes in a circle", () => {
    it("in src", () => assert.deepStrictEqual(cycles(tree), []))

    it("or is reported", () => {
      assert.deepStrictEqual(
        cycles(planted({
          "internal/a.ts": "import \"./b.ts\"",
          "internal/b.ts": "import type { C } from \"./c.ts\"",
          "internal/c.ts": "import \"./b.ts\"",
          "internal/d.ts": "import \"./a.ts\"\nimport \"./c.ts\""
        })),
        ["src/internal/b.ts -> src/internal/c.ts -> src/internal/b.ts"]
      )
      assert.deepStrictEqual(cycles(planted({ "Codec.ts": "import \"./Codec.ts\"" })), ["src/Codec.ts -> src/Codec.ts"])
    })
  })

  describe("time and randomness come from Effect", () => {
    it("in src", () => assert.deepStrictEqual(timeAndRandomness(tree), []))

    it("or are reported", () => {
      const text = [
        "// Date.now() and setTimeout in a comment",
        "const words = \"Math.random\"",
        "const a = `at ${Date.now()}`",
        "const b = new Date(0)",
        "setTimeout(f, 1)",
        "globalThis.setInterval(f, 1)",
        "setImmediate(f)",
        "const c = Math.random()",
        "const d = performance.now()",
        "socket.setTimeout(0)",
        "const e = update.now()"
      ].join("\n")
      assert.deepStrictEqual(timeAndRandomness(planted({ "testing/T.ts": text })).toSorted(), [
        "src/testing/T.ts:3 uses Date.now",
        "src/testing/T.ts:4 uses new Date",
        "src/testing/T.ts:5 uses setTimeout",
        "src/testing/T.ts:6 uses globalThis.setInterval",
        "src/testing/T.ts:7 uses setImmediate",
        "src/testing/T.ts:8 uses Math.random",
        "src/testing/T.ts:9 uses performance.now"
      ])
      assert.deepStrictEqual(timeAndRandomness(planted({ "node/N.ts": text, "cli/main.ts": text })), [])
    })
  })

  describe("one module writes log lines", () => {
    it("in src", () => assert.deepStrictEqual(logCalls(tree), []))

    it("or is reported", () => {
      const text =
        "// Effect.logError(a)\nEffect.logWarning(a)\nEffect.log(b)\nlogLine(\"Info\", \"Effect.logInfo(c)\")"
      assert.deepStrictEqual(logCalls(planted({ "Server.ts": text, "internal/reasons/logs.ts": text })), [
        "src/Server.ts:2 calls Effect.logWarning(",
        "src/Server.ts:3 calls Effect.log("
      ])
    })
  })

  describe("only the supervised module forks", () => {
    it("in src", () => assert.deepStrictEqual(forks(tree), []))

    it("or is reported", () => {
      const text = [
        "// Effect.forkChild in a comment",
        "const fiber = yield* Effect.forkIn(effect, scope)",
        "Effect.runForkWith(context)(effect)",
        "fiber.addObserver(told)",
        "const forked = Supervised.spawn(context, \"forkScoped\", effect, told)"
      ].join("\n")
      assert.deepStrictEqual(forks(planted({ "Server.ts": text, "internal/scheduling/supervised.ts": text })), [
        "src/Server.ts:2 calls forkIn",
        "src/Server.ts:3 calls runForkWith",
        "src/Server.ts:4 calls addObserver"
      ])
    })
  })

  describe("files are read in a sitting", () => {
    it("in src", () => assert.deepStrictEqual(small(tree), []))

    it("or are reported", () => {
      const line = "const a = \"{\" // }\n"
      assert.deepStrictEqual(
        small(planted({
          "Codec.ts": line.repeat(300) + "// a comment\n\n/** another */",
          "Policy.ts": line.repeat(301),
          "Server.ts": `const run = () => {\n${line.repeat(198)}}\n`,
          "Client.ts": `\n\nconst make = () => {\n${line.repeat(199)}}\n`,
          ...Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`internal/pool/${i}.ts`, ""])),
          ...Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`internal/codec/${i}.ts`, ""])),
          ...Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`cli/${i}.ts`, ""]))
        })),
        [
          "src/Policy.ts has 301 lines of code",
          "src/Client.ts:3 opens a block of 201 lines",
          "src/internal/pool holds 10 files"
        ]
      )
    })
  })

  describe("files say what they are", () => {
    it("in src", () => assert.deepStrictEqual(introduced(tree), []))

    it("or are reported", () =>
      assert.deepStrictEqual(
        introduced(planted({
          "Codec.ts": "/** Codecs. */\n",
          "Policy.ts": "import \"./Codec.ts\"\n/** Late. */",
          "node/index.ts": "",
          "cli/main.ts": "#!/usr/bin/env node\n/** The command. */"
        })),
        ["src/Policy.ts does not open with what it is"]
      ))
  })

  describe("the index is the list of nouns", () => {
    it("in src", () => assert.deepStrictEqual(index(tree), []))

    it("or is reported", () =>
      assert.deepStrictEqual(
        index(planted({
          "index.ts": [
            "/**",
            " * Codecs.",
            " */",
            "export * as Codec from \"./Codec.ts\"",
            "export * as Codec from \"./Codec.ts\" // again",
            "export * as Codec from \"./Codec.ts\"",
            "export * as Limits from \"./Policy.ts\"",
            "export const version = 1"
          ].join("\n"),
          "Codec.ts": "",
          "Policy.ts": "",
          "internal/a.ts": ""
        })),
        [
          "src/index.ts holds export * as Codec from \"./Codec.ts\" // again",
          "src/index.ts holds export * as Limits from \"./Policy.ts\"",
          "src/index.ts holds export const version = 1",
          "src/index.ts does not export Policy",
          "src/index.ts exports Codec twice"
        ]
      ))
  })

  describe("the top level stays small", () => {
    it("in the repository", () => assert.deepStrictEqual(topLevel(files), []))

    it("or is reported", () =>
      assert.deepStrictEqual(topLevel(["src/a.ts", ".ci/run", "README.md", "docs/a.md", "bench.ts", "docs/b.md"]), [
        "docs may not be at the top level",
        "bench.ts may not be at the top level"
      ]))
  })
})

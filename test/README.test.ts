import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { connect, createServer } from "node:net"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { ConnectionError, ConnectionPool, Policy } from "../src/index.ts"
import { nativeCode, rowOf } from "../src/internal/reasons/reason.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const readme = readFileSync(join(root, "README.md"), "utf8")

/** The guides, by their paths. */
const guides: ReadonlyMap<string, string> = new Map(
  readdirSync(join(root, "src/guides")).map((name) => [
    `src/guides/${name}`,
    readFileSync(join(root, "src/guides", name), "utf8")
  ])
)

/** The pages of the examples, by their paths. */
const examplePages: ReadonlyMap<string, string> = new Map(
  readdirSync(join(root, "test/examples"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(root, "test/examples", entry.name, "main.ts")))
    .map(({ name }) => [
      `test/examples/${name}/README.md`,
      readFileSync(join(root, "test/examples", name, "README.md"), "utf8")
    ])
)
const pages: ReadonlyMap<string, string> = new Map([["README.md", readme], ...guides, ...examplePages])

interface Block {
  readonly info: string
  readonly code: string
}
const blocks = (text: string): ReadonlyArray<Block> =>
  Array.from(text.matchAll(/^```(ts[^\n]*)\n([\s\S]*?)^```/gm), ([, info, code]) => ({ info: info!, code: code! }))

const echo = "declare const echo: (socket: Socket.Socket) => Effect.Effect<void, Socket.SocketError>\n"

/** Examples in doc comments say only what matters; this is what surrounds them. */
const prelude = `import { Effect, Schema, Stream, Schedule, Duration } from "effect"
import type { Socket } from "effect/socket"
import { Codec, Connection, ConnectionError, Heartbeat, Policy, Registry, Server } from "holdfast"
import { Chaos, Simulation, TestNetwork } from "holdfast/testing"
declare const socket: Socket.Socket
`
const sources = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))

const docBlocks = (text: string): ReadonlyArray<Block> =>
  Array.from(text.matchAll(/\/\*\*[\s\S]*?\*\//g), ([comment]) => comment.replace(/^ \* ?/gm, "")).flatMap(blocks)

/** Type checks files as a user of the package would write them, and returns the compiler's complaints. */
const complaints = (files: ReadonlyMap<string, string>): string => {
  mkdirSync(join(root, "test/examples"), { recursive: true })
  const folder = mkdtempSync(join(root, "test/examples/.check-"))
  try {
    for (const [name, code] of files) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), code)
    }
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({
        extends: "../../../tsconfig.json",
        compilerOptions: { noUnusedLocals: false, noUnusedParameters: false },
        include: ["./**/*.ts"]
      })
    )
    execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", folder], {
      encoding: "utf8",
      stdio: "pipe"
    })
    return ""
  } catch (error) {
    return (error as { readonly stdout?: string }).stdout ?? String(error)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

describe("examples", () => {
  // one run of the compiler for both: the complaints about the wrong example, and all others
  let wrong = ""
  let others = ""
  let count = 0

  beforeAll(() => {
    const files = new Map<string, string>()
    for (const [path, text] of pages) {
      blocks(text).forEach(({ code }, i) => files.set(`${path.replaceAll("/", "-")}-${i}.ts`, code))
    }
    for (const file of sources(join(root, "src"))) {
      docBlocks(readFileSync(join(root, "src", file), "utf8")).forEach(({ code }, i) => {
        files.set(
          `${file.replaceAll("/", "-")}-${i}.ts`,
          (code.includes("from \"holdfast") ? "" : prelude + (code.includes("const echo =") ? "" : echo)) + code +
            "\nexport {}\n"
        )
      })
    }
    count = files.size
    files.set("wrong.ts", prelude + "Connection.make({ codec: 1 })")
    // an error may go on in lines that are indented
    for (const complaint of complaints(files).split(/\n(?=\S)/)) {
      if (/\/wrong\.ts\(/.test(complaint)) wrong += `${complaint}\n`
      else others += complaint
    }
  }, 180_000)

  it("every example in the README, in the guides and in the sources' docs compiles", () => {
    assert.isAbove(count, 4)
    assert.strictEqual(others.trim(), "")
  })

  it("a wrong example would be found", () => assert.include(wrong, "error TS"))

  /** What evaluating programs says, but for those that run for ever, and for tests. */
  const evaluated = (programs: ReadonlyArray<string>): string => {
    const folder = mkdtempSync(join(root, "test/examples/.import-"))
    try {
      const apart = programs.filter((code) => !/\.runMain|vitest"/.test(code))
      apart.forEach((code, i) => writeFileSync(join(folder, `${i}.ts`), code))
      const main = join(folder, "main.ts")
      writeFileSync(
        main,
        apart.map((_, i) => `import "./${i}.ts"`).join("\n") + `\nconsole.log("${apart.length} done")`
      )
      return execFileSync(process.execPath, ["--conditions=holdfast-source", main], { encoding: "utf8", stdio: "pipe" })
    } catch (error) {
      return String((error as { readonly stderr?: string }).stderr ?? error)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  it("the policies, codecs and programs of the README and of the guides are made without an error", () => {
    const programs = Array.from(pages.values(), (text) => blocks(text).map(({ code }) => code)).flat()
    assert.match(evaluated(programs), /^\d\d done\n$/)
    const wrong = "import { Policy } from \"holdfast\"\nPolicy.make({ maxFrame: 10, outboxBytes: 5 })"
    assert.include(evaluated([wrong]), "outboxBytes")
  })

  /** Runs a program that listens on port 7000, on another port, while `talk` does. It has to stop on SIGTERM. */
  const serving = async (
    program: string,
    talk: (port: number, start: (program: string) => ChildProcess) => Promise<unknown>
  ): Promise<void> => {
    const port = await new Promise<number>((resolve) => {
      const probe = createServer().listen(0, "127.0.0.1", () => {
        const { port } = probe.address() as { readonly port: number }
        probe.close(() => resolve(port))
      })
    })
    const folder = mkdtempSync(join(root, "test/examples/.run-"))
    const children: Array<ChildProcess> = []
    const start = (program: string): ChildProcess => {
      const path = join(folder, `program-${children.length}.ts`)
      writeFileSync(path, program.replaceAll("7000", String(port)))
      const child = spawn(process.execPath, ["--conditions=holdfast-source", path], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      children.push(child)
      return child
    }
    const exited = once(start(program), "exit")
    try {
      await talk(port, start)
      children[0]!.kill("SIGTERM")
      await exited
    } finally {
      for (const child of children) child.kill("SIGKILL")
      rmSync(folder, { recursive: true, force: true })
    }
  }

  it(
    "the ten-line server of the README runs, echoes, and stops on SIGTERM",
    () =>
      serving(blocks(readme).find(({ info }) => info === "ts run")!.code, async (port) => {
        // refused until it listens
        const socket = await new Promise<ReturnType<typeof connect>>((resolve, reject) => {
          const deadline = performance.now() + 15_000
          const attempt = () => {
            const socket = connect(port, "127.0.0.1", () => resolve(socket))
            socket.once("error", (error) => performance.now() > deadline ? reject(error) : setTimeout(attempt, 20))
          }
          attempt()
        })
        socket.write("hello\n")
        assert.strictEqual(String((await once(socket, "data"))[0]), "hello\n")
        // the server closes it when it stops
        socket.resume()
      }),
    30_000
  )

  it("the server and the client of the guide for the start run, and the client prints the answer", () => {
    const [server, client] = ["ts run", "ts run-client"].map((wanted) =>
      blocks(guides.get("src/guides/getting-started.md")!).find(({ info }) => info === wanted)!.code
    )
    return serving(server!, async (_, start) => {
      const child = start(client!)
      let printed = ""
      child.stdout!.setEncoding("utf8").on("data", (text: string) => printed += text)
      const [code] = await once(child, "close")
      assert.deepStrictEqual([printed, code], ["hello\n", 0])
    })
  }, 30_000)
})

/** A page without its code. */
const prose = (text: string): string => text.replaceAll(/^```[\s\S]*?^```/gm, "")

/** The anchors of a page, as GitHub makes them of its headings. */
const anchors = (text: string): ReadonlyArray<string> =>
  Array.from(
    prose(text).matchAll(/^#+ (.+)$/gm),
    ([, heading]) => heading!.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-")
  )

const links = (text: string): ReadonlyArray<string> =>
  Array.from(prose(text).matchAll(/\]\(([^)\s]+)\)/g), ([, target]) => target!)

/** The links of a page that lead nowhere. */
const deadLinks = (path: string, text: string): ReadonlyArray<string> =>
  links(text).filter((target) => {
    if (/^https?:/.test(target)) return false
    const [file, anchor] = target.split("#")
    const there = file === "" ? path : join(dirname(path), file!)
    if (!existsSync(join(root, there))) return true
    return anchor !== undefined && !anchors(there === path ? text : pages.get(there) ?? "").includes(anchor)
  })

describe("guides", () => {
  it("every link leads to a file, and to a heading of it", () => {
    for (const [path, text] of pages) assert.deepStrictEqual(deadLinks(path, text), [], path)
  })

  it("a link that leads nowhere would be found", () =>
    assert.deepStrictEqual(
      deadLinks(
        "README.md",
        "# Here\n[a](#here) [b](#there) [c](src/Policy.ts) [d](src/none.md) [e](https://x.example)"
      ),
      ["#there", "src/none.md"]
    ))

  it("the README has a link to each of them, and to the page of each example", () =>
    assert.includeMembers([...links(readme)], [...guides.keys(), ...examplePages.keys()]))

  it("the package has them where the README says", () => {
    const { files } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly files: Array<string> }
    assert.include(files, "src/guides")
  })
})

type Limits = Readonly<Record<string, unknown>>

/** What a page says of a limit, as data: "1 MiB" is 1048576. By itself it may contradict others, and is then left as it is. */
const meaning = (module: typeof Policy | typeof ConnectionPool, field: string, said: string): unknown => {
  const value = said === "off" ? 0 : /^\d+$/.test(said) ? Number(said) : said
  const decoded = module.decode({ [field]: value }) as Effect.Effect<never, unknown>
  return Effect.runSync(Effect.match(decoded, {
    onFailure: () => value,
    onSuccess: (limits) => (module.encode(limits) as Limits)[field]
  }))
}

/** What a page says of defaults, as in "`silence` (default 1m)", that is not so. */
const wrongDefaults = (text: string): ReadonlyArray<string> =>
  Array.from(text.matchAll(/`(\w+)`,?\s+\((pool )?default\s+`?([^)`]+)`?\)/g)).flatMap(([whole, field, pool, said]) => {
    const module = pool === undefined ? Policy : ConnectionPool
    const real = (module.encode(module.defaults as never) as Limits)[field!]
    return String(meaning(module, field!, said!)) === String(real) ? [] : [whole]
  })

const presets: Readonly<Record<string, Policy.Policy>> = {
  defaults: Policy.defaults,
  lan: Policy.lan,
  mobile: Policy.mobile,
  realtime: Policy.realtime
}

/** What a table of presets says that is not so: rows "| `Policy.lan` | 5s |" under a head of fields. */
const wrongPresets = (text: string): ReadonlyArray<string> =>
  Array.from(text.matchAll(/^\| preset \|(.+)\|\n\|[-|]+\n((?:\| `Policy\..+\n)+)/gm)).flatMap(([, head, rows]) => {
    const fields = head!.split("|").map((cell) => /`(\w+)`/.exec(cell)?.[1])
    return rows!.trim().split("\n").flatMap((row) => {
      const [, name, cells] = /^\| `Policy\.(\w+)` \|(.+)\|$/.exec(row)!
      const real: Limits = Policy.encode(presets[name!]!)
      const wrong = cells!.split("|").map((cell) => cell.trim()).filter((cell, i) => {
        const field = fields[i]
        return field !== undefined && String(meaning(Policy, field, cell)) !== String(real[field])
      })
      return wrong.map((cell) => `${name}: ${cell}`)
    })
  })

describe("numbers", () => {
  it("a preset is what its row says", () => {
    for (const [path, text] of pages) assert.deepStrictEqual(wrongPresets(text), [], path)
  })

  it("a wrong row would be found", () =>
    assert.deepStrictEqual(
      wrongPresets(
        "| preset | `pong` | for |\n|---|---|---|\n| `Policy.lan` | 5s | x |\n| `Policy.mobile` | off | y |\n"
      ),
      ["mobile: off"]
    ))

  it("a default that a page states is the real one", () => {
    for (const [path, text] of pages) assert.deepStrictEqual(wrongDefaults(text), [], path)
  })

  it("a wrong one would be found", () =>
    assert.deepStrictEqual(
      wrongDefaults("`silence` (default 1m) `silence` (default 2m) `maxFrame` (default 1 MiB) `max` (pool default 9)"),
      ["`silence` (default 2m)", "`max` (pool default 9)"]
    ))
})

describe("reasons", () => {
  /** The rows of tables of reasons: again, the code of WebSocket, that of the native protocol. */
  const rowsOf = (text: string): ReadonlyMap<string, string> =>
    new Map(
      Array.from(text.matchAll(/^\| `([A-Z]\w+)` \| ([^|]+ \| [^|]+ \| [^|]+) \| [^|]+ \| [^|]+ \|$/gm), (row) => [
        row[1]!,
        row[2]!
      ])
    )

  it("the guide for trouble has each of them, with its codes", () => {
    const expected = new Map(ConnectionError.Reason.members.map(({ name: _tag }) => {
      const { native, retry, webSocket } = rowOf({ _tag }).codes
      const again = typeof retry === "function" ? "depends" : retry ? "yes" : "no"
      // a peer hears of those that end a connection with a code of their own
      const codes = webSocket === undefined ? ["-", "-"] : [
        typeof webSocket === "function" ? "depends" : webSocket,
        typeof native === "function" ? "depends" : nativeCode({ _tag })
      ]
      return [_tag, [again, ...codes].join(" | ")]
    }))
    assert.deepStrictEqual(rowsOf(guides.get("src/guides/troubleshooting.md")!), expected)
  })
})

describe("README", () => {
  it("the table of policies is complete, and states the real defaults", () => {
    const rows = new Map(
      Array.from(
        guides.get("src/guides/limits.md")!.matchAll(/^\| `(\w+)` \| ([^|]+?) \| [^|]+ \|$/gm),
        ([, field, value]) => [field!, value!]
      )
    )
    for (const [field, value] of Object.entries(Policy.encode(Policy.defaults))) {
      assert.strictEqual(rows.get(field), String(value), field)
    }
    assert.sameMembers([...rows.keys()], Object.keys(Policy.defaults))
  })

  it("its first screen has the two commands and the server", () => {
    const screen = readme.split("\n").slice(0, 40).join("\n")
    for (const part of ["npm ci && npm start", "npm ci && npm test", "Server.run({"]) assert.include(screen, part)
  })
})

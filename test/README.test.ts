import { assert, beforeAll, describe, it } from "@effect/vitest"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { connect, createServer } from "node:net"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Policy } from "../src/index.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const readme = readFileSync(join(root, "README.md"), "utf8")

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
    execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", folder], { encoding: "utf8", stdio: "pipe" })
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
    blocks(readme).forEach(({ code }, i) => files.set(`readme-${i}.ts`, code))
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

  it("every example in the README and in the sources' docs compiles", () => {
    assert.isAbove(count, 4)
    assert.strictEqual(others.trim(), "")
  })

  it("a wrong example would be found", () => assert.include(wrong, "error TS"))

  it("the ten-line server of the README runs, echoes, and stops on SIGTERM", async () => {
    const server = blocks(readme).find(({ info }) => info === "ts run")!.code
    const port = await new Promise<number>((resolve) => {
      const probe = createServer().listen(0, "127.0.0.1", () => {
        const { port } = probe.address() as { readonly port: number }
        probe.close(() => resolve(port))
      })
    })
    const folder = mkdtempSync(join(root, "test/examples/.run-"))
    const child =
      (writeFileSync(join(folder, "server.ts"), server.replaceAll("7000", String(port))),
        spawn(process.execPath, ["--conditions=holdfast-source", join(folder, "server.ts")], { stdio: "inherit" }))
    const exited = once(child, "exit")
    try {
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
      child.kill("SIGTERM")
      await once(socket, "close")
      await exited
    } finally {
      child.kill("SIGKILL")
      rmSync(folder, { recursive: true, force: true })
    }
  }, 30_000)
})

describe("README", () => {
  it("its table of policies is complete, and states the real defaults", () => {
    const rows = new Map(
      Array.from(readme.matchAll(/^\| `(\w+)` \| ([^|]+?) \| [^|]+ \|$/gm), ([, field, value]) => [field!, value!])
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

/** The servers that are compared, and how to start each. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Family } from "./load/wires.ts"
import type { Started } from "./support/processes.ts"
import { startNode, startProgram } from "./support/processes.ts"

export interface ServerKind {
  readonly name: string
  readonly family: Family
  /** Whether it runs under Node with our attendant in it, so that its heap can be asked for. */
  readonly node: boolean
  readonly about: string
  readonly start: (profile?: string) => Promise<Started>
}

const script = (name: string) => new URL(`./servers/${name}.ts`, import.meta.url)

const node = (
  name: string,
  family: Family,
  file: string | URL,
  args: ReadonlyArray<string>,
  about: string,
  env?: Readonly<Record<string, string>>
): ServerKind => ({
  name,
  family,
  node: true,
  about,
  start: (profile) => startNode(file, args, { title: name, listens: true, profile, env })
})

let built: string | undefined

/** Builds the Go server once; tells why not where that is impossible. */
const buildGo = (): { readonly path: string } | { readonly why: string } => {
  if (built !== undefined) return { path: built }
  const directory = mkdtempSync(join(tmpdir(), "holdfast-bench-"))
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, "echo")
  const { error, status, stderr } = spawnSync("go", ["build", "-o", path, "."], {
    cwd: fileURLToPath(new URL("./go", import.meta.url)),
    encoding: "utf8"
  })
  if (error !== undefined) return { why: "there is no Go toolchain here (apt-get install golang-go)" }
  if (status !== 0) return { why: `go build failed: ${stderr.trim()}` }
  built = path
  return { path }
}

/** Why a server cannot be measured here, or `undefined`. */
export const missing = ({ name }: ServerKind): string | undefined => {
  if (name !== "go") return undefined
  const go = buildGo()
  return "why" in go ? go.why : undefined
}

const tcp = "tcp://127.0.0.1:0"

export const servers: ReadonlyArray<ServerKind> = [
  node("raw", "frames", script("raw"), [], "node:net by hand, one write a read: the floor"),
  node("effect", "frames", script("effect"), [], "Effect's NodeSocketServer, the same framing by hand, nothing else"),
  node("holdfast", "frames", script("holdfast"), [tcp, "message"], "Holdfast, everything on, one message at a time"),
  node(
    "holdfast-fibers",
    "frames",
    script("holdfast"),
    [tcp, "message"],
    "the same without short cuts: every read and write by the fibers of the connection",
    { HOLDFAST_SHORT_CUTS: "off" }
  ),
  node(
    "holdfast-metrics",
    "frames",
    script("holdfast"),
    [tcp, "message"],
    "the same as holdfast with metrics on, read once a second",
    { HOLDFAST_BENCH_METRICS: "on" }
  ),
  node(
    "holdfast-batch",
    "frames",
    script("holdfast"),
    [tcp, "batch"],
    "Holdfast, everything on, receiveAll and sendAll"
  ),
  node(
    "serve",
    "frames",
    fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url)),
    [
      // between its turns a server hears nothing, and frames have no heartbeat to ask with
      ..."serve --protocol frames --max-connections 25000 --silence 10m --log-level error --no-admin --listen".split(
        " "
      ),
      tcp
    ],
    "holdfast serve --protocol frames"
  ),
  {
    name: "go",
    family: "frames",
    node: false,
    about: "Go: two goroutines a connection, deadline, ticker, mutex and map, one write a message",
    start: () => {
      const go = buildGo()
      return "why" in go ? Promise.reject(new Error(go.why)) : startProgram(go.path, "go")
    }
  },
  node("ws", "messages", script("ws"), [], "ws with a ping timer by hand"),
  node("socket.io", "events", script("socketIo"), [], "socket.io over WebSocket, text events"),
  node(
    "holdfast-ws",
    "messages",
    script("holdfast"),
    ["ws://127.0.0.1:0/", "message"],
    "Holdfast over WebSocket, everything on, one message at a time"
  )
]

/** Holdfast as it is in another checkout, which needs its own `node_modules`: old and new code in one run. */
export const beside = (checkout: string): ServerKind =>
  node(
    "beside",
    "frames",
    join(checkout, "test/bench/servers/holdfast.ts"),
    [tcp, "message"],
    `Holdfast of ${checkout}`
  )

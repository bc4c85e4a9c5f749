/** The servers that are compared, and how to start each. */
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Family } from "./load/wires.ts"
import { attended, source } from "./support/bundled.ts"
import type { Started } from "./support/processes.ts"
import { startNode, startProgram } from "./support/processes.ts"
import { bun, c, go, type Program } from "./support/programs.ts"

export interface ServerKind {
  readonly name: string
  readonly family: Family
  /** Whether it runs under Node with our attendant in it, so that its heap can be asked for. */
  readonly node: boolean
  readonly about: string
  readonly start: (profile?: string) => Promise<Started>
  /** Why it cannot be measured here, or `undefined`; builds what has to be built. */
  readonly missing?: () => Promise<string | undefined>
}

const script = (name: string) => fileURLToPath(new URL(`./servers/${name}.ts`, import.meta.url))

const node = (
  name: string,
  family: Family,
  file: string | (() => Promise<string>),
  args: ReadonlyArray<string>,
  about: string,
  env?: Readonly<Record<string, string>>
): ServerKind => ({
  name,
  family,
  node: true,
  about,
  start: async (profile) => {
    const path = typeof file === "string" ? await source(file, profile) : await file()
    return startNode(path, args, { title: name, listens: true, profile, env })
  }
})

const program = (name: string, { args = [], find }: Program, about: string): ServerKind => ({
  name,
  family: "frames",
  node: false,
  about,
  missing: async () => {
    const found = await find()
    return "why" in found ? found.why : undefined
  },
  start: async () => {
    const found = await find()
    if ("why" in found) throw new Error(found.why)
    return startProgram(found.path, name, args)
  }
})

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
    attended,
    [
      // between its turns a server hears nothing, and frames have no heartbeat to ask with
      ..."serve --protocol frames --max-connections 25000 --silence 10m --log-level error --no-admin --listen".split(
        " "
      ),
      tcp
    ],
    "holdfast serve --protocol frames"
  ),
  program("go", go, "Go: two goroutines a connection, deadline, ticker, mutex and map, one write a message"),
  program("c", c, "C with epoll, one write a read: what the kernel leaves"),
  program("bun", bun, "Bun's own sockets by hand, one write a read"),
  node("ws", "messages", script("ws"), [], "ws with a ping timer by hand"),
  node("socket.io", "events", script("socketIo"), [], "socket.io over WebSocket, text events"),
  node(
    "holdfast-ws",
    "messages",
    script("holdfast"),
    ["ws://127.0.0.1:0/", "message"],
    "Holdfast over WebSocket, everything on, one message at a time"
  ),
  node("effect-rpc", "calls", script("rpc"), ["effect"], "Effect's RPC by its own socket protocol, NDJSON"),
  node("holdfast-rpc", "calls", script("rpc"), ["holdfast"], "Effect's RPC by holdfast/rpc, heartbeat and bounds on")
]

/** What is not beside them, and why. */
export const absent =
  "uWebSockets.js is not measured: it is no package of the npm registry (its authors publish it on GitHub only)"

/** Holdfast as it is in another checkout, which needs its own `node_modules`: old and new code in one run. */
export const beside = (checkout: string): ServerKind =>
  node(
    "beside",
    "frames",
    join(checkout, "test/bench/servers/holdfast.ts"),
    [tcp, "message"],
    `Holdfast of ${checkout}`
  )

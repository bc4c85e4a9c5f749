/** The stop of a server in a process of its own, by a signal of the kernel. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { Client, Codec, ConnectionError, Protocol, Request } from "../../src/index.ts"
import { Dialer } from "../../src/node/index.ts"
import { isLong, long } from "../support/often.ts"
import { onLinux, portOf, until } from "./fixtures/kit.ts"

interface Served {
  readonly pid: number
  readonly port: number
  exit: number | undefined
}

/** Starts the server of the fixture, listening where it is told, or on descriptor 3. */
const serve = (
  url: string,
  protocol: "lines" | "native",
  options: { readonly drain?: number; readonly listening?: Net.Server | undefined } = {}
) =>
  Effect.acquireRelease(
    Effect.gen(function*() {
      const { drain = 5000, listening } = options
      const file = fileURLToPath(new URL("fixtures/stopping.ts", import.meta.url))
      const handle = (listening as unknown as { readonly _handle: { readonly fd: number } } | undefined)?._handle
      const args = ["--conditions=holdfast-source", file, url, protocol, String(drain)]
      const child = ChildProcess.spawn(process.execPath, handle === undefined ? args : [...args, "3"], {
        stdio: ["ignore", "pipe", "inherit", ...(handle === undefined ? [] : [handle.fd])],
        env: { ...process.env, NODE_OPTIONS: "" }
      })
      let text = ""
      let code: number | undefined
      child.stdout!.on("data", (chunk) => text += chunk)
      child.on("exit", (status) => code = status ?? -1)
      yield* until("it listens", () => text.includes("\n") || code !== undefined, 20_000)
      const served: Served = {
        pid: child.pid!,
        port: portOf({ url: text.trim().replace("listening ", "") }),
        get exit() {
          return code
        }
      }
      return { served, child }
    }),
    ({ child }) => Effect.sync(() => child.exitCode === null && child.kill("SIGKILL"))
  ).pipe(Effect.map(({ served }) => served))

/** What one raw client sees. */
interface Peer {
  readonly conn: Net.Socket
  text: string
  connected: boolean
  ended: boolean
}

const peer = (port: number, onConnect?: (conn: Net.Socket) => void): Peer => {
  const conn = Net.connect({ host: "127.0.0.1", port })
  const self: Peer = { conn, text: "", connected: false, ended: false }
  conn.on("connect", () => {
    self.connected = true
    onConnect?.(conn)
  })
  conn.on("data", (chunk) => self.text += chunk.toString())
  conn.on("close", () => self.ended = true)
  conn.on("error", () => {})
  return self
}

const destroyed = (peers: ReadonlyArray<Peer>) =>
  Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const { conn } of peers) conn.destroy()
    })
  )

describe("teardown", () => {
  it.live(
    "0 when the drain was in time, 1 when it was cut short, and 130 at a second Ctrl-C",
    () =>
      Effect.gen(function*() {
        const [inTime, cut, twice] = yield* Effect.all([
          serve("tcp://127.0.0.1:0", "lines"),
          serve("tcp://127.0.0.1:0", "lines", { drain: 200 }),
          serve("tcp://127.0.0.1:0", "lines", { drain: 30_000 })
        ], { concurrency: "unbounded" })
        const peers = [inTime, cut, twice].map(({ port }) => peer(port, (conn) => conn.write("hello\n")))
        yield* destroyed(peers)
        yield* until("they are served", () => peers.every(({ text }) => text === "hello\n"), 10_000)
        for (const { conn } of peers.slice(1)) conn.write("never\n")
        yield* Effect.sleep(50)
        for (const { pid } of [inTime, cut, twice]) process.kill(pid, "SIGINT")
        yield* until("two have ended", () => inTime.exit !== undefined && cut.exit !== undefined, 10_000)
        assert.deepStrictEqual([inTime.exit, cut.exit, twice.exit], [0, 1, undefined])
        yield* Effect.sleep(300)
        process.kill(twice.pid, "SIGINT")
        yield* until("the third has ended", () => twice.exit !== undefined)
        assert.strictEqual(twice.exit, 130)
      }),
    60_000
  )
})

describe("a busy server", () => {
  it.live.runIf(isLong && onLinux)(
    "B107 5,000 requests in flight, 1,000 of them in the accept queue: all are answered after SIGTERM, and it exits with 0",
    () =>
      Effect.gen(function*() {
        const server = yield* serve("tcp://127.0.0.1:0", "lines", { drain: 15_000 })
        const peers: Array<Peer> = []
        yield* destroyed(peers)
        for (let i = 0; i < 4000; i++) {
          peers.push(peer(server.port))
          if (i % 250 === 249) yield* until("they are there", () => peers.every(({ connected }) => connected))
        }
        const blocker = peer(server.port, (conn) => conn.write("block\n"))
        yield* destroyed([blocker])
        yield* until("the blocker is there", () => blocker.connected)
        yield* Effect.sleep(20)
        peers.forEach(({ conn }, i) => conn.write(`request ${i}\n`))
        for (let i = 4000; i < 5000; i++) peers.push(peer(server.port, (conn) => conn.write(`request ${i}\n`)))
        yield* until("all are there", () => peers.every(({ connected }) => connected))
        process.kill(server.pid, "SIGTERM")
        yield* until("the server has ended", () => server.exit !== undefined, 20_000)
        yield* until("all have ended", () => peers.every(({ ended }) => ended))
        const unanswered = peers.filter(({ text }, i) => text !== `request ${i}\n`).length
        assert.deepStrictEqual([unanswered, server.exit], [0, 0])
      }),
    long(60_000)
  )
})

describe("a rolling restart on one port", () => {
  it.live.runIf(isLong && onLinux)(
    "B111 200 native clients with requests: none is lost or unknown, and hardly any needs a second attempt",
    () =>
      Effect.gen(function*() {
        // the supervisor, which keeps the listening socket, and accepts nothing itself
        const supervisor = yield* Effect.acquireRelease(
          Effect.callback<Net.Server>((resume) => {
            const server = Net.createServer()
            server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        void supervisor
      }),
    long(90_000)
  )
})
void [Fiber, Stream, Client, Codec, ConnectionError, Protocol, Request, Dialer]

/** The stop of a server in a process of its own, by a signal of the kernel. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { Client, Codec, Protocol } from "../../src/index.ts"
import { Dialer } from "../../src/node/index.ts"
import { isLong, long } from "../support/often.ts"
import { onLinux, portOf, until } from "./fixtures/kit.ts"

interface Served {
  readonly pid: number
  readonly port: number
  readonly exit: number | undefined
  /** Waits until it listens. */
  readonly go: Effect.Effect<void>
}

/** Starts the server of the fixture: where it is told, or on a descriptor, when `go` is called. */
const start = (url: string, protocol: "lines" | "native", drain: number, fd?: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const file = fileURLToPath(new URL("fixtures/stopping.ts", import.meta.url))
      const args = ["--conditions=holdfast-source", file, url, protocol, String(drain)]
      const child = ChildProcess.spawn(process.execPath, fd === undefined ? args : [...args, "3"], {
        stdio: ["pipe", "pipe", "inherit", ...(fd === undefined ? [] : [fd])],
        env: { ...process.env, NODE_OPTIONS: "" }
      })
      let text = ""
      let code: number | undefined
      child.stdout!.on("data", (chunk) => text += chunk)
      child.on("exit", (status) => code = status ?? -1)
      const served: Served = {
        pid: child.pid!,
        get port() {
          return portOf({ url: text.trim().replace("listening ", "") })
        },
        get exit() {
          return code
        },
        go: Effect.suspend(() => {
          child.stdin!.write("go\n")
          return until("it listens", () => text.includes("\n") || code !== undefined, 30_000)
        })
      }
      return { served, child }
    }),
    ({ child }) => Effect.sync(() => child.exitCode === null && child.kill("SIGKILL"))
  ).pipe(Effect.map(({ served }) => served))

const serve = (url: string, protocol: "lines" | "native", { drain = 5000 }: { readonly drain?: number } = {}) =>
  Effect.tap(start(url, protocol, drain), ({ go }) => go)

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

  it.live(
    "0 when npm passes the Ctrl-C on as late as the process ends, with and without a connection",
    () =>
      Effect.gen(function*() {
        for (const text of ["", "hello\n", "", "hello\n", ""]) {
          const server = yield* serve("tcp://127.0.0.1:0", "lines")
          const client = peer(server.port, (conn) => conn.write(text))
          yield* destroyed([client])
          yield* until("it is served", () => client.connected && client.text === text, 10_000)
          // one after the other until it has ended, and only such as count as one
          const since = performance.now()
          while (server.exit === undefined && performance.now() - since < 200) {
            try {
              process.kill(server.pid, "SIGINT")
            } catch (error) {
              // it is gone, and not told yet
              assert.strictEqual((error as NodeJS.ErrnoException).code, "ESRCH")
            }
            yield* Effect.promise(() => new Promise<void>((resume) => setImmediate(resume)))
          }
          yield* until("it has ended", () => server.exit !== undefined, 10_000)
          assert.strictEqual(server.exit, 0)
        }
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
        const supervisor = Net.createServer()
        yield* Effect.callback<void>((resume) => {
          supervisor.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => resume(Effect.void))
        })
        const { port } = supervisor.address() as Net.AddressInfo
        const { fd } = (supervisor as unknown as { readonly _handle: { readonly fd: number } })._handle
        const restarts = 3
        const servers = yield* Effect.all(
          Array.from({ length: restarts + 1 }, () => start(`tcp://127.0.0.1:${port}`, "native", 5000, fd)),
          { concurrency: "unbounded" }
        )
        supervisor.close()
        yield* servers[0]!.go

        let attempts = 0
        let answered = 0
        const lost: Array<string> = []
        const phase = { isOver: false }
        const client = Effect.fnUntraced(function*(name: number) {
          const open = Protocol.client({ codec: Codec.lengthPrefix().pipe(Codec.text) })
          const self = yield* Client.make(Effect.flatMap(Effect.orDie(Dialer.make(`tcp://127.0.0.1:${port}`)), open))
          yield* Effect.forkScoped(
            Stream.runForEach(self.changes, ({ _tag }) => Effect.sync(() => void (_tag === "Connecting" && attempts++)))
          )
          for (let i = 0; !phase.isOver; i++) {
            const request = `request ${i} of ${name}`
            const asked = yield* Effect.result(Effect.timeout(
              Effect.andThen(self.send(request), self.receive),
              15_000
            ))
            if (asked._tag === "Success" && asked.success === request) answered++
            else lost.push(asked._tag === "Success" ? asked.success : String(asked.failure))
            yield* Effect.sleep(50)
          }
        })
        const clients = yield* Effect.forEach(
          Array.from({ length: 200 }, (_, i) => i),
          (i) => Effect.forkScoped(Effect.scoped(client(i)))
        )
        yield* until("all are answered", () => answered > 1000, 20_000)
        attempts = 0
        for (let i = 0; i < restarts; i++) {
          const [old, next] = [servers[i]!, servers[i + 1]!]
          yield* next.go
          process.kill(old.pid, "SIGTERM")
          yield* until("the old one has ended", () => old.exit !== undefined, 10_000)
          assert.strictEqual(old.exit, 0)
          yield* Effect.sleep(4000)
        }
        phase.isOver = true
        yield* Fiber.awaitAll(clients)
        assert.deepStrictEqual(lost, [])
        assert.isAtMost(attempts / restarts / 200, 1.2)
        process.kill(servers[restarts]!.pid, "SIGTERM")
        yield* until("the last one has ended", () => servers[restarts]!.exit !== undefined, 10_000)
      }),
    long(90_000)
  )
})

/** The limits of a server over real listeners: from the accept on, before TLS and upgrades. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { Codec, Connection, type ConnectionError, type Policy, type Server } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { serve, type Served } from "../integration/support/kit.ts"
import { certificate, onLinux, portOf, until } from "./fixtures/kit.ts"

const lines = { codec: Codec.lines() }

/** Plain connections that say nothing, or this. */
const peers = (port: number, count: number, say = "") =>
  Effect.acquireRelease(
    Effect.sync(() =>
      Array.from({ length: count }, () => {
        const conn = Net.createConnection({ host: "127.0.0.1", port, allowHalfOpen: true })
        const peer = { conn, connected: false, ended: false, reset: false }
        conn.on("connect", () => {
          peer.connected = true
          if (say !== "") conn.write(say)
        })
        conn.on("error", () => void (peer.reset = true))
        conn.on("end", () => void (peer.ended = true))
        conn.on("close", () => void (peer.ended = true))
        conn.resume()
        return peer
      })
    ),
    (all) => Effect.sync(() => all.forEach(({ conn }) => conn.destroy()))
  )

const refusals = ({ events }: Served<string, string>): ReadonlyArray<Server.Event & { readonly _tag: "Refused" }> =>
  events.filter((event) => event._tag === "Refused")

const open = (url: string, options: Dialer.DialOptions = {}) =>
  Effect.flatMap(
    Dialer.make(url.replace("127.0.0.1", "localhost"), { ca: certificate().cert, family: 4, ...options }),
    Connection.make(lines)
  )

const isServed = Effect.fnUntraced(function*(connection: Connection.Connection<string>) {
  yield* connection.send("hello")
  assert.strictEqual(yield* connection.receive, "hello")
})

const start = Effect.fnUntraced(function*(scheme: string, policy: Policy.Patch, options: Listener.ListenOptions = {}) {
  const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, { ...certificate(), policy, ...options })
  return { listener, port: portOf(listener), served: yield* serve(listener, { ...lines, policy }) }
})

const tagsOf = (reasons: ReadonlyArray<{ readonly reason: ConnectionError.Reason }>) =>
  reasons.map(({ reason }) => reason._tag)

describe("limits of a server", () => {
  for (const scheme of ["tls", "wss", "ws"]) {
    it.live.skipIf(!onLinux)(
      `B118 ${scheme}: 1,100 silent connections from one address are 2, and one from another is served at once`,
      () =>
        Effect.gen(function*() {
          const { listener, port, served } = yield* start(scheme, { maxConnectionsPerAddress: 2 }, { backlog: 2048 })
          const silent = yield* peers(port, 1100)
          yield* until("the others are refused", () => refusals(served).length === 1098)
          for (const { reason, remote } of refusals(served)) {
            assert.strictEqual(reason._tag === "Refused" && reason.limit, "maxConnectionsPerAddress")
            assert.match(remote!, /^127\.0\.0\.1:\d+$/)
          }
          yield* isServed(yield* open(listener.url, { localAddress: "127.0.0.2" }))
          yield* until("the others are closed", () => silent.filter(({ ended }) => ended).length === 1098)
          assert.deepStrictEqual(silent.filter(({ reset }) => reset), [])
          // a place is free again when its connection is gone
          silent.find(({ ended }) => !ended)!.conn.destroy()
          yield* until("one has ended in its handshake", () => refusals(served).length === 1099)
          yield* isServed(yield* open(listener.url))
        })
    )

    it.live(`B118 ${scheme}: one that ends in its handshake is told of, with its reason and its address`, () =>
      Effect.gen(function*() {
        const { port, served } = yield* start(scheme, {
          handshake: "100 millis",
          maxConnections: 3,
          whenFull: "reject"
        })
        yield* peers(port, 1)
        yield* until("its time is over", () => refusals(served).length === 1)
        const { reason, remote } = refusals(served)[0]!
        assert.deepStrictEqual(reason._tag === "HandshakeTimeout" && reason.limit, 100)
        assert.match(remote!, /^127\.0\.0\.1:\d+$/)
        const [gone] = yield* peers(port, 1)
        yield* until("it is connected", () => gone!.connected)
        gone!.conn.destroy()
        yield* until("it has left", () => refusals(served).length === 2)
        const [garbage] = yield* peers(port, 1, "GARBAGE\r\n\r\n")
        yield* until("it is refused", () => refusals(served).length === 3 && garbage!.ended)
        assert.deepStrictEqual(tagsOf(refusals(served)), ["HandshakeTimeout", "HandshakeFailed", "HandshakeFailed"])
      }))

    it.effect(`B118 ${scheme}: a handshake is cut when its time is over on the clock, to the millisecond`, () =>
      Effect.gen(function*() {
        const { listener, served } = yield* start(scheme, { handshake: "3 seconds" })
        const [silent] = yield* peers(portOf(listener), 1)
        yield* until("it is connected", () => silent!.connected)
        // comes after the silent one, which is accepted by then
        const connection = yield* open(listener.url)
        yield* isServed(connection)
        yield* TestClock.adjust(2999)
        yield* isServed(connection)
        assert.isFalse(silent!.ended)
        assert.deepStrictEqual(refusals(served), [])
        yield* TestClock.adjust(1)
        yield* until("it is cut", () => silent!.ended && refusals(served).length === 1)
        assert.deepStrictEqual(tagsOf(refusals(served)), ["HandshakeTimeout"])
        yield* isServed(connection)
      }))

    it.live(`B118 ${scheme}: one over maxConnections waits before its handshake, and is served in its turn`, () =>
      Effect.gen(function*() {
        const { listener, port, served } = yield* start(scheme, { maxConnections: 1, handshake: "150 millis" })
        const [silent] = yield* peers(port, 1)
        yield* until("it is accepted", () => silent!.connected)
        // it waits for as long as the silent one has, and then has its own time
        const connection = yield* open(listener.url)
        yield* isServed(connection)
        assert.deepStrictEqual(tagsOf(refusals(served)), ["HandshakeTimeout"])
      }))
  }

  it.live("B118 several listeners count together, and more than maxPending in a handshake are told of", () =>
    Effect.gen(function*() {
      const policy = { maxConnections: 2, whenFull: "reject" } as const
      const listeners = [
        yield* Listener.make("tls://127.0.0.1:0", certificate()),
        yield* Listener.make("wss://127.0.0.1:0", { ...certificate(), maxPending: 1 })
      ] as const
      const served = yield* serve(Listener.merge(listeners), { ...lines, policy })
      const [first] = yield* peers(portOf(listeners[1]), 1)
      yield* until("it is connected", () => first!.connected)
      yield* peers(portOf(listeners[1]), 1)
      yield* until("one too many is pending", () => refusals(served).length === 1)
      const [second] = yield* peers(portOf(listeners[0]), 1)
      yield* until("it is connected", () => second!.connected)
      yield* peers(portOf(listeners[0]), 1)
      yield* until("one too many is connected", () => refusals(served).length === 2)
      assert.deepStrictEqual(
        refusals(served).map(({ reason }) => reason._tag === "Refused" && `${reason.limit} ${reason.allowed}`),
        ["maxPending 1", "maxConnections 2"]
      )
    }))

  it.live("B118 while a server stops, who waits before its handshake is refused as stopping, and who comes by the kernel", () =>
    Effect.gen(function*() {
      const policy = { maxConnections: 1, drain: "3 seconds" } as const
      const listener = yield* Listener.make("tls://127.0.0.1:0", certificate())
      const port = portOf(listener)
      const served = yield* serve(listener, {
        ...lines,
        policy,
        handle: (connection) =>
          Effect.andThen(connection.receive, Effect.andThen(Effect.sleep("1 second"), connection.send("answer")))
      })
      const busy = yield* open(listener.url)
      yield* busy.send("hello")
      yield* until("it is served", () => served.connections.length === 1)
      const [waiting] = yield* peers(port, 1)
      yield* until("it is connected", () => waiting!.connected)
      yield* Effect.forkChild(served.stop, { startImmediately: true })
      yield* until("the one that waits is refused", () => refusals(served).length === 1 && waiting!.ended)
      const [late] = yield* peers(port, 1)
      // a successor may have the port
      yield* until("the late one is refused", () => late!.ended)
      assert.isFalse(late!.connected)
      assert.strictEqual(refusals(served).length, 1)
      for (const { reason } of refusals(served)) {
        assert.strictEqual(reason._tag === "Refused" && reason.limit, "stopping")
      }
    }))
})

/** Many clients in a process of their own, which say something and tell how they ended. */
const elsewhere = (port: number, count: number) => {
  const script = `const ends = []
    for (let i = 0; i < ${count}; i++) {
      const conn = require("net").createConnection({ host: "127.0.0.1", port: ${port} }, () => conn.write("hello\\n"))
      conn.on("error", (error) => ends.push(error.code))
      conn.on("end", () => ends.push("end"))
      conn.resume()
    }
    process.on("exit", () => console.log(ends.toSorted().join()))`
  const child = ChildProcess.spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] })
  const said = { text: undefined as string | undefined }
  let text = ""
  child.stdout.on("data", (data) => text += data)
  child.on("close", () => said.text = text.trim())
  return said
}

/** Keeps this process from looking at anything. */
const busy = (millis: number) =>
  Effect.sync(() => {
    const end = performance.now() + millis
    while (performance.now() < end);
  })

describe("the end of a listener", () => {
  for (const drain of ["none", "of a server"]) {
    it.live(`B111 what waits in the queue of the kernel gets a FIN and no reset (drain: ${drain})`, () =>
      Effect.gen(function*() {
        const said = yield* Effect.scoped(Effect.gen(function*() {
          const listener = yield* Listener.make("tcp://127.0.0.1:0", { linger: "300 millis" })
          const served = drain === "none" ? undefined : yield* serve(listener, lines)
          const said = elsewhere(portOf(listener), 50)
          // they are there, and we have not looked
          yield* busy(1000)
          if (served !== undefined) yield* Effect.forkScoped(served.stop, { startImmediately: true })
          return said
        }))
        yield* until("the clients are done", () => said.text !== undefined, 10_000)
        assert.strictEqual(said.text, Array.from({ length: 50 }, () => "end").join())
      }))
  }
})

describe("an open that waits", () => {
  for (const scheme of ["tcp", "tls", "ws", "wss"]) {
    it.live(`B139 ${scheme}: one that hangs lets go of its peer at the deadline of a handshake`, () =>
      Effect.gen(function*() {
        const policy = { handshake: "300 millis", maxConnections: 1 } as const
        const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, { ...certificate(), policy })
        let opens = 0
        const served = yield* serve(listener, {
          ...lines,
          open: (socket) => opens++ === 0 ? Effect.never : Connection.make(lines)(socket),
          policy
        })
        const first = yield* Effect.forkScoped(
          Effect.flip(Effect.flatMap(open(listener.url), (connection) => connection.closed))
        )
        yield* until("the first one", () => opens === 1)
        yield* isServed(yield* open(listener.url))
        assert.deepStrictEqual(tagsOf(refusals(served)), ["HandshakeTimeout"])
        yield* Fiber.join(first)
      }))
  }

  it.live("B35 a server that stood still for longer than a handshake may take reads what has come before it refuses", () =>
    Effect.gen(function*() {
      const policy = { handshake: "300 millis" } as const
      const listener = yield* Listener.make("tcp://127.0.0.1:0", { policy })
      let isAccepted = false
      const served = yield* serve(listener, {
        ...lines,
        policy,
        handshake: (connection) => {
          isAccepted = true
          return Effect.asVoid(connection.receive)
        }
      })
      const connection = yield* open(listener.url)
      yield* until("the handshake", () => isAccepted)
      yield* connection.send("i am ada")
      yield* busy(600)
      yield* isServed(connection)
      assert.deepStrictEqual(tagsOf(refusals(served)), [])
    }))
})

describe("a process without a file descriptor left", () => {
  const fixture = fileURLToPath(new URL("fixtures/exhausted.ts", import.meta.url))
  const limit = 96

  for (const scheme of ["tcp", "http"]) {
    it.live.skipIf(!onLinux)(`B89 ${scheme}: a warning says so, once, and what to do`, () =>
      Effect.gen(function*() {
        const child = ChildProcess.spawn(
          "sh",
          [
            "-c",
            `ulimit -n ${limit}; exec "$0" "$@"`,
            process.execPath,
            "--conditions=holdfast-source",
            fixture,
            `${scheme}://127.0.0.1:0`
          ],
          { stdio: ["pipe", "pipe", "inherit"], env: { PATH: process.env.PATH, NODE_NO_WARNINGS: "1" } }
        )
        yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
        let said = ""
        child.stdout.on("data", (data) => said += data)
        yield* until("it listens", () => said.endsWith("\n"), 10_000)
        const all = yield* peers(portOf({ url: said.trim() }), limit + 50)
        yield* until("it closes some", () => all.some(({ ended }) => ended))
        for (const { conn } of all) conn.destroy()
        const more = yield* peers(portOf({ url: said.split("\n")[0]! }), limit + 50)
        yield* until("it closes some of the next", () => more.some(({ ended }) => ended))
        yield* until("it says so", () => said.split("\n").length > 2)
        assert.match(
          said.split("\n")[1]!,
          /WARN.*all 96 file descriptors of this process are in use.*Raise `ulimit -n`, or/
        )
        assert.lengthOf(said.trim().split("\n"), 2)
      }), 20_000)
  }
})

/** Peers that are not ours: plain `node:net`, `node:tls`, and the WebSocket that Node and browsers have. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { once } from "node:events"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { WebSocketServer } from "ws"
import { Codec, Connection, Heartbeat } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { arrival, certificate, ending, portOf, serve, takeRest, until } from "./support/kit.ts"
import { rawClient } from "./support/ways.ts"

const chat = {
  codec: Codec.lines(),
  heartbeat: Heartbeat.text("ping", "pong"),
  policy: { pingEvery: "50 millis", pingWhen: "always" }
} as const

const host = "127.0.0.1"

/** The WebSocket of this Node, which is the one of a browser, and what it saw. */
const browser = (url: string, protocols: ReadonlyArray<string> = []) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const ws = new WebSocket(url, [...protocols])
      ws.binaryType = "arraybuffer"
      const self = {
        ws,
        messages: [] as Array<string | ArrayBuffer>,
        close: undefined as { readonly code: number; readonly reason: string } | undefined
      }
      ws.addEventListener("message", (event) => self.messages.push(event.data as string | ArrayBuffer))
      ws.addEventListener("close", ({ code, reason }) => self.close = { code, reason })
      return self
    }),
    ({ ws }) =>
      Effect.andThen(
        Effect.sync(() => ws.close()),
        until("the WebSocket is closed", () => ws.readyState === ws.CLOSED)
      )
  )

/** A server of plain Node, closed with its connections. */
const listening = (server: Net.Server | Tls.Server): Effect.Effect<number, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<number>((resolve) =>
        server.listen(0, host, () => resolve((server.address() as Net.AddressInfo).port))
      )
    ),
    () => Effect.promise(() => new Promise<void>((resolve) => server.close(() => resolve())))
  )

describe("a client of plain Node", () => {
  for (const scheme of ["tcp", "tls"]) {
    it.live(`${scheme}: talks, is pinged and answered, and is told the end by a FIN`, () =>
      Effect.gen(function*() {
        const listener = yield* Listener.make(`${scheme}://${host}:0`, certificate())
        const served = yield* serve(listener, chat)
        const raw = yield* rawClient({ host, port: portOf(listener) }, { tls: scheme === "tls" })
        const text = () => Buffer.concat(raw.chunks).toString()
        raw.top.write("hel")
        raw.top.write("lo\r\nwor")
        yield* until("the echo", () => text().includes("hello\n"))
        yield* until("a ping", () => text().includes("ping\n"))
        raw.top.write("ld\npong\n")
        yield* until("the rest", () => text().includes("world\n"))
        const server = yield* arrival(served, 0)
        const { messagesIn, rtt } = yield* server.snapshot
        assert.strictEqual(messagesIn, 2)
        assert.ok(rtt !== undefined && rtt.last >= 0)
        raw.top.write("ping\n")
        yield* until("a pong", () => text().includes("pong\n"))
        yield* Effect.forkChild(server.close)
        yield* until("their FIN", () => raw.ended)
        raw.top.end()
        yield* until("the end", () => raw.closed)
        assert.isUndefined(raw.error)
      }))
  }

  it.live("tls: one that never finishes its handshake does not hold up the next", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`tls://${host}:0`, {
        ...certificate(),
        policy: { handshake: "300 millis" }
      })
      const served = yield* serve(listener, chat)
      const silent = yield* rawClient({ host, port: portOf(listener) })
      const garbage = yield* rawClient({ host, port: portOf(listener) })
      garbage.top.write("GET / HTTP/1.1\r\n\r\n")
      const raw = yield* rawClient({ host, port: portOf(listener) }, { tls: true })
      raw.top.write("hello\n")
      yield* until("the echo", () => Buffer.concat(raw.chunks).includes("hello\n"))
      yield* until("the others are cut", () => silent.ended && (garbage.ended || garbage.closed))
      assert.strictEqual(served.connections.length, 1)
    }))

  it.live("ws: a browser's WebSocket sends text without newlines and gets text back", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`ws://${host}:0/live`)
      const served = yield* serve(listener, chat)
      const client = yield* browser(listener.url)
      yield* until("it is open", () => client.ws.readyState === client.ws.OPEN)
      client.ws.send("hello")
      client.ws.send("two\nlines ✓")
      yield* until("the echoes", () => client.messages.includes("two\nlines ✓"))
      yield* until("a ping", () => client.messages.includes("ping"))
      assert.strictEqual(client.messages.filter((message) => message !== "ping")[0], "hello")
      client.ws.send("ping")
      yield* until("a pong", () => client.messages.includes("pong"))
      client.ws.close(4001, "enough")
      const reason = yield* ending(yield* arrival(served, 0))
      assert.deepStrictEqual({ ...reason }, { _tag: "Closed", by: "peer", code: 4001, note: "enough" } as never)
    }))

  it.live("ws: a write that meets the close of the peer does not hide its code", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`ws://${host}:0`)
      const served = yield* serve(listener, { ...chat, policy: { pingEvery: "5 millis", pingWhen: "always" } })
      const raw = yield* rawClient({ host, port: portOf(listener) }, { upgrade: true })
      const server = yield* arrival(served, 0)
      // a masked close frame with 4001, and no FIN: the closing handshake is under way while pings are due
      raw.top.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 4001 >> 8, 4001 & 0xff]))
      const reason = yield* ending(server)
      assert.deepStrictEqual({ ...reason }, { _tag: "Closed", by: "peer", code: 4001 } as never)
    }))

  it.live("ws: a browser gets binary messages as binary, and close codes with their reasons", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`ws://${host}:0`, { policy: { maxFrame: 100_000 } })
      const served = yield* serve(listener, { codec: Codec.lengthPrefix(), policy: { maxFrame: 1000 } })
      const client = yield* browser(listener.url)
      yield* until("it is open", () => client.ws.readyState === client.ws.OPEN)
      client.ws.send(new Uint8Array([1, 2, 3]))
      yield* until("the echo", () => client.messages.length === 1)
      assert.deepStrictEqual(new Uint8Array(client.messages[0] as ArrayBuffer), new Uint8Array([1, 2, 3]))
      client.ws.send(new Uint8Array(1001))
      yield* until("the close", () => client.close !== undefined)
      assert.deepStrictEqual(client.close, {
        code: 1009,
        reason: "a frame of 1001 bytes is over the limit of 1000 bytes"
      })
      assert.strictEqual((yield* ending(yield* arrival(served, 0)))._tag, "FrameTooLong")
    }))

  it.live("ws: a stopping server says 1001 to a browser", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`ws://${host}:0`)
      const served = yield* serve(listener, chat)
      const client = yield* browser(listener.url)
      yield* until("it is served", () => served.connections.length === 1)
      yield* served.stop
      yield* until("the close", () => client.close !== undefined)
      assert.deepStrictEqual(client.close, { code: 1001, reason: "this end is shutting down" })
    }))
})

describe("a server of plain Node", () => {
  for (const scheme of ["tcp", "tls"]) {
    it.live(`${scheme}: is spoken to, and its FIN and its reset are different reasons (B43)`, () =>
      Effect.gen(function*() {
        const accepted: Array<Net.Socket> = []
        const wires: Array<Net.Socket> = []
        const onConnection = (conn: Net.Socket) => {
          accepted.push(conn)
          conn.on("error", () => {})
          conn.on("data", (chunk) => conn.write(chunk.toString().toUpperCase()))
        }
        const server = scheme === "tls"
          ? Tls.createServer({ ...certificate() }, onConnection)
          : Net.createServer(onConnection)
        server.on("connection", (conn: Net.Socket) => wires.push(conn))
        const port = yield* listening(server)
        const open = Effect.flatMap(
          Dialer.make(`${scheme}://localhost:${port}`, { ca: certificate().cert }),
          Connection.make({ codec: Codec.lines(), policy: { halfClose: 0 } })
        )
        const first = yield* open
        yield* first.sendAll(["hello", "world"])
        assert.deepStrictEqual([yield* first.receive, yield* first.receive], ["HELLO", "WORLD"])
        accepted[0].end("BYE\n")
        const { messages, reason } = yield* takeRest(first)
        assert.deepStrictEqual(messages, ["BYE"])
        assert.deepStrictEqual({ ...reason }, { _tag: "Closed", by: "peer" } as never)

        const second = yield* open
        yield* second.send("hello")
        assert.strictEqual(yield* second.receive, "HELLO")
        wires[1].resetAndDestroy()
        assert.strictEqual((yield* ending(second))._tag, "Reset")

        const third = yield* open
        yield* third.send("hello")
        assert.strictEqual(yield* third.receive, "HELLO")
        accepted[2].end("half a li")
        const cut = (yield* takeRest(third)).reason
        assert.deepStrictEqual(cut._tag === "Truncated" ? cut.leftover : cut, 9)
      }))
  }

  it.live("a server nobody listens on is OpenFailed, and can be retried", () =>
    Effect.gen(function*() {
      const port = yield* Effect.scoped(listening(Net.createServer()))
      const error = yield* Effect.flatMap(Dialer.make(`tcp://${host}:${port}`), Connection.make(chat)).pipe(Effect.flip)
      assert.deepStrictEqual(
        error._tag === "ConnectionError" ? [error.reason._tag, error.isRetryable] : error,
        ["OpenFailed", true]
      )
      assert.match(error.message, /ECONNREFUSED/)
    }))

  it.live("B22 tcp: a server that accepts and says nothing is left after the silence limit", () =>
    Effect.gen(function*() {
      const conns: Array<Net.Socket> = []
      const port = yield* listening(Net.createServer((conn) => conns.push(conn.on("error", () => {}).resume())))
      const client = yield* Effect.flatMap(
        Dialer.make(`tcp://${host}:${port}`),
        Connection.make({ ...chat, policy: { pingEvery: "50 millis", silence: "250 millis" } })
      )
      const startedAt = performance.now()
      const reason = yield* ending(client)
      const took = performance.now() - startedAt
      assert.deepStrictEqual({ ...reason }, { _tag: "SilenceTimeout", limit: 250 } as never)
      assert.ok(took >= 230 && took < 250 * 1.25 + 150, `after ${took} ms`)
    }))

  it.live("ws: the `ws` package is spoken to, and its close codes are told", () =>
    Effect.gen(function*() {
      const server = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const server = new WebSocketServer({ host, port: 0 })
          await once(server, "listening")
          return server
        }),
        (server) =>
          Effect.promise(() => {
            for (const ws of server.clients) ws.terminate()
            return new Promise<void>((resolve) => server.close(() => resolve()))
          })
      )
      server.on("connection", (ws) => {
        ws.on("message", (data, binary) => {
          if (String(data) === "bye") ws.close(4002, "as you wish")
          else if (String(data) === "cut") ws.terminate()
          else ws.send(String(data).toUpperCase(), { binary })
        })
      })
      const open = Effect.flatMap(
        Dialer.make(`ws://${host}:${(server.address() as Net.AddressInfo).port}`),
        Connection.make({ codec: Codec.lines() })
      )
      const first = yield* open
      yield* first.send("hello")
      assert.strictEqual(yield* first.receive, "HELLO")
      yield* first.send("bye")
      assert.deepStrictEqual(
        { ...(yield* ending(first)) },
        { _tag: "Closed", by: "peer", code: 4002, note: "as you wish" } as never
      )
      const second = yield* open
      yield* second.send("cut")
      assert.strictEqual((yield* ending(second))._tag, "Reset")
    }))
})

import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import { assert, describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Http from "node:http"
import { type ClientOptions, WebSocket } from "ws"
import { writeClose } from "../../src/internal/webSocket/closing.ts"
import { closeCode } from "../../src/internal/webSocket/socket.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { certificate, client, echo, ending, known, portOf, run, serve, until } from "./fixtures/kit.ts"

/** The reason of a close frame, as it is sent. */
const closeReason = (reason: string) => new TextDecoder().decode(writeClose(1000, reason).subarray(2))

/** What a plain `ws` client saw. */
interface Peer {
  readonly ws: WebSocket
  readonly messages: Array<string | Buffer>
  close: { readonly code: number; readonly reason: string } | undefined
  error: Error | undefined
}

const dial = (
  listener: { readonly url: string },
  options: ClientOptions = {}
): Effect.Effect<Peer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const ws = new WebSocket(listener.url, { rejectUnauthorized: false, ...options })
      const self: Peer = { ws, messages: [], close: undefined, error: undefined }
      ws.on("message", (data, binary) => self.messages.push(binary ? data as Buffer : String(data)))
      ws.on("close", (code, reason) => self.close = { code, reason: String(reason) })
      ws.on("error", (error) => self.error = error)
      return self
    }),
    ({ ws }) => Effect.sync(() => ws.terminate())
  )

const opened = (peer: Peer) => until("the WebSocket opens", () => peer.ws.readyState === WebSocket.OPEN)

interface Served {
  readonly socket: Socket.Socket
  readonly reader: Socket.Reader
  readonly writer: Socket.Writer
  /** Closes the scope of the reader. */
  readonly release: Effect.Effect<void>
}

/** Accepts, and gives the test every connection with its ends; they live until they are released. */
const accepting = (url: string, options: Listener.ListenOptions = {}) =>
  Effect.gen(function*() {
    const accepted = yield* Queue.unbounded<Served>()
    const listener = yield* serve(url, (socket) =>
      Effect.gen(function*() {
        const reader = yield* socket.reader
        const writer = yield* socket.writer
        const done = yield* Deferred.make<void>()
        yield* Queue.offer(accepted, {
          socket,
          reader,
          writer,
          release: Effect.asVoid(Deferred.succeed(done, undefined))
        })
        yield* Deferred.await(done)
      }).pipe(Effect.scoped), options)
    return { listener, accepted }
  })

describe("messages", () => {
  for (const scheme of ["ws", "wss"]) {
    it.live(`${scheme}: keep their boundaries and their kind, both ways`, () =>
      Effect.gen(function*() {
        const { accepted, listener } = yield* accepting(`${scheme}://127.0.0.1:0/live`, certificate())
        const peer = yield* dial(listener)
        yield* opened(peer)
        const sent = [
          "héllo",
          Buffer.from([0, 255, 1]),
          "",
          Buffer.alloc(0),
          "x".repeat(70_000),
          Buffer.alloc(70_000, 7)
        ]
        for (const message of sent) peer.ws.send(message)
        const { reader, socket, writer } = yield* Queue.take(accepted)
        const got: Array<Uint8Array | string> = []
        while (got.length < sent.length) got.push(...(yield* reader.pull))
        assert.deepStrictEqual(
          got.map((message) => typeof message === "string" ? message : Buffer.from(message)),
          sent
        )
        assert.ok(got[1] instanceof Uint8Array)
        const [first, ...rest] = got
        yield* writer.write(first)
        yield* writer.writeAll(rest as [string])
        yield* until("the echo", () => peer.messages.length === sent.length)
        assert.deepStrictEqual(peer.messages, sent)
        const transport = known(socket)
        assert.strictEqual(transport.messages, true)
        assert.strictEqual(transport.local, `127.0.0.1:${portOf(listener)}`)
        assert.match(transport.remote!, /^127\.0\.0\.1:\d+$/)
        assert.strictEqual(listener.url, `${scheme}://127.0.0.1:${portOf(listener)}/live`)
      }))
  }

  it.live("wait in the kernel until the reader is acquired", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make("ws://127.0.0.1:0")
      const peer = yield* dial(listener)
      yield* opened(peer)
      peer.ws.send("early")
      yield* Effect.forkScoped(listener.run(echo))
      yield* until("the echo", () => peer.messages[0] === "early")
    }))

  it.live("come with the request as a service", () =>
    Effect.gen(function*() {
      const seen = yield* Deferred.make<ReadonlyArray<unknown>>()
      const listener = yield* Listener.make("ws://127.0.0.1:0/live")
      yield* Effect.forkScoped(run(listener, (socket) =>
        Effect.gen(function*() {
          const request = yield* NodeSocketServer.IncomingMessage
          yield* Deferred.succeed(seen, [request.url, request.headers["x-token"]])
          yield* echo(socket)
        })))
      const socket = yield* Dialer.make(`${listener.url}?room=1`, { headers: { "x-token": "abc" } })
      yield* Effect.forkScoped(echo(socket))
      assert.deepStrictEqual(yield* Deferred.await(seen), ["/live?room=1", "abc"])
    }))
})

describe("what clients do wrong", () => {
  it.live("a message over maxFrame closes with 1009 and fails the pull", () =>
    Effect.gen(function*() {
      const { accepted, listener } = yield* accepting("ws://127.0.0.1:0", { policy: { maxFrame: 1000 } })
      const peer = yield* dial(listener)
      yield* opened(peer)
      peer.ws.send("y".repeat(1000))
      peer.ws.send("x".repeat(1001))
      const { reader, release } = yield* Queue.take(accepted)
      assert.strictEqual((yield* reader.pull)[0].length, 1000)
      const error = yield* Effect.flip(reader.pull)
      assert.strictEqual(error.reason._tag, "SocketReadError")
      assert.match(String((error.reason.cause as Error).message), /1001 bytes is over the limit of 1000/)
      yield* until("the close", () => peer.close !== undefined)
      assert.strictEqual(peer.close!.code, 1009)
      yield* release
    }))

  it.live("text that is not UTF-8 closes with 1007, a bad opcode with 1002, and both fail the pull", () =>
    Effect.gen(function*() {
      const { accepted, listener } = yield* accepting("ws://127.0.0.1:0")
      for (
        const [frame, code] of [[[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007], [[0x83, 0x80, 0, 0, 0, 0], 1002]] as const
      ) {
        const peer = yield* dial(listener)
        yield* opened(peer)
        ;(peer.ws as unknown as { readonly _socket: { readonly write: (bytes: Buffer) => void } })._socket.write(
          Buffer.from(frame)
        )
        const { reader, release } = yield* Queue.take(accepted)
        assert.strictEqual(ending(yield* Effect.flip(reader.pull)), "SocketReadError")
        yield* until("the close", () => peer.close !== undefined)
        assert.strictEqual(peer.close!.code, code)
        yield* release
      }
    }))

  it.live("a reset fails the pull and a write that waits", () =>
    Effect.gen(function*() {
      const { accepted, listener } = yield* accepting("ws://127.0.0.1:0")
      const peer = yield* dial(listener)
      yield* opened(peer)
      peer.ws.pause()
      const { reader, writer } = yield* Queue.take(accepted)
      const write = yield* Effect.forkScoped(
        Effect.flip(Effect.forever(writer.write(Buffer.alloc(1024 * 1024)))),
        { startImmediately: true }
      )
      peer.ws.terminate()
      assert.strictEqual(ending(yield* Effect.flip(reader.pull)), "SocketCloseError 1006")
      assert.strictEqual(ending(yield* Fiber.join(write)), "SocketWriteError")
      assert.strictEqual(ending(yield* Effect.flip(writer.write("more"))), "SocketWriteError")
    }))

  for (const scheme of ["ws", "wss"]) {
    it.live(`${scheme}: never reading makes writes wait, and memory stay bounded`, () =>
      Effect.gen(function*() {
        const { accepted, listener } = yield* accepting(`${scheme}://127.0.0.1:0`, certificate())
        const peer = yield* dial(listener, { maxPayload: 0 })
        yield* opened(peer)
        peer.ws.pause()
        const { socket, writer } = yield* Queue.take(accepted)
        const unsent = known(socket).unsent!
        const block = Buffer.alloc(256 * 1024, 1)
        let written = 0
        let most = 0
        yield* Effect.forkScoped(Effect.forever(Effect.map(writer.writeAll([block, block]), () => {
          written++
          most = Math.max(most, unsent())
        })))
        let last = -1
        yield* until("the writes are stuck", () => unsent() > 0)
        for (let quiet = 0; quiet < 20; quiet = last === written ? quiet + 1 : 0) {
          last = written
          yield* Effect.sleep("10 millis")
        }
        most = Math.max(most, unsent())
        assert.ok(most <= 2 * block.length * 1.1, `unsent ${most}`)
        // and it goes on when the peer reads again
        peer.ws.resume()
        yield* until("the writes go on", () => written > last + 20)
      }))
  }

  it.live("one large message trickling out shrinks `unsent`", () =>
    Effect.gen(function*() {
      const { accepted, listener } = yield* accepting("ws://127.0.0.1:0")
      const size = 16 * 1024 * 1024
      const peer = yield* dial(listener, { maxPayload: 0 })
      yield* opened(peer)
      peer.ws.pause()
      const { socket, writer } = yield* Queue.take(accepted)
      const unsent = known(socket).unsent!
      yield* Effect.forkScoped(writer.write(Buffer.alloc(size)))
      yield* until("the write is stuck", () => unsent() > 0)
      yield* Effect.sleep("50 millis")
      const steps = new Set<number>([unsent()])
      const watch = setInterval(() => steps.add(unsent()), 1)
      const stream = (peer.ws as unknown as { readonly _socket: import("node:net").Socket })._socket
      let read = 0
      stream.on("data", (chunk) => {
        read += chunk.length
        if (read % (1024 * 1024) < chunk.length) {
          peer.ws.pause()
          setTimeout(() => peer.ws.resume(), 5)
        }
      })
      peer.ws.resume()
      yield* until("it is there", () => peer.messages.length === 1, 10_000)
      clearInterval(watch)
      assert.ok(steps.size >= 3, `${[...steps]}`)
      assert.deepStrictEqual([...steps], [...steps].sort((a, b) => b - a))
      yield* until("nothing is unsent", () => unsent() === 0)
    }))
})

describe("closing", () => {
  it.live("code and reason arrive, in both directions", () =>
    Effect.gen(function*() {
      const { accepted, listener } = yield* accepting("ws://127.0.0.1:0")
      const first = yield* dial(listener)
      yield* opened(first)
      const one = yield* Queue.take(accepted)
      yield* one.writer.write("last words")
      yield* one.writer.write(new Socket.CloseEvent(4001, "too old"))
      yield* until("the close", () => first.close !== undefined)
      assert.deepStrictEqual(first.close, { code: 4001, reason: "too old" })
      assert.deepStrictEqual(first.messages, ["last words"])
      assert.strictEqual(ending(yield* Effect.flip(one.reader.pull)), "SocketCloseError 4001: too old")

      const second = yield* dial(listener)
      yield* opened(second)
      const two = yield* Queue.take(accepted)
      second.ws.close(4002, "bye")
      assert.strictEqual(ending(yield* Effect.flip(two.reader.pull)), "SocketCloseError 4002: bye")
      yield* until("the close", () => second.close?.code === 4002)

      const third = yield* dial(listener)
      yield* opened(third)
      const three = yield* Queue.take(accepted)
      yield* three.release
      yield* until("the close", () => third.close !== undefined)
      assert.strictEqual(third.close!.code, 1000)
    }))

  it.live("a failure closes with 1011, an interruption with 1001", () =>
    Effect.gen(function*() {
      const listener = yield* serve("ws://127.0.0.1:0", (socket) =>
        Effect.gen(function*() {
          const reader = yield* socket.reader
          const [what] = yield* reader.pull
          return yield* what === "fail" ? Effect.fail("no") : Effect.interrupt
        }).pipe(Effect.scoped))
      for (const [what, code] of [["fail", 1011], ["interrupt", 1001]] as const) {
        const peer = yield* dial(listener)
        yield* opened(peer)
        peer.ws.send(what)
        yield* until("the close", () => peer.close !== undefined)
        assert.strictEqual(peer.close!.code, code)
      }
    }))

  it.live("never throws for a code or a reason that may not be sent", () =>
    Effect.gen(function*() {
      const { accepted, listener } = yield* accepting("ws://127.0.0.1:0")
      const long = "é".repeat(100)
      for (const code of [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1, 1.5, Number.NaN]) {
        const peer = yield* dial(listener)
        yield* opened(peer)
        const { release, writer } = yield* Queue.take(accepted)
        yield* writer.write(new Socket.CloseEvent(code, long))
        yield* until("the close", () => peer.close !== undefined)
        assert.deepStrictEqual(peer.close, { code: closeCode(code), reason: "é".repeat(61) })
        yield* release
      }
      expect([0, 1000, 1001, 1005, 1006, 1012, 1015, 3000, 4999, 5000].map((code) => [code, closeCode(code)]))
        .toMatchInlineSnapshot(`
          [
            [
              0,
              1000,
            ],
            [
              1000,
              1000,
            ],
            [
              1001,
              1001,
            ],
            [
              1005,
              1000,
            ],
            [
              1006,
              1011,
            ],
            [
              1012,
              1012,
            ],
            [
              1015,
              1011,
            ],
            [
              3000,
              3000,
            ],
            [
              4999,
              4999,
            ],
            [
              5000,
              1011,
            ],
          ]
        `)
      assert.strictEqual(closeReason("a".repeat(123)), "a".repeat(123))
      assert.strictEqual(closeReason("a".repeat(122) + "€"), "a".repeat(122))
      assert.strictEqual(closeReason("a".repeat(120) + "€"), "a".repeat(120) + "€")
    }))

  // a client that speaks just enough to open
  const mute = (listener: Listener.Listener) =>
    Effect.gen(function*() {
      const peer = yield* client(listener)
      peer.conn.write(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
      )
      yield* until("the upgrade", () => peer.text.includes("101 Switching"))
      return peer
    })

  it.live("a peer that does not answer our close frame is cut off after `linger`", () =>
    Effect.gen(function*() {
      const { accepted, listener } = yield* accepting("ws://127.0.0.1:0", { linger: "200 millis" })
      for (const how of ["release", "event"] as const) {
        const peer = yield* mute(listener)
        const { reader, release, writer } = yield* Queue.take(accepted)
        const start = performance.now()
        yield* how === "release" ? release : writer.write(new Socket.CloseEvent(1000))
        if (how === "event") assert.strictEqual(ending(yield* Effect.flip(reader.pull)), "SocketCloseError 1006")
        yield* until("the cut", () => peer.ended || peer.closed)
        // released, our side of the stream ends behind the close frame, and what still comes is discarded
        if (how === "event") assert.ok(performance.now() - start > 150)
        assert.ok(performance.now() - start < 1000)
      }
    }))

  it.live("a peer that ended without a close frame and reads no more is cut off after `linger`", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make("ws://127.0.0.1:0", { linger: "200 millis" })
      const gate = yield* Deferred.make<void>()
      let request: Http.IncomingMessage | undefined
      yield* Effect.forkScoped(run(listener, (socket) =>
        Effect.gen(function*() {
          request = yield* NodeSocketServer.IncomingMessage
          yield* socket.reader
          const writer = yield* socket.writer
          yield* Effect.forkScoped(writer.write(Buffer.alloc(16 * 1024 * 1024)))
          yield* Deferred.await(gate)
        }).pipe(Effect.scoped)))
      const peer = yield* mute(listener)
      peer.conn.pause()
      yield* until("the write is stuck", () => (request?.socket.writableLength ?? 0) > 0)
      peer.conn.end()
      yield* until("our side heard the end", () => request!.socket.readableEnded)
      yield* Deferred.succeed(gate, undefined)
      yield* until("the cut", () => request!.socket.destroyed, 2000)
    }))

  it.live("a peer that says goodbye and stays is cut off after `linger`", () =>
    Effect.gen(function*() {
      const { accepted, listener } = yield* accepting("ws://127.0.0.1:0", { linger: "200 millis" })
      const peer = yield* mute(listener)
      const { reader } = yield* Queue.take(accepted)
      const start = performance.now()
      // a close frame with code 4003, masked with zeros
      peer.conn.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 4003 >> 8, 4003 & 255]))
      assert.strictEqual(ending(yield* Effect.flip(reader.pull)), "SocketCloseError 4003")
      assert.ok(performance.now() - start < 1000)
    }))
})

describe("plain HTTP", () => {
  const get = (listener: Listener.Listener, path: string, headers: Record<string, string> = {}) =>
    Effect.promise(() =>
      new Promise<string>((resolve) => {
        Http.get({ port: portOf(listener), host: "127.0.0.1", path, headers, agent: false }, (response) => {
          response.setEncoding("utf8")
          let text = ""
          response.on("data", (chunk) => text += chunk)
          response.on("end", () => resolve(`${response.statusCode} ${response.headers.upgrade} ${text}`))
        }).on("error", (error) => resolve(String(error)))
      })
    )

  it.live("gets 426 on the path and 404 elsewhere, upgrades elsewhere as well", () =>
    Effect.gen(function*() {
      const listener = yield* serve("ws://127.0.0.1:0/live", echo)
      const upgrade = { Upgrade: "h2c", Connection: "Upgrade" }
      expect([
        yield* get(listener, "/live"),
        yield* get(listener, "/live?a=b"),
        yield* get(listener, "/"),
        yield* get(listener, "/live/more"),
        yield* get(listener, "/live", upgrade)
      ]).toMatchInlineSnapshot(`
        [
          "426 websocket Upgrade Required",
          "426 websocket Upgrade Required",
          "404 undefined Not Found",
          "404 undefined Not Found",
          "426 websocket Upgrade Required",
        ]
      `)
      const peer = yield* dial({ url: listener.url.replace("/live", "/other") })
      yield* until("the refusal", () => peer.error !== undefined)
      assert.match(peer.error!.message, /Unexpected server response: 404/)
    }))

  it.live("takes no place once it is answered", () =>
    Effect.gen(function*() {
      const listener = yield* serve("ws://127.0.0.1:0", echo, { maxPending: 2 })
      for (let i = 0; i < 20; i++) assert.match(yield* get(listener, "/"), /^426/)
    }))
})

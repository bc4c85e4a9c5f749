/** An upgrade that is pipelined behind other requests. */
import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Exit, Fiber, Latch, Scope } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { Registry } from "../../src/index.ts"
import { HttpServer } from "../../src/node/index.ts"
import { client, until } from "./fixtures/kit.ts"

describe("an upgrade behind other requests", () => {
  for (const most of [100, 2]) {
    it.live(`B117: all of those are answered, of which ${most} run at a time`, () =>
      Effect.gen(function*() {
        const server = yield* HttpServer.make("http://127.0.0.1:0", {
          webSocket: "/live",
          policy: { maxConcurrentRequests: most }
        })
        const gates = [Latch.makeUnsafe(true), Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
        let begun = 0
        yield* server.http.serve(
          Effect.suspend(() => Effect.as(gates[begun++]!.await, HttpServerResponse.text("done")))
        )
        const peer = yield* client(server)
        const headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        peer.conn.write(
          "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3) + `GET /live HTTP/1.1\r\nHost: a\r\n${headers}\r\n\r\n`
        )
        const answers = () => peer.text.split(" 200 OK").length - 1
        for (let i = 1; i <= 3; i++) {
          yield* until(`answer ${i}`, () => answers() === i)
          if (i < 3) yield* gates[i]!.open
        }
        yield* until("its end", () => peer.ended)
        assert.strictEqual(answers(), 3)
      }))
  }

  for (
    const [what, webSocket, asks] of [
      ["of no server with WebSockets", undefined, "GET /live HTTP/1.1\r\nHost: a\r\nUpgrade: websocket"],
      ["on another path", "/live", "GET /other HTTP/1.1\r\nHost: a\r\nUpgrade: websocket"],
      ["to another protocol", "/live", "GET /live HTTP/1.1\r\nHost: a\r\nUpgrade: h2c"]
    ] as const
  ) {
    it.live(
      `B117: one ${what} is the application's, and is answered when its turn has come`,
      () =>
        Effect.gen(function*() {
          const server = yield* HttpServer.make("http://127.0.0.1:0", { webSocket })
          const gate = Latch.makeUnsafe(false)
          yield* server.http.serve(Effect.gen(function*() {
            const { headers, url } = yield* HttpServerRequest.HttpServerRequest
            if (headers.upgrade === undefined) yield* gate.await
            return HttpServerResponse.text(`<${headers.upgrade ?? url}>`)
          }))
          const peer = yield* client(server)
          const before = ["/1", "/2"].map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join("")
          peer.conn.write(`${before}${asks}\r\nConnection: Upgrade\r\n\r\n`)
          const next = yield* client(server)
          next.conn.write("GET /next HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
          yield* until("one that came later is answered", () => next.text.includes("<h2c>"))
          yield* gate.open
          yield* until("its end", () => peer.ended)
          assert.deepStrictEqual(peer.text.match(/<.*>/g), ["</1>", "</2>", `<${asks.split(" ").at(-1)}>`])
        })
    )
  }
})

describe("a CONNECT, which is served nowhere", () => {
  const asks = "CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n"

  it.live("B117: requests ahead of it are answered, and it is refused", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<never>()
      const server = yield* HttpServer.make("http://127.0.0.1:0", { registry, linger: "20 millis" })
      const gate = Latch.makeUnsafe(false)
      yield* server.http.serve(Effect.as(gate.await, HttpServerResponse.text("<done>")))
      const peer = yield* client(server)
      peer.conn.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2) + asks)
      const next = yield* client(server)
      next.conn.write(asks)
      yield* until("one that came later is refused", () => next.ended)
      assert.match(next.text, /^HTTP\/1\.1 501 Not Implemented\r\n/)
      assert.isFalse(peer.ended)
      yield* gate.open
      yield* until("its end", () => peer.ended)
      assert.deepStrictEqual(peer.text.match(/<done>|HTTP\/1\.1 \d+/g), [
        "HTTP/1.1 200",
        "<done>",
        "HTTP/1.1 200",
        "<done>",
        "HTTP/1.1 501"
      ])
      yield* until("it is gone", () => Effect.runSync(registry.size) === 0)
    }))
})

describe("an upgrade that is the application's", () => {
  const webSocket = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
  const asksFor = (what: string) => `GET / HTTP/1.1\r\nHost: a\r\n${what}\r\nConnection: Upgrade\r\n\r\n`

  for (const [name, what] of [["h2c", "Upgrade: h2c"], ["a WebSocket", webSocket]] as const) {
    it.live(`B117: a stop waits for the answer to one that asks for ${name}`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const registry = yield* Registry.make<never>()
        const server = yield* Scope.provide(HttpServer.make("http://127.0.0.1:0", { registry }), scope)
        const [begun, gate] = [Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
        const application = Effect.andThen(begun.open, Effect.as(gate.await, HttpServerResponse.text("<late>")))
        yield* Scope.provide(server.http.serve(application), scope)
        const idle = yield* client(server)
        const peer = yield* client(server)
        peer.conn.write(asksFor(what))
        yield* begun.await
        yield* until("both are there", () => Effect.runSync(registry.size) === 2)
        const stopping = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        yield* until("idle ones are ended", () => idle.ended)
        yield* gate.open
        yield* until("its end", () => peer.ended)
        assert.include(peer.text, "<late>")
        peer.conn.end()
        yield* Fiber.join(stopping)
      }))
  }

  it.live("B117: once it is answered, a peer that does not leave is not waited for", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<never>()
      const server = yield* HttpServer.make("http://127.0.0.1:0", { registry, linger: "20 millis" })
      yield* server.http.serve(Effect.succeed(HttpServerResponse.text("<done>")))
      const peer = yield* client(server)
      peer.conn.write(asksFor("Upgrade: h2c"))
      yield* until("it is answered", () => peer.ended)
      yield* until("it is gone", () => Effect.runSync(registry.size) === 0)
      assert.include(peer.text, "<done>")
      assert.isFalse(peer.closed)
    }))

  for (const path of ["/read", "/unread"]) {
    it.live(`B118: ${path}: its body has to come within \`frame\`, and its handler is interrupted then`, () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<never>({ history: 10 })
        const server = yield* HttpServer.make("http://127.0.0.1:0", {
          registry,
          policy: { frame: "60 millis", handshake: "50 millis" }
        })
        let ended = 0
        yield* server.http.serve(Effect.interruptible(
          Effect.gen(function*() {
            const { text, url } = yield* HttpServerRequest.HttpServerRequest
            const body = url === "/read" ? yield* Effect.orDie(text) : yield* Effect.never
            return HttpServerResponse.text(`<${body}>`)
          }).pipe(Effect.ensuring(Effect.sync(() => ended++)))
        ))
        const asks =
          `POST ${path} HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 10\r\n\r\n`
        const peer = yield* client(server)
        peer.conn.write(`${asks}hello`)
        yield* until("it is over", () => peer.ended || peer.closed)
        yield* until("the handler is interrupted", () => ended === 1)
        assert.strictEqual(peer.text, "")
        const [end] = yield* registry.history
        assert.strictEqual(end!.snapshot.reason?._tag, "FrameTimeout")
        const whole = yield* client(server)
        whole.conn.write(`${asks.replace("/unread", "/read")}hello`)
        whole.conn.write("world")
        yield* until("it is answered", () => whole.text.includes("<helloworld>"))
      }))
  }

  /** A stop while the application has a WebSocket of its own, and what the peer read by then. */
  const stopped = (
    drain: Duration.Input,
    around: <A, E, R>(handler: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  ) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(HttpServer.make("http://127.0.0.1:0", { policy: { drain } }), scope)
      yield* Scope.provide(
        server.http.serve(around(Effect.gen(function*() {
          const { upgrade } = yield* HttpServerRequest.HttpServerRequest
          const { pull } = yield* (yield* upgrade).reader
          yield* Effect.ignore(Effect.forever(pull))
          return HttpServerResponse.empty()
        }))),
        scope
      )
      const peer = yield* client(server)
      peer.conn.write(asksFor(webSocket))
      yield* until("it is upgraded", () => peer.text.includes("\r\n\r\n"))
      yield* Scope.close(scope, Exit.void)
      yield* until("its end", () => peer.ended)
      return peer.text.split("\r\n\r\n")[1]!
    })

  it.live("B117: a WebSocket of the application's ends with its handler, which a stop interrupts at once", () =>
    Effect.gen(function*() {
      const said = yield* stopped("1 hour", Effect.interruptible)
      assert.strictEqual(said.charCodeAt(0), 0x88, "a close frame")
    }))

  it.live("B117: a WebSocket whose handler cannot be interrupted ends after `drain`", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* stopped("50 millis", Effect.uninterruptible), "")
    }))
})

/** An upgrade that is pipelined behind other requests. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Latch } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
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

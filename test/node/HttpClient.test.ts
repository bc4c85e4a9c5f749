import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import * as Http from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { Registry } from "../../src/index.ts"
import { HttpClient, HttpServer } from "../../src/node/index.ts"
import { certificate, until } from "./fixtures/kit.ts"

const ok = (text: string, ...headers: ReadonlyArray<string>) =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n${headers.map((header) => `${header}\r\n`).join("")}\r\n${text}`

/** What a hand-written server does with a request: the number of its connection, and of the request on it, from 1. */
type Answer = (conn: Net.Socket, connection: number, request: number, text: string) => void

/** A server that does to each request exactly what it is told. */
const scripted = (answer: Answer, secure = false) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<{
        readonly url: string
        readonly requests: Array<string>
        readonly conns: Array<Net.Socket>
        readonly server: Net.Server
      }>((resolve) => {
        const requests: Array<string> = []
        const conns: Array<Net.Socket> = []
        const accept = (conn: Net.Socket): void => {
          const connection = conns.push(conn)
          let request = 0
          conn.on("error", () => {})
          conn.on("data", (data) => {
            const text = String(data)
            requests.push(`${connection} ${text.split(" ").slice(0, 2).join(" ")}`)
            answer(conn, connection, ++request, text)
          })
        }
        const server = secure ? Tls.createServer(certificate(), accept) : Net.createServer(accept)
        server.listen(0, "127.0.0.1", () => {
          const { port } = server.address() as Net.AddressInfo
          resolve({ url: `http${secure ? "s" : ""}://127.0.0.1:${port}`, requests, conns, server })
        })
      })
    ),
    ({ conns, server }) =>
      Effect.sync(() => {
        for (const conn of conns) conn.destroy()
        server.close()
      })
  )

const text = <R>(request: Effect.Effect<HttpClientResponse, HttpClientError, R>) =>
  Effect.flatMap(request, (response) => response.text)

/** One connection to each origin: undici waits a turn before it uses one again, and would rather dial another. */
const one = { maxConnectionsPerAddress: 1 }

const reset = (conn: Net.Socket): void => {
  if (conn instanceof Tls.TLSSocket) conn.destroy()
  else conn.resetAndDestroy()
}

describe("HttpClient", () => {
  describe("kept connections", () => {
    it.live("requests to one origin share a connection, other origins have their own", () =>
      Effect.gen(function*() {
        const servers = [yield* scripted((conn) => conn.write(ok("a"))), yield* scripted((conn) => conn.write(ok("b")))]
        const client = yield* HttpClient.make({ policy: one })
        for (let i = 0; i < 3; i++) {
          for (const [j, { url }] of servers.entries()) assert.strictEqual(yield* text(client.get(url)), "ab"[j])
        }
        assert.deepStrictEqual(servers.map(({ conns }) => conns.length), [1, 1])
        assert.deepStrictEqual(servers[0]!.requests, ["1 GET /", "1 GET /", "1 GET /"])
      }))

    it.live("maxConnectionsPerAddress: no more connections to one origin, further requests wait", () =>
      Effect.gen(function*() {
        const waiting: Array<Net.Socket> = []
        const server = yield* scripted((conn) => waiting.push(conn))
        const client = yield* HttpClient.make({ policy: { maxConnectionsPerAddress: 2 } })
        const all = yield* Effect.forkChild(
          Effect.all(Array.from({ length: 5 }, () => text(client.get(server.url))), { concurrency: "unbounded" })
        )
        for (let seen = 2; seen <= 5; seen++) {
          yield* until("as many requests as there are connections", () => server.requests.length === seen)
          assert.strictEqual(server.conns.length, 2)
          waiting.shift()!.write(ok("x"))
        }
        waiting.shift()!.write(ok("x"))
        assert.deepStrictEqual(yield* Fiber.join(all), ["x", "x", "x", "x", "x"])
      }))

    it.live("maxRequests: then the connection is closed", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn) => conn.write(ok("a")))
        const client = yield* HttpClient.make({ policy: { ...one, maxRequests: 2 } })
        for (let i = 0; i < 5; i++) yield* text(client.get(server.url))
        assert.deepStrictEqual(server.requests.map((request) => request[0]), ["1", "1", "2", "2", "3"])
      }))

    it.live("an idle connection ends a second before the server would end it, and after `idle` where nothing is said", () =>
      Effect.gen(function*() {
        const ends: Array<number> = []
        const told = yield* scripted((conn) => {
          conn.write(ok("a", "Keep-Alive: timeout=2"))
          const since = performance.now()
          conn.on("end", () => ends[0] = performance.now() - since)
        })
        const silent = yield* scripted((conn) => {
          conn.write(ok("a"))
          const since = performance.now()
          conn.on("end", () => ends[1] = performance.now() - since)
        })
        const client = yield* HttpClient.make()
        const impatient = yield* HttpClient.make({ policy: { idle: 300 } })
        yield* text(client.get(told.url))
        yield* text(impatient.get(silent.url))
        yield* until("both ends", () => ends.filter((end) => end !== undefined).length === 2)
        assert.isAtLeast(ends[0]!, 900)
        assert.isAtMost(ends[0]!, 1900)
        assert.isAtLeast(ends[1]!, 250)
        assert.isAtMost(ends[1]!, 3000)
      }))

    it.live("with HttpServer at the other end, the client's end comes first", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const server = yield* HttpServer.make("http://127.0.0.1:0", { registry, policy: { idle: "2 seconds" } })
        yield* server.http.serve(Effect.succeed(HttpServerResponse.text("hello")))
        const client = yield* HttpClient.make()
        assert.strictEqual(yield* text(client.get(server.url)), "hello")
        yield* Effect.promise(async () => {
          const deadline = performance.now() + 5000
          while (performance.now() < deadline && Effect.runSync(registry.size) > 0) {
            await new Promise((resolve) => setTimeout(resolve, 5))
          }
        })
        const [ended] = yield* registry.history
        assert.strictEqual(ended?.snapshot.reason?.message, "closed by the peer")
      }))

    it.live("connections end with the scope", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn) => conn.write(ok("a")))
        yield* Effect.scoped(Effect.flatMap(HttpClient.make(), (client) => text(client.get(server.url))))
        yield* until("the end", () => server.conns[0]!.readableEnded || server.conns[0]!.destroyed)
      }))
  })

  describe("B68 the reuse race", () => {
    const ways: { readonly [name: string]: (conn: Net.Socket) => void } = {
      "ends it (FIN)": (conn) => conn.end(),
      "destroys it": (conn) => conn.destroy(),
      "resets it (RST)": reset
    }
    for (const [way, close] of Object.entries(ways)) {
      for (const secure of way.includes("RST") ? [false] : [false, true]) {
        const over = `${secure ? "TLS" : "TCP"}, a server that ${way} just as the client sends`
        /** Closes the first connection at its second request, and answers everything else. */
        const racing = scripted(
          (conn, connection, request) => connection === 1 && request === 2 ? close(conn) : conn.write(ok("a")),
          secure
        )
        const options = { policy: one, ...(secure ? { ca: certificate().cert } : {}) }

        it.live(`${over}: an idempotent request is sent once more`, () =>
          Effect.gen(function*() {
            const requests = [
              HttpClientRequest.get("/x"),
              HttpClientRequest.head("/x"),
              HttpClientRequest.delete("/x"),
              HttpClientRequest.bodyText(HttpClientRequest.put("/x"), "body"),
              HttpClientRequest.setHeader(HttpClientRequest.post("/x"), "Idempotency-Key", "7")
            ]
            for (const request of requests) {
              yield* Effect.scoped(Effect.gen(function*() {
                const server = yield* racing
                const client = yield* HttpClient.make(options)
                yield* text(client.get(server.url))
                const response = yield* client.execute(HttpClientRequest.prependUrl(request, server.url))
                assert.strictEqual(response.status, 200)
                const line = `${request.method} /x`
                assert.deepStrictEqual(server.requests, ["1 GET /", `1 ${line}`, `2 ${line}`])
              }))
            }
          }))

        it.live(`${over}: any other fails, typed, and was sent once`, () =>
          Effect.gen(function*() {
            const requests = [
              HttpClientRequest.post("/x"),
              HttpClientRequest.bodyText(HttpClientRequest.patch("/x"), "body"),
              // idempotent, but its body is gone
              HttpClientRequest.bodyStream(HttpClientRequest.put("/x"), Stream.make(new Uint8Array([1])))
            ]
            for (const request of requests) {
              yield* Effect.scoped(Effect.gen(function*() {
                const server = yield* racing
                const client = yield* HttpClient.make(options)
                yield* text(client.get(server.url))
                const error = yield* Effect.flip(client.execute(HttpClientRequest.prependUrl(request, server.url)))
                assert.strictEqual(error._tag, "HttpClientError")
                assert.strictEqual(error.reason._tag, "TransportError")
                assert.strictEqual(server.requests.filter((seen) => seen.endsWith(`${request.method} /x`)).length, 1)
              }))
            }
          }))
      }
    }

    it.live("when that fails in the same way, the request is not sent a third time", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn, connection, request) => {
          if (connection > 1) conn.end("HTTP/1.1 2")
          else if (request === 2) conn.destroy()
          else conn.write(ok("a"))
        })
        const client = yield* HttpClient.make({ policy: one })
        yield* text(client.get(server.url))
        const error = yield* Effect.flip(client.get(`${server.url}/x`))
        assert.strictEqual(error.reason._tag, "TransportError")
        assert.deepStrictEqual(server.requests, ["1 GET /", "1 GET /x", "2 GET /x"])
      }))

    it.live("a request that fails on a fresh connection is not sent again", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn) => conn.destroy())
        const client = yield* HttpClient.make()
        const error = yield* Effect.flip(client.get(server.url))
        assert.strictEqual(error.reason._tag, "TransportError")
        assert.deepStrictEqual(server.requests, ["1 GET /"])
      }))

    it.live("what was answered in part is not sent again", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn, _, request) => {
          if (request === 1) conn.write(ok("a"))
          else conn.end("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        })
        const client = yield* HttpClient.make({ policy: one })
        yield* text(client.get(server.url))
        yield* Effect.flip(text(client.get(server.url)))
        assert.deepStrictEqual(server.requests, ["1 GET /", "1 GET /"])
      }))

    it.live("what may be sent twice can be said otherwise", () =>
      Effect.gen(function*() {
        const racing = scripted((conn, connection, request) =>
          connection === 1 && request === 2 ? conn.destroy() : conn.write(ok("a"))
        )
        const server = yield* racing
        const client = yield* HttpClient.make({ policy: one, isIdempotent: ({ method }) => method === "POST" })
        yield* text(client.get(server.url))
        assert.strictEqual((yield* client.post(server.url)).status, 200)
      }))
  })

  it.live("certificates and keys that cannot be used are an error in words, before anything is dialled", () =>
    Effect.gen(function*() {
      const refusal = (options: HttpClient.Options) =>
        Effect.map(Effect.flip(Effect.scoped(HttpClient.make(options))), (error) => error.message)
      assert.match(yield* refusal({ ca: "x" }), /^cannot dial https:\/\/\*: `ca` cannot be read as a PEM certificate: /)
      assert.match(yield* refusal({ cert: certificate().cert }), /`cert` and `key`, and `key` is missing$/)
      assert.match(yield* refusal({ ...certificate(), key: certificate("other").key }), /`key` does not belong/)
    }))

  describe("deadlines", () => {
    it.live("a server that does not answer is given up after `silence`", () =>
      Effect.gen(function*() {
        const server = yield* scripted(() => {})
        const client = yield* HttpClient.make({ policy: { silence: 300 } })
        const since = performance.now()
        const error = yield* Effect.flip(client.get(server.url))
        assert.strictEqual(error.reason._tag, "TransportError")
        assert.isAtLeast(performance.now() - since, 280)
        assert.isAtMost(performance.now() - since, 5000)
      }))

    it.live("and one that stops in the middle of an answer", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn) => conn.write(ok("a").replace("Length: 1", "Length: 100")))
        const client = yield* HttpClient.make({ policy: { silence: 300 } })
        const since = performance.now()
        yield* Effect.flip(text(client.get(server.url)))
        assert.isAtLeast(performance.now() - since, 280)
        assert.isAtMost(performance.now() - since, 5000)
      }))

    it.live("a head that is too long is refused", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn) => conn.write(ok("a", `X: ${"x".repeat(5000)}`)))
        const client = yield* HttpClient.make({ policy: { maxHeader: 4096 } })
        assert.strictEqual((yield* Effect.flip(client.get(server.url))).reason._tag, "TransportError")
        const patient = yield* HttpClient.make()
        assert.strictEqual(yield* text(patient.get(server.url)), "a")
      }))
  })

  it.live("is a layer, and speaks to HttpServer with bodies of any size", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.make("http://127.0.0.1:0")
      yield* server.http.serve(Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
        Effect.map(Effect.orDie(request.text), HttpServerResponse.text)))
      const body = "x".repeat(500_000)
      const request = HttpClientRequest.bodyText(HttpClientRequest.post(server.url), body)
      const answers = yield* Effect.all(
        Array.from({ length: 20 }, () =>
          text(Http.execute(request))),
        {
          concurrency: 8
        }
      )
      assert.isTrue(answers.every((answer) => answer === body))
    }).pipe(Effect.provide(HttpClient.layer({ policy: { maxConnectionsPerAddress: 4 } }))))
})

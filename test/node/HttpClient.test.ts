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
import { InterimAnswers } from "../../src/node/internal/httpClient/interim.ts"
import { withLogs } from "../support/logs.ts"
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

  describe("B145 a request reaches the server once, unless a used connection ended before the first byte", () => {
    const interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    const failures: { readonly [what: string]: (conn: Net.Socket) => void } = {
      "nothing, FIN": (conn) => conn.end(),
      "nothing, RST": reset,
      "one byte, FIN": (conn) => conn.end("H"),
      "a line end, FIN": (conn) => conn.end("\r\n"),
      "half a head, FIN": (conn) => conn.end("HTTP/1.1 200 OK\r\nContent-Le"),
      "half a head, RST": (conn) =>
        conn.write("HTTP/1.1 200 OK\r\nContent-Le", () => setTimeout(() => reset(conn), 20)),
      "an interim answer, FIN": (conn) => conn.end(interim),
      "a 100 that was not asked for, FIN": (conn) => conn.end("HTTP/1.1 100 Continue\r\n\r\n"),
      "half a 100, FIN": (conn) => conn.end("HTTP/1.1 100 Cont"),
      "no HTTP": (conn) => conn.write("SSH-2.0-OpenSSH_9.6\r\n"),
      "a switch of protocols": (conn) =>
        conn.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
      "a head that is too long": (conn) => conn.write(ok("a", `X: ${"x".repeat(5000)}`)),
      "an interim head that is too long": (conn) => conn.write(`HTTP/1.1 100 Continue\r\nX: ${"x".repeat(5000)}`),
      "a body that is cut": (conn) => conn.end(ok("a").replace("Length: 1", "Length: 100")),
      "silence": () => {}
    }
    for (const failing of [1, 2]) {
      it.live(
        failing === 1 ? "on a fresh connection" : "on a used connection",
        () =>
          Effect.forEach(
            Object.entries(failures),
            ([what, fail]) =>
              Effect.forEach(["GET", "POST"] as const, (method) =>
                Effect.scoped(Effect.gen(function*() {
                  const server = yield* scripted((conn, connection, request) =>
                    connection === 1 && request === failing ? fail(conn) : conn.write(ok("a"))
                  )
                  const client = yield* HttpClient.make({ policy: { ...one, silence: 400, maxHeader: 4096 } })
                  if (failing === 2) {
                    yield* text(client.get(server.url))
                  }
                  const sent = yield* Effect.exit(
                    text(client.execute(HttpClientRequest.make(method)(`${server.url}/x`)))
                  )
                  const isAgain = what.startsWith("nothing") && failing === 2 && method === "GET"
                  const seen = server.requests.filter((request) => request.endsWith("/x")).length
                  assert.deepStrictEqual(
                    { seen, sent: sent._tag },
                    isAgain ? { seen: 2, sent: "Success" } : { seen: 1, sent: "Failure" },
                    `${method}: ${what}`
                  )
                })), { concurrency: "unbounded" }),
            { concurrency: "unbounded" }
          )
      )
    }
  })

  describe("B144 interim answers", () => {
    const interim =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100\r\nX: y\r\n\r\n"
    const body = "HTTP/1.1 100 Continue\r\n\r\n"

    it.live("a 100 that was not asked for is skipped, and the connection is kept", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn) => conn.write(interim + ok(body)))
        const client = yield* HttpClient.make({ policy: one })
        for (let i = 0; i < 3; i++) assert.strictEqual(yield* text(client.get(server.url)), body)
        assert.strictEqual(yield* text(client.post(server.url)), body)
        assert.strictEqual(server.conns.length, 1)
      }))

    it.live("and so it is when it comes byte by byte", () =>
      Effect.gen(function*() {
        const server = yield* scripted(async (conn) => {
          for (const byte of interim + ok(body)) {
            conn.write(byte)
            await new Promise(setImmediate)
          }
        })
        const client = yield* HttpClient.make({ policy: one })
        for (let i = 0; i < 2; i++) assert.strictEqual(yield* text(client.get(server.url)), body)
      }))

    it("any split of the bytes is the same", () => {
      const answer = interim + ok(body)
      const expected = `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${ok(body)}`
      for (let i = 0; i < answer.length; i++) {
        for (let j = i; j < answer.length; j += 11) {
          const answers = new InterimAnswers(100)
          answers.expect()
          const parts = [answer.slice(0, i), answer.slice(i, j), answer.slice(j)]
          const passed = parts.map((part) => String(answers.pass(Buffer.from(part)) ?? "")).join("")
          assert.strictEqual(passed, expected)
        }
      }
    })

    it("nothing but the status line of an interim answer is held back", () => {
      const passed = (...parts: ReadonlyArray<string>) => {
        const answers = new InterimAnswers(100)
        answers.expect()
        return parts.map((part) => String(answers.pass(Buffer.from(part)) ?? ""))
      }
      assert.deepStrictEqual(passed("SSH"), ["SSH"])
      assert.deepStrictEqual(passed("HTT", "X"), ["", "HTTX"])
      assert.deepStrictEqual(passed("HTTP/1.1 ", "2", "00"), ["", "HTTP/1.1 2", "00"])
      assert.deepStrictEqual(passed("\r\nHTTP/1.0 10", "0\n\nHTTP/1.1 200"), ["", "HTTP/1.1 200"])
      const answers = new InterimAnswers(100)
      answers.expect()
      answers.pass(Buffer.from(`HTTP/1.1 100 ${"x".repeat(80)}`))
      assert.isFalse(answers.isTooLong)
      answers.pass(Buffer.from("x".repeat(8)))
      assert.isTrue(answers.isTooLong)
      // what follows is another protocol
      assert.deepStrictEqual(passed("HTTP/1.1 101 X\r\n\r\n", body), ["HTTP/1.1 101 X\r\n\r\n", body])
    })

    const endless: { readonly [what: string]: string } = {
      "hints (103)": "HTTP/1.1 103 Early Hints\r\n\r\n",
      "100s": "HTTP/1.1 100 Continue\r\n\r\n",
      "bytes of a head": "x",
      "bytes of the head of a 100": "y"
    }
    it.live("`silence` bounds the wait for an answer that is interim, or the bytes of a head, for ever", () =>
      Effect.forEach(
        Object.entries(endless),
        ([what, part]) =>
          Effect.forEach(["GET", "POST"] as const, (method) =>
            Effect.scoped(Effect.gen(function*() {
              const server = yield* scripted((conn) => {
                if (part === "x") conn.write("HTTP/1.1 200 OK\r\nX: ")
                if (part === "y") conn.write("HTTP/1.1 100 Continue\r\nX: ")
                const timer = setInterval(() => conn.write(part), 20)
                conn.on("close", () => clearInterval(timer))
              })
              const client = yield* HttpClient.make({ policy: { silence: 500 } })
              const since = performance.now()
              const error = yield* Effect.flip(client.execute(HttpClientRequest.make(method)(server.url)))
              assert.strictEqual(error.reason._tag, "TransportError")
              assert.isAtLeast(performance.now() - since, 480, what)
              assert.isAtMost(performance.now() - since, 3000, what)
              yield* until(what, () => server.conns[0]!.destroyed || server.conns[0]!.readableEnded)
              assert.strictEqual(server.requests.length, 1)
            })), { concurrency: "unbounded" }),
        { concurrency: "unbounded" }
      ))

    it.live("an application that sends its body slowly has the time that it takes", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn, _, __, text) =>
          conn.write(text.endsWith("0\r\n\r\n") ? ok("a") : "HTTP/1.1 103 Early Hints\r\n\r\n")
        )
        const client = yield* HttpClient.make({ policy: { silence: 150 } })
        const parts = Stream.fromIterable(["a", "b"]).pipe(
          Stream.mapEffect((part) => Effect.as(Effect.sleep(200), new TextEncoder().encode(part)))
        )
        const request = HttpClientRequest.bodyStream(HttpClientRequest.post(server.url), parts)
        assert.strictEqual(yield* text(client.execute(request)), "a")
      }))
  })

  describe("B150 what cannot be known is said", () => {
    const unsaid = "HTTP/1.1 200 OK\r\n\r\n"

    it.live("what ends the body of an answer", () =>
      Effect.gen(function*() {
        const answers: { readonly [path: string]: string } = {
          length: ok("ab"),
          chunks: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
          connection: `${unsaid}ab`,
          old: "HTTP/1.0 200 OK\r\n\r\nab",
          coded: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
          none: "HTTP/1.1 204 No Content\r\n\r\n"
        }
        const server = yield* scripted((conn, _, __, text) => conn.end(answers[text.split(/[ /]/)[2]!]))
        const client = yield* HttpClient.make()
        const seen: { [path: string]: [HttpClient.BodyEnd, string] } = {}
        for (const path of Object.keys(answers)) {
          const response = yield* client.get(`${server.url}/${path}`)
          seen[path] = [HttpClient.bodyEnd(response), yield* response.text]
        }
        assert.deepStrictEqual(seen, {
          length: ["Length", "ab"],
          chunks: ["Chunks", "ab"],
          connection: ["Connection", "ab"],
          old: ["Connection", "ab"],
          coded: ["Connection", "ab"],
          none: ["None", ""]
        })
        assert.strictEqual(HttpClient.bodyEnd(yield* client.head(`${server.url}/connection`)), "None")
      }))

    for (const secure of [false, true]) {
      it.live(`a body without a length that ends with a reset fails (${secure ? "TLS" : "TCP"})`, () =>
        Effect.gen(function*() {
          const server = yield* scripted((conn) => {
            conn.write(`${unsaid}ab`, () =>
              setTimeout(() => {
                // a TLS socket has no `resetAndDestroy` of its own
                const below = conn as Net.Socket & { readonly _parent?: Net.Socket }
                ;(below._parent ?? conn).resetAndDestroy()
              }, 50))
          }, secure)
          const client = yield* HttpClient.make(secure ? { ca: certificate().cert } : {})
          const error = yield* Effect.flip(text(client.get(server.url)))
          assert.strictEqual(error.reason._tag, "DecodeError")
          assert.strictEqual(server.requests.length, 1)
        }))
    }

    const large = "x".repeat(4_000_000)

    it.live("an answer whose body is never read ends after `silence`, is logged, and says so to a late reader", () =>
      withLogs((lines) =>
        Effect.gen(function*() {
          const server = yield* scripted((conn, connection) => conn.write(ok(connection === 1 ? large : "b")))
          const client = yield* HttpClient.make({ policy: { ...one, silence: 300 } })
          const response = yield* client.get(`${server.url}/a?token=hunter2`)
          assert.strictEqual(yield* text(client.get(server.url)), "b")
          const error = yield* Effect.flip(response.text)
          assert.strictEqual(error.reason._tag, "DecodeError")
          assert.match(String(error.reason.cause), /the body of the answer to GET .*\/a was not read for 300 ms/)
          assert.strictEqual(lines.length, 1)
          assert.match(
            lines[0]!,
            /the body of the answer to GET .*\/a was not read for 300 ms: its connection is closed/
          )
        })
      ))

    it.live("a body that is read slowly has the time that it takes", () =>
      Effect.gen(function*() {
        const server = yield* scripted((conn) => conn.write(ok(large)))
        const client = yield* HttpClient.make({ policy: { ...one, silence: 100 } })
        const response = yield* client.get(server.url)
        let size = 0
        yield* Stream.runForEach(response.stream, (part) => {
          const pause = size === 0 ? Effect.sleep(300) : Effect.void
          size += part.length
          return pause
        })
        assert.strictEqual(size, large.length)
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

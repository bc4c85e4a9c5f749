import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Latch, Layer, Option, type Scope } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { X509Certificate } from "node:crypto"
import type * as Net from "node:net"
import { Codec, Connection, Server } from "../../src/index.ts"
import { Dialer, HttpServer, Listener, Upgrade } from "../../src/node/index.ts"
import { certificateOf } from "../../src/node/internal/upgrade/certificate.ts"
import { withLogs } from "../support/logs.ts"
import { certificate, client, echo, portOf, tempDir, until } from "./fixtures/kit.ts"

const key = "dGhlIHNhbXBsZSBub25jZQ=="
const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/** The head of a request to upgrade, with what a test has different. A header that is undefined is left out. */
const ask = (
  path: string = "/live",
  headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>> = {},
  line: string = `GET ${path} HTTP/1.1`
): string => {
  const all: Record<string, string | ReadonlyArray<string> | undefined> = {
    Host: "localhost",
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Key": key,
    "Sec-WebSocket-Version": "13",
    ...headers
  }
  const lines = Object.entries(all).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((one) => `${name}: ${one}\r\n`)
  )
  return `${line}\r\n${lines.join("")}\r\n`
}

/** A text frame of a client, with a mask of zeros. */
const frame = (text: string): string => `\x81${String.fromCharCode(0x80 | text.length)}\0\0\0\0${text}`

const lines = Connection.make({ codec: Codec.lines() })

/** A server of WebSockets that says hello to what its hook found. */
interface Host {
  readonly name: string
  /** The status of requests on other paths. */
  readonly elsewhere: number
  readonly start: <S, R = never>(
    upgrade: Upgrade.Upgrade<S, R> | undefined,
    options?: Omit<Upgrade.Options<R>, "upgrade">,
    limit?: number
  ) => Effect.Effect<{ readonly url: string }, Listener.ListenFailed, Scope.Scope | R>
}

const greet = <S>(listener: Listener.Listener, upgrade: Upgrade.Upgrade<S, never> | undefined) =>
  Effect.forkScoped(
    Effect.provideService(
      Server.run({
        open: lines,
        handshake: () => upgrade === undefined ? Effect.succeed(undefined) : upgrade.session,
        handle: (connection, session) =>
          Effect.gen(function*() {
            const request = Option.getOrThrow(yield* Upgrade.request)
            yield* connection.send(`${JSON.stringify(session)} ${request.path} ${request.subprotocol ?? "-"}`)
            while (true) yield* connection.send(yield* connection.receive)
          })
      }),
      SocketServer.SocketServer,
      listener
    ),
    { startImmediately: true }
  )

const hosts: ReadonlyArray<Host> = [
  {
    name: "Listener",
    elsewhere: 404,
    start: (upgrade, options, limit = 10_000) =>
      Effect.gen(function*() {
        const listener = yield* Listener.make("ws://127.0.0.1:0/live", {
          ...options,
          upgrade,
          policy: { handshake: limit }
        })
        yield* greet(listener, upgrade as Upgrade.Upgrade<unknown>)
        return listener
      })
  },
  {
    name: "HttpServer",
    // the application's
    elsewhere: 200,
    start: (upgrade, options, limit = 10_000) =>
      Effect.gen(function*() {
        const server = yield* HttpServer.make("http://127.0.0.1:0", {
          ...options,
          webSocket: "/live",
          upgrade,
          policy: { handshake: limit, drain: 0 }
        })
        yield* server.http.serve(Effect.succeed(HttpServerResponse.text("application")))
        yield* greet(server.webSockets, upgrade as Upgrade.Upgrade<unknown>)
        return server
      })
  }
]

/** Sends bytes and returns what came, once it matches or the server ended the connection. */
const exchange = Effect.fnUntraced(function*(
  at: { readonly url: string },
  bytes: string,
  expected: RegExp = /\r\n\r\n/
) {
  const peer = yield* client(at)
  yield* until("the connection", () => peer.connected)
  peer.conn.write(bytes, "latin1")
  yield* until(`an answer like ${expected}`, () => expected.test(peer.text) || peer.ended || peer.closed)
  return peer
})

const status = (text: string): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1])

const header = (text: string, name: string): string | undefined => new RegExp(`^${name}: (.*)\r$`, "im").exec(text)?.[1]

for (const { elsewhere, name, start } of hosts) {
  describe(`${name}: a request to upgrade`, () => {
    it.live("B129 the hook sees it before the 101, and what it returns reaches the handlers", () =>
      Effect.gen(function*() {
        let seen: Upgrade.Request | undefined
        const gate = Latch.makeUnsafe(false)
        const login = Upgrade.make((request) => {
          seen = request
          return Effect.as(gate.await, { user: request.cookies["user"], room: request.query.get("room") })
        })
        const server = yield* start(login)
        const peer = yield* client(server)
        peer.conn.write(
          ask("/live?room=a%20b", { Cookie: "user=ada; theme=dark", "X-Token": "t", Host: "h.example:1" })
        )
        yield* until("the hook", () => seen !== undefined)
        const request = seen!
        assert.deepStrictEqual(
          [request.method, request.url, request.path, request.headers["x-token"], request.headers["host"]],
          ["GET", "/live?room=a%20b", "/live", "t", "h.example:1"]
        )
        assert.deepStrictEqual({ ...request.cookies }, { user: "ada", theme: "dark" })
        assert.deepStrictEqual(
          [request.remote, request.local, request.isSecure, request.certificate],
          [
            `127.0.0.1:${(peer.conn.address() as { port: number }).port}`,
            `127.0.0.1:${portOf(server)}`,
            false,
            undefined
          ]
        )
        assert.strictEqual(peer.text, "")
        yield* gate.open
        yield* until("the greeting", () => peer.text.includes("/live"))
        assert.strictEqual(status(peer.text), 101)
        assert.strictEqual(header(peer.text, "Sec-WebSocket-Accept"), accept)
        assert.include(peer.text, "{\"user\":\"ada\",\"room\":\"a b\"} /live -")
      }))

    it.live("B129 is refused with the status, the headers and the text of `Refused`, and the handlers never see it", () =>
      Effect.gen(function*() {
        let handled = 0
        const server = yield* start(
          Upgrade.make(() => {
            handled++
            return Effect.fail(
              new Upgrade.Refused({ status: 401, headers: { "WWW-Authenticate": "Bearer" }, body: "who are yoü?" })
            )
          })
        )
        const { text } = yield* exchange(server, ask(), /yo.*\?$/)
        assert.strictEqual(status(text), 401)
        assert.deepStrictEqual(
          [header(text, "WWW-Authenticate"), header(text, "Content-Length"), header(text, "Connection")],
          ["Bearer", "13", "close"]
        )
        assert.strictEqual(Buffer.from(text.split("\r\n\r\n")[1]!, "latin1").toString(), "who are yoü?")
        assert.strictEqual(handled, 1)
        const plain = yield* start(
          Upgrade.make(() => Effect.fail(new Upgrade.Refused({ status: 302, headers: { Location: "/login" } })))
        )
        const redirect = yield* exchange(plain, ask(), /Found$/)
        assert.deepStrictEqual([status(redirect.text), header(redirect.text, "Location")], [302, "/login"])
      }))

    it.live("B131 a hook that dies, or whose answer cannot be written, is a 500 without a word of it, and logged", () =>
      Effect.gen(function*() {
        const hooks: Array<Upgrade.Upgrade<void>> = [
          Upgrade.make(() => Effect.die(new Error("secret"))),
          Upgrade.make(() => {
            throw new Error("secret")
          }),
          Upgrade.make((request) => request.agree("secret")),
          Upgrade.make(() => Effect.fail(new Upgrade.Refused({ status: 401, headers: { "X-A": "a\r\nsecret: 1" } }))),
          Upgrade.make(() => Effect.suspend(() => Effect.fail(new Upgrade.Refused({ status: 200, body: "secret" }))))
        ]
        for (const hook of hooks) {
          yield* withLogs((logs) =>
            Effect.gen(function*() {
              const server = yield* start(hook)
              const { text } = yield* exchange(server, ask(), /Error$/)
              assert.strictEqual(status(text), 500)
              assert.notInclude(text, "secret")
              yield* until("the log", () => logs.length > 0)
              assert.deepStrictEqual(
                [logs.length, /^Error a defect in upgrade \(127\.0\.0\.1:\d+\): /.test(logs[0]!)],
                [
                  1,
                  true
                ]
              )
            })
          )
        }
      }))

    it.effect("B129 a hook that hangs is interrupted at the handshake limit, and the connection destroyed", () =>
      Effect.gen(function*() {
        const running = Latch.makeUnsafe(false)
        let end: Exit.Exit<unknown, unknown> | undefined
        const hanging = Upgrade.make(() =>
          Effect.never.pipe(
            Effect.onExit((exit) => Effect.sync(() => end = exit)),
            (hanging) => Effect.andThen(running.open, hanging)
          )
        )
        const server = yield* start(hanging, {}, 4000)
        const peer = yield* client(server)
        peer.conn.write(ask())
        yield* running.await
        yield* TestClock.adjust(3999)
        assert.isUndefined(end)
        yield* TestClock.adjust(1)
        assert.isTrue(end !== undefined && Exit.hasInterrupts(end))
        yield* until("the end of the connection", () => peer.closed || peer.ended)
        assert.strictEqual(peer.text, "")
      }))

    for (
      const [how, leave] of [
        ["closes", (conn: Net.Socket) => conn.destroy()],
        ["resets", (conn: Net.Socket) => conn.resetAndDestroy()],
        ["ends its side", (conn: Net.Socket) => conn.end()]
      ] as const
    ) {
      it.live(`B129 a hook is interrupted when the peer ${how} meanwhile`, () =>
        Effect.gen(function*() {
          const running = Latch.makeUnsafe(false)
          const interrupted = Latch.makeUnsafe(false)
          const server = yield* start(
            Upgrade.make(() => Effect.onInterrupt(Effect.andThen(running.open, Effect.never), () => interrupted.open)),
            {},
            // no limit would end it
            0
          )
          const peer = yield* client(server)
          peer.conn.write(ask())
          yield* running.await
          leave(peer.conn)
          yield* interrupted.await
          yield* until("the end", () => peer.closed || peer.ended)
        }))
    }

    for (const waits of [false, true]) {
      it.live(`B129 bytes behind the request are those of the WebSocket${waits ? ", also while the hook waits" : ""}`, () =>
        Effect.gen(function*() {
          const gate = Latch.makeUnsafe(!waits)
          let running = false
          const server = yield* start(Upgrade.make(() =>
            Effect.suspend(() => {
              running = true
              return gate.await
            })
          ))
          const peer = yield* client(server)
          peer.conn.write(waits ? ask() : ask() + frame("one"), "latin1")
          yield* until("the hook", () => running)
          if (waits) {
            peer.conn.write(frame("one") + frame("two"), "latin1")
            yield* Effect.sleep(20)
            peer.conn.write(frame("three"), "latin1")
            yield* Effect.sleep(20)
            assert.strictEqual(peer.text, "")
          } else {
            peer.conn.write(frame("two") + frame("three"), "latin1")
          }
          yield* gate.open
          yield* until("three answers", () => /one.*two.*three/s.test(peer.text))
        }))
    }

    it.live("B129 a peer that ends its side behind a message is not gone: the hook goes on", () =>
      Effect.gen(function*() {
        const gate = Latch.makeUnsafe(false)
        let running = false
        const server = yield* start(Upgrade.make(() =>
          Effect.suspend(() => {
            running = true
            return gate.await
          })
        ))
        const peer = yield* client(server)
        peer.conn.write(ask())
        yield* until("the hook", () => running)
        peer.conn.end(frame("one"), "latin1")
        yield* Effect.sleep(20)
        yield* gate.open
        yield* until("the answer", () => peer.text.includes("\r\n\r\n"))
        assert.strictEqual(status(peer.text), 101)
      }))

    const unsound: ReadonlyArray<
      readonly [what: string, request: string, status: number, name?: string, value?: string]
    > = [
      ["another method", ask("/live", {}, "POST /live HTTP/1.1"), 405, "Allow", "GET"],
      ["a method that never has it", ask("/live", {}, "OPTIONS /live HTTP/1.1"), 405, "Allow", "GET"],
      ["HTTP/1.0", ask("/live", {}, "GET /live HTTP/1.0"), 426, "Upgrade", "websocket"],
      ["HTTP/0.9", ask("/live", {}, "GET /live HTTP/0.9"), 400],
      ["HTTP/2.0 as text", ask("/live", {}, "GET /live HTTP/2.0"), 400],
      ["no host", ask("/live", { Host: undefined }), 400],
      ["two hosts", ask("/live", { Host: ["localhost", "localhost"] }), 400],
      ["two hosts on another path", ask("/other", { Host: ["a", "b"] }), 400],
      ["a host that is none", ask("/live", { Host: "a, b" }), 400],
      ["no key", ask("/live", { "Sec-WebSocket-Key": undefined }), 400],
      ["a short key", ask("/live", { "Sec-WebSocket-Key": "c2hvcnQ=" }), 400],
      ["two keys", ask("/live", { "Sec-WebSocket-Key": [key, key] }), 400],
      ["no version", ask("/live", { "Sec-WebSocket-Version": undefined }), 426, "Sec-WebSocket-Version", "13"],
      ["version 8", ask("/live", { "Sec-WebSocket-Version": "8" }), 426, "Sec-WebSocket-Version", "13"],
      ["version 13, 8", ask("/live", { "Sec-WebSocket-Version": "13, 8" }), 426, "Sec-WebSocket-Version", "13"],
      ["a body", ask("/live", { "Content-Length": "5" }) + "hello", 400],
      ["a body in chunks", ask("/live", { "Transfer-Encoding": "chunked" }) + "0\r\n\r\n", 400],
      ["a subprotocol that is no token", ask("/live", { "Sec-WebSocket-Protocol": "a b" }), 400],
      ["a subprotocol twice", ask("/live", { "Sec-WebSocket-Protocol": "a, a" }), 400],
      ["no subprotocol in the header", ask("/live", { "Sec-WebSocket-Protocol": "," }), 400]
    ]
    for (const [what, request, expected, field, value] of unsound) {
      it.live(`B129 ${what}: ${expected}, and no hook runs`, () =>
        Effect.gen(function*() {
          let ran = false
          const server = yield* start(Upgrade.make(() => Effect.sync(() => ran = true)))
          const peer = yield* exchange(server, request)
          assert.strictEqual(status(peer.text), expected)
          assert.match(header(peer.text, "Connection")!, /^close/)
          if (field !== undefined) assert.strictEqual(header(peer.text, field), value)
          yield* until("the end", () => peer.ended)
          assert.isFalse(ran)
        }))
    }

    it.live("B129 a request with a whole URL, as proxies send it, is for the path of that", () =>
      Effect.gen(function*() {
        const login = Upgrade.make((request) => Effect.succeed([request.url, request.path, request.query.get("a")]))
        const server = yield* start(login)
        const peer = yield* exchange(server, ask("HTTP://localhost:80/live?a=http://b/"))
        yield* until("the greeting", () => peer.text.includes(" /live -"))
        assert.include(peer.text, `["/live?a=http://b/","/live","http://b/"]`)
        const { text } = yield* exchange(server, ask("http://localhost?/live"))
        assert.strictEqual(status(text), elsewhere)
      }))

    it.live("B129 a list of tokens with white space and other letters asks for a WebSocket too", () =>
      Effect.gen(function*() {
        const server = yield* start(undefined)
        const { text } = yield* exchange(
          server,
          ask("/live", { Connection: "keep-alive , UPGRADE", Upgrade: "WebSocket" })
        )
        assert.strictEqual(status(text), 101)
      }))

    it.live("requests that are pipelined behind an answer do no harm", () =>
      Effect.gen(function*() {
        const server = yield* start(undefined)
        const plain = "GET /other HTTP/1.1\r\nHost: a\r\n\r\n"
        const peer = yield* exchange(server, plain + ask() + ask(), /\r\n\r\n/)
        yield* until("the end", () => peer.ended)
        assert.strictEqual(peer.text.split("HTTP/1.1 ").length, 2)
        assert.strictEqual(status((yield* exchange(server, ask())).text), 101)
      }))

    const origins: ReadonlyArray<
      readonly [origins: Upgrade.Origins | undefined, sent: string | undefined, status: number]
    > = [
      [undefined, undefined, 101],
      [undefined, "http://h.example:81", 101],
      [undefined, "https://h.example:81", 101],
      [undefined, "http://H.EXAMPLE:81", 101],
      [undefined, "http://evil.example", 403],
      [undefined, "http://h.example", 403],
      [undefined, "http://h.example:81.evil.example", 403],
      [undefined, "http://h.example:81@evil.example", 403],
      [undefined, "http://evil.example/h.example:81", 403],
      [undefined, "ftp://h.example:81", 403],
      [undefined, "null", 403],
      [undefined, "", 403],
      [undefined, "same-host", 403],
      [undefined, "http://h.example:81, http://h.example:81", 403],
      ["any", "http://evil.example", 101],
      ["any", "null", 101],
      [["https://app.example"], "https://app.example", 101],
      [["https://app.example:443/"], "https://app.example", 101],
      [["https://app.example"], "https://app.example:443", 101],
      [["https://app.example"], "http://app.example", 403],
      [["https://app.example"], "https://app.example:8443", 403],
      [["https://app.example"], "http://h.example:81", 403],
      [["https://app.example"], "null", 403],
      [["null"], "null", 101],
      [["https://app.example", "same-host"], "http://h.example:81", 101],
      [(origin, request) => origin === "x" && request.path === "/live", "x", 101],
      [() => false, "https://app.example", 403],
      [() => false, undefined, 101]
    ]
    it.live("B129 a foreign origin gets 403 before the hook, unless it is allowed", () =>
      Effect.gen(function*() {
        for (const [allowed, sent, expected] of origins) {
          const server = yield* start(Upgrade.open, { origins: allowed })
          const { text } = yield* exchange(server, ask("/live", { Host: "h.example:81", Origin: sent }))
          assert.strictEqual(status(text), expected, `${JSON.stringify(allowed)}, ${sent}`)
        }
        // that of a path counts before that of the server
        const server = yield* start(Upgrade.make(() => Effect.void, { origins: ["http://a"] }), { origins: "any" })
        assert.strictEqual(status((yield* exchange(server, ask("/live", { Origin: "http://b" }))).text), 403)
        yield* withLogs((logs) =>
          Effect.gen(function*() {
            const odd = yield* start(undefined, {
              origins: () => {
                throw new Error("secret")
              }
            })
            const { text } = yield* exchange(odd, ask("/live", { Origin: "http://b" }), /Error$/)
            assert.deepStrictEqual([status(text), text.includes("secret")], [500, false])
            yield* until("the log", () => logs.length === 1)
          })
        )
      }))

    const subprotocols: ReadonlyArray<
      readonly [preferred: ReadonlyArray<string> | undefined, offered: string | undefined, agreed: string | undefined]
    > = [
      [undefined, undefined, undefined],
      [undefined, "chat.v1", undefined],
      [["chat.v2", "chat.v1"], "chat.v1, chat.v2", "chat.v2"],
      [["chat.v2", "chat.v1"], "other,chat.v1", "chat.v1"],
      [["chat.v2"], "chat.v1", undefined],
      [["chat.v2"], undefined, undefined]
    ]
    it.live("B129 no subprotocol is agreed to unasked; of the server's, the first that is offered", () =>
      Effect.gen(function*() {
        for (const [preferred, offered, agreed] of subprotocols) {
          const server = yield* start(Upgrade.open, { subprotocols: preferred })
          const { text } = yield* exchange(server, ask("/live", { "Sec-WebSocket-Protocol": offered }), / \/live /)
          assert.strictEqual(header(text, "Sec-WebSocket-Protocol"), agreed)
          assert.include(text, ` /live ${agreed ?? "-"}`)
        }
        const chosen = yield* start(
          Upgrade.make((request) => request.agree(request.subprotocols[1]!), { subprotocols: ["a"] })
        )
        const { text } = yield* exchange(chosen, ask("/live", { "Sec-WebSocket-Protocol": "a, b" }), / \/live /)
        assert.strictEqual(header(text, "Sec-WebSocket-Protocol"), "b")
      }))

    it.live("B129 several paths, each with its own hook; other paths are 404 or the application's", () =>
      Effect.gen(function*() {
        const chat = Upgrade.make(() => Effect.fail(new Upgrade.Refused({ status: 402 })))
        const feed = Upgrade.make(() => Effect.fail(new Upgrade.Refused({ status: 409 })))
        const server = yield* start(Upgrade.open, { paths: { "/chat": chat, "/feed/": feed } })
        for (
          const [path, expected] of [
            ["/live", 101],
            ["/chat?x=/feed/", 402],
            ["/feed/", 409],
            ["/feed", elsewhere],
            ["/LIVE", elsewhere],
            ["/", elsewhere]
          ] as const
        ) {
          assert.strictEqual(status((yield* exchange(server, ask(path))).text), expected, path)
        }
      }))

    it.live("options that make no sense are refused by name", () =>
      Effect.gen(function*() {
        const wrong: ReadonlyArray<readonly [Upgrade.Options, RegExp]> = [
          [{ origins: ["app.example"] }, /`origins` has "app.example"/],
          [{ origins: ["https://app.example/path"] }, /`origins`/],
          [{ subprotocols: ["a b"] }, /`subprotocols` has "a b"/],
          [{ paths: { "/a?b": Upgrade.open } }, /`paths` has "\/a\?b"/],
          [{ paths: { "/live": Upgrade.open } }, /`paths` has \/live/]
        ]
        for (const [options, expected] of wrong) {
          const failure = yield* Effect.flip(start(Upgrade.open, options))
          assert.deepStrictEqual([failure.reason, expected.test(failure.message)], ["BadOption", true], failure.message)
        }
      }))
  })
}

describe("over TLS", () => {
  it.live("B129 the hook sees the certificate of the client", () =>
    Effect.gen(function*() {
      let seen: Upgrade.Request | undefined
      const { cert, key } = certificate()
      const server = yield* Listener.make("wss://127.0.0.1:0/live", {
        cert,
        key,
        ca: cert,
        upgrade: Upgrade.make((request) => {
          seen = request
          return Effect.void
        })
      })
      yield* Effect.forkScoped(server.run(() => Effect.void))
      const own = { ca: cert, cert, key, servername: "localhost" }
      const open = Effect.flatMap(Dialer.make(server.url, own), (socket) => socket.reader)
      yield* Effect.exit(open)
      assert.isTrue(seen?.isSecure)
      const { alternativeNames, fingerprint, issuer, raw, serialNumber, subject, validTo } = seen!.certificate!
      assert.deepStrictEqual({ ...subject }, { CN: ["localhost"] })
      assert.deepStrictEqual({ ...issuer }, { CN: ["localhost"] })
      assert.deepStrictEqual(alternativeNames, ["DNS:localhost", "DNS:holdfast.test", "IP Address:127.0.0.1"])
      const read = new X509Certificate(cert)
      assert.deepStrictEqual([fingerprint, serialNumber], [read.fingerprint256, read.serialNumber])
      assert.deepStrictEqual([new Uint8Array(raw), validTo], [new Uint8Array(read.raw), new Date(read.validTo)])
    }))

  it.live("B129 a page of http is foreign, and without `ca` no certificate is seen", () =>
    Effect.gen(function*() {
      let seen: Upgrade.Request | undefined
      const server = yield* Listener.make("wss://127.0.0.1:0/live", {
        ...certificate(),
        upgrade: Upgrade.make((request) => {
          seen = request
          return Effect.void
        })
      })
      assert.strictEqual(status((yield* exchange(server, ask("/live", { Origin: "http://localhost" }))).text), 403)
      assert.strictEqual(status((yield* exchange(server, ask("/live", { Origin: "https://localhost" }))).text), 101)
      assert.isUndefined(seen!.certificate)
    }))

  it("names that have commas and quotes in them are read as they are", () => {
    const { alternativeNames, subject } = certificateOf({
      subject: "C=XX\nO=A, B\nOU=1\nOU=2\nCN=a=b",
      issuer: "",
      subjectAltName:
        "DNS:a.example, URI:spiffe://b/c, DNS:\"evil.example, DNS:good.example\", IP Address:0:0:0:0:0:0:0:1"
    } as X509Certificate)!
    assert.deepStrictEqual({ ...subject }, { C: ["XX"], O: ["A, B"], OU: ["1", "2"], CN: ["a=b"] })
    assert.deepStrictEqual(alternativeNames, [
      "DNS:a.example",
      "URI:spiffe://b/c",
      "DNS:evil.example, DNS:good.example",
      "IP Address:0:0:0:0:0:0:0:1"
    ])
  })
})

describe("sessions", () => {
  class Users extends Context.Service<Users, { readonly byToken: (token: string) => string | undefined }>()("Users") {}
  const users = Layer.succeed(Users, { byToken: (token) => token === "t" ? "ada" : undefined })

  const login = Upgrade.make((request) =>
    Effect.gen(function*() {
      const name = (yield* Users).byToken(request.headers["x-token"] ?? "")
      return name === undefined
        ? yield* new Upgrade.Refused({ status: 403, headers: { "X-Why": "token" }, body: "no" })
        : { name }
    })
  )

  it.live("a route of effect/http and a handler of sockets get the same session from one hook", () =>
    Effect.gen(function*() {
      const http = HttpRouter.serve(
        HttpRouter.add(
          "GET",
          "/me",
          login.route((user) =>
            Effect.map(
              Upgrade.request,
              (request) => HttpServerResponse.text(`${user.name} ${Option.getOrThrow(request).path}`)
            )
          )
        ),
        { disableListenLog: true, disableLogger: true }
      )
      const live = Server.layer({
        open: lines,
        handshake: () => login.session,
        handle: (connection, user) => connection.send(`hello ${user.name.toUpperCase()}`)
      })
      const address = yield* Deferred.make<string>()
      const told = Layer.effectDiscard(
        Effect.flatMap(
          SocketServer.SocketServer,
          (server) => Deferred.succeed(address, (server as Listener.Listener).url)
        )
      )
      const listening = HttpServer.layer("http://127.0.0.1:0", { webSocket: "/live", upgrade: login })
      yield* Layer.build(Layer.mergeAll(http, live, told).pipe(Layer.provide(listening), Layer.provide(users)))
      const url = yield* Deferred.await(address)
      const get = (token: string) => `GET /me HTTP/1.1\r\nHost: a\r\nX-Token: ${token}\r\nConnection: close\r\n\r\n`
      const mine = yield* exchange({ url }, get("t"), /ada/)
      assert.deepStrictEqual([status(mine.text), mine.text.endsWith("ada /me")], [200, true])
      const refused = yield* exchange({ url }, get("u"), /no$/)
      assert.deepStrictEqual([status(refused.text), header(refused.text, "X-Why")], [403, "token"])
      const socket = yield* exchange({ url }, ask("/live", { "X-Token": "t" }), /hello/)
      assert.include(socket.text, "hello ADA")
      assert.strictEqual(status((yield* exchange({ url }, ask("/live", { "X-Token": "u" }), /no$/)).text), 403)
    }))

  it.live("each path of a listener has a codec and a handler of its own", () =>
    Effect.gen(function*() {
      const room = Upgrade.make((request) => Effect.succeed(request.query.get("room")))
      const listener = yield* Listener.make("ws://127.0.0.1:0", { paths: { "/chat": room, "/raw": Upgrade.open } })
      const serve = <A, E>(server: Effect.Effect<A, E, SocketServer.SocketServer>, path: `/${string}`) =>
        Effect.forkScoped(
          Effect.provide(server, Upgrade.layerAt(path)).pipe(
            Effect.provideService(SocketServer.SocketServer, listener)
          )
        )
      // waits for its server
      const early = yield* exchange(listener, ask("/raw") + frame("abc"))
      yield* serve(
        Server.run({
          open: lines,
          handshake: () => room.session,
          handle: (connection, name) => connection.send(`in ${name}`)
        }),
        "/chat"
      )
      yield* serve(
        Server.run({
          open: Connection.make({ codec: Codec.bytes() }),
          handle: (connection) => Effect.flatMap(connection.receive, (bytes) => connection.send(bytes.toReversed()))
        }),
        "/raw"
      )
      yield* until("the early one", () => early.text.includes("cba"))
      assert.include((yield* exchange(listener, ask("/chat?room=7"), /in 7/)).text, "in 7")
      assert.strictEqual(status((yield* exchange(listener, ask("/"))).text), 404)
    }))

  it.live("a connection that no hook let in has none, and says what to do", () =>
    withLogs((logs) =>
      Effect.gen(function*() {
        const failure = yield* Effect.flip(login.session)
        assert.strictEqual(failure.reason._tag, "Defect")
        assert.isFalse(failure.isRetryable)
        assert.match(failure.message, /Give it to the listener/)
        assert.lengthOf(logs, 1)
        assert.isTrue(Option.isNone(yield* Upgrade.request))
      })
    ))

  it.live("one that another hook let in has none of this one", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const found = yield* Deferred.make<string>()
        const listener = yield* Listener.make("ws://127.0.0.1:0", { upgrade: Upgrade.open })
        const session = Effect.flip(Effect.provide(login.session, users))
        yield* Effect.forkScoped(
          listener.run(() => Effect.flatMap(session, ({ reason }) => Deferred.succeed(found, reason._tag)))
        )
        yield* exchange(listener, ask("/"))
        assert.strictEqual(yield* Deferred.await(found), "Defect")
      })
    ))

  it.live("what came while the hook waited is kept for a server that comes later", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe(false)
      const running = Latch.makeUnsafe(false)
      const waiting = Upgrade.make(() => Effect.andThen(running.open, gate.await))
      const listener = yield* Listener.make("ws://127.0.0.1:0", { upgrade: waiting })
      const peer = yield* client(listener)
      peer.conn.write(ask("/"))
      yield* running.await
      peer.conn.write(frame("early"), "latin1")
      yield* Effect.sleep(20)
      yield* gate.open
      yield* until("the answer", () => peer.text.includes("\r\n\r\n"))
      yield* Effect.sleep(20)
      yield* Effect.forkScoped(listener.run(echo))
      yield* until("the echo", () => peer.text.includes("early"))
    }))

  it.live("the scope of a hook closes when it returns", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const scoped = Upgrade.make(() =>
        Effect.as(Effect.acquireRelease(Effect.void, () => Effect.sync(() => order.push("released"))), 1)
      )
      const listener = yield* Listener.make("ws://127.0.0.1:0", { upgrade: scoped })
      yield* Effect.forkScoped(listener.run(() => Effect.sync(() => order.push("handled"))))
      yield* exchange(listener, ask("/"))
      yield* until("the handler", () => order.length === 2)
      assert.deepStrictEqual(order, ["released", "handled"])
    }))

  it.live("of a WebSocket on a Unix socket the request tells the path as its address", () =>
    Effect.gen(function*() {
      const dir = yield* tempDir
      let remote: string | undefined
      const server = yield* HttpServer.make(`unix://${dir}/s`, {
        paths: { "/live": Upgrade.make((request) => Effect.sync(() => remote = request.remote)) }
      })
      assert.strictEqual(status((yield* exchange(server, ask())).text), 101)
      assert.strictEqual(remote, `unix:${dir}/s`)
    }))
})

describe("HTTP", () => {
  const served = Effect.gen(function*() {
    const server = yield* HttpServer.make("http://127.0.0.1:0")
    yield* server.http.serve(Effect.succeed(HttpServerResponse.text("application")))
    return server
  })
  for (
    const [what, request] of [
      ["two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"],
      [
        "two hosts, told to continue",
        "POST / HTTP/1.1\r\nHost: a\r\nhost: b\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
      ],
      ["two hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"],
      ["no host", "GET / HTTP/1.1\r\n\r\n"],
      ["a host that is none", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"],
      ["HTTP/0.9", "GET / HTTP/0.9\r\n\r\n"],
      ["HTTP/0.9 without a word of it", "GET /\r\n\r\n"],
      ["HTTP/2.0 as text", "GET / HTTP/2.0\r\nHost: a\r\n\r\n"]
    ] as const
  ) {
    it.live(`${what}: 400, and the application does not see it`, () =>
      Effect.gen(function*() {
        const peer = yield* exchange(yield* served, request)
        assert.strictEqual(status(peer.text), 400)
        yield* until("the end", () => peer.ended)
        assert.notInclude(peer.text, "application")
      }))
  }

  it.live("HTTP/1.0 without a host is answered", () =>
    Effect.gen(function*() {
      assert.strictEqual(status((yield* exchange(yield* served, "GET / HTTP/1.0\r\n\r\n")).text), 200)
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Latch, Layer, Option, Result, Scope } from "effect"
import { HttpClient, HttpRouter, HttpServerResponse } from "effect/http"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, Server } from "../../src/index.ts"
import { Dialer, HttpServer, Listener, Upgrade } from "../../src/node/index.ts"
import { withLogs } from "../support/logs.ts"
import { certificate, client, portOf, tempDir, until } from "./fixtures/kit.ts"

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
  readonly start: <S, R>(
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
    start: (upgrade, options, limit = 10_000) =>
      Effect.gen(function*() {
        const listener = yield* Listener.make("ws://127.0.0.1:0/live", { ...options, upgrade, handshakeTimeout: limit })
        yield* greet(listener, upgrade as Upgrade.Upgrade<unknown>)
        return listener
      })
  },
  {
    name: "HttpServer",
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

for (const { name, start } of hosts) {
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
        peer.conn.write(ask("/live?room=a%20b", { Cookie: "user=ada; theme=dark", "X-Token": "t", Host: "h.example:1" }))
        yield* until("the hook", () => seen !== undefined)
        const request = seen!
        assert.deepStrictEqual(
          [request.method, request.url, request.path, request.headers["x-token"], request.headers["host"]],
          ["GET", "/live?room=a%20b", "/live", "t", "h.example:1"]
        )
        assert.deepStrictEqual({ ...request.cookies }, { user: "ada", theme: "dark" })
        assert.deepStrictEqual(
          [request.remote, request.local, request.isSecure, request.certificate],
          [`127.0.0.1:${(peer.conn.address() as { port: number }).port}`, `127.0.0.1:${portOf(server)}`, false, undefined]
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
          const { logs, result: { text } } = yield* withLogs(
            Effect.gen(function*() {
              const server = yield* start(hook)
              return yield* exchange(server, ask(), /Error$/)
            })
          )
          assert.strictEqual(status(text), 500)
          assert.notInclude(text, "secret")
          assert.strictEqual(logs.filter((line) => JSON.stringify(line).includes("a defect in upgrade")).length, 1)
        }
      }))
  })
}

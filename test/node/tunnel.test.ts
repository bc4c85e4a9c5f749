/** Clients behind a proxy: HTTP CONNECT and SOCKS5, whatever is dialled, HTTP too, and what each refusal is. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Http from "node:http"
import * as Https from "node:https"
import type * as Net from "node:net"
import * as Inspectable from "node:util"
import { Codec, Connection, type ConnectionError } from "../../src/index.ts"
import { Dialer, HttpClient, Listener, Proxy } from "../../src/node/index.ts"
import { isExempt, proxyFor } from "../../src/node/internal/tunnel/environment.ts"
import { conversation } from "../../src/node/internal/tunnel/socks.ts"
import { serve } from "../integration/support/kit.ts"
import { certificate, portOf, until } from "./fixtures/kit.ts"
import { foreignProxy, hiddenName, httpProxy, type ProxyServer, silentProxy, socksProxy } from "./fixtures/proxies.ts"

const lines = { codec: Codec.lines() }
const trust = { ca: certificate().cert, servername: "localhost" }

const listen = Effect.fnUntraced(function*(scheme: string, host = "127.0.0.1") {
  const listener = yield* Listener.make(`${scheme}://${host}:0`, certificate())
  return { port: portOf(listener), served: yield* serve(listener, lines) }
})

const isServed = Effect.fnUntraced(function*(url: string, options: Dialer.DialOptions) {
  const secure = /^(tls|wss):/.test(url)
  const connection = yield* Effect.flatMap(
    Dialer.make(url, { ...(secure ? trust : {}), ...options }),
    Connection.make(lines)
  )
  yield* connection.send("hello")
  assert.strictEqual(yield* connection.receive, "hello")
  return connection
})

const failure = (options: Dialer.DialOptions, url = "tcp://192.0.2.1:7") =>
  Effect.scoped(Effect.flip(Effect.flatMap(Dialer.make(url, options), Connection.make(lines)))) as Effect.Effect<
    ConnectionError.ConnectionError | Dialer.DialFailed
  >

/** The refusal of a proxy, and what it makes of the try. */
const refusal = Effect.fnUntraced(function*(options: Dialer.DialOptions, url?: string) {
  const error = yield* failure(options, url)
  assert(error._tag === "ConnectionError", String(error))
  const { reason } = error
  assert(
    (reason._tag === "OpenFailed" || reason._tag === "HandshakeFailed") && reason.cause instanceof Proxy.ProxyRefused,
    String(error)
  )
  assert.strictEqual(reason.isRetryable, reason.cause.isRetryable)
  for (const text of [String(error), Inspectable.inspect(error, { depth: 9 }), JSON.stringify(error)]) {
    assert.notInclude(text, "secret")
    assert.notInclude(text, Buffer.from("ada:secret").toString("base64"))
  }
  return reason.cause
})

const kinds = [
  ["http", (given = {}) => httpProxy(given), {}],
  ["https", (given = {}) => httpProxy({ ...given, tls: true }), { ca: certificate().cert }],
  ["socks5", (given = {}) => socksProxy(given), {}]
] as const satisfies ReadonlyArray<
  readonly [string, (given?: Parameters<typeof httpProxy>[0]) => ReturnType<typeof httpProxy>, object]
>

describe("a proxy of a client", () => {
  for (const [kind, make, more] of kinds) {
    it.live(`${kind}: leads to each kind of server, and resolves its name`, () =>
      Effect.gen(function*() {
        const proxy = yield* make({ auth: "ada:secret" })
        const url = `${kind}://ada:secret@localhost:${proxy.port}`
        for (const scheme of ["tcp", "tls", "ws", "wss"]) {
          const { port, served } = yield* listen(scheme)
          const connection = yield* isServed(`${scheme}://${hiddenName}:${port}`, {
            proxy: { url, ...more },
            family: 4
          })
          assert.strictEqual(proxy.targets.at(-1), `${hiddenName}:${port}`)
          assert.strictEqual((yield* connection.snapshot).remote, `${hiddenName}:${port}`)
          yield* connection.close
          yield* until("the server sees the end", () => served.events.some(({ _tag }) => _tag === "Closed"))
          yield* until("the proxy is left", () => proxy.open() === 0)
        }
      }))

    it.live(`${kind}: leads to addresses of both families`, () =>
      Effect.gen(function*() {
        const proxy = yield* make()
        for (const host of ["127.0.0.1", "[::1]"]) {
          const { port } = yield* listen("tcp", host)
          yield* isServed(`tcp://${host}:${port}`, {
            proxy: { url: Redacted.make(`${kind}://127.0.0.1:${proxy.port}`), ...more }
          })
        }
        assert.lengthOf(proxy.targets, 2)
      }))
  }

  it.live("is reached over IPv6, and by user and password that are no part of its URL", () =>
    Effect.gen(function*() {
      const { port } = yield* listen("tcp")
      const url = `tcp://${hiddenName}:${port}`
      for (const [kind, make] of kinds.filter(([kind]) => kind !== "https")) {
        const proxy = yield* make({ host: "::1", auth: "ada:p@ss/:?#" })
        const at = `[::1]:${proxy.port}`
        yield* isServed(url, {
          proxy: { url: `${kind}://${at}`, username: "ada", password: Redacted.make("p@ss/:?#") }
        })
        yield* isServed(url, { proxy: `${kind}://ada:p%40ss%2F%3A%3F%23@${at}` })
      }
    }))

  it.live("of SOCKS5 is also called socks5h", () =>
    Effect.gen(function*() {
      const { port } = yield* listen("tcp")
      const proxy = yield* socksProxy()
      yield* isServed(`tcp://${hiddenName}:${port}`, { proxy: `socks5h://127.0.0.1:${proxy.port}` })
    }))

  it.live("keeps what a server says first", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make("tcp://127.0.0.1:0")
      yield* serve(listener, {
        ...lines,
        handle: (connection) => Effect.andThen(connection.send("first"), connection.receive)
      })
      for (const [kind, make, more] of kinds) {
        const proxy = yield* make()
        const connection = yield* Effect.flatMap(
          Dialer.make(`tcp://127.0.0.1:${portOf(listener)}`, {
            proxy: { url: `${kind}://127.0.0.1:${proxy.port}`, ...more }
          }),
          Connection.make(lines)
        )
        assert.strictEqual(yield* connection.receive, "first")
      }
    }))
})

describe("a refusal of a proxy", () => {
  it.live("is told by its name, with no word of the password", () =>
    Effect.gen(function*() {
      const at = ({ port }: ProxyServer, kind: string, user = "") => ({ proxy: `${kind}://${user}127.0.0.1:${port}` })
      const http = yield* httpProxy({ auth: "grace:hopper" })
      const named = yield* refusal(at(http, "http", "ada:secret@"))
      assert.deepInclude({ ...named }, {
        proxy: `http://127.0.0.1:${http.port}`,
        target: "192.0.2.1:7",
        reason: "AuthenticationRequired",
        status: 407
      })
      assert.match(
        named.message,
        /^the proxy http:\/\/127\.0\.0\.1:\d+ did not connect to 192\.0\.2\.1:7: it does not take our user/
      )
      assert.match((yield* refusal(at(http, "http"))).message, /it wants a user and a password \(407\)$/)
      for (
        const [answer, reason, status] of [
          ["HTTP/1.1 403 Forbidden\r\n\r\n", "NotAllowed", 403],
          ["HTTP/1.1 503 Busy\r\n\r\n", "Status", 503],
          ["HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", "Status", 302]
        ] as const
      ) {
        const found = yield* refusal(at(yield* httpProxy({ answer }), "http"))
        assert.deepStrictEqual([found.reason, found.status], [reason, status])
      }
      const socks = yield* socksProxy({ auth: "grace:hopper" })
      assert.strictEqual((yield* refusal(at(socks, "socks5", "ada:secret@"))).reason, "AuthenticationRequired")
      assert.strictEqual((yield* refusal(at(socks, "socks5"))).reason, "AuthenticationRequired")
      const reasons: Array<string> = []
      for (let reply = 1; reply <= 9; reply++) {
        reasons.push(
          (yield* refusal(at(yield* socksProxy({ answer: Buffer.from([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]) }), "socks5")))
            .reason
        )
      }
      assert.deepStrictEqual(reasons, [
        "GeneralFailure",
        "NotAllowed",
        "NetworkUnreachable",
        "HostUnreachable",
        "ConnectionRefused",
        "TtlExpired",
        "CommandNotSupported",
        "AddressTypeNotSupported",
        "GeneralFailure"
      ])
      for (const kind of ["http", "socks5"]) {
        assert.strictEqual((yield* refusal(at(yield* foreignProxy("SSH-2.0-x\r\n"), kind))).reason, "Protocol")
        const error = yield* failure(at(yield* foreignProxy(""), kind))
        assert.match(error.message, /closed the connection before it had connected us$/)
        assert.isTrue(error.isRetryable)
      }
    }))

  it.effect("that never comes is over with Policy.open, to the millisecond, and nothing is left open", () =>
    Effect.gen(function*() {
      for (const kind of ["http", "socks5"]) {
        const proxy = yield* silentProxy
        let error: unknown
        yield* Effect.forkChild(Effect.map(
          failure({ proxy: `${kind}://127.0.0.1:${proxy.port}`, policy: { open: "3 seconds" } }),
          (it) => void (error = it)
        ))
        yield* until("it is asked", () => proxy.open() === 1)
        yield* TestClock.adjust(2999)
        assert.isUndefined(error)
        assert.strictEqual(proxy.open(), 1)
        yield* TestClock.adjust(1)
        yield* until("it is told", () => error !== undefined && proxy.open() === 0)
        assert.match(String(error), /Connection timed out/)
      }
    }))

  it("a proxy that makes no sense is told before anything is dialled", () =>
    Effect.runPromise(Effect.gen(function*() {
      for (
        const [proxy, expected] of [
          ["ftp://ada:secret@host:1", /^`proxy` is no URL of a proxy/],
          ["ada:secret@host:1", /is no URL of a proxy/],
          ["http://", /is no URL of a proxy/],
          ["http://ada:secret@host:1/path", /something behind its port/],
          ["http://ada:se/cret@host:1", /is no URL|something behind/],
          ["http://ada:secret%zz@host:1", /not percent-encoded/],
          ["http://host:0", /port 0/],
          [{ url: "http://host", username: "a:b", password: "secret" }, /colon/],
          [{ url: "socks5://host", username: "a".repeat(256), password: "secret" }, /255 bytes/],
          [{ url: "https://host", ca: "secret" }, /has a problem/]
        ] as const
      ) {
        const error = yield* Effect.flip(Dialer.make("tcp://host:1", { proxy }))
        assert.strictEqual(error.reason, "BadOption")
        assert.match(error.detail, expected)
        assert.notInclude(String(error), "secret")
      }
      assert.match(
        (yield* Effect.flip(Dialer.make("unix:///run/a.sock", { proxy: "http://host" }))).detail,
        /not for unix/
      )
      assert.match((yield* Effect.flip(Dialer.make("tcp://[fe80::1%25lo]:1", { proxy: "http://host" }))).detail, /zone/)
      assert.match(
        (yield* Effect.flip(Dialer.make("tcp://host:1", { proxy: "http://127.0.0.1", family: 6 }))).detail,
        /not of one family/
      )
    })))
})

describe("a proxy of an HTTP client", () => {
  const answering = (secure: boolean) =>
    Effect.acquireRelease(
      Effect.callback<Http.Server>((resume) => {
        const answer: Http.RequestListener = (request, response) =>
          void response.end(`you asked ${request.headers.host}`)
        const server = secure ? Https.createServer(certificate(), answer) : Http.createServer(answer)
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          server.closeAllConnections()
          server.close()
        })
    )
  const at = (server: Http.Server): number => (server.address() as Net.AddressInfo).port

  for (const [kind, make, more] of kinds) {
    it.live(`${kind}: leads to http and https, and keeps the connection`, () =>
      Effect.gen(function*() {
        const proxy = yield* make({ auth: "ada:secret" })
        const client = yield* HttpClient.make({
          ca: certificate().cert,
          policy: { maxConnectionsPerAddress: 1 },
          proxy: { url: `${kind}://ada:secret@127.0.0.1:${proxy.port}`, ...more }
        })
        const plain = at(yield* answering(false))
        const secure = at(yield* answering(true))
        for (const origin of [`http://${hiddenName}:${plain}`, `https://localhost:${secure}`]) {
          for (let i = 0; i < 2; i++) {
            const response = yield* client.get(`${origin}/`)
            assert.strictEqual(yield* response.text, `you asked ${origin.split("//")[1]}`)
          }
        }
        assert.deepStrictEqual(proxy.targets, [`${hiddenName}:${plain}`, `localhost:${secure}`])
      }))
  }

  it.live("B145: a server behind it that answers before it is asked is dialled once, and that is the answer", () =>
    Effect.gen(function*() {
      const refusal = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull"
      const proxy = yield* httpProxy({ answer: `HTTP/1.1 200 Connection established\r\n\r\n${refusal}` })
      const client = yield* HttpClient.make({ proxy: `http://127.0.0.1:${proxy.port}` })
      const response = yield* Effect.timeout(client.get(`http://${hiddenName}/`), "5 seconds")
      assert.deepStrictEqual([response.status, yield* response.text], [503, "full"])
    }))

  it.live("that is being dialled when the client ends is let go, and the request ends as one that was interrupted", () =>
    Effect.gen(function*() {
      const proxy = yield* silentProxy
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(HttpClient.make({ proxy: `http://127.0.0.1:${proxy.port}` }), scope)
      const asking = yield* Effect.forkChild(Effect.scoped(client.get(`https://${hiddenName}/`)))
      yield* until("it is asked", () => proxy.open() === 1)
      yield* Scope.close(scope, Exit.void)
      yield* until("it is let go", () => proxy.open() === 0)
      const exit = yield* Fiber.await(asking)
      assert(Exit.isFailure(exit))
      assert.isEmpty(exit.cause.reasons.filter(Cause.isDieReason), String(exit.cause))
    }))

  it.live("is one of the environment where that is asked, and its refusal is the cause", () =>
    Effect.gen(function*() {
      const proxy = yield* httpProxy({ auth: "grace:hopper" })
      const env = ConfigProvider.fromEnv({
        env: { http_proxy: `http://ada:secret@127.0.0.1:${proxy.port}`, no_proxy: "127.0.0.1" }
      })
      const client = yield* HttpClient.make({ proxy: "environment" }).pipe(
        Effect.provideService(ConfigProvider.ConfigProvider, env)
      )
      const plain = at(yield* answering(false))
      assert.strictEqual((yield* client.get(`http://127.0.0.1:${plain}/`)).status, 200)
      const error = yield* Effect.flip(client.get(`http://${hiddenName}:${plain}/`))
      assert(error.reason._tag === "TransportError" && error.reason.cause instanceof Proxy.ProxyRefused, String(error))
      assert.strictEqual(error.reason.cause.reason, "AuthenticationRequired")
      assert.notInclude(Inspectable.inspect(error, { depth: 9 }), "secret")
      const { detail } = yield* Effect.flip(HttpClient.make({ proxy: "ftp://ada:secret@host" }))
      assert.match(detail, /^`proxy` is no URL of a proxy/)
    }))
})

describe("the environment", () => {
  it.live("names the proxy when it is asked, and not otherwise", () =>
    Effect.gen(function*() {
      const proxy = yield* httpProxy()
      const env = (variables: Record<string, string>) =>
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: variables }))
      const url = `http://127.0.0.1:${proxy.port}`
      const tcp = yield* listen("tcp")
      const tls = yield* listen("tls")
      const all = { ALL_PROXY: url, https_proxy: url, HTTPS_PROXY: "http://127.0.0.1:1" }
      yield* isServed(`tcp://127.0.0.1:${tcp.port}`, { proxy: "environment" }).pipe(env(all))
      yield* isServed(`tls://127.0.0.1:${tls.port}`, { proxy: "environment" }).pipe(env(all))
      assert.lengthOf(proxy.targets, 2)
      yield* isServed(`tcp://127.0.0.1:${tcp.port}`, {}).pipe(env(all))
      yield* isServed(`tcp://127.0.0.1:${tcp.port}`, { proxy: "environment" }).pipe(
        env({ ...all, NO_PROXY: "127.0.0.0/8" })
      )
      yield* isServed(`tcp://127.0.0.1:${tcp.port}`, { proxy: "environment" }).pipe(env({}))
      assert.lengthOf(proxy.targets, 2)
      const wrong = yield* Effect.flip(
        Dialer.make("tls://host:1", { proxy: "environment" }).pipe(env({ HTTPS_PROXY: "ftp://ada:secret@host" }))
      )
      assert.match(wrong.message, /the variable HTTPS_PROXY is no URL of a proxy/)
      assert.notInclude(wrong.message, "secret")
      // a header of a request is no variable of ours
      const web = yield* listen("ws")
      yield* isServed(`ws://127.0.0.1:${web.port}`, { proxy: "environment" }).pipe(
        env({ HTTP_PROXY: "http://127.0.0.1:1", REQUEST_METHOD: "GET" })
      )
    }))

  it("has a proxy for each scheme", () => {
    const named = { https: "s:1", http: "http://h:1", all: "socks5://a:1", no: undefined }
    const of = (scheme: string, more: object = {}) => proxyFor({ ...named, ...more }, scheme, "host", 1)?.url
    assert.deepStrictEqual(["tls", "wss", "https", "ws", "http", "tcp"].map((scheme) => of(scheme)), [
      "http://s:1",
      "http://s:1",
      "http://s:1",
      "http://h:1",
      "http://h:1",
      "socks5://a:1"
    ])
    assert.strictEqual(of("tls", { https: undefined }), "socks5://a:1")
    assert.isUndefined(of("tcp", { all: undefined }))
    assert.isUndefined(of("tcp", { no: "*" }))
  })

  it("has exceptions by name, domain, address, range and port", () => {
    for (
      const [list, host, port] of [
        ["example.com", "example.com", 1],
        ["example.com", "a.b.EXAMPLE.com.", 1],
        [".example.com", "a.example.com", 1],
        ["*.example.com", "a.example.com", 1],
        ["other, example.com:8080", "example.com", 8080],
        ["10.0.0.0/8", "10.2.3.4", 1],
        ["10.2.3.4", "10.2.3.4", 1],
        ["10.2.3.4:7", "10.2.3.4", 7],
        ["[::1]:7", "::1", 7],
        ["fd00::/8", "fd00::7", 1],
        ["*", "anything", 1]
      ] as const
    ) assert.isTrue(isExempt(list, host, port), `${list} ${host}`)
    for (
      const [list, host, port] of [
        ["", "example.com", 1],
        [undefined, "example.com", 1],
        ["example.com", "notexample.com", 1],
        ["example.com", "example.com.evil", 1],
        ["example.com:8080", "example.com", 80],
        ["10.0.0.0/8", "11.0.0.1", 1],
        ["10.0.0.0/99", "10.0.0.1", 1],
        ["10.0.0.1", "110.0.0.1", 1],
        ["::1", "127.0.0.1", 1],
        [".", "example.com", 1]
      ] as const
    ) assert.isFalse(isExempt(list, host, port), `${list} ${host}`)
  })
})

describe("SOCKS5", () => {
  it("is said byte for byte as RFC 1928 and RFC 1929 have it", () => {
    const talk = conversation({ host: "a.example", port: 0x1234 }, { username: "ada", password: "secret" })
    const said: Array<string> = []
    let turn = talk.next()
    for (const answer of ["0502", "0100", "05000003", "04", "6e616d650001"]) {
      assert(turn.done !== true)
      said.push(turn.value.say?.toString("hex") ?? "")
      assert.strictEqual(turn.value.hear, answer.length / 2)
      turn = talk.next(Buffer.from(answer, "hex"))
    }
    assert.deepStrictEqual(turn, { done: true, value: undefined })
    assert.deepStrictEqual(said, [
      "05020002",
      `0103${Buffer.from("ada").toString("hex")}06${Buffer.from("secret").toString("hex")}`,
      `0501000309${Buffer.from("a.example").toString("hex")}1234`,
      "",
      ""
    ])
  })
})

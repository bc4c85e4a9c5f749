/** Real proxies, in front of our servers and between our clients and theirs. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tls from "node:tls"
import { Codec, Connection } from "../../src/index.ts"
import { Dialer, Listener, Proxy } from "../../src/node/index.ts"
import { certificate, portOf, serve, type Served, until } from "./support/kit.ts"
import { haproxy, has, microsocks, nginx, tinyproxy, visitor } from "./support/proxies.ts"

const lines = { codec: Codec.lines() }
const trust = { ca: certificate().cert, servername: "localhost" }

/** A server behind a proxy of this machine, which tells each client what it knows of it. */
const start = Effect.fnUntraced(
  function*(scheme: string, options: Listener.ListenOptions = { proxyProtocol: ["127.0.0.1"] }) {
    const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, { ...certificate(), ...options })
    const served = yield* serve(listener, {
      ...lines,
      handshake: (connection) =>
        Effect.flatMap(Proxy.header, (header) => {
          const { alpn, authority, tls, version } = Option.getOrElse(header, () => ({}) as Partial<Proxy.Header>)
          return connection.send([version, authority, alpn, tls?.version].map((it) => it ?? "-").join(" "))
        })
    })
    return { port: portOf(listener), served }
  }
)

/** A test that needs a program; where this machine lacks it, its title says so. */
const needing = (name: keyof typeof has) => (title: string, test: Parameters<typeof it.live>[1], timeout?: number) =>
  it.live.skipIf(!has[name])(has[name] ? title : `${title} (not on this machine: ${name})`, test, timeout)

/** Of one that has left before it is accepted the kernel does not know it. */
const remotes = ({ events }: Served<string, string>): ReadonlyArray<string> =>
  events.flatMap((event) => event._tag === "Opened" ? [event.snapshot.remote?.replace(/:\d+$/, "") ?? "gone"] : [])
    .filter((remote) => remote !== visitor)

// an address that the proxies do not dial from
const client = "127.0.0.7"

/** Dials as that client, is told what the server knows, and is echoed. */
const visit = Effect.fnUntraced(function*(url: string, options: Dialer.DialOptions = {}) {
  const secure = /^(tls|wss):/.test(url)
  const connection = yield* Effect.flatMap(
    Dialer.make(url, { ...(secure ? trust : {}), localAddress: client, ...options }),
    Connection.make(lines)
  )
  const told = yield* connection.receive
  yield* connection.send("hello")
  assert.strictEqual(yield* connection.receive, "hello")
  return told
})

const refusals = ({ events }: Served<string, string>): ReadonlyArray<string> =>
  events.flatMap((event) => event._tag === "Refused" ? [event.reason.message] : [])

describe("HAProxy in front of us", () => {
  needing("haproxy")(
    "names the clients of TCP, TLS and WebSockets by PROXY headers of both versions",
    () =>
      Effect.gen(function*() {
        const servers = {
          tcp: yield* start("tcp"),
          tls: yield* start("tls"),
          wss: yield* start("wss"),
          ws: yield* start("ws", { trustForwarded: ["127.0.0.1"] }),
          rfc: yield* start("ws", {
            trustForwarded: ["127.0.0.1"],
            forwardedHeader: "X-Forwarded-For",
            proxyProtocol: ["127.0.0.1"]
          })
        }
        const { rfc, tcp, tls, ws, wss } = servers
        const [v1, v2, facts, secure, web, http, both] = yield* haproxy([
          { to: tcp.port, send: "send-proxy" },
          { to: tcp.port, send: "send-proxy-v2 proxy-v2-options crc32c,unique-id", more: "unique-id-format %ci:%cp" },
          {
            bind: "ssl crt PAIR alpn holdfast",
            to: tcp.port,
            send: "send-proxy-v2-ssl proxy-v2-options authority,crc32c,ssl"
          },
          { to: tls.port, send: "send-proxy-v2" },
          { to: wss.port, send: "send-proxy" },
          { mode: "http", more: "option forwardfor", to: ws.port, send: "" },
          { mode: "http", more: "option forwardfor", to: rfc.port, send: "send-proxy-v2" }
        ])
        assert.strictEqual(yield* visit(`tcp://127.0.0.1:${v1}`), "1 - - -")
        assert.strictEqual(yield* visit(`tcp://127.0.0.1:${v2}`), "2 - - -")
        assert.strictEqual(yield* visit(`tls://127.0.0.1:${secure}`), "2 - - -")
        assert.strictEqual(yield* visit(`wss://127.0.0.1:${web}`), "1 - - -")
        assert.strictEqual(yield* visit(`ws://127.0.0.1:${http}`), "- - - -")
        assert.strictEqual(yield* visit(`ws://127.0.0.1:${both}`), "2 - - -")
        // ours asks for no ALPN of its own
        const told = yield* Effect.callback<string>((resume) => {
          const conn = Tls.connect(
            {
              ...trust,
              host: "127.0.0.1",
              port: facts!,
              ALPNProtocols: ["holdfast"],
              localAddress: client
            } as Tls.ConnectionOptions
          )
          conn.once("data", (text) => {
            conn.destroy()
            resume(Effect.succeed(String(text)))
          })
        })
        assert.match(told, /^2 localhost (?:holdfast|-) TLSv1\.[23]\n$/)
        for (const { served } of Object.values(servers)) {
          for (const remote of remotes(served)) assert.strictEqual(remote, client)
        }
        assert.deepStrictEqual(Object.values(servers).map(({ served }) => remotes(served).length), [3, 1, 1, 1, 1])
      })
  )

  needing("haproxy")(
    "checks us with headers of its own, which are no clients'",
    () =>
      Effect.gen(function*() {
        const { port, served } = yield* start("tcp")
        yield* haproxy([
          { to: port, send: "send-proxy check inter 50" },
          { to: port, send: "send-proxy-v2 check inter 50" }
        ])
        yield* until("it has checked", () => remotes(served).length >= 4)
        for (const remote of remotes(served)) assert.include(["127.0.0.1", "gone"], remote)
        assert.deepStrictEqual(refusals(served), [])
      })
  )

  needing("haproxy")("that sends no header, where one is expected, is refused", () =>
    Effect.gen(function*() {
      const { port, served } = yield* start("tcp")
      const [front] = yield* haproxy([{ to: port, send: "" }])
      const error = yield* Effect.scoped(Effect.flip(Effect.flatMap(
        Effect.flatMap(Dialer.make(`tcp://127.0.0.1:${front}`), Connection.make(lines)),
        (connection) => Effect.andThen(connection.send("hello"), connection.receive)
      )))
      assert.include(["Closed", "Reset"], (error as { readonly reason: { readonly _tag: string } }).reason._tag)
      yield* until("it is told of", () => refusals(served).some((text) => text.includes("no PROXY header came")))
      assert.deepStrictEqual(remotes(served), [])
    }))
})

describe("nginx in front of us", () => {
  needing("nginx")(
    "names the clients of TCP, TLS and WebSockets, and one that is invented changes nothing",
    () =>
      Effect.gen(function*() {
        const servers = {
          tcp: yield* start("tcp"),
          tls: yield* start("tls"),
          ws: yield* start("ws", { trustForwarded: ["127.0.0.1"] })
        }
        const { tcp, tls, ws } = servers
        const upgrade =
          `proxy_pass http://127.0.0.1:${ws.port}; proxy_http_version 1.1; proxy_set_header Host $http_host; ` +
          "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; " +
          "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
        const [plain, secure, web] = yield* nginx([
          { kind: "stream", lines: `proxy_pass 127.0.0.1:${tcp.port}; proxy_protocol on;` },
          { kind: "stream", lines: `proxy_pass 127.0.0.1:${tls.port}; proxy_protocol on;` },
          { kind: "http", lines: upgrade }
        ])
        assert.strictEqual(yield* visit(`tcp://127.0.0.1:${plain}`), "1 - - -")
        assert.strictEqual(yield* visit(`tls://127.0.0.1:${secure}`), "1 - - -")
        yield* visit(`ws://127.0.0.1:${web}`)
        yield* visit(`ws://127.0.0.1:${web}`, { headers: { "x-forwarded-for": "6.6.6.6", forwarded: "for=6.6.6.6" } })
        // past the proxy, from an address that is not believed
        yield* visit(`ws://127.0.0.1:${ws.port}`, { headers: { "x-forwarded-for": "6.6.6.6" } })
        assert.deepStrictEqual(Object.values(servers).map(({ served }) => remotes(served)), [
          [client],
          [client],
          [client, client, client]
        ])
      })
  )
})

describe("between us and a server", () => {
  const proxies = [
    ["tinyproxy", "http", tinyproxy],
    ["microsocks", "socks5", microsocks]
  ] as const

  for (const [name, kind, make] of proxies) {
    needing(name)(`${name} leads to each kind of server, when it knows us`, () =>
      Effect.gen(function*() {
        const port = yield* make
        const proxy = `${kind}://ada:secret@127.0.0.1:${port}`
        for (const scheme of ["tcp", "tls", "ws", "wss"]) {
          const server = yield* start(scheme, {})
          yield* visit(`${scheme}://localhost:${server.port}`, { proxy, family: 4 })
          assert.deepStrictEqual(remotes(server.served), ["127.0.0.1"])
        }
        const wrong = yield* Effect.scoped(Effect.flip(Effect.flatMap(
          Dialer.make("tcp://127.0.0.1:1", { proxy: `${kind}://ada:wrong@127.0.0.1:${port}` }),
          Connection.make(lines)
        )))
        assert(wrong._tag === "ConnectionError" && wrong.reason._tag === "HandshakeFailed", String(wrong))
        assert(wrong.reason.cause instanceof Proxy.ProxyRefused)
        assert.strictEqual(wrong.reason.cause.reason, "AuthenticationRequired")
        const closed = yield* Effect.scoped(Effect.flip(Effect.flatMap(
          Dialer.make("tcp://127.0.0.1:1", { proxy }),
          Connection.make(lines)
        )))
        assert(closed._tag === "ConnectionError" && closed.reason._tag === "OpenFailed", String(closed))
        assert(closed.reason.cause instanceof Proxy.ProxyRefused)
        assert.include(["ConnectionRefused", "Status"], closed.reason.cause.reason)
      }))
  }
})

/** Servers behind a proxy: whose a connection is, by a `PROXY` header or by a header of its request. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as EffectHttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { Codec, type ConnectionError, type Policy, Registry, type Server } from "../../src/index.ts"
import { HttpServer, Listener, Proxy, Upgrade } from "../../src/node/index.ts"
import { serve, type Served } from "../integration/support/kit.ts"
import { certificate, portOf, tempDir, until } from "./fixtures/kit.ts"
import { headerV2, tlv, withChecksum } from "./fixtures/proxyHeader.ts"

const lines = { codec: Codec.lines() }
const trusted: Listener.ListenOptions = { proxyProtocol: ["127.0.0.1"], trustForwarded: ["127.0.0.1"] }

const refusals = ({ events }: Served<string, string>): ReadonlyArray<Server.Event & { readonly _tag: "Refused" }> =>
  events.filter((event) => event._tag === "Refused")

const remotes = ({ events }: Served<string, string>): ReadonlyArray<string | undefined> =>
  events.flatMap((event) => event._tag === "Opened" ? [event.snapshot.remote] : [])

const start = Effect.fnUntraced(
  function*(scheme: string, policy: Policy.Patch, options: Listener.ListenOptions = trusted) {
    const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, { ...certificate(), policy, ...options })
    return { port: portOf(listener), served: yield* serve(listener, { ...lines, policy }) }
  }
)

interface Peer {
  readonly conn: Net.Socket
  heard: string
  isEnded: boolean
}

/** A proxy, or a client that would be one: what it hears, and its end. */
const peer = (port: number, from = "127.0.0.1", path?: string) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<Peer>((resolve) => {
        const conn = Net.createConnection({
          ...(path === undefined ? { host: "127.0.0.1", port } : { path }),
          localAddress: from
        })
        const peer: Peer = { conn, heard: "", isEnded: false }
        conn.on("data", (chunk) => void (peer.heard += chunk.toString("latin1")))
        conn.on("error", () => void (peer.isEnded = true))
        conn.on("close", () => void (peer.isEnded = true))
        conn.once("connect", () => resolve(peer))
      })
    ),
    ({ conn }) => Effect.sync(() => conn.destroy())
  )

const v1 = (client: string, port = 49152): string => `PROXY TCP4 ${client} 10.0.0.1 ${port} 7000\r\n`
const v2 = (client: ReadonlyArray<number>, port = 49152): Buffer =>
  withChecksum(headerV2({
    family: 1,
    source: client,
    destination: [10, 0, 0, 1],
    ports: [port, 7000],
    values: [tlv(2, Buffer.from("chat.example"))]
  }))

const asking = (headers: ReadonlyArray<string> = [], path = "/"): string =>
  [
    `GET ${path} HTTP/1.1`,
    "Host: localhost",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ...headers,
    "",
    ""
  ].join("\r\n")

/** A text frame of a client, with a key of zeros. */
const frame = (text: string): Buffer =>
  Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)])

/** What a client says behind the header to be echoed, over the transport of a scheme. */
const secured = (conn: Net.Socket) =>
  Effect.promise(() =>
    new Promise<Tls.TLSSocket>((resolve) => {
      const secure = Tls.connect(
        { socket: conn, ca: certificate().cert, servername: "localhost" },
        () => resolve(secure)
      )
    })
  )

const hears = (conn: Net.Socket, expected: string) => {
  let heard = ""
  conn.on("data", (chunk) => void (heard += chunk.toString("latin1")))
  return until(`it hears ${expected}`, () => heard.includes(expected))
}

describe("a PROXY header", () => {
  it.live("names the client of a byte stream, however it is split, and nothing behind it is lost", () =>
    Effect.gen(function*() {
      const { port, served } = yield* start("tcp", {})
      for (const [i, header] of [Buffer.from(v1("203.0.113.9")), v2([203, 0, 113, 10])].entries()) {
        const whole = Buffer.concat([header, Buffer.from(`hello ${i}\n`)])
        // in one piece, cut in two at each place, byte by byte
        const cuts = [[], ...Array.from(whole, (_, at) => [at]), Array.from(whole.keys())]
        const peers = yield* Effect.forEach(cuts, (places) =>
          Effect.gen(function*() {
            const one = yield* peer(port)
            one.conn.setNoDelay(true)
            let from = 0
            for (const to of [...places, whole.length]) {
              if (to > from) {
                yield* Effect.promise(() => new Promise((resolve) => one.conn.write(whole.subarray(from, to), resolve)))
              }
              from = to
            }
            return one
          }), { concurrency: "unbounded" })
        yield* until("all are answered", () => peers.every(({ heard }) => heard === `hello ${i}\n`))
      }
      assert.deepStrictEqual([...new Set(remotes(served))], ["203.0.113.9:49152", "203.0.113.10:49152"])
      const snapshots = yield* served.registry.snapshots
      assert.isTrue(snapshots.every(({ remote }) => remote!.startsWith("203.0.113.")))
      assert.deepStrictEqual(refusals(served), [])
    }))

  for (const scheme of ["tls", "ws", "wss"]) {
    it.live(`names the client before the handshake of ${scheme}, also when both come at once`, () =>
      Effect.gen(function*() {
        const { port, served } = yield* start(scheme, {})
        for (const header of [v1("203.0.113.9"), v2([203, 0, 113, 9])]) {
          const { conn } = yield* peer(port)
          conn.removeAllListeners("data")
          conn.cork()
          conn.write(header)
          const stream = scheme === "ws" ? conn : undefined
          if (stream === undefined) process.nextTick(() => conn.uncork())
          const secure = stream ?? (yield* secured(conn))
          secure.write(scheme === "tls" ? "hello\n" : asking())
          if (scheme !== "tls") secure.write(frame("hello"))
          conn.uncork()
          yield* hears(secure, "hello")
        }
        assert.deepStrictEqual(remotes(served), ["203.0.113.9:49152", "203.0.113.9:49152"])
      }))
  }

  it.live("is counted by: a client has its limit, and of IPv6 its network has", () =>
    Effect.gen(function*() {
      for (const scheme of ["tcp", "ws"]) {
        const { port, served } = yield* start(scheme, { maxConnectionsPerAddress: 1, whenFull: "reject" })
        const say = (header: string, expected: string) =>
          Effect.gen(function*() {
            const one = yield* peer(port)
            one.conn.write(header)
            if (scheme === "ws") one.conn.write(asking())
            one.conn.write(scheme === "ws" ? frame("hello") : "hello\n")
            yield* until(
              `${header} is ${expected || "refused"}`,
              () => expected === "" ? one.isEnded || one.heard.includes(" 503 ") : one.heard.includes(expected)
            )
          })
        yield* say(v1("203.0.113.9"), "hello")
        yield* say(v1("203.0.113.10"), "hello")
        yield* say(v1("203.0.113.9", 49153), "")
        yield* say("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "hello")
        yield* say("PROXY TCP6 2001:db8:0:0:ffff::1 ::1 1 2\r\n", "")
        yield* say("PROXY TCP6 2001:db8:0:1::1 ::1 1 2\r\n", "hello")
        assert.deepStrictEqual(
          refusals(served).map(({ reason, remote }) => [reason._tag === "Refused" && reason.limit, remote]),
          [
            ["maxConnectionsPerAddress", "203.0.113.9:49153"],
            ["maxConnectionsPerAddress", "[2001:db8::ffff:0:0:1]:1"]
          ]
        )
      }
    }))

  it.live("that is wrong or missing is a refusal, with its reason", () =>
    Effect.gen(function*() {
      for (const scheme of ["tcp", "tls", "ws"]) {
        const { port, served } = yield* start(scheme, {})
        const detailOf = (reason: ConnectionError.Reason) =>
          reason._tag === "HandshakeFailed" && reason.cause instanceof Proxy.ProxyHeaderInvalid && reason.cause.detail
        const say = (text: string) =>
          Effect.gen(function*() {
            const before = refusals(served).length
            const one = yield* peer(port)
            one.conn.write(text)
            if (text.length < 7) one.conn.end()
            yield* until("it is refused", () => one.isEnded && refusals(served).length === before + 1)
            return detailOf(refusals(served).at(-1)!.reason)
          })
        assert.strictEqual(yield* say("hello\n"), "its first bytes are something else")
        assert.strictEqual(yield* say(asking()), "its first bytes are something else")
        assert.strictEqual(yield* say("PROXY TCP4 1.2.3.4\r\n"), "its line has no two addresses and two ports")
        assert.strictEqual(yield* say(`PROXY UNKNOWN${" ".repeat(200)}`), "its line has more than 107 bytes")
        assert.strictEqual(yield* say("PROXY"), "it ended after 5 bytes of it")
        assert.strictEqual(yield* say(""), "it ended without a byte")
        assert.match(refusals(served)[0]!.remote!, /^127\.0\.0\.1:\d+$/)
        assert.deepStrictEqual(remotes(served), [])
      }
    }))

  for (const scheme of ["tcp", "tls", "wss"]) {
    it.effect(`${scheme}: one that comes slowly is cut when its time is over, to the millisecond`, () =>
      Effect.gen(function*() {
        const { port, served } = yield* start(scheme, { handshake: "3 seconds" })
        const silent = yield* peer(port)
        const slow = yield* peer(port)
        slow.conn.write("P")
        // comes after them, and is refused at once
        const last = yield* peer(port)
        last.conn.end("X")
        yield* until("they are accepted", () => refusals(served).length === 1)
        yield* TestClock.adjust(2999)
        slow.conn.write("ROXY ")
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        assert.isFalse(silent.isEnded || slow.isEnded)
        assert.lengthOf(refusals(served), 1)
        yield* TestClock.adjust(1)
        yield* until("they are cut", () => silent.isEnded && slow.isEnded && refusals(served).length === 3)
        for (const { reason } of refusals(served).slice(1)) {
          assert.deepStrictEqual(reason._tag === "HandshakeTimeout" && reason.limit, 3000)
        }
      }))
  }

  it.effect("what it took is no longer there for the TLS handshake behind it", () =>
    Effect.gen(function*() {
      const { port, served } = yield* start("tls", { handshake: "3 seconds" })
      const one = yield* peer(port)
      yield* TestClock.adjust(0)
      const other = yield* peer(port)
      other.conn.end("X")
      yield* until("they are accepted", () => refusals(served).length === 1)
      yield* TestClock.adjust(2000)
      one.conn.write(v1("203.0.113.9"))
      const third = yield* peer(port)
      third.conn.end("X")
      yield* until("it is read", () => refusals(served).length === 2)
      yield* TestClock.adjust(999)
      assert.isFalse(one.isEnded)
      yield* TestClock.adjust(1)
      yield* until("it is cut", () => one.isEnded && refusals(served).length === 3)
      assert.deepStrictEqual([refusals(served)[2]!.reason._tag, refusals(served)[2]!.remote], [
        "HandshakeTimeout",
        "203.0.113.9:49152"
      ])
    }))

  it.live("without a client leaves the address as it is: LOCAL, UNKNOWN", () =>
    Effect.gen(function*() {
      const { port, served } = yield* start("tcp", {})
      for (const header of ["PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n", headerV2({ command: 0, family: 0 })]) {
        const one = yield* peer(port)
        one.conn.write(header)
        one.conn.write("hello\n")
        yield* until("it is answered", () => one.heard === "hello\n")
      }
      assert.lengthOf(remotes(served), 2)
      for (const remote of remotes(served)) assert.match(remote!, /^127\.0\.0\.1:\d+$/)
    }))

  it.live("from an address that is not trusted is what the client says, and changes nothing", () =>
    Effect.gen(function*() {
      const plain = yield* start("tcp", {})
      const one = yield* peer(plain.port, "127.0.0.2")
      one.conn.write(v1("203.0.113.9"))
      one.conn.write("hello\n")
      yield* until("it is echoed", () => one.heard === `${v1("203.0.113.9").trimEnd()}\nhello\n`)
      assert.match(remotes(plain.served)[0]!, /^127\.0\.0\.2:\d+$/)
      // without a header it is served as ever
      const web = yield* start("ws", {})
      const good = yield* peer(web.port, "127.0.0.2")
      good.conn.write(asking(["X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9"]))
      good.conn.write(frame("hello"))
      yield* until("it is answered", () => good.heard.includes("hello"))
      assert.match(remotes(web.served)[0]!, /^127\.0\.0\.2:\d+$/)
      const bad = yield* peer(web.port, "127.0.0.2")
      bad.conn.write(v1("203.0.113.9") + asking())
      yield* until("it is refused", () => bad.isEnded && refusals(web.served).length === 1)
      assert.match(refusals(web.served)[0]!.remote!, /^127\.0\.0\.2:\d+$/)
    }))

  it.live("comes over a Unix socket as well, and waits in maxPending", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* tempDir, "app.sock")
      const listener = yield* Listener.make(`unix://${path}`, { proxyProtocol: ["unix"], maxPending: 2 })
      const served = yield* serve(listener, lines)
      const waiting = [yield* peer(0, undefined, path), yield* peer(0, undefined, path)]
      const third = yield* peer(0, undefined, path)
      yield* until("one is too many", () => third.isEnded && refusals(served).length === 1)
      const { reason } = refusals(served)[0]!
      assert.strictEqual(reason._tag === "Refused" && reason.limit, "maxPending")
      for (const { conn } of waiting) conn.write(`${v1("203.0.113.9")}hello\n`)
      yield* until("they are answered", () => waiting.every(({ heard }) => heard === "hello\n"))
      const fourth = yield* peer(0, undefined, path)
      fourth.conn.write(`${v1("203.0.113.10")}hello\n`)
      yield* until("there is room again", () => fourth.heard === "hello\n")
      assert.deepStrictEqual(remotes(served), ["203.0.113.9:49152", "203.0.113.9:49152", "203.0.113.10:49152"])
    }))

  it.live("is there for the handlers of a server", () =>
    Effect.gen(function*() {
      for (const scheme of ["tcp", "ws"]) {
        const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, trusted)
        yield* serve(listener, {
          ...lines,
          handshake: (connection) =>
            Effect.flatMap(Proxy.header, (header) => {
              const { authority, destination, source } = Option.getOrThrow(header)
              return connection.send(`${source} to ${destination} as ${authority}`)
            })
        })
        const one = yield* peer(portOf(listener))
        one.conn.write(Buffer.concat([v2([203, 0, 113, 9]), Buffer.from(scheme === "ws" ? asking() : "")]))
        yield* until("it is told", () => one.heard.includes("203.0.113.9:49152 to 10.0.0.1:7000 as chat.example"))
      }
    }))
})

describe("a forwarded client", () => {
  const forwarding: Listener.ListenOptions = { trustForwarded: ["127.0.0.1"] }

  for (const scheme of ["ws", "wss"]) {
    it.live(`${scheme}: is who is counted, logged and seen`, () =>
      Effect.gen(function*() {
        const seen: Array<string | undefined> = []
        const upgrade = Upgrade.make((request) => Effect.sync(() => void seen.push(request.remote)))
        const { port, served } = yield* start(scheme, { maxConnectionsPerAddress: 1, whenFull: "reject" }, {
          ...forwarding,
          upgrade
        })
        const say = (client: string, expected: string) =>
          Effect.gen(function*() {
            const { conn } = yield* peer(port)
            conn.removeAllListeners("data")
            const stream = scheme === "ws" ? conn : yield* secured(conn)
            stream.write(asking([`X-Forwarded-For: 6.6.6.6, ${client}`, "Forwarded: for=6.6.6.6"]))
            if (expected === "hello") stream.write(frame("hello"))
            yield* hears(stream, expected)
          })
        yield* say("203.0.113.9", "hello")
        yield* say("2001:db8::7", "hello")
        yield* say("203.0.113.9", " 503 ")
        yield* say("2001:db8::8", " 503 ")
        yield* say("203.0.113.10", "hello")
        const expected = ["203.0.113.9", "[2001:db8::7]", "203.0.113.10"]
        assert.deepStrictEqual(remotes(served), expected)
        assert.deepStrictEqual(seen, expected)
        assert.deepStrictEqual(refusals(served).map(({ remote }) => remote), ["203.0.113.9", "[2001:db8::8]"])
      }))
  }

  it.live("that waits for its turn is let in when a place is free", () =>
    Effect.gen(function*() {
      const { port, served } = yield* start("ws", { maxConnections: 1 }, forwarding)
      const one = yield* peer(port)
      one.conn.write(Buffer.concat([Buffer.from(asking(["X-Forwarded-For: 203.0.113.9"])), frame("hello")]))
      yield* until("it is answered", () => one.heard.includes("hello"))
      const two = yield* peer(port)
      two.conn.write(Buffer.concat([Buffer.from(asking(["X-Forwarded-For: 203.0.113.10"])), frame("hello")]))
      yield* until("it waits", () => Effect.runSync(served.stats).waiting === 1)
      assert.strictEqual(two.heard, "")
      one.conn.destroy()
      yield* until("its turn has come", () => two.heard.includes("hello"))
      assert.deepStrictEqual(remotes(served), ["203.0.113.9", "203.0.113.10"])
    }))

  it.live("that asks for nothing that can be is told of by its address", () =>
    Effect.gen(function*() {
      const { port, served } = yield* start("ws", { handshake: "100 millis" }, forwarding)
      const one = yield* peer(port)
      one.conn.write("GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
      yield* until("it is answered", () => one.heard.includes(" 426 ") && refusals(served).length === 1)
      assert.strictEqual(refusals(served)[0]!.remote, "203.0.113.9")
      yield* peer(port)
      yield* until("its time is over", () => refusals(served).length === 2)
      assert.strictEqual(refusals(served)[1]!.reason._tag, "HandshakeTimeout")
      assert.match(refusals(served)[1]!.remote!, /^127\.0\.0\.1:/)
    }))

  it.live("by RFC 7239 where that is the header", () =>
    Effect.gen(function*() {
      const { port, served } = yield* start("ws", {}, { ...forwarding, forwardedHeader: "Forwarded" })
      const one = yield* peer(port)
      one.conn.write(asking(["X-Forwarded-For: 6.6.6.6", "Forwarded: for=\"[2001:db8::7]:4711\""]))
      yield* until("it is open", () => remotes(served).length === 1)
      assert.deepStrictEqual(remotes(served), ["[2001:db8::7]:4711"])
    }))
})

describe("an HTTP server behind a proxy", () => {
  for (const scheme of ["http", "https"]) {
    it.live(`${scheme}: counts, registers and tells the client that a PROXY header names`, () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make()
        const server = yield* HttpServer.make(`${scheme}://127.0.0.1:0`, {
          ...certificate(),
          proxyProtocol: ["127.0.0.1"],
          registry,
          policy: { maxConnectionsPerAddress: 1 }
        })
        yield* EffectHttpServer.HttpServer.pipe(
          Effect.flatMap(({ serve }) =>
            serve(Effect.map(
              HttpServerRequest.HttpServerRequest,
              ({ remoteAddress }) => HttpServerResponse.text(`you are ${Option.getOrElse(remoteAddress, () => "none")}`)
            ))
          ),
          Effect.provideService(EffectHttpServer.HttpServer, server.http)
        )
        const ask = (header: string, from?: string) =>
          Effect.gen(function*() {
            const { conn } = yield* peer(portOf(server), from)
            conn.removeAllListeners("data")
            conn.write(header)
            const stream = scheme === "http" ? conn : yield* secured(conn)
            stream.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return stream
          })
        yield* hears(yield* ask(v1("203.0.113.9")), "you are 203.0.113.9")
        yield* hears(yield* ask(v1("203.0.113.10")), "you are 203.0.113.10")
        yield* hears(yield* ask("", "127.0.0.2"), "you are 127.0.0.2")
        const snapshots = yield* registry.snapshots
        const known = snapshots.map(({ remote }) => remote!.replace(/^127.*/, "other")).toSorted()
        assert.deepStrictEqual(known, ["203.0.113.10:49152", "203.0.113.9:49152", "other"])
        const more = yield* peer(portOf(server))
        more.conn.write(v1("203.0.113.9", 2))
        yield* until("it is refused", () => more.isEnded || more.heard.includes(" 503 "))
        const bad = yield* peer(portOf(server))
        bad.conn.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield* until("it is refused", () => bad.isEnded)
        assert.strictEqual(bad.heard, "")
      }))
  }

  it.live("takes the client of a WebSocket from its request, and does not count the proxy by its address", () =>
    Effect.gen(function*() {
      const policy = { maxConnectionsPerAddress: 1, whenFull: "reject" } as const
      const server = yield* HttpServer.make("http://127.0.0.1:0", {
        trustForwarded: ["127.0.0.1"],
        webSocket: "/live",
        policy
      })
      yield* server.http.serve(Effect.succeed(HttpServerResponse.text("ok")))
      const served = yield* serve(server.webSockets, { ...lines, policy })
      const say = (client: string, expected: string) =>
        Effect.gen(function*() {
          const one = yield* peer(portOf(server))
          one.conn.write(asking([`X-Forwarded-For: ${client}`], "/live"))
          if (expected === "hello") one.conn.write(frame("hello"))
          yield* until(`${client} is told ${expected}`, () => one.heard.includes(expected))
        })
      yield* say("203.0.113.9", "hello")
      yield* say("203.0.113.10", "hello")
      yield* say("203.0.113.9", " 503 ")
      assert.deepStrictEqual(remotes(served), ["203.0.113.9", "203.0.113.10"])
    }))

  for (const kind of ["a listener behind a proxy", "an HTTP server", "an HTTP server behind a proxy"]) {
    it.live(`B118 ${kind}: who is one too many waits before its 101, has its turn, or is refused at a stop`, () =>
      Effect.gen(function*() {
        const policy = { maxConnections: 1, handshake: "300 millis", drain: "3 seconds" } as const
        const behind = kind.includes("proxy") ? { trustForwarded: ["127.0.0.1"] } : {}
        const http = kind.includes("HTTP")
          ? yield* HttpServer.make("http://127.0.0.1:0", { ...behind, webSocket: "/live" })
          : undefined
        yield* http?.http.serve(Effect.succeed(HttpServerResponse.text("ok"))) ?? Effect.void
        const listener = http === undefined ? yield* Listener.make("ws://127.0.0.1:0/live", behind) : undefined
        const port = portOf(http ?? listener!)
        const served = yield* serve(http?.webSockets ?? listener!, { ...lines, policy })
        const ask = (client: string) =>
          Effect.tap(
            peer(port),
            ({ conn }) => Effect.sync(() => conn.write(asking([`X-Forwarded-For: ${client}`], "/live")))
          )
        const hears = (one: Peer, text: string) =>
          Effect.gen(function*() {
            yield* until("its 101", () => one.heard.includes(" 101 "))
            one.conn.write(frame(text))
            yield* until(text, () => one.heard.includes(text))
          })
        const first = yield* ask("203.0.113.1")
        yield* hears(first, "hello from the first")
        const [gone, second, third] = [yield* ask("203.0.113.2"), yield* ask("203.0.113.3"), yield* ask("203.0.113.4")]
        yield* until("three wait", () => Effect.runSync(served.stats).waiting === 3)
        gone.conn.destroy()
        yield* until("two wait", () => Effect.runSync(served.stats).waiting === 2)
        // for longer than a handshake may take
        yield* Effect.sleep(400)
        assert.strictEqual(second.heard + third.heard, "")
        first.conn.destroy()
        yield* hears(second, "hello from the second")
        assert.strictEqual(third.heard, "")
        yield* Effect.forkChild(served.stop)
        yield* until("the third is refused", () => third.isEnded || third.heard.includes(" 503 "))
        assert.include(third.heard, " 503 ")
        assert.lengthOf(remotes(served), 2)
      }))
  }

  it.live("shows the client of a plain request that a trusted proxy names, and tells of a bad PROXY header", () =>
    Effect.gen(function*() {
      const refused: Array<Extract<HttpServer.Event, { readonly _tag: "Refused" }>> = []
      const server = yield* HttpServer.make("http://127.0.0.1:0", {
        trustForwarded: ["127.0.0.1"],
        proxyProtocol: ["127.0.0.2"],
        onEvent: (event) =>
          Effect.sync(() => {
            if (event._tag === "Refused") refused.push(event)
          })
      })
      const inMiddleware: Array<string> = []
      const see = Effect.map(
        HttpServerRequest.HttpServerRequest,
        ({ peerAddress, remoteAddress }) =>
          [remoteAddress, peerAddress].map((it) => Option.getOrElse(it, () => "none")).join(" by ")
      )
      yield* server.http.serve(
        Effect.map(see, (text) => HttpServerResponse.text(`you are ${text}`)),
        (app) => Effect.andThen(Effect.map(see, (text) => void inMiddleware.push(text)), app)
      )
      const ask = (header: string, expected: string, from = "127.0.0.1") =>
        Effect.gen(function*() {
          const one = yield* peer(portOf(server), from)
          one.conn.write(`GET / HTTP/1.1\r\nHost: localhost\r\n${header}\r\n`)
          yield* until(`${header} is answered`, () => one.heard.includes(`you are ${expected}`))
        })
      yield* ask("X-Forwarded-For: 1.2.3.4, 203.0.113.9\r\n", "203.0.113.9 by 127.0.0.1")
      yield* ask("X-Forwarded-For: [2001:db8::7]:4711\r\n", "2001:db8::7 by 127.0.0.1")
      yield* ask("", "127.0.0.1 by 127.0.0.1")
      yield* ask("X-Forwarded-For: 203.0.113.9\r\n", "127.0.0.3 by 127.0.0.3", "127.0.0.3")
      assert.strictEqual(inMiddleware[0], "203.0.113.9 by 127.0.0.1")
      const bad = yield* peer(portOf(server), "127.0.0.2")
      bad.conn.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      yield* until("it is refused", () => bad.isEnded && refused.length === 1)
      const { reason, remote } = refused[0]!
      assert.match(remote!, /^127\.0\.0\.2:/)
      assert.strictEqual(reason._tag, "HandshakeFailed")
      assert.match(reason.message, /no PROXY header came from a proxy that is named to send one/)
    }))

  it.live("names the client of a WebSocket by its PROXY header, which the handlers get", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.make("http://127.0.0.1:0", { proxyProtocol: ["127.0.0.1"], webSocket: "/live" })
      yield* server.http.serve(Effect.succeed(HttpServerResponse.text("ok")))
      const served = yield* serve(server.webSockets, {
        ...lines,
        handshake: (connection) =>
          Effect.flatMap(Proxy.header, (header) => connection.send(`as ${Option.getOrThrow(header).authority}`))
      })
      const one = yield* peer(portOf(server))
      one.conn.write(Buffer.concat([v2([203, 0, 113, 9]), Buffer.from(asking([], "/live"))]))
      yield* until("it is told", () => one.heard.includes("as chat.example"))
      assert.deepStrictEqual(remotes(served), ["203.0.113.9:49152"])
    }))

  it.effect("cuts a header that comes slowly when its time is over, to the millisecond", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.make("http://127.0.0.1:0", {
        proxyProtocol: ["127.0.0.1"],
        policy: { handshake: "3 seconds" }
      })
      yield* server.http.serve(Effect.succeed(HttpServerResponse.text("ok")))
      const slow = yield* peer(portOf(server))
      slow.conn.write("PROXY TCP4")
      const last = yield* peer(portOf(server))
      last.conn.write(`${v1("203.0.113.9")}GET / HTTP/1.1\r\nHost: localhost\r\n\r\n`)
      yield* until("it is accepted", () => last.heard.includes("ok"))
      yield* TestClock.adjust(2999)
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.isFalse(slow.isEnded)
      yield* TestClock.adjust(1)
      yield* until("it is cut", () => slow.isEnded)
    }))
})

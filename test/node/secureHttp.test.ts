/** TLS of an HTTP server: certificates that change, names, clients with a certificate, and what is told of those refused. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as SocketServer from "effect/socket/SocketServer"
import * as TestClock from "effect/testing/TestClock"
import { X509Certificate } from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { afterAll, beforeAll } from "vitest"
import { Codec, Connection, Registry, Server } from "../../src/index.ts"
import { Certificates, Dialer, HttpServer, Upgrade } from "../../src/node/index.ts"
import { type Authority, authority, type Signed } from "./fixtures/authority.ts"
import { until } from "./fixtures/kit.ts"

let dir: string
let ours: Authority
let theirs: Authority
let one: Signed
let two: Signed

beforeAll(() => {
  dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "holdfast-https-"))
  ours = authority(dir, "ours")
  theirs = authority(dir, "theirs")
  one = ours.sign("one", "DNS:localhost,IP:127.0.0.1")
  two = ours.sign("two", "DNS:localhost,DNS:two.test,IP:127.0.0.1")
})
afterAll(() => Fs.rmSync(dir, { recursive: true, force: true }))

const portOf = ({ url }: HttpServer.HttpServer): number => Number(new URL(url).port)

type Refused = Extract<HttpServer.Event, { readonly _tag: "Refused" }>

/** What is told of refusals. */
const intoList = (refused: Array<Refused>) => (event: HttpServer.Event) =>
  Effect.sync(() => {
    if (event._tag === "Refused") refused.push(event)
  })

/** A server that answers each request with `hello`, or as told, and what it refused. */
const serving = (options: HttpServer.Options, answer = Effect.succeed("hello")) =>
  Effect.gen(function*() {
    const refused: Array<Refused> = []
    const server = yield* HttpServer.make("https://127.0.0.1:0", {
      onEvent: intoList(refused),
      ...options
    })
    yield* server.http.serve(Effect.map(answer, (text) => HttpServerResponse.text(text)))
    return { server, refused, port: portOf(server) }
  })

const told = ({ reason }: Refused): string =>
  reason._tag === "CertificateRefused" ? `${reason._tag} ${reason.by} ${reason.problem}` : reason._tag

const dial = (port: number, options: Tls.ConnectionOptions = {}) =>
  Effect.acquireRelease(
    Effect.callback<Tls.TLSSocket, Error>((resume) => {
      const conn = Tls.connect({ host: "127.0.0.1", port, ca: ours.cert, ...options })
      conn.once("secureConnect", () => resume(Effect.succeed(conn)))
      conn.on("error", (error) => resume(Effect.fail(error)))
    }),
    (conn) => Effect.sync(() => conn.destroy())
  )

/** The answer to a request on a connection that is kept. */
const ask = (conn: Net.Socket) =>
  Effect.callback<string>((resume) => {
    let heard = ""
    conn.on("data", function listen(chunk) {
      heard += String(chunk)
      if (!heard.endsWith("hello") && !heard.includes("you are")) return
      conn.off("data", listen)
      resume(Effect.succeed(heard))
    })
    conn.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
  })

const nameOf = (conn: Tls.TLSSocket): string => String(conn.getPeerCertificate().subject.CN)

describe("https and wss of an HTTP server", () => {
  it.live("certificates are renewed under 20 connections: none is dropped, and the next one sees the new one", () =>
    Effect.gen(function*() {
      const now = yield* Ref.make<Certificates.Loaded>(one)
      const certificates = yield* Certificates.make(Ref.get(now))
      const { port } = yield* serving({ certificates })
      const conns = yield* Effect.forEach(Array.from({ length: 20 }), () => dial(port), { concurrency: 10 })
      yield* Effect.forEach(conns, ask, { concurrency: 10 })
      yield* Ref.set(now, { ...one, names: { "two.test": two } })
      yield* certificates.renew
      assert.strictEqual(nameOf(yield* dial(port, { servername: "two.test" })), "two")
      yield* Ref.set(now, two)
      yield* certificates.renew
      assert.deepStrictEqual([nameOf(conns[0]!), nameOf(yield* dial(port))], ["one", "two"])
      const answers = yield* Effect.forEach(conns, ask, { concurrency: 10 })
      for (const answer of answers) assert.match(answer, /^HTTP\/1\.1 200 OK/)
    }))

  it.live("minVersion and ALPN hold, and options that make no sense are refused", () =>
    Effect.gen(function*() {
      const { port, refused } = yield* serving({ ...one, minVersion: "TLSv1.3" })
      assert.strictEqual((yield* dial(port, { ALPNProtocols: ["h2", "http/1.1"] })).alpnProtocol, "http/1.1")
      assert.match((yield* Effect.flip(dial(port, { ALPNProtocols: ["h2"] }))).message, /no application protocol/)
      assert.match((yield* Effect.flip(dial(port, { maxVersion: "TLSv1.2" }))).message, /protocol version/)
      yield* until("both are told", () => refused.length === 2)
      assert.deepStrictEqual(refused.map(told), ["HandshakeFailed", "HandshakeFailed"])
      assert.match(refused[0]!.remote!, /^127\.0\.0\.1:\d+$/)
      const certificates = yield* Certificates.make(Effect.succeed(one))
      const { message } = yield* Effect.flip(
        Effect.scoped(HttpServer.make("https://127.0.0.1:0", { ...one, certificates }))
      )
      assert.match(message, /`certificates` are in place of/)
    }))

  it.live("a client that is refused for its certificate knows why, and so does the server: none, untrusted, expired", () =>
    Effect.gen(function*() {
      const { port, refused, server } = yield* serving({ ...one, ca: ours.cert, webSocket: "/live" })
      const expired = ours.sign("old", "DNS:client", -1)
      const bad = theirs.sign("bad", "DNS:client")
      const url = server.webSockets.url.replace(/\/*$/, "/live")
      const opening = (options: Dialer.DialOptions) =>
        Effect.gen(function*() {
          const socket = yield* Dialer.make(url, { ca: ours.cert, ...options })
          const { reason } = yield* Effect.flip(Effect.scoped(Connection.make({ codec: Codec.lines() })(socket)))
          return reason._tag === "CertificateRefused" ? `${reason.by} ${reason.problem}` : reason._tag
        })
      assert.strictEqual(yield* opening({}), "peer missing")
      assert.match(yield* opening(bad), /^peer /)
      assert.match(yield* opening(expired), /^peer /)
      assert.match(yield* ask(yield* dial(port, ours.sign("good", "DNS:client"))), /hello$/)
      yield* until("all are told", () => refused.length === 3)
      assert.deepStrictEqual(
        refused.map(told),
        ["missing", "untrusted", "expired"].map((it) => `CertificateRefused local ${it}`)
      )
    }))

  it.live("whom a client's certificate names is known to hooks, handlers, requests and the registry", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<never, unknown>()
      const login = Upgrade.make(({ certificate }) => Effect.succeed(certificate?.subject["CN"]))
      const { port, server } = yield* serving(
        { ...one, ca: ours.cert, registry, webSocket: "/live", upgrade: login } as HttpServer.Options,
        Effect.map(
          HttpServer.clientCertificate as never,
          (it: Option.Option<Upgrade.Certificate>) => `you are ${Option.getOrThrow(it).alternativeNames}`
        )
      )
      const running = Server.run({
        open: Connection.make({ codec: Codec.lines() }),
        handshake: (connection) => Effect.all([login.session, connection.snapshot]),
        handle: (connection, [session, { identity }]) => connection.send(JSON.stringify([session, identity]))
      })
      yield* Effect.forkScoped(Effect.provideService(running, SocketServer.SocketServer, server.webSockets), {
        startImmediately: true
      })
      const client = ours.sign("device-7", "DNS:a.test")
      const identity = {
        subject: { O: ["Holdfast"], CN: ["device-7"] },
        alternativeNames: ["DNS:a.test"],
        fingerprint: new X509Certificate(client.cert).fingerprint256
      }
      const socket = yield* Dialer.make(`wss://127.0.0.1:${port}/live`, { ca: ours.cert, ...client })
      const connection = yield* Connection.make({ codec: Codec.lines() })(socket)
      assert.deepStrictEqual(JSON.parse(yield* connection.receive), [["device-7"], identity])
      const conn = yield* dial(port, client)
      assert.match(yield* ask(conn), /you are DNS:a.test$/)
      const all = yield* registry.snapshots
      assert.deepStrictEqual(all.map((it) => it.identity), [identity])
    }))

  it.effect("a TLS handshake that does not come is cut when its time is over, to the millisecond, and told", () =>
    Effect.gen(function*() {
      const { port, refused } = yield* serving({ ...one, policy: { handshake: "3 seconds" } })
      const slow = Net.connect({ port, host: "127.0.0.1" })
      yield* Effect.addFinalizer(() => Effect.sync(() => slow.destroy()))
      slow.on("error", () => {})
      slow.resume()
      // the next one is accepted after it
      yield* ask(yield* dial(port))
      yield* TestClock.adjust(2999)
      assert.deepStrictEqual(refused, [])
      yield* TestClock.adjust(1)
      yield* until("it is cut", () => slow.destroyed || slow.readableEnded)
      assert.deepStrictEqual(refused.map(told), ["HandshakeTimeout"])
    }))

  it.live("one that ends in its TLS handshake is told, and one of a server that closes is not", () =>
    Effect.gen(function*() {
      const refused: Array<Refused> = []
      const onEvent = intoList(refused)
      yield* Effect.scoped(Effect.gen(function*() {
        const { port } = yield* serving({ ...one, onEvent })
        const leaving = Net.connect({ port, host: "127.0.0.1" }, () => leaving.destroy())
        yield* until("it is told", () => refused.length === 1)
        const staying = Net.connect({ port, host: "127.0.0.1" })
        staying.on("error", () => {})
        yield* ask(yield* dial(port))
      }))
      assert.deepStrictEqual(refused.map(told), ["HandshakeFailed"])
    }))
})

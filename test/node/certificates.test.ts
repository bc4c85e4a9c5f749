/** Certificates that one end does not accept, and what each end is told of it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as SocketServer from "effect/socket/SocketServer"
import { X509Certificate } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { afterAll, beforeAll } from "vitest"
import type { ConnectionError } from "../../src/index.ts"
import { Codec, Connection, Server } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { OnWaiting } from "../../src/node/internal/tls/consent.ts"
import { type Authority, authority, program, pythonEcho, type Signed } from "./fixtures/authority.ts"
import { portOf, until } from "./fixtures/kit.ts"

let dir: string
let ours: Authority
let theirs: Authority
let server: Signed

beforeAll(() => {
  dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "holdfast-certificates-"))
  ours = authority(dir, "ours")
  theirs = authority(dir, "theirs")
  server = ours.sign("server", "DNS:localhost,IP:127.0.0.1")
})
afterAll(() => Fs.rmSync(dir, { recursive: true, force: true }))

const told = ({ reason }: ConnectionError.ConnectionError): string =>
  reason._tag === "CertificateRefused" ? `${reason._tag} ${reason.by} ${reason.problem}` : reason._tag

/** Why a line is not answered, or the answer. */
const ask = (url: string, options: Dialer.DialOptions = {}) =>
  Effect.gen(function*() {
    const socket = yield* Dialer.make(url, { ca: ours.cert, ...options })
    const connection = yield* Connection.make({ codec: Codec.lines() })(socket)
    yield* connection.send("hi")
    return yield* connection.receive
  }).pipe(
    Effect.scoped,
    Effect.catchTag("ConnectionError", (error) => {
      assert.isFalse(error.isRetryable, error.message)
      return Effect.succeed(told(error))
    })
  )

/** An echo server; what it refused. */
const echoing = (url: string, options: Listener.ListenOptions) =>
  Effect.gen(function*() {
    const listener = yield* Listener.make(url, { ...server, ...options })
    const refused: Array<string> = []
    const running = Server.run({
      open: Connection.make({ codec: Codec.lines() }),
      onEvent: (event) => {
        if (event._tag === "Refused") {
          const { reason } = event
          refused.push(
            reason._tag === "CertificateRefused" ? `${reason._tag} ${reason.by} ${reason.problem}` : reason._tag
          )
        }
        return Effect.void
      },
      handle: (connection) => Effect.forever(Effect.flatMap(connection.receive, connection.send))
    })
    yield* Effect.forkScoped(Effect.provideService(running, SocketServer.SocketServer, listener), {
      startImmediately: true
    })
    return { url: listener.url, port: portOf(listener), refused }
  })

describe("a client refuses a server", () => {
  for (const scheme of ["tls", "wss"] as const) {
    it.live(`${scheme}: untrusted, expired and wrong names are told apart, and not retried`, () =>
      Effect.gen(function*() {
        const expired = ours.sign("old", "IP:127.0.0.1", -1)
        const good = yield* echoing(`${scheme}://127.0.0.1:0`, {})
        const old = yield* echoing(`${scheme}://127.0.0.1:0`, expired)
        assert.strictEqual(yield* ask(good.url), "hi")
        assert.strictEqual(yield* ask(good.url, { ca: theirs.cert }), "CertificateRefused local untrusted")
        assert.strictEqual(yield* ask(good.url, { servername: "other" }), "CertificateRefused local wrongName")
        assert.strictEqual(yield* ask(old.url), "CertificateRefused local expired")
      }).pipe(Effect.scoped))
  }

  it.live("the server hears why, where the client says it", () =>
    Effect.gen(function*() {
      const { port, refused } = yield* echoing("tls://127.0.0.1:0", {})
      const args = ["s_client", "-connect", `127.0.0.1:${port}`, "-CAfile", theirs.certFile, "-verify_return_error"]
      yield* program("openssl", args)
      yield* until("the alert", () => refused.length > 0)
      assert.deepStrictEqual(refused, ["CertificateRefused peer untrusted"])
    }).pipe(Effect.scoped))
})

describe("a server refuses a client", () => {
  for (const scheme of ["tls", "wss"] as const) {
    it.live(`${scheme}: both ends know why: none, untrusted, expired`, () =>
      Effect.gen(function*() {
        const { refused, url } = yield* echoing(`${scheme}://127.0.0.1:0`, { ca: ours.cert })
        assert.strictEqual(yield* ask(url, ours.sign("good", "DNS:client")), "hi")
        assert.strictEqual(yield* ask(url), "CertificateRefused peer missing")
        assert.strictEqual(yield* ask(url, theirs.sign("bad", "DNS:client")), "CertificateRefused peer untrusted")
        assert.strictEqual(yield* ask(url, ours.sign("old", "DNS:client", -1)), "CertificateRefused peer expired")
        yield* until("all refusals", () => refused.length === 3)
        assert.deepStrictEqual(
          refused,
          ["missing", "untrusted", "expired"].map((it) => `CertificateRefused local ${it}`)
        )
      }).pipe(Effect.scoped))
  }

  for (const scheme of ["tls", "wss"] as const) {
    it.live(`${scheme}: the identity of a client is known before its handshake`, () =>
      Effect.gen(function*() {
        const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, { ...server, ca: ours.cert })
        const running = Server.run({
          open: Connection.make({ codec: Codec.lines() }),
          handshake: (connection) => Effect.map(connection.snapshot, ({ identity }) => identity),
          handle: (connection, identity) => connection.send(JSON.stringify(identity))
        })
        yield* Effect.forkScoped(Effect.provideService(running, SocketServer.SocketServer, listener), {
          startImmediately: true
        })
        const client = ours.sign("device-7", "DNS:a.test,URI:spiffe://b/c")
        const socket = yield* Dialer.make(listener.url, { ca: ours.cert, ...client })
        const connection = yield* Connection.make({ codec: Codec.lines() })(socket)
        assert.deepStrictEqual(JSON.parse(yield* connection.receive), {
          subject: { O: ["Holdfast"], CN: ["device-7"] },
          alternativeNames: ["DNS:a.test", "URI:spiffe://b/c"],
          fingerprint: new X509Certificate(client.cert).fingerprint256
        })
      }).pipe(Effect.scoped))
  }

  for (const version of ["TLSv1_2", "TLSv1_3"] as const) {
    it.live(`a server of Python says it in an alert (${version})`, () =>
      Effect.gen(function*() {
        const url = `tls://127.0.0.1:${yield* pythonEcho(server, ours, version)}`
        assert.strictEqual(yield* ask(url, ours.sign("good", "DNS:client")), "hi")
        assert.strictEqual(yield* ask(url), "CertificateRefused peer missing")
        assert.strictEqual(yield* ask(url, theirs.sign("bad", "DNS:client")), "CertificateRefused peer untrusted")
      }).pipe(Effect.scoped))
  }

  it.live("it is said that a server is waited for which has asked for a certificate", () =>
    Effect.gen(function*() {
      const silent = Tls.createServer({ ...server, requestCert: true, rejectUnauthorized: false, ca: ours.cert })
      yield* Effect.callback<void>((resume) => void silent.listen(0, () => resume(Effect.void)))
      yield* Effect.addFinalizer(() => Effect.sync(() => silent.close()))
      let waiting = 0
      const { port } = silent.address() as { readonly port: number }
      const dialling = Effect.gen(function*() {
        const socket = yield* Dialer.make(`tls://127.0.0.1:${port}`, { ca: ours.cert, ...ours.sign("good", "DNS:c") })
        yield* socket.reader
      }).pipe(Effect.scoped, Effect.provideService(OnWaiting, Effect.sync(() => void waiting++)))
      yield* Fiber.join(yield* Effect.forkScoped(dialling))
      assert.strictEqual(waiting, 1)
    }).pipe(Effect.scoped))
})

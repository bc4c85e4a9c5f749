/** Certificates that change under a listener, and those for several names. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import * as TestClock from "effect/testing/TestClock"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { afterAll, beforeAll } from "vitest"
import { Certificates, Dialer, Listener } from "../../src/node/index.ts"
import type { Checked } from "../../src/node/internal/tls/securing.ts"
import { type Authority, authority, type Signed } from "./fixtures/authority.ts"
import { echo, portOf, run, until } from "./fixtures/kit.ts"

let dir: string
let ours: Authority
let one: Signed
let two: Signed

beforeAll(() => {
  dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "holdfast-renewal-"))
  ours = authority(dir, "ours")
  one = ours.sign("one", "DNS:localhost,DNS:one.test,IP:127.0.0.1")
  two = ours.sign("two", "DNS:localhost,DNS:two.test,DNS:*.two.test,IP:127.0.0.1")
})
afterAll(() => Fs.rmSync(dir, { recursive: true, force: true }))

/** A client of Node, and whom it talks to. */
const dial = (listener: Listener.Listener, options: Tls.ConnectionOptions = {}) =>
  Effect.acquireRelease(
    Effect.callback<Tls.TLSSocket, Error>((resume) => {
      const to = { host: "127.0.0.1", port: portOf(listener), ca: ours.cert }
      const conn = Tls.connect({ ...to, checkServerIdentity: () => undefined, ...options })
      conn.once("secureConnect", () => resume(Effect.succeed(conn)))
      conn.once("error", (error) => resume(Effect.fail(error)))
    }),
    (conn) => Effect.sync(() => conn.destroy())
  )

const nameOf = (conn: Tls.TLSSocket): string => String(conn.getPeerCertificate().subject.CN)

/** What comes back. */
const say = (conn: Tls.TLSSocket, text: string) =>
  Effect.callback<string>((resume) => {
    conn.once("data", (chunk) => resume(Effect.succeed(String(chunk))))
    conn.write(text)
  })

const serving = (options: Listener.ListenOptions) =>
  Effect.gen(function*() {
    const listener = yield* Listener.make("tls://127.0.0.1:0", options)
    yield* Effect.forkScoped(listener.run(echo), { startImmediately: true })
    return listener
  })

describe("certificates", () => {
  it.live("renewed under 100 connections: none is dropped, and the next one sees the new one", () =>
    Effect.gen(function*() {
      const now = yield* Ref.make<Certificates.Loaded>(one)
      const certificates = yield* Certificates.make(Ref.get(now))
      const listener = yield* serving({ certificates })
      const conns = yield* Effect.forEach(Array.from({ length: 100 }), () => dial(listener), { concurrency: 20 })
      yield* Ref.set(now, two)
      yield* certificates.renew
      const next = yield* dial(listener)
      assert.deepStrictEqual([nameOf(conns[0]!), nameOf(next)], ["one", "two"])
      const answers = yield* Effect.forEach(conns, (conn) => say(conn, "alive"), { concurrency: 20 })
      assert.deepStrictEqual(new Set(answers), new Set(["alive"]))
      // a mistake changes nothing
      yield* Ref.set(now, { cert: one.cert, key: two.key })
      assert.match((yield* Effect.flip(certificates.renew)).message, /does not belong/)
      assert.strictEqual(nameOf(yield* dial(listener)), "two")
    }).pipe(Effect.scoped))

  it.effect("of two renewals at once, the one that began last decides", () =>
    Effect.gen(function*() {
      const loads: Array<Deferred.Deferred<Certificates.Loaded>> = []
      const load = Effect.suspend(() => {
        const loaded = Deferred.makeUnsafe<Certificates.Loaded>()
        loads.push(loaded)
        return Deferred.await(loaded)
      })
      const making = yield* Effect.forkChild(Certificates.make(load), { startImmediately: true })
      yield* Deferred.succeed(loads[0]!, one)
      const certificates = yield* Fiber.join(making)
      const shown = () => (certificates["~holdfast/node/Certificates"]() as Checked).own.cert?.toString()
      const renewals = [
        yield* Effect.forkChild(certificates.renew, { startImmediately: true }),
        yield* Effect.forkChild(Effect.exit(certificates.renew), { startImmediately: true }),
        yield* Effect.forkChild(Effect.exit(certificates.renew), { startImmediately: true })
      ] as const
      // one that fails decides nothing
      yield* Deferred.succeed(loads[3]!, { cert: one.cert, key: two.key })
      yield* Fiber.join(renewals[2])
      assert.strictEqual(shown(), one.cert)
      yield* Deferred.succeed(loads[2]!, two)
      yield* Fiber.join(renewals[1])
      assert.strictEqual(shown(), two.cert)
      yield* Deferred.succeed(loads[1]!, one)
      yield* Fiber.join(renewals[0])
      assert.strictEqual(shown(), two.cert)
    }))

  it.effect("files are read again every 10 s, and not before", () =>
    Effect.gen(function*() {
      const [cert, key] = [Path.join(dir, "cert.pem"), Path.join(dir, "key.pem")] as const
      const put = (signed: Signed) => {
        Fs.writeFileSync(cert, signed.cert)
        Fs.writeFileSync(key, signed.key)
      }
      put(one)
      const certificates = yield* Certificates.files({ cert, key })
      const listener = yield* serving({ certificates })
      put(two)
      yield* TestClock.adjust(9999)
      assert.strictEqual(nameOf(yield* dial(listener)), "one")
      yield* TestClock.adjust(1)
      const end = performance.now() + 5000
      let seen = ""
      // the files are read by the system
      while (seen !== "two" && performance.now() < end) seen = nameOf(yield* dial(listener))
      assert.strictEqual(seen, "two")
    }).pipe(Effect.scoped))

  it.live("a file that has become a pipe is refused, and those from before stay in use", () =>
    Effect.gen(function*() {
      const [cert, key] = [Path.join(dir, "piped-cert.pem"), Path.join(dir, "piped-key.pem")] as const
      Fs.writeFileSync(cert, one.cert)
      Fs.writeFileSync(key, one.key)
      const certificates = yield* Certificates.files({ cert, key })
      const listener = yield* serving({ certificates })
      Fs.rmSync(cert)
      execFileSync("mkfifo", [cert])
      // it hung, and with it the end of the process
      const { message } = yield* Effect.flip(Effect.timeout(certificates.renew, "5 seconds"))
      assert.match(message, /cert \S+: it is a pipe, which cannot be read again: give a file$/)
      assert.strictEqual(nameOf(yield* dial(listener)), "one")
    }).pipe(Effect.scoped))

  it.live("a client that asks for a name gets the certificate of that name", () =>
    Effect.gen(function*() {
      const certificates = yield* Certificates.make(
        Effect.succeed({ ...one, names: { "TWO.test": two, "*.two.test": two } })
      )
      const listener = yield* serving({ certificates })
      const asking = (servername?: string) =>
        Effect.map(dial(listener, servername === undefined ? {} : { servername }), nameOf)
      assert.strictEqual(yield* asking(), "one")
      assert.strictEqual(yield* asking("two.test"), "two")
      assert.strictEqual(yield* asking("a.two.test"), "two")
      assert.strictEqual(yield* asking("a.b.two.test"), "one")
      assert.strictEqual(yield* asking("one.test"), "one")
    }).pipe(Effect.scoped))

  it.live("minVersion and ALPN hold at both ends", () =>
    Effect.gen(function*() {
      const listener = yield* serving({ ...one, minVersion: "TLSv1.3", alpn: ["chat/2", "chat/1"] })
      assert.match((yield* Effect.flip(dial(listener, { maxVersion: "TLSv1.2" }))).message, /protocol version/)
      assert.strictEqual((yield* dial(listener, { ALPNProtocols: ["chat/1", "x"] })).alpnProtocol, "chat/1")
      assert.match((yield* Effect.flip(dial(listener, { ALPNProtocols: ["x"] }))).message, /no application protocol/)
      // a dialler offers, the one liked best by the server is agreed to, and a server that knows none of them is not spoken with
      const agreed: Array<unknown> = []
      yield* Effect.forkScoped(
        run(listener, (socket) =>
          Effect.andThen(
            Effect.map(NodeSocket.NetSocket, (conn) => void agreed.push((conn as Tls.TLSSocket).alpnProtocol)),
            echo(socket)
          )),
        { startImmediately: true }
      )
      const offering = (alpn?: ReadonlyArray<string>) =>
        Effect.flatMap(
          Dialer.make(listener.url, { ca: ours.cert, servername: "localhost", alpn }),
          ({ reader }) => Effect.exit(Effect.scoped(reader))
        )
      assert.strictEqual((yield* offering(["x", "chat/1", "chat/2"]))._tag, "Success")
      assert.strictEqual((yield* offering(["chat/1"]))._tag, "Success")
      assert.strictEqual((yield* offering())._tag, "Success")
      assert.strictEqual((yield* offering(["x"]))._tag, "Failure")
      yield* until("all are accepted", () => agreed.length === 3)
      assert.deepStrictEqual(agreed, ["chat/2", "chat/1", false])
      const older = yield* Effect.acquireRelease(
        Effect.callback<Tls.Server>((resume) => {
          const server = Tls.createServer({ ...one, maxVersion: "TLSv1.2" })
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const { port } = older.address() as { readonly port: number }
      const opening = (options: Dialer.DialOptions) =>
        Effect.flatMap(Dialer.make(`tls://127.0.0.1:${port}`, { ca: ours.cert, ...options }), ({ reader }) =>
          Effect.scoped(Effect.exit(reader)))
      assert.strictEqual((yield* opening({}))._tag, "Success")
      assert.strictEqual((yield* opening({ minVersion: "TLSv1.3" }))._tag, "Failure")
    }).pipe(Effect.scoped))
})

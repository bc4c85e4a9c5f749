/** Waiting for what a server says to a certificate: how long, what ends it, and servers that never say it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Socket from "effect/socket/Socket"
import * as TestClock from "effect/testing/TestClock"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { afterAll, beforeAll } from "vitest"
import { Client, Codec, Connection, type ConnectionError } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { OnWaiting } from "../../src/node/internal/tls/consent.ts"
import { type Authority, authority, pythonEcho, type Signed } from "./fixtures/authority.ts"
import { portOf, until } from "./fixtures/kit.ts"

let dir: string
let ours: Authority
let server: Signed
let good: Signed
let bad: Signed

beforeAll(() => {
  dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "holdfast-consent-"))
  ours = authority(dir, "ours")
  server = ours.sign("server", "DNS:localhost,IP:127.0.0.1")
  good = ours.sign("good", "DNS:client")
  bad = authority(dir, "theirs").sign("bad", "DNS:client")
})
afterAll(() => Fs.rmSync(dir, { recursive: true, force: true }))

/** A server of Node that asks for certificates, and gives each connection to `onOpen`. It knows no alert for a bad one. */
const nodeServer = (onOpen: (conn: Tls.TLSSocket) => void, options: Tls.TlsOptions = {}) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly conns: Array<Tls.TLSSocket>; accepted: number }>((resume) => {
      const state = { port: 0, conns: new Array<Tls.TLSSocket>(), accepted: 0, close: () => {} }
      const listening = Tls.createServer({ ...server, requestCert: true, ca: ours.cert, ...options }, (conn) => {
        state.conns.push(conn)
        conn.on("error", () => {})
        onOpen(conn)
      })
      listening.on("connection", (conn: Net.Socket) => {
        state.accepted++
        conn.on("error", () => {})
      })
      listening.on("tlsClientError", () => {})
      listening.listen(0, "127.0.0.1", () => {
        state.port = (listening.address() as Net.AddressInfo).port
        state.close = () => void listening.close()
        resume(Effect.succeed(state))
      })
    }),
    (state) =>
      Effect.sync(() => {
        ;(state as unknown as { readonly close: () => void }).close()
        for (const conn of state.conns) conn.destroy()
      })
  )

/** Acquires a reader in the background; says when the wait has begun, and when it is over. */
const opening = (url: string, options: Dialer.DialOptions = {}) =>
  Effect.gen(function*() {
    const state = { isWaiting: false, isOpen: false }
    const socket = yield* Dialer.make(url, { ca: ours.cert, ...good, ...options })
    const dialling = Effect.andThen(socket.reader, Effect.sync(() => void (state.isOpen = true)))
    const fiber = yield* Effect.forkScoped(
      Effect.provideService(dialling, OnWaiting, Effect.sync(() => void (state.isWaiting = true)))
    )
    return { state, fiber }
  })

const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

const tagOf = ({ reason }: ConnectionError.ConnectionError): string =>
  reason._tag === "CertificateRefused" ? `${reason._tag} ${reason.by} ${reason.problem}` : reason._tag

describe("a server that asked for a certificate", () => {
  it.effect("B142 B143 and says nothing has 1 s, or `consent`, to the millisecond", () =>
    Effect.gen(function*() {
      const port = yield* pythonEcho(server, ours, "TLSv1_3", "silent")
      for (const [consent, limit] of [[undefined, 1000], ["250 millis", 250]] as const) {
        const { fiber, state } = yield* opening(`tls://127.0.0.1:${port}`, { consent })
        yield* until("it waits", () => state.isWaiting)
        yield* TestClock.adjust(limit - 1)
        yield* turn
        assert.isFalse(state.isOpen)
        yield* TestClock.adjust(1)
        yield* Fiber.join(fiber)
        assert.isTrue(state.isOpen)
      }
      const { fiber, state } = yield* opening(`tls://127.0.0.1:${port}`, { consent: 0 })
      yield* Fiber.join(fiber)
      assert.isFalse(state.isWaiting)
    }))

  it.effect("ends the wait by its first byte, or by a session ticket, without a millisecond", () =>
    Effect.gen(function*() {
      for (const kind of ["speaks", "tickets"] as const) {
        const port = yield* pythonEcho(server, ours, "TLSv1_3", kind)
        const { fiber, state } = yield* opening(`tls://127.0.0.1:${port}`)
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(state, { isWaiting: true, isOpen: true })
      }
    }))

  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    for (const scheme of ["tls", "wss"] as const) {
      it.live(`${scheme} ${version}: and ends without a word is not dialled for ever`, () =>
        Effect.gen(function*() {
          const listening = yield* nodeServer((conn) => conn.resume(), { maxVersion: version })
          const dial = Effect.orDie(
            Dialer.make(`${scheme}://127.0.0.1:${listening.port}/`.replace(/(tls.*)\/$/, "$1"), {
              ca: ours.cert,
              ...bad
            })
          )
          const seen: Array<string> = []
          const open = Effect.tapError(
            Effect.flatMap(dial, Connection.make({ codec: Codec.lines() })),
            (error) => Effect.sync(() => void seen.push(`${tagOf(error)} ${error.isRetryable}`))
          )
          const client = yield* Client.make(open, { policy: { retryBase: 1, retryCap: 1, retryAttempts: 0 } })
          const error = yield* Effect.flip(Effect.forever(client.receive))
          assert.strictEqual(tagOf(error), "CertificateRefused peer other")
          assert.isAtMost(listening.accepted, 5)
          assert.strictEqual(seen.at(-1), "CertificateRefused peer other false")
          for (const one of seen.slice(0, -1)) assert.match(one, /true$/)
        }))
    }
  }

  it.live("and ends without a word after it was heard once is dialled again and again: it has taken the certificate", () =>
    Effect.gen(function*() {
      let isGone = false
      const listening = yield* nodeServer((conn) => {
        if (isGone) return conn.destroy()
        conn.write("hello\n")
        conn.resume()
      })
      const dial = Dialer.make(`tls://127.0.0.1:${listening.port}`, { ca: ours.cert, ...good })
      const open = Effect.flatMap(dial, Connection.make({ codec: Codec.lines() }))
      assert.strictEqual(yield* Effect.scoped(Effect.flatMap(open, ({ receive }) => receive)), "hello")
      yield* until("it is gone", () => listening.conns.every((conn) => conn.destroyed))
      isGone = true
      for (let i = 0; i < 6; i++) {
        const error = yield* Effect.flip(
          Effect.scoped(Effect.flatMap(open as typeof open, ({ receive }) => receive))
        ) as Effect.Effect<ConnectionError.ConnectionError>
        assert.isTrue(error.isRetryable, error.message)
      }
    }))

  it.live("and ends without a word has refused a certificate that has expired, where it has", () =>
    Effect.gen(function*() {
      const listening = yield* nodeServer((conn) => conn.resume())
      const expired = ours.sign("old", "DNS:client", -1)
      const dial = yield* Effect.map(
        Effect.succeed(Dialer.make(`tls://127.0.0.1:${listening.port}`, { ca: ours.cert, ...expired })),
        (make) => Effect.flatMap(make, ({ reader }) => reader)
      )
      let last: Socket.SocketError | undefined
      for (let i = 0; i < 5; i++) {
        const exit = yield* Effect.result(Effect.scoped(Effect.andThen(dial, Effect.sleep(20))))
        if (exit._tag === "Failure") last = exit.failure as Socket.SocketError
      }
      const cause = last!.reason.cause as ConnectionError.ConnectionError
      assert.strictEqual(tagOf(cause), "CertificateRefused peer expired")
    }))
})

describe("a listener that refuses a certificate", () => {
  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    for (const scheme of ["tls", "wss"] as const) {
      it.live(`${scheme} ${version}: is heard by a client that sends at once, and no reset beats its alert`, () =>
        Effect.gen(function*() {
          const listener = yield* Listener.make(`${scheme}://127.0.0.1:0`, { ...server, ca: ours.cert, linger: 100 })
          yield* Effect.forkScoped(listener.run(() => Effect.void), { startImmediately: true })
          // what becomes of the connection is seen by what stands between
          const ends: Array<string> = []
          const relay = Net.createServer((client) => {
            const upstream = Net.connect({ port: portOf(listener), host: "127.0.0.1", allowHalfOpen: true })
            let first: string | undefined
            const ended = (how: string) => () => {
              if (first === undefined) ends.push(first = how)
            }
            upstream.on("end", ended("end")).on("error", ended("reset"))
            upstream.on("data", (chunk) => client.write(chunk))
            client.on("error", () => {})
            client.on("data", (chunk) => upstream.write(chunk))
          })
          yield* Effect.callback<void>((resume) => void relay.listen(0, "127.0.0.1", () => resume(Effect.void)))
          yield* Effect.addFinalizer(() => Effect.sync(() => relay.close()))
          const { port } = relay.address() as Net.AddressInfo
          const ask = Effect.callback<string>((resume) => {
            const to = { port, host: "127.0.0.1", ca: ours.cert, cert: bad.cert, key: bad.key, maxVersion: version }
            const conn = Tls.connect(to, () => conn.write(Buffer.alloc(500_000)))
            let said = "nothing"
            conn.on("error", ({ message }) => {
              said = /SSL alert number \d+/.exec(message)?.[0] ?? message
              conn.destroy()
            })
            conn.on("close", () => resume(Effect.succeed(said)))
            conn.resume()
          })
          const heard = yield* Effect.all(Array.from({ length: 10 }, () => ask), { concurrency: 5 })
          assert.deepStrictEqual(new Set(heard), new Set(["SSL alert number 20"]))
          yield* until("all have ended", () => ends.length === 10)
          assert.deepStrictEqual(new Set(ends), new Set(["end"]))
        }))
    }

    it.live(`${version}: says to a dialler what is wrong, also where that does not wait for it`, () =>
      Effect.gen(function*() {
        const listener = yield* Listener.make("tls://127.0.0.1:0", { ...server, ca: ours.cert, minVersion: "TLSv1.2" })
        yield* Effect.forkScoped(listener.run(() => Effect.void), { startImmediately: true })
        for (const [signed, problem] of [[bad, "untrusted"], [ours.sign("x", "DNS:c", -1), "expired"]] as const) {
          const socket = yield* Dialer.make(listener.url, { ca: ours.cert, ...signed, consent: 0 })
          const said = yield* Effect.flip(Effect.scoped(Effect.gen(function*() {
            const connection = yield* Connection.make({ codec: Codec.lines() })(socket)
            yield* connection.send("hi")
            return yield* connection.receive
          })))
          assert.strictEqual(tagOf(said), `CertificateRefused peer ${problem}`)
        }
      }))
  }
})

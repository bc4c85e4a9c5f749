import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Scope, Stream } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { SocketServer } from "effect/socket"
import * as ChildProcess from "node:child_process"
import { promisify } from "node:util"
import { WebSocket } from "ws"
import { Codec, Connection, Registry, Server } from "../../src/index.ts"
import { TypeId } from "../../src/internal/connection/handle/internals.ts"
import { HttpServer } from "../../src/node/index.ts"
import { withLogs } from "../support/logs.ts"
import { certificate, client, portOf, tempDir, until } from "./fixtures/kit.ts"

const execFile = promisify(ChildProcess.execFile)

/** Runs a program that is not ours and returns what it printed. */
const foreign = (file: string, args: ReadonlyArray<string>, input?: string): Effect.Effect<string> =>
  Effect.promise(async () => {
    const running = execFile(file, [...args], { timeout: 10_000 })
    running.child.stdin!.end(input)
    return (await running).stdout
  })

const megabyte = new Uint8Array(1024 * 1024)

/** What the tests ask for. */
const application = (gate: Latch.Latch) =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    switch (request.url.split("?")[0]) {
      case "/echo":
        return HttpServerResponse.text(yield* Effect.orDie(request.text))
      case "/slow":
        yield* gate.await
        return HttpServerResponse.text("slow")
      case "/started": {
        const end = Stream.fromEffect(Effect.as(gate.await, "end"))
        return HttpServerResponse.stream(Stream.encodeText(Stream.concat(Stream.make("begin "), end)))
      }
      case "/endless":
        return HttpServerResponse.stream(Stream.forever(Stream.make(megabyte)))
      default:
        return HttpServerResponse.text("hello")
    }
  })

/** A running server. It is stopped with the scope of the test, or by `stop`. */
const start = Effect.fnUntraced(function*<In = never, Out = unknown>(
  options: HttpServer.Options<In, Out> = {},
  url: string = "http://127.0.0.1:0"
) {
  const scope = yield* Scope.make()
  const gate = Latch.makeUnsafe(false)
  const server = yield* Scope.provide(
    HttpServer.make(url, { ...options, policy: { drain: 300, ...options.policy } }),
    scope
  )
  yield* Scope.provide(server.http.serve(application(gate)), scope)
  const stop = Scope.close(scope, Exit.void)
  yield* Effect.addFinalizer(() => stop)
  return { ...server, gate, stop, scope, port: url.startsWith("unix:") ? 0 : portOf(server) }
})

const get = (path: string, ...headers: ReadonlyArray<string>) =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${headers.map((header) => `${header}\r\n`).join("")}\r\n`

/** Looks again until it holds. */
const eventually = Effect.fnUntraced(function*(what: string, condition: Effect.Effect<boolean>) {
  const end = performance.now() + 5000
  while (!(yield* condition)) {
    if (performance.now() > end) return yield* Effect.die(new Error(`waited 5000 ms in vain: ${what}`))
    yield* Effect.sleep(2)
  }
})

const count = (text: string, part: string): number => text.split(part).length - 1

/** How long a client lives from now on, in milliseconds. */
const lives = (peer: { readonly ended: boolean; readonly closed: boolean }, deadline?: number) =>
  Effect.gen(function*() {
    const since = performance.now()
    yield* until("the end of the connection", () => peer.ended || peer.closed, deadline)
    return performance.now() - since
  })

/** The connections of a registry that ended, once there are so many. */
const endings = Effect.fnUntraced(function*<In, Out>(registry: Registry.Registry<In, Out>, howMany: number) {
  let history: ReadonlyArray<Registry.Ended> = []
  yield* eventually(
    `${howMany} ended connections`,
    Effect.map(registry.history, (now) => (history = now).length >= howMany)
  )
  assert.strictEqual(history.length, howMany)
  return history.map(({ snapshot }) => snapshot)
})
const ended = <In, Out>(registry: Registry.Registry<In, Out>) => Effect.map(endings(registry, 1), (all) => all[0]!)

describe("HttpServer", () => {
  describe("addresses", () => {
    it.live("answers curl over http, https and a Unix socket", () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const plain = yield* start()
        assert.match(plain.url, /^http:\/\/127\.0\.0\.1:\d+$/)
        assert.strictEqual(yield* foreign("curl", ["-s", `${plain.url}/`]), "hello")
        const secure = yield* start(certificate(), "https://127.0.0.1:0")
        assert.match(secure.url, /^https:\/\/127\.0\.0\.1:\d+$/)
        assert.strictEqual(yield* foreign("curl", ["-sk", "--http1.1", `${secure.url}/`]), "hello")
        const unix = yield* start({}, `unix://${dir}/app.sock`)
        assert.strictEqual(yield* foreign("curl", ["-s", "--unix-socket", `${dir}/app.sock`, "http://x/"]), "hello")
        assert.strictEqual(unix.http.address._tag, "UnixPathAddress")
      }))

    it.live("requests that come before there is an application wait for it", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<never, unknown, undefined>()
        const server = yield* HttpServer.make("http://127.0.0.1:0", { registry })
        const peer = yield* client(server)
        peer.conn.write(get("/"))
        yield* eventually(
          "its request to be read",
          Effect.map(registry.entries, ([entry]) => {
            return entry !== undefined && entry.connection[TypeId].look().bytesIn > 0
          })
        )
        assert.strictEqual(peer.text, "")
        yield* server.http.serve(application(Latch.makeUnsafe()))
        yield* until("an answer", () => peer.text.endsWith("hello"))
      }).pipe(Effect.scoped))

    it.live("says in words why it cannot listen", () =>
      Effect.gen(function*() {
        const { port } = yield* start()
        const refusal = (url: string, options?: HttpServer.Options) =>
          HttpServer.make(url, options).pipe(Effect.scoped, Effect.flip, Effect.map((e) => `${e.reason}: ${e.message}`))
        assert.strictEqual(
          yield* refusal(`http://127.0.0.1:${port}`),
          `AddressInUse: cannot listen on http://127.0.0.1:${port}: port ${port} is in use by another socket; ` +
            "stop it or choose another port"
        )
        assert.strictEqual(
          yield* refusal("tcp://127.0.0.1:0"),
          "BadUrl: cannot listen on tcp://127.0.0.1:0: an HTTP server has an http://, https:// or unix:// URL"
        )
        assert.strictEqual(
          yield* refusal("http://127.0.0.1:0/path"),
          "BadUrl: cannot listen on http://127.0.0.1:0/path: http:// has no path; nothing can follow the port"
        )
        assert.match(yield* refusal("https://127.0.0.1:0"), /^BadTls: .* `cert` and `key`$/)
        assert.match(yield* refusal("http://127.0.0.1:0", { webSocket: "live" }), /^BadOption: .*`webSocket`/)
      }))
  })

  describe("supervision", () => {
    it.live("B100 a registration that throws, or a removal that dies, is logged once, and ends its connection at most", () =>
      withLogs((logged) =>
        Effect.gen(function*() {
          const registry = yield* Registry.make<string>()
          let adds = 0
          const { url } = yield* start({
            registry: {
              ...registry,
              add: (connection, names) => {
                if (adds++ === 0) throw new Error("bug")
                return Effect.andThen(
                  registry.add(connection, names),
                  Effect.addFinalizer(() => adds === 2 ? Effect.die(new Error("no")) : Effect.void)
                )
              }
            }
          })
          const thrown = yield* client({ url })
          yield* lives(thrown)
          const removed = yield* client({ url })
          removed.conn.write(get("/", "Connection: close"))
          yield* lives(removed)
          assert.include(removed.text, "hello")
          yield* eventually("the removal", Effect.sync(() => logged.length === 2))
          const works = yield* client({ url })
          works.conn.write(get("/"))
          yield* until("an answer", () => works.text.includes("hello"))
          assert.match(logged[0]!, /^Error a defect in registry \(127\.0\.0\.1:\d+\): bug$/)
          assert.strictEqual(logged[1], "Error a defect in registry: no")
          assert.strictEqual(logged.length, 2)
        })
      ))
  })

  describe("registration", () => {
    for (const what of ["waits", "waits, and cannot be interrupted"]) {
      it.live(`B139 a registry that ${what} ends its connection at the deadline of the handshake, and the reason is told`, () =>
        withLogs((logged) =>
          Effect.gen(function*() {
            const registry = yield* Registry.make<string>()
            const gate = Latch.makeUnsafe(false)
            const asked: Array<Connection.Connection<string>> = []
            let interrupted = 0
            const slow = {
              add: (connection: Connection.Connection<string>) =>
                Effect.suspend(() => {
                  asked.push(connection)
                  const wait = asked.length === 1 ? gate.await : Effect.void
                  const held = what === "waits" ? wait : Effect.uninterruptible(wait)
                  return Effect.andThen(
                    Effect.onInterrupt(held, () => Effect.sync(() => interrupted++)),
                    registry.add(connection)
                  )
                })
            }
            const { url } = yield* start({ registry: slow, policy: { handshake: 400 } })
            const late = yield* client({ url })
            late.conn.write(get("/"))
            const lived = yield* lives(late)
            assert.isAtLeast(lived, 350)
            assert.isAtMost(lived, 3000)
            assert.strictEqual((yield* Effect.flip(asked[0]!.closed)).reason._tag, "HandshakeTimeout")
            assert.match(logged.join(), /^Warn a registry took longer than 400 ms to take an HTTP connection/)
            yield* gate.open
            yield* eventually("no entry", Effect.map(registry.size, (size) => size === 0))
            assert.strictEqual(interrupted, what === "waits" ? 1 : 0)
            const prompt = yield* client({ url })
            prompt.conn.write(get("/"))
            yield* until("an answer", () => prompt.text.includes("hello"))
            yield* Effect.sleep(600)
            assert.isFalse(prompt.closed || prompt.ended)
            assert.strictEqual(yield* registry.size, 1)
          })
        ))
    }

    it.live("a registration is interrupted when its peer leaves", () =>
      Effect.gen(function*() {
        let waiting = 0
        const registry = {
          add: () => {
            waiting++
            return Effect.onInterrupt(Effect.never, () => Effect.sync(() => waiting--))
          }
        }
        const { url } = yield* start({ registry, policy: { handshake: 0 } })
        const peer = yield* client({ url })
        yield* until("it is asked", () => waiting === 1)
        peer.conn.destroy()
        yield* until("it is interrupted", () => waiting === 0)
      }))
  })

  describe("keep-alive", () => {
    it.live("one connection carries many requests, of Node, curl and Python", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { port, url } = yield* start({ registry })
        yield* foreign("curl", ["-s", `${url}/`, `${url}/`, `${url}/`])
        yield* foreign("python3", [
          "-c",
          `import http.client
c = http.client.HTTPConnection("127.0.0.1", ${port})
for i in range(5):
    c.request("POST", "/echo", body="x" * i)
    assert c.getresponse().read() == b"x" * i
`
        ])
        const snapshots = yield* endings(registry, 2)
        assert.deepStrictEqual(snapshots.map(({ messagesIn }) => messagesIn), [3, 5])
        assert.deepStrictEqual(snapshots.map(({ reason }) => reason?._tag), ["Closed", "Closed"])
      }))

    it.live("the peer is told how long an idle connection is kept, and B19 it is closed a second later, a busy one not", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { gate, url } = yield* start({ registry, policy: { idle: "1 second" } })
        const idle = yield* client({ url })
        const busy = yield* client({ url })
        idle.conn.write(get("/"))
        busy.conn.write(get("/slow"))
        yield* until("an answer", () => idle.text.includes("hello"))
        assert.include(idle.text, "Keep-Alive: timeout=1\r\n")
        const lived = yield* lives(idle)
        assert.isAtLeast(lived, 1900)
        assert.isAtMost(lived, 4000)
        assert.strictEqual((yield* ended(registry)).reason?._tag, "IdleTimeout")
        assert.isFalse(busy.closed)
        yield* gate.open
        yield* until("an answer", () => busy.text.includes("slow"))
      }))

    it.live("silence is the limit of idleness where idle is off, and both off is none", () =>
      Effect.gen(function*() {
        const quiet = yield* start({ policy: { silence: "7 seconds" } })
        const never = yield* start({ policy: { silence: 0, idle: Infinity } })
        const [a, b] = [yield* client(quiet), yield* client(never)]
        a.conn.write(get("/"))
        b.conn.write(get("/"))
        yield* until("both answers", () => a.text.includes("hello") && b.text.includes("hello"))
        assert.include(a.text, "Keep-Alive: timeout=7\r\n")
        assert.notInclude(b.text, "Keep-Alive:")
        assert.include(b.text, "Connection: keep-alive\r\n")
      }))

    it.live("maxRequests: the last answer says so, and closes", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { url } = yield* start({ registry, policy: { maxRequests: 3 } })
        const peer = yield* client({ url })
        for (let i = 1; i <= 3; i++) {
          assert.notInclude(peer.text, "Connection: close")
          peer.conn.write(get("/"))
          yield* until("an answer", () => count(peer.text, "hello") === i)
        }
        assert.include(peer.text, "Connection: close")
        yield* lives(peer)
        // pipelined, one too many is refused
        const eager = yield* client({ url })
        eager.conn.write(get("/").repeat(4))
        yield* lives(eager)
        assert.strictEqual(count(eager.text, "hello"), 3)
        assert.deepStrictEqual((yield* endings(registry, 2)).map(({ messagesIn }) => messagesIn), [3, 3])
      }))
  })

  describe("deadlines", () => {
    const policy = { handshake: 400, frame: 800, writeStall: 400 }

    for (
      const [what, bytes] of [["says nothing", ""], [
        "sends a part of its head",
        "GET / HTTP/1.1\r\nHost: a\r\nX: "
      ]] as const
    ) {
      it.live(`B45 a peer that ${what} gets 408 at the handshake deadline`, () =>
        Effect.gen(function*() {
          const registry = yield* Registry.make<string>()
          const { url } = yield* start({ registry, policy })
          const peer = yield* client({ url })
          peer.conn.write(bytes)
          const lived = yield* lives(peer)
          assert.isAtLeast(lived, 380)
          assert.isAtMost(lived, 4000)
          assert.match(peer.text, /^HTTP\/1\.1 408 Request Timeout\r\n/)
          const { reason } = yield* ended(registry)
          assert.strictEqual(reason?.message, "the peer did not finish its handshake within 400 ms")
        }))
    }

    it.live("B46 a head that arrives byte by byte is cut at the deadline, also on a connection that was used", () =>
      Effect.gen(function*() {
        const { url } = yield* start({ policy })
        const peer = yield* client({ url })
        peer.conn.write(get("/"))
        yield* until("an answer", () => peer.text.includes("hello"))
        peer.conn.write("GET / HTTP/1.1\r\nHost: a\r\nX: ")
        const timer = setInterval(() => peer.conn.write("x"), 20)
        const lived = yield* Effect.ensuring(lives(peer), Effect.sync(() => clearInterval(timer)))
        assert.isAtLeast(lived, 380)
        assert.isAtMost(lived, 4000)
      }))

    it.live("B46 a body that arrives byte by byte is cut at the frame deadline, and its handler is interrupted", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { url } = yield* start({ registry, policy })
        const peer = yield* client({ url })
        peer.conn.write("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        const timer = setInterval(() => peer.conn.write("x"), 20)
        const lived = yield* Effect.ensuring(lives(peer), Effect.sync(() => clearInterval(timer)))
        assert.isAtLeast(lived, 780)
        assert.isAtMost(lived, 4000)
        assert.match(peer.text, /^HTTP\/1\.1 408 /)
        const { reason } = yield* ended(registry)
        assert.strictEqual(reason?._tag, "FrameTimeout")
      }))

    for (const scheme of ["http", "https"]) {
      it.live(`B39 ${scheme}: a peer that takes nothing of an answer is cut; one that takes a little at a time is not`, () =>
        Effect.gen(function*() {
          const registry = yield* Registry.make<string>()
          const { port } = yield* start({ registry, policy, ...certificate() }, `${scheme}://127.0.0.1:0`)
          const url = `${scheme === "https" ? "tls" : "tcp"}://127.0.0.1:${port}`
          const stalled = yield* client({ url }, { flowing: false })
          const slow = yield* client({ url }, { flowing: false })
          stalled.conn.write(get("/endless"))
          slow.conn.write(get("/endless"))
          // for 50 ms of every 100: many MB, enough for the kernel to tell of it each time
          slow.conn.on("data", () => {})
          const timer = setInterval(() => slow.conn.isPaused() ? slow.conn.resume() : slow.conn.pause(), 50)
          const snapshot = yield* Effect.ensuring(ended(registry), Effect.sync(() => clearInterval(timer)))
          assert.strictEqual(snapshot.reason?.message, "the peer took none of our bytes for 400 ms")
          assert.strictEqual(snapshot.remote, `127.0.0.1:${stalled.conn.localPort}`)
          assert.isAtMost(snapshot.age, 4000)
          assert.isFalse(slow.closed)
          assert.strictEqual(yield* registry.size, 1)
        }))
    }

    it.live("B20 at maxAge an idle connection is ended, and a busy one with its answer", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { gate, url } = yield* start({ registry, policy: { maxAge: 500 } })
        const [idle, busy] = [yield* client({ url }), yield* client({ url })]
        idle.conn.write(get("/"))
        busy.conn.write(get("/started"))
        const lived = yield* lives(idle)
        assert.isAtLeast(lived, 430)
        assert.isAtMost(lived, 4000)
        assert.strictEqual((yield* ended(registry)).reason?._tag, "MaxAge")
        assert.isFalse(busy.ended)
        yield* gate.open
        yield* lives(busy)
        assert.include(busy.text, "end")
      }))

    it.live("B20 an answer that goes on after maxAge is cut after maxAgeGrace", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { url } = yield* start({ registry, policy: { maxAge: 200, maxAgeGrace: 300, drain: Infinity } })
        const busy = yield* client({ url })
        busy.conn.write(get("/started"))
        yield* lives(busy)
        const { age, reason } = yield* ended(registry)
        assert.strictEqual(reason?._tag, "MaxAge")
        assert.isAtLeast(age, 480)
      }))
  })

  describe("limits", () => {
    it.live("a head that is too large gets 431, which the peer can read", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { port, url } = yield* start({ registry, policy: { maxHeader: 2048 } })
        const fits = yield* foreign("curl", ["-s", "-H", `X: ${"x".repeat(1500)}`, `${url}/`])
        assert.strictEqual(fits, "hello")
        const head = get("/", `X: ${"x".repeat(200_000)}`)
        assert.match(yield* foreign("nc", ["-N", "127.0.0.1", String(port)], head), /^HTTP\/1\.1 431 /)
        const { reason } = (yield* endings(registry, 2))[1]!
        assert.strictEqual(reason?._tag, "FrameTooLong")
      }))

    it.live("what is no HTTP gets 400", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { port } = yield* start({ registry })
        assert.match(yield* foreign("nc", ["-N", "127.0.0.1", String(port)], "hello\r\n\r\n"), /^HTTP\/1\.1 400 /)
        assert.strictEqual((yield* ended(registry)).reason?._tag, "ProtocolViolation")
      }))

    it.live("B95 a connection over maxConnections waits unread, and is served when another ends", () =>
      Effect.gen(function*() {
        const { url } = yield* start({ policy: { maxConnections: 2, maxWaiting: 1 } })
        const peers = [yield* client({ url }), yield* client({ url })]
        for (const peer of peers) peer.conn.write(get("/"))
        yield* until("two answers", () => peers.every((peer) => peer.text.includes("hello")))
        const waiting = yield* client({ url })
        waiting.conn.write(get("/"))
        yield* until("the connection", () => waiting.connected)
        const refused = yield* client({ url })
        yield* lives(refused)
        assert.match(refused.text, /^HTTP\/1\.1 503 Service Unavailable\r\nConnection: close\r\n/)
        assert.strictEqual(waiting.text, "")
        peers[0]!.conn.destroy()
        yield* until("the answer", () => waiting.text.includes("hello"))
      }))

    it.live("B95 with whenFull: reject it is refused at once; per address, too", () =>
      Effect.gen(function*() {
        const full = yield* start({ policy: { maxConnections: 1, whenFull: "reject" } })
        const local = yield* start({ policy: { maxConnectionsPerAddress: 1 } }, "http://0.0.0.0:0")
        for (const server of [full, { ...local, url: `http://127.0.0.1:${local.port}` }]) {
          const first = yield* client(server)
          yield* until("the connection", () => first.connected)
          const second = yield* client(server)
          yield* lives(second)
          assert.match(second.text, /^HTTP\/1\.1 503 /)
          first.conn.destroy()
          let answered = false
          for (let i = 0; i < 100 && !answered; i++) {
            const next = yield* client(server)
            next.conn.write(get("/"))
            yield* until("an answer", () => next.text !== "" || next.closed)
            answered = next.text.includes("hello")
            next.conn.destroy()
          }
          assert.isTrue(answered)
        }
        // another address has its own count
        const each = yield* start({ policy: { maxConnectionsPerAddress: 1 } }, "http://0.0.0.0:0")
        const here = yield* client({ url: `http://127.0.0.1:${each.port}` })
        here.conn.write(get("/"))
        yield* until("its answer", () => here.text.includes("hello"))
        const from = (address: string) =>
          foreign("curl", [
            "-s",
            "--interface",
            address,
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            `http://127.0.0.1:${each.port}/`
          ])
        assert.strictEqual(yield* from("127.0.0.2"), "200")
        assert.strictEqual(yield* from("127.0.0.1"), "503")
      }))

    it.live("acceptRate lets a second's worth in at once, and the others in their turn", () =>
      Effect.gen(function*() {
        const { url } = yield* start({ policy: { acceptRate: 5 } })
        const since = performance.now()
        const peers = yield* Effect.forEach(Array.from({ length: 8 }), () => client({ url }))
        for (const peer of peers) peer.conn.write(get("/"))
        yield* until("the first", () => peers.filter((peer) => peer.text.includes("hello")).length >= 5)
        assert.isAtMost(performance.now() - since, 700)
        yield* until("all", () => peers.every((peer) => peer.text.includes("hello")))
        assert.isAtLeast(performance.now() - since, 550)
      }))
  })

  describe("the stop", () => {
    it.live("B90 idle and silent connections end at once, an answer under way says Connection: close", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { gate, stop, url } = yield* start({ registry, policy: { drain: "5 seconds" } })
        const [idle, silent, busy, started] = [
          yield* client({ url }),
          yield* client({ url }),
          yield* client({ url }),
          yield* client({ url })
        ]
        idle.conn.write(get("/"))
        busy.conn.write(get("/slow"))
        started.conn.write(get("/started"))
        yield* until(
          "an answer",
          () => idle.text.includes("hello") && started.text.includes("begin") && silent.connected
        )
        yield* eventually("four entries", Effect.map(registry.size, (size) => size === 4))
        const since = performance.now()
        const stopping = yield* Effect.forkChild(stop, { startImmediately: true })
        yield* lives(idle)
        yield* lives(silent)
        assert.isAtMost(performance.now() - since, 4000)
        const refused = yield* client({ url })
        yield* until("nobody listens any more", () => refused.error?.code === "ECONNREFUSED")
        assert.isFalse(busy.ended || started.ended)
        yield* gate.open
        yield* Fiber.join(stopping)
        assert.isAtMost(performance.now() - since, 4000)
        yield* until("the answers", () => busy.ended && started.ended)
        assert.include(busy.text, "Connection: close\r\n")
        assert.include(busy.text, "slow")
        // its head had gone before the stop
        assert.include(started.text, "end")
        assert.deepStrictEqual(
          (yield* registry.history).map(({ snapshot }) => snapshot.reason?._tag),
          ["GoingAway", "GoingAway", "GoingAway", "GoingAway"]
        )
        assert.strictEqual(yield* registry.size, 0)
      }))

    it.live("B90 after the drain what is left is ended", () =>
      Effect.gen(function*() {
        const { stop, url } = yield* start({ policy: { drain: 300 } })
        const busy = yield* client({ url })
        busy.conn.write(get("/started"))
        yield* until("its begin", () => busy.text.includes("begin"))
        const since = performance.now()
        yield* stop
        const took = performance.now() - since
        assert.isAtLeast(took, 280)
        assert.isAtMost(took, 4000)
        yield* lives(busy)
      }))
  })

  describe("in the registry", () => {
    it.live("a connection is listed while it lives, and can be closed and drained from there", () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        const { gate, url } = yield* start({ registry })
        const [idle, busy] = [yield* client({ url }), yield* client({ url })]
        idle.conn.write(get("/"))
        yield* until("an answer", () => idle.text.includes("hello"))
        busy.conn.write(get("/slow"))
        let found: ReadonlyArray<Connection.Connection<string>> = []
        yield* eventually(
          "a request under way",
          Effect.gen(function*() {
            found = yield* registry.getTag("http")
            const snapshots = yield* registry.snapshots
            return snapshots.length === 2 && snapshots.every(({ messagesIn }) => messagesIn === 1)
          })
        )
        const [first, second] = found.toSorted((a, b) => a.id - b.id)
        const snapshot = yield* first!.snapshot
        assert.strictEqual(snapshot.state, "open")
        assert.strictEqual(snapshot.remote, `127.0.0.1:${idle.conn.localPort}`)
        assert.deepStrictEqual([snapshot.messagesIn, snapshot.messagesOut], [1, 1])
        assert.deepStrictEqual([snapshot.bytesIn, snapshot.bytesOut], [get("/").length, idle.text.length])
        assert.strictEqual((yield* second!.snapshot).inbox.messages, 1)
        // messages are not for it
        assert.strictEqual((yield* Effect.flip(first!.send("x"))).reason._tag, "InvalidMessage")
        assert.deepStrictEqual(yield* registry.broadcast("x"), { delivered: 0, dropped: 0, failed: 2 })
        yield* first!.close
        yield* lives(idle)
        const closing = yield* Effect.forkChild(second!.close, { startImmediately: true })
        yield* second!.leaving
        assert.strictEqual((yield* second!.snapshot).state, "closing")
        yield* gate.open
        yield* Fiber.join(closing)
        assert.include(busy.text, "Connection: close\r\n")
        assert.strictEqual((yield* Effect.flip(second!.closed)).reason._tag, "Closed")
        yield* eventually("no entry", Effect.map(registry.size, (size) => size === 0))
      }))
  })

  describe("WebSocket", () => {
    const chat = Connection.make({ codec: Codec.lines() })
    const echo = (connection: Connection.Connection<string>) =>
      Stream.runForEach(Connection.messages(connection), connection.send)

    for (const url of ["http://127.0.0.1:0", "https://127.0.0.1:0"]) {
      it.live(`${url} becomes a connection of Server.run on the same port, and is gone with it`, () =>
        Effect.gen(function*() {
          const registry = yield* Registry.make<string>()
          const server = yield* start({ registry, webSocket: "/live", ...certificate() }, url)
          yield* Effect.provideService(
            Server.run({ open: chat, handle: echo, registry }),
            SocketServer.SocketServer,
            server.webSockets
          ).pipe(
            Effect.forkIn(server.scope, { startImmediately: true })
          )
          const ws = yield* Effect.acquireRelease(
            Effect.sync(() => new WebSocket(`${server.webSockets.url}/live?x=1`, { rejectUnauthorized: false })),
            (ws) => Effect.sync(() => ws.terminate())
          )
          const heard: Array<string> = []
          let code: number | undefined
          ws.on("open", () => ws.send("over one port"))
          ws.on("message", (data) => heard.push(String(data)))
          ws.on("close", (value) => code = value)
          yield* until("the echo", () => heard.length === 1)
          assert.deepStrictEqual(heard, ["over one port"])
          assert.strictEqual(yield* foreign("curl", ["-sk", "--http1.1", `${server.url}/`]), "hello")
          // as what it has become, and not as what it was
          const entries = (yield* registry.entries).filter(({ tags }) => !tags.has("http"))
          assert.strictEqual(entries.length, 1)
          assert.strictEqual((yield* entries[0]!.connection.snapshot).messagesIn, 1)
          const was = (yield* registry.history).find(({ tags }) => tags.has("http"))
          assert.strictEqual(was?.snapshot.reason?.message, "closed by us (upgraded to a WebSocket)")
          yield* server.stop
          yield* until("the close", () => code !== undefined)
          assert.strictEqual(code, 1001)
          assert.strictEqual(yield* registry.size, 0)
        }))
    }

    it.live("other paths are the application's, and without a server for it nobody is kept waiting", () =>
      Effect.gen(function*() {
        const { port } = yield* start({ webSocket: "/live" })
        const answer = (path: string, key: string) =>
          foreign("nc", ["-N", "127.0.0.1", String(port)], get(path, "Upgrade: websocket", "Connection: Upgrade", key))
        assert.match(yield* answer("/other", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), /^HTTP\/1\.1 200 OK/)
        assert.match(yield* answer("/live", "X: y"), /^HTTP\/1\.1 400 /)
        const bare = yield* HttpServer.make("http://127.0.0.1:0", { webSocket: "/live" })
        const head = get("/other", "Upgrade: websocket", "Connection: Upgrade")
        assert.match(yield* foreign("nc", ["-N", "127.0.0.1", String(portOf(bare))], head), /^HTTP\/1\.1 404 /)
      }))
  })
})

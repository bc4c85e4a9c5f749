/** What HTTP connections hold counts to the memory that all may: they are not read, new ones wait, and the heaviest end. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Latch, Metric, Scope } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as SocketServer from "effect/socket/SocketServer"
import * as TestClock from "effect/testing/TestClock"
import { Codec, Connection, Memory, Metrics, Registry, Server } from "../../src/index.ts"
import { HttpServer, Upgrade } from "../../src/node/index.ts"
import { certificate, type Client, client, tempDir, until } from "./fixtures/kit.ts"

const mebibyte = "x".repeat(1024 * 1024)

/** A server whose handlers wait for `gate` where the path says so, and read their bodies behind it. */
const start = Effect.fnUntraced(function*(
  memory: Memory.Memory | undefined,
  options: HttpServer.Options<never, unknown> = {},
  url = "http://127.0.0.1:0"
) {
  const scope = yield* Scope.make()
  const registry = yield* Registry.make<never>()
  const events: Array<HttpServer.Event["_tag"]> = []
  const made = HttpServer.make(url, {
    ...options,
    policy: { drain: 100, ...options.policy },
    registry,
    onEvent: ({ _tag }) => Effect.sync(() => void events.push(_tag))
  })
  const server = yield* Scope.provide(memory === undefined ? made : memory.provide(made), scope)
  const gate = Latch.makeUnsafe(false)
  const application = Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    if (request.url === "/large") return HttpServerResponse.text(mebibyte.repeat(16))
    if (request.url === "/wait" || request.url === "/later") yield* gate.await
    if (request.url === "/later") return HttpServerResponse.text(mebibyte.repeat(16))
    const body = request.method === "POST" ? yield* Effect.orDie(request.text) : ""
    return HttpServerResponse.text(`<${request.url} ${body.length}>`)
  })
  yield* Scope.provide(server.http.serve(Effect.interruptible(application)), scope)
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  return { url: server.url.replace("https:", "tls:"), gate, registry, events }
})

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`
const post = (path: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`

/** Looks until it is within. */
const holds = (memory: Memory.Memory, least: number, most: number) =>
  until(`between ${least} and ${most} bytes are held`, () => {
    const held = Effect.runSync(memory.held)
    return held >= least && held <= most
  })

/** Where the peer takes nothing of what comes. */
const deaf = Effect.fnUntraced(function*(server: { readonly url: string }, asks: string) {
  const peer = yield* client(server)
  yield* until("it is connected", () => peer.connected)
  peer.conn.pause()
  peer.conn.write(asks)
  return peer
})

const all = [["http", "http://127.0.0.1:0"], ["https", "https://127.0.0.1:0"], ["unix", "unix://"]] as const

const urlOf = (url: string) => url === "unix://" ? Effect.map(tempDir, (dir) => `unix://${dir}/s`) : Effect.succeed(url)

describe("B115 what HTTP connections hold", () => {
  it.live("B115 requests that are not answered count, bodies that are not received, and heads that are not complete", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 64e6 })
      const { gate, url } = yield* start(memory)
      const peer = yield* client({ url })
      peer.conn.write(get("/wait"))
      yield* holds(memory, 2000, 5000)
      peer.conn.write(post("/wait", "x".repeat(10_000)))
      yield* holds(memory, 14_000, 20_000)
      const half = yield* client({ url })
      half.conn.write(`GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(5000)}`)
      yield* holds(memory, 19_000, 26_000)
      yield* gate.open
      yield* until("both answers", () => peer.text.includes("10000"))
      yield* holds(memory, 5000, 5100)
      half.conn.destroy()
      yield* holds(memory, 0, 0)
    }))

  it.live("B115 what becomes a WebSocket counts once: as a connection of its server", () =>
    Effect.gen(function*() {
      const [memory, ofSockets] = [Memory.make({ limit: 64e6 }), Memory.make({ limit: 64e6 })]
      const server = yield* memory.provide(HttpServer.make("http://127.0.0.1:0", { webSocket: "/live" }))
      const most = 32 * mebibyte.length
      yield* Server.run({
        open: Connection.make({ codec: Codec.lines(), policy: { maxFrame: most, outboxBytes: most } }),
        handle: (connection) => Effect.andThen(connection.send(mebibyte.repeat(16)), Effect.never),
        policy: { drain: 10 }
      }).pipe(
        Effect.provideService(SocketServer.SocketServer, server.webSockets),
        ofSockets.provide,
        Effect.forkScoped
      )
      const headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
      yield* deaf(server, `GET /live HTTP/1.1\r\nHost: a\r\n${headers}\r\n\r\n`)
      yield* holds(ofSockets, 4e6, 17e6)
      assert.strictEqual(yield* memory.held, 0)
    }))

  it.live("B115 what becomes a WebSocket while memory is tight is read", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 256 * 1024, patience: "1 minute" })
      const ofSockets = Memory.make({ limit: 64e6 })
      const gate = Latch.makeUnsafe(false)
      const server = yield* memory.provide(HttpServer.make("http://127.0.0.1:0", {
        webSocket: "/live",
        upgrade: Upgrade.make(() => gate.await)
      }))
      yield* server.http.serve(Effect.succeed(HttpServerResponse.text(mebibyte.repeat(16))))
      yield* Server.run({
        open: Connection.make({ codec: Codec.lines() }),
        handle: (connection) => Effect.flatMap(connection.receive, connection.send),
        policy: { drain: 10 }
      }).pipe(
        Effect.provideService(SocketServer.SocketServer, server.webSockets),
        ofSockets.provide,
        Effect.forkScoped
      )
      const peer = yield* client(server)
      const headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
        `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX: ${"x".repeat(12_000)}`
      peer.conn.write(`GET /live HTTP/1.1\r\nHost: a\r\n${headers}\r\n\r\n`)
      yield* holds(memory, 12_000, 13_000)
      yield* deaf(server, get("/"))
      yield* holds(memory, 256 * 1024, 32e6)
      yield* gate.open
      yield* until("it is upgraded", () => peer.text.includes(" 101 "))
      // "hi", masked with zeros
      peer.conn.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]))
      yield* until("its message is answered", () => peer.text.includes("\x02hi"))
    }))

  const hooked = Effect.fnUntraced(function*(hook: Effect.Effect<void, Upgrade.Refused>) {
    const memory = Memory.make({ limit: 256 * 1024, patience: "1 minute" })
    const server = yield* memory.provide(HttpServer.make("http://127.0.0.1:0", {
      webSocket: "/live",
      upgrade: Upgrade.make(() => hook),
      linger: "10 seconds"
    }))
    yield* server.http.serve(Effect.succeed(HttpServerResponse.text(mebibyte.repeat(16))))
    const peer = yield* client(server)
    const headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
      `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX: ${"x".repeat(12_000)}`
    peer.conn.write(`GET /live HTTP/1.1\r\nHost: a\r\n${headers}\r\n\r\n`)
    yield* holds(memory, 12_000, 13_000)
    yield* deaf(server, get("/"))
    yield* holds(memory, 256 * 1024, 32e6)
    return peer
  })

  it.live("B112 a peer that leaves while a hook waits is noticed, also while memory is tight", () =>
    Effect.gen(function*() {
      for (const leave of ["end", "resetAndDestroy"] as const) {
        let interrupted = 0
        const peer = yield* hooked(Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++)))
        peer.conn[leave]()
        yield* until(`the hook ends after ${leave}`, () => interrupted === 1)
      }
    }))

  it.live("B115 a refused upgrade lingers, also while memory is tight", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe(false)
      const peer = yield* hooked(Effect.andThen(gate.await, new Upgrade.Refused({ status: 403, body: "not you" })))
      yield* gate.open
      yield* until("it is told", () => peer.text.includes("not you") && peer.ended)
      // more than kernels hold: what is not read would be answered with a reset
      peer.conn.write("x".repeat(24e6))
      yield* until("what it still sends is read", () => peer.conn.writableLength === 0)
    }))

  it.live("B115 pipelined requests that wait count, and what was read and not parsed", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 64e6 })
      const { gate, url } = yield* start(memory)
      const peer = yield* client({ url })
      peer.conn.write(get("/wait").repeat(1500))
      // some are parsed, and the rest of one read is bytes
      yield* holds(memory, 100_000, 400_000)
      yield* gate.open
      yield* until("all answers", () => peer.text.split("</wait").length === 1501)
      yield* holds(memory, 0, 0)
    }))

  for (const [name, of] of all) {
    it.live(`B115 ${name}: answers that are not taken count, the gauge shows them, and nothing is left at the end`, () =>
      Effect.gen(function*() {
        const memory = Memory.make({ limit: 64e6 })
        const server = yield* start(memory, name === "https" ? certificate() : {}, yield* urlOf(of))
        const peer = yield* deaf(server, get("/large"))
        yield* holds(memory, 4e6, 17e6)
        peer.conn.destroy()
        yield* holds(memory, 0, 0)
      }))

    it.live(`B115 ${name}: reading stops where most is held, others are served, new ones wait until it is freed`, () =>
      Effect.gen(function*() {
        const memory = Memory.make({ limit: 8e6 })
        const server = yield* start(memory, name === "https" ? certificate() : {}, yield* urlOf(of))
        const other = yield* client(server)
        other.conn.write(get("/"))
        yield* until("an answer", () => other.text.includes("</ 0>"))
        const heavy = yield* deaf(server, get("/large"))
        yield* until("it is tight", () => server.events.includes("MemoryTight"))
        const before = (yield* server.registry.snapshots).find(({ bytesOut }) => bytesOut > 1000)!
        assert.isTrue(before.paused)
        heavy.conn.write(get("/more"))
        const late = yield* client(server)
        late.conn.write(get("/late"))
        other.conn.write(get("/other"))
        yield* until("the other is answered", () => other.text.includes("</other 0>"))
        yield* Effect.sleep(50)
        assert.strictEqual(late.text, "")
        const now = (yield* server.registry.snapshots).find(({ id }) => id === before.id)!
        assert.strictEqual(now.bytesIn, before.bytesIn)
        let tail = ""
        heavy.conn.on("data", (chunk) => void (tail = `${tail}${chunk.toString("latin1")}`.slice(-100)))
        heavy.conn.resume()
        yield* until("the new one is answered", () => late.text.includes("</late 0>"))
        yield* until("and so is the next request", () => tail.includes("</more 0>"))
        assert.deepStrictEqual(server.events, ["MemoryTight", "MemoryFreed"])
      }))

    it.effect(`B115 ${name}: when it stays tight for the patience, the heaviest is closed, and the reason says so`, () =>
      Effect.gen(function*() {
        const memory = Memory.make({ limit: 8e6, patience: "3 seconds" })
        const server = yield* start(memory, name === "https" ? certificate() : {}, yield* urlOf(of))
        const other = yield* client(server)
        const heavy = yield* deaf(server, get("/large"))
        yield* until("it is tight", () => server.events.includes("MemoryTight"))
        yield* TestClock.adjust(2999)
        assert.strictEqual(yield* server.registry.size, 2)
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* memory.held, 0)
        yield* until("it is gone", () => Effect.runSync(server.registry.size) === 1)
        const [entry] = yield* server.registry.history
        const { reason } = entry!.snapshot
        assert.deepInclude(reason, { _tag: "Refused", limit: "memory", allowed: 8e6 })
        heavy.conn.resume()
        yield* until("the peer is told", () => heavy.closed || heavy.ended)
        other.conn.write(get("/other"))
        yield* until("the other is answered", () => other.text.includes("</other 0>"))
      }))
  }

  it.live("B115 a request that is not read for that is not late, and then has its deadline", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 8e5 })
      const server = yield* start(memory, { policy: { handshake: 300, frame: 300 } })
      const peers = yield* Effect.forEach(Array.from({ length: 18 }), () => client(server))
      for (const { conn } of peers) conn.write(get("/"))
      yield* until("they are answered", () => peers.every(({ text }) => text.includes("</ 0>")))
      const [one, two] = peers as [Client, Client]
      // more than a sixteenth of a share
      const half = `GET /x HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(14_000)}`
      const heavy = yield* deaf(server, get("/large"))
      yield* until("it is tight", () => server.events.includes("MemoryTight"))
      for (const peer of [one, two]) peer.conn.write(half)
      yield* Effect.sleep(1000)
      assert.isFalse(one.ended || two.ended)
      heavy.conn.destroy()
      one.conn.write("\r\n\r\n")
      yield* until("it is answered", () => one.text.includes("</x 0>"))
      yield* until("the other is late", () => two.text.includes("408"))
    }))

  it.live("B115 without a budget of its own it has that of its policy, which metrics show, and `writeStall` is its patience", () =>
    Effect.gen(function*() {
      const server = yield* start(undefined, { policy: { memory: 4_000_000, writeStall: 1000 } })
      const heavy = yield* deaf(server, get("/large"))
      yield* until("it is tight", () => server.events.includes("MemoryTight"))
      const figures = new Map((yield* Metric.snapshot).map(({ id, state }) => [id, state]))
      assert.deepInclude(figures.get("holdfast_memory_limit_bytes"), { value: 4_000_000 })
      assert.isAbove((figures.get("holdfast_memory_held_bytes") as { readonly value: number }).value, 2_000_000)
      heavy.conn.resume()
      yield* until("it is free", () => server.events.includes("MemoryFreed"))
    }).pipe(Effect.provide(Metrics.layer), Effect.provideService(Metric.MetricRegistry, new Map())))

  it.live("B115 an answer that is written when nothing comes counts at once", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 8e6 })
      const server = yield* start(memory)
      yield* deaf(server, get("/later"))
      yield* holds(memory, 2000, 5000)
      yield* server.gate.open
      yield* until("it is tight", () => server.events.includes("MemoryTight"))
    }))

  it.live("B115 with whenFull: reject a new one is refused, and told why", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 8e6 })
      const server = yield* start(memory, { policy: { whenFull: "reject" } })
      yield* deaf(server, get("/large"))
      yield* until("it is tight", () => server.events.includes("MemoryTight"))
      const late = yield* client(server)
      yield* until("it is refused", () => late.text.includes("503") && server.events.includes("Refused"))
    }))
})

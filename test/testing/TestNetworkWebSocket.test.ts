/** WebSockets on the simulated network: frames on the bytes of a simulated TCP. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Queue, Scope, Stream } from "effect"
import type { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, Heartbeat, type Policy, Server } from "../../src/index.ts"
import { frameOf } from "../../src/internal/webSocket/encoding.ts"
import { Opcode } from "../../src/internal/webSocket/frames.ts"
import { Upgrade } from "../../src/node/index.ts"
import { TestNetwork } from "../../src/testing/index.ts"
import { accepting, bytes, connected, during, readBytes, settle } from "./support/network.ts"

const webSocket = { listen: { webSocket: true }, dial: { webSocket: true } } as const

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const hex = (chunks: ReadonlyArray<Uint8Array | string>): string =>
  Buffer.concat(chunks.map((chunk) => typeof chunk === "string" ? utf8(chunk) : chunk)).toString("hex")

/** What a server reads that takes the bytes as they are, of one message from a client. */
const onTheWire = (seed: string, ...messages: ReadonlyArray<string>) =>
  Effect.scoped(Effect.gen(function*() {
    const { client, server } = yield* connected({ seed, slicing: false }, { dial: { webSocket: true } })
    const seen: Array<string> = []
    for (const message of messages) {
      yield* client.write(message)
      yield* TestClock.adjust(10)
      seen.push(hex(yield* server.pull))
    }
    return seen
  }))

/** Connections of both ends, each on the clock of its host. */
const talking = Effect.fnUntraced(function*(
  network: TestNetwork.Network,
  policies: { readonly server?: Policy.Patch; readonly client?: Policy.Patch } = {},
  webSocket = true
) {
  const connection = (host: string, policy: Policy.Patch | undefined, socket: Socket.Socket) =>
    Effect.provideService(
      Connection.make(socket, {
        codec: Codec.lines(),
        policy: { pingJitter: 0, ...policy },
        ...(webSocket ? {} : { heartbeat: Heartbeat.text("ping", "pong") })
      }),
      Clock.Clock,
      network.host(host).clock
    )
  const listener = yield* network.host("server").listen(7, { webSocket })
  const scope = yield* Effect.scope
  const accepted = yield* Queue.unbounded<Connection.Connection<string>>()
  yield* listener.run((socket) =>
    Effect.flatMap(Scope.provide(connection("server", policies.server, socket), scope), (c) => Queue.offer(accepted, c))
  ).pipe(Effect.forkScoped({ startImmediately: true }))
  const dialled = yield* Effect.forkScoped(
    connection("client", policies.client, network.host("client").dial("server:7", { webSocket }))
  )
  yield* TestClock.adjust(1000)
  return { client: yield* Fiber.join(dialled), server: yield* Queue.take(accepted) }
})

describe("WebSockets of a TestNetwork", () => {
  it.effect("are frames on the stream, which a client masks from the seed of the network", () =>
    Effect.gen(function*() {
      const seen = yield* onTheWire("a", "hello", "hello")
      for (const frame of seen) assert.match(frame, /^8185(?!00000000).{18}$/)
      assert.notStrictEqual(seen[0], seen[1])
      assert.deepStrictEqual(yield* onTheWire("a", "hello", "hello"), seen)
      assert.notDeepEqual(yield* onTheWire("b", "hello", "hello"), seen)
    }))

  it.effect("speak with a peer that writes the frames itself", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connected({}, { listen: { webSocket: true } })
      yield* client.write(frameOf(Opcode.text, utf8("hello"), () => 1))
      yield* client.write(frameOf(Opcode.ping, utf8("?"), () => 1))
      assert.deepStrictEqual(yield* server.pull, ["hello"])
      yield* Effect.forkScoped(server.pull)
      assert.strictEqual(hex([yield* readBytes(client, 3)]), hex([utf8("\ufffd\u0001?")]))
    }))

  it.effect("a message of which a part is lost arrives whole, and later", () =>
    Effect.gen(function*() {
      const { client, link, server } = yield* connected({ latency: 5, bandwidth: 100_000 }, webSocket)
      const message = "0123456789".repeat(2000)
      yield* client.write(message)
      yield* TestClock.adjust(50)
      const [, heal] = yield* during(link.partition)
      const reading = yield* Effect.forkScoped(server.pull)
      yield* TestClock.adjust(5000)
      assert.isUndefined(reading.pollUnsafe())
      yield* heal
      yield* TestClock.adjust(30_000)
      assert.deepStrictEqual(yield* Fiber.join(reading), [message])
    }))

  it.effect("what a reader gets may be changed in place: neither the writer nor what is sent again notices", () =>
    Effect.gen(function*() {
      const { client, link, server } = yield* connected({
        latency: { uniform: [1, 50] },
        sendBuffer: 1000,
        receiveBuffer: 1000
      })
      // as Node makes it: its `slice` is no copy
      const message = Buffer.from(bytes(20_000).map((_, i) => i % 251))
      const expected = message.toString("hex")
      yield* Effect.forkScoped(client.write(message))
      const seen: Array<Uint8Array> = []
      const reading = yield* Effect.forkScoped(
        Effect.gen(function*() {
          for (let left = message.length; left > 0;) {
            for (const chunk of (yield* server.pull) as ReadonlyArray<Uint8Array>) {
              seen.push(chunk.slice())
              chunk.fill(0xee)
              left -= chunk.length
            }
          }
        })
      )
      for (let i = 0; i < 20; i++) {
        yield* TestClock.adjust(60)
        const [, heal] = yield* during(link.partition)
        yield* TestClock.adjust(100)
        yield* heal
        yield* TestClock.adjust(1000)
      }
      yield* Fiber.join(reading)
      assert.strictEqual(hex(seen), expected)
      assert.strictEqual(message.toString("hex"), expected)
    }))

  it.effect("the same seed gives the same history, to the last event", () =>
    Effect.gen(function*() {
      const history = (seed: string) =>
        Effect.scoped(Effect.gen(function*() {
          const network = yield* TestNetwork.make({ seed, latency: { uniform: [1, 50] } })
          const { client, server } = yield* talking(network)
          yield* Effect.forkScoped(Effect.ignore(Stream.runForEach(Connection.messages(server), server.send)))
          for (let i = 0; i < 20; i++) yield* client.send("x".repeat(i * 100))
          yield* TestClock.adjust("1 minute")
          return yield* network.fingerprint
        }))
      const first = yield* history("a")
      assert.strictEqual(yield* history("a"), first)
      assert.notStrictEqual(yield* history("b"), first)
    }))

  it.effect("a close crosses the network with its code, and frees both ends", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      const scope = yield* Scope.make()
      const { client, server } = yield* Scope.provide(talking(network), scope)
      yield* client.send("last words")
      yield* Effect.forkScoped(client.close)
      yield* TestClock.adjust(20)
      assert.strictEqual(yield* server.receive, "last words")
      yield* settle
      yield* TestClock.adjust("2 seconds")
      assert.deepInclude((yield* server.snapshot).reason, { _tag: "Closed", by: "peer", code: 1000 })
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual((yield* network.snapshot).connections, [])
      yield* Scope.close(scope, Exit.void)
    }))
})

describe("limits over a slow or a stalled network", () => {
  it.effect.each([true, false])(
    "1 MB over 250 kB/s with `silence` 2 s and a ping each second comes once (WebSocket: %s)",
    (webSocket) =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed: 1, latency: 20, bandwidth: 250_000 })
        const policy = { silence: "2 seconds", pingEvery: "1 second" } as const
        const { client, server } = yield* talking(network, { client: policy, server: policy }, webSocket)
        const message = "x".repeat(1_000_000)
        const received: Array<string> = []
        yield* Effect.forkScoped(
          Stream.runForEach(Connection.messages(client), (one) => Effect.sync(() => received.push(one)))
        )
        yield* Effect.forkScoped(server.send(message))
        yield* TestClock.adjust("3900 millis")
        assert.lengthOf(received, 0)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(received.map((one) => one === message), [true])
        for (const end of [client, server]) assert.strictEqual((yield* end.snapshot).state, "open")
      })
  )

  it.effect("4,000 bytes at 100 bytes each 100 ms with `silence: 0` and `frame: 1 s` end at 1 s after the first", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      const accepted = yield* accepting(network.host("raw"), 9)
      const socket = network.host("app").dial("raw:9", { webSocket: true })
      const dialling = yield* Effect.forkScoped(
        Connection.make(socket, { codec: Codec.lines(), policy: { silence: 0, pingEvery: 0, frame: "1 second" } })
      )
      yield* TestClock.adjust(100)
      const [c, raw] = [yield* Fiber.join(dialling), yield* accepted.take]
      const message = frameOf(Opcode.text, utf8("x".repeat(3996)), undefined)
      assert.lengthOf(message, 4000)
      yield* Effect.forkScoped(
        Effect.ignore(
          Effect.forEach(
            Array.from({ length: 40 }),
            (_, n) => Effect.andThen(raw.write(message.subarray(n * 100, n * 100 + 100)), Effect.sleep(100))
          )
        )
      )
      yield* TestClock.adjust(20 + 999)
      assert.strictEqual((yield* c.snapshot).state, "open")
      yield* TestClock.adjust(1)
      assert.deepInclude((yield* c.snapshot).reason, { _tag: "FrameTimeout", limit: 1000 })
    }))

  it.effect("50 pings a second through a loop that is blocked for 3 s end nothing", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      const accepted = yield* accepting(network.host("raw"), 9)
      const socket = network.host("app").dial("raw:9", { webSocket: true })
      const dialling = yield* Effect.forkScoped(Effect.provideService(
        Connection.make(socket, {
          codec: Codec.lines(),
          policy: { silence: "2 seconds", pingEvery: 0, minPingEvery: "5 seconds" }
        }),
        Clock.Clock,
        network.host("app").clock
      ))
      yield* TestClock.adjust(100)
      const [c, raw] = [yield* Fiber.join(dialling), yield* accepted.take]
      yield* Effect.forkScoped(
        Effect.forever(Effect.andThen(raw.write(frameOf(Opcode.ping, utf8("?"), undefined)), Effect.sleep(20)))
      )
      yield* Effect.forkScoped(Effect.ignore(Effect.forever(raw.pull)))
      yield* TestClock.adjust("5 seconds")
      yield* network.host("app").stall("3 seconds")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* c.snapshot).state, "open")
    }))
})

describe("what TLS and an upgrade would have come to", () => {
  const device = { subject: { CN: ["device-7"] }, alternativeNames: ["DNS:a.test"], fingerprint: "AB:CD" }

  for (const webSocket of [false, true]) {
    it.effect(`${webSocket ? "a WebSocket" : "a stream"}: a server decides by the identity that a dialler was given`, () =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed: "identity" })
        const server = Server.run({
          open: Connection.make({ codec: Codec.lines() }),
          handshake: (connection) =>
            Effect.flatMap(connection.snapshot, ({ identity }) =>
              identity?.subject["CN"]?.includes("device-7") === true
                ? Effect.succeed(identity)
                : Effect.fail("who are you?")),
          handle: (connection, identity) => connection.send(JSON.stringify(identity)),
          logs: false
        })
        yield* Effect.forkScoped(Effect.provide(server, network.host("server").layerServer(7, { webSocket })))
        const ask = (identity?: TestNetwork.Identity) =>
          Effect.forkScoped(Effect.result(Effect.scoped(Effect.gen(function*() {
            const socket = network.host("client").dial("server:7", { webSocket, identity })
            return yield* (yield* Connection.make({ codec: Codec.lines() })(socket)).receive
          }))))
        const known = yield* ask(device)
        const unknown = yield* ask()
        yield* TestClock.adjust(1000)
        const told = yield* Fiber.join(known)
        assert.deepStrictEqual(told._tag === "Success" ? JSON.parse(told.success) : told, device)
        assert.strictEqual((yield* Fiber.join(unknown))._tag, "Failure")
      }))
  }

  for (const contextTakeover of [false, true]) {
    it.effect(`compression ${contextTakeover ? "with" : "without"} contexts: fewer bytes on the wire, the same messages`, () =>
      Effect.gen(function*() {
        const compression = Upgrade.compression({ threshold: 0, contextTakeover })
        const lines = Array.from({ length: 20 }, (_, i) => `{"room":"${i}","text":"${"hello ".repeat(40)}"}`)
        const wire = (options: { readonly compression?: Upgrade.Compression }) =>
          Effect.scoped(Effect.gen(function*() {
            const network = yield* TestNetwork.make({ seed: "deflate" })
            const listener = yield* network.host("server").listen(7, { webSocket: true, ...options })
            const got: Array<string> = []
            yield* Effect.forkScoped(listener.run((socket) =>
              Effect.scoped(Effect.flatMap(Connection.make(socket, { codec: Codec.lines() }), ({ receive }) =>
                Effect.forever(Effect.map(receive, (line) =>
                  void got.push(line)))))
            ))
            const socket = network.host("client").dial("server:7", { webSocket: true, ...options })
            const connecting = yield* Effect.forkScoped(Connection.make(socket, { codec: Codec.lines() }))
            yield* TestClock.adjust(1000)
            const connection = yield* Fiber.join(connecting)
            yield* connection.sendAll(lines)
            yield* TestClock.adjust(1000)
            yield* settle
            assert.deepStrictEqual(got, lines)
            return (yield* connection.snapshot).bytesOut
          }))
        assert.isBelow(yield* wire({ compression }), (yield* wire({})) / (contextTakeover ? 8 : 3))
      }))
  }

  it("compression that makes no sense is a RangeError", () => {
    assert.throws(() => Upgrade.compression({ windowBits: 8 }), RangeError, /windowBits/)
    assert.throws(() => Upgrade.compression(false), RangeError)
  })
})

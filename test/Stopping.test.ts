/** The stop of a server on TestClock: who is refused, what is still read, and when each connection ends. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option } from "effect"
import type { Scope } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, Protocol, Registry, Server } from "../src/index.ts"
import type { Policy } from "../src/index.ts"
import { Shutdown } from "../src/node/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { withLogs } from "./support/logs.ts"

const settle = Effect.forEach(Array.from({ length: 30 }), () => Effect.yieldNow, { discard: true })

type Line = Connection.Connection<string>

const echo = (connection: Connection.Connection<string>) =>
  Effect.gen(function*() {
    while (true) yield* connection.send(yield* connection.receive)
  })

const lines = (policy?: Policy.Patch, goodbye?: string) =>
  Connection.make({
    codec: Codec.lines(),
    policy: { pingJitter: 0, ...policy },
    ...(goodbye === undefined ? {} : { goodbye })
  })

type Options = Server.Options<string, string, void, unknown, unknown, never, never, Scope.Scope>

const start = Effect.fnUntraced(function*(options: Partial<Options> = {}) {
  yield* TestClock.adjust(0)
  const listener = yield* TestSocket.makeServer()
  const events: Array<Server.Event> = []
  const running = yield* Server.run({
    open: lines(),
    handle: echo,
    onEvent: (event) => Effect.sync(() => events.push(event)),
    ...options
  }).pipe(
    Effect.provideService(SocketServer.SocketServer, listener.server),
    Effect.forkDetach({ startImmediately: true })
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => running.interruptUnsafe()))
  return {
    listener,
    events,
    connect: Effect.tap(listener.connect, settle),
    stop: Effect.forkDetach(Fiber.interrupt(running), { startImmediately: true }),
    isRunning: () => running.pollUnsafe() === undefined,
    reasons: () => events.flatMap((event) => event._tag === "Closed" ? [event.snapshot.reason?._tag] : [])
  }
})

describe("B107 what had reached a server before it began to stop is answered", () => {
  it.effect("bytes that nothing had looked at, of each connection, and nothing that comes later", () =>
    Effect.gen(function*() {
      const { connect, isRunning, reasons, stop } = yield* start()
      const peers = yield* Effect.forEach([1, 2, 3], () => connect)
      // in the same turn: the server could not look at them
      for (const peer of peers) yield* peer.send("question\n")
      yield* stop
      for (const peer of peers) yield* peer.send("another\n")
      yield* settle
      for (const peer of peers) {
        yield* peer.send("late\n")
        assert.strictEqual(yield* peer.text, "question\nanother\n")
      }
      yield* settle
      assert.deepStrictEqual(reasons(), ["GoingAway", "GoingAway", "GoingAway"])
      assert.isFalse(isRunning())
    }))

  it.effect("a connection that comes in the moment of the stop, with its request", () =>
    Effect.gen(function*() {
      const { isRunning, listener, reasons, stop } = yield* start()
      const before = yield* listener.connect
      const peer = yield* listener.connect
      yield* peer.send("question\n")
      yield* stop
      yield* settle
      assert.strictEqual(yield* peer.text, "question\n")
      yield* before.released
      yield* settle
      assert.deepStrictEqual(reasons(), ["GoingAway", "GoingAway"])
      assert.isFalse(isRunning())
    }))

  it.effect("a full inbox: what waits behind it is read when there is room, until the drain is over", () =>
    Effect.gen(function*() {
      const { connect, isRunning, stop } = yield* start({
        open: lines({ inboxMessages: 1 }),
        handle: (connection) =>
          Effect.gen(function*() {
            while (true) {
              const message = yield* connection.receive
              yield* Effect.sleep(1500)
              yield* connection.send(message)
            }
          })
      })
      const peer = yield* connect
      for (const line of ["a\n", "b\n", "c\n", "d\n"]) {
        yield* peer.send(line)
        yield* settle
      }
      yield* stop
      yield* settle
      yield* TestClock.adjust(4_999)
      assert.strictEqual(yield* peer.text, "a\nb\nc\n")
      assert.isTrue(isRunning())
      yield* TestClock.adjust(1)
      yield* settle
      assert.isFalse(isRunning())
    }))
})

describe("stopGrace", () => {
  it.effect("what comes within it is answered, to the millisecond; then reading ends, and the drain goes on", () =>
    Effect.gen(function*() {
      const { connect, isRunning, reasons, stop } = yield* start({ open: lines({ stopGrace: 300 }, "bye") })
      const idle = yield* connect
      const peer = yield* connect
      yield* stop
      yield* settle
      assert.strictEqual(yield* peer.text, "bye\n")
      yield* TestClock.adjust(299)
      yield* peer.send("a\n")
      yield* settle
      assert.strictEqual(yield* peer.text, "bye\na\n")
      assert.deepStrictEqual(reasons(), [])
      yield* TestClock.adjust(1)
      yield* settle
      yield* peer.send("late\n")
      yield* settle
      assert.strictEqual(yield* peer.text, "bye\na\n")
      yield* idle.released
      yield* peer.released
      yield* settle
      assert.deepStrictEqual(reasons(), ["GoingAway", "GoingAway"])
      assert.isFalse(isRunning())
    }))

  it.effect("a peer that finishes by itself is not waited for", () =>
    Effect.gen(function*() {
      const { connect, isRunning, stop } = yield* start({ open: lines({ stopGrace: "1 minute", halfClose: 0 }, "bye") })
      const peer = yield* connect
      yield* stop
      yield* settle
      yield* peer.end
      yield* settle
      assert.isFalse(isRunning())
    }))

  it.effect("it counts in the drain", () =>
    Effect.gen(function*() {
      const { connect, isRunning, stop } = yield* start({ open: lines({ stopGrace: "1 minute" }, "bye") })
      yield* connect
      yield* stop
      yield* settle
      yield* TestClock.adjust(4_999)
      yield* settle
      assert.isTrue(isRunning())
      yield* TestClock.adjust(1)
      yield* settle
      assert.isFalse(isRunning())
    }))
})

describe("a drain that is watched", () => {
  it.effect("is told every second, and stats say the same; what was refused is counted by its limit", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const listener = yield* TestSocket.makeServer()
      const told: Array<Server.Draining> = []
      const server = Server.make({
        open: lines(),
        handle: (connection: Connection.Connection<string>) =>
          Effect.gen(function*() {
            const message = yield* connection.receive
            yield* Effect.sleep(2500)
            yield* connection.send(message)
          }),
        policy: { maxConnections: 3, whenFull: "reject" },
        onDrain: (draining) => Effect.sync(() => told.push(draining))
      })
      assert.strictEqual((yield* server.stats).phase, "idle")
      const running = yield* server.run.pipe(
        Effect.provideService(SocketServer.SocketServer, listener.server),
        Effect.forkDetach({ startImmediately: true })
      )
      const busy = yield* listener.connect
      yield* busy.send("question\n")
      for (let i = 0; i < 4; i++) yield* listener.connect
      yield* settle
      const none = { opening: 0, open: 0, draining: 0, closing: 0, ended: 0 }
      assert.deepStrictEqual(yield* server.stats, {
        phase: "serving",
        connections: { ...none, open: 3 },
        waiting: 0,
        opened: 3,
        refused: { maxConnections: 2 }
      })
      yield* Effect.forkDetach(Fiber.interrupt(running), { startImmediately: true })
      yield* settle
      assert.deepStrictEqual((yield* server.stats).connections, { ...none, draining: 1 })
      assert.strictEqual((yield* server.stats).phase, "stopping")
      for (let second = 1; second <= 2; second++) {
        yield* TestClock.adjust(999)
        yield* settle
        assert.strictEqual(told.length, second - 1)
        yield* TestClock.adjust(1)
        yield* settle
        assert.deepStrictEqual(told.at(-1), {
          left: 1,
          states: { ...none, draining: 1 },
          after: second * 1000,
          limit: 5000
        })
      }
      yield* TestClock.adjust(500)
      yield* settle
      assert.strictEqual(yield* busy.text, "question\n")
      assert.isDefined(running.pollUnsafe())
      assert.strictEqual((yield* server.stats).phase, "stopped")
      assert.strictEqual(told.length, 2)
    }))

  it.effect("without watchers it is logged, and a flood of refusals is one line a second", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { connect, listener, stop } = yield* start({
          onEvent: undefined,
          handle: () => Effect.never,
          policy: { maxConnections: 1, whenFull: "reject" }
        })
        yield* connect
        for (let i = 0; i < 500; i++) yield* listener.connect
        yield* settle
        assert.deepStrictEqual(logged, [])
        yield* TestClock.adjust(1000)
        yield* settle
        assert.deepStrictEqual(logged, ["Warn refused 500 connections: maxConnections 500"])
        yield* stop
        yield* settle
        yield* TestClock.adjust(1000)
        yield* settle
        assert.strictEqual(logged.at(-1), "Info stopping: 1 connections are left (1 draining), 4 s to go")
      })
    ))
})

/** The exit code of a process that is interrupted now. */
const exitCode = (): number => {
  let told = -1
  Shutdown.teardown(Exit.interrupt(1), (code) => told = code)
  return told
}

describe("a drain that is cut short is told by the exit code", () => {
  for (
    const [name, policy, took, code] of [
      ["by the server", { drain: 1000 }, 1000, 1],
      ["by the connection itself, whose limit is less", { drain: 400 }, 400, 1],
      ["by neither: the handler was done in time", { drain: 1000 }, 300, 0],
      ["by neither, where the drain is 0: it waits for nothing", { drain: 0 }, 0, 0]
    ] as const
  ) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const server = yield* start({
          open: lines(policy),
          handle: code === 1
            ? () => Effect.never
            : (connection) => Effect.andThen(connection.leaving, Effect.sleep(300)),
          policy: { drain: policy.drain === 0 ? 0 : 1000 }
        })
        // more of them than have a wake-up of their own
        for (let i = 0; i < 300; i++) yield* server.connect
        yield* server.stop
        yield* settle
        yield* TestClock.adjust(Math.max(0, took - 1))
        if (took > 0) assert.isTrue(server.isRunning())
        yield* TestClock.adjust(1)
        yield* settle
        assert.isFalse(server.isRunning())
        assert.strictEqual(exitCode(), code)
      }))
  }
})

describe("B147 a connection that has ended is out of its registry at once, though its handler runs on", () => {
  const ways: ReadonlyArray<readonly [name: string, (peer: TestSocket.Peer, server: Line) => Effect.Effect<unknown>]> =
    [
      ["FIN", (peer) => peer.end],
      ["RST", (peer) => peer.reset],
      ["a deadline", () => TestClock.adjust(1000)],
      ["our close", (_, server) => server.close],
      ["our closeWith", (_, server) => server.closeWith(new ConnectionError.Superseded({ key: "k" }))],
      [
        "a drain",
        (_, server) => Effect.andThen(server.drainWith(new ConnectionError.GoingAway({})), TestClock.adjust(500))
      ]
    ]
  for (const [name, end] of ways) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const registry = yield* Registry.make<string>()
        let server: Line | undefined
        const { connect } = yield* start({
          open: lines({ idle: 1000, halfClose: 0, drain: 500 }),
          registry,
          names: () => ({ key: "k", tags: ["t"] }),
          handle: (connection) => {
            server = connection
            return Effect.uninterruptible(Effect.sleep("1 hour"))
          }
        })
        const peer = yield* connect
        assert.strictEqual(yield* registry.size, 1)
        yield* Effect.forkChild(end(peer, server!), { startImmediately: true })
        yield* settle
        assert.strictEqual((yield* server!.snapshot).state, "ended")
        assert.strictEqual(yield* registry.size, 0)
        assert.deepStrictEqual(
          [yield* registry.getKey("k"), yield* registry.getTag("t"), (yield* registry.history).length],
          [Option.none(), [], 1]
        )
        assert.strictEqual((yield* registry.broadcast("all")).delivered, 0)
        yield* TestClock.adjust("1 hour")
        yield* settle
        assert.strictEqual((yield* registry.history).length, 1)
      }))
  }
})

describe("the native protocol", () => {
  const codec = Codec.lengthPrefix().pipe(Codec.text)
  const native = Protocol.server({ codec, policy: { pingJitter: 0 } })
  /** Version 1, no pings, no silence. */
  const hello = new Uint8Array([0, 0, 0, 13, 1, 0x48, 0x46, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
  const bytesOf = (peer: TestSocket.Peer) =>
    Effect.map(peer.written, (written) => written.flatMap((chunk) => Array.from(chunk as Uint8Array)))

  it.effect("B107 what crosses the goodbye is answered: reading ends with the pong behind it", () =>
    Effect.gen(function*() {
      const { isRunning, listener, reasons, stop } = yield* start({ open: native })
      const peer = yield* listener.connect
      const read = bytesOf(peer)
      yield* peer.send(hello)
      yield* settle
      yield* stop
      yield* settle
      const said = yield* read
      // behind the WELCOME: GOING_AWAY, and a PING
      const goodbye = said.slice(22)
      assert.strictEqual(goodbye[4], 6)
      const ping = goodbye.slice(4 + goodbye[3]!)
      assert.strictEqual(ping[4], 3)
      yield* TestClock.adjust(500)
      yield* peer.send(new Uint8Array([0, 0, 0, 2, 5, 0x61]))
      yield* settle
      assert.deepStrictEqual((yield* read).slice(-6), [0, 0, 0, 2, 5, 0x61])
      assert.deepStrictEqual(reasons(), [])
      yield* peer.send(new Uint8Array([0, 0, 0, 5, 4, ...ping.slice(5, 9)]))
      yield* settle
      assert.deepStrictEqual(reasons(), ["GoingAway"])
      assert.isFalse(isRunning())
    }))

  it.effect("a client that answers no ping is read for a second", () =>
    Effect.gen(function*() {
      const { isRunning, listener, reasons, stop } = yield* start({ open: native })
      const peer = yield* listener.connect
      yield* peer.send(hello)
      yield* settle
      yield* stop
      yield* settle
      yield* TestClock.adjust(999)
      yield* settle
      assert.deepStrictEqual(reasons(), [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(reasons(), ["GoingAway"])
      assert.isFalse(isRunning())
    }))

  it.effect("B108 a refusal comes in place of the WELCOME: of a server that is full, and of one that stops", () =>
    Effect.gen(function*() {
      const { events, isRunning, listener, stop } = yield* start({
        open: native,
        policy: { maxConnections: 2, whenFull: "reject" },
        handle: () => Effect.never
      })
      const served = yield* listener.connect
      yield* served.send(hello)
      const slow = yield* listener.connect
      yield* settle
      const refused = yield* listener.connect
      yield* refused.send(hello)
      yield* settle
      assert.strictEqual((yield* bytesOf(served))[4], 2)
      const full = yield* bytesOf(refused)
      assert.deepStrictEqual(full.slice(4, 6), [7, 7])
      assert.match(String.fromCharCode(...full), /maxConnections$/)
      yield* stop
      yield* slow.send(hello)
      yield* settle
      const stopped = yield* bytesOf(slow)
      assert.deepStrictEqual(stopped.slice(4, 6), [7, 7])
      assert.match(String.fromCharCode(...stopped), /stopping$/)
      assert.deepStrictEqual(
        events.flatMap((event) => event._tag === "Refused" ? [event.reason] : []),
        [
          new ConnectionError.Refused({ limit: "maxConnections", allowed: 2 }),
          new ConnectionError.Refused({ limit: "stopping" })
        ]
      )
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.isFalse(isRunning())
    }))
})

describe("B90 an onEvent that never returns", () => {
  it.effect("holds the stop for drain and 5 s, and is interrupted then; a slow one has that time", () =>
    Effect.gen(function*() {
      const told: Array<string> = []
      const { connect, isRunning, stop } = yield* start({
        policy: { drain: "5 seconds" },
        onEvent: ({ _tag }) => {
          told.push(_tag)
          return Effect.onInterrupt(Effect.never, () => Effect.sync(() => told.push(`${_tag} interrupted`)))
        }
      })
      yield* connect
      yield* stop
      yield* settle
      yield* TestClock.adjust(9999)
      assert.deepStrictEqual([isRunning(), told], [true, ["Opened"]])
      yield* TestClock.adjust(1)
      yield* settle
      assert.isFalse(isRunning())
      assert.deepStrictEqual(told, ["Opened", "Opened interrupted", "Closed", "Closed interrupted"])

      const slow: Array<string> = []
      const other = yield* start({
        policy: { drain: "5 seconds" },
        handle: () => Effect.never,
        onEvent: ({ _tag }) => Effect.delay(Effect.sync(() => slow.push(_tag)), 4900)
      })
      yield* other.connect
      yield* TestClock.adjust(4900)
      yield* other.stop
      yield* settle
      yield* TestClock.adjust(9900)
      yield* settle
      assert.isFalse(other.isRunning())
      assert.deepStrictEqual(slow, ["Opened", "Closed"])
    }))
})

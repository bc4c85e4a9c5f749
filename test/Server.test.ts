import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Latch, Layer, Logger, Random, Schedule, Scheduler, Scope } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, Heartbeat, Registry, Server } from "../src/index.ts"
import type { Policy } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { withLogs } from "./support/logs.ts"
import { long as inLong, often } from "./support/often.ts"

type Line = Connection.Connection<string>
type Options = Server.Options<string, string, string, unknown, unknown, never, never, Scope.Scope>

const lines = (policy?: Policy.Patch, more?: Partial<Connection.Options<string, string>>) =>
  Connection.make({ codec: Codec.lines(), policy: { pingJitter: 0, ...policy }, ...more })

const echo = (connection: Line) =>
  Effect.gen(function*() {
    while (true) yield* connection.send(yield* connection.receive)
  })

/** Echoes, and ends in the way it is told to. */
const obeys = (connection: Line) =>
  Effect.gen(function*() {
    while (true) {
      const message = yield* connection.receive
      if (message === "return") return
      if (message === "fail") return yield* Effect.fail("as told")
      if (message === "die") return yield* Effect.die("as told")
      if (message === "interrupt") return yield* Effect.interrupt
      yield* connection.send(message)
    }
  })

/** Lets every fiber run until all of them wait; no time passes. */
const settle = Effect.forEach(Array.from({ length: 25 }), () => Effect.yieldNow, { discard: true })

interface Setup extends Partial<Options> {
  readonly messages?: boolean | undefined
}

/** A running server, and everything a test does to it. */
const start = Effect.fnUntraced(function*({ messages, ...options }: Setup = {}) {
  let remote: string | undefined
  // says that time is looked after
  yield* TestClock.adjust(0)
  const listener = yield* TestSocket.makeServer({
    messages,
    wrap: (socket) => Connection.describe(socket, { messages: messages ?? false, remote })
  })
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
  // never waited for: a drain would sleep on the clock of a test that is over
  yield* Effect.addFinalizer(() => Effect.sync(() => running.interruptUnsafe()))
  const connect = Effect.tap(listener.connect, settle)
  const from = <A, E>(address: string, effect: Effect.Effect<A, E>) =>
    Effect.suspend(() => {
      remote = address
      return effect
    })
  return {
    listener,
    events,
    running,
    connect,
    connectFrom: (address: string) => from(address, connect),
    /** The same without letting the server do anything yet. */
    arriveFrom: (address: string) => from(address, listener.connect),
    /** Interrupts the server without waiting for it. */
    stop: Effect.tap(Effect.forkDetach(Fiber.interrupt(running), { startImmediately: true }), settle),
    isRunning: () => running.pollUnsafe() === undefined,
    tags: () => events.map((event) => event._tag),
    /** Why the connections ended that were never opened. */
    refusals: () => events.flatMap((event) => event._tag === "Refused" ? [event.reason] : []),
    closings: () => events.flatMap((event) => event._tag === "Closed" ? [event] : [])
  }
})

const answers = Effect.fnUntraced(function*(peer: TestSocket.Peer, text: string) {
  const before = yield* peer.text
  yield* peer.send(`${text}\n`)
  yield* settle
  return (yield* peer.text) === `${before}${text}\n`
})

const isReleased = Effect.fnUntraced(function*(peer: TestSocket.Peer) {
  const fiber = yield* Effect.forkChild(peer.released, { startImmediately: true })
  const exit = fiber.pollUnsafe()
  yield* Fiber.interrupt(fiber)
  return exit !== undefined
})

const long = Effect.forEach([1, 2, 3, 4, 5], () => settle, { discard: true })

/** The same for fibers that yield after every few steps. */
const longer = Effect.forEach(Array.from({ length: 50 }), () => settle, { discard: true })

/** Waits until the server has let go of a peer, and for what it does after that. */
const gone = (peer: TestSocket.Peer) => Effect.andThen(peer.released, settle)

/** Draws this number whenever something is random. */
const always = (value: number) =>
  Effect.provideService(Random.Random, { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => value })

/** Numbers that look random and are the same in every run (mulberry32). */
const numbers = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

/** Each accepted connection gave one `Refused`, or one `Opened` and then one `Closed`. */
const assertBalanced = (events: ReadonlyArray<Server.Event>, accepted: number) => {
  const open = new Set<number>()
  let done = 0
  for (const event of events) {
    if (event._tag === "Opened") {
      assert.isFalse(open.has(event.snapshot.id), "opened twice")
      open.add(event.snapshot.id)
    } else if (event._tag === "Closed") {
      assert.isTrue(open.delete(event.snapshot.id), "closed without having been opened, or twice")
      assert.strictEqual(event.snapshot.state, "ended")
      assert.isDefined(event.snapshot.reason)
      done++
    } else if (event._tag === "Refused") done++
  }
  assert.strictEqual(open.size, 0, "opened and never closed")
  assert.strictEqual(done, accepted)
}

// ---------------------------------------------------------------------------------------------------------------------
// limits
// ---------------------------------------------------------------------------------------------------------------------

describe("limits", () => {
  it.effect("B95 number n+1 waits, unread, until the permit of another comes back", () =>
    Effect.gen(function*() {
      const { connect, tags } = yield* start({ policy: { maxConnections: 2 } })
      const first = yield* connect
      const second = yield* connect
      const third = yield* connect
      assert.isFalse(yield* answers(third, "early"))
      assert.deepStrictEqual(tags(), ["Opened", "Opened"])
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(yield* answers(second, "b"))
      assert.strictEqual(yield* third.text, "")
      yield* first.end
      yield* settle
      assert.strictEqual(yield* third.text, "early\n")
      assert.deepStrictEqual(tags(), ["Opened", "Opened", "Closed", "Opened"])
    }))

  it.effect("B95 number n+1 is refused with the reason, told so, and released", () =>
    Effect.gen(function*() {
      const { connect, events, refusals } = yield* start({
        policy: { maxConnections: 1, whenFull: "reject" },
        refusal: (reason) => `busy: ${reason._tag}`
      })
      const first = yield* connect
      const second = yield* connect
      assert.strictEqual(yield* second.text, "busy: Refused\n")
      assert.isTrue(yield* second.finished)
      yield* gone(second)
      assert.deepStrictEqual(refusals(), [new ConnectionError.Refused({ limit: "maxConnections", allowed: 1 })])
      assert.isTrue(yield* answers(first, "still here"))
      yield* first.end
      yield* settle
      assert.isTrue(yield* answers(yield* connect, "now me"))
      assert.strictEqual(events.filter((event) => event._tag === "Opened").length, 2)
    }))

  it.effect("a refusal that cannot be made does not keep the peer, and is told like any other", () =>
    Effect.gen(function*() {
      const { connect, refusals } = yield* start({
        policy: { maxConnections: 1, whenFull: "reject" },
        refusal: () => {
          throw new Error("no words")
        }
      })
      yield* connect
      yield* gone(yield* connect)
      assert.deepStrictEqual(refusals().map((reason) => reason._tag), ["Refused"])
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("a refused peer that takes nothing is let go after the drain limit of its connection", () =>
    Effect.gen(function*() {
      const { connect, listener, refusals } = yield* start({
        open: lines({ drain: 2000 }),
        policy: { maxConnections: 1, whenFull: "reject" },
        refusal: () => "busy"
      })
      yield* connect
      const second = yield* listener.connect
      yield* second.window(0)
      yield* TestClock.adjust(1999)
      assert.isFalse(yield* isReleased(second))
      yield* TestClock.adjust(1)
      assert.isTrue(yield* isReleased(second))
      assert.strictEqual(refusals().length, 1)
    }))

  it.effect("a WebSocket over a limit is closed with 1013 and the reason", () =>
    Effect.gen(function*() {
      const { connect } = yield* start({ messages: true, policy: { maxConnections: 1, whenFull: "reject" } })
      yield* connect
      const second = yield* connect
      const finished = yield* second.finished
      assert.isObject(finished)
      assert.deepInclude(finished, { code: 1013, reason: "the server's maxConnections (1) is reached" })
    }))

  it.effect("a refused peer that would have to greet first and says nothing is let go after a second", () =>
    Effect.gen(function*() {
      const server = yield* start({
        open: (socket) => Effect.tap(lines()(socket), (connection) => Effect.ignore(connection.receive)),
        policy: { maxConnections: 1, whenFull: "reject" }
      })
      const first = yield* server.connect
      yield* first.send("hello\n")
      yield* settle
      const second = yield* server.connect
      yield* TestClock.adjust(999)
      assert.isFalse(yield* isReleased(second))
      yield* TestClock.adjust(1)
      yield* gone(second)
      assert.deepStrictEqual(server.refusals(), [new ConnectionError.Refused({ limit: "maxConnections", allowed: 1 })])
      assert.isTrue(yield* answers(first, "still here"))
    }))

  it.effect("maxWaiting: one more than may wait is refused, and 0 lets nobody wait", () =>
    Effect.gen(function*() {
      const some = yield* start({ policy: { maxConnections: 1, maxWaiting: 1 } })
      const first = yield* some.connect
      const second = yield* some.connect
      yield* gone(yield* some.connect)
      assert.deepStrictEqual(some.refusals(), [new ConnectionError.Refused({ limit: "maxWaiting", allowed: 1 })])
      yield* first.end
      yield* settle
      assert.isTrue(yield* answers(second, "my turn"))
      // the place of the one who waited is free again
      const fourth = yield* some.connect
      yield* second.end
      yield* settle
      assert.isTrue(yield* answers(fourth, "my turn"))
      assert.strictEqual(some.refusals().length, 1)

      const none = yield* start({ policy: { maxConnections: 1, maxWaiting: 0 } })
      const only = yield* none.connect
      assert.isTrue(yield* answers(only, "no wait"))
      yield* gone(yield* none.connect)
      assert.deepStrictEqual(none.refusals(), [new ConnectionError.Refused({ limit: "maxWaiting", allowed: 0 })])
    }))

  it.effect("those who wait are served in the order they came", () =>
    Effect.gen(function*() {
      const { connect } = yield* start({ policy: { maxConnections: 1 } })
      const peers: Array<TestSocket.Peer> = []
      for (let i = 0; i < 5; i++) {
        const peer = yield* connect
        yield* peer.send("x\n")
        yield* settle
        peers.push(peer)
      }
      for (let i = 0; i < 5; i++) {
        const served = yield* Effect.forEach(peers, (peer) => peer.text)
        assert.deepStrictEqual(served, peers.map((_, j) => j <= i ? "x\n" : ""))
        yield* peers[i].end
        yield* settle
      }
    }))

  it.effect("5000 who wait and are gone when it is their turn pass without a deep stack", () =>
    Effect.gen(function*() {
      let opened = 0
      const { connect, isRunning, listener, refusals } = yield* start({
        open: (socket) =>
          opened++ === 0
            ? lines()(socket)
            : Effect.fail(ConnectionError.make(new ConnectionError.Reset({ cause: "gone" }))),
        policy: { maxConnections: 1, maxWaiting: 10_000 }
      })
      const first = yield* connect
      for (let i = 0; i < 5000; i++) yield* listener.connect
      yield* settle
      yield* first.end
      for (let i = 0; i < 10; i++) yield* longer
      assert.strictEqual(refusals().length, 5000)
      assert.isTrue(refusals().every((reason) => reason._tag === "Reset"))
      assert.isTrue(isRunning())
    }))

  it.effect("maxConnections 0 is no limit", () =>
    Effect.gen(function*() {
      const { connect, tags } = yield* start({ policy: { maxConnections: 0, whenFull: "reject" } })
      for (let i = 0; i < 50; i++) yield* connect
      assert.deepStrictEqual(tags(), Array.from({ length: 50 }, () => "Opened"))
    }))

  it.effect("maxConnectionsPerAddress counts addresses without their ports, and counts down", () =>
    Effect.gen(function*() {
      const { connectFrom, refusals } = yield* start({ policy: { maxConnectionsPerAddress: 2 } })
      const first = yield* connectFrom("10.0.0.1:5000")
      yield* connectFrom("10.0.0.1:5001")
      yield* gone(yield* connectFrom("10.0.0.1:5002"))
      assert.deepStrictEqual(
        refusals(),
        [new ConnectionError.Refused({ limit: "maxConnectionsPerAddress", allowed: 2 })]
      )
      assert.isTrue(yield* answers(yield* connectFrom("10.0.0.2:5000"), "another"))
      assert.isTrue(yield* answers(yield* connectFrom("[::1]:5000"), "a"))
      assert.isTrue(yield* answers(yield* connectFrom("[::1]:5001"), "b"))
      yield* gone(yield* connectFrom("[::1]:5002"))
      yield* first.end
      yield* settle
      assert.isTrue(yield* answers(yield* connectFrom("10.0.0.1:5003"), "again"))
      yield* gone(yield* connectFrom("10.0.0.1:5004"))
      assert.strictEqual(refusals().length, 3)
    }))

  it.effect("one address cannot take all places by waiting", () =>
    Effect.gen(function*() {
      const { connectFrom, refusals } = yield* start({ policy: { maxConnections: 1, maxConnectionsPerAddress: 2 } })
      const first = yield* connectFrom("10.0.0.1:1")
      yield* connectFrom("10.0.0.1:2")
      yield* gone(yield* connectFrom("10.0.0.1:3"))
      const other = yield* connectFrom("10.0.0.2:1")
      assert.strictEqual(refusals().length, 1)
      yield* first.end
      yield* settle
      yield* (yield* connectFrom("10.0.0.1:4")).text
      assert.isFalse(yield* answers(other, "second in line"))
    }))

  it.effect("acceptRate: a second's worth at once, then evenly spaced, and a burst again after a quiet second", () =>
    Effect.gen(function*() {
      const { connect, tags } = yield* start({ policy: { acceptRate: 4 } })
      const opened = Effect.sync(() => tags().length)
      for (let i = 0; i < 7; i++) yield* connect
      assert.strictEqual(yield* opened, 4)
      yield* TestClock.adjust(249)
      assert.strictEqual(yield* opened, 4)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* opened, 5)
      yield* TestClock.adjust(250)
      assert.strictEqual(yield* opened, 6)
      yield* TestClock.adjust(250)
      assert.strictEqual(yield* opened, 7)
      yield* TestClock.adjust(1000)
      for (let i = 0; i < 5; i++) yield* connect
      assert.strictEqual(yield* opened, 11)
    }))

  it.effect("acceptRate that does not divide a second still lets a whole second's worth in", () =>
    Effect.gen(function*() {
      for (const rate of [1, 3, 7, 49]) {
        const { connect, tags } = yield* start({ policy: { acceptRate: rate, whenFull: "reject" } })
        for (let i = 0; i < rate + 2; i++) yield* connect
        assert.strictEqual(tags().filter((tag) => tag === "Opened").length, rate)
      }
    }))

  it.effect("acceptRate with reject refuses at once, and those refused do not count", () =>
    Effect.gen(function*() {
      const { connect, refusals, tags } = yield* start({
        policy: { acceptRate: 2, maxConnections: 3, whenFull: "reject" }
      })
      yield* connect
      yield* connect
      for (let i = 0; i < 100; i++) yield* gone(yield* connect)
      assert.deepStrictEqual(refusals()[99], new ConnectionError.Refused({ limit: "acceptRate", allowed: 2 }))
      yield* TestClock.adjust(500)
      const third = yield* connect
      assert.isTrue(yield* answers(third, "in"))
      // full now: being refused for that uses up no rate either
      yield* TestClock.adjust(10_000)
      for (let i = 0; i < 100; i++) yield* gone(yield* connect)
      assert.deepStrictEqual(refusals()[199], new ConnectionError.Refused({ limit: "maxConnections", allowed: 3 }))
      yield* third.end
      yield* settle
      yield* connect
      assert.strictEqual(tags().filter((tag) => tag === "Opened").length, 4)
    }))

  it.effect("F16 an accept storm is served at the accept rate, and what it refused delays nobody later", () =>
    Effect.gen(function*() {
      const { connect, listener, refusals, tags } = yield* start({ policy: { acceptRate: 10, maxWaiting: 20 } })
      const opened = () => tags().filter((tag) => tag === "Opened").length
      for (let i = 0; i < 1000; i++) yield* listener.connect
      yield* long
      assert.strictEqual(opened(), 10)
      assert.strictEqual(refusals().length, 970)
      for (let tenth = 1; tenth <= 20; tenth++) {
        yield* TestClock.adjust(100)
        assert.strictEqual(opened(), 10 + tenth)
      }
      yield* TestClock.adjust(100)
      yield* connect
      assert.strictEqual(opened(), 31)
    }))

  const ways: Record<string, (peer: TestSocket.Peer) => Effect.Effect<void>> = {
    "a close by the peer": (peer) => peer.end,
    "a reset": (peer) => peer.reset,
    "a handler that returns": (peer) => peer.send("return\n"),
    "a handler that fails": (peer) => peer.send("fail\n"),
    "a handler that dies": (peer) => peer.send("die\n"),
    "a handler that is interrupted": (peer) => peer.send("interrupt\n"),
    "a message that is too long": (peer) => peer.send("x".repeat(200))
  }
  for (const [name, way] of Object.entries(ways)) {
    it.effect(`B95 the permit comes back once after ${name}`, () =>
      Effect.gen(function*() {
        const { connect, connectFrom, refusals } = yield* start({
          open: lines({ maxFrame: 100 }),
          handle: obeys,
          policy: { maxConnections: 2, maxConnectionsPerAddress: 2, whenFull: "reject" }
        })
        for (let round = 0; round < 3; round++) {
          const first = yield* connectFrom("10.0.0.1:1")
          const second = yield* connectFrom("10.0.0.1:1")
          yield* gone(yield* connectFrom("10.0.0.2:1"))
          assert.strictEqual(refusals().length, round + 1)
          yield* way(first)
          yield* way(second)
          yield* settle
          yield* gone(first)
          yield* gone(second)
        }
        assert.isTrue(yield* answers(yield* connect, "a"))
        assert.isTrue(yield* answers(yield* connect, "b"))
      }))
  }

  it.effect("B95 the permit comes back once after a handshake that fails, times out or dies", () =>
    Effect.gen(function*() {
      const { connect, refusals } = yield* start({
        policy: { maxConnections: 1, handshake: 1000 },
        handshake: (connection) =>
          Effect.flatMap(connection.receive, (said) =>
            said === "die"
              ? Effect.die("as told")
              : said === "fail"
              ? Effect.fail("as told")
              : Effect.succeed(said))
      })
      for (const word of ["fail", "die", undefined, "fail"]) {
        const peer = yield* connect
        if (word !== undefined) yield* peer.send(`${word}\n`)
        yield* TestClock.adjust(1000)
        yield* gone(peer)
      }
      assert.strictEqual(refusals().length, 4)
      const peer = yield* connect
      yield* peer.send("let me in\n")
      assert.isTrue(yield* answers(peer, "a"))
      const waiting = yield* connect
      yield* waiting.send("me too\n")
      assert.isFalse(yield* answers(waiting, "b"))
    }))

  const sequences = often(80, 1000)
  it.effect(`B95 ${sequences} random sequences leave every permit where it was`, () =>
    Effect.gen(function*() {
      const said = ["hello\n", "hello\n", "hello\n", "nobody\n", "hel"]
      const ends = Object.values(ways)
      for (let seed = 1; seed <= sequences; seed++) {
        const draw = numbers(seed)
        const limit = 1 + draw(3)
        const server = yield* start({
          open: lines({ maxFrame: 100 }),
          handle: obeys,
          handshake: (connection) =>
            Effect.flatMap(connection.receive, (word) => word === "hello" ? Effect.succeed(word) : Effect.fail(word)),
          policy: {
            maxConnections: limit,
            whenFull: draw(2) === 0 ? "wait" : "reject",
            maxWaiting: draw(4),
            acceptRate: draw(2) * 20,
            maxConnectionsPerAddress: draw(2) * 3,
            handshake: 50
          }
        })
        const opened = () => server.tags().filter((tag) => tag === "Opened").length
        const peers: Array<TestSocket.Peer> = []
        let accepted = 0
        for (let step = 0; step < 8; step++) {
          if (peers.length === 0 || draw(2) === 0) {
            const peer = yield* server.arriveFrom(`10.0.0.${draw(2)}:${step}`)
            accepted++
            peers.push(peer)
            yield* peer.send(said[draw(said.length)])
          } else {
            const [peer] = peers.splice(draw(peers.length), 1)
            yield* ends[draw(ends.length)](peer)
          }
          if (draw(3) === 0) yield* TestClock.adjust(draw(60))
          for (let turns = draw(12); turns > 0; turns--) yield* Effect.yieldNow
          assert.isAtMost(opened() - server.closings().length, limit, `seed ${seed}`)
        }
        for (const peer of peers) yield* peer.reset
        yield* TestClock.adjust(1000)
        yield* long
        assertBalanced(server.events, accepted)
        // every permit is there, and not one more
        const before = opened()
        for (let i = 0; i <= limit; i++) yield* (yield* server.arriveFrom(`10.1.0.${i}:1`)).send("hello\n")
        yield* settle
        assert.strictEqual(opened() - before, limit, `seed ${seed}`)
        yield* server.stop
        yield* TestClock.adjust(5000)
        yield* long
        assert.isFalse(server.isRunning(), `seed ${seed}`)
        assertBalanced(server.events, accepted + limit + 1)
      }
    }), inLong(120_000))

  it.effect("at every yield point: permits, addresses and events stay right", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops <= 64; ops += often(3, 1)) {
        yield* Effect.gen(function*() {
          const server = yield* start({
            handle: obeys,
            policy: { maxConnections: 2, maxConnectionsPerAddress: 3, maxWaiting: 1, drain: 1000 }
          })
          const peers = yield* Effect.forEach(["a:1", "a:2", "a:3", "a:4", "b:1"], server.connectFrom)
          yield* longer
          assert.deepStrictEqual(
            server.refusals().map((reason) => reason._tag === "Refused" && reason.limit),
            ["maxConnectionsPerAddress", "maxWaiting"]
          )
          yield* peers[0].end
          yield* longer
          yield* peers[2].send("admitted\n")
          yield* longer
          assert.strictEqual(yield* peers[2].text, "admitted\n")
          yield* server.connectFrom("a:5")
          yield* longer
          yield* server.stop
          yield* longer
          yield* TestClock.adjust(1000)
          yield* longer
          assert.isFalse(server.isRunning())
          assertBalanced(server.events, 6)
          for (const peer of peers) yield* gone(peer)
        }).pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, ops))
      }
    }), inLong(60_000))
})

// ---------------------------------------------------------------------------------------------------------------------
// handshakes
// ---------------------------------------------------------------------------------------------------------------------

describe("handshakes", () => {
  const greets = (connection: Line) =>
    Effect.flatMap(
      connection.receive,
      (said) => said.startsWith("i am ") ? Effect.succeed(said.slice(5)) : Effect.fail("who are you?")
    )

  it.effect("the session reaches the handler and the names reach the registry", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { connect, tags } = yield* start({
        registry,
        handshake: greets,
        names: (_, session) => ({ key: session, tags: ["people"] }),
        handle: (connection, session) => Effect.andThen(connection.send(`hello ${session}`), connection.leaving)
      })
      const peer = yield* connect
      assert.strictEqual(yield* registry.size, 0)
      assert.deepStrictEqual(tags(), [])
      yield* peer.send("i am ada\n")
      assert.strictEqual(yield* peer.take, "hello ada\n")
      const [entry] = yield* registry.entries
      assert.strictEqual(entry.key, "ada")
      assert.deepStrictEqual([...entry.tags], ["people"])
      const found = yield* registry.getKey("ada")
      assert.isTrue(found._tag === "Some" && found.value === entry.connection)
      yield* peer.end
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* registry.size, 0)
      assert.strictEqual((yield* registry.history)[0].snapshot.reason?._tag, "Closed")
    }))

  it.effect("B45 a handshake that is never sent ends the connection at its deadline, and the handler does not run", () =>
    Effect.gen(function*() {
      let handled = 0
      const { connect, refusals, tags } = yield* start({
        handshake: greets,
        handle: () => Effect.sync(() => handled++)
      })
      const silent = yield* connect
      const partial = yield* connect
      yield* partial.send("i am")
      yield* TestClock.adjust(9_999)
      assert.isFalse(yield* isReleased(silent))
      yield* TestClock.adjust(1)
      yield* gone(silent)
      yield* gone(partial)
      const timeout = new ConnectionError.HandshakeTimeout({ limit: 10_000 })
      assert.deepStrictEqual(refusals(), [timeout, timeout])
      assert.deepStrictEqual(tags(), ["Refused", "Refused"])
      assert.strictEqual(handled, 0)
    }))

  it.effect("B45 a handshake that hangs although the peer spoke ends at the same deadline", () =>
    Effect.gen(function*() {
      const { connect, refusals } = yield* start({
        policy: { handshake: 3000 },
        handshake: (connection) => Effect.andThen(connection.receive, Effect.never)
      })
      const peer = yield* connect
      yield* peer.send("i am ada\n")
      yield* TestClock.adjust(2_999)
      assert.deepStrictEqual(refusals(), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(refusals(), [new ConnectionError.HandshakeTimeout({ limit: 3000 })])
      yield* gone(peer)
    }))

  it.effect("B45 a registration that hangs ends at the deadline of a handshake", () =>
    Effect.gen(function*() {
      const made = yield* Registry.make<string>()
      const registry = { ...made, add: () => Effect.never }
      const { connect, refusals } = yield* start({ policy: { handshake: 3000 }, registry })
      const peer = yield* connect
      yield* TestClock.adjust(2_999)
      assert.deepStrictEqual(refusals(), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(refusals(), [new ConnectionError.HandshakeTimeout({ limit: 3000 })])
      yield* gone(peer)
    }))

  it.effect("B139 an open that hangs is refused at the deadline of a handshake, and its permit comes back", () =>
    Effect.gen(function*() {
      let released = 0
      const hanging: Options["open"] = () =>
        Effect.andThen(Effect.addFinalizer(() => Effect.sync(() => released++)), Effect.never)
      const { connect, refusals, tags } = yield* start({
        open: hanging,
        policy: { handshake: 3000, maxConnections: 1 }
      })
      yield* connect
      const second = yield* connect
      yield* TestClock.adjust(2_999)
      assert.deepStrictEqual([tags(), released], [[], 0])
      yield* TestClock.adjust(1)
      yield* settle
      const late = new ConnectionError.HandshakeTimeout({ limit: 3000 })
      assert.deepStrictEqual([refusals(), released], [[late], 1])
      // counted from when it was let in
      yield* TestClock.adjust(2_999)
      assert.strictEqual(refusals().length, 1)
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual([refusals(), released], [[late, late], 2])
      assert.isFalse(yield* second.finished)
    }))

  it.effect("B139 opening, handshake and registration share the limit, and one that is in time has no limit any more", () =>
    Effect.gen(function*() {
      const made = yield* Registry.make<string>()
      const slow = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.andThen(Effect.sleep(1000), effect)
      const registry: typeof made = { ...made, add: (connection, names) => slow(made.add(connection, names)) }
      for (const handshake of [3001, 3000]) {
        const { closings, connect, refusals, tags } = yield* start({
          open: (socket) => slow(lines({ silence: 0 })(socket)),
          handshake: () => slow(Effect.succeed("ada")),
          registry,
          policy: { handshake }
        })
        const peer = yield* connect
        for (let step = 0; step < 3; step++) yield* TestClock.adjust(1000)
        yield* settle
        if (handshake === 3000) {
          assert.deepStrictEqual(refusals(), [new ConnectionError.HandshakeTimeout({ limit: 3000 })])
          yield* gone(peer)
        } else {
          assert.deepStrictEqual(tags(), ["Opened"])
          yield* TestClock.adjust("1 hour")
          assert.deepStrictEqual(closings(), [])
          assert.isTrue(yield* answers(peer, "still here"))
        }
      }
    }))

  it.effect("B139 a connection that its open made before it hung ends with the reason, and not as one that was closed cleanly", () =>
    Effect.gen(function*() {
      const reasons: Array<ConnectionError.Reason> = []
      const { connect, refusals } = yield* start({
        messages: true,
        policy: { handshake: 3000 },
        open: (socket) =>
          Effect.tap(
            lines({}, { farewell: (reason) => `bye: ${reason._tag}` })(socket),
            (connection) =>
              Effect.andThen(
                Effect.addFinalizer(() => Effect.map(connection.snapshot, ({ reason }) => void reasons.push(reason!))),
                connection.receive
              )
          )
      })
      const peer = yield* connect
      yield* TestClock.adjust(3000)
      yield* gone(peer)
      assert.strictEqual(yield* peer.text, "bye: HandshakeTimeout")
      assert.deepInclude(yield* peer.finished, { code: 1013 })
      assert.deepStrictEqual(refusals(), [new ConnectionError.HandshakeTimeout({ limit: 3000 })])
    }))

  it.effect("B139 what cannot be interrupted keeps no peer: its connection ends at the deadline, and its permit comes back when it does", () =>
    Effect.gen(function*() {
      const made = yield* Registry.make<string>()
      for (const where of ["handshake", "registry"] as const) {
        const gate = Latch.makeUnsafe(false)
        const held = Effect.uninterruptible(gate.await)
        const { connect, refusals } = yield* start({
          policy: { handshake: 3000, maxConnections: 1 },
          ...(where === "handshake"
            ? { handshake: () => Effect.as(held, "ada") }
            : { registry: { ...made, add: () => held } as typeof made })
        })
        const peer = yield* connect
        const next = yield* connect
        yield* TestClock.adjust(2_999)
        assert.isFalse(yield* isReleased(peer))
        yield* TestClock.adjust(1)
        yield* gone(peer)
        assert.isFalse(yield* answers(next, "not yet"))
        yield* gate.open
        yield* long
        assert.deepStrictEqual(refusals(), [new ConnectionError.HandshakeTimeout({ limit: 3000 })], where)
        assert.isTrue((yield* next.text).includes("not yet"))
      }
    }))

  it.effect("B34 a handshake limit of 0 is no limit", () =>
    Effect.gen(function*() {
      const { connect, tags } = yield* start({
        open: lines({ silence: 0 }),
        policy: { handshake: 0 },
        handshake: greets
      })
      const peer = yield* connect
      yield* TestClock.adjust("10 days")
      yield* peer.send("i am ada\n")
      yield* settle
      assert.deepStrictEqual(tags(), ["Opened"])
    }))

  it.effect("a handshake that fails refuses the connection with the cause, after what it said was flushed", () =>
    Effect.gen(function*() {
      const { connect, refusals, tags } = yield* start({
        handshake: (connection) => Effect.tapError(greets(connection), () => connection.send("go away"))
      })
      const peer = yield* connect
      yield* peer.send("hello\n")
      assert.strictEqual(yield* peer.take, "go away\n")
      yield* gone(peer)
      assert.deepStrictEqual(tags(), ["Refused"])
      assert.strictEqual(refusals()[0].message, "the handshake failed: who are you?")
    }))

  it.effect("a handshake that fails with a ConnectionError refuses with that reason", () =>
    Effect.gen(function*() {
      const { connect, refusals } = yield* start({
        handshake: () => Effect.fail(ConnectionError.make(new ConnectionError.DuplicateKey({ key: "ada" })))
      })
      yield* gone(yield* connect)
      assert.deepStrictEqual(refusals(), [new ConnectionError.DuplicateKey({ key: "ada" })])
    }))

  it.effect("a handshake, or names, that die refuse only their connection, and the defect is told", () =>
    Effect.gen(function*() {
      const defect = new Error("a bug")
      const { connect, events, refusals } = yield* start({
        registry: yield* Registry.make<string>(),
        handshake: (connection) =>
          Effect.tap(greets(connection), (who) => who === "bug" ? Effect.die(defect) : Effect.void),
        names: (_, session) => {
          if (session === "throw") throw defect
          return { key: session }
        }
      })
      const other = yield* connect
      yield* other.send("i am ada\n")
      for (const who of ["bug", "throw"]) {
        const peer = yield* connect
        yield* peer.send(`i am ${who}\n`)
        yield* gone(peer)
        const event = events[events.length - 1]
        const failure = event._tag === "Refused" ? event.failure : undefined
        assert.isDefined(failure)
        assert.strictEqual(Cause.squash(failure), defect)
      }
      assert.deepStrictEqual(refusals().map((reason) => reason.message), [
        "a defect in the handshake ended it: a bug",
        "a defect in the names ended it: a bug"
      ])
      assert.isTrue(yield* answers(other, "fine"))
    }))

  it.effect("a peer that leaves during its handshake ends it", () =>
    Effect.gen(function*() {
      let ended: Exit.Exit<unknown, unknown> | undefined
      const { connect, refusals } = yield* start({
        open: lines({ halfClose: 0 }),
        handshake: () =>
          Effect.onExit(Effect.never, (exit) =>
            Effect.sync(() => {
              ended = exit
            }))
      })
      const peer = yield* connect
      yield* peer.end
      yield* settle
      assert.isTrue(ended !== undefined && Exit.hasInterrupts(ended))
      assert.deepStrictEqual(refusals(), [new ConnectionError.Closed({ by: "peer" })])
      yield* gone(peer)
    }))

  it.effect("F23 a dead connection whose handshake ends late does not take the key of a living one", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const slow = yield* Deferred.make<void>()
      let handled = 0
      const { connect } = yield* start({
        registry,
        // the message behind the handshake keeps the dead connection for a while, so that it can be received
        handshake: (connection) =>
          Effect.tap(greets(connection), (who) => who === "ada, slowly" ? Deferred.await(slow) : Effect.void),
        names: () => ({ key: "ada" }),
        handle: (connection) => {
          handled++
          return echo(connection)
        }
      })
      const dead = yield* connect
      yield* dead.send("i am ada, slowly\n", "one more thing\n")
      yield* settle
      yield* dead.reset
      const alive = yield* connect
      yield* alive.send("i am ada\n")
      yield* settle
      yield* Deferred.succeed(slow, undefined)
      yield* settle
      assert.isTrue(yield* answers(alive, "still me"))
      const holder = yield* registry.getKey("ada")
      assert.isTrue(holder._tag === "Some" && (yield* holder.value.snapshot).state === "open")
      // what came before the end is handled all the same
      assert.strictEqual(handled, 2)
    }))

  it.effect("B97 the newer connection takes the key over, and the older one ends as superseded", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { closings, connect } = yield* start({ registry, handshake: greets, names: (_, key) => ({ key }) })
      const older = yield* connect
      yield* older.send("i am ada\n")
      yield* settle
      const newer = yield* connect
      yield* newer.send("i am ada\n")
      yield* gone(older)
      yield* settle
      assert.deepStrictEqual(
        closings().map(({ snapshot }) => snapshot.reason),
        [new ConnectionError.Superseded({ key: "ada" })]
      )
      assert.isTrue(yield* answers(newer, "mine"))
      assert.strictEqual(yield* registry.size, 1)
      assert.isTrue((yield* registry.getKey("ada"))._tag === "Some")
    }))

  it.effect("B97 with reject the second one is refused before its handler, and the key is free at once after the first", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>({ duplicates: "reject" })
      const { connect, refusals, tags } = yield* start({ registry, handshake: greets, names: (_, key) => ({ key }) })
      const first = yield* connect
      yield* first.send("i am ada\n")
      yield* settle
      const second = yield* connect
      yield* second.send("i am ada\n")
      yield* gone(second)
      assert.deepStrictEqual(refusals(), [new ConnectionError.DuplicateKey({ key: "ada" })])
      assert.isTrue(yield* answers(first, "mine"))
      yield* first.reset
      const third = yield* connect
      yield* third.send("i am ada\n")
      yield* settle
      assert.deepStrictEqual(tags(), ["Opened", "Refused", "Closed", "Opened"])
    }))
})

// ---------------------------------------------------------------------------------------------------------------------
// handlers
// ---------------------------------------------------------------------------------------------------------------------

describe("handlers", () => {
  for (
    const [name, fault, text] of [
      ["fails", Effect.fail("a typed failure"), "a typed failure"],
      ["dies", Effect.die(new Error("a bug")), "a bug"],
      [
        "throws",
        Effect.suspend((): Effect.Effect<never> => {
          throw new Error("a bug")
        }),
        "a bug"
      ]
    ] as const
  ) {
    it.effect(`a handler that ${name} ends its connection only, and is told with its cause`, () =>
      Effect.gen(function*() {
        const { closings, connect, tags } = yield* start({
          handle: (connection) =>
            Effect.gen(function*() {
              while (true) {
                const message = yield* connection.receive
                if (message === "now") return yield* fault
                yield* connection.send(message)
              }
            })
        })
        const good = yield* connect
        const bad = yield* connect
        yield* bad.send("now\n")
        yield* gone(bad)
        yield* settle
        assert.deepStrictEqual(tags(), ["Opened", "Opened", "Closed"])
        const { failure, snapshot } = closings()[0]
        assert.isDefined(failure)
        // its own cause, and not that it was interrupted after that
        assert.strictEqual(failure.reasons.length, 1)
        const error = Cause.squash(failure)
        assert.strictEqual(error instanceof Error ? error.message : error, text)
        assert.strictEqual(snapshot.state, "ended")
        assert.isTrue(yield* answers(good, "unharmed"))
        assert.isTrue(yield* answers(yield* connect, "and open for more"))
      }))
  }

  it.effect("a failure while the handler is being interrupted is told as well", () =>
    Effect.gen(function*() {
      const { closings, connect } = yield* start({
        open: lines({ halfClose: 0 }),
        handle: () => Effect.ensuring(Effect.never, Effect.die("in a finalizer"))
      })
      const peer = yield* connect
      yield* peer.end
      yield* settle
      const { failure } = closings()[0]
      assert.isDefined(failure)
      assert.isTrue(Cause.hasDies(failure))
    }))

  it.effect("a finalizer of a handler that dies keeps nothing: the name is free again", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { closings, connect } = yield* start({
        open: lines({ halfClose: 0 }),
        registry,
        names: () => ({ key: "ada" }),
        // in the scope that the server gives it
        handle: ((connection: Line) =>
          Effect.andThen(Effect.addFinalizer(() => Effect.die("in a finalizer")), echo(connection))) as typeof echo
      })
      const peer = yield* connect
      assert.strictEqual(yield* registry.size, 1)
      yield* peer.end
      yield* settle
      assert.strictEqual(yield* registry.size, 0)
      const { failure } = closings()[0]
      assert.isTrue(failure !== undefined && Cause.hasDies(failure))
    }))

  it.effect("an open that throws when it refuses keeps nobody waiting", () =>
    Effect.gen(function*() {
      let opened = 0
      let attended = 0
      const { server } = yield* TestSocket.makeServer()
      const running = yield* Server.run({
        policy: { maxConnectionsPerAddress: 1, drain: 0 },
        open: (socket) => {
          if (opened++ > 0) throw new Error("no")
          return lines()(socket)
        },
        handle: echo
      }).pipe(
        Effect.provideService(SocketServer.SocketServer, {
          ...server,
          run: (handler) =>
            Effect.gen(function*() {
              for (let port = 1; port <= 2; port++) {
                const { socket } = yield* TestSocket.make()
                const attend = handler(Connection.describe(socket, { messages: false, remote: `1.2.3.4:${port}` }))
                yield* Effect.forkChild(Effect.ensuring(attend, Effect.sync(() => attended++)))
              }
              return yield* Effect.never
            })
        }),
        Effect.forkChild({ startImmediately: true })
      )
      yield* long
      // the first is claimed, the second given up
      assert.deepStrictEqual([opened, attended], [2, 2])
      yield* Fiber.interrupt(running)
    }))

  it.effect("the end of a connection is no failure of its handler", () =>
    Effect.gen(function*() {
      const { closings, connect } = yield* start({ open: lines({ halfClose: 0 }) })
      const idle = yield* start({ open: lines({ halfClose: 0 }), handle: () => Effect.never })
      for (const server of [{ closings, connect }, idle]) {
        yield* (yield* server.connect).end
        yield* (yield* server.connect).reset
        yield* settle
        assert.deepStrictEqual(
          server.closings().map(({ failure, snapshot }) => [failure, snapshot.reason?._tag]),
          [[undefined, "Closed"], [undefined, "Reset"]]
        )
      }
    }))

  it.effect("a connection error that a handler fails with is the reason of the end", () =>
    Effect.gen(function*() {
      const { closings, connect } = yield* start({
        open: lines({ outboxBytes: 100, maxFrame: 100 }),
        handle: (connection) => connection.send("x".repeat(101))
      })
      const peer = yield* connect
      yield* gone(peer)
      yield* settle
      assert.strictEqual(closings()[0].snapshot.reason?._tag, "FrameTooLong")
      assert.isUndefined(closings()[0].failure)
    }))

  it.effect("the registry remembers why a connection ended, also when its handler ended it", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { connect } = yield* start({ registry, handle: obeys })
      for (const word of ["return", "fail"]) {
        const peer = yield* connect
        yield* peer.send(`${word}\n`)
        yield* gone(peer)
      }
      yield* (yield* connect).reset
      yield* settle
      assert.deepStrictEqual(
        (yield* registry.history).map(({ snapshot }) => [snapshot.state, snapshot.reason?.message]),
        [["ended", "closed by us"], ["ended", "closed by us (code 1011)"], [
          "ended",
          "reset by the peer: read ECONNRESET"
        ]]
      )
    }))

  it.effect("without onEvent, what goes wrong is logged, and what does not is not", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => {
        logged.push(String(Array.isArray(message) ? message[0] : message))
      })
      yield* Effect.gen(function*() {
        const server = yield* start({
          onEvent: undefined,
          handshake: (connection) =>
            Effect.tap(connection.receive, (said) => said === "die" ? Effect.die("a bug") : Effect.void),
          handle: (_, session) => session === "fail" ? Effect.fail("no") : Effect.void
        })
        for (const word of ["fine", "fail", "die"]) {
          const peer = yield* server.connectFrom("10.0.0.1:1")
          yield* peer.send(`${word}\n`)
          yield* gone(peer)
        }
        yield* server.listener.failAccept("out of files")
        yield* settle
      }).pipe(Effect.provide(Logger.layer([logger])))
      assert.strictEqual(logged.length, 3)
      assert.match(logged[0], /^the handler of connection \d+ failed$/)
      assert.match(logged[1], /^a defect in handshake of connection \d+ \(10\.0\.0\.1:1\)$/)
      assert.strictEqual(logged[2], "accepting failed, next try in 5 ms")
    }))

  it.effect("an onEvent that dies changes nothing", () =>
    Effect.gen(function*() {
      const server = yield* start({ onEvent: () => Effect.die("a bug in the metrics") })
      const peer = yield* server.connect
      assert.isTrue(yield* answers(peer, "a"))
      yield* server.listener.failAccept("out of files")
      yield* TestClock.adjust(5)
      assert.isTrue(yield* answers(yield* server.connect, "b"))
      yield* peer.end
      yield* gone(peer)
      assert.isTrue(server.isRunning())
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("B21 a client that never answers is closed, one that answers stays", () =>
    Effect.gen(function*() {
      const { closings, connect } = yield* start({
        open: lines({ pingEvery: 1000, silence: 2500 }, { heartbeat: Heartbeat.text("ping", "pong") })
      })
      const mute = yield* connect
      const lively = yield* connect
      for (let second = 1; second <= 10; second++) {
        yield* TestClock.adjust(1000)
        yield* lively.send("pong\n")
        yield* settle
        assert.strictEqual(closings().length, second >= 3 ? 1 : 0)
      }
      yield* gone(mute)
      assert.strictEqual(closings()[0].snapshot.reason?._tag, "SilenceTimeout")
      assert.strictEqual(closings()[0].snapshot.age, 2500)
      assert.isTrue(yield* answers(lively, "here").pipe(Effect.map(() => true)))
    }))

  it.effect("B73 a peer that never reads is bounded and delays nobody", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { closings, connect } = yield* start({
        registry,
        open: lines({ outboxMessages: 10, overflow: "drop-oldest", writeStall: 10_000, drain: 0 })
      })
      const deaf = yield* connect
      yield* deaf.window(0)
      const others = yield* Effect.forEach([1, 2, 3], () => connect)
      const counts = { delivered: 0, dropped: 0, failed: 0 }
      for (let i = 0; i < 1000; i++) {
        const result = yield* registry.broadcast(`news ${i}`)
        counts.delivered += result.delivered
        counts.dropped += result.dropped
        yield* settle
        for (const peer of others) assert.strictEqual(yield* peer.take, `news ${i}\n`)
      }
      assert.deepStrictEqual(counts, { delivered: 4000, dropped: 0, failed: 0 })
      const [stuck] = (yield* registry.snapshots).filter((snapshot) => snapshot.dropped > 0)
      // the first is being written, ten wait
      assert.deepStrictEqual(stuck.outbox.messages, 10)
      assert.strictEqual(stuck.dropped, 989)
      yield* TestClock.adjust(9_999)
      assert.strictEqual(closings().length, 0)
      yield* TestClock.adjust(1)
      yield* gone(deaf)
      assert.strictEqual(closings()[0].snapshot.reason?._tag, "WriteStalled")
      for (const peer of others) assert.isTrue(yield* answers(peer, "fine"))
    }))

  it.effect("B75 what a handler sent before it returned is delivered, to a slow peer too", () =>
    Effect.gen(function*() {
      const { closings, connect } = yield* start({
        open: lines({ outboxMessages: 200 }),
        handle: (connection) =>
          Effect.andThen(connection.receive, connection.sendAll(Array.from({ length: 100 }, (_, i) => `line ${i}`)))
      })
      const peer = yield* connect
      yield* peer.window(0)
      yield* peer.send("go\n")
      yield* TestClock.adjust(4_999)
      assert.strictEqual(closings().length, 0)
      yield* peer.window(Infinity)
      yield* gone(peer)
      yield* settle
      assert.strictEqual((yield* peer.text).split("\n").length, 101)
      assert.strictEqual(closings()[0].snapshot.lost, 0)
      assert.strictEqual(closings()[0].snapshot.messagesOut, 100)
    }))

  it.effect("B76 sending after close fails with the stored reason, inside a handler", () =>
    Effect.gen(function*() {
      let seen: ReadonlyArray<ConnectionError.Reason> = []
      const { connect } = yield* start({
        handle: (connection) =>
          Effect.gen(function*() {
            yield* connection.send("bye")
            yield* connection.closeWith(new ConnectionError.Superseded({ key: "me" }))
            const errors = yield* Effect.all([
              Effect.flip(connection.send("late")),
              Effect.flip(connection.sendAll(["late"])),
              Effect.flip(connection.receive),
              Effect.flip(connection.closed)
            ])
            seen = errors.map((error) => error.reason)
          }).pipe(Effect.uninterruptible, Effect.orDie)
      })
      const peer = yield* connect
      yield* gone(peer)
      yield* settle
      assert.strictEqual(yield* peer.text, "bye\n")
      assert.deepStrictEqual(seen.map((reason) => reason._tag), [
        "Superseded",
        "Superseded",
        "Superseded",
        "Superseded"
      ])
    }))

  it.effect("B94 closing from inside the handshake, the handler and onEvent works", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const closeById = (id: number) =>
        Effect.flatMap(registry.get(id), (found) => found._tag === "Some" ? found.value.close : Effect.void)
      const inside: Record<string, Setup> = {
        handshake: { handshake: (connection) => Effect.as(connection.close, "closed") },
        handler: { handle: (connection) => Effect.andThen(connection.close, connection.close) },
        message: { handle: (connection) => Effect.forever(Effect.andThen(connection.receive, connection.close)) },
        opened: { onEvent: (event) => event._tag === "Opened" ? closeById(event.snapshot.id) : Effect.void },
        closed: {
          handle: () => Effect.void,
          onEvent: (event) => event._tag === "Closed" ? closeById(event.snapshot.id) : Effect.void
        }
      }
      for (const [place, options] of Object.entries(inside)) {
        const { connect, isRunning, stop } = yield* start({ registry, ...options })
        const peer = yield* connect
        yield* peer.send("message\n")
        yield* settle
        assert.isTrue(yield* isReleased(peer), place)
        assert.strictEqual(yield* registry.size, 0, place)
        yield* stop
        assert.isFalse(isRunning(), place)
      }
    }))
})

// ---------------------------------------------------------------------------------------------------------------------
// rotation
// ---------------------------------------------------------------------------------------------------------------------

describe("rotation", () => {
  it.effect("B19 an idle connection is closed at its idle limit, a busy one is not", () =>
    Effect.gen(function*() {
      const { closings, connect } = yield* start({ open: lines({ idle: 10_000, silence: 0 }) })
      yield* connect
      const busy = yield* connect
      yield* TestClock.adjust(5_000)
      assert.isTrue(yield* answers(busy, "a"))
      yield* TestClock.adjust(4_999)
      assert.strictEqual(closings().length, 0)
      yield* TestClock.adjust(1)
      assert.strictEqual(closings().length, 1)
      assert.strictEqual(closings()[0].snapshot.reason?._tag, "IdleTimeout")
      assert.isTrue(yield* answers(busy, "b"))
      yield* TestClock.adjust(9_999)
      assert.strictEqual(closings().length, 1)
      yield* TestClock.adjust(1)
      assert.strictEqual(closings().length, 2)
    }))

  const rotating = (maxAgeGrace: number) =>
    start({
      open: lines({ maxAge: 60_000, maxAgeGrace, silence: 0 }, { goodbye: "bye" }),
      handle: (connection) =>
        Effect.gen(function*() {
          while (true) {
            const message = yield* connection.receive
            if (message === "slow") yield* Effect.sleep(2000)
            yield* connection.send(message)
          }
        })
    })

  for (const [draw, age] of [[0, 54_000], [0.5, 60_000], [0.9999999, 66_000]] as const) {
    it.effect(`B20 asked to leave at ${age} ms, forced after the grace`, () =>
      Effect.gen(function*() {
        const { closings, connect } = yield* rotating(30_000)
        const peer = yield* connect
        yield* TestClock.adjust(age - 1)
        assert.strictEqual(yield* peer.text, "")
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* peer.text, "bye\n")
        assert.isTrue(yield* answers(peer, "still served"))
        yield* TestClock.adjust(29_999)
        assert.strictEqual(closings().length, 0)
        yield* TestClock.adjust(1)
        yield* gone(peer)
        assert.strictEqual(closings()[0].snapshot.reason?._tag, "MaxAge")
        assert.strictEqual(yield* peer.finished, true)
      }).pipe(always(draw)))
  }

  it.effect("B92 a client that hears the goodbye sees every answer, and then a clean end of its own making", () =>
    Effect.gen(function*() {
      const { closings, connect } = yield* rotating(30_000)
      const peer = yield* connect
      let asked = 0
      let got = ""
      while (!got.includes("bye")) {
        yield* peer.send(`question ${asked++}\n`)
        got += yield* peer.take
        yield* TestClock.adjust(1000)
        yield* settle
        got += (yield* peer.text).slice(got.length)
      }
      yield* peer.send(`slow\n`)
      yield* peer.end
      yield* TestClock.adjust(2000)
      yield* gone(peer)
      const expected = Array.from({ length: asked }, (_, i) => `question ${i}\n`).join("") + "bye\nslow\n"
      assert.strictEqual(yield* peer.text, expected)
      assert.deepStrictEqual(closings()[0].snapshot.reason, new ConnectionError.Closed({ by: "peer" }))
      assert.isUndefined(closings()[0].failure)
      assert.strictEqual(closings()[0].snapshot.lost, 0)
    }).pipe(always(0.5)))

  it.effect("B92 a client that does not listen sees the answer it waits for, and then a clean end", () =>
    Effect.gen(function*() {
      const { closings, connect } = yield* rotating(10_000)
      const peer = yield* connect
      yield* TestClock.adjust(69_000)
      yield* peer.send("slow\n")
      yield* TestClock.adjust(1000)
      // its time is up, the answer is not ready
      assert.strictEqual(yield* peer.text, "bye\n")
      assert.isFalse(yield* isReleased(peer))
      yield* TestClock.adjust(1000)
      yield* gone(peer)
      assert.strictEqual(yield* peer.text, "bye\nslow\n")
      assert.strictEqual(yield* peer.finished, true)
      assert.strictEqual(closings()[0].snapshot.reason?._tag, "MaxAge")
      assert.isUndefined(closings()[0].failure)
    }).pipe(always(0.5)))
})

// ---------------------------------------------------------------------------------------------------------------------
// accepting
// ---------------------------------------------------------------------------------------------------------------------

describe("accepting", () => {
  it.effect("B89 F24 a failing accept is tried again after 5, 10, 20 ... 1000 ms, and never in a spin", () =>
    Effect.gen(function*() {
      const { connect, events, listener } = yield* start()
      const living = yield* connect
      const delays = [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]
      let runs = 1
      for (const delay of delays) {
        yield* listener.failAccept("EMFILE")
        yield* settle
        const event = events[events.length - 1]
        assert.isTrue(event._tag === "AcceptFailed" && event.retryAfter === delay)
        yield* TestClock.adjust(delay - 1)
        assert.strictEqual(yield* listener.runs, runs)
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* listener.runs, ++runs)
        assert.isTrue(yield* answers(living, "alive"))
      }
      assert.isTrue(yield* answers(yield* connect, "recovered"))
      assert.isTrue(yield* answers(living, "and alive"))
    }))

  it.effect("B89 the backoff starts over after a second without a failure, and not before", () =>
    Effect.gen(function*() {
      const { events, listener } = yield* start()
      const retries = () => events.flatMap((event) => event._tag === "AcceptFailed" ? [event.retryAfter] : [])
      for (const stable of [0, 0, 999, 0, 1000, 0, 5000]) {
        yield* TestClock.adjust(stable)
        yield* listener.failAccept("EMFILE")
        yield* settle
        yield* TestClock.adjust(retries()[retries().length - 1])
      }
      assert.deepStrictEqual(retries(), [5, 10, 20, 40, 5, 10, 5])
    }))

  it.effect("B89 those who wait for a permit keep their place while accepting fails", () =>
    Effect.gen(function*() {
      const { connect, listener } = yield* start({ policy: { maxConnections: 1 } })
      const first = yield* connect
      const second = yield* connect
      yield* listener.failAccept("EMFILE")
      yield* TestClock.adjust(5)
      yield* first.end
      yield* settle
      assert.isTrue(yield* answers(second, "my turn"))
    }))

  it("B34 a policy that makes no sense throws at once, and names the field", () => {
    assert.throws(() => Server.run({ open: lines(), handle: echo, policy: { maxConnections: -1 } }), /maxConnections/)
    assert.throws(() => Server.layer({ open: lines(), handle: echo, policy: { drain: -1 } }), /drain/)
  })

  it.effect("a transport that does not open is refused with its reason", () =>
    Effect.gen(function*() {
      const failing = yield* start({
        open: () => Effect.fail(ConnectionError.make(new ConnectionError.OpenTimeout({ limit: 5 })))
      })
      yield* failing.connect
      assert.deepStrictEqual(failing.refusals(), [new ConnectionError.OpenTimeout({ limit: 5 })])
      const dying = yield* start({ open: () => Effect.die(new Error("a bug")) })
      yield* dying.connect
      assert.strictEqual(dying.refusals()[0].message, "a defect in the open ended it: a bug")
      const [event] = dying.events
      assert.isTrue(event._tag === "Refused" && event.failure !== undefined)
      assert.isTrue(dying.isRunning())
    }))
})

// ---------------------------------------------------------------------------------------------------------------------
// stopping
// ---------------------------------------------------------------------------------------------------------------------

describe("stopping", () => {
  it.effect("B90 what is in flight is answered, then everything ends and every finalizer has run", () =>
    Effect.gen(function*() {
      let finalized = 0
      const { closings, connect, isRunning, stop, tags } = yield* start({
        open: lines(undefined, { goodbye: "bye" }),
        handle: (connection) =>
          Effect.gen(function*() {
            while (true) {
              const message = yield* connection.receive
              yield* Effect.sleep(2000)
              yield* connection.send(`answer to ${message}`)
            }
          }).pipe(Effect.ensuring(Effect.sync(() => finalized++)))
      })
      const idle = yield* connect
      const busy = yield* connect
      yield* busy.send("a\nb\n")
      yield* settle
      yield* stop
      assert.strictEqual(yield* idle.text, "bye\n")
      yield* gone(idle)
      assert.strictEqual(yield* busy.text, "bye\n")
      // what comes now is read, so that it does not become a reset, and not answered
      yield* busy.send("too late\n")
      yield* TestClock.adjust(3_999)
      assert.strictEqual(yield* busy.text, "bye\nanswer to a\n")
      assert.isTrue(isRunning())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* busy.text, "bye\nanswer to a\nanswer to b\n")
      yield* gone(busy)
      yield* settle
      assert.isFalse(isRunning())
      assert.strictEqual(finalized, 2)
      assert.deepStrictEqual(tags(), ["Opened", "Opened", "Closed", "Closed"])
      for (const { failure, snapshot } of closings()) {
        assert.strictEqual(snapshot.reason?._tag, "GoingAway")
        assert.isUndefined(failure)
        assert.strictEqual(snapshot.lost, 0)
      }
    }))

  it.effect("B90 a server without connections stops at once", () =>
    Effect.gen(function*() {
      const { isRunning, stop } = yield* start()
      yield* stop
      assert.isFalse(isRunning())
    }))

  it.effect("B90 whoever comes while it stops is refused at once and told why", () =>
    Effect.gen(function*() {
      const { connect, isRunning, refusals, stop } = yield* start({
        refusal: (reason) => reason.message,
        handle: () => Effect.never
      })
      yield* connect
      yield* stop
      const late = yield* connect
      assert.strictEqual(yield* late.text, "the server is stopping\n")
      yield* gone(late)
      assert.deepStrictEqual(refusals(), [new ConnectionError.Refused({ limit: "stopping" })])
      yield* TestClock.adjust(4_999)
      assert.isTrue(isRunning())
      yield* TestClock.adjust(1)
      assert.isFalse(isRunning())
    }))

  it.effect("B90 a peer that never spoke, one that never reads and one in its handshake do not hold it for more than 5 s", () =>
    Effect.gen(function*() {
      const { connect, events, isRunning, stop } = yield* start({
        policy: { handshake: "1 minute" },
        handshake: (connection) => Effect.map(connection.receive, (said) => said),
        handle: (connection) => Effect.forever(connection.send("x".repeat(1000)))
      })
      const mute = yield* connect
      const deaf = yield* connect
      yield* deaf.window(0)
      yield* deaf.send("hello\n")
      yield* settle
      const hanging = yield* start({
        policy: { handshake: "1 minute" },
        handshake: () => Effect.never
      })
      const stuck = yield* hanging.connect
      yield* stop
      yield* hanging.stop
      yield* gone(mute)
      yield* TestClock.adjust(4_999)
      assert.isTrue(isRunning())
      assert.isTrue(hanging.isRunning())
      yield* TestClock.adjust(1)
      yield* gone(deaf)
      yield* gone(stuck)
      assert.isFalse(isRunning())
      assert.isFalse(hanging.isRunning())
      assertBalanced(events, 2)
      assertBalanced(hanging.events, 1)
    }))

  it.effect("B90 a handler that never ends is interrupted after the drain limit, and its finalizers run side by side", () =>
    Effect.gen(function*() {
      const { closings, connect, isRunning, stop } = yield* start({
        policy: { drain: 1000 },
        handle: () => Effect.ensuring(Effect.never, Effect.sleep(500))
      })
      for (let i = 0; i < 10; i++) yield* connect
      yield* stop
      yield* TestClock.adjust(1499)
      assert.isTrue(isRunning())
      yield* TestClock.adjust(1)
      assert.isFalse(isRunning())
      assert.strictEqual(closings().length, 10)
      for (const { failure } of closings()) assert.isUndefined(failure)
    }))

  it.effect("drain 0 waits for nothing", () =>
    Effect.gen(function*() {
      const { closings, connect, isRunning, stop } = yield* start({
        open: lines({ drain: 0 }),
        policy: { drain: 0 },
        handle: () => Effect.never
      })
      const peer = yield* connect
      yield* peer.window(0)
      yield* stop
      assert.isFalse(isRunning())
      yield* gone(peer)
      assert.strictEqual(closings().length, 1)
    }))

  it.effect("B91 a connection that opens while the server stops is closed before its handshake", () =>
    Effect.gen(function*() {
      const gate = yield* Latch.make()
      const handshakes: Array<number> = []
      const { connect, isRunning, refusals, stop } = yield* start({
        open: (socket) => Effect.andThen(gate.await, lines()(socket)),
        handshake: (connection) => {
          handshakes.push(connection.id)
          return Effect.map(connection.receive, (said) => said)
        }
      })
      const peer = yield* connect
      yield* peer.send("hello\n")
      yield* stop
      assert.isTrue(isRunning())
      yield* gate.open
      yield* settle
      yield* gone(peer)
      assert.deepStrictEqual(handshakes, [])
      assert.deepStrictEqual(refusals(), [new ConnectionError.Refused({ limit: "stopping" })])
      assert.isFalse(isRunning())
    }))

  it.effect("those who wait for a permit, or for the accept rate, are told and released when the server stops", () =>
    Effect.gen(function*() {
      const { connect, events, isRunning, refusals, stop } = yield* start({
        policy: { maxConnections: 1, acceptRate: 3 },
        refusal: (reason) => reason.message,
        handle: () => Effect.never
      })
      const served = yield* connect
      const waiting = yield* Effect.forEach([1, 2, 3, 4], () => connect)
      assert.deepStrictEqual(events.length, 1)
      yield* stop
      for (const peer of waiting) {
        assert.strictEqual(yield* peer.text, "the server is stopping\n")
        yield* gone(peer)
      }
      assert.deepStrictEqual(refusals(), Array.from(waiting, () => new ConnectionError.Refused({ limit: "stopping" })))
      assert.isFalse(yield* isReleased(served))
      yield* TestClock.adjust("5 seconds")
      yield* gone(served)
      assert.isFalse(isRunning())
      assertBalanced(events, 5)
    }))

  it.effect("those who wait are told although the last connection ends in the same moment", () =>
    Effect.gen(function*() {
      const { connect, events, isRunning, stop } = yield* start({
        policy: { maxConnections: 1 },
        refusal: (reason) => reason.message
      })
      const served = yield* connect
      const waiting = yield* connect
      yield* stop
      yield* gone(served)
      assert.strictEqual(yield* waiting.text, "the server is stopping\n")
      yield* gone(waiting)
      assert.isFalse(isRunning())
      assertBalanced(events, 2)
    }))

  it.effect("many who wait and take nothing hold the end no longer than one", () =>
    Effect.gen(function*() {
      const { connect, events, isRunning, stop } = yield* start({
        policy: { maxConnections: 1 },
        refusal: (reason) => reason.message,
        handle: () => Effect.never
      })
      yield* connect
      for (let i = 0; i < 20; i++) yield* (yield* connect).window(0)
      yield* stop
      yield* TestClock.adjust("5 seconds")
      assert.isFalse(isRunning())
      assertBalanced(events, 21)
    }))

  it.effect("an accept loop that is backing off stops at once", () =>
    Effect.gen(function*() {
      const { isRunning, listener, stop } = yield* start()
      yield* listener.failAccept("EMFILE")
      yield* settle
      yield* stop
      assert.isFalse(isRunning())
    }))

  it.effect("B90 releasing Server.layer drains", () =>
    Effect.gen(function*() {
      const listener = yield* TestSocket.makeServer()
      const layer = Server.layer({
        open: lines(undefined, { goodbye: "bye" }),
        handle: (connection: Line) =>
          Effect.gen(function*() {
            while (true) {
              const message = yield* connection.receive
              yield* Effect.sleep(1000)
              yield* connection.send(message)
            }
          })
      }).pipe(Layer.provide(Layer.succeed(SocketServer.SocketServer, listener.server)))
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(layer, scope)
      const peer = yield* listener.connect
      yield* peer.send("question\n")
      yield* settle
      const released = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* settle
      assert.strictEqual(yield* peer.text, "bye\n")
      yield* TestClock.adjust(999)
      assert.isUndefined(released.pollUnsafe())
      yield* TestClock.adjust(1)
      yield* Fiber.join(released)
      assert.strictEqual(yield* peer.text, "bye\nquestion\n")
      yield* gone(peer)
    }))

  it.effect("Server.layer says so when its server dies", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        logged.push(`${logLevel} ${String(Array.isArray(message) ? message[0] : message)}`)
      })
      const broken = { ...(yield* TestSocket.makeServer()).server, run: () => Effect.die("a bug in the listener") }
      const layer = Server.layer({ open: lines(), handle: echo }).pipe(
        Layer.provide(Layer.succeed(SocketServer.SocketServer, broken)),
        Layer.provideMerge(Logger.layer([logger]))
      )
      yield* Effect.scoped(Effect.andThen(Layer.build(layer), settle))
      assert.deepStrictEqual(logged, ["Fatal the server died"])
    }))
})

// ---------------------------------------------------------------------------------------------------------------------
// events
// ---------------------------------------------------------------------------------------------------------------------

describe("events", () => {
  it.effect("an Opened that is being told when the server gives up is told to its end, and the Closed after it", () =>
    Effect.gen(function*() {
      const told: Array<string> = []
      const { connect, isRunning, stop } = yield* start({
        policy: { drain: 0 },
        onEvent: (event) => Effect.andThen(Effect.sleep(100), Effect.sync(() => told.push(event._tag)))
      })
      yield* connect
      yield* stop
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(told, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told, ["Opened"])
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(told, ["Opened", "Closed"])
      assert.isFalse(isRunning())
    }))

  it.effect(
    "every Opened has one Closed, whatever happens and whenever the server stops",
    () =>
      Effect.gen(function*() {
        for (let seed = 1; seed <= 200; seed++) {
          const draw = numbers(seed)
          const events: Array<Server.Event> = []
          const server = yield* start({
            open: lines({ drain: draw(3) * 500 }),
            handshake: (connection) => Effect.map(connection.receive, (said) => said),
            policy: { maxConnections: 3, drain: draw(3) * 500, handshake: 100 },
            onEvent: (event) =>
              Effect.andThen(Effect.sync(() => events.push(event)), draw(2) ? Effect.yieldNow : Effect.void)
          }).pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + draw(60)))
          let accepted = 0
          for (let i = draw(8); i >= 0; i--) {
            const peer = yield* server.listener.connect
            accepted++
            for (let turns = draw(20); turns > 0; turns--) yield* Effect.yieldNow
            if (draw(2) === 0) yield* peer.send("hello\n")
            if (draw(3) === 0) yield* peer.window(0)
            if (draw(4) === 0) yield* peer.reset
            if (draw(4) === 0) yield* TestClock.adjust(draw(150))
          }
          for (let turns = draw(20); turns > 0; turns--) yield* Effect.yieldNow
          yield* server.stop
          yield* TestClock.adjust(2000)
          yield* longer
          assert.isFalse(server.isRunning(), `seed ${seed}`)
          // what was still in the backlog was never accepted
          const seen = events.filter((event) => event._tag !== "Opened").length
          assert.isAtMost(seen, accepted)
          assertBalanced(events, seen)
        }
      }),
    120_000
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// supervision
// ---------------------------------------------------------------------------------------------------------------------

describe("supervision", () => {
  const bug = (): never => {
    throw new Error("bug")
  }
  const numberless = (logged: ReadonlyArray<string>) =>
    logged.map((line) => line.replace(/connection \d+/, "connection n"))

  const faults: Record<string, Partial<Options>> = {
    open: { open: bug },
    handshake: { handshake: bug },
    names: { names: bug },
    handle: { handle: bug }
  }
  for (const [by, fault] of Object.entries(faults)) {
    for (const onEvent of [true, false]) {
      it.effect(`B100 ${by} throws, ${onEvent ? "with" : "without"} onEvent: its connection ends with Defect, logged once`, () =>
        withLogs((logged) =>
          Effect.gen(function*() {
            const registry = yield* Registry.make<string>()
            const opened: Array<Line> = []
            const open = (socket: Parameters<typeof fault.open & {}>[0]) =>
              Effect.tap(lines()(socket), (connection) => Effect.sync(() => opened.push(connection)))
            const server = yield* start({
              registry,
              policy: { maxConnections: 1, whenFull: "reject" },
              open,
              ...fault,
              ...(onEvent ? {} : { onEvent: undefined })
            })
            const peer = yield* server.connectFrom("10.0.0.1:1")
            yield* peer.send("a\n")
            if (by !== "open") yield* gone(peer)
            yield* settle
            for (const connection of opened) {
              const { reason } = yield* connection.snapshot
              assert.deepInclude(reason, { _tag: "Defect", by })
            }
            const of = by === "open" ? "" : " of connection n"
            assert.deepStrictEqual(numberless(logged), [`Error a defect in ${by}${of} (10.0.0.1:1): bug`])
            // neither the permit nor the name is kept
            assert.strictEqual(yield* registry.size, 0)
            yield* server.connectFrom("10.0.0.2:1")
            assert.strictEqual(logged.length, 2)
            if (!onEvent) return
            const [event] = server.events
            if (by !== "handle") {
              assert.isTrue(event._tag === "Refused" && event.reason._tag === "Defect" && event.failure !== undefined)
            } else {
              const { failure, snapshot } = server.closings()[0]
              assert.deepStrictEqual([snapshot.reason?._tag, failure === undefined], ["Defect", false])
            }
          })
        ))
    }
  }

  it.effect("B100 what a handler said before its defect leaves, and the peer is told no text of it", () =>
    Effect.gen(function*() {
      const { connect } = yield* start({
        messages: true,
        open: lines({ outboxMessages: 10 }),
        handle: (connection) =>
          Effect.andThen(connection.sendAll(["a", "b"]), Effect.die(new Error("the password is secret")))
      })
      const peer = yield* connect
      yield* gone(peer)
      assert.match(yield* peer.text, /^ab/)
      assert.notInclude(yield* peer.text, "secret")
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("B100 a refusal, or an open, that throws for a peer that is refused is logged once", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        let opened = 0
        const server = yield* start({
          policy: { maxConnections: 1, whenFull: "reject" },
          open: (socket) => opened++ === 2 ? bug() : lines()(socket),
          refusal: bug
        })
        yield* server.connectFrom("10.0.0.1:1")
        yield* gone(yield* server.connectFrom("10.0.0.2:1"))
        yield* server.connectFrom("10.0.0.3:1")
        assert.deepStrictEqual(server.refusals().map((reason) => reason._tag), ["Refused", "Refused"])
        assert.deepStrictEqual(numberless(logged), [
          "Error a defect in refusal of connection n (10.0.0.2:1): bug",
          "Error a defect in open (10.0.0.3:1): bug"
        ])
      })
    ))

  it.effect("B100 a Defect that the connection had already is told to the handler, and not logged again", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const defect = new ConnectionError.Defect({ by: "heartbeat", cause: Cause.die(new Error("bug")) })
        const { closings, connect } = yield* start({
          handle: (connection) => Effect.andThen(connection.closeWith(defect), connection.receive)
        })
        yield* gone(yield* connect)
        assert.deepStrictEqual(closings().map(({ failure, snapshot }) => [failure, snapshot.reason]), [[
          undefined,
          defect
        ]])
        // nor by a handler that makes a defect of it
        const dies = yield* start({
          handle: (connection) => Effect.andThen(connection.closeWith(defect), Effect.orDie(connection.receive))
        })
        yield* gone(yield* dies.connect)
        assert.strictEqual(dies.closings()[0].snapshot.reason, defect)
        assert.deepStrictEqual(logged, [])
      })
    ))

  it.effect("B100 an onEvent that throws is logged, and changes nothing", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { connect } = yield* start({ onEvent: bug })
        const peer = yield* connect
        assert.isTrue(yield* answers(peer, "a"))
        yield* peer.end
        yield* gone(peer)
        assert.deepStrictEqual(logged, Array(2).fill("Error onEvent of a server failed: bug"))
      })
    ))

  it.effect("B101 the fiber of a connection, killed in its handshake or its handler, gives back what it held", () =>
    Effect.gen(function*() {
      for (const at of ["handshake", "handle"] as const) {
        let fiber: Fiber.Fiber<unknown, unknown> | undefined
        const hangs = () =>
          Effect.withFiber<never>((running) => {
            fiber = running
            return Effect.never
          })
        const registry = yield* Registry.make<string>()
        const server = yield* start({ registry, policy: { maxConnections: 1 }, [at]: hangs })
        const peer = yield* server.connect
        fiber!.interruptUnsafe()
        yield* gone(peer)
        assert.deepStrictEqual(server.tags(), at === "handle" ? ["Opened", "Closed"] : ["Refused"])
        assert.strictEqual(yield* registry.size, 0)
        // the permit is free
        fiber = undefined
        yield* server.connect
        assert.isDefined(fiber)
      }
    }))

  it.effect("B101 what accepts, killed, accepts again a second later, and one log line says so", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const loops: Array<Fiber.Fiber<unknown, unknown>> = []
        const { server } = yield* TestSocket.makeServer()
        const watched: typeof server = {
          ...server,
          run: (handler) =>
            Effect.withFiber((fiber) => {
              loops.push(fiber)
              return server.run(handler)
            })
        }
        const running = yield* Server.run({ open: lines(), handle: echo }).pipe(
          Effect.provideService(SocketServer.SocketServer, watched),
          Effect.forkChild({ startImmediately: true })
        )
        loops[0].interruptUnsafe()
        yield* settle
        assert.deepStrictEqual(logged, ["Error accepting of a server ended and is restarted"])
        yield* TestClock.adjust(999)
        assert.strictEqual(loops.length, 1)
        yield* TestClock.adjust(1)
        assert.strictEqual(loops.length, 2)
        yield* Fiber.interrupt(running)
        assert.isDefined(loops[1].pollUnsafe())
        yield* TestClock.adjust(10_000)
        assert.deepStrictEqual([loops.length, logged.length], [2, 1])
      })
    ))

  it.effect("B101 the fiber of Server.layer, killed, begins again a second later, and one log line says so", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const servers: Array<Fiber.Fiber<unknown, unknown>> = []
        const { server } = yield* TestSocket.makeServer()
        const layer = Server.layer({ open: lines(), handle: echo, policy: { drain: 0 } }).pipe(
          Layer.provide(Layer.succeed(SocketServer.SocketServer, {
            ...server,
            // read by the fiber of the server itself
            get run() {
              servers.push(Fiber.getCurrent()!)
              return server.run
            }
          }))
        )
        const scope = yield* Scope.make()
        yield* Layer.buildWithScope(layer, scope)
        yield* settle
        assert.strictEqual(servers.length, 1)
        servers[0].interruptUnsafe()
        yield* settle
        yield* TestClock.adjust(999)
        assert.strictEqual(servers.length, 1)
        yield* TestClock.adjust(1)
        assert.strictEqual(servers.length, 2)
        assert.deepStrictEqual(logged, [
          "Error a server ended and is restarted: All fibers interrupted without error"
        ])
        yield* Scope.close(scope, Exit.void)
        assert.isDefined(servers[1].pollUnsafe())
      })
    ))

  it.effect("B134 onEvent takes no log away, and `logs: false` does", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const secret = Effect.fail(new Error("db password"))
        for (const logs of [undefined, true, false]) {
          for (const onEvent of [undefined, () => Effect.void]) {
            const failing = yield* start({ handle: () => secret, logs, onEvent })
            yield* failing.connect
            yield* failing.listener.failAccept("out of files")
            yield* settle
            const refusing = yield* start({ handshake: () => secret, logs, onEvent })
            yield* refusing.connect
            const lines = logged.splice(0).map((line) => line.replace(/connection \d+/, "connection"))
            assert.deepStrictEqual(
              lines,
              logs === false ? [] : [
                "Error the handler of connection failed: db password",
                "Warn accepting failed, next try in 5 ms: SocketServerError: Unknown",
                "Info a connection was refused: the handshake failed: db password: db password"
              ]
            )
          }
        }
      })
    ))

  it.effect("B102 accepting again as one's own schedule says; one that ends, or dies, is replaced, and logs once", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const delays = (acceptRetry: Options["acceptRetry"]) =>
          Effect.gen(function*() {
            const server = yield* start({ acceptRetry, logs: false })
            for (let i = 0; i < 4; i++) {
              yield* server.listener.failAccept("out of files")
              yield* settle
              yield* TestClock.adjust(999)
            }
            return server.events.flatMap((event) => event._tag === "AcceptFailed" ? [event.retryAfter] : [])
          })
        assert.deepStrictEqual(yield* delays(undefined), [5, 10, 20, 40])
        assert.deepStrictEqual(yield* delays(Schedule.spaced(100)), [100, 100, 100, 100])
        assert.deepStrictEqual(logged, [])
        assert.deepStrictEqual(yield* delays(Schedule.upTo(Schedule.spaced(100), { times: 2 })), [100, 100, 5, 10])
        assert.deepStrictEqual(logged.splice(0), ["Warn the schedule of accepting has ended: the default goes on"])
        const dying = Schedule.fromStep(Effect.succeed(() => Effect.die(new Error("bug"))))
        assert.deepStrictEqual(yield* delays(dying), [5, 10, 20, 40])
        assert.deepStrictEqual(logged, ["Error the schedule of accepting failed: the default goes on: bug"])
      })
    ))

  it.effect("the handler is listed beside the fibers of its connection, and ends with it", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const { connect } = yield* start({ registry, handle: () => Effect.never })
      const peer = yield* connect
      const [entry] = yield* registry.entries
      const names = Effect.map(
        Connection.fibers(entry!.connection),
        (all) => all.map(({ name, state }) => [name, state])
      )
      assert.deepStrictEqual((yield* names).at(-1), ["handler", "working"])
      yield* peer.reset
      yield* gone(peer)
      assert.deepStrictEqual((yield* names).at(-1), ["handler", "ended"])
      assert.strictEqual((yield* names).length, 6)
    }))

  it.effect("B103 a wrapped connection: its handler ends with it, and it is registered, drained and refused as the one inside", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      let stopped = 0
      const { closings, connect, refusals, stop } = yield* start({
        registry,
        policy: { maxConnections: 2, whenFull: "reject", drain: 1000 },
        refusal: () => "busy",
        open: (socket) =>
          Effect.map(
            lines({ halfClose: 0, drain: 1000 }, { goodbye: "bye" })(socket),
            (connection) => Connection.wrap(connection, { send: (message) => connection.send(`> ${message}`) })
          ),
        handle: (connection) =>
          Effect.onInterrupt(Effect.andThen(connection.send("hello"), Effect.never), () =>
            Effect.sync(() => {
              stopped++
            }))
      })
      const first = yield* connect
      const second = yield* connect
      const third = yield* connect
      yield* gone(third)
      assert.strictEqual(yield* third.text, "> busy\n")
      assert.strictEqual(refusals()[0]._tag, "Refused")
      assert.strictEqual(yield* registry.size, 2)
      yield* first.reset
      yield* gone(first)
      assert.deepStrictEqual([stopped, yield* registry.size, closings()[0].snapshot.reason?._tag], [1, 1, "Reset"])
      yield* stop
      assert.strictEqual(yield* second.text, "> hello\nbye\n")
      yield* TestClock.adjust(1000)
      yield* gone(second)
      assert.deepStrictEqual([stopped, yield* registry.size], [2, 0])
    }))
})

/** What a listener asks a server from the accept of a connection on, as a timeline. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as SocketServer from "effect/socket/SocketServer"
import * as TestClock from "effect/testing/TestClock"
import { Codec, Connection, type Policy, Server } from "../../src/index.ts"
import { Direct, type Directly, type Reception } from "../../src/internal/transport/accepted.ts"
import { TestSocket } from "../../src/testing/index.ts"

/** A server of which a test is the listener. */
const start = Effect.fnUntraced(function*(policy: Policy.Patch) {
  yield* TestClock.adjust(0)
  let reception: Reception | undefined
  const events: Array<string> = []
  const listener = SocketServer.SocketServer.of({
    address: { _tag: "UnixPathAddress", path: "/none" } as never,
    run: (handler: Directly) => {
      reception = handler[Direct]
      return Effect.never
    }
  } as never)
  const running = yield* Server.run({
    policy,
    open: Connection.make({ codec: Codec.lines(), policy }),
    handshake: (connection) => connection.receive,
    handle: () => Effect.never,
    onEvent: (event) =>
      Effect.map(Effect.clockWith((clock) => clock.currentTimeMillis), (at) => {
        const reason = event._tag === "Refused" ? ` ${event.reason._tag} ${event.remote}` : ""
        events.push(`${at} ${event._tag}${reason}`)
      })
  }).pipe(
    Effect.provideService(SocketServer.SocketServer, listener),
    Effect.forkDetach({ startImmediately: true })
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => running.interruptUnsafe()))
  yield* Effect.yieldNow
  return { events, reception: reception!, running }
})

const context = Effect.context<never>()

describe("a connection counts from its accept on", () => {
  it.effect("B118 its handshake has what TLS and the upgrade have left of Policy.handshake, to the millisecond", () =>
    Effect.gen(function*() {
      const { events, reception } = yield* start({ handshake: "10 seconds" })
      const arriving = reception.admit("1.2.3.4:5", () => {})
      assert.strictEqual(arriving.state, "admitted")
      yield* TestClock.adjust(4000)
      const peer = yield* TestSocket.make()
      reception.receive(peer.socket, yield* context, () => {}, arriving)
      yield* TestClock.adjust(5999)
      assert.deepStrictEqual(events, [])
      yield* TestClock.adjust(1)
      assert.lengthOf(events, 1)
      assert.match(events[0]!, /^10000 Refused HandshakeTimeout/)
    }))

  it.effect("B118 one that waits has its time from its turn on, and each end in a handshake frees a place and is told", () =>
    Effect.gen(function*() {
      const { events, reception } = yield* start({ maxConnections: 1, maxWaiting: 1 })
      const turns: Array<string> = []
      const come = (name: string) => reception.admit(name, () => turns.push(name))
      const [first, second, third] = [come("a"), come("b"), come("c")]
      assert.deepStrictEqual([first, second, third].map(({ state }) => state), ["admitted", "waiting", "refused"])
      yield* TestClock.adjust(7)
      first.end({ _tag: "Timeout", limit: 7 })
      assert.deepStrictEqual([turns, second.state], [["b"], "admitted"])
      second.end({ _tag: "Failed", cause: new Error("no TLS") })
      // a refused one was told of before
      third.end({ _tag: "Failed", cause: new Error("no TLS") })
      come("d").end({ _tag: "TooMany", limit: "maxPending", allowed: 3 })
      // one that the listener gives up is no event
      come("e").end()
      assert.strictEqual(come("f").state, "admitted")
      assert.deepStrictEqual(events, [
        "0 Refused Refused c",
        "7 Refused HandshakeTimeout a",
        "7 Refused HandshakeFailed b",
        "7 Refused Refused d"
      ])
    }))

  it.effect("B118 acceptRate and maxConnectionsPerAddress hold before any handshake, to the millisecond", () =>
    Effect.gen(function*() {
      const { reception } = yield* start({ acceptRate: 2, maxConnectionsPerAddress: 1 })
      const turns: Array<string> = []
      const come = (remote: string) => reception.admit(remote, () => turns.push(remote)).state
      assert.deepStrictEqual([come("1.1.1.1:1"), come("1.1.1.1:2"), come("[2001::1]:1"), come("[2001::2]:1")], [
        "admitted",
        "refused",
        "admitted",
        "refused"
      ])
      assert.strictEqual(come("2.2.2.2:1"), "waiting")
      yield* TestClock.adjust(499)
      assert.deepStrictEqual(turns, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(turns, ["2.2.2.2:1"])
    }))

  it.effect("B118 a server that stops refuses who waits and who comes, and interrupts what it tells", () =>
    Effect.gen(function*() {
      const { events, reception, running } = yield* start({ maxConnections: 1, drain: "1 second" })
      reception.admit("a", () => {})
      const turns: Array<string> = []
      const waiting = reception.admit("b", () => turns.push("b"))
      const stopped = yield* Effect.forkChild(Fiber.interrupt(running), { startImmediately: true })
      assert.deepStrictEqual([waiting.state, turns], ["refused", ["b"]])
      assert.strictEqual(reception.admit("c", () => {}).state, "refused")
      yield* TestClock.adjust(1000)
      yield* Fiber.await(stopped)
      assert.deepStrictEqual(events, ["0 Refused Refused b", "0 Refused Refused c"])
    }))
})

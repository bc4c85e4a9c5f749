/** The memory that all connections hold together: what is counted, what stops at the mark, and who goes last. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as SocketServer from "effect/socket/SocketServer"
import { TestClock } from "effect/testing"
import { Codec, Connection, Memory, Policy, Protocol, Server } from "../src/index.ts"
import { TestNetwork, TestSocket } from "../src/testing/index.ts"
import * as Endpoint from "./webSocket/support/endpoint.ts"

const quiet: Policy.Patch = { pingEvery: 0, silence: 0, writeStall: 0, frame: 0, drain: 0 }
const settle = Effect.repeat(Effect.yieldNow, { times: 20 })
const bytes = (size: number) => new Uint8Array(size)

/** A frame of so many bytes, its length included. */
const frame = (size: number) => {
  const all = bytes(size)
  new DataView(all.buffer).setUint32(0, size - 4)
  return all
}

/** A frame of which the last bytes are missing. */
const unfinished = (size: number, announced = 2 * size) => {
  const all = bytes(size)
  new DataView(all.buffer).setUint32(0, announced - 4)
  return all
}

const opener = (memory: Memory.Memory, policy?: Policy.Patch) => () =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const socket = Connection.describe(peer.socket, { messages: false, unsent: peer.unsent })
    const make = Connection.make({ codec: Codec.lengthPrefix(), policy: { ...quiet, ...policy } })
    const c = yield* memory.provide(make(socket))
    return { c, peer }
  })

const reasonOf = (c: Connection.Connection<unknown, never>) =>
  Effect.map(c.snapshot, ({ reason, state }) => (state === "ended" ? reason!._tag : undefined))

describe("B115 what is counted", () => {
  it.effect("B115 messages that are not received, and what they weigh, until they are", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 1e6 })
      const { c, peer } = yield* opener(memory)()
      assert.strictEqual(yield* memory.held, 0)
      yield* peer.send(frame(1000), frame(2000))
      yield* settle
      assert.strictEqual(yield* memory.held, 3000 + 2 * 128)
      yield* c.receive
      yield* c.receive
      assert.strictEqual(yield* memory.held, 0)
    }))

  it.effect("B115 an unfinished frame, what is not decoded, and what waits for its reader", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 1e6 })
      const { peer } = yield* opener(memory)()
      yield* peer.send(unfinished(5000))
      yield* settle
      assert.strictEqual(yield* memory.held, 5000)
      const full = yield* opener(memory, { inboxMessages: 1 })()
      yield* full.peer.send(new Uint8Array([...frame(100), ...frame(100), ...frame(100)]))
      yield* settle
      assert.strictEqual(yield* memory.held, 5000 + 300 + 128)
      yield* full.peer.send(bytes(77))
      yield* settle
      assert.strictEqual(yield* memory.held, 5000 + 377 + 128)
    }))

  it.effect("B115 what is to be sent, and what the transport has of it; nothing is left at the end", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 1e6 })
      const { c, peer } = yield* opener(memory)()
      yield* peer.window(0)
      yield* c.send(bytes(996))
      yield* settle
      assert.strictEqual(yield* memory.held, 1000)
      for (let i = 0; i < 10; i++) yield* c.send(bytes(996))
      yield* settle
      assert.strictEqual(yield* memory.held, 11_000)
      yield* peer.window(Infinity)
      yield* settle
      assert.strictEqual(yield* memory.held, 0)
      yield* peer.send(frame(1000))
      yield* settle
      assert.strictEqual(yield* memory.held, 1128)
      yield* peer.reset
      yield* settle
      assert.strictEqual(yield* memory.held, 0)
    }))

  it.effect("B115 what was received, while its receiver waits to send the answer, and no longer", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 1e6 })
      for (const receive of ["receive", "receiveAll"] as const) {
        const { c, peer } = yield* opener(memory, { outboxBytes: 1000, outboxMessages: 1 })()
        yield* peer.window(0)
        yield* peer.send(new Uint8Array([...frame(3000), ...frame(2000)]))
        yield* settle
        // one is on its way, and one is in the outbox
        yield* c.send(bytes(96))
        yield* settle
        yield* c.send(bytes(96))
        if (receive === "receive") yield* c.receive
        yield* c[receive]
        yield* settle
        const unsent = yield* memory.held
        assert.isAtMost(unsent, 200)
        const answer = yield* Effect.forkChild(c.send(bytes(496)))
        yield* settle
        // the two came in one read: the second one alone is not known
        assert.strictEqual(yield* memory.held, unsent + 500 + 5000 + 2 * 128)
        const next = yield* Effect.forkChild(c[receive])
        yield* settle
        assert.strictEqual(yield* memory.held, unsent + 500)
        yield* Fiber.interrupt(next)
        yield* Fiber.interrupt(answer)
        yield* peer.reset
        yield* settle
        assert.strictEqual(yield* memory.held, 0)
      }
    }))

  it("a limit that is none is refused", () => {
    assert.throws(() => Memory.make({ limit: 0 }), RangeError)
    assert.throws(() => Memory.make({ limit: 1, patience: Number.NaN }), RangeError, "patience")
  })
})

describe("B115 at the mark", () => {
  it.effect("B115 reading stops where most is held; others are read, and so is that one when it is received", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 100_000 })
      const open = opener(memory)
      const heavy = yield* open()
      const others = yield* Effect.forEach(Array.from({ length: 9 }), open)
      yield* heavy.peer.send(frame(76_000))
      yield* settle
      assert.isTrue(yield* memory.isTight)
      yield* heavy.peer.send(frame(1000))
      yield* settle
      assert.strictEqual((yield* heavy.c.snapshot).messagesIn, 1)
      assert.isTrue((yield* heavy.c.snapshot).paused)
      for (const { c, peer } of others) {
        yield* peer.send(frame(500))
        yield* peer.send(frame(500))
        yield* settle
        assert.strictEqual((yield* c.snapshot).messagesIn, 2)
      }
      yield* heavy.c.receive
      // seen when all are counted the next time
      yield* TestClock.adjust(1000)
      assert.isFalse(yield* memory.isTight)
      assert.strictEqual((yield* heavy.c.snapshot).messagesIn, 2)
    }))

  it.effect("B115 at the limit no connection reads on that holds anything: it is passed by one read of each", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 100_000 })
      const open = opener(memory, { inboxMessages: 1e6 })
      const heavy = yield* open()
      const others = yield* Effect.forEach(Array.from({ length: 20 }), open)
      yield* heavy.peer.send(frame(100_000))
      yield* settle
      let most = 0
      for (let round = 0; round < 10; round++) {
        for (const { peer } of others) yield* peer.send(frame(500))
        yield* settle
        most = Math.max(most, yield* memory.held)
      }
      for (const { c } of others) assert.strictEqual((yield* c.snapshot).messagesIn, 1)
      // and one that waits for its reader
      assert.isAtMost(most, 100_128 + others.length * 2 * 628)
      // each message that is received lets the next one in
      for (const { c } of others) yield* c.receive
      yield* settle
      // a turn decodes little at the limit
      yield* settle
      for (const { c } of others) assert.strictEqual((yield* c.snapshot).messagesIn, 2)
    }))

  it.effect("B115 when it lasts, those that hold most are closed, to the millisecond, and no others", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 100_000, patience: "30 seconds" })
      const open = opener(memory)
      const small = yield* open()
      const largest = yield* open()
      const second = yield* open()
      yield* small.peer.send(frame(20_000))
      yield* second.peer.send(unfinished(22_000))
      yield* settle
      yield* largest.peer.send(frame(60_000))
      yield* settle
      assert.isTrue(yield* memory.isTight)
      yield* TestClock.adjust(29_999)
      assert.isUndefined(yield* reasonOf(largest.c))
      yield* TestClock.adjust(1)
      yield* settle
      const { reason } = yield* Effect.flip(largest.c.closed)
      assert.strictEqual(reason._tag, "Refused")
      assert.isTrue(reason._tag === "Refused" && reason.limit === "memory" && reason.allowed === 100_000)
      assert.match(reason.message, /hold all the memory that they may \(100000 bytes\)/)
      assert.isUndefined(yield* reasonOf(small.c))
      assert.isUndefined(yield* reasonOf(second.c))
      assert.isFalse(yield* memory.isTight)
      // what it had not received is gone: its memory was the point
      assert.strictEqual((yield* largest.c.snapshot).inbox.messages, 0)
      assert.strictEqual(yield* memory.held, 20_128 + 22_000)
      yield* TestClock.adjust("10 minutes")
      assert.isUndefined(yield* reasonOf(second.c))
    }))

  it.effect("B115 one that shrinks in time is kept; the time begins anew when memory gets tight again", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 100_000, patience: "30 seconds" })
      const { c, peer } = yield* opener(memory)()
      yield* peer.send(frame(80_000))
      yield* settle
      yield* TestClock.adjust(29_000)
      yield* c.receive
      yield* TestClock.adjust(1000)
      assert.isFalse(yield* memory.isTight)
      yield* peer.send(frame(80_000))
      yield* settle
      yield* TestClock.adjust(29_999)
      assert.isUndefined(yield* reasonOf(c))
      yield* TestClock.adjust(1)
      yield* settle
      assert.strictEqual(yield* reasonOf(c), "Refused")
    }))

  it.effect("B115 a WebSocket is told by code 1013", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 1000, patience: "1 second" })
      const { c, from, peer, sent } = yield* memory.provide(Endpoint.open())
      yield* peer.send(from.text("x".repeat(900)))
      yield* settle
      yield* TestClock.adjust(1000)
      yield* settle
      assert.strictEqual((yield* Effect.flip(c.closed)).reason._tag, "Refused")
      assert.match((yield* sent).at(-1)!, /^close 1013/)
    }))
})

describe("B115 a server", () => {
  const serve = (policy: Policy.Patch) =>
    Effect.gen(function*() {
      const listener = yield* TestSocket.makeServer()
      const events: Array<Server.Event> = []
      const connections: Array<Connection.Connection<string>> = []
      yield* Server.run({
        open: Connection.make({ codec: Codec.lines(), policy: quiet }),
        policy: { writeStall: "30 seconds", ...policy },
        handle: (connection) => {
          connections.push(connection)
          return Effect.never
        },
        onEvent: (event) => Effect.sync(() => events.push(event))
      }).pipe(
        Effect.provideService(SocketServer.SocketServer, listener.server),
        Effect.forkScoped({ startImmediately: true })
      )
      yield* settle
      const tags = () => events.map(({ _tag }) => _tag)
      return { connections, events, listener, tags }
    })

  /** Its first connection holds most of what there may be. */
  const serveHeavy = Effect.fnUntraced(function*(policy: Policy.Patch) {
    const server = yield* serve(policy)
    const heavy = yield* server.listener.connect
    yield* settle
    yield* heavy.send(`${"x".repeat(80_000)}\n`)
    yield* settle
    return server
  })

  it.effect("B115 new connections wait while memory is tight, and are let in when it is not", () =>
    Effect.gen(function*() {
      const { connections, events, listener, tags } = yield* serveHeavy({ memory: 100_000 })
      yield* listener.connect
      yield* settle
      assert.strictEqual(connections.length, 1)
      assert.deepStrictEqual(tags(), ["Opened", "MemoryTight"])
      const [, tight] = events
      assert.isTrue(tight?._tag === "MemoryTight" && tight.limit === 100_000 && tight.held === 80_129)
      yield* TestClock.adjust(500)
      yield* connections[0]!.receive
      yield* TestClock.adjust(249)
      assert.strictEqual(connections.length, 1)
      yield* TestClock.adjust(1)
      yield* settle
      assert.strictEqual(connections.length, 2)
      assert.includeMembers(tags(), ["MemoryFreed"])
    }))

  it.effect("B115 or are refused, by name", () =>
    Effect.gen(function*() {
      const { events, listener } = yield* serveHeavy({ memory: 100_000, whenFull: "reject" })
      yield* listener.connect
      yield* settle
      const refused = events.find(({ _tag }) => _tag === "Refused")
      assert.isTrue(
        refused?._tag === "Refused" && refused.reason._tag === "Refused" && refused.reason.limit === "memory"
      )
    }))

  it.effect("B115 after writeStall the heaviest goes, its handler too, and the one that waited comes in", () =>
    Effect.gen(function*() {
      const { connections, events, listener, tags } = yield* serveHeavy({ memory: 100_000 })
      yield* listener.connect
      yield* TestClock.adjust(29_999)
      assert.deepStrictEqual(tags(), ["Opened", "MemoryTight"])
      yield* TestClock.adjust(1)
      yield* settle
      const closed = events.find(({ _tag }) => _tag === "Closed")
      assert.isTrue(closed?._tag === "Closed" && closed.snapshot.reason?._tag === "Refused")
      assert.strictEqual(connections.length, 2)
      assert.includeMembers(tags(), ["MemoryFreed"])
    }))

  it.effect("B115 two servers may share one budget", () =>
    Effect.gen(function*() {
      const memory = Memory.make({ limit: 100_000 })
      const one = yield* memory.provide(serve({}))
      const two = yield* memory.provide(serve({ memory: 1 }))
      const a = yield* one.listener.connect
      const b = yield* two.listener.connect
      yield* a.send(`${"x".repeat(40_000)}\n`)
      yield* b.send(`${"x".repeat(40_000)}\n`)
      yield* settle
      assert.isTrue(yield* memory.isTight)
      assert.includeMembers(one.tags(), ["MemoryTight"])
      assert.includeMembers(two.tags(), ["MemoryTight"])
    }))

  it.effect("B115 by default it is a third of what the process may have", () =>
    Effect.gen(function*() {
      assert.strictEqual(Policy.defaults.memory, 0)
      const { listener, tags } = yield* serve({})
      const peer = yield* listener.connect
      yield* peer.send(`${"x".repeat(1_000_000)}\n`)
      yield* settle
      assert.deepStrictEqual(tags(), ["Opened"])
    }))
})

describe("B115 on a simulated network", () => {
  for (const kind of ["stream", "webSocket", "native"] as const) {
    it.effect(`B115 ${kind}: peers that never read or never finish do not keep others from being served`, () =>
      Effect.gen(function*() {
        const life = Effect.gen(function*() {
          const network = yield* TestNetwork.make({ seed: kind, latency: "1 millis" })
          const options = { webSocket: kind === "webSocket" }
          const codec = Codec.lengthPrefix()
          const memory = Memory.make({ limit: 1_000_000, patience: "20 seconds" })
          const closed: Array<string> = []
          let most = 0
          const serverOf = kind === "native"
            ? { open: Protocol.server({ codec }), client: Protocol.client({ codec }) }
            : { open: Connection.make({ codec }), client: Connection.make({ codec }) }
          const listener = yield* network.host("server").listen(7000, options)
          yield* memory.provide(Server.run({
            open: serverOf.open,
            policy: { writeStall: "20 seconds" },
            handle: (connection) =>
              Effect.forever(
                Effect.flatMap(connection.receive, (message) =>
                  Effect.andThen(
                    connection.send(message),
                    Effect.map(memory.held, (held) => {
                      most = Math.max(most, held)
                    })
                  ))
              ),
            onEvent: (event) =>
              Effect.sync(() => {
                if (event._tag === "Closed") closed.push(event.snapshot.reason?._tag ?? "none")
              })
          })).pipe(Effect.provideService(SocketServer.SocketServer, listener), Effect.forkScoped)
          const dial = (host: string) => serverOf.client(network.host(host).dial("server:7000", options))
          const honest = yield* dial("honest")
          // their own outboxes and buffers fill up as well
          for (let i = 0; i < 20; i++) {
            const greedy = Effect.flatMap(dial("greedy"), (c) => Effect.forever(c.send(bytes(20_000))))
            yield* Effect.forkScoped(Effect.ignore(Effect.scoped(greedy)))
          }
          const slow: Array<number> = []
          for (let i = 0; i < 60; i++) {
            const at = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
            yield* honest.send(bytes(100))
            yield* honest.receive
            slow.push((yield* Effect.clockWith((clock) => clock.currentTimeMillis)) - at)
            yield* Effect.sleep("1 second")
          }
          assert.isAtMost(Math.max(...slow), 1000)
          assert.isAbove(most, 500_000)
          assert.isAtMost(most, 1_000_000 + 21 * 2 * 65_536)
        }).pipe(Effect.scoped)
        const running = yield* Effect.forkChild(life, { startImmediately: true })
        for (let at = 0; at < 120; at++) yield* TestClock.adjust("1 second")
        yield* Fiber.join(running)
      }))
  }
})

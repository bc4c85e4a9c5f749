/** Holdfast itself over the test network: nothing of it is changed for that. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Queue, Random, Scope, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { Backoff, Client, Codec, Connection, Heartbeat, Registry, Server } from "../../src/index.ts"
import type { ConnectionError, Policy } from "../../src/index.ts"
import { TestNetwork } from "../../src/testing/index.ts"
import { VirtualTime } from "../../src/testing/internal/simulation/virtualTime.ts"
import { long, often } from "../support/often.ts"
import { bytes, settle, takes } from "./support/network.ts"

type Line = Connection.Connection<string>

const lines = (policy?: Policy.Patch, more?: Partial<Connection.Options<string, string>>) =>
  Connection.make({
    codec: Codec.lines(),
    heartbeat: Heartbeat.text("ping", "pong"),
    policy: { pingJitter: 0, ...policy },
    ...more
  })

/** An echo server on `server:7`, and everything that happens to it. */
const serve = Effect.fnUntraced(function*(
  network: TestNetwork.Network,
  options?: { readonly policy?: Policy.Patch; readonly listen?: TestNetwork.ListenOptions }
) {
  const listener = yield* network.host("server").listen(7, { linger: "1 second", ...options?.listen })
  const events = yield* Queue.unbounded<Server.Event>()
  const registry = yield* Registry.make<string>({})
  yield* Server.run({
    open: lines(options?.policy),
    registry,
    handle: (connection) => Stream.runForEach(Connection.batches(connection), connection.sendAll),
    onEvent: (event) => Queue.offer(events, event)
  }).pipe(Effect.provideService(SocketServer.SocketServer, listener), Effect.forkScoped)
  return { events, registry }
})

const reasonOf = (connection: Line): Effect.Effect<ConnectionError.Reason> =>
  Effect.map(Effect.flip(connection.closed), ({ reason }) => reason)

describe("TestNetwork with Holdfast", () => {
  it.effect("a connection and a server talk, and close in order", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      const { events } = yield* serve(network)
      const scope = yield* Scope.make()
      const connection = yield* takes(
        40,
        Scope.provide(lines()(network.host("client").dial("server:7", { linger: "1 second" })), scope)
      )
      yield* connection.send("hello")
      assert.strictEqual(yield* takes(60 - 20, connection.receive), "hello")
      const snapshot = yield* connection.snapshot
      assert.strictEqual(snapshot.remote, "server:7")
      assert.strictEqual(snapshot.local, "client:49152")
      yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("5 seconds")
      const closed = (yield* Queue.takeAll(events)).at(-1)
      assert.deepInclude(closed, { _tag: "Closed" })
      assert.deepStrictEqual((yield* network.snapshot).connections, [])
    }))

  it.effect("a peer that vanished is noticed within the pong limit", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      yield* serve(network)
      const policy = { pingEvery: "10 seconds", pong: "5 seconds" } as const
      const connection = yield* takes(40, lines(policy)(network.host("client").dial("server:7")))
      yield* TestClock.adjust("1 hour")
      yield* network.link("client", "server").vanish
      const reason = yield* Effect.forkChild(reasonOf(connection))
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual((yield* Fiber.join(reason))._tag, "PongTimeout")
    }))

  it.effect("B44 a peer that takes nothing stalls a write, one that takes a little does not", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, sendBuffer: 1000, receiveBuffer: 1000 })
      const listener = yield* network.host("server").listen(7)
      const reads = yield* Queue.unbounded<void>()
      yield* Effect.forkScoped(listener.run((socket) =>
        Effect.gen(function*() {
          const { pull } = yield* socket.reader
          while (true) {
            yield* Queue.take(reads)
            yield* pull
          }
        }).pipe(Effect.scoped, Effect.ignore)
      ))
      const policy = { writeStall: "10 seconds", pingEvery: 0, silence: 0, drain: 0 } as const
      const open = Connection.make({ codec: Codec.lines(), policy })
      const connection = yield* takes(0, open(network.host("client").dial("server:7")))
      const reason = yield* Effect.forkChild(reasonOf(connection))
      yield* connection.send("x".repeat(50_000))
      for (let i = 0; i < 10; i++) {
        yield* TestClock.adjust(9000)
        yield* Queue.offer(reads, undefined)
        yield* settle
      }
      assert.isUndefined(reason.pollUnsafe())
      yield* TestClock.adjust("20 seconds")
      yield* settle
      assert.strictEqual((yield* takes(0, Fiber.join(reason)))._tag, "WriteStalled")
    }))

  it.effect("F3 a stall of the event loop is not taken for death", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      yield* serve(network)
      const host = network.host("client")
      const policy = { pingEvery: "10 seconds", pong: "5 seconds", silence: "30 seconds" } as const
      const connection = yield* takes(40, host.run(lines(policy)(host.dial("server:7"))))
      const reason = yield* Effect.forkChild(reasonOf(connection))
      for (let i = 0; i < 20; i++) {
        yield* TestClock.adjust(10_000 + i * 777)
        yield* host.stall("20 seconds")
        yield* TestClock.adjust("40 seconds")
      }
      assert.isUndefined(reason.pollUnsafe())
      yield* network.link("client", "server").partition
      yield* TestClock.adjust("1 minute")
      assert.isDefined(reason.pollUnsafe())
    }))

  it.effect("a client comes back after a crash of the server", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      yield* serve(network)
      const client = yield* Client.make(Effect.suspend(() => lines()(network.host("client").dial("server:7"))), {
        reconnect: Backoff.exponential({ base: "1 second", cap: "10 seconds" })
      })
      yield* TestClock.adjust(1000)
      yield* client.send("one")
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* client.receive, "one")
      yield* network.host("server").crash
      yield* TestClock.adjust("5 minutes")
      assert.notStrictEqual((yield* client.state)._tag, "Connected")
      yield* network.host("server").restart
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* client.state)._tag, "Connected")
      yield* client.send("two")
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* client.receive, "two")
    }))

  it.effect("B108 a server that stops listens no more: it answers what it has, and a successor takes who comes", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      const host = network.host("server")
      const start = Effect.fnUntraced(function*(answer: string) {
        const scope = yield* Scope.make()
        const listener = yield* Scope.provide(host.listen(7, { linger: "1 second" }), scope)
        const gate = yield* Deferred.make<void>()
        yield* Server.run({
          open: lines({ drain: "10 seconds" }),
          handle: (connection) =>
            Stream.runForEach(
              Connection.messages(connection),
              () => Effect.andThen(Deferred.await(gate), connection.send(answer))
            )
        }).pipe(Effect.provideService(SocketServer.SocketServer, listener), Effect.forkIn(scope))
        return { open: Deferred.succeed(gate, undefined), stop: Scope.close(scope, Exit.void) }
      })
      const dial = () => lines()(network.host("client").dial("server:7"))
      const old = yield* start("old")
      const first = yield* takes(40, dial())
      yield* first.send("hello")
      yield* TestClock.adjust(100)
      const stopping = yield* Effect.forkChild(old.stop, { startImmediately: true })
      yield* TestClock.adjust(100)
      assert.match((yield* takes(40, Effect.flip(dial()))).message, /ECONNREFUSED|refused/)
      const young = yield* start("young")
      yield* young.open
      const second = yield* takes(40, dial())
      yield* second.send("hello")
      assert.strictEqual(yield* takes(40, second.receive), "young")
      yield* old.open
      assert.strictEqual(yield* takes(20, first.receive), "old")
      yield* TestClock.adjust("2 seconds")
      assert.isDefined(stopping.pollUnsafe())
      // its end does not end the listening of the successor
      const third = yield* takes(40, dial())
      yield* third.send("hello")
      assert.strictEqual(yield* takes(40, third.receive), "young")
    }))

  it.effect("messages travel as messages, and a close code is told", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      yield* serve(network, { listen: { messages: true }, policy: { maxAge: "1 minute" } })
      const open = lines()
      const connection = yield* takes(40, open(network.host("client").dial("ws://server:7/live")))
      yield* connection.send("hello")
      assert.strictEqual(yield* takes(40, connection.receive), "hello")
      const sent = (yield* connection.snapshot).bytesOut
      assert.strictEqual(sent, "hello".length, "no newline")
      const reason = yield* Effect.forkChild(reasonOf(connection))
      yield* TestClock.adjust("3 minutes")
      assert.deepInclude(yield* Fiber.join(reason), { _tag: "Closed", by: "peer", code: 1001 })
    }))

  it.effect("what the handler left unread does not reset the peer, with a listener that lingers", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      const listener = yield* network.host("server").listen(7, { linger: "1 second" })
      yield* Server.run({ open: lines(), handle: (connection) => connection.send("bye") }).pipe(
        Effect.provideService(SocketServer.SocketServer, listener),
        Effect.forkScoped
      )
      const connection = yield* takes(40, lines()(network.host("client").dial("server:7")))
      yield* Effect.forkChild(
        Effect.ignore(Effect.forever(Effect.andThen(connection.send("chatter"), Effect.sleep(7))))
      )
      const received = yield* Effect.forkChild(connection.receive)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(received), "bye")
      assert.deepInclude(yield* reasonOf(connection), { _tag: "Closed", by: "peer" })
    }))

  /** Twenty clients, one hour, and everything that can go wrong in it. */
  const hour = (seed: number) => {
    const time = new VirtualTime()
    const scope = Scope.makeUnsafe()
    const heard: Array<string> = []
    const network = time.run(Scope.provide(
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed, latency: { exponential: 20, min: 5 }, linger: "1 second" })
        yield* serve(network)
        for (let i = 0; i < 20; i++) {
          const host = network.host(`client ${i}`)
          const open = Effect.suspend(() => lines()(host.dial("server:7")))
          const client = yield* Client.make(open, {
            reconnect: Backoff.exponential({ base: "1 second", cap: "10 seconds" })
          })
          yield* Effect.forkScoped(
            Effect.ignore(Effect.forever(Effect.map(client.receive, (message) => heard.push(message))))
          )
          yield* Effect.forkScoped(Effect.ignore(Effect.forever(
            Effect.andThen(Effect.sleep(20_000 + 1000 * i), client.send(`from ${i}`))
          )))
        }
        yield* Effect.forkScoped(Effect.gen(function*() {
          for (let i = 0; i < 20; i++) {
            const host = network.host(`client ${i}`)
            yield* Effect.sleep("2 minutes")
            if (i % 4 === 0) yield* Effect.scoped(Effect.andThen(host.link.partition, Effect.sleep("40 seconds")))
            if (i % 4 === 1) yield* host.vanish
            if (i % 4 === 2) yield* host.link.reset
            if (i % 4 === 3) yield* host.stall("10 seconds")
          }
        }))
        return network
      }).pipe(Random.withSeed(seed)),
      scope
    ))
    time.advance(3_600_000)
    const story = time.run(network.fingerprint)
    const open = time.run(network.snapshot).connections.filter(({ client }) => client.state === "ESTABLISHED")
    time.run(Effect.forkDetach(Scope.close(scope, Exit.void)))
    time.advance(60_000)
    return { story, heard: heard.length, open: open.length }
  }

  it("the same seed tells the same story of an hour with faults, another seed another one", () => {
    const [one, again, other] = [hour(1), hour(1), hour(2)]
    assert.deepStrictEqual(one, again)
    assert.notStrictEqual(one.story, other.story)
    assert.isAtLeast(one.heard, 1500)
    assert.strictEqual(one.open, 20)
  }, 120_000)

  const count = often(2000, 10_000)
  it(`${count} connections are open at once, talk, and are gone`, long(120_000), () => {
    const time = new VirtualTime()
    const scope = Scope.makeUnsafe()
    let echoed = 0
    const network = time.run(Scope.provide(
      Effect.gen(function*() {
        const network = yield* TestNetwork.make({ seed: 1, latency: 10 })
        const server = yield* network.host("server").listen(7, { backlog: count })
        yield* Effect.forkScoped(server.run((socket) =>
          Effect.gen(function*() {
            const { pull } = yield* socket.reader
            const { writeAll } = yield* socket.writer
            while (true) yield* writeAll(yield* pull)
          }).pipe(Effect.scoped, Effect.ignore)
        ))
        return network
      }),
      scope
    ))
    const clients = Scope.makeUnsafe()
    for (let i = 0; i < count; i++) {
      time.run(Effect.forkDetach(Effect.ignore(Scope.provide(
        Effect.gen(function*() {
          const socket = network.host("client").dial("server:7")
          const { pull } = yield* socket.reader
          const { write } = yield* socket.writer
          yield* write(bytes(100))
          for (let got = 0; got < 100;) for (const piece of yield* pull) got += piece.length
          echoed++
        }),
        clients
      ))))
    }
    time.advance(1000)
    assert.strictEqual(echoed, count)
    assert.strictEqual(time.run(network.snapshot).connections.length, count)
    time.run(Scope.close(clients, Exit.void))
    time.advance(1000)
    assert.strictEqual(time.run(network.snapshot).connections.length, 0)
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Metric, Schedule, Scope, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { TestClock } from "effect/testing"
import { readFileSync } from "node:fs"
import {
  Backoff,
  Client,
  Codec,
  Connection,
  ConnectionError,
  ConnectionPool,
  Dispatcher,
  Heartbeat,
  Memory,
  Metrics,
  type Policy,
  Registry,
  Request,
  Server
} from "../src/index.ts"
import { Collector } from "../src/internal/telemetry/collector.ts"
import { other } from "../src/internal/telemetry/definitions.ts"
import * as SystemMetrics from "../src/node/SystemMetrics.ts"
import { TestNetwork, TestSocket } from "../src/testing/index.ts"

import { files, pathOf } from "./support/metricsTable.ts"
import { long, often } from "./support/often.ts"

const lines = (policy?: Policy.Patch) =>
  Connection.make({
    codec: Codec.lines(),
    heartbeat: Heartbeat.text("ping", "pong"),
    policy: { pingJitter: 0, ...policy }
  })

/** All series by `name`, or `name{value}` of the label. */
const figures: Effect.Effect<Readonly<Record<string, number>>> = Effect.map(
  Metric.snapshot,
  (snapshot) =>
    Object.fromEntries(snapshot.map(({ attributes = {}, id, state }) => {
      const { unit: _, ...labels } = attributes as Record<string, string>
      const [value] = Object.values(labels)
      const name = id.replace("holdfast_", "")
      const number = "count" in state ? state.count : (state as { readonly value: number }).value
      return [value === undefined ? name : `${name}{${value}}`, Number(number)]
    }))
)

/** What is not 0 of the series whose names begin so. */
const those = (begin: string) =>
  Effect.map(
    figures,
    (all) => Object.fromEntries(Object.entries(all).filter(([name, value]) => name.startsWith(begin) && value !== 0))
  )

const sumOf = (name: string) =>
  Effect.map(
    Metric.snapshot,
    (all) => (all.find(({ id }) => id === `holdfast_${name}`)!.state as { readonly sum: number }).sum
  )

/** With metrics, in a registry of metrics that no other test has. */
const measured = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(
    Effect.provide(Metrics.layer),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )

const settle = Effect.repeat(Effect.yieldNow, { times: 60 })

const serve = Effect.fnUntraced(function*(network: TestNetwork.Network, options?: {
  readonly policy?: Policy.Patch
  readonly server?: Policy.Patch
}) {
  const listener = yield* network.host("server").listen(7)
  const registry = yield* Registry.make<string>({})
  yield* Server.run({
    open: lines(options?.policy),
    policy: options?.server,
    registry,
    handle: (connection) => Stream.runForEach(Connection.batches(connection), connection.sendAll)
  }).pipe(Effect.provideService(SocketServer.SocketServer, listener), Effect.forkScoped)
  return registry
})

describe("Metrics", () => {
  it("the tables of the module and of the guide name every metric, with its kind, unit and label", () => {
    for (const { path, rewritten } of files) {
      const text = readFileSync(pathOf(path), "utf8")
      // `npm run limits` writes them
      assert.strictEqual(text, rewritten(text), path)
    }
  })

  it("names say their unit, and counters that they count", () => {
    for (const { kind, name, unit } of [...Metrics.definitions, ...SystemMetrics.definitions]) {
      assert.match(name, /^holdfast_[a-z_]+$/)
      assert.strictEqual(name.endsWith("_total"), kind === "counter", name)
      if (unit === "s") assert.match(name, /_seconds(_total)?$/)
      if (unit === "By") assert.match(name, /_bytes(_total)?$/)
    }
  })

  it.effect("without the layer there is no metric", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      yield* lines()(peer.socket)
      assert.deepStrictEqual(yield* Metric.snapshot, [])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("with the layer they are there, and with its end they are gone", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        assert.isAbove(Object.keys(yield* figures).length, 100)
      })).pipe(Effect.provide(Metrics.layer))
      assert.deepStrictEqual(yield* Metric.snapshot, [])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("a conversation is counted at both ends, while it lasts and after it", () =>
    measured(Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      yield* serve(network)
      const scope = yield* Scope.make()
      const dialling = yield* Effect.forkChild(
        Scope.provide(lines()(network.host("client").dial("server:7")), scope)
      )
      yield* TestClock.adjust(100)
      const connection = yield* Fiber.join(dialling)
      yield* connection.sendAll(["one", "two"])
      yield* TestClock.adjust(100)
      yield* connection.receiveAll
      assert.deepStrictEqual(yield* those("connections"), { "connections{open}": 2, connections_opened_total: 2 })
      assert.deepStrictEqual(yield* those("sent_"), { sent_bytes_total: 16, sent_messages_total: 4 })
      assert.deepStrictEqual(yield* those("received_"), { received_bytes_total: 16, received_messages_total: 4 })
      assert.deepStrictEqual(yield* those("registry_"), { registry_connections: 1 })
      assert.deepStrictEqual(yield* those("server_"), {
        server_accepted_total: 1,
        server_handled_total: 1,
        server_handshake_seconds: 1
      })
      yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* those("connection"), {
        connections_opened_total: 2,
        "connections_ended_total{Closed}": 2,
        connection_lifetime_seconds: 2
      })
      assert.deepStrictEqual(yield* those("sent_"), { sent_bytes_total: 16, sent_messages_total: 4 })
      assert.deepStrictEqual(yield* those("registry_"), {})
    })))

  it.effect("round trips are those of the network, and a peer that is gone is a missed pong and an end by its rule", () =>
    measured(Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 1, latency: 20 })
      yield* serve(network, { policy: { pingEvery: 0, silence: 0 } })
      const pinging = lines({ pingEvery: "1 second", pong: "500 millis", misses: 2, silence: 0 })
      yield* Effect.forkScoped(pinging(network.host("client").dial("server:7")))
      yield* TestClock.adjust(2300)
      assert.deepStrictEqual(yield* those("round_trip"), { round_trip_seconds: 2 })
      assert.closeTo(yield* sumOf("round_trip_seconds"), 0.08, 1e-9)
      assert.deepStrictEqual(yield* those("p"), { pings_sent_total: 2 })
      yield* network.host("server").crash
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* figures, {
        "connections_ended_by_deadline_total{pong}": 1,
        "connections_ended_total{PongTimeout}": 1,
        pongs_missed_total: 2
      })
    })))

  it.effect("drops are told apart by the policy that did them, and what waits by messages and bytes", () =>
    measured(Effect.gen(function*() {
      yield* TestClock.adjust(0)
      for (const overflow of ["drop-oldest", "drop-newest"] as const) {
        const peer = yield* TestSocket.make()
        yield* peer.window(0)
        // never closed: that would wait for the peer on the clock of a test that is over
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(
          lines({ overflow, outboxMessages: 2, writeStall: 0 })(peer.socket),
          scope
        )
        // the first one is on its way
        yield* connection.send("x")
        yield* settle
        for (let i = 0; i < 5; i++) yield* connection.send("x")
      }
      assert.deepStrictEqual(yield* those("dropped"), {
        "dropped_messages_total{drop-newest}": 3,
        "dropped_messages_total{drop-oldest}": 3
      })
      assert.deepStrictEqual(yield* those("outbox_"), { outbox_messages: 4, outbox_bytes: 8, outbox_largest_bytes: 4 })
    })))

  it.effect("what a server refuses is counted by its limit, and its handshakes with how long they took", () =>
    measured(Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const listener = yield* TestSocket.makeServer()
      const running = yield* Server.run({
        open: lines(),
        policy: { maxConnections: 1, whenFull: "reject" },
        handshake: (connection) => connection.receive,
        handle: () => Effect.never
      }).pipe(Effect.provideService(SocketServer.SocketServer, listener.server), Effect.forkDetach)
      // never waited for: a drain would sleep on the clock of a test that is over
      yield* Effect.addFinalizer(() => Effect.sync(() => running.interruptUnsafe()))
      yield* settle
      const peer = yield* listener.connect
      yield* settle
      assert.deepStrictEqual(yield* those("server_"), { server_opening: 1 })
      yield* listener.connect
      yield* settle
      yield* TestClock.adjust(70)
      yield* peer.send("hi\n")
      yield* settle
      assert.deepStrictEqual(yield* those("server_"), {
        server_accepted_total: 2,
        server_handled_total: 1,
        "server_refused_total{maxConnections}": 1,
        server_handshake_seconds: 1
      })
      assert.strictEqual(yield* sumOf("server_handshake_seconds"), 0.07)
    })))

  it.effect("the memory that connections hold, and may: a budget that two servers share counts once", () =>
    measured(Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const memory = Memory.make({ limit: 1_000_000 })
      const serving = (listener: { readonly server: SocketServer.SocketServer["Service"] }) =>
        memory.provide(Server.run({ open: lines(), handle: () => Effect.never })).pipe(
          Effect.provideService(SocketServer.SocketServer, listener.server),
          Effect.forkDetach
        )
      const [first, second] = [yield* TestSocket.makeServer(), yield* TestSocket.makeServer()]
      const servers = [yield* serving(first), yield* serving(second)]
      yield* Effect.addFinalizer(() => Effect.sync(() => servers.forEach((server) => server.interruptUnsafe())))
      yield* settle
      assert.deepStrictEqual(yield* those("memory_"), { memory_limit_bytes: 1_000_000 })
      const peer = yield* first.connect
      yield* settle
      yield* peer.send(`${"x".repeat(5_000)}\n`)
      yield* settle
      const { memory_held_bytes: held } = yield* those("memory_")
      assert.strictEqual(held, yield* memory.held)
      assert.isAtLeast(held!, 5_000)
    })))

  it.effect("a client's dials are counted by their outcome, and its waits with their delay", () =>
    measured(Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const refused = ConnectionError.make(new ConnectionError.OpenFailed({ cause: "ECONNREFUSED" }))
      const peers: Array<TestSocket.Peer> = []
      let failures = 2
      const open = Effect.gen(function*() {
        if (failures-- > 0) return yield* Effect.fail(refused)
        const peer = yield* TestSocket.make()
        peers.push(peer)
        return yield* lines()(peer.socket)
      })
      const client = yield* Client.make(open, { reconnect: Backoff.constant("3 seconds") })
      yield* settle
      assert.deepStrictEqual(yield* those("client"), {
        "clients{waiting}": 1,
        "client_dials_total{failed}": 1,
        client_reconnects_total: 1,
        client_reconnect_delay_seconds: 1
      })
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(yield* those("client"), {
        "clients{connected}": 1,
        "client_dials_total{failed}": 2,
        "client_dials_total{opened}": 1,
        client_dial_seconds: 1,
        client_reconnects_total: 2,
        client_reconnect_delay_seconds: 2
      })
      assert.strictEqual(yield* sumOf("client_reconnect_delay_seconds"), 6)
      yield* Effect.forkScoped(client.close)
      yield* settle
      assert.notProperty(yield* those("clients"), "clients{connected}")
    })))

  it.effect("pools and dispatchers tell their figures, and keep their counters when they end", () =>
    measured(Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const open = Effect.flatMap(TestSocket.make(), ({ socket }) => lines()(socket))
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(ConnectionPool.make(open, { max: 2 }), scope)
      const work = yield* Scope.provide(Dispatcher.make({ workers: 3 }), scope)
      yield* pool.use(() => work.run(Effect.void))
      yield* settle
      assert.deepStrictEqual(yield* those("pool_"), {
        "pool_connections{idle}": 1,
        pool_misses_total: 1,
        "pool_dials_total{opened}": 1
      })
      assert.deepStrictEqual(yield* those("dispatcher_"), {
        dispatcher_workers: 3,
        "dispatcher_tasks_total{succeeded}": 1
      })
      yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* those("pool_"), {
        pool_misses_total: 1,
        "pool_dials_total{opened}": 1,
        "pool_retired_total{closing}": 1
      })
      assert.deepStrictEqual(yield* those("dispatcher_"), { "dispatcher_tasks_total{succeeded}": 1 })
    })))

  it.effect("requests are counted by their outcome", () =>
    measured(Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const peer = yield* TestSocket.make()
      const requests = yield* Request.make(yield* lines()(peer.socket))
      const asked = yield* Effect.forkChild(requests.request("one"))
      const late = yield* Effect.forkChild(Effect.flip(requests.request("two", { deadline: "1 second" })))
      yield* TestClock.adjust(250)
      yield* peer.send("answer\n")
      assert.strictEqual(yield* Fiber.join(asked), "answer")
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(late)
      assert.deepStrictEqual(yield* those("request"), {
        "requests_total{answered}": 1,
        "requests_total{failed}": 1,
        request_seconds: 1
      })
      assert.strictEqual(yield* sumOf("request_seconds"), 0.25)
    })))

  it.effect("sweeps are counted, with what they closed", () =>
    measured(Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const registry = yield* Registry.make<string>({ every: Schedule.spaced("10 seconds"), expired: () => true })
      const peer = yield* TestSocket.make()
      yield* registry.add(yield* lines()(peer.socket))
      yield* TestClock.adjust("25 seconds")
      assert.deepStrictEqual(yield* those("registry_"), { registry_sweeps_total: 2, registry_swept_total: 1 })
    })))

  it.effect("a label has no value that a peer or an application makes up", () =>
    measured(Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const before = Object.keys(yield* figures).length
      for (let i = 0; i < 50; i++) {
        const peer = yield* TestSocket.make()
        const connection = yield* lines()(peer.socket)
        yield* connection.closeWith(new ConnectionError.Superseded({ key: `user-${i}` }))
      }
      assert.deepStrictEqual(yield* those("connections_ended"), { "connections_ended_total{Superseded}": 50 })
      assert.strictEqual(Object.keys(yield* figures).length, before)
      const collector = new Collector()
      for (let i = 0; i < 50; i++) collector.count("connections_ended_total", 1, `Made up ${i}`)
      assert.strictEqual(collector.figure("connections_ended_total", other), 50)
    })))

  it.effect(
    "10,000 connects, refusals and resets: metrics, registry and events count the same at rest",
    () =>
      measured(Effect.gen(function*() {
        const connects = often(1000, 10_000)
        yield* TestClock.adjust(0)
        const listener = yield* TestSocket.makeServer()
        const registry = yield* Registry.make<string>({ history: connects })
        const counts: Record<string, number> = {}
        const running = yield* Server.run({
          open: lines({ pingEvery: 0, silence: 0 }),
          policy: { maxConnections: 100, whenFull: "reject" },
          registry,
          logs: false,
          onEvent: ({ _tag }) => Effect.sync(() => counts[_tag] = (counts[_tag] ?? 0) + 1),
          handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
        }).pipe(Effect.provideService(SocketServer.SocketServer, listener.server), Effect.forkDetach)
        yield* Effect.addFinalizer(() => Effect.sync(() => running.interruptUnsafe()))
        yield* Effect.yieldNow
        for (let i = 0; i < connects / 250; i++) {
          // 100 at most find room
          const peers = yield* Effect.forEach(Array.from({ length: 250 }), () => listener.connect)
          yield* settle
          for (const [j, peer] of peers.entries()) yield* j % 3 === 0 ? peer.reset : peer.end
          yield* settle
          // what is said of refusals has its second
          yield* TestClock.adjust("2 seconds")
        }
        const all = yield* figures
        const ends = yield* registry.ended()
        const { Closed = 0, Opened = 0, Refused = 0 } = counts
        assert.strictEqual(Opened + Refused, connects)
        assert.isAbove(Opened, connects / 10)
        assert.isAbove(Refused, connects / 10)
        assert.deepInclude(all, {
          server_accepted_total: connects,
          server_handled_total: Opened,
          "server_refused_total{maxConnections}": Refused,
          server_opening: 0,
          server_waiting: 0,
          "connections{open}": 0,
          "connections{draining}": 0,
          "connections{closing}": 0,
          registry_connections: 0,
          registry_overlooked_total: 0
        })
        assert.strictEqual(Closed, Opened)
        assert.strictEqual(ends.length, Closed)
        assert.strictEqual(new Set(ends.map(({ explanation: { snapshot } }) => snapshot.id)).size, Closed)
        // those that are refused are told so by a connection, too
        assert.strictEqual(all.connections_opened_total, connects)
        assert.strictEqual(all.connection_lifetime_seconds, connects)
        const byReason = Object.entries(all).filter(([name]) => name.startsWith("connections_ended_total"))
        assert.strictEqual(byReason.reduce((sum, [, count]) => sum + count, 0), connects)
        for (const reason of ["Reset", "Closed"] as const) {
          const remembered = yield* registry.ended({ reason })
          assert.strictEqual(all[`connections_ended_total{${reason}}`], remembered.length)
        }
      })),
    long(300_000)
  )
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Metric } from "effect"
import { SocketServer } from "effect/socket"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { Codec, Connection, Heartbeat, Registry, Server } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { isLong, long, often } from "./support/often.ts"

v8.setFlagsFromString("--expose-gc")
const gc: () => void = vm.runInNewContext("gc")

const used = Effect.promise(async () => {
  // finalizers and weak references need turns of the event loop between two collections
  for (let i = 0; i < 5; i++) {
    gc()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return process.memoryUsage().heapUsed
})

describe("leaks", () => {
  const each = often(100, 2500)
  const all = 7 * each
  it.live(
    `${all} connections opened and closed leave no fiber and no entry${isLong ? ", and no memory" : ""}`,
    () =>
      Effect.gen(function*() {
        let fibers = 0
        const counting: Metric.FiberRuntimeMetricsService = {
          recordFiberStart: () => {
            fibers++
          },
          recordFiberEnd: () => {
            fibers--
          }
        }
        const counts = { Opened: 0, Closed: 0, Refused: 0, AcceptFailed: 0, MemoryTight: 0, MemoryFreed: 0 }

        yield* Effect.gen(function*() {
          const registry = yield* Registry.make<string>({ history: 100 })
          const listener = yield* TestSocket.makeServer({
            wrap: (socket, index) =>
              Connection.describe(socket, { messages: false, remote: `10.0.0.${index % 50}:${index}` })
          })
          const running = yield* Server.run({
            open: Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") }),
            registry,
            policy: { maxConnections: 90, maxConnectionsPerAddress: 10, handshake: "1 minute" },
            handshake: (connection) => connection.receive,
            names: (connection, session) => ({ key: `${session} ${connection.id % 300}`, tags: ["all", session] }),
            handle: (connection) =>
              Effect.gen(function*() {
                while (true) {
                  const message = yield* connection.receive
                  if (message === "fail") return yield* Effect.fail("as told")
                  yield* connection.send(message)
                }
              }),
            onEvent: (event) =>
              Effect.sync(() => {
                counts[event._tag]++
              })
          }).pipe(
            Effect.provideService(SocketServer.SocketServer, listener.server),
            Effect.forkChild({ startImmediately: true })
          )
          yield* Effect.yieldNow
          const idle = fibers

          // ten more than there are permits, and every way to the end
          const batch = Effect.gen(function*() {
            const peers = yield* Effect.forEach(Array.from({ length: 100 }), (_, i) =>
              Effect.tap(
                listener.connect,
                (peer) => i % 10 === 9 ? Effect.void : peer.send("hello\n", "message\n", i % 10 === 8 ? "fail\n" : "")
              ))
            yield* Effect.forEach(peers, (peer, i) => i % 10 < 8 ? peer.take : Effect.void, {
              concurrency: "unbounded"
            })
            yield* registry.broadcast("news", { tag: "hello" })
            yield* Effect.forEach(peers, (peer, i) => i % 2 === 0 ? peer.end : peer.reset)
            yield* Effect.forEach(peers, (peer) => peer.released)
          })
          const rounds = (connections: number) =>
            Effect.gen(function*() {
              for (let i = 0; i < connections; i += 100) yield* batch
              // the last ones let go of their socket before they are done
              for (let i = 0; i < 200; i++) yield* Effect.yieldNow
              return yield* used
            })

          // the first thousands pay for compiled code
          let before = yield* rounds(2 * each)
          const growth: Array<number> = []
          for (let i = 0; i < 5; i++) {
            const after = yield* rounds(each)
            growth.push((after - before) / each)
            before = after
          }

          assert.strictEqual(fibers, idle)
          assert.strictEqual(yield* registry.size, 0)
          assert.deepStrictEqual(yield* registry.getTag("all"), [])
          assert.strictEqual((yield* registry.history).length, 100)
          assert.strictEqual(counts.Opened, counts.Closed)
          assert.strictEqual(counts.Closed + counts.Refused, all)
          // a leak is in all of them; what the engine keeps for itself comes in one round and goes in the next
          const pairs = growth.slice(1).map((one, i) => (growth[i]! + one) / 2)
          if (isLong) assert.isBelow(Math.min(...pairs), 50, `bytes a connection: ${growth}`)

          yield* Fiber.interrupt(running)
        }).pipe(Effect.scoped, Effect.provideService(Metric.FiberRuntimeMetrics, counting))

        for (let i = 0; i < 100; i++) yield* Effect.yieldNow
        assert.strictEqual(fibers, 0)
      }),
    long(120_000)
  )

  // with its fake socket, which is 9,000 of them
  it.live("an idle connection of a server costs less than 22,500 bytes", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const listener = yield* TestSocket.makeServer()
      yield* Server.run({
        open: Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") }),
        registry,
        policy: { maxConnections: 1000 },
        handle: (connection) => Effect.forever(Effect.flatMap(connection.receive, connection.send))
      }).pipe(Effect.provideService(SocketServer.SocketServer, listener.server), Effect.forkScoped)
      yield* Effect.yieldNow
      const connect = Effect.tap(listener.connect, (peer) => Effect.andThen(peer.send("hello\n"), peer.take))
      yield* Effect.replicateEffect(connect, 100)
      const before = yield* used
      yield* Effect.replicateEffect(connect, 400)
      const each = ((yield* used) - before) / 400
      console.log(`an idle connection: ${Math.round(each)} bytes`)
      assert.isBelow(each, 22_500)
    }).pipe(Effect.scoped))
})

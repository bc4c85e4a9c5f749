/** The heap that idle connections take, with a server and everything on, and without any network below. */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Codec from "../../../src/Codec.ts"
import * as Connection from "../../../src/Connection.ts"
import type * as Policy from "../../../src/Policy.ts"
import * as Registry from "../../../src/Registry.ts"
import * as Server from "../../../src/Server.ts"
import type { Measured } from "../loads.ts"
import { heartbeat } from "../servers/heartbeat.ts"
import { onCommand } from "../support/commands.ts"

const limits = { maxConnections: 1_000_000 }
// a million take minutes to come, no core can ping 40,000 of them in a second, and none of them ever answers: what is
// measured is what they take while nothing happens
const patient = { ...limits, pingEvery: "1 hour", silence: "2 hours" } as const

/** The least that a socket can be: it opens, says nothing and takes everything. */
const silent = (): Socket.Socket =>
  Socket.make({
    reader: Effect.succeed({ pull: Effect.never, upgrade: Socket.SocketUpgradeError.unsupported }),
    writer: Effect.succeed({ write: () => Effect.void, writeAll: () => Effect.void })
  })

const heap = (): number => {
  globalThis.gc!()
  globalThis.gc!()
  return process.memoryUsage().heapUsed
}

/** A listener to which so many come at once. */
const crowd = (connections: number): SocketServer.SocketServer["Service"] => ({
  address: NetAddress.inetAddressFromIpStringUnsafe("127.0.0.1", 7),
  run: (handler) =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      for (let i = 0; i < connections; i++) {
        yield* Effect.forkIn(Effect.ignoreCause(Effect.scoped(handler(silent()))), scope, { startImmediately: true })
      }
      return yield* Effect.never
    }).pipe(Effect.scoped)
})

const opening = (policy: Policy.Patch) => Connection.make({ codec: Codec.lengthPrefix(), heartbeat, policy })

// the scope is never closed: this process ends instead, which is faster than ending 100,000 conversations
const perConnection = <A, E>(connections: number, start: (scope: Scope.Scope) => Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const before = heap()
    yield* start(scope)
    yield* Effect.sleep("100 millis")
    return (heap() - before) / connections
  })

const served = (connections: number, policy: Policy.Patch = limits) =>
  perConnection(connections, (scope) =>
    Effect.gen(function*() {
      const registry = yield* Scope.provide(
        Registry.make<Uint8Array>({ expired: Registry.quietFor("2 hours") }),
        scope
      )
      const server = Server.run({
        open: opening(policy),
        handle: (connection) =>
          Effect.gen(function*() {
            while (true) yield* connection.send(yield* connection.receive)
          }),
        registry,
        policy: { ...policy, drain: 0 }
      })
      yield* Effect.forkIn(Effect.provideService(server, SocketServer.SocketServer, crowd(connections)), scope, {
        startImmediately: true
      })
      while ((yield* registry.size) < connections) yield* Effect.sleep("100 millis")
    }))

const bare = (connections: number) => {
  const open = opening(limits)
  return perConnection(connections, (scope) =>
    Scope.provide(
      Effect.forEach(Array.from({ length: connections }), () => open(silent()), { discard: true }),
      scope
    ))
}

// the heap is exact: more rounds would show the same
const report = (part: string, load: string, heapOf: Effect.Effect<number, unknown>): void =>
  onCommand(part, async (): Promise<Measured> => ({
    load,
    server: "holdfast",
    unit: "B/conn",
    rounds: [await Effect.runPromise(heapOf)]
  }))
report("served", "in-memory served", served(100_000))
report("bare", "in-memory connection", bare(100_000))
for (const connections of [10_000, 100_000, 1_000_000]) {
  report(`served ${connections}`, `growth in memory ${connections}`, served(connections, patient))
}

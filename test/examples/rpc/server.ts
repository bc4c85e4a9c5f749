/**
 * A server of RPC calls that can be replaced while clients call it.
 *
 * What it shows: Effect's RPC over a `Server`; a stop that answers the calls it has; a successor that listens on the same port before
 * the one before it stops.
 */
import { Effect, Exit, Layer, Schedule, Scope, Stream } from "effect"
import { RpcSerialization, RpcServer } from "effect/rpc"
import { SocketServer } from "effect/socket"
import { Listener } from "holdfast/node"
import { ServerProtocol } from "holdfast/rpc"
import { Calls } from "./calls.ts"

/** What the servers have done, all of them together: it would be a database. */
export interface Ledger {
  readonly billed: Array<number>
}

const handlers = (name: string, ledger: Ledger) =>
  Calls.toLayer({
    Bill: ({ order }) =>
      Effect.sync(() => {
        ledger.billed.push(order)
        return { order, by: name }
      }).pipe(Effect.delay("300 millis")),
    Count: ({ to }) =>
      Stream.fromSchedule(Schedule.spaced("100 millis")).pipe(Stream.map((n) => n + 1), Stream.take(to))
  })

/** Starts a server. `stop` accepts no more, asks clients to leave, answers the calls that are there, and returns then. */
export const start = Effect.fnUntraced(function*(url: string, name: string, ledger: Ledger) {
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
  // several may listen on one port
  const listener = yield* Scope.provide(Listener.make(url, { reusePort: true }), scope)
  const server = RpcServer.layer(Calls).pipe(
    Layer.provide(handlers(name, ledger)),
    Layer.provide(ServerProtocol.layer({ policy: { drain: "10 seconds" }, logs: false })),
    Layer.provide([RpcSerialization.layerNdjson, Layer.succeed(SocketServer.SocketServer, listener)])
  )
  yield* Layer.buildWithScope(server, scope)
  return { url: listener.url, stop: Scope.close(scope, Exit.void) }
})

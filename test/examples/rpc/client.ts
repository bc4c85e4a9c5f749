/**
 * A client of RPC calls that comes back, and knows of each call without an answer whether the server may have executed it.
 *
 * What it shows: Effect's RPC over a `ConnectionPool`; a retry that is safe, because `wasExecuted` says so.
 */
import { Effect, Layer, Schedule } from "effect"
import { RpcClient, RpcSerialization } from "effect/rpc"
import { Backoff } from "holdfast"
import { Dialer } from "holdfast/node"
import { ClientProtocol } from "holdfast/rpc"
import { Calls } from "./calls.ts"

const protocol = (url: string) =>
  ClientProtocol.layerPool(Effect.orDie(Dialer.make(url)), {
    // with a pool, new calls go to a new server at once, while the one before it answers on another connection
    pool: { max: 4, retry: Backoff.exponential({ base: "50 millis", cap: "2 seconds" }) },
    // to count twice does no harm
    idempotent: (tag) => tag === "Count"
  }).pipe(Layer.provide(RpcSerialization.layerNdjson))

/** Runs a client for as long as the scope. */
export const make = Effect.fnUntraced(function*(url: string) {
  const context = yield* Layer.build(protocol(url))
  const client = yield* Effect.provideContext(RpcClient.make(Calls), context)
  return {
    count: (to: number) => client.Count({ to }),
    /** Bills an order once. It fails where the server may have billed it, and its answer was lost. */
    bill: (order: number) =>
      Effect.retry(client.Bill({ order }), {
        while: (error) => ClientProtocol.wasExecuted(error) === "no",
        schedule: Schedule.spaced("100 millis")
      })
  }
})

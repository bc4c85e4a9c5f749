/**
 * Holdfast with everything on: heartbeat, deadlines, limits, a bounded outbox, a registry that is swept.
 * Arguments: the address, and `message` (one message at a time) or `batch`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as SocketServer from "effect/socket/SocketServer"
import * as Codec from "../../../src/Codec.ts"
import * as Connection from "../../../src/Connection.ts"
import * as Metrics from "../../../src/Metrics.ts"
import * as Listener from "../../../src/node/Listener.ts"
import * as Registry from "../../../src/Registry.ts"
import * as Server from "../../../src/Server.ts"
import { onCommand } from "../support/commands.ts"
import { heartbeat } from "./heartbeat.ts"

const [url = "tcp://127.0.0.1:0", style = "message"] = process.argv.slice(2)

// the default of 10,000 is below what is measured here
const policy = { maxConnections: 25_000 }

type Handler = (connection: Connection.Connection<Uint8Array>) => Effect.Effect<never, unknown>

// one generator function for all connections: of one that is made for each, V8 keeps all that it closes over until a full
// collection
const perMessage: Handler = Effect.fnUntraced(function*(connection) {
  while (true) yield* connection.send(yield* connection.receive)
})

const perBatch: Handler = Effect.fnUntraced(function*(connection) {
  while (true) yield* connection.sendAll(yield* connection.receiveAll)
})

const program = Effect.gen(function*() {
  const registry = yield* Registry.make<Uint8Array>({ expired: Registry.quietFor("2 minutes") })
  const listener = yield* Listener.make(url)
  onCommand(
    "broadcast",
    ({ bytes }: { readonly bytes: number }) => Effect.runPromise(registry.broadcast(new Uint8Array(bytes).fill(98)))
  )
  console.log(`listening ${listener.url}`)
  return yield* Server.run({
    open: Connection.make({ codec: Codec.lengthPrefix(), heartbeat, policy }),
    handle: style === "batch" ? perBatch : perMessage,
    registry,
    policy
  }).pipe(Effect.provideService(SocketServer.SocketServer, listener))
})

/** Prometheus asks every 15 s or so; once a second is the most that anything would. */
const read = Effect.forever(Effect.delay(PrometheusMetrics.format(), "1 second"))

const measured = Effect.provide(Effect.raceFirst(program, read), Metrics.layer)

NodeRuntime.runMain(Effect.scoped(process.env.HOLDFAST_BENCH_METRICS === "on" ? measured : program))

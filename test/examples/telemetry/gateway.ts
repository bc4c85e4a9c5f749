/**
 * A telemetry gateway: many devices report readings in binary frames, and a few workers store them in batches.
 *
 * What it shows: a binary payload under schemas of two directions, a login in the handshake, and a bounded pool of workers whose
 * back-pressure reaches the devices.
 */
import { Context, Effect, Layer } from "effect"
import { Connection, Dispatcher, Server } from "holdfast"
import { codec, heartbeat, type Report } from "./protocol.ts"

/** Where reports go. Storing one twice, under the same device and time, is as good as once. */
export class Store extends Context.Service<Store, {
  readonly save: (device: number, reports: ReadonlyArray<Report>) => Effect.Effect<void>
}>()("telemetry/Store") {}

/** The workers that store: at most so many batches at a time, however many devices there are. */
export class Work extends Context.Service<Work, Dispatcher.Dispatcher>()("telemetry/Work") {
  static readonly layer = Dispatcher.layer(Work, { workers: 4 })
}

/** Serves devices: a login within 10 s, then reports. A device waits while its reports wait for a worker. */
export const gateway = Effect.gen(function*() {
  const store = yield* Store
  const work = yield* Work
  return Server.layer({
    policy: { maxConnections: 20_000, acceptRate: 1000, handshake: "10 seconds" },
    open: Connection.make({
      codec,
      heartbeat,
      // devices ping; a device that is silent for longer than two of its longest intervals is gone
      policy: { pingEvery: 0, silence: "25 minutes", maxFrame: 4096, inboxMessages: 64 }
    }),
    handshake: (connection) =>
      Effect.flatMap(
        connection.receive,
        (frame) => frame._tag === "Hello" ? Effect.succeed(frame.device) : Effect.fail("no Hello")
      ),
    handle: (connection, device) =>
      Dispatcher.batches(work, connection, (frames) => {
        const reports = frames.filter((frame) => frame._tag === "Report")
        return Effect.andThen(
          store.save(device, reports),
          connection.sendAll(reports.map(({ id }) => ({ _tag: "Stored", id })))
        )
      })
  })
}).pipe(Layer.unwrap)

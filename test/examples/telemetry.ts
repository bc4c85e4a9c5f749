/**
 * A telemetry gateway: many devices report readings in binary frames, and a few workers store them in batches.
 *
 * What it shows: a binary payload under schemas of two directions, a login in the handshake, a bounded pool of workers whose
 * back-pressure reaches the devices, pings that spare a radio, and a device that delivers each report across reconnects.
 *
 * A frame is its length (2 bytes), its type (1 byte) and a body. Numbers are big-endian.
 *
 * | type | frame | body | from |
 * |---|---|---|---|
 * | 1 | Hello | device 4 | the device, first |
 * | 2 | Report | id 4, at 8 (a double, milliseconds), values 4 each (floats) | the device |
 * | 3 | Stored | id 4: that of the report | the gateway |
 * | 4, 5 | Ping, Pong | token 4 | both |
 */
import { Context, Effect, Layer, Schema } from "effect"
import type { Socket } from "effect/socket"
import { Client, Codec, Connection, Dispatcher, Heartbeat, Policy, Request, Server } from "holdfast"

// ---------------------------------------------------------------------------------------------------------------------
// what is spoken
// ---------------------------------------------------------------------------------------------------------------------

const Beat = { Ping: { token: Schema.Finite }, Pong: { token: Schema.Finite } }

/** What devices send. */
const Uplink = Schema.TaggedUnion({
  ...Beat,
  Hello: { device: Schema.Finite },
  Report: { id: Schema.Finite, at: Schema.Finite, values: Schema.Array(Schema.Finite) }
})

/** What the gateway sends. */
const Downlink = Schema.TaggedUnion({ ...Beat, Stored: { id: Schema.Finite } })

type Frame = typeof Uplink.Type | typeof Downlink.Type

export interface Report {
  readonly id: number
  readonly at: number
  readonly values: ReadonlyArray<number>
}

const read = (bytes: Uint8Array): Frame => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const first = view.getUint32(1)
  switch (view.getUint8(0)) {
    case 1:
      return { _tag: "Hello", device: first }
    case 2: {
      const values = Array.from({ length: (bytes.length - 13) / 4 }, (_, i) => view.getFloat32(13 + i * 4))
      return { _tag: "Report", id: first, at: view.getFloat64(5), values }
    }
    case 3:
      return { _tag: "Stored", id: first }
    case 4:
      return { _tag: "Ping", token: first }
    case 5:
      return { _tag: "Pong", token: first }
    default:
      throw new Error(`no frame has type ${bytes[0]}`)
  }
}

const types = ["Hello", "Report", "Stored", "Ping", "Pong"]

const write = (frame: Frame): Uint8Array => {
  const bytes = new Uint8Array(frame._tag === "Report" ? 13 + frame.values.length * 4 : 5)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, types.indexOf(frame._tag) + 1)
  view.setUint32(1, frame._tag === "Hello" ? frame.device : "token" in frame ? frame.token : frame.id)
  if (frame._tag === "Report") {
    view.setFloat64(5, frame.at)
    frame.values.forEach((value, i) => view.setFloat32(13 + i * 4, value))
  }
  return bytes
}

/** The gateway's end: it reads what devices send. What `read` throws ends the connection with `InvalidMessage`. */
const codec = Codec.lengthPrefix({ bytes: 2 }).pipe(
  Codec.map({ format: "telemetry", decode: read, encode: write }),
  Codec.schema(Uplink, Downlink)
)

const heartbeat = Heartbeat.tagged("Ping", "Pong", { token: "token" })

// ---------------------------------------------------------------------------------------------------------------------
// the gateway
// ---------------------------------------------------------------------------------------------------------------------

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

// ---------------------------------------------------------------------------------------------------------------------
// a device
// ---------------------------------------------------------------------------------------------------------------------

export const open = Connection.make({
  codec: Codec.flip(codec),
  heartbeat,
  // between one and ten minutes: each ping wakes a radio
  pings: Heartbeat.adaptive({ min: "1 minute", max: "10 minutes" }),
  policy: Policy.make({ silence: "25 minutes", pong: "30 seconds", misses: 2 }, Policy.mobile)
})

/** A device: `report` returns once its report is stored, over any number of connections. */
export const device = Effect.fnUntraced(function*<R>(id: number, dial: Effect.Effect<Socket.Socket, never, R>) {
  const client = yield* Client.make(Effect.flatMap(dial, open), {
    policy: { retryBase: "1 second", retryCap: "5 minutes" },
    onConnect: (connection) => connection.send({ _tag: "Hello", device: id })
  })
  const requests = yield* Request.make(client.connection, {
    inFlight: 16,
    connections: 1,
    idempotent: true,
    retries: Infinity,
    deadline: 0,
    correlate: {
      request: (frame, id) => ({ ...frame, id }),
      response: (frame) => frame.id
    }
  })
  return {
    client,
    report: (at: number, values: ReadonlyArray<number>) => requests.request({ _tag: "Report", id: 0, at, values })
  }
})

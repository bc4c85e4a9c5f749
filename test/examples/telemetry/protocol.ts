/**
 * What devices and the gateway speak. A frame is its length (2 bytes), its type (1 byte) and a body. Numbers are big-endian.
 *
 * | type | frame | body | from |
 * |---|---|---|---|
 * | 1 | Hello | device 4 | the device, first |
 * | 2 | Report | id 4, at 8 (a double, milliseconds), values 4 each (floats) | the device |
 * | 3 | Stored | id 4: that of the report | the gateway |
 * | 4, 5 | Ping, Pong | token 4 | both |
 */
import { Schema } from "effect"
import { Codec, Heartbeat } from "holdfast"

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
export const codec = Codec.lengthPrefix({ bytes: 2 }).pipe(
  Codec.map({ format: "telemetry", decode: read, encode: write }),
  Codec.schema(Uplink, Downlink)
)

export const heartbeat = Heartbeat.tagged("Ping", "Pong", { token: "token" })

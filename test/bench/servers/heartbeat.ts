/** A ping whose echo is its pong: 8 bytes, the last four of them the token. A load that is not running just echoes it. */
import * as Heartbeat from "../../../src/Heartbeat.ts"

export const pingSize = 8
const mark = 0xff9a9bff

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

export const heartbeat = Heartbeat.make<Uint8Array, Uint8Array>({
  ping: (token) => {
    const bytes = new Uint8Array(pingSize)
    view(bytes).setUint32(0, mark)
    view(bytes).setUint32(4, token)
    return bytes
  },
  read: (message) =>
    message.length === pingSize && view(message).getUint32(0) === mark
      ? { _tag: "Pong", token: view(message).getUint32(4) }
      : undefined
})

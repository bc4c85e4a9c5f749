/** Writes the frames of a WebSocket: messages, each in one frame, and control frames. */
import * as Result from "effect/Result"
import { uncleared } from "../bytes/memory.ts"
import { type Halves, type HalvesOptions, payloadLimit } from "../codec/assembly.ts"
import { Encoder, type Outbound } from "../codec/encoder.ts"
import { ours } from "../codec/framing.ts"
import type { WebSocketLink } from "../transport/transport.ts"
import { FIN, headerSize, maskInto, Opcode, writeHeader } from "./frames.ts"

type MaskKey = WebSocketLink["maskKey"]

const writeFrame = (opcode: number, payload: Uint8Array, target: Uint8Array, at: number, maskKey: MaskKey): void => {
  const key = maskKey?.()
  const start = writeHeader(target, at, FIN | opcode, payload.length, key)
  if (key === undefined) target.set(payload, start)
  else maskInto(payload, 0, payload.length, target, start, key)
}

/** One frame by itself. */
export const frameOf = (opcode: number, payload: Uint8Array, maskKey: MaskKey): Uint8Array => {
  const frame = uncleared(headerSize(payload.length, maskKey !== undefined) + payload.length)
  writeFrame(opcode, payload, frame, 0, maskKey)
  return frame
}

/** How messages of a form are framed. A server's large payload is left where it is; a client's is masked, which is a copy. */
const framingOf = (form: "bytes" | "text", maskKey: MaskKey): Outbound => {
  const opcode = form === "text" ? Opcode.text : Opcode.binary
  const isMasked = maskKey !== undefined
  return ours({
    name: "webSocket",
    skips: false,
    encode: (payload: Uint8Array) => Result.succeed(frameOf(opcode, payload, maskKey)),
    encodedSize: (payload: Uint8Array) => headerSize(payload.length, isMasked) + payload.length,
    encodeInto: (payload: Uint8Array, target: Uint8Array, at: number) =>
      writeFrame(opcode, payload, target, at, maskKey),
    encodeHeader: isMasked
      ? undefined
      : (payload: Uint8Array, target: Uint8Array, at: number) => {
        writeHeader(target, at, FIN | opcode, payload.length)
      }
  })
}

/** Makes the encoder that connections of the same options and the same mask share. */
export const webSocketEncoderOf = <In, Out>(
  codec: Halves<In, Out>,
  maskKey: MaskKey,
  limits: Pick<HalvesOptions, "maxFrame">
): Encoder<Out> => new Encoder(framingOf(codec.payload.form, maskKey), codec.payload, payloadLimit(codec, limits), true)

/** Puts the payload half of a codec into the frames of a WebSocket, for one connection or for many. */
import { type Halves, type HalvesOptions, payloadLimit } from "../codec/assembly.ts"
import { Encoder } from "../codec/encoder.ts"
import type { WebSocketLink } from "../transport/transport.ts"
import { WebSocketDecoder } from "./decoder.ts"
import { framingOf } from "./encoding.ts"
import type { Role } from "./reader.ts"

type Limits = Pick<HalvesOptions, "maxFrame">

/** Makes the decoder of one connection. */
export const webSocketDecoderOf = <In, Out>(codec: Halves<In, Out>, role: Role, limits: Limits): WebSocketDecoder<In> =>
  new WebSocketDecoder(codec, role, payloadLimit(codec, limits))

/** Makes the encoder that connections of the same options and the same mask share. */
export const webSocketEncoderOf = <In, Out>(
  codec: Halves<In, Out>,
  maskKey: WebSocketLink["maskKey"],
  limits: Limits
): Encoder<Out> => new Encoder(framingOf(codec.payload.form, maskKey), codec.payload, payloadLimit(codec, limits), true)

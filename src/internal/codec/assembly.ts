/** Puts the two halves of a codec together, for one connection or for many. */
import * as Result from "effect/Result"
import { FrameTooLong } from "../../ConnectionError.ts"
import { sizeOver } from "../bytes/sizes.ts"
import { Appender } from "./decoder.ts"
import { Encoder } from "./encoder.ts"
import { type Framing, integer } from "./framing.ts"
import type { Payload } from "./payload.ts"
import { defaultMaxDecoded } from "./room.ts"

/** What a codec is, without its combinators. */
export interface Halves<out In, in Out> {
  readonly framing: Framing
  readonly payload: Payload<In, Out>
  readonly maxFrame: number | undefined
}

export interface HalvesOptions {
  readonly maxFrame?: number | undefined
  readonly maxDecoded?: number | undefined
  readonly transport?: "stream" | "messages" | undefined
}

/** For the payload of a frame, in bytes, when nothing else sets it. */
export const defaultMaxFrame = 1024 * 1024

/** The lower of the caller's limit and the codec's own. */
export const payloadLimit = (codec: Halves<unknown, never>, options: HalvesOptions): number => {
  const asked = options.maxFrame === undefined ? undefined : integer("maxFrame", options.maxFrame, 1)
  return Math.min(asked ?? codec.maxFrame ?? defaultMaxFrame, codec.maxFrame ?? Infinity)
}

/** The most that one message may weigh: one of the longest text fits four times. */
export const decodedLimit = ({ maxDecoded }: HalvesOptions, limit: number): number =>
  maxDecoded === undefined ? Math.max(defaultMaxDecoded, 4 * limit) : integer("maxDecoded", maxDecoded, 1)

/** Makes the decoder of one connection: it holds that connection's unfinished frame. */
export const decoderOf = <In, Out>(codec: Halves<In, Out>, options: HalvesOptions, copies = false): Appender<In> => {
  const limit = payloadLimit(codec, options)
  const { transport } = options
  return new Appender({
    ...codec,
    limit,
    copies,
    maxDecoded: decodedLimit(options, limit),
    apart: transport === "messages"
  })
}

/** Makes the encoder that connections of the same options share. */
export const encoderOf = <In, Out>(codec: Halves<In, Out>, options: HalvesOptions): Encoder<Out> =>
  new Encoder(codec.framing, codec.payload, payloadLimit(codec, options), options.transport !== "messages")

/** The payload half with the size limit, for messages that travel without a framing. */
export const payloadOf = <In, Out>(codec: Halves<In, Out>, options: HalvesOptions): Payload<In, Out> => {
  const { payload } = codec
  const limit = payloadLimit(codec, options)
  const most = decodedLimit(options, limit)
  const tooLong = (direction: "decode" | "encode", size: number) =>
    Result.fail(new FrameTooLong({ direction, size, limit }))
  return {
    form: payload.form,
    content: payload.content,
    decode(frame, scale = { most, weight: 0 }) {
      const over = sizeOver(frame, limit)
      return over > 0 ? tooLong("decode", over) : payload.decode(frame, scale)
    },
    encode(message) {
      const encoded = payload.encode(message)
      const over = Result.isFailure(encoded) ? 0 : sizeOver(encoded.success, limit)
      return over > 0 ? tooLong("encode", over) : encoded
    }
  }
}

/** Writes the frames of a WebSocket: messages, each in one frame and compressed where that was agreed to, and control frames. */
import * as Result from "effect/Result"
import type { CodecReason } from "../../ConnectionError.ts"
import { uncleared } from "../bytes/memory.ts"
import { sizeOf } from "../bytes/sizes.ts"
import { utf8 } from "../bytes/utf8.ts"
import { type Halves, type HalvesOptions, payloadLimit } from "../codec/assembly.ts"
import { Encoder, type Frame, Framed, type Outbound } from "../codec/encoder.ts"
import { ours } from "../codec/framing.ts"
import { type Compression, CompressionContext } from "../transport/compression.ts"
import type { WebSocketLink } from "../transport/transport.ts"
import { FIN, headerSize, maskInto, Opcode, RSV1, writeHeader } from "./frames.ts"

type MaskKey = WebSocketLink["maskKey"]

/** `opcode` may have `RSV1` beside it. */
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

// ---------------------------------------------------------------------------------------------------------------------
// compressed
// ---------------------------------------------------------------------------------------------------------------------

const noContext = new CompressionContext(0)
const nothing = new Uint8Array(0)

/** A message in one frame, compressed where that makes it shorter. */
export const messageFrameOf = (
  opcode: number,
  message: Uint8Array,
  maskKey: MaskKey,
  compression: Compression | undefined,
  context = noContext
): Uint8Array => {
  if (compression === undefined || message.length < compression.threshold) return frameOf(opcode, message, maskKey)
  const compressed = compression.deflate(message, context.bytes)
  if (compressed === undefined) return frameOf(opcode, message, maskKey)
  context.add(message)
  return frameOf(opcode | RSV1, compressed, maskKey)
}

/** As `framing`, but for what is compressed, each message by itself. */
const deflating = (framing: Outbound, opcode: number, maskKey: MaskKey, compression: Compression): Outbound =>
  ours({
    ...framing,
    encode: (payload: Uint8Array) => Result.succeed(messageFrameOf(opcode, payload, maskKey, compression)),
    encodedSize: (payload: Uint8Array) => payload.length < compression.threshold ? framing.encodedSize!(payload) : -1
  })

/** A message that is compressed when it leaves: what is dropped before that is nothing that the next one could refer to. */
class Deferred extends Framed {
  private readonly size: number
  private make: (() => Uint8Array) | undefined

  constructor(size: number, make: () => Uint8Array) {
    super(nothing, nothing)
    this.size = size
    this.make = make
  }

  override get byteLength(): number {
    return this.size
  }

  override leave(): void {
    if (this.make !== undefined) this.payload = this.make()
    this.make = undefined
  }
}

/** The encoder of one connection, whose messages refer to those before. What is encoded elsewhere is not compressed. */
class ContextEncoder<in Out> extends Encoder<Out> {
  private readonly opcode: number
  private readonly maskKey: MaskKey
  private readonly compression: Compression
  private readonly context: CompressionContext

  constructor(codec: Halves<unknown, Out>, maskKey: MaskKey, limit: number, compression: Compression) {
    const { form } = codec.payload
    super(framingOf(form, maskKey), codec.payload, limit, false)
    this.opcode = form === "text" ? Opcode.text : Opcode.binary
    this.maskKey = maskKey
    this.compression = compression
    this.context = new CompressionContext(compression.sentContext)
  }

  /** The memory of the message is the sender's again before it leaves. */
  override frame(): Framed {
    const { body, compression, context, maskKey, opcode } = this
    const message = typeof body === "string" ? body : body.slice()
    const size = sizeOf(message)
    return new Deferred(headerSize(size, maskKey !== undefined) + size, () => {
      const bytes = typeof message === "string" ? utf8(message) : message
      return messageFrameOf(opcode, bytes, maskKey, compression, context)
    })
  }

  override encode(message: Out): Result.Result<Frame, CodecReason> {
    const failure = this.prepare(message)
    if (failure !== undefined) return Result.fail(failure)
    const { body } = this
    return Result.succeed(frameOf(this.opcode, typeof body === "string" ? utf8(body) : body, this.maskKey))
  }
}

/** Makes the encoder that connections of the same options, the same mask and the same compression share. */
export const webSocketEncoderOf = <In, Out>(
  codec: Halves<In, Out>,
  maskKey: MaskKey,
  limits: Pick<HalvesOptions, "maxFrame">,
  compression?: Compression
): Encoder<Out> => {
  const { form } = codec.payload
  const limit = payloadLimit(codec, limits)
  if (compression !== undefined && compression.sentContext > 0) {
    return new ContextEncoder(codec, maskKey, limit, compression)
  }
  const plain = framingOf(form, maskKey)
  const framing = compression === undefined
    ? plain
    : deflating(plain, form === "text" ? Opcode.text : Opcode.binary, maskKey, compression)
  return new Encoder(framing, codec.payload, limit, true)
}

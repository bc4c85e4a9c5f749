/** Reads the messages of one connection: framing and payload put together. */
import * as Result from "effect/Result"
import type { CodecReason, FrameTooLong } from "../../ConnectionError.ts"
import { Truncated } from "../../ConnectionError.ts"
import { sizeOver } from "../bytes/sizes.ts"
import { utf8 } from "../bytes/utf8.ts"
import type { FrameDecoder, Framing } from "./framing.ts"
import { tooLong } from "./framing.ts"
import * as Payloads from "./payload.ts"

/**
 * What one chunk brought.
 *
 * @category running
 * @since 0.1.0
 */
export interface Decoded<out In> {
  /** The complete messages, in order, including those before an error. */
  readonly messages: ReadonlyArray<In>
  /**
   * The over-long frames that were passed over, once each (`tooLong: "skip"`). Next to an `InvalidMessage` also those
   * that came after it in the same chunk.
   */
  readonly skipped: ReadonlyArray<FrameTooLong>
  /** What the stream cannot go on after. */
  readonly error: CodecReason | undefined
}

/**
 * Reads one connection's bytes. Holds state: make one per connection.
 *
 * @category running
 * @since 0.1.0
 */
export interface Decoder<out In> {
  /**
   * Reads a chunk, or one whole frame where the transport keeps messages apart. After an error every call returns that
   * same error. The chunk belongs to the decoder from now on.
   */
  readonly write: (chunk: Uint8Array | string) => Decoded<In>
  /** Ends the stream: `Truncated` when it ended inside a frame, the error when there was one. */
  readonly end: () => CodecReason | undefined
  /** Bytes that have come of the unfinished frame, header and skipped bytes included; 0 between frames. */
  readonly pending: number
}

/** Reads chunks and adds the frames they complete. */
type ReadFrames = (
  chunk: Uint8Array | string,
  frames: Array<unknown>,
  skipped: Array<FrameTooLong>
) => CodecReason | undefined

/** Each chunk is a frame. */
const whole = (skips: boolean, limit: number): ReadFrames => (chunk, frames, skipped) => {
  const size = sizeOver(chunk, limit)
  if (size > 0 && !skips) return tooLong(size, limit)
  if (size > 0) skipped.push(tooLong(size, limit))
  else frames.push(chunk)
  return undefined
}

/** The decoder of a connection: one object, which adds to what its owner has. */
export class Appender<In> implements Decoder<In> {
  private readonly stream: FrameDecoder | undefined
  // without a framing
  private readonly whole: ReadFrames | undefined
  // the framing gives text
  private readonly texts: boolean
  private readonly payload: Payloads.Payload<In, never>
  // frames of bytes, and lines of text, are the messages themselves: nothing is allocated for each
  private readonly direct: boolean
  private dead: CodecReason | undefined
  /** The over-long frames that were passed over since the connection emptied this. */
  skipped: Array<FrameTooLong> = []

  constructor(framing: Framing, payload: Payloads.Payload<In, never>, limit: number, messagesApart: boolean) {
    const stream = messagesApart ? undefined : framing.decoder(limit)
    const texts = payload.form === "text" && stream?.writeText !== undefined
    const known: unknown = payload
    this.stream = stream
    this.payload = payload
    this.texts = texts
    this.whole = stream === undefined ? whole(framing.skips, limit) : undefined
    this.direct = (known === Payloads.bytes && stream !== undefined) || (known === Payloads.text && texts)
  }

  private read(chunk: Uint8Array | string, frames: Array<unknown>): CodecReason | undefined {
    const { skipped, stream } = this
    if (stream === undefined) return this.whole!(chunk, frames, skipped)
    const bytes = typeof chunk === "string" ? utf8(chunk) : chunk
    return this.texts
      ? stream.writeText!(bytes, frames as Array<string>, skipped)
      : stream.write(bytes, frames as Array<Uint8Array>, skipped)
  }

  /** Adds the messages that a chunk completes, and says what the stream cannot go on after. */
  append(chunk: Uint8Array | string, messages: Array<In>): CodecReason | undefined {
    if (this.dead !== undefined) return this.dead
    return this.dead = this.direct ? this.read(chunk, messages) : this.appendDecoded(chunk, messages)
  }

  private appendDecoded(chunk: Uint8Array | string, messages: Array<In>): CodecReason | undefined {
    const frames: Array<Uint8Array | string> = []
    const failure = this.read(chunk, frames)
    for (const frame of frames) {
      const message = this.payload.decode(frame)
      if (Result.isFailure(message)) return message.failure
      messages.push(message.success)
    }
    return failure
  }

  get pending(): number {
    return this.dead === undefined && this.stream !== undefined ? this.stream.pending : 0
  }

  end(): CodecReason | undefined {
    return this.dead ?? (this.pending > 0 ? new Truncated({ leftover: this.pending }) : undefined)
  }

  get write(): (chunk: Uint8Array | string) => Decoded<In> {
    return (chunk) => {
      const messages: Array<In> = []
      const error = this.append(chunk, messages)
      const { skipped } = this
      this.skipped = []
      return { messages, skipped, error }
    }
  }
}

/** Reads the messages of one connection: framing and payload put together. */
import * as Result from "effect/Result"
import type { CodecReason, FrameTooLong } from "../ConnectionError.ts"
import { Truncated } from "../ConnectionError.ts"
import type { Framing } from "./framing.ts"
import { tooLong } from "./framing.ts"
import * as Payloads from "./payload.ts"
import { utf8, utf8Size } from "./utf8.ts"

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

/** The size of a frame over the limit, or 0; text counts as UTF-8, and is counted only when it may be too long. */
export const sizeOver = (frame: Uint8Array | string, limit: number): number => {
  if (typeof frame === "string" && frame.length * 3 <= limit) return 0
  const size = typeof frame === "string" ? utf8Size(frame) : frame.length
  return size > limit ? size : 0
}

const nothing: Decoded<never> = { messages: [], skipped: [], error: undefined }

/** Reads chunks and adds the frames they complete. */
type Read = (
  chunk: Uint8Array | string,
  frames: Array<unknown>,
  skipped: Array<FrameTooLong>
) => CodecReason | undefined

/** Each chunk is a frame. */
const whole = (skips: boolean, limit: number): Read => (chunk, frames, skipped) => {
  const size = sizeOver(chunk, limit)
  if (size > 0 && !skips) return tooLong(size, limit)
  if (size > 0) skipped.push(tooLong(size, limit))
  else frames.push(chunk)
  return undefined
}

export const makeDecoder = <In, Out>(
  framing: Framing,
  payload: Payloads.Payload<In, Out>,
  limit: number,
  messagesApart: boolean
): Decoder<In> => {
  const stream = messagesApart ? undefined : framing.decoder(limit)
  const texts = payload.form === "text" ? stream?.writeText : undefined
  const write = texts ?? stream?.write
  const read: Read = write === undefined
    ? whole(framing.skips, limit)
    : (chunk, found, skipped) => write(typeof chunk === "string" ? utf8(chunk) : chunk, found as Array<never>, skipped)
  // frames of bytes, and lines of text, are the messages themselves: nothing is allocated for each
  const known: unknown = payload
  const direct = (known === Payloads.bytes && stream !== undefined) || (known === Payloads.text && texts !== undefined)
  // plain `let`s: one connection owns them
  let dead: Decoded<In> | undefined
  let frames: Array<unknown> = []
  let skipped: Array<FrameTooLong> = []

  const decodeAll = (messages: Array<In>): CodecReason | undefined => {
    for (const frame of frames) {
      const message = payload.decode(frame as Uint8Array | string)
      if (Result.isFailure(message)) return message.failure
      messages.push(message.success)
    }
    return undefined
  }

  const pending = () => dead === undefined && stream !== undefined ? stream.pending : 0

  return {
    get pending() {
      return pending()
    },
    end() {
      if (dead !== undefined) return dead.error
      return pending() > 0 ? new Truncated({ leftover: pending() }) : undefined
    },
    write(chunk) {
      if (dead !== undefined) return dead
      const failure = read(chunk, frames, skipped)
      if (frames.length === 0 && skipped.length === 0 && failure === undefined) return nothing
      const messages: Array<In> = direct ? (frames as Array<In>) : []
      const error = (direct ? undefined : decodeAll(messages)) ?? failure
      const decoded: Decoded<In> = { messages, skipped, error }
      if (error !== undefined) dead = { messages: [], skipped: [], error }
      frames = []
      skipped = []
      return decoded
    }
  }
}

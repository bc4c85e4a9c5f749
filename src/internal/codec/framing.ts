/** What a framing is, and what all of them share; each has a file in `framings`. */
import type * as Result from "effect/Result"
import type { CodecReason } from "../../ConnectionError.ts"
import { FrameTooLong, InvalidMessage } from "../../ConnectionError.ts"

/**
 * Finds the frames of one connection's byte stream. Holds state: make one per connection.
 *
 * **Gotchas**
 *
 * - After `write` returned an error it must not be called again; `Codec.decoder` sees to that.
 * - A framing that passes a chunk on to another one must not look at it later: the memory of large chunks may be given
 *   back once their frame was joined.
 *
 * @category framing
 * @since 0.1.0
 */
export interface FrameDecoder {
  /**
   * Reads a chunk, adds the frames it completes to `frames` (they may be views of the chunk) and the over-long ones
   * that are passed over to `skipped`, once each. Returns the error the stream cannot go on after.
   */
  readonly write: (
    chunk: Uint8Array,
    frames: Array<Uint8Array>,
    skipped: Array<FrameTooLong>
  ) => CodecReason | undefined
  /** The same with frames as text, for framings that decode many of them at once. */
  readonly writeText?: (
    chunk: Uint8Array,
    frames: Array<string>,
    skipped: Array<FrameTooLong>
  ) => CodecReason | undefined
  /** Bytes that have come of the unfinished frame: its header, what is held, and what was skipped. 0 between frames. */
  readonly pending: number
}

/**
 * What the decoders of this library's framings have beyond that: they stop once they have found as many frames as they were
 * asked for, so that what waits behind a full inbox waits as bytes.
 */
export interface Stopping extends FrameDecoder {
  /** The most frames that the array of a call holds when it returns. */
  mostFrames: number
  /** Where in the chunk the last call stopped: its end, where all of it was read. Not set by a call that failed. */
  stoppedAt: number
  /** Whether small frames in a large chunk are copied, so that they do not keep it alive. */
  copies: boolean
}

export const isStopping = (decoder: FrameDecoder): decoder is Stopping => "stoppedAt" in decoder

/**
 * Says where a frame ends in a byte stream, and writes the payload of a frame so that it can be found again.
 *
 * @category framing
 * @since 0.1.0
 */
export interface Framing {
  /** A name for people: `"lines"`, `"lengthPrefix"`. */
  readonly name: string
  /** Whether an over-long frame is passed over instead of ending the stream. */
  readonly skips: boolean
  /** A decoder for one connection. `maxFrame` bounds the payload in bytes, checked before anything is allocated. */
  readonly decoder: (maxFrame: number) => FrameDecoder
  /** The wire bytes for a payload. The caller has checked the size of the payload. */
  readonly encode: (payload: Uint8Array) => Result.Result<Uint8Array, CodecReason>
  /** How many bytes `encode` gives for a payload, or -1 where it fails. Together with `encodeInto`, or not at all. */
  readonly encodedSize?: (payload: Uint8Array) => number
  /** Writes what `encode` gives into `target` from `at`, where there is room for it. */
  readonly encodeInto?: (payload: Uint8Array, target: Uint8Array, at: number) => void
  /**
   * Writes what a frame has in front of its payload, where it is just these two: a large payload is then left where it is.
   * The rest of `encodedSize` is its size.
   */
  readonly encodeHeader?: ((payload: Uint8Array, target: Uint8Array, at: number) => void) | undefined
  /** The same for text, when that is faster than going through bytes. */
  readonly encodeText?: (payload: string) => Result.Result<Uint8Array, CodecReason>
}

const trusted = new WeakSet<object>()

/** A framing of this library, which writes what it announced and may be given the memory of others to write into. */
export const ours = <A extends object>(framing: A): A => {
  trusted.add(framing)
  return framing
}

/** Whether a framing is one of this library. */
export const isOurs = (framing: object): boolean => trusted.has(framing)

/**
 * What every framing can be told.
 *
 * @category framing
 * @since 0.1.0
 */
export interface FramingOptions {
  /**
   * What an over-long frame does: `"fail"` ends the stream as soon as the frame is known to be too long, `"skip"`
   * passes over it and goes on with the next frame. Default `"fail"`.
   */
  readonly tooLong?: "fail" | "skip" | undefined
  /**
   * When a skipped frame is reported: `"header"` as soon as it is known to be too long, `"body"` when all of it has
   * passed, with its whole size. Default `"header"`.
   */
  readonly report?: "header" | "body" | undefined
  /** The codec's own limit for a payload, in bytes, 1 or more. The lower of this and the caller's holds. */
  readonly maxFrame?: number | undefined
}

/** Programmer errors are the one thing that throws. */
export const integer = (option: string, value: number, least: number): number => {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new RangeError(`Codec: ${option} must be an integer of at least ${least}, got ${value}`)
  }
  return value
}

export const oneOf = <A>(option: string, value: A, allowed: ReadonlyArray<A>): A => {
  if (!allowed.includes(value)) {
    throw new RangeError(`Codec: ${option} must be one of ${allowed.join(", ")}, got ${String(value)}`)
  }
  return value
}

/** What the `tooLong` and `report` options come to. */
export interface TooLong {
  readonly skips: boolean
  /** Whether a skipped frame is reported as soon as it is known to be too long. */
  readonly atHeader: boolean
}

export const tooLongOf = (options: FramingOptions): TooLong => ({
  skips: oneOf("tooLong", options.tooLong ?? "fail", ["fail", "skip"]) === "skip",
  atHeader: oneOf("report", options.report ?? "header", ["header", "body"]) === "header"
})

export const tooLong = (size: number, limit: number): FrameTooLong =>
  new FrameTooLong({ direction: "decode", size, limit })

export const notText = (detail: string = "the bytes are not UTF-8"): InvalidMessage =>
  new InvalidMessage({ direction: "decode", format: "UTF-8", detail })

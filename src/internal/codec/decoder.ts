/** Reads the messages of one connection: framing and payload put together. */
import * as Result from "effect/Result"
import type { CodecReason, FrameTooLong } from "../../ConnectionError.ts"
import { Truncated } from "../../ConnectionError.ts"
import { sizeOver } from "../bytes/sizes.ts"
import { utf8 } from "../bytes/utf8.ts"
import type { FrameDecoder, Framing, Stopping } from "./framing.ts"
import { isStopping, tooLong } from "./framing.ts"
import * as Payloads from "./payload.ts"
import { Room } from "./room.ts"

const none: Array<Uint8Array | string> = []

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

/** The most frames that are found before they are decoded: they are held beside the messages. */
const lot = 64

// what a framing of the application is given at once: each byte of it may be a frame
const leastSlice = 4 * 1024
const mostSlice = 16 * 1024

/** A codec, and how it is run. */
interface Ran<In> {
  readonly framing: Framing
  readonly payload: Payloads.Payload<In, never>
  readonly limit: number
  readonly maxDecoded: number
  /** The transport keeps messages apart. */
  readonly apart: boolean
  /** Small frames do not keep the chunk alive that they came in. */
  readonly copies: boolean
}

/** The decoder of a connection: one object, which adds to what its owner has, as long as there is room. */
export class Appender<In> implements Decoder<In> {
  private readonly stream: FrameDecoder | undefined
  // the same, where it stops by itself
  private readonly stopping: Stopping | undefined
  private readonly skips: boolean
  private readonly limit: number
  // the framing gives text
  private readonly texts: boolean
  private readonly payload: Payloads.Payload<In, never>
  // frames of bytes, and lines of text, are the messages themselves: nothing is allocated for each
  private readonly direct: boolean
  private dead: CodecReason | undefined
  // what is not decoded, because there was no room: frames, what the framing said behind them, and bytes
  private frames = none
  private next = 0
  private failure: CodecReason | undefined
  private rest: Uint8Array | undefined
  /** The over-long frames that were passed over since the connection emptied this. */
  skipped: Array<FrameTooLong> = []

  private readonly maxDecoded: number

  constructor({ apart, copies, framing, limit, maxDecoded, payload }: Ran<In>) {
    const stream = apart ? undefined : framing.decoder(limit)
    const texts = payload.form === "text" && stream?.writeText !== undefined
    const known: unknown = payload
    this.stream = stream
    this.stopping = stream !== undefined && isStopping(stream) ? stream : undefined
    this.skips = framing.skips
    this.limit = limit
    this.maxDecoded = maxDecoded
    this.payload = payload
    this.texts = texts
    this.direct = (known === Payloads.bytes && stream !== undefined) || (known === Payloads.text && texts)
    // text is a copy of its bytes; any other value may hold a view of them
    if (this.stopping !== undefined && !texts && payload.content !== "json") this.stopping.copies = copies
  }

  /** Adds the messages that a chunk completes, and says what the stream cannot go on after. */
  append(chunk: Uint8Array | string, messages: Array<In>, room: Room): CodecReason | undefined {
    if (this.dead !== undefined) return this.dead
    if (this.stream === undefined) this.whole(chunk)
    else this.rest = typeof chunk === "string" ? utf8(chunk) : chunk
    return this.more(messages, room)
  }

  /** Whether something has come that is not decoded. */
  get hasMore(): boolean {
    return this.rest !== undefined || this.next < this.frames.length || this.failure !== undefined
  }

  /** Bytes that have come and are not decoded, besides those of the unfinished frame. */
  get undecoded(): number {
    let size = this.rest === undefined ? 0 : this.rest.length
    for (let i = this.next; i < this.frames.length; i++) size += this.frames[i]!.length
    return size
  }

  /** Goes on with what has come, and adds messages as long as there is room. */
  more(messages: Array<In>, room: Room): CodecReason | undefined {
    const dead = this.direct ? this.find(messages as Array<unknown>, room) : this.decode(messages, room)
    if (dead === undefined) return undefined
    this.dead = dead
    this.failure = this.rest = undefined
    this.frames = none
    this.next = 0
    return dead
  }

  /** Each chunk is a frame. */
  private whole(chunk: Uint8Array | string): void {
    const { limit, skipped, skips } = this
    const size = sizeOver(chunk, limit)
    if (size === 0) this.keep([chunk], 0)
    else if (skips) skipped.push(tooLong(size, limit))
    else this.failure = tooLong(size, limit)
  }

  private keep(frames: Array<Uint8Array | string>, next: number): void {
    this.frames = frames
    this.next = next
  }

  /** Finds frames that are the messages. */
  private find(messages: Array<unknown>, room: Room): CodecReason | undefined {
    let failure: CodecReason | undefined
    while (failure === undefined && this.rest !== undefined && !room.isFull) {
      const before = messages.length
      failure = this.read(messages, before + room.count)
      room.take(messages.length - before)
    }
    return failure
  }

  private decode(messages: Array<In>, room: Room): CodecReason | undefined {
    for (;;) {
      const { frames } = this
      for (let i = this.next; i < frames.length; i++) {
        if (room.isFull) {
          this.next = i
          return undefined
        }
        const message = this.payload.decode(frames[i]!, room)
        if (Result.isFailure(message)) return message.failure
        messages.push(message.success)
        room.take(1)
      }
      this.keep(none, 0)
      if (this.failure !== undefined || this.rest === undefined || room.isFull) return this.failure
      const found: Array<Uint8Array | string> = []
      this.failure = this.read(found, Math.min(lot, room.count))
      this.keep(found, 0)
    }
  }

  /** Finds the next frames, until there are as many as asked for. Those of a framing of the application may be more. */
  private read(frames: Array<unknown>, most: number): CodecReason | undefined {
    const { rest: bytes, skipped, stopping } = this
    const stream = stopping ?? this.stream!
    const chunk = stopping === undefined ? this.slice(bytes!) : bytes!
    if (stopping !== undefined) stopping.mostFrames = most
    const failure = this.texts
      ? stream.writeText!(chunk, frames as Array<string>, skipped)
      : stream.write(chunk, frames as Array<Uint8Array>, skipped)
    const at = stopping === undefined ? chunk.length : stopping.stoppedAt
    this.rest = at < bytes!.length ? bytes!.subarray(at) : undefined
    return failure
  }

  /** What a framing of the application is given: more of it where a large frame has begun. */
  private slice(bytes: Uint8Array): Uint8Array {
    const size = Math.min(mostSlice, Math.max(leastSlice, this.stream!.pending / 4))
    return bytes.length <= size ? bytes : bytes.subarray(0, size)
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
      const error = this.append(chunk, messages, new Room(Infinity, Infinity, this.maxDecoded))
      const { skipped } = this
      this.skipped = []
      return { messages, skipped, error }
    }
  }
}

/** Writes the messages of a codec, payload and framing put together; small frames one behind the other into one buffer. */
import * as Result from "effect/Result"
import type { CodecReason } from "../../ConnectionError.ts"
import { FrameTooLong } from "../../ConnectionError.ts"
import { onRenew, uncleared } from "../bytes/memory.ts"
import { sizeOf, sizeOver } from "../bytes/sizes.ts"
import { utf8, utf8Into } from "../bytes/utf8.ts"
import { type Framing, isOurs } from "./framing.ts"
import * as Payloads from "./payload.ts"

/**
 * What a message is on the wire: bytes for a stream; a whole message, binary or text, where the transport keeps messages apart.
 *
 * @category running
 * @since 0.1.0
 */
export type Frame = Uint8Array | string

/** A large frame: its header, and its payload as it was given. */
export class Framed {
  header: Uint8Array
  payload: Uint8Array

  constructor(header: Uint8Array, payload: Uint8Array) {
    this.header = header
    this.payload = payload
  }

  get byteLength(): number {
    return this.header.byteLength + this.payload.byteLength
  }

  /** It leaves now, behind all that left before: nothing drops it any more. */
  leave(): void {}
}

// ---------------------------------------------------------------------------------------------------------------------
// frames behind each other: one allocation a write, not one a message
// ---------------------------------------------------------------------------------------------------------------------

/** What is written out, and what it is made of. */
export interface Writable {
  /** Size of the frame, in bytes. */
  readonly size: number
  /** Writes the frame into `target` from `at`. */
  readonly write: (target: Uint8Array, at: number) => void
}

/** A frame from so many bytes on is by itself: copying it would cost more than it saves. */
export const largest = 4096

// what is written into at the moment, and how far; the buffers of small frames are cut from it
const slabSize = 64 * 1024
let slab = new Uint8Array(0)
let used = 0

/** Finds room for so many bytes, and says where in `slab`. */
const reserve = (size: number): number => {
  if (slab.length - used < size) {
    slab = new Uint8Array(Math.max(slabSize, size))
    used = 0
  }
  used += size
  return used - size
}

/** A few bytes of its own, written by `write`. */
export const small = (size: number, write: (target: Uint8Array, at: number) => void): Uint8Array => {
  const at = reserve(size)
  write(slab, at)
  return slab.subarray(at, at + size)
}

/** What has to wait for the peer: a copy, where it is a small piece of a large buffer, which it would keep alive. */
export const detach = <A extends Uint8Array | string>(frame: A): A | Uint8Array =>
  typeof frame !== "string" && frame.buffer.byteLength > 2 * frame.byteLength + largest ? new Uint8Array(frame) : frame

// written ones, to be used again: nearly every turn of every connection needs one for a moment
const spare: Array<FrameBuffer> = []
const mostSpare = 16

// where a piece ends decides which frames share a write
onRenew(() => {
  slab = new Uint8Array(0)
  used = 0
})

const noEnds: Array<number> = []

/** Frames behind each other, waiting for one write. Their bytes are a piece of a buffer that others have pieces of. */
export class FrameBuffer {
  private buffer = slab
  private start = 0
  private end = 0
  // where the buffer goes on with something else
  private limit = 0
  // of these as many as `added`, where there is more than one: an array that is emptied would be a new one each time
  private ends = noEnds
  private added = 0
  private taken = 0

  /** Begins with a frame. At least so many bytes are kept for it and what follows. */
  static begin(frame: Writable, atLeast: number): FrameBuffer {
    const { size } = frame
    const begun = spare.length > 0 ? spare.pop()! : new FrameBuffer()
    begun.start = reserve(Math.max(size, atLeast))
    begun.buffer = slab
    begun.end = begun.start + size
    begun.limit = used
    begun.added = 1
    begun.taken = 0
    frame.write(slab, begun.start)
    return begun
  }

  get count(): number {
    return this.added - this.taken
  }

  get bytes(): number {
    return this.end - this.start
  }

  /** Adds a frame; false when there is no room. */
  add(frame: Writable): boolean {
    const end = this.end + frame.size
    if (end > this.limit) {
      // the last one of its buffer grows
      if (this.buffer !== slab || this.limit !== used || end > slab.length) return false
      this.limit = used = end
    }
    frame.write(this.buffer, this.end)
    if (this.added === 1) this.endsFirst()
    this.end = end
    this.ends[this.added++] = end
    return true
  }

  // most turns of a connection send one frame, and need no array
  private endsFirst(): void {
    if (this.ends === noEnds) this.ends = []
    this.ends[0] = this.end
  }

  /** All frames as one. This must not be used any more afterwards. */
  all(): Uint8Array {
    if (this.buffer === slab && this.limit === used) used = this.end
    const all = this.buffer.subarray(this.start, this.end)
    if (spare.length < mostSpare) spare.push(this)
    return all
  }

  takeFirst(): Uint8Array {
    const end = this.added === 1 ? this.end : this.ends[this.taken]!
    this.taken++
    const frame = this.buffer.slice(this.start, end)
    this.start = end
    return frame
  }

  /** Takes back the frames added last. */
  dropLast(count: number): void {
    this.added -= count
    this.end = this.added > this.taken ? this.ends[this.added - 1]! : this.start
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// the encoder
// ---------------------------------------------------------------------------------------------------------------------

// behind what a framing of the application announced, to see whether it wrote there
const guardSize = 64
const guardByte = 0xa5

// short text on its way into a frame: bytes of its own for each message would all be freed by the next collection, one by one
const longestText = 1024
const scratch = new Uint8Array(3 * longestText)

/** The half of a framing that writes. */
export type Outbound = Omit<Framing, "decoder">

/**
 * Encodes in two steps, so that in between room can be found for the frame: `prepare`, then `write` or `frame`. Nothing
 * runs between the steps, so all connections of the same options share one. What a codec throws goes to the sender.
 */
export class Encoder<in Out> implements Writable {
  private readonly framing: Outbound
  private readonly payload: Payloads.Payload<unknown, Out>
  private readonly limit: number
  private readonly isBytes: boolean
  private readonly isTrusted: boolean
  /** Whether the bytes of text are copied into a frame in any case. */
  private readonly copiesText: boolean
  /** Whether frames may be written one behind the other: not where the transport keeps messages apart. */
  readonly isStream: boolean
  /** Size of the frame prepared last, in bytes. */
  size = 0
  // a payload that is framed as it is written, or a frame
  protected body: Frame = ""
  private isFramed = false

  constructor(framing: Outbound, payload: Payloads.Payload<unknown, Out>, limit: number, isStream: boolean) {
    const known: unknown = payload
    this.framing = framing
    this.payload = payload
    this.limit = limit
    this.isBytes = known === Payloads.bytes
    this.isTrusted = isOurs(framing)
    this.copiesText = this.isTrusted && framing.encodedSize !== undefined
    this.isStream = isStream
  }

  /** Encodes a message, or says why it cannot be. */
  prepare(message: Out): CodecReason | undefined {
    const { framing, limit } = this
    let content: Frame
    if (this.isBytes && message instanceof Uint8Array) content = message
    else {
      const encoded = this.payload.encode(message)
      if (Result.isFailure(encoded)) return encoded.failure
      content = encoded.success
    }
    const over = sizeOver(content, limit)
    if (over > 0) return new FrameTooLong({ direction: "encode", size: over, limit })
    if (!this.isStream) return this.framed(content)
    let bytes: Uint8Array
    if (typeof content !== "string") bytes = content
    else if (this.copiesText && content.length <= longestText) bytes = scratch.subarray(0, utf8Into(content, scratch))
    else if (framing.encodeText !== undefined) return this.finish(framing.encodeText(content))
    else bytes = utf8(content)
    // what cannot be framed has its reason from `encode`
    const total = framing.encodedSize === undefined ? -1 : framing.encodedSize(bytes)
    if (total < 0) return this.finish(framing.encode(bytes))
    this.body = bytes
    this.size = total
    this.isFramed = false
    return undefined
  }

  private finish(encoded: Result.Result<Uint8Array, CodecReason>): CodecReason | undefined {
    return Result.isFailure(encoded) ? encoded.failure : this.framed(encoded.success)
  }

  private framed(frame: Frame): undefined {
    this.body = frame
    this.size = sizeOf(frame)
    this.isFramed = true
  }

  /** Writes the frame prepared last. */
  write(target: Uint8Array, at: number): void {
    const body = this.body as Uint8Array
    if (this.isFramed) target.set(body, at)
    else if (this.isTrusted) this.framing.encodeInto!(body, target, at)
    else target.set(this.guarded(this.size, "encodeInto"), at)
  }

  /** A framing of the application writes into memory of its own: the next bytes of `target` are those of others. */
  private guarded(size: number, write: "encodeInto" | "encodeHeader"): Uint8Array {
    const scratch = new Uint8Array(size + guardSize).fill(guardByte, size)
    this.framing[write]!(this.body as Uint8Array, scratch, 0)
    for (let i = size; i < scratch.length; i++) {
      if (scratch[i] !== guardByte) {
        throw new RangeError(`the framing ${this.framing.name} announced ${size} bytes and wrote more`)
      }
    }
    return scratch.subarray(0, size)
  }

  /** The frame prepared last, by itself. */
  frame(): Frame | Framed {
    const { body, framing, size } = this
    if (this.isFramed || typeof body === "string") return body
    if (framing.encodeHeader === undefined || body.byteLength < largest) return this.whole()
    const header = size - body.byteLength
    return new Framed(
      this.isTrusted
        ? small(header, (target, at) => framing.encodeHeader!(body, target, at))
        : this.guarded(header, "encodeHeader"),
      body
    )
  }

  private whole(): Frame {
    if (this.isFramed) return this.body
    const frame = uncleared(this.size)
    this.write(frame, 0)
    return frame
  }

  /** Both steps: a frame in one piece. */
  encode(message: Out): Result.Result<Frame, CodecReason> {
    const failure = this.prepare(message)
    return failure === undefined ? Result.succeed(this.whole()) : Result.fail(failure)
  }
}

/** Frames written one behind the other into one buffer, for a stream: one allocation a write, not one a message. */
import * as Result from "effect/Result"
import type { CodecReason } from "../ConnectionError.ts"
import { FrameTooLong } from "../ConnectionError.ts"
import { sizeOver } from "./decoder.ts"
import type { Framing } from "./framing.ts"
import { uncleared } from "./memory.ts"
import * as Payloads from "./payload.ts"
import { utf8 } from "./utf8.ts"

/** A larger frame is by itself: copying it would cost more than it saves. */
export const packable = 4096

/**
 * Encodes a message in two steps, so that in between somebody can find the room for it. Nothing runs between the steps, so
 * all connections of the same options share one.
 */
export interface Packer<in Out> {
  /** Encodes a message, or says why it cannot be. */
  readonly prepare: (message: Out) => CodecReason | undefined
  /** Size of the frame prepared last, in bytes. */
  readonly size: number
  /** Writes the frame prepared last. */
  readonly write: (target: Uint8Array, at: number) => void
  /** The frame prepared last by itself. */
  readonly frame: () => Uint8Array | Framed
}

// what is written into at the moment, and how far; the buffers of small frames are cut from it
const slabSize = 64 * 1024
let slab = new Uint8Array(0)
let used = 0

/** What has to wait for the peer: a copy, where it is a small piece of a large buffer, which it would keep alive. */
export const detach = <A extends Uint8Array | string>(frame: A): A | Uint8Array =>
  typeof frame !== "string" && frame.buffer.byteLength > 2 * frame.byteLength + packable ? new Uint8Array(frame) : frame

/** Finds room for so many bytes, and says where in `slab`. */
const reserve = (size: number): number => {
  if (slab.length - used < size) {
    slab = new Uint8Array(Math.max(slabSize, size))
    used = 0
  }
  used += size
  return used - size
}

/** A large frame: its header, and its payload as it was given. */
export class Framed {
  readonly header: Uint8Array
  readonly payload: Uint8Array

  constructor(header: Uint8Array, payload: Uint8Array) {
    this.header = header
    this.payload = payload
  }

  get byteLength(): number {
    return this.header.byteLength + this.payload.byteLength
  }
}

class FramePacker<In, Out> implements Packer<Out> {
  private readonly framing: Framing
  private readonly payload: Payloads.Payload<In, Out>
  private readonly limit: number
  private readonly isBytes: boolean
  size = 0
  // a payload that is framed as it is written, or a frame
  private body: Uint8Array = new Uint8Array(0)
  private framed = false

  constructor(framing: Framing, payload: Payloads.Payload<In, Out>, limit: number) {
    const known: unknown = payload
    this.framing = framing
    this.payload = payload
    this.limit = limit
    this.isBytes = known === Payloads.bytes
  }

  prepare(message: Out): CodecReason | undefined {
    const { framing, limit } = this
    let content: Uint8Array | string
    if (this.isBytes && message instanceof Uint8Array) content = message
    else {
      const encoded = this.payload.encode(message)
      if (Result.isFailure(encoded)) return encoded.failure
      content = encoded.success
    }
    const over = sizeOver(content, limit)
    if (over > 0) return new FrameTooLong({ direction: "encode", size: over, limit })
    if (typeof content === "string" && framing.encodeText !== undefined) return this.finish(framing.encodeText(content))
    const bytes = typeof content === "string" ? utf8(content) : content
    // what cannot be framed has its reason from `encode`
    const total = framing.encodedSize === undefined ? -1 : framing.encodedSize(bytes)
    if (total < 0) return this.finish(framing.encode(bytes))
    this.body = bytes
    this.size = total
    this.framed = false
    return undefined
  }

  private finish(encoded: Result.Result<Uint8Array, CodecReason>): CodecReason | undefined {
    if (Result.isFailure(encoded)) return encoded.failure
    this.body = encoded.success
    this.size = this.body.byteLength
    this.framed = true
    return undefined
  }

  write(target: Uint8Array, at: number): void {
    if (this.framed) target.set(this.body, at)
    else this.framing.encodeInto!(this.body, target, at)
  }

  frame(): Uint8Array | Framed {
    const { body, framing, size } = this
    if (this.framed) return body
    if (framing.encodeHeader !== undefined && body.byteLength >= packable) {
      const length = size - body.byteLength
      const at = reserve(length)
      framing.encodeHeader(body, slab, at)
      return new Framed(slab.subarray(at, at + length), body)
    }
    const frame = uncleared(size)
    this.write(frame, 0)
    return frame
  }
}

export const makePacker = <In, Out>(
  framing: Framing,
  payload: Payloads.Payload<In, Out>,
  limit: number
): Packer<Out> => new FramePacker(framing, payload, limit)

// written ones, to be used again: nearly every turn of every connection needs one for a moment
const spare: Array<Pack> = []
const mostSpare = 16

/** Frames behind each other, waiting for one write. Their bytes are a piece of a buffer that others have pieces of. */
export class Pack {
  private buffer = slab
  private start = 0
  private end = 0
  // where the buffer goes on with something else
  private limit = 0
  // of these as many as `added`: an array that is emptied would be a new one each time
  private readonly ends: Array<number> = []
  private added = 0
  private taken = 0

  /** Begins with the frame that was prepared last. At least so many bytes are kept for it and what follows. */
  static begin(packer: Packer<never>, atLeast: number): Pack {
    const pack = spare.length > 0 ? spare.pop()! : new Pack()
    pack.start = reserve(Math.max(packer.size, atLeast))
    pack.buffer = slab
    pack.end = pack.start + packer.size
    pack.limit = used
    pack.ends[0] = pack.end
    pack.added = 1
    pack.taken = 0
    packer.write(slab, pack.start)
    return pack
  }

  get count(): number {
    return this.added - this.taken
  }

  get bytes(): number {
    return this.end - this.start
  }

  /** Adds the frame that was prepared last; false when there is no room. */
  add(packer: Packer<never>): boolean {
    const end = this.end + packer.size
    if (end > this.limit) {
      // the last one of its buffer grows
      if (this.buffer !== slab || this.limit !== used || end > slab.length) return false
      this.limit = used = end
    }
    packer.write(this.buffer, this.end)
    this.end = end
    this.ends[this.added++] = end
    return true
  }

  /** All frames as one. This must not be used any more afterwards. */
  all(): Uint8Array {
    if (this.buffer === slab && this.limit === used) used = this.end
    const all = this.buffer.subarray(this.start, this.end)
    if (spare.length < mostSpare) spare.push(this)
    return all
  }

  takeFirst(): Uint8Array {
    const end = this.ends[this.taken++]!
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

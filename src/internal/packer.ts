/** Frames written one behind the other into one buffer, for a stream: one allocation a write, not one a message. */
import * as Result from "effect/Result"
import type { CodecReason } from "../ConnectionError.ts"
import { FrameTooLong } from "../ConnectionError.ts"
import { sizeOver } from "./decoder.ts"
import type { Framing } from "./framing.ts"
import * as Payloads from "./payload.ts"
import { uncleared } from "./uncleared.ts"
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

export const makePacker = <In, Out>(
  framing: Framing,
  payload: Payloads.Payload<In, Out>,
  limit: number
): Packer<Out> => {
  const { encodeHeader, encodeInto, encodeText, encodedSize } = framing
  let size = 0
  // a payload that is framed as it is written, or a frame
  let body: Uint8Array = new Uint8Array(0)
  let framed = false

  const known: unknown = payload
  const isBytes = known === Payloads.bytes

  const prepare = (message: Out): CodecReason | undefined => {
    let content: Uint8Array | string
    if (isBytes && message instanceof Uint8Array) content = message
    else {
      const encoded = payload.encode(message)
      if (Result.isFailure(encoded)) return encoded.failure
      content = encoded.success
    }
    const over = sizeOver(content, limit)
    if (over > 0) return new FrameTooLong({ direction: "encode", size: over, limit })
    if (typeof content === "string" && encodeText !== undefined) return finish(encodeText(content))
    const bytes = typeof content === "string" ? utf8(content) : content
    if (encodeInto === undefined || encodedSize === undefined) return finish(framing.encode(bytes))
    const total = encodedSize(bytes)
    // what cannot be framed has its reason from there
    if (total < 0) return finish(framing.encode(bytes))
    body = bytes
    size = total
    framed = false
    return undefined
  }
  const finish = (encoded: Result.Result<Uint8Array, CodecReason>): CodecReason | undefined => {
    if (Result.isFailure(encoded)) return encoded.failure
    body = encoded.success
    size = body.byteLength
    framed = true
    return undefined
  }
  const write = (target: Uint8Array, at: number): void => {
    if (framed) target.set(body, at)
    else encodeInto!(body, target, at)
  }
  return {
    prepare,
    get size() {
      return size
    },
    write,
    frame() {
      if (framed) return body
      if (encodeHeader !== undefined && body.byteLength >= packable) {
        const length = size - body.byteLength
        const at = reserve(length)
        encodeHeader(body, slab, at)
        return new Framed(slab.subarray(at, at + length), body)
      }
      const frame = uncleared(size)
      write(frame, 0)
      return frame
    }
  }
}

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

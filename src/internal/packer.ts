/** Frames written one behind the other into one buffer, for a stream: one allocation a write, not one a message. */
import * as Result from "effect/Result"
import type { CodecReason } from "../ConnectionError.ts"
import { FrameTooLong } from "../ConnectionError.ts"
import { sizeOver } from "./decoder.ts"
import type { Framing } from "./framing.ts"
import type { Payload } from "./payload.ts"
import { utf8 } from "./utf8.ts"

/** A larger frame is a buffer of its own: copying it would cost more than it saves. */
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
  /** The frame prepared last as a buffer of its own. */
  readonly frame: () => Uint8Array
}

export const makePacker = <In, Out>(framing: Framing, payload: Payload<In, Out>, limit: number): Packer<Out> => {
  const { encodeInto, encodeText, encodedSize } = framing
  let size = 0
  // a payload that is framed as it is written, or a frame
  let body: Uint8Array = new Uint8Array(0)
  let framed = false

  const prepare = (message: Out): CodecReason | undefined => {
    const encoded = payload.encode(message)
    if (Result.isFailure(encoded)) return encoded.failure
    const content = encoded.success
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
      const frame = new Uint8Array(size)
      write(frame, 0)
      return frame
    }
  }
}

/** Frames behind each other, waiting for one write. */
export class Pack {
  private readonly buffer: Uint8Array
  private readonly ends: Array<number> = []
  private start = 0
  private taken = 0

  constructor(capacity: number) {
    this.buffer = new Uint8Array(capacity)
  }

  private get end(): number {
    return this.ends.length === this.taken ? this.start : this.ends[this.ends.length - 1]!
  }

  get count(): number {
    return this.ends.length - this.taken
  }

  get bytes(): number {
    return this.end - this.start
  }

  hasRoom(size: number): boolean {
    return this.buffer.byteLength - this.end >= size
  }

  add(packer: Packer<never>): void {
    const at = this.end
    packer.write(this.buffer, at)
    this.ends.push(at + packer.size)
  }

  /** All frames as one. */
  all(): Uint8Array {
    return this.buffer.subarray(this.start, this.end)
  }

  takeFirst(): Uint8Array {
    const end = this.ends[this.taken++]!
    const frame = this.buffer.subarray(this.start, end)
    this.start = end
    return frame
  }

  /** Takes back the frames added last. */
  dropLast(count: number): void {
    this.ends.length -= count
  }
}

/** Frames whose size is known at their start: `fixed`, `lengthPrefix`, `varint`. */
import * as Result from "effect/Result"
import type { CodecReason, FrameTooLong } from "../../../ConnectionError.ts"
import { InvalidLength } from "../../../ConnectionError.ts"
import { Blocks } from "../../bytes/blocks.ts"
import { ByteQueue } from "../../bytes/byteQueue.ts"
import type { Stopping, TooLong } from "../framing.ts"
import { tooLong } from "../framing.ts"

/** Reads the header of a frame. The fields are the result of the last `read`: no allocation per frame. */
export interface Header {
  /** Bytes of the longest header. */
  readonly most: number
  /** Bytes of the header. */
  size: number
  /** Bytes after the header. */
  body: number
  /** Bytes at the front of the frame that are not payload. */
  strip: number
  /** Why no frame can have this header. */
  invalid: string | undefined
  /** Whether the header is complete in `bytes` from `pos` to `end`; at least one byte is there. */
  readonly read: (bytes: Uint8Array, pos: number, end: number) => boolean
}

export const refuse = (detail: string) => Result.fail(new InvalidLength({ direction: "encode", detail }))

const empty = new Uint8Array(0)

/** A class with its accessor on the prototype: there is one for each connection, and it is asked for each read. */
class Sized implements Stopping {
  private readonly header: Header
  private readonly limit: number
  private readonly policy: TooLong
  // made for the first frame that comes in pieces
  private queue: ByteQueue | undefined
  // the bytes of a header that is split; made when that happens for the first time
  private head = empty
  // bytes that have come of the unfinished frame, and whether its header is complete
  private come = 0
  private inside = false
  private blocks: Blocks | undefined
  mostFrames = Infinity
  stoppedAt = 0

  constructor(header: Header, limit: number, policy: TooLong) {
    this.header = header
    this.limit = limit
    this.policy = policy
  }

  get copies(): boolean {
    return this.blocks !== undefined
  }

  set copies(copies: boolean) {
    this.blocks = copies ? new Blocks() : undefined
  }

  get pending(): number {
    return this.come
  }

  /** Takes note of a complete header, which ends at `end` in `bytes`, of a frame that is not. */
  private begin(bytes: Uint8Array, end: number, skipped: Array<FrameTooLong>): CodecReason | undefined {
    const { header } = this
    const size = header.size + header.body - header.strip
    this.inside = true
    this.come = header.size
    if (size <= this.limit) {
      this.queue ??= new ByteQueue()
      // what of the header is payload
      if (header.strip < header.size) this.queue.copy(bytes.subarray(end - header.size + header.strip, end))
      return undefined
    }
    const error = tooLong(size, this.limit)
    if (!this.policy.skips) return error
    if (this.policy.atHeader) skipped.push(error)
    return undefined
  }

  /** Goes on with the body and returns where it ends in the chunk. */
  private advance(chunk: Uint8Array, pos: number, frames: Array<Uint8Array>, skipped: Array<FrameTooLong>): number {
    const { come, header, queue } = this
    const total = header.size + header.body
    const left = total - come
    const end = pos + Math.min(left, chunk.length - pos)
    const inside = end - pos < left
    this.inside = inside
    if (total - header.strip > this.limit) {
      if (!inside && !this.policy.atHeader) skipped.push(tooLong(total - header.strip, this.limit))
    } else {
      const piece = chunk.subarray(Math.min(end, pos + Math.max(0, header.strip - come)), end)
      if (inside) queue!.push(piece, chunk.length)
      else frames.push(queue!.size === 0 ? this.whole(chunk, end - piece.length, end) : queue!.take(queue!.size, piece))
    }
    this.come = inside ? come + end - pos : 0
    return end
  }

  /** A frame of which no byte came before this chunk. */
  private whole(chunk: Uint8Array, from: number, to: number): Uint8Array {
    return this.blocks === undefined ? chunk.subarray(from, to) : this.blocks.take(chunk, from, to)
  }

  private stop(at: number): undefined {
    this.stoppedAt = at
    this.blocks?.end()
  }

  write(chunk: Uint8Array, frames: Array<Uint8Array>, skipped: Array<FrameTooLong>): CodecReason | undefined {
    const { blocks, header, limit, mostFrames } = this
    const end = chunk.length
    let pos = 0
    blocks?.begin(chunk)
    for (;;) {
      if (this.inside) pos = this.advance(chunk, pos, frames, skipped)
      if (this.inside || pos === end || frames.length >= mostFrames) return this.stop(pos)
      // a header that was split goes on in `head`
      const { come } = this
      const split = come > 0
      const bytes = split ? this.head : chunk
      const start = split ? 0 : pos
      let to = end
      if (split) {
        to = Math.min(header.most, come + end - pos)
        bytes.set(chunk.subarray(pos, pos + to - come), come)
      }
      if (!header.read(bytes, start, to)) {
        if (!split) {
          if (this.head.length === 0) this.head = new Uint8Array(header.most)
          this.head.set(chunk.subarray(pos))
        }
        this.come = to - start
        return this.stop(end)
      }
      if (header.invalid !== undefined) return new InvalidLength({ direction: "decode", detail: header.invalid })
      const total = header.size + header.body
      if (!split && total <= end - pos && total - header.strip <= limit) {
        frames.push(this.whole(chunk, pos + header.strip, pos + total))
        pos += total
      } else {
        pos += header.size - come
        const error = this.begin(bytes, start + header.size, skipped)
        if (error !== undefined) return error
      }
    }
  }
}

export const sized = (header: Header, limit: number, policy: TooLong): Stopping => new Sized(header, limit, policy)

/** Frames whose size is known at their start: `fixed`, `lengthPrefix`, `varint`. */
import * as Result from "effect/Result"
import type { CodecReason, FrameTooLong } from "../../ConnectionError.ts"
import { InvalidLength } from "../../ConnectionError.ts"
import { ByteQueue } from "../byteQueue.ts"
import type { FrameDecoder, TooLong } from "../framing.ts"
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

export const sized = (header: Header, limit: number, policy: TooLong): FrameDecoder => {
  const queue = new ByteQueue()
  // the bytes of a header that is split; made when that happens for the first time
  let head = empty
  // bytes that have come of the unfinished frame, and whether its header is complete
  let come = 0
  let inside = false

  /** Takes note of a complete header, which ends at `end` in `bytes`, of a frame that is not. */
  const begin = (bytes: Uint8Array, end: number, skipped: Array<FrameTooLong>): CodecReason | undefined => {
    const size = header.size + header.body - header.strip
    inside = true
    come = header.size
    if (size <= limit) {
      // what of the header is payload
      if (header.strip < header.size) queue.copy(bytes.subarray(end - header.size + header.strip, end))
      return undefined
    }
    const error = tooLong(size, limit)
    if (!policy.skips) return error
    if (policy.atHeader) skipped.push(error)
    return undefined
  }

  /** Goes on with the body and returns where it ends in the chunk. */
  const advance = (chunk: Uint8Array, pos: number, frames: Array<Uint8Array>, skipped: Array<FrameTooLong>): number => {
    const total = header.size + header.body
    const left = total - come
    const end = pos + Math.min(left, chunk.length - pos)
    inside = end - pos < left
    if (total - header.strip > limit) {
      if (!inside && !policy.atHeader) skipped.push(tooLong(total - header.strip, limit))
    } else {
      const piece = chunk.subarray(Math.min(end, pos + Math.max(0, header.strip - come)), end)
      if (inside) queue.push(piece, chunk.length)
      else frames.push(queue.take(queue.size, piece))
    }
    come = inside ? come + end - pos : 0
    return end
  }

  return {
    get pending() {
      return come
    },
    write(chunk, frames, skipped) {
      const end = chunk.length
      let pos = 0
      for (;;) {
        if (inside) pos = advance(chunk, pos, frames, skipped)
        if (inside || pos === end) return undefined
        // a header that was split goes on in `head`
        const split = come > 0
        const bytes = split ? head : chunk
        const start = split ? 0 : pos
        let to = end
        if (split) {
          to = Math.min(header.most, come + end - pos)
          head.set(chunk.subarray(pos, pos + to - come), come)
        }
        if (!header.read(bytes, start, to)) {
          if (!split) {
            if (head.length === 0) head = new Uint8Array(header.most)
            head.set(chunk.subarray(pos))
          }
          come = to - start
          return undefined
        }
        if (header.invalid !== undefined) return new InvalidLength({ direction: "decode", detail: header.invalid })
        const total = header.size + header.body
        if (!split && total <= end - pos && total - header.strip <= limit) {
          frames.push(chunk.subarray(pos + header.strip, pos + total))
          pos += total
        } else {
          pos += header.size - come
          const error = begin(bytes, start + header.size, skipped)
          if (error !== undefined) return error
        }
      }
    }
  }
}

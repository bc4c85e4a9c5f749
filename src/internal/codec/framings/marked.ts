/** Frames that end with a mark: `delimiter`, `lines`. */
import type { CodecReason, FrameTooLong } from "../../../ConnectionError.ts"
import { Blocks } from "../../bytes/blocks.ts"
import { ByteQueue } from "../../bytes/byteQueue.ts"
import type { Stopping, TooLong } from "../framing.ts"
import { tooLong } from "../framing.ts"

export const LF = 10
export const CR = 13

/** Whether the mark, or as much of it as there is room for before `end`, is in `bytes` at `at`. */
const isAt = (mark: Uint8Array, bytes: Uint8Array, at: number, end: number): boolean => {
  const n = Math.min(mark.length, end - at)
  let i = 0
  while (i < n && bytes[at + i] === mark[i]) i++
  return i === n
}

/** Where the first mark from `from` on ends, or 0. */
export const endOf = (mark: Uint8Array, bytes: Uint8Array, from: number): number => {
  for (let at = bytes.indexOf(mark[0], from); at >= 0; at = bytes.indexOf(mark[0], at + 1)) {
    if (at + mark.length <= bytes.length && isAt(mark, bytes, at, bytes.length)) return at + mark.length
  }
  return 0
}

/** The payload with its mark. */
export const withMark = (payload: Uint8Array, mark: Uint8Array): Uint8Array => {
  const frame = new Uint8Array(payload.length + mark.length)
  frame.set(payload)
  frame.set(mark, payload.length)
  return frame
}

export interface MarkDecoder extends Stopping {
  /** `write` for a part of a chunk that had `whole` bytes. */
  readonly scan: (
    part: Uint8Array,
    whole: number,
    frames: Array<Uint8Array>,
    skipped: Array<FrameTooLong>
  ) => CodecReason | undefined
}

/** With `lines` the mark is `\r\n`, and `\n` alone is one too. */
export const marked = (mark: Uint8Array, lines: boolean, limit: number, policy: TooLong): MarkDecoder => {
  const queue = new ByteQueue()
  // bytes that have come of the unfinished frame
  let come = 0
  let skipping = false
  // its last bytes, in which a mark may have begun, with room for what may end it
  const most = mark.length - 1
  const seam = new Uint8Array(2 * most)
  let tail = 0
  let blocks: Blocks | undefined

  /** Where a mark that began in the tail ends in `part`, or 0. */
  const straddled = (part: Uint8Array): number => {
    const n = Math.min(most, part.length)
    for (let i = 0; i < n; i++) seam[tail + i] = part[i]
    for (let at = 0; at < tail && at + mark.length <= tail + n; at++) {
      if (isAt(mark, seam, at, tail + n)) return at + mark.length - tail
    }
    return 0
  }

  /** How many bytes at the end of what has come may turn out to belong to a mark. */
  const undecided = (): number => {
    let at = 0
    while (at < tail && !isAt(mark, seam, at, tail)) at++
    return tail - at
  }

  /** Keeps a part without a mark. */
  const hold = (part: Uint8Array, whole: number, skipped: Array<FrameTooLong>): CodecReason | undefined => {
    const n = Math.min(most, part.length)
    const kept = Math.min(tail, most - n)
    seam.copyWithin(0, tail - kept, tail)
    for (let i = 0; i < n; i++) seam[kept + i] = part[part.length - n + i]
    tail = kept + n
    come += part.length
    if (skipping) return undefined
    if (come <= limit || come - undecided() <= limit) {
      queue.push(part, whole)
      return undefined
    }
    queue.clear()
    const error = tooLong(come, limit)
    if (!policy.skips) return error
    skipping = true
    if (policy.atHeader) skipped.push(error)
    return undefined
  }

  const scan: MarkDecoder["scan"] = (part, whole, frames, skipped) => {
    let pos = 0
    if (self.copies) (blocks ??= new Blocks()).begin(part)
    self.stoppedAt = part.length
    while (pos < part.length) {
      if (frames.length >= self.mostFrames) {
        self.stoppedAt = pos
        break
      }
      let end = come > 0 ? straddled(part) : 0
      let ending = mark.length
      if (end === 0) {
        end = lines ? part.indexOf(LF, pos) + 1 : endOf(mark, part, pos)
        if (end === 0) return hold(pos === 0 ? part : part.subarray(pos), whole, skipped)
        if (lines && part[end - 2] !== CR) ending = 1
      }
      const size = come + end - pos - ending
      if (size <= limit && !skipping) {
        // of the mark, too, a part may be held
        const held = Math.min(size, queue.size)
        const to = pos + size - held
        frames.push(
          blocks !== undefined && queue.size === 0
            ? blocks.take(part, pos, to)
            : queue.take(held, part.subarray(pos, to))
        )
      } else if (!policy.skips) {
        return tooLong(size, limit)
      } else if (!skipping || !policy.atHeader) {
        skipped.push(tooLong(size, limit))
        queue.clear()
      }
      pos = end
      come = 0
      tail = 0
      skipping = false
    }
    blocks?.end()
    return undefined
  }

  const self: MarkDecoder = {
    mostFrames: Infinity,
    stoppedAt: 0,
    copies: false,
    get pending() {
      return come
    },
    scan,
    write: (chunk, frames, skipped) => scan(chunk, chunk.length, frames, skipped)
  }
  return self
}

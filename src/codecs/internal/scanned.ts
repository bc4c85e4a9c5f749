/** A framing of frames whose end is found by reading them. */
import * as Result from "effect/Result"
import type { CodecReason } from "../../ConnectionError.ts"
import { FrameTooLong } from "../../ConnectionError.ts"
import type { FrameDecoder, Framing } from "../../internal/codec/framing.ts"

/** Finds the end of one frame after the other. It remembers how far it came, so that no byte is read twice. */
export interface Scanner {
  /**
   * Reads on in the frame that begins at `start`; what has come ends where `bytes` does. Returns where the frame ends; 0 when it is
   * not complete; why there can be no such frame.
   */
  readonly scan: (bytes: Uint8Array, start: number) => number | CodecReason
  /** How long the frame has to be at least, by what was read of it: a frame over the limit is refused before it comes. */
  readonly least: number
  /** How many bytes from `start` on, ahead of a frame, belong to none. */
  readonly passed?: (bytes: Uint8Array, start: number) => number
}

const leastCapacity = 512

const tooLong = (size: number, limit: number) => new FrameTooLong({ direction: "decode", size, limit })

const decoder = (scanner: Scanner, limit: number): FrameDecoder => {
  // what has come of an unfinished frame, in a buffer that grows by doubling
  let held = new Uint8Array(0)
  let size = 0

  const hold = (chunk: Uint8Array): void => {
    if (size + chunk.length > held.length) {
      const larger = new Uint8Array(Math.max(leastCapacity, size + chunk.length, 2 * held.length))
      larger.set(held.subarray(0, size))
      held = larger
    }
    held.set(chunk, size)
    size += chunk.length
  }

  return {
    get pending() {
      return size
    },
    write(chunk, frames) {
      let bytes = chunk
      if (size > 0) {
        hold(chunk)
        // the buffer is longer than what has come: a search for the end of a line would go through all of it
        bytes = held.subarray(0, size)
      }
      const end = bytes.length
      let start = 0
      while (start < end) {
        start += scanner.passed?.(bytes, start) ?? 0
        if (start === end) break
        const found = scanner.scan(bytes, start)
        if (typeof found !== "number") return found
        if (found === 0) {
          const known = Math.max(scanner.least, end - start)
          if (known > limit) return tooLong(known, limit)
          break
        }
        if (found - start > limit) return tooLong(found - start, limit)
        frames.push(bytes.subarray(start, found))
        start = found
      }
      if (bytes === chunk) {
        if (start < end) hold(chunk.subarray(start))
      } else if (start > 0) {
        // frames are views of what was held
        const rest = bytes.subarray(start)
        held = new Uint8Array(0)
        size = 0
        if (rest.length > 0) hold(rest)
      }
      return undefined
    }
  }
}

/** The payload of such a frame is all of it: it is written as it is. */
export const scanned = (name: string, makeScanner: () => Scanner): Framing => ({
  name,
  skips: false,
  decoder: (limit) => decoder(makeScanner(), limit),
  encode: Result.succeed
})

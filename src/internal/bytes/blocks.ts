/** Views of a chunk that keep little more alive than themselves. */
import { uncleared } from "./memory.ts"

/** A buffer of up to so many bytes may be kept by any view of it; of a larger one by a view of a quarter of it. */
export const smallBuffer = 16 * 1024

/** Small frames that lie together share a copy of so many bytes: one allocation for many, and no frame keeps more. */
export const blockSize = 4096

const empty = new Uint8Array(0)

/** Copies a part of a chunk. Not `slice`, which is a view where the chunk is a `Buffer`. */
const copyOf = (chunk: Uint8Array, from: number, to: number): Uint8Array => {
  const copy = uncleared(to - from)
  copy.set(chunk.subarray(from, to))
  return copy
}

/**
 * Takes frames out of one chunk after the other, in order. A frame keeps alive at most four times its size or 4 KiB, or a buffer
 * of up to 16 KiB: an application that keeps one message in a thousand does not keep the other 999.
 */
export class Blocks {
  private held = 0
  // of the chunk, once a view of it is taken
  private buffer: ArrayBufferLike | undefined
  private block: Uint8Array = empty
  private from = 0
  private to = 0

  /** Begins with a chunk; the frames of the one before have been taken. */
  begin(chunk: Uint8Array): void {
    // `buffer` gives a short array that has none a buffer: only long ones are asked
    this.held = chunk.length <= blockSize && chunk.byteOffset === 0 ? 0 : chunk.buffer.byteLength
    this.buffer = undefined
    this.block = empty
    this.to = 0
  }

  take(chunk: Uint8Array, from: number, to: number): Uint8Array {
    const { held } = this
    const size = to - from
    if (held <= smallBuffer || size * 4 >= held) {
      // not `subarray`, which makes a `Buffer` where the chunk is one: that takes twice as long
      return new Uint8Array(this.buffer ??= chunk.buffer, chunk.byteOffset + from, size)
    }
    if (size * 4 >= blockSize) return copyOf(chunk, from, to)
    if (to > this.to) {
      this.to = Math.min(from + blockSize, chunk.length)
      this.from = from
      this.block = copyOf(chunk, from, this.to)
    }
    return this.block.subarray(from - this.from, to - this.from)
  }

  /** Lets go of the chunk. */
  end(): void {
    this.buffer = undefined
    this.block = empty
    this.to = 0
  }
}

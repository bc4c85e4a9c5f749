/** Small frames one behind the other in one buffer: one allocation a write, not one a message. */

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

/** Frames behind each other, waiting for one write. Their bytes are a piece of a buffer that others have pieces of. */
export class FrameBuffer {
  private buffer = slab
  private start = 0
  private end = 0
  // where the buffer goes on with something else
  private limit = 0
  // of these as many as `added`: an array that is emptied would be a new one each time
  private readonly ends: Array<number> = []
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
    begun.ends[0] = begun.end
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

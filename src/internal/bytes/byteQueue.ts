/** The bytes of one unfinished frame: chunks are kept as they came and joined once. */
import { release, uncleared } from "./memory.ts"

/** Below this many bytes a piece is copied into a block: a view costs about 100 bytes and retains its chunk. */
const smallest = 512
const firstBlock = 64
const largestBlock = 16384
const empty = new Uint8Array(0)
const none: Array<Uint8Array> = []

/** A class, not closures: there is one for each connection, and most of them are empty. */
export class ByteQueue {
  /** Bytes held. */
  size = 0
  private pieces = none
  // the block that small pieces are copied into; its part between `from` and `filled` is not in `pieces` yet
  private block = empty
  private from = 0
  private filled = 0

  private keep(piece: Uint8Array) {
    // `none` is shared
    if (this.pieces.length === 0) this.pieces = [piece]
    else this.pieces.push(piece)
  }

  private seal() {
    if (this.filled > this.from) this.keep(this.block.subarray(this.from, this.filled))
    this.from = this.filled
  }

  /** Lets go of everything. */
  clear() {
    this.pieces = none
    this.size = 0
    this.block = empty
    this.from = 0
    this.filled = 0
  }

  /** Keeps a copy of a piece. */
  copy(piece: Uint8Array) {
    let at = 0
    while (at < piece.length) {
      if (this.filled === this.block.length) {
        this.seal()
        // grows with what has come, never with what was announced
        const n = Math.max(firstBlock, Math.min(largestBlock, this.size), Math.min(largestBlock, piece.length))
        this.block = new Uint8Array(n)
        this.from = 0
        this.filled = 0
      }
      const n = Math.min(piece.length - at, this.block.length - this.filled)
      if (n === 1) this.block[this.filled] = piece[at]
      else this.block.set(n === piece.length ? piece : piece.subarray(at, at + n), this.filled)
      this.filled += n
      this.size += n
      at += n
    }
  }

  /** Keeps a piece of a chunk that had `whole` bytes: as a view when that is worth its memory, else as a copy. */
  push(piece: Uint8Array, whole: number) {
    if (piece.length < smallest || piece.length * 4 < whole) return this.copy(piece)
    this.seal()
    this.keep(piece)
    this.size += piece.length
  }

  /** Gives the first `n` bytes of what is held and `last`, and empties the queue. One piece is not copied. */
  take(n: number, last: Uint8Array = empty): Uint8Array {
    if (this.size === 0) return last
    this.seal()
    let frame: Uint8Array
    if (n === 0) frame = last
    else if (this.pieces.length === 1 && last.length === 0) frame = this.pieces[0].subarray(0, n)
    else {
      frame = uncleared(n + last.length)
      let at = 0
      for (const piece of this.pieces) {
        if (at === n) break
        const part = piece.length > n - at ? piece.subarray(0, n - at) : piece
        frame.set(part, at)
        at += part.length
        release(piece)
      }
      frame.set(last, n)
      release(last)
    }
    this.clear()
    return frame
  }
}

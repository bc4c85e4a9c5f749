/** What a host has received for one end of a connection, and nobody has read yet. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type { Draw } from "../fabric/random.ts"

export type Chunk = Uint8Array | string
export type Batch = NonEmptyReadonlyArray<Chunk>
export type Resume<A> = (effect: Effect.Effect<A, Socket.SocketError>) => void

const encoder = new TextEncoder()

export const sizeOf = (chunk: Chunk): number =>
  typeof chunk === "string" ? encoder.encode(chunk).byteLength : chunk.byteLength

/** Owned by one end: plain fields, changed synchronously. */
export class Incoming {
  private chunks: Array<Chunk> = []
  /** Bytes that wait for a reader. */
  bytes = 0
  /** Bytes ever received, read or not. */
  received = 0
  /** Why there will be nothing more. */
  end: (() => Socket.SocketError) | undefined
  waiter: Resume<Batch> | undefined

  get read(): number {
    return this.received - this.bytes
  }

  get hasData(): boolean {
    return this.chunks.length > 0
  }

  push(chunks: ReadonlyArray<Chunk>, bytes: number): void {
    for (const chunk of chunks) this.chunks.push(chunk)
    this.bytes += bytes
    this.received += bytes
  }

  /** What was not read yet is lost. */
  discard(): void {
    this.chunks = []
    this.bytes = 0
  }

  /** Takes what is there; with `draw`, in pieces that have nothing to do with what was written, and not always all. */
  take(draw: Draw | undefined): Batch {
    const chunks = this.chunks
    if (draw === undefined) {
      this.discard()
      return chunks as never
    }
    return this.takeSliced(chunks as Array<Uint8Array>, draw)
  }

  private takeSliced(chunks: ReadonlyArray<Uint8Array>, draw: Draw): Batch {
    const total = this.bytes
    const pieces: Array<Uint8Array> = []
    let at = 0
    let left = total
    let chunk = 0
    let offset = 0
    /** Takes bytes off the front, without a copy where they are in one chunk. */
    const cut = (size: number): Uint8Array => {
      const first = chunks[chunk]
      if (first.byteLength - offset >= size) {
        const piece = first.subarray(offset, offset + size)
        offset += size
        if (offset === first.byteLength) {
          chunk++
          offset = 0
        }
        return piece
      }
      const piece = new Uint8Array(size)
      let filled = 0
      while (filled < size) {
        const part = chunks[chunk].subarray(offset, offset + size - filled)
        piece.set(part, filled)
        filled += part.byteLength
        offset += part.byteLength
        if (offset === chunks[chunk].byteLength) {
          chunk++
          offset = 0
        }
      }
      return piece
    }
    // up to three pieces; what is behind the last cut waits for the next read every other time
    while (left > 0) {
      const isLast = pieces.length === 2 || left === 1 || draw() < 0.5
      const size = isLast ? left : 1 + Math.floor(draw() * (left - 1))
      if (isLast && pieces.length > 0 && draw() < 0.5) break
      pieces.push(cut(size))
      at += size
      left -= size
    }
    const rest = chunks.slice(chunk)
    if (offset > 0) rest[0] = rest[0].subarray(offset)
    this.chunks = rest
    this.bytes = total - at
    return pieces as never
  }
}

/** The receive buffer of one end: what its host has received and its application has not read. */
import type * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type { Batch, Chunk } from "../fabric/chunk.ts"
import type { Flow, Path } from "../fabric/path.ts"
import type { Draw } from "../fabric/random.ts"

export type Resume<A> = (effect: Effect.Effect<A, Socket.SocketError>) => void

/** The end of a connection that receives. */
export interface Receiver {
  readonly path: Path
  readonly settings: { readonly receiveBuffer: number }
  /** Nothing can reach the peer at the moment, and the receiver is not told. */
  readonly isSilenced: boolean
  readonly peer: {
    readonly phase: "opening" | "open" | "over"
    readonly outgoing: {
      acknowledge(at: number, received: number, edge: number): void
      acknowledgementLost(): void
    }
  }
}

/** Owned by one end: plain fields, changed synchronously. */
export class Incoming {
  private readonly receiver: Receiver
  private readonly flow: Flow = { lastDue: 0 }
  /** An acknowledgement waits for the end of a hold. */
  private isOwing = false
  private chunks: Array<Chunk> = []
  /** Bytes received and not read. */
  bytes = 0
  /** Bytes ever received, read or not. */
  received = 0
  /** Why nothing more comes. */
  end: (() => Socket.SocketError) | undefined
  /** The pull that waits. */
  waiter: Resume<Batch> | undefined

  constructor(receiver: Receiver) {
    this.receiver = receiver
  }

  get hasData(): boolean {
    return this.chunks.length > 0
  }

  push(chunks: ReadonlyArray<Chunk>, bytes: number): void {
    for (const chunk of chunks) this.chunks.push(chunk)
    this.bytes += bytes
    this.received += bytes
  }

  /** Forgets what was not read. */
  discard(): void {
    this.chunks = []
    this.bytes = 0
  }

  /** Tells the peer what is here and how much more fits. */
  acknowledge(): void {
    const { isSilenced, path, peer, settings } = this.receiver
    if (peer.phase !== "open") return
    if (isSilenced) return peer.outgoing.acknowledgementLost()
    this.isOwing = path.hold !== undefined
    if (this.isOwing) return
    const edge = this.received - this.bytes + settings.receiveBuffer
    peer.outgoing.acknowledge(path.arrival(this.flow), this.received, edge)
  }

  pathChanged(): void {
    if (this.isOwing && this.receiver.path.hold === undefined) this.acknowledge()
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

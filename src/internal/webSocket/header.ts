/** Reads the headers of a peer's frames, also those that come in pieces (RFC 6455, 5.2). */
import { type Failure, tooLong, violation } from "./failure.ts"
import { FIN, longestControl, longestHeader, MASK, Opcode, readWord, reservedBits } from "./frames.ts"

/** Which end of a connection this one is: a client masks its frames, a server does not. */
export type Role = "server" | "client"

/** The message that has begun, as far as its headers said. */
export interface Begun {
  /** Its opcode, or 0 between messages. */
  readonly kind: number
  /** The reserved bits of its first frame. */
  readonly reserved: number
  /** Bytes of its frames so far. */
  readonly size: number
}

const empty = new Uint8Array(0)

/** Holds the header read last, and what came of one that is not complete. */
export class Header {
  /** The bit that says that a masking key follows, where there has to be one, and the bytes of the key. */
  readonly maskBit: number
  readonly maskSize: number
  private readonly limit: number
  private readonly compressedLimit: number
  private readonly least: number
  private readonly allowed: number
  // of a header that was split; made when that happens for the first time
  private head = empty
  /** Bytes that have come of a header that is not complete. */
  come = 0
  /** The first byte: `FIN`, reserved bits, opcode. */
  first = 0
  /** Bytes of the payload. */
  length = 0
  /** The masking key, 0 without one. */
  key = 0
  /** Bytes of the header. */
  size = 0
  /** What is wrong with it. */
  failure: Failure | undefined

  /**
   * `limit`: the most bytes of a message; `compressedLimit`: of one whose first frame has a reserved bit. `allowed`: the bits that it
   * may have.
   */
  constructor(role: Role, limit: number, allowed: number, compressedLimit = limit) {
    const isMasked = role === "server"
    this.maskBit = isMasked ? MASK : 0
    this.maskSize = isMasked ? 4 : 0
    this.limit = limit
    this.compressedLimit = compressedLimit
    this.least = Math.min(limit, compressedLimit)
    this.allowed = allowed
  }

  /** Lets go of what came. */
  clear(): void {
    this.head = empty
    this.come = 0
  }

  /** Goes on with a header, and returns where it ends in the chunk; -1 where more of it has to come, or something is wrong. */
  take(chunk: Uint8Array, pos: number, end: number, begun: Begun): number {
    const { come, head } = this
    if (come === 0) {
      if (this.read(chunk, pos, end, begun)) return pos + this.size
      if (this.failure !== undefined) return -1
      if (head.length === 0) this.head = new Uint8Array(longestHeader)
      for (let i = pos; i < end; i++) this.head[i - pos] = chunk[i]!
      this.come = end - pos
      return -1
    }
    const to = Math.min(longestHeader, come + end - pos)
    for (let i = come; i < to; i++) head[i] = chunk[pos + i - come]!
    if (this.read(head, 0, to, begun)) {
      this.come = 0
      return pos + this.size - come
    }
    this.come = to
    return -1
  }

  /** Whether a header is complete, and nothing is wrong with it. */
  private read(bytes: Uint8Array, at: number, to: number, begun: Begun): boolean {
    if (to - at < 2) return false
    const first = bytes[at]!
    const second = bytes[at + 1]!
    const wrong = this.wrong(first, second, begun.kind)
    if (wrong !== undefined) return this.refuse(violation(wrong))
    let length = second & 0x7f
    let next = at + 2
    if (length > 125) {
      const width = length === 126 ? 2 : 8
      if (to - next < width) return false
      if (width === 2) length = (bytes[next]! << 8) | bytes[next + 1]!
      else if (bytes[next]! > 0x7f) return this.refuse(violation("a length of 64 bits has its highest bit set"))
      else length = (readWord(bytes, next) >>> 0) * 0x1_0000_0000 + (readWord(bytes, next + 4) >>> 0)
      if (length <= (width === 2 ? 125 : 0xffff)) {
        return this.refuse(violation(`a length of ${length} is written in ${8 * width} bits`))
      }
      next += width
    }
    const total = begun.size + length
    if ((first & 0x08) === 0 && total > this.least) {
      const isPlain = (begun.kind === 0 ? first & reservedBits : begun.reserved) === 0
      if (total > (isPlain ? this.limit : this.compressedLimit)) return this.refuse(tooLong(total, this.least))
    }
    if (to - next < this.maskSize) return false
    this.key = this.maskSize === 0 ? 0 : readWord(bytes, next)
    this.first = first
    this.length = length
    this.size = next + this.maskSize - at
    return true
  }

  private refuse(failure: Failure): false {
    this.failure = failure
    return false
  }

  /** What the first two bytes of a frame break. */
  private wrong(first: number, second: number, kind: number): string | undefined {
    const opcode = first & 0x0f
    const begins = opcode === Opcode.text || opcode === Opcode.binary
    if ((first & reservedBits & ~(begins ? this.allowed : 0)) !== 0) return "a reserved bit is set"
    if (opcode > Opcode.pong || (opcode > Opcode.binary && opcode < Opcode.close)) return `opcode ${opcode} is reserved`
    if (opcode >= Opcode.close) {
      const length = second & 0x7f
      if ((first & FIN) === 0) return "a control frame is fragmented"
      if (length > longestControl) return "a control frame is longer than 125 bytes"
      if (opcode === Opcode.close && length === 1) return "a close frame has half a code"
    } else if (begins && kind !== 0) return "a message begins inside another one"
    else if (opcode === Opcode.continuation && kind === 0) return "a fragment continues no message"
    if ((second & MASK) === this.maskBit) return undefined
    return this.maskBit === 0 ? "a frame of the server is masked" : "a frame of the client is not masked"
  }
}

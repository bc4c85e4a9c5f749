/** Reads the frames of a WebSocket from a byte stream and puts its messages together (RFC 6455, 5). */
import { ByteQueue } from "../bytes/byteQueue.ts"
import { textOf } from "../bytes/utf8.ts"
import { readClose } from "./closing.ts"
import { type Failure, notText, tooLong, violation } from "./failure.ts"
import {
  advanceKey,
  FIN,
  longestControl,
  longestHeader,
  MASK,
  mask,
  maskInto,
  Opcode,
  readWord,
  reservedBits
} from "./frames.ts"
import { Utf8Check } from "./utf8Check.ts"

/** Which end of a connection this one is: a client masks its frames, a server does not. */
export type Role = "server" | "client"

/** Told what a chunk brings, in order, while it is read. */
export interface Events {
  /** A whole message: bytes for a binary one, a string for text. */
  readonly message: (payload: Uint8Array | string) => void
  readonly ping: (payload: Uint8Array) => void
  readonly pong: (payload: Uint8Array) => void
  /** The peer's close frame, the last event. The code is 1005 where the frame has none. */
  readonly close: (code: number, reason: string) => void
}

/** An extension of the protocol that both ends agreed to in the upgrade. */
export interface Extension {
  /** The reserved bits that the first frame of a message may have: `RSV1`. */
  readonly reserved: number
  /** What a whole message with one of these bits stands for. `limit` is the most bytes that it may come to. */
  readonly decode: (payload: Uint8Array, limit: number) => Uint8Array | Failure
}

export interface ReaderOptions {
  readonly role: Role
  /** The most bytes of a message, all of its fragments together. */
  readonly maxFrame: number
  readonly extension?: Extension | undefined
}

const empty = new Uint8Array(0)

// a chunk of so many bytes may be kept for a message in it
const smallChunk = 4096

/**
 * Reads one connection. Holds state: make one per connection.
 *
 * A chunk belongs to the reader from `write` on: it is unmasked where it is, and messages may be views of it. A message that is
 * less than a quarter of a large chunk is copied, so that it does not keep the chunk in memory.
 */
export class Reader {
  private readonly maskBit: number
  private readonly maskSize: number
  private readonly limit: number
  private readonly allowed: number
  private readonly extension: Extension | undefined
  private readonly events: Events
  // the opcode of the message that has begun, or 0; its reserved bits; its bytes as announced, and as they have come with headers
  private kind = 0
  private reserved = 0
  private size = 0
  private come = 0
  // made for the first message that comes in pieces
  private queue: ByteQueue | undefined
  private check: Utf8Check | undefined
  // the frame whose header is complete and whose payload is not: its first byte, what is to come, the key for that
  private inside = false
  private first = 0
  private left = 0
  private key = 0
  // a header that was split; made when that happens for the first time
  private head = empty
  private headCome = 0
  // the payload of a control frame that was split, and all bytes of it that have come
  private control = empty
  private controlCome = 0
  private controlFilled = 0
  private isOver = false
  private failure: Failure | undefined

  constructor(options: ReaderOptions, events: Events) {
    const isMasked = options.role === "server"
    this.maskBit = isMasked ? MASK : 0
    this.maskSize = isMasked ? 4 : 0
    this.limit = options.maxFrame
    this.extension = options.extension
    this.allowed = options.extension?.reserved ?? 0
    this.events = events
  }

  /**
   * Bytes that have come of what is not complete: the message that has begun, with its headers and earlier fragments, and a control
   * frame in it. 0 between messages.
   */
  get pending(): number {
    return this.come + this.headCome + this.controlCome
  }

  /** Whether nothing more is read: the peer has sent a close frame, or something that is wrong. */
  get hasEnded(): boolean {
    return this.isOver
  }

  /** Reads a chunk, and says what the connection cannot go on after. After that, and after a close frame, nothing is read. */
  write(chunk: Uint8Array): Failure | undefined {
    const { limit, maskBit, maskSize } = this
    const end = chunk.length
    let pos = 0
    while (pos < end && !this.isOver) {
      if (this.inside) {
        pos = this.advance(chunk, pos, end)
        continue
      }
      // a short message that is here as a whole: the first two bytes say that nothing is special about it
      if (this.headCome === 0 && this.kind === 0 && end - pos >= 2) {
        const first = chunk[pos]!
        const length = chunk[pos + 1]! ^ maskBit
        const start = pos + 2 + maskSize
        if ((first === 0x82 || first === 0x81) && length <= 125 && start + length <= end && length <= limit) {
          const key = maskSize === 0 ? 0 : readWord(chunk, pos + 2)
          pos = start + length
          this.deliver(chunk, start, pos, key, first === 0x81)
          continue
        }
      }
      pos = this.begin(chunk, pos, end)
    }
    return this.failure
  }

  private fail(failure: Failure): void {
    this.failure = failure
    this.finish()
  }

  /** Lets go of everything. */
  private finish(): void {
    this.isOver = true
    this.queue = undefined
    this.check = undefined
    this.head = this.control = empty
    this.come = this.headCome = this.controlCome = 0
  }

  /** A payload of its own, unmasked: a view of the chunk where most of that is the payload. */
  private own(chunk: Uint8Array, from: number, to: number, key: number): Uint8Array {
    const held = chunk.buffer.byteLength
    if (held > smallChunk && (to - from) * 4 < held) {
      const copy = new Uint8Array(to - from)
      maskInto(chunk, from, to, copy, 0, key)
      return copy
    }
    mask(chunk, from, to, key)
    return chunk.subarray(from, to)
  }

  /** A message that came in one piece. */
  private deliver(chunk: Uint8Array, from: number, to: number, key: number, isText: boolean): void {
    if (!isText) return this.events.message(this.own(chunk, from, to, key))
    mask(chunk, from, to, key)
    const text = textOf(chunk.subarray(from, to))
    if (text === undefined) this.fail(notText())
    else this.events.message(text)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // headers
  // -------------------------------------------------------------------------------------------------------------------

  /** Goes on with a header, and returns where it ends in the chunk. */
  private begin(chunk: Uint8Array, pos: number, end: number): number {
    const { head, headCome } = this
    let next: number
    let header: number
    if (headCome === 0) {
      header = this.readHeader(chunk, pos, end)
      if (header === 0) {
        if (head.length === 0) this.head = new Uint8Array(longestHeader)
        for (let i = pos; i < end; i++) this.head[i - pos] = chunk[i]!
        this.headCome = end - pos
        return end
      }
      next = pos + header
    } else {
      const to = Math.min(longestHeader, headCome + end - pos)
      for (let i = headCome; i < to; i++) head[i] = chunk[pos + i - headCome]!
      header = this.readHeader(head, 0, to)
      if (header === 0) {
        this.headCome = to
        return end
      }
      this.headCome = 0
      next = pos + header - headCome
    }
    if (header < 0) return end
    this.inside = true
    if ((this.first & 0x08) !== 0) this.controlCome = header
    else this.come += header
    // what has no payload is complete, even where the chunk ends
    return this.left === 0 ? this.advance(chunk, next, end) : next
  }

  /** Reads a header, and returns its size: 0 where more of it has to come, -1 where it is wrong. */
  private readHeader(bytes: Uint8Array, at: number, to: number): number {
    if (to - at < 2) return 0
    const first = bytes[at]!
    const second = bytes[at + 1]!
    const wrong = this.wrong(first, second)
    if (wrong !== undefined) return this.refuse(violation(wrong))
    let length = second & 0x7f
    let next = at + 2
    if (length > 125) {
      const width = length === 126 ? 2 : 8
      if (to - next < width) return 0
      if (width === 2) length = (bytes[next]! << 8) | bytes[next + 1]!
      else if (bytes[next]! > 0x7f) return this.refuse(violation("a length of 64 bits has its highest bit set"))
      else length = (readWord(bytes, next) >>> 0) * 0x1_0000_0000 + (readWord(bytes, next + 4) >>> 0)
      if (length <= (width === 2 ? 125 : 0xffff)) {
        return this.refuse(violation(`a length of ${length} is written in ${8 * width} bits`))
      }
      next += width
    }
    const isData = (first & 0x08) === 0
    if (isData && this.size + length > this.limit) return this.refuse(tooLong(this.size + length, this.limit))
    if (to - next < this.maskSize) return 0
    this.key = this.maskSize === 0 ? 0 : readWord(bytes, next)
    this.first = first
    this.left = length
    if (isData) {
      this.size += length
      if (this.kind === 0) {
        this.kind = first & 0x0f
        this.reserved = first & reservedBits
      }
    }
    return next + this.maskSize - at
  }

  private refuse(failure: Failure): -1 {
    this.fail(failure)
    return -1
  }

  /** What the first two bytes of a frame break. */
  private wrong(first: number, second: number): string | undefined {
    const opcode = first & 0x0f
    const begins = opcode === Opcode.text || opcode === Opcode.binary
    if ((first & reservedBits & ~(begins ? this.allowed : 0)) !== 0) return "a reserved bit is set"
    if (opcode > Opcode.pong || (opcode > Opcode.binary && opcode < Opcode.close)) return `opcode ${opcode} is reserved`
    if (opcode >= Opcode.close) {
      const length = second & 0x7f
      if ((first & FIN) === 0) return "a control frame is fragmented"
      if (length > longestControl) return "a control frame is longer than 125 bytes"
      if (opcode === Opcode.close && length === 1) return "a close frame has half a code"
    } else if (begins && this.kind !== 0) return "a message begins inside another one"
    else if (opcode === Opcode.continuation && this.kind === 0) return "a fragment continues no message"
    if ((second & MASK) === this.maskBit) return undefined
    return this.maskBit === 0 ? "a frame of the server is masked" : "a frame of the client is not masked"
  }

  // -------------------------------------------------------------------------------------------------------------------
  // payloads
  // -------------------------------------------------------------------------------------------------------------------

  /** Goes on with a payload, and returns where it ends in the chunk. */
  private advance(chunk: Uint8Array, pos: number, end: number): number {
    const { first, key, left } = this
    const to = pos + Math.min(left, end - pos)
    this.left = left - (to - pos)
    this.inside = this.left > 0
    this.key = advanceKey(key, to - pos)
    if ((first & 0x08) !== 0) this.advanceControl(chunk, pos, to, key)
    else this.advanceMessage(chunk, pos, to, key)
    return to
  }

  private advanceMessage(chunk: Uint8Array, from: number, to: number, key: number): void {
    const { kind, queue, reserved } = this
    const isEnd = !this.inside && (this.first & FIN) !== 0
    const isText = kind === Opcode.text
    const held = queue === undefined ? 0 : queue.size
    // all of it is here
    if (isEnd && held === 0 && to - from === this.size) {
      this.forget()
      if (reserved === 0) this.deliver(chunk, from, to, key, isText)
      else this.extended(this.own(chunk, from, to, key), isText)
      return
    }
    mask(chunk, from, to, key)
    if (isText && reserved === 0) {
      const check = this.check ??= new Utf8Check()
      if (!check.write(chunk, from, to) || (isEnd && !check.isComplete)) return this.fail(notText())
    }
    const piece = from === to ? empty : chunk.subarray(from, to)
    if (!isEnd) {
      this.come += to - from
      if (to > from) (this.queue ??= new ByteQueue()).push(piece, chunk.length)
      return
    }
    const payload = queue === undefined ? piece : queue.take(held, piece)
    this.forget()
    if (reserved !== 0) this.extended(payload, isText)
    else this.events.message(isText ? textOf(payload)! : payload)
  }

  /** The next frame begins a message. */
  private forget(): void {
    this.kind = this.size = this.come = 0
  }

  /** A message as the extension reads it. */
  private extended(payload: Uint8Array, isText: boolean): void {
    const decoded = this.extension!.decode(payload, this.limit)
    if (!(decoded instanceof Uint8Array)) return this.fail(decoded)
    if (!isText) return this.events.message(decoded)
    const text = textOf(decoded)
    if (text === undefined) this.fail(notText())
    else this.events.message(text)
  }

  private advanceControl(chunk: Uint8Array, from: number, to: number, key: number): void {
    const filled = this.controlFilled
    let payload: Uint8Array
    if (filled === 0 && !this.inside) payload = from === to ? empty : this.own(chunk, from, to, key)
    else {
      if (this.control.length === 0) this.control = new Uint8Array(longestControl)
      maskInto(chunk, from, to, this.control, filled, key)
      this.controlFilled += to - from
      this.controlCome += to - from
      if (this.inside) return
      payload = this.control.slice(0, this.controlFilled)
    }
    this.controlCome = this.controlFilled = 0
    const opcode = this.first & 0x0f
    if (opcode === Opcode.ping) this.events.ping(payload)
    else if (opcode === Opcode.pong) this.events.pong(payload)
    else this.close(payload)
  }

  private close(payload: Uint8Array): void {
    const said = readClose(payload)
    if ("reason" in said && typeof said.reason === "string") {
      this.finish()
      this.events.close(said.code, said.reason)
    } else this.fail(said as Failure)
  }
}

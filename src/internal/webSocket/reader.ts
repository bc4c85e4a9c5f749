/** Reads the frames of a WebSocket from a byte stream and puts its messages together (RFC 6455, 5). */
import { ByteQueue } from "../bytes/byteQueue.ts"
import { textOf } from "../bytes/utf8.ts"
import { readClose } from "./closing.ts"
import { type Failure, notText } from "./failure.ts"
import { advanceKey, FIN, longestControl, mask, maskInto, Opcode, readWord, reservedBits } from "./frames.ts"
import { type Begun, Header, type Role } from "./header.ts"
import { Utf8Check } from "./utf8Check.ts"

/** Told what a chunk brings, in order, while it is read. */
export interface Events {
  /** A whole message: bytes for a binary one, a string for text. One that was compressed had so many bytes less. */
  readonly message: (payload: Uint8Array | string, inflated?: number) => void
  /** A message that was too long has passed, where those are skipped; of one that was compressed so many bytes were inflated. */
  readonly skip?: (size: number, inflated?: number) => void
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
  /** The most bytes of a message before it is decoded, where `limit` is the most after that. Default: `limit`. */
  readonly longest?: ((limit: number) => number) | undefined
  /** A message that is not decoded leaves the next one without what it refers to: none is passed over. */
  readonly keepsContext?: boolean | undefined
}

export interface ReaderOptions {
  readonly role: Role
  /** The most bytes of a message, all of its fragments together. */
  readonly maxFrame: number
  /** Passes over messages that are longer, and goes on. Default: an error. */
  readonly skips?: boolean | undefined
  readonly extension?: Extension | undefined
}

const empty = new Uint8Array(0)

// a chunk of so many bytes may be kept for a message in it
const smallChunk = 4096

/** A payload of its own, unmasked: a view of the chunk where most of that is the payload. */
const own = (chunk: Uint8Array, from: number, to: number, key: number): Uint8Array => {
  const held = chunk.buffer.byteLength
  if (held > smallChunk && (to - from) * 4 < held) {
    const copy = new Uint8Array(to - from)
    maskInto(chunk, from, to, copy, 0, key)
    return copy
  }
  mask(chunk, from, to, key)
  return chunk.subarray(from, to)
}

const longestOf = ({ extension, maxFrame }: ReaderOptions): number => extension?.longest?.(maxFrame) ?? maxFrame

/** Whether messages that an extension decodes are passed over where they are too long. */
const skipsOf = ({ extension, skips = false }: ReaderOptions): boolean => skips && extension?.keepsContext !== true

const headerOf = (options: ReaderOptions): Header =>
  new Header(
    options.role,
    options.skips === true ? Infinity : options.maxFrame,
    options.extension?.reserved ?? 0,
    skipsOf(options) ? Infinity : longestOf(options)
  )

/** Whether the message that has begun is to be passed over. */
const isLonger = ({ reserved, size }: Begun, limit: number, longest: number): boolean =>
  size > (reserved === 0 ? limit : longest)

/**
 * Reads one connection. Holds state: make one per connection.
 *
 * A chunk belongs to the reader from `write` on: it is unmasked where it is, and messages may be views of it. A message that is
 * less than a quarter of a large chunk is copied, so that it does not keep the chunk in memory.
 */
export class Reader implements Begun {
  private readonly limit: number
  private readonly longest: number
  private readonly skips: boolean
  private readonly header: Header
  private readonly extension: Extension | undefined
  private readonly events: Events
  // the opcode of the message that has begun, or 0; its reserved bits; its bytes as announced, and as they have come with headers
  kind = 0
  reserved = 0
  size = 0
  private come = 0
  // made for the first message that comes in pieces
  private queue: ByteQueue | undefined
  private check: Utf8Check | undefined
  // the frame whose header is complete and whose payload is not: its first byte, what is to come, the key for that
  private inside = false
  private first = 0
  private left = 0
  private key = 0
  // the payload of a control frame that was split, and all bytes of it that have come
  private control = empty
  private controlCome = 0
  private controlFilled = 0
  /**
   * How many messages, and control frames between messages, were complete so far: what is `pending` after another one has begun
   * anew. A control frame inside a message does not count, or it would keep a trickled message alive.
   */
  completed = 0
  /** Set by a message: the `rest` of the chunk is to be written again. */
  isPaused = false
  /** Set by an event: not even control frames are read on. */
  isStopped = false
  rest: Uint8Array | undefined
  private isOver = false
  private failure: Failure | undefined

  constructor(options: ReaderOptions, events: Events) {
    this.limit = options.maxFrame
    this.extension = options.extension
    this.longest = longestOf(options)
    this.skips = skipsOf(options)
    this.header = headerOf(options)
    this.events = events
  }

  /**
   * Bytes that have come of what is not complete: the message that has begun, with its headers and earlier fragments, and a control
   * frame in it. 0 between messages.
   */
  get pending(): number {
    return this.come + this.header.come + this.controlCome
  }

  /** Reads a chunk, and says what the connection cannot go on after. After that, and after a close frame, nothing is read. */
  write(chunk: Uint8Array): Failure | undefined {
    const { header, limit } = this
    const { maskBit, maskSize } = header
    const end = chunk.length
    let pos = 0
    while (pos < end && !this.isOver && !this.isStopped && (!this.isPaused || this.isAtControl(chunk[pos]!))) {
      if (this.inside) {
        pos = this.advance(chunk, pos, end)
        continue
      }
      // a short message that is here as a whole: the first two bytes say that nothing is special about it
      if (header.come === 0 && this.kind === 0 && end - pos >= 2) {
        const first = chunk[pos]!
        const length = chunk[pos + 1]! ^ maskBit
        const start = pos + 2 + maskSize
        if ((first === 0x82 || first === 0x81) && length <= 125 && start + length <= end && length <= limit) {
          const key = maskSize === 0 ? 0 : readWord(chunk, pos + 2)
          pos = start + length
          this.completed++
          this.deliver(chunk, start, pos, key, first === 0x81)
          continue
        }
      }
      pos = this.begin(chunk, pos, end)
    }
    if (pos < end && !this.isOver) this.rest = chunk.subarray(pos)
    return this.failure
  }

  /** Whether what comes next, or has come in part, is a control frame: one is heard also where messages have to wait. */
  private isAtControl(first: number): boolean {
    return this.inside || this.header.come > 0 || (first & 0x08) !== 0
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
    this.header.clear()
    this.control = empty
    this.come = this.controlCome = 0
  }

  /** A message that came in one piece. */
  private deliver(chunk: Uint8Array, from: number, to: number, key: number, isText: boolean): void {
    if (!isText) return this.events.message(own(chunk, from, to, key))
    mask(chunk, from, to, key)
    this.deliverText(chunk.subarray(from, to))
  }

  private deliverText(bytes: Uint8Array, inflated?: number): void {
    const text = textOf(bytes)
    if (text === undefined) this.fail(notText())
    else this.events.message(text, inflated)
  }

  /** Goes on with a header, and returns where it ends in the chunk. */
  private begin(chunk: Uint8Array, pos: number, end: number): number {
    const { header } = this
    const next = header.take(chunk, pos, end, this)
    if (next < 0) {
      if (header.failure !== undefined) this.fail(header.failure)
      return end
    }
    const { first, length, size } = header
    this.first = first
    this.left = length
    this.key = header.key
    this.inside = true
    if ((first & 0x08) !== 0) this.controlCome = size
    else {
      this.come += size
      this.size += length
      if (this.kind === 0) {
        this.kind = first & 0x0f
        this.reserved = first & reservedBits
      }
      if (isLonger(this, this.limit, this.longest)) this.queue = this.check = undefined
    }
    // what has no payload is complete, even where the chunk ends
    return length === 0 ? this.advance(chunk, next, end) : next
  }

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
    const { kind, queue, reserved, size } = this
    const isEnd = !this.inside && (this.first & FIN) !== 0
    if (isLonger(this, this.limit, this.longest)) {
      this.come += to - from
      if (!isEnd) return
      this.forget()
      this.events.skip!(size)
      return
    }
    const isText = kind === Opcode.text
    const held = queue === undefined ? 0 : queue.size
    // all of it is here
    if (isEnd && held === 0 && to - from === size) {
      this.forget()
      if (reserved === 0) this.deliver(chunk, from, to, key, isText)
      else this.extended(own(chunk, from, to, key), isText)
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
    this.completed++
  }

  /** A message as the extension reads it. */
  private extended(payload: Uint8Array, isText: boolean): void {
    const { extension, limit } = this
    const decoded = extension!.decode(payload, limit)
    if (decoded instanceof Uint8Array) {
      const inflated = Math.max(0, decoded.length - payload.length)
      if (isText) this.deliverText(decoded, inflated)
      else this.events.message(decoded, inflated)
    } else if (this.skips && decoded.reason._tag === "FrameTooLong") this.events.skip!(decoded.reason.size, limit)
    else this.fail(decoded)
  }

  private advanceControl(chunk: Uint8Array, from: number, to: number, key: number): void {
    const filled = this.controlFilled
    let payload: Uint8Array
    if (filled === 0 && !this.inside) payload = from === to ? empty : own(chunk, from, to, key)
    else {
      if (this.control.length === 0) this.control = new Uint8Array(longestControl)
      maskInto(chunk, from, to, this.control, filled, key)
      this.controlFilled += to - from
      this.controlCome += to - from
      if (this.inside) return
      payload = this.control.slice(0, this.controlFilled)
    }
    this.controlCome = this.controlFilled = 0
    if (this.kind === 0) this.completed++
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

/** Writes the frames of a WebSocket: data frames one behind the other, and control frames (RFC 6455, 5). */
import type * as Arr from "effect/Array"
import { utf8, utf8Size } from "../bytes/utf8.ts"
import { writeClose } from "./closing.ts"
import { FIN, headerSize, longestControl, mask, maskInto, Opcode, writeHeader } from "./frames.ts"
import type { Role } from "./header.ts"

export interface WriterOptions {
  readonly role: Role
  /** A new masking key for each frame of a client, any 32 bits; unpredictable to those who choose the payload (RFC 6455, 10.3). */
  readonly maskKey: () => number
}

const encoder = new TextEncoder()

// shorter text is measured and written faster unit by unit, longer text is encoded by the platform when it is measured
const shortText = 64

// a payload of so many bytes is not copied
const large = 4096

/**
 * Encodes for one connection, in two steps: `encodedSize`, then `encodeInto` or `encodeHeader` for the same payload. Each
 * message is one frame: bytes a binary one, a string text.
 */
export class Writer {
  private readonly isMasked: boolean
  private readonly maskKey: () => number
  /** Whether `encodeHeader` may be used: the payload itself follows it on the wire, as it was given. A client has to mask it. */
  readonly leavesPayload: boolean
  // the text that was measured last, and its bytes where it is long
  private text = ""
  private textSize = 0
  private textBytes: Uint8Array | undefined

  constructor(options: WriterOptions) {
    this.isMasked = options.role === "client"
    this.leavesPayload = !this.isMasked
    this.maskKey = options.maskKey
  }

  private sizeOf(payload: Uint8Array | string): number {
    if (typeof payload !== "string") return payload.length
    // a comparison with itself costs nothing
    if (payload !== this.text) {
      this.text = payload
      this.textBytes = payload.length > shortText ? utf8(payload) : undefined
      this.textSize = this.textBytes === undefined ? utf8Size(payload) : this.textBytes.length
    }
    return this.textSize
  }

  private header(target: Uint8Array, at: number, first: number, length: number, key: number): number {
    return this.isMasked ? writeHeader(target, at, first, length, key) : writeHeader(target, at, first, length)
  }

  /** How many bytes the frame of a message has. */
  encodedSize(payload: Uint8Array | string): number {
    const size = this.sizeOf(payload)
    return headerSize(size, this.isMasked) + size
  }

  /** Writes the frame of a message into `target` from `at`. */
  encodeInto(payload: Uint8Array | string, target: Uint8Array, at: number): void {
    const size = this.sizeOf(payload)
    const key = this.isMasked ? this.maskKey() : 0
    if (typeof payload !== "string") {
      const start = this.header(target, at, FIN | Opcode.binary, size, key)
      if (this.isMasked) maskInto(payload, 0, size, target, start, key)
      else target.set(payload, start)
      return
    }
    const start = this.header(target, at, FIN | Opcode.text, size, key)
    if (this.textBytes !== undefined) target.set(this.textBytes, start)
    else if (size === payload.length) { for (let i = 0; i < size; i++) target[start + i] = payload.charCodeAt(i) }
    else encoder.encodeInto(payload, target.subarray(start, start + size))
    if (this.isMasked) mask(target, start, start + size, key)
    this.forget()
  }

  /** A long text is not kept. */
  private forget(): void {
    if (this.textBytes === undefined) return
    this.text = ""
    this.textSize = 0
    this.textBytes = undefined
  }

  /** Writes what goes before a payload, and returns the payload: what was given, or its UTF-8. Only where `leavesPayload`. */
  encodeHeader(payload: Uint8Array | string, target: Uint8Array, at: number): Uint8Array {
    const isText = typeof payload === "string"
    this.header(target, at, FIN | (isText ? Opcode.text : Opcode.binary), this.sizeOf(payload), 0)
    const bytes = isText ? this.textBytes ?? utf8(payload) : payload
    if (isText) this.forget()
    return bytes
  }

  /** The frame of a message, by itself. */
  encode(payload: Uint8Array | string): Uint8Array {
    const frame = new Uint8Array(this.encodedSize(payload))
    this.encodeInto(payload, frame, 0)
    return frame
  }

  /**
   * The frames of messages: those that are small behind each other in one piece, and a large payload left where it is where that is
   * possible.
   */
  frames(messages: Arr.NonEmptyReadonlyArray<Uint8Array | string>): Arr.NonEmptyReadonlyArray<Uint8Array> {
    const pieces: Array<Uint8Array> = []
    for (let from = 0; from < messages.length;) {
      let size = this.encodedSize(messages[from]!)
      if (this.leavesPayload && size >= large) {
        const message = messages[from++]!
        const header = new Uint8Array(size - this.sizeOf(message))
        pieces.push(header, this.encodeHeader(message, header, 0))
        continue
      }
      let to = from + 1
      for (; to < messages.length && size < large; to++) size += this.encodedSize(messages[to]!)
      const piece = new Uint8Array(size)
      for (let at = 0; from < to; from++) {
        const next = at + this.encodedSize(messages[from]!)
        this.encodeInto(messages[from]!, piece, at)
        at = next
      }
      pieces.push(piece)
    }
    return pieces as unknown as Arr.NonEmptyReadonlyArray<Uint8Array>
  }

  // -------------------------------------------------------------------------------------------------------------------
  // control frames
  // -------------------------------------------------------------------------------------------------------------------

  private control(opcode: number, payload: Uint8Array): Uint8Array {
    const { length } = payload
    if (length > longestControl) throw new RangeError(`a control frame carries at most 125 bytes, got ${length}`)
    const frame = new Uint8Array(headerSize(length, this.isMasked) + length)
    const key = this.isMasked ? this.maskKey() : 0
    maskInto(payload, 0, length, frame, this.header(frame, 0, FIN | opcode, length, key), key)
    return frame
  }

  /** A ping with a payload of at most 125 bytes. */
  ping(payload: Uint8Array): Uint8Array {
    return this.control(Opcode.ping, payload)
  }

  /** A pong with the payload of the ping that it answers. */
  pong(payload: Uint8Array): Uint8Array {
    return this.control(Opcode.pong, payload)
  }

  /** A close frame; the reason is cut to 123 bytes. Code 1005 makes one without a code. The code was checked (`isCloseCode`). */
  close(code: number, reason?: string): Uint8Array {
    return this.control(Opcode.close, writeClose(code, reason))
  }
}

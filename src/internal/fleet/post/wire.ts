/** What nodes of a fleet say to each other: frames, many of them in a batch. */
import type { Token } from "../../backplane/engine.ts"

/** What a node did with a message for a key. `moved`: it may not deliver by this key now, and has not. */
export type Told = "accepted" | "full" | "offline" | "moved" | "invalid"

const tolds: ReadonlyArray<Told> = ["accepted", "full", "offline", "moved", "invalid"]

/** How many connections took a broadcast. */
export interface Counts {
  readonly delivered: number
  readonly dropped: number
  readonly failed: number
}

/** A message as its codec wrote it. */
export type Payload = Uint8Array | string

/**
 * - `Send`, and what became of it, `Sent`.
 * - `Revoke`: of this key a newer login was claimed, with this token. `Revoked`: no older one is served by this node.
 * - `Broadcast`, and what became of it, `Counted`.
 * - `Probe`: from a node to itself: its inbox delivers what was published before.
 */
export type Frame =
  | {
    readonly _tag: "Send"
    readonly id: number
    readonly key: string
    readonly payload: Payload
  }
  | { readonly _tag: "Sent"; readonly id: number; readonly told: Told }
  | { readonly _tag: "Revoke"; readonly id: number; readonly key: string; readonly token: Token }
  | { readonly _tag: "Revoked"; readonly id: number }
  | { readonly _tag: "Broadcast"; readonly id: number; readonly tag: string | undefined; readonly payload: Payload }
  | { readonly _tag: "Counted"; readonly id: number; readonly counts: Counts }
  | { readonly _tag: "Probe"; readonly id: number }

/** What arrived together: the frames of one sender, in the order in which it wrote them. */
export interface Batch {
  readonly from: string
  /** Grows with each session of the sender. */
  readonly run: number
  /** Counts the batches of this session to this node, from 0. */
  readonly sequence: number
  readonly frames: ReadonlyArray<Frame>
}

const version = 1

const kinds: ReadonlyArray<Frame["_tag"]> = ["Send", "Sent", "Revoke", "Revoked", "Broadcast", "Counted", "Probe"]

const textEncoder = new TextEncoder()
// a byte order mark is kept: it is part of the message
const textDecoder = new TextDecoder("utf-8", { ignoreBOM: true })

const firstSize = 1024
const mostKept = 65_536

/** Writes numbers, texts and bytes one after the other, and is used again for the next ones. */
class Writer {
  private bytes = new Uint8Array(firstSize)
  private view = new DataView(this.bytes.buffer)
  private at = 0

  private become(bytes: Uint8Array<ArrayBuffer>): void {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer)
  }

  private room(size: number): number {
    const { at } = this
    if (at + size > this.bytes.length) {
      const larger = new Uint8Array(Math.max(at + size, 2 * this.bytes.length))
      larger.set(this.bytes.subarray(0, at))
      this.become(larger)
    }
    this.at = at + size
    return at
  }

  byte(value: number): this {
    const at = this.room(1)
    this.bytes[at] = value
    return this
  }

  number(value: number): this {
    const at = this.room(8)
    this.view.setFloat64(at, value)
    return this
  }

  block(bytes: Uint8Array): this {
    const at = this.room(4 + bytes.length)
    this.view.setUint32(at, bytes.length)
    this.bytes.set(bytes, at + 4)
    return this
  }

  text(text: string): this {
    // three bytes for each character at the most: no encoded copy in between
    const at = this.room(4 + 3 * text.length)
    const { written } = textEncoder.encodeInto(text, this.bytes.subarray(at + 4))
    this.view.setUint32(at, written)
    this.at = at + 4 + written
    return this
  }

  token({ epoch, number }: Token): this {
    return this.number(epoch).number(number)
  }

  payload(payload: Payload): this {
    return typeof payload === "string" ? this.byte(1).text(payload) : this.byte(0).block(payload)
  }

  begin(): this {
    this.at = 0
    return this
  }

  done(): Uint8Array {
    const written = this.bytes.slice(0, this.at)
    if (this.bytes.length > mostKept) this.become(new Uint8Array(firstSize))
    return written
  }
}

// one for all: what is begun is done before anything else is written
const writer = new Writer()

/** Reads what `Writer` wrote. Throws a `RangeError` where bytes are missing. */
class Reader {
  private readonly bytes: Uint8Array
  private readonly view: DataView
  private at = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get isAtEnd(): boolean {
    return this.at >= this.bytes.length
  }

  byte(): number {
    return this.view.getUint8(this.at++)
  }

  number(): number {
    this.at += 8
    return this.view.getFloat64(this.at - 8)
  }

  block(): Uint8Array {
    const length = this.view.getUint32(this.at)
    const from = this.at + 4
    if (from + length > this.bytes.length) throw new RangeError("the batch ends too early")
    this.at = from + length
    return this.bytes.subarray(from, this.at)
  }

  text(): string {
    return textDecoder.decode(this.block())
  }

  token(): Token {
    return { epoch: this.number(), number: this.number() }
  }

  payload(): Payload {
    return this.byte() === 1 ? this.text() : this.block()
  }
}

/** The bytes of a frame. */
export const encode = (frame: Frame): Uint8Array => {
  const out = writer.begin().byte(kinds.indexOf(frame._tag)).number(frame.id)
  switch (frame._tag) {
    case "Send":
      return out.text(frame.key).payload(frame.payload).done()
    case "Sent":
      return out.byte(tolds.indexOf(frame.told)).done()
    case "Revoke":
      return out.text(frame.key).token(frame.token).done()
    case "Broadcast":
      return (frame.tag === undefined ? out.byte(0) : out.byte(1).text(frame.tag)).payload(frame.payload).done()
    case "Counted":
      return out.number(frame.counts.delivered).number(frame.counts.dropped).number(frame.counts.failed).done()
    default:
      return out.done()
  }
}

const decodeFrame = (input: Reader): Frame => {
  const _tag = kinds[input.byte()]
  const id = input.number()
  switch (_tag) {
    case "Send":
      return { _tag, id, key: input.text(), payload: input.payload() }
    case "Sent":
      return { _tag, id, told: tolds[input.byte()] ?? "invalid" }
    case "Revoke":
      return { _tag, id, key: input.text(), token: input.token() }
    case "Broadcast":
      return { _tag, id, tag: input.byte() === 1 ? input.text() : undefined, payload: input.payload() }
    case "Counted":
      return { _tag, id, counts: { delivered: input.number(), dropped: input.number(), failed: input.number() } }
    case "Revoked":
    case "Probe":
      return { _tag, id }
    default:
      throw new RangeError("a frame of another version")
  }
}

/** How many bytes of a batch are no frame. */
export const headerOf = (from: string): number => 1 + 4 + 3 * from.length + 16

/** Puts encoded frames into a batch. */
export const join = (
  from: string,
  run: number,
  sequence: number,
  frames: ReadonlyArray<Uint8Array>
): Uint8Array => {
  const header = writer.begin().byte(version).text(from).number(run).number(sequence).done()
  let size = header.length
  for (const frame of frames) size += frame.length
  const bytes = new Uint8Array(size)
  bytes.set(header)
  let at = header.length
  for (const frame of frames) {
    bytes.set(frame, at)
    at += frame.length
  }
  return bytes
}

/** Reads a batch; nothing for bytes that are none. */
export const split = (bytes: Uint8Array): Batch | undefined => {
  try {
    const input = new Reader(bytes)
    if (input.byte() !== version) return undefined
    const from = input.text()
    const run = input.number()
    const sequence = input.number()
    const frames: Array<Frame> = []
    while (!input.isAtEnd) frames.push(decodeFrame(input))
    return { from, run, sequence, frames }
  } catch {
    return undefined
  }
}

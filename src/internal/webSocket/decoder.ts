/** Reads the messages of a codec from the frames of a WebSocket. */
import * as Result from "effect/Result"
import type { FrameTooLong, Reason } from "../../ConnectionError.ts"
import { Truncated } from "../../ConnectionError.ts"
import { utf8 } from "../bytes/utf8.ts"
import { type Halves, type HalvesOptions, payloadLimit } from "../codec/assembly.ts"
import { tooLong } from "../codec/framing.ts"
import * as Payloads from "../codec/payload.ts"
import { Room } from "../codec/room.ts"
import { type Compression, CompressionContext } from "../transport/compression.ts"
import type { Close } from "./closing.ts"
import { notDeflate, tooLong as longer } from "./failure.ts"
import { RSV1 } from "./frames.ts"
import type { Role } from "./header.ts"
import { type Events, type Extension, Reader } from "./reader.ts"

/** A control frame that the peer sent. */
export type Control =
  | { readonly _tag: "Ping"; readonly payload: Uint8Array }
  | { readonly _tag: "Pong"; readonly payload: Uint8Array }
  | { readonly _tag: "Close"; readonly close: Close }

const noControls: ReadonlyArray<Control> = []
const nowhere: Array<unknown> = []
const anywhere = new Room()

// what inflating costs besides its bytes, as bytes: a message of any size takes a tenth of a millisecond of zlib's
const perMessage = 2048

// control frames that are read at a time: half a millisecond of work
const mostControls = 512

// what one turn inflates for a connection, at least one message
const mostWork = 64 * 1024

/** What deflate adds to bytes that it cannot make fewer is less than an eighth, whoever compresses. */
const longest = (limit: number): number => limit + (limit >>> 3) + 64

/** Reads the compressed messages of one connection. */
export const inflating = (compression: Compression | undefined): Extension | undefined => {
  if (compression === undefined) return undefined
  const context = new CompressionContext(compression.receivedContext)
  return {
    reserved: RSV1,
    longest,
    keepsContext: compression.receivedContext > 0,
    decode(payload, limit) {
      const message = compression.inflate(payload, context.bytes, limit)
      // how much longer is not known: nothing was inflated behind the limit
      if (message === undefined) return longer(limit + 1, limit)
      if (typeof message === "string") return notDeflate(message)
      context.add(message)
      return message
    }
  }
}

/** Reads the messages of one connection: a codec's, or those in the frames of a WebSocket. */
export interface StreamDecoder<in out In> {
  /**
   * Adds the messages that a chunk completes, as long as there is room, and says what the stream cannot go on after. Not called
   * while it has more.
   */
  readonly append: (chunk: Uint8Array | string, messages: Array<In>, room: Room) => Reason | undefined
  /** Goes on with what has come. */
  readonly more: (messages: Array<In>, room: Room) => Reason | undefined
  /** Whether something has come that there was no room for; and its bytes. */
  readonly hasMore: boolean
  /** Of a WebSocket: whether a control frame is next of that. It needs no room. */
  readonly isAtControl?: boolean
  readonly undecoded: number
  /** Bytes that have come of the unfinished message. */
  readonly pending: number
  /** Over-long messages that were passed over. */
  skipped: Array<FrameTooLong>
  readonly end: () => Reason | undefined
  /** How many messages were complete so far, and what else may be unfinished; where it is not the messages that say so. */
  readonly completed?: number
  /** Of a WebSocket: takes the control frames that have come. */
  readonly takeControls?: () => ReadonlyArray<Control>
}

/** The decoder of one connection: as `Appender`, and with the control frames beside the messages. */
export class WebSocketDecoder<In> implements Events {
  private readonly reader: Reader
  private readonly limit: number
  private readonly payload: Payloads.Payload<In, never>
  // bytes, or text, are the messages themselves
  private readonly form: "bytes" | "text" | undefined
  private messages = nowhere
  private room = anywhere
  private controls: Array<Control> | undefined
  private wrong: Reason | undefined
  private dead: Reason | undefined
  skipped: Array<FrameTooLong> = []

  constructor({ framing, payload }: Halves<In, never>, role: Role, limit: number, extension?: Extension) {
    const known: unknown = payload
    this.reader = new Reader({ role, maxFrame: limit, skips: framing.skips, extension }, this)
    this.payload = payload
    this.limit = limit
    this.form = known === Payloads.bytes ? "bytes" : known === Payloads.text ? "text" : undefined
  }

  /** Adds the messages that a chunk completes, and says what the stream cannot go on after. */
  append(chunk: Uint8Array | string, messages: Array<In>, room: Room): Reason | undefined {
    return this.dead ?? this.read(typeof chunk === "string" ? utf8(chunk) : chunk, messages, room)
  }

  /** Goes on with what has come, and adds messages as long as there is room. */
  more(messages: Array<In>, room: Room): Reason | undefined {
    const { dead, reader: { rest } } = this
    return dead ?? (rest === undefined ? undefined : this.read(rest, messages, room))
  }

  private read(chunk: Uint8Array, messages: Array<In>, room: Room): Reason | undefined {
    const { reader } = this
    this.messages = messages
    this.room = room
    // behind an inbox that is full there may be control frames
    reader.isPaused = room.isFull
    reader.isStopped = false
    reader.rest = undefined
    const failure = reader.write(chunk)
    this.messages = nowhere
    this.room = anywhere
    return this.dead = this.wrong ?? failure?.reason
  }

  /** Whether something has come that is not decoded. */
  get hasMore(): boolean {
    return this.undecoded > 0
  }

  /** Whether a control frame is next of what is not decoded: it is heard where messages have to wait. */
  get isAtControl(): boolean {
    const { dead, reader: { isStopped, rest } } = this
    return isStopped && dead === undefined && rest !== undefined && (rest[0]! & 0x08) !== 0
  }

  /** Bytes that have come and are not decoded, besides those of the unfinished message. */
  get undecoded(): number {
    const { dead, reader: { rest } } = this
    return dead !== undefined || rest === undefined ? 0 : rest.length
  }

  message(payload: Uint8Array | string, inflated?: number): void {
    // what comes behind a message that means nothing is not looked at
    if (this.wrong !== undefined) return
    const { room } = this
    if (typeof payload === "string" ? this.form === "text" : this.form === "bytes") {
      this.messages.push(payload)
    } else {
      const decoded = this.payload.decode(payload, room)
      if (Result.isSuccess(decoded)) this.messages.push(decoded.success)
      else this.wrong = decoded.failure
    }
    if (inflated !== undefined) {
      // it is held, and was no byte on the wire
      room.weight += inflated
      room.work += inflated + perMessage
    }
    room.take(1)
    if (room.isFull || room.work >= mostWork) this.reader.isPaused = true
  }

  skip(size: number, inflated?: number): void {
    this.skipped.push(tooLong(size, this.limit))
    if (inflated === undefined) return
    this.room.work += inflated
    if (this.room.work >= mostWork) this.reader.isPaused = true
  }

  ping(payload: Uint8Array): void {
    this.tell({ _tag: "Ping", payload })
  }

  pong(payload: Uint8Array): void {
    this.tell({ _tag: "Pong", payload })
  }

  close(code: number, reason: string): void {
    this.tell({ _tag: "Close", close: { code, reason } })
  }

  private tell(control: Control): void {
    if (this.controls === undefined) this.controls = [control]
    else if (this.controls.push(control) >= mostControls) this.reader.isStopped = true
  }

  /** Takes the control frames that have come. */
  takeControls(): ReadonlyArray<Control> {
    const { controls } = this
    this.controls = undefined
    return controls ?? noControls
  }

  get pending(): number {
    return this.dead === undefined ? this.reader.pending : 0
  }

  /** How many messages, and control frames between them, were complete so far. */
  get completed(): number {
    return this.reader.completed
  }

  end(): Reason | undefined {
    return this.dead ?? (this.pending > 0 ? new Truncated({ leftover: this.pending }) : undefined)
  }
}

/** Makes the decoder of one connection. */
export const webSocketDecoderOf = <In, Out>(
  codec: Halves<In, Out>,
  role: Role,
  limits: Pick<HalvesOptions, "maxFrame">,
  compression?: Compression
): WebSocketDecoder<In> => new WebSocketDecoder(codec, role, payloadLimit(codec, limits), inflating(compression))

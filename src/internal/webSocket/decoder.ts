/** Reads the messages of a codec from the frames of a WebSocket. */
import * as Result from "effect/Result"
import type { FrameTooLong, Reason } from "../../ConnectionError.ts"
import { Truncated } from "../../ConnectionError.ts"
import { utf8 } from "../bytes/utf8.ts"
import { type Halves, type HalvesOptions, payloadLimit } from "../codec/assembly.ts"
import { tooLong } from "../codec/framing.ts"
import * as Payloads from "../codec/payload.ts"
import type { Close } from "./closing.ts"
import type { Role } from "./header.ts"
import { type Events, Reader } from "./reader.ts"

/** A control frame that the peer sent. */
export type Control =
  | { readonly _tag: "Ping"; readonly payload: Uint8Array }
  | { readonly _tag: "Pong"; readonly payload: Uint8Array }
  | { readonly _tag: "Close"; readonly close: Close }

const noControls: ReadonlyArray<Control> = []
const nowhere: Array<unknown> = []

/** The decoder of one connection: as `Appender`, and with the control frames beside the messages. */
export class WebSocketDecoder<In> implements Events {
  private readonly reader: Reader
  private readonly limit: number
  private readonly payload: Payloads.Payload<In, never>
  // bytes, or text, are the messages themselves
  private readonly form: "bytes" | "text" | undefined
  private messages = nowhere
  private controls: Array<Control> | undefined
  private wrong: Reason | undefined
  private dead: Reason | undefined
  skipped: Array<FrameTooLong> = []

  constructor({ framing, payload }: Halves<In, never>, role: Role, limit: number) {
    const known: unknown = payload
    this.reader = new Reader({ role, maxFrame: limit, skips: framing.skips }, this)
    this.payload = payload
    this.limit = limit
    this.form = known === Payloads.bytes ? "bytes" : known === Payloads.text ? "text" : undefined
  }

  /** Adds the messages that a chunk completes, and says what the stream cannot go on after. */
  append(chunk: Uint8Array | string, messages: Array<In>): Reason | undefined {
    if (this.dead !== undefined) return this.dead
    this.messages = messages
    const failure = this.reader.write(typeof chunk === "string" ? utf8(chunk) : chunk)
    this.messages = nowhere
    return this.dead = this.wrong ?? failure?.reason
  }

  message(payload: Uint8Array | string): void {
    // what comes behind a message that means nothing is not looked at
    if (this.wrong !== undefined) return
    if (typeof payload === "string" ? this.form === "text" : this.form === "bytes") {
      this.messages.push(payload)
      return
    }
    const decoded = this.payload.decode(payload)
    if (Result.isSuccess(decoded)) this.messages.push(decoded.success)
    else this.wrong = decoded.failure
  }

  skip(size: number): void {
    this.skipped.push(tooLong(size, this.limit))
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
    else this.controls.push(control)
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
  limits: Pick<HalvesOptions, "maxFrame">
): WebSocketDecoder<In> => new WebSocketDecoder(codec, role, payloadLimit(codec, limits))

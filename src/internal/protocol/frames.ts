/** The frames of the native protocol as bytes, exactly as `Protocol` documents them. */
import * as Result from "effect/Result"
import * as Codec from "../../Codec.ts"
import { type Advice, FrameTooLong } from "../../ConnectionError.ts"
import { utf8, utf8Within } from "../bytes/utf8.ts"

/** The versions of the protocol that these frames belong to. */
export const versions = { lowest: 1, highest: 1 } as const

/** The same, as CLOSE tells them. */
export const spoken = `${versions.lowest}-${versions.highest}`

/** Every frame but DATA, which is a message of the application. */
export type Control =
  | {
    readonly _tag: "Hello"
    readonly lowest: number
    readonly highest: number
    readonly pingEvery: number
    readonly silence: number
  }
  | {
    readonly _tag: "Welcome"
    readonly version: number
    readonly pingEvery: number
    readonly minPingEvery: number
    readonly advice: Advice
  }
  | { readonly _tag: "Ping"; readonly token: number; readonly advice: Advice }
  | { readonly _tag: "Pong"; readonly token: number }
  | { readonly _tag: "GoingAway"; readonly advice: Advice; readonly note: string }
  | {
    readonly _tag: "Close"
    readonly code: number
    readonly retry: boolean
    readonly advice: Advice
    readonly note: string
  }

/** A frame of the protocol itself. A class, so that no message of an application can look like one. */
export class ControlFrame {
  readonly control: Control
  constructor(control: Control) {
    this.control = control
  }
}

/** Received bytes that are no frame of the protocol. */
export class BadFrame {
  readonly detail: string
  constructor(detail: string) {
    this.detail = detail
  }
}

/** The names of frames, as a violation tells them. */
export const names: Record<Control["_tag"], string> = {
  Hello: "HELLO",
  Welcome: "WELCOME",
  Ping: "PING",
  Pong: "PONG",
  GoingAway: "GOING_AWAY",
  Close: "CLOSE"
}

const types = { Hello: 1, Welcome: 2, Ping: 3, Pong: 4, Data: 5, GoingAway: 6, Close: 7 } as const
// with the type byte; texts come on top
const sizes: Record<number, number> = { 1: 13, 2: 18, 3: 13, 4: 5, 6: 9, 7: 11 }
const magic = 0x4846
const maxU32 = 0xffff_ffff
/** The longest text of a GOING_AWAY or CLOSE, in bytes. */
const maxNote = 500
/** The longest control frame in bytes: it does not depend on the limit for messages. */
const maxControl = 1024

const text = new TextDecoder("utf-8", { ignoreBOM: true })

/** Whole milliseconds, rounded up: 0 has a meaning of its own. */
const u32 = (millis: number): number => Math.max(0, Math.min(maxU32, Math.ceil(millis) || 0))

const encodeControl = (control: Control): Uint8Array => {
  const note = "note" in control ? utf8Within(control.note, maxNote) : undefined
  const type = types[control._tag]
  const size = sizes[type]!
  const bytes = new Uint8Array(size + (note?.byteLength ?? 0))
  const view = new DataView(bytes.buffer)
  const advise = (at: number, advice: Advice) => {
    view.setUint32(at, u32(advice.after))
    view.setUint32(at + 4, u32(advice.spread))
  }
  view.setUint8(0, type)
  if (note !== undefined) bytes.set(note, size)
  switch (control._tag) {
    case "Hello":
      view.setUint16(1, magic)
      view.setUint8(3, control.lowest)
      view.setUint8(4, control.highest)
      view.setUint32(5, u32(control.pingEvery))
      view.setUint32(9, u32(control.silence))
      break
    case "Welcome":
      view.setUint8(1, control.version)
      view.setUint32(2, u32(control.pingEvery))
      view.setUint32(6, u32(control.minPingEvery))
      advise(10, control.advice)
      break
    case "Ping":
      view.setUint32(1, control.token)
      advise(5, control.advice)
      break
    case "Pong":
      view.setUint32(1, control.token)
      break
    case "GoingAway":
      advise(1, control.advice)
      break
    case "Close":
      view.setUint8(1, control.code)
      view.setUint8(2, control.retry ? 1 : 0)
      advise(3, control.advice)
  }
  return bytes
}

const decodeControl = (bytes: Uint8Array): ControlFrame | BadFrame => {
  const type = bytes[0]
  if (type === undefined) return new BadFrame("an empty frame")
  const size = sizes[type]
  if (size === undefined) return new BadFrame(`a frame of the unknown type ${type}`)
  if (bytes.byteLength < size) {
    return new BadFrame(`a frame of type ${type} with ${bytes.byteLength} bytes; it needs ${size}`)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const advice = (at: number): Advice => ({ after: view.getUint32(at), spread: view.getUint32(at + 4) })
  const note = () => text.decode(bytes.subarray(size, size + maxControl))
  switch (type) {
    case types.Hello:
      return view.getUint16(1) !== magic ? new BadFrame("a HELLO without its magic bytes") : new ControlFrame({
        _tag: "Hello",
        lowest: view.getUint8(3),
        highest: view.getUint8(4),
        pingEvery: view.getUint32(5),
        silence: view.getUint32(9)
      })
    case types.Welcome:
      return new ControlFrame({
        _tag: "Welcome",
        version: view.getUint8(1),
        pingEvery: view.getUint32(2),
        minPingEvery: view.getUint32(6),
        advice: advice(10)
      })
    case types.Ping:
      return new ControlFrame({ _tag: "Ping", token: view.getUint32(1), advice: advice(5) })
    case types.Pong:
      return new ControlFrame({ _tag: "Pong", token: view.getUint32(1) })
    case types.GoingAway:
      return new ControlFrame({ _tag: "GoingAway", advice: advice(1), note: note() })
    default:
      return new ControlFrame({
        _tag: "Close",
        code: view.getUint8(1),
        retry: (view.getUint8(2) & 1) === 1,
        advice: advice(3),
        note: note()
      })
  }
}

/** Messages of the application as DATA; any other frame is a `ControlFrame`, and other bytes are a `BadFrame`. */
export const codec = <In, Out>(
  inner: Codec.Codec<In, Out>,
  maxMessage: number
): Codec.Codec<In | ControlFrame | BadFrame, Out | ControlFrame> & { readonly maxFrame: number } => {
  const { payload } = inner
  // a frame is one byte longer than the message in it, and its length has to fit into 32 bits
  const limit = Math.min(maxMessage, maxU32 - 1) + 1
  const tooLong = (direction: "decode" | "encode", size: number) =>
    Result.fail(new FrameTooLong({ direction, size, limit }))
  const maxFrame = Math.max(limit, maxControl)
  const self = Codec.make<In | ControlFrame | BadFrame, Out | ControlFrame>({
    framing: Codec.lengthPrefix().framing,
    maxFrame,
    payload: {
      form: "bytes",
      content: "value",
      decode: (frame, scale) => {
        if (typeof frame === "string") return Result.succeed(new BadFrame("a text message"))
        if (frame[0] !== types.Data) return Result.succeed(decodeControl(frame))
        return frame.byteLength > limit ? tooLong("decode", frame.byteLength) : payload.decode(frame.subarray(1), scale)
      },
      encode: (message) => {
        if (message instanceof ControlFrame) return Result.succeed(encodeControl(message.control))
        const encoded = payload.encode(message)
        if (Result.isFailure(encoded)) return encoded
        const data = typeof encoded.success === "string" ? utf8(encoded.success) : encoded.success
        const size = 1 + data.byteLength
        if (size > limit) return tooLong("encode", size)
        const frame = new Uint8Array(size)
        frame[0] = types.Data
        frame.set(data, 1)
        return Result.succeed(frame)
      }
    }
  })
  return { ...self, maxFrame }
}

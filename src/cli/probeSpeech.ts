/** The three ways to ping that `holdfast probe` knows, spoken by hand. */
import * as Codec from "../Codec.ts"
import * as Frames from "../internal/protocol/frames.ts"
import * as Policy from "../Policy.ts"
import { versions } from "../Protocol.ts"
import type { Report } from "./probeReport.ts"

type Heard<Out> =
  | { readonly _tag: "Pong"; readonly token: number | undefined }
  | { readonly _tag: "Ping"; readonly answer: Out }
  | { readonly _tag: "Welcome"; readonly advertised: NonNullable<Report["advertised"]> }
  | { readonly _tag: "Close"; readonly text: string }
  | { readonly _tag: "Other"; readonly text: string }

/** Spoken by hand, with no heartbeat of ours in between: the peer is measured, not our own client. */
export interface Speech<In, Out = In> {
  readonly codec: Codec.Codec<In, Out>
  /** What has to be said, and answered by a `Welcome`, before anything else. */
  readonly hello: Out | undefined
  /** The last word of a peer that leaves in order. */
  readonly bye: Out | undefined
  readonly ping: (token: number) => Out
  /** Whether a pong tells which ping it answers. */
  readonly numbered: boolean
  /** What is said of a peer that answers none. */
  readonly unanswered: string
  readonly hear: (message: In) => Heard<Out>
}

const utf8 = new TextEncoder()
const lossy = new TextDecoder()

export const lines: Speech<string> = {
  codec: Codec.lines(),
  hello: undefined,
  bye: undefined,
  ping: () => "ping",
  numbered: false,
  unanswered: "the peer does not answer pings",
  hear: (text) =>
    text === "pong"
      ? { _tag: "Pong", token: undefined }
      : text === "ping"
      ? { _tag: "Ping", answer: "pong" }
      : { _tag: "Other", text }
}

export const frames = (): Speech<Uint8Array> => {
  const mark = `holdfast probe ${process.pid}.${Date.now()} `
  return {
    codec: Codec.lengthPrefix(),
    hello: undefined,
    bye: undefined,
    ping: (token) => utf8.encode(mark + token),
    numbered: true,
    unanswered: "the peer does not echo frames, so there is nothing to measure",
    hear: (frame) => {
      const text = lossy.decode(frame)
      return text.startsWith(mark)
        ? { _tag: "Pong", token: Number(text.slice(mark.length)) }
        : { _tag: "Other", text }
    }
  }
}

/** Any message of a peer's is good enough to be heard. */
const nativeCodec = Frames.codec(Codec.lengthPrefix(), Policy.defaults.maxFrame)

const control = (control: Frames.Control): Frames.ControlFrame => new Frames.ControlFrame(control)
const noAdvice = { after: 0, spread: 0 }

export const native: Speech<Uint8Array | Frames.ControlFrame | Frames.BadFrame, Uint8Array | Frames.ControlFrame> = {
  codec: nativeCodec,
  // we would not ping, and bear any silence
  hello: control({ _tag: "Hello", ...versions, pingEvery: 0, silence: 0 }),
  bye: control({ _tag: "Close", code: 0, retry: false, advice: noAdvice, note: "" }),
  ping: (token) => control({ _tag: "Ping", token, advice: noAdvice }),
  numbered: true,
  unanswered: "the peer does not answer pings",
  hear: (message) => {
    if (message instanceof Uint8Array) return { _tag: "Other", text: lossy.decode(message) }
    if (message instanceof Frames.BadFrame) return { _tag: "Other", text: "" }
    const { control: heard } = message
    switch (heard._tag) {
      case "Welcome":
        return {
          _tag: "Welcome",
          advertised: { pingEvery: heard.pingEvery, minPingEvery: heard.minPingEvery, ...heard.advice }
        }
      case "Ping":
        return { _tag: "Ping", answer: control({ _tag: "Pong", token: heard.token }) }
      case "Pong":
        return { _tag: "Pong", token: heard.token }
      case "Close":
        return { _tag: "Close", text: `code ${heard.code}${heard.note === "" ? "" : `: ${heard.note}`}` }
      default:
        return { _tag: "Other", text: "" }
    }
  }
}

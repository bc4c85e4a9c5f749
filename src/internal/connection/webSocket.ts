/** What a connection does with the control frames of a WebSocket (RFC 6455, 5.5): pongs, round trips, the close. */
import * as Context from "effect/Context"
import * as Socket from "effect/socket/Socket"
import * as ConnectionError from "../../ConnectionError.ts"
import type { Frame } from "../codec/encoder.ts"
import { closeEvent } from "../endings/closeEvent.ts"
import { roundTrip } from "../telemetry/telemetry.ts"
import { type Close, noCode, noFrame, writeClose } from "../webSocket/closing.ts"
import type { Control } from "../webSocket/decoder.ts"
import { Opcode } from "../webSocket/frames.ts"
import { answer, pingsRead } from "./core/outbox.ts"
import type { Conversation } from "./core/state.ts"

// a token of ours: 32 bits
const tokenSize = 4

/** The payload of a ping. */
export const tokenPayload = (token: number): Uint8Array => {
  const payload = new Uint8Array(tokenSize)
  new DataView(payload.buffer).setUint32(0, token)
  return payload
}

const tokenOf = (payload: Uint8Array): number =>
  payload.length === tokenSize ? new DataView(payload.buffer, payload.byteOffset).getUint32(0) : 0

/**
 * Whether pings of the peer are answered. Off only to find out how long a peer bears a client that says nothing: pongs keep a
 * connection alive.
 */
export const AnswersPings = Context.Reference<boolean>("holdfast/connection/AnswersPings", { defaultValue: () => true })

/** Answers pings, measures round trips, and keeps what a close frame said. */
export const heedControls = <In, Out>(c: Conversation<In, Out>, controls: ReadonlyArray<Control>, at: number): void => {
  const { facts, pings } = c
  for (const control of controls) {
    switch (control._tag) {
      case "Ping":
        facts.provenAt = at
        if (Context.get(c.context, AnswersPings)) answer(c.outbox, control)
        break
      case "Pong":
        if (pings.answered(tokenOf(control.payload), at)) {
          facts.provenAt = at
          roundTrip(c.context, pings.rtt!.last)
        }
        break
      case "Close":
        facts.provenAt = at
        c.closeFrame = control.close
        break
    }
  }
  pingsRead(c.outbox)
}

/** The close frame of a conversation that is over. */
export const normalClose: Close = { code: 1000, reason: "" }

/** Why the connection ends: the peer's close frame. */
export const closedBy = ({ code, reason }: Close): ConnectionError.ConnectionError =>
  ConnectionError.make(
    new ConnectionError.Closed({ by: "peer", code, ...(reason === "" ? {} : { note: reason }) })
  )

/**
 * Whether no answer can be under way: nothing was received; or, at a client, nothing since it last sent. A server pushes beside its
 * answers, so that what it sent last says nothing.
 */
export const owesNothing = <In, Out>({ facts, inbox, messagesIn, way }: Conversation<In, Out>): boolean =>
  inbox.messages === 0 && !inbox.hasMore &&
  (messagesIn === 0 || (way.isClient === true && facts.messageAt <= facts.sentAt))

/** Why the connection ends: its stream did, and no close frame came. What `fromSocketError` makes of 1006 (RFC 6455, 7.1.5). */
export const lostError = ConnectionError.fromSocketError(
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: noFrame }) })
)

// a peer broke this very protocol, where another one would be a policy that is violated (RFC 6455, 7.4.1)
const protocolError = 1002

/** The close frame that is our last word; none for a peer that is gone. */
export const closeFrameOf = <In, Out>(
  { closeFrame, way }: Conversation<In, Out>,
  reason: ConnectionError.Reason
): Frame | undefined => {
  // the peer's own code is repeated to it (RFC 6455, 5.5.1)
  if (closeFrame !== undefined) return way.control!(Opcode.close, writeClose(closeFrame.code))
  if (reason === lostError.reason) return undefined
  const { code, reason: text = "" } = closeEvent(reason)
  if (reason._tag === "ProtocolViolation") return way.control!(Opcode.close, writeClose(protocolError, text))
  return way.control!(Opcode.close, writeClose(code === noCode ? 1000 : code, text))
}

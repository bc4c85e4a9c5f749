/** What a WebSocket is told about the end of its conversation. */
import * as Socket from "effect/socket/Socket"
import type * as ConnectionError from "../../ConnectionError.ts"

/** The code for an end that met something unexpected (RFC 6455, 7.4.1). */
export const failed = 1011

const utf8 = new TextEncoder()

/** Cuts a text to the 123 bytes that a close frame can carry, between two characters. */
const closeNote = (text: string): string => text.slice(0, utf8.encodeInto(text, new Uint8Array(123)).read)

/** RFC 6455, 7.4.1. */
export const closeEvent = (reason: ConnectionError.Reason): Socket.CloseEvent => {
  const note = reason._tag === "Closed" ? undefined : closeNote(reason.message)
  switch (reason._tag) {
    case "Closed":
      return reason.code === failed ? new Socket.CloseEvent(failed) : new Socket.CloseEvent(1000)
    // the text of an error of the application is not for the peer
    case "Defect":
      return new Socket.CloseEvent(failed)
    case "FrameTooLong":
      return new Socket.CloseEvent(1009, note)
    case "InvalidLength":
    case "InvalidMessage":
    case "Truncated":
      return new Socket.CloseEvent(1007, note)
    case "Refused":
      return new Socket.CloseEvent(1013, note)
    case "GoingAway":
    case "MaxAge":
    case "IdleTimeout":
    case "Swept":
    case "SilenceTimeout":
    case "PongTimeout":
    case "WriteStalled":
      return new Socket.CloseEvent(1001, note)
    default:
      return new Socket.CloseEvent(1008, note)
  }
}

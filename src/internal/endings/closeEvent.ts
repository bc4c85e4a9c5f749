/** The close frame that tells a WebSocket why its connection ends. */
import * as Socket from "effect/socket/Socket"
import type { Reason } from "../../ConnectionError.ts"
import { toldOf, webSocketCode } from "../reasons/reason.ts"

const utf8 = new TextEncoder()

/** Cuts a text to the 123 bytes that a close frame can carry, between two characters. */
const cut = (text: string): string => text.slice(0, utf8.encodeInto(text, new Uint8Array(123)).read)

const textFor = (reason: Reason): string | undefined => {
  const text = toldOf(reason)
  return text === undefined ? undefined : cut(text)
}

/** The code and text of a reason. */
export const closeEvent = (reason: Reason): Socket.CloseEvent =>
  new Socket.CloseEvent(webSocketCode(reason), textFor(reason))

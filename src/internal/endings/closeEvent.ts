/** The close frame that tells a WebSocket why its connection ends. */
import * as Socket from "effect/socket/Socket"
import type { Reason } from "../../ConnectionError.ts"
import { textOf, utf8Within } from "../bytes/utf8.ts"
import { toldOf, webSocketCode } from "../reasons/reason.ts"

// what a close frame can carry, in bytes (RFC 6455, 5.5)
const longest = 123

const textFor = (reason: Reason): string | undefined => {
  const text = toldOf(reason)
  return text === undefined ? undefined : textOf(utf8Within(text, longest))
}

/** The code and text of a reason. */
export const closeEvent = (reason: Reason): Socket.CloseEvent =>
  new Socket.CloseEvent(webSocketCode(reason), textFor(reason))

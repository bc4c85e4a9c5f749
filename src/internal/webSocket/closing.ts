/** Close frames: their codes, and their payload (RFC 6455, 5.5.1 and 7.4). */
import { textOf, utf8Within } from "../bytes/utf8.ts"
import { isSendable } from "../reasons/closeCodes.ts"
import { type Failure, notText, violation } from "./failure.ts"
import { longestControl } from "./frames.ts"

/** What a close frame without a code is reported as; it is never sent. */
export const noCode = 1005

/** What a connection that ended without a close frame is reported as; it is never sent. */
export const noFrame = 1006

/** What a close frame says. */
export interface Close {
  readonly code: number
  readonly reason: string
}

const nothing: Close = { code: noCode, reason: "" }

/** Reads the payload of a close frame. */
export const readClose = (payload: Uint8Array): Close | Failure => {
  if (payload.length === 0) return nothing
  if (payload.length === 1) return violation("a close frame has half a code")
  const code = (payload[0]! << 8) | payload[1]!
  if (!isSendable(code)) return violation(`a close frame has the code ${code}`)
  const reason = textOf(payload.subarray(2))
  return reason === undefined ? notText("the reason of a close frame is not UTF-8") : { code, reason }
}

const longestReason = longestControl - 2

/** Makes the payload of a close frame; 1005 is said by an empty one. The code has been checked (`isSendable`). */
export const writeClose = (code: number, reason: string = ""): Uint8Array => {
  if (code === noCode) return new Uint8Array(0)
  const text = utf8Within(reason, longestReason)
  const payload = new Uint8Array(2 + text.length)
  payload[0] = code >>> 8
  payload[1] = code
  payload.set(text, 2)
  return payload
}

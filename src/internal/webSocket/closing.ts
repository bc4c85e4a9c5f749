/** Close frames: their codes, and their payload (RFC 6455, 5.5.1 and 7.4). */
import { textOf, utf8 } from "../bytes/utf8.ts"
import { type Failure, notText, violation } from "./failure.ts"
import { longestControl } from "./frames.ts"

/** What a close frame without a code is reported as; it is never sent. */
export const noCode = 1005

/** What a connection that ended without a close frame is reported as; it is never sent. */
export const noFrame = 1006

/**
 * Whether a close frame may carry this code: 1000 to 1003, 1007 to 1014, 3000 to 4999. The same hold for a peer's frames and
 * for what the application gives.
 */
export const isCloseCode = (code: number): boolean =>
  Number.isInteger(code) &&
  ((code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999))

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
  if (!isCloseCode(code)) return violation(`a close frame has the code ${code}`)
  const reason = textOf(payload.subarray(2))
  return reason === undefined ? notText("the reason of a close frame is not UTF-8") : { code, reason }
}

const longestReason = longestControl - 2

/** The UTF-8 of a reason, cut to 123 bytes between two characters. */
const cut = (reason: string): Uint8Array => {
  // no character has fewer bytes than units
  const bytes = utf8(reason.length > longestReason ? reason.slice(0, longestReason + 1) : reason)
  if (bytes.length <= longestReason) return bytes
  let end = longestReason
  while ((bytes[end]! & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}

/** Makes the payload of a close frame; 1005 is said by an empty one. The code has been checked (`isCloseCode`). */
export const writeClose = (code: number, reason: string = ""): Uint8Array => {
  if (code === noCode) return new Uint8Array(0)
  const text = cut(reason)
  const payload = new Uint8Array(2 + text.length)
  payload[0] = code >>> 8
  payload[1] = code
  payload.set(text, 2)
  return payload
}

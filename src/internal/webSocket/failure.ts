/** What is wrong with the frames of a peer: a reason, and the close code that tells the peer. */
import { type FrameTooLong, InvalidMessage, ProtocolViolation } from "../../ConnectionError.ts"
import * as Framing from "../codec/framing.ts"

/** Why nothing more can be read from the peer. */
export interface Failure {
  readonly reason: FrameTooLong | InvalidMessage | ProtocolViolation
  /** The close code to send (RFC 6455, 7.4.1). */
  readonly code: 1002 | 1007 | 1009
}

export const violation = (detail: string): Failure => ({ reason: new ProtocolViolation({ detail }), code: 1002 })

export const tooLong = (size: number, limit: number): Failure => ({
  reason: Framing.tooLong(size, limit),
  code: 1009
})

/** What a compressed message is that stands for none. */
export const notDeflate = (detail: string): Failure => ({
  reason: new InvalidMessage({ direction: "decode", format: "DEFLATE", detail }),
  code: 1007
})

export const notText = (detail?: string): Failure => ({ reason: Framing.notText(detail), code: 1007 })

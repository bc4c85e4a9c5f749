/** The codes that a peer is told when a connection ends; which reason has which is said with each reason (`ConnectionError`). */

/** The WebSocket code for an end that met something unexpected (RFC 6455, 7.4.1). */
export const unexpected = 1011

/** The WebSocket code for a reason that has no other: a policy was violated (RFC 6455, 7.4.1). */
export const violation = 1008

/** Whether a code may be in a close frame (RFC 6455, 7.4): the others are reserved, or stand for a close without a code. */
export const isSendable = (code: number): boolean =>
  Number.isInteger(code) && (
    (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999)
  )

/** A code that may not be sent is a mistake in the program. */
export const checkCode = (code: number | undefined): void => {
  if (code === undefined || isSendable(code)) return
  throw new RangeError(`a close code of ours is 1000-1003, 1007-1014 or 3000-4999 (RFC 6455, 7.4), not ${code}`)
}

// 1002, 1003 and 1007 to 1010 say that the same would be refused again; 1000 is the end of a conversation that is over
const saysNotAgain = new Set([1000, 1002, 1003, 1007, 1008, 1009, 1010])

/** Whether opening again can help after a close with this code; without one it was an end of stream. */
export const isWorthRetrying = (code: number | undefined): boolean => code === undefined || !saysNotAgain.has(code)

/** The codes of the native CLOSE, by the names that `Protocol` gives them. */
export const closeCodes = {
  NORMAL: 0,
  GOING_AWAY: 1,
  UNSUPPORTED_VERSION: 2,
  VIOLATION: 3,
  TOO_MANY_PINGS: 4,
  SUPERSEDED: 5,
  DUPLICATE: 6,
  REFUSED: 7,
  HANDSHAKE_FAILED: 8,
  TIMEOUT: 9,
  SLOW_CONSUMER: 10,
  FAILED: 11
} as const

export type CloseCode = keyof typeof closeCodes

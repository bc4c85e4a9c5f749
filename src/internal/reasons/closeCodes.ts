/** The codes that a peer is told when a connection ends; which reason has which is said with each reason (`ConnectionError`). */

/** The WebSocket code for an end that met something unexpected (RFC 6455, 7.4.1). */
export const unexpected = 1011

/** The WebSocket code for a reason that has no other: a policy was violated (RFC 6455, 7.4.1). */
export const violation = 1008

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

/** What a CLOSE of the native protocol says of a reason, and what reason it gives its receiver. */
import * as ConnectionError from "../../ConnectionError.ts"
import type { Control } from "./frames.ts"

type Reason = ConnectionError.Reason
type Close = Extract<Control, { readonly _tag: "Close" }>

const limits: ReadonlyArray<string> = [
  "maxConnections",
  "maxConnectionsPerAddress",
  "maxWaiting",
  "acceptRate",
  "stopping"
] satisfies ReadonlyArray<ConnectionError.Refused["limit"]>

const codeOf = (reason: Reason): number => {
  switch (reason._tag) {
    case "Closed":
      return 0
    case "GoingAway":
    case "MaxAge":
    case "Swept":
      return 1
    case "UnsupportedVersion":
      return 2
    case "ProtocolViolation":
    case "Truncated":
      return 3
    case "FrameTooLong":
    case "InvalidLength":
    case "InvalidMessage":
      // a message of our own that could not be written is not the peer's doing
      return reason.direction === "decode" ? 3 : 11
    case "TooManyPings":
      return 4
    case "Superseded":
      return 5
    case "DuplicateKey":
      return 6
    case "Refused":
      return 7
    case "HandshakeFailed":
    case "HandshakeTimeout":
      return 8
    case "SilenceTimeout":
    case "PongTimeout":
    case "WriteStalled":
    case "FrameTimeout":
    case "IdleTimeout":
      return 9
    case "SlowConsumer":
      return 10
    default:
      return 11
  }
}

/** The text that goes with a reason: a fact where its code has one, else a sentence without what the code says already. */
export const noteOf = (reason: Reason): string => {
  switch (reason._tag) {
    case "Superseded":
    case "DuplicateKey":
      return reason.key
    case "Refused":
      return reason.limit
    case "UnsupportedVersion":
      return reason.ours
    case "ProtocolViolation":
      return reason.detail
    case "HandshakeFailed":
      return reason.message.replace(/^the handshake failed: /, "")
    case "Closed":
      return reason.by === "local" ? reason.note ?? "" : ""
    // the text of an error of the application is not for the peer
    case "Defect":
      return ""
    default:
      return reason.message
  }
}

/** Whether the peer of a connection that ended for this reason should come back. */
const retryOf = (reason: Reason, code: number): boolean =>
  // a handler that returned or failed decides nothing about its client, unless it says so
  reason._tag === "Closed" ? reason.retryable ?? true : code === 11 || reason.isRetryable

/** Our own CLOSE. */
export const closeOf = (reason: Reason, advice: ConnectionError.Advice): Close => {
  const code = codeOf(reason)
  return { _tag: "Close", code, retry: retryOf(reason, code), advice, note: noteOf(reason) }
}

const typed = (close: Close, ours: string, minPingEvery: number): Reason | undefined => {
  switch (close.code) {
    case 2: {
      const [, lowest, highest] = /^(\d{1,3})-(\d{1,3})$/.exec(close.note) ?? []
      return lowest === undefined
        ? undefined
        : new ConnectionError.UnsupportedVersion({ lowest: Number(lowest), highest: Number(highest), ours })
    }
    case 3:
      return new ConnectionError.ProtocolViolation({ detail: `the peer says: ${close.note}` })
    case 4:
      return new ConnectionError.TooManyPings({ minimum: minPingEvery })
    case 5:
      return new ConnectionError.Superseded({ key: close.note })
    case 6:
      return new ConnectionError.DuplicateKey({ key: close.note })
    case 7:
      return limits.includes(close.note)
        ? new ConnectionError.Refused({ limit: close.note as ConnectionError.Refused["limit"] })
        : undefined
    case 8:
      return new ConnectionError.HandshakeFailed({ cause: close.note })
    default:
      return undefined
  }
}

/** What a peer's CLOSE means here. Its flag decides: a reason that contradicts it is told as `Closed` with the code. */
export const reasonOf = (close: Close, ours: string, minPingEvery: number): Reason => {
  const reason = typed(close, ours, minPingEvery)
  if (reason !== undefined && reason.isRetryable === close.retry) return reason
  return new ConnectionError.Closed({
    by: "peer",
    retryable: close.retry,
    ...(close.code === 0 ? {} : { code: close.code }),
    ...(close.note === "" ? {} : { note: close.note })
  })
}

/** What a CLOSE of the native protocol says of a reason, and what reason it gives its receiver. */
import * as ConnectionError from "../../ConnectionError.ts"
import { closeCodes } from "../reasons/closeCodes.ts"
import { nativeCode, type Receiver, rowOf, toldOf } from "../reasons/reason.ts"
import type { Control } from "./frames.ts"

export type Role = "client" | "server"
type Reason = ConnectionError.Reason
type Close = Extract<Control, { readonly _tag: "Close" }>

/** The text that goes with a reason: a fact where its code has one, else its message. */
export const noteOf = (reason: Reason): string => {
  const { note } = rowOf(reason)
  return note === undefined ? toldOf(reason) ?? "" : note(reason)
}

/** Our own CLOSE. */
export const closeOf = (reason: Reason, advice: ConnectionError.Advice): Close => {
  const code = nativeCode(reason)
  const retry = rowOf(reason).comeBack?.(reason) ?? (code === closeCodes.FAILED || reason.isRetryable)
  return { _tag: "Close", code, retry, advice, note: noteOf(reason) }
}

/** By code: the reason that a CLOSE means, where its text has the facts of that reason. */
const typed = new Map(
  ConnectionError.Reason.members.flatMap((Member) => {
    const row = { _tag: Member.identifier }
    const { heard } = rowOf(row)
    if (heard === undefined) return []
    const read = (note: string, receiver: Receiver): Reason | undefined => {
      const facts = heard(note, receiver)
      return facts === undefined ? undefined : new Member(facts as never)
    }
    return [[nativeCode(row), read] as const]
  })
)

/** Limits, keys and credentials are the server's to judge: a client that names such a code has only said so. */
const serverCodes: ReadonlySet<number> = new Set([
  closeCodes.TOO_MANY_PINGS,
  closeCodes.SUPERSEDED,
  closeCodes.DUPLICATE,
  closeCodes.REFUSED,
  closeCodes.HANDSHAKE_FAILED
])

/**
 * What a peer's CLOSE means to an end with this role. Its flag decides: a reason that contradicts it is told as `Closed` with the
 * code, and so is one that the role of the peer does not give.
 */
export const reasonOf = (close: Close, ours: string, minPingEvery: number, role: Role = "client"): Reason => {
  const reason = role === "server" && serverCodes.has(close.code)
    ? undefined
    : typed.get(close.code)?.(close.note, { ours, minPingEvery })
  if (reason !== undefined && reason.isRetryable === close.retry) return reason
  return new ConnectionError.Closed({
    by: "peer",
    retryable: close.retry,
    ...(close.code === 0 ? {} : { code: close.code }),
    ...(close.note === "" ? {} : { note: close.note })
  })
}

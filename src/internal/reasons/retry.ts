/** Whether another try can help: what a reason says of itself, and what a policy changes of that. */
import type { ConnectionError, Reason } from "../../ConnectionError.ts"

/** Tags of reasons (`"HandshakeFailed"`) and codes (`4001`, `"4000-4099"`) that a policy judges otherwise than the reason does. */
export interface RetryRules {
  readonly retryOn: ReadonlyArray<string | number>
  readonly giveUpOn: ReadonlyArray<string | number>
}

const matches = (rule: string | number, reason: Reason): boolean => {
  if (rule === reason._tag) return true
  const code = "code" in reason ? reason.code : undefined
  if (code === undefined) return false
  if (typeof rule === "number") return rule === code
  const range = /^(\d+)-(\d+)$/.exec(rule)
  return range !== null && code >= Number(range[1]) && code <= Number(range[2])
}

/** Whether to try again after `error`: `giveUpOn` first, then `retryOn`, then the reason itself. */
export const isRetryableBy =
  ({ giveUpOn, retryOn }: RetryRules) =>
  ({ isRetryable, reason }: Pick<ConnectionError, "isRetryable" | "reason">): boolean =>
    !giveUpOn.some((rule) => matches(rule, reason)) && (retryOn.some((rule) => matches(rule, reason)) || isRetryable)

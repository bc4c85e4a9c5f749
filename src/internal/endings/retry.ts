/** Whether another try can help: what a reason says of itself, and what a policy changes of that. */
import { type ConnectionError, Reason } from "../../ConnectionError.ts"

/**
 * The tag of a reason, a code that a peer gave (`4001`; `401` of a refused upgrade), or a range of codes (`"4000-4099"`).
 *
 * @category models
 * @since 0.1.0
 */
export type RetryRule = Reason["_tag"] | number | `${number}-${number}`

/** Reasons and codes that a policy judges otherwise than the reason does. */
export interface RetryRules {
  readonly retryOn: ReadonlyArray<RetryRule>
  readonly giveUpOn: ReadonlyArray<RetryRule>
}

/** The tag of every reason: a rule that is neither one of these nor a code is a mistake. */
export const reasonTags: ReadonlySet<string> = new Set(Reason.members.map(({ identifier }) => identifier))

/** The lowest and the highest code that a rule means; undefined where it means no codes. */
export const codesOf = (rule: string | number): readonly [lowest: number, highest: number] | undefined => {
  const [, lowest, highest = lowest] = /^(\d+)(?:-(\d+))?$/.exec(`${rule}`) ?? []
  return lowest === undefined ? undefined : [Number(lowest), Number(highest)]
}

/** Reads rules once, for all errors that they are asked about. */
const matcher = (rules: ReadonlyArray<RetryRule>): (reason: Reason) => boolean => {
  const tags = new Set<unknown>(rules)
  const ranges = rules.map(codesOf).filter((range) => range !== undefined)
  return (reason) => {
    if (tags.has(reason._tag)) return true
    const code = reason._tag === "Closed"
      ? reason.code
      : reason._tag === "UpgradeRefused"
      ? reason.status
      : undefined
    return code !== undefined && ranges.some(([lowest, highest]) => code >= lowest && code <= highest)
  }
}

/** Whether to try again after an error: `giveUpOn` first, then `retryOn`, then the reason itself. */
export const isRetryableBy = (
  { giveUpOn, retryOn }: RetryRules
): (error: Pick<ConnectionError, "isRetryable" | "reason">) => boolean => {
  const givesUp = matcher(giveUpOn)
  const retries = matcher(retryOn)
  return ({ isRetryable, reason }) => !givesUp(reason) && (retries(reason) || isRetryable)
}

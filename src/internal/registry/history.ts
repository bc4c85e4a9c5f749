/** The connections that ended last, as an immutable list that is cut to `keep` values when it has twice as many; and those asked for. */
import type { Reason } from "../../ConnectionError.ts"
import type { Explanation, Who } from "../connection/handle/explanation.ts"

interface Older<A> {
  readonly value: A
  readonly earlier: Older<A> | undefined
}

export interface History<A> {
  readonly last: Older<A> | undefined
  readonly length: number
}

export const empty: History<never> = { last: undefined, length: 0 }

/** The last `keep` values, oldest first. */
export const lastOf = <A>({ last, length }: History<A>, keep: number): Array<A> => {
  const values: Array<A> = []
  const count = Math.min(keep, length)
  for (let link = last; link !== undefined && values.length < count; link = link.earlier) values.push(link.value)
  return values.toReversed()
}

const link = <A>({ last, length }: History<A>, value: A): History<A> => ({
  last: { value, earlier: last },
  length: length + 1
})

/** A cut copies `keep` links after `keep` values: one link a value. */
export const append = <A>(self: History<A>, value: A, keep: number): History<A> => {
  if (keep <= 0) return self
  const longer = link(self, value)
  return longer.length < keep * 2 ? longer : lastOf(longer, keep).reduce<History<A>>(link, empty)
}

// ---------------------------------------------------------------------------------------------------------------------
// queries
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A connection that has ended, the names it went by, and all that is known of its end.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExplainedEnd {
  readonly key: string | undefined
  readonly tags: ReadonlySet<string>
  readonly explanation: Explanation
}

/**
 * Which ends to look for: those that match all that is given.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndedQuery {
  readonly id?: number | undefined
  readonly key?: string | undefined
  readonly tag?: string | undefined
  /** The tag of the reason, such as `PongTimeout`. */
  readonly reason?: Reason["_tag"] | undefined
  readonly who?: Who | undefined
  /** The deadline that ended it, such as `pong`. */
  readonly deadline?: Explanation["deadline"] | undefined
  /** What its remote address has in it. */
  readonly remote?: string | undefined
  /** When it ended at the earliest, in milliseconds on the wall clock. */
  readonly since?: number | undefined
  /** Anything else. */
  readonly where?: ((end: ExplainedEnd) => boolean) | undefined
  /** So many of the newest are passed over, for pages. Default 0. */
  readonly offset?: number | undefined
  /** So many are returned. Default all. */
  readonly limit?: number | undefined
}

const is = <A>(wanted: A | undefined, found: A | undefined): boolean => wanted === undefined || wanted === found

const matches = (end: ExplainedEnd, query: EndedQuery): boolean => {
  const { explanation: { deadline, snapshot, who }, key, tags } = end
  const { age, id, openedAt, reason, remote } = snapshot
  return is(query.id, id) && is(query.key, key) && is(query.reason, reason?._tag) && is(query.who, who) &&
    is(query.deadline, deadline) && (query.tag === undefined || tags.has(query.tag)) &&
    (query.remote === undefined || (remote?.includes(query.remote) ?? false)) &&
    (query.since === undefined || openedAt + age >= query.since) && (query.where?.(end) ?? true)
}

export const select = (ends: ReadonlyArray<ExplainedEnd>, query: EndedQuery = {}): ReadonlyArray<ExplainedEnd> => {
  const { limit = Infinity, offset = 0 } = query
  const found: Array<ExplainedEnd> = []
  let passed = 0
  for (let i = ends.length - 1; i >= 0 && found.length < limit; i--) {
    if (!matches(ends[i]!, query)) continue
    if (passed++ >= offset) found.push(ends[i]!)
  }
  return found
}

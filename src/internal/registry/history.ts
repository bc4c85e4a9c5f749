/** The connections that ended last, as an immutable list: it is cut to `keep` values when it has twice as many. */

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

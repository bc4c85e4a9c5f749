/** The last of what has ended, as a value: a list that is cut when it is twice as long as what is kept. */

interface Link<A> {
  readonly value: A
  readonly earlier: Link<A> | undefined
}

export interface History<A> {
  readonly last: Link<A> | undefined
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

/** Cutting copies `keep` links once for every `keep` values: one link for each. */
export const append = <A>(self: History<A>, value: A, keep: number): History<A> => {
  if (keep <= 0) return self
  const longer = link(self, value)
  return longer.length < keep * 2 ? longer : lastOf(longer, keep).reduce<History<A>>(link, empty)
}

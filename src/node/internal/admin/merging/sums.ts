/** What several processes say of themselves, as that of one. */
import type * as S from "../schemas.ts"

type Numbers = Readonly<Record<string, number>>

const added = <A extends Numbers>(one: A, other: A): A => {
  const sum: Record<string, number> = { ...one }
  for (const [name, value] of Object.entries(other)) sum[name] = (sum[name] ?? 0) + value
  return sum as A
}

/** Sums by field; nothing where there is nothing to sum. */
export const sumOf = <A extends Numbers>(all: ReadonlyArray<A>): A | undefined =>
  all.length === 0 ? undefined : all.reduce(added)

const none = { messages: 0, bytes: 0 }

/** The figures of all. `past`: totals of processes that are gone. */
export const figuresOf = (
  all: ReadonlyArray<S.Figures>,
  past: ReadonlyArray<NonNullable<S.Figures["totals"]>>,
  own: Pick<S.Figures, "at" | "uptime" | "memory" | "workers">
): S.Figures => {
  const totals = [...past, ...all.flatMap(({ totals }) => totals === null ? [] : [totals])]
  return {
    ...own,
    connections: sumOf(all.map(({ connections }) => connections)) ?? { open: 0, draining: 0, closing: 0 },
    registered: all.reduce((sum, { registered }) => sum + registered, 0),
    totals: sumOf(totals) ?? null,
    inbox: sumOf(all.map(({ inbox }) => inbox)) ?? none,
    outbox: sumOf(all.map(({ outbox }) => outbox)) ?? none,
    memory: sumOf([own.memory, ...all.map(({ memory }) => memory)])!
  }
}

/** Groups by name, in the order in which the names come first. */
const byName = <A extends { readonly name: string }>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const one of all) {
    const group = groups.get(one.name)
    if (group === undefined) groups.set(one.name, [one])
    else group.push(one)
  }
  return [...groups.values()]
}

// a server is what most of it is: it serves for as long as one process does
const phases = ["serving", "idle", "stopping", "stopped"] as const

export const serversOf = (all: ReadonlyArray<S.Server>): ReadonlyArray<S.Server> =>
  byName(all).map((group) => ({
    name: group[0]!.name,
    phase: phases.find((phase) => group.some((one) => one.phase === phase)) ?? "stopped",
    connections: sumOf(group.map(({ connections }) => connections))!,
    left: group.reduce((sum, { left }) => sum + left, 0),
    waiting: group.reduce((sum, { waiting }) => sum + waiting, 0),
    opened: group.reduce((sum, { opened }) => sum + opened, 0),
    refused: sumOf(group.map(({ refused }) => refused))!
  }))

export const poolsOf = (all: ReadonlyArray<S.Pool>): ReadonlyArray<S.Pool> =>
  byName(all).map((group) =>
    group.reduce((one, other) => {
      const { name, retired, ...numbers } = one
      const { name: _, retired: alsoRetired, ...more } = other
      return { name, retired: added(retired, alsoRetired), ...added(numbers, more) }
    })
  )

export const dispatchersOf = (all: ReadonlyArray<S.Dispatcher>): ReadonlyArray<S.Dispatcher> =>
  byName(all).map((group) =>
    group.reduce((one, other) => {
      const { name, ...numbers } = one
      const { name: _, ...more } = other
      return { name, ...added(numbers, more) }
    })
  )

/** Each has the same ones. */
export const policiesOf = (all: ReadonlyArray<S.NamedPolicy>): ReadonlyArray<S.NamedPolicy> =>
  byName(all).map(([first]) => first!)

type Sort = NonNullable<S.Query["sort"]>

const valueOf = (row: S.Row, sort: Sort): number | string | null => {
  switch (sort) {
    case "inbox":
    case "outbox":
      return row[sort].bytes
    case "rtt":
      return row.rtt?.smoothed ?? null
    default:
      return row[sort]
  }
}

/** One page of the pages of all, each of which begins at the first one. */
export const pageOf = (
  pages: ReadonlyArray<S.Page>,
  { limit = 100, offset = 0, order = "asc", sort = "id" }: S.Query,
  at: number
): S.Page => {
  const sign = order === "asc" ? 1 : -1
  const rows = pages.flatMap(({ connections }) => connections)
  rows.sort((one, other) => {
    const [a, b] = [valueOf(one, sort), valueOf(other, sort)]
    if (a === b) return one.id - other.id
    // what has no value comes last in either order
    if (a === null) return 1
    if (b === null) return -1
    return a < b ? -sign : sign
  })
  const total = pages.reduce((sum, { total }) => sum + total, 0)
  return { total, offset, limit, at, connections: rows.slice(offset, offset + limit) }
}

export const endedOf = (
  pages: ReadonlyArray<S.EndedPage>,
  { limit = 100, offset = 0 }: S.EndedQuery
): S.EndedPage => {
  const rows = pages.flatMap(({ ended }) => ended).toSorted((one, other) => other.endedAt - one.endedAt)
  return {
    total: pages.reduce((sum, { total }) => sum + total, 0),
    byReason: sumOf(pages.map(({ byReason }) => byReason)) ?? {},
    offset,
    limit,
    ended: rows.slice(offset, offset + limit)
  }
}

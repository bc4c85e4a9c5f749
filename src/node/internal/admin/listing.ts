/** Which connections are listed, and in which order. */
import type { Snapshot } from "../../../Connection.ts"
import type * as S from "./schemas.ts"
import { type AnyEntry, lookAt, rowOf } from "./views.ts"

interface Seen {
  readonly entry: AnyEntry
  readonly snapshot: Snapshot
}

const contains = (text: string | undefined, part: string): boolean =>
  text !== undefined && text.toLowerCase().includes(part)

const hasText = ({ entry: { connection: { id }, key, tags }, snapshot: { remote } }: Seen, part: string): boolean => {
  if (String(id) === part || contains(key, part) || contains(remote, part)) return true
  for (const tag of tags) if (contains(tag, part)) return true
  return false
}

const matches = (seen: Seen, filter: S.Filter, text: string | undefined): boolean => {
  const { entry: { key, tags }, snapshot: { age, quietFor, remote, state } } = seen
  return (filter.state === undefined || filter.state === state) &&
    (filter.key === undefined || filter.key === key) &&
    (filter.tag === undefined || tags.has(filter.tag)) &&
    (filter.remote === undefined || (remote?.includes(filter.remote) ?? false)) &&
    (filter.olderThan === undefined || age >= filter.olderThan) &&
    (filter.quietFor === undefined || quietFor >= filter.quietFor) &&
    (text === undefined || hasText(seen, text))
}

/** Those that match all of a filter, as they look now. */
export const matching = (entries: ReadonlyArray<AnyEntry>, filter: S.Filter): ReadonlyArray<Seen> => {
  const text = filter.text?.toLowerCase()
  const found: Array<Seen> = []
  for (const entry of entries) {
    const seen = { entry, snapshot: lookAt(entry) }
    if (matches(seen, filter, text)) found.push(seen)
  }
  return found
}

type Sort = NonNullable<S.Query["sort"]>

const orders: Readonly<Record<Sort, (seen: Seen) => number | string | undefined>> = {
  id: ({ snapshot }) => snapshot.id,
  age: ({ snapshot }) => snapshot.age,
  quietFor: ({ snapshot }) => snapshot.quietFor,
  bytesIn: ({ snapshot }) => snapshot.bytesIn,
  bytesOut: ({ snapshot }) => snapshot.bytesOut,
  messagesIn: ({ snapshot }) => snapshot.messagesIn,
  messagesOut: ({ snapshot }) => snapshot.messagesOut,
  inbox: ({ snapshot }) => snapshot.inbox.bytes,
  outbox: ({ snapshot }) => snapshot.outbox.bytes,
  dropped: ({ snapshot }) => snapshot.dropped,
  rtt: ({ snapshot }) => snapshot.rtt?.smoothed,
  key: ({ entry }) => entry.key,
  remote: ({ snapshot }) => snapshot.remote,
  state: ({ snapshot }) => snapshot.state
}

const sorted = (found: ReadonlyArray<Seen>, { order = "asc", sort = "id" }: S.Query): ReadonlyArray<Seen> => {
  const valueOf = orders[sort]
  const sign = order === "asc" ? 1 : -1
  const keyed = found.map((seen) => ({ seen, value: valueOf(seen) }))
  keyed.sort((a, b) => {
    if (a.value === b.value) return a.seen.snapshot.id - b.seen.snapshot.id
    // what has no value comes last in either order
    if (a.value === undefined) return 1
    if (b.value === undefined) return -1
    return a.value < b.value ? -sign : sign
  })
  return keyed.map(({ seen }) => seen)
}

export const page = (entries: ReadonlyArray<AnyEntry>, query: S.Query, at: number): S.Page => {
  const { limit = 100, offset = 0 } = query
  const found = sorted(matching(entries, query), query)
  return {
    total: found.length,
    offset,
    limit,
    at,
    connections: found.slice(offset, offset + limit).map(({ entry, snapshot }) => rowOf(snapshot, entry))
  }
}

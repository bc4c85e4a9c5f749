/**
 * What a registry knows, as one immutable value: each function here returns another value. A reader keeps the value that
 * it read.
 */
import type * as Effect from "effect/Effect"
import * as HashSet from "effect/HashSet"
import type * as ConnectionError from "../../ConnectionError.ts"
import type { Snapshot } from "../connection/core/snapshot.ts"
import type { Explanation } from "../connection/handle/explanation.ts"
import type { ConnectionState, Internals, TypeId } from "../connection/handle/internals.ts"
import * as History from "./history.ts"
import * as Names from "./names.ts"
import * as Trie from "./trie.ts"

/** A connection, as far as the registry has to know it. */
export interface Member {
  readonly id: number
  readonly snapshot: Effect.Effect<Snapshot>
  readonly closeWith: (reason: ConnectionError.Reason) => Effect.Effect<void>
  readonly [TypeId]: Internals
}

export interface Called {
  readonly key: string | undefined
  readonly tags: ReadonlySet<string>
}

/** One registered connection. Its end removes it, and so does the scope of its `add`, but not that of an earlier `add`. */
export interface Entry<out C, out S> extends Called {
  readonly connection: C
  /** What the handshake returned; the registry only keeps it. */
  readonly session: S
  /** Counts up: the order of the entries, which ids may not have. */
  readonly registration: number
}

export interface Ended extends Called {
  readonly explanation: Explanation
}

/** A connection that a sweep found ended or overdue, and still registered. */
export interface Suspect {
  readonly why: "ended" | "overdue"
  /** When the first of several looks in a row found it so, in milliseconds of the monotonic clock. */
  readonly since: number
  /** Whether it was logged, counted, and removed or closed. */
  readonly isSettled: boolean
}

export interface State<C extends Member, S> {
  readonly size: number
  /** How many registrations there were. */
  readonly registrations: number
  readonly inOrder: Trie.Trie<Entry<C, S>>
  readonly byId: Trie.Trie<Entry<C, S>>
  /** The id of the connection that has the key. */
  readonly byKey: Names.NameMap<number>
  readonly byTag: Names.NameMap<Trie.Trie<Entry<C, S>>>
  /** Connections that live on after their entry was removed, and whose end is watched already. */
  readonly watched: HashSet.HashSet<number>
  readonly history: History.History<Ended>
  readonly suspects: ReadonlyMap<number, Suspect>
  /** See `Registry.overlooked`. */
  readonly overlooked: number
  /** Whether the rule or a snapshot threw in the last sweep. */
  readonly isRuleBroken: boolean
}

/** `seed` is part of the hashes of names; peers must not know it. */
export const empty = (seed: number): State<never, never> => ({
  size: 0,
  registrations: 0,
  inOrder: undefined,
  byId: undefined,
  byKey: Names.empty(seed),
  byTag: Names.empty(seed),
  watched: HashSet.empty(),
  history: History.empty,
  suspects: new Map(),
  overlooked: 0,
  isRuleBroken: false
})

const byRegistration = Trie.keyedBy((entry: Entry<Member, unknown>) => entry.registration)
const byConnection = Trie.keyedBy((entry: Entry<Member, unknown>) => entry.connection.id)

/** A connection that is closing or has ended has no claim to its key, and no rule applies to it. */
export const isLiving = (state: ConnectionState): boolean => state === "open" || state === "draining"

// ---------------------------------------------------------------------------------------------------------------------
// looking up
// ---------------------------------------------------------------------------------------------------------------------

export const entryOf = <C extends Member, S>({ byId }: State<C, S>, id: number): Entry<C, S> | undefined =>
  byConnection.get(byId, id) as Entry<C, S> | undefined

export const holderOf = <C extends Member, S>(state: State<C, S>, key: string): Entry<C, S> | undefined => {
  const id = Names.get(state.byKey, key)
  return id === undefined ? undefined : entryOf(state, id)
}

/** All, or those of a tag. */
export const select = <C extends Member, S>(state: State<C, S>, tag: string | undefined): Trie.Trie<Entry<C, S>> =>
  tag === undefined ? state.inOrder : Names.get(state.byTag, tag)

const arrays = new WeakMap<object, ReadonlyArray<unknown>>()

/** All entries. As long as the entries stay the same, so does the array. */
export const entriesOf = <C extends Member, S>({ inOrder }: State<C, S>): ReadonlyArray<Entry<C, S>> => {
  if (inOrder === undefined) return []
  const found = arrays.get(inOrder) ?? Trie.toArray(inOrder)
  arrays.set(inOrder, found)
  return found as ReadonlyArray<Entry<C, S>>
}

// ---------------------------------------------------------------------------------------------------------------------
// changing
// ---------------------------------------------------------------------------------------------------------------------

type ByTag<C extends Member, S> = State<C, S>["byTag"]

const addTags = <C extends Member, S>(byTag: ByTag<C, S>, tags: Iterable<string>, entry: Entry<C, S>): ByTag<C, S> => {
  let changed = byTag
  for (const tag of tags) {
    const found = Names.get(changed, tag)
    changed = Names.set(changed, tag, byRegistration.set(found, entry) as Trie.Trie<Entry<C, S>>)
  }
  return changed
}

const removeTags = <C extends Member, S>(
  byTag: ByTag<C, S>,
  tags: Iterable<string>,
  { registration }: Entry<C, S>
): ByTag<C, S> => {
  let changed = byTag
  for (const tag of tags) {
    const found = Names.get(changed, tag)
    const left = byRegistration.remove(found, registration) as Trie.Trie<Entry<C, S>>
    changed = left === undefined ? Names.remove(changed, tag) : Names.set(changed, tag, left)
  }
  return changed
}

/** Removes an entry and its names, but not a key that another connection took over. */
export const erase = <C extends Member, S>(state: State<C, S>, entry: Entry<C, S>): State<C, S> => {
  const { connection, key, registration, tags } = entry
  const { byKey } = state
  const hasKey = key !== undefined && Names.get(byKey, key) === connection.id
  return {
    ...state,
    size: state.size - 1,
    inOrder: byRegistration.remove(state.inOrder, registration) as Trie.Trie<Entry<C, S>>,
    byId: byConnection.remove(state.byId, connection.id) as Trie.Trie<Entry<C, S>>,
    byKey: hasKey ? Names.remove(byKey, key) : byKey,
    byTag: removeTags(state.byTag, tags, entry)
  }
}

/** Adds an entry in place of an earlier one of its connection. */
export const insert = <C extends Member, S>(state: State<C, S>, entry: Entry<C, S>): State<C, S> => {
  const { connection, key, tags } = entry
  const earlier = entryOf(state, connection.id)
  const without = earlier === undefined ? state : erase(state, earlier)
  return {
    ...without,
    size: without.size + 1,
    registrations: entry.registration,
    inOrder: byRegistration.set(without.inOrder, entry) as Trie.Trie<Entry<C, S>>,
    byId: byConnection.set(without.byId, entry) as Trie.Trie<Entry<C, S>>,
    byKey: key === undefined ? without.byKey : Names.set(without.byKey, key, connection.id),
    byTag: addTags(without.byTag, tags, entry),
    watched: HashSet.remove(without.watched, connection.id)
  }
}

/** Gives a connection other tags. Its place in the order stays. */
export const retag = <C extends Member, S>(
  state: State<C, S>,
  found: Entry<C, S>,
  tags: ReadonlySet<string>
): State<C, S> => {
  const entry: Entry<C, S> = { ...found, tags }
  return {
    ...state,
    inOrder: byRegistration.set(state.inOrder, entry) as Trie.Trie<Entry<C, S>>,
    byId: byConnection.set(state.byId, entry) as Trie.Trie<Entry<C, S>>,
    byTag: addTags(removeTags(state.byTag, found.tags, found), tags, entry)
  }
}

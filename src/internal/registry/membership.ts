/** How a connection joins the registry, and how it leaves: at its end, or at the end of the scope of its `add`. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HashSet from "effect/HashSet"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { TypeId } from "../connection/handle/internals.ts"
import * as Supervised from "../scheduling/supervised.ts"
import * as History from "./history.ts"
import * as State from "./state.ts"

/** The state and the settings of one registry. */
export interface Home<C extends State.Member> {
  readonly ref: Ref.Ref<State.State<C>>
  /** The scope of the registry, which owns the fibers that the registry forks. */
  readonly scope: Scope.Scope
  readonly duplicates: "takeover" | "reject"
  /** How many ended connections are remembered. */
  readonly keep: number
}

export const makeHome = <C extends State.Member>(
  duplicates: "takeover" | "reject",
  keep: number
): Effect.Effect<Home<C>, never, Scope.Scope> =>
  Effect.gen(function*() {
    // the nanosecond at which the registry is made: no peer knows it, and a simulation repeats it
    const seed = Number((yield* Clock.monotonicTimeNanos) & 0xffffffffn)
    const ref = yield* Ref.make<State.State<C>>(State.empty(seed))
    const scope = yield* Effect.scope
    return { ref, scope, duplicates, keep }
  })

/** Changes the state from synchronous code. */
const change = <C extends State.Member>(
  { ref }: Home<C>,
  by: (state: State.State<C>) => State.State<C>
): void => {
  ref.ref.current = by(ref.ref.current)
}

// ---------------------------------------------------------------------------------------------------------------------
// leaving
// ---------------------------------------------------------------------------------------------------------------------

/** Writes an entry into the history, with its connection as it looks now. */
export const remember = <C extends State.Member>(
  { keep }: Home<C>,
  state: State.State<C>,
  { connection, key, tags }: State.Entry<C>
): State.State<C> =>
  keep <= 0
    ? state
    : { ...state, history: History.append(state.history, { key, tags, snapshot: connection[TypeId].look() }, keep) }

const forget = <C extends State.Member>(home: Home<C>, state: State.State<C>, entry: State.Entry<C>) =>
  remember(home, State.erase(state, entry), entry)

/** Called by the connection in the middle of its end: it must not throw, and it cannot suspend. */
const onEnded = <C extends State.Member>(home: Home<C>, id: number): void => {
  const entry = State.entryOf(Ref.getUnsafe(home.ref), id)
  change(home, (state) =>
    entry === undefined
      ? { ...state, watched: HashSet.remove(state.watched, id) }
      : forget(home, state, entry))
}

/** Called when the scope of an `add` closes. The connection may live on: its later end does not enter the history again. */
const unregister = <C extends State.Member>(home: Home<C>, { connection, registration }: State.Entry<C>) =>
  Effect.sync(() => {
    const entry = State.entryOf(Ref.getUnsafe(home.ref), connection.id)
    if (entry?.registration !== registration) return
    change(home, (state) => {
      const left = forget(home, state, entry)
      return { ...left, watched: HashSet.add(left.watched, connection.id) }
    })
  })

// ---------------------------------------------------------------------------------------------------------------------
// coming
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Registers, and takes the key from the connection that has it; or fails, and changes nothing. It watches a connection
 * once for its end, also when that is added again.
 */
const enter = <C extends State.Member>(
  home: Home<C>,
  entry: State.Entry<C>
): Effect.Effect<void, ConnectionError.ConnectionError> => {
  const { connection, key } = entry
  const { id } = connection
  const before = Ref.getUnsafe(home.ref)
  const found = key === undefined ? undefined : State.holderOf(before, key)?.connection
  const holder = found?.id === id ? undefined : found
  const isRejected = home.duplicates === "reject" && holder !== undefined && State.isLiving(holder[TypeId].state)
  if (isRejected) return ConnectionError.make(new ConnectionError.DuplicateKey({ key: key! }))
  const isWatched = State.entryOf(before, id) !== undefined || HashSet.has(before.watched, id)
  change(home, (state) => State.insert(state, entry))
  if (!isWatched) connection[TypeId].onEnded(() => onEnded(home, id))
  if (holder === undefined || home.duplicates === "reject") return Effect.void
  // in the background: the old one may be slow to close
  const superseded = Effect.suspend(() => holder.closeWith(new ConnectionError.Superseded({ key: key! })))
  return Supervised.background(home.scope, `closing connection ${holder.id}, which is superseded,`, superseded)
}

const noTags: ReadonlySet<string> = new Set()

/** See `Registry.add`. */
export const add = <C extends State.Member>(
  home: Home<C>,
  connection: C,
  names: { readonly key?: string | undefined; readonly tags?: Iterable<string> | undefined } = {}
): Effect.Effect<void, ConnectionError.ConnectionError, Scope.Scope> =>
  // not acquireRelease, which copies the context of each connection for its release
  Effect.uninterruptible(Effect.contextWith((context: Context.Context<Scope.Scope>) => {
    // an ended connection must not take its key from a living one
    if (connection[TypeId].state === "ended") return Effect.void
    const registered: State.Entry<C> = {
      connection,
      key: names.key,
      tags: names.tags === undefined ? noTags : new Set(names.tags),
      registration: Ref.getUnsafe(home.ref).registrations + 1
    }
    return Effect.andThen(
      enter(home, registered),
      Scope.addFinalizer(Context.get(context, Scope.Scope), unregister(home, registered))
    )
  }))

/** Adds and removes tags; an unknown id changes nothing. */
export const retag = <C extends State.Member>(
  { ref }: Home<C>,
  id: number,
  change: { readonly add?: Iterable<string> | undefined; readonly remove?: Iterable<string> | undefined }
): Effect.Effect<void> =>
  Ref.update(ref, (state) => {
    const found = State.entryOf(state, id)
    if (found === undefined) return state
    const tags = new Set(found.tags)
    for (const tag of change.remove ?? []) tags.delete(tag)
    for (const tag of change.add ?? []) tags.add(tag)
    return State.retag(state, found, tags)
  })

/** How a connection joins the registry, and how it leaves: at its end, or at the end of the scope of its `add`. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as HashSet from "effect/HashSet"
import * as Ref from "effect/Ref"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { explanationOf } from "../connection/handle/explanation.ts"
import { TypeId } from "../connection/handle/internals.ts"
import * as Supervised from "../scheduling/supervised.ts"
import { turnsOf } from "../scheduling/turns.ts"
import { Changes } from "./changes.ts"
import * as History from "./history.ts"
import * as State from "./state.ts"

/**
 * The names a connection gets in the registry.
 *
 * @category models
 * @since 0.1.0
 */
export interface Names {
  /** At most one living connection has a key: a user, a device. */
  readonly key?: string | undefined
  /** Any number of connections share a tag: a room, a topic. */
  readonly tags?: Iterable<string> | undefined
}

/** The state and the settings of one registry. */
export interface Home<C extends State.Member, S> {
  readonly ref: Ref.Ref<State.State<C, S>>
  /** For the fibers of the registry. */
  readonly context: Context.Context<never>
  /** They close connections, and end with the scope of the registry. */
  readonly closings: Set<Fiber.Fiber<unknown, unknown>>
  readonly duplicates: "takeover" | "reject"
  /** How many ended connections are remembered. */
  readonly keep: number
  readonly changes: Changes<C, S>
  /** A connection of this id has ended: one function for all, which live long. */
  readonly ended: (id: number) => void
}

export const makeHome = <C extends State.Member, S>(
  duplicates: "takeover" | "reject",
  keep: number,
  waiting: number
): Effect.Effect<Home<C, S>, never, Scope.Scope> =>
  Effect.gen(function*() {
    // the nanosecond at which the registry is made: no peer knows it, and a simulation repeats it
    const seed = Number((yield* Clock.monotonicTimeNanos) & 0xffffffffn)
    const ref = yield* Ref.make<State.State<C, S>>(State.empty(seed))
    const context = yield* Effect.context<never>()
    const closings = new Set<Fiber.Fiber<unknown, unknown>>()
    yield* Effect.addFinalizer(() => Fiber.interruptAll(closings))
    const changes = new Changes(ref, waiting, turnsOf(yield* Scheduler.Scheduler))
    yield* Effect.addFinalizer(() => Effect.sync(() => changes.end()))
    const home: Home<C, S> = { ref, context, closings, duplicates, keep, changes, ended: (id) => left(home, id) }
    return home
  })

/** Changes the state from synchronous code. Returns what it was, and what it is. */
const change = <C extends State.Member, S>(
  { ref }: Home<C, S>,
  by: (state: State.State<C, S>) => State.State<C, S>
): readonly [before: State.State<C, S>, after: State.State<C, S>] => {
  const before = ref.ref.current
  const after = by(before)
  ref.ref.current = after
  return [before, after]
}

// ---------------------------------------------------------------------------------------------------------------------
// leaving
// ---------------------------------------------------------------------------------------------------------------------

/** Writes an entry into the history, with its connection as it looks now. */
const remember = <C extends State.Member, S>(
  { keep }: Home<C, S>,
  state: State.State<C, S>,
  { connection, key, tags }: State.Entry<C, S>
): State.State<C, S> =>
  keep <= 0 ? state : {
    ...state,
    history: History.append(state.history, { key, tags, explanation: explanationOf(connection[TypeId]) }, keep)
  }

/** Removes an entry, remembers it, and tells so. */
export const forget = <C extends State.Member, S>(
  home: Home<C, S>,
  entry: State.Entry<C, S>,
  and: (state: State.State<C, S>) => State.State<C, S> = identity
): void => {
  const [before, after] = change(home, (state) => and(remember(home, State.erase(state, entry), entry)))
  home.changes.ended(before, after, entry)
}

/** Called by the connection in the middle of its end: it must not throw, and it cannot suspend. */
const left = <C extends State.Member, S>(home: Home<C, S>, id: number): void => {
  const entry = State.entryOf(Ref.getUnsafe(home.ref), id)
  if (entry === undefined) change(home, (state) => ({ ...state, watched: HashSet.remove(state.watched, id) }))
  else forget(home, entry)
}

/** What the scope of an `add` does when it closes. The connection may live on: its later end does not enter the history again. */
const unregister =
  <C extends State.Member, S>(home: Home<C, S>, { connection, registration }: State.Entry<C, S>) => () =>
    Effect.sync(() => {
      const entry = State.entryOf(Ref.getUnsafe(home.ref), connection.id)
      if (entry?.registration !== registration) return
      forget(home, entry, (left) => ({ ...left, watched: HashSet.add(left.watched, connection.id) }))
    })

/** Closes a connection in the background: it may be slow to close. That begins at once, also after the end of the registry. */
export const close = <C extends State.Member, S>(
  { closings, context }: Home<C, S>,
  connection: C,
  what: string,
  reason: ConnectionError.Reason
): Effect.Effect<void> =>
  Effect.sync(() => {
    const name = `closing connection ${connection.id}, which is ${what},`
    const closing = Effect.suspend(() => connection.closeWith(reason))
    Supervised.spawnAmong(closings, context, name, closing, (exit) => {
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
        Supervised.log(context, `${name} failed`, exit.cause)
      }
    })
  })

// ---------------------------------------------------------------------------------------------------------------------
// coming
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Registers, and takes the key from the connection that has it; or fails, and changes nothing. It watches a connection
 * once for its end, also when that is added again.
 */
const enter = <C extends State.Member, S>(
  home: Home<C, S>,
  entry: State.Entry<C, S>
): Effect.Effect<void, ConnectionError.ConnectionError> => {
  const { connection, key } = entry
  const { id } = connection
  const before = Ref.getUnsafe(home.ref)
  const found = key === undefined ? undefined : State.holderOf(before, key)?.connection
  const holder = found?.id === id ? undefined : found
  const isRejected = home.duplicates === "reject" && holder !== undefined && State.isLiving(holder[TypeId].state)
  if (isRejected) return ConnectionError.make(new ConnectionError.DuplicateKey({ key: key! }))
  const isWatched = State.entryOf(before, id) !== undefined || HashSet.has(before.watched, id)
  const [, after] = change(home, (state) => State.insert(state, entry))
  home.changes.added(before, after, entry, holder?.id)
  if (!isWatched) connection[TypeId].onEnded(home.ended)
  if (holder === undefined || home.duplicates === "reject") return Effect.void
  return close(home, holder, "superseded", new ConnectionError.Superseded({ key: key! }))
}

const noTags: ReadonlySet<string> = new Set()

/** See `Registry.add`. */
export const add = <C extends State.Member, S>(
  home: Home<C, S>,
  connection: C,
  names: Names = {},
  session: S
): Effect.Effect<void, ConnectionError.ConnectionError, Scope.Scope> =>
  // not acquireRelease, which copies the context of each connection for its release
  Effect.uninterruptible(Effect.contextWith((context: Context.Context<Scope.Scope>) => {
    // an ended connection must not take its key from a living one
    if (connection[TypeId].state === "ended") return Effect.void
    const registered: State.Entry<C, S> = {
      connection,
      key: names.key,
      tags: names.tags === undefined ? noTags : new Set(names.tags),
      session,
      registration: Ref.getUnsafe(home.ref).registrations + 1
    }
    return Effect.andThen(
      enter(home, registered),
      Scope.addFinalizerExit(Context.get(context, Scope.Scope), unregister(home, registered))
    )
  }))

/** Adds and removes tags; an unknown id changes nothing. */
export const retag = <C extends State.Member, S>(
  home: Home<C, S>,
  id: number,
  { add = noTags, remove = noTags }: {
    readonly add?: Iterable<string> | undefined
    readonly remove?: Iterable<string> | undefined
  }
): Effect.Effect<void> =>
  Effect.sync(() => {
    const removed = Array.from(remove)
    const added = Array.from(add)
    const found = State.entryOf(Ref.getUnsafe(home.ref), id)
    if (found === undefined) return
    const tags = new Set(found.tags)
    for (const tag of removed) tags.delete(tag)
    for (const tag of added) tags.add(tag)
    const [before, after] = change(home, (state) => State.retag(state, found, tags))
    home.changes.tagged(before, after, found, tags)
  })

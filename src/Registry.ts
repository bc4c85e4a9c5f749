/**
 * The connections alive right now.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { Connection, Snapshot, Wire } from "./Connection.ts"
import * as ConnectionError from "./ConnectionError.ts"
import { TypeId } from "./internal/connection/internals.ts"
import type { Frame } from "./internal/encoder.ts"

/**
 * One registered connection and the names it goes by.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry<out In, in Out = In> {
  readonly connection: Connection<In, Out>
  /** At most one living connection has a key: a user, a device. */
  readonly key: string | undefined
  /** Any number of connections share a tag: a room, a topic. */
  readonly tags: ReadonlySet<string>
}

/**
 * What a registry remembers of a connection that has ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  readonly key: string | undefined
  readonly tags: ReadonlySet<string>
  /** The last look at it: reason, age, bytes, messages. */
  readonly snapshot: Snapshot
}

/**
 * How a broadcast went: how many outboxes took the message, how many did not, and for how many it could not be encoded.
 *
 * @category models
 * @since 0.1.0
 */
export interface Broadcast {
  readonly delivered: number
  readonly dropped: number
  readonly failed: number
}

/**
 * The connections alive right now, looked up by id, key or tag.
 *
 * @category models
 * @since 0.1.0
 */
export interface Registry<in out In, in out Out = In> {
  /**
   * Registers a connection until the scope closes. For a key that a living connection has: `takeover` ends that one
   * with `Superseded`, `reject` fails with `DuplicateKey`. One that is closing or ended has no claim to its key.
   *
   * Added again, a connection has its new names only. One that has ended already is not registered: it would take its
   * key from a living one.
   */
  readonly add: (
    connection: Connection<In, Out>,
    options?: { readonly key?: string | undefined; readonly tags?: Iterable<string> | undefined }
  ) => Effect.Effect<void, ConnectionError.ConnectionError, Scope.Scope>
  readonly get: (id: number) => Effect.Effect<Option.Option<Connection<In, Out>>>
  readonly getKey: (key: string) => Effect.Effect<Option.Option<Connection<In, Out>>>
  readonly getTag: (tag: string) => Effect.Effect<ReadonlyArray<Connection<In, Out>>>
  /** All, in the order in which they were added. */
  readonly entries: Effect.Effect<ReadonlyArray<Entry<In, Out>>>
  readonly size: Effect.Effect<number>
  /** Adds and removes tags of a registered connection; nothing happens for one that is gone. */
  readonly tag: (id: number, change: {
    readonly add?: Iterable<string> | undefined
    readonly remove?: Iterable<string> | undefined
  }) => Effect.Effect<void>
  /**
   * Offers a message to every connection, or to those of a tag, encoding it once. Never waits: a full outbox under
   * `wait` or `fail` counts as dropped.
   */
  readonly broadcast: (message: Out, options?: {
    readonly tag?: string | undefined
    /** The id of a connection to leave out: the one that said it. */
    readonly except?: number | undefined
  }) => Effect.Effect<Broadcast>
  /** Snapshots of all, for a status page. */
  readonly snapshots: Effect.Effect<ReadonlyArray<Snapshot>>
  /** The last connections that ended, oldest first. */
  readonly history: Effect.Effect<ReadonlyArray<Ended>>
  /**
   * Closes every connection that `expired` condemns and that is not closing already, with `Swept`, and tells how many.
   * Holds nothing meanwhile.
   */
  readonly sweep: Effect.Effect<number>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** When a sweep looks at all connections. Default: every 30 seconds. */
  readonly every?: Schedule.Schedule<unknown> | undefined
  /**
   * Which connections a sweep closes; without it there is no sweeping. A connection that breaks this rule is found
   * after one interval of `every` at the latest, on top of whatever time the rule itself names.
   */
  readonly expired?: ((snapshot: Snapshot) => boolean) | undefined
  /** What happens to a key that is taken. Default `takeover`. */
  readonly duplicates?: "takeover" | "reject" | undefined
  /** How many ended connections are remembered. Default 1000. */
  readonly history?: number | undefined
}

/** An entry is removed by the `add` that it came from, and by no earlier one. */
interface Registered<in out In, in out Out> extends Entry<In, Out> {
  readonly registration: number
}

/**
 * Changed in place, and each time in one piece, by whoever takes it from the `Ref`. Plain maps keep the order of
 * registration, whatever the ids are: the same program treats its connections in the same order each time, which a
 * simulation relies on.
 */
interface State<In, Out> {
  readonly byId: Map<number, Registered<In, Out>>
  readonly byKey: Map<string, number>
  readonly byTag: Map<string, Set<number>>
}

const noTags: ReadonlySet<string> = new Set()

/** Closing and ended ones only wait for their scope to close. */
const isLiving = ({ state }: Snapshot): boolean => state === "open" || state === "draining"

const addTags = (byTag: Map<string, Set<number>>, tags: Iterable<string>, id: number): void => {
  for (const tag of tags) {
    const ids = byTag.get(tag)
    if (ids === undefined) byTag.set(tag, new Set([id]))
    else ids.add(id)
  }
}

const removeTags = (byTag: Map<string, Set<number>>, tags: Iterable<string>, id: number): void => {
  for (const tag of tags) {
    const ids = byTag.get(tag)
    if (ids?.delete(id) === true && ids.size === 0) byTag.delete(tag)
  }
}

/**
 * Makes a registry, and the fiber that sweeps it, owned by the scope.
 *
 * **Details**
 *
 * A sweep closes what it condemns all at once and waits for none of it while holding anything: a connection that is
 * slow to close delays neither the others nor the next sweep.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*<In, Out = In>(
  options?: Options
): Effect.fn.Return<Registry<In, Out>, never, Scope.Scope> {
  const duplicates = options?.duplicates ?? "takeover"
  const keep = options?.history ?? 1000
  const expired = options?.expired
  const ref = yield* Ref.make<State<In, Out>>({
    byId: new Map(),
    byKey: new Map(),
    byTag: new Map()
  })
  // only ever appended to, and cut when it is twice as long as what is kept
  const ended: Array<Ended> = []
  const scope = yield* Effect.scope
  let registrations = 0

  const entries = Effect.map(Ref.get(ref), ({ byId }) => Array.from(byId.values()))

  /** Removes an entry and its names; a key may belong to the connection that took it over by now. */
  const erase = ({ byId, byKey, byTag }: State<In, Out>, { connection, key, tags }: Registered<In, Out>): void => {
    byId.delete(connection.id)
    if (key !== undefined && byKey.get(key) === connection.id) byKey.delete(key)
    removeTags(byTag, tags, connection.id)
  }

  const holderOf = ({ byId, byKey }: State<In, Out>, key: string | undefined) => {
    const id = key === undefined ? undefined : byKey.get(key)
    return id === undefined ? undefined : byId.get(id)?.connection
  }

  /** Returns who has the key; under `reject` nothing else happens, unless that is the one that `mayTakeFrom` names. */
  const insert = (entry: Registered<In, Out>, mayTakeFrom: number | undefined): Connection<In, Out> | undefined => {
    const state = Ref.getUnsafe(ref)
    const { connection, key, tags } = entry
    const found = holderOf(state, key)
    const holder = found?.id === connection.id ? undefined : found
    if (holder !== undefined && duplicates === "reject" && holder.id !== mayTakeFrom) return holder
    const earlier = state.byId.get(connection.id)
    if (earlier !== undefined) erase(state, earlier)
    state.byId.set(connection.id, entry)
    if (key !== undefined) state.byKey.set(key, connection.id)
    addTags(state.byTag, tags, connection.id)
    return holder
  }

  const enter = (
    entry: Registered<In, Out>,
    mayTakeFrom?: number
  ): Effect.Effect<void, ConnectionError.ConnectionError> => {
    const { key } = entry
    const holder = insert(entry, mayTakeFrom)
    if (holder === undefined) return Effect.void
    if (duplicates === "takeover") {
      // forked: the old one may be slow to close
      return Effect.asVoid(Effect.forkIn(holder.closeWith(new ConnectionError.Superseded({ key: key! })), scope))
    }
    if (holder.id === mayTakeFrom) return Effect.void
    return Effect.flatMap(holder.snapshot, (snapshot) =>
      isLiving(snapshot)
        ? ConnectionError.make(new ConnectionError.DuplicateKey({ key: key! }))
        : Effect.suspend(() => enter(entry, holder.id)))
  }

  const register = (
    entry: Registered<In, Out>
  ): Effect.Effect<void, ConnectionError.ConnectionError> => {
    const { connection } = entry
    return connection[TypeId].state === "ended" ? Effect.void : enter(entry)
  }

  const remove = ({ connection: { id }, registration }: Registered<In, Out>): Effect.Effect<void> => {
    const state = Ref.getUnsafe(ref)
    const entry = state.byId.get(id)
    if (entry?.registration !== registration) return Effect.void
    erase(state, entry)
    if (keep <= 0) return Effect.void
    return Effect.map(entry.connection.snapshot, (snapshot) => {
      ended.push({ key: entry.key, tags: entry.tags, snapshot })
      if (ended.length >= keep * 2) ended.splice(0, ended.length - keep)
    })
  }

  const targets = (tag: string | undefined): Effect.Effect<ReadonlyArray<Entry<In, Out>>> =>
    tag === undefined
      ? entries
      : Effect.map(Ref.get(ref), ({ byId, byTag }) => Array.from(byTag.get(tag) ?? [], (id) => byId.get(id)!))

  const sweep = Effect.gen(function*() {
    if (expired === undefined) return 0
    let condemned = 0
    for (const { connection } of yield* entries) {
      const snapshot = yield* connection.snapshot
      if (!isLiving(snapshot) || !expired(snapshot)) continue
      condemned++
      // forked: one close that hangs holds up neither the rest nor the next sweep
      yield* Effect.forkIn(connection.closeWith(new ConnectionError.Swept({})), scope)
    }
    return condemned
  })
  if (expired !== undefined) {
    // a rule that throws is a mistake in the program, and no reason to never sweep again
    const survived = Effect.ignoreCause(sweep, { log: "Error", message: "a sweep of the registry failed" })
    yield* Effect.forkScoped(Effect.schedule(survived, options?.every ?? Schedule.spaced("30 seconds")))
  }

  return {
    // not acquireRelease, which copies the context of each connection for its release
    add: (connection, names) =>
      Effect.uninterruptible(Effect.flatMap(Effect.scope, (owner) => {
        const registration = ++registrations
        const tags = names?.tags === undefined ? noTags : new Set(names.tags)
        const entry = { connection, key: names?.key, tags, registration }
        return Effect.andThen(register(entry), Scope.addFinalizer(owner, Effect.suspend(() => remove(entry))))
      })),
    get: (id) => Effect.map(Ref.get(ref), ({ byId }) => Option.fromUndefinedOr(byId.get(id)?.connection)),
    getKey: (key) => Effect.map(Ref.get(ref), (state) => Option.fromUndefinedOr(holderOf(state, key))),
    getTag: (tag) => Effect.map(targets(tag), (found) => found.map((entry) => entry.connection)),
    entries,
    size: Effect.map(Ref.get(ref), ({ byId }) => byId.size),
    tag: (id, change) =>
      Ref.update(ref, (state) => {
        const found = state.byId.get(id)
        if (found === undefined) return state
        const tags = new Set(found.tags)
        for (const tag of change.remove ?? []) tags.delete(tag)
        for (const tag of change.add ?? []) tags.add(tag)
        removeTags(state.byTag, found.tags, id)
        addTags(state.byTag, tags, id)
        state.byId.set(id, { ...found, tags })
        return state
      }),
    broadcast: Effect.fnUntraced(function*(message, to) {
      const frames = new Map<Wire<Out>, Frame | undefined>()
      let delivered = 0
      let dropped = 0
      let failed = 0
      for (const { connection } of yield* targets(to?.tag)) {
        if (connection.id === to?.except) continue
        const { wire } = connection
        if (!frames.has(wire)) {
          const encoded = wire.encode(message)
          frames.set(wire, Result.isSuccess(encoded) ? encoded.success : undefined)
        }
        const frame = frames.get(wire)
        if (frame === undefined) failed++
        else if (connection[TypeId].offerNow?.(frame) ?? (yield* connection.offerFrame(frame))) delivered++
        else dropped++
      }
      return { delivered, dropped, failed }
    }),
    snapshots: Effect.flatMap(entries, (all) => Effect.forEach(all, (e) => e.connection.snapshot)),
    history: Effect.sync(() => (keep <= 0 ? [] : ended.slice(-keep))),
    sweep
  }
})

/**
 * A rule for `expired`: connections at least this old.
 *
 * @category rules
 * @since 0.1.0
 */
export const olderThan = (age: Duration.Input): (snapshot: Snapshot) => boolean => {
  const millis = Duration.toMillis(age)
  return (snapshot) => snapshot.age >= millis
}

/**
 * A rule for `expired`: connections whose peer has been silent for at least this long.
 *
 * @category rules
 * @since 0.1.0
 */
export const quietFor = (silence: Duration.Input): (snapshot: Snapshot) => boolean => {
  const millis = Duration.toMillis(silence)
  return (snapshot) => snapshot.quietFor >= millis
}

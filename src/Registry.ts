/**
 * The connections alive right now.
 *
 * One `Ref` holds one immutable state: a reader works on the value that it read, without copying it and whatever changes
 * meanwhile. A connection that has ended is out of it at once. A fiber sweeps it on a `Schedule`.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Connection, Snapshot } from "./Connection.ts"
import type * as ConnectionError from "./ConnectionError.ts"
import * as Broadcasts from "./internal/registry/broadcast.ts"
import * as History from "./internal/registry/history.ts"
import * as Membership from "./internal/registry/membership.ts"
import * as State from "./internal/registry/state.ts"
import * as Sweep from "./internal/registry/sweep.ts"
import * as Trie from "./internal/registry/trie.ts"

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
 * How a broadcast went.
 *
 * @category models
 * @since 0.1.0
 */
export interface Broadcast {
  /** How many outboxes took the message. */
  readonly delivered: number
  /** How many outboxes were full or closed, or dropped it under `Policy.overflow`. */
  readonly dropped: number
  /**
   * For how many connections it could not be encoded, or their codec or wrapper threw. What was thrown is logged once a
   * broadcast, as an error.
   */
  readonly failed: number
}

/**
 * The connections alive right now, looked up by id, key or tag.
 *
 * **When to use**
 *
 * To reach connections from outside of their handlers: send to a user by key, to a room by tag, list all of them, or end
 * those that a rule of the application condemns. `Server` registers its connections in the registry that it is given.
 *
 * **Details**
 *
 * Every operation works on the state of one moment. A connection leaves when it has ended (its transport is released),
 * or when the scope of its `add` closes, whichever is first, and goes into the history once.
 *
 * @category models
 * @since 0.1.0
 */
export interface Registry<in out In, in out Out = In> {
  /**
   * Registers a connection until it ends or the scope closes. For a key that a living connection has: `takeover` ends that
   * one with `Superseded`, without waiting for it, and `reject` fails with `DuplicateKey`. A connection that is closing has
   * no claim to its key.
   *
   * Added again, a connection has its new names only, and the scope of the earlier `add` no longer removes it. A connection
   * that has ended already is not registered.
   */
  readonly add: (
    connection: Connection<In, Out>,
    options?: { readonly key?: string | undefined; readonly tags?: Iterable<string> | undefined }
  ) => Effect.Effect<void, ConnectionError.ConnectionError, Scope.Scope>
  readonly get: (id: number) => Effect.Effect<Option.Option<Connection<In, Out>>>
  /** The connection that has this key. It may be closing; it has not ended. */
  readonly getKey: (key: string) => Effect.Effect<Option.Option<Connection<In, Out>>>
  /** The connections with this tag, in the order in which they were added to the registry. */
  readonly getTag: (tag: string) => Effect.Effect<ReadonlyArray<Connection<In, Out>>>
  /**
   * All, in the order in which they were added. Costs about 0.1 us for each connection, and nothing where no connection
   * came, left or was tagged since the last call: then it is the same array, so do not change it.
   */
  readonly entries: Effect.Effect<ReadonlyArray<Entry<In, Out>>>
  readonly size: Effect.Effect<number>
  /** Adds and removes tags of a registered connection; nothing happens for one that is gone. */
  readonly tag: (id: number, change: {
    readonly add?: Iterable<string> | undefined
    readonly remove?: Iterable<string> | undefined
  }) => Effect.Effect<void>
  /**
   * Offers a message to every connection, or to those of a tag, in the order in which they were added, encoding it once for
   * all connections of one `Connection.make`. Never waits: a full outbox under `wait` or `fail` counts as dropped. Never
   * fails: a codec or a wrapper that throws counts as failed, and the others get the message.
   */
  readonly broadcast: (message: Out, options?: {
    readonly tag?: string | undefined
    /** The id of a connection to leave out, such as the sender. */
    readonly except?: number | undefined
  }) => Effect.Effect<Broadcast>
  /** Snapshots of all, for a status page. */
  readonly snapshots: Effect.Effect<ReadonlyArray<Snapshot>>
  /** The last connections that ended, oldest first: at most `Options.history`. */
  readonly history: Effect.Effect<ReadonlyArray<Ended>>
  /**
   * Sweeps now, and tells how many connections that closes, each with `Swept`: those that `expired` condemns and that are
   * not closing already, and those that `overlooked` counts. Waits for none of them to close.
   */
  readonly sweep: Effect.Effect<number>
  /**
   * How many connections only a sweep found, since the registry was made: they had ended and were still registered, or had
   * outlived their own policy with no fiber of theirs to end them. Each is logged as an error with its id.
   *
   * **When to use**
   *
   * As an alarm: it is 0 unless this library has a bug. Not to count what `expired` closes.
   */
  readonly overlooked: Effect.Effect<number>
}

/**
 * How a registry sweeps, what it does with a key that is taken, and how much it remembers.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * When a sweep looks at all connections. Default: every 30 seconds. The delays of the schedule count from the end of the
   * sweep before; a delay of 0 is 1 ms. A schedule that ends, fails or throws is logged once, and the default goes on.
   */
  readonly every?: Schedule.Schedule<unknown, void, unknown> | undefined
  /**
   * Which connections a sweep closes, besides those that outlived their own policy. A connection that breaks this rule is
   * found after one interval of `every` at the latest, on top of the time that the rule itself names.
   *
   * A rule that throws spares the connection that it threw for. It is logged once, and once more after it has worked.
   */
  readonly expired?: ((snapshot: Snapshot) => boolean) | undefined
  /** What happens to a key that is taken. Default `takeover`. */
  readonly duplicates?: "takeover" | "reject" | undefined
  /** How many ended connections are remembered. Default 1000; 0 remembers none. */
  readonly history?: number | undefined
}

/**
 * Makes a registry, and the fiber that sweeps it, owned by the scope.
 *
 * **Details**
 *
 * A sweep is the second line of defence behind the deadlines of each connection. It closes with `Swept`
 *
 * - what `expired` condemns;
 * - a connection that has outlived what its own policy allows in two looks a second or more apart. That is a bug: it is
 *   logged as an error and counted in `overlooked`.
 *
 * It removes a connection that has ended and is still registered, found, logged and counted in the same way. A connection
 * that is slow to close delays neither the others nor the next sweep. When the sweeping fiber is interrupted or dies, it is
 * logged and starts again a second later.
 *
 * **Example** (End silent connections, and count a room)
 *
 * ```ts
 * const program = Effect.gen(function*() {
 *   const registry = yield* Registry.make<string>({
 *     every: Schedule.spaced("1 minute"),
 *     expired: Registry.quietFor("10 minutes")
 *   })
 *   const open = Connection.make({ codec: Codec.lines() })
 *   yield* registry.add(yield* open(socket), { key: "ada", tags: ["lobby"] })
 *   const { delivered } = yield* registry.broadcast("welcome", { tag: "lobby" })
 *   return delivered
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <In, Out = In>(options: Options = {}): Effect.Effect<Registry<In, Out>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { duplicates = "takeover", every, expired, history: keep = 1000 } = options
    const home = yield* Membership.makeHome<Connection<In, Out>>(duplicates, keep)
    const state = Ref.get(home.ref)
    const sweep = Sweep.sweep(home, expired)
    yield* Sweep.keepSweeping(sweep, every)

    return {
      add: (connection, names) => Membership.add(home, connection, names),
      get: (id) => Effect.map(state, (state) => Option.fromUndefinedOr(State.entryOf(state, id)?.connection)),
      getKey: (key) => Effect.map(state, (state) => Option.fromUndefinedOr(State.holderOf(state, key)?.connection)),
      getTag: (tag) =>
        Effect.map(state, (state) => Trie.toArray(State.select(state, tag)).map(({ connection }) => connection)),
      entries: Effect.map(state, State.entriesOf<Connection<In, Out>>),
      size: Effect.map(state, ({ size }) => size),
      tag: (id, change) => Membership.retag(home, id, change),
      broadcast: (message, to) =>
        Effect.flatMap(state, (state) => Broadcasts.broadcast(State.select(state, to?.tag), message, to?.except)),
      snapshots: Effect.flatMap(
        state,
        ({ inOrder }) => Effect.forEach(Trie.values(inOrder), ({ connection }) => connection.snapshot)
      ),
      history: Effect.map(state, ({ history }) => History.lastOf(history, keep)),
      sweep,
      overlooked: Effect.map(state, ({ overlooked }) => overlooked)
    }
  })

/**
 * A registry for as long as its layer is built.
 *
 * **When to use**
 *
 * Where services that do not know each other use the same registry: the server that registers, a job that broadcasts, a
 * status page.
 *
 * **Example** (A server and a clock that speaks to all of its connections)
 *
 * ```ts
 * import { Context, Effect, Layer, Schedule } from "effect"
 * import { Codec, Connection, Registry, Server } from "holdfast"
 *
 * class Clients extends Context.Service<Clients, Registry.Registry<string>>()("app/Clients") {
 *   static readonly layer = Registry.layer(Clients, { expired: Registry.olderThan("1 day") })
 * }
 *
 * const clock = Clients.use((clients) => clients.broadcast("tick")).pipe(Effect.repeat(Schedule.spaced("1 second")))
 *
 * const server = Clients.use((registry) =>
 *   Server.run({
 *     open: Connection.make({ codec: Codec.lines() }),
 *     registry,
 *     handle: (connection) => Effect.forever(Effect.flatMap(connection.receive, connection.send))
 *   })
 * )
 *
 * const program = Effect.all([clock, server], { concurrency: 2 }).pipe(Effect.provide(Clients.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <I, In, Out = In>(
  service: Context.Key<I, Registry<In, Out>>,
  options?: Options
): Layer.Layer<I> => Layer.effect(service, make<In, Out>(options))

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

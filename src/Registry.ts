/**
 * The connections alive right now, looked up by id, key or tag.
 *
 * For a program that reaches connections from outside of their handlers: sends to a user, broadcasts to a room, shows all
 * on a status page. One `Ref` holds one immutable state: a reader works on the value that it read, without copying it,
 * while others change the registry. A connection that has ended is out of it at once. A fiber sweeps it on a `Schedule`.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Connection, Snapshot } from "./Connection.ts"
import type * as ConnectionError from "./ConnectionError.ts"
import { atLeast } from "./internal/arguments/atLeast.ts"
import { millisOf } from "./internal/arguments/durations.ts"
import * as Broadcasts from "./internal/registry/broadcast.ts"
import type { AnySession, Change, Entry } from "./internal/registry/entries.ts"
import * as History from "./internal/registry/history.ts"
import type { EndedQuery, ExplainedEnd } from "./internal/registry/history.ts"
import * as Membership from "./internal/registry/membership.ts"
import type { Names } from "./internal/registry/membership.ts"
import * as State from "./internal/registry/state.ts"
import * as Sweep from "./internal/registry/sweep.ts"
import * as Trie from "./internal/registry/trie.ts"
import { telemetryOf, watched } from "./internal/telemetry/telemetry.ts"

export type { AnySession, Change, Changed, Entry } from "./internal/registry/entries.ts"
export type { EndedQuery, ExplainedEnd } from "./internal/registry/history.ts"
export type { Names } from "./internal/registry/membership.ts"

/**
 * What a registry remembers of a connection that has ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  readonly key: string | undefined
  readonly tags: ReadonlySet<string>
  /** How it looked at its end: reason, age, bytes, messages. */
  readonly snapshot: Snapshot
}

/**
 * What became of an offer: the connection's outbox took it, or was full, or there is no such connection.
 *
 * @category models
 * @since 0.1.0
 */
export type Offered = "accepted" | "full" | "offline"

/**
 * How a broadcast went: each connection it was for is counted once.
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
   * For how many connections it could not be encoded, or their codec or wrapper threw. One error a broadcast is logged for
   * throws.
   */
  readonly failed: number
}

/**
 * The connections alive right now, looked up by id, key or tag.
 *
 * **When to use**
 *
 * To reach connections from outside of their handlers: send to a user by key, to a room by tag, list all of them, or end
 * connections by a rule of the application. A `Server` registers its connections in `Server.Options.registry`.
 *
 * **Details**
 *
 * Every operation works on the state of one moment. A connection leaves when it has ended (its transport is released),
 * or when the scope of its `add` closes, whichever is first, and goes into the history once.
 *
 * `Session` is what is known of a connection's peer, kept beside its names: a `Server` registers what its handshake returned.
 * `Registry<In, Out>` takes any session, and says nothing of its type.
 *
 * **An application's own registry** is one with operations replaced: `{ ...registry, add }`. A `Server` calls `add` alone, in
 * a scope that closes with the connection and within `Policy.handshake`, so it may ask a database first. What it acquires in
 * that scope is released with the connection; its failure refuses the connection.
 *
 * **Example** (A registry that claims the key elsewhere first)
 *
 * ```ts
 * import { Effect } from "effect"
 * import type { Scope } from "effect"
 * import { ConnectionError } from "holdfast"
 * import type { Registry } from "holdfast"
 *
 * // releases the claim when the scope closes; false: another machine has it
 * declare const claim: (key: string) => Effect.Effect<boolean, never, Scope.Scope>
 *
 * const claiming = <In, Out, Session>(
 *   registry: Registry.Registry<In, Out, Session>
 * ): Registry.Registry<In, Out, Session> => ({
 *   ...registry,
 *   add: (connection, names, session) =>
 *     Effect.gen(function*() {
 *       const key = names?.key
 *       if (key !== undefined && !(yield* claim(key))) {
 *         return yield* ConnectionError.make(new ConnectionError.DuplicateKey({ key }))
 *       }
 *       yield* registry.add(connection, names, session)
 *     })
 * })
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Registry<in out In, in out Out = In, in out Session = AnySession> {
  /**
   * Registers a connection until it ends or the scope closes. When a living connection has the key, `takeover` ends that
   * connection with `Superseded`, without waiting for it, and `reject` fails with `DuplicateKey`. A connection that is
   * closing has no claim to its key.
   *
   * A connection added again has its new names only, and the scope of the earlier `add` no longer removes it. A connection
   * that has ended already is not registered.
   *
   * `session` is kept as it is, and given out with the entry. A registry that is made without sessions is called without one.
   */
  readonly add: (
    connection: Connection<In, Out>,
    names: Names | void,
    session: Session
  ) => Effect.Effect<void, ConnectionError.ConnectionError, Scope.Scope>
  /** The connection with this id, which may be closing; none once it has ended. */
  readonly get: (id: number) => Effect.Effect<Option.Option<Connection<In, Out>>>
  /** The connection that has this key. It may be closing; it has not ended. */
  readonly getKey: (key: string) => Effect.Effect<Option.Option<Connection<In, Out>>>
  /** The connections with this tag, in the order in which they were added to the registry. */
  readonly getTag: (tag: string) => Effect.Effect<ReadonlyArray<Connection<In, Out>>>
  /**
   * All connections with their names, in the order in which they were added. Costs about 0.1 us for each connection, and
   * nothing when no connection came, left or was tagged since the last call: then it is the same array, so do not change it.
   */
  readonly entries: Effect.Effect<ReadonlyArray<Entry<In, Out, Session>>>
  /** How many connections are registered. */
  readonly size: Effect.Effect<number>
  /**
   * What is registered now, and then every change, for as long as the registry lives: who came and went, in which room.
   *
   * A change names its connection by its id: `get` has the connection while it lives. Its `first` and `last` are the tags that
   * began or ceased to be in use with it: when to subscribe to a topic elsewhere, and when to leave it.
   *
   * A slow reader holds at most `Options.changes` changes. When there are more, all of them are dropped, and the next element
   * is `Current`, the state of that moment, with how many were `missed`.
   *
   * **Example** (Who is online)
   *
   * ```ts
   * const presence = (registry: Registry.Registry<string>) =>
   *   Stream.runForEach(registry.changes, (change) => {
   *     if (change._tag === "Current") return Console.log("online", change.entries.map(({ key }) => key))
   *     if (change._tag === "Added" && change.superseded === undefined) return Console.log(change.key, "came")
   *     if (change._tag === "Ended" && change.isKeyFree) return Console.log(change.key, "left")
   *     return Effect.void
   *   })
   * ```
   */
  readonly changes: Stream.Stream<Change<In, Out, Session>>
  /** Adds and removes tags of a registered connection; nothing happens for a connection that is gone. */
  readonly tag: (id: number, change: {
    readonly add?: Iterable<string> | undefined
    readonly remove?: Iterable<string> | undefined
  }) => Effect.Effect<void>
  /**
   * Offers a message to the connection that has a key, without waiting.
   *
   * - `accepted`: its outbox has the message, which is not delivered yet.
   * - `full`: its outbox is full or closed, or dropped the message under `Policy.overflow`.
   * - `offline`: no connection has the key, or the one that has it is ending.
   *
   * Fails with the codec's reason for a message that cannot be encoded.
   */
  readonly offer: (key: string, message: Out) => Effect.Effect<Offered, ConnectionError.ConnectionError>
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
   * The same with all that is known of each end, the newest first: who ended it, what saw that, and what had happened to the
   * connection; those that a query asks for.
   *
   * **Example** (Whom the network lost in the last hour)
   *
   * ```ts
   * const lost = (registry: Registry.Registry<string>, now: number) =>
   *   Effect.flatMap(
   *     registry.ended({ who: "network", since: now - 3_600_000, limit: 20 }),
   *     Effect.forEach(({ explanation, key }) => Console.log(key, Connection.inWords(explanation)))
   *   )
   * ```
   */
  readonly ended: (query?: EndedQuery) => Effect.Effect<ReadonlyArray<ExplainedEnd>>
  /**
   * Sweeps now, and returns how many connections the sweep closes, each with `Swept`: connections that `expired` condemns
   * and that are not closing already, and connections that `overlooked` counts. Waits for none of them to close.
   */
  readonly sweep: Effect.Effect<number>
  /**
   * How many connections a sweep had to settle since the registry was made: each had ended and was still registered, or had
   * outlived its own policy without ending itself. Each is logged as an error with its id.
   *
   * **When to use**
   *
   * As an alarm: it is 0 unless this library has a bug. It does not count connections that `expired` closes.
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
   * Which connections a sweep closes, besides connections that outlived their own policy. The sweep finds a connection that
   * breaks this rule one interval of `every` later at the latest.
   *
   * A throw spares the connection that the rule was called for. It is logged once, and again after a sweep without a throw.
   */
  readonly expired?: ((snapshot: Snapshot) => boolean) | undefined
  /** What happens to a key that is taken. Default `takeover`. */
  readonly duplicates?: "takeover" | "reject" | undefined
  /** How many ended connections are remembered. Default 1000; 0 remembers none. Their sessions are not. */
  readonly history?: number | undefined
  /** How many changes wait for a slow reader of `Registry.changes`. Default 1024; 0 tells each one as `Current`. */
  readonly changes?: number | undefined
}

/**
 * Makes a registry, and the fiber that sweeps it, owned by the scope.
 *
 * **Details**
 *
 * A sweep is the second line of defence behind the deadlines of each connection. It closes with `Swept`
 *
 * - a connection that `expired` condemns;
 * - a connection that two looks, a second or more apart, find to have outlived its own policy. That is a bug: it is logged
 *   as an error and counted in `overlooked`.
 *
 * A connection that has ended and is still registered is found in the same way, logged, counted and removed. A connection
 * that is slow to close delays neither the others nor the next sweep. When the sweeping fiber is interrupted or dies, that
 * is logged, and the fiber starts again a second later.
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
export const make = <In, Out = In, Session = AnySession>(
  options: Options = {}
): Effect.Effect<Registry<In, Out, Session>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { changes = 1024, duplicates = "takeover", every, expired, history: keep = 1000 } = options
    atLeast(0, "history", keep)
    atLeast(0, "changes", changes)
    if (duplicates !== "takeover" && duplicates !== "reject") {
      throw new RangeError(`duplicates must be takeover or reject, and not ${String(duplicates)}`)
    }
    const home = yield* Membership.makeHome<Connection<In, Out>, Session>(duplicates, keep, changes)
    const state = Ref.get(home.ref)
    const telemetry = telemetryOf(yield* Effect.context<never>())
    const sweep = telemetry === undefined ? Sweep.sweep(home, expired) : Effect.tap(
      Sweep.sweep(home, expired),
      (closed) =>
        Effect.sync(() => {
          telemetry.collector.count("registry_sweeps_total", 1)
          telemetry.collector.count("registry_swept_total", closed)
        })
    )
    yield* watched((add) => {
      const { overlooked, size } = Ref.getUnsafe(home.ref)
      add("registry_connections", size)
      add("registry_overlooked_total", overlooked)
    })
    yield* Sweep.keepSweeping(sweep, every)

    return {
      add: (connection, names, session) => Membership.add(home, connection, names ?? {}, session),
      get: (id) => Effect.map(state, (state) => Option.fromUndefinedOr(State.entryOf(state, id)?.connection)),
      getKey: (key) => Effect.map(state, (state) => Option.fromUndefinedOr(State.holderOf(state, key)?.connection)),
      getTag: (tag) =>
        Effect.map(state, (state) => Trie.toArray(State.select(state, tag)).map(({ connection }) => connection)),
      entries: Effect.map(state, State.entriesOf<Connection<In, Out>, Session>),
      changes: home.changes.stream,
      size: Effect.map(state, ({ size }) => size),
      tag: (id, change) => Membership.retag(home, id, change),
      offer: (key, message) =>
        Effect.flatMap(state, (state) => Broadcasts.offer(State.holderOf(state, key)?.connection, message)),
      broadcast: (message, to) =>
        Effect.flatMap(state, (state) => Broadcasts.broadcast(State.select(state, to?.tag), message, to?.except)),
      snapshots: Effect.flatMap(
        state,
        ({ inOrder }) => Effect.forEach(Trie.values(inOrder), ({ connection }) => connection.snapshot)
      ),
      history: Effect.map(state, ({ history }) =>
        History.lastOf(history, keep).map(({ explanation: { snapshot }, key, tags }) => ({ key, tags, snapshot }))),
      ended: (query) =>
        Effect.map(state, ({ history }) =>
          History.select(History.lastOf(history, keep), query)),
      sweep,
      overlooked: Effect.map(state, ({ overlooked }) => overlooked)
    }
  })

/**
 * A registry for as long as its layer is built.
 *
 * **When to use**
 *
 * Where several services use one registry: a server that registers, a job that broadcasts, a status page.
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
export const layer = <I, In, Out = In, Session = AnySession>(
  service: Context.Key<I, Registry<In, Out, Session>>,
  options?: Options
): Layer.Layer<I> => Layer.effect(service, make<In, Out, Session>(options))

/**
 * A rule for `expired`: connections at least this old.
 *
 * @category rules
 * @since 0.1.0
 */
export const olderThan = (age: Duration.Input): (snapshot: Snapshot) => boolean => {
  const millis = millisOf("olderThan", age)
  return (snapshot) => snapshot.age >= millis
}

/**
 * A rule for `expired`: connections whose peer has been silent for at least this long.
 *
 * @category rules
 * @since 0.1.0
 */
export const quietFor = (silence: Duration.Input): (snapshot: Snapshot) => boolean => {
  const millis = millisOf("quietFor", silence)
  return (snapshot) => snapshot.quietFor >= millis
}

/**
 * Many connections, shared by many fibers: each fiber borrows one, alone, for as long as it needs it.
 *
 * Use it where a client asks a server for more than one thing at a time and a connection can do only one: a database, a
 * cache, a backend of a gateway. `Request` puts questions and answers on top of it; a single connection that comes back after
 * each loss is a `Client`.
 *
 * **Why not Effect's `Pool` and `RcMap`**
 *
 * The leaks on interruption that were reported for them and for `RcRef` and `ScopedRef` (Effect-TS/effect#8390) are not in
 * 4.1.0: interrupting at every yield point left nothing. They count and register the release in one step, and so does this
 * module. `Pool` is not used because it lacks what a pool of connections needs. Its borrowers wait without a bound and without
 * a deadline. It grows by one at a time under a semaphore, so that a dial that hangs holds up the next. It keeps no time per
 * borrower; its order is last in, first out; its limits are fixed. It opens the replacement of an invalidated item while the
 * old one is still open, which exceeds the maximum of a server. Its time to live is one for all and looked at once per
 * interval, which is late by up to as much and expires together what was opened together. A `Strategy` sees an item when it is
 * acquired and chooses one to reclaim, no more. `RcMap` keeps a key for as long as it is borrowed, and a fixed time after; at
 * its capacity it fails instead of letting the least recently used go. What is used: `Scope` for each connection, `Schedule`
 * for retries, and `MutableHashMap` for keys.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Backoff from "./Backoff.ts"
import type { Connection } from "./Connection.ts"
import type * as ConnectionError from "./ConnectionError.ts"
import { TypeId } from "./internal/connection/handle/internals.ts"
import { condemn } from "./internal/endings/defects.ts"
import { choice, count, duration, fraction, numbersOf } from "./internal/limits/definition.ts"
import { limitSet } from "./internal/limits/limitSet.ts"
import { retryRules } from "./internal/limits/retryRules.ts"
import * as Borrowing from "./internal/pool/borrowing.ts"
import { KeyedPools } from "./internal/pool/keyed.ts"
import { starter } from "./internal/pool/pool.ts"
import { close } from "./internal/pool/retiring.ts"
import type { AllBounds, Bounds } from "./internal/pool/state.ts"
import { figures, type Stats, type Why } from "./internal/pool/stats.ts"
import { watched } from "./internal/telemetry/telemetry.ts"
import { InvalidPolicy, type PatchOf } from "./Policy.ts"

type Failure = ConnectionError.ConnectionError

// ---------------------------------------------------------------------------------------------------------------------
// limits
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The limits of a pool. Durations and their texts are as in `Policy`: 0 turns a limit off, unless the field says
 * otherwise.
 *
 * @category limits
 * @since 0.1.0
 */
export class Limits extends Schema.Class<Limits>("holdfast/ConnectionPool/Limits")({
  /** How many connections are kept open, used or not. Default 0. At most `max`. */
  min: count("min", { default: 0, minimum: 0 }).says("How many connections are kept open, used or not"),
  /** The most connections open at a time, those that are being opened or closed included. Default 8. At least `min`. */
  max: count("max", { default: 8, minimum: 1, atLeast: { limit: "min", follows: "neither" } }).says(
    "The most connections open at a time, those that are being opened or closed included"
  ),
  /** How long a borrower may wait, dialling included. Default 10 s. 0 is off. */
  acquire: duration("acquire", { default: "10s", zero: "off" }).says("How long a borrower may wait, dialling included"),
  /** The most borrowers that wait while nothing can be opened for them; one more fails at once. Default 1024. */
  waiters: count("waiters", { default: 1024, minimum: 0 }).says(
    "The most borrowers that wait while nothing can be opened for them; one more fails at once"
  ),
  /** The most connections that are being opened at a time. So a cold start is no stampede. Default 4. */
  dials: count("dials", { default: 4, minimum: 1 }).says(
    "The most connections that are being opened at a time",
    "So a cold start is no stampede"
  ),
  /** How long one try to open may take, whatever `open` does; it never extends `acquire`. Default 10 s. 0 is off. */
  dial: duration("dial", { default: "10s", zero: "off" }).says(
    "How long one try to open may take, whatever `open` does; it never extends `acquire`"
  ),
  /**
   * Which idle connection is used next: the one used last, or the one idle for longest. Default `lifo`.
   *
   * `lifo`: the one used last, which is warm, and the others can go. `fifo`: the one idle for longest, which spreads the
   * load and keeps all of them from being cut for idleness.
   */
  order: choice("order", ["lifo", "fifo"], { default: "lifo" }).says(
    "Which idle connection is used next: the one used last, or the one idle for longest"
  ),
  /** Idle connections above `min` close after this long. Default 5 m. 0 is off. */
  idle: duration("idle", { default: "5m", zero: "off" }).says("Idle connections above `min` close after this long"),
  /** No connection is lent at this age; a borrowed one closes when it comes back. Default 30 m. 0 is off. */
  maxAge: duration("maxAge", { default: "30m", zero: "off" }).says(
    "No connection is lent at this age; a borrowed one closes when it comes back"
  ),
  /** `idle` and `maxAge` are shorter by up to this fraction, drawn once for each connection. Default 0.1. */
  jitter: fraction("jitter", { default: 0.1 }).says(
    "`idle` and `maxAge` are shorter by up to this fraction, drawn once for each connection"
  ),
  /**
   * A connection idle for longer is checked before it is lent; only with `check`. Default 30 s. 0 checks every time.
   */
  checkAfter: duration("checkAfter", { default: "30s", zero: "checks every time" }).says(
    "A connection idle for longer is checked before it is lent; only with `check`"
  ),
  /** How often idle connections are checked; only with `check`. Default off (0). */
  checkEvery: duration("checkEvery", { default: "0", zero: "off" }).says(
    "How often idle connections are checked; only with `check`"
  ),
  /** How long a check may take. Default 5 s. 0 is off. */
  checkTimeout: duration("checkTimeout", { default: "5s", zero: "off" }).says("How long a check may take"),
  /** A connection borrowed for longer is reported, once, to `onEvent` and in the statistics. Default off (0). */
  leak: duration("leak", { default: "0", zero: "off" }).says(
    "A connection borrowed for longer is reported, once, to `onEvent` and in the statistics"
  ),
  /**
   * How long closing the pool waits for what is borrowed, and a slot for its connection to close. Default 5 s. 0 does
   * not wait.
   */
  drain: duration("drain", { default: "5s", zero: "does not wait" }).says(
    "How long closing the pool waits for what is borrowed, and a slot for its connection to close"
  ),
  /** Reasons and close codes after which the pool dials again, whatever they say themselves. Default none. */
  retryOn: retryRules("retryOn").says(
    "Reasons and close codes after which the pool dials again, whatever they say themselves"
  ),
  /**
   * Reasons and close codes after which the pool gives up, whatever they say themselves. Default none. Has no entry in
   * common with `retryOn`.
   */
  giveUpOn: retryRules("giveUpOn", { apartFrom: "retryOn" }).says(
    "Reasons and close codes after which the pool gives up, whatever they say themselves"
  )
}) {}

/**
 * Some limits, with durations as people write them in code.
 *
 * @category limits
 * @since 0.1.0
 */
export interface Patch extends PatchOf<typeof Limits.fields> {
  // an interface without a member of its own is called by its base in errors, with the schemas of all fields
  readonly min?: number | undefined
}

// each limit is checked before by itself
const set = limitSet(Limits.fields, (values) => new Limits(values, { disableChecks: true }))

const patched = (from: Limits, patch: Patch): Result.Result<Limits, InvalidPolicy> =>
  Result.mapError(set.change(from, patch, "code"), (detail) => new InvalidPolicy({ detail }))

/**
 * The limits of a pool that is told nothing else.
 *
 * @category limits
 * @since 0.1.0
 */
export const defaults: Limits = set.defaults

/**
 * Builds limits: the defaults (or `from`) with some of them changed. One that makes no sense is a mistake in the program:
 * it throws an `InvalidPolicy` that names it.
 *
 * @category limits
 * @since 0.1.0
 */
export const limits = (patch: Patch, from: Limits = defaults): Limits =>
  Result.getOrThrowWith(patched(from, patch), (error) => error)

/**
 * Reads limits from JSON data: an object with any of the fields. Every wrong or unknown field is named.
 *
 * @category limits
 * @since 0.1.0
 */
export const decode = (input: unknown): Effect.Effect<Limits, InvalidPolicy> =>
  Effect.suspend(() =>
    typeof input !== "object" || input === null || Array.isArray(input)
      ? Effect.fail(new InvalidPolicy({ detail: "expected an object with fields such as {\"max\": 8}" }))
      : Effect.fromResult(Result.mapError(set.read(defaults, input), (detail) => new InvalidPolicy({ detail })))
  )

/**
 * Writes limits as JSON data that `decode` reads.
 *
 * @category limits
 * @since 0.1.0
 */
export const encode: (limits: Limits) => typeof Limits.Encoded = Schema.encodeSync(Limits)

/**
 * Where limits are in the configuration, and what they change.
 *
 * @category limits
 * @since 0.1.0
 */
export interface ConfigOptions {
  /** What the names of the variables begin with: with `"POOL"`, `POOL_MAX_AGE` sets `maxAge`. See `Policy.config`. */
  readonly prefix?: string | undefined
  /** What a field has that is not set. Default `defaults`. */
  readonly from?: Limits | undefined
}

/**
 * Reads limits from configuration; what is not set keeps its default, or is as in `from`.
 *
 * Names and values are those of `Policy.config`; give a pool a prefix of its own, because `drain` and `retryOn` are fields
 * of both.
 *
 * **Example** (Limits of a pool from the environment)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection, ConnectionPool } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")), lines)
 *
 * // BACKEND_POOL_MAX=20 BACKEND_POOL_ACQUIRE=2s node gateway.ts
 * const pool = Effect.flatMap(
 *   ConnectionPool.config({ prefix: "BACKEND_POOL" }),
 *   (limits) => ConnectionPool.make(open, limits)
 * )
 * ```
 *
 * @category limits
 * @since 0.1.0
 */
export const config = (options?: Limits | ConfigOptions): Config.Config<Limits> => {
  const { from = defaults, prefix } = options instanceof Limits ? { from: options } : options ?? {}
  return set.config(from, prefix)
}

const coreLimits: (limits: Limits) => AllBounds = numbersOf(Limits.fields)

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

export type {
  /**
   * What a pool looks like at one moment (`open`, `idle`, `inUse`, `checking`, `closing`, `dialing`, `waiting`), and what has
   * happened in it so far. Times are milliseconds.
   *
   * @category models
   * @since 0.1.0
   */
  Stats,
  /**
   * Why a connection left its pool.
   *
   * - `stale`: it had ended, or its peer sent something that no borrower had asked for.
   * - `unhealthy`: a check failed or took too long.
   * - `abandoned`: its borrower failed or was interrupted, so an answer may still be on its way.
   * - `expired`: it reached its `maxAge`. `idle`: it was idle for longer than `idle`.
   * - `trimmed`: `max` was lowered. `evicted`: too many were idle over all keys. `closing`: the pool closes.
   *
   * @category models
   * @since 0.1.0
   */
  Why
}

/**
 * A connection that is borrowed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease<out In, in Out = In> {
  /** What is borrowed. */
  readonly connection: Connection<In, Out>
  /** Its borrower: the name of the span it was borrowed in, if there was one, and the fiber. */
  readonly by: string
  /** For how many milliseconds. */
  readonly heldFor: number
}

/**
 * What happens in a pool, for the hook `onEvent` to see. Times are milliseconds.
 *
 * - `Opened` (`took`), `OpenFailed`: a dial ended. `Retired` (`why`): a connection left the pool.
 * - `Borrowed` (`waited`), `Returned` (`heldFor`): a lease began, or ended.
 * - `TimedOut`: a borrower gave up at `acquire`. `Leaked` (`by`, `heldFor`): a lease is longer than `leak`.
 *
 * @category models
 * @since 0.1.0
 */
export type Event<In, Out = In> =
  | { readonly _tag: "Opened"; readonly connection: Connection<In, Out>; readonly took: number }
  | { readonly _tag: "OpenFailed"; readonly error: Failure }
  | { readonly _tag: "Borrowed"; readonly connection: Connection<In, Out>; readonly waited: number }
  | { readonly _tag: "Returned"; readonly connection: Connection<In, Out>; readonly heldFor: number }
  | { readonly _tag: "Retired"; readonly connection: Connection<In, Out>; readonly why: Why }
  | { readonly _tag: "TimedOut"; readonly error: Failure }
  | {
    readonly _tag: "Leaked"
    readonly connection: Connection<In, Out>
    readonly by: string
    readonly heldFor: number
  }

/**
 * Many connections, shared by many fibers.
 *
 * **Details**
 *
 * Borrowers are served in the order in which they came. A connection is lent to one borrower at a time, and only while it is
 * open and at rest: one that has ended, or on which something arrived that no borrower had asked for, is replaced. To get rid
 * of one in particular, close it (`connection.close`) and return it.
 *
 * A borrower that ends with success returns its connection. After a failure or an interruption an answer may still be on its
 * way, so the connection is closed, and that answer cannot reach the next borrower; `isReusable` makes exceptions.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionPool<out In, in Out = In> {
  /**
   * Borrows a connection until the scope closes. Fails with `AcquireTimeout`, with `PoolFull`, with the reason why one
   * could not be opened, and with `Closed` once the pool is closed.
   */
  readonly get: Effect.Effect<Connection<In, Out>, Failure, Scope.Scope>
  /** Borrows a connection for one effect. Cheaper than `get`. */
  readonly use: <A, E, R>(
    f: (connection: Connection<In, Out>) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | Failure, R>
  /** How the pool looks now, and what has happened in it. */
  readonly stats: Effect.Effect<Stats>
  /** Which borrower has which connection, the longest lease first. */
  readonly held: Effect.Effect<ReadonlyArray<Lease<In, Out>>>
  /** Changes limits now: a lower `max` closes idle connections at once and borrowed ones as they come back. */
  readonly patch: (changes: Patch) => Effect.Effect<void, InvalidPolicy>
  /** The limits that hold now. */
  readonly limits: Effect.Effect<Limits>
  /**
   * Closes the pool: idle connections now, borrowed ones when they come back; borrowers that wait fail with `Closed`. Waits
   * for all of it; a connection that is borrowed for longer than `drain` is closed then. Safe to call repeatedly. The end of
   * the scope does the same. Within a dial or a check of the pool, neither waits.
   */
  readonly close: Effect.Effect<void>
}

/**
 * One pool for each key, such as an address. Its members are those of `ConnectionPool`, with a key.
 *
 * @category models
 * @since 0.1.0
 */
export interface Keyed<in K, out In, in Out = In> {
  /** Borrows a connection of the key until the scope closes. */
  readonly get: (key: K) => Effect.Effect<Connection<In, Out>, Failure, Scope.Scope>
  /** Borrows a connection of the key for one effect. Cheaper than `get`. */
  readonly use: <A, E, R>(
    key: K,
    f: (connection: Connection<In, Out>) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | Failure, R>
  /** Of the pool of one key; `undefined` while that has no connections. */
  readonly stats: (key: K) => Effect.Effect<Stats | undefined>
  /** Of all keys together, those included that have no connections any more. */
  readonly total: Effect.Effect<Stats>
  /** Which borrower has which connection, over all keys, the longest lease first. */
  readonly held: Effect.Effect<ReadonlyArray<Lease<In, Out>>>
  /** Changes the limits of all keys now. */
  readonly patch: (changes: Patch) => Effect.Effect<void, InvalidPolicy>
  /** Closes the pools of all keys, as `ConnectionPool.close` does. */
  readonly close: Effect.Effect<void>
}

/**
 * Limits, and what a pool does apart from them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<In, Out, RC = never, RE = never> extends Patch {
  /**
   * Finds out whether a connection works: send a ping, receive the pong. A failure, or `checkTimeout`, replaces the
   * connection, and the borrower gets another one. It has to leave the connection at rest. One that throws ends the
   * connection with `Defect`.
   */
  readonly check?: ((connection: Connection<In, Out>) => Effect.Effect<unknown, unknown, RC>) | undefined
  /**
   * Which failures of a borrower leave its connection in order. Default: none. One that throws ends the connection with
   * `Defect`; the borrower gets what it failed with.
   */
  readonly isReusable?: ((exit: Exit.Failure<unknown, unknown>) => boolean) | undefined
  /**
   * When to dial again, while a borrower waits, after an error that `isRetryable`, or as `retryOn` and `giveUpOn` say.
   * Default: the first failure is told. A
   * schedule that ends lets the failure be told; one that throws is a `Defect` of that dial.
   */
  readonly retry?: Schedule.Schedule<unknown, Failure> | undefined
  /**
   * When to refill `min` after a connection was lost or did not open. What expires is replaced at once, and so is what a
   * borrower waits for. Default `Backoff.exponential()`, whose jitter keeps clients apart when their server comes back.
   *
   * A schedule that ends refills no more until a dial for a borrower succeeds: `Schedule.recurs(0)` never refills what was
   * lost. In the place of one that fails or throws goes the default, and the log says so once.
   */
  readonly refill?: Schedule.Schedule<unknown, Failure> | undefined
  /**
   * When to look at what is due: waiting for longer than `acquire`, idle, too old, to be checked, to be refilled. It is
   * given in how many milliseconds the first of these is due (`Infinity`: none is), and its delay is how long the pool
   * rests. Default: exactly until then. With another schedule every limit is seen when the pool looks next.
   *
   * Where something becomes due earlier during a rest the schedule is asked again, and can make that rest shorter only.
   * In the place of a schedule that ends, fails or throws goes the default, and the log says so once.
   */
  readonly sweep?: Schedule.Schedule<unknown, number> | undefined
  /**
   * Sees what happens. It runs beside the pool, which it can neither delay nor break; what it fails with is logged. Each event
   * has a fiber, and the end of the scope waits 5 seconds for those that run before it interrupts them.
   */
  readonly onEvent?: ((event: Event<In, Out>) => Effect.Effect<unknown, unknown, RE>) | undefined
}

/**
 * The options of each pool, and one for all of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedOptions<In, Out, RC = never, RE = never> extends Options<In, Out, RC, RE> {
  /** The most idle connections over all keys; the one idle for longest goes first. Default 64. */
  readonly maxIdle?: number | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// one pool
// ---------------------------------------------------------------------------------------------------------------------

type Open<In, Out, R> = Effect.Effect<Connection<In, Out>, Failure, R>

const patchOf = (options: object | undefined): Patch =>
  Object.fromEntries(Object.entries(options ?? {}).filter(([name]) => Object.hasOwn(Limits.fields, name)))

/** The pools of one constructor, and the limits that they have now. */
const poolsOf = Effect.fnUntraced(function*<In, Out, RC, RE>(options: Options<In, Out, RC, RE> | undefined) {
  let current = limits(patchOf(options))
  const { check, isReusable, onEvent, refill, retry, sweep } = options ?? {}
  const pools = yield* starter<Connection<In, Out>, RC | RE>({
    limits: coreLimits(current),
    isUsable: (connection) => connection[TypeId].isResting,
    ended: (connection) => Effect.flip(connection.ending),
    check,
    isReusable,
    onEvent,
    place: (connection) => connection,
    condemn,
    retry,
    refill: refill ?? Backoff.exponential(),
    refillDefault: Backoff.exponential(),
    sweep
  })
  return {
    pools,
    limits: Effect.sync(() => current),
    /** Changes the limits of `running`, and those of pools to come. */
    patch: (running: { readonly setLimits: (limits: Bounds) => void }) => (changes: Patch) =>
      Effect.map(Effect.suspend(() => Effect.fromResult(patched(current, changes))), (next) => {
        current = next
        const bounds = coreLimits(next)
        pools.setLimits(bounds)
        running.setLimits(bounds)
      })
  }
})

/**
 * Makes a pool of connections, owned by the scope.
 *
 * **Details**
 *
 * Opens `min` connections in the background and further ones as they are needed, each in a scope of its own. Every
 * failure to open is told to one borrower that waits for it, and a borrower that gives up leaves its dial to the next.
 * Authenticate and set up a connection in `open`: it is lent only after that, and `dial` limits all of it.
 *
 * **Gotchas**
 *
 * A limit that makes no sense throws an `InvalidPolicy` that names it. Two borrowers that each hold a connection and
 * want a second one can wait for each other, until `acquire`.
 *
 * **Example** (A pool with a check)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection, ConnectionPool } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")), lines)
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* ConnectionPool.make(open, {
 *     min: 1,
 *     max: 8,
 *     check: (connection) => Effect.andThen(connection.send("ping"), connection.receive)
 *   })
 *   return yield* pool.use((connection) => Effect.andThen(connection.send("hello"), connection.receive))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*<In, Out, R = never, RC = never, RE = never>(
  open: Open<In, Out, R>,
  options?: Options<In, Out, RC, RE>
): Effect.fn.Return<ConnectionPool<In, Out>, never, Exclude<R, Scope.Scope> | RC | RE | Scope.Scope> {
  const { limits, patch, pools } = yield* poolsOf(options)
  // what else `open` needs is in the context that the fibers of the pool run with
  const pool = pools.start(open as Open<In, Out, Scope.Scope>)
  yield* watched((add) => figures(pool.stats, add))
  yield* Effect.addFinalizer(() => close(pool))
  const poolOf = () => pool
  return {
    get: Borrowing.get(poolOf),
    use: (f) => Borrowing.use(poolOf, f),
    stats: Effect.sync(() => pool.stats),
    held: Effect.sync(() => pool.held()),
    patch: patch(pool),
    limits,
    close: close(pool)
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// one pool for each key
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Makes one pool for each key (an address, a tenant), each with the same limits, owned by the scope.
 *
 * **Details**
 *
 * The pool of a key begins with its first borrower and ends with its last connection, so keys come and go. `maxIdle`
 * bounds the idle connections of all keys together: the one that has been idle for longest makes room. Keys are compared
 * as Effect compares (`Equal`), plain objects by structure.
 *
 * @category constructors
 * @since 0.1.0
 */
export const keyed = Effect.fnUntraced(function*<K, In, Out, R = never, RC = never, RE = never>(
  open: (key: K) => Open<In, Out, R>,
  options?: KeyedOptions<In, Out, RC, RE>
): Effect.fn.Return<Keyed<K, In, Out>, never, Exclude<R, Scope.Scope> | RC | RE | Scope.Scope> {
  const { patch, pools } = yield* poolsOf(options)
  const maxIdle = options?.maxIdle ?? 64
  if (!Number.isSafeInteger(maxIdle) || maxIdle < 0) {
    throw new InvalidPolicy({ detail: "maxIdle must be a whole number, at least 0" })
  }
  const keyed = new KeyedPools(pools, open as (key: K) => Open<In, Out, Scope.Scope>, maxIdle)
  yield* watched((add) => figures(keyed.total, add))
  yield* Effect.addFinalizer(() => keyed.close)
  return {
    get: (key) => Borrowing.get(() => keyed.poolOf(key)),
    use: (key, f) => Borrowing.use(() => keyed.poolOf(key), f),
    stats: (key) => Effect.sync(() => keyed.stats(key)),
    total: Effect.sync(() => keyed.total),
    held: Effect.sync(() => keyed.held),
    patch: patch(keyed),
    close: keyed.close
  }
})

/**
 * Provides a pool as a service, so that it composes into an application.
 *
 * **Example** (A pool as a service)
 *
 * ```ts
 * import { Context, Effect } from "effect"
 * import { Codec, Connection, ConnectionPool } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 *
 * class Backend extends Context.Service<Backend, ConnectionPool.ConnectionPool<string>>()("app/Backend") {
 *   static readonly layer = ConnectionPool.layer(
 *     Backend,
 *     Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")), lines),
 *     { max: 20, acquire: "2 seconds" }
 *   )
 * }
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <I, In, Out, R = never, RC = never, RE = never>(
  service: Context.Key<I, ConnectionPool<In, Out>>,
  open: Open<In, Out, R>,
  options?: Options<In, Out, RC, RE>
): Layer.Layer<I, never, Exclude<R | RC | RE, Scope.Scope>> =>
  Layer.effect(service, make(open, options)) as Layer.Layer<I, never, Exclude<R | RC | RE, Scope.Scope>>

/**
 * Provides one pool for each key as a service; see `keyed`.
 *
 * **Example** (A gateway to many backends)
 *
 * ```ts
 * import { Context, Effect } from "effect"
 * import { Codec, Connection, ConnectionPool } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 *
 * class Backends extends Context.Service<Backends, ConnectionPool.Keyed<string, string>>()("app/Backends") {
 *   static readonly layer = ConnectionPool.layerKeyed(
 *     Backends,
 *     (host: string) => Effect.flatMap(Effect.orDie(Dialer.make(`tcp://${host}:7000`)), lines),
 *     { max: 4, maxIdle: 100 }
 *   )
 * }
 *
 * const program = Backends.use((backends) => backends.use("b1.example", ({ send }) => send("hello")))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerKeyed = <I, K, In, Out, R = never, RC = never, RE = never>(
  service: Context.Key<I, Keyed<K, In, Out>>,
  open: (key: K) => Open<In, Out, R>,
  options?: KeyedOptions<In, Out, RC, RE>
): Layer.Layer<I, never, Exclude<R | RC | RE, Scope.Scope>> =>
  Layer.effect(service, keyed(open, options)) as Layer.Layer<I, never, Exclude<R | RC | RE, Scope.Scope>>

/**
 * The engine that connects the nodes of a `Fleet`.
 *
 * An application says which engine it has, and then talks to its `Fleet`. Without a word it is the memory of this process: a
 * fleet of one node. Authors of engines implement `Engine`, which is a name, a limit and `join`; what `join` gives, a
 * `Session`, has an epoch with its age, and eight operations.
 *
 * ## For authors of engines
 *
 * A fleet never delivers a message to a login that a newer one has replaced. What it needs of an engine for that:
 *
 * | what | why | Redis | NATS |
 * |---|---|---|---|
 * | `claim` is one step, and replaces no living holder but the one that it names | a holder is told before another one is there, and also when the node that tells it dies in between | a script | an update at the revision that was read, tried again |
 * | `claim` leaves a mark where it is taken | a holder that has missed the word of a newer login learns of it when it asks again | a second field of the key | a second field of the value |
 * | the newest login of a key is remembered for a hundred leases after it was given back | a node that was cut off claims again with an older login, which must not be served any more | a key with `PX` | a bucket with a maximum age |
 * | tokens grow | every node knows which login is the newer one | `INCR` | the revision of a put to one key for it |
 * | a lease ends by the clock of the engine | the keys of a node that is gone are free after it | a key with `PX` | a bucket with a maximum age |
 * | `renew` fails once the lease has ended | the node asks for its keys again | `PEXPIRE` gave 0 | the entry is gone |
 * | `find` lags by a moment at most | a sender that asks the old holder is told to ask again | one hash | the bucket, followed locally |
 * | an inbox keeps the order of each sender, and tells gaps | a takeover that is told cannot be overtaken by what follows it | one channel a node | one subject a node |
 * | the epoch changes when claims may be lost | all claim again, and new logins wait until no old lease is left | a key with the time at which it was set | the creation time of the bucket |
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Engine } from "./internal/backplane/engine.ts"
import * as InMemory from "./internal/backplane/memory.ts"

export {
  /** @since 0.1.0 */
  BackplaneError,
  /** @since 0.1.0 */
  isNewer
} from "./internal/backplane/engine.ts"

export type {
  /** @since 0.1.0 */
  Arrival,
  /** @since 0.1.0 */
  Claim,
  /** @since 0.1.0 */
  ClaimOptions,
  /** @since 0.1.0 */
  Engine,
  /** @since 0.1.0 */
  Holder,
  /** @since 0.1.0 */
  JoinOptions,
  /** @since 0.1.0 */
  Member,
  /** @since 0.1.0 */
  Session,
  /** @since 0.1.0 */
  Token
} from "./internal/backplane/engine.ts"

/**
 * Makes an engine in the memory of this process. Fleets that are given the same one are nodes of one fleet.
 *
 * **When to use**
 *
 * For tests, and for several fleets in one process. One fleet alone needs no engine: `Fleet.make` makes its own.
 *
 * **Gotchas**
 *
 * An inbox holds 1024 batches that are not taken; what is more is a gap. Batches may be up to 1 MiB.
 *
 * @category engines
 * @since 0.1.0
 */
export const memory: Effect.Effect<Engine> = Effect.sync(() => new InMemory.Memory())

/**
 * The engine of the fleets that are made where it is provided. By default each fleet has a memory of its own, and is alone.
 *
 * @category services
 * @since 0.1.0
 */
export const Backplane: Context.Reference<Engine | undefined> = Context.Reference<Engine | undefined>(
  "holdfast/Backplane",
  { defaultValue: () => undefined }
)

/**
 * Provides an engine to the fleets that are made below.
 *
 * **Example** (Two nodes in one process)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Backplane, Fleet } from "holdfast"
 *
 * const program = Effect.gen(function*() {
 *   const one = yield* Fleet.make<string>()
 *   const other = yield* Fleet.make<string>()
 *   yield* one.send("ada", "hello") // also where `other` has ada
 *   return yield* other.nodes
 * }).pipe(Effect.scoped, Effect.provide(Backplane.layer(Backplane.memory)))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, R>(engine: Effect.Effect<Engine, E, R>): Layer.Layer<never, E, R> =>
  Layer.effect(Backplane, engine)

/**
 * The memory that connections hold together, and how much they may.
 *
 * A server has a budget of its own by `Policy.memory`. Make one here to read how much is held, or to share it among several
 * servers and clients.
 *
 * **Details**
 *
 * What counts is what was read and not received, what was received last while its receiver waits to send, unfinished frames, what
 * is to be sent, and what the transports hold of both; what is read is counted as what it takes in memory (see `Policy.inboxBytes`). From half of the budget on it is tight:
 *
 * - connections that hold more than their share (the budget divided by the connections) are not read, and new ones wait;
 * - a turn of the event loop decodes a sixteenth of the budget at the most, also while it is not tight: a read may be large in
 *   memory;
 * - at the limit only those are read that hold next to nothing, a sixteenth of their share: it is passed by no more than one read
 *   of each connection;
 * - when it is tight for `patience`, the connections that hold most are closed with `Refused` by `memory`, which is retryable,
 *   until the others are below the mark. What they had not received is lost.
 *
 * It is tight no longer when 45 % are held; then connections read again one after the other. While it is not tight a read costs a
 * sum, and no connection is looked at beside it.
 *
 * Without a policy the servers of a process share one budget: a third of what is left of V8's heap when the first one starts, or of
 * the memory of the container, where that is less. In a browser there is none.
 *
 * **Gotchas**
 *
 * What an application keeps of the messages that it received does not count, but for what it received last while it waits to send.
 *
 * **Example** (One budget, and what it holds)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { Codec, Connection, Memory, Server } from "holdfast"
 *
 * const memory = Memory.make({ limit: 96 * 1024 * 1024 })
 * const server = Server.run({
 *   open: Connection.make({ codec: Codec.lines() }),
 *   handle: (connection) => Effect.forever(Effect.flatMap(connection.receive, connection.send))
 * })
 *
 * const program = Effect.gen(function*() {
 *   yield* Effect.forkChild(memory.provide(server))
 *   yield* Effect.log(`the connections hold ${yield* memory.held} of ${memory.limit} bytes`)
 * })
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { millisOf } from "./internal/arguments/durations.ts"
import { Budget, CurrentBudget } from "./internal/memory/budget.ts"

/**
 * A budget of memory.
 *
 * @category models
 * @since 0.1.0
 */
export interface Memory {
  /** How much may be held, in bytes. */
  readonly limit: number
  /** What all connections hold now, in bytes: a gauge. Each of them is looked at, so read it no more than every second. */
  readonly held: Effect.Effect<number>
  /** Whether some are not read, and new ones wait: half of the limit is held. */
  readonly isTight: Effect.Effect<boolean>
  /** Counts the connections that are opened in an effect, and those of its servers. */
  readonly provide: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/**
 * Makes a budget of so many bytes, 1 or more. A limit that is no such number throws a `RangeError`.
 *
 * `patience` is for how long memory may be tight before the connections that hold most are closed: 30 s by default.
 * `Infinity` closes none.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: { readonly limit: number; readonly patience?: Duration.Input | undefined }): Memory => {
  const { limit, patience = "30 seconds" } = options
  if (!(limit >= 1)) throw new RangeError(`Memory: limit must be a number of bytes of at least 1, got ${limit}`)
  const budget = new Budget(limit, millisOf("Memory: patience", patience))
  return {
    limit,
    held: Effect.sync(() => budget.recount()),
    isTight: Effect.sync(() => budget.isTight),
    provide: Effect.provideService(CurrentBudget, budget)
  }
}

/** The connection of all histories of one engine, which is replaced when it is cut, and the histories that listen on it. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import type { BackplaneError } from "../backplane/engine.ts"
import type { Link as Connected } from "../backplane/line.ts"
import * as Supervised from "../scheduling/supervised.ts"
import { monotonic } from "../scheduling/timers.ts"
import { type Turns, turnsOf } from "../scheduling/turns.ts"
import { HistoryError } from "./log.ts"
import { Changes } from "./memory.ts"

const shortestRest = 100
const longestRest = 5000

// before what failed is tried again
const resting = Schedule.spaced(50)

/** How an engine is reached. */
export interface Engine<C> {
  /** Of its fiber. */
  readonly name: string
  readonly open: Effect.Effect<C, BackplaneError, Scope.Scope>
  /**
   * Whether a history was refused what it asked for, which says nothing of the connection: the others go on with that. Default:
   * never.
   */
  readonly isRefused?: ((error: BackplaneError) => boolean) | undefined
  /** How long a question may wait for its answer, in milliseconds. */
  readonly timeout: number
  /** How often each history is compared with the engine, in milliseconds. */
  readonly check: number
}

/** What a history wants of the connections. */
export interface Listener<C> {
  /** On each connection: from then on it is told what is appended, and knows what was. */
  readonly begin: (connection: C) => Effect.Effect<void, BackplaneError>
  /** Now and then: a message that was not told is found by that. */
  readonly look: (connection: C) => Effect.Effect<void, BackplaneError>
  /** It wants no more. */
  readonly end: (connection: C) => Effect.Effect<void>
}

export const unreachable = (cause: unknown): HistoryError => new HistoryError({ reason: "unreachable", cause })

/** A message that the codec of the history does not read or write. */
export const inData = (cause: unknown): HistoryError => new HistoryError({ reason: "data", cause })

/** What a codec makes of a message. One that throws costs the message, and not the connection. */
const attempt = <A>(convert: () => Result.Result<A, unknown>): Result.Result<A, HistoryError> => {
  try {
    return Result.mapError(convert(), inData)
  } catch (thrown) {
    return Result.fail(inData(thrown))
  }
}

/** Reads a message. */
export const read = <A>(
  payload: { readonly decode: (frame: Uint8Array | string) => Result.Result<A, unknown> },
  frame: Uint8Array | string
): Result.Result<A, HistoryError> => attempt(() => payload.decode(frame))

/** Writes a message. */
export const written = <A>(
  payload: { readonly encode: (message: A) => Result.Result<Uint8Array | string, unknown> },
  message: A
): Result.Result<Uint8Array | string, HistoryError> => attempt(() => payload.encode(message))

export class Link<C extends Connected> {
  readonly turns: Turns
  readonly now: () => number
  readonly timeout: number
  private readonly engine: Engine<C>
  private readonly listeners = new Set<Listener<C>>()
  private readonly changes: Changes
  private connection: C | undefined
  // why there is none
  private failure: BackplaneError | undefined

  constructor(engine: Engine<C>, now: () => number, turns: Turns) {
    this.engine = engine
    this.timeout = engine.timeout
    this.now = now
    this.turns = turns
    this.changes = new Changes(turns)
  }

  /** The connection, once there is one. */
  readonly connected: Effect.Effect<C> = Effect.suspend(() =>
    this.connection !== undefined
      ? Effect.succeed(this.connection)
      : Effect.andThen(this.changes.await, this.connected)
  )

  /** Gives up after the timeout, or after another time in milliseconds. */
  bounded<A>(effect: Effect.Effect<A, HistoryError>, timeout = this.timeout): Effect.Effect<A, HistoryError> {
    return Effect.timeoutOrElse(effect, {
      duration: timeout,
      orElse: () => Effect.fail(unreachable(this.failure?.cause ?? `no answer for ${timeout} ms`))
    })
  }

  private answered<A>(effect: Effect.Effect<A, BackplaneError>): Effect.Effect<A, HistoryError> {
    return this.bounded(Effect.mapError(effect, ({ cause }) => unreachable(cause)))
  }

  /** Runs with the connection, and waits for one. */
  once<A>(uses: (connection: C) => Effect.Effect<A, BackplaneError>): Effect.Effect<A, HistoryError> {
    return this.answered(Effect.flatMap(this.connected, uses))
  }

  /** The same for what may be asked twice: the next connection is asked where one is cut before it answers. */
  ask<A>(asks: (connection: C) => Effect.Effect<A, BackplaneError>): Effect.Effect<A, HistoryError> {
    return this.answered(this.again(Effect.flatMap(this.connected, asks)))
  }

  /** Tries again, unless the engine has refused. */
  again<A>(effect: Effect.Effect<A, BackplaneError>): Effect.Effect<A, BackplaneError> {
    return Effect.retry(effect, { while: (error) => this.engine.isRefused?.(error) !== true, schedule: resting })
  }

  private remove(listener: Listener<C>): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.listeners.delete(listener) || this.connection === undefined) return Effect.void
      return listener.end(this.connection)
    })
  }

  /** Keeps a history up to date until the scope is closed. */
  add(listener: Listener<C>): Effect.Effect<void, HistoryError, Scope.Scope> {
    return Effect.andThen(
      Effect.acquireRelease(Effect.sync(() => this.listeners.add(listener)), () => this.remove(listener)),
      // one that could not begin must not cut the connection of the others again and again
      Effect.onError(this.ask((connection) => listener.begin(connection)), () => this.remove(listener))
    )
  }

  private serve(connection: C): Effect.Effect<never, BackplaneError> {
    const begun = new WeakSet<Listener<C>>()
    // one that is refused is tried again, and does not keep the others from theirs
    const unlessRefused = Effect.catch((error: BackplaneError) =>
      this.engine.isRefused?.(error) === true ? Effect.void : Effect.fail(error)
    )
    const begin = (listener: Listener<C>): Effect.Effect<void, BackplaneError> =>
      Effect.flatMap(listener.begin(connection), () => {
        begun.add(listener)
        return this.listeners.has(listener) ? Effect.void : listener.end(connection)
      })
    return Effect.gen({ self: this }, function*() {
      for (const listener of this.listeners) yield* unlessRefused(begin(listener))
      this.connection = connection
      this.failure = undefined
      this.changes.tell()
      while (true) {
        yield* Effect.sleep(this.engine.check)
        for (const listener of this.listeners) {
          yield* unlessRefused(begun.has(listener) ? listener.look(connection) : begin(listener))
        }
      }
    })
  }

  /** Connects, again and again. */
  readonly run: Effect.Effect<never> = Effect.gen({ self: this }, function*() {
    // who asks while there is no connection waits for one more try at the least
    const longest = Math.min(longestRest, this.timeout / 2)
    let rest = shortestRest
    while (true) {
      const from = this.now()
      const served = Effect.flatMap(
        this.engine.open,
        (connection) => Effect.raceFirst(this.serve(connection), connection.over)
      )
      const closed = Effect.sync(() => {
        this.connection = undefined
      })
      this.failure = yield* Effect.catch(Effect.scoped(Effect.ensuring(served, closed)), Effect.succeed)
      rest = Math.min(longest, this.now() - from > longestRest ? shortestRest : 2 * rest)
      yield* Effect.sleep(rest)
    }
  })
}

/** Connects to an engine, and again when the connection is cut, until the scope is closed. */
export const link = <C extends Connected>(engine: Engine<C>): Effect.Effect<Link<C>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const scheduler = yield* Scheduler.Scheduler
    const made = new Link(engine, monotonic(clock), turnsOf(scheduler))
    yield* Supervised.restarted(engine.name, made.run)
    return made
  })

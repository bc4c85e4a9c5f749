/**
 * Questions and answers over connections that come and go.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import type { Connection } from "./Connection.ts"
import * as ConnectionError from "./ConnectionError.ts"
import { TypeId } from "./internal/connection/handle/internals.ts"
import { errorNow, guarded } from "./internal/reasons/defects.ts"
import { Lane, makeEntry, type Outcome } from "./internal/request/lane.ts"
import { spawn, spawnAmong } from "./internal/scheduling/supervised.ts"
import { turnsOf } from "./internal/scheduling/turns.ts"

type Failure = ConnectionError.ConnectionError
type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * What may differ from one request to the next.
 *
 * @category models
 * @since 0.1.0
 */
export interface Terms {
  /** From asking to the answer, waiting for a connection included; 0 is no limit. Default 30 s. */
  readonly deadline?: Duration.Input | undefined
  /** Doing it twice is as good as once: it may be sent again although a peer may have seen it. Default false. */
  readonly idempotent?: boolean | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options<In, Out> extends Terms {
  /**
   * How many requests may be on their way over one connection. 1 (default): one at a time. More are pipelined; their
   * responses come in the order of the requests, or carry an id (`correlate`).
   */
  readonly inFlight?: number | undefined
  /** The most connections in use at a time. Default 8. */
  readonly connections?: number | undefined
  /**
   * How a request carries an id, and which one a response carries. `undefined`: no response; it is dropped.
   *
   * Where `request` throws, that request fails with `Defect`. Where `response` does, its connection ends with `Defect`, and
   * so does each request that the peer may have seen.
   */
  readonly correlate?: {
    readonly request: (message: Out, id: number) => Out
    readonly response: (message: In) => number | undefined
  } | undefined
  /** How often a request is sent again when its connection ended and no peer can have seen it. Default 3. */
  readonly retries?: number | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Requests<out In, in Out = In> {
  /**
   * Asks, and waits for the answer.
   *
   * What becomes of it:
   * - success: the response to this request and no other.
   * - `OutcomeUnknown`: its connection ended when the peer may have seen it.
   * - `Defect`: something threw, in `correlate` or in the connection. The peer may have seen it, and it is not sent again.
   * - `RequestTimeout`: no answer within the deadline; the peer may have seen it.
   * - any other error: the peer has not seen it. It is the codec's, that of getting a connection, or why the last of its
   *   connections ended.
   */
  readonly request: (message: Out, terms?: Terms) => Effect.Effect<In, Failure>
}

// so many requests in a row, and a connection goes back to where it came from: its age counts there, and others wait
const turn = 1024

interface Asker<In, Out> {
  lane: Lane<In, Out> | undefined
  outcome: Effect.Effect<void, Failure> | undefined
  resume: ((outcome: Effect.Effect<void, Failure>) => void) | undefined
}

const bound = (name: string, value: number | undefined, fallback: number, least: number): number => {
  const bound = value ?? fallback
  if (!(bound >= least)) throw new RangeError(`${name} must be at least ${least}`)
  return bound
}

const limitOf = (deadline: Duration.Input | undefined): number => {
  const millis = deadline === undefined ? 30_000 : Duration.toMillis(deadline)
  if (!(millis >= 0)) throw new RangeError("deadline must not be negative")
  return millis === 0 ? Infinity : millis
}

/** What is opened has an owner before an interruption is looked at. */
const ownedBy = <A>(
  open: Effect.Effect<A, Failure, Scope.Scope>,
  own: (value: A, scope: Scope.Closeable) => Effect.Effect<void>
): Effect.Effect<void, Failure> =>
  Effect.uninterruptibleMask((restore) => {
    const scope = Scope.makeUnsafe()
    return restore(Scope.provide(open, scope)).pipe(
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause))),
      Effect.flatMap((value) => own(value, scope))
    )
  })

const dialError = (context: Context.Context<never>, exit: Exit.Exit<void, Failure>): Failure =>
  Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
    ? errorNow(context, "open", exit.cause)
    : ConnectionError.make(new ConnectionError.OpenFailed({ cause: "the dial was interrupted" }))

/**
 * Makes requests over the connections of a source: `pool.get`, `client.connection`, a dial, or one connection.
 *
 * **Details**
 *
 * A connection is taken when the first request needs it, shared by up to `inFlight` requests, and given back when the
 * last of them has its answer. `Scope` says where to: a pool keeps it, a dial of its own is closed.
 *
 * When a connection ends, what its writer had not touched goes to another one; of the rest nobody knows, and it fails
 * with `OutcomeUnknown` unless it is `idempotent`. A request that gives up (deadline, interruption) leaves an answer that
 * may still come. It never reaches anybody: by its id, or because the connection takes no further request and is closed
 * after the last one that is on its way.
 *
 * **Gotchas**
 *
 * Nobody else may send or receive on a connection while requests use it. `overflow: "drop-oldest"` cannot keep responses
 * in step with requests: the connection is closed when it drops one.
 *
 * **Example** (A pipeline over a pool)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection, ConnectionPool, Request } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")), lines)
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* ConnectionPool.make(open, { max: 4 })
 *   const requests = yield* Request.make(pool.get, { inFlight: 32, connections: 4 })
 *   return yield* requests.request("what time is it?", { deadline: "2 seconds", idempotent: true })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*<In, Out, R = never>(
  source: Effect.Effect<Connection<In, Out>, Failure, R> | Connection<In, Out>,
  options?: Options<In, Out>
): Effect.fn.Return<Requests<In, Out>, never, Exclude<R, Scope.Scope> | Scope.Scope> {
  const inFlight = bound("inFlight", options?.inFlight, 1, 1)
  const most = bound("connections", options?.connections, 8, 1)
  const retries = bound("retries", options?.retries, 3, 0)
  const limit = limitOf(options?.deadline)
  const { correlate, idempotent = false } = options ?? {}
  const context = (yield* Effect.context<Exclude<R, Scope.Scope> | Scope.Scope>()) as Context.Context<never>
  const turns = turnsOf(yield* Scheduler.Scheduler)
  const open = (Effect.isEffect(source) ? source : Effect.succeed(source)) as Effect.Effect<
    Connection<In, Out>,
    Failure,
    Scope.Scope
  >

  // owned by synchronous code
  const lanes = new Set<Lane<In, Out>>()
  const askers = new Set<Asker<In, Out>>()
  const dials = new Set<Fiber.Fiber<unknown, unknown>>()
  const endings = new Set<Fiber.Fiber<unknown, unknown>>()
  let opening = 0
  // how many connections the source has, once it gave the same one twice
  let distinct = Infinity
  let pumping = false
  let again = false
  let closed: Failure | undefined
  let ids = 0

  /** Takes no more requests; its connection is in use until `effect` has given it back, or could not. */
  const retire = (lane: Lane<In, Out>, effect: Effect.Effect<void>): void => {
    lane.retiring = true
    spawnAmong(endings, context, "end of a request lane", effect, (exit) => {
      lanes.delete(lane)
      distinct = Infinity
      if (Exit.isFailure(exit)) {
        lane.abort(errorNow(context, "release", exit.cause, lane.connection))
      }
      pump()
    })
  }

  // ---- places on connections ----------------------------------------------------------------------------------------

  const place = (): Lane<In, Out> | undefined => {
    for (const lane of lanes) {
      if (lane.retiring || lane.live >= inFlight) continue
      lane.live++
      lane.served++
      if (lane.served >= turn) lane.retiring = true
      return lane
    }
    return undefined
  }

  const wake = (asker: Asker<In, Out>, outcome: Effect.Effect<void, Failure>): void => {
    askers.delete(asker)
    asker.outcome = outcome
    turns.scheduleTask(() => asker.resume?.(outcome))
  }

  /** Gives places to those who wait, first come, first served. */
  const assign = (): void => {
    for (const asker of askers) {
      const lane = place()
      if (lane === undefined) break
      asker.lane = lane
      wake(asker, Effect.void)
    }
  }

  /** Gives places, and opens what those who wait need. */
  const pump = (): void => {
    if (closed !== undefined) return
    again = true
    // a dial that ends at once comes back here
    if (pumping) return
    pumping = true
    while (again) {
      again = false
      assign()
      if (askers.size > opening * inFlight && lanes.size + opening < Math.min(most, distinct)) {
        dial()
        again = true
      }
    }
    pumping = false
  }

  const dial = (): void => {
    opening++
    let done = false
    const dialling = ownedBy(open, (connection, scope) => {
      opening--
      done = true
      return opened(connection, scope)
    })
    spawnAmong(dials, context, "dial of requests", dialling, (exit) => {
      if (!done) {
        opening--
        const error = dialError(context, exit)
        // told to one of those for whom nothing else is on its way
        if (askers.size > opening * inFlight) {
          for (const asker of askers) {
            wake(asker, Effect.fail(error))
            break
          }
        }
      }
      pump()
    })
  }

  const opened = (connection: Connection<In, Out>, scope: Scope.Closeable): Effect.Effect<void> => {
    // by its id: each time it is given it may be wrapped anew
    const known = Array.from(lanes).some((lane) => lane.connection.id === connection.id)
    if (known) distinct = lanes.size
    if (known || closed !== undefined) return Scope.close(scope, Exit.void)
    const lane: Lane<In, Out> = new Lane({
      connection,
      scope,
      untouched: () => connection[TypeId].untouched,
      idOf: correlate === undefined ? undefined : (message) => {
        try {
          return correlate.response(message)
        } catch (thrown) {
          lane.fail(errorNow(context, "correlate", Cause.die(thrown), connection))
          return undefined
        }
      },
      turns,
      onEnd: () => retire(lane, lane.end)
    })
    lanes.add(lane)
    // before anything is read: one that is dead already is the answer to those it was opened for, not a reason to dial on
    assign()
    const reader = spawn(context, "reader of requests", lane.read, (exit) => {
      // what interrupts it while nothing ends the lane, ends it
      if (Exit.isFailure(exit) && !lane.isGone) lane.fail(errorNow(context, "receive", exit.cause, connection))
    })
    return Effect.andThen(
      Scope.addFinalizer(scope, Fiber.interrupt(reader)),
      Effect.sync(() => {
        pump()
        rest(lane)
      })
    )
  }

  /** A connection that nobody needs goes back, in a task of its own: whoever had the last answer may ask again. */
  const rest = (lane: Lane<In, Out>): void => {
    if (lane.live === 0) turns.scheduleTask(() => giveBack(lane))
  }

  const giveBack = (lane: Lane<In, Out>): void => {
    if (lane.live > 0 || lane.ended !== undefined || lane.isGone) return
    lane.isGone = true
    retire(lane, Scope.close(lane.scope, lane.isClean ? Exit.void : Exit.interrupt()))
  }

  const leave = (lane: Lane<In, Out>): void => {
    lane.live--
    pump()
    rest(lane)
  }

  const placed = (restore: Restore): Effect.Effect<Lane<In, Out>, Failure> => {
    if (closed !== undefined) return Effect.fail(closed)
    const lane = askers.size === 0 ? place() : undefined
    if (lane !== undefined) return Effect.succeed(lane)
    const asker: Asker<In, Out> = { lane: undefined, outcome: undefined, resume: undefined }
    askers.add(asker)
    pump()
    const wait = Effect.callback<void, Failure>((resume) => {
      if (asker.outcome !== undefined) resume(asker.outcome)
      else asker.resume = resume
    })
    return Effect.onError(restore(wait), () =>
      Effect.sync(() => {
        // who goes away passes on what it was given
        if (!askers.delete(asker) && asker.lane !== undefined) leave(asker.lane)
      })).pipe(Effect.map(() => asker.lane!))
  }

  // ---- requests -----------------------------------------------------------------------------------------------------

  const once = (message: Out): Effect.Effect<Outcome<In>, Failure> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(placed(restore), (lane) => {
        const id = ++ids
        return Effect.onExit(
          correlate === undefined
            ? lane.exchange(message, makeEntry(id), restore)
            : Effect.flatMap(
              guarded("correlate", () => correlate.request(message, id), lane.connection),
              (request) => lane.exchange(request, makeEntry(id), restore)
            ),
          () => Effect.sync(() => leave(lane))
        )
      })
    )

  const attempt = (message: Out, again: boolean, left: number): Effect.Effect<In, Failure> =>
    Effect.flatMap(once(message), (outcome): Effect.Effect<In, Failure> => {
      if (outcome._tag === "Answered") return Effect.succeed(outcome.message)
      const { error, written } = outcome
      // what threw would throw again
      const isDefect = error.reason._tag === "Defect"
      if (left > 0 && (!written || (again && !isDefect))) return attempt(message, again, left - 1)
      return Effect.fail(
        written && !isDefect ? ConnectionError.make(new ConnectionError.OutcomeUnknown({ cause: error })) : error
      )
    })

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closed = ConnectionError.make(new ConnectionError.Closed({ by: "local" }))
      for (const asker of askers) wake(asker, Effect.fail(closed))
      for (const lane of lanes) {
        giveBack(lane)
        if (!lane.isGone) lane.fail(closed)
      }
      return Effect.andThen(Fiber.interruptAll(dials), Effect.suspend(() => Fiber.awaitAll(endings)))
    })
  )

  return {
    request: (message, terms) => {
      const millis = terms?.deadline === undefined ? limit : limitOf(terms.deadline)
      const asked = attempt(message, terms?.idempotent ?? idempotent, retries)
      return millis === Infinity ? asked : Effect.timeoutOrElse(asked, {
        duration: millis,
        orElse: () => Effect.fail(ConnectionError.make(new ConnectionError.RequestTimeout({ limit: millis })))
      })
    }
  }
})

/**
 * A connection for one request: dials, asks, closes. The deadline covers all of it.
 *
 * **Example** (One question)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection, Request } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")), lines)
 *
 * const program = Request.once(open, "hello", { deadline: "2 seconds" })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const once = <In, Out, R>(
  open: Effect.Effect<Connection<In, Out>, Failure, R>,
  message: Out,
  terms?: Terms
): Effect.Effect<In, Failure, Exclude<R, Scope.Scope>> =>
  Effect.scoped(
    Effect.flatMap(make(open, { ...terms, connections: 1 }), (requests) => requests.request(message))
  ) as Effect.Effect<In, Failure, Exclude<R, Scope.Scope>>

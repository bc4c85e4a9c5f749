/** The pipelines of one `Requests`: opened when requests need them, shared, and given back to the source of connections. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { errorNow } from "../endings/defects.ts"
import { inside, isInside } from "../endings/inside.ts"
import { Fifo, type Queued, unqueued } from "../scheduling/fifo.ts"
import { spawnAmong } from "../scheduling/supervised.ts"
import type { Turns } from "../scheduling/turns.ts"
import { Pipeline, type PipelineOptions, type RequestConnection } from "./pipeline.ts"

type Failure = ConnectionError.ConnectionError
type AnyFiber = Fiber.Fiber<unknown, unknown>
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

// so many requests, and a connection goes back to where it came from: its age counts there, and others wait
const mostServed = 1024

/** A request that waits for a place on a connection. */
interface Asker<In, Out> extends Queued<Asker<In, Out>> {
  pipeline: Pipeline<In, Out> | undefined
  outcome: Effect.Effect<void, Failure> | undefined
  resume: ((outcome: Effect.Effect<void, Failure>) => void) | undefined
}

export interface PipelinesOptions<in out In, in out Out> {
  readonly open: Effect.Effect<RequestConnection<In, Out>, Failure, Scope.Scope>
  /** How many requests may share one connection. */
  readonly inFlight: number
  /** The most connections at a time. */
  readonly connections: number
  /** How long a dial holds its place, in milliseconds: then it is given up, and begun anew where requests wait. */
  readonly dial: number
  readonly idOf: PipelineOptions<In, Out>["idOf"]
  readonly context: Context.Context<never>
  readonly turns: Turns
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

const dialError = (context: Context.Context<never>, exit: Exit.Exit<unknown, Failure>): Failure =>
  Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
    ? errorNow(context, "open", exit.cause)
    : ConnectionError.make(new ConnectionError.OpenFailed({ cause: "the dial was interrupted" }))

/** Its fields are changed by synchronous code only. */
export class Pipelines<in out In, in out Out> {
  private readonly options: PipelinesOptions<In, Out>
  private readonly ofEach: PipelineOptions<In, Out>
  private readonly all = new Set<Pipeline<In, Out>>()
  // first come, first served
  private readonly askers = new Fifo<Asker<In, Out>>()
  private readonly dials = new Set<AnyFiber>()
  private readonly endings = new Set<AnyFiber>()
  private opening = 0
  // how many connections the source has, once it gave the same one twice
  private distinct = Infinity
  private isPumping = false
  private pumpAgain = false
  private closed: Failure | undefined

  constructor(options: PipelinesOptions<In, Out>) {
    this.options = options
    const { context, idOf, turns } = options
    this.ofEach = { idOf, context, turns, onEnd: (pipeline) => this.retire(pipeline, pipeline.end) }
  }

  // ---- places for requests ------------------------------------------------------------------------------------------

  /** Takes a place on a connection, or waits for one. Has to run where only `restore` can be interrupted. */
  acquire(restore: Restore): Effect.Effect<Pipeline<In, Out>, Failure> {
    if (this.closed !== undefined) return Effect.fail(this.closed)
    const pipeline = this.askers.size === 0 ? this.reserve() : undefined
    if (pipeline !== undefined) return Effect.succeed(pipeline)
    const asker: Asker<In, Out> = { ...unqueued, pipeline: undefined, outcome: undefined, resume: undefined }
    this.askers.add(asker)
    this.pump()
    const wait = Effect.callback<void, Failure>((resume) => {
      if (asker.outcome !== undefined) resume(asker.outcome)
      else asker.resume = resume
    })
    return Effect.onError(restore(wait), () =>
      Effect.sync(() => {
        // a request that gives up passes on the place it was given
        if (!this.askers.delete(asker) && asker.pipeline !== undefined) this.release(asker.pipeline)
      })).pipe(Effect.map(() => asker.pipeline!))
  }

  /** Ends what `acquire` began. */
  release(pipeline: Pipeline<In, Out>): void {
    pipeline.reserved--
    this.pump()
    this.rest(pipeline)
  }

  private reserve(): Pipeline<In, Out> | undefined {
    for (const pipeline of this.all) {
      if (pipeline.isRetiring || pipeline.reserved >= this.options.inFlight) continue
      pipeline.reserved++
      pipeline.served++
      if (pipeline.served >= mostServed) pipeline.isRetiring = true
      return pipeline
    }
    return undefined
  }

  private wake(asker: Asker<In, Out>, outcome: Effect.Effect<void, Failure>): void {
    this.askers.delete(asker)
    asker.outcome = outcome
    this.options.turns.scheduleTask(() => asker.resume?.(outcome))
  }

  private assign(): void {
    for (let asker = this.askers.first; asker !== undefined; asker = this.askers.first) {
      const pipeline = this.reserve()
      if (pipeline === undefined) break
      asker.pipeline = pipeline
      this.wake(asker, Effect.void)
    }
  }

  /** Gives places to the requests that wait, and opens what they need. */
  private pump(): void {
    if (this.closed !== undefined) return
    this.pumpAgain = true
    // a dial that ends at once comes back here
    if (this.isPumping) return
    this.isPumping = true
    while (this.pumpAgain) {
      this.pumpAgain = false
      this.assign()
      if (this.isShort && this.all.size + this.opening < Math.min(this.options.connections, this.distinct)) {
        this.dial()
        this.pumpAgain = true
      }
    }
    this.isPumping = false
  }

  /** Whether more requests wait than the connections being opened have places for. */
  private get isShort(): boolean {
    return this.askers.size > this.opening * this.options.inFlight
  }

  // ---- opening ------------------------------------------------------------------------------------------------------

  private dial(): void {
    const { context, dial, open } = this.options
    this.opening++
    let done = false
    const dialling = ownedBy(inside(this, open), (connection, scope) => {
      this.opening--
      done = true
      return this.opened(connection, scope)
    })
    const inTime = dial === Infinity ? Effect.asSome(dialling) : Effect.timeoutOption(dialling, dial)
    spawnAmong(this.dials, context, "dial of requests", inTime, (exit) => {
      if (!done && Exit.isSuccess(exit)) this.opening--
      else if (!done) this.dialFailed(dialError(context, exit))
      this.pump()
    })
  }

  private opened(connection: RequestConnection<In, Out>, scope: Scope.Closeable): Effect.Effect<void> {
    // by its id: each time it is given it may be wrapped anew
    const isKnown = Array.from(this.all).some((pipeline) => pipeline.connection.id === connection.id)
    if (isKnown) this.distinct = this.all.size
    if (isKnown || this.closed !== undefined) return Scope.close(scope, Exit.void)
    const pipeline = new Pipeline(connection, scope, this.ofEach)
    this.all.add(pipeline)
    // before anything is read: one that is dead already answers the requests it was opened for, and is no reason to dial on
    this.assign()
    const reader = pipeline.startReader()
    return Effect.andThen(
      Scope.addFinalizer(scope, Fiber.interrupt(reader)),
      Effect.sync(() => {
        this.pump()
        this.rest(pipeline)
      })
    )
  }

  /** One request is told: one for which nothing else is being opened. */
  private dialFailed(error: Failure): void {
    this.opening--
    if (!this.isShort) return
    this.wake(this.askers.first!, Effect.fail(error))
  }

  // ---- giving back --------------------------------------------------------------------------------------------------

  /** Gives back a connection without requests, in a task of its own: the fiber of the last answer may ask again. */
  private rest(pipeline: Pipeline<In, Out>): void {
    if (pipeline.reserved === 0) this.options.turns.scheduleTask(() => this.giveBack(pipeline))
  }

  private giveBack(pipeline: Pipeline<In, Out>): void {
    if (pipeline.reserved > 0 || pipeline.ended !== undefined || pipeline.isGivenBack) return
    pipeline.isGivenBack = true
    this.retire(pipeline, pipeline.giveBack)
  }

  /** Takes no more requests; its connection is in use until `effect` has given it back, or could not. */
  private retire(pipeline: Pipeline<In, Out>, effect: Effect.Effect<void>): void {
    const { context } = this.options
    pipeline.isRetiring = true
    spawnAmong(this.endings, context, "end of a request pipeline", effect, (exit) => {
      this.all.delete(pipeline)
      this.distinct = Infinity
      if (Exit.isFailure(exit)) pipeline.abort(errorNow(context, "release", exit.cause, pipeline.connection))
      this.pump()
    })
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const closed = this.closed = ConnectionError.make(new ConnectionError.Closed({ by: "local" }))
    for (const asker of this.askers.takeAll()) this.wake(asker, Effect.fail(closed))
    for (const pipeline of this.all) {
      this.giveBack(pipeline)
      if (!pipeline.isGivenBack) pipeline.fail(closed)
    }
    // a dial that closes them does not wait for itself
    return Effect.flatMap(isInside(this), (isWithin) => {
      for (const fiber of this.dials) fiber.interruptUnsafe()
      return isWithin ? Effect.void : Effect.andThen(
        Fiber.awaitAll(this.dials),
        Effect.suspend(() => Effect.asVoid(Fiber.awaitAll(this.endings)))
      )
    })
  })
}

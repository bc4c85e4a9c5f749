/** One connection with its requests in flight, and its reader, which matches answers to requests. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { type Internals, TypeId } from "../connection/handle/internals.ts"
import { condemn, errorNow, errorOf } from "../endings/defects.ts"
import { Mutex } from "../scheduling/mutex.ts"
import { spawn } from "../scheduling/supervised.ts"
import type { Turns } from "../scheduling/turns.ts"

type Failure = ConnectionError.ConnectionError

/** The outbox dropped a request, as the policy of the connection says. */
const full = ConnectionError.make(new ConnectionError.OutboxFull({ messages: 0, bytes: 0 }))

/** Of a connection with an answer that may still come. A client comes back after it. */
const discarded = new ConnectionError.Closed({ by: "local", retryable: true, note: "an answer may still come" })

/** What requests need of a connection. */
export interface RequestConnection<in out In, in out Out> {
  readonly id: number
  readonly send: (message: Out) => Effect.Effect<void, Failure>
  readonly receiveAll: Effect.Effect<NonEmptyReadonlyArray<In>, Failure>
  readonly closeWith: (reason: ConnectionError.Reason) => Effect.Effect<void>
  readonly snapshot: Effect.Effect<{
    readonly remote: string | undefined
    readonly messagesOut: number
    readonly dropped: number
    readonly reason: ConnectionError.Reason | undefined
  }>
  readonly [TypeId]: Pick<Internals, "untouched">
}

/** How a request ended on one connection. */
export type Outcome<In> =
  | { readonly _tag: "Answered"; readonly message: In }
  /** `written`: the peer may have seen it. */
  | { readonly _tag: "Lost"; readonly error: Failure; readonly written: boolean }

/** One request on one connection. */
export interface InFlight<in out In> {
  readonly id: number
  /** How many messages the connection had accepted before this one. */
  before: number
  /** Its fiber has gone: the answer, which may still come, is dropped. */
  abandoned: boolean
  outcome: Outcome<In> | undefined
  resume: ((outcome: Effect.Effect<Outcome<In>>) => void) | undefined
}

export const makeInFlight = <In>(id: number): InFlight<In> => ({
  id,
  before: 0,
  abandoned: false,
  outcome: undefined,
  resume: undefined
})

/** What the pipelines of one `Requests` have in common. */
export interface PipelineOptions<in out In, in out Out> {
  /** The id that a response carries; without it responses come in the order of their requests. */
  readonly idOf: ((message: In) => number | undefined) | undefined
  readonly context: Context.Context<never>
  readonly turns: Turns
  /** A pipeline has failed: told once, and before anything else of it runs. */
  readonly onEnd: (pipeline: Pipeline<In, Out>) => void
}

export class Pipeline<in out In, in out Out> {
  readonly connection: RequestConnection<In, Out>
  readonly scope: Scope.Closeable
  private readonly options: PipelineOptions<In, Out>
  // by id, in the order in which the connection accepted them
  private readonly pending = new Map<number, InFlight<In>>()
  // one `send` at a time: messages are accepted in the order in which they are pending
  private readonly sending: Mutex
  /** How many requests have a place here now. */
  reserved = 0
  /** How many requests have had one, the present ones included. */
  served = 0
  /** Takes no more requests. */
  isRetiring = false
  /** Its connection is being given back. */
  isGivenBack = false
  /** Why its connection, or its order, has ended. */
  ended: Failure | undefined

  constructor(
    connection: RequestConnection<In, Out>,
    scope: Scope.Closeable,
    options: PipelineOptions<In, Out>
  ) {
    this.connection = connection
    this.scope = scope
    this.options = options
    this.sending = new Mutex(options.turns)
  }

  /** Whether the next user of the connection could meet an answer that is not for it. */
  private get isClean(): boolean {
    return this.ended === undefined && this.pending.size === 0
  }

  private settle(request: InFlight<In>, outcome: Outcome<In>): void {
    request.outcome = outcome
    if (!request.abandoned) this.options.turns.scheduleTask(() => request.resume?.(Effect.succeed(outcome)))
  }

  /** Sends a request, and waits for what becomes of it. Has to run where only `restore` can be interrupted. */
  exchange(
    message: Out,
    request: InFlight<In>,
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  ): Effect.Effect<Outcome<In>, Failure> {
    return Effect.flatMap(
      Effect.exit(restore(this.sending.withPermit(this.send(message, request)))),
      (exit) => {
        if (request.outcome === undefined && Exit.isFailure(exit)) {
          return Cause.hasDies(exit.cause)
            ? Effect.flatMap(errorOf("send", exit.cause, this.connection), Effect.fail)
            : Effect.failCause(exit.cause)
        }
        return Effect.onError(restore(this.await(request)), () => Effect.sync(() => this.abandon(request)))
      }
    )
  }

  private send(message: Out, request: InFlight<In>): Effect.Effect<void, Failure> {
    const { connection, pending } = this
    return Effect.flatMap(connection.snapshot, ({ dropped, messagesOut }) =>
      Effect.onExit(
        Effect.suspend(() => {
          if (this.ended !== undefined) {
            request.outcome = { _tag: "Lost", error: this.ended, written: false }
            return Effect.void
          }
          request.before = messagesOut
          pending.set(request.id, request)
          return connection.send(message)
        }),
        (exit) =>
          Effect.map(connection.snapshot, (after) => {
            // the end of the connection has settled it, or will
            if (!pending.has(request.id) || this.ended !== undefined) return
            const accepted = after.messagesOut > messagesOut
            // an older request was dropped to make room: from here on answers would go to the wrong ones
            if (accepted && after.dropped > dropped) return this.fail(full)
            if (accepted) return Exit.isFailure(exit) ? this.abandon(request) : undefined
            pending.delete(request.id)
            if (Exit.isSuccess(exit)) return this.settle(request, { _tag: "Lost", error: full, written: false })
            const error = exit.cause.reasons.find(Cause.isFailReason)?.error
            // not accepted because the connection has ended: another one may
            if (error !== undefined && error.reason === after.reason) {
              this.settle(request, { _tag: "Lost", error, written: false })
            }
          })
      ))
  }

  private await(request: InFlight<In>): Effect.Effect<Outcome<In>> {
    return Effect.callback((resume) => {
      if (request.outcome !== undefined) resume(Effect.succeed(request.outcome))
      else request.resume = resume
    })
  }

  /** The answer may still come. An id tells it apart; without ids the answers behind it would go to the wrong requests. */
  private abandon(request: InFlight<In>): void {
    if (request.outcome !== undefined || request.abandoned) return
    request.abandoned = true
    if (this.options.idOf === undefined) this.isRetiring = true
  }

  /** Starts the reader, which takes what comes until the connection ends. */
  startReader(): Fiber.Fiber<never, Failure> {
    const { connection, options: { context } } = this
    return spawn(context, "reader of requests", this.read, (exit) => {
      // what interrupts it while nothing ends the pipeline, ends it
      if (Exit.isFailure(exit) && !this.isGivenBack) this.fail(errorNow(context, "receive", exit.cause, connection))
    })
  }

  private readonly read: Effect.Effect<never, Failure> = Effect.gen({ self: this }, function*() {
    while (true) {
      const messages = yield* this.connection.receiveAll
      for (let i = 0; i < messages.length && this.ended === undefined; i++) this.receive(messages[i]!)
      if (this.ended !== undefined) return yield* this.ended
    }
  })

  private receive(message: In): void {
    const { pending } = this
    const isOrdered = this.options.idOf === undefined
    const id = isOrdered ? pending.keys().next().value : this.idOf(message)
    const request = id === undefined ? undefined : pending.get(id)
    if (request !== undefined) {
      pending.delete(request.id)
      this.settle(request, { _tag: "Answered", message })
    } else if (isOrdered) {
      this.fail(ConnectionError.make(new ConnectionError.ProtocolViolation({ detail: "a response to no request" })))
    }
  }

  private idOf(message: In): number | undefined {
    try {
      return this.options.idOf!(message)
    } catch (thrown) {
      this.fail(errorNow(this.options.context, "correlate", Cause.die(thrown), this.connection))
      return undefined
    }
  }

  /** Begins the end. */
  fail(error: Failure): void {
    if (this.ended !== undefined) return
    this.ended = error
    this.options.onEnd(this)
  }

  /** Gives the connection back to where it came from, without requests. */
  get giveBack(): Effect.Effect<void> {
    if (this.isClean) return Scope.close(this.scope, Exit.void)
    return this.options.idOf === undefined ? this.discard : Scope.close(this.scope, Exit.interrupt())
  }

  /** Closes the connection, also one that belongs to another scope: an answer that may still come reaches no other request. */
  get discard(): Effect.Effect<void> {
    const { connection, scope } = this
    return Effect.andThen(Scope.close(scope, Exit.interrupt()), Effect.suspend(() => connection.closeWith(discarded)))
  }

  /** Gives up the connection, and tells each request whether the peer may have seen it. */
  get end(): Effect.Effect<void> {
    const { connection, pending } = this
    const error = this.ended!
    const condemned = error.reason._tag === "Defect" ? condemn(connection, error) : Effect.void
    return condemned.pipe(
      Effect.andThen(this.discard),
      Effect.andThen(connection.snapshot),
      Effect.map(({ messagesOut }) => {
        const written = messagesOut - connection[TypeId].untouched
        for (const request of pending.values()) {
          this.settle(request, { _tag: "Lost", error, written: request.before < written })
        }
        pending.clear()
      })
    )
  }

  /** The connection could not be given up: the peer may have seen any request. */
  abort(error: Failure): void {
    for (const request of this.pending.values()) this.settle(request, { _tag: "Lost", error, written: true })
    this.pending.clear()
  }
}

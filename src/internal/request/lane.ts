/** One connection, and the requests that are on their way over it. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as ConnectionError from "../../ConnectionError.ts"
import { condemn, errorOf } from "../reasons/defects.ts"
import type { Turns } from "../scheduling/turns.ts"

type Failure = ConnectionError.ConnectionError

/** The outbox dropped a request, as the policy of the connection says. */
const full = ConnectionError.make(new ConnectionError.OutboxFull({ messages: 0, bytes: 0 }))

/** What a lane needs of a connection. */
export interface Conversation<in out In, in out Out> {
  readonly id: number
  readonly send: (message: Out) => Effect.Effect<void, Failure>
  readonly receiveAll: Effect.Effect<NonEmptyReadonlyArray<In>, Failure>
  readonly close: Effect.Effect<void>
  readonly closeWith: (reason: ConnectionError.Reason) => Effect.Effect<void>
  readonly snapshot: Effect.Effect<{
    readonly remote: string | undefined
    readonly messagesOut: number
    readonly dropped: number
    readonly reason: ConnectionError.Reason | undefined
  }>
}

/** How a request ended on one connection. */
export type Outcome<In> =
  | { readonly _tag: "Answered"; readonly message: In }
  /** `written`: the peer may have seen it. */
  | { readonly _tag: "Lost"; readonly error: Failure; readonly written: boolean }

/** One request on one connection. */
export interface Entry<in out In> {
  readonly id: number
  /** How many messages the connection had accepted before this one. */
  before: number
  /** Nobody waits for the answer, which may come all the same. */
  abandoned: boolean
  outcome: Outcome<In> | undefined
  resume: ((outcome: Effect.Effect<Outcome<In>>) => void) | undefined
}

export const makeEntry = <In>(id: number): Entry<In> => ({
  id,
  before: 0,
  abandoned: false,
  outcome: undefined,
  resume: undefined
})

export interface LaneOptions<in out In, in out Out> {
  readonly connection: Conversation<In, Out>
  readonly scope: Scope.Closeable
  /** How many of the last accepted messages no write had begun with when the connection ended. */
  readonly untouched: () => number
  /** The id that a response carries; without it responses come in the order of their requests. */
  readonly idOf: ((message: In) => number | undefined) | undefined
  readonly turns: Turns
  /** The conversation is over: once, and before anything else of the lane runs. */
  readonly onEnd: () => void
}

export class Lane<in out In, in out Out> {
  readonly connection: Conversation<In, Out>
  readonly scope: Scope.Closeable
  private readonly options: LaneOptions<In, Out>
  // by id, in the order in which the connection accepted them
  private readonly pending = new Map<number, Entry<In>>()
  // messages are accepted in the order in which they are pending
  private readonly turn = Semaphore.makeUnsafe(1)
  /** Requests that have a place here. */
  live = 0
  /** Requests that had one. */
  served = 0
  /** Takes no more requests. */
  retiring = false
  /** Its connection is being given back. */
  isGone = false
  /** Why the conversation is over. */
  ended: Failure | undefined

  constructor(options: LaneOptions<In, Out>) {
    this.options = options
    this.connection = options.connection
    this.scope = options.scope
  }

  /** Whether the next user of the connection could meet an answer that is not for it. */
  get isClean(): boolean {
    return this.ended === undefined && this.pending.size === 0
  }

  private settle(entry: Entry<In>, outcome: Outcome<In>): void {
    entry.outcome = outcome
    if (!entry.abandoned) this.options.turns.scheduleTask(() => entry.resume?.(Effect.succeed(outcome)))
  }

  /** Sends a request, and waits for what becomes of it. Has to run where only `restore` can be interrupted. */
  exchange(
    message: Out,
    entry: Entry<In>,
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  ): Effect.Effect<Outcome<In>, Failure> {
    return Effect.flatMap(
      Effect.exit(restore(this.turn.withPermit(this.send(message, entry)))),
      (exit) => {
        if (entry.outcome === undefined && Exit.isFailure(exit)) {
          return Cause.hasDies(exit.cause)
            ? Effect.flatMap(errorOf("send", exit.cause, this.connection), Effect.fail)
            : Effect.failCause(exit.cause)
        }
        return Effect.onError(restore(this.await(entry)), () => Effect.sync(() => this.abandon(entry)))
      }
    )
  }

  private send(message: Out, entry: Entry<In>): Effect.Effect<void, Failure> {
    const { connection, pending } = this
    return Effect.flatMap(connection.snapshot, ({ dropped, messagesOut }) =>
      Effect.onExit(
        Effect.suspend(() => {
          if (this.ended !== undefined) {
            entry.outcome = { _tag: "Lost", error: this.ended, written: false }
            return Effect.void
          }
          entry.before = messagesOut
          pending.set(entry.id, entry)
          return connection.send(message)
        }),
        (exit) =>
          Effect.map(connection.snapshot, (after) => {
            // the end of the connection has settled it, or will
            if (!pending.has(entry.id) || this.ended !== undefined) return
            const accepted = after.messagesOut > messagesOut
            // an older request was dropped to make room: from here on answers would go to the wrong ones
            if (accepted && after.dropped > dropped) return this.fail(full)
            if (accepted) return Exit.isFailure(exit) ? this.abandon(entry) : undefined
            pending.delete(entry.id)
            if (Exit.isSuccess(exit)) return this.settle(entry, { _tag: "Lost", error: full, written: false })
            const error = exit.cause.reasons.find(Cause.isFailReason)?.error
            // not accepted because the connection has ended: another one may
            if (error !== undefined && error.reason === after.reason) {
              this.settle(entry, { _tag: "Lost", error, written: false })
            }
          })
      ))
  }

  private await(entry: Entry<In>): Effect.Effect<Outcome<In>> {
    return Effect.callback((resume) => {
      if (entry.outcome !== undefined) resume(Effect.succeed(entry.outcome))
      else entry.resume = resume
    })
  }

  /** The answer may still come, and is for nobody. Whoever has an id can be told from it; in order, others wait behind. */
  private abandon(entry: Entry<In>): void {
    if (entry.outcome !== undefined || entry.abandoned) return
    entry.abandoned = true
    if (this.options.idOf === undefined) this.retiring = true
  }

  /** Takes what comes, until the connection ends. Its exit has to be given to `fail`. */
  readonly read: Effect.Effect<never, Failure> = Effect.gen({ self: this }, function*() {
    while (true) {
      const messages = yield* this.connection.receiveAll
      for (let i = 0; i < messages.length && this.ended === undefined; i++) this.receive(messages[i]!)
      if (this.ended !== undefined) return yield* this.ended
    }
  })

  private receive(message: In): void {
    const { idOf } = this.options
    const { pending } = this
    const id = idOf === undefined ? pending.keys().next().value : idOf(message)
    const entry = id === undefined ? undefined : pending.get(id)
    if (entry !== undefined) {
      pending.delete(entry.id)
      this.settle(entry, { _tag: "Answered", message })
    } else if (idOf === undefined) {
      this.fail(ConnectionError.make(new ConnectionError.ProtocolViolation({ detail: "a response to no request" })))
    }
  }

  /** Begins the end. */
  fail(error: Failure): void {
    if (this.ended !== undefined) return
    this.ended = error
    this.options.onEnd()
  }

  /** Gives up the connection, and tells each request whether the peer may have seen it. */
  get end(): Effect.Effect<void> {
    const { connection, options, pending, scope } = this
    const error = this.ended!
    const condemned = error.reason._tag === "Defect" ? condemn(connection, error) : Effect.void
    return condemned.pipe(
      Effect.andThen(Scope.close(scope, Exit.interrupt())),
      // what this cannot end because it is somebody else's is closed
      Effect.andThen(connection.close),
      Effect.andThen(connection.snapshot),
      Effect.map(({ messagesOut }) => {
        const written = messagesOut - options.untouched()
        for (const entry of pending.values()) {
          this.settle(entry, { _tag: "Lost", error, written: entry.before < written })
        }
        pending.clear()
      })
    )
  }

  /** The connection could not be given up: of no request can be said whether the peer has seen it. */
  abort(error: Failure): void {
    for (const entry of this.pending.values()) this.settle(entry, { _tag: "Lost", error, written: true })
    this.pending.clear()
  }
}

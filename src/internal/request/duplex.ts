/** Requests over one connection that carries other messages too: answers find their request, everything else is pushed. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as ConnectionError from "../../ConnectionError.ts"
import { type Internals, TypeId } from "../connection/handle/internals.ts"
import { condemn, errorNow, guarded, typed } from "../endings/defects.ts"
import { within } from "../endings/timeLimit.ts"
import { spawn, spawnAmong } from "../scheduling/supervised.ts"
import type { RequestConnection } from "./pipeline.ts"

type Failure = ConnectionError.ConnectionError

/** What tells answers from pushes. */
export interface Correlation<in In, in out Out> {
  readonly request: (message: Out, id: number) => Out
  readonly response: (message: In) => number | undefined
  readonly isLast?: ((message: In) => boolean) | undefined
  readonly cancel?: ((id: number) => Out) | undefined
}

export interface DuplexSettings<in In, in out Out> {
  readonly correlate: Correlation<In, Out>
  /** How many answers of one stream may wait. */
  readonly parts: number
  readonly context: Context.Context<never>
}

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** A request that has been asked. */
interface Asked<in In> {
  /** How many messages the connection had accepted before it. */
  before: number
  /** An effect where there is no room for the answer yet. */
  readonly answer: (message: In, isLast: boolean) => Effect.Effect<unknown> | undefined
  readonly lost: (error: Failure) => unknown
}

/** Puts a message into a queue; an effect where that has to wait. */
const put = <A, E>(queue: Queue.Queue<A, E>, message: A): Effect.Effect<unknown> | undefined =>
  Queue.offerUnsafe(queue, message) ? undefined : Queue.offer(queue, message)

/** What it needs of its connection. */
export interface DuplexConnection<in out In, in out Out> extends RequestConnection<In, Out> {
  readonly [TypeId]: Pick<Internals, "untouched" | "look" | "onEnded">
}

export class DuplexRequests<in out In, in out Out> {
  private readonly connection: DuplexConnection<In, Out>
  private readonly settings: DuplexSettings<In, Out>
  private readonly pushed: Queue.Queue<In, Failure>
  private readonly asked = new Map<number, Asked<In>>()
  /** Fibers that tell of a cancelled request, or wait with a message for room. */
  private readonly aside = new Set<Fiber.Fiber<unknown, unknown>>()
  private readonly over = Deferred.makeUnsafe<void>()
  private ids = 0
  private ended: Failure | undefined

  constructor(
    connection: DuplexConnection<In, Out>,
    settings: DuplexSettings<In, Out>,
    pushed: Queue.Queue<In, Failure>
  ) {
    this.connection = connection
    this.settings = settings
    this.pushed = pushed
  }

  // ---- asking -------------------------------------------------------------------------------------------------------

  /** Sends a request. Has to run where only `restore` can be interrupted; `leave` ends what it begins. */
  private ask(message: Out, asked: Asked<In>, restore: Restore): Effect.Effect<number, Failure> {
    const { connection, settings: { correlate } } = this
    const id = ++this.ids
    return Effect.flatMap(
      Effect.all([connection.snapshot, guarded("correlate", () => correlate.request(message, id), connection)]),
      ([{ messagesOut }, request]) => {
        if (this.ended !== undefined) return Effect.fail(this.ended)
        asked.before = messagesOut
        this.asked.set(id, asked)
        const sent = restore(typed("send", connection)(Effect.suspend(() => connection.send(request))))
        return Effect.onError(Effect.as(sent, id), () =>
          Effect.sync(() => {
            this.asked.delete(id)
          }))
      }
    )
  }

  /** An answer that still comes is for nobody, and the peer may be told so. */
  private leave(id: number): void {
    const { connection, settings: { context, correlate: { cancel } } } = this
    if (!this.asked.delete(id) || cancel === undefined) return
    const telling = Effect.flatMap(
      guarded("correlate", () => cancel(id), connection),
      (message) => typed("send", connection)(Effect.suspend(() => connection.send(message)))
    )
    spawnAmong(this.aside, context, "cancel of a request", telling, () => {})
  }

  request(message: Out): Effect.Effect<In, Failure> {
    return Effect.uninterruptibleMask((restore) => {
      const answer = Deferred.makeUnsafe<In, Failure>()
      const asked: Asked<In> = {
        before: 0,
        answer: (message) => {
          Deferred.doneUnsafe(answer, Exit.succeed(message))
          return undefined
        },
        lost: (error) => Deferred.doneUnsafe(answer, Exit.fail(error))
      }
      return Effect.flatMap(
        this.ask(message, asked, restore),
        (id) => Effect.onError(restore(Deferred.await(answer)), () => Effect.sync(() => this.leave(id)))
      )
    })
  }

  /** All answers up to the last one, each within `limit` of the one before. */
  stream(message: Out, limit: number): Stream.Stream<In, Failure> {
    const answers = Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function*() {
        const queue = yield* Queue.bounded<In, Failure | Cause.Done>(this.settings.parts)
        const id = yield* this.ask(message, {
          before: 0,
          answer: (message, isLast) => {
            const waits = put(queue, message)
            if (!isLast) return waits
            if (waits !== undefined) return Effect.andThen(waits, Queue.end(queue))
            Queue.endUnsafe(queue)
            return undefined
          },
          lost: (error) => Queue.failCauseUnsafe(queue, Cause.fail(error))
        }, restore)
        yield* Effect.addFinalizer(() =>
          Effect.suspend(() => {
            this.leave(id)
            // the reader may wait for room in it
            return Queue.shutdown(queue)
          })
        )
        return Stream.fromPull(Effect.succeed(within(ConnectionError.RequestTimeout, limit)(Queue.takeAll(queue))))
      })
    )
    return Stream.unwrap(answers)
  }

  get pushes(): Stream.Stream<In, Failure> {
    return Stream.fromQueue(this.pushed)
  }

  // ---- reading ------------------------------------------------------------------------------------------------------

  /** Starts the reader, which takes what comes until the connection ends. */
  startReader(): Fiber.Fiber<never, Failure> {
    const { connection, settings: { context } } = this
    connection[TypeId].onEnded(() => Deferred.doneUnsafe(this.over, Exit.void))
    return spawn(context, "reader of requests", this.read, (exit) => {
      if (Exit.isFailure(exit)) this.fail(errorNow(context, "receive", exit.cause, connection))
    })
  }

  private readonly read: Effect.Effect<never, Failure> = Effect.gen({ self: this }, function*() {
    while (true) {
      for (const message of yield* this.connection.receiveAll) {
        const waits = yield* Effect.matchCauseEffect(Effect.sync(() => this.receive(message)), {
          onSuccess: Effect.succeed,
          onFailure: (cause) => this.broken(errorNow(this.settings.context, "correlate", cause, this.connection))
        })
        if (waits !== undefined) yield* this.wait(waits)
      }
    }
  })

  /** Nothing more is read, unless the connection is over: then all that can still come is there. */
  private wait(room: Effect.Effect<unknown>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const placed = Deferred.makeUnsafe<void>()
      spawnAmong(
        this.aside,
        this.settings.context,
        "message without room",
        room,
        () => Deferred.doneUnsafe(placed, Exit.void)
      )
      return Effect.raceFirst(Deferred.await(placed), Deferred.await(this.over))
    })
  }

  private broken(error: Failure): Effect.Effect<never, Failure> {
    return Effect.andThen(condemn(this.connection, error), Effect.fail(error))
  }

  private receive(message: In): Effect.Effect<unknown> | undefined {
    const { asked, settings: { correlate } } = this
    const id = correlate.response(message)
    if (id === undefined) return put(this.pushed, message)
    const one = asked.get(id)
    // it comes too late
    if (one === undefined) return undefined
    const isLast = correlate.isLast?.(message) ?? true
    if (isLast) asked.delete(id)
    return one.answer(message, isLast)
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** Tells everybody; each request learns whether the peer may have seen it. */
  fail(error: Failure): void {
    if (this.ended !== undefined) return
    this.ended = error
    const { connection } = this
    const internals = connection[TypeId]
    const written = internals.look().messagesOut - internals.untouched
    for (const { before, lost } of this.asked.values()) {
      lost(before < written ? ConnectionError.make(new ConnectionError.OutcomeUnknown({ cause: error })) : error)
    }
    this.asked.clear()
    Queue.failCauseUnsafe(this.pushed, Cause.fail(error))
  }

  /** Its scope closes: the connection is not read any more. */
  close(reader: Fiber.Fiber<never, Failure>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.fail(ConnectionError.make(new ConnectionError.Closed({ by: "local" })))
      return Fiber.interruptAll([reader, ...this.aside])
    })
  }
}

/** One connection of a client, with the calls that it carries, and its receiver, which gives answers to their calls. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { FromClientEncoded, FromServerEncoded } from "effect/rpc/RpcMessage"
import * as Scope from "effect/Scope"
import type * as Connection from "../../Connection.ts"
import * as ConnectionError from "../../ConnectionError.ts"
import { TypeId } from "../../internal/connection/handle/internals.ts"
import { condemn, errorNow } from "../../internal/endings/defects.ts"
import { Mutex } from "../../internal/scheduling/mutex.ts"
import { spawn } from "../../internal/scheduling/supervised.ts"
import type { Turns } from "../../internal/scheduling/turns.ts"
import type { FromServer } from "./codec.ts"

type Failure = ConnectionError.ConnectionError

export type ClientConnection = Connection.Connection<FromServer, FromClientEncoded>

/** How a call ended on one connection. */
export type Outcome =
  | { readonly _tag: "Done" }
  /** `written`: the server may have seen it. `begun`: some of its answer has come. */
  | { readonly _tag: "Lost"; readonly error: Failure; readonly written: boolean; readonly begun: boolean }

/** A call on one connection. */
export class Call {
  readonly clientId: number
  readonly id: string | number
  /** How many messages the connection had accepted before it. */
  before = 0
  begun = false
  /** Parts of its answer that its caller has not taken yet, and the fiber of the last one. */
  undelivered = 0
  delivering: Fiber.Fiber<void> | undefined
  outcome: Outcome | undefined
  resume: ((outcome: Effect.Effect<Outcome>) => void) | undefined

  constructor(clientId: number, id: string | number) {
    this.clientId = clientId
    this.id = id
  }

  settle(outcome: Outcome): void {
    if (this.outcome !== undefined) return
    this.outcome = outcome
    this.resume?.(Effect.succeed(outcome))
  }

  get await(): Effect.Effect<Outcome> {
    return Effect.callback((resume) => {
      if (this.outcome !== undefined) resume(Effect.succeed(this.outcome))
      else this.resume = resume
    })
  }
}

export interface LinkOptions {
  readonly context: Context.Context<never>
  readonly turns: Turns
  /** Gives an answer to the client of a call. */
  readonly deliver: (clientId: number, response: FromServerEncoded) => Effect.Effect<void>
  /** A defect of the server, which ends every call of every client. */
  readonly defect: (response: FromServerEncoded) => Effect.Effect<void>
  /** A call has ended: the link may be at rest now. */
  readonly onRest: (link: Link) => void
  /** It takes no more calls. Told once. */
  readonly onEnd: (link: Link) => void
}

const dropped = ConnectionError.make(new ConnectionError.OutboxFull({ messages: 0, bytes: 0 }))

// a server that waits for acknowledgements has one part and the end of an answer on their way
const mostUndelivered = 2

export class Link {
  readonly connection: ClientConnection
  readonly scope: Scope.Closeable
  private readonly options: LinkOptions
  readonly calls = new Map<string | number, Call>()
  // one request at a time: they are accepted in the order in which they are counted
  private readonly sending: Mutex
  /** The server asked us to leave: it takes no more calls. */
  isLeaving = false
  ended: Failure | undefined
  /** Opened, and not used yet. */
  isFresh = true
  /** Calls that are being sent or answered. */
  users = 0
  private isReleased = false
  private readonly fibers: Array<Fiber.Fiber<unknown, unknown>> = []

  constructor(connection: ClientConnection, scope: Scope.Closeable, options: LinkOptions) {
    this.connection = connection
    this.scope = scope
    this.options = options
    this.sending = new Mutex(options.turns)
  }

  /** Starts what lives as long as the connection. */
  start(): void {
    const { connection, options: { context } } = this
    this.fibers.push(
      spawn(context, "leaving of an RPC connection", connection.leaving, (exit) => {
        if (Exit.isSuccess(exit)) this.isLeaving = true
        this.options.onRest(this)
      }),
      spawn(context, "receiver of RPC", this.receive, (exit) => {
        if (Exit.isFailure(exit) && !this.isReleased) this.end(errorNow(context, "receive", exit.cause, connection))
      })
    )
  }

  /** Gives the connection back, for others to use where nothing more can come for this end. */
  get release(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isReleased = true
      const isClean = this.calls.size === 0 && this.ended === undefined
      return Effect.andThen(
        Fiber.interruptAll(this.fibers),
        Scope.close(this.scope, isClean ? Exit.void : Exit.interrupt())
      )
    })
  }

  // ---- calls --------------------------------------------------------------------------------------------------------

  /** Sends a request, and waits for what becomes of it. A failure: the connection refused it, and lives on. */
  exchange(call: Call, request: FromClientEncoded, isAnswered: boolean): Effect.Effect<Outcome, Failure> {
    return Effect.flatMap(
      this.sending.withPermit(this.send(call, request)),
      () => {
        if (!isAnswered) this.forget(call)
        return isAnswered ? call.await : Effect.succeed<Outcome>(call.outcome ?? { _tag: "Done" })
      }
    )
  }

  private send(call: Call, request: FromClientEncoded): Effect.Effect<void, Failure> {
    const { calls, connection } = this
    return Effect.flatMap(connection.snapshot, ({ dropped: before, messagesOut }) =>
      Effect.suspend(() => {
        if (this.ended !== undefined) {
          call.settle({ _tag: "Lost", error: this.ended, written: false, begun: false })
          return Effect.void
        }
        call.before = messagesOut
        calls.set(call.id, call)
        return Effect.onExit(connection.send(request), (exit) =>
          Effect.map(connection.snapshot, (after) => {
            if (this.ended !== undefined || !calls.has(call.id)) return
            const accepted = after.messagesOut > messagesOut
            // an older request was dropped to make room: nothing tells its caller
            if (accepted && after.dropped > before) return this.end(dropped)
            if (accepted) return
            this.forget(call)
            const error = Exit.isSuccess(exit)
              ? dropped
              : exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error
            // not accepted because the connection has ended: another one may
            if (error !== undefined && (Exit.isSuccess(exit) || error.reason === after.reason)) {
              call.settle({ _tag: "Lost", error, written: false, begun: false })
            }
          })).pipe(Effect.catch((error) => call.outcome === undefined ? Effect.fail(error) : Effect.void))
      }))
  }

  /** Sends what belongs to a call that is on its way. It fails with the connection, and so does the call. */
  follow(message: FromClientEncoded): Effect.Effect<void> {
    return Effect.ignore(this.connection.send(message))
  }

  /** Nothing more is expected for a call. */
  forget(call: Call): void {
    if (this.calls.get(call.id) === call) this.calls.delete(call.id)
    if (this.calls.size === 0) this.options.onRest(this)
  }

  // ---- answers ------------------------------------------------------------------------------------------------------

  private readonly receive: Effect.Effect<never, Failure> = Effect.gen({ self: this }, function*() {
    while (true) {
      for (const responses of yield* this.connection.receiveAll) {
        for (const response of responses) yield* this.take(response)
        if (this.ended !== undefined) return yield* this.ended
      }
    }
  })

  private take(response: FromServerEncoded): Effect.Effect<void> {
    switch (response._tag) {
      case "Chunk":
      case "Exit": {
        const call = this.calls.get(response.requestId)
        return call === undefined ? Effect.void : this.answer(call, response)
      }
      case "Defect":
        return Effect.suspend(() => {
          const over = Array.from(this.calls.values())
          this.calls.clear()
          this.options.onRest(this)
          return Effect.map(this.options.defect(response), () => {
            for (const call of over) call.settle({ _tag: "Done" })
          })
        })
      default:
        return Effect.void
    }
  }

  /**
   * Gives a part of an answer to its caller. A caller that does not take it holds back its own stream, and no other call: so parts
   * have a fiber of their own, and what follows waits for it.
   */
  private answer(call: Call, response: FromServerEncoded): Effect.Effect<void> {
    const { options: { context, deliver } } = this
    const isLast = response._tag === "Exit"
    call.begun = true
    if (isLast) this.calls.delete(call.id)
    const told = (): void => {
      if (!isLast) return
      call.settle({ _tag: "Done" })
      if (this.calls.size === 0) this.options.onRest(this)
    }
    const delivery = deliver(call.clientId, response)
    const { delivering } = call
    if (isLast && delivering === undefined) return Effect.map(delivery, told)
    const next = delivering === undefined ? delivery : Effect.andThen(Fiber.await(delivering), delivery)
    call.undelivered++
    // it ends with the stream of its caller, at the latest
    const fiber = spawn(context, "part of an answer", next, () => {
      call.undelivered--
      if (call.undelivered === 0) call.delivering = undefined
      told()
    })
    if (fiber.pollUnsafe() !== undefined) return Effect.void
    call.delivering = fiber
    // one that sends on without being asked is not read
    return call.undelivered > mostUndelivered ? Effect.asVoid(Fiber.await(fiber)) : Effect.void
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** The connection has ended, or has to: each call is told whether the server may have seen it. */
  end(error: Failure): void {
    if (this.ended !== undefined) return
    this.ended = error
    const { connection, options: { context, onEnd } } = this
    onEnd(this)
    const ending = (error.reason._tag === "Defect" || error === dropped ? condemn(connection, error) : Effect.void)
      .pipe(
        Effect.andThen(Fiber.interruptAll(this.fibers)),
        Effect.andThen(Scope.close(this.scope, Exit.interrupt())),
        Effect.andThen(Effect.ignore(connection.closed)),
        Effect.andThen(connection.snapshot),
        Effect.map(({ messagesOut }) => messagesOut - connection[TypeId].untouched)
      )
    spawn(context, "end of an RPC connection", ending, (exit) => {
      const written = Exit.isSuccess(exit) ? exit.value : Infinity
      const lost = Array.from(this.calls.values())
      this.calls.clear()
      for (const call of lost) {
        call.settle({ _tag: "Lost", error, written: call.before < written, begun: call.begun })
      }
    })
  }
}

/** What a client knows: one object that owns its cells, and the waits for a change of them. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Scheduler from "effect/Scheduler"
import type * as Stream from "effect/Stream"
import type { ConnectionError, Reason } from "../../ConnectionError.ts"
import type { Snapshot } from "../connection/core/snapshot.ts"
import type { Internals, TypeId } from "../connection/handle/internals.ts"
import { errorOf } from "../endings/defects.ts"
import { Gate } from "../scheduling/gate.ts"
import { type Turns, turnsOf } from "../scheduling/turns.ts"
import { type State, States } from "./changes.ts"
import { greets } from "./greeting.ts"

type Failure = ConnectionError

/** What a client needs of a connection. */
export interface ClientConnection<out In, in Out> {
  readonly id: number
  readonly receive: Effect.Effect<In, Failure>
  readonly send: (message: Out) => Effect.Effect<void, Failure>
  readonly sendAll: (messages: Iterable<Out>) => Effect.Effect<void, Failure>
  readonly flush: Effect.Effect<void, Failure>
  readonly close: Effect.Effect<void>
  readonly closeWith: (reason: Reason) => Effect.Effect<void>
  readonly leaving: Effect.Effect<void>
  readonly ending: Effect.Effect<never, Failure>
  readonly closed: Effect.Effect<never, Failure>
  readonly snapshot: Effect.Effect<Snapshot>
  readonly [TypeId]: Internals
}

/** Any connection, for code that neither sends nor receives. */
export type AnyConnection = ClientConnection<unknown, never>

/** The cells of one client, written by its reconnect loop and by synchronous code. */
export class ClientCells<C> {
  readonly turns: Turns
  private readonly states: States<C>
  /** Opens with the next state, and is replaced: a fiber that has looked cannot miss it. */
  private changed: Gate
  /** The connection in use, until its end. */
  connected: C | undefined
  /** The same, until the first sign of its end: it takes messages. */
  current: C | undefined
  /** Connections that may still have something to receive, oldest first: a reconnect loses nothing that was read. */
  sources: ReadonlyArray<C> = []
  /** Accepted messages that were lost, and that no state has counted yet. */
  lost = 0
  /** Messages handed to the transport of a connection that ended before its peer showed that it is there. */
  unknown = 0
  isClosing = false
  /** The reason, once the client has closed. */
  end: Failure | undefined
  /** While the client is `Waiting`: dials now. */
  retry: (() => void) | undefined
  /** Ends what there is, a try or a connection: the next dial follows at once. */
  renew: Effect.Effect<void> = Effect.void
  isRenewing = false
  /** What the reconnect loop runs: the culprit, should it die now. */
  running = "reconnect"

  constructor(turns: Turns, states: States<C>) {
    this.turns = turns
    this.states = states
    this.changed = new Gate(turns, false)
  }

  get state(): State<C> {
    return this.states.current
  }

  /** The last thing that synchronous code does: readers of `changes` run in the middle of it. */
  publish(next: State<C>): void {
    const woken = this.changed
    this.changed = new Gate(this.turns, false)
    woken.open()
    this.states.publish(next)
  }

  finish(error: Failure): void {
    this.end = error
    this.publish({ _tag: "Closed", error, ...this.takeLost() })
  }

  /** Each of these messages is counted in one state. */
  takeLost(): { readonly lost: number; readonly unknown: number } {
    const { lost, unknown } = this
    this.lost = this.unknown = 0
    return { lost, unknown }
  }

  /** A connection that shows the first sign of its end gets no more messages. */
  leave(connection: C): void {
    if (this.current === connection) this.current = undefined
  }

  /** Waits until `look` finds a value; fails once the client has closed, and where the wait itself would keep it from coming. */
  awaiting<A>(look: () => A | undefined): Effect.Effect<A, Failure> {
    return Effect.suspend(() => {
      const found = look()
      if (found !== undefined) return Effect.succeed(found)
      if (this.end !== undefined) return Effect.fail(this.end)
      return Effect.andThen(Effect.andThen(greets(this), this.changed.await), this.awaiting(look))
    })
  }

  /** Fails once the client has closed. */
  readonly closed: Effect.Effect<never, Failure> = Effect.suspend(() =>
    this.end !== undefined ? Effect.fail(this.end) : Effect.andThen(this.changed.await, this.closed)
  )

  /** The current state and every transition, up to `Closed`. */
  get changes(): Stream.Stream<State<C>> {
    return this.states.changes
  }
}

/** A reader of its states holds `limit` of them at the most, and `remainsOf` in place of a connection that has ended. */
export const makeCells = <C>(limit: number, remainsOf: (connection: C) => C): Effect.Effect<ClientCells<C>> =>
  Effect.map(Scheduler.Scheduler, (scheduler) => {
    const turns = turnsOf(scheduler)
    return new ClientCells(turns, new States(limit, remainsOf))
  })

/** Calls an operation of a connection. What a wrapped one throws is an error of its caller; a failure goes to `onFailure`. */
export const calling = <A>(
  by: "send" | "receive",
  connection: AnyConnection,
  operation: () => Effect.Effect<A, Failure>,
  onFailure: (error: Failure) => Effect.Effect<A, Failure>
): Effect.Effect<A, Failure> =>
  Effect.catchCause(Effect.suspend(operation), (cause) => {
    const failed = cause.reasons.find(Cause.isFailReason)
    if (failed !== undefined) return onFailure(failed.error)
    return Cause.hasDies(cause) ? Effect.flatMap(errorOf(by, cause, connection), Effect.fail) : Effect.failCause(cause)
  })

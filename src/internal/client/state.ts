/** What a client knows: one object that owns its cells, and the waits for a change of them. */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Scheduler from "effect/Scheduler"
import * as Stream from "effect/Stream"
import type { ConnectionError, Reason } from "../../ConnectionError.ts"
import type { Snapshot } from "../connection/core/snapshot.ts"
import { errorOf } from "../endings/defects.ts"
import { Gate } from "../scheduling/gate.ts"
import { type Turns, turnsOf } from "../scheduling/turns.ts"

type Failure = ConnectionError

/** What a client needs of a connection. */
export interface ClientConnection<out In, in Out> {
  readonly id: number
  readonly receive: Effect.Effect<In, Failure>
  readonly send: (message: Out) => Effect.Effect<void, Failure>
  readonly sendAll: (messages: Iterable<Out>) => Effect.Effect<void, Failure>
  readonly close: Effect.Effect<void>
  readonly closeWith: (reason: Reason) => Effect.Effect<void>
  readonly leaving: Effect.Effect<void>
  readonly ending: Effect.Effect<never, Failure>
  readonly closed: Effect.Effect<never, Failure>
  readonly snapshot: Effect.Effect<Snapshot>
}

/** Any connection, for code that neither sends nor receives. */
export type AnyConnection = ClientConnection<unknown, never>

/** Where a client with connections of type `C` stands; see `Client.State`. */
export type State<C> =
  | { readonly _tag: "Connecting"; readonly attempt: number }
  | { readonly _tag: "Connected"; readonly connection: C }
  | {
    readonly _tag: "Waiting"
    readonly attempt: number
    readonly delay: Duration.Duration
    readonly error: Failure
    readonly lost: number
  }
  | { readonly _tag: "Closed"; readonly error: Failure; readonly lost: number }

/** The cells of one client, written by its reconnect loop and by synchronous code. */
export class ClientCells<C> {
  readonly turns: Turns
  private readonly states: PubSub.PubSub<State<C>>
  /** Opens with the next state, and is replaced: a fiber that has looked cannot miss it. */
  private changed: Gate
  state: State<C> = { _tag: "Connecting", attempt: 1 }
  /** The connection in use, until its end. */
  connected: C | undefined
  /** The same, until the first sign of its end: it takes messages. */
  current: C | undefined
  /** Connections that may still have something to receive, oldest first: a reconnect loses nothing that was read. */
  sources: ReadonlyArray<C> = []
  /** Accepted messages that were lost, and that no state has counted yet. */
  lost = 0
  isClosing = false
  /** The reason, once the client has closed. */
  end: Failure | undefined
  /** While the client is `Waiting`: dials now. */
  retry: (() => void) | undefined
  /** What the reconnect loop runs: the culprit, should it die now. */
  running = "reconnect"

  constructor(turns: Turns, states: PubSub.PubSub<State<C>>) {
    this.turns = turns
    this.states = states
    this.changed = new Gate(turns, false)
    PubSub.publishUnsafe(states, this.state)
  }

  /** The last thing that synchronous code does: readers of `changes` run in the middle of it. */
  publish(next: State<C>): void {
    this.state = next
    const woken = this.changed
    this.changed = new Gate(this.turns, false)
    woken.open()
    PubSub.publishUnsafe(this.states, next)
  }

  finish(error: Failure): void {
    this.end = error
    this.publish({ _tag: "Closed", error, lost: this.takeLost() })
  }

  /** Each lost message is counted in one state. */
  takeLost(): number {
    const { lost } = this
    this.lost = 0
    return lost
  }

  /** A connection that shows the first sign of its end gets no more messages. */
  leave(connection: C): void {
    if (this.current === connection) this.current = undefined
  }

  /** Waits until `look` finds a value; fails once the client has closed. */
  awaiting<A>(look: () => A | undefined): Effect.Effect<A, Failure> {
    return Effect.suspend(() => {
      const found = look()
      if (found !== undefined) return Effect.succeed(found)
      return this.end !== undefined ? Effect.fail(this.end) : Effect.andThen(this.changed.await, this.awaiting(look))
    })
  }

  /** The current state and every transition, up to `Closed`. */
  get changes(): Stream.Stream<State<C>> {
    return Stream.takeUntil(Stream.fromPubSub(this.states), (state) => state._tag === "Closed")
  }
}

export const makeCells = <C>(): Effect.Effect<ClientCells<C>> =>
  Effect.gen(function*() {
    const turns = turnsOf(yield* Scheduler.Scheduler)
    return new ClientCells(turns, yield* PubSub.unbounded<State<C>>({ replay: 1 }))
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

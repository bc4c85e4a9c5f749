/** What a server is made of: its application, its guests, and the state that they share. */
import type * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import * as ConnectionError from "../../ConnectionError.ts"
import type { Policy } from "../../Policy.ts"
import type { Opening } from "../connection/core/limits.ts"
import type { Snapshot } from "../connection/core/snapshot.ts"
import type { Handler } from "../connection/core/state.ts"
import type { Internals, TypeId } from "../connection/handle/internals.ts"
import * as Defects from "../endings/defects.ts"
import type { Names } from "../registry/membership.ts"
import type { Fifo, Queued } from "../scheduling/fifo.ts"
import { type Owner, spawn } from "../scheduling/supervised.ts"
import type { Timer, Timers } from "../scheduling/timers.ts"
import type { Task, Turns } from "../scheduling/turns.ts"
import type { Telemetry } from "../telemetry/telemetry.ts"
import { transportOf } from "../transport/transport.ts"
import type { Admission, Applicant } from "./admission.ts"
import type { Arrival, Refusals } from "./reception.ts"

/**
 * What happens in a server: the material for logs and metrics.
 *
 * - `Opened`: the handshake is done and the handler starts.
 * - `Closed`: the connection is gone; `snapshot.reason` says why, `failure` is set when the handler failed by itself.
 * - `Refused`: no handler ran, because of a limit, a transport that did not open or a handshake that failed, that of TLS
 *   and a WebSocket's upgrade included; `failure` is
 *   set when that was a defect, a mistake in the program: `reason` is `Defect` then.
 * - `AcceptFailed`: the operating system did not give us a connection (out of file descriptors); accepting goes on after
 *   `retryAfter` milliseconds.
 * - `MemoryTight`: the connections hold half of `limit`, the memory that they may (`Policy.memory`): those that hold
 *   most are not read, and new ones wait. `MemoryFreed`: no longer. Both in bytes.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | { readonly _tag: "Opened"; readonly snapshot: Snapshot }
  | {
    readonly _tag: "Closed"
    readonly snapshot: Snapshot
    readonly failure: Cause.Cause<unknown> | undefined
  }
  | {
    readonly _tag: "Refused"
    readonly remote: string | undefined
    readonly reason: ConnectionError.Reason
    readonly failure: Cause.Cause<unknown> | undefined
  }
  | {
    readonly _tag: "AcceptFailed"
    readonly cause: SocketServer.SocketServerError
    readonly retryAfter: number
  }
  | {
    readonly _tag: "MemoryTight" | "MemoryFreed"
    readonly held: number
    readonly limit: number
  }

/**
 * How many connections a server has, in which state.
 *
 * @category models
 * @since 0.1.0
 */
export interface Left {
  /** In their handshakes, waiting for their turn, or being told that they are refused. */
  readonly opening: number
  readonly open: number
  /** Asked to leave: nothing new is received, answers still leave. */
  readonly draining: number
  /** What was sent is flushed. */
  readonly closing: number
  /** The connection has ended, and its handler runs on. */
  readonly ended: number
}

/**
 * How far a drain is. `after` and `limit` are milliseconds since it began, and the most that it may take.
 *
 * @category models
 * @since 0.1.0
 */
export interface Draining {
  readonly left: number
  readonly states: Left
  readonly after: number
  readonly limit: number
}

/**
 * How a server is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  /** `idle`: not run yet. `stopping`: from the interruption until the last connection is gone. */
  readonly phase: "idle" | "serving" | "stopping" | "stopped"
  /** Its connections, by their state. */
  readonly connections: Left
  /** How many wait for their turn: a limit. They are among those that are opening, from their TLS handshake or upgrade on. */
  readonly waiting: number
  /** How many handlers were started. */
  readonly opened: number
  /**
   * How many connections were refused, by what refused them: the limit (`maxConnections`, `maxPending`, `stopping`), or the
   * reason (`HandshakeTimeout`, `HandshakeFailed`: of TLS, of an upgrade that was answered with another status, of the
   * application).
   */
  readonly refused: Readonly<Record<string, number>>
}

type Failure = ConnectionError.ConnectionError

/** Why a server that stops lets no connection in. */
export const stopping = new ConnectionError.Refused({ limit: "stopping" })

/** A connection, as far as the server has to know it. */
export interface Served<in Out> {
  readonly id: number
  readonly snapshot: Effect.Effect<Snapshot>
  readonly send: (message: Out) => Effect.Effect<void, Failure>
  readonly closeWith: (reason: ConnectionError.Reason) => Effect.Effect<void>
  readonly drainWith: (reason: ConnectionError.Reason) => Effect.Effect<void>
  readonly [TypeId]: Internals
}

/** What a server calls of the application that it serves. */
export interface Application<C, Out, Session, R> {
  readonly open: (socket: Socket.Socket) => Effect.Effect<C, Failure, R>
  readonly handshake?: ((connection: C) => Effect.Effect<Session, unknown, R>) | undefined
  readonly names?: ((connection: C, session: Session) => Names) | undefined
  readonly registry?:
    | {
      readonly add: (
        connection: C,
        names: Names | undefined,
        session: Session
      ) => Effect.Effect<void, Failure, Scope.Scope>
    }
    | undefined
  readonly handle: (connection: C, session: Session) => Effect.Effect<unknown, unknown, R>
  readonly refusal?: ((reason: ConnectionError.Reason) => Out) | undefined
  readonly onEvent?: ((event: Event) => Effect.Effect<void>) | undefined
  readonly onDrain?: ((progress: Draining) => Effect.Effect<void>) | undefined
  readonly logs?: boolean | undefined
}

/** A server that runs: what its guests share. */
export interface ServerState<C extends Served<Out>, Out, Session, R> {
  readonly application: Application<C, Out, Session, R>
  readonly policy: Policy
  /** How long a handshake may take, in milliseconds; none is `Infinity`. */
  readonly handshakeLimit: number
  /** In which it runs; what it tells of its guests is in it. */
  readonly context: Context.Context<never>
  /** Milliseconds of the monotonic clock. */
  readonly now: () => number
  readonly at: Timers["at"]
  readonly turns: Turns
  readonly admission: Admission
  readonly guests: Fifo<Guest<C>>
  /** Tells the application, whatever that does with it. */
  readonly tell: (event: Event) => Effect.Effect<void>
  readonly refusals: Refusals
  /** How many handlers were started. */
  readonly opened: { count: number }
  /** How many connections are not handled yet and not gone, and how often accepting failed. */
  readonly counts: { opening: number; failed: number }
  readonly telemetry: Telemetry | undefined
  /** Tells how far the drain is. */
  readonly progress: (draining: Draining) => void
  /** Ends what is told to the application and has not returned, and from now on what does not return at once. */
  readonly endReports: Effect.Effect<void>
  /** The same, from where there is no fiber. */
  readonly report: (event: Event) => void
}

/** A server, as far as each guest leaves it. */
type Host<C> =
  & Pick<
    ServerState<never, never, never, never>,
    "counts" | "admission" | "at" | "context" | "handshakeLimit" | "turns"
  >
  & {
    readonly guests: Fifo<Guest<C>>
  }

// a timer runs before the input that is waiting: so many turns of the event loop deliver that first
const turnsOfInput = 3

/** An accepted socket, until it is gone. A guest is changed only by its own fiber, and its counts by `Admission`. */
export class Guest<C> implements Applicant, Queued<Guest<C>>, Owner<void, never>, Handler, Opening, Task {
  private readonly home: Host<C>
  queue: unknown
  next: Guest<C> | undefined
  previous: Guest<C> | undefined
  readonly socket: Socket.Socket
  readonly remote: string | undefined
  host: string | undefined
  standing: Applicant["standing"] = "outside"
  place: Applicant["place"]
  onTurn: (() => void) | undefined
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** When it was admitted. */
  since = 0
  /** From its admission to the end of its handler. */
  isRunning = false
  /** Its handshake is done. */
  isOpened = false
  /** What comes before its handler took longer than a handshake may. */
  isLate = false
  private deadline: Timer | undefined
  /** Set while it is served. */
  connection: C | undefined
  /** What it is called in the registry. */
  key: string | undefined
  /** Which callback of the application runs, or ran last: a defect is its mistake. */
  by: "open" | "handshake" | "names" | "registry" | "handle" = "open"
  /** Where it was counted from its accept on: it is counted as that. */
  readonly arrival: Arrival | undefined
  private whenClaimed: (() => void) | undefined

  /** `whenClaimed` is called once: the socket has an owner, which acquired its reader, or will have none. */
  constructor(
    home: Host<C>,
    socket: Socket.Socket,
    whenClaimed: () => void,
    arrival: Arrival | undefined
  ) {
    this.home = home
    this.socket = socket
    this.arrival = arrival
    this.remote = transportOf(socket).remote
    this.whenClaimed = whenClaimed
  }

  fiberEnded(exit: Exit.Exit<void>): void {
    const { admission, context, counts, guests } = this.home
    if (Exit.isFailure(exit)) {
      Defects.logNow(context, this.by, exit.cause, placeOf(this as unknown as Guest<Served<never>>))
    }
    guests.delete(this)
    if (!this.isOpened) counts.opening--
    admission.leave(this.arrival ?? this)
    this.claim()
  }

  connectionGone(): void {
    if (this.isRunning) this.fiber?.interruptUnsafe()
  }

  private get isWaiting(): boolean {
    return this.isRunning && !this.isOpened
  }

  /** Done at the end of the turn in which it is served: only where something waits is there a timer. */
  run(): void {
    const { at, handshakeLimit, turns } = this.home
    if (!this.isWaiting) return
    this.deadline = at(this.since + handshakeLimit, () =>
      turns.after(turnsOfInput, () => {
        if (this.isWaiting) this.late()
      }))
  }

  private late(): void {
    this.isLate = true
    this.fiber?.interruptUnsafe()
    const { connection, isRunning, lateness } = this
    if (!isRunning || connection === undefined) return
    // what cannot be interrupted keeps its permit, and not the peer
    const closing = (connection as unknown as Served<never>).closeWith(lateness!.reason)
    spawn(this.home.context, "late guest of a server", closing, () => {})
  }

  /** Its handler starts, or it ends: nothing is waited for any more. */
  inTime(): void {
    this.deadline?.cancel()
    this.deadline = undefined
  }

  get lateness(): ConnectionError.ConnectionError | undefined {
    return this.isLate
      ? ConnectionError.make(new ConnectionError.HandshakeTimeout({ limit: this.home.handshakeLimit }))
      : undefined
  }

  claim(): void {
    const { whenClaimed } = this
    this.whenClaimed = undefined
    whenClaimed?.()
  }
}

/** Where a defect of a guest happened. */
export const placeOf = ({ connection, remote }: Guest<Served<never>>): Defects.Place => ({ id: connection?.id, remote })

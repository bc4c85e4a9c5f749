/**
 * Accepts sockets, makes connections of them within limits, and hands each one to a handler.
 *
 * Use it for every listener: `SocketServer.run` of Effect has no limits, no drain and no registry. `run` is an effect
 * that serves until it is interrupted, `layer` serves for as long as the layer lives.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import * as Backoff from "./Backoff.ts"
import type * as Connection from "./Connection.ts"
import type * as ConnectionError from "./ConnectionError.ts"
import { logLine } from "./internal/reasons/logs.ts"
import * as Supervised from "./internal/scheduling/supervised.ts"
import * as Accepting from "./internal/server/accepting.ts"
import { statsOf } from "./internal/server/draining.ts"
import type { Draining, Event, ServerState, Stats } from "./internal/server/state.ts"
import * as Policy from "./Policy.ts"
import type { Names, Registry } from "./Registry.ts"

export type { Draining, Event, Left, Stats } from "./internal/server/state.ts"

/**
 * What a server does with the sockets it accepts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<In, Out, Session, E, EH, R, RH, RO> {
  /**
   * Makes a connection of a socket: what `Connection.make(options)` returns. One that takes longer than `Policy.handshake` from
   * the accept is interrupted, and its peer refused with `HandshakeTimeout`.
   */
  readonly open: (
    socket: Socket.Socket
  ) => Effect.Effect<Connection.Connection<In, Out>, ConnectionError.ConnectionError, RO>
  /**
   * Runs for each connection until it returns. When the connection ends, it is interrupted; when it still has messages
   * to receive, it may finish with them for `Policy.drain`. A failure of its own closes its connection and nothing else;
   * a defect ends it with `Defect`.
   */
  readonly handle: (connection: Connection.Connection<In, Out>, session: Session) => Effect.Effect<unknown, E, R>
  /**
   * Authenticates before the handler runs, within `Policy.handshake` from the accept. What it returns is the session
   * that the handler, `names` and the registry get. A failure refuses the connection with `HandshakeFailed`, a defect with
   * `Defect`.
   *
   * **Gotchas**
   *
   * Write it before `handle` and `names`: TypeScript infers the session of functions from top to bottom.
   *
   * In place, write `(connection) => Effect.gen(...)`, and so for `handle`: of a generator function in place,
   * `Effect.fnUntraced(function*(connection) {...})`, TypeScript infers neither the session nor the services. One whose
   * parameters have types, or that is named before, is fine.
   */
  readonly handshake?: ((connection: Connection.Connection<In, Out>) => Effect.Effect<Session, EH, RH>) | undefined
  /**
   * Where connections are registered, from their handshake until they are gone, with their session.
   *
   * Its `add` runs within `Policy.handshake`, as the handshake does. A failure refuses the connection, and so does one that
   * takes too long: an application may replace `add`, and ask a database first (see `Registry`).
   */
  readonly registry?: Pick<Registry<In, Out, Session>, "add"> | undefined
  /** Key and tags for the registry. */
  readonly names?: ((connection: Connection.Connection<In, Out>, session: Session) => Names) | undefined
  /** The server's limits: `handshake`, `drain`, `maxConnections` and those after it. */
  readonly policy?: Policy.Patch | undefined
  /**
   * Makes the last message to a refused peer. Where a protocol has a first word of the server, the refusal takes its place, and
   * there is no such message: 503 with `Retry-After` over a WebSocket of ours, CLOSE in the native protocol.
   */
  readonly refusal?: NoInfer<(reason: ConnectionError.Reason) => Out> | undefined
  /**
   * Called for every event, and interrupted only by the end of a stop: each accepted connection gives one `Refused`, or one `Opened` and then
   * one `Closed`. It adds to what the server logs, and takes nothing away: see `logs`. A connection ends after its event has been
   * told: one that never returns keeps its connection among those that `maxConnections` counts, and holds the server's stop until
   * `drain` is over; 5 seconds later it is interrupted. What may wait belongs in a queue.
   */
  readonly onEvent?: ((event: Event) => Effect.Effect<void>) | undefined
  /**
   * Whether the server logs failures of handlers (as errors) and of accepting (as warnings), how many connections were refused
   * (one warning a second at most), and, as information, ends and refusals of which the peer is not told the text: a handshake
   * that failed, a message that is none. Ends are logged with all that is known of them at debug level, and what a handler logs has the
   * id, key and remote address of its connection. Default true; false is for an `onEvent` that writes all of that itself. Defects are logged in any case, and so is a failure of `onEvent` itself.
   */
  readonly logs?: boolean | undefined
  /**
   * Called every second while a stop goes on: how many connections are left, in which state. It holds nothing up. Default:
   * an info log line.
   */
  readonly onDrain?: ((progress: Draining) => Effect.Effect<void>) | undefined
  /**
   * When to accept again after the operating system did not give us a connection. Default: after 5 ms, then twice as
   * long each time up to 1 s (as Go's `net/http`), and from the start after a second without an error. The default takes
   * the place of a schedule that ends, fails or throws, and one log line says so.
   */
  readonly acceptRetry?: Schedule.Schedule<unknown, SocketServer.SocketServerError> | undefined
}

const acceptRetryDefault = Backoff.exponential({ base: 5, cap: 1000, jitter: "none", resetAfter: 1000 })

/**
 * Accepts connections until it is interrupted, and then drains.
 *
 * **Details**
 *
 * - Limits come first: a connection beyond `maxConnections` waits unread, which the peer sees as back-pressure, or is
 *   refused; one beyond `maxConnectionsPerAddress` is refused. A permit is held until its connection is gone.
 * - Accept errors back off as `acceptRetry` says, and never end the server.
 * - Interrupted, it stops in this order. It takes the connections that the kernel has accepted, and a listener of ours whose
 *   servers all stop listens no more: a successor may. Connections that wait for a permit, or arrive from then on, are
 *   refused. It says goodbye to every connection (`Connection.Options.goodbye`), and reads on for `Policy.stopGrace`.
 *   What had reached us is read a last time, handlers answer it, and everything is flushed. Connections that are still
 *   there `Policy.drain` after the goodbye are ended.
 *
 * **Gotchas**
 *
 * Draining ends the inbound side of a connection: a handler that loops over `receive` answers what came before, sees the
 * end and returns. A handler that does not receive watches `connection.leaving`.
 *
 * A policy that makes no sense throws its `InvalidPolicy` here, before anything runs.
 *
 * **Example** (An echo server)
 *
 * ```ts
 * const chat = Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") })
 *
 * const echo = Server.run({
 *   open: chat,
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 * })
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const run = <
  In,
  Out = Connection.Literal,
  Session = void,
  E = never,
  EH = never,
  R = never,
  RH = never,
  RO = never
>(
  options: Options<In, Out, Session, E, EH, R, RH, RO>
): Effect.Effect<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>> => make(options).run

/**
 * A server that can be looked at while it runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server<out R = never> {
  /** See `run`. Run it once. */
  readonly run: Effect.Effect<never, never, SocketServer.SocketServer | R>
  /** How many connections there are, in which state, and what was refused. Cheap: one look at each connection. */
  readonly stats: Effect.Effect<Stats>
}

/**
 * Makes a server without running it, to look at it while it runs, and while it stops.
 *
 * **When to use**
 *
 * For a health check, for metrics, and to watch a drain: `run` alone tells by events (`onEvent`, `onDrain`).
 *
 * **Gotchas**
 *
 * A policy that makes no sense throws its `InvalidPolicy` here, before anything runs.
 *
 * **Example** (How far a drain is)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Codec, Connection, Server } from "holdfast"
 *
 * const server = Server.make({
 *   open: Connection.make({ codec: Codec.lines() }),
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send),
 *   onDrain: ({ left, states }) => Effect.log(`${left} are left, ${states.draining} of them are being answered`)
 * })
 *
 * const isReady = Effect.map(server.stats, ({ phase }) => phase === "serving")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  In,
  Out = Connection.Literal,
  Session = void,
  E = never,
  EH = never,
  R = never,
  RH = never,
  RO = never
>(
  options: Options<In, Out, Session, E, EH, R, RH, RO>
): Server<Exclude<R | RH | RO, Scope.Scope>> => {
  // throws here, before anything runs
  const policy = Policy.make(options.policy)
  let last: ServerState<Connection.Connection<In, Out>, Out, Session, R | RH | RO> | undefined
  const run = Accepting.run<Connection.Connection<In, Out>, Out, Session, R | RH | RO>(
    options,
    policy,
    options.acceptRetry,
    acceptRetryDefault,
    (server) => last = server
  )
  return {
    run: run as Effect.Effect<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>>,
    stats: Effect.sync(() => statsOf(last))
  }
}

/**
 * Runs a server for as long as the layer lives; releasing the layer drains it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <
  In,
  Out = Connection.Literal,
  Session = void,
  E = never,
  EH = never,
  R = never,
  RH = never,
  RO = never
>(
  options: Options<In, Out, Session, E, EH, R, RH, RO>
): Layer.Layer<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>> => {
  const running = Effect.catchCause(
    run(options),
    (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.andThen(logLine("Fatal", "the server died", cause), Effect.never)
  )
  return Layer.effectDiscard(Supervised.restarted("a server", running))
}

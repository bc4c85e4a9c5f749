/**
 * Accepts sockets, makes connections of them within limits, and hands each one to a handler.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Connection from "./Connection.ts"
import * as ConnectionError from "./ConnectionError.ts"
import { transportOf } from "./internal/transport.ts"
import * as Policy from "./Policy.ts"
import type { Registry } from "./Registry.ts"

/**
 * What happens in a server: the material for logs and metrics.
 *
 * - `Opened`: the handshake is done and the handler starts.
 * - `Closed`: the connection is gone; `snapshot.reason` says why, `failure` is set when the handler failed by itself.
 * - `Refused`: no handler ran, because of a limit, a transport that did not open or a handshake that failed.
 * - `AcceptFailed`: the operating system did not give us a connection (out of file descriptors); accepting goes on after
 *   `retryAfter` milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | { readonly _tag: "Opened"; readonly snapshot: Connection.Snapshot }
  | {
    readonly _tag: "Closed"
    readonly snapshot: Connection.Snapshot
    readonly failure: Cause.Cause<unknown> | undefined
  }
  | { readonly _tag: "Refused"; readonly remote: string | undefined; readonly reason: ConnectionError.Reason }
  | {
    readonly _tag: "AcceptFailed"
    readonly cause: SocketServer.SocketServerError
    readonly retryAfter: number
  }

/**
 * The names a connection gets in the registry.
 *
 * @category models
 * @since 0.1.0
 */
export interface Names {
  readonly key?: string | undefined
  readonly tags?: Iterable<string> | undefined
}

/**
 * What a server does with the sockets it accepts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<In, Out, Session, E, EH, R, RH, RO> {
  /** Makes a connection of a socket: what `Connection.make(options)` returns. */
  readonly open: (
    socket: Socket.Socket
  ) => Effect.Effect<Connection.Connection<In, Out>, ConnectionError.ConnectionError, RO>
  /**
   * Runs for each connection until it returns. When the connection ends, it is interrupted; when it still has messages
   * to receive, it may finish with them for `Policy.drain`. A failure of its own closes its connection and nothing else.
   */
  readonly handle: (connection: Connection.Connection<In, Out>, session: Session) => Effect.Effect<unknown, E, R>
  /**
   * Authenticates before the handler runs, within `Policy.handshake` from the accept. What it returns is the session
   * that the handler and `names` get. A failure refuses the connection with `HandshakeFailed`.
   */
  readonly handshake?: ((connection: Connection.Connection<In, Out>) => Effect.Effect<Session, EH, RH>) | undefined
  /** Where connections are registered while their handler runs. */
  readonly registry?: Registry<In, Out> | undefined
  /** Key and tags for the registry. */
  readonly names?: ((connection: Connection.Connection<In, Out>, session: Session) => Names) | undefined
  /** The server's limits: `handshake`, `drain`, `maxConnections` and those after it. */
  readonly policy?: Policy.Policy | Policy.Patch | undefined
  /** What a refused peer is told before it is closed. A WebSocket is closed with 1013 and the reason in any case. */
  readonly refusal?: ((reason: ConnectionError.Reason) => Out) | undefined
  /** Told of everything that happens. Without it, failures of handlers and of accepting are logged. */
  readonly onEvent?: ((event: Event) => Effect.Effect<void>) | undefined
}

const logTroubles = (event: Event): Effect.Effect<void> =>
  event._tag === "Closed" && event.failure !== undefined
    ? Effect.logError(`the handler of connection ${event.snapshot.id} failed`, event.failure)
    : event._tag === "AcceptFailed"
    ? Effect.logWarning(`accepting failed, next try in ${event.retryAfter} ms`, event.cause)
    : Effect.void

/** `1.2.3.4:5` and `[::1]:5` without their port; the path of a Unix socket as it is. */
const hostOf = (remote: string): string => remote.replace(/:\d+$/, "")

interface Live<In, Out> {
  connection: Connection.Connection<In, Out> | undefined
}

/**
 * Accepts connections until it is interrupted, and then drains.
 *
 * **Details**
 *
 * - Limits come first: a connection beyond `maxConnections` waits unread, which the peer sees as back-pressure, or is
 *   refused; one beyond `maxConnectionsPerAddress` is refused. A permit is held until its connection is gone.
 * - Accept errors back off from 5 ms to 1 s (as Go's `net/http`) and never end the server.
 * - Interrupted, it accepts nothing more, asks every connection to leave (`Connection.drainWith`), and waits for
 *   handlers and flushes up to `Policy.drain`; what is left then is ended.
 *
 * **Gotchas**
 *
 * Draining ends the inbound side of a connection: a handler that loops over `receive` answers what came before, sees the
 * end and returns. A handler that does not receive watches `connection.leaving`.
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
export const run = <In, Out, Session = void, E = never, EH = never, R = never, RH = never, RO = never>(
  options: Options<In, Out, Session, E, EH, R, RH, RO>
): Effect.Effect<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>> =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* SocketServer.SocketServer
    const clock = yield* Clock.Clock
    const policy = Policy.make(options.policy)
    const drain = Duration.toMillis(policy.drain)
    const handshakeLimit = Duration.toMillis(policy.handshake)
    const onEvent = options.onEvent ?? logTroubles
    const permits = policy.maxConnections > 0 ? yield* Semaphore.make(policy.maxConnections) : undefined
    const connections = yield* Scope.make()
    const live = new Set<Live<In, Out>>()
    const allGone = Latch.makeUnsafe(true)
    const perAddress = new Map<string, number>()
    let waiting = 0
    let stopping = false
    // when the next connection is due, were they evenly spaced; up to a second's worth may come at once
    let nextAcceptAt = -Infinity

    const refused = (socket: Socket.Socket, reason: ConnectionError.Reason) =>
      Effect.flatMap(options.open(socket), (connection) =>
        Effect.andThen(
          options.refusal === undefined ? Effect.void : Effect.ignore(connection.send(options.refusal(reason))),
          connection.closeWith(reason)
        )).pipe(
          Effect.scoped,
          Effect.ignore,
          Effect.andThen(onEvent({ _tag: "Refused", remote: transportOf(socket).remote, reason }))
        )

    /** One connection, from its permit to its end. */
    const serve = Effect.fnUntraced(function*(socket: Socket.Socket, claimed: Deferred.Deferred<void>) {
      const entry: Live<In, Out> = { connection: undefined }
      live.add(entry)
      allGone.closeUnsafe()
      let opened = false
      const session = Effect.gen(function*() {
        const connection = yield* options.open(socket)
        entry.connection = connection
        Deferred.doneUnsafe(claimed, Exit.void)
        // accepted while stopping: it ends before its handshake
        if (stopping) return yield* connection.closeWith(new ConnectionError.GoingAway({}))
        const handshake = options.handshake
        const agreed = handshake === undefined ? Effect.succeed(undefined as Session) : handshake(connection).pipe(
          handshakeLimit > 0
            ? Effect.timeoutOrElse({
              duration: handshakeLimit,
              orElse: () =>
                Effect.fail(
                  ConnectionError.make(new ConnectionError.HandshakeTimeout({ limit: handshakeLimit }))
                )
            })
            : (self) => self,
          Effect.mapError((cause) =>
            cause instanceof ConnectionError.ConnectionError
              ? cause
              : ConnectionError.make(new ConnectionError.HandshakeFailed({ cause }))
          )
        )
        const value = yield* agreed
        if (options.registry !== undefined) {
          yield* options.registry.add(connection, options.names?.(connection, value))
        }
        opened = true
        yield* onEvent({ _tag: "Opened", snapshot: yield* connection.snapshot })
        yield* Effect.withFiber((fiber) => {
          Connection.onGone(connection, () => fiber.interruptUnsafe())
          return Effect.void
        })
        yield* options.handle(connection, value)
      }).pipe(
        // the end of the connection is no failure of its handler; any other connection error closes it with that reason
        Effect.catchIf(
          (error): error is ConnectionError.ConnectionError =>
            error instanceof ConnectionError.ConnectionError && entry.connection !== undefined,
          (error) => entry.connection!.closeWith(error.reason)
        ),
        Effect.scoped
      )
      return yield* Effect.onExit(session, (exit) =>
        Effect.gen(function*() {
          live.delete(entry)
          if (live.size === 0) allGone.openUnsafe()
          Deferred.doneUnsafe(claimed, Exit.void)
          const failure = Exit.isFailure(exit) && !Exit.hasInterrupts(exit) ? exit.cause : undefined
          if (entry.connection === undefined) {
            const reason = failure?.reasons.find((r) => r._tag === "Fail")?.error
            yield* onEvent({
              _tag: "Refused",
              remote: transportOf(socket).remote,
              reason: reason instanceof ConnectionError.ConnectionError
                ? reason.reason
                : new ConnectionError.OpenFailed({ cause: failure ?? "interrupted" })
            })
            return
          }
          const snapshot = yield* entry.connection.snapshot
          yield* onEvent(
            opened
              ? { _tag: "Closed", snapshot, failure }
              : {
                _tag: "Refused",
                remote: snapshot.remote,
                reason: snapshot.reason ?? new ConnectionError.HandshakeFailed({ cause: failure ?? "interrupted" })
              }
          )
        }))
    })

    /** How long the accept rate makes a connection wait, in milliseconds. */
    const rateDelay = (): number => {
      if (policy.acceptRate === 0) return 0
      const at = Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
      const wait = Math.max(0, nextAcceptAt - 1000 - at)
      if (wait > 0 && policy.whenFull === "reject") return wait
      nextAcceptAt = Math.max(nextAcceptAt, at) + 1000 / policy.acceptRate
      return wait
    }

    const limited = (socket: Socket.Socket, claimed: Deferred.Deferred<void>) => {
      const refuse = (limit: ConnectionError.Refused["limit"], allowed: number) =>
        refused(socket, new ConnectionError.Refused({ limit, allowed }))
      if (stopping) return refused(socket, new ConnectionError.Refused({ limit: "stopping" }))
      const delay = rateDelay()
      if (delay > 0 && policy.whenFull === "reject") return refuse("acceptRate", policy.acceptRate)
      const serving = serve(socket, claimed)
      if (permits === undefined && delay === 0) return serving
      if (policy.whenFull === "reject") {
        return Effect.flatMap(
          permits!.withPermitsIfAvailable(1)(serving),
          (served) => served._tag === "None" ? refuse("maxConnections", policy.maxConnections) : Effect.void
        )
      }
      if (waiting >= policy.maxWaiting && (delay > 0 || live.size >= policy.maxConnections)) {
        return refuse("maxWaiting", policy.maxWaiting)
      }
      waiting++
      let counted = true
      const leaveQueue = Effect.sync(() => {
        if (counted) waiting--
        counted = false
      })
      const admitted = Effect.andThen(leaveQueue, serving)
      const taken = permits === undefined ? admitted : permits.withPermits(1)(admitted)
      return (delay > 0 ? Effect.delay(taken, delay) : taken).pipe(
        // stopped while it waited: the peer is told, and nothing leaks
        Effect.onInterrupt(() => counted ? refused(socket, new ConnectionError.Refused({ limit: "stopping" })) : Effect.void),
        Effect.ensuring(leaveQueue)
      )
    }

    const accept = (socket: Socket.Socket) =>
      Effect.suspend(() => {
        const claimed = Deferred.makeUnsafe<void>()
        const { remote } = transportOf(socket)
        const host = remote === undefined || policy.maxConnectionsPerAddress === 0 ? undefined : hostOf(remote)
        const fromHere = host === undefined ? 0 : perAddress.get(host) ?? 0
        const serving = host !== undefined && fromHere >= policy.maxConnectionsPerAddress
          ? refused(
            socket,
            new ConnectionError.Refused({
              limit: "maxConnectionsPerAddress",
              allowed: policy.maxConnectionsPerAddress
            })
          )
          : host === undefined
          ? limited(socket, claimed)
          : Effect.suspend(() => {
            perAddress.set(host, fromHere + 1)
            return Effect.ensuring(
              limited(socket, claimed),
              Effect.sync(() => {
                const left = perAddress.get(host)! - 1
                if (left === 0) perAddress.delete(host)
                else perAddress.set(host, left)
              })
            )
          })
        // in a scope of ours, so that what ends the accept loop does not end the connections
        return serving.pipe(
          Effect.ensuring(Effect.sync(() => Deferred.doneUnsafe(claimed, Exit.void))),
          Effect.ignoreCause,
          Effect.forkIn(connections, { startImmediately: true }),
          Effect.andThen(Deferred.await(claimed))
        )
      })

    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        stopping = true
        for (const { connection } of live) {
          if (connection !== undefined) yield* connection.drainWith(new ConnectionError.GoingAway({}))
        }
        if (drain > 0) yield* Effect.timeoutOption(allGone.await, drain)
        yield* Scope.close(connections, Exit.void)
      })
    )

    let backoff = 5
    while (true) {
      const startedAt = yield* Clock.currentTimeMillis
      const cause = yield* Effect.flip(server.run(accept))
      if ((yield* Clock.currentTimeMillis) - startedAt > 1000) backoff = 5
      yield* onEvent({ _tag: "AcceptFailed", cause, retryAfter: backoff })
      yield* Effect.sleep(backoff)
      backoff = Math.min(backoff * 2, 1000)
    }
  })) as Effect.Effect<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>>

/**
 * Runs a server for as long as the layer lives; releasing the layer drains it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <In, Out, Session = void, E = never, EH = never, R = never, RH = never, RO = never>(
  options: Options<In, Out, Session, E, EH, R, RH, RO>
): Layer.Layer<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>> =>
  Layer.effectDiscard(Effect.forkScoped(run(options)))

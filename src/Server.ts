/**
 * Accepts sockets, makes connections of them within limits, and hands each one to a handler.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Backoff from "./Backoff.ts"
import type * as Connection from "./Connection.ts"
import * as ConnectionError from "./ConnectionError.ts"
import { TypeId } from "./internal/connection/handle/internals.ts"
import * as Defects from "./internal/endings/defects.ts"
import * as Cadence from "./internal/scheduling/cadence.ts"
import * as Supervised from "./internal/scheduling/supervised.ts"
import { Direct } from "./internal/transport/accepted.ts"
import { transportOf } from "./internal/transport/transport.ts"
import * as Policy from "./Policy.ts"
import type { Registry } from "./Registry.ts"

/**
 * What happens in a server: the material for logs and metrics.
 *
 * - `Opened`: the handshake is done and the handler starts.
 * - `Closed`: the connection is gone; `snapshot.reason` says why, `failure` is set when the handler failed by itself.
 * - `Refused`: no handler ran, because of a limit, a transport that did not open or a handshake that failed; `failure` is
 *   set when that was a defect, a mistake in the program: `reason` is `Defect` then.
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
   * to receive, it may finish with them for `Policy.drain`. A failure of its own closes its connection and nothing else;
   * a defect ends it with `Defect`.
   */
  readonly handle: (connection: Connection.Connection<In, Out>, session: Session) => Effect.Effect<unknown, E, R>
  /**
   * Authenticates before the handler runs, within `Policy.handshake` from the accept. What it returns is the session
   * that the handler and `names` get. A failure refuses the connection with `HandshakeFailed`, a defect with `Defect`.
   */
  readonly handshake?: ((connection: Connection.Connection<In, Out>) => Effect.Effect<Session, EH, RH>) | undefined
  /** Where connections are registered, from their handshake until they are gone. */
  readonly registry?: Registry<In, Out> | undefined
  /** Key and tags for the registry. */
  readonly names?: ((connection: Connection.Connection<In, Out>, session: Session) => Names) | undefined
  /** The server's limits: `handshake`, `drain`, `maxConnections` and those after it. */
  readonly policy?: Policy.Policy | Policy.Patch | undefined
  /** What a refused peer is told before it is closed. A WebSocket is closed with 1013 and the reason in any case. */
  readonly refusal?: ((reason: ConnectionError.Reason) => Out) | undefined
  /**
   * Told of everything that happens, and cannot be interrupted: each accepted connection gives one `Refused`, or one
   * `Opened` and then one `Closed`. Without it, failures of handlers and of accepting are logged. Defects are logged in any
   * case, and so is what it dies of itself.
   */
  readonly onEvent?: ((event: Event) => Effect.Effect<void>) | undefined
  /**
   * When to accept again after the operating system did not give us a connection. Default: after 5 ms, then twice as
   * long each time up to 1 s (as Go's `net/http`), and from the start after a second without an error. In the place of one
   * that ends, fails or throws goes the default, and the log says so once.
   */
  readonly acceptRetry?: Schedule.Schedule<unknown, SocketServer.SocketServerError> | undefined
}

const acceptRetryDefault = Backoff.exponential({ base: 5, cap: 1000, jitter: "none", resetAfter: 1000 })

/** Defects are logged where they are found. */
const logTroubles = (event: Event): Effect.Effect<void> =>
  event._tag === "Closed" && event.failure !== undefined && !Cause.hasDies(event.failure)
    ? Effect.logError(`the handler of connection ${event.snapshot.id} failed`, event.failure)
    : event._tag === "AcceptFailed"
    ? Effect.logWarning(`accepting failed, next try in ${event.retryAfter} ms`, event.cause)
    : Effect.void

/** What failed by itself, and was not only stopped. */
const failureOf = (exit: Exit.Exit<unknown, unknown>): Cause.Cause<unknown> | undefined =>
  Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? exit.cause : undefined

// milliseconds that a peer has to greet before it is told that it is refused: a round trip, also by satellite
const refusalLimit = 1000

type Limit = ConnectionError.Refused["limit"]

/** `1.2.3.4:5` and `[::1]:5` without their port; the path of a Unix socket as it is. */
const hostOf = (remote: string): string => remote.replace(/:\d+$/, "")

/** Somebody who came: from the accept until nothing is left of it. */
interface Guest<In, Out> {
  readonly socket: Socket.Socket
  readonly remote: string | undefined
  /** Told, once, that the socket has an owner: its reader is acquired, or nobody will. */
  whenClaimed: (() => void) | undefined
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** By which it is counted, where there is a limit for each address. */
  host: string | undefined
  /** Whether it has a permit. */
  admitted: boolean
  /** When it got its permit. */
  since: number
  /** From its permit to the end of its handler. */
  running: boolean
  /** Its handshake is done. */
  opened: boolean
  /** Set while it is served. */
  connection: Connection.Connection<In, Out> | undefined
  /** Which callback of the application runs, or ran last: the one that is at fault for a defect. */
  by: "open" | "handshake" | "names" | "registry" | "handle"
}

const guestOf = <In, Out>(socket: Socket.Socket, whenClaimed: () => void): Guest<In, Out> => ({
  socket,
  remote: transportOf(socket).remote,
  whenClaimed,
  fiber: undefined,
  host: undefined,
  admitted: false,
  since: 0,
  running: false,
  opened: false,
  connection: undefined,
  by: "open"
})

const placeOf = <In, Out>({ connection, remote }: Guest<In, Out>): Defects.Place => ({ id: connection?.id, remote })

/** What a guest's fiber failed with, of which a defect is logged here. */
const errorOf = <In, Out>(guest: Guest<In, Out>, failure: Cause.Cause<unknown>): Effect.Effect<unknown> =>
  Cause.hasDies(failure)
    ? Defects.errorOf(guest.by, failure as Cause.Cause<ConnectionError.ConnectionError>, placeOf(guest))
    : Effect.succeed(Cause.squash(failure))

const fibersOf = <In, Out>(guests: Iterable<Guest<In, Out>>): Array<Fiber.Fiber<unknown, unknown>> => {
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (const { fiber } of guests) if (fiber !== undefined) fibers.push(fiber)
  return fibers
}

const claim = <In, Out>(guest: Guest<In, Out>): void => {
  const { whenClaimed } = guest
  guest.whenClaimed = undefined
  whenClaimed?.()
}

/** A handshake, of whose limit so many milliseconds are left. */
const within = <A, E, R>(shaking: Effect.Effect<A, E, R>, limit: number, left: number) =>
  shaking.pipe(
    Effect.timeoutOrElse({
      duration: Math.max(0, left),
      orElse: () => Effect.fail(ConnectionError.make(new ConnectionError.HandshakeTimeout({ limit })))
    }),
    Effect.mapError((cause) =>
      cause instanceof ConnectionError.ConnectionError
        ? cause
        : ConnectionError.make(new ConnectionError.HandshakeFailed({ cause }))
    )
  )

/** Accepts, and after an error again when the schedule says so. */
const acceptAgain = <R>(
  accepting: Effect.Effect<never, SocketServer.SocketServerError, R>,
  retryAfter: Cadence.Cadence<SocketServer.SocketServerError>,
  tell: (event: Event) => Effect.Effect<void>
): Effect.Effect<never, never, R> =>
  Effect.gen(function*() {
    while (true) {
      const cause = yield* Effect.flip(accepting)
      const delay = yield* retryAfter(cause)
      yield* tell({ _tag: "AcceptFailed", cause, retryAfter: delay })
      yield* Effect.sleep(delay)
    }
  })

/** Runs the accept loop in a scope of its own: it goes on while the server drains. Killed, it is started again. */
const supervised = <R>(scope: Scope.Scope, loop: Effect.Effect<never, never, R>): Effect.Effect<never, never, R> =>
  Effect.gen(function*() {
    while (true) {
      // joined here: its exit is looked at next
      const fiber = yield* Supervised.spawnIn(scope, "accepting", loop, () => {}, { startImmediately: true })
      const exit = yield* Fiber.await(fiber)
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.failCause(exit.cause)
      yield* Effect.logError("accepting of a server ended and is restarted")
      yield* Effect.sleep("1 second")
    }
  })

/**
 * Accepts connections until it is interrupted, and then drains.
 *
 * **Details**
 *
 * - Limits come first: a connection beyond `maxConnections` waits unread, which the peer sees as back-pressure, or is
 *   refused; one beyond `maxConnectionsPerAddress` is refused. A permit is held until its connection is gone.
 * - Accept errors back off as `acceptRetry` says, and never end the server.
 * - Interrupted, it asks every connection to leave (`Connection.drainWith`), and waits for handlers and flushes up to
 *   `Policy.drain`; what is left then is ended. Those who wait for a permit, and those who come meanwhile, are refused.
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
export const run = <In, Out, Session = void, E = never, EH = never, R = never, RH = never, RO = never>(
  options: Options<In, Out, Session, E, EH, R, RH, RO>
): Effect.Effect<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>> => {
  const policy = Policy.make(options.policy)
  const drain = Duration.toMillis(policy.drain)
  const handshakeLimit = Duration.toMillis(policy.handshake) || Infinity
  const maxConnections = policy.maxConnections || Infinity
  const acceptEvery = policy.acceptRate === 0 ? 0 : 1000 / policy.acceptRate
  const onEvent = options.onEvent ?? logTroubles
  // what watches the server does not decide over it
  const tell = (event: Event): Effect.Effect<void> =>
    Effect.ignoreCause(Effect.suspend(() => onEvent(event)), { log: "Error", message: "onEvent of a server failed" })

  return Effect.scoped(Effect.gen(function*() {
    const server = yield* SocketServer.SocketServer
    const clock = yield* Clock.Clock
    const now = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
    const accepting = yield* Scope.make()
    const guests = new Set<Guest<In, Out>>()
    const perAddress = new Map<string, number>()
    const stopped = Latch.makeUnsafe(false)
    let stopping = false

    // -----------------------------------------------------------------------------------------------------------------
    // limits
    // -----------------------------------------------------------------------------------------------------------------

    let served = 0
    let waiting = 0
    // first come, first served; a Semaphore has no way to send its waiters home
    const queue = new Set<(admitted: boolean) => void>()
    // when the next connection is due, were they evenly spaced; up to a second's worth may come at once
    let nextAcceptAt = -Infinity

    /** How long the accept rate makes the next connection wait, in milliseconds. */
    const rateDelay = (at: number): number => {
      if (acceptEvery === 0) return 0
      const delay = nextAcceptAt + acceptEvery - 1000 - at
      // less than a microsecond is rounding
      return delay > 0.001 ? delay : 0
    }

    /** Counts a connection in, or names the limit that keeps it out. In one step: nobody comes between. */
    const enter = (host: string | undefined): Limit | { readonly delay: number; readonly admitted: boolean } => {
      const fromHost = host === undefined ? 0 : perAddress.get(host) ?? 0
      if (stopping) return "stopping"
      if (host !== undefined && fromHost >= policy.maxConnectionsPerAddress) return "maxConnectionsPerAddress"
      const at = now()
      const delay = rateDelay(at)
      const admitted = delay === 0 && served < maxConnections
      if (!admitted && policy.whenFull === "reject") return delay > 0 ? "acceptRate" : "maxConnections"
      if (!admitted && waiting >= policy.maxWaiting) return "maxWaiting"
      if (host !== undefined) perAddress.set(host, fromHost + 1)
      nextAcceptAt = Math.max(nextAcceptAt, at) + acceptEvery
      if (admitted) served++
      else waiting++
      return { delay, admitted }
    }

    /** True with a permit, false when the server stops. */
    const permit = Effect.callback<boolean>((resume) => {
      if (stopping) return resume(Effect.succeed(false))
      if (served < maxConnections) {
        served++
        return resume(Effect.succeed(true))
      }
      // in a task of its own: a queue of connections that end at once would be as many frames of one stack
      queue.add((admitted) => resume(Effect.as(Effect.yieldNow, admitted)))
    })
    const wait = (delay: number): Effect.Effect<boolean> =>
      (delay > 0 ? Effect.andThen(Effect.timeoutOption(stopped.await, delay), permit) : permit).pipe(
        Effect.tap(Effect.sync(() => waiting--))
      )

    /** The permit goes to whoever waits longest. */
    const leave = (): void => {
      for (const next of queue) {
        queue.delete(next)
        return next(true)
      }
      served--
    }
    const leaveHost = (host: string | undefined): void => {
      if (host === undefined) return
      const left = perAddress.get(host)! - 1
      if (left === 0) perAddress.delete(host)
      else perAddress.set(host, left)
    }

    // -----------------------------------------------------------------------------------------------------------------
    // one connection; its fiber is interruptible only where it waits for the peer or runs what is not ours
    // -----------------------------------------------------------------------------------------------------------------

    const refuse = (guest: Guest<In, Out>, limit: Limit) => {
      const reason = new ConnectionError.Refused(limit === "stopping" ? { limit } : { limit, allowed: policy[limit] })
      // a protocol may wait for its peer to speak first, and that one is not worth waiting for
      const open = Effect.timeoutOption(Effect.suspend(() => options.open(guest.socket)), refusalLimit)
      return Effect.flatMap(open, (opened) => {
        claim(guest)
        if (Option.isNone(opened)) return Effect.void
        const connection = opened.value
        const refusal = options.refusal
        return Effect.andThen(
          refusal === undefined ? Effect.void : Effect.catchCause(
            Effect.suspend(() => connection.send(refusal(reason))),
            (cause) => Defects.logged("refusal", cause, { id: connection.id, remote: guest.remote })
          ),
          connection.closeWith(reason)
        )
      }).pipe(
        Effect.scoped,
        Effect.interruptible,
        Effect.catchCause((cause) => Defects.logged("open", cause, placeOf(guest))),
        Effect.andThen(tell({ _tag: "Refused", remote: guest.remote, reason, failure: undefined }))
      )
    }

    /** A connection is open: its handshake, its registration, its handler. Interrupted when the connection is gone. */
    const converse = (guest: Guest<In, Out>, connection: Connection.Connection<In, Out>, registration: Scope.Scope) => {
      guest.connection = connection
      if (guest.fiber !== undefined) connection[TypeId].handledBy(guest.fiber)
      guest.by = "handshake"
      claim(guest)
      // accepted while stopping: it ends before its handshake
      if (stopping) return connection.closeWith(new ConnectionError.Refused({ limit: "stopping" }))
      connection[TypeId].onGone(() => {
        if (guest.running) guest.fiber?.interruptUnsafe()
      })
      return options.handshake === undefined
        ? admitted(guest, connection, undefined as Session, registration)
        : Effect.flatMap(
          within(options.handshake(connection), handshakeLimit, guest.since + handshakeLimit - now()),
          (session) => admitted(guest, connection, session, registration)
        )
    }

    /** It may talk: its registration, its handler. */
    const admitted = (
      guest: Guest<In, Out>,
      connection: Connection.Connection<In, Out>,
      session: Session,
      registration: Scope.Scope
    ) => {
      const { registry } = options
      const handled = Effect.suspend(() => {
        guest.by = "handle"
        return options.handle(connection, session)
      })
      const announced = options.onEvent === undefined
        ? Effect.suspend(() => {
          guest.opened = true
          return handled
        })
        : Effect.andThen(
          Effect.uninterruptible(Effect.flatMap(connection.snapshot, (snapshot) => {
            guest.opened = true
            return tell({ _tag: "Opened", snapshot })
          })),
          handled
        )
      if (registry === undefined) return announced
      const registered = Effect.suspend(() => {
        guest.by = "names"
        const names = options.names?.(connection, session)
        guest.by = "registry"
        return registry.add(connection, names)
      })
      return Effect.andThen(Scope.provide(registered, registration), announced)
    }

    /** Tells what became of a connection. `error` is what `failure` means. */
    const told = (guest: Guest<In, Out>, failure?: Cause.Cause<unknown>, error?: unknown): Effect.Effect<void> => {
      const { connection, remote } = guest
      const reason = error instanceof ConnectionError.ConnectionError ? error.reason : undefined
      // only a mistake in the program is more than its reason
      const defect = reason?._tag === "Defect" ? failure : undefined
      if (connection === undefined) {
        const refused = failure === undefined
          ? new ConnectionError.Refused({ limit: "stopping" })
          : new ConnectionError.OpenFailed({ cause: error })
        return tell({ _tag: "Refused", remote, reason: reason ?? refused, failure: defect })
      }
      if (guest.opened && failure === undefined && options.onEvent === undefined) return Effect.void
      return Effect.flatMap(connection.snapshot, (snapshot) => {
        if (guest.opened) return tell({ _tag: "Closed", snapshot, failure })
        const refused = failure === undefined
          ? snapshot.reason ?? new ConnectionError.Refused({ limit: "stopping" })
          : new ConnectionError.HandshakeFailed({ cause: error })
        return tell({ _tag: "Refused", remote, reason: reason ?? refused, failure: defect })
      })
    }

    /** As `told`, for a failure whose meaning is not known yet. */
    const judged = (guest: Guest<In, Out>, failure: Cause.Cause<unknown> | undefined): Effect.Effect<void> =>
      failure === undefined
        ? told(guest)
        : Effect.flatMap(errorOf(guest, failure), (error) => told(guest, failure, error))

    /** The conversation is over: its scope and its registration are closed. */
    const conclude = (
      guest: Guest<In, Out>,
      scope: Scope.Closeable,
      registration: Scope.Closeable,
      ended: Exit.Exit<unknown, unknown>
    ): Effect.Effect<void> => {
      guest.running = false
      // the registry's scope is the outer one, so that it remembers the connection as it ended
      const close = (exit: Exit.Exit<unknown, unknown>) =>
        Effect.exit(Effect.ensuring(Scope.close(scope, exit), Scope.close(registration, exit)))
      const failure = failureOf(ended)
      if (failure === undefined) return Effect.flatMap(close(ended), (closed) => judged(guest, failureOf(closed)))
      return Effect.flatMap(errorOf(guest, failure), (error) => {
        const { connection } = guest
        if (connection === undefined || !(error instanceof ConnectionError.ConnectionError)) {
          return Effect.andThen(close(ended), told(guest, failure, error))
        }
        // the end of the connection is no failure of its handler; any other connection error closes it with that reason
        return Effect.exit(Effect.interruptible(connection.closeWith(error.reason))).pipe(
          Effect.flatMap(close),
          Effect.flatMap((closed) =>
            Cause.hasDies(failure) ? told(guest, failure, error) : judged(guest, failureOf(closed))
          )
        )
      })
    }

    /** One connection, from its permit to its end. No generators: those would stay for as long as it lives. */
    const serve = (guest: Guest<In, Out>) => {
      guest.since = now()
      guest.running = true
      const registration = Scope.makeUnsafe()
      const scope = Scope.makeUnsafe()
      const opened = Effect.suspend(() => options.open(guest.socket))
      const conversation = Effect.flatMap(opened, (connection) => converse(guest, connection, registration))
      return Effect.flatMap(
        Effect.exit(Effect.interruptible(Scope.provide(conversation, scope))),
        (exit) => conclude(guest, scope, registration, exit)
      )
    }

    const attend = (guest: Guest<In, Out>) => {
      if (guest.remote !== undefined && policy.maxConnectionsPerAddress > 0) guest.host = hostOf(guest.remote)
      const entered = enter(guest.host)
      if (typeof entered === "string") {
        guest.host = undefined
        return refuse(guest, entered)
      }
      guest.admitted = entered.admitted
      if (entered.admitted) return serve(guest)
      return Effect.flatMap(wait(entered.delay), (admitted) => {
        guest.admitted = admitted
        return admitted ? serve(guest) : refuse(guest, "stopping")
      })
    }

    const forget = (guest: Guest<In, Out>): void => {
      guests.delete(guest)
      if (guest.admitted) leave()
      leaveHost(guest.host)
      claim(guest)
    }

    // in a fiber of ours: an accept error, or the end of the accept loop, does not end the connections that are alive, and
    // `SocketServer.run` interrupts what it started when it ends
    const receive = (
      socket: Socket.Socket,
      context: Context.Context<R | RH | RO>,
      whenClaimed: () => void
    ): void => {
      const guest: Guest<In, Out> = guestOf(socket, whenClaimed)
      guests.add(guest)
      const life = Effect.withFiber((fiber) => {
        guest.fiber = fiber
        return attend(guest)
      })
      const ended = (exit: Exit.Exit<void>): void => {
        if (Exit.isFailure(exit)) {
          Defects.logNow(context as Context.Context<never>, guest.by, exit.cause, placeOf(guest))
        }
        forget(guest)
      }
      Supervised.spawn(context, "guest of a server", life as Effect.Effect<void, never, R | RH | RO>, ended, {
        uninterruptible: true
      })
    }

    const accept = Object.assign(
      (socket: Socket.Socket) =>
        Effect.contextWith((context: Context.Context<R | RH | RO>) =>
          Effect.callback<void>((resume) => receive(socket, context, () => resume(Effect.void)))
        ),
      { [Direct]: receive }
    )

    // -----------------------------------------------------------------------------------------------------------------
    // the server
    // -----------------------------------------------------------------------------------------------------------------

    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        stopping = true
        // whoever comes from now on is refused, and not waited for
        const present = Array.from(guests)
        stopped.openUnsafe()
        for (const next of queue) next(false)
        queue.clear()
        for (const { connection } of present) {
          if (connection !== undefined) yield* connection.drainWith(new ConnectionError.GoingAway({}))
        }
        if (drain > 0) yield* Effect.timeoutOption(Fiber.awaitAll(fibersOf(present)), drain)
        yield* Scope.close(accepting, Exit.void)
        yield* Fiber.interruptAll(fibersOf(guests))
      })
    )

    const retryAfter = yield* Cadence.make("accepting", options.acceptRetry ?? acceptRetryDefault, acceptRetryDefault)
    return yield* supervised(accepting, acceptAgain(server.run(accept), retryAfter, tell))
  })) as Effect.Effect<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>>
}

/**
 * Runs a server for as long as the layer lives; releasing the layer drains it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <In, Out, Session = void, E = never, EH = never, R = never, RH = never, RO = never>(
  options: Options<In, Out, Session, E, EH, R, RH, RO>
): Layer.Layer<never, never, SocketServer.SocketServer | Exclude<R | RH | RO, Scope.Scope>> => {
  const running = Effect.catchCause(
    run(options),
    (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.andThen(Effect.logFatal("the server died", cause), Effect.never)
  )
  return Layer.effectDiscard(Supervised.restarted("a server", running))
}

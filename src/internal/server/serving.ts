/** An admitted guest, from its opening to its end: handshake, registration, handler. No generators: those live as long. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { ParentSpan } from "effect/Tracer"
import * as ConnectionError from "../../ConnectionError.ts"
import { AtServer } from "../connection/core/limits.ts"
import { TypeId } from "../connection/handle/internals.ts"
import * as Defects from "../endings/defects.ts"
import { handshakeFailure } from "../endings/timeLimit.ts"
import { oneLine } from "../reasons/text.ts"
import { isLogged, loggedEnd } from "./logs.ts"
import { type Guest, placeOf, type Served, type ServerState, stopping } from "./state.ts"

/** What failed by itself, and was not only interrupted. */
const failureOf = (exit: Exit.Exit<unknown, unknown>): Cause.Cause<unknown> | undefined =>
  Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? exit.cause : undefined

/** What a guest's fiber failed with. A defect is logged here. */
const errorOf = (guest: Guest<Served<never>>, failure: Cause.Cause<unknown>): Effect.Effect<unknown> =>
  Cause.hasDies(failure)
    ? Defects.errorOf(guest.by, failure as Cause.Cause<ConnectionError.ConnectionError>, placeOf(guest))
    : Effect.succeed(Cause.squash(failure))

/** Its handler starts next: counted once. */
const opens = <C extends Served<Out>, Out, Session, R>(
  { counts, now, opened, telemetry }: ServerState<C, Out, Session, R>,
  guest: Guest<C>
): void => {
  if (guest.isOpened) return
  guest.isOpened = true
  guest.inTime()
  opened.count++
  counts.opening--
  guest.connection?.[TypeId].span?.event("handshake", { after: Math.round(now() - guest.since) })
  telemetry?.collector.observe("server_handshake_seconds", (now() - guest.since) / 1000)
}

/**
 * Its logs say of which connection they are, and its spans are in that of the connection. The fiber has nothing to go back
 * to before `serve` does: a context that is provided for one effect costs half a kilobyte for as long as that runs.
 */
const placed = <C extends Served<Out>, Out, Session, R>(
  { application }: ServerState<C, Out, Session, R>,
  { fiber, key, remote }: Guest<C>,
  connection: C
): void => {
  if (fiber === undefined) return
  const { span } = connection[TypeId]
  let context = fiber.context
  if (span !== undefined) context = Context.add(context, ParentSpan, span.span)
  if (application.logs !== false) {
    context = Context.add(context, References.CurrentLogAnnotations, {
      ...Context.get(context, References.CurrentLogAnnotations),
      connection: connection.id,
      ...(key === undefined ? {} : { key: oneLine(key) }),
      ...(remote === undefined ? {} : { remote: oneLine(remote) })
    })
  }
  fiber.setContext(context)
}

/** Announces the connection, and runs its handler. */
const handled = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  guest: Guest<C>,
  connection: C,
  session: Session
) => {
  const run = Effect.suspend(() => {
    guest.by = "handle"
    opens(server, guest)
    placed(server, guest, connection)
    return server.application.handle(connection, session)
  })
  return server.application.onEvent === undefined ? run : Effect.andThen(
    Effect.uninterruptible(Effect.flatMap(connection.snapshot, (snapshot) => {
      opens(server, guest)
      return server.tell({ _tag: "Opened", snapshot })
    })),
    run
  )
}

/** Registers a connection whose handshake is done. */
const registered = <C extends Served<Out>, Out, Session, R>(
  { application: { names, registry } }: ServerState<C, Out, Session, R>,
  guest: Guest<C>,
  connection: C,
  session: Session,
  registration: Scope.Scope
) => {
  guest.by = "names"
  const called = names?.(connection, session)
  guest.key = called?.key
  guest.by = "registry"
  return Scope.provide(registry!.add(connection, called, session), registration)
}

/** What has to be done before the handler runs. Returns the session. */
const introduced = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  guest: Guest<C>,
  connection: C,
  registration: Scope.Scope
): Effect.Effect<Session, ConnectionError.ConnectionError, R> => {
  const { application: { handshake, registry } } = server
  const joined = (session: Session) =>
    registry === undefined
      ? Effect.succeed(session)
      : Effect.as(registered(server, guest, connection, session, registration), session)
  return handshake === undefined
    ? joined(undefined as Session)
    : Effect.flatMap(Effect.mapError(Effect.suspend(() => handshake(connection)), handshakeFailure), joined)
}

/** The connection is open: its handshake, its registration, its handler. Interrupted when the connection is gone. */
const opened = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  guest: Guest<C>,
  connection: C,
  registration: Scope.Scope
) => {
  const { admission } = server
  guest.connection = connection
  guest.by = "handshake"
  guest.claim()
  // accepted while the server stops: it ends before its handshake
  if (admission.isStopping) return connection.closeWith(stopping)
  connection[TypeId].handledBy(guest)
  return Effect.flatMap(
    introduced(server, guest, connection, registration),
    (session) => handled(server, guest, connection, session)
  )
}

/** Tells what became of a connection. `error` is what `failure` means. */
const told = <C extends Served<Out>, Out, Session, R>(
  { application, tell }: ServerState<C, Out, Session, R>,
  { connection, isOpened, remote }: Guest<C>,
  failure?: Cause.Cause<unknown>,
  error?: unknown
): Effect.Effect<void> => {
  const refused = (otherwise: ConnectionError.Reason): Effect.Effect<void> => {
    const reason = error instanceof ConnectionError.ConnectionError ? error.reason : otherwise
    // only a mistake in the program is more than its reason
    return tell({ _tag: "Refused", remote, reason, failure: reason._tag === "Defect" ? failure : undefined })
  }
  if (connection === undefined) {
    return refused(failure === undefined ? stopping : new ConnectionError.OpenFailed({ cause: error }))
  }
  const hasNews = failure !== undefined || application.onEvent !== undefined || isLogged(connection[TypeId].reason)
  const log = application.logs === false ? Effect.void : loggedEnd(connection[TypeId])
  if (isOpened && !hasNews) return log
  return Effect.flatMap(connection.snapshot, (snapshot) =>
    isOpened
      ? Effect.andThen(log, tell({ _tag: "Closed", snapshot, failure }))
      : refused(
        failure === undefined ? snapshot.reason ?? stopping : new ConnectionError.HandshakeFailed({ cause: error })
      ))
}

/** As `told`, for a failure whose meaning is not known yet. */
const judged = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  guest: Guest<C>,
  failure: Cause.Cause<unknown> | undefined
): Effect.Effect<void> =>
  failure === undefined
    ? told(server, guest)
    : Effect.flatMap(errorOf(guest, failure), (error) => told(server, guest, failure, error))

/** The handler has ended, or never ran: closes the scopes of the connection and of its registration. */
const conclude = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  guest: Guest<C>,
  scope: Scope.Closeable,
  registration: Scope.Closeable,
  ended: Exit.Exit<unknown, unknown>
): Effect.Effect<void> => {
  guest.isRunning = false
  guest.inTime()
  // the registry's scope is the outer one, so that it remembers the connection as it ended
  const close = (exit: Exit.Exit<unknown, unknown>) =>
    Effect.exit(Effect.ensuring(Scope.close(scope, exit), Scope.close(registration, exit)))
  const { lateness } = guest
  const failure = lateness === undefined ? failureOf(ended) : Cause.fail(lateness)
  if (failure === undefined) {
    return Effect.flatMap(close(ended), (closed) => judged(server, guest, failureOf(closed)))
  }
  return Effect.flatMap(errorOf(guest, failure), (error) => {
    const { connection } = guest
    if (connection === undefined || !(error instanceof ConnectionError.ConnectionError)) {
      return Effect.andThen(close(ended), told(server, guest, failure, error))
    }
    // the end of the connection is no failure of its handler; any other connection error closes it with that reason
    const closing = connection.closeWith(error.reason)
    // a fiber that was interrupted for being late would not get as far as the reason
    return Effect.exit(guest.isLate ? closing : Effect.interruptible(closing)).pipe(
      Effect.flatMap(close),
      Effect.flatMap((closed) =>
        Cause.hasDies(failure)
          ? told(server, guest, failure, error)
          : judged(server, guest, failureOf(closed))
      )
    )
  })
}

/** Serves a guest until its connection is gone and the application was told. */
export const serve = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  guest: Guest<C>
) => {
  guest.since = guest.arrival?.since ?? server.now()
  guest.isRunning = true
  if (server.handshakeLimit < Infinity) server.turns.scheduleTask(guest)
  const registration = Scope.makeUnsafe()
  const scope = Scope.makeUnsafe()
  // what is made in here is not kept by what waits for its exit
  const conversation = Effect.suspend(() => {
    const inside = Context.add(guest.fiber!.context, Scope.Scope, scope)
    guest.fiber!.setContext(Context.add(inside, AtServer, guest))
    return Effect.interruptible(Effect.flatMap(server.application.open(guest.socket), (connection) => {
      guest.fiber!.setContext(inside)
      return opened(server, guest, connection, registration)
    }))
  })
  return Effect.flatMap(Effect.exit(conversation), (exit) => {
    guest.fiber!.setContext(server.context)
    return conclude(server, guest, scope, registration, exit)
  })
}

/** Accepts until it is interrupted, again after an error, and then stops. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type { Policy } from "../../Policy.ts"
import { limitOf } from "../connection/core/limits.ts"
import { Refusing } from "../endings/refusing.ts"
import { Reports } from "../endings/reports.ts"
import { type Budget, CurrentBudget } from "../memory/budget.ts"
import { budgetIn, watchBudget } from "../memory/ofServer.ts"
import { logLine } from "../reasons/logs.ts"
import { Fifo } from "../scheduling/fifo.ts"
import * as Cadence from "../scheduling/scheduleSteps.ts"
import * as Supervised from "../scheduling/supervised.ts"
import { schedulingOf } from "../scheduling/timers.ts"
import { telemetryOf, watched } from "../telemetry/telemetry.ts"
import { type Accepting, Direct, LastAccept, type Reception } from "../transport/accepted.ts"
import { Admission } from "./admission.ts"
import { begin, figures } from "./draining.ts"
import { receive } from "./guest.ts"
import { logged } from "./logs.ts"
import { Arrival, reasonOf, Refusals } from "./reception.ts"
import { type Application, type Draining, type Event, type Served, type ServerState, stopping } from "./state.ts"
import { stop } from "./stopping.ts"

const logDrain = ({ left, limit, after, states }: Draining): Effect.Effect<void> => {
  const parts = Object.entries(states).filter(([, count]) => count > 0).map(([state, count]) => `${count} ${state}`)
  const rest = Math.ceil((limit - after) / 1000)
  return logLine("Info", `stopping: ${left} connections are left (${parts.join(", ")}), ${rest} s to go`)
}

const make = <C extends Served<Out>, Out, Session, R>(
  application: Application<C, Out, Session, R>,
  policy: Policy,
  context: Context.Context<never>,
  budget: Budget | undefined
): ServerState<C, Out, Session, R> => {
  const { timers, turns } = schedulingOf(context)
  const reports = new Reports(context)
  const { logs = true, onEvent } = application
  const counts = { opening: 0, failed: 0 }
  const refusals = new Refusals(
    timers,
    logs ? (text) => void reports.run("log of a server", () => logLine("Warn", text)) : undefined
  )
  // in a fiber of its own: one that is waited for where nothing can be interrupted ends with the server all the same
  const hear = (event: Event): Effect.Effect<void> =>
    Effect.suspend(() => {
      const heard = reports.run("onEvent of a server", () => onEvent!(event))
      return heard.pollUnsafe() === undefined ? Effect.asVoid(Fiber.await(heard)) : Effect.void
    })
  const notify = (event: Event): Effect.Effect<void> => {
    const heard = onEvent === undefined ? Effect.void : hear(event)
    if (event._tag === "AcceptFailed") counts.failed++
    if (event._tag !== "Refused") return heard
    return Effect.suspend(() => {
      refusals.add(event.reason)
      return heard
    })
  }
  const tell = (event: Event): Effect.Effect<void> =>
    logs ? Effect.andThen(logged(event), notify(event)) : notify(event)
  const onDrain = application.onDrain ?? (logs ? logDrain : () => Effect.void)
  return {
    application,
    policy,
    context: Context.omit(Scope.Scope)(context),
    handshakeLimit: limitOf(policy, "handshake"),
    turns,
    now: timers.now,
    at: (time, run) => timers.at(time, run),
    admission: new Admission(policy, timers, budget),
    guests: new Fifo(),
    tell,
    endReports: reports.end(0),
    refusals,
    opened: { count: 0 },
    counts,
    telemetry: telemetryOf(context),
    progress: (draining) => void reports.run("onDrain of a server", () => onDrain(draining)),
    report: (event) => void reports.run("refusal of a server", () => notify(event))
  }
}

/** Tells the application of what the memory of its connections comes to, and lets new ones in again. */
const watchMemory = <C extends Served<Out>, Out, Session, R>(
  { admission, report }: ServerState<C, Out, Session, R>,
  budget: Budget
): Effect.Effect<void, never, Scope.Scope> => {
  const tell = (_tag: "MemoryTight" | "MemoryFreed") => report({ _tag, held: budget.held, limit: budget.limit })
  return watchBudget(budget, {
    tight: () => tell("MemoryTight"),
    freed: () => {
      tell("MemoryFreed")
      admission.memoryFreed()
    }
  })
}

/** What a listener of ours asks, from the accept of a connection on. */
const reception = <C extends Served<Out>, Out, Session, R>(server: ServerState<C, Out, Session, R>): Reception => ({
  admit: (remote, onTurn) => new Arrival(server, remote, onTurn),
  turnedAway: (remote, failure) =>
    server.report({ _tag: "Refused", remote, reason: reasonOf(failure), failure: undefined }),
  receive: (socket, context, whenClaimed, arriving) =>
    receive(server, socket, context as Context.Context<R>, whenClaimed, arriving as Arrival | undefined)
})

/** What the listener gives its sockets to: one of ours calls `Direct`, in the event that brings a connection. */
const acceptor = <C extends Served<Out>, Out, Session, R>(
  server: ServerState<C, Out, Session, R>,
  direct: Reception
) =>
  Object.assign(
    (socket: Socket.Socket): Effect.Effect<void, never, R> =>
      Effect.contextWith((context: Context.Context<R>) =>
        Effect.callback<void>((resume) => receive(server, socket, context, () => resume(Effect.void)))
      ),
    { [Direct]: direct }
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
      yield* logLine("Error", "accepting of a server ended and is restarted")
      yield* Effect.sleep("1 second")
    }
  })

/** Runs a server. `acceptRetry` takes the place of one that ends, fails or throws with `acceptRetryDefault`. */
export const run = <C extends Served<Out>, Out, Session, R>(
  application: Application<C, Out, Session, R>,
  policy: Policy,
  acceptRetry: Schedule.Schedule<unknown, SocketServer.SocketServerError> | undefined,
  acceptRetryDefault: Schedule.Schedule<unknown, SocketServer.SocketServerError>,
  watch: (server: ServerState<C, Out, Session, R>) => void
): Effect.Effect<never, never, SocketServer.SocketServer | R> =>
  Effect.scoped(Effect.gen(function*() {
    const listener = yield* SocketServer.SocketServer
    const context = yield* Effect.context<never>()
    const budget = budgetIn(context, limitOf(policy, "memory"), limitOf(policy, "writeStall"))
    const server = make(application, policy, context, budget)
    if (budget !== undefined) yield* watchMemory(server, budget)
    const accepting = yield* Scope.make()
    const direct = reception(server)
    begin()
    watch(server)
    yield* watched((add) => figures(server, add))
    const lastAccept = (listener as Accepting)[LastAccept]?.(direct)
    yield* Effect.addFinalizer(() => stop(server, lastAccept, Scope.close(accepting, Exit.void)))
    const retryAfter = yield* Cadence.make("accepting", acceptRetry ?? acceptRetryDefault, acceptRetryDefault)
    const running = listener.run(acceptor(server, direct)).pipe(
      Effect.provideService(Refusing, () => server.admission.isLeaving ? stopping : undefined),
      Effect.provideService(CurrentBudget, budget)
    )
    return yield* supervised(accepting, acceptAgain(running, retryAfter, server.tell))
  }))

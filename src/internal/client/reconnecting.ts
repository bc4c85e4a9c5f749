/** The reconnect loop: one fiber runs one session after the other, and closes the client when none may follow. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { errorNow } from "../endings/defects.ts"
import { spawn } from "../scheduling/supervised.ts"
import { monotonic } from "../scheduling/timers.ts"
import { telemetryOf, watched } from "../telemetry/telemetry.ts"
import { greets } from "./greeting.ts"
import { kept } from "./receiving.ts"
import { renewed, session, type SessionOptions } from "./session.ts"
import type { AnyConnection, ClientCells } from "./state.ts"

type Failure = ConnectionError.ConnectionError

export interface ReconnectOptions<C, out R> extends Omit<SessionOptions<C, R>, "telemetry"> {
  /** One for each address. */
  readonly opens: ReadonlyArray<Effect.Effect<C, Failure, R>>
  /** When to try again: its delay follows each round of the addresses. */
  readonly reconnect: Schedule.Schedule<unknown, Failure, unknown>
  /** Whether to try again. */
  readonly isRetryable: (error: Failure) => boolean
}

/** Sleeps before the next try, or until `Client.retryNow`. */
const waiting = <C>(
  cells: ClientCells<C>,
  attempt: number,
  delay: Duration.Duration,
  error: Failure
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const asked = Deferred.makeUnsafe<void>()
    cells.retry = () => Deferred.doneUnsafe(asked, Exit.void)
    cells.renew = Effect.sync(cells.retry)
    cells.publish({ _tag: "Waiting", attempt, delay, error, ...cells.takeLost() })
    // whole milliseconds: a rest too short for the clock to tell would come at once
    return Effect.raceFirst(Effect.sleep(Math.ceil(Duration.toMillis(delay))), Deferred.await(asked))
  })

/** Ends with the reason to close. */
const loop = Effect.fnUntraced(function*<C extends AnyConnection, R>(
  cells: ClientCells<C>,
  options: ReconnectOptions<C, R> & SessionOptions<C, R>
): Effect.fn.Return<Failure, never, Exclude<R, Scope.Scope>> {
  const { isRetryable, opens, policy } = options
  const clock = yield* Clock.Clock
  const now = monotonic(clock)
  const step = yield* Schedule.toStep(options.reconnect)
  const stable = Duration.toMillis(policy.retryResetAfter)
  let attempt = 1
  let index = 0
  // addresses of this round that were not tried
  let left = opens.length
  while (true) {
    const { error, livedFor } = yield* session(cells, opens[index]!, options, now)
    cells.sources = yield* kept(cells.sources, policy)
    cells.running = "isRetryable"
    if (cells.isClosing || error.reason._tag === "Defect") return error
    if (error.reason !== renewed.reason && !isRetryable(error)) return error
    const isStable = livedFor !== undefined && livedFor >= stable
    index = isStable ? 0 : (index + 1) % opens.length
    left--
    if (cells.isRenewing) {
      // what was lost is counted in a state of its own, which takes no time
      cells.publish({ _tag: "Waiting", attempt: 1, delay: Duration.zero, error, ...cells.takeLost() })
      attempt = 1
      left = opens.length
      cells.publish({ _tag: "Connecting", attempt })
      continue
    }
    if (livedFor === undefined && left > 0) continue
    cells.running = "reconnect"
    const next = yield* Effect.option(step(clock.currentTimeMillisUnsafe(), error))
    if (next._tag === "None") return error
    attempt = isStable ? 1 : attempt + 1
    left = opens.length
    options.telemetry?.collector.count("client_reconnects_total", 1)
    options.telemetry?.collector.observe("client_reconnect_delay_seconds", Duration.toSeconds(next.value[1]))
    yield* waiting(cells, attempt, next.value[1], error)
    cells.retry = undefined
    cells.publish({ _tag: "Connecting", attempt })
  }
})

const localClose = () => ConnectionError.make(new ConnectionError.Closed({ by: "local" }))

/** Starts the loop, owned by the scope. Returns `close`, and `closed`, which fails with the reason. */
export const reconnecting = Effect.fnUntraced(function*<C extends AnyConnection, R>(
  cells: ClientCells<C>,
  options: ReconnectOptions<C, R>
) {
  const context = yield* Effect.context<Exclude<R, Scope.Scope>>()
  const scope = yield* Effect.scope
  let fiber: Fiber.Fiber<Failure> | undefined = undefined
  const { closed } = cells
  // it does not wait for itself: within a try, that ends once its fiber is let go
  const abort = Effect.suspend(() => {
    cells.isClosing = true
    if (fiber === undefined) return Effect.void
    fiber.interruptUnsafe()
    return Effect.ignore(Effect.andThen(greets(cells), closed))
  })
  const close = Effect.suspend(() => {
    cells.isClosing = true
    return cells.connected === undefined ? abort : Effect.andThen(cells.connected.close, abort)
  })
  yield* Scope.addFinalizerExit(scope, (exit) => Exit.isSuccess(exit) ? close : abort)
  // however it ends, even before it began: no sender and no receiver is left waiting
  const running = Effect.suspend(() =>
    cells.isClosing
      ? Effect.succeed(localClose())
      : loop(cells, { ...options, telemetry: telemetryOf(context) })
  )
  fiber = spawn(context, "client", running, (exit) => {
    const error = Exit.isSuccess(exit) ? exit.value : errorNow(context, cells.running, exit.cause)
    cells.finish(cells.isClosing || Exit.hasInterrupts(exit) ? localClose() : error)
  })
  // its own first try may have closed the scope meanwhile
  if (cells.isClosing) fiber.interruptUnsafe()

  yield* watched((add) => {
    const { _tag } = cells.state
    if (_tag !== "Closed") add("clients", 1, _tag.toLowerCase())
  })
  return { close, closed }
})

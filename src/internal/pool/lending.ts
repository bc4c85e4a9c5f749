/** What takes time in a pool: dialling, checking, lending, and the fiber that looks at what is due. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { defectNow, errorOf } from "../reasons/defects.ts"
import * as Cadence from "../scheduling/cadence.ts"
import { kept } from "../scheduling/supervised.ts"
import { turnsOf } from "../scheduling/turns.ts"
import type { Environment, Happening, Item, PoolLimits, Resource, Waiter } from "./model.ts"
import { Pool } from "./pool.ts"

type Failure = ConnectionError.ConnectionError

export interface Limits extends PoolLimits {
  readonly dial: number
  readonly checkTimeout: number
}

export interface Options<A, R> {
  readonly limits: Limits
  readonly isUsable: (value: A) => boolean
  readonly ended: (value: A) => Effect.Effect<Failure>
  readonly check: ((value: A) => Effect.Effect<unknown, unknown, R>) | undefined
  readonly isReusable: ((exit: Exit.Failure<unknown, unknown>) => boolean) | undefined
  readonly onEvent: ((event: Happening<A>) => Effect.Effect<unknown, unknown, R>) | undefined
  readonly place: Resource<A>["place"]
  readonly condemn: Resource<A>["condemn"]
  readonly retry: Schedule.Schedule<unknown, Failure> | undefined
  readonly refill: Schedule.Schedule<unknown, Failure>
  /** Takes the place of a `refill` that fails or dies. */
  readonly refillDefault: Schedule.Schedule<unknown, Failure>
  readonly sweep: Schedule.Schedule<unknown, number> | undefined
}

export interface Running<A> {
  readonly core: Pool<A>
  /** Ends the fiber that looks at what is due. */
  readonly stop: () => void
}

/** What the pools of one constructor have in common. */
export interface Lending<A> {
  /** For pools to come, and for the deadlines of dials and checks of all of them. */
  readonly setLimits: (limits: Limits) => Limits
  readonly start: (
    open: Effect.Effect<A, Failure, Scope.Scope>,
    extra?: Pick<Environment<A>, "shared" | "onEmpty">
  ) => Running<A>
  /** `pool` is asked in the same step as it is borrowed from. */
  readonly use: <B, E, R>(pool: () => Pool<A>, f: (value: A) => Effect.Effect<B, E, R>) => Effect.Effect<
    B,
    E | Failure,
    R
  >
  readonly get: (pool: () => Pool<A>) => Effect.Effect<A, Failure, Scope.Scope>
  readonly now: () => number
}

/** The delay is what it is given: how many milliseconds are left until something is due. */
const untilDue: Schedule.Schedule<unknown, number> = Schedule.fromStep(
  Effect.succeed((_: number, due: number) => Effect.succeed([due, Duration.millis(Math.ceil(due))]))
)

/** Looks at what is due, rests for as long as the schedule says, and looks again: one timer per pool, never one per item. */
const sweeping = Effect.fnUntraced(function*<A, R>(core: Pool<A>, options: Options<A, R>, now: () => number) {
  const refill = yield* Cadence.make("the refill of a pool", options.refill, options.refillDefault, { mayEnd: true })
  const sweep = yield* Cadence.make("the sweep of a pool", options.sweep ?? untilDue, untilDue)
  let planned = -Infinity
  while (true) {
    core.wake.close()
    core.sweep()
    if (core.lost !== undefined) {
      const delay = yield* refill(core.lost)
      core.refillAt = now() + Math.ceil(delay)
      core.lost = undefined
      continue
    }
    const at = now()
    const due = Math.max(0, core.nextDue() - at)
    // what becomes due while the schedule is asked wakes this
    core.sweepAt = Infinity
    const next = at + (yield* sweep(due))
    // woken early: a rest may become shorter, and not begin again and again
    planned = at < planned ? Math.min(planned, next) : next
    core.sweepAt = planned
    const rest = planned - now()
    yield* rest === Infinity
      ? core.wake.await
      : Effect.raceFirst(Effect.sleep(Math.max(1, Math.ceil(rest))), core.wake.await)
  }
})

const within = <B, E, R>(effect: Effect.Effect<B, E, R>, limit: number): Effect.Effect<B, E | Failure, R> =>
  limit === Infinity ? effect : Effect.timeoutOrElse(effect, {
    duration: limit,
    orElse: () => Effect.fail(ConnectionError.make(new ConnectionError.OpenTimeout({ limit })))
  })

export const make = Effect.fnUntraced(function*<A, R>(
  options: Options<A, R>
): Effect.fn.Return<Lending<A>, never, R> {
  const context = yield* Effect.context<R>()
  const clock = yield* Clock.Clock
  const random = yield* Random.Random
  const turns = turnsOf(yield* Scheduler.Scheduler)
  const now = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
  const { condemn, ended, isReusable, isUsable, place, retry } = options
  const check = options.check as ((value: A) => Effect.Effect<unknown, unknown>) | undefined
  const onEvent = options.onEvent as ((event: Happening<A>) => Effect.Effect<unknown, unknown>) | undefined
  let limits = options.limits

  /** One try. What it opened has an owner in the same step, before an interruption is looked at. */
  const attempt = (
    open: Effect.Effect<A, Failure, Scope.Scope>,
    take: (value: A, scope: Scope.Closeable) => void
  ): Effect.Effect<void, Failure> =>
    Effect.uninterruptibleMask((restore) => {
      const scope = Scope.makeUnsafe()
      return restore(within(Scope.provide(open, scope), limits.dial)).pipe(
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause))),
        Effect.catchCause((cause) =>
          Cause.hasDies(cause) ? Effect.flatMap(errorOf("open", cause), Effect.fail) : Effect.failCause(cause)
        ),
        Effect.map((value) => take(value, scope))
      )
    })

  const release = (core: Pool<A>, item: Item<A>, lease: number, exit: Exit.Exit<unknown, unknown>): void => {
    let reusable = exit._tag === "Success"
    let defect: Failure | undefined
    if (exit._tag === "Failure" && isReusable !== undefined) {
      try {
        reusable = isReusable(exit)
      } catch (thrown) {
        defect = defectNow(context as Context.Context<never>, "isReusable", Cause.die(thrown), place(item.value))
      }
    }
    core.release(item, lease, reusable, defect)
  }

  return {
    now,
    setLimits: (next) => {
      limits = next
      return next
    },
    start: (open, extra) => {
      const core = new Pool({
        isUsable,
        ended,
        check: check === undefined ? undefined : (value) => within(check(value), limits.checkTimeout),
        onEvent,
        place,
        condemn,
        open: (take, needed) =>
          retry === undefined ? attempt(open, take) : Effect.retry(attempt(open, take), {
            schedule: retry,
            while: (error) => error.isRetryable && needed()
          })
      }, {
        limits,
        now,
        random: () => random.nextDoubleUnsafe(),
        turns,
        context: context as Context.Context<never>,
        ...extra
      })
      core.balance()
      return { core, stop: kept(context, "the sweep of a pool", sweeping(core, options, now)) }
    },
    // what gives back is in place before anything is taken, so that nothing has to be masked
    use: (pool, f) =>
      Effect.suspend(() => {
        let core: Pool<A>
        let item: Item<A> | undefined
        let waiter: Waiter<A> | undefined
        let lease = 0
        return Effect.onExitPrimitive(
          Effect.withFiber((fiber) => {
            core = pool()
            item = core.take(fiber)
            if (item !== undefined) {
              lease = item.lease
              return f(item.value)
            }
            const place = core.enqueue(fiber)
            if (place instanceof ConnectionError.ConnectionError) return Effect.fail(place)
            waiter = place
            return Effect.flatMap(core.await(place), () => {
              item = place.item!
              lease = item.lease
              return f(item.value)
            })
          }),
          (exit) => {
            if (item !== undefined) release(core, item, lease, exit)
            else if (waiter !== undefined) core.abandon(waiter)
            return undefined
          }
        )
      }),
    get: (pool) =>
      Effect.uninterruptibleMask((restore) => {
        const core = pool()
        const fiber = Fiber.getCurrent()!
        const scope = Context.getUnsafe(fiber.context, Scope.Scope)
        const lend = (item: Item<A>): Effect.Effect<A> => {
          const { lease } = item
          return Effect.as(
            Scope.addFinalizerExit(scope, (exit) => Effect.sync(() => release(core, item, lease, exit))),
            item.value
          )
        }
        const item = core.take(fiber)
        if (item !== undefined) return lend(item)
        const waiter = core.enqueue(fiber)
        if (waiter instanceof ConnectionError.ConnectionError) return Effect.fail(waiter)
        return Effect.flatMap(
          Effect.onError(restore(core.await(waiter)), () => Effect.sync(() => core.abandon(waiter))),
          () => lend(waiter.item!)
        )
      })
  }
})

/** Closes a pool and waits until nothing of it is left, for `drain` for what is borrowed. */
export const close = <A>({ core, stop }: Running<A>): Effect.Effect<void> =>
  Effect.suspend(() => {
    core.shut()
    stop()
    const { emptied, limits: { drain } } = core
    if (emptied.isOpen) return Effect.void
    const patience = drain === 0
      ? Effect.void
      : drain === Infinity
      ? emptied.await
      : Effect.timeoutOption(emptied.await, drain)
    return Effect.andThen(
      patience,
      Effect.suspend(() => {
        core.force()
        return emptied.await
      })
    )
  })

/** A pool at a glance: what is done with it, and what it takes to start one. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import type { ConnectionError } from "../../ConnectionError.ts"
import { Reports } from "../endings/reports.ts"
import { isRetryableBy } from "../endings/retry.ts"
import { kept } from "../scheduling/supervised.ts"
import { monotonic } from "../scheduling/timers.ts"
import { turnsOf } from "../scheduling/turns.ts"
import * as Borrowing from "./borrowing.ts"
import * as Dialing from "./dialing.ts"
import * as Retiring from "./retiring.ts"
import { type AllBounds, type Bounds, type Environment, type Item, PoolState, type Resource } from "./state.ts"
import type { PoolEvent } from "./stats.ts"
import { sweeper, type SweepOptions } from "./sweep.ts"
import type { Borrower } from "./waitQueue.ts"

export class Pool<A> extends PoolState<A> {
  balance(): void {
    Dialing.balance(this)
  }

  take(borrower: Borrower): Item<A> | undefined {
    return Borrowing.take(this, borrower)
  }

  release(item: Item<A>, lease: number, reusable: boolean, defect?: ConnectionError): void {
    Borrowing.release(this, item, lease, reusable, defect)
  }

  shut(): void {
    Retiring.shut(this)
  }

  /** New limits are looked at now, whatever sleeps. */
  setLimits(limits: Bounds): void {
    this.limits = limits
    while (this.idle.length > 0 && this.staying > limits.max) Retiring.retireIdle(this, this.idle[0]!, "trimmed")
    this.balance()
    this.wake.open()
  }
}

export interface PoolOptions<A, R>
  extends SweepOptions, Pick<Resource<A>, "isUsable" | "ended" | "isReusable" | "place" | "condemn">
{
  readonly limits: AllBounds
  readonly check: ((value: A) => Effect.Effect<unknown, unknown, R>) | undefined
  readonly onEvent: ((event: PoolEvent<A>) => Effect.Effect<unknown, unknown, R>) | undefined
  readonly retry: Schedule.Schedule<unknown, ConnectionError> | undefined
}

/** Starts pools that have the same options: one, or one for each key. What their hooks do ends with the scope. */
export interface PoolStarter<A> {
  /** For pools to come, and for the deadlines of dials and checks of all of them. */
  readonly setLimits: (limits: AllBounds) => void
  /** `made` is called before anything is opened, of which a hook hears. */
  readonly start: (
    open: Effect.Effect<A, ConnectionError, Scope.Scope>,
    extra?: Pick<Environment<A>, "idleCap" | "onEmpty">,
    made?: (pool: Pool<A>) => void
  ) => Pool<A>
}

export const starter = Effect.fnUntraced(function*<A, R>(
  options: PoolOptions<A, R>
): Effect.fn.Return<PoolStarter<A>, never, R | Scope.Scope> {
  // what the hooks need is in the context that the fibers of the pools run with
  const context = (yield* Effect.context<R>()) as Context.Context<never>
  const now = monotonic(Context.get(context, Clock.Clock))
  const random = yield* Random.Random
  const turns = turnsOf(yield* Scheduler.Scheduler)
  const { condemn, ended, isReusable, isUsable, place, retry } = options
  const check = options.check as ((value: A) => Effect.Effect<unknown, unknown>) | undefined
  const hook = options.onEvent as ((event: PoolEvent<A>) => Effect.Effect<unknown, unknown>) | undefined
  const reports = new Reports(context)
  yield* Effect.addFinalizer(() => reports.end())
  const onEvent = hook === undefined
    ? undefined
    : (event: PoolEvent<A>) => void reports.run("onEvent of a pool", () => hook(event))
  let { limits } = options
  let isRetryable = isRetryableBy(limits)
  return {
    setLimits: (next) => {
      limits = next
      isRetryable = isRetryableBy(next)
    },
    start: (open, extra, made) => {
      const pool = new Pool<A>({
        open: Dialing.opener(open, () => limits.dial, retry, (error) => isRetryable(error)),
        isUsable,
        ended,
        check: check === undefined ? undefined : (value) => Dialing.withinDial(limits.checkTimeout)(check(value)),
        isReusable,
        onEvent,
        place,
        condemn
      }, { limits, now, random: () => random.nextDoubleUnsafe(), turns, context, ...extra })
      made?.(pool)
      // a borrower comes next: until then it is not empty
      pool.taking++
      pool.balance()
      pool.stopSweeper = kept(context, "the sweep of a pool", sweeper(pool, options))
      pool.taking--
      // by a hook
      if (pool.isClosed) pool.stopSweeper()
      return pool
    }
  }
})

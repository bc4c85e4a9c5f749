/** What is due in a pool: borrowers that waited too long, items idle, old or unchecked for too long, leaks, refills. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as ConnectionError from "../../ConnectionError.ts"
import * as Cadence from "../scheduling/scheduleSteps.ts"
import { startCheck, unusable } from "./borrowing.ts"
import { dropIdle, retire } from "./retiring.ts"
import type { Item, PoolState } from "./state.ts"
import { nameOf, type PendingAcquire } from "./waitQueue.ts"

// ---------------------------------------------------------------------------------------------------------------------
// what is due, and when
// ---------------------------------------------------------------------------------------------------------------------

/** When something is due next. */
const nextDue = <A>(pool: PoolState<A>): number => {
  const { limits } = pool
  let due = Infinity
  if (pool.lost !== undefined) due = 0
  else if (pool.staying < limits.min && pool.refillAt > pool.env.now()) due = pool.refillAt
  if (pool.waiters.first !== undefined) due = Math.min(due, pool.waiters.first.since + limits.acquire)
  for (const item of pool.idle) due = Math.min(due, pool.idleDue(item))
  if (limits.leak !== Infinity) {
    for (const item of pool.items) {
      if (item.state === "leased" && !item.reported) due = Math.min(due, item.since + limits.leak)
    }
  }
  return due
}

/** Does what is due now. */
const sweep = <A>(pool: PoolState<A>): void => {
  if (pool.isClosed) return
  const at = pool.env.now()
  const { waiters } = pool
  while (waiters.first !== undefined && at >= waiters.first.since + pool.limits.acquire) {
    timeOut(pool, waiters.first, at)
  }
  for (const item of pool.idle.slice()) {
    // closing one may have changed what is due for the others
    if (item.state !== "idle" || at < pool.idleDue(item)) continue
    dropIdle(pool, item)
    const why = unusable(pool, item, at) ?? (at >= pool.idleUntil(item) ? "idle" : undefined)
    if (why === undefined) startCheck(pool, item)
    else retire(pool, item, why)
  }
  reportLeaks(pool, at)
  pool.balance()
}

const timeOut = <A>(pool: PoolState<A>, waiter: PendingAcquire<Item<A>>, at: number): void => {
  const error = ConnectionError.make(
    new ConnectionError.AcquireTimeout({
      limit: pool.limits.acquire,
      by: nameOf(waiter.borrower.id, waiter.borrower.cache.span),
      waiting: pool.waiters.size,
      dialing: pool.dialing,
      holders: pool.held(at).map(({ by, heldFor }) => ({ by, heldFor }))
    })
  )
  pool.counters.timeouts++
  pool.waiters.settle(waiter, Effect.fail(error))
  pool.emit({ _tag: "TimedOut", error })
}

/** The leak report: each lease that is longer than `leak`, once. */
const reportLeaks = <A>(pool: PoolState<A>, at: number): void => {
  for (const item of pool.items) {
    if (item.state !== "leased" || item.reported || at < item.since + pool.limits.leak) continue
    item.reported = true
    pool.counters.leaks++
    pool.emit({ _tag: "Leaked", connection: item.value, by: nameOf(item.by, item.span), heldFor: at - item.since })
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// the fiber that looks
// ---------------------------------------------------------------------------------------------------------------------

/** The delay is its input: how many milliseconds are left until something is due. */
const untilDue: Schedule.Schedule<unknown, number> = Schedule.fromStep(
  Effect.succeed((_: number, due: number) => Effect.succeed([due, Duration.millis(Math.ceil(due))]))
)

export interface SweepOptions {
  readonly refill: Schedule.Schedule<unknown, ConnectionError.ConnectionError>
  /** Takes the place of a `refill` that fails or dies. */
  readonly refillDefault: Schedule.Schedule<unknown, ConnectionError.ConnectionError>
  readonly sweep: Schedule.Schedule<unknown, number> | undefined
}

/** Does what is due, rests for as long as the schedule says, and again: one timer per pool, never one per item. */
export const sweeper = Effect.fnUntraced(function*<A>(pool: PoolState<A>, options: SweepOptions) {
  const { now } = pool.env
  const refill = yield* Cadence.make("the refill of a pool", options.refill, options.refillDefault, { mayEnd: true })
  const restFor = yield* Cadence.make("the sweep of a pool", options.sweep ?? untilDue, untilDue)
  let planned = -Infinity
  while (true) {
    pool.wake.close()
    sweep(pool)
    if (pool.lost !== undefined) {
      const delay = yield* refill(pool.lost)
      pool.refillAt = now() + Math.ceil(delay)
      pool.lost = undefined
      continue
    }
    const at = now()
    const due = Math.max(0, nextDue(pool) - at)
    // what becomes due while the schedule is asked wakes this fiber
    pool.sweepAt = Infinity
    const next = at + (yield* restFor(due))
    // woken early: a rest may become shorter, and does not begin again and again
    planned = at < planned ? Math.min(planned, next) : next
    pool.sweepAt = planned
    const rest = planned - now()
    yield* rest === Infinity
      ? pool.wake.await
      : Effect.raceFirst(Effect.sleep(Math.max(1, Math.ceil(rest))), pool.wake.await)
  }
})

/**
 * Lending and taking back: an idle item that is in order goes to the borrower that asks, one that comes back to the borrower
 * that has waited longest.
 *
 * Only dialling, checking and closing take time. They run in fibers of the pool, not of a borrower: a borrower that gives up
 * leaves nothing half done, and what it waited for goes to the next one.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { defectNow } from "../endings/defects.ts"
import { inside } from "../endings/inside.ts"
import * as Supervised from "../scheduling/supervised.ts"
import { localClose, noticeEmpty, retire } from "./retiring.ts"
import type { Item, PoolState } from "./state.ts"
import type { Why } from "./stats.ts"
import { type Borrower, outcomeOf, type PendingAcquire } from "./waitQueue.ts"

type Failure = ConnectionError.ConnectionError

// ---------------------------------------------------------------------------------------------------------------------
// asking
// ---------------------------------------------------------------------------------------------------------------------

/** Lends an idle item that can be used at once, if there is one and no other borrower waits. */
export const take = <A>(pool: PoolState<A>, borrower: Borrower): Item<A> | undefined => {
  // those that wait are first
  if (pool.waiters.size > 0 || pool.idle.length === 0 || pool.isClosed) return undefined
  const at = pool.turnedAt
  pool.taking++
  const item = candidate(pool, at)
  pool.taking--
  if (item === undefined) return undefined
  pool.counters.hits++
  begin(pool, item, borrower, at)
  if (pool.resource.onEvent !== undefined) pool.emit({ _tag: "Borrowed", connection: item.value, waited: 0 })
  return item
}

/** The next idle item that is in order; others are retired, or checked, on the way. */
export const candidate = <A>(pool: PoolState<A>, at: number): Item<A> | undefined => {
  while (pool.idle.length > 0) {
    const item = pool.limits.order === "lifo" ? pool.idle.pop()! : pool.idle.shift()!
    pool.env.idleCap?.removed(item)
    const why = unusable(pool, item, at)
    if (why !== undefined) retire(pool, item, why)
    else if (pool.resource.check !== undefined && at - item.checkedAt >= pool.limits.checkAfter) {
      startCheck(pool, item)
      return undefined
    } else return item
  }
  return undefined
}

/** Why an item cannot be lent. */
export const unusable = <A>(pool: PoolState<A>, item: Item<A>, at: number): Why | undefined => {
  if (item.ended !== undefined || !pool.resource.isUsable(item.value)) return "stale"
  return at >= pool.oldAt(item) ? "expired" : undefined
}

const begin = <A>(pool: PoolState<A>, item: Item<A>, borrower: Borrower, at: number): void => {
  item.state = "leased"
  item.since = at
  item.by = borrower.id
  item.span = borrower.cache.span
  item.lease++
  pool.leased++
  if (at + pool.limits.leak < pool.sweepAt) pool.wake.open()
}

/** Queues a borrower for which nothing is idle; or says why not. */
export const enqueue = <A>(pool: PoolState<A>, borrower: Borrower): PendingAcquire<Item<A>> | Failure => {
  if (pool.isClosed) return localClose()
  const { counters, limits, waiters } = pool
  counters.misses++
  const waiting = waiters.size - pool.producing
  if (pool.idle.length === 0 && !pool.canDial && waiting >= limits.waiters) {
    counters.rejected++
    return ConnectionError.make(
      new ConnectionError.PoolFull({ waiting: Math.max(0, waiting), limit: limits.waiters })
    )
  }
  const waiter = waiters.enter(borrower, pool.env.now())
  pool.balance()
  if (waiters.size > pool.producing) counters.waits++
  if (waiter.since + limits.acquire < pool.sweepAt) pool.wake.open()
  return waiter
}

/** A borrower that gives up passes on what it was given. */
export const abandon = <A>(pool: PoolState<A>, waiter: PendingAcquire<Item<A>>): void => {
  if (pool.waiters.delete(waiter)) noticeEmpty(pool)
  else if (waiter.item !== undefined) release(pool, waiter.item, waiter.item.lease, true)
}

// ---------------------------------------------------------------------------------------------------------------------
// giving back, and on
// ---------------------------------------------------------------------------------------------------------------------

/** Ends a lease; one that is over already changes nothing. `defect`: what the rule that decides threw. */
export const release = <A>(
  pool: PoolState<A>,
  item: Item<A>,
  lease: number,
  reusable: boolean,
  defect?: Failure
): void => {
  if (item.state !== "leased" || item.lease !== lease) return
  // how long a borrower has waited is told exactly
  const at = pool.waiters.size > 0 ? pool.env.now() : pool.turnedAt
  item.state = "between"
  item.lease++
  item.span = undefined
  item.reported = false
  pool.leased--
  if (pool.resource.onEvent !== undefined) {
    pool.emit({ _tag: "Returned", connection: item.value, heldFor: at - item.since })
  }
  item.since = at
  item.checkedAt = at
  const why = !reusable ? "abandoned" : unusable(pool, item, at) ?? pool.surplus
  pool.waiters.isFlushComing = true
  if (why === undefined) offer(pool, item, at)
  else retire(pool, item, why, defect)
  pool.waiters.isFlushComing = false
  // the last step of a return: the borrower that gets the item need not wait for a task
  pool.waiters.flush()
}

/** Gives an item to the borrower that has waited longest, or keeps it. `dialedAt`: it was opened for a borrower. */
export const offer = <A>(pool: PoolState<A>, item: Item<A>, at: number, dialedAt?: number): void => {
  const waiter = pool.waiters.first
  if (waiter === undefined) return keep(pool, item)
  begin(pool, item, waiter.borrower, at)
  waiter.item = item
  // of a dial, only what came before it was waiting
  const waited = dialedAt === undefined ? at - waiter.since : Math.max(0, dialedAt - waiter.since)
  pool.counters.waitTime += waited
  // before the hook, which may borrow and give back: it is not given another one
  pool.waiters.settle(waiter, Effect.void)
  if (pool.resource.onEvent !== undefined) pool.emit({ _tag: "Borrowed", connection: item.value, waited })
}

const keep = <A>(pool: PoolState<A>, item: Item<A>): void => {
  const { idle } = pool
  item.state = "idle"
  let index = idle.length
  // an item that was checked in between goes back to where it was
  while (index > 0 && idle[index - 1]!.since > item.since) index--
  if (index === idle.length) idle.push(item)
  else idle.splice(index, 0, item)
  if (pool.idleDue(item) < pool.sweepAt) pool.wake.open()
  pool.env.idleCap?.added(pool, item)
}

// ---------------------------------------------------------------------------------------------------------------------
// checking
// ---------------------------------------------------------------------------------------------------------------------

/** Checks an item that was idle: it goes to a borrower, back to the idle ones, or out. */
export const startCheck = <A>(pool: PoolState<A>, item: Item<A>): void => {
  item.state = "checking"
  pool.counters.checks++
  const { env, resource } = pool
  const check = inside(pool, Effect.suspend(() => resource.check!(item.value)))
  Supervised.spawnAmong(pool.checks, env.context, "check of a pool", check, (exit) => {
    const at = env.now()
    const defect = Exit.isFailure(exit) && Cause.hasDies(exit.cause)
      ? defectNow(env.context, "check", exit.cause, resource.place(item.value))
      : undefined
    const why = pool.isClosed ? "closing" : Exit.isFailure(exit) ? "unhealthy" : unusable(pool, item, at)
    if (why !== undefined) return retire(pool, item, why, defect)
    item.checkedAt = at
    const { surplus } = pool
    if (surplus !== undefined) retire(pool, item, surplus)
    else offer(pool, item, at)
    pool.balance()
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// borrowing for one effect, and for a scope
// ---------------------------------------------------------------------------------------------------------------------

/** Gives back what a borrower ended with `exit`. */
const giveBack = <A>(pool: PoolState<A>, item: Item<A>, lease: number, exit: Exit.Exit<unknown, unknown>): void => {
  const { env, resource: { isReusable, place } } = pool
  let reusable = exit._tag === "Success"
  let defect: Failure | undefined
  if (exit._tag === "Failure" && isReusable !== undefined) {
    try {
      reusable = isReusable(exit)
    } catch (thrown) {
      defect = defectNow(env.context, "isReusable", Cause.die(thrown), place(item.value))
    }
  }
  release(pool, item, lease, reusable, defect)
}

/**
 * Borrows for one effect. `poolOf` is asked in the same step as its pool is borrowed from. What gives back is in place before
 * anything is taken, so that nothing has to be masked.
 */
export const use = <A, B, E, R>(
  poolOf: () => PoolState<A>,
  f: (value: A) => Effect.Effect<B, E, R>
): Effect.Effect<B, E | Failure, R> =>
  Effect.suspend(() => {
    let pool: PoolState<A>
    let item: Item<A> | undefined
    let waiter: PendingAcquire<Item<A>> | undefined
    let lease = 0
    return Effect.onExitPrimitive(
      Effect.withFiber((fiber): Effect.Effect<B, E | Failure, R> => {
        pool = poolOf()
        item = take(pool, fiber)
        if (item !== undefined) {
          lease = item.lease
          return f(item.value)
        }
        const queued = enqueue(pool, fiber)
        if (queued instanceof ConnectionError.ConnectionError) return Effect.fail(queued)
        waiter = queued
        return Effect.flatMap(outcomeOf(queued), () => {
          item = queued.item!
          lease = item.lease
          return f(item.value)
        })
      }),
      (exit) => {
        if (item !== undefined) giveBack(pool, item, lease, exit)
        else if (waiter !== undefined) abandon(pool, waiter)
        return undefined
      }
    )
  })

/** Borrows until the scope closes. Only waiting can be interrupted. */
export const get = <A>(poolOf: () => PoolState<A>): Effect.Effect<A, Failure, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) => {
    const pool = poolOf()
    const fiber = Fiber.getCurrent()!
    const scope = Context.getUnsafe(fiber.context, Scope.Scope)
    const lend = (item: Item<A>): Effect.Effect<A> => {
      const { lease } = item
      return Effect.as(
        Scope.addFinalizerExit(scope, (exit) => Effect.sync(() => giveBack(pool, item, lease, exit))),
        item.value
      )
    }
    const item = take(pool, fiber)
    if (item !== undefined) return lend(item)
    const waiter = enqueue(pool, fiber)
    if (waiter instanceof ConnectionError.ConnectionError) return Effect.fail(waiter)
    return Effect.flatMap(
      Effect.onError(restore(outcomeOf(waiter)), () => Effect.sync(() => abandon(pool, waiter))),
      () => lend(waiter.item!)
    )
  })

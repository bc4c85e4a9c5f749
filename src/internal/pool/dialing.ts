/** Opening connections: for borrowers that wait, and to fill and refill the minimum. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { errorNow, typed } from "../endings/defects.ts"
import { inside } from "../endings/inside.ts"
import { within } from "../endings/timeLimit.ts"
import * as Supervised from "../scheduling/supervised.ts"
import { candidate, offer } from "./borrowing.ts"
import { localClose, lose, noticeEmpty, retire, retireIdle } from "./retiring.ts"
import type { Item, PoolState, Resource } from "./state.ts"

type Failure = ConnectionError.ConnectionError

// ---------------------------------------------------------------------------------------------------------------------
// one dial
// ---------------------------------------------------------------------------------------------------------------------

/** Within the limit of a dial, or of a check. */
export const withinDial = (limit: number) => within(ConnectionError.OpenTimeout, limit)

/** How a pool opens: each try in a scope of its own and with its own deadline; when to try again, and after which errors. */
export const opener = <A>(
  open: Effect.Effect<A, Failure, Scope.Scope>,
  deadline: () => number,
  schedule: Schedule.Schedule<unknown, Failure> | undefined,
  isRetryable: (error: Failure) => boolean
): Resource<A>["open"] => {
  // what a try opened has an owner in the same step, before an interruption is looked at
  const attempt = (take: (value: A, scope: Scope.Closeable) => void): Effect.Effect<void, Failure> =>
    Effect.uninterruptibleMask((restore) => {
      const scope = Scope.makeUnsafe()
      return restore(withinDial(deadline())(Scope.provide(open, scope))).pipe(
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause))),
        typed("open"),
        Effect.map((value) => take(value, scope))
      )
    })
  return (take, needed) =>
    schedule === undefined
      ? attempt(take)
      : Effect.retry(attempt(take), { schedule, while: (error) => isRetryable(error) && needed() })
}

// ---------------------------------------------------------------------------------------------------------------------
// when to dial
// ---------------------------------------------------------------------------------------------------------------------

/** Starts what the waiting borrowers, and the minimum, need. A dial that ends at once does not nest another. */
export const balance = <A>(pool: PoolState<A>): void => {
  if (pool.isBalancing || pool.isClosed) return
  pool.isBalancing = true
  const { waiters } = pool
  while (waiters.size > 0 && waiters.size > pool.producing && pool.idle.length > 0) {
    const at = pool.env.now()
    const item = candidate(pool, at)
    if (item !== undefined) offer(pool, item, at)
  }
  while (pool.canDial && (waiters.size > pool.producing || mayRefill(pool))) dial(pool)
  pool.isBalancing = false
}

/** Whether too few are open, and the schedule of refills allows another one now. */
const mayRefill = <A>(pool: PoolState<A>): boolean =>
  pool.staying < pool.limits.min && pool.lost === undefined && pool.env.now() >= pool.refillAt

const dial = <A>(pool: PoolState<A>): void => {
  const { env } = pool
  const startedAt = env.now()
  let done = false
  pool.dialing++
  const needed = () => !pool.isClosed && (pool.waiters.size > 0 || pool.items.size < pool.limits.min)
  const take = (value: A, scope: Scope.Closeable): void => {
    done = true
    opened(pool, value, scope, startedAt)
  }
  const opening = inside(pool, Effect.suspend(() => pool.resource.open(take, needed)))
  Supervised.spawnAmong(pool.dials, env.context, "dial of a pool", opening, (exit) => {
    if (!done) dialFailed(pool, dialError(pool, exit))
    balance(pool)
    noticeEmpty(pool)
  })
}

/** `open` makes an error of what it died of; a defect that arrives here is that of the schedule. */
const dialError = <A>(pool: PoolState<A>, exit: Exit.Exit<unknown, Failure>): Failure => {
  if (Exit.isSuccess(exit)) return localClose()
  return Cause.hasInterruptsOnly(exit.cause)
    ? ConnectionError.make(new ConnectionError.OpenFailed({ cause: "the dial was interrupted" }))
    : errorNow(pool.env.context, "retry", exit.cause)
}

const opened = <A>(pool: PoolState<A>, value: A, scope: Scope.Closeable, startedAt: number): void => {
  const { env, limits: { jitter } } = pool
  const at = env.now()
  if (pool.refillAt === Infinity) pool.refillAt = at
  pool.dialing--
  pool.counters.dials++
  pool.counters.dialTime += at - startedAt
  const item: Item<A> = {
    value,
    scope,
    bornAt: at,
    ageFactor: 1 - jitter * env.random(),
    idleFactor: 1 - jitter * env.random(),
    state: "between",
    since: at,
    checkedAt: at,
    lease: 0,
    by: 0,
    span: undefined,
    reported: false,
    ended: undefined,
    watcher: undefined
  }
  pool.items.add(item)
  pool.emit({ _tag: "Opened", connection: value, took: at - startedAt })
  watch(pool, item)
  const why = pool.surplus
  if (why !== undefined) retire(pool, item, why)
  // one that is dead already still answers a waiting borrower, with its reason: another dial may meet the same
  else if (item.ended !== undefined && pool.waiters.size === 0) retire(pool, item, "stale")
  else offer(pool, item, at, startedAt)
}

const dialFailed = <A>(pool: PoolState<A>, error: Failure): void => {
  pool.dialing--
  pool.counters.dialFailures++
  if (pool.isClosed) return
  pool.emit({ _tag: "OpenFailed", error })
  // every failure is told to one borrower, in turn
  const { waiters } = pool
  if (waiters.size > pool.producing) waiters.settle(waiters.first!, Effect.fail(error))
  lose(pool, error)
}

/** Waits for the end of an item. However that watching ends, the item is not lent again: its death would go unseen. */
const watch = <A>(pool: PoolState<A>, item: Item<A>): void => {
  const { env: { context }, resource } = pool
  const ended = Effect.suspend(() => resource.ended(item.value))
  item.watcher = Supervised.spawn(context, "watcher of a pool", ended, (exit) => {
    if (item.state === "closing") return
    item.ended = Exit.isSuccess(exit)
      ? exit.value
      : errorNow(context, "ending", exit.cause, resource.place(item.value))
    if (item.state === "idle") retireIdle(pool, item, "stale")
  })
}

/** Closing: how an item leaves its pool, and how a pool ends. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { logNow } from "../endings/defects.ts"
import { isInside } from "../endings/inside.ts"
import * as Supervised from "../scheduling/supervised.ts"
import type { Item, PoolState } from "./state.ts"
import type { Why } from "./stats.ts"

type Failure = ConnectionError.ConnectionError

// the others are in order, and may say goodbye
const broken: ReadonlySet<Why> = new Set<Why>(["stale", "unhealthy", "abandoned"])

export const localClose = (): Failure => ConnectionError.make(new ConnectionError.Closed({ by: "local" }))

/**
 * Takes an item out for good. Its slot is free once it has closed, or has had `drain` for that. `defect` is the reason
 * that it ends with.
 */
export const retire = <A>(
  pool: PoolState<A>,
  item: Item<A>,
  why: Why,
  defect?: Failure,
  abruptly = broken.has(why)
): void => {
  if (item.state === "closing") return
  item.state = "closing"
  pool.closing++
  pool.counters.retired[why]++
  pool.emit({ _tag: "Retired", connection: item.value, why })
  item.watcher?.interruptUnsafe()
  if (why === "stale" || why === "unhealthy") lose(pool, item.ended ?? defect ?? localClose())
  const { env: { context }, resource } = pool
  const close = Scope.close(item.scope, abruptly ? Exit.interrupt() : Exit.void)
  const closing = defect === undefined ? close : Effect.andThen(resource.condemn(item.value, defect), close)
  let timer: Fiber.Fiber<unknown, unknown> | undefined = undefined
  Supervised.spawn(context, "closing of a pool", closing, (exit) => {
    if (Exit.isFailure(exit)) logNow(context, "release", exit.cause, resource.place(item.value))
    freed(pool, item)
    timer?.interruptUnsafe()
  })
  const limit = pool.limits.drain
  if (limit === Infinity || !pool.items.has(item)) return
  timer = Supervised.spawn(context, "drain of a pool", Effect.sleep(limit), () => freed(pool, item))
}

const freed = <A>(pool: PoolState<A>, item: Item<A>): void => {
  if (!pool.items.delete(item)) return
  pool.closing--
  pool.balance()
  noticeEmpty(pool)
}

/** Tells whom it concerns when nothing is open any more. */
export const noticeEmpty = <A>(pool: PoolState<A>): void => {
  if (pool.size > 0) return
  if (pool.isClosed) pool.emptied.open()
  else if (pool.waiters.size === 0 && pool.taking === 0) pool.env.onEmpty?.()
}

/**
 * A connection was lost, or did not open. The minimum is refilled when the schedule says so, which is asked by the sweep:
 * a server that is gone, or takes connections and drops them, is not hammered.
 */
export const lose = <A>(pool: PoolState<A>, error: Failure): void => {
  if (pool.limits.min === 0 || pool.isClosed || pool.env.now() < pool.refillAt) return
  pool.lost ??= error
  pool.wake.open()
}

/** Takes an item out of the idle ones. */
export const dropIdle = <A>(pool: PoolState<A>, item: Item<A>): void => {
  pool.idle.splice(pool.idle.indexOf(item), 1)
  pool.env.idleCap?.removed(item)
}

export const retireIdle = <A>(pool: PoolState<A>, item: Item<A>, why: Why): void => {
  dropIdle(pool, item)
  retire(pool, item, why)
}

/** Begins the end of a pool: nothing is lent any more; what is borrowed closes when it comes back. */
export const shut = <A>(pool: PoolState<A>): void => {
  if (pool.isClosed) return
  pool.isClosed = true
  const error = localClose()
  while (pool.waiters.first !== undefined) pool.waiters.settle(pool.waiters.first, Effect.fail(error))
  for (const fiber of [...pool.dials, ...pool.checks]) fiber.interruptUnsafe()
  for (const item of pool.idle.splice(0)) {
    pool.env.idleCap?.removed(item)
    retire(pool, item, "closing")
  }
  noticeEmpty(pool)
  pool.stopSweeper?.()
}

/** Closes also what was not brought back. */
const force = <A>(pool: PoolState<A>): void => {
  for (const item of pool.items) {
    if (item.state !== "leased") continue
    pool.leased--
    retire(pool, item, "closing", undefined, true)
  }
}

/** Waits until everything in a pool has closed; for what is borrowed it waits for `drain`. */
const ending = <A>(pool: PoolState<A>): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { emptied, limits: { drain } } = pool
    if (emptied.isOpen) return Effect.void
    const returned = drain === 0
      ? Effect.void
      : drain === Infinity
      ? emptied.await
      : Effect.timeoutOption(emptied.await, drain)
    return Effect.andThen(
      returned,
      Effect.suspend(() => {
        force(pool)
        return emptied.await
      })
    )
  })

/** Closes a pool and waits for that; but not within one of its own dials or checks, which it would wait for. */
export const close = <A>(pool: PoolState<A>): Effect.Effect<void> =>
  Effect.flatMap(isInside(pool), (isWithin) => {
    shut(pool)
    if (!isWithin) return ending(pool)
    return Effect.sync(() => {
      Supervised.spawn(pool.env.context, "end of a pool", ending(pool), () => {})
    })
  })

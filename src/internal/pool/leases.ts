/** Leases: a connection borrowed for one effect (`use`) or until a scope closes (`get`), and given back however that ends. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import { defectNow } from "../endings/defects.ts"
import { abandon, enqueue, release, take } from "./borrowing.ts"
import type { Item, PoolState } from "./state.ts"
import { outcomeOf, type PendingAcquire } from "./waitQueue.ts"

type Failure = ConnectionError.ConnectionError

/** Gives back what a borrower ended with `exit`. */
const end = <A>(pool: PoolState<A>, item: Item<A>, lease: number, exit: Exit.Exit<unknown, unknown>): void => {
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
        if (item !== undefined) end(pool, item, lease, exit)
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
        Scope.addFinalizerExit(scope, (exit) => Effect.sync(() => end(pool, item, lease, exit))),
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

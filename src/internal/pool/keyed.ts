/** One pool for each key: it begins with the first borrower of its key and ends with its last connection. */
import * as Effect from "effect/Effect"
import * as MutableHashMap from "effect/MutableHashMap"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { ConnectionError } from "../../ConnectionError.ts"
import type { Pool, PoolStarter } from "./pool.ts"
import { close, retireIdle } from "./retiring.ts"
import type { Bounds, IdleCap, Item, PoolState } from "./state.ts"
import { noStats, type Stats, sum } from "./stats.ts"

/** Retires the item that has been idle for longest as soon as more than `maxIdle` are. */
const idleCap = <A>(maxIdle: number): IdleCap<A> => {
  const idle = new Map<Item<A>, PoolState<A>>()
  return {
    added: (pool, item) => {
      idle.set(item, pool)
      if (idle.size <= maxIdle) return
      let oldest = item
      for (const other of idle.keys()) if (other.since < oldest.since) oldest = other
      retireIdle(idle.get(oldest)!, oldest, "evicted")
    },
    removed: (item) => idle.delete(item)
  }
}

export class KeyedPools<K, A> {
  private readonly pools = MutableHashMap.empty<K, Pool<A>>()
  private readonly idleCap: IdleCap<A>
  private readonly starter: PoolStarter<A>
  private readonly open: (key: K) => Effect.Effect<A, ConnectionError, Scope.Scope>
  /** The statistics of the keys that are gone. */
  private past = noStats
  private isClosed = false

  constructor(
    starter: PoolStarter<A>,
    open: (key: K) => Effect.Effect<A, ConnectionError, Scope.Scope>,
    maxIdle: number
  ) {
    this.starter = starter
    this.open = open
    this.idleCap = idleCap(maxIdle)
  }

  /** The pool of a key, which begins now if there is none. */
  poolOf(key: K): Pool<A> {
    const found = MutableHashMap.get(this.pools, key)
    return found._tag === "Some" ? found.value : this.start(key)
  }

  private start(key: K): Pool<A> {
    const extra = {
      idleCap: this.idleCap,
      onEmpty: () => {
        if (this.isClosed) return
        MutableHashMap.remove(this.pools, key)
        this.past = sum(this.past, pool.stats)
        pool.shut()
      }
    }
    // a hook that borrows in the middle of it finds it there
    const pool: Pool<A> = this.starter.start(Effect.suspend(() => this.open(key)), extra, (pool) => {
      if (this.isClosed) pool.shut()
      else MutableHashMap.set(this.pools, key, pool)
    })
    return pool
  }

  private get all(): Array<Pool<A>> {
    return Array.from(MutableHashMap.values(this.pools))
  }

  stats(key: K): Stats | undefined {
    return Option.getOrUndefined(MutableHashMap.get(this.pools, key))?.stats
  }

  get total(): Stats {
    return this.all.map((pool) => pool.stats).reduce(sum, this.past)
  }

  get held(): ReturnType<Pool<A>["held"]> {
    return this.all.flatMap((pool) => pool.held()).toSorted((a, b) => b.heldFor - a.heldFor)
  }

  setLimits(limits: Bounds): void {
    for (const pool of this.all) pool.setLimits(limits)
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.isClosed = true
    return Effect.forEach(this.all, close, { concurrency: "unbounded", discard: true })
  })
}

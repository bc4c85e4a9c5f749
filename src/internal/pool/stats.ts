/** What a pool counts, what its gauges show, and what happens in it, for a hook to see. */
import type { ConnectionError } from "../../ConnectionError.ts"

/** Why an item left its pool. */
export type Why = "stale" | "unhealthy" | "abandoned" | "expired" | "idle" | "trimmed" | "evicted" | "closing"

/** What happened. Times are milliseconds. */
export type PoolEvent<A> =
  | { readonly _tag: "Opened"; readonly connection: A; readonly took: number }
  | { readonly _tag: "OpenFailed"; readonly error: ConnectionError }
  | { readonly _tag: "Borrowed"; readonly connection: A; readonly waited: number }
  | { readonly _tag: "Returned"; readonly connection: A; readonly heldFor: number }
  | { readonly _tag: "Retired"; readonly connection: A; readonly why: Why }
  | { readonly _tag: "TimedOut"; readonly error: ConnectionError }
  | { readonly _tag: "Leaked"; readonly connection: A; readonly by: string; readonly heldFor: number }

/** How often, and for how many milliseconds, since the pool began. */
export interface Counters {
  hits: number
  misses: number
  waits: number
  waitTime: number
  timeouts: number
  rejected: number
  dials: number
  dialFailures: number
  dialTime: number
  checks: number
  leaks: number
  readonly retired: Record<Why, number>
}

export const makeCounters = (): Counters => ({
  hits: 0,
  misses: 0,
  waits: 0,
  waitTime: 0,
  timeouts: 0,
  rejected: 0,
  dials: 0,
  dialFailures: 0,
  dialTime: 0,
  checks: 0,
  leaks: 0,
  retired: { stale: 0, unhealthy: 0, abandoned: 0, expired: 0, idle: 0, trimmed: 0, evicted: 0, closing: 0 }
})

/** How many there are now. */
export interface Gauges {
  readonly open: number
  readonly idle: number
  readonly inUse: number
  readonly checking: number
  readonly dialing: number
  readonly closing: number
  readonly waiting: number
}

/** Gauges and counters at one moment: a copy. */
export type PoolStats = Gauges & Readonly<Counters>

export const statsOf = (counters: Counters, gauges: Gauges): PoolStats => ({
  ...gauges,
  ...counters,
  retired: { ...counters.retired }
})

/** Those of a pool in which nothing has happened. */
export const noStats: PoolStats = statsOf(makeCounters(), {
  open: 0,
  idle: 0,
  inUse: 0,
  checking: 0,
  dialing: 0,
  closing: 0,
  waiting: 0
})

const added = <Name extends string>(a: Readonly<Record<Name, number>>, b: Readonly<Record<Name, number>>) =>
  Object.fromEntries(Object.keys(a).map((name) => [name, a[name as Name] + b[name as Name]])) as Record<Name, number>

/** Those of two pools together. */
export const sum = ({ retired: a, ...left }: PoolStats, { retired: b, ...right }: PoolStats): PoolStats => ({
  ...added(left, right),
  retired: added(a, b)
})

/** What a pool counts, what its gauges show, and what happens in it, for a hook to see. */
import type { ConnectionError } from "../../ConnectionError.ts"
import type { Add } from "../telemetry/collector.ts"

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
  /** Borrowers served at once by an idle connection. */
  hits: number
  /** The other borrowers. */
  misses: number
  /** Misses for which nothing could be opened at once. */
  waits: number
  /** How long borrowers had waited for the connection they got, the time of a dial made for them excluded. */
  waitTime: number
  /** Borrowers that gave up at `acquire`. */
  timeouts: number
  /** Borrowers that were turned away at `waiters`. */
  rejected: number
  /** Connections opened. */
  dials: number
  /** How long opening them took altogether. */
  dialTime: number
  /** Dials that ended without a connection. */
  dialFailures: number
  /** Checks that began. */
  checks: number
  /** Leases that were longer than `leak`. */
  leaks: number
  /** Connections that left the pool, and why. */
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
  /** Connections that are open: `idle`, `inUse`, `checking` and `closing` together. */
  readonly open: number
  /** Connections that wait for a borrower. */
  readonly idle: number
  /** Connections that are borrowed. */
  readonly inUse: number
  /** Connections on which a `check` runs. */
  readonly checking: number
  /** Connections that are being opened; with `open` never more than `max`. */
  readonly dialing: number
  /** Connections that have left the pool and have not closed yet: they count as open. */
  readonly closing: number
  /** Borrowers that wait, for a dial or for another borrower to return a connection. */
  readonly waiting: number
}

/** Gauges and counters at one moment. */
export interface Stats extends Gauges, Readonly<Omit<Counters, "retired">> {
  /** Connections that left the pool, and why. */
  readonly retired: Readonly<Record<Why, number>>
}

export const statsOf = (counters: Counters, gauges: Gauges): Stats => ({
  ...gauges,
  ...counters,
  retired: { ...counters.retired }
})

/** Those of a pool in which nothing has happened. */
export const noStats: Stats = statsOf(makeCounters(), {
  open: 0,
  idle: 0,
  inUse: 0,
  checking: 0,
  dialing: 0,
  closing: 0,
  waiting: 0
})

/** What metrics tell of a pool. */
export const figures = (stats: Stats, add: Add): void => {
  add("pool_connections", stats.idle, "idle")
  add("pool_connections", stats.inUse, "in_use")
  add("pool_connections", stats.checking, "checking")
  add("pool_connections", stats.closing, "closing")
  add("pool_connections", stats.dialing, "dialing")
  add("pool_waiting", stats.waiting)
  add("pool_hits_total", stats.hits)
  add("pool_misses_total", stats.misses)
  add("pool_waits_total", stats.waits)
  add("pool_wait_seconds_total", stats.waitTime / 1000)
  add("pool_timeouts_total", stats.timeouts)
  add("pool_rejected_total", stats.rejected)
  add("pool_dials_total", stats.dials, "opened")
  add("pool_dials_total", stats.dialFailures, "failed")
  add("pool_dial_seconds_total", stats.dialTime / 1000)
  add("pool_checks_total", stats.checks)
  add("pool_leaks_total", stats.leaks)
  for (const [why, count] of Object.entries(stats.retired)) add("pool_retired_total", count, why)
}

const added = <Name extends string>(a: Readonly<Record<Name, number>>, b: Readonly<Record<Name, number>>) =>
  Object.fromEntries(Object.keys(a).map((name) => [name, a[name as Name] + b[name as Name]])) as Record<Name, number>

/** Those of two pools together. */
export const sum = ({ retired: a, ...left }: Stats, { retired: b, ...right }: Stats): Stats => ({
  ...added(left, right),
  retired: added(a, b)
})

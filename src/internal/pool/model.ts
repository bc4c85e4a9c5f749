/** What a pool is made of, and what it is told. */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { AnySpan } from "effect/Tracer"
import type { ConnectionError } from "../../ConnectionError.ts"
import type { Place } from "../reasons/defects.ts"
import type { Turns } from "../scheduling/turns.ts"
import type { Link } from "./linkedQueue.ts"

type Failure = ConnectionError

/** Times in milliseconds; a limit that is off is `Infinity`. */
export interface PoolLimits {
  readonly min: number
  readonly max: number
  readonly acquire: number
  readonly waiters: number
  readonly dials: number
  readonly order: "lifo" | "fifo"
  readonly idle: number
  readonly maxAge: number
  readonly jitter: number
  readonly checkAfter: number
  readonly checkEvery: number
  readonly leak: number
  readonly drain: number
}

/** Why an item left its pool. */
export type Why = "stale" | "unhealthy" | "abandoned" | "expired" | "idle" | "trimmed" | "evicted" | "closing"

export type Happening<A> =
  | { readonly _tag: "Opened"; readonly value: A; readonly took: number }
  | { readonly _tag: "OpenFailed"; readonly error: Failure }
  | { readonly _tag: "Borrowed"; readonly value: A; readonly waited: number }
  | { readonly _tag: "Returned"; readonly value: A; readonly heldFor: number }
  | { readonly _tag: "Retired"; readonly value: A; readonly why: Why }
  | { readonly _tag: "TimedOut"; readonly error: Failure }
  | { readonly _tag: "Leaked"; readonly value: A; readonly by: string; readonly heldFor: number }

/** What the core is told of the things it keeps. */
export interface Resource<A> {
  /**
   * Opens one, with its own deadlines, and tries again where that is asked for and `needed`. Hands it to `take` before
   * anything can interrupt it.
   */
  readonly open: (
    take: (value: A, scope: Scope.Closeable) => void,
    needed: () => boolean
  ) => Effect.Effect<void, Failure>
  /** Whether it is alive and nothing unexpected came; asked before every use and after. */
  readonly isUsable: (value: A) => boolean
  /** Succeeds with the reason at the first sign of its end. */
  readonly ended: (value: A) => Effect.Effect<Failure>
  /** Has its own deadline. */
  readonly check: ((value: A) => Effect.Effect<unknown, unknown>) | undefined
  readonly onEvent: ((event: Happening<A>) => Effect.Effect<unknown, unknown>) | undefined
  /** What the log says of it. */
  readonly place: (value: A) => Place
  /** Gives it the reason of its end, and does not wait for that. */
  readonly condemn: (value: A, error: Failure) => Effect.Effect<void>
}

/** Who borrows: a fiber, in the span that it is in at that moment. The text is only made when somebody asks. */
export interface Borrower {
  readonly id: number
  readonly cache: { readonly span: AnySpan | undefined }
}

export interface Item<A> {
  readonly value: A
  readonly scope: Scope.Closeable
  readonly bornAt: number
  /** Drawn once, for life: which part of `maxAge`, and of `idle`, is for this one. */
  readonly ageFactor: number
  readonly idleFactor: number
  state: "idle" | "leased" | "checking" | "closing"
  /** When it was borrowed, or became idle. */
  since: number
  /** When it last proved to work. */
  checkedAt: number
  /** Odd while it is borrowed, and never the same twice: a lease that is over cannot be returned again. */
  lease: number
  by: number
  span: AnySpan | undefined
  reported: boolean
  ended: Failure | undefined
  watcher: Fiber.Fiber<unknown> | undefined
}

export interface Waiter<A> extends Link {
  readonly borrower: Borrower
  readonly since: number
  item: Item<A> | undefined
  outcome: Effect.Effect<void, Failure> | undefined
  resume: ((outcome: Effect.Effect<void, Failure>) => void) | undefined
}

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

export interface Gauges {
  readonly open: number
  readonly idle: number
  readonly inUse: number
  readonly checking: number
  readonly dialing: number
  readonly closing: number
  readonly waiting: number
}

export const noGauges: Gauges = { open: 0, idle: 0, inUse: 0, checking: 0, dialing: 0, closing: 0, waiting: 0 }

/** The idle items of several pools, the one that has been idle for longest first. */
export interface Shared<A> {
  readonly added: (item: Item<A>, evict: (item: Item<A>) => void) => void
  readonly removed: (item: Item<A>) => void
}

export interface Environment<A> {
  readonly limits: PoolLimits
  readonly now: () => number
  readonly random: () => number
  readonly turns: Turns
  /** For the fibers of the pool. */
  readonly context: Context.Context<never>
  readonly shared?: Shared<A> | undefined
  /** Nothing is open, and nobody waits. */
  readonly onEmpty?: (() => void) | undefined
}

/** The data of a pool: what it keeps, which borrowers wait, its limits and counts, and what can be read from them. */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { AnySpan } from "effect/Tracer"
import type { ConnectionError } from "../../ConnectionError.ts"
import type { Place } from "../endings/defects.ts"
import type { RetryRules } from "../endings/retry.ts"
import { Gate } from "../scheduling/gate.ts"
import type { Turns } from "../scheduling/turns.ts"
import { type Gauges, makeCounters, type PoolEvent, type Stats, statsOf } from "./stats.ts"
import { nameOf, WaitQueue } from "./waitQueue.ts"

/** The limits of a pool, ready to compute with: times in milliseconds; one that is off is `Infinity`. */
export interface Bounds {
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

/** The limits of a pool with those of its dials and checks. */
export interface AllBounds extends Bounds, RetryRules {
  readonly dial: number
  readonly checkTimeout: number
}

/** How a pool handles the things it keeps, which are connections outside of tests. */
export interface Resource<A> {
  /**
   * Opens one, with its own deadlines, and tries again where that is asked for and `needed`. Hands it to `take` before
   * anything can interrupt it.
   */
  readonly open: (
    take: (value: A, scope: Scope.Closeable) => void,
    needed: () => boolean
  ) => Effect.Effect<void, ConnectionError>
  /** Whether it is alive and nothing unexpected came; asked before every use and after. */
  readonly isUsable: (value: A) => boolean
  /** Succeeds with the reason at the first sign of its end. */
  readonly ended: (value: A) => Effect.Effect<ConnectionError>
  /** Has its own deadline. */
  readonly check: ((value: A) => Effect.Effect<unknown, unknown>) | undefined
  /** Which failures of a borrower leave it in order. Default: none. */
  readonly isReusable?: ((exit: Exit.Failure<unknown, unknown>) => boolean) | undefined
  /** Must not throw. */
  readonly onEvent: ((event: PoolEvent<A>) => void) | undefined
  /** What the log says of it. */
  readonly place: (value: A) => Place
  /** Gives it the reason of its end, and does not wait for that. */
  readonly condemn: (value: A, error: ConnectionError) => Effect.Effect<void>
}

/** A connection in its pool. */
export interface Item<A> {
  readonly value: A
  readonly scope: Scope.Closeable
  readonly bornAt: number
  /** Drawn once, for life: which part of `maxAge`, and of `idle`, is for this one. */
  readonly ageFactor: number
  readonly idleFactor: number
  /** `between`: one step takes it from one of the others to the next, and tells a hook meanwhile. */
  state: "idle" | "leased" | "checking" | "closing" | "between"
  /** When it was borrowed, or became idle. */
  since: number
  /** When it last proved to work. */
  checkedAt: number
  /** Odd while it is borrowed, and never the same twice: a lease that is over cannot be returned again. */
  lease: number
  by: number
  span: AnySpan | undefined
  /** Whether its lease was reported as a leak. */
  reported: boolean
  ended: ConnectionError | undefined
  watcher: Fiber.Fiber<unknown> | undefined
}

/** The bound on the idle items of several pools together. */
export interface IdleCap<A> {
  readonly added: (pool: PoolState<A>, item: Item<A>) => void
  readonly removed: (item: Item<A>) => void
}

/** What a pool has from outside. */
export interface Environment<A> {
  readonly limits: Bounds
  readonly now: () => number
  readonly random: () => number
  readonly turns: Turns
  /** For the fibers of the pool. */
  readonly context: Context.Context<never>
  readonly idleCap?: IdleCap<A> | undefined
  /** Called when nothing is open and no borrower waits. */
  readonly onEmpty?: (() => void) | undefined
}

/**
 * Plain fields, which synchronous functions change. Nothing runs in between two steps of such a function, so a slot is
 * counted, handed on and freed in one place each.
 */
export abstract class PoolState<A> {
  readonly resource: Resource<A>
  readonly env: Environment<A>
  limits: Bounds
  /** Everything open, what is closing included: until that is done the peer still counts it. */
  readonly items = new Set<Item<A>>()
  /** By `since`, the oldest first. */
  readonly idle: Array<Item<A>> = []
  readonly waiters: WaitQueue<Item<A>>
  readonly dials = new Set<Fiber.Fiber<unknown, unknown>>()
  readonly checks = new Set<Fiber.Fiber<unknown, unknown>>()
  readonly counters = makeCounters()
  dialing = 0
  leased = 0
  closing = 0
  isBalancing = false
  /** How many borrowers look at what is idle, and wait next if they find nothing: a hook may be one in the middle of another. */
  taking = 0
  isClosed = false
  /** See `turnedAt`. */
  private readAt: number | undefined
  /** Opens once the pool is closed and everything in it has closed. */
  readonly emptied: Gate
  /** Opens when something may have become due before `sweepAt`. */
  readonly wake: Gate
  sweepAt = Infinity
  /** Ends the fiber that sweeps. */
  stopSweeper: (() => void) | undefined
  /** A loss for which the schedule of refills was not asked yet: the minimum is not refilled before. */
  lost: ConnectionError | undefined
  /** When the minimum may be refilled; `Infinity` after the schedule has ended, until a dial succeeds. */
  refillAt = 0

  constructor(resource: Resource<A>, env: Environment<A>) {
    this.resource = resource
    this.env = env
    this.limits = env.limits
    this.waiters = new WaitQueue(env.turns)
    this.wake = new Gate(env.turns, false)
    this.emptied = new Gate(env.turns, false)
  }

  /**
   * The time, read once in a turn of the event loop: what is borrowed and comes back in one turn was held for no time. A reading for
   * each was a third of what a use costs.
   */
  get turnedAt(): number {
    if (this.readAt === undefined) {
      this.readAt = this.env.now()
      this.env.turns.scheduleTask(this.turned)
    }
    return this.readAt
  }

  private readonly turned = (): void => {
    this.readAt = undefined
  }

  /** Starts what the waiting borrowers, and the minimum, need. Called whenever a slot became free. */
  abstract balance(): void

  /** How many are open or being opened. */
  get size(): number {
    return this.items.size + this.dialing
  }

  /** `size` without what is closing. */
  get staying(): number {
    return this.items.size + this.dialing - this.closing
  }

  /** How many dials and checks are under way: each ends with an item, or an error, for one borrower. */
  get producing(): number {
    return this.dialing + this.checks.size
  }

  get canDial(): boolean {
    return this.size < this.limits.max && this.dialing < this.limits.dials
  }

  /** Why an item that is in order cannot stay all the same. */
  get surplus(): "closing" | "trimmed" | undefined {
    return this.isClosed ? "closing" : this.staying > this.limits.max ? "trimmed" : undefined
  }

  /** When an idle item has been idle for too long: never while only the minimum is open. */
  idleUntil(item: Item<A>): number {
    return this.staying > this.limits.min ? item.since + this.limits.idle * item.idleFactor : Infinity
  }

  oldAt(item: Item<A>): number {
    return item.bornAt + this.limits.maxAge * item.ageFactor
  }

  /** When the sweep has something to do with an idle item. */
  idleDue(item: Item<A>): number {
    const check = this.resource.check === undefined ? Infinity : item.checkedAt + this.limits.checkEvery
    return Math.min(this.oldAt(item), this.idleUntil(item), check)
  }

  get gauges(): Gauges {
    return {
      open: this.items.size,
      idle: this.idle.length,
      inUse: this.leased,
      checking: this.checks.size,
      dialing: this.dialing,
      closing: this.closing,
      waiting: this.waiters.size
    }
  }

  get stats(): Stats {
    return statsOf(this.counters, this.gauges)
  }

  /** Which borrower has what, the longest lease first. */
  held(at = this.env.now()): Array<{ readonly connection: A; readonly by: string; readonly heldFor: number }> {
    return Array.from(this.items)
      .filter((item) => item.state === "leased")
      .toSorted((a, b) => a.since - b.since)
      .map(({ by, since, span, value }) => ({ connection: value, by: nameOf(by, span), heldFor: at - since }))
  }

  /** Tells the hook, which can neither delay nor break the pool. */
  emit(event: PoolEvent<A>): void {
    this.resource.onEvent?.(event)
  }
}

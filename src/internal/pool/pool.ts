/**
 * The core of a pool: who has which item, who waits, and what has to happen next.
 *
 * Plain fields and synchronous methods. Nothing runs in between two steps of a method, so a slot is counted, handed on
 * and freed in one place each. Only dialling, checking and closing take time; they run in fibers of the pool, not of a
 * borrower, so that a borrower who gives up leaves nothing half done: what it waited for goes to the next one. A dial that
 * no borrower waits for any more becomes an idle connection.
 *
 * Effect's `Pool` is not used: a growth there waits for the one before, so a dial that hangs holds up all borrowers; waiting
 * has no bound and no deadline; the replacement of an invalidated item opens while the old one is still open, which exceeds
 * a server's limit; and what was opened together expires together.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { AnySpan } from "effect/Tracer"
import * as ConnectionError from "../../ConnectionError.ts"
import { defectNow, errorNow, logNow } from "../reasons/defects.ts"
import { Signal } from "../scheduling/signal.ts"
import * as Supervised from "../scheduling/supervised.ts"
import { LinkedQueue } from "./linkedQueue.ts"
import {
  type Borrower,
  type Environment,
  type Gauges,
  type Happening,
  type Item,
  makeCounters,
  type PoolLimits,
  type Resource,
  type Waiter,
  type Why
} from "./model.ts"

type Failure = ConnectionError.ConnectionError
type AnyFiber = Fiber.Fiber<unknown, unknown>

/** The others are in order, and may say goodbye. */
const broken: ReadonlySet<Why> = new Set<Why>(["stale", "unhealthy", "abandoned"])

const nameOf = (id: number, span: AnySpan | undefined): string =>
  span?._tag === "Span" ? `${span.name} (fiber #${id})` : `fiber #${id}`

export const localClose = () => ConnectionError.make(new ConnectionError.Closed({ by: "local" }))

const interrupted = () => ConnectionError.make(new ConnectionError.OpenFailed({ cause: "the dial was interrupted" }))

export class Pool<A> {
  // everything open, including what is closing: until that is done the peer still counts it
  private readonly items = new Set<Item<A>>()
  // by `since`, the oldest first
  private readonly idle: Array<Item<A>> = []
  private readonly waiters = new LinkedQueue<Waiter<A>>()
  private readonly dials = new Set<AnyFiber>()
  private readonly checkers = new Set<AnyFiber>()
  private dialing = 0
  private leased = 0
  private closing = 0
  private balancing = false
  private taking = false
  private isClosed = false
  // settled waiters, woken together in a task of their own
  private settled: Array<Waiter<A>> = []
  private returning = false
  private flushing = false
  readonly counters = makeCounters()
  /** Opens when `nextDue` may have become earlier than `sweepAt`. */
  readonly wake: Signal
  /** Opens once the pool is closed and nothing is left of it. */
  readonly emptied: Signal
  sweepAt = Infinity
  /** A loss for which the minimum is not refilled before the schedule was asked. */
  lost: Failure | undefined
  /** When the minimum may be refilled; `Infinity` after the schedule has ended, until a dial succeeds. */
  refillAt = 0
  limits: PoolLimits

  private readonly resource: Resource<A>
  private readonly env: Environment<A>
  constructor(resource: Resource<A>, env: Environment<A>) {
    this.resource = resource
    this.env = env
    this.limits = env.limits
    this.wake = new Signal(env.turns, false)
    this.emptied = new Signal(env.turns, false)
  }

  /** Open or about to be. */
  get size(): number {
    return this.items.size + this.dialing
  }

  get gauges(): Gauges {
    return {
      open: this.items.size,
      idle: this.idle.length,
      inUse: this.leased,
      checking: this.checkers.size,
      dialing: this.dialing,
      closing: this.closing,
      waiting: this.waiters.size
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // borrowing
  // -------------------------------------------------------------------------------------------------------------------

  /** An idle item that can be used at once, and whose lease has begun. */
  take(borrower: Borrower): Item<A> | undefined {
    // whoever waits is first
    if (this.waiters.size > 0 || this.idle.length === 0 || this.isClosed) return undefined
    const at = this.env.now()
    this.taking = true
    const item = this.candidate(at)
    this.taking = false
    if (item === undefined) return undefined
    this.counters.hits++
    this.begin(item, borrower, at)
    if (this.resource.onEvent !== undefined) this.emit({ _tag: "Borrowed", value: item.value, waited: 0 })
    return item
  }

  /** The next idle item that is in order; others are retired, or checked, on the way. */
  private candidate(at: number): Item<A> | undefined {
    while (this.idle.length > 0) {
      const item = this.limits.order === "lifo" ? this.idle.pop()! : this.idle.shift()!
      this.env.shared?.removed(item)
      const why = this.unusable(item, at)
      if (why !== undefined) this.retire(item, why)
      else if (this.resource.check !== undefined && at - item.checkedAt >= this.limits.checkAfter) {
        this.startCheck(item)
        return undefined
      } else return item
    }
    return undefined
  }

  private unusable(item: Item<A>, at: number): Why | undefined {
    if (item.ended !== undefined || !this.resource.isUsable(item.value)) return "stale"
    return at >= item.bornAt + this.limits.maxAge * item.ageFactor ? "expired" : undefined
  }

  private begin(item: Item<A>, borrower: Borrower, at: number): void {
    item.state = "leased"
    item.since = at
    item.by = borrower.id
    item.span = borrower.cache.span
    item.lease++
    this.leased++
    if (at + this.limits.leak < this.sweepAt) this.wake.open()
  }

  /** Stands in line; or why not. */
  enqueue(borrower: Borrower): Waiter<A> | Failure {
    if (this.isClosed) return localClose()
    const { counters, limits } = this
    counters.misses++
    const line = this.waiters.size - this.producers
    if (!this.canProduce && line >= limits.waiters) {
      counters.rejected++
      return ConnectionError.make(new ConnectionError.PoolFull({ waiting: Math.max(0, line), limit: limits.waiters }))
    }
    const waiter: Waiter<A> = {
      borrower,
      since: this.env.now(),
      next: undefined,
      previous: undefined,
      item: undefined,
      outcome: undefined,
      resume: undefined
    }
    this.waiters.add(waiter)
    this.balance()
    if (this.waiters.size > this.producers) counters.waits++
    if (waiter.since + limits.acquire < this.sweepAt) this.wake.open()
    return waiter
  }

  /** Waits for the outcome. Whoever is interrupted here has to `abandon`. */
  await(waiter: Waiter<A>): Effect.Effect<void, Failure> {
    return Effect.callback((resume) => {
      if (waiter.outcome !== undefined) resume(waiter.outcome)
      else waiter.resume = resume
    })
  }

  /** A waiter that goes away passes on what it was given. */
  abandon(waiter: Waiter<A>): void {
    if (this.waiters.delete(waiter)) this.emptyCheck()
    else if (waiter.item !== undefined) this.release(waiter.item, waiter.item.lease, true)
  }

  /** Ends a lease; one that is over already changes nothing. `defect`: what the rule that decides threw. */
  release(item: Item<A>, lease: number, reusable: boolean, defect?: Failure): void {
    if (item.state !== "leased" || item.lease !== lease) return
    const at = this.env.now()
    item.lease++
    item.span = undefined
    item.reported = false
    this.leased--
    if (this.resource.onEvent !== undefined) {
      this.emit({ _tag: "Returned", value: item.value, heldFor: at - item.since })
    }
    item.since = at
    item.checkedAt = at
    const why = !reusable ? "abandoned" : this.unusable(item, at) ?? this.surplus()
    this.returning = true
    if (why === undefined) this.offer(item, at)
    else this.retire(item, why, broken.has(why), defect)
    this.returning = false
    // the last step of a return: whoever gets the item need not wait for another turn
    if (this.settled.length > 0) this.flush()
  }

  private surplus(): Why | undefined {
    return this.isClosed ? "closing" : this.size - this.closing > this.limits.max ? "trimmed" : undefined
  }

  /** Gives an item to whoever has waited longest, or keeps it. `dialedAt`: it was opened because somebody waited. */
  private offer(item: Item<A>, at: number, dialedAt?: number): void {
    const waiter = this.waiters.first
    if (waiter === undefined) return this.keep(item)
    this.begin(item, waiter.borrower, at)
    waiter.item = item
    // of a dial, only what came before it was waiting
    const waited = dialedAt === undefined ? at - waiter.since : Math.max(0, dialedAt - waiter.since)
    this.counters.waitTime += waited
    if (this.resource.onEvent !== undefined) this.emit({ _tag: "Borrowed", value: item.value, waited })
    this.settle(waiter, Effect.void)
  }

  private keep(item: Item<A>): void {
    const { idle } = this
    item.state = "idle"
    let index = idle.length
    // an item that was checked in between goes back to where it was
    while (index > 0 && idle[index - 1]!.since > item.since) index--
    if (index === idle.length) idle.push(item)
    else idle.splice(index, 0, item)
    if (this.idleDue(item) < this.sweepAt) this.wake.open()
    this.env.shared?.added(item, this.evict)
  }

  private settle(waiter: Waiter<A>, outcome: Effect.Effect<void, Failure>): void {
    this.waiters.delete(waiter)
    waiter.outcome = outcome
    if (this.settled.push(waiter) === 1 && !this.returning && !this.flushing) {
      this.env.turns.scheduleTask(this.flush)
    }
  }

  /** Wakes who is settled. Whoever returns at once, and wakes the next, comes back here instead of nesting. */
  private readonly flush = (): void => {
    if (this.flushing) return
    this.flushing = true
    while (this.settled.length > 0) {
      const { settled } = this
      this.settled = []
      for (const waiter of settled) waiter.resume?.(waiter.outcome!)
    }
    this.flushing = false
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what produces items for those who wait
  // -------------------------------------------------------------------------------------------------------------------

  private get producers(): number {
    return this.dialing + this.checkers.size
  }

  private get canDial(): boolean {
    return this.size < this.limits.max && this.dialing < this.limits.dials
  }

  private get canProduce(): boolean {
    return this.idle.length > 0 || this.canDial
  }

  /** Starts whatever those who wait, and the minimum, need. A dial that ends at once does not nest another. */
  balance(): void {
    if (this.balancing || this.isClosed) return
    this.balancing = true
    while (this.waiters.size > 0 && this.waiters.size > this.producers && this.idle.length > 0) {
      const at = this.env.now()
      const item = this.candidate(at)
      if (item !== undefined) this.offer(item, at)
    }
    while (this.canDial && (this.waiters.size > this.producers || this.isBelowMin)) this.dial()
    this.balancing = false
  }

  private get isBelowMin(): boolean {
    return this.size - this.closing < this.limits.min && this.lost === undefined && this.env.now() >= this.refillAt
  }

  private dial(): void {
    const startedAt = this.env.now()
    let done = false
    this.dialing++
    const needed = () => !this.isClosed && (this.waiters.size > 0 || this.items.size < this.limits.min)
    const take = (value: A, scope: Scope.Closeable): void => {
      done = true
      this.opened(value, scope, startedAt)
    }
    const opening = Effect.suspend(() => this.resource.open(take, needed))
    Supervised.spawnAmong(this.dials, this.env.context, "dial of a pool", opening, (exit) => {
      if (!done) this.dialFailed(this.dialError(exit))
      this.balance()
      this.emptyCheck()
    })
  }

  /** What `open` died of is an error already; what is left is that of the schedule. */
  private dialError(exit: Exit.Exit<unknown, Failure>): Failure {
    if (Exit.isSuccess(exit)) return localClose()
    return Cause.hasInterruptsOnly(exit.cause) ? interrupted() : errorNow(this.env.context, "retry", exit.cause)
  }

  private opened(value: A, scope: Scope.Closeable, startedAt: number): void {
    const { jitter } = this.limits
    const at = this.env.now()
    if (this.refillAt === Infinity) this.refillAt = at
    this.dialing--
    this.counters.dials++
    this.counters.dialTime += at - startedAt
    const item: Item<A> = {
      value,
      scope,
      bornAt: at,
      ageFactor: 1 - jitter * this.env.random(),
      idleFactor: 1 - jitter * this.env.random(),
      state: "leased",
      since: at,
      checkedAt: at,
      lease: 0,
      by: 0,
      span: undefined,
      reported: false,
      ended: undefined,
      watcher: undefined
    }
    this.items.add(item)
    this.emit({ _tag: "Opened", value, took: at - startedAt })
    this.watch(item)
    const why = this.surplus()
    if (why !== undefined) this.retire(item, why)
    // one that is dead already still answers whoever waits, with its reason: another dial may meet the same
    else if (item.ended !== undefined && this.waiters.size === 0) this.retire(item, "stale")
    else this.offer(item, at, startedAt)
  }

  /** However the watching ends, the item is not lent again: nothing else would tell that it is dead. */
  private watch(item: Item<A>): void {
    const { env, resource } = this
    const ended = Effect.suspend(() => resource.ended(item.value))
    item.watcher = Supervised.spawn(env.context, "watcher of a pool", ended, (exit) => {
      if (item.state === "closing") return
      const error = Exit.isSuccess(exit)
        ? exit.value
        : errorNow(env.context, "ending", exit.cause, resource.place(item.value))
      this.gone(item, error)
    })
  }

  private dialFailed(error: Failure): void {
    this.dialing--
    this.counters.dialFailures++
    if (this.isClosed) return
    this.emit({ _tag: "OpenFailed", error })
    // every failure is told to one of them, in turn
    if (this.waiters.size > this.producers) this.settle(this.waiters.first!, Effect.fail(error))
    this.lose(error)
  }

  /** The minimum is refilled when the schedule says so: a server that is gone, or takes and drops, is not hammered. */
  private lose(error: Failure): void {
    if (this.limits.min === 0 || this.isClosed || this.env.now() < this.refillAt) return
    this.lost ??= error
    this.wake.open()
  }

  private gone(item: Item<A>, error: Failure): void {
    item.ended = error
    if (item.state !== "idle") return
    this.dropIdle(item)
    this.retire(item, "stale")
  }

  private dropIdle(item: Item<A>): void {
    this.idle.splice(this.idle.indexOf(item), 1)
    this.env.shared?.removed(item)
  }

  private startCheck(item: Item<A>): void {
    item.state = "checking"
    this.counters.checks++
    const { env, resource } = this
    const checking = Effect.suspend(() => resource.check!(item.value))
    Supervised.spawnAmong(this.checkers, env.context, "check of a pool", checking, (exit) => {
      const at = env.now()
      const defect = Exit.isFailure(exit) && Cause.hasDies(exit.cause)
        ? defectNow(env.context, "check", exit.cause, resource.place(item.value))
        : undefined
      const why = this.isClosed ? "closing" : Exit.isFailure(exit) ? "unhealthy" : this.unusable(item, at)
      if (why !== undefined) return this.retire(item, why, broken.has(why), defect)
      item.checkedAt = at
      const trimmed = this.surplus()
      if (trimmed !== undefined) this.retire(item, trimmed)
      else this.offer(item, at)
      this.balance()
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // closing
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Takes an item out for good. Its slot is free once it has closed, or has had `drain` for that. `defect` is the reason
   * that it ends with.
   */
  private retire(item: Item<A>, why: Why, abruptly = broken.has(why), defect?: Failure): void {
    if (item.state === "closing") return
    item.state = "closing"
    this.closing++
    this.counters.retired[why]++
    this.emit({ _tag: "Retired", value: item.value, why })
    item.watcher?.interruptUnsafe()
    if (why === "stale" || why === "unhealthy") this.lose(item.ended ?? defect ?? localClose())
    const { context } = this.env
    const close = Scope.close(item.scope, abruptly ? Exit.interrupt() : Exit.void)
    const closing = defect === undefined ? close : Effect.andThen(this.resource.condemn(item.value, defect), close)
    let timer: AnyFiber | undefined = undefined
    Supervised.spawn(context, "closing of a pool", closing, (exit) => {
      if (Exit.isFailure(exit)) {
        logNow(context, "release", exit.cause, this.resource.place(item.value))
      }
      this.freed(item)
      timer?.interruptUnsafe()
    })
    const limit = this.limits.drain
    if (limit === Infinity || !this.items.has(item)) return
    timer = Supervised.spawn(context, "drain of a pool", Effect.sleep(limit), () => this.freed(item))
  }

  private freed(item: Item<A>): void {
    if (!this.items.delete(item)) return
    this.closing--
    this.balance()
    this.emptyCheck()
  }

  private emptyCheck(): void {
    if (this.size > 0) return
    if (this.isClosed) this.emptied.open()
    // who finds the last one dead is about to stand in line
    else if (this.waiters.size === 0 && !this.taking) this.env.onEmpty?.()
  }

  /** Retires an idle item of this pool for the sake of another one. */
  private readonly evict = (item: Item<A>): void => {
    this.dropIdle(item)
    this.retire(item, "evicted")
  }

  /** Nothing is lent any more; what is borrowed closes when it comes back. */
  shut(): void {
    if (this.isClosed) return
    this.isClosed = true
    const error = localClose()
    while (this.waiters.first !== undefined) this.settle(this.waiters.first, Effect.fail(error))
    for (const fiber of [...this.dials, ...this.checkers]) fiber.interruptUnsafe()
    for (const item of this.idle.splice(0)) {
      this.env.shared?.removed(item)
      this.retire(item, "closing")
    }
    this.emptyCheck()
  }

  /** Closes also what was not brought back. */
  force(): void {
    for (const item of this.items) {
      if (item.state !== "leased") continue
      this.leased--
      this.retire(item, "closing", true)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what is due when
  // -------------------------------------------------------------------------------------------------------------------

  private idleDue(item: Item<A>): number {
    const { limits } = this
    const idle = this.size - this.closing > limits.min ? item.since + limits.idle * item.idleFactor : Infinity
    const check = this.resource.check === undefined ? Infinity : item.checkedAt + limits.checkEvery
    return Math.min(item.bornAt + limits.maxAge * item.ageFactor, idle, check)
  }

  nextDue(): number {
    const { limits } = this
    let due = Infinity
    if (this.lost !== undefined) due = 0
    else if (this.size - this.closing < limits.min && this.refillAt > this.env.now()) due = this.refillAt
    if (this.waiters.first !== undefined) due = Math.min(due, this.waiters.first.since + limits.acquire)
    for (const item of this.idle) due = Math.min(due, this.idleDue(item))
    if (limits.leak !== Infinity) {
      for (const item of this.items) {
        if (item.state === "leased" && !item.reported) due = Math.min(due, item.since + limits.leak)
      }
    }
    return due
  }

  sweep(): void {
    if (this.isClosed) return
    const at = this.env.now()
    const { limits } = this
    while (this.waiters.first !== undefined && at >= this.waiters.first.since + limits.acquire) {
      this.timeOut(this.waiters.first, at)
    }
    for (const item of this.idle.slice()) {
      // closing one may have changed what is due for the others
      if (item.state !== "idle" || at < this.idleDue(item)) continue
      this.dropIdle(item)
      const why = this.unusable(item, at)
      if (why !== undefined) this.retire(item, why)
      else if (this.size - this.closing > limits.min && at >= item.since + limits.idle * item.idleFactor) {
        this.retire(item, "idle")
      } else this.startCheck(item)
    }
    for (const item of this.items) {
      if (item.state !== "leased" || item.reported || at < item.since + limits.leak) continue
      item.reported = true
      this.counters.leaks++
      this.emit({ _tag: "Leaked", value: item.value, by: nameOf(item.by, item.span), heldFor: at - item.since })
    }
    this.balance()
  }

  private timeOut(waiter: Waiter<A>, at: number): void {
    const holders = this.held.map(({ by, since }) => ({ by, heldFor: at - since }))
    const error = ConnectionError.make(
      new ConnectionError.AcquireTimeout({
        limit: this.limits.acquire,
        by: nameOf(waiter.borrower.id, waiter.borrower.cache.span),
        waiting: this.waiters.size,
        dialing: this.dialing,
        holders
      })
    )
    this.counters.timeouts++
    this.settle(waiter, Effect.fail(error))
    this.emit({ _tag: "TimedOut", error })
  }

  /** Who has what, the longest first. */
  get held(): Array<{ readonly value: A; readonly by: string; readonly since: number }> {
    return Array.from(this.items)
      .filter((item) => item.state === "leased")
      .toSorted((a, b) => a.since - b.since)
      .map(({ by, since, span, value }) => ({ value, by: nameOf(by, span), since }))
  }

  /** New limits are looked at now, whatever sleeps. */
  setLimits(limits: PoolLimits): void {
    this.limits = limits
    while (this.idle.length > 0 && this.size - this.closing > limits.max) {
      const item = this.idle[0]!
      this.dropIdle(item)
      this.retire(item, "trimmed")
    }
    this.balance()
    this.wake.open()
  }

  /** A hook sees what happened, and can neither delay nor break it. */
  private emit(event: Happening<A>): void {
    const { onEvent } = this.resource
    if (onEvent === undefined) return
    const { context } = this.env
    Supervised.spawn(context, "onEvent of a pool", Effect.suspend(() => onEvent(event)), (exit) => {
      if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return
      Supervised.log(context, "onEvent of a pool failed", exit.cause)
    })
  }
}

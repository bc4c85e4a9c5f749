/**
 * The memory that connections hold together, and how much they may.
 *
 * While there is enough of it, it is a sum: each connection says after a read and after a write what it holds. Above three quarters
 * it is tight: connections that hold more than their share read no more, and no new ones are taken. At the limit only those
 * read that hold next to nothing. So it is passed by no more than one read of each connection. Once a second all of them are counted anew: what is
 * received, and taken by the peer, is noticed then. When it is tight for `patience`, those that hold most are ended.
 */
import * as Context from "effect/Context"
import type { Timer, Timers } from "../scheduling/timers.ts"

/** A connection, as far as the budget sees it. */
export interface Holder {
  /** What it holds, in bytes. */
  readonly heldBytes: () => number
  /** What it held when it was counted last. */
  counted: number
  /** How much of that waits for its reader. */
  readonly waiting: number
  /** It waits for the budget before it reads on. */
  awaitsMemory: boolean
  /** It may look again whether it reads on. */
  readonly memoryFreed: () => void
  /** It holds the most: it is to end, and to hold nothing when this returns. */
  readonly holdsTooMuch: (limit: number) => void
}

/** Told when memory gets tight, and when it is not any more. */
export interface Watcher {
  readonly tight: () => void
  readonly freed: () => void
}

// from here on it is tight; and how often all of them are counted then
const tightAt = 3 / 4
const countEvery = 1000
// of a share: an answer that is on its way is no reason not to read the next request
const nextToNothing = 1 / 16
// a sum that is passed by what is no longer held costs a count of all, no more often than this
const leastBetween = 100

export class Budget {
  readonly limit: number
  /** For how long it may be tight, in milliseconds. */
  readonly patience: number
  /** The bytes that were counted. */
  held = 0
  private readonly mark: number
  private readonly holders = new Set<Holder>()
  private readonly watchers = new Set<Watcher>()
  // while it is tight
  private timer: Timer | undefined
  private timers: Timers | undefined
  private since = 0
  private countedAt = -Infinity

  constructor(limit: number, patience: number) {
    this.limit = limit
    this.patience = patience
    this.mark = limit * tightAt
  }

  get isTight(): boolean {
    return this.timer !== undefined
  }

  add(holder: Holder, timers: Timers): void {
    this.timers ??= timers
    this.holders.add(holder)
  }

  /** It has ended, and holds nothing. */
  remove(holder: Holder): void {
    this.holders.delete(holder)
    this.grow(holder, -holder.counted)
  }

  watch(watcher: Watcher): () => void {
    this.watchers.add(watcher)
    return () => this.watchers.delete(watcher)
  }

  /** Counts what one holds now. */
  count(holder: Holder): void {
    this.grow(holder, holder.heldBytes() - holder.counted)
    if (holder.awaitsMemory && !this.mustWait(holder)) holder.memoryFreed()
  }

  /** One holds so much more. */
  grow(holder: Holder, bytes: number): void {
    holder.counted += bytes
    this.held += bytes
    if (this.timer === undefined) { if (this.held > this.mark) this.tighten() }
    else if (this.held <= this.mark) this.free()
  }

  /** Whether a connection does not read on for now. */
  mustWait({ counted, waiting }: Holder): boolean {
    if (this.timer === undefined) return false
    const share = this.limit / this.holders.size
    return counted - waiting > (this.held >= this.limit ? share * nextToNothing : share)
  }

  /** What all hold now. */
  recount(): number {
    for (const holder of this.holders) {
      const more = holder.heldBytes() - holder.counted
      holder.counted += more
      this.held += more
    }
    return this.held
  }

  private tighten(): void {
    const at = this.timers!.now()
    // what was received meanwhile is counted no more
    if (at - this.countedAt >= leastBetween) {
      this.countedAt = at
      if (this.recount() <= this.mark) return
    }
    this.since = at
    this.planCount(at)
    for (const { tight } of this.watchers) tight()
  }

  private free(): void {
    this.timer?.cancel()
    this.timer = undefined
    this.wakeAll()
    for (const { freed } of this.watchers) freed()
  }

  private planCount(at: number): void {
    const next = Math.min(at + countEvery, Math.max(at + 1, this.since + this.patience))
    this.timer = this.timers!.at(next, () => this.countAll())
  }

  private countAll(): void {
    const at = this.timers!.now()
    if (this.recount() > this.mark && at - this.since >= this.patience) {
      this.endHeaviest()
      this.since = at
    }
    if (this.held <= this.mark) return this.free()
    this.wakeAll()
    this.planCount(at)
  }

  private wakeAll(): void {
    for (const holder of this.holders) if (holder.awaitsMemory && !this.mustWait(holder)) holder.memoryFreed()
  }

  /** Ends those that hold most, until the rest is below the mark. */
  private endHeaviest(): void {
    const byWeight = Array.from(this.holders).toSorted((a, b) => b.counted - a.counted)
    let left = this.held
    for (const holder of byWeight) {
      if (left <= this.mark || holder.counted === 0) return
      left -= holder.counted
      holder.holdsTooMuch(this.limit)
    }
  }
}

/** That of the connections that are opened in a context. */
export const CurrentBudget = Context.Reference<Budget | undefined>("holdfast/memory/CurrentBudget", {
  defaultValue: () => undefined
})

// a process has one that no policy set
const shared = new WeakMap<Timers, Budget>()

/** The budget of a server: of its own where its policy says how much, else one that servers of a process share. */
export const budgetOf = (limit: number, patience: number, timers: Timers, share: () => number): Budget | undefined => {
  if (limit > 0) return new Budget(limit, patience)
  const known = shared.get(timers)
  if (known !== undefined) return known
  const most = share()
  if (most === Infinity) return undefined
  const made = new Budget(most, patience)
  shared.set(timers, made)
  return made
}

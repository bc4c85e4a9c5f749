/**
 * The memory that connections hold together, and how much they may.
 *
 * While there is enough of it, it is a sum: each connection says after a read and after a write what it holds. Above half of it
 * it is tight: connections that hold more than their share read no more, and no new ones are taken. At the limit only those
 * read that hold next to nothing. So it is passed by no more than one read of each connection. Four times a second all of them are
 * counted anew then: what the peer has taken is noticed there. When it is tight for `patience`, those that hold most are ended.
 */
import * as Context from "effect/Context"
import { Fifo, type Queued } from "../scheduling/fifo.ts"
import type { Timer, Timers } from "../scheduling/timers.ts"
import type { Turns } from "../scheduling/turns.ts"

/** A connection, as far as the budget sees it. */
export interface Holder extends Queued<Holder> {
  /** What it holds, in bytes. */
  readonly heldBytes: () => number
  /** What it held when it was counted last. */
  counted: number
  /** How much of that waits for its reader. */
  readonly waiting: number
  /** It waits for the budget before it reads on. */
  readonly awaitsMemory: boolean
  /** It is to read no more, as far as its transport can be told so. */
  readonly pause: () => void
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

// from here on it is tight, until so little is held; and how often all of them are counted then
const tightAt = 1 / 2
const freedAt = 0.45
const countEvery = 250
// of a share: an answer that is on its way is no reason not to read the next request
const nextToNothing = 1 / 16
// a sum that is passed by what is no longer held costs a count of all: no more often than this, unless so much came for each
const leastBetween = 100
const leastGrowth = 1024
// of the limit, while it is tight: what all decode in a turn, before their receivers have theirs
const turnShare = 1 / 16
const turnShareAtLimit = 1 / 256
// what a byte comes to in memory at the most; a read that is small with that is decoded beside those that used up the turn
const mostWeight = 64

// what one that reads again brings at the most; and when the next ones may
const read = 64 * 1024
const nextReads = 10

export class Budget {
  readonly limit: number
  /** For how long it may be tight, in milliseconds. */
  readonly patience: number
  /** The bytes that were counted. */
  held = 0
  private readonly mark: number
  private readonly lowMark: number
  private readonly holders = new Fifo<Holder>()
  private readonly watchers = new Set<Watcher>()
  private timers: Timers | undefined
  private turns: Turns | undefined
  // while it is tight
  private timer: Timer | undefined
  private since = 0
  // at the limit, as all of them were told
  private isFull = false
  // all may read again, one after the other
  private isRelaxing = false
  private countedAt = -Infinity
  private heldThen = 0
  // all of them are looked at: what that changes is seen when it is done
  private isLooking = false
  private grownInTurn = 0
  private turn = -1
  /** This turn of the event loop decodes nothing large any more. A read of 64 KiB may be 4 MiB of values. */
  private isSpent = false

  constructor(limit: number, patience: number) {
    this.limit = limit
    this.patience = patience
    this.mark = limit * tightAt
    this.lowMark = limit * freedAt
  }

  get isTight(): boolean {
    return this.timer !== undefined
  }

  add(holder: Holder, timers: Timers, turns: Turns): void {
    this.timers ??= timers
    this.turns ??= turns
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

  /** One was read, and is not decoded yet: while it is tight, what it holds must be known before it is read again. */
  arrived(holder: Holder): void {
    if (this.timer === undefined) return
    this.update(holder)
    if (this.timer !== undefined) this.tell(holder)
  }

  /** Counts what one holds now. */
  count(holder: Holder): void {
    const more = this.update(holder)
    if (more > 0) this.spend(more)
    if (this.timer !== undefined) this.tell(holder)
  }

  /** Looks at what one holds, and returns how much more that is. */
  private update(holder: Holder): number {
    const more = holder.heldBytes() - holder.counted
    this.grow(holder, more)
    return more
  }

  /** Also where there is enough: receivers that are quick hold what they took until their fibers have run. */
  private spend(bytes: number): void {
    const { count } = this.turns!
    if (this.timer === undefined && this.turn !== count) this.grownInTurn = 0
    this.turn = count
    this.grownInTurn += bytes
    const share = this.held >= this.limit ? turnShareAtLimit : turnShare
    if (this.isSpent || this.grownInTurn < this.limit * share) return
    this.isSpent = true
    this.turns!.after(1, () => {
      this.isSpent = false
      this.grownInTurn = 0
    })
  }

  /** Whether so many bytes are not decoded in this turn: none, but those of the many that ask little have a share of their own. */
  isSpentFor(bytes: number): boolean {
    if (!this.isSpent) return false
    const { grownInTurn, limit } = this
    return bytes * mostWeight > limit * turnShareAtLimit || grownInTurn >= 2 * limit * turnShare
  }

  /** One holds so much more. */
  grow(holder: Holder, bytes: number): void {
    holder.counted += bytes
    this.held += bytes
    if (this.isLooking) return
    if (this.timer === undefined) { if (this.held > this.mark) this.tighten() }
    else if (this.isRelaxing) { if (this.held > this.mark) this.tightenAgain() }
    else if (this.held <= this.lowMark) this.relax()
    else if (!this.isFull && this.held >= this.limit) this.stop()
  }

  /** Whether a connection does not read on for now. */
  mustWait(holder: Holder): boolean {
    if (this.timer === undefined || !this.exceeds(holder)) return false
    // what was received, or taken by the peer, since it was counted
    this.update(holder)
    return this.timer !== undefined && this.exceeds(holder)
  }

  /** What all hold now. */
  recount(): number {
    for (const holder of this.holders) {
      const more = holder.heldBytes() - holder.counted
      holder.counted += more
      this.held += more
    }
    this.heldThen = this.held
    return this.held
  }

  /** What one connection decodes at a time. */
  get room(): number {
    return this.timer === undefined ? Infinity : this.limit * turnShareAtLimit
  }

  private exceeds({ counted, waiting }: Holder): boolean {
    if (this.isRelaxing) return false
    const share = this.limit / this.holders.size
    return counted - waiting > (this.held >= this.limit ? share * nextToNothing : share)
  }

  private tell(holder: Holder): void {
    const waits = this.exceeds(holder)
    if (waits === holder.awaitsMemory) return
    if (waits) holder.pause()
    else holder.memoryFreed()
  }

  private tighten(): void {
    const at = this.timers!.now()
    const isDue = at - this.countedAt >= leastBetween || this.held - this.heldThen >= this.holders.size * leastGrowth
    // what was received meanwhile is counted no more
    if (isDue) {
      this.countedAt = at
      if (this.recount() <= this.mark) return
    }
    this.since = at
    this.planCount(at + countEvery)
    this.stop()
    for (const { tight } of this.watchers) tight()
  }

  /** All would have been let in again. */
  private tightenAgain(): void {
    this.isRelaxing = false
    this.since = this.timers!.now()
    this.stop()
  }

  /** Those that hold too much read no more. */
  private stop(): void {
    this.isFull = this.held >= this.limit
    for (const holder of this.holders) if (!holder.awaitsMemory && this.exceeds(holder)) holder.pause()
  }

  /** So little is held that all may read: not all at once, where that would be too much again. */
  private relax(): void {
    this.isRelaxing = true
    if (this.wake()) return this.free()
    this.timer?.cancel()
    this.planCount(this.timers!.now() + nextReads)
  }

  private free(): void {
    this.timer?.cancel()
    this.timer = undefined
    this.isFull = this.isRelaxing = false
    for (const { freed } of this.watchers) freed()
  }

  private planCount(at: number): void {
    const deadline = Math.max(this.timers!.now() + 1, this.since + this.patience)
    this.timer = this.timers!.at(Math.min(at, deadline), () => this.countAll())
  }

  private countAll(): void {
    const at = this.timers!.now()
    this.isRelaxing = false
    if (this.recount() > this.lowMark && at - this.since >= this.patience) {
      this.endHeaviest()
      this.since = at
    }
    if (this.held <= this.lowMark) return this.relax()
    this.isFull = this.held >= this.limit
    this.wake()
    this.planCount(at + countEvery)
  }

  /** Lets those read on that may; as many as there is room for a read of each. False: there are more. */
  private wake(): boolean {
    this.isLooking = true
    let room = Math.max(this.limit - this.held, read)
    let isDone = true
    for (const holder of Array.from(this.holders)) {
      if (!holder.awaitsMemory || this.exceeds(holder)) continue
      if (room <= 0) {
        isDone = false
        break
      }
      room -= read
      // the others have their turn before this one has it again
      this.holders.delete(holder)
      this.holders.add(holder)
      holder.memoryFreed()
    }
    this.isLooking = false
    return isDone
  }

  /** Ends those that hold most, until the rest is below the mark. */
  private endHeaviest(): void {
    this.isLooking = true
    const byWeight = Array.from(this.holders).toSorted((a, b) => b.counted - a.counted)
    let left = this.held
    for (const holder of byWeight) {
      if (left <= this.lowMark || holder.counted === 0) break
      left -= holder.counted
      holder.holdsTooMuch(this.limit)
    }
    this.isLooking = false
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

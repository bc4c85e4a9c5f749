/**
 * What one connection holds: what was read and not received, what its receiver has in its hands, what is to be sent, and what its
 * transport has of both.
 */
import type { Timers } from "../scheduling/timers.ts"
import type { Turns } from "../scheduling/turns.ts"
import type { Budget, Holder } from "./budget.ts"

/** A connection, as far as its memory is concerned. */
interface Owner {
  readonly inbox: { readonly weight: number; readonly taken: number }
  readonly outbox: {
    readonly bytes: number
    readonly rest: Uint8Array | undefined
    readonly control: ReadonlyArray<Uint8Array | string>
    readonly waitingBytes: number
  }
  /** Bytes of the unfinished frame, and behind a full inbox. */
  readonly pending: number
  readonly undecoded: number
  /** A read that is not decoded yet. */
  readonly arrived: Uint8Array | string | undefined
  readonly isPulling: boolean
  readonly awaitsMemory: boolean
  readonly transport: {
    readonly unsent?: (() => number) | undefined
    readonly unread?: (() => number) | undefined
  }
  /** It is to read no more, as far as its transport can be told so. */
  readonly pauseForMemory: () => void
  /** It may look again whether it reads on. */
  readonly memoryFreed: () => void
  /** It ends, and lets go of what it holds. */
  readonly holdsTooMuch: (limit: number) => void
}

/** What a budget sees of a connection; made only where there is one. */
export class Holding implements Holder {
  queue: unknown
  next: Holder | undefined
  previous: Holder | undefined
  counted = 0
  /** Bytes that were read, and wait for the reader: they can be no reason to wait for. */
  private ahead = 0
  waiting = 0
  private isOver = false
  private readonly budget: Budget
  private readonly owner: Owner

  constructor(budget: Budget, owner: Owner) {
    this.budget = budget
    this.owner = owner
  }

  begin(timers: Timers, turns: Turns): void {
    this.budget.add(this, timers, turns)
  }

  end(): void {
    this.isOver = true
    this.budget.remove(this)
  }

  heldBytes(): number {
    const { arrived, inbox, isPulling, outbox, pending, transport, undecoded } = this.owner
    // nothing lies in a transport that is read
    this.waiting = this.ahead + (isPulling ? 0 : transport.unread?.() ?? 0)
    let held = inbox.weight + undecoded + pending + outbox.bytes + outbox.waitingBytes + this.waiting
    if (arrived !== undefined) held += arrived.length
    // a receiver that waits to send has in its hands what it answers
    if (outbox.waitingBytes > 0) held += inbox.taken
    if (transport.unsent !== undefined) held += transport.unsent()
    if (outbox.rest !== undefined) held += outbox.rest.length
    // pongs: there are 64 at the most
    for (const frame of outbox.control) held += frame.length
    return held
  }

  get awaitsMemory(): boolean {
    return this.owner.awaitsMemory
  }

  /** After a read, and after a write. */
  count(): void {
    if (!this.isOver) this.budget.count(this)
  }

  /** A read came, which is decoded later: the event that brought it may bring more. */
  arrived(): void {
    if (!this.isOver) this.budget.arrived(this)
  }

  /** The reader waits with so many bytes; 0 when it goes on. */
  readAhead(bytes: number): void {
    this.ahead = bytes
    this.count()
  }

  /** The transport keeps a read, because nothing pulls. Whether that should be all that it keeps. */
  keeps(bytes: number): boolean {
    if (this.isOver) return false
    this.waiting += bytes
    this.budget.grow(this, bytes)
    return this.budget.isTight
  }

  get mustWait(): boolean {
    return !this.isOver && this.budget.mustWait(this)
  }

  /** Whether this turn does not decode so many bytes any more. */
  isSpentFor(bytes: number): boolean {
    return this.budget.isSpentFor(bytes)
  }

  /** What is decoded at a time. */
  get room(): number {
    return this.budget.room
  }

  pause(): void {
    this.owner.pauseForMemory()
  }

  memoryFreed(): void {
    this.owner.memoryFreed()
  }

  holdsTooMuch(limit: number): void {
    this.owner.holdsTooMuch(limit)
  }
}

/** What one connection holds: what was read and not received, what is to be sent, and what its transport has of both. */
import type { Timers } from "../scheduling/timers.ts"
import type { Budget, Holder } from "./budget.ts"

/** A connection, as far as its memory is concerned. */
interface Owner {
  readonly inbox: { readonly weight: number }
  readonly outbox: { readonly bytes: number }
  /** Bytes of the unfinished frame, and behind a full inbox. */
  readonly pending: number
  readonly undecoded: number
  readonly isPulling: boolean
  readonly transport: {
    readonly unsent?: (() => number) | undefined
    readonly unread?: (() => number) | undefined
  }
  /** It may look again whether it reads on. */
  readonly memoryFreed: () => void
  /** It ends, and lets go of what it holds. */
  readonly holdsTooMuch: (limit: number) => void
}

/** What a budget sees of a connection; made only where there is one. */
export class Holding implements Holder {
  counted = 0
  /** Bytes that were read, and wait for the reader: they can be no reason to wait for. */
  ahead = 0
  waiting = 0
  awaitsMemory = false
  private isOver = false
  private readonly budget: Budget
  private readonly owner: Owner

  constructor(budget: Budget, owner: Owner) {
    this.budget = budget
    this.owner = owner
  }

  begin(timers: Timers): void {
    this.budget.add(this, timers)
  }

  end(): void {
    this.isOver = true
    this.budget.remove(this)
  }

  heldBytes(): number {
    const { inbox, isPulling, outbox, pending, transport, undecoded } = this.owner
    // nothing lies in a transport that is read
    this.waiting = this.ahead + (isPulling ? 0 : transport.unread?.() ?? 0)
    return inbox.weight + undecoded + pending + outbox.bytes + (transport.unsent?.() ?? 0) + this.waiting
  }

  /** After a read, and after a write. */
  count(): void {
    if (!this.isOver) this.budget.count(this)
  }

  /** The reader waits with so many bytes; 0 when it goes on. */
  readAhead(bytes: number): void {
    this.ahead = bytes
    this.count()
  }

  /** The transport keeps a read, because nothing pulls. */
  keeps(bytes: number): void {
    if (this.isOver) return
    this.waiting += bytes
    this.budget.grow(this, bytes)
  }

  get mustWait(): boolean {
    return this.budget.mustWait(this)
  }

  get isTight(): boolean {
    return this.budget.isTight
  }

  memoryFreed(): void {
    this.awaitsMemory = false
    this.owner.memoryFreed()
  }

  holdsTooMuch(limit: number): void {
    this.owner.holdsTooMuch(limit)
  }
}

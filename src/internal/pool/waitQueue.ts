/** The fairness of a pool: borrowers are served in the order in which they came, and all wake-ups of one step are done together. */
import * as Effect from "effect/Effect"
import type { AnySpan } from "effect/Tracer"
import type { ConnectionError } from "../../ConnectionError.ts"
import type { Turns } from "../scheduling/turns.ts"

/** A fiber that borrows, in the span that it is in at that moment. Its name is made only when it is asked for. */
export interface Borrower {
  readonly id: number
  readonly cache: { readonly span: AnySpan | undefined }
}

export const nameOf = (id: number, span: AnySpan | undefined): string =>
  span?._tag === "Span" ? `${span.name} (fiber #${id})` : `fiber #${id}`

/** A borrower that waits for an item, linked to its neighbours in the queue. */
export interface PendingAcquire<A> {
  readonly borrower: Borrower
  readonly since: number
  item: A | undefined
  outcome: Effect.Effect<void, ConnectionError> | undefined
  resume: ((outcome: Effect.Effect<void, ConnectionError>) => void) | undefined
  next: PendingAcquire<A> | undefined
  previous: PendingAcquire<A> | undefined
}

/** First in, first out. A linked list: in a `Set` the first entry is found only past the places of all that have left. */
export class WaitQueue<A> {
  size = 0
  first: PendingAcquire<A> | undefined
  private last: PendingAcquire<A> | undefined
  private readonly turns: Turns
  // those that have left the queue with an outcome, and are not awake yet
  private settled: Array<PendingAcquire<A>> = []
  private flushing = false
  /** Set by a caller that ends its step with `flush`: no task is scheduled meanwhile. */
  isFlushComing = false

  constructor(turns: Turns) {
    this.turns = turns
  }

  add(borrower: Borrower, since: number): PendingAcquire<A> {
    const waiter: PendingAcquire<A> = {
      borrower,
      since,
      next: undefined,
      previous: this.last,
      item: undefined,
      outcome: undefined,
      resume: undefined
    }
    if (this.last === undefined) this.first = waiter
    else this.last.next = waiter
    this.last = waiter
    this.size++
    return waiter
  }

  /** Whether it was in this queue. */
  delete(waiter: PendingAcquire<A>): boolean {
    const { next, previous } = waiter
    if (previous === undefined && this.first !== waiter) return false
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    waiter.next = undefined
    waiter.previous = undefined
    this.size--
    return true
  }

  /** Gives a borrower its outcome, with which it wakes up soon. */
  settle(waiter: PendingAcquire<A>, outcome: Effect.Effect<void, ConnectionError>): void {
    this.delete(waiter)
    waiter.outcome = outcome
    if (this.settled.push(waiter) === 1 && !this.isFlushComing && !this.flushing) this.turns.scheduleTask(this.flush)
  }

  /** Wakes all that have an outcome. One that gives back at once, and so wakes the next, comes back here and does not nest. */
  readonly flush = (): void => {
    if (this.flushing) return
    this.flushing = true
    while (this.settled.length > 0) {
      const { settled } = this
      this.settled = []
      for (const waiter of settled) waiter.resume?.(waiter.outcome!)
    }
    this.flushing = false
  }
}

/** Waits for the outcome. A borrower that is interrupted here has to be abandoned. */
export const outcomeOf = <A>(waiter: PendingAcquire<A>): Effect.Effect<void, ConnectionError> =>
  Effect.callback((resume) => {
    if (waiter.outcome !== undefined) resume(waiter.outcome)
    else waiter.resume = resume
  })

/** The fairness of a pool: borrowers are served in the order in which they came, and all wake-ups of one step are done together. */
import * as Effect from "effect/Effect"
import type { AnySpan } from "effect/Tracer"
import type { ConnectionError } from "../../ConnectionError.ts"
import { Fifo, type Queued, unqueued } from "../scheduling/fifo.ts"
import type { Turns } from "../scheduling/turns.ts"

/** A fiber that borrows, in the span that it is in at that moment. Its name is made only when it is asked for. */
export interface Borrower {
  readonly id: number
  readonly cache: { readonly span: AnySpan | undefined }
}

export const nameOf = (id: number, span: AnySpan | undefined): string =>
  span?._tag === "Span" ? `${span.name} (fiber #${id})` : `fiber #${id}`

/** A borrower that waits for an item. */
export interface PendingAcquire<A> extends Queued<PendingAcquire<A>> {
  readonly borrower: Borrower
  readonly since: number
  item: A | undefined
  outcome: Effect.Effect<void, ConnectionError> | undefined
  resume: ((outcome: Effect.Effect<void, ConnectionError>) => void) | undefined
}

// the most borrowers woken in one turn: one that gives back at once, or in a microtask, wakes the next, and so on
const wakesPerTurn = 64

/** First in, first out; what is settled in one step wakes up together. */
export class WaitQueue<A> extends Fifo<PendingAcquire<A>> {
  private readonly turns: Turns
  // those that have left the queue with an outcome, and are not awake yet
  private readonly settled = new Fifo<PendingAcquire<A>>()
  private flushing = false
  private isScheduled = false
  // since the last turn that was asked for
  private woken = 0
  /** Set by a caller that ends its step with `flush`: no task is scheduled meanwhile. */
  isFlushComing = false

  constructor(turns: Turns) {
    super()
    this.turns = turns
  }

  enter(borrower: Borrower, since: number): PendingAcquire<A> {
    const waiter: PendingAcquire<A> = {
      ...unqueued,
      borrower,
      since,
      item: undefined,
      outcome: undefined,
      resume: undefined
    }
    this.add(waiter)
    return waiter
  }

  /** Gives a borrower its outcome, with which it wakes up soon. */
  settle(waiter: PendingAcquire<A>, outcome: Effect.Effect<void, ConnectionError>): void {
    this.delete(waiter)
    waiter.outcome = outcome
    this.settled.add(waiter)
    if (!this.isFlushComing && !this.flushing) this.schedule()
  }

  private schedule(): void {
    if (this.isScheduled) return
    this.isScheduled = true
    this.turns.scheduleTask(this.flushLater)
  }

  private readonly flushLater = (): void => {
    this.isScheduled = false
    this.woken = 0
    this.flush()
  }

  /** Wakes all that have an outcome. One that gives back at once, and so wakes the next, comes back here and does not nest. */
  readonly flush = (): void => {
    if (this.flushing || this.isScheduled) return
    this.flushing = true
    while (this.settled.size > 0 && !this.isScheduled) {
      if (this.woken++ === wakesPerTurn) this.schedule()
      else {
        const waiter = this.settled.shift()!
        waiter.resume?.(waiter.outcome!)
      }
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

/** A latch that wakes its waiters in a task of their own. */
import * as Effect from "effect/Effect"
import { Fifo, type Queued, unqueued } from "./fifo.ts"
import type { Turns } from "./turns.ts"

interface Waiter extends Queued<Waiter> {
  readonly resume: (go: Effect.Effect<void>) => void
}

/**
 * `Latch.openUnsafe` runs its waiters inside the call: a receiver woken by the first of 32 messages would take just that
 * one, in the middle of the reader's turn. Here everything done in one turn is seen by one wake-up.
 */
export class Gate {
  private waiters: Fifo<Waiter> | undefined
  private scheduled = false
  private readonly turns: Turns
  isOpen: boolean

  constructor(turns: Turns, isOpen: boolean) {
    this.turns = turns
    this.isOpen = isOpen
  }

  open(): void {
    if (this.isOpen) return
    this.isOpen = true
    if (this.waiters === undefined || this.scheduled) return
    this.scheduled = true
    this.turns.scheduleTask(this)
  }

  close(): void {
    this.isOpen = false
  }

  /** @internal */
  run(): void {
    this.scheduled = false
    // closed again meanwhile: they look again, and wait again
    const { waiters } = this
    this.waiters = undefined
    for (let waiter = waiters?.shift(); waiter !== undefined; waiter = waiters!.shift()) waiter.resume(Effect.void)
  }

  /** Waits until it is opened. It may be closed again by then: look before relying on it. */
  get await(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.isOpen) return resume(Effect.void)
      const waiters = this.waiters ??= new Fifo()
      const waiter = { ...unqueued, resume }
      waiters.add(waiter)
      return Effect.sync(() => {
        waiters.delete(waiter)
      })
    })
  }
}

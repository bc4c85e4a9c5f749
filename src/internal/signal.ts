/** A latch that wakes its waiters in a task of their own. */
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"

/**
 * `Latch.openUnsafe` runs whoever waits inside the call: a writer woken by the first of 32 messages would write just that
 * one, in the middle of the sender's turn. Here everything done in one turn is seen by one wake-up.
 */
export class Signal {
  private waiters: Array<() => void> = []
  private scheduled = false
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  /** Runs before waiters are woken; true when there is nothing left to wake them for. */
  serve: (() => boolean) | undefined
  isOpen: boolean

  constructor(dispatcher: Scheduler.SchedulerDispatcher, isOpen: boolean) {
    this.dispatcher = dispatcher
    this.isOpen = isOpen
  }

  open(): void {
    if (this.isOpen) return
    this.isOpen = true
    if (this.waiters.length === 0 || this.scheduled) return
    this.scheduled = true
    this.dispatcher.scheduleTask(this.flush, 0)
  }

  close(): void {
    this.isOpen = false
  }

  private readonly flush = (): void => {
    this.scheduled = false
    if (this.serve?.() === true) return
    // closed again meanwhile: they look again, and wait again
    const waiters = this.waiters
    this.waiters = []
    for (const waiter of waiters) waiter()
  }

  /** Waits until it is opened, and goes on with an effect. It may be closed again by then: look before relying on it. */
  andThen<A, E>(next: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.callback<A, E>((resume) => {
      if (this.isOpen) return resume(next)
      const waiter = (): void => resume(next)
      this.waiters.push(waiter)
      return Effect.sync(() => {
        const index = this.waiters.indexOf(waiter)
        if (index !== -1) this.waiters.splice(index, 1)
      })
    })
  }

  readonly await: Effect.Effect<void> = this.andThen(Effect.void)
}

/** A latch that wakes its waiters in a task of their own. */
import * as Effect from "effect/Effect"
import type { Turns } from "./turns.ts"

/**
 * `Latch.openUnsafe` runs its waiters inside the call: a receiver woken by the first of 32 messages would take just that
 * one, in the middle of the reader's turn. Here everything done in one turn is seen by one wake-up.
 */
export class Gate {
  private waiters: Array<() => void> | undefined
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
    for (const waiter of waiters ?? []) waiter()
  }

  /** Waits until it is opened. It may be closed again by then: look before relying on it. */
  get await(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.isOpen) return resume(Effect.void)
      const waiter = (): void => resume(Effect.void)
      if (this.waiters === undefined) this.waiters = [waiter]
      else this.waiters.push(waiter)
      return Effect.sync(() => {
        const { waiters } = this
        const index = waiters === undefined ? -1 : waiters.indexOf(waiter)
        if (index !== -1) waiters!.splice(index, 1)
      })
    })
  }
}

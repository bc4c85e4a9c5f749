/** One at a time, or so many, first come first served: what a hand-over costs does not depend on how many wait. */
import * as Effect from "effect/Effect"
import { Fifo, type Queued, unqueued } from "./fifo.ts"
import type { Turns } from "./turns.ts"

interface Waiter extends Queued<Waiter> {
  isNext: boolean
  resume: ((go: Effect.Effect<void>) => void) | undefined
}

/** Effect's `Semaphore` copies all that wait at each release (4.1): with 160,000 waiters a release takes a millisecond. */
export class Permits {
  private readonly turns: Turns
  private readonly waiters = new Fifo<Waiter>()
  private free: number

  constructor(turns: Turns, permits: number) {
    this.turns = turns
    this.free = permits
  }

  /** Runs an effect once one of those that asked before has ended, where all permits are taken. */
  withPermit<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.uninterruptibleMask((restore) => {
      const held = Effect.onExit(restore(effect), () => Effect.sync(() => this.release()))
      // while any wait, none is free: a release hands its permit over
      if (this.free > 0) {
        this.free--
        return held
      }
      const waiter: Waiter = { ...unqueued, isNext: false, resume: undefined }
      this.waiters.add(waiter)
      const turn = Effect.callback<void>((resume) => {
        if (waiter.isNext) resume(Effect.void)
        else waiter.resume = resume
      })
      return Effect.andThen(Effect.onError(restore(turn), () => Effect.sync(() => this.leave(waiter))), held)
    })
  }

  private leave(waiter: Waiter): void {
    if (!this.waiters.delete(waiter)) this.release()
  }

  private release(): void {
    const next = this.waiters.shift()
    if (next === undefined) {
      this.free++
      return
    }
    next.isNext = true
    this.turns.scheduleTask(() => next.resume?.(Effect.void))
  }
}

/** One at a time. */
export class Mutex extends Permits {
  constructor(turns: Turns) {
    super(turns, 1)
  }
}

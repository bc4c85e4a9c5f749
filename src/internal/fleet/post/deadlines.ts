/** One timer for all that waits for an answer equally long. */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { spawn } from "../../scheduling/supervised.ts"

interface Waiting {
  readonly at: number
  readonly expire: () => void
}

export class Deadlines {
  readonly millis: number
  private readonly clock: Clock.Clock
  // in the order of their times
  private readonly waiting = new Map<number, Waiting>()
  private readonly latch = Latch.makeUnsafe(false)

  constructor(clock: Clock.Clock, millis: number) {
    this.clock = clock
    this.millis = millis
  }

  private now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1_000_000
  }

  add(id: number, expire: () => void): void {
    this.waiting.set(id, { at: this.now() + this.millis, expire })
    if (this.waiting.size === 1) this.latch.openUnsafe()
  }

  remove(id: number): void {
    this.waiting.delete(id)
  }

  /** Runs an effect, and gives it up when its time is over. All share one timer: a race would cost two fibers each. */
  bound<A, E>(
    context: Context.Context<never>,
    id: number,
    effect: Effect.Effect<A, E>,
    late: () => E
  ): Effect.Effect<A, E> {
    return Effect.callback((resume) => {
      const fiber = spawn(context, "asking the engine of a fleet", effect, (exit) => {
        this.remove(id)
        resume(exit)
      })
      if (fiber.pollUnsafe() !== undefined) return
      this.add(id, () => {
        resume(Effect.fail(late()))
        fiber.interruptUnsafe()
      })
      return Effect.sync(() => {
        this.remove(id)
        fiber.interruptUnsafe()
      })
    })
  }

  private expire(): void {
    const now = this.now()
    for (const [id, { at, expire }] of this.waiting) {
      if (at > now) return
      this.waiting.delete(id)
      expire()
    }
  }

  readonly run: Effect.Effect<never> = Effect.forever(
    Effect.gen({ self: this }, function*() {
      const [first] = this.waiting.values()
      if (first === undefined) {
        this.latch.closeUnsafe()
        yield* this.latch.await
      } else {
        yield* Effect.sleep(Math.max(0, Math.ceil(first.at - this.now())))
        this.expire()
      }
    }),
    { disableYield: true }
  )
}

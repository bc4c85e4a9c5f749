/** What an application is told beside what tells it: hooks that can neither delay nor break that, and end with it. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { logError } from "../reasons/logs.ts"
import { spawnAmong } from "../scheduling/supervised.ts"

/** Milliseconds that a hook has for what it was told last. */
export const lastWords = 5000

/** The hooks that run now, each in a fiber of its own. */
export class Reports {
  private readonly context: Context.Context<never>
  private readonly fibers = new Set<Fiber.Fiber<unknown, unknown>>()
  private isOver = false

  /** `context`: of the fibers. */
  constructor(context: Context.Context<never>) {
    this.context = context
  }

  /** Runs a hook; that it failed is logged. */
  run(name: string, hook: () => Effect.Effect<unknown, unknown>): Fiber.Fiber<unknown> {
    const guarded = Effect.catchCause(
      Effect.suspend(hook),
      (cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : logError(`${name} failed`, cause)
    )
    const fiber = spawnAmong(this.fibers, this.context, name, guarded, () => {})
    if (this.isOver) fiber.interruptUnsafe()
    return fiber
  }

  /**
   * Waits so long for what runs, and interrupts it then; from then on also what does not return at once. A hook that ends what tells
   * it is not waited for.
   */
  end(limit = lastWords): Effect.Effect<void> {
    return Effect.withFiber((closer) => {
      const others = () => [...this.fibers].filter((fiber) => fiber !== closer)
      const running = others()
      const heard = running.length === 0 ? Effect.void : Effect.timeoutOption(Fiber.awaitAll(running), limit)
      return Effect.andThen(
        heard,
        Effect.suspend(() => {
          this.isOver = true
          return Fiber.interruptAll(others())
        })
      )
    })
  }
}

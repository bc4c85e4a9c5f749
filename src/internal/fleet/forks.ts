/** Effects that belong to no caller: they run until they are done, or all of them are stopped. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Supervised from "../scheduling/supervised.ts"

export class Forks {
  private readonly context: Context.Context<never>
  private readonly fibers = new Set<Fiber.Fiber<unknown, unknown>>()

  constructor(context: Context.Context<never>) {
    this.context = context
  }

  /** Runs one of them. A failure is logged as that of `what`. */
  run(what: string, effect: Effect.Effect<void>): void {
    Supervised.spawnAmong(this.fibers, this.context, what, effect, (exit) => {
      if (exit._tag === "Success" || Cause.hasInterruptsOnly(exit.cause)) return
      Supervised.log(this.context, `${what} failed`, exit.cause)
    })
  }

  stop(): void {
    for (const fiber of Array.from(this.fibers)) fiber.interruptUnsafe()
  }
}

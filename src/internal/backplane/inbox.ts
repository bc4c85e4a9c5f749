/** What has come for a node and is not taken yet: a bounded number of batches, and how many were too much. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Arrival, BackplaneError } from "./engine.ts"

export class Inbox {
  private readonly limit: number
  private readonly latch = Latch.makeUnsafe(false)
  private arrivals: Array<Arrival> = []
  private lost = 0
  private error: BackplaneError | undefined

  constructor(limit: number) {
    this.limit = limit
  }

  offer(bytes: Uint8Array): void {
    if (this.lost > 0 || this.arrivals.length >= this.limit) this.lost++
    else this.arrivals.push({ _tag: "Batch", bytes })
    this.latch.openUnsafe()
  }

  /** Batches are missing after those that have come so far. */
  gap(count: number | undefined): void {
    this.arrivals.push({ _tag: "Gap", count })
    this.latch.openUnsafe()
  }

  /** Nothing comes any more: once all is taken, `take` fails. */
  end(error: BackplaneError): void {
    this.error ??= error
    this.latch.openUnsafe()
  }

  readonly take: Effect.Effect<NonEmptyReadonlyArray<Arrival>, BackplaneError> = Effect.suspend(() => {
    const { arrivals, error, lost } = this
    if (lost > 0) arrivals.push({ _tag: "Gap", count: lost })
    if (!Arr.isArrayNonEmpty(arrivals)) {
      return error !== undefined
        ? Effect.fail(error)
        : Effect.andThen(this.latch.await, this.take)
    }
    this.arrivals = []
    this.lost = 0
    this.latch.closeUnsafe()
    return Effect.succeed(arrivals)
  })
}

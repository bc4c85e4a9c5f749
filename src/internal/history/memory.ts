/** A history in the memory of this process. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import { givenSize } from "../bytes/sizes.ts"
import { Gate } from "../scheduling/gate.ts"
import { monotonic } from "../scheduling/timers.ts"
import { type Turns, turnsOf } from "../scheduling/turns.ts"
import { type Bounds, Kept, limitOf } from "./kept.ts"
import { type Ends, type Gone, type History, HistoryError, type Missed, type Position } from "./log.ts"

/** Waits for the next change: a fiber that has looked cannot miss it. */
export class Changes {
  private readonly turns: Turns
  private next: Gate

  constructor(turns: Turns) {
    this.turns = turns
    this.next = new Gate(turns, false)
  }

  /** Wakes all that wait, once the turn has done what it does. */
  tell(): void {
    const woken = this.next
    this.next = new Gate(this.turns, false)
    woken.open()
  }

  readonly await: Effect.Effect<void> = Effect.suspend(() => this.next.await)
}

export class Memory<A> implements History<A> {
  private readonly kept: Kept<A>
  private readonly bounds: Bounds
  private readonly sizeOf: (message: A) => number
  private readonly now: () => number
  private readonly changes: Changes

  constructor(epoch: string, bounds: Bounds, sizeOf: (message: A) => number, now: () => number, turns: Turns) {
    this.kept = new Kept(epoch, bounds)
    this.bounds = bounds
    this.sizeOf = sizeOf
    this.now = now
    this.changes = new Changes(turns)
  }

  append = (message: A): Effect.Effect<Position, HistoryError> =>
    Effect.flatMap(
      Effect.try({
        try: () => givenSize(this.sizeOf(message)),
        catch: (cause) => new HistoryError({ reason: "data", cause })
      }),
      (bytes) => {
        if (bytes > this.bounds.bytes) return Effect.fail(new HistoryError({ reason: "size" }))
        const position = this.kept.push(message, bytes, this.now())
        this.changes.tell()
        return Effect.succeed(position)
      }
    )

  private get trimmed(): Kept<A> {
    this.kept.trim(this.now())
    return this.kept
  }

  since = (position: Position, limit?: number): Effect.Effect<Missed<A> | Gone> =>
    Effect.sync(() => this.trimmed.since(position, limitOf(limit)))

  readonly ends: Effect.Effect<Ends> = Effect.sync(() => {
    const kept = this.trimmed
    return { oldest: kept.at(kept.oldest), newest: kept.at(kept.newest) }
  })

  awaitAfter = ({ epoch, offset }: Position): Effect.Effect<void> =>
    Effect.suspend(() => epoch === this.kept.epoch && offset === this.kept.newest ? this.changes.await : Effect.void)
}

const letters = Effect.map(Random.next, (random) => Math.floor(random * 2 ** 52).toString(36).padStart(11, "0"))

/** A name that no other memory has: 104 random bits. */
export const newEpoch: Effect.Effect<string> = Effect.zipWith(letters, letters, (a, b) => a + b)

export const make = <A>(bounds: Bounds, sizeOf: (message: A) => number): Effect.Effect<History<A>> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const scheduler = yield* Scheduler.Scheduler
    return new Memory(yield* newEpoch, bounds, sizeOf, monotonic(clock), turnsOf(scheduler))
  })

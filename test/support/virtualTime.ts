/**
 * Virtual time for simulations with tens of thousands of sleepers.
 *
 * `TestClock` keeps its sleeps in a sorted array and asks the event loop after each wake: right for a timeline of one
 * conversation, and quadratic for a crowd. Here the sleeps are a heap, and one synchronous loop is the scheduler of all
 * fibers: it runs what is ready, in order, and then advances to the next sleep. Nothing waits for anything real, so the
 * same program gives the same history every time. Effects that wait for promises never go on here.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scheduler from "effect/Scheduler"

interface Sleep {
  readonly at: number
  // of two at the same time, the one that began first
  readonly order: number
  /** Undefined once it was interrupted. */
  wake: (() => void) | undefined
}

const before = (a: Sleep, b: Sleep): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

class Heap {
  private readonly items: Array<Sleep> = []

  get first(): Sleep | undefined {
    return this.items[0]
  }

  push(item: Sleep): void {
    const { items } = this
    let at = items.length
    while (at > 0) {
      const parent = (at - 1) >>> 1
      if (!before(item, items[parent]!)) break
      items[at] = items[parent]!
      at = parent
    }
    items[at] = item
  }

  pop(): void {
    const { items } = this
    const last = items.pop()!
    if (items.length === 0) return
    let at = 0
    while (true) {
      let child = 2 * at + 1
      if (child >= items.length) break
      if (child + 1 < items.length && before(items[child + 1]!, items[child]!)) child++
      if (!before(items[child]!, last)) break
      items[at] = items[child]!
      at = child
    }
    items[at] = last
  }
}

export interface VirtualTime {
  /** Milliseconds since the beginning. */
  readonly now: () => number
  /** Runs an effect that ends without time passing, with everything it sets off; throws what it fails with. */
  readonly run: <A, E>(effect: Effect.Effect<A, E>) => A
  /** Runs everything due in the next milliseconds, in order; stops early once `until` holds. */
  readonly advance: (millis: number, until?: () => boolean) => void
}

export const make = (): VirtualTime => {
  const sleeps = new Heap()
  let now = 0
  let order = 0
  let ready: Array<() => void> = []

  const nanos = () => BigInt(Math.round(now * 1_000_000))
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => now,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: (duration) => {
      const millis = Duration.toMillis(duration)
      return !(millis > 0) ? Effect.void : Effect.callback<void>((resume) => {
        const sleep: Sleep = { at: now + millis, order: order++, wake: () => resume(Effect.void) }
        if (millis !== Infinity) sleeps.push(sleep)
        return Effect.sync(() => {
          sleep.wake = undefined
        })
      })
    }
  }

  /** Runs what is ready, and what that makes ready. */
  const settle = (): void => {
    while (ready.length > 0) {
      const tasks = ready
      ready = []
      for (const task of tasks) task()
    }
  }
  const scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    shouldYield: () => false,
    makeDispatcher: () => ({ scheduleTask: (task) => void ready.push(task), flush: settle })
  }

  return {
    now: () => now,
    run: (effect) => {
      const fiber = Effect.runFork(Effect.provideService(effect, Clock.Clock, clock), { scheduler })
      settle()
      const exit = fiber.pollUnsafe()
      if (exit === undefined) throw new Error("it waits for time to pass, or for something real")
      if (Exit.isFailure(exit)) throw Cause.squash(exit.cause)
      return exit.value
    },
    advance: (millis, until = () => false) => {
      const end = now + millis
      while (!until()) {
        const next = sleeps.first
        if (next === undefined || next.at > end) {
          now = end
          return
        }
        sleeps.pop()
        if (next.wake === undefined) continue
        now = next.at
        next.wake()
        settle()
      }
    }
  }
}

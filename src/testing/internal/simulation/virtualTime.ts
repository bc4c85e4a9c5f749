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
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scheduler from "effect/Scheduler"
import { type Due, Heap } from "../../../internal/scheduling/heap.ts"
import { spawn } from "../../../internal/scheduling/supervised.ts"
import { Alarm, type Alarmed } from "../../../internal/scheduling/timers.ts"

interface Sleep extends Due {
  /** Undefined once it was interrupted. */
  wake: (() => void) | undefined
}

/** Why `until` stopped. */
export type Halt =
  | "done"
  /** No fiber is ready and none sleeps. */
  | "idle"
  /** The next sleep ends after the time that was allowed. */
  | "late"
  /** As many steps as were allowed, with no time passing. */
  | "livelock"

export class VirtualTime {
  readonly clock: Alarmed
  readonly scheduler: Scheduler.Scheduler
  private readonly sleeps = new Heap<Sleep>()
  private time = 0
  private order = 0
  private ready: Array<() => void> = []
  private isRunning = false
  /** Tasks of the scheduler that have run. */
  steps = 0
  /** Sleeps that have not ended. */
  sleeping = 0
  /** A task or sleep came while `until` was not running: it came from the real world. */
  disturbed = false

  constructor() {
    const nanos = () => BigInt(Math.round(this.time * 1_000_000))
    this.clock = {
      currentTimeMillisUnsafe: this.now,
      currentTimeMillis: Effect.sync(this.now),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: nanos,
      monotonicTimeNanos: Effect.sync(nanos),
      sleep: (duration) => this.sleep(Duration.toMillis(duration)),
      [Alarm]: (millis, run) => this.alarm(millis, run)
    }
    this.scheduler = {
      executionMode: "async",
      // a fiber that never waits for anything has turns too, so that a livelock is seen
      shouldYield: (fiber) => fiber.currentOpCount >= fiber.cache.maxOpsBeforeYield,
      makeDispatcher: () => ({ scheduleTask: this.schedule, flush: () => this.settle(Infinity) })
    }
  }

  /** Milliseconds since the beginning. */
  readonly now = (): number => this.time

  /** Notes that a task, a sleep or the end of a fiber came. */
  touched(): void {
    if (!this.isRunning) this.disturbed = true
  }

  private sleep(millis: number): Effect.Effect<void> {
    if (!(millis > 0)) return Effect.void
    return Effect.callback<void>((resume) => {
      const end = this.alarm(millis, () => resume(Effect.void))
      return Effect.sync(end)
    })
  }

  private alarm(millis: number, wake: () => void): () => void {
    this.touched()
    const sleep: Sleep = { at: this.time + millis, order: this.order++, wake }
    this.sleeping++
    if (millis !== Infinity) this.sleeps.push(sleep)
    return () => {
      if (sleep.wake === undefined) return
      sleep.wake = undefined
      this.sleeping--
    }
  }

  private readonly schedule = (task: () => void): void => {
    this.touched()
    this.ready.push(task)
  }

  /** Runs what is ready, and what that makes ready; false when that takes more steps than allowed. */
  private settle(most: number, isOver?: () => boolean): boolean {
    const end = this.steps + most
    const outer = this.isRunning
    this.isRunning = true
    try {
      while (this.ready.length > 0) {
        if (this.steps > end) return false
        if (isOver?.() === true) return true
        const tasks = this.ready
        this.ready = []
        this.steps += tasks.length
        for (const task of tasks) task()
      }
      return true
    } finally {
      this.isRunning = outer
    }
  }

  /** Forks an effect, which does not begin before the next `run`, `advance` or `until`. */
  fork<A, E>(
    effect: Effect.Effect<A, E>,
    context: Context.Context<never> = Context.make(Clock.Clock, this.clock)
  ): Fiber.Fiber<A, E> {
    const outer = this.isRunning
    this.isRunning = true
    try {
      // the caller looks at its exit
      return spawn(context, "simulated", Effect.andThen(Effect.yieldNow, effect), () => {}, {
        scheduler: this.scheduler
      })
    } finally {
      this.isRunning = outer
    }
  }

  /** Runs an effect that ends without time passing, with everything it sets off; throws what it fails with. */
  run<A, E>(effect: Effect.Effect<A, E>): A {
    const fiber = this.fork(effect)
    this.settle(Infinity)
    const exit = fiber.pollUnsafe()
    if (exit === undefined) throw new Error("it waits for time to pass, or for something real")
    if (Exit.isFailure(exit)) throw Cause.squash(exit.cause)
    return exit.value
  }

  /** Runs everything due in the next milliseconds, in order; stops early once `isOver` holds. */
  advance(millis: number, isOver: () => boolean = () => false): void {
    const end = this.time + millis
    if (this.until(isOver, () => end, Infinity) !== "done") this.time = end
  }

  /** Runs until `isOver` holds. `deadline` is asked again whenever time passes, and may move. */
  until(isOver: () => boolean, deadline: () => number, mostAtOnce: number): Halt {
    // a sleep of a part of a millisecond is no time: very many of them are a run without an end
    let most = this.steps + mostAtOnce
    while (true) {
      if (!this.settle(most - this.steps, isOver)) return "livelock"
      if (isOver()) return "done"
      const next = this.sleeps.first
      if (next === undefined) return "idle"
      if (next.wake !== undefined && next.at > deadline()) return "late"
      this.sleeps.pop()
      const { wake } = next
      if (wake === undefined) continue
      next.wake = undefined
      this.sleeping--
      if (next.at >= Math.floor(this.time) + 1) most = this.steps + mostAtOnce
      this.time = next.at
      this.isRunning = true
      try {
        wake()
      } finally {
        this.isRunning = false
      }
    }
  }
}

/** What happens when: one heap of timers and one queue of tasks for a whole network, on any `Clock`. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import { type Due, Heap } from "./heap.ts"
import { Alarm, type Alarmed } from "./virtualTime.ts"

/** Something to do at a time; `run` is undefined once it was done or cancelled. */
export interface Timer extends Due {
  run: (() => void) | undefined
}

/** A sleep in progress. */
interface Sleeping {
  readonly at: number
  end: (() => void) | undefined
}

/**
 * Timers run in the order of their times, those of one time in the order they were set. Tasks run in a turn of their own,
 * so that nothing of the application runs in the middle of somebody's write. Times are milliseconds since the beginning.
 */
export class Timeline {
  readonly clock: Clock.Clock
  private readonly origin: bigint
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly timers = new Heap<Timer>()
  private order = 0
  private tasks: Array<() => void> = []
  private scheduled = false
  // each one earlier than the one before it: an alarm that turns out to be too late stays, which costs nothing
  private readonly alarms: Array<Sleeping> = []
  private ringing = false
  private closed = false

  private constructor(
    clock: Clock.Clock,
    dispatcher: Scheduler.SchedulerDispatcher,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.clock = clock
    this.origin = clock.monotonicTimeNanosUnsafe()
    this.dispatcher = dispatcher
    this.fork = fork
  }

  static readonly make: Effect.Effect<Timeline, never, Scope.Scope> = Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    const dispatcher = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.currentDispatcher))
    const timeline = new Timeline(clock, dispatcher, Effect.runForkWith(context))
    yield* Effect.addFinalizer(() => Effect.sync(() => timeline.close()))
    return timeline
  })

  now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() - this.origin) / 1_000_000
  }

  /** Does something in a turn of its own, soon. */
  post(task: () => void): void {
    this.tasks.push(task)
    if (this.scheduled) return
    this.scheduled = true
    this.dispatcher.scheduleTask(this.turn, 0)
  }

  private readonly turn = (): void => {
    this.scheduled = false
    // what these set off comes in the next turn: a conversation without latency must not keep everybody else waiting
    const tasks = this.tasks
    this.tasks = []
    for (const task of tasks) task()
  }

  /** Does something at a time, or in a turn of its own where that has come. `run` must not run anybody's code inline. */
  at(time: number, run: () => void): Timer {
    const timer: Timer = { at: time, order: this.order++, run }
    const now = this.now()
    const first = this.timers.first
    // an earlier one may be due in this very moment and not have been rung yet: it comes first
    if (time <= now && !(first !== undefined && first.at <= now)) this.post(() => this.fire(timer))
    else {
      this.timers.push(timer)
      this.arm()
    }
    return timer
  }

  private fire(timer: Timer): void {
    const run = timer.run
    timer.run = undefined
    if (!this.closed) run?.()
  }

  private arm(): void {
    const first = this.timers.first
    if (first === undefined || this.ringing || this.closed) return
    const now = this.now()
    // whole milliseconds: a shorter rest than the clock can tell would end at once
    const millis = Math.ceil(first.at - now)
    const earliest = this.alarms.at(-1)
    if (earliest !== undefined && earliest.at <= now + millis) return
    const alarm: Sleeping = { at: now + millis, end: undefined }
    this.alarms.push(alarm)
    const done = (): void => {
      this.alarms.splice(this.alarms.indexOf(alarm), 1)
    }
    const direct = (this.clock as Alarmed)[Alarm]
    if (direct !== undefined) {
      alarm.end = direct(millis, () => {
        done()
        this.ring()
      })
      return
    }
    const fiber = this.fork(this.clock.sleep(Duration.millis(millis)))
    alarm.end = () => fiber.interruptUnsafe()
    fiber.addObserver((exit) => {
      done()
      if (Exit.isSuccess(exit)) this.ring()
    })
  }

  private ring(): void {
    const now = this.now()
    this.ringing = true
    for (let next = this.timers.first; next !== undefined; next = this.timers.first) {
      if (next.run !== undefined && next.at > now) break
      this.timers.pop()
      this.fire(next)
    }
    this.ringing = false
    this.arm()
  }

  private close(): void {
    this.closed = true
    for (const alarm of this.alarms.slice()) alarm.end?.()
  }
}

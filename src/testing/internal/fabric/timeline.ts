/** The time of a network: the timers and one queue of tasks for all its hosts, on any `Clock`. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import { type Timer, Timers } from "../../../internal/scheduling/timers.ts"

export type { Timer } from "../../../internal/scheduling/timers.ts"

/**
 * Timers run in the order of their times, those of one time in the order they were set. Tasks run in a turn of their own,
 * so that no code of the application runs in the middle of a write. Times are milliseconds since the beginning.
 */
export class Timeline {
  readonly clock: Clock.Clock
  readonly now: () => number
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  private readonly timers: Timers
  private tasks: Array<() => void> = []
  private scheduled = false
  private closed = false

  private constructor(clock: Clock.Clock, scheduler: Scheduler.Scheduler, dispatcher: Scheduler.SchedulerDispatcher) {
    this.clock = clock
    this.dispatcher = dispatcher
    const origin = clock.monotonicTimeNanosUnsafe()
    this.now = () => Number(clock.monotonicTimeNanosUnsafe() - origin) / 1_000_000
    this.timers = new Timers(clock, Context.make(Scheduler.Scheduler, scheduler), this.now, (task) => this.post(task))
  }

  static readonly make: Effect.Effect<Timeline, never, Scope.Scope> = Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const scheduler = yield* Scheduler.Scheduler
    const dispatcher = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.currentDispatcher))
    const timeline = new Timeline(clock, scheduler, dispatcher)
    yield* Effect.addFinalizer(() => Effect.sync(() => timeline.close()))
    return timeline
  })

  /** Runs a task in the next turn. */
  post(task: () => void): void {
    this.tasks.push(task)
    if (this.scheduled) return
    this.scheduled = true
    this.dispatcher.scheduleTask(this.turn, 0)
  }

  private readonly turn = (): void => {
    this.scheduled = false
    // tasks that these post run in the next turn: a conversation without latency must not starve the others
    const tasks = this.tasks
    this.tasks = []
    for (const task of tasks) task()
  }

  /** Runs `run` at a time, or in the next turn when that has passed. `run` must not call the application inline. */
  at(time: number, run: () => void): Timer {
    return this.timers.at(time, () => {
      if (!this.closed) run()
    })
  }

  private close(): void {
    this.closed = true
    this.timers.clear()
  }
}

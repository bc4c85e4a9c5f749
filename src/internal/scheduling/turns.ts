/**
 * Tasks of all connections together: one turn of the event loop for all that is due, not one for each fiber.
 *
 * A turn is done in phases: all that the event loop delivered is decoded first, then the handlers run, then everything is
 * written, each for all connections. Read by read it was 15 to 30 % more CPU: each answer woke its peer alone, and the code
 * fell out of the caches of the processor. But 64 tasks that are due are done at once: with 19,000 connections ready together
 * the first would have waited for the last, for most of a second.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import { log } from "./supervised.ts"

// what a task wakes is done in the same turn, but the event loop is not kept from its sockets
const mostRounds = 4

// so many are enough to be quick together, and few enough to be soon: a millisecond or two
const lot = 64

/** Something to do; what is done again and again is one object, and no closure each time. */
export interface Task {
  readonly run: () => void
  /** The owner, told what `run` threw; without one that is logged. Must not throw. */
  readonly failed?: (defect: unknown) => void
  /** Called when the wall clock has jumped while this was waiting for its time. Must not throw. */
  readonly onJump?: (now: number) => void
}

/** Runs a task; its owner is told of a throw. */
export const perform = (task: Task | (() => void)): void => {
  try {
    if (typeof task === "function") task()
    else task.run()
  } catch (defect) {
    if (typeof task === "object" && task.failed !== undefined) task.failed(defect)
    else log(Context.empty(), "a task of the event loop failed", Cause.die(defect))
  }
}

/**
 * A fiber has a dispatcher of its own, and each dispatcher asks the event loop for a turn of its own. With a thousand
 * connections that are woken by one poll, the turns cost more than what is done in them.
 */
export class Turns {
  readonly dispatcher: Scheduler.SchedulerDispatcher
  /** How many turns there were: what comes before the next one shares it. */
  count = 0
  private tasks: Array<Task | (() => void)> = []
  private scheduled = false
  private running = false

  constructor(dispatcher: Scheduler.SchedulerDispatcher) {
    this.dispatcher = dispatcher
  }

  scheduleTask(task: Task | (() => void)): void {
    this.tasks.push(task)
    if (this.scheduled) return
    this.scheduled = true
    this.dispatcher.scheduleTask(this.run, 0)
  }

  /**
   * Runs the tasks that are due now, if they are many: the first task must not wait until the event loop has delivered everything.
   * Call it only from the event loop, never from inside a task.
   */
  relieve(): void {
    if (this.tasks.length >= lot && !this.running) this.run()
  }

  /** Does something after so many turns of the event loop, in which it delivers what waits. */
  after(turns: number, task: () => void): void {
    this.dispatcher.scheduleTask(turns > 1 ? () => this.after(turns - 1, task) : task, 0)
  }

  private readonly run = (): void => {
    this.running = true
    for (let round = 0; round < mostRounds && this.tasks.length > 0; round++) {
      const { tasks } = this
      this.tasks = []
      // no iterator for each turn
      for (let i = 0; i < tasks.length; i++) perform(tasks[i]!)
    }
    this.running = false
    this.count++
    this.scheduled = this.tasks.length > 0
    if (this.scheduled) this.dispatcher.scheduleTask(this.run, 0)
  }
}

/** Goes on after so many turns of the event loop, in which it delivers what waits. */
export const afterTurns = (turns: Turns, count: number): Effect.Effect<void> =>
  Effect.callback((resume) => turns.after(count, () => resume(Effect.void)))

const all = new WeakMap<Scheduler.Scheduler, Turns>()

/** The turns of a scheduler. */
export const turnsOf = (scheduler: Scheduler.Scheduler): Turns => {
  const known = all.get(scheduler)
  if (known !== undefined) return known
  const turns = new Turns(scheduler.makeDispatcher())
  all.set(scheduler, turns)
  return turns
}

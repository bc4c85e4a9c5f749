/** Tasks of all connections together: one turn of the event loop for all that is due, not one for each fiber. */
import type * as Scheduler from "effect/Scheduler"

// what a task wakes is done in the same turn, but the event loop is not kept from its sockets
const mostRounds = 4

// so many are enough to be quick together, and few enough to be soon: a millisecond or two
const lot = 64

/** Something to do; what is done again and again is one object, and no closure each time. */
export interface Task {
  readonly run: () => void
  /** Called when the wall clock has jumped while this was waiting for its time. Must not throw. */
  readonly onJump?: (now: number) => void
}

/**
 * A fiber has a dispatcher of its own, and each dispatcher asks the event loop for a turn of its own. With a thousand
 * connections that are woken by one poll, the turns cost more than what is done in them.
 */
export class Turns {
  private readonly dispatcher: Scheduler.SchedulerDispatcher
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
   * Does what is due now, if that is a lot: whoever was first must not wait until the event loop has delivered everything.
   * For callers that nobody called but the event loop.
   */
  relieve(): void {
    if (this.tasks.length >= lot && !this.running) this.run()
  }

  /** Does something after so many turns of the event loop, in which it delivers what waits. */
  after(turns: number, task: () => void): void {
    this.dispatcher.scheduleTask(turns > 1 ? () => this.after(turns - 1, task) : task, 0)
  }

  private readonly run = (): void => {
    let tasks: typeof this.tasks = []
    let at = 0
    this.running = true
    try {
      for (let round = 0; round < mostRounds && this.tasks.length > 0; round++) {
        tasks = this.tasks
        this.tasks = []
        for (at = 0; at < tasks.length;) {
          const task = tasks[at++]!
          if (typeof task === "function") task()
          else task.run()
        }
      }
    } finally {
      this.running = false
      // a task that throws takes no other with it
      if (at < tasks.length) this.tasks = tasks.slice(at).concat(this.tasks)
      this.scheduled = this.tasks.length > 0
      if (this.scheduled) this.dispatcher.scheduleTask(this.run, 0)
    }
  }
}

const all = new WeakMap<Scheduler.Scheduler, Turns>()

/** The turns of a scheduler. */
export const turnsOf = (scheduler: Scheduler.Scheduler): Turns => {
  const known = all.get(scheduler)
  if (known !== undefined) return known
  const turns = new Turns(scheduler.makeDispatcher())
  all.set(scheduler, turns)
  return turns
}

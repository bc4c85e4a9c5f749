/** Tasks of all connections together: one turn of the event loop for all that is due, not one for each fiber. */
import type * as Scheduler from "effect/Scheduler"

// what a task wakes is done in the same turn, but the event loop is not kept from its sockets
const mostRounds = 4

/**
 * A fiber has a dispatcher of its own, and each dispatcher asks the event loop for a turn of its own. With a thousand
 * connections that are woken by one poll, the turns cost more than what is done in them.
 */
class Turns implements Scheduler.SchedulerDispatcher {
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  private tasks: Array<() => void> = []
  private scheduled = false

  constructor(dispatcher: Scheduler.SchedulerDispatcher) {
    this.dispatcher = dispatcher
  }

  scheduleTask(task: () => void): void {
    this.tasks.push(task)
    if (this.scheduled) return
    this.scheduled = true
    this.dispatcher.scheduleTask(this.run, 0)
  }

  flush(): void {
    this.dispatcher.flush()
  }

  private readonly run = (): void => {
    let tasks: Array<() => void> = []
    let at = 0
    try {
      for (let round = 0; round < mostRounds && this.tasks.length > 0; round++) {
        tasks = this.tasks
        this.tasks = []
        for (at = 0; at < tasks.length;) tasks[at++]!()
      }
    } finally {
      // a task that throws takes no other with it
      if (at < tasks.length) this.tasks = tasks.slice(at).concat(this.tasks)
      this.scheduled = this.tasks.length > 0
      if (this.scheduled) this.dispatcher.scheduleTask(this.run, 0)
    }
  }
}

const all = new WeakMap<Scheduler.Scheduler, Turns>()

/** The turns of a scheduler. */
export const turnsOf = (scheduler: Scheduler.Scheduler): Scheduler.SchedulerDispatcher => {
  const known = all.get(scheduler)
  if (known !== undefined) return known
  const turns = new Turns(scheduler.makeDispatcher())
  all.set(scheduler, turns)
  return turns
}

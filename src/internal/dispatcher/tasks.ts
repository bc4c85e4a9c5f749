/** Tasks of a dispatcher: each runs in a fiber of its own, with the services of its caller. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { logError } from "../reasons/logs.ts"
import { unqueued } from "../scheduling/fifo.ts"
import * as Supervised from "../scheduling/supervised.ts"
import type { Job, TaskQueue } from "./queue.ts"

/** Which tasks a fiber works for: its own, and the tasks that wait for that one. */
interface Working {
  readonly queue: TaskQueue<unknown>
  readonly job: Job
  readonly outer: Working | undefined
}

const CurrentWork = Context.Reference<Working | undefined>("holdfast/Dispatcher/CurrentWork", {
  defaultValue: () => undefined
})

/** Whether a task of this dispatcher would wait: all of its workers could wait for each other. */
const isNested = (queue: TaskQueue<unknown>, working: Working | undefined): boolean => {
  for (let work = working; work !== undefined; work = work.outer) {
    if (work.queue === queue && !work.job.done) return true
  }
  return false
}

/** Stops a queue. A task that does it, itself or by what it waits for, goes on. */
export const stop = <Err>(queue: TaskQueue<Err>, { context }: Fiber.Fiber<unknown, unknown>): Effect.Effect<void> => {
  const closing = new Set<Job>()
  for (let work = Context.get(context, CurrentWork); work !== undefined; work = work.outer) closing.add(work.job)
  return queue.stop((job) => closing.has(job))
}

const logged = Effect.tapCause((cause) =>
  Cause.hasInterruptsOnly(cause) ? Effect.void : logError("a task submitted to a dispatcher failed", cause)
)

/** A task as a job: `settle` is told how it ended, after its worker is free. */
const jobOf = <A, E, R, Err>(
  queue: TaskQueue<Err>,
  caller: Fiber.Fiber<unknown, unknown>,
  task: Effect.Effect<A, E, R>,
  outer: Working | undefined,
  key: unknown,
  settle: (exit: Exit.Exit<A, E | Err>) => void
): Job => ({
  ...unqueued,
  key,
  fiber: undefined,
  done: false,
  refuse: () => settle(Exit.fail(queue.error("Stopped"))),
  start: (job) => {
    const work: Working = { queue, job, outer }
    const context = Context.add(caller.context as Context.Context<R>, CurrentWork, work)
    // before the task can stop the dispatcher, which interrupts the fibers of running tasks
    const running = Effect.withFiber<A, E, R>((fiber) => {
      job.fiber = fiber
      return task
    })
    const over = (exit: Exit.Exit<A, E>): void => {
      queue.ended(job, exit)
      settle(queue.reported(exit))
      queue.pump()
    }
    Supervised.spawn(context, "task of a dispatcher", running, over, { uninterruptible: true })
  }
})

/** Runs a task and gives back its exit. Where `isBounded`, a task that may not wait fails. */
export const run = <A, E, R, Err>(
  queue: TaskQueue<Err>,
  isBounded: boolean,
  task: Effect.Effect<A, E, R>,
  key: unknown
): Effect.Effect<A, E | Err, R> =>
  // a task may be interrupted where its caller may
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((caller) => {
      const outer = Context.get(caller.context, CurrentWork)
      const error = isNested(queue, outer) ? queue.error("Nested") : queue.refusal(key, isBounded)
      if (error !== undefined) return Effect.fail(error)
      return restore(Effect.callback((resume) => {
        const job = jobOf(queue, caller, restore(task), outer, key, resume)
        queue.enter(job)
        return queue.cancel(job)
      }))
    })
  )

/** Accepts a task that runs later; its failure is logged. */
export const submit = <A, E, R, Err>(
  queue: TaskQueue<Err>,
  task: Effect.Effect<A, E, R>,
  key: unknown
): Effect.Effect<void, Err, R> =>
  Effect.withFiber((caller) => {
    const error = queue.refusal(key, true)
    if (error !== undefined) return Effect.fail(error)
    // its caller does not wait: the task is nested in nothing
    queue.enter(jobOf(queue, caller, Effect.interruptible(logged(task)), undefined, key, () => {}))
    return Effect.void
  })

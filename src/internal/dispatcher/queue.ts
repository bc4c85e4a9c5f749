/** The queue of a dispatcher: which task runs next, how many run and wait, and how they ended. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { SchedulerDispatcher } from "effect/Scheduler"
import { Fifo, type Queued } from "../scheduling/fifo.ts"

/** One task, from the moment it was accepted. */
export interface Job extends Queued<Job> {
  /** `undefined` for a task without one. */
  readonly key: unknown
  /** Evaluates the task in a fiber of its own, here and now. */
  readonly start: (job: Job) => void
  /** Tells the caller that the task will not start: the dispatcher was stopped. */
  readonly refuse: () => void
  /** Set while it runs. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  done: boolean
}

/** The tasks that wait for a running or ready one of the same key, in the order they came. */
type Backlog = Fifo<Job>

/** Why a task does not run. */
export type Refusal = "Overloaded" | "Stopped" | "Nested"

// the most tasks started in one turn of the event loop: enough to make little of the turn's cost, few enough that a long
// queue of short tasks does not keep sockets from being read
const startsPerTurn = 64

const isInterrupted = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)

/** Every step is synchronous. `errorOf` makes the error of a refusal. */
export class TaskQueue<out Err> {
  private readonly errorOf: (refusal: Refusal, workers: number, waiting: number) => Err
  private readonly scheduler: SchedulerDispatcher
  private readonly maxWaiting: number
  private workers: number
  // tasks that only wait for a worker, in the order they became ready
  private readonly ready = new Fifo<Job>()
  private readonly running = new Set<Job>()
  // one for each key with a running or ready task
  private readonly backlogs = new Map<unknown, Backlog>()
  private waiting = 0
  private isStopped = false
  private isPumping = false
  private isScheduled = false
  // since the last turn that was asked for: tasks that end in microtasks come back here within one turn
  private started = 0
  private succeeded = 0
  private failed = 0
  private interrupted = 0
  private refused = 0

  constructor(
    workers: number,
    maxWaiting: number,
    scheduler: SchedulerDispatcher,
    errorOf: (refusal: Refusal, workers: number, waiting: number) => Err
  ) {
    this.workers = workers
    this.maxWaiting = maxWaiting
    this.scheduler = scheduler
    this.errorOf = errorOf
  }

  get stats() {
    const { failed, interrupted, refused, running, succeeded, waiting, workers } = this
    return { workers, busy: running.size, waiting, succeeded, failed, interrupted, refused }
  }

  resize(workers: number): void {
    this.workers = workers
    this.pump()
  }

  error(refusal: Refusal): Err {
    return this.errorOf(refusal, this.workers, this.waiting)
  }

  /** Why a task of this key is not accepted, if so; the bound on waiting counts where `isBounded`. */
  refusal(key: unknown, isBounded: boolean): Err | undefined {
    if (this.isStopped) return this.error("Stopped")
    if (!isBounded || this.isRoom(key)) return undefined
    this.refused++
    return this.error("Overloaded")
  }

  private isRoom(key: unknown): boolean {
    const { backlogs, maxWaiting, ready, running, waiting, workers } = this
    return waiting < maxWaiting ||
      (ready.size === 0 && running.size < workers && (key === undefined || !backlogs.has(key)))
  }

  /** Accepts a task, and starts what can start. */
  enter(job: Job): void {
    this.waiting++
    const backlog = job.key === undefined ? undefined : this.backlogs.get(job.key)
    if (backlog !== undefined) backlog.add(job)
    else {
      if (job.key !== undefined) this.backlogs.set(job.key, new Fifo())
      this.ready.add(job)
    }
    this.pump()
  }

  /** Starts what can start. Tasks that end at once, and their callers, come back here: the loop has them, not the stack. */
  pump(): void {
    if (this.isPumping || this.isScheduled) return
    this.isPumping = true
    for (let job = this.ready.first; job !== undefined; job = this.ready.first) {
      if (this.running.size >= this.workers) break
      if (this.started++ === startsPerTurn) {
        this.isScheduled = true
        this.scheduler.scheduleTask(this.pumpLater, 0)
        break
      }
      this.ready.delete(job)
      this.waiting--
      this.running.add(job)
      job.start(job)
    }
    this.isPumping = false
  }

  private readonly pumpLater = (): void => {
    this.isScheduled = false
    this.started = 0
    this.pump()
  }

  /** Counts how a task ended. Its worker is free; `pump` gives the worker to the next task. */
  ended(job: Job, exit: Exit.Exit<unknown, unknown>): void {
    job.done = true
    if (Exit.isSuccess(exit)) this.succeeded++
    else if (isInterrupted(exit)) this.interrupted++
    else this.failed++
    this.running.delete(job)
    this.passOn(job.key)
  }

  /** The next task of the key is ready, behind all that are ready already. */
  private passOn(key: unknown): void {
    if (key === undefined) return
    const next = this.backlogs.get(key)!.shift()
    if (next === undefined) this.backlogs.delete(key)
    else this.ready.add(next)
  }

  /** Gives up the place of a task that waits; interrupts a task that runs, and waits for it. */
  cancel(job: Job): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.running.has(job)) return Fiber.interrupt(job.fiber!)
      if (job.done) return Effect.void
      job.done = true
      this.interrupted++
      this.waiting--
      if (this.ready.delete(job)) this.passOn(job.key)
      else this.backlogs.get(job.key)!.delete(job)
      return Effect.void
    })
  }

  /** How a caller is told of this exit: an interruption by `stop` is an error. */
  reported<A, E>(exit: Exit.Exit<A, E>): Exit.Exit<A, E | Err> {
    return this.isStopped && isInterrupted(exit) ? Exit.fail(this.error("Stopped")) : exit
  }

  /** Refuses what waits; interrupts what runs, and waits for that: but not a task that waits for this, as `isWaiting` says. */
  stop(isWaiting: (job: Job) => boolean): Effect.Effect<void> {
    this.isStopped = true
    const left = [this.ready, ...this.backlogs.values()].flatMap((queue) => queue.takeAll())
    this.waiting = 0
    this.interrupted += left.length
    for (const job of left) {
      job.done = true
      job.refuse()
    }
    return Fiber.interruptAll([...this.running].filter((job) => !isWaiting(job)).map(({ fiber }) => fiber!))
  }
}

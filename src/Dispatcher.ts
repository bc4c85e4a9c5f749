/**
 * Runs handlers with a bounded number of workers.
 *
 * A worker is the right to run, not a fiber: who has nothing to do occupies none. So 10,000 idle connections share four
 * workers, and each message gets its turn.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Connection } from "./Connection.ts"
import type { ConnectionError } from "./ConnectionError.ts"
import * as Supervised from "./internal/scheduling/supervised.ts"

const Count = Schema.Number

/**
 * Every worker is busy, and as many tasks wait as may. The task did not run.
 *
 * @category errors
 * @since 0.1.0
 */
export class Overloaded extends Schema.TaggedError<Overloaded>()("Overloaded", { workers: Count, waiting: Count }) {
  override get message() {
    const busy = this.workers === 1 ? "the only worker is busy" : `all ${this.workers} workers are busy`
    return `${busy} and ${this.waiting} tasks wait, which is the limit: try later, or raise \`workers\` or \`waiting\``
  }
  get isRetryable() {
    return true
  }
}

/**
 * The scope of the dispatcher closed before the task ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class Stopped extends Schema.TaggedError<Stopped>()("Stopped", {}) {
  override get message() {
    return "the dispatcher was stopped before the task ended"
  }
  get isRetryable() {
    return false
  }
}

/**
 * A task waits for another task of the same dispatcher. With every worker doing so nothing would ever go on.
 *
 * @category errors
 * @since 0.1.0
 */
export class Nested extends Schema.TaggedError<Nested>()("Nested", {}) {
  override get message() {
    return "a task may not wait for another task of its dispatcher: run that one directly, or use `submit`, or a second dispatcher"
  }
  get isRetryable() {
    return false
  }
}

/**
 * A number of workers or of waiting tasks that makes no sense.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidSize extends Schema.TaggedError<InvalidSize>()("InvalidSize", {
  field: Schema.Literals(["workers", "waiting"]),
  value: Schema.Number
}) {
  override get message() {
    return this.field === "workers"
      ? `\`workers\` must be a whole number, at least 1; it is ${this.value}`
      : `\`waiting\` must be a whole number, at least 0, or Infinity; it is ${this.value}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.Union([Overloaded, Stopped, Nested, InvalidSize])

/**
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * The one error of a dispatcher: why it did not run a task to its end, or did not take a setting.
 *
 * @category errors
 * @since 0.1.0
 */
export class DispatcherError extends Schema.TaggedError<DispatcherError>()("DispatcherError", { reason: Reason }) {
  override readonly cause = this.reason
  override get message(): string {
    return this.reason.message
  }
  /** Whether the same call can succeed later. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
}

const failure = (reason: Reason): DispatcherError => new DispatcherError({ reason })

/**
 * A dispatcher at one moment. The last four count since it was made, and each task is in one of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  readonly workers: number
  /** Workers that run a task now; more than `workers` for a while after a `resize` to fewer. */
  readonly busy: number
  /** Tasks that wait for a worker, or for an earlier one of their key. */
  readonly waiting: number
  readonly succeeded: number
  /** Tasks that ended with a failure or a defect. */
  readonly failed: number
  /** Tasks that were interrupted, by themselves, by their caller or by the end of the dispatcher, also while waiting. */
  readonly interrupted: number
  /** Tasks that were refused with `Overloaded`. */
  readonly refused: number
}

/**
 * How one task is run.
 *
 * @category models
 * @since 0.1.0
 */
export interface TaskOptions {
  /**
   * Tasks of one key run one after the other, in the order they came. Keys are compared as those of a `Map`: objects by
   * identity. Of two keys with much to do, neither gets more turns than the other.
   */
  readonly key?: unknown
}

/**
 * Runs tasks with a bounded number of workers, first come, first served.
 *
 * @category models
 * @since 0.1.0
 */
export interface Dispatcher {
  /**
   * Runs a task on a worker and gives back what it ends with, its failures, defects and interruption included. Waits for
   * a worker, or fails with `Overloaded` at once when no more may wait. Interrupted, it gives its place back, or stops
   * the task and waits for that.
   *
   * **Gotchas**
   *
   * Fails with `Nested` inside a task of the same dispatcher, and in fibers that such a task has forked and that run
   * beside it: all workers could be waiting for each other.
   */
  readonly run: <A, E, R>(
    task: Effect.Effect<A, E, R>,
    options?: TaskOptions
  ) => Effect.Effect<A, E | DispatcherError, R>
  /**
   * Accepts a task and returns, or fails with `Overloaded`. The task runs later, with the services of the caller, until
   * the dispatcher's scope closes; its failure is logged.
   */
  readonly submit: <A, E, R>(
    task: Effect.Effect<A, E, R>,
    options?: TaskOptions
  ) => Effect.Effect<void, DispatcherError, R>
  /**
   * Changes the number of workers. More of them start what waits at once; of fewer, those that are busy finish their
   * task first. Fails with `InvalidSize`.
   */
  readonly resize: (workers: number) => Effect.Effect<void, DispatcherError>
  readonly stats: Effect.Effect<Stats>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many tasks run at a time, at least 1. */
  readonly workers: number
  /**
   * How many tasks may wait for a worker or for their key: 0 refuses whatever cannot run at once, `Infinity` refuses
   * nothing. Default 1024. Handlers of connections (`messages`, `batches`) wait in any case, as each connection has at
   * most one task, and are counted.
   */
  readonly waiting?: number | undefined
}

/** One task, from the moment it was accepted. */
interface Job {
  readonly key: unknown
  /** Evaluates the task in a fiber of its own, here and now. */
  readonly start: (job: Job) => void
  readonly refuse: (error: DispatcherError) => void
  /** Set while it runs. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  done: boolean
}

/** The tasks that wait for a running or ready one of the same key. */
type Lane = Set<Job>

/** Which dispatchers a fiber works for: itself, and whoever waits for it. */
interface Working {
  readonly dispatcher: object
  readonly job: Job
  readonly outer: Working | undefined
}

const CurrentWork = Context.Reference<Working | undefined>("holdfast/Dispatcher/CurrentWork", {
  defaultValue: () => undefined
})

// tasks started in one turn of the event loop by those that ended in it: enough to make little of the turn's cost, few
// enough that a long queue of short tasks does not keep sockets from being read
const startsPerTurn = 64

const isSize = (value: number, minimum: number): boolean => Number.isSafeInteger(value) && value >= minimum

const invalidOptions = ({ waiting, workers }: Options): Reason | undefined =>
  !isSize(workers, 1)
    ? new InvalidSize({ field: "workers", value: workers })
    : waiting !== undefined && waiting !== Infinity && !isSize(waiting, 0)
    ? new InvalidSize({ field: "waiting", value: waiting })
    : undefined

const isInterrupted = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)

const logged = Effect.tapCause((cause) =>
  Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError("a task submitted to a dispatcher failed", cause)
)

const TypeId = "~holdfast/Dispatcher"
interface Internals {
  /** As `run`, but waits whatever the bound on waiting says. */
  readonly [TypeId]: Dispatcher["run"]
}

/**
 * Makes a dispatcher, owned by the scope. When that closes, what waits fails with `Stopped`, and what runs is
 * interrupted and awaited.
 *
 * **Details**
 *
 * Each task runs in a fiber of its own, with the services of its caller. Whatever it ends with, its worker goes to the
 * next one.
 *
 * **Gotchas**
 *
 * Sizes that make no sense throw a `DispatcherError` (`InvalidSize`) here, before anything runs.
 *
 * **Example** (Four workers for all the connections of a server)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection, Dispatcher, Server } from "holdfast"
 *
 * const chat = Connection.make({ codec: Codec.lines() })
 *
 * export const server = Effect.gen(function*() {
 *   const dispatcher = yield* Dispatcher.make({ workers: 4 })
 *   return yield* Server.run({
 *     open: chat,
 *     handle: (connection) => Dispatcher.messages(dispatcher, connection, connection.send)
 *   })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Dispatcher, never, Scope.Scope> => {
  const invalid = invalidOptions(options)
  if (invalid !== undefined) throw failure(invalid)
  const maxWaiting = options.waiting ?? 1024

  return Effect.gen(function*() {
    const scheduler = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.currentDispatcher))
    const identity = {}
    // those that only wait for a worker, in the order they became ready
    const ready = new Set<Job>()
    const running = new Set<Job>()
    const lanes = new Map<unknown, Lane>()
    let workers = options.workers
    let waiting = 0
    let stopped = false
    let pumping = false
    let scheduled = false
    let succeeded = 0
    let failed = 0
    let interrupted = 0
    let refused = 0

    // -----------------------------------------------------------------------------------------------------------------
    // the queue; every step is synchronous
    // -----------------------------------------------------------------------------------------------------------------

    /** Starts what can start. Tasks that end at once, and their callers, come back here: the loop has them, not the stack. */
    const pump = (): void => {
      if (pumping || scheduled) return
      pumping = true
      let started = 0
      for (const job of ready) {
        if (running.size >= workers) break
        if (started++ === startsPerTurn) {
          scheduled = true
          scheduler.scheduleTask(pumpLater, 0)
          break
        }
        ready.delete(job)
        waiting--
        running.add(job)
        job.start(job)
      }
      pumping = false
    }
    const pumpLater = (): void => {
      scheduled = false
      pump()
    }

    const enter = (job: Job): void => {
      waiting++
      const lane = job.key === undefined ? undefined : lanes.get(job.key)
      if (lane !== undefined) lane.add(job)
      else {
        if (job.key !== undefined) lanes.set(job.key, new Set())
        ready.add(job)
      }
    }

    /** The next of its key is ready, behind all those that are ready already. */
    const passOn = (key: unknown): void => {
      if (key === undefined) return
      const lane = lanes.get(key)!
      for (const next of lane) {
        lane.delete(next)
        ready.add(next)
        return
      }
      lanes.delete(key)
    }

    const isRoom = (key: unknown): boolean =>
      waiting < maxWaiting || (ready.size === 0 && running.size < workers && (key === undefined || !lanes.has(key)))

    const ended = (job: Job, exit: Exit.Exit<unknown, unknown>): void => {
      job.done = true
      if (Exit.isSuccess(exit)) succeeded++
      else if (isInterrupted(exit)) interrupted++
      else failed++
      running.delete(job)
      passOn(job.key)
    }

    const cancel = (job: Job): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (running.has(job)) return Fiber.interrupt(job.fiber!)
        if (job.done) return Effect.void
        job.done = true
        interrupted++
        waiting--
        if (ready.delete(job)) passOn(job.key)
        else lanes.get(job.key)!.delete(job)
        return Effect.void
      })

    // -----------------------------------------------------------------------------------------------------------------
    // the tasks
    // -----------------------------------------------------------------------------------------------------------------

    const isNested = (working: Working | undefined): boolean => {
      for (let work = working; work !== undefined; work = work.outer) {
        if (work.dispatcher === identity && !work.job.done) return true
      }
      return false
    }

    const refusal = (key: unknown, bounded: boolean): Reason | undefined => {
      if (stopped) return new Stopped({})
      if (!bounded || isRoom(key)) return undefined
      refused++
      return new Overloaded({ workers, waiting })
    }

    /** A task as a job: `settle` is told how it ended, after its worker is free. */
    const jobOf = <A, E, R>(
      caller: Fiber.Fiber<unknown, unknown>,
      task: Effect.Effect<A, E, R>,
      outer: Working | undefined,
      key: unknown,
      settle: (exit: Exit.Exit<A, E | DispatcherError>) => void
    ): Job => ({
      key,
      fiber: undefined,
      done: false,
      refuse: (error) => settle(Exit.fail(error)),
      start: (job) => {
        const work: Working = { dispatcher: identity, job, outer }
        const context = Context.add(caller.context as Context.Context<R>, CurrentWork, work)
        // before anything of the task can look for it
        const running = Effect.withFiber<A, E, R>((fiber) => {
          job.fiber = fiber
          return task
        })
        const over = (exit: Exit.Exit<A, E>): void => {
          ended(job, exit)
          settle(stopped && isInterrupted(exit) ? Exit.fail(failure(new Stopped({}))) : exit)
          pump()
        }
        Supervised.spawn(context, "task of a dispatcher", running, over, { uninterruptible: true })
      }
    })

    const runWith = (bounded: boolean): Dispatcher["run"] => (task, taskOptions) =>
      // a task may be interrupted where its caller may
      Effect.uninterruptibleMask((restore) =>
        Effect.withFiber((caller) => {
          const key = taskOptions?.key
          const outer = Context.get(caller.context, CurrentWork)
          const reason = isNested(outer) ? new Nested({}) : refusal(key, bounded)
          if (reason !== undefined) return Effect.fail(failure(reason))
          return restore(Effect.callback((resume) => {
            const job = jobOf(caller, restore(task), outer, key, resume)
            enter(job)
            pump()
            return cancel(job)
          }))
        })
      )

    const submit: Dispatcher["submit"] = (task, taskOptions) =>
      Effect.withFiber((caller) => {
        const key = taskOptions?.key
        const reason = refusal(key, true)
        if (reason !== undefined) return Effect.fail(failure(reason))
        // nobody waits for it: it is nested in nothing
        enter(jobOf(caller, Effect.interruptible(logged(task)), undefined, key, () => {}))
        pump()
        return Effect.void
      })

    yield* Effect.addFinalizer(() =>
      Effect.withFiber((closer) => {
        stopped = true
        const left = [...ready, ...Array.from(lanes.values(), (lane) => [...lane]).flat()]
        ready.clear()
        for (const lane of lanes.values()) lane.clear()
        waiting = 0
        interrupted += left.length
        for (const job of left) {
          job.done = true
          job.refuse(failure(new Stopped({})))
        }
        // a task that closes the dispatcher is not waited for by itself
        return Fiber.interruptAll(Array.from(running, ({ fiber }) => fiber!).filter((fiber) => fiber !== closer))
      })
    )

    const self: Dispatcher & Internals = {
      run: runWith(true),
      submit,
      resize: (to) =>
        Effect.suspend(() => {
          if (!isSize(to, 1)) return Effect.fail(failure(new InvalidSize({ field: "workers", value: to })))
          workers = to
          pump()
          return Effect.void
        }),
      stats: Effect.sync(() => ({
        workers,
        busy: running.size,
        waiting,
        succeeded,
        failed,
        interrupted,
        refused
      })),
      [TypeId]: runWith(false)
    }
    return self
  })
}

/**
 * Handles each message of a connection on a worker of the dispatcher: the body of a handler of `Server.run`.
 *
 * **Details**
 *
 * - A connection's messages are handled in order, one at a time; those of different connections take turns.
 * - A connection occupies a worker while one of its messages is handled, and none while it is idle.
 * - While its message waits or is handled, no other is received: the inbox fills up to the policy's bounds, then reading
 *   stops, and the peer feels it. So `Overloaded` does not happen here, however small `Options.waiting` is.
 * - It ends with the connection's error, or with a failure of `handle`, which then closes the connection.
 *
 * @category handlers
 * @since 0.1.0
 */
export const messages = <In, Out, E, R>(
  dispatcher: Dispatcher,
  connection: Connection<In, Out>,
  handle: (message: In) => Effect.Effect<unknown, E, R>
): Effect.Effect<never, E | ConnectionError | DispatcherError, R> => loop(dispatcher, connection.receive, handle)

/**
 * As `messages`, for all messages that are there at a time: one turn of a worker for each batch. Cheaper where handling
 * a message takes little, and less fair: a batch is whatever the inbox holds.
 *
 * @category handlers
 * @since 0.1.0
 */
export const batches = <In, Out, E, R>(
  dispatcher: Dispatcher,
  connection: Connection<In, Out>,
  handle: (messages: NonEmptyReadonlyArray<In>) => Effect.Effect<unknown, E, R>
): Effect.Effect<never, E | ConnectionError | DispatcherError, R> => loop(dispatcher, connection.receiveAll, handle)

const loop = Effect.fnUntraced(function*<A, E, R>(
  dispatcher: Dispatcher,
  receive: Effect.Effect<A, ConnectionError>,
  handle: (received: A) => Effect.Effect<unknown, E, R>
): Effect.fn.Return<never, E | ConnectionError | DispatcherError, R> {
  const run = (dispatcher as Dispatcher & Internals)[TypeId]
  while (true) {
    const received = yield* receive
    yield* run(Effect.suspend(() => handle(received)))
  }
})

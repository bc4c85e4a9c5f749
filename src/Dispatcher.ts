/**
 * Runs tasks, such as the handlers of a server's messages, with a bounded number of workers.
 *
 * For work that needs a share of the CPU or of a database. A worker is a permit to run, not a fiber: an idle connection
 * holds none. So 10,000 connections share four workers, and their messages are handled first come, first served.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Connection } from "./Connection.ts"
import type { ConnectionError } from "./ConnectionError.ts"
import { type Refusal, TaskQueue } from "./internal/dispatcher/queue.ts"
import * as Tasks from "./internal/dispatcher/tasks.ts"
import { watched } from "./internal/telemetry/telemetry.ts"

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
 * A task waits for another task of the same dispatcher. Once every worker did so, no task would ever end.
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
  value: Schema.Unknown
}) {
  override get message() {
    const value = typeof this.value === "string" ? JSON.stringify(this.value) : String(this.value)
    return this.field === "workers"
      ? `\`workers\` must be a whole number, at least 1; it is ${value}`
      : `\`waiting\` must be a whole number, at least 0, or Infinity; it is ${value}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * Why a dispatcher did not run a task to its end, or did not take a setting.
 *
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.Union([Overloaded, Stopped, Nested, InvalidSize])

/**
 * Why a dispatcher did not run a task to its end, or did not take a setting.
 *
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * The one error of a dispatcher, with its reason.
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
   * identity. Two keys with long backlogs take turns.
   */
  readonly key?: unknown
}

/**
 * Runs tasks with a bounded number of workers, first come, first served.
 *
 * **When to use**
 *
 * `messages` or `batches` handle a server's messages with it. `run` bounds any other work and gives back its result;
 * `submit` is for work that its caller does not wait for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Dispatcher {
  /**
   * Runs a task on a worker and gives back its exit, failures, defects and interruption included. Waits for a worker, or
   * fails with `Overloaded` at once when no more tasks may wait. Interrupted, it gives up its place in the queue, or
   * interrupts the task and waits for its end.
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
   * Changes the number of workers. More workers start waiting tasks at once; a worker that is too many finishes its task
   * first. Fails with `InvalidSize`.
   */
  readonly resize: (workers: number) => Effect.Effect<void, DispatcherError>
  /** The workers and the tasks of this moment, and how tasks have ended. */
  readonly stats: Effect.Effect<Stats>
}

/**
 * How many tasks of a dispatcher run, and how many wait.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many tasks run at a time, at least 1. */
  readonly workers: number
  /**
   * How many tasks may wait for a worker or for their key: 0 refuses a task that cannot run at once, `Infinity` refuses
   * none. Default 1024. Handlers of connections (`messages`, `batches`) always may wait, because a connection has at most
   * one task; they are counted.
   */
  readonly waiting?: number | undefined
}

const isSize = (value: number, minimum: number): boolean => Number.isSafeInteger(value) && value >= minimum

const invalidOptions = ({ waiting, workers }: Options): Reason | undefined =>
  !isSize(workers, 1)
    ? new InvalidSize({ field: "workers", value: workers })
    : waiting !== undefined && waiting !== Infinity && !isSize(waiting, 0)
    ? new InvalidSize({ field: "waiting", value: waiting })
    : undefined

const refusalOf = (refusal: Refusal, workers: number, waiting: number): DispatcherError => {
  switch (refusal) {
    case "Overloaded":
      return failure(new Overloaded({ workers, waiting }))
    case "Stopped":
      return failure(new Stopped({}))
    case "Nested":
      return failure(new Nested({}))
  }
}

const TypeId = "~holdfast/Dispatcher"
interface HandlerQueue {
  /** As `run`, but waits beyond the bound on waiting. */
  readonly [TypeId]: <A, E, R>(task: Effect.Effect<A, E, R>) => Effect.Effect<A, E | DispatcherError, R>
}

/**
 * Makes a dispatcher, owned by the scope. When that closes, what waits fails with `Stopped`, and what runs is
 * interrupted and awaited.
 *
 * **Details**
 *
 * Each task runs in a fiber of its own, with the services of its caller. When it ends, with any exit, its worker is free
 * for the next task.
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
  return Effect.gen(function*() {
    const scheduler = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.currentDispatcher))
    const queue = new TaskQueue(options.workers, options.waiting ?? 1024, scheduler, refusalOf)
    yield* watched((add) => {
      const { busy, failed, interrupted, refused, succeeded, waiting, workers } = queue.stats
      add("dispatcher_workers", workers)
      add("dispatcher_busy", busy)
      add("dispatcher_waiting", waiting)
      for (const [outcome, count] of Object.entries({ failed, interrupted, refused, succeeded })) {
        add("dispatcher_tasks_total", count, outcome)
      }
    })
    yield* Effect.addFinalizer(() => Effect.withFiber((closer) => Tasks.stop(queue, closer)))

    const self: Dispatcher & HandlerQueue = {
      run: (task, options) => Tasks.run(queue, true, task, options?.key),
      submit: (task, options) => Tasks.submit(queue, task, options?.key),
      resize: (workers) =>
        Effect.suspend(() => {
          const invalid = invalidOptions({ workers })
          return invalid === undefined ? Effect.sync(() => queue.resize(workers)) : Effect.fail(failure(invalid))
        }),
      stats: Effect.sync(() => queue.stats),
      [TypeId]: (task) => Tasks.run(queue, false, task, undefined)
    }
    return self
  })
}

/**
 * Provides a dispatcher as a service, for as long as its layer is built.
 *
 * **When to use**
 *
 * Where several servers, or a server and jobs beside it, share one bound on work. Two bounds are two services.
 *
 * **Gotchas**
 *
 * Sizes that make no sense throw a `DispatcherError` (`InvalidSize`) here, before anything runs.
 *
 * **Example** (Four workers for all the connections of a program)
 *
 * ```ts
 * import { Context } from "effect"
 * import { Codec, Connection, Dispatcher, Server } from "holdfast"
 *
 * class Work extends Context.Service<Work, Dispatcher.Dispatcher>()("app/Work") {
 *   static readonly layer = Dispatcher.layer(Work, { workers: 4 })
 * }
 *
 * const chat = Connection.make({ codec: Codec.lines() })
 *
 * const server = Server.run({
 *   open: chat,
 *   handle: (connection) => Work.use((work) => Dispatcher.messages(work, connection, connection.send))
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <I>(service: Context.Key<I, Dispatcher>, options: Options): Layer.Layer<I> =>
  Layer.effect(service, make(options))

/**
 * Handles each message of a connection on a worker of the dispatcher: the body of a handler of `Server.run`.
 *
 * **Details**
 *
 * - A connection's messages are handled in order, one at a time; those of different connections take turns.
 * - A connection occupies a worker while one of its messages is handled, and none while it is idle.
 * - While its message waits or is handled, no other is received: the inbox fills up to the policy's bounds, then reading
 *   stops (back-pressure). So `Overloaded` does not happen here, however small `Options.waiting` is.
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
 * As `messages`, but one task handles all messages that the inbox holds. Cheaper where a message takes little to handle,
 * and less fair: a batch is as large as the inbox.
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
  const run = (dispatcher as Dispatcher & HandlerQueue)[TypeId]
  while (true) {
    const received = yield* receive
    yield* run(Effect.suspend(() => handle(received)))
  }
})

/**
 * Runs a server on all cores of a machine: several processes of one program behind one listening socket.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Backoff from "../Backoff.ts"
import * as Backplane from "../Backplane.ts"
import { spawn } from "../internal/scheduling/supervised.ts"
import { cutShort } from "../internal/server/draining.ts"
import * as Policy from "../Policy.ts"
import { untaken } from "./internal/addresses/activation.ts"
import { worker } from "./internal/addresses/worker.ts"
import { Admins } from "./internal/admin/workers/parent.ts"
import { about, engineOver } from "./internal/workers/backplane.ts"
import { type Duties, killAll, start } from "./internal/workers/child.ts"
import { Sessions } from "./internal/workers/sessions.ts"
import { Slots } from "./internal/workers/slots.ts"
import { Sockets } from "./internal/workers/sockets.ts"
import { supervise } from "./internal/workers/supervision.ts"

/**
 * How many workers there are, and how they are kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many processes: 1 to 1024. As many as there are cores to use: `os.availableParallelism()`. */
  readonly workers: number
  /**
   * The policy of the servers, whole. Of it `drain` counts here: a worker that has not ended 5 s after that is killed. With a
   * `drain` that is off it is killed after 24.8 days. What counts is what this is in the worker: one that is renewed may have
   * another policy than its parent was started with.
   */
  readonly policy?: Policy.Patch | undefined
  /**
   * When a worker that ended by itself is started again. A schedule that ends fails `run` with `WorkerLost`, which stops the
   * others. Default `Backoff.exponential({ jitter: "none" })`: after 200 ms, each time twice as long up to 30 s, and from the
   * start again after a minute of life.
   */
  readonly restart?: Schedule.Schedule<unknown, unknown> | undefined
  /** What a worker runs, with its arguments. Default the file and the arguments that this process was started with. */
  readonly entry?: { readonly file: string; readonly args?: ReadonlyArray<string> | undefined } | undefined
}

/**
 * A worker cannot be kept: the first one ended before it took connections, or `Options.restart` ended. What was wrong with it is
 * in what the worker itself wrote.
 *
 * @category errors
 * @since 0.1.0
 */
export class WorkerLost extends Schema.TaggedError<WorkerLost>()("WorkerLost", {
  /** Its number, from 1. */
  worker: Schema.Number,
  detail: Schema.String,
  /** The exit code of its process; 1 where a signal ended it. */
  code: Schema.Number
}) {
  override get message(): string {
    return `worker ${this.worker} ${this.detail}`
  }
  /** Whether it ended by itself, with a code of failure: then it has written why. */
  get isTold(): boolean {
    return /^ended with code [1-9]/.test(this.detail)
  }
}

/**
 * Which worker a process is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Self {
  /** From 1. A worker that is started again, or renewed, keeps the number. */
  readonly number: number
  /** How many workers there are. */
  readonly count: number
  /** Whether this is the first process that the parent started: what is to be said once is said by it. */
  readonly isFirst: boolean
}

/**
 * Which worker this process is; undefined in one that `run` did not start.
 *
 * @category running
 * @since 0.1.0
 */
export const self = (): Self | undefined => {
  const identity = worker()?.identity
  return identity === undefined
    ? undefined
    : { number: identity.number, count: identity.count, isFirst: identity.isFirst }
}

/** Limits of a whole server which each worker has a part of. 0 has a meaning of its own, and stays. */
const divided = ["maxConnections", "acceptRate", "memory"] as const

/**
 * The part of a policy that one of so many workers has: `maxConnections`, `acceptRate` and `memory` divided by their number, rounded
 * up.
 *
 * **Details**
 *
 * All other limits are those of a connection, or hold for each worker by itself: `maxWaiting`, and `maxConnectionsPerAddress`, for no
 * worker knows of the others' connections: an address may have that many times the number of workers. A `memory` of 0 is a
 * third of what is left of the heap of each process.
 *
 * **Example**
 *
 * ```ts
 * import { Policy } from "holdfast"
 * import { Workers } from "holdfast/node"
 *
 * export const part = Workers.divide(Policy.make({ maxConnections: 10_001 }), 2)
 * // part.maxConnections is 5001
 * ```
 *
 * @category policies
 * @since 0.1.0
 */
export const divide = (policy: Policy.Policy, workers: number): Policy.Policy =>
  Policy.make(
    Object.fromEntries(divided.map((name) => [name, Math.ceil(policy[name] / workers)])),
    policy
  )

/**
 * The part of a policy that this process has: in a worker what `divide` says, elsewhere all of it.
 *
 * @category policies
 * @since 0.1.0
 */
export const share = (policy?: Policy.Patch): Policy.Policy => {
  const count = self()?.count
  const whole = Policy.make(policy)
  return count === undefined ? whole : divide(whole, count)
}

/**
 * The engine that makes the workers nodes of one fleet: their parent knows who has which key, and carries messages between them. In
 * a process that `run` did not start it is a memory of its own, so that the same program runs without workers.
 *
 * **When to use**
 *
 * `run` provides it to each worker as the `Backplane`, and a `Fleet` without an engine uses it. Name it where the fleet is given
 * an engine, or is made outside of `run`.
 *
 * **Details**
 *
 * - A worker that dies is gone from the fleet at once: the keys it had are free, and are not waited for as those of a machine.
 * - A worker that hangs keeps its keys until its lease ends, as any node does.
 * - Batches may have 1 MiB, and 1024 of them wait for a worker; what is more is a gap.
 *
 * **Gotchas**
 *
 * It ends at the machine. For workers on several machines provide an engine such as Redis or NATS inside the program: then
 * each worker is a node of that fleet.
 *
 * **Example** (A message to a user, whichever worker has the connection)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Fleet } from "holdfast"
 * import { Workers } from "holdfast/node"
 *
 * const program = Effect.gen(function*() {
 *   const fleet = yield* Fleet.make<string>()
 *   yield* fleet.send("ada", "hello")
 * }).pipe(Effect.scoped, Workers.run({ workers: 4 }))
 * ```
 *
 * @category fleets
 * @since 0.1.0
 */
export const engine: Effect.Effect<Backplane.Engine> = Effect.suspend(() => {
  const own = worker()
  return own === undefined ? Backplane.memory : Effect.succeed(engineOver(own.calls))
})

/**
 * Provides `engine` to the fleets that are made below.
 *
 * @category fleets
 * @since 0.1.0
 */
export const layerBackplane: Layer.Layer<never> = Backplane.layer(engine)

/** An engine that is given counts more than ours. */
const asNode = <A, E, R>(program: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Backplane.Backplane,
    (given) => given === undefined ? Effect.provideServiceEffect(program, Backplane.Backplane, engine) : program
  )

// after the drain: handlers end, sockets linger for a second, the process goes
const slack = 5000

// a program loads, and connects to what it needs
const startWithin = 30_000

// the longest that Node's timers sleep
const longest = 2 ** 31 - 1

/**
 * Runs a program in several processes, which share the connections of its listeners.
 *
 * **When to use**
 *
 * A Node process uses one core. Where one core is full (see the load of the event loop in `SystemMetrics`), a worker a core serves
 * that many times the messages on the same port. Also with one worker: it is started again after a crash, and renewed without a
 * refused connection.
 *
 * **Details**
 *
 * - The process that calls `run` is the parent. It starts itself again as each worker (`Options.entry`), and does not run
 *   `program`. In a worker `run` is `program`, whose log lines have the number of the worker.
 * - The parent listens for each `Listener` and `HttpServer` of the workers, and hands each connection to the next worker: the
 *   numbers of connections are equal, and a worker whose event loop is blocked gets no more than four. It costs a
 *   message between two processes for each connection, and nothing for what the connection then carries.
 * - A worker that ends loses its connections and no others. It is started again after `Options.restart`; connections that come
 *   while no worker runs wait, up to 4096.
 * - The first worker is started alone. When it ends before it takes connections, `run` fails with `WorkerLost`: what is wrong is
 *   written once. A worker has 30 s to get there.
 * - SIGHUP to the parent renews all: for each worker a new process is started, and the old one is asked to drain a second
 *   after the new one takes connections: handshakes that it has begun are done by then. Nothing is refused or reset. A new
 *   one that cannot start ends the renewal: the old ones go on. `reload` is the same from the program of the parent.
 * - SIGTERM or SIGINT to the parent stops all: it listens no more, workers drain, and the exit code is that of one process
 *   (`Shutdown.teardown`). A second signal kills them (`Shutdown.endAtSecondSignal`).
 * - A `Fleet` in each worker is a node of one fleet, over `engine`: it sends to the connections of all workers.
 * - `Admin` in each worker is one API, one page and one `/metrics` of all, at one address: the parent serves it.
 * - Workers whose parent was killed drain and end.
 *
 * **Gotchas**
 *
 * Processes share no memory: a `Registry` and a `Memory` are those of one worker, and the broadcast of a registry reaches the connections of
 * its own worker alone: that of a `Fleet` reaches all. Give a `Server` the `share` of its policy, or the whole holds for each worker. What a program does beside
 * its listeners, each worker does: a port that it opens by other means is free for the first one alone. Node alone can hand sockets
 * on: not Bun and Deno.
 *
 * **Example** (A server on all cores)
 *
 * ```ts
 * import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
 * import { Effect, Stream } from "effect"
 * import { Codec, Connection, Server } from "holdfast"
 * import { Listener, Shutdown, Workers } from "holdfast/node"
 * import * as Os from "node:os"
 *
 * const limits = { maxConnections: 40_000, drain: "20 seconds" } as const
 * const policy = Workers.share(limits)
 *
 * Server.run({
 *   policy,
 *   open: Connection.make({ codec: Codec.lines(), policy }),
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 * }).pipe(
 *   Effect.provide(Listener.layer("tcp://0.0.0.0:7000", { policy })),
 *   Workers.run({ workers: Os.availableParallelism(), policy: limits }),
 *   Shutdown.endAtSecondSignal,
 *   NodeRuntime.runMain({ teardown: Shutdown.teardown })
 * )
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const run = (
  options: Options
): <A, E, R>(program: Effect.Effect<A, E, R>) => Effect.Effect<A, E | WorkerLost, R> => {
  const count = options.workers
  if (!(Number.isInteger(count) && count >= 1 && count <= 1024)) {
    throw new RangeError(`workers must be a whole number from 1 to 1024, got ${count}`)
  }
  const policy = Policy.make(options.policy)
  return <A, E, R>(program: Effect.Effect<A, E, R>) =>
    Effect.suspend((): Effect.Effect<A, E | WorkerLost, R> => {
      const own = worker()
      if (own === undefined) return parent(options, policy)
      own.stops(stopWithinOf(policy))
      return Effect.annotateLogs(asNode(program), "worker", own.identity.number)
    })
}

const renewals = new Set<Queue.Queue<void>>()

/**
 * Renews the workers of the parent that this process is, as SIGHUP does. Elsewhere nothing happens.
 *
 * @category running
 * @since 0.1.0
 */
export const reload: Effect.Effect<void> = Effect.sync(() => {
  for (const queue of renewals) Queue.offerUnsafe(queue, undefined)
})

const stopWithinOf = (policy: Policy.Policy): number =>
  Math.min(longest, Math.ceil(Duration.toMillis(policy.drain)) + slack)

const unstarted = (detail: string) => new WorkerLost({ worker: 1, detail, code: 1 })

const parent = (options: Options, policy: Policy.Policy): Effect.Effect<never, WorkerLost> =>
  Effect.scoped(Effect.gen(function*() {
    if ("bun" in process.versions || "deno" in process.versions) {
      return yield* unstarted("cannot be started: only Node hands sockets to other processes")
    }
    const file = options.entry?.file ?? process.argv[1]
    if (file === undefined) return yield* unstarted("cannot be started: this process has no file; set `entry`")
    const entry = { file, args: options.entry?.args ?? process.argv.slice(2) }
    // read, and taken away: they are not for the workers
    untaken()
    const context = yield* Effect.context<never>()
    const asked = yield* Queue.sliding<void>(1)
    yield* signalled(asked)
    const sockets = new Sockets()
    const fleet = yield* Backplane.memory
    const slots = new Slots(options.workers)
    const admins = new Admins(yield* Effect.scope, context, slots.step)
    const duties: Duties = {
      sockets,
      run: (effect) => void spawn(context, "what a worker asks for", effect, () => {}),
      serve: (calls, { number, slot }, pid) => {
        const sessions = new Sessions(fleet, context)
        calls.answer(about, sessions.answer)
        const over = admins.serve(calls, { number, slot, pid })
        return () => {
          sessions.end()
          over()
          slots.free(slot)
        }
      }
    }
    // a second signal, or any other end of this process: workers do not outlive it
    process.on("exit", killAll)
    yield* Effect.addFinalizer(() => Effect.sync(() => process.off("exit", killAll)))
    const stopWithin = stopWithinOf(policy)
    let isFirst = true
    return yield* supervise({
      count: options.workers,
      restart: options.restart ?? Backoff.exponential({ jitter: "none" }),
      startWithin,
      renewals: asked,
      renewed: sockets.closeUnused,
      stopping: sockets.end,
      onCut: cutShort,
      spawn: (number) =>
        Effect.sync(() => {
          const identity = {
            number,
            count: options.workers,
            isFirst,
            stopWithin,
            slot: slots.take(),
            step: slots.step
          }
          isFirst = false
          return start(duties, entry, identity)
        })
    }).pipe(Effect.mapError(({ code, how, worker }) => new WorkerLost({ worker, detail: how, code })))
  }))

/** SIGHUP asks for a renewal for as long as the scope is open. */
const signalled = (asked: Queue.Queue<void>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const onSignal = (): void => void Queue.offerUnsafe(asked, undefined)
      renewals.add(asked)
      process.on("SIGHUP", onSignal)
      return onSignal
    }),
    (onSignal) =>
      Effect.sync(() => {
        renewals.delete(asked)
        process.off("SIGHUP", onSignal)
      })
  )

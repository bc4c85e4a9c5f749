/**
 * Runs a program on a simulated network in a storm of faults, in virtual time, from one seed.
 *
 * ## Testing your own protocol
 *
 * A program is a function of a `World`. It has three parts: it builds what it tests on `World.network`; it runs
 * `World.storm`; and it says what has to hold again. What has to hold all the time is told with `World.fail`, wherever it
 * is noticed.
 *
 * **Example** (Everything that was asked is answered once, whatever happens to the network)
 *
 * ```ts
 * import { Effect, Exit } from "effect"
 * import { SocketServer } from "effect/socket"
 * import { Codec, Connection, Server } from "holdfast"
 * import { Simulation } from "holdfast/testing"
 *
 * const open = Connection.make({ codec: Codec.lines() })
 *
 * const program = (world: Simulation.World) =>
 *   Effect.gen(function*() {
 *     const serve = Server.run({
 *       open,
 *       handle: (c) => Effect.forever(Effect.flatMap(c.receive, (n) => c.send(`${n}!`)))
 *     })
 *     const listen = world.network.host("server").listen(7000)
 *     yield* world.process(
 *       "server",
 *       Effect.flatMap(listen, (listener) => Effect.provideService(serve, SocketServer.SocketServer, listener))
 *     )
 *     const ask = Effect.scoped(Effect.gen(function*() {
 *       const connection = yield* open(world.network.host("client").dial("server:7000"))
 *       yield* connection.send("42")
 *       if ((yield* connection.receive) !== "42!") world.fail("the answer belongs to another question")
 *     }))
 *     yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.ignore(ask), Effect.sleep("1 second"))))
 *     yield* world.storm
 *     yield* world.eventually("an answer comes", Effect.map(Effect.exit(ask), Exit.isSuccess))
 *   })
 *
 * const outcome = Simulation.run({ seed: 42, storm: "5 minutes" }, program)
 * ```
 *
 * With vitest it is a test: `it.simulate` of `holdfast/testing/vitest`. What is no part of the network has its own faults
 * at points that you name: `Chaos.point`.
 *
 * ## A fake peer
 *
 * A peer that misbehaves in one particular way is a script: on a host of the network, or at the far end of a `TestSocket`,
 * it expects, replies and waits, line by line.
 *
 * **Example** (A server that greets, answers the first question, and falls silent)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection } from "holdfast"
 * import { Simulation } from "holdfast/testing"
 *
 * const peer = Connection.make({ codec: Codec.lines() })
 *
 * const script = (world: Simulation.World) =>
 *   Effect.gen(function*() {
 *     const listener = yield* world.network.host("server").listen(7000)
 *     yield* listener.run((socket) =>
 *       Effect.scoped(Effect.gen(function*() {
 *         const { receive, send } = yield* peer(socket)
 *         const expect = (line: string) =>
 *           Effect.map(receive, (got) => got === line || world.fail(`expected ${line}, got ${got}`))
 *         yield* send("welcome")
 *         yield* expect("what time is it?")
 *         yield* Effect.sleep("3 seconds")
 *         yield* send("late")
 *         yield* expect("and now?")
 *         yield* Effect.never
 *       }))
 *     )
 *   })
 * ```
 *
 * ## Decisions
 *
 * - Each run draws a random half of all kinds of faults: with all of them at once the loud ones (a crash, a partition)
 *   hide the subtle ones.
 * - The storm is one phase (safety: nothing wrong may happen) and what follows it another (liveness: everything has to
 *   come right in time), because during a storm "not yet" is no failure.
 * - The hash of a run is of packets, faults, turns and times, and of nothing that depends on what ran earlier in the
 *   process. Ids of connections do (they are never reused): leave them out of what you log or compare.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { joinedScoped } from "../internal/scheduling/supervised.ts"
import * as Chaos from "./Chaos.ts"
import { type Draw, drawFrom } from "./internal/fabric/random.ts"
import { count, millis } from "./internal/fabric/settings.ts"
import * as Storm from "./internal/simulation/storm.ts"
import { type Halt, VirtualTime } from "./internal/simulation/virtualTime.ts"
import * as TestNetwork from "./TestNetwork.ts"

export {
  /**
   * Every kind of fault there is.
   *
   * @category constants
   * @since 0.1.0
   */
  kinds
} from "./internal/simulation/storm.ts"
export type { Fault, FaultKind, Faults } from "./internal/simulation/storm.ts"

/**
 * What a run may do, and for how long. All times are virtual.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Everything random comes from it: the same seed is the same run. */
  readonly seed: string | number
  /** How long a storm lasts. Default 10 minutes. */
  readonly storm?: Duration.Input | undefined
  /**
   * How long the program may take before the storm, and after the last one, and how long the end of its scope may take.
   * Default 10 minutes.
   */
  readonly liveness?: Duration.Input | undefined
  /** Which faults a storm may bring, and where. */
  readonly faults?: Storm.Faults | undefined
  /** The network when nothing is wrong with it. */
  readonly network?: Omit<TestNetwork.Options, "seed"> | undefined
  /** How many turns fibers may have without time passing; then it is a livelock. Default 1,000,000. */
  readonly stepsAtOnce?: number | undefined
}

/**
 * What a program has in a simulation.
 *
 * **Details**
 *
 * `Clock` and `Random` of the program are the virtual time and the seed. Its scope ends when it has ended; then every
 * fiber and every sleep it began has to be over.
 *
 * @category models
 * @since 0.1.0
 */
export interface World {
  readonly seed: string
  readonly network: TestNetwork.Network
  /** The faults so far, for invariants that allow for them. */
  readonly faults: ReadonlyArray<Storm.Fault>
  /**
   * Lets the faults of this run happen, for `Options.storm`, and ends once everything is healed. What the program does
   * from then on has to succeed within `Options.liveness`.
   */
  readonly storm: Effect.Effect<void>
  /**
   * Runs an effect on a host, as `Host.run` does, and anew each time the host comes back after a crash, until it returns.
   * Its failure is the failure of the run.
   */
  readonly process: <A, E, R>(
    host: string,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<void, never, Exclude<R, Scope.Scope> | Scope.Scope>
  /** Waits until something holds, looking ten times a second. Should it never, the failure of the run says what it was. */
  readonly eventually: <E, R>(what: string, condition: Effect.Effect<boolean, E, R>) => Effect.Effect<void, E, R>
  /** Fails the run, wherever it is called, whoever would catch what is thrown there. The first failure counts. */
  readonly fail: (message: string) => void
}

/**
 * What happened in a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outcome {
  readonly seed: string
  /** Of everything that happened: packets, faults, turns of fibers, times. Equal runs have equal ones. */
  readonly hash: string
  /** Milliseconds of virtual time. */
  readonly time: number
  /** Turns that fibers and timers had. */
  readonly steps: number
  /** The kinds of faults of this run. */
  readonly kinds: ReadonlyArray<Storm.FaultKind>
  readonly faults: ReadonlyArray<Storm.Fault>
  /** The last events of the network, as many as `Options.network.trace` says. */
  readonly trace: ReadonlyArray<TestNetwork.TraceEvent>
  /** The network when the program ended or failed, as `netstat` would print it. */
  readonly netstat: string
  /** The last 100 lines the program logged. */
  readonly logs: ReadonlyArray<string>
}

/**
 * A run that failed, and why.
 *
 * - `failed`: the program failed, or said so (`World.fail`).
 * - `defect`: a fiber ended with a defect, whether or not anybody awaited it.
 * - `not converged`: the program had not ended `liveness` after the storm.
 * - `deadlock`: nothing was ready and nobody slept.
 * - `livelock`: fibers went on and on, and no time passed.
 * - `real world`: it waited for a promise, a timer or a socket of the real world, where no virtual time passes.
 * - `not closed`: closing the scope took longer than `liveness`, or never ended.
 * - `leak`: fibers or sleeps were left when the scope had closed.
 *
 * The message has all one needs: the seed, the faults, the cause, the state of the network.
 *
 * @category errors
 * @since 0.1.0
 */
export class SimulationFailed extends Data.TaggedError("SimulationFailed")<{
  readonly kind: "failed" | "defect" | "not converged" | "deadlock" | "livelock" | "real world" | "not closed" | "leak"
  readonly detail: string
  readonly cause: unknown
  readonly outcome: Outcome
}> {
  override get message(): string {
    const { detail, kind, outcome } = this
    const { faults, kinds, logs, netstat, seed, time } = outcome
    return [
      `seed ${seed}, after ${Duration.format(Duration.millis(time))}: ${kind}: ${detail}`,
      ...section(
        `faults (${kinds.join(", ") || "none"}), the last of ${faults.length}`,
        last(faults, 20).map(Storm.describe)
      ),
      ...section("log", last(logs, 20)),
      "",
      netstat
    ].join("\n")
  }
}

const section = (title: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length === 0 ? [] : ["", title, ...lines]

type Kind = SimulationFailed["kind"]

const last = <A>(items: ReadonlyArray<A>, count: number): ReadonlyArray<A> => items.slice(-count)

// what a fiber may do in one turn; a small one interleaves fibers where they hardly ever are in production
const turns = [2048, 2048, 2048, 256, 64, 16]

const keptLogs = 100

const randomOf = (draw: Draw): typeof Random.Random.Service => ({
  nextDoubleUnsafe: draw,
  nextIntUnsafe: () => Math.floor((draw() * 2 - 1) * Number.MAX_SAFE_INTEGER)
})

/** What went wrong first. */
interface Failed {
  readonly kind: Kind
  readonly detail: string
  readonly cause: unknown
}

/** One run: its time, its world, and what watches both. */
class Run {
  readonly time = new VirtualTime()
  readonly seed: string
  readonly kinds: ReadonlyArray<Storm.FaultKind>
  readonly faults: Array<Storm.Fault> = []
  readonly logs: Array<string> = []
  readonly context: Context.Context<never>
  failed: Failed | undefined
  /** Fibers that have not ended. */
  fibers = 0
  started = 0
  /** When the present phase has to be over. */
  deadline: number
  awaited: string | undefined
  readonly liveness: number
  private readonly options: Options
  private readonly stormFor: number
  private storms = 0

  constructor(options: Options) {
    this.options = options
    this.seed = String(options.seed)
    this.stormFor = millis("storm", options.storm ?? "10 minutes")
    this.liveness = millis("liveness", options.liveness ?? "10 minutes")
    this.deadline = this.liveness
    count("stepsAtOnce", options.stepsAtOnce ?? 1, 1)
    const draw = drawFrom(this.seed, "simulation")
    this.kinds = Storm.choose(draw, options.faults ?? {})
    this.context = Context.empty().pipe(
      Context.add(Clock.Clock, this.time.clock),
      Context.add(Scheduler.MaxOpsBeforeYield, turns[Math.floor(draw() * turns.length)]),
      Context.add(Random.Random, randomOf(drawFrom(this.seed, "random"))),
      Context.add(Chaos.Chaos, Chaos.make(this.seed)),
      Context.add(Logger.CurrentLoggers, new Set([Logger.map(Logger.formatLogFmt, (line) => this.log(line))])),
      Context.add(Metric.FiberRuntimeMetrics, {
        recordFiberStart: () => {
          this.fibers++
          this.started++
        },
        recordFiberEnd: (_, exit) => {
          this.fibers--
          this.time.touched()
          if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) {
            this.fail("defect", "a fiber ended with a defect", exit.cause)
          }
        }
      })
    )
  }

  private log(line: string): void {
    if (this.logs.length >= 2 * keptLogs) this.logs.splice(0, keptLogs)
    this.logs.push(line.replace(/^timestamp=\S+/, Duration.format(Duration.millis(this.time.now()))))
  }

  fail(kind: Kind, detail: string, cause?: unknown): void {
    this.failed ??= {
      kind,
      detail: Cause.isCause(cause) ? `${detail}\n${Cause.pretty(cause)}` : detail,
      cause: Cause.isCause(cause) ? Cause.squash(cause) : cause
    }
  }

  readonly hasFailed = (): boolean => this.failed !== undefined

  world(network: TestNetwork.Network): World {
    const { time } = this
    return {
      seed: this.seed,
      network,
      faults: this.faults,
      storm: Effect.suspend(() => {
        this.deadline = Infinity
        const draw = drawFrom(this.seed, "storm", String(this.storms++))
        return Storm.storm(network, draw, this.stormFor, this.kinds, this.options.faults ?? {}, (fault) => {
          this.faults.push(fault)
        }).pipe(Effect.andThen(Effect.sync(() => {
          this.deadline = time.now() + this.liveness
        })))
      }),
      process: (host, effect) => {
        const machine = network.host(host)
        const life = Effect.gen({ self: this }, function*() {
          while (true) {
            const exit = yield* Effect.exit(machine.run(Effect.scoped(effect)))
            if (Exit.isSuccess(exit)) return
            if (!Cause.hasInterruptsOnly(exit.cause)) {
              return this.fail("failed", `a process of ${host} failed`, exit.cause)
            }
            // on a host that is still down it is interrupted at once
            yield* Effect.sleep(100)
          }
        })
        // how it ended, it has told itself
        return Effect.asVoid(joinedScoped(`process of ${host}`, life))
      },
      eventually: (what, condition) =>
        Effect.gen({ self: this }, function*() {
          while (!(yield* condition)) {
            this.awaited = what
            yield* Effect.sleep(100)
          }
          this.awaited = undefined
        }),
      fail: (message) => this.fail("failed", message, new Error(message))
    }
  }

  /** Runs an effect to its end; `undefined` when something was wrong before it. */
  drive<A, E>(effect: Effect.Effect<A, E>, overdue: Kind): Exit.Exit<A, E> | undefined {
    const fiber = this.time.fork(effect, this.context)
    const halt = this.time.until(
      () => fiber.pollUnsafe() !== undefined || this.hasFailed(),
      () => this.deadline,
      this.options.stepsAtOnce ?? 1_000_000
    )
    if (halt !== "done" && !this.hasFailed()) this.halted(halt, overdue)
    return fiber.pollUnsafe()
  }

  private halted(halt: Halt, overdue: Kind): void {
    const { awaited, liveness } = this
    const waits = awaited === undefined ? "" : `; it waits for: ${awaited}`
    switch (halt) {
      case "late":
        return this.fail(
          overdue,
          overdue === "not closed"
            ? `closing the scope takes longer than ${Duration.format(Duration.millis(liveness))}`
            : `it did not end within ${Duration.format(Duration.millis(liveness))}${waits}`
        )
      case "idle":
        return this.fail(
          overdue === "not closed" ? overdue : "deadlock",
          `nothing is ready, and nobody sleeps: it waits for what never comes${waits}`
        )
      case "livelock":
        return this.fail(
          "livelock",
          `fibers had ${this.options.stepsAtOnce ?? 1_000_000} turns, and no time passed${waits}`
        )
    }
  }
}

const mix = (hash: number, value: number): number => Math.imul(hash ^ value, 0x01000193)

/**
 * Runs a program in a simulation.
 *
 * **Details**
 *
 * The program builds what it tests on `World.network`, forks what shall go on in the background, and runs `World.storm`:
 * for a while the network, hosts and clocks fail in all ways that this run has drawn (each run a random half of all kinds,
 * so that rare combinations come up). Invariants are checked on the way, with `World.fail` or by throwing. Afterwards
 * everything is healed, and the rest of the program says what has to hold again.
 *
 * All of it happens in one synchronous loop: fibers have their turns in order, and time advances to the next sleep when
 * all of them wait. How often a fiber gives way is drawn too.
 *
 * **Gotchas**
 *
 * A program that awaits anything real (a promise, a file, a timer) cannot go on, and fails with `real world`. A loop
 * without any effect in it cannot be stopped.
 *
 * **Example** (A program that fails for the seeds in which the server crashes)
 *
 * ```ts
 * const program = (world: Simulation.World) =>
 *   Effect.gen(function*() {
 *     yield* world.network.host("server").listen(7000)
 *     yield* world.storm
 *     if (world.faults.some(({ kind }) => kind === "crash")) world.fail("it went down")
 *   })
 *
 * const run = Simulation.run({ seed: 42, faults: { kinds: ["partition", "reset", "crash"] } }, program)
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const run = <E>(
  options: Options,
  program: (world: World) => Effect.Effect<unknown, E, Scope.Scope>
): Effect.Effect<Outcome, SimulationFailed> =>
  Effect.suspend(() => {
    const run = new Run(options)
    const { time } = run
    const networkScope = Scope.makeUnsafe()
    const scope = Scope.makeUnsafe()
    const made = run.drive(
      Scope.provide(TestNetwork.make({ ...options.network, seed: run.seed }), networkScope),
      "failed"
    )
    // options that make no sense: a mistake in the test
    if (made === undefined || Exit.isFailure(made)) return Effect.die(run.failed?.cause)
    const network = made.value
    const exit = run.drive(Scope.provide(Effect.suspend(() => program(run.world(network))), scope), "not converged")
    if (exit !== undefined && Exit.isFailure(exit)) run.fail("failed", "the program failed", exit.cause)

    const [snapshot, trace, fingerprint] = Effect.runSync(
      Effect.all([network.snapshot, network.trace, network.fingerprint])
    )
    const endedAt = time.now()
    const { steps } = time

    if (!run.hasFailed()) {
      run.deadline = time.now() + run.liveness
      run.drive(Scope.close(scope, Exit.void), "not closed")
    }
    if (!run.hasFailed()) {
      run.drive(Scope.close(networkScope, Exit.void), "not closed")
      run.drive(Effect.yieldNow, "not closed")
      if (run.fibers > 0 || time.sleeping > 0) {
        run.fail("leak", `${run.fibers} fibers and ${time.sleeping} sleeps are left after the scope has closed`)
      }
    }

    let hash = 0x811c9dc5
    for (const value of [endedAt, steps, run.started, run.faults.length]) hash = mix(hash, value)
    for (const { at, lasting } of run.faults) hash = mix(mix(hash, at), lasting)
    const outcome: Outcome = {
      seed: run.seed,
      hash: fingerprint + (hash >>> 0).toString(16).padStart(8, "0"),
      time: endedAt,
      steps,
      kinds: run.kinds,
      faults: run.faults,
      trace,
      netstat: TestNetwork.format(snapshot),
      logs: last(run.logs, keptLogs)
    }
    const verdict = Effect.suspend(() =>
      run.failed === undefined ? Effect.succeed(outcome) : Effect.fail(new SimulationFailed({ ...run.failed, outcome }))
    )
    if (run.failed === undefined || !mayBeReal.has(run.failed.kind)) return verdict
    // whatever is awaited from the real world may come now; what comes too late for this is told as what it looks like
    return patience.pipe(Effect.andThen(Effect.suspend(() => {
      if (time.disturbed) {
        run.failed = {
          kind: "real world",
          detail: "it waits for something real: a promise, a timer, a socket. Only virtual time passes here",
          cause: run.failed?.cause
        }
      }
      return verdict
    })))
  })

const mayBeReal = new Set<Kind>(["deadlock", "not converged", "not closed"])

// of real time, whatever clock the test has
const patience = Effect.provideService(Effect.sleep(50), Clock.Clock, Clock.Clock.defaultValue())

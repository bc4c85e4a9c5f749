/** One run of a simulation: its time, its world, and what watches both. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { renewAll } from "../../../internal/bytes/memory.ts"
import { joinedScoped } from "../../../internal/scheduling/supervised.ts"
import * as Chaos from "../../Chaos.ts"
import type { Network } from "../../Network.ts"
import * as TestNetwork from "../../TestNetwork.ts"
import { type Fault, type FaultKind, type Options, type Outcome, SimulationFailed, type World } from "../../World.ts"
import { type Draw, drawFrom } from "../fabric/random.ts"
import { count, finite, refuse } from "../fabric/settings.ts"
import * as Storm from "./storm.ts"
import { type Halt, VirtualTime } from "./virtualTime.ts"

type Kind = SimulationFailed["kind"]

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

class Run {
  readonly time = new VirtualTime()
  readonly seed: string
  readonly kinds: ReadonlyArray<FaultKind>
  readonly faults: Array<Fault> = []
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
  private readonly faultSettings: Storm.Settings
  private storms = 0
  private raging = 0

  constructor(options: Options) {
    this.options = options
    if (options.seed === undefined || Number.isNaN(options.seed)) {
      refuse("seed", options.seed, "a text or a number: the run that it names comes again")
    }
    this.seed = String(options.seed)
    this.stormFor = finite("storm", options.storm ?? "10 minutes")
    this.liveness = finite("liveness", options.liveness ?? "10 minutes")
    this.deadline = this.liveness
    count("stepsAtOnce", options.stepsAtOnce ?? 1, 1)
    const draw = drawFrom(this.seed, "simulation")
    this.faultSettings = Storm.settings(options.faults ?? {})
    this.kinds = Storm.choose(draw, this.faultSettings)
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

  world(network: Network): World {
    const { time } = this
    return {
      seed: this.seed,
      network,
      faults: this.faults,
      storm: Effect.suspend(() => {
        this.deadline = Infinity
        this.raging++
        const draw = drawFrom(this.seed, "storm", String(this.storms++))
        return Storm.storm(network, draw, this.stormFor, this.kinds, this.faultSettings, (fault) => {
          this.faults.push(fault)
        }).pipe(
          Effect.map((mistake) => {
            if (mistake !== undefined) this.fail("failed", mistake, new RangeError(mistake))
          }),
          // also where it was interrupted: a program that waits in vain would go on for ever
          Effect.ensuring(Effect.sync(() => {
            if (--this.raging === 0) this.deadline = time.now() + this.liveness
          }))
        )
      }),
      process: (name, effect) => {
        const host = network.host(name)
        const life = Effect.gen({ self: this }, function*() {
          while (true) {
            const exit = yield* Effect.exit(host.run(Effect.scoped(effect)))
            if (Exit.isSuccess(exit)) return
            if (!Cause.hasInterruptsOnly(exit.cause)) {
              return this.fail("failed", `a process of ${name} failed`, exit.cause)
            }
            // on a host that is still down it is interrupted at once
            yield* Effect.sleep(100)
          }
        })
        // it reports its failure itself
        return Effect.asVoid(joinedScoped(`process of ${name}`, life))
      },
      eventually: (what, condition) =>
        Effect.gen({ self: this }, function*() {
          while (!(yield* condition)) {
            this.awaited = what
            yield* Effect.sleep(100)
          }
          // also where it was given up: a failure later is not for want of it
        }).pipe(Effect.ensuring(Effect.sync(() => {
          if (this.awaited === what) this.awaited = undefined
        }))),
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
          `nothing is ready, and no fiber sleeps: it waits for what never comes${waits}`
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

/** Runs a program to its end, and everything it began; see `Simulation.run`. */
export const run = <E>(
  options: Options,
  program: (world: World) => Effect.Effect<unknown, E, Scope.Scope>
): Effect.Effect<Outcome, SimulationFailed> =>
  Effect.suspend(() => {
    renewAll()
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
      logs: run.logs.slice(-keptLogs)
    }
    const verdict = Effect.suspend(() =>
      run.failed === undefined ? Effect.succeed(outcome) : Effect.fail(new SimulationFailed({ ...run.failed, outcome }))
    )
    if (run.failed === undefined || !mayBeReal.has(run.failed.kind)) return verdict
    // what the real world owes may come now; what comes later than this is reported as the failure that it looks like
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

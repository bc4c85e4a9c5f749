/**
 * The types of `Simulation`: what a run may do, what its program has, which faults there are, and what came of it.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { section } from "./internal/network/snapshot.ts"
import type * as Network from "./Network.ts"

/**
 * Every kind of fault there is, in the order in which they are drawn.
 *
 * @category constants
 * @since 0.1.0
 */
export const kinds = [
  // new ones belong at the end, or every seed becomes another run
  "latency",
  "bandwidth",
  "slicing",
  "partition",
  "one-way",
  "clog",
  "vanish",
  "reset",
  "nat",
  "rebind",
  "crash",
  "stall",
  "skew",
  "refuse",
  "dial-error",
  "accept-error",
  "read-error",
  "write-error"
] as const

/**
 * What can go wrong.
 *
 * - `latency`, `bandwidth`, `slicing`: links become slow, narrow, or cut bytes differently;
 * - `partition`, `one-way`, `clog`: links lose everything, lose it in one direction, or jam;
 * - `vanish`, `reset`, `rebind`: connections are cut off without a word, are reset, or get another address;
 * - `nat`: an address translator forgets quiet connections;
 * - `crash`: a host goes down with everything on it, and comes back;
 * - `stall`: the event loop of a host stands still; `skew`: its wall clock jumps;
 * - `refuse`: a host refuses connections;
 * - `dial-error`, `accept-error`, `read-error`, `write-error`: operations of a host fail.
 *
 * @category models
 * @since 0.1.0
 */
export type FaultKind = typeof kinds[number]

/**
 * Which faults a storm may bring, and where. What is left out may be anything.
 *
 * @category models
 * @since 0.1.0
 */
export interface Faults {
  /** Of these kinds each run has its own selection, each with even odds. Default: all. */
  readonly kinds?: ReadonlyArray<FaultKind> | undefined
  /** Whose links, connections and processes may be hit: a run fails where none of them is there. Default: every host there is. */
  readonly hosts?: ReadonlyArray<string> | undefined
  /** Exceptions, by kind: `{ crash: ["client"] }` lets only the client crash. */
  readonly hostsOf?: { readonly [K in FaultKind]?: ReadonlyArray<string> | undefined } | undefined
  /** The mean time between two faults; each run draws its own from a quarter of it to four times it. Default 20 s. */
  readonly every?: Duration.Input | undefined
  /** The longest time that a fault lasts; most are much shorter. Default 2 minutes. */
  readonly longest?: Duration.Input | undefined
  /** The longest stall of a host. Default: as `longest`. */
  readonly longestStall?: Duration.Input | undefined
}

/**
 * One fault that happened. Times are milliseconds; `lasting` is 0 for an instant fault.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fault {
  readonly at: number
  readonly kind: FaultKind
  /** Which hosts: one, or both ends of a link. */
  readonly where: string
  readonly lasting: number
}

/**
 * What a run may do, and for how long. All times are virtual.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Everything random comes from it: the same seed is the same run. */
  readonly seed: string | number
  /** How long a storm lasts, not for ever. Default 10 minutes. */
  readonly storm?: Duration.Input | undefined
  /**
   * How long the program may take before the storm, and after the last one, and how long the end of its scope may take.
   * Default 10 minutes; not for ever.
   */
  readonly liveness?: Duration.Input | undefined
  /** Which faults a storm may bring, and where. */
  readonly faults?: Faults | undefined
  /** The network when nothing is wrong with it. */
  readonly network?: Omit<Network.Options, "seed"> | undefined
  /** How many turns fibers may have within a millisecond; then it is a livelock. Default 1,000,000. */
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
  readonly network: Network.Network
  /** The faults so far, for invariants that allow for them. */
  readonly faults: ReadonlyArray<Fault>
  /**
   * Lets the faults of this run happen, for `Options.storm`, and ends once everything is healed. What the program does
   * from then on has to succeed within `Options.liveness`. Interrupted, it heals what it did and is over.
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
  /** Fails the run, wherever it is called; no handler of the program can catch it. The first failure counts. */
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
  readonly kinds: ReadonlyArray<FaultKind>
  readonly faults: ReadonlyArray<Fault>
  /** The last events of the network, as many as `Options.network.trace` says. */
  readonly trace: ReadonlyArray<Network.TraceEvent>
  /** The network when the program ended or failed, as `netstat` would print it. */
  readonly netstat: string
  /** The last 100 lines the program logged. */
  readonly logs: ReadonlyArray<string>
}

/**
 * A run that failed, and why.
 *
 * - `failed`: the program failed, or said so (`World.fail`).
 * - `defect`: a fiber ended with a defect, whether or not another fiber awaited it.
 * - `not converged`: the program had not ended `liveness` after the storm.
 * - `deadlock`: no fiber was ready and none slept.
 * - `livelock`: fibers went on and on, and no time passed.
 * - `real world`: it waited for a promise, a timer or a socket of the real world, where no virtual time passes.
 * - `not closed`: closing the scope took longer than `liveness`, or never ended.
 * - `leak`: fibers or sleeps were left when the scope had closed.
 *
 * The message holds the seed, the last faults and log lines, the cause, and the state of the network.
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
        faults.slice(-20).map(describe)
      ),
      ...section("log", logs.slice(-20)),
      "",
      netstat
    ].join("\n")
  }
}

const describe = ({ at, kind, lasting, where }: Fault): string =>
  `${Duration.format(Duration.millis(at))}: ${kind} ${where}${
    lasting === 0 ? "" : ` for ${Duration.format(Duration.millis(lasting))}`
  }`

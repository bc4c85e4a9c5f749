/**
 * Simulations as tests of vitest: `it` of `@effect/vitest`, and `it.simulate`.
 *
 * An entry of its own, `holdfast/testing/vitest`, because it is the only one that needs `vitest` and `@effect/vitest`.
 *
 * **Example** (An echo comes back after a storm, whatever happened in it)
 *
 * ```ts
 * import { Effect, Exit, Stream } from "effect"
 * import { SocketServer } from "effect/socket"
 * import { Client, Codec, Connection, Heartbeat, Server } from "holdfast"
 * import { it } from "holdfast/testing/vitest"
 *
 * const open = Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") })
 *
 * it.simulate("an echo comes back after a storm", { seeds: 50 }, (world) =>
 *   Effect.gen(function*() {
 *     const serve = Server.run({ open, handle: (c) => Stream.runForEach(Connection.batches(c), c.sendAll) })
 *     const host = world.network.host("server")
 *     yield* world.process("server", Effect.flatMap(host.listen(7000), (listener) =>
 *       Effect.provideService(serve, SocketServer.SocketServer, listener)))
 *     const dial = Effect.suspend(() => open(world.network.host("client").dial("server:7000")))
 *     const client = yield* Client.make(dial)
 *     const echo = Effect.andThen(client.send("hello"), Effect.timeout(client.receive, "5 seconds"))
 *     yield* world.storm
 *     yield* world.eventually("an echo comes back", Effect.map(Effect.exit(echo), Exit.isSuccess))
 *   }))
 * ```
 *
 * @since 0.1.0
 */
import { it as effectIt, type Vitest } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Simulation from "./Simulation.ts"

/**
 * What a simulated test may do, and how often.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Omit<Simulation.Options, "seed"> {
  /** A number of runs, whose seeds are 1, 2, 3, ..., or the seeds themselves. At least one. Default 100. */
  readonly seeds?: number | ReadonlyArray<string | number> | undefined
  /** Milliseconds of real time for all runs. Default a minute, and a second more for each seed. */
  readonly timeout?: number | undefined
}

/**
 * Declares a test that runs a program in a simulation, once for each seed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Declare {
  <E>(
    name: string,
    options: Options,
    program: (world: Simulation.World) => Effect.Effect<unknown, E, Scope.Scope>
  ): void
}

/**
 * Declares a simulated test; `only` and `skip` as those of `it`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Simulate extends Declare {
  readonly only: Declare
  readonly skip: Declare
}

// in the environment: one seed to replay, or another number of seeds
const environment = Effect.runSync(
  Config.all({
    seed: Config.option(Config.NonEmptyString("HOLDFAST_SEED")),
    seeds: Config.option(Config.NonEmptyString("HOLDFAST_SEEDS"))
  }).parse(ConfigProvider.fromEnv())
)

const seedsOf = (seeds: Options["seeds"] = 100): ReadonlyArray<string | number> => {
  if (environment.seed._tag === "Some") return [environment.seed.value]
  const asked = environment.seeds._tag === "Some" && typeof seeds === "number" ? environment.seeds.value : undefined
  const chosen = asked === undefined ? seeds : Number(asked)
  if (typeof chosen === "number" && !(Number.isInteger(chosen) && chosen >= 1)) {
    const name = asked === undefined ? "it.simulate: seeds" : "HOLDFAST_SEEDS"
    throw new RangeError(`${name} is a number of runs, at least 1, and not ${asked ?? chosen}`)
  }
  const list = typeof chosen === "number" ? Array.from({ length: chosen }, (_, i) => i + 1) : chosen
  if (list.length === 0) throw new RangeError("it.simulate: seeds names no seed, so that nothing would be tested")
  return list
}

/** One seed after the other; the first one twice, because a run that cannot be repeated cannot be explained either. */
const runAll = async <E>(
  { seeds: _, timeout: __, ...options }: Options,
  seeds: ReadonlyArray<string | number>,
  program: (world: Simulation.World) => Effect.Effect<unknown, E, Scope.Scope>
): Promise<void> => {
  const run = async (seed: string | number): Promise<string> => {
    // between two runs the event loop has its turn: vitest may have to say something
    const simulation = Effect.andThen(Effect.yieldNow, Simulation.run({ ...options, seed }, program))
    const exit = await Effect.runPromiseExit(simulation)
    if (Exit.isSuccess(exit)) return exit.value.hash
    const error = Cause.squash(exit.cause)
    if (!(error instanceof Simulation.SimulationFailed)) throw error
    throw new Error(`${error.message}\n\nto see it again: HOLDFAST_SEED=${seed} npx vitest run`, {
      cause: error.cause
    })
  }
  for (const [i, seed] of seeds.entries()) {
    const hash = await run(seed)
    if (i > 0) continue
    const again = await run(seed)
    if (hash === again) continue
    throw new Error(
      `seed ${seed} was two different runs, ${hash} and ${again}: something in the program is neither from the seed nor ` +
        "from virtual time (Math.random, Date.now, a counter that outlives the run)"
    )
  }
}

const declare = (mode: "run" | "only" | "skip"): Declare => (name, options, program) => {
  const seeds = seedsOf(options.seeds)
  const timeout = options.timeout ?? 60_000 + 1000 * seeds.length
  const test = mode === "run" ? effectIt : effectIt[mode]
  test(name, { timeout }, () => runAll(options, seeds, program))
}

const simulate: Simulate = Object.assign(declare("run"), { only: declare("only"), skip: declare("skip") })

/**
 * The `it` of `@effect/vitest`, with `it.simulate`.
 *
 * **Details**
 *
 * The first seed that fails fails the test: with its seed, the faults, the log and the network as `netstat` would print
 * it. `HOLDFAST_SEED=42` in the environment runs this seed alone, and `HOLDFAST_SEEDS=10000` that many. The first seed of
 * each test runs twice, and both runs have to be the same to the last event.
 *
 * @category testing
 * @since 0.1.0
 */
export const it: Vitest.Methods & { readonly simulate: Simulate } = new Proxy(
  effectIt as Vitest.Methods & { readonly simulate: Simulate },
  {
    get(target, property, receiver) {
      return property === "simulate" ? simulate : Reflect.get(target, property, receiver)
    }
  }
)

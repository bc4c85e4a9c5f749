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
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Run from "./internal/simulation/run.ts"
import type { Options, Outcome, SimulationFailed, World } from "./World.ts"

export * from "./World.ts"

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
): Effect.Effect<Outcome, SimulationFailed> => Run.run(options, program)

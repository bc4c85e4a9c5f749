/**
 * What the process of a server says when it ends, and what a second signal does.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import { wasCutShort } from "../internal/server/draining.ts"
import { worker } from "./internal/addresses/worker.ts"

/**
 * The exit code of a server's process, for `NodeRuntime.runMain({ teardown })`: 0 for a stop by a signal that drained in time.
 *
 * **When to use**
 *
 * In the main program of every server. Without it Effect says 130 for each interruption, which supervisors (systemd, Docker,
 * Kubernetes) take for a failure.
 *
 * **Details**
 *
 * | the program | exit code |
 * |---|---|
 * | ended by itself, with success | 0 |
 * | interrupted (SIGINT, SIGTERM), and every `Server` and `HttpServer` drained within `Policy.drain` | 0 |
 * | interrupted, and connections that were still there after `Policy.drain` were cut | 1 |
 * | failed or died | as Effect's default: that of the error, or 1 |
 *
 * **Gotchas**
 *
 * A `Policy.drain` of 0 asks to wait for nothing: it cuts nothing short.
 *
 * **Example** (A server that ends with 0)
 *
 * ```ts
 * import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
 * import { Effect, Stream } from "effect"
 * import { Codec, Connection, Server } from "holdfast"
 * import { Listener, Shutdown } from "holdfast/node"
 *
 * Server.run({
 *   open: Connection.make({ codec: Codec.lines() }),
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 * }).pipe(
 *   Effect.provide(Listener.layer("tcp://127.0.0.1:7000")),
 *   Shutdown.endAtSecondSignal,
 *   NodeRuntime.runMain({ teardown: Shutdown.teardown })
 * )
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
    ? onExit(wasCutShort() ? 1 : 0)
    : Runtime.defaultTeardown(exit, onExit)

const signals = { SIGINT: 130, SIGTERM: 143 } as const

// a terminal and npm both pass one Ctrl-C on: milliseconds within which two signals are one
const sameSignal = 250

/**
 * Ends the process at once at the second SIGINT or SIGTERM while an effect runs: 130 or 143 is the exit code.
 *
 * **When to use**
 *
 * In the main program, inside `NodeRuntime.runMain`: the first Ctrl-C interrupts, and servers drain for up to `Policy.drain`.
 * Effect ignores the second one, with which a user says that this takes too long.
 *
 * **Gotchas**
 *
 * Two signals within 250 ms are one: a terminal sends Ctrl-C to `npm` and to its child, and `npm` passes it on, at times when the
 * effect has ended already: once one came, this listens until the process has ended. Nothing is
 * flushed at the second one, and no finalizer runs. In a worker of `Workers` a second signal does nothing: the parent ends its
 * workers at the second that it gets.
 *
 * @category running
 * @since 0.1.0
 */
export const endAtSecondSignal = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    // a terminal and systemd tell all processes, and then the parent tells its workers
    if (worker() !== undefined) return effect
    let firstAt: number | undefined
    const onSignal = (signal: keyof typeof signals): void => {
      firstAt ??= performance.now()
      if (performance.now() - firstAt > sameSignal) process.exit(signals[signal])
    }
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal)
    return Effect.ensuring(
      effect,
      Effect.sync(() => {
        // a process that ends still hears the second of one Ctrl-C, which would kill it
        if (firstAt !== undefined) return
        for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, onSignal)
      })
    )
  })

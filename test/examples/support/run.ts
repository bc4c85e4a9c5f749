/** What the main programs of the examples share: how they run and end, and their ports. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Config, Effect, Exit, Schema } from "effect"
import { Shutdown } from "holdfast/node"

/** Why an example cannot run here, and what to do about it. */
export class CannotRun extends Schema.TaggedError<CannotRun>()("CannotRun", { message: Schema.String }) {}

/** Runs a main program. Ctrl-C interrupts it, which drains servers, and the exit code is 0. A failure is one line. */
export const run = <E>(program: Effect.Effect<unknown, E>): void =>
  NodeRuntime.runMain(Shutdown.endAtSecondSignal(program), {
    disableErrorReporting: true,
    teardown: (exit, onExit) => {
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
        const error = Cause.squash(exit.cause)
        const isDefect = exit.cause.reasons.some(({ _tag }) => _tag === "Die")
        console.error(isDefect || !(error instanceof Error) ? Cause.pretty(exit.cause) : error.message)
      }
      Shutdown.teardown(exit, onExit)
    }
  })

/** The port of an example: `PORT` moves it, and 0 picks a free one. A second port is the next one. */
export const ports = (first: number): Effect.Effect<readonly [number, number], CannotRun> =>
  Config.Int("PORT").pipe(
    Config.withDefault(first),
    Effect.mapError(({ message }) => new CannotRun({ message: `PORT must be a number from 0 to 65534: ${message}` })),
    Effect.map((port) => [port, port === 0 ? 0 : port + 1] as const)
  )

/** What the command does, and how it ends. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { readFileSync } from "node:fs"
import { plainly } from "../internal/reasons/logs.ts"
import { causeCode, causeText, oneLine } from "../internal/reasons/text.ts"
import * as Shutdown from "../node/Shutdown.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { connect } from "./connect.ts"
import { policy } from "./policy.ts"
import { probe } from "./probe.ts"
import { serve } from "./serve.ts"
import { top } from "./top.ts"

// beside src and beside dist alike
const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  readonly version: string
}

/** A mistake gets one line and a pointer to the help, not a page of it. */
const presenter = Layer.succeed(CliOutput.Presenter, {
  present: (event) =>
    event._tag === "InvalidInvocation"
      // one mistake often makes the parser find more
      ? Console.error(`holdfast: ${oneLine(event.errors[0]!.message)} (see ${event.commandPath.join(" ")} --help)`)
      : CliOutput.defaultPresenter.present(event)
})

const holdfast = Command.make("holdfast").pipe(
  Command.withDescription(
    "Long-lived connections for Effect: a server to try things with, a client that comes back, a link's measures"
  ),
  Command.withSubcommands([serve, connect, probe, top, policy])
)

/** Runs the command with arguments; its mistakes are told on the console. */
export const runWith = (args: ReadonlyArray<string>): Effect.Effect<void, unknown> =>
  Command.runWith(holdfast, { version })(args).pipe(
    Effect.tapCause((cause) => {
      const error = Cause.squash(cause)
      return error instanceof CommandFailed ? Console.error(`holdfast: ${oneLine(error.message)}`) : Effect.void
    }),
    Effect.provide(Layer.merge(NodeServices.layer, presenter))
  )

// `ERR_STREAM_DESTROYED`: what is written after that
const readerGone = ["EPIPE", "ERR_STREAM_DESTROYED"]

/** Runs the command that the arguments of this process name. */
export const run = (): void => {
  // the reader of our output may have left (`| head -1`); that is no reason to stop serving
  let unwritten: Error | undefined
  for (const output of [process.stdout, process.stderr]) {
    output.on("error", (error) => {
      if (!readerGone.includes(causeCode(error) ?? "")) unwritten ??= error
    })
  }

  const tellUnwritten = (code: number): void => {
    if (code !== 0 || unwritten === undefined) return
    process.exitCode = 1
    console.error(`holdfast: the output cannot be written: ${causeText(unwritten)}`)
  }

  // the first signal interrupts, which drains
  NodeRuntime.runMain(Shutdown.endAtSecondSignal(runWith(process.argv.slice(2))), {
    disableErrorReporting: true,
    teardown: (exit, onExit) => {
      // a stream tells of an error after the turn in which all was printed
      if (Exit.isSuccess(exit)) process.once("exit", tellUnwritten)
      if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) {
        // a command that was interrupted may have left something undone
        const code = Number(process.exitCode ?? 0)
        return code === 0 ? Shutdown.teardown(exit, onExit) : onExit(code)
      }
      for (const reason of exit.cause.reasons) {
        // a defect is our mistake: all of it, so that it can be reported
        if (reason._tag === "Die") console.error(Cause.pretty(plainly(exit.cause)))
      }
      onExit(1)
    }
  })
}

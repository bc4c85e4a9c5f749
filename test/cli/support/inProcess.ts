/** The command in the process of the test, for its help and mistakes: a process takes half a second to start. */
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { runWith } from "../../../src/cli/command.ts"

/** What the command says, and how it ends. */
export const inProcess = async (args: ReadonlyArray<string>) => {
  let stdout = ""
  let stderr = ""
  const console: Console.Console = {
    ...globalThis.console,
    log: (...parts) => void (stdout += `${parts.join(" ")}\n`),
    error: (...parts) => void (stderr += `${parts.join(" ")}\n`)
  }
  const exit = await runWith(args).pipe(
    Effect.timeout("10 seconds"),
    Effect.provideService(Console.Console, console),
    Effect.runPromiseExit
  )
  return { exit, stderr, stdout }
}

/** A line on the error stream, and the arguments that bring it. */
export type Mistake = readonly [expected: RegExp, ...args: ReadonlyArray<string>]

/** What is not told as it should be: one line on the error stream that matches, nothing else, and a failure. */
export const badlyTold = async (
  command: ReadonlyArray<string>,
  mistakes: ReadonlyArray<Mistake>
): Promise<ReadonlyArray<string>> => {
  const found: Array<string> = []
  for (const [expected, ...args] of mistakes) {
    const { exit, stderr, stdout } = await inProcess([...command, ...args])
    const isTold = stdout === "" && /^holdfast: [^\n]+\n$/.test(stderr) && expected.test(stderr)
    if (isTold && Exit.isFailure(exit) && !Cause.hasDies(exit.cause)) continue
    found.push(`${[...command, ...args].join(" ")} ended with ${exit}, not with ${expected}\n${stdout}${stderr}`)
  }
  return found
}

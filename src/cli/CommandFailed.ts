/** What a command tells a person who has to do something about it: one line, and an exit code. */
import type * as PlatformError from "effect/PlatformError"
import * as Schema from "effect/Schema"

export class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", { message: Schema.String }) {}

const problems: Record<string, string> = {
  NotFound: "there is no such file",
  PermissionDenied: "we may not read it",
  BadResource: "it is not a file"
}

/** A file that a flag names and that cannot be read. */
export const fileProblem = (flag: string, path: string) => (error: PlatformError.PlatformError): CommandFailed =>
  new CommandFailed({ message: `${flag} ${path}: ${problems[error.reason._tag] ?? error.message}` })

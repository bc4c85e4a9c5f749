/** The files that flags name. */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import * as Fs from "node:fs"
import * as Net from "node:net"
import type { Readable } from "node:stream"
import * as Tty from "node:tty"
import { causeText } from "../internal/reasons/text.ts"
import { CommandFailed } from "./CommandFailed.ts"

const problems: Record<string, string> = {
  NotFound: "there is no such file",
  PermissionDenied: "we may not read it",
  BadResource: "it is not a file"
}

const failed = (flag: string, path: string, what: string): CommandFailed =>
  new CommandFailed({ message: `${flag} ${path}: ${what}` })

const typeOf = Effect.fnUntraced(function*(flag: string, path: string) {
  const files = yield* FileSystem.FileSystem
  const { type } = yield* Effect.mapError(files.stat(path), fileProblem(flag, path))
  return type
})

/** A file that a flag names and that cannot be read. */
const fileProblem = (flag: string, path: string) => (error: PlatformError.PlatformError): CommandFailed =>
  failed(flag, path, problems[error.reason._tag] ?? error.message)

/** A stream of what is open there, which blocks no thread: that would keep the process from exiting. */
const streamOf = (type: FileSystem.File.Type, fd: number): Readable =>
  type === "FIFO"
    ? new Net.Socket({ fd, readable: true, writable: false })
    : Tty.isatty(fd)
    ? new Tty.ReadStream(fd)
    : Fs.createReadStream("", { fd })

/** Reads a pipe, whose writer may come later, or what is typed at a terminal. */
const readStream = (flag: string, path: string, type: FileSystem.File.Type): Effect.Effect<string, CommandFailed> =>
  Effect.callback((resume, signal) => {
    const problem = (error: unknown): void => resume(Effect.fail(failed(flag, path, causeText(error))))
    let stream: Readable | undefined
    Fs.open(path, Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK, (error, fd) => {
      if (error !== null) return problem(error)
      if (signal.aborted) return Fs.closeSync(fd)
      let text = ""
      stream = streamOf(type, fd)
      stream.setEncoding("utf8").on("data", (part: string) => text += part).on("error", problem).on(
        "end",
        () => resume(text === "" ? Effect.fail(failed(flag, path, "nothing was in it")) : Effect.succeed(text))
      )
    })
    return Effect.sync(() => stream?.destroy())
  })

/** The text of a file that a flag names. */
export const readFile = Effect.fnUntraced(function*(flag: string, path: string) {
  const type = yield* typeOf(flag, path)
  if (type === "FIFO" || type === "CharacterDevice") return yield* readStream(flag, path, type)
  const files = yield* FileSystem.FileSystem
  return yield* Effect.mapError(files.readFileString(path), fileProblem(flag, path))
})

/** The same, where the flag may not be given. */
export const textOf = (flag: string, path: Option.Option<string>) =>
  Option.isNone(path) ? Effect.undefined : readFile(flag, path.value)

/** A file that several processes can read, and read again. */
export const readableByAll = Effect.fnUntraced(function*(flag: string, path: string) {
  const type = yield* typeOf(flag, path)
  // the input and open descriptors are those of one process
  if (type === "File" && !/^\/(?:dev\/(?:stdin|fd)|proc)\b/.test(path)) return
  yield* failed(flag, path, "each worker reads it, and again when it is renewed: with --workers give a file")
})

/** What the main programs of the examples share: how they run and end, their ports, and the servers of others that they start. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Config, Effect, Exit, Schedule, Schema, type Scope } from "effect"
import { Shutdown } from "holdfast/node"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"

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

// ---------------------------------------------------------------------------------------------------------------------
// the servers of others
// ---------------------------------------------------------------------------------------------------------------------

// Debian keeps servers where the PATH of a user does not lead
const folders = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"]

/** Where a program of this machine is; fails with how to install it. */
export const installed = (name: string, debian: string, instead = ""): Effect.Effect<string, CannotRun> =>
  Effect.suspend(() => {
    const path = folders.map((folder) => Path.join(folder, name)).find((path) => Fs.existsSync(path))
    return path === undefined
      ? Effect.fail(
        new CannotRun({ message: `${name} is not installed. Debian, Ubuntu: apt install ${debian}${instead}` })
      )
      : Effect.succeed(path)
  })

/** A folder of its own, which is gone at the end. */
export const temporary: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "holdfast-example-"))),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
)

/** A port of the loopback that is free at the moment. */
export const freePort: Effect.Effect<number> = Effect.callback((resume) => {
  const probe = Net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address() as Net.AddressInfo
    probe.close(() => resume(Effect.succeed(port)))
  })
})

/** Whether a port, or a socket file, takes connections. */
const listens = (at: number | string): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = typeof at === "string" ? Net.connect(at) : Net.connect(at, "127.0.0.1")
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.succeed(true))
    })
    socket.once("error", () => resume(Effect.succeed(false)))
  })

/** Starts a server that is no part of this program, waits until it listens, and stops it at the end. */
export const started = (
  path: string,
  args: ReadonlyArray<string>,
  at: ReadonlyArray<number | string>
): Effect.Effect<void, CannotRun, Scope.Scope> =>
  Effect.gen(function*() {
    let said = ""
    const child = yield* Effect.acquireRelease(
      // a group of its own, which Ctrl-C does not reach: it is stopped after its clients
      Effect.sync(() => ChildProcess.spawn(path, args, { stdio: ["ignore", "pipe", "pipe"], detached: true })),
      (child) =>
        Effect.callback<void>((resume) => {
          if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGTERM")
          setTimeout(() => child.kill("SIGKILL"), 2000).unref()
        })
    )
    for (const output of [child.stdout, child.stderr]) {
      output.setEncoding("utf8").on("data", (text: string) => said = (said + text).slice(-2000))
    }
    const isUp = Effect.map(Effect.all(at.map(listens)), (all) => all.every(Boolean))
    const look = Effect.suspend(() =>
      child.exitCode === null && child.signalCode === null
        ? isUp
        : Effect.fail(new CannotRun({ message: `${Path.basename(path)} ended by itself:\n${said.trim()}` }))
    )
    yield* Effect.repeat(look, { until: (up) => up, schedule: Schedule.spaced("20 millis") }).pipe(
      Effect.timeoutOrElse({
        duration: "10 seconds",
        orElse: () => Effect.fail(new CannotRun({ message: `${Path.basename(path)} does not listen after 10 s` }))
      })
    )
  })

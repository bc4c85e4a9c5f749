/** The servers of others that examples start: found on this machine, stopped at the end, restarted now and then. */
import { Config, Console, type Duration, Effect, Exit, Option, Schedule, Scope } from "effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Ports from "../../support/freePort.ts"
import { CannotRun } from "./run.ts"

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
export const freePort: Effect.Effect<number> = Effect.promise(Ports.freePort)

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

/** A server of others, as the program sees it. */
export interface Backend {
  readonly url: string
  /** Restarts it again and again, where it is ours. */
  readonly restarting: Effect.Effect<never, CannotRun>
}

/**
 * The server that a variable of the environment names, or one of our own: `own` says how it is started, and where it then is. It is
 * restarted every few seconds, so that there is something to see.
 */
export const backend = <E>(
  variable: string,
  own: Effect.Effect<
    { readonly url: string; readonly server: Effect.Effect<void, CannotRun, Scope.Scope> },
    E,
    Scope.Scope
  >,
  every: Duration.Input = "5 seconds"
): Effect.Effect<Backend, E | CannotRun | Config.ConfigError, Scope.Scope> =>
  Effect.gen(function*() {
    const given = Option.getOrUndefined(yield* Config.option(Config.String(variable)))
    if (given !== undefined) return { url: given, restarting: Effect.never }
    const { server, url } = yield* own
    let scope = yield* Scope.make()
    yield* Effect.addFinalizer((exit) => Effect.suspend(() => Scope.close(scope, exit)))
    yield* Scope.provide(server, scope)
    const restart = Effect.gen(function*() {
      yield* Console.log("the server restarts")
      yield* Scope.close(scope, Exit.void)
      scope = yield* Scope.make()
      yield* Scope.provide(server, scope)
    })
    return { url, restarting: Effect.forever(Effect.delay(restart, every)) }
  })

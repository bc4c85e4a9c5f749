/** Real servers for the engines of a fleet, each on a free port with a folder of its own. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { tempDir } from "./kit.ts"

const places = (name: string) =>
  [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"].map((folder) => `${folder}/${name}`)

/** Where a program is; Debian has servers where only root's PATH leads. */
export const installed = (name: string): string | undefined => places(name).find((path) => Fs.existsSync(path))

export const freePort: Effect.Effect<number> = Effect.promise(() =>
  new Promise<number>((resolve) => {
    const probe = Net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as Net.AddressInfo
      probe.close(() => resolve(port))
    })
  })
)

const speaks = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect(port, "127.0.0.1", () => socket.write("PING\r\n"))
    const tell = (is: boolean) => {
      socket.destroy()
      resolve(is)
    }
    // NATS greets, Redis answers
    socket.once("data", () => tell(true))
    socket.once("error", () => tell(false))
    socket.once("close", () => tell(false))
  })

export interface Daemon {
  readonly port: number
  readonly dir: string
  /** Starts it again, with the files that it has left. */
  readonly start: Effect.Effect<void>
  /** `kill -9`. */
  readonly kill: Effect.Effect<void>
  readonly signal: (signal: NodeJS.Signals) => void
}

/** A server, until the scope is closed. */
export const daemon = (
  name: string,
  args: (port: number, dir: string) => ReadonlyArray<string>
): Effect.Effect<Daemon, never, Scope.Scope> =>
  Effect.gen(function*() {
    const port = yield* freePort
    const dir = yield* tempDir
    let child: ChildProcess.ChildProcess | undefined
    const start = Effect.promise(async () => {
      const started = child = ChildProcess.spawn(installed(name)!, args(port, dir), { stdio: "ignore", cwd: dir })
      const deadline = performance.now() + 10_000
      while (!(await speaks(port))) {
        if (performance.now() > deadline || started.exitCode !== null) throw new Error(`${name} did not start`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    })
    const kill = Effect.promise(async () => {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, "exit")
      child.kill("SIGKILL")
      await exited
    })
    yield* Effect.acquireRelease(start, () => kill)
    return { port, dir, start, kill, signal: (signal) => void child!.kill(signal) }
  })

/** A Redis that keeps nothing. */
export const redisServer = (...more: ReadonlyArray<string>) =>
  daemon("redis-server", (port, dir) => {
    const settings = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir]
    return [...settings, ...more]
  })

/** Real servers for the engines of a fleet, each on a free port with a folder of its own. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { freePort } from "../../support/freePort.ts"
import { tempDir, until } from "./kit.ts"

const places = (name: string) =>
  [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"].map((folder) => `${folder}/${name}`)

/** Where a program is; Debian has servers where only root's PATH leads. */
export const installed = (name: string): string | undefined => places(name).find((path) => Fs.existsSync(path))

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
  /** Of the process that runs now. */
  readonly pid: () => number
  readonly dir: string
  /** Starts it again, with the files that it has left. */
  readonly start: Effect.Effect<void>
  /** `kill -9`. */
  readonly kill: Effect.Effect<void>
  /** SIGSTOP, until the kernel has stopped all its threads: it is sent in no time, and takes effect later. */
  readonly freeze: Effect.Effect<void>
  /** SIGCONT. */
  readonly thaw: Effect.Effect<void>
}

/** Whether each thread of a process is stopped, as the kernel tells it (Linux). */
const isStopped = (pid: number): boolean =>
  Fs.readdirSync(`/proc/${pid}/task`).every((task) => {
    const stat = Fs.readFileSync(`/proc/${pid}/task/${task}/stat`, "latin1")
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("T")
  })

/** A server, until the scope is closed. */
export const daemon = (
  name: string,
  args: (port: number, dir: string) => ReadonlyArray<string>
): Effect.Effect<Daemon, never, Scope.Scope> =>
  Effect.gen(function*() {
    const port = yield* Effect.promise(freePort)
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
    const freeze = Effect.andThen(
      Effect.sync(() => void child!.kill("SIGSTOP")),
      until("it is frozen", () => isStopped(child!.pid!))
    )
    return {
      port,
      pid: () => child!.pid!,
      dir,
      start,
      kill,
      freeze,
      thaw: Effect.sync(() => void child!.kill("SIGCONT"))
    }
  })

/** A Redis that keeps nothing. */
export const redisServer = (...more: ReadonlyArray<string>) =>
  daemon("redis-server", (port, dir) => {
    const settings = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir]
    return [...settings, ...more]
  })

/** A NATS with JetStream. */
export const natsServer = (...more: ReadonlyArray<string>) =>
  daemon("nats-server", (port, dir) => ["-a", "127.0.0.1", "-p", `${port}`, "-js", "-sd", dir, ...more])

/**
 * A way to a port of this machine that can be cut: `cut` resets all that go through it, and says how many. `dialled` says how many have come. `mute` lets nothing
 * come back any more on the connections that it has.
 */
export const cuttable = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const pairs = new Set<ReadonlyArray<Net.Socket>>()
      let connections = 0
      const server = Net.createServer((client) => {
        connections++
        const pair = [client, Net.connect(port, "127.0.0.1")]
        pairs.add(pair)
        pair.forEach((socket, i) => {
          socket.on("error", () => {})
          socket.on("close", () => {
            pairs.delete(pair)
            pair[1 - i]!.destroy()
          })
          socket.pipe(pair[1 - i]!)
        })
      })
      const size = (): number => pairs.size
      const mute = (): void => {
        for (const [, behind] of pairs) behind!.unpipe().resume()
      }
      await once(server.listen(0, "127.0.0.1"), "listening")
      const cut = (): number => {
        const { size } = pairs
        for (const [client, behind] of Array.from(pairs)) {
          client!.resetAndDestroy()
          behind!.destroy()
        }
        return size
      }
      const dialled = (): number => connections
      return { port: (server.address() as Net.AddressInfo).port, cut, dialled, mute, server, size }
    }),
    ({ cut, server }) =>
      Effect.sync(() => {
        server.close()
        cut()
      })
  )

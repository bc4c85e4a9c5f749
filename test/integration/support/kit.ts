/** What the integration tests share: a server over any transport, a seeded dice, and figures from the kernel. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Readline from "node:readline"
import { fileURLToPath } from "node:url"
import { Connection, type ConnectionError, Registry, Server } from "../../../src/index.ts"
import { transportOf } from "../../../src/internal/transport/transport.ts"
import { until } from "../../node/fixtures/kit.ts"

export { certificate, descriptors, onLinux, portOf, tempDir, until } from "../../node/fixtures/kit.ts"

/** Numbers in [0, 1) that are the same in every run (mulberry32). */
export const dice = (seed: number): () => number => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** The value below which a fraction of the samples lies. */
export const quantile = (samples: ReadonlyArray<number>, fraction: number): number =>
  samples.toSorted((a, b) => a - b)[Math.min(samples.length - 1, Math.floor(samples.length * fraction))]

// ---------------------------------------------------------------------------------------------------------------------
// a server
// ---------------------------------------------------------------------------------------------------------------------

/** A server under test, and all it said. */
export interface Served<In, Out> {
  readonly events: Array<Server.Event>
  /** Every connection a handler was started for, in the order of arrival. */
  readonly connections: Array<Connection.Connection<In, Out>>
  readonly registry: Registry.Registry<In, Out>
  /** Bytes which the transport of the n-th socket has and the kernel has not. */
  readonly unsent: (index: number) => number
  readonly stats: Effect.Effect<Server.Stats>
  /** Stops accepting and drains. */
  readonly stop: Effect.Effect<void>
}

interface Options<A> extends Connection.Options<A, A> {
  /** Takes the place of the options of a connection. */
  readonly open?: Connection.Open<A, A> | undefined
  readonly handle?:
    | ((connection: Connection.Connection<A>) => Effect.Effect<unknown, ConnectionError.ConnectionError>)
    | undefined
  readonly handshake?:
    | ((connection: Connection.Connection<A>) => Effect.Effect<void, ConnectionError.ConnectionError>)
    | undefined
  readonly refusal?: ((reason: ConnectionError.Reason) => A) | undefined
}

/** Sends back what comes, batch by batch. */
export const echo = <A>(connection: Connection.Connection<A>): Effect.Effect<never, ConnectionError.ConnectionError> =>
  Effect.gen(function*() {
    while (true) yield* connection.sendAll(yield* connection.receiveAll)
  })

/** Runs a server in the scope of the test; what it does with connections is an echo unless told otherwise. */
export const serve = Effect.fnUntraced(function*<A>(
  server: SocketServer.SocketServer["Service"],
  options: Options<A>
): Effect.fn.Return<Served<A, A>, never, Scope.Scope> {
  const events: Array<Server.Event> = []
  const connections: Array<Connection.Connection<A>> = []
  const unsent: Array<() => number> = []
  const registry = yield* Registry.make<A>()
  const open = options.open ?? Connection.make(options)
  const handle = options.handle ?? echo
  const { run, stats } = Server.make({
    policy: options.policy,
    registry,
    open: (socket: Socket.Socket) => {
      const transport = transportOf(socket)
      unsent.push(() => transport.unsent?.() ?? 0)
      return open(socket)
    },
    handshake: options.handshake,
    refusal: options.refusal,
    onEvent: (event) => Effect.sync(() => void events.push(event)),
    handle: (connection) => {
      connections.push(connection)
      return handle(connection)
    }
  })
  const fiber = yield* run.pipe(
    Effect.provideService(SocketServer.SocketServer, server),
    Effect.forkScoped({ startImmediately: true })
  )
  return {
    events,
    connections,
    registry,
    unsent: (index) => unsent[index]?.() ?? 0,
    stats,
    stop: Fiber.interrupt(fiber)
  }
})

/** Waits until the n-th connection of a server has its handler. */
export const arrival = <In, Out>(
  served: Served<In, Out>,
  index: number
): Effect.Effect<Connection.Connection<In, Out>> =>
  Effect.map(until(`connection ${index}`, () => served.connections.length > index), () => served.connections[index])

/** Looks at a connection until it is as it should be; fails after the deadline with how it was. */
export const eventually = <In, Out>(
  connection: Connection.Connection<In, Out>,
  condition: (snapshot: Connection.Snapshot) => boolean,
  deadline: number = 5000
): Effect.Effect<Connection.Snapshot> =>
  Effect.gen(function*() {
    const end = performance.now() + deadline
    while (true) {
      const snapshot = yield* connection.snapshot
      if (condition(snapshot)) return snapshot
      if (performance.now() > end) {
        return yield* Effect.die(new Error(`after ${deadline} ms it was still ${JSON.stringify(snapshot)}`))
      }
      yield* Effect.sleep(2)
    }
  })

/** Why a connection ended; fails the test when it has not ended by the deadline. */
export const ending = <In, Out>(
  connection: Connection.Connection<In, Out>,
  deadline: number = 5000
): Effect.Effect<ConnectionError.Reason> =>
  connection.closed.pipe(
    Effect.flip,
    Effect.map((error) => error.reason),
    Effect.timeoutOrElse({
      duration: deadline,
      orElse: () => Effect.die(new Error(`the connection was still there after ${deadline} ms`))
    })
  )

/** The reason with which an operation of a connection fails. */
export const reasonOf = <A>(
  operation: Effect.Effect<A, ConnectionError.ConnectionError>
): Effect.Effect<ConnectionError.Reason, A> => Effect.map(Effect.flip(operation), (error) => error.reason)

/** Receives until there are `count` messages. */
export const take = <In, Out>(
  connection: Connection.Connection<In, Out>,
  count: number
): Effect.Effect<Array<In>, ConnectionError.ConnectionError> =>
  Effect.gen(function*() {
    const all: Array<In> = []
    while (all.length < count) all.push(...(yield* connection.receiveAll))
    return all
  })

/** Receives until the connection ends; what came, and why it ended. */
export const takeRest = <In, Out>(
  connection: Connection.Connection<In, Out>
): Effect.Effect<{ readonly messages: Array<In>; readonly reason: ConnectionError.Reason }> =>
  Effect.gen(function*() {
    const messages: Array<In> = []
    while (true) {
      const batch = yield* Effect.result(connection.receiveAll)
      if (batch._tag === "Failure") return { messages, reason: batch.failure.reason }
      messages.push(...batch.success)
    }
  })

// ---------------------------------------------------------------------------------------------------------------------
// what must not happen
// ---------------------------------------------------------------------------------------------------------------------

/** Fails the test when anything in it ends as an unhandled rejection or an uncaught exception. */
export const nothingUnhandled: Effect.Effect<void, never, Scope.Scope> = Effect.asVoid(Effect.acquireRelease(
  Effect.sync(() => {
    const caught: Array<unknown> = []
    const catcher = (error: unknown) => void caught.push(error)
    process.on("unhandledRejection", catcher)
    process.on("uncaughtException", catcher)
    return { caught, catcher }
  }),
  ({ caught, catcher }) =>
    Effect.promise(async () => {
      // rejections are reported after the microtasks of this turn
      await new Promise((resolve) => setImmediate(resolve))
      process.off("unhandledRejection", catcher)
      process.off("uncaughtException", catcher)
      if (caught.length > 0) throw new AggregateError(caught, `${caught.length} errors were not handled: ${caught[0]}`)
    })
))

/** The cause of a `Closed` event's handler failure, which no test here expects. */
export const handlerFailures = (events: ReadonlyArray<Server.Event>): ReadonlyArray<Cause.Cause<unknown>> =>
  events.flatMap((event) => event._tag === "Closed" && event.failure !== undefined ? [event.failure] : [])

// ---------------------------------------------------------------------------------------------------------------------
// other processes
// ---------------------------------------------------------------------------------------------------------------------

/** A program of this folder in a process of its own, which talks in lines. */
export interface Program {
  readonly pid: number
  readonly lines: ReadonlyArray<string>
  readonly say: (line: string) => void
  readonly exit: () => number | string | undefined
}

/** The path of a file in this folder. */
export const supportFile = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

/** Starts a program; it is killed when the scope closes. */
export const program = (
  command: string,
  args: ReadonlyArray<string>
): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = ChildProcess.spawn(command, args, {
        stdio: ["pipe", "pipe", "inherit"],
        env: { ...process.env, NODE_OPTIONS: "", NODE_NO_WARNINGS: "1" }
      })
      const lines: Array<string> = []
      let exit: number | string | undefined
      child.stdin.on("error", () => {})
      child.on("error", (error) => exit = String(error))
      child.on("exit", (code, signal) => exit = code ?? signal ?? "gone")
      Readline.createInterface({ input: child.stdout }).on("line", (line) => lines.push(line))
      return {
        child,
        self: {
          pid: child.pid ?? -1,
          lines,
          say: (line: string) => void child.stdin.write(`${line}\n`),
          exit: () => exit
        }
      }
    }),
    ({ child, self }) =>
      Effect.suspend(() => {
        if (self.exit() !== undefined) return Effect.void
        child.kill("SIGKILL")
        return until("the child is gone", () => self.exit() !== undefined)
      })
  ).pipe(Effect.map(({ self }) => self))

/** Starts a TypeScript program of this folder. */
export const nodeProgram = (name: string, ...args: ReadonlyArray<string>) =>
  program(process.execPath, ["--conditions=holdfast-source", supportFile(name), ...args])

/** Waits for a line that begins with a word, from a position on, and gives what follows the word. */
export const said = (from: Program, word: string, position: number = 0): Effect.Effect<string> => {
  let found: string | undefined
  return Effect.map(
    until(`the child says ${word}`, () => {
      found = from.lines.slice(position).find((line) => line === word || line.startsWith(`${word} `))
      if (found === undefined && from.exit() !== undefined) throw new Error(`the child ended: ${from.exit()}`)
      return found !== undefined
    }, 15_000),
    () => found!.slice(word.length + 1)
  )
}

/** Whether a command can be run at all. */
export const has = (command: string, ...args: ReadonlyArray<string>): boolean =>
  ChildProcess.spawnSync(command, args, { stdio: "ignore" }).status === 0

/** The milliseconds of processor time a process has used (Linux, in steps of 10 ms). */
export const processorTime = (pid: number): number => {
  const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  // the name of the command, in parentheses, may hold blanks
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) * 10
}

/** How many descriptors a process has open (Linux). */
export const descriptorsOf = (pid: number): number => Fs.readdirSync(`/proc/${pid}/fd`).length

/**
 * What workers cost: CPU for each message of `serve --workers 2` against `serve` in one process, in turns within each round.
 *
 * The load has the last core to itself, and the servers have the others (`taskset`). Run it on a quiet machine.
 *
 * The warm-up is a number of messages for each process. While the first 150,000 go through a process, V8 compiles their code, on
 * threads that take as much CPU as the messages. Two workers both do that, and each of them has half of the messages: after a
 * warm-up of equal time the worker's code was compiled later, and few rounds showed up to 1.2 where many showed 1.03.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync, readlinkSync } from "node:fs"
import net from "node:net"
import os from "node:os"
import { fileURLToPath } from "node:url"
import { enoughRounds } from "../support/figures.ts"
import { sleep } from "../support/processes.ts"
import { cpuNanos } from "./setting.ts"
import { type Figure, ratioOf, type Settings } from "./table.ts"

const seconds = 0.3
// turns of each of the two in a round
const parts = 4
// messages that each process has had before the first counted round
const warm = 300_000
const connections = 100
const spreadOver = 1000
// a length of 64 and so many bytes
const frame = Buffer.concat([Buffer.from([0, 0, 0, 64]), Buffer.alloc(64)])

const cores = os.availableParallelism()
const command = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url))

const pin = (pid: number, list: string): void => {
  execFileSync("taskset", ["-a", "-c", "-p", list, String(pid)], { stdio: "ignore" })
}

/** A process and what it started. */
const family = (pid: number): ReadonlyArray<number> => [
  pid,
  ...readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number)
  )
]

interface Turn {
  readonly cpu: number
  readonly count: number
}

const start = async (name: string, workers: ReadonlyArray<string>) => {
  const flags = ["--listen", "tcp://127.0.0.1:0", "--protocol", "frames", "--no-admin", ...workers]
  const child = spawn(process.execPath, [command, "serve", ...flags], { stdio: ["ignore", "pipe", "pipe"] })
  process.on("exit", () => child.kill("SIGKILL"))
  let text = ""
  for (const output of [child.stdout, child.stderr]) output.on("data", (data) => text += data)
  const isReady = (): boolean =>
    /listening .*\n/.test(text) && (workers.length === 0 || text.includes("worker 2 takes"))
  while (!isReady()) {
    if (child.exitCode !== null) throw new Error(text)
    await sleep(20)
  }
  for (const pid of family(child.pid!)) pin(pid, cores > 2 ? `0-${cores - 2}` : "0")
  const port = Number(/listening \S+:(\d+)\S*\s/.exec(text)![1])
  let messages = 0
  const conns = Array.from({ length: connections }, () => net.connect(port, "127.0.0.1").setNoDelay(true))
  await Promise.all(conns.map((conn) => once(conn, "connect")))
  const state = { isRunning: false }
  for (const conn of conns) {
    let bytes = 0
    conn.on("data", (data) => {
      bytes += data.length
      while (bytes >= frame.length) {
        bytes -= frame.length
        messages++
        if (state.isRunning) conn.write(frame)
      }
    })
  }
  /** Microseconds of CPU, of all processes of it, and for how many messages. */
  const turn = async (): Promise<Turn> => {
    const used = () => family(child.pid!).reduce((sum, pid) => sum + cpuNanos(pid), 0) / 1000
    state.isRunning = true
    for (const conn of conns) for (let i = 0; i < 4; i++) conn.write(frame)
    const [before, sent] = [used(), messages]
    await sleep(seconds * 1000)
    const result = { cpu: used() - before, count: messages - sent }
    state.isRunning = false
    await sleep(50)
    return result
  }
  return {
    name,
    turn,
    isWarm: () => messages >= warm * Math.max(1, family(child.pid!).length - 1),
    pid: child.pid!,
    port,
    figures: new Array<number>(),
    said: () => text,
    stop: () => child.kill("SIGTERM"),
    conns
  }
}

const perMessage = (turns: ReadonlyArray<Turn>): number => {
  const sum = (what: keyof Turn) => turns.reduce((sum, turn) => sum + turn[what], 0)
  return sum("cpu") / sum("count")
}

/** How many sockets each worker of a server has. */
const sockets = (pid: number): ReadonlyArray<number> =>
  family(pid).slice(1).map((worker) =>
    readdirSync(`/proc/${worker}/fd`).filter((fd) => {
      try {
        return readlinkSync(`/proc/${worker}/fd/${fd}`).startsWith("socket:")
      } catch {
        return false
      }
    }).length
  )

/** By how many of a hundred the worker with the most connections has more than its part, or the one with the fewest less. */
const unevenness = async ({ pid, port }: { readonly pid: number; readonly port: number }): Promise<number> => {
  const before = sockets(pid)
  const conns = Array.from({ length: spreadOver }, () => net.connect(port, "127.0.0.1"))
  // an echo says that a worker has it
  await Promise.all(conns.map(async (conn) => {
    conn.write(frame)
    await once(conn, "data")
  }))
  const added = sockets(pid).map((count, i) => count - before[i]!)
  for (const conn of conns) conn.destroy()
  await sleep(500)
  const part = spreadOver / added.length
  return Math.max(...added.map((count) => Math.abs(count - part) / part)) * 100
}

/** Why this cannot be measured here. */
export const withoutCores = (): string | undefined =>
  spawnSync("taskset", ["--version"]).error !== undefined
    ? "taskset is not installed: apt-get install util-linux"
    : cores < 2
    ? "two workers and their load need two cores"
    : undefined

export const workers = async (settings: Settings): Promise<ReadonlyArray<Figure>> => {
  pin(process.pid, String(cores - 1))
  const [one, two] = [await start("one process", []), await start("two workers", ["--workers", "2"])]
  const uneven: Array<number> = []
  try {
    for (const server of [one, two]) while (!server.isWarm()) await server.turn()
    settings.finished("workers", 0)
    for (let round = 1; round <= settings.rounds; round++) {
      const found = new Map([one, two].map((server) => [server, new Array<Turn>()]))
      for (let part = 0; part < parts; part++) {
        // there and back: a machine that becomes slower or faster meanwhile does so for both
        for (const server of part % 2 === round % 2 ? [one, two] : [two, one]) {
          found.get(server)!.push(await server.turn())
        }
      }
      for (const [{ figures }, turns] of found) figures.push(perMessage(turns))
      settings.finished("workers", round)
    }
    // at the end: a thousand connections that come and go leave work for the collector, and for one of the two servers alone
    for (let round = 1; round <= settings.rounds; round++) uneven.push(await unevenness(two))
  } catch (error) {
    const said = two.said().slice(-500).trim()
    throw new Error(`${(error as Error).message}; the server with workers said last:\n${said}`, { cause: error })
  } finally {
    for (const server of [one, two]) {
      for (const conn of server.conns) conn.destroy()
      server.stop()
    }
    pin(process.pid, `0-${cores - 1}`)
  }
  const figures: ReadonlyArray<Figure> = [
    ...[one, two].map(({ figures, name }): Figure => ({
      what: `${name}, CPU of a message`,
      unit: "us",
      rounds: figures
    })),
    { what: `${spreadOver} connections on two workers: farthest from half`, unit: "%", rounds: uneven, most: 20 }
  ]
  return settings.rounds < enoughRounds
    ? figures
    : [...figures, { ...ratioOf("two workers of one process, CPU of a message", two.figures, one.figures), most: 1.1 }]
}

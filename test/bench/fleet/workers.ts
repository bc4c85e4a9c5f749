/**
 * What workers cost: CPU for each message of `serve --workers 2` against `serve` in one process, in turns within each round.
 *
 * The load has the last core to itself, and the servers have the others (`taskset`). Run it on a quiet machine.
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

const seconds = 1.5
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

const start = async (name: string, workers: ReadonlyArray<string>) => {
  const flags = ["--listen", "tcp://127.0.0.1:0", "--protocol", "frames", "--no-admin", ...workers]
  const child = spawn(process.execPath, [command, "serve", ...flags], { stdio: ["ignore", "pipe", "pipe"] })
  process.on("exit", () => child.kill("SIGKILL"))
  let text = ""
  for (const output of [child.stdout, child.stderr]) output.on("data", (data) => text += data)
  const isReady = (): boolean => text.includes("listening") && (workers.length === 0 || text.includes("worker 2 takes"))
  while (!isReady()) {
    if (child.exitCode !== null) throw new Error(text)
    await sleep(20)
  }
  for (const pid of family(child.pid!)) pin(pid, cores > 2 ? `0-${cores - 2}` : "0")
  const port = Number(/listening \S+:(\d+)/.exec(text)![1])
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
  /** Microseconds of CPU for each message, of all processes of it. */
  const turn = async (): Promise<number> => {
    const used = () => family(child.pid!).reduce((sum, pid) => sum + cpuNanos(pid), 0) / 1000
    state.isRunning = true
    for (const conn of conns) for (let i = 0; i < 4; i++) conn.write(frame)
    const [before, sent] = [used(), messages]
    await sleep(seconds * 1000)
    const result = (used() - before) / (messages - sent)
    state.isRunning = false
    await sleep(200)
    return result
  }
  return {
    name,
    turn,
    pid: child.pid!,
    port,
    figures: new Array<number>(),
    said: () => text,
    stop: () => child.kill("SIGTERM"),
    conns
  }
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
    for (let round = 0; round <= settings.rounds; round++) {
      for (const server of round % 2 === 0 ? [one, two] : [two, one]) {
        const figure = await server.turn()
        // the first round warms up
        if (round > 0) server.figures.push(figure)
      }
      if (round > 0) uneven.push(await unevenness(two))
      settings.finished("workers", round)
    }
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

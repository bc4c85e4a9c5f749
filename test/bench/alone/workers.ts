/**
 * What workers cost: CPU for each message of `serve --workers 2` against `serve` in one process, in turns within each round.
 *
 * The load has the last core to itself, and the servers have the others (`taskset`). Run it on a quiet machine.
 */
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync } from "node:fs"
import net from "node:net"
import os from "node:os"
import { fileURLToPath } from "node:url"
import { ratios, spread } from "../support/figures.ts"
import { cpuSeconds, sleep } from "../support/processes.ts"

const rounds = 7
const seconds = 2
const connections = 100
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
    const used = () => family(child.pid!).reduce((sum, pid) => sum + cpuSeconds(pid), 0)
    state.isRunning = true
    for (const conn of conns) for (let i = 0; i < 4; i++) conn.write(frame)
    const [before, sent] = [used(), messages]
    await sleep(seconds * 1000)
    const result = (used() - before) / (messages - sent) * 1e6
    state.isRunning = false
    await sleep(200)
    return result
  }
  return { name, turn, figures: new Array<number>(), stop: () => child.kill("SIGTERM"), conns }
}

pin(process.pid, String(cores - 1))
const one = await start("one process", [])
const two = await start("two workers", ["--workers", "2"])
for (let round = 0; round <= rounds; round++) {
  for (const server of round % 2 === 0 ? [one, two] : [two, one]) {
    const figure = await server.turn()
    // the first round warms up
    if (round > 0) server.figures.push(figure)
  }
}
console.log(
  `${connections} connections, 4 messages of 64 bytes on the way of each, load average ${os.loadavg()[0]!.toFixed(1)}`
)
for (const { figures, name } of [one, two]) {
  const { median, max, min } = spread(figures)
  console.log(`${name}: ${median.toFixed(2)} us of CPU for each message (${min.toFixed(2)} to ${max.toFixed(2)})`)
}
const { median, max, min } = ratios(two.figures, one.figures)!
console.log(`two workers against one process: ${median.toFixed(2)}x (${min.toFixed(2)} to ${max.toFixed(2)})`)
for (const server of [one, two]) {
  for (const conn of server.conns) conn.destroy()
  server.stop()
}

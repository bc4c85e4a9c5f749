/** Starts the processes of the bench, looks at what they use, and ends them. */
import type { ChildProcess } from "node:child_process"
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Call } from "./commands.ts"
import { caller } from "./commands.ts"

export interface Started {
  readonly pid: number
  readonly call: Call
  /** The port it listens on; 0 for a process that does not. */
  readonly port: number
  readonly stop: () => Promise<void>
}

const attend = new URL("./attend.ts", import.meta.url).href
const alive = new Set<ChildProcess>()
let folder: string | undefined
/** Ends every process that was started, and removes the folder: at the end of this one, and before a signal ends it. */
export const endAll = (): void => {
  for (const child of alive) child.kill("SIGKILL")
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
}
process.on("exit", endAll)

/** A folder that is gone when this process is. */
export const temporary = (): string => folder ??= mkdtempSync(join(tmpdir(), "holdfast-bench-"))

/** Starts a process that ends no later than this one. */
export const spawned = (
  command: string,
  args: ReadonlyArray<string>,
  options: {
    readonly cwd?: string
    readonly env?: Readonly<Record<string, string>> | undefined
    readonly channel?: boolean
  }
): ChildProcess => {
  const child = spawn(command, args, {
    cwd: options.cwd,
    stdio: ["pipe", "pipe", "pipe", ...(options.channel === true ? ["ipc" as const] : [])],
    env: { ...process.env, ...options.env }
  })
  alive.add(child)
  child.once("exit", () => alive.delete(child))
  child.once("error", () => alive.delete(child))
  return child
}

/** Runs a command to its end: what it printed, or why it failed. */
export const finished = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly timeout?: number } = {}
): Promise<{ readonly output: string } | { readonly why: string }> =>
  new Promise((resolve) => {
    const child = spawned(command, args, options)
    const errors = tail(child)
    let output = ""
    child.stdout!.on("data", (data: Buffer) => output += data.toString())
    child.stdin!.end()
    const timer = setTimeout(() => child.kill("SIGKILL"), options.timeout ?? 120_000)
    child.once("error", (error) => resolve({ why: error.message }))
    child.once("close", (code, signal) => {
      clearTimeout(timer)
      resolve(code === 0 ? { output } : { why: errors().trim().split("\n")[0] || `it ended with ${signal ?? code}` })
    })
  })

/** What a process has said on its error stream, for the message when it dies. */
const tail = (child: ChildProcess): () => string => {
  let text = ""
  child.stderr?.on("data", (data: Buffer) => {
    text = (text + data.toString()).slice(-2000)
  })
  return () => text
}

const start = (
  command: string,
  args: ReadonlyArray<string>,
  options: {
    readonly title: string
    readonly listens: boolean
    readonly channel: boolean
    readonly env?: Readonly<Record<string, string>> | undefined
  }
): Promise<Started> =>
  new Promise((resolve, reject) => {
    const child = spawned(command, args, options)
    const errors = tail(child)
    const gone = new Promise<void>((done) => {
      child.once("exit", () => done())
    })
    child.once("error", reject)
    child.once("exit", (code) => reject(new Error(`${options.title} did not start (${code}): ${errors()}`)))
    const stop = async () => {
      if (child.connected) child.disconnect()
      child.stdin!.end()
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000)
      await gone
      clearTimeout(timer)
    }
    const ready = (port: number) => resolve({ pid: child.pid!, call: caller(child, options.title), port, stop })
    if (!options.listens) return ready(0)
    let output = ""
    // goes on reading what a server prints, so that it never waits for us
    child.stdout!.on("data", (data: Buffer) => {
      output = (output + data.toString()).slice(0, 10_000)
      const port = /listening \w+:\/\/[^\s:]+:(\d+)\S*\s/.exec(output)?.[1]
      if (port !== undefined) ready(Number(port))
    })
  })

/** A program of Node that answers our questions about its memory: one that is bundled does by itself. */
export const startNode = (
  path: string,
  args: ReadonlyArray<string>,
  options: {
    readonly title: string
    readonly listens: boolean
    readonly profile?: string | undefined
    readonly env?: Readonly<Record<string, string>> | undefined
  }
): Promise<Started> => {
  const profile = options.profile === undefined
    ? []
    : [
      "--cpu-prof",
      `--cpu-prof-dir=${options.profile}`,
      `--cpu-prof-name=${options.title.replace(/\W+/g, "-")}.cpuprofile`
    ]
  return start(
    process.execPath,
    // a million connections have to fit
    [
      "--expose-gc",
      "--max-old-space-size=20480",
      "--disable-warning=ExperimentalWarning",
      ...profile,
      ...path.endsWith(".ts") ? ["--import", attend] : [],
      path,
      ...args
    ],
    { ...options, channel: true }
  )
}

/** Any other program; it ends when its standard input does. */
export const startProgram = (command: string, title: string, args: ReadonlyArray<string> = []): Promise<Started> =>
  start(command, args, { title, listens: true, channel: false })

const clockTicks = 100

/** Hundredths of a second, which every Linux counts. */
const coarse = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ")
  return (Number(fields[11]) + Number(fields[12])) / clockTicks
}

/** Seconds of CPU that a process has used, all threads of it: in nanoseconds where the kernel counts them. */
export const cpuSeconds = (pid: number): number => {
  try {
    return readdirSync(`/proc/${pid}/task`).reduce(
      (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]) / 1e9,
      0
    )
  } catch {
    return coarse(pid)
  }
}

/** Resident bytes of a process. */
export const residentBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024

/** How many file descriptors a process may have here. */
export const descriptorLimit = (): number => {
  const limit = /Max open files\s+(\S+)/.exec(readFileSync("/proc/self/limits", "utf8"))![1]!
  return limit === "unlimited" ? Infinity : Number(limit)
}

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

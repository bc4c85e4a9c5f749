/** Runs seeds of the swarm in threads, one seed at a time in each. */
import { Cause, Effect, Exit } from "effect"
import { isMainThread, parentPort, Worker } from "node:worker_threads"
import { Simulation } from "../../../src/testing/index.ts"
import { swarm, type Totals } from "../swarm.ts"
import type { Sabotage } from "./kinds.ts"

export interface Job {
  readonly seed: string
  readonly clients: number
  /** Virtual minutes. */
  readonly minutes: number
  /** Breaks the runtime on purpose. */
  readonly sabotage?: Sabotage | undefined
}

export interface Result {
  readonly seed: string
  readonly hash: string
  /** Milliseconds of CPU, of a thread that has this core to itself. */
  readonly cpu: number
  /** Milliseconds of virtual time. */
  readonly time: number
  readonly steps: number
  readonly faults: number
  readonly totals: Totals | undefined
  /** Undefined for a run in which everything held. */
  readonly failure: { readonly kind: string; readonly detail: string; readonly message: string } | undefined
}

// a loop without any effect in it cannot be stopped from inside
const longest = 300_000

export const runJob = async ({ clients, minutes, sabotage, seed }: Job): Promise<Result> => {
  let totals: Totals | undefined
  const before = process.threadCpuUsage()
  const exit = await Effect.runPromiseExit(swarm({ seed, clients, minutes, sabotage, told: (told) => totals = told }))
  const { system, user } = process.threadCpuUsage(before)
  const cpu = (user + system) / 1000
  if (Exit.isSuccess(exit)) {
    const { faults, hash, steps, time } = exit.value
    return { seed, hash, cpu, time, steps, faults: faults.length, totals, failure: undefined }
  }
  const error = Cause.squash(exit.cause)
  if (!(error instanceof Simulation.SimulationFailed)) return broken(seed, "broken", Cause.pretty(exit.cause), cpu)
  const { detail, kind, message, outcome: { faults, hash, steps, time } } = error
  return { seed, hash, cpu, time, steps, faults: faults.length, totals, failure: { kind, detail, message } }
}

const broken = (seed: string, kind: string, detail: string, cpu = 0): Result => ({
  seed,
  hash: "",
  cpu,
  time: 0,
  steps: 0,
  faults: 0,
  totals: undefined,
  failure: { kind, detail, message: `seed ${seed}: ${kind}: ${detail}` }
})

/**
 * Runs jobs in as many threads as asked for, and tells each result as it comes. A thread that ends, or takes longer than
 * five minutes for a job, fails this job, and another thread takes its place. Ends once all are done or `stop` aborts.
 */
export const runAll = async (
  jobs: Iterable<Job>,
  threads: number,
  told: (result: Result) => void,
  stop?: AbortSignal
): Promise<void> => {
  const isStopped = () => stop?.aborted === true
  const queue = jobs[Symbol.iterator]()
  await Promise.all(Array.from({ length: threads }, async () => {
    // a thread lives until there is nothing to do, or until it is stuck
    for (let first = queue.next(); first.done !== true && !isStopped(); first = queue.next()) {
      let current: Job | undefined = first.value
      const worker = new Worker(new URL(import.meta.url), { execArgv: ["--conditions=holdfast-source"] })
      await new Promise<void>((resolve) => {
        let timer: NodeJS.Timeout | undefined
        const fail = (kind: string, detail: string) => {
          if (current !== undefined) told(broken(current.seed, kind, detail))
          current = undefined
          void worker.terminate()
        }
        const give = (job: Job) => {
          current = job
          clearTimeout(timer)
          timer = setTimeout(() => fail("stuck", `it takes longer than ${longest / 60_000} minutes`), longest)
          // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
          worker.postMessage(job)
        }
        const abort = () => {
          current = undefined
          void worker.terminate()
        }
        stop?.addEventListener("abort", abort)
        worker.on("message", (result: Result) => {
          told(result)
          current = undefined
          const next = isStopped() ? undefined : queue.next()
          if (next === undefined || next.done === true) void worker.terminate()
          else give(next.value)
        })
        worker.on("error", (error) => fail("broken", String(error)))
        worker.on("exit", () => {
          clearTimeout(timer)
          stop?.removeEventListener("abort", abort)
          if (current !== undefined) told(broken(current.seed, "broken", "its thread ended"))
          resolve()
        })
        give(current!)
      })
    }
  }))
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort
  // every connection that ends makes errors, and a tenth of the time went into their stacks. A seed alone has them
  Error.stackTraceLimit = 0
  port.on("message", (job: Job) => void runJob(job).then((result) => port.postMessage(result)))
}

/** What many runs of the swarm come to. */
import { howLong, span } from "../../../src/cli/progress.ts"
import type { Totals } from "../swarm.ts"
import type { Result } from "./pool.ts"

export class Tally {
  readonly failed: Array<Result> = []
  private readonly wanted: number
  private readonly begin = performance.now()
  private done = 0
  private cpu = 0
  private slowest = { cpu: 0, seed: "" }
  private time = 0
  private faults = 0
  private readonly sums: Partial<Record<keyof Totals, number>> = {}

  constructor(wanted: number) {
    this.wanted = wanted
  }

  add(result: Result): void {
    this.done++
    this.cpu += result.cpu
    this.time += result.time
    this.faults += result.faults
    if (result.cpu > this.slowest.cpu) this.slowest = { cpu: result.cpu, seed: result.seed }
    for (const [name, count] of Object.entries(result.totals ?? {})) {
      const key = name as keyof Totals
      this.sums[key] = (this.sums[key] ?? 0) + count
    }
    if (result.failure !== undefined) this.failed.push(result)
  }

  progress(): string {
    const { begin, done, failed, wanted } = this
    return `${done} of ${wanted} seeds, ${failed.length} failed, ${howLong(performance.now() - begin, done / wanted)}`
  }

  totals(stopped: boolean) {
    const { cpu, done, failed, faults, slowest, sums, time, wanted } = this
    return {
      seeds: done,
      wanted,
      stopped,
      failed: failed.map(({ seed }) => seed),
      wall: Math.round(performance.now() - this.begin),
      cpu: Math.round(cpu),
      slowest,
      virtualHours: time / 3_600_000,
      faults,
      ...sums
    }
  }

  summary(stopped: boolean, replay: (seed: string) => string): ReadonlyArray<string> {
    const { cpu, done, failed, faults, slowest, sums, time, wanted } = this
    const of = done === wanted ? `${done}` : `${done} of ${wanted}`
    return [
      "",
      `${of} seeds${stopped ? ", stopped" : ""}: ${done - failed.length} passed, ${failed.length} failed`,
      `${(time / 3_600_000).toFixed(1)} virtual hours in ${span(performance.now() - this.begin)}` +
      (done === 0
        ? ""
        : `; CPU of a seed: ${(cpu / done).toFixed(0)} ms on average, ${
          slowest.cpu.toFixed(0)
        } ms for ${slowest.seed}`),
      `${faults} faults, ${sums.connections ?? 0} connections; ${sums.sent ?? 0} messages sent, of which ` +
      `${sums.accepted ?? 0} accepted, ${sums.received ?? 0} received, ${sums.acknowledged ?? 0} acknowledged`,
      ...failed.slice(0, 20).map(({ failure, seed }) => `  ${replay(seed)}   # ${failure!.kind}`),
      ...(failed.length > 20 ? [`  and ${failed.length - 20} more`] : [])
    ]
  }
}

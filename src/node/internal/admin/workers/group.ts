/** The workers that serve one place, asked as one, and what is left of those that are gone. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { lasting, summed } from "../merging/prometheus.ts"
import * as Sums from "../merging/sums.ts"
import * as S from "../schemas.ts"
import type { Asked } from "./asking.ts"
import type { Process } from "./process.ts"

/** The workers that serve one place, and what is left of those that are gone. */
export class Group {
  readonly processes = new Set<Process>()
  /** How many ids apart those of one process are. */
  readonly step: number
  private past = ""
  private totals: Array<NonNullable<S.Figures["totals"]>> = []
  private stopped: Array<S.Server> = []
  /** Whether the parent was asked to stop: then what has stopped is shown as such. */
  isStopping = false

  constructor(step: number) {
    this.step = step
  }

  /** It is gone: what it counted counts on. */
  leave(process: Process): void {
    if (!this.processes.delete(process)) return
    process.isOver = true
    this.past = summed([{ number: undefined, text: this.past }, { number: undefined, text: lasting(process.metrics) }])
    const totals = process.figures?.totals
    if (totals !== undefined && totals !== null) this.totals = [Sums.sumOf([...this.totals, totals])!]
    if (this.isStopping) this.stopped.push(...process.servers)
  }

  /** Asks all. What a process does not answer is left out, and it is named. */
  all<A>(asked: Asked): Effect.Effect<{ readonly told: ReadonlyArray<A>; readonly silent: Array<number> }> {
    return Effect.suspend(() => {
      const asking = [...this.processes].map((process) =>
        Effect.map(Effect.result(process.ask<A>(asked)), (result) => ({ process, result }))
      )
      return Effect.map(Effect.all(asking, { concurrency: "unbounded" }), (answers) => ({
        told: answers.flatMap(({ result }) => Result.isSuccess(result) ? [result.success] : []),
        silent: answers.flatMap(({ process, result }) =>
          Result.isFailure(result) && !process.isOver ? [process.who.number] : []
        )
      }))
    })
  }

  /** Asks the one that has a connection. */
  one<A, E>(id: number, asked: Asked): Effect.Effect<A, E | S.NotFound | S.NoAnswer> {
    return Effect.suspend(() => {
      const process = [...this.processes].find(({ who: { slot } }) => slot === id % this.step)
      return process === undefined
        ? Effect.fail(new S.NotFound({ message: `no worker has connection ${id}: it may have ended with its process` }))
        : process.ask<A>(asked) as Effect.Effect<A, E | S.NotFound | S.NoAnswer>
    })
  }

  readonly named = <R extends { readonly id: number }>(row: R): R => {
    const process = [...this.processes].find(({ who: { slot } }) => slot === row.id % this.step)
    return process === undefined ? row : { ...row, worker: process.who.number }
  }

  readonly figures: Effect.Effect<S.Figures> = Effect.gen({ self: this }, function*() {
    yield* Effect.forEach(this.processes, (process) =>
      Effect.match(process.ask<S.Figures>({ op: "figures" }), {
        onFailure: () => {},
        onSuccess: (figures) => void (process.figures = figures)
      }), { concurrency: "unbounded", discard: true })
    const all = [...this.processes]
    const { heapUsed, rss } = process.memoryUsage()
    return Sums.figuresOf(all.flatMap(({ figures }) => figures === undefined ? [] : [figures]), this.totals, {
      at: yield* Clock.currentTimeMillis,
      uptime: Math.round(process.uptime() * 1000),
      memory: { rss, heapUsed },
      workers: all.map(({ told }) => told).toSorted((one, other) => one.number - other.number)
    })
  })

  readonly servers = Effect.gen({ self: this }, function*() {
    yield* Effect.forEach(
      this.processes,
      (process) =>
        Effect.match(process.ask<ReadonlyArray<S.Server>>({ op: "servers" }), {
          onFailure: () => {},
          onSuccess: (servers) => void (process.servers = servers)
        }),
      { concurrency: "unbounded", discard: true }
    )
    return Sums.serversOf([...[...this.processes].flatMap(({ servers }) => servers), ...this.stopped])
  })

  readonly metrics = Effect.gen({ self: this }, function*() {
    yield* Effect.forEach(this.processes, (process) =>
      Effect.match(process.ask<string>({ op: "metrics" }), {
        onFailure: () => {},
        onSuccess: (metrics) => void (process.metrics = metrics)
      }), { concurrency: "unbounded", discard: true })
    const now = [...this.processes].map(({ isSilent, metrics, who: { number } }) => ({
      number,
      // of one that hangs its counts are left, and no gauge
      text: isSilent ? lasting(metrics) : metrics
    }))
    return summed([{ number: undefined, text: this.past }, ...now])
  })

  readonly drained = Effect.gen({ self: this }, function*() {
    const { told } = yield* this.all<S.Drain>({ op: "drained" })
    return {
      possible: told.some(({ possible }) => possible),
      begun: this.isStopping,
      servers: yield* this.servers
    }
  })

  /** How many connections are registered with all. */
  get registered(): Effect.Effect<number> {
    return Effect.map(this.figures, ({ registered }) => registered)
  }
}

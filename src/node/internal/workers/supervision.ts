/** Keeps a number of workers running: when one is started again, how all are renewed, and how all stop. */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { logLine } from "../../../internal/reasons/logs.ts"
import { background } from "../../../internal/scheduling/supervised.ts"

/** How a process ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: string | null
}

/** A worker. */
export interface Process {
  readonly pid: number | undefined
  /** It takes connections. */
  readonly ready: Effect.Effect<void>
  readonly ended: Effect.Effect<Ended>
  /** Milliseconds within which it has to end once it was asked to: it says so before it is ready. */
  readonly stopWithin: () => number
  /** Asks it to drain and to end. */
  readonly stop: Effect.Effect<void>
  readonly kill: Effect.Effect<void>
}

/** What is kept running, and how. Times in milliseconds. */
export interface Settings {
  readonly count: number
  readonly spawn: (number: number) => Effect.Effect<Process>
  /** When one that ended is started again. */
  readonly restart: Schedule.Schedule<unknown, unknown>
  /** Within which one has to be ready. */
  readonly startWithin: number
  /** Asks for new processes in place of all. */
  readonly renewals: Queue.Dequeue<void>
  /** All are new: what the old ones needed can go. */
  readonly renewed: Effect.Effect<void>
  /** Before all are asked to stop. */
  readonly stopping: Effect.Effect<void>
  /** One did not end as it should when all were stopped. */
  readonly onCut: () => void
}

/** Why one cannot be kept: which it is, and how it ended, as the end of a sentence. */
export interface Lost {
  readonly worker: number
  readonly how: string
  readonly code: number
  /** That of its process, where there was one. */
  readonly pid: number | undefined
}

const spanOf = (millis: number): string => Duration.format(Duration.millis(Math.round(millis)))

const howOf = ({ code, signal }: Ended): string =>
  signal !== null ? `was ended by ${signal}` : code === null ? "could not be started" : `ended with code ${code}`

const about = (event: string, { pid, worker }: Pick<Lost, "pid" | "worker">) =>
  Effect.annotateLogs(pid === undefined ? { event, worker } : { event, worker, pid })

/** What a slot is asked: a new process, and to say whether there is one. */
type Renewal = Deferred.Deferred<void, string>

type Step = (now: number, input: unknown) => Effect.Effect<[unknown, Duration.Duration], Cause.Done<unknown>>

/** The processes of all workers, and those that are on their way out. */
class Processes {
  readonly alive = new Set<Process>()
  /** Those that have taken connections. */
  private readonly serving = new WeakSet<Process>()
  private readonly settings: Settings
  private readonly scope: Scope.Scope

  constructor(settings: Settings, scope: Scope.Scope) {
    this.settings = settings
    this.scope = scope
  }

  /** Starts one and waits until it takes connections. The failure is how it ended. */
  start(worker: number): Effect.Effect<Process, Lost> {
    const { settings: { spawn, startWithin } } = this
    return Effect.gen({ self: this }, function*() {
      const process = yield* spawn(worker)
      this.alive.add(process)
      const gone = Effect.map(process.ended, () => void this.alive.delete(process))
      yield* background(this.scope, "the watch of a worker", gone)
      const first = yield* Effect.raceFirst(process.ready, process.ended).pipe(Effect.timeoutOption(startWithin))
      if (Option.isNone(first)) {
        yield* process.kill
        const how = `takes no connections after ${spanOf(startWithin)}: its program serves no Listener`
        return yield* Effect.fail({ worker, how, code: 1, pid: process.pid })
      }
      if (first.value !== undefined) {
        const how = `${howOf(first.value)} before it took connections`
        return yield* Effect.fail({ worker, how, code: first.value.code ?? 1, pid: process.pid })
      }
      this.serving.add(process)
      yield* logLine("Info", `worker ${worker} takes connections (process ${process.pid})`).pipe(
        about("worker-ready", { worker, pid: process.pid })
      )
      return process
    })
  }

  /** Asks one to stop, and does not wait for it. */
  retire(worker: number, process: Process): Effect.Effect<void> {
    const stopWithin = process.stopWithin()
    const late = Effect.andThen(
      logLine("Warn", `worker ${worker} (process ${process.pid}) did not end within ${spanOf(stopWithin)}: killed`),
      process.kill
    )
    const watch = Effect.flatMap(
      Effect.timeoutOption(process.ended, stopWithin),
      (ended) => Option.isSome(ended) ? Effect.void : late
    )
    return Effect.andThen(process.stop, background(this.scope, "the end of a worker", watch))
  }

  /** Stops all and waits for them. */
  readonly stop = Effect.suspend(() => {
    const { onCut, stopping } = this.settings
    return Effect.gen({ self: this }, function*() {
      yield* stopping
      const left = [...this.alive]
      yield* Effect.forEach(left, ({ stop }) => stop, { discard: true })
      const stopWithin = Math.max(0, ...left.map((process) => process.stopWithin()))
      const all = Effect.forEach(left, ({ ended }) => ended, { concurrency: "unbounded" })
      const ended = yield* Effect.timeoutOption(all, stopWithin)
      if (Option.isSome(ended)) {
        // a signal to all ends one that is still loading, and that is no connection cut short
        if (ended.value.some(({ code }, i) => code !== 0 && this.serving.has(left[i]!))) onCut()
        return
      }
      onCut()
      yield* logLine("Warn", `workers did not end within ${spanOf(stopWithin)}: killed`)
      yield* Effect.forEach(left, ({ kill }) => kill, { discard: true })
      yield* all
    })
  })
}

/** One worker for ever: `first` runs already, or did not get that far. */
const keep = Effect.fnUntraced(function*(
  processes: Processes,
  settings: Settings,
  worker: number,
  asked: Queue.Dequeue<Renewal>,
  first: Result.Result<Process, Lost>
): Effect.fn.Return<never, Lost> {
  const step = (yield* Schedule.toStep(settings.restart)) as Step
  const clock = yield* Clock.Clock
  let current = first
  while (true) {
    let lost: Lost
    if (Result.isSuccess(current)) {
      const running = current.success
      const event = yield* Effect.raceFirst(
        Effect.map(running.ended, (ended) => ({ ended })),
        Effect.map(Queue.take(asked), (renewal) => ({ renewal }))
      )
      if ("renewal" in event) {
        const next = yield* Effect.result(processes.start(worker))
        if (Result.isSuccess(next)) {
          current = next
          yield* processes.retire(worker, running)
          yield* Deferred.succeed(event.renewal, undefined)
        } else yield* Deferred.fail(event.renewal, next.failure.how)
        continue
      }
      processes.alive.delete(running)
      lost = { worker, how: howOf(event.ended), code: event.ended.code ?? 1, pid: running.pid }
    } else lost = current.failure
    const next = yield* Effect.option(step(clock.currentTimeMillisUnsafe(), lost))
    if (Option.isNone(next)) return yield* Effect.fail(lost)
    const delay = Math.ceil(Duration.toMillis(next.value[1]))
    yield* logLine("Warn", `worker ${worker} ${lost.how}: it is started again in ${spanOf(delay)}`).pipe(
      about("worker-lost", lost)
    )
    // a renewal of all starts it at once
    const renewal = yield* Effect.raceFirst(Effect.as(Effect.sleep(delay), undefined), Queue.take(asked))
    current = yield* Effect.result(processes.start(worker))
    if (renewal === undefined) continue
    yield* Result.isSuccess(current)
      ? Deferred.succeed(renewal, undefined)
      : Deferred.fail(renewal, current.failure.how)
  }
})

/** New processes in place of all, one worker after the other, each before its old one is asked to stop. */
const renew = Effect.fnUntraced(function*(settings: Settings, slots: ReadonlyArray<Queue.Queue<Renewal>>) {
  while (true) {
    yield* Queue.take(settings.renewals)
    yield* Effect.annotateLogs(logLine("Info", "new workers take the place of all"), { event: "renewal" })
    const renewed = Effect.forEach(slots, (slot, i) => {
      const renewal = Deferred.makeUnsafe<void, string>()
      return Effect.andThen(
        Queue.offer(slot, renewal),
        Effect.mapError(Deferred.await(renewal), (how) => ({ worker: i + 1, how }))
      )
    }, { discard: true })
    yield* Effect.matchEffect(renewed, {
      onFailure: ({ how, worker }) =>
        logLine("Error", `the new worker ${worker} ${how}: the renewal is given up, and those that run go on`).pipe(
          about("renewal-failed", { worker, pid: undefined })
        ),
      onSuccess: () =>
        Effect.andThen(
          settings.renewed,
          Effect.annotateLogs(logLine("Info", "all workers are new"), { event: "renewed" })
        )
    })
  }
})

/**
 * Runs all of them until it is interrupted, which stops them. The first one is started alone: what is wrong with the program is
 * said once, and ends everything. A failure is that, or a schedule that starts no more.
 */
export const supervise = (settings: Settings): Effect.Effect<never, Lost> =>
  Effect.scoped(Effect.gen(function*() {
    const processes = new Processes(settings, yield* Effect.scope)
    yield* Effect.addFinalizer(() => processes.stop)
    const first = yield* processes.start(1)
    const others = Array.from({ length: settings.count - 1 }, (_, i) => Effect.result(processes.start(i + 2)))
    const slots = yield* Effect.forEach(Array.from({ length: settings.count }), () => Queue.unbounded<Renewal>())
    const started = yield* Effect.all(others, { concurrency: "unbounded" })
    const all = [Result.succeed(first), ...started].map((one, i) => keep(processes, settings, i + 1, slots[i]!, one))
    return yield* Effect.raceAllFirst([...all, renew(settings, slots)])
  }))

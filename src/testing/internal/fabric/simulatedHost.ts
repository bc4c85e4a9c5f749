/** A host: whether it is up, whether its event loop turns, and its wall clock. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Timeline, Timer } from "./timeline.ts"

/** A socket in the host's kernel: an end of a connection, or a listener. */
export interface KernelSocket {
  /** The host crashed: the socket is gone, and its peer is not told. */
  readonly crash: () => void
}

/** The kernel of a host and its event loop. */
export class SimulatedHost {
  readonly name: string
  readonly ip: string
  readonly sockets = new Set<KernelSocket>()
  readonly clock: Clock.Clock
  private readonly timeline: Timeline
  private nextPort = 49_152
  isUp = true
  private stalledUntil = 0
  private stallTimer: Timer | undefined
  // a runtime that was stopped runs its timers first, then looks at its sockets
  private lateTimers: Array<() => void> = []
  private lateTasks: Array<() => void> = []
  /** By how many milliseconds the wall clock of this host is ahead. */
  skew = 0

  constructor(name: string, ip: string, timeline: Timeline) {
    this.name = name
    this.ip = ip
    this.timeline = timeline
    this.clock = clockOf(this, timeline.clock)
  }

  /** The next of the ports that Linux gives to clients, in a circle. */
  port(): number {
    const port = this.nextPort
    this.nextPort = port === 65_535 ? 32_768 : port + 1
    return port
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the event loop
  // -------------------------------------------------------------------------------------------------------------------

  get isStalled(): boolean {
    return this.stallTimer?.run !== undefined
  }

  /** Runs a task on this host's event loop: in a turn of its own, or when the stall is over. */
  readonly post = (task: () => void): void => {
    if (this.isStalled) this.lateTasks.push(task)
    else this.timeline.post(task)
  }

  stall(millis: number): void {
    const until = this.timeline.now() + millis
    if (millis === 0 || until <= this.stalledUntil) return
    this.stalledUntil = until
    this.stallTimer?.cancel()
    this.stallTimer = this.timeline.at(until, () => this.resume())
  }

  private resume(): void {
    for (const task of this.lateTimers.splice(0)) this.timeline.post(task)
    const tasks = this.lateTasks.splice(0)
    if (tasks.length === 0) return
    this.timeline.post(() => {
      for (const task of tasks) this.timeline.post(task)
    })
  }

  /** Waits until the event loop turns. */
  readonly running: Effect.Effect<void> = Effect.suspend(() => {
    if (!this.isStalled) return Effect.void
    return Effect.callback<void>((resume) => {
      this.lateTimers.push(() => resume(Effect.void))
    })
  })

  private readonly onCrash = new Set<() => void>()

  /** Waits for the next crash; not at all on a host that is down. */
  readonly crashed: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (!this.isUp) return resume(Effect.void)
    const told = () => this.timeline.post(() => resume(Effect.void))
    this.onCrash.add(told)
    return Effect.sync(() => {
      this.onCrash.delete(told)
    })
  })

  crash(): void {
    if (!this.isUp) return
    this.isUp = false
    this.stalledUntil = 0
    if (this.stallTimer?.run !== undefined) {
      this.stallTimer.cancel()
      this.resume()
    }
    for (const socket of this.sockets) socket.crash()
    for (const told of this.onCrash) told()
    this.onCrash.clear()
  }
}

const clockOf = (host: SimulatedHost, base: Clock.Clock): Clock.Clock => {
  const millis = () => base.currentTimeMillisUnsafe() + host.skew
  const nanos = () => base.currentTimeNanosUnsafe() + BigInt(Math.round(host.skew * 1_000_000))
  return {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: () => base.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: base.monotonicTimeNanos,
    sleep: (duration) =>
      // no time at all is a turn of the event loop, which a stalled one does not have either
      Duration.isZero(duration) && !host.isStalled
        ? base.sleep(duration)
        : Effect.andThen(base.sleep(duration), host.running)
  }
}

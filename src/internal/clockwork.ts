/** When a connection pings, and when it looks at its deadlines. */
import type * as Random from "effect/Random"
import * as ConnectionError from "../ConnectionError.ts"
import type { Policy } from "../Policy.ts"
import type { Deadlines } from "./deadlines.ts"
import type { Pings } from "./pings.ts"
import type { Timer, Timers } from "./scheduling/timers.ts"
import type { Task, Turns } from "./scheduling/turns.ts"

type Failure = ConnectionError.ConnectionError

/** The connection, as far as its clockwork sees it. */
export interface Host {
  readonly random: (typeof Random.Random)["Service"]
  readonly timers: Timers
  readonly turns: Turns
  readonly deadlines: Deadlines
  readonly pings: Pings
  readonly opened: number
  /** The policy as it is now. */
  readonly current: Policy
  /** Why it ends, once that is decided. */
  readonly reason: Failure | undefined
  /** Bytes that the transport still holds, and bytes of a frame that is not complete. */
  readonly unsent: number
  readonly pending: number
  readonly ping: (at: number) => void
  readonly leave: (reason: ConnectionError.Reason) => void
  readonly drain: (reason: ConnectionError.Reason) => void
  readonly endWith: (error: Failure) => void
  /** Ends it because something threw that is not ours: a heartbeat, a goodbye. */
  readonly failWith: (defect: unknown) => void
}

// a ping may come early by one part in so many of its interval, together with those of others
const pingSlack = 50

/**
 * One timer for each connection, and one sleep of the clock for all of them: two fibers for each that sleep most of the
 * time were a quarter of what an idle connection cost.
 */
export class Clockwork implements Task {
  private readonly host: Host
  private timer: Timer | undefined
  private readonly pings: boolean
  private every: number
  private nextPing = Infinity
  private confirming = false
  private stopped = false

  constructor(host: Host, pings: boolean) {
    this.host = host
    this.pings = pings
    this.every = pings ? host.deadlines.limits.pingEvery : Infinity
    if (pings) this.nextPing = host.opened + this.firstPing()
  }

  start(): void {
    this.look(false)
  }

  stop(): void {
    this.stopped = true
    this.timer?.cancel()
  }

  /** Something began to count: the deadlines are looked at by then, if they would not be. */
  lookBy(at: number): void {
    const { deadlines } = this.host
    if (deadlines.plannedAt <= at) return
    deadlines.plannedAt = at
    this.arm()
  }

  /** The limits are other ones. */
  changed(): void {
    const { deadlines, opened, pings: sent, timers } = this.host
    const { pingEvery } = deadlines.limits
    if (this.pings && pingEvery !== this.every) {
      this.every = pingEvery
      // the first one is jittered, however late pings are turned on
      const rest = sent.lastAt === opened ? this.firstPing() : pingEvery
      this.nextPing = Math.max(timers.now(), sent.lastAt + rest)
    }
    if (this.confirming) return
    deadlines.plannedAt = timers.now()
    this.arm()
  }

  private firstPing(): number {
    const { current, random } = this.host
    return Math.round(this.every * (1 - current.pingJitter * random.nextDoubleUnsafe()))
  }

  /** The next thing to do gets a timer, if it has not got it already. */
  private arm(): void {
    if (this.stopped) return
    const at = Math.min(this.nextPing, this.confirming ? Infinity : this.host.deadlines.plannedAt)
    const { timer } = this
    if (timer?.at === at && timer.run !== undefined) return
    this.timer = at === Infinity
      ? undefined
      : this.host.timers.at(at, this, at === this.nextPing ? this.every / pingSlack : 0)
    timer?.cancel()
  }

  /** @internal */
  run(): void {
    try {
      const at = this.host.timers.now()
      const beats = at >= this.nextPing || this.timer?.at === this.nextPing
      if (beats) this.beat(at)
      const { plannedAt } = this.host.deadlines
      // who pings looks as well: that moves the look behind the next ping, and one wake-up does for both
      const looks = !this.stopped && !this.confirming && (at >= plannedAt || (beats && plannedAt < this.nextPing))
      if (looks) this.look(false)
      else this.arm()
    } catch (defect) {
      this.host.failWith(defect)
    }
  }

  /** Asks at once, and condemns nobody. */
  onJump(at: number): void {
    try {
      // one that is due in this moment asks as well
      if (!this.stopped && at < this.nextPing) this.host.ping(at)
    } catch (defect) {
      this.host.failWith(defect)
    }
  }

  private beat(at: number): void {
    const { current, deadlines, pings } = this.host
    const { every, nextPing } = this
    // both directions carried bytes since the last ping: each side knows the other is alive
    const quietSince = Math.min(deadlines.heardAt, deadlines.sentAt)
    // one that comes early is due all the same: put off to the time it had, it would come early again, and again
    const due = Math.max(at, nextPing)
    if (current.pingWhen === "quiet" && quietSince > pings.lastAt && quietSince + every > due) {
      this.nextPing = quietSince + every
      return
    }
    deadlines.pingedLate(Math.max(0, at - nextPing), at)
    // the cadence is the interval, whatever the round trip takes; after a stall it starts over
    this.nextPing = nextPing + every > at ? nextPing + every : at + every
    this.host.ping(at)
  }

  private lookAgain(): void {
    try {
      this.look(true)
    } catch (defect) {
      this.host.failWith(defect)
    }
  }

  private look(confirmed: boolean): void {
    const { deadlines, pings, timers, turns } = this.host
    this.confirming = false
    for (let sure = confirmed; !this.stopped; sure = false) {
      const at = timers.now()
      // a stall of ours that began before is seen by the wake-up that it delayed
      const late = deadlines.plannedAt === -Infinity ? 0 : Math.max(at - deadlines.plannedAt, timers.late)
      const verdict = deadlines.look(at, late, this.host.unsent, pings, this.host.pending, sure)
      switch (verdict._tag) {
        case "End": {
          const { error } = verdict
          // it ends in any case: what the transport takes at once still leaves
          if (error !== this.host.reason) return this.host.endWith(error)
          this.confirming = true
          return turns.after(1, () => this.host.endWith(error))
        }
        case "Leave":
          this.host.leave(new ConnectionError.MaxAge({ limit: deadlines.limits.maxAge }))
          continue
        case "Drain":
          this.host.drain(verdict.reason)
          continue
        case "Probe":
          this.host.ping(at)
          deadlines.plannedAt = at
          continue
        case "Confirm":
          // a timer runs before the input that is waiting: let the event loop deliver that first
          this.confirming = true
          this.arm()
          return turns.after(3, () => this.lookAgain())
        case "Wait":
          deadlines.plannedAt = at + verdict.millis
          return this.arm()
      }
    }
  }
}

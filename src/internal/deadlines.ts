/** When a connection has to end, worked out from what is being waited for. No timers here: the clockwork asks. */
import * as Duration from "effect/Duration"
import * as ConnectionError from "../ConnectionError.ts"
import type { Policy } from "../Policy.ts"

type Failure = ConnectionError.ConnectionError

/** The durations of a policy in milliseconds; what is off is `Infinity`. */
export interface Limits {
  readonly open: number
  readonly handshake: number
  readonly pingEvery: number
  readonly pong: number
  readonly misses: number
  // the one where off is 0: no ping comes too early
  readonly minPingEvery: number
  readonly silence: number
  readonly writeStall: number
  readonly frame: number
  readonly idle: number
  readonly maxAge: number
  // for these three 0 means "at once"
  readonly maxAgeGrace: number
  readonly halfClose: number
  readonly drain: number
}

export const limitsOf = (policy: Policy): Limits => {
  const millis = Duration.toMillis
  const orOff = (duration: Duration.Duration) => millis(duration) || Infinity
  const pings = millis(policy.minPingEvery)
  return {
    open: orOff(policy.open),
    handshake: orOff(policy.handshake),
    pingEvery: orOff(policy.pingEvery),
    pong: orOff(policy.pong),
    misses: policy.misses,
    minPingEvery: pings === Infinity ? 0 : pings,
    silence: orOff(policy.silence),
    writeStall: orOff(policy.writeStall),
    frame: orOff(policy.frame),
    idle: orOff(policy.idle),
    maxAge: orOff(policy.maxAge),
    maxAgeGrace: millis(policy.maxAgeGrace),
    halfClose: millis(policy.halfClose),
    drain: millis(policy.drain)
  }
}

/**
 * What the clockwork should do: end the connection, ask it to leave or drain it because of its age, look once more
 * after pending input was processed, send a probe, or wait.
 */
export type Verdict =
  | { readonly _tag: "End"; readonly error: Failure }
  | { readonly _tag: "Leave" }
  | { readonly _tag: "Drain"; readonly reason: ConnectionError.Reason }
  | { readonly _tag: "Confirm" }
  | { readonly _tag: "Probe" }
  | { readonly _tag: "Wait"; readonly millis: number }

const end = (reason: ConnectionError.Reason): Verdict => ({ _tag: "End", error: ConnectionError.make(reason) })

// before any clock began, whatever is added to it; unlike -Infinity it needs no box of its own in every connection
const longAgo = -1_000_000_000

/** Where the transport knows it: bytes the peer's side has taken so far. */
export interface Progress {
  readonly taken: number
}

/** All times are milliseconds of the monotonic clock. Plain fields, changed synchronously by the connection. */
export class Deadlines {
  limits: Limits
  /** When the last byte came, stamped before decoding. */
  heardAt: number
  /** When something came that only a living peer sends: anything but an unmatched pong. */
  provenAt: number
  /** When the last data was handed to the transport. */
  sentAt: number
  /** Since when we are ready to read; undefined while our own inbox is full, and once the peer has finished. */
  readingSince: number | undefined
  /** Since when a frame is incomplete. */
  frameSince: number | undefined
  /** Since when the peer owes us taking some bytes. */
  private stalledSince: number | undefined
  private writing = false
  private drained = 0
  // a write began since the last look; and whether the next look comes soon enough to see its progress
  private wrote = false
  private watching = false
  private lastMessageAt: number
  private leaveAt: number
  private asked = false
  private force: { readonly at: number; readonly error: Failure } | undefined
  // when we came back from a stall of our own: whatever was nearly over then, the peer gets half of each limit from here
  private forgivenAt = longAgo
  // for how long we were not there to ask since the peer was last heard, and when we came back
  private away = 0
  private backAt = longAgo
  private readonly openedAt: number
  private readonly ageFactor: number
  private readonly progress: Progress | undefined

  constructor(limits: Limits, now: number, ageFactor: number, progress: Progress | undefined) {
    this.limits = limits
    this.openedAt = now
    this.heardAt = now
    this.provenAt = now
    this.sentAt = now
    this.lastMessageAt = now
    this.readingSince = now
    this.ageFactor = ageFactor
    this.leaveAt = now + Math.round(limits.maxAge * ageFactor)
    this.progress = progress
  }

  setLimits(limits: Limits): void {
    this.limits = limits
    this.leaveAt = this.openedAt + Math.round(limits.maxAge * this.ageFactor)
  }

  received(now: number): void {
    this.lastMessageAt = now
  }

  /** A ping left `late`: the peer could not answer it earlier, so that time is no silence of its own. */
  pingedLate(late: number, now: number): void {
    this.away = (this.heardAt >= this.backAt ? 0 : this.away) + late
    this.backAt = now
  }

  /** When the next look is planned. What begins to count before has to be looked at by then, or sooner. */
  plannedAt = -Infinity

  /** Returns by when `watchWrite` has to be called: progress inside a write is only seen by looking. */
  beginWrite(now: number): number {
    this.writing = true
    this.stalledSince ??= now
    this.wrote = true
    if (this.progress === undefined) return now + this.limits.writeStall
    return this.watching ? Infinity : now
  }

  /** The turn in which a write began is over. Returns by when to look at it; most are done by now, and need no look. */
  watchWrite(now: number, unsent: number): number {
    if (this.writing || unsent > 0) return this.progress === undefined ? now + this.limits.writeStall : now
    this.wrote = this.progress === undefined
    return Infinity
  }

  /** How long a ping may be unanswered. */
  get pongLimit(): number {
    const { misses, pingEvery, pong } = this.limits
    return pong + misses * (misses > 0 ? pingEvery : 0)
  }

  endWrite(now: number, data: boolean): void {
    this.writing = false
    if (data) {
      this.sentAt = now
      this.lastMessageAt = now
    }
    if (this.progress === undefined) this.stalledSince = undefined
  }

  /** The connection ends with `error` at the latest then, whatever else happens. */
  forceAt(at: number, error: Failure): void {
    if (this.force === undefined || at < this.force.at) this.force = { at, error }
  }

  private ripe(base: number, limit: number, now: number): number {
    return Math.max(base, this.forgivenAt - limit / 2) + limit - now
  }

  /**
   * `late`: by how much the look comes later than it was planned. `unsent`: bytes the transport still holds.
   * `confirmed`: pending input has been processed since the last look.
   */
  look(
    now: number,
    late: number,
    unsent: number,
    pings: { readonly oldestAt: number | undefined; readonly count: number },
    received: number,
    confirmed: boolean
  ): Verdict {
    const limits = this.limits
    let next = Infinity

    if (this.force !== undefined) {
      if (now >= this.force.at) return { _tag: "End", error: this.force.error }
      next = this.force.at - now
    }

    if (this.readingSince !== undefined) {
      const { pongLimit } = this
      const condemned = (left: number, limit: number, reason: () => ConnectionError.Reason): Verdict | undefined => {
        if (left > 0) {
          next = Math.min(next, left)
          return undefined
        }
        // we were away ourselves: the peer gets half its limit, and a ping to answer
        if (late > limit / 2) {
          this.forgivenAt = now
          return { _tag: "Probe" }
        }
        return confirmed ? end(reason()) : { _tag: "Confirm" }
      }
      const silent = condemned(
        this.ripe(
          Math.max(this.readingSince, this.heardAt >= this.backAt ? this.heardAt : this.heardAt + this.away),
          limits.silence,
          now
        ),
        limits.silence,
        () => new ConnectionError.SilenceTimeout({ limit: limits.silence })
      )
      if (silent !== undefined) return silent
      if (pings.oldestAt !== undefined) {
        const since = Math.max(pings.oldestAt, this.provenAt, this.readingSince)
        const unanswered = condemned(
          this.ripe(since, pongLimit, now),
          limits.pong,
          () => new ConnectionError.PongTimeout({ limit: limits.pong, unanswered: pings.count })
        )
        if (unanswered !== undefined) return unanswered
      }
      if (this.frameSince !== undefined) {
        const slow = condemned(
          this.ripe(Math.max(this.frameSince, this.resumedAt), limits.frame, now),
          limits.frame,
          () => new ConnectionError.FrameTimeout({ limit: limits.frame, received })
        )
        if (slow !== undefined) return slow
      }
      // while paused there are messages to be received, so only a reading connection is idle
      const idle = condemned(
        this.ripe(this.lastMessageAt, limits.idle, now),
        limits.idle,
        () => new ConnectionError.IdleTimeout({ limit: limits.idle })
      )
      if (idle !== undefined) return idle
    } else {
      next = Math.min(next, limits.silence, limits.pong, limits.frame, limits.idle)
    }

    const busy = this.writing || unsent > 0
    if (busy) {
      const drained = this.progress === undefined ? 0 : this.progress.taken
      // any change: what frames cost on the wire is not known here, and may make it fall
      if (this.stalledSince === undefined || drained !== this.drained) this.stalledSince = now
      this.drained = drained
      // we were away ourselves: the peer gets half its limit
      if (now >= this.stalledSince + limits.writeStall && late > limits.writeStall / 2) {
        this.stalledSince = now - limits.writeStall / 2
      }
      const left = this.stalledSince + limits.writeStall - now
      if (left <= 0) {
        return confirmed ? end(new ConnectionError.WriteStalled({ limit: limits.writeStall })) : { _tag: "Confirm" }
      }
      next = Math.min(next, left)
    } else {
      this.stalledSince = undefined
      // who writes all the time is looked at in time, and not woken by each write
      if (this.progress === undefined && this.wrote) next = Math.min(next, limits.writeStall)
    }
    // progress inside a write is only seen by looking: a stall is found up to a quarter of the limit late
    this.watching = this.progress !== undefined && (busy || this.wrote)
    this.wrote = false
    if (this.watching) next = Math.min(next, limits.writeStall / 4)

    if (this.leaveAt !== Infinity && this.force === undefined) {
      const grace = this.leaveAt + limits.maxAgeGrace - now
      if (grace <= 0) return { _tag: "Drain", reason: new ConnectionError.MaxAge({ limit: limits.maxAge }) }
      if (now >= this.leaveAt && !this.asked) {
        this.asked = true
        return { _tag: "Leave" }
      }
      next = Math.min(next, this.asked ? grace : this.leaveAt - now)
    }
    return { _tag: "Wait", millis: next }
  }

  private resumedAt = longAgo

  /** Our own inbox is full: nothing the peer does or does not do is seen. */
  pause(): void {
    this.readingSince = undefined
  }

  resume(now: number): void {
    this.readingSince = now
    this.resumedAt = now
  }

  /** Nothing more is expected from the peer. */
  finishReading(): void {
    this.readingSince = undefined
    this.frameSince = undefined
  }
}

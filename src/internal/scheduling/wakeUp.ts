/** One timer for two fibers that sleep: a heartbeat, and the deadlines that are looked at with it. */
import * as Effect from "effect/Effect"
import type { Timer, Timers } from "./timers.ts"
import type { Task } from "./turns.ts"

type Resume = (effect: Effect.Effect<never, never>) => void

/** When one fiber wakes up. */
export class Sleeper {
  /** On the monotonic clock; `Infinity`: when it is told to. What is set while the fiber sleeps needs an `arm`. */
  at: number
  /** By how many milliseconds it may be early, in a crowd. */
  slack = 0
  /** Set while the fiber sleeps. */
  resume: Resume | undefined

  constructor(at: number) {
    this.at = at
  }

  get isSleeping(): boolean {
    return this.resume !== undefined
  }
}

interface Owner {
  /** What a fiber goes on with when it has slept. */
  readonly next: (sleeper: Sleeper) => Effect.Effect<never, unknown>
  /** Does what the second fiber is to wake up for, where that is possible without it: then it sleeps on. */
  readonly isSettled: () => boolean
  /** The wall clock has jumped. */
  readonly jumped: (at: number) => void
  /** Nothing will wake the fibers up any more. */
  readonly wakeUpFailed: (defect: unknown) => void
}

/**
 * The fibers sleep until `first.at` and `second.at`. With the first one wakes the second, if that is due before the first
 * is due again: then one timer does for both. A timer each cost an idle connection a third more of the processor.
 */
export class WakeUp implements Task {
  readonly first: Sleeper
  readonly second: Sleeper
  private readonly timers: Timers
  private readonly owner: Owner
  private timer: Timer | undefined
  private isHeld = true
  private isStopped = false

  /** Held until `release`: what is armed meanwhile has one timer. */
  constructor(timers: Timers, first: number, second: number, owner: Owner) {
    this.timers = timers
    this.first = new Sleeper(first)
    this.second = new Sleeper(second)
    this.owner = owner
  }

  failed(defect: unknown): void {
    this.owner.wakeUpFailed(defect)
  }

  onJump(at: number): void {
    this.owner.jumped(at)
  }

  release(): void {
    this.isHeld = false
    this.arm()
  }

  stop(): void {
    this.isStopped = true
    this.timer?.cancel()
  }

  /**
   * Sleeps, and goes on with what the owner says. Resumed with what comes next, a fiber has nothing on its stack while it
   * sleeps, which is a quarter of a kilobyte less than a `flatMap`.
   */
  sleep<E>(sleeper: Sleeper): Effect.Effect<never, E> {
    return Effect.callback((resume) => {
      sleeper.resume = resume as Resume
      this.arm()
    })
  }

  /** Runs a fiber that sleeps, up to where it waits again. */
  wake(sleeper: Sleeper): void {
    const { resume } = sleeper
    sleeper.resume = undefined
    resume?.(Effect.suspend(() => this.owner.next(sleeper) as Effect.Effect<never>))
  }

  /** The second fiber wakes up by then, if it sleeps for longer. */
  secondBy(at: number): void {
    if (this.second.at <= at) return
    this.second.at = at
    this.arm()
  }

  /** The next one to wake up gets a timer, if it has not got it already. */
  arm(): void {
    if (this.isHeld || this.isStopped) return
    const { first, second, timer } = this
    const firstAt = first.isSleeping ? first.at : Infinity
    const at = Math.min(firstAt, second.isSleeping ? second.at : Infinity)
    if (timer?.at === at && timer.run !== undefined) return
    this.timer = at === Infinity ? undefined : this.timers.at(at, this, at === firstAt ? first.slack : 0)
    timer?.cancel()
  }

  run(): void {
    const { first, second, timer } = this
    const now = this.timers.now()
    const wakesFirst = now >= first.at || timer?.at === first.at
    this.isHeld = true
    if (wakesFirst) this.wake(first)
    // it moves what the second fiber looks at behind its own next time
    const wakesSecond = second.isSleeping && (now >= second.at || (wakesFirst && second.at < first.at))
    if (wakesSecond && !this.owner.isSettled()) this.wake(second)
    this.isHeld = false
    this.arm()
  }
}

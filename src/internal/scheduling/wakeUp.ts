/** One timer for two fibers that sleep: a heartbeat, and the deadlines that are looked at with it. */
import * as Effect from "effect/Effect"
import type { Timer, Timers } from "./timers.ts"
import type { Task } from "./turns.ts"

type Resume = (effect: Effect.Effect<never, never>) => void

interface Sleepers {
  /** What the first and the second fiber go on with when they have slept. */
  readonly firstWoke: () => Effect.Effect<never, unknown>
  readonly secondWoke: () => Effect.Effect<never, unknown>
  /** The wall clock has jumped. */
  readonly jumped: (at: number) => void
  /** Nothing will wake the fibers up any more. */
  readonly wakeUpFailed: (defect: unknown) => void
}

/**
 * The fibers sleep until `firstAt` and `secondAt`, on the monotonic clock; `Infinity`: until they are told to wake up. With
 * the first one wakes the second, if that is due before the first is due again: then one timer does for both. A timer each
 * cost an idle connection a third more of the processor.
 *
 * A fiber is resumed with what comes next: it has nothing on its stack while it sleeps, which is a quarter of a kilobyte less
 * than a `flatMap`. One object for both, because what a wake-up touches is not in the caches of the processor.
 */
export class WakeUp implements Task {
  firstAt = Infinity
  /** By how many milliseconds the first may be early, in a crowd. */
  slack = 0
  secondAt = -Infinity
  // set while the fiber sleeps
  private firstResume: Resume | undefined
  private secondResume: Resume | undefined
  private readonly timers: Timers
  private readonly owner: Sleepers
  private timer: Timer | undefined
  private isHeld = true
  private isStopped = false

  /** Held until `release`: what is armed meanwhile has one timer. */
  constructor(timers: Timers, owner: Sleepers) {
    this.timers = timers
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

  get isFirstSleeping(): boolean {
    return this.firstResume !== undefined
  }

  get isSecondSleeping(): boolean {
    return this.secondResume !== undefined
  }

  sleepFirst<E>(until: number): Effect.Effect<never, E> {
    return Effect.callback((resume) => {
      this.firstAt = until
      this.firstResume = resume as Resume
      this.arm()
    })
  }

  sleepSecond<E>(until: number): Effect.Effect<never, E> {
    return Effect.callback((resume) => {
      this.secondAt = until
      this.secondResume = resume as Resume
      this.arm()
    })
  }

  /** Runs the first fiber, if it sleeps, up to where it waits again. */
  wakeFirst(): void {
    const { firstResume } = this
    this.firstResume = undefined
    firstResume?.(Effect.suspend(() => this.owner.firstWoke() as Effect.Effect<never>))
  }

  private wakeSecond(): void {
    const { secondResume } = this
    this.secondResume = undefined
    secondResume?.(Effect.suspend(() => this.owner.secondWoke() as Effect.Effect<never>))
  }

  /** The second fiber wakes up by then, if it sleeps for longer. */
  secondBy(at: number): void {
    if (this.secondAt <= at) return
    this.secondAt = at
    this.arm()
  }

  /** The next one to wake up gets a timer, if it has not got it already. */
  private arm(): void {
    if (this.isHeld || this.isStopped) return
    const { timer } = this
    const first = this.firstResume === undefined ? Infinity : this.firstAt
    const at = this.secondResume === undefined ? first : Math.min(first, this.secondAt)
    if (timer?.at === at && timer.run !== undefined) return
    this.timer = at === Infinity ? undefined : this.timers.at(at, this, at === first ? this.slack : 0)
    timer?.cancel()
  }

  run(): void {
    const now = this.timers.now()
    const isFirstDue = now >= this.firstAt || this.timer?.at === this.firstAt
    this.isHeld = true
    if (isFirstDue) this.wakeFirst()
    // it moves what the second fiber looks at behind its own next time
    if (now >= this.secondAt || (isFirstDue && this.secondAt < this.firstAt)) this.wakeSecond()
    this.isHeld = false
    this.arm()
  }
}

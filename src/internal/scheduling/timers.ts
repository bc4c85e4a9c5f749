/** Timers that share one sleep of the clock: what ten thousand connections wait for costs no fiber each. */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scheduler from "effect/Scheduler"
import { type Due, Heap } from "./heap.ts"
import { type Task, turnsOf } from "./turns.ts"

/** A clock that can do something at a time without a fiber that sleeps. What it gives back calls it off. */
export const Alarm = "~holdfast/Alarm"
export interface Alarmed extends Clock.Clock {
  readonly [Alarm]?: (millis: number, run: () => void) => () => void
}

/** A sleep in progress. */
interface Sleeping {
  readonly at: number
  end: (() => void) | undefined
}

/** Something to do at a time. */
export class Timer implements Due {
  readonly at: number
  readonly order: number
  private readonly timers: Timers
  /** By how many milliseconds it may come early, in a crowd. */
  readonly slack: number
  /** Undefined once it was done or called off. */
  run: Task | (() => void) | undefined

  constructor(timers: Timers, at: number, slack: number, order: number, run: Task | (() => void)) {
    this.timers = timers
    this.at = at
    this.slack = slack
    this.order = order
    this.run = run
  }

  cancel(): void {
    if (this.run === undefined) return
    this.run = undefined
    this.timers.cancelled()
  }
}

// from so many timers on, a wake-up for each costs more than its work
const crowd = 256

// a sleep is no longer than that, in milliseconds: a jump of the wall clock is seen when somebody wakes up
const longestSleep = 30_000

// a wall clock that is off by this much all of a sudden, in milliseconds: this machine slept, or somebody set it
const jump = 5_000

// so many timers that were called off are not worth looking at
const fewCancelled = 1000

/**
 * Timers run in the order of their times, those of one time in the order they were set. What one runs must not throw.
 * Times are milliseconds of `now`.
 */
export class Timers {
  readonly now: () => number
  private readonly clock: Clock.Clock
  private readonly post: (task: () => void) => void
  private readonly sleep: (millis: number, wake: () => void) => () => void
  private heap = new Heap<Timer>()
  private order = 0
  // of those in the heap, how many were called off
  private dead = 0
  // each one earlier than the one before it: an alarm that turns out to be too late stays, which costs nothing
  private readonly alarms: Array<Sleeping> = []
  private ringing = false
  private posted = false
  private wallOffset = 0
  /** While timers run: by how many milliseconds this wake-up came late. A process that stood still sees it here. */
  late = 0

  /** `post` does something in a task of its own, soon. */
  constructor(
    clock: Clock.Clock,
    scheduler: Scheduler.Scheduler,
    now: () => number,
    post: (task: () => void) => void
  ) {
    this.now = now
    this.clock = clock
    this.post = post
    const runFork = Effect.runForkWith(Context.make(Scheduler.Scheduler, scheduler))
    this.sleep = (clock as Alarmed)[Alarm] ?? ((millis, wake) => {
      const fiber = runFork(clock.sleep(Duration.millis(millis)))
      fiber.addObserver((exit) => {
        if (Exit.isSuccess(exit)) wake()
      })
      return () => fiber.interruptUnsafe()
    })
  }

  /** Does something at a time; where that has come, in a task of its own, or after those that are running. */
  at(time: number, run: Task | (() => void), slack = 0): Timer {
    if (this.heap.size === 0) this.wallOffset = this.offset(this.now())
    const timer = new Timer(this, time, slack, this.order++, run)
    this.heap.push(timer)
    this.arm()
    return timer
  }

  /** @internal */
  cancelled(): void {
    this.dead++
    if (this.dead === this.heap.size) {
      this.clear()
    } else if (this.dead > fewCancelled && this.dead > this.heap.size / 2) {
      this.heap = this.heap.filter((timer) => timer.run !== undefined)
      this.dead = 0
    }
  }

  private arm(): void {
    const { first } = this.heap
    if (first === undefined || this.ringing) return
    const now = this.now()
    // whole milliseconds: a shorter rest than the clock can tell would end at once
    const millis = Math.min(Math.ceil(first.at - now), longestSleep)
    if (millis <= 0) return this.ringSoon()
    const earliest = this.alarms.at(-1)
    if (earliest !== undefined && earliest.at <= now + millis) return
    const alarm: Sleeping = { at: now + millis, end: undefined }
    this.alarms.push(alarm)
    alarm.end = this.sleep(millis, () => {
      this.alarms.splice(this.alarms.indexOf(alarm), 1)
      this.ring(alarm.at)
    })
  }

  /** Nobody's code runs in the middle of whoever sets a timer. */
  private ringSoon(): void {
    if (this.posted) return
    this.posted = true
    this.post(() => {
      this.posted = false
      this.ring(Infinity)
    })
  }

  private offset(now: number): number {
    return this.clock.currentTimeMillisUnsafe() - now
  }

  /** Whoever waits for a peer is told: it may have gone while this machine slept. */
  private tellJump(now: number): void {
    const offset = this.offset(now)
    const jumped = Math.abs(offset - this.wallOffset) > jump
    this.wallOffset = offset
    if (!jumped) return
    const tasks: Array<Task> = []
    this.heap.forEach(({ run }) => {
      if (typeof run === "object") tasks.push(run)
    })
    for (const task of tasks) task.onJump?.(now)
  }

  private ring(planned: number): void {
    const now = this.now()
    this.late = Math.max(0, now - planned)
    this.ringing = true
    // what may come early is done with what is due: thousands of pings in a few wake-ups
    const crowded = this.heap.size >= crowd
    try {
      this.tellJump(now)
      for (let next = this.heap.first; next !== undefined; next = this.heap.first) {
        const { run } = next
        if (run !== undefined && next.at - (crowded ? next.slack : 0) > now) break
        this.heap.pop()
        next.run = undefined
        if (run === undefined) this.dead--
        else if (typeof run === "function") run()
        else run.run()
      }
    } finally {
      // one that throws after all takes no other with it
      this.ringing = false
      this.late = 0
      if (this.heap.size === 0) this.clear()
      else this.arm()
    }
  }

  /** Calls all of them off. */
  clear(): void {
    this.heap = new Heap()
    this.dead = 0
    for (const alarm of this.alarms.splice(0)) alarm.end?.()
  }
}

const all = new WeakMap<Clock.Clock, WeakMap<Scheduler.Scheduler, Timers>>()

const make = (clock: Clock.Clock, scheduler: Scheduler.Scheduler): Timers => {
  const turns = turnsOf(scheduler)
  const now = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
  return new Timers(clock, scheduler, now, (task) => turns.scheduleTask(task))
}

/** The timers of a clock. */
export const timersOf = (clock: Clock.Clock, scheduler: Scheduler.Scheduler): Timers => {
  let ofClock = all.get(clock)
  if (ofClock === undefined) all.set(clock, ofClock = new WeakMap())
  let timers = ofClock.get(scheduler)
  if (timers === undefined) ofClock.set(scheduler, timers = make(clock, scheduler))
  return timers
}

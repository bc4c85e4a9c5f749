/** Timers that share one sleep of the clock: what ten thousand connections wait for costs no fiber each. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Scheduler from "effect/Scheduler"
import { type Due, Heap } from "./heap.ts"
import { log, spawn } from "./supervised.ts"
import { perform, type Task, type Turns, turnsOf } from "./turns.ts"

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

/** Sleeps, then calls `wake`: with the exit of what should have slept, where that did not. Returns what calls it off. */
type Sleep = (millis: number, wake: (exit: Exit.Exit<void>) => void) => () => void

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

// a sleep is no longer than that, in milliseconds: a jump of the wall clock is seen at the next wake-up
const longestSleep = 30_000

// a wall clock that is off by this much all of a sudden, in milliseconds: this machine slept, or its clock was set
const jump = 5_000

// so many timers that were called off are not worth looking at
const fewCancelled = 1000

// a clock that fails so often in a row is not going to wake up anything
const mostFailures = 3

/**
 * Timers run in the order of their times, those of one time in the order they were set. What one runs must not throw.
 * Times are milliseconds of `now`.
 */
export class Timers {
  readonly now: () => number
  private readonly clock: Clock.Clock
  private readonly post: (task: () => void) => void
  private readonly context: Context.Context<never>
  private readonly sleep: Sleep
  private heap = new Heap<Timer>()
  private order = 0
  // of those in the heap, how many were called off
  private dead = 0
  // each one earlier than the one before it: an alarm that turns out to be too late stays, which costs nothing
  private readonly alarms: Array<Sleeping> = []
  private ringing = false
  private posted = false
  private wallOffset = 0
  // sleeps in a row that ended with a failure
  private failures = 0
  /** While timers run: by how many milliseconds this wake-up came late. A process that stood still sees it here. */
  late = 0

  /** `post` does something in a task of its own, soon. `context`: the scheduler, and who is told of failures. */
  constructor(
    clock: Clock.Clock,
    context: Context.Context<never>,
    now: () => number,
    post: (task: () => void) => void
  ) {
    this.now = now
    this.clock = clock
    this.post = post
    this.context = context
    const alarm = (clock as Alarmed)[Alarm]
    this.sleep = alarm === undefined ? this.inFiber : (millis, wake) => alarm(millis, () => wake(Exit.void))
  }

  /** Does something at a time; where that has come, in a task of its own, or after those that are running. */
  at(time: number, run: Task | (() => void), slack = 0): Timer {
    if (this.heap.size === 0) this.wallOffset = this.offset(this.now())
    const timer = new Timer(this, time, slack, this.order++, run)
    this.heap.push(timer)
    this.arm()
    return timer
  }

  /** Does something in so many milliseconds. */
  after(millis: number, run: Task | (() => void)): Timer {
    return this.at(this.now() + millis, run)
  }

  private readonly inFiber: Sleep = (millis, wake) => {
    let isWanted = true
    const sleep = this.clock.sleep(Duration.millis(millis))
    const fiber = spawn(this.context, "shared wake-up", sleep, (exit) => {
      if (isWanted) wake(exit)
    })
    return () => {
      isWanted = false
      fiber.interruptUnsafe()
    }
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
    alarm.end = this.sleep(millis, (exit) => {
      this.alarms.splice(this.alarms.indexOf(alarm), 1)
      if (Exit.isFailure(exit)) return this.repair(exit.cause)
      this.failures = 0
      this.ring(alarm.at)
    })
  }

  /**
   * What slept was interrupted, or the clock failed: another sleep takes its place. A clock that goes on failing wakes up
   * nothing, so each timer's owner is told.
   */
  private repair(cause: Cause.Cause<never>): void {
    this.failures++
    if (this.failures === 1) log(this.context, "the shared wake-up of timers failed and is repaired", cause)
    if (this.failures < mostFailures) return this.ringSoon()
    const given = this.heap
    this.clear()
    this.failures = 0
    given.forEach(({ run }) => {
      if (typeof run === "object") run.failed?.(Cause.squash(cause))
    })
  }

  /** No callback runs inside the call that sets a timer. */
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

  /** Tells each connection that waits for its peer: the peer may have gone while this machine slept. */
  private tellJump(now: number): void {
    const offset = this.offset(now)
    const jumped = Math.abs(offset - this.wallOffset) > jump
    this.wallOffset = offset
    if (!jumped) return
    const tasks: Array<Task> = []
    this.heap.forEach(({ run }) => {
      if (typeof run === "object") tasks.push(run)
    })
    for (const task of tasks) {
      if (task.onJump !== undefined) {
        perform({
          run: () => task.onJump!(now),
          failed: (defect) => task.failed?.(defect)
        })
      }
    }
  }

  private ring(planned: number): void {
    const now = this.now()
    this.late = Math.max(0, now - planned)
    this.ringing = true
    // what may come early is done with what is due: thousands of pings in a few wake-ups
    const crowded = this.heap.size >= crowd
    this.tellJump(now)
    for (let next = this.heap.first; next !== undefined; next = this.heap.first) {
      const { run } = next
      if (run !== undefined && next.at - (crowded ? next.slack : 0) > now) break
      this.heap.pop()
      next.run = undefined
      if (run === undefined) this.dead--
      else perform(run)
    }
    this.ringing = false
    this.late = 0
    if (this.heap.size === 0) this.clear()
    else this.arm()
  }

  /** Calls all of them off. */
  clear(): void {
    this.heap = new Heap()
    this.dead = 0
    for (const alarm of this.alarms.splice(0)) alarm.end?.()
  }
}

/** Milliseconds of the monotonic clock. */
export const monotonic = (clock: Clock.Clock) => (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000

const make = (clock: Clock.Clock, turns: Turns, context: Context.Context<never>): Timers => {
  // of the first context only what is needed: these timers may outlive it
  const kept = Context.make(Scheduler.Scheduler, Context.get(context, Scheduler.Scheduler)).pipe(
    Context.add(Logger.CurrentLoggers, Context.get(context, Logger.CurrentLoggers))
  )
  return new Timers(clock, kept, monotonic(clock), (task) => turns.scheduleTask(task))
}

/** What all connections of one clock and one scheduler share. */
export interface Scheduling {
  readonly clock: Clock.Clock
  readonly scheduler: Scheduler.Scheduler
  readonly turns: Turns
  readonly timers: Timers
}

const all = new WeakMap<Clock.Clock, WeakMap<Scheduler.Scheduler, Scheduling>>()

// nearly always the same
let last: Scheduling | undefined

/** The turns and the timers of the clock and the scheduler of a context. */
export const schedulingOf = (context: Context.Context<never>): Scheduling => {
  const clock = Context.get(context, Clock.Clock)
  const scheduler = Context.get(context, Scheduler.Scheduler)
  if (last?.clock === clock && last.scheduler === scheduler) return last
  let ofClock = all.get(clock)
  if (ofClock === undefined) all.set(clock, ofClock = new WeakMap())
  let shared = ofClock.get(scheduler)
  if (shared === undefined) {
    const turns = turnsOf(scheduler)
    shared = { clock, scheduler, turns, timers: make(clock, turns, context) }
    ofClock.set(scheduler, shared)
  }
  return last = shared
}

/** The timers of the clock and the scheduler of a context. */
export const timersOf = (context: Context.Context<never>): Timers => schedulingOf(context).timers

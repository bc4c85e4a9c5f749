/** Storms: random runs of public calls, each from a seed, with rules that hold after every step and at the end. */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import { TestClock } from "effect/testing"
import { ConnectionError } from "../../src/index.ts"
import { census } from "../../src/internal/scheduling/supervised.ts"

/** Numbers that look random and are the same in every run (mulberry32). */
export class Dice {
  private state: number
  readonly seed: number

  constructor(seed: number) {
    this.seed = this.state = seed
  }

  /** From 0 to 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  /** Whether this is one of so many in a hundred. */
  percent(share: number): boolean {
    return this.next() * 100 < share
  }

  one<A>(of: ReadonlyArray<A>): A {
    return of[this.below(of.length)]!
  }

  /** One of several things to do, each with how often of the sum it is done. */
  pick<A>(...choices: ReadonlyArray<readonly [weight: number, choice: A]>): A {
    let left = this.below(choices.reduce((sum, [weight]) => sum + weight, 0))
    return choices.find(([weight]) => (left -= weight) < 0)![1]
  }
}

/** What was found wrong in one storm, each thing once. */
export class Findings {
  readonly all = new Set<string>()

  check(isRight: boolean, what: string): void {
    if (!isRight) this.all.add(what)
  }
}

/** Until nothing more happens at this time. */
export const settle = Effect.forEach(Array.from({ length: 150 }), () => Effect.yieldNow, { discard: true })

/** Lets time pass once nothing more happens at this one: what waits for a time has seen when it began. */
export const later = (millis: number): Effect.Effect<void> => Effect.andThen(settle, TestClock.adjust(millis))

/** So many seconds, one by one: what waits for several things has time for each of them. */
export const pass = (seconds: number): Effect.Effect<void> =>
  Effect.andThen(
    Effect.forEach(Array.from({ length: seconds }), () => later(1000), { discard: true }),
    settle
  )

/** A few turns: what is done next meets what was begun half done. */
export const aWhile = (dice: Dice): Effect.Effect<void> =>
  Effect.forEach(Array.from({ length: dice.below(6) }), () => Effect.yieldNow, { discard: true })

/** So many steps, each of which may meet the one before half done; `rules` is looked at behind a third of them, in a calm. */
export const steps = (
  dice: Dice,
  count: number,
  step: () => Effect.Effect<unknown, unknown>,
  rules: Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let i = 0; i < count; i++) {
      yield* Effect.ignore(step())
      yield* aWhile(dice)
      if (!dice.percent(30)) continue
      yield* settle
      yield* rules
    }
  })

/** Starts a fiber that a storm interrupts, or waits for. */
export const start = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.forkDetach(effect, { startImmediately: true })

export const isOver = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.pollUnsafe() !== undefined

/** The reason of a connection's error, or how else an exit ended. */
export const reasonOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "success"
  const failed = exit.cause.reasons.find(Cause.isFailReason)
  if (failed?.error instanceof ConnectionError.ConnectionError) return failed.error.reason._tag
  return exit.cause.reasons[0]?._tag ?? "nothing"
}

export const millis: Effect.Effect<() => number> = Effect.map(
  Clock.Clock,
  (clock) => () => clock.currentTimeMillisUnsafe()
)

const bug = (): never => {
  throw new Error("a bug of the application")
}

export const dies: Effect.Effect<never> = Effect.sync(bug)

const fibers = (): ReadonlyArray<string> => Array.from(census(), ([name, count]) => `${count} ${name}`)

/** One storm, with a logger that throws now and then. */
const one = (seed: number, storm: (dice: Dice, found: Findings) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    const dice = new Dice(seed)
    const found = new Findings()
    const before = fibers()
    const logs = new Dice(-seed)
    const yieldAfter = dice.pick([3, 2048], [1, 6 + dice.below(58)])
    yield* storm(dice, found).pipe(
      Random.withSeed(`${seed}`),
      Effect.provideService(Scheduler.MaxOpsBeforeYield, yieldAfter),
      Effect.provide(Logger.layer([Logger.make(() => logs.percent(30) ? bug() : undefined)]))
    )
    yield* settle
    const left = fibers().filter((line) => !before.includes(line))
    found.check(left.length === 0, `fibers are left: ${left.join(", ")}`)
    return [...found.all]
  })

/** Runs so many storms, from seed 1 on: each has to find nothing, and to leave no fiber. `HOLDFAST_SEED` is the first one. */
export const storms = (
  count: number,
  storm: (dice: Dice, found: Findings) => Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const first = Number(process.env.HOLDFAST_SEED ?? 1)
    yield* TestClock.adjust(0)
    for (let seed = first; seed < first + count; seed++) {
      assert.deepStrictEqual(yield* one(seed, storm), [], `seed ${seed}`)
    }
  })

import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { TestClock } from "effect/testing"
import { Backoff, ConnectionError } from "../src/index.ts"
import { settable } from "./support/clocks.ts"

const refused = ConnectionError.make(new ConnectionError.OpenFailed({ cause: "ECONNREFUSED" }))
const reset = ConnectionError.make(new ConnectionError.Reset({ cause: "ECONNRESET" }))
const advised = (after: number, spread: number) =>
  ConnectionError.make(new ConnectionError.Reset({ cause: "ECONNRESET" }), { after, spread })

/** Draws the numbers given, again and again. */
const fixed = (...draws: ReadonlyArray<number>) => {
  let i = 0
  return Effect.provideService(Random.Random, {
    nextDoubleUnsafe: () => draws[i++ % draws.length]!,
    nextIntUnsafe: () => 0
  })
}

/** What happens on the timeline: a try that ends with `input` after it ran for `ran` milliseconds. */
interface Try {
  readonly ran?: number
  readonly input?: unknown
}

/** The delays after each of the tries, in milliseconds, until the schedule stops. */
const delays = (schedule: Schedule.Schedule<Duration.Duration, unknown>, tries: Iterable<Try>) =>
  Effect.gen(function*() {
    const step = yield* Schedule.toStep(schedule)
    const found: Array<number | "stop"> = []
    let now = 1_000_000
    for (const { input = refused, ran = 0 } of tries) {
      now += ran
      const next = yield* Effect.option(step(now, input))
      if (next._tag === "None") {
        found.push("stop")
        break
      }
      const [output, delay] = next.value
      assert.strictEqual(output, delay)
      found.push(Duration.toMillis(delay))
      now += Duration.toMillis(delay)
    }
    return found
  })

const times = (n: number, one: Try = {}): ReadonlyArray<Try> => Array.from({ length: n }, () => one)

const none = { jitter: "none" } as const

describe("exponential", () => {
  it.effect("B83 without jitter: base × factor^n, then the cap", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential(none), times(10)),
        [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]
      )
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential({ ...none, base: 100, factor: 3, cap: "1 second" }), times(5)),
        [100, 300, 900, 1000, 1000]
      )
      assert.deepStrictEqual(yield* delays(Backoff.exponential({ ...none, factor: 1 }), times(3)), [200, 200, 200])
    }))

  it.effect("B83 full jitter: anywhere from 0 to the delay", () =>
    Effect.gen(function*() {
      const schedule = Backoff.exponential({ base: 100, cap: 1000 })
      assert.deepStrictEqual(yield* delays(schedule, times(6)).pipe(fixed(0)), [0, 0, 0, 0, 0, 0])
      assert.deepStrictEqual(yield* delays(schedule, times(6)).pipe(fixed(0.5)), [50, 100, 200, 400, 500, 500])
      assert.deepStrictEqual(yield* delays(schedule, times(6)).pipe(fixed(1)), [100, 200, 400, 800, 1000, 1000])
    }))

  it.effect("B83 equal jitter: from half of the delay to all of it", () =>
    Effect.gen(function*() {
      const schedule = Backoff.exponential({ base: 100, cap: 1000, jitter: "equal" })
      assert.deepStrictEqual(yield* delays(schedule, times(6)).pipe(fixed(0)), [50, 100, 200, 400, 500, 500])
      assert.deepStrictEqual(yield* delays(schedule, times(6)).pipe(fixed(0.5)), [75, 150, 300, 600, 750, 750])
      assert.deepStrictEqual(yield* delays(schedule, times(6)).pipe(fixed(1)), [100, 200, 400, 800, 1000, 1000])
    }))

  it.effect("B83 decorrelated jitter: from the base to three times the delay before, at most the cap", () =>
    Effect.gen(function*() {
      const schedule = Backoff.exponential({ base: 100, cap: 1000, jitter: "decorrelated" })
      assert.deepStrictEqual(yield* delays(schedule, times(4)).pipe(fixed(0)), [100, 100, 100, 100])
      assert.deepStrictEqual(yield* delays(schedule, times(4)).pipe(fixed(1)), [300, 900, 1000, 1000])
      assert.deepStrictEqual(yield* delays(schedule, times(4)).pipe(fixed(0.5, 0, 1)), [200, 100, 300, 500])
    }))

  for (const jitter of ["none", "full", "equal", "decorrelated"] as const) {
    it.effect(`B83 a million attempts with ${jitter} jitter stay inside the bounds`, () =>
      Effect.gen(function*() {
        const step = yield* Schedule.toStep(Backoff.exponential({ jitter, factor: 10 }))
        let now = 0
        for (let n = 0; n < 1_000_000; n++) {
          const [, delay] = yield* step(now, refused)
          const millis = Duration.toMillis(delay)
          const most = Math.min(30_000, jitter === "decorrelated" ? 200 * 3 ** (n + 1) : 200 * 10 ** n)
          const least = jitter === "none" ? most : jitter === "equal" ? most / 2 : jitter === "full" ? 0 : 200
          if (!(millis >= least && millis <= most)) assert.fail(`${millis} after ${n} tries`)
          now += millis
        }
      }).pipe(Random.withSeed(jitter)) as Effect.Effect<void>, 60_000)
  }

  it.effect("B83 without a cap delays grow, and never become infinite or no number", () =>
    Effect.gen(function*() {
      for (const jitter of ["none", "full", "equal", "decorrelated"] as const) {
        for (const factor of [2, Infinity]) {
          for (const draw of [0, 0.5, 1]) {
            const step = yield* Schedule.toStep(Backoff.exponential({ jitter, factor, cap: Infinity })).pipe(
              fixed(draw)
            )
            let last = 0
            for (let n = 0; n < 2_000; n++) {
              last = Duration.toMillis((yield* Effect.orDie(step(0, refused)))[1])
              assert.isTrue(Number.isFinite(last) && last >= 0, `${jitter} ${factor} ${draw}: ${last}`)
            }
            if (draw > 0) assert.isAbove(last, 1e15)
          }
        }
      }
    }))

  it.effect("attempts: so many may fail after the first", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential({ ...none, attempts: 3 }), times(9)),
        [200, 400, 800, "stop"]
      )
      assert.deepStrictEqual(yield* delays(Backoff.exponential({ ...none, attempts: 0 }), times(9)), ["stop"])
    }))

  it.effect("elapsed: no try begins later, and one may begin just then", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential({ ...none, elapsed: 1400 }), times(9)),
        [200, 400, 800, "stop"]
      )
      assert.deepStrictEqual(yield* delays(Backoff.exponential({ ...none, elapsed: 1399 }), times(9)), [
        200,
        400,
        "stop"
      ])
      // what the tries themselves take counts
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential({ ...none, elapsed: 1400 }), times(9, { ran: 500 })),
        [200, 400, "stop"]
      )
    }))

  it.effect("resetAfter: a stable stretch starts delays, attempts and elapsed time over, one millisecond less does not", () =>
    Effect.gen(function*() {
      const schedule = Backoff.exponential({ ...none, attempts: 3, elapsed: "2 minutes" })
      const broke = (ran: number) => [{}, {}, { ran, input: reset }, {}, {}, {}]
      assert.deepStrictEqual(yield* delays(schedule, broke(60_000)), [200, 400, 200, 400, 800, "stop"])
      assert.deepStrictEqual(yield* delays(schedule, broke(59_999)), [200, 400, 800, "stop"])
      // an hour of connection is no hour of trying
      assert.deepStrictEqual(yield* delays(schedule, broke(3_600_000)), [200, 400, 200, 400, 800, "stop"])
    }))

  it.effect("resetAfter: the first connection counts as well, and 0 starts over after every connection", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential(none), [{ ran: 90_000, input: reset }, {}, {}]),
        [200, 400, 800]
      )
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential({ ...none, resetAfter: 0 }), times(3, { input: reset })),
        [200, 200, 200]
      )
    }))

  it.effect("B36 the wall clock is set: neither a streak nor a stable stretch is longer or shorter by that", () =>
    Effect.gen(function*() {
      const { clock, set } = yield* settable
      const day = 86_400_000
      const step = yield* Schedule.toStep(Backoff.exponential({ ...none, attempts: 3, elapsed: "2 minutes" })).pipe(
        Effect.provideService(Clock.Clock, clock)
      )
      // as every driver of schedules: with the time of the wall clock
      const next = (input: unknown = refused) =>
        Effect.gen(function*() {
          const next = yield* Effect.option(step(clock.currentTimeMillisUnsafe(), input))
          if (next._tag === "None") return "stop"
          yield* TestClock.adjust(next.value[1])
          return Duration.toMillis(next.value[1])
        })
      assert.strictEqual(yield* next(), 200)
      // a machine without a battery for its clock learns what time it is
      set(day)
      assert.strictEqual(yield* next(), 400)
      // and a clock that was fast is put back, under a connection that lives for an hour
      set(-day)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual([yield* next(reset), yield* next(), yield* next(), yield* next()], [200, 400, 800, "stop"])
    }))

  it.effect("F8 a dial that hangs for minutes is no stable stretch", () =>
    Effect.gen(function*() {
      const tags = [
        new ConnectionError.OpenTimeout({ limit: 90_000 }),
        new ConnectionError.OpenFailed({ cause: "EHOSTUNREACH" }),
        new ConnectionError.HandshakeTimeout({ limit: 90_000 }),
        new ConnectionError.HandshakeFailed({ cause: "no" }),
        new ConnectionError.Refused({ limit: "maxConnections" })
      ]
      for (const reason of tags) {
        const input = ConnectionError.make(reason)
        assert.deepStrictEqual(
          yield* delays(Backoff.exponential(none), times(4, { ran: 90_000, input })),
          [200, 400, 800, 1600],
          reason._tag
        )
      }
    }))

  it.effect("every run of a schedule counts for itself", () =>
    Effect.gen(function*() {
      const schedule = Backoff.exponential({ ...none, attempts: 2 })
      assert.deepStrictEqual(yield* delays(schedule, times(9)), [200, 400, "stop"])
      assert.deepStrictEqual(yield* delays(schedule, times(9)), [200, 400, "stop"])
    }))

  it.effect("is an ordinary schedule: retry waits exactly the delays", () =>
    Effect.gen(function*() {
      let tries = 0
      const fiber = yield* Effect.forkChild(
        Effect.retry(
          Effect.suspend(() => {
            tries++
            return Effect.fail("no")
          }),
          Backoff.exponential({ ...none, attempts: 2 })
        ),
        { startImmediately: true }
      )
      const seen = [tries]
      for (const millis of [199, 1, 399, 1]) {
        yield* TestClock.adjust(millis)
        seen.push(tries)
      }
      assert.deepStrictEqual(seen, [1, 1, 2, 2, 3])
      assert.strictEqual(yield* Effect.flip(Fiber.join(fiber)), "no")
    }))

  it("an option that makes no sense throws its name", () => {
    const wrong: ReadonlyArray<[Backoff.Options, RegExp]> = [
      [{ base: 0 }, /base/],
      [{ base: -1 }, /base/],
      [{ base: "2 seconds", cap: "1 second" }, /cap/],
      [{ cap: -1 }, /cap/],
      [{ factor: 0.99 }, /factor/],
      [{ factor: NaN }, /factor/],
      [{ attempts: -1 }, /attempts/],
      [{ attempts: NaN }, /attempts/],
      [{ elapsed: -1 }, /elapsed/],
      [{ resetAfter: -1 }, /resetAfter/],
      [{ maxAdvice: -1 }, /maxAdvice/],
      // taken for 0, these would dial in a hot loop, or stop at once
      [{ resetAfter: NaN }, /resetAfter/],
      [{ elapsed: NaN }, /elapsed/],
      [{ maxAdvice: "soon" as "1 second" }, /maxAdvice/],
      [{ attempts: "three" as unknown as number }, /attempts/],
      [{ jitter: "ful" as "full" }, /jitter must be one of full, equal, decorrelated, none/]
    ]
    for (const [options, name] of wrong) {
      assert.throws(() => Backoff.exponential(options), RangeError)
      assert.throws(() => Backoff.exponential(options), name)
    }
  })
})

describe("advice", () => {
  it.effect("B130 of a refused upgrade is the earliest moment: the delay comes on top, spread by the jitter", () =>
    Effect.gen(function*() {
      const refusal = (after: number) => ({
        input: ConnectionError.make(
          new ConnectionError.UpgradeRefused({ status: 503, headers: {} }),
          { after, spread: 0 }
        )
      })
      const every = [refusal(3000), refusal(3000), refusal(0), refusal(3000), {}]
      const exact = Backoff.exponential({ base: 200, jitter: "none" })
      assert.deepStrictEqual(yield* delays(exact, every), [3200, 3400, 800, 4600, 3200])
      // two clients do not come back together, and none before its time
      const full = Backoff.exponential({ base: 200 })
      assert.deepStrictEqual(yield* fixed(0)(delays(full, every)), [3000, 3000, 0, 3000, 0])
      assert.deepStrictEqual(yield* fixed(0.5)(delays(full, every)), [3100, 3200, 400, 3800, 1600])
      // each counts as a try
      const twice = Backoff.exponential({ base: 200, jitter: "none", attempts: 2 })
      assert.deepStrictEqual(yield* delays(twice, every), [3200, 3400, "stop"])
      // whatever a server says, a day is too long
      const day = [refusal(86_400_000)]
      assert.deepStrictEqual(yield* delays(exact, day), [300_200])
      const deaf = Backoff.exponential({ base: 200, jitter: "none", maxAdvice: 0 })
      assert.deepStrictEqual(yield* delays(deaf, day), [200])
    }))

  it.effect("is obeyed once: after, and a random part of the spread; then the backoff begins", () =>
    Effect.gen(function*() {
      const tries = [{ input: advised(1000, 20_000) }, {}, {}, {}]
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential(none), tries).pipe(fixed(0.25)),
        [6000, 200, 400, 800]
      )
      assert.deepStrictEqual(yield* delays(Backoff.exponential(none), tries).pipe(fixed(0)), [1000, 200, 400, 800])
      // it is no try of ours
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential({ ...none, attempts: 2 }), tries).pipe(fixed(1)),
        [21_000, 200, 400, "stop"]
      )
    }))

  it.effect("a server that accepts, advises nothing long, and closes is backed off from", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential(none), times(5, { input: advised(0, 300) })).pipe(fixed(1)),
        [300, 300, 400, 800, 1600]
      )
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential({ ...none, attempts: 2 }), times(9, { input: advised(0, 300) })).pipe(
          fixed(1)
        ),
        [300, 300, 400, "stop"]
      )
      // nothing is no advice
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential(none), times(3, { input: advised(0, 0) })),
        [200, 400, 800]
      )
    }))

  it.effect("is obeyed again after a stable stretch", () =>
    Effect.gen(function*() {
      const input = advised(0, 10)
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential(none), [{ input }, { input }, { input, ran: 60_000 }, { input }]).pipe(
          fixed(1)
        ),
        [10, 200, 10, 200]
      )
    }))

  it.effect("is capped, ignored where maxAdvice is 0, and bounded by elapsed", () =>
    Effect.gen(function*() {
      const try1 = (after: number, spread: number) => [{ input: advised(after, spread) }]
      const capped = Backoff.exponential({ ...none, maxAdvice: 5000 })
      assert.deepStrictEqual(yield* delays(capped, try1(2000, 3000)).pipe(fixed(1)), [5000])
      assert.deepStrictEqual(yield* delays(capped, try1(2000, 1e9)).pipe(fixed(1)), [5000])
      assert.deepStrictEqual(yield* delays(capped, try1(1e9, 1e9)).pipe(fixed(1)), [5000])
      assert.deepStrictEqual(yield* delays(Backoff.exponential(none), try1(1e9, 0)), [300_000])
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential({ ...none, maxAdvice: 0 }), times(3, { input: advised(2000, 0) })),
        [200, 400, 800]
      )
      assert.deepStrictEqual(yield* delays(Backoff.exponential({ ...none, elapsed: 1999 }), try1(2000, 0)), ["stop"])
    }))

  it.effect("of a peer that talks nonsense harms nobody", () =>
    Effect.gen(function*() {
      for (
        const [after, spread, delay] of [[-5000, 0, 200], [NaN, NaN, 200], [-1, 700, 700], [NaN, 700, 700]] as const
      ) {
        assert.deepStrictEqual(
          yield* delays(Backoff.exponential(none), [{ input: advised(after, spread) }]).pipe(fixed(1)),
          [delay]
        )
      }
      assert.deepStrictEqual(
        yield* delays(Backoff.exponential(none), [{ input: advised(Infinity, Infinity) }]).pipe(fixed(1)),
        [300_000]
      )
    }))
})

describe("constant", () => {
  it.effect("the same delay every time, with the limits of exponential", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* delays(Backoff.constant("1 second"), times(3)), [1000, 1000, 1000])
      assert.deepStrictEqual(yield* delays(Backoff.constant(1000, { attempts: 1 }), times(3)), [1000, "stop"])
      assert.deepStrictEqual(
        yield* delays(Backoff.constant(1000, { jitter: "equal" }), times(2)).pipe(fixed(0.5)),
        [750, 750]
      )
      assert.deepStrictEqual(
        yield* delays(Backoff.constant(1000), [{ input: advised(5, 0) }, {}]),
        [5, 1000]
      )
    }))
})

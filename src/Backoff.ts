/**
 * When to try again: reconnect schedules as values.
 *
 * For `Client.Options.reconnect`, and for retries of anything else that a crowd of clients does at once. Whether an error
 * is worth another try belongs to the error (`isRetryable`) and to the policy; this module only says when. The schedules
 * are ordinary Effect schedules: combine, inspect and test them as such.
 *
 * **Example** (A client that comes back within 100 ms to 30 s)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Backoff, Client, Codec, Connection } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 * const dial = Effect.orDie(Dialer.make("tcp://127.0.0.1:7000"))
 *
 * const client = Client.make(Effect.flatMap(dial, lines), {
 *   reconnect: Backoff.exponential({ base: "100 millis", cap: "30 seconds" })
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as ConnectionError from "./ConnectionError.ts"
import { atLeast } from "./internal/arguments/atLeast.ts"
import { millisOf } from "./internal/arguments/durations.ts"
import { monotonic } from "./internal/scheduling/timers.ts"

/**
 * How a delay `d` is spread, so that clients which failed together do not come back together.
 *
 * - `full`: at random from 0 to `d`. The least load on the server for a given time.
 * - `equal`: at random from half of `d` to `d`.
 * - `decorrelated`: at random from `base` to three times the delay before, at most `cap`.
 * - `none`: exactly `d`. For tests, and for a single client.
 *
 * The first three are those of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
 *
 * @category models
 * @since 0.1.0
 */
export type Jitter = "full" | "equal" | "decorrelated" | "none"

/**
 * How delays grow, how they are spread, and when to stop.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The first delay, before jitter. Default 200 ms. */
  readonly base?: Duration.Input | undefined
  /** By how much each delay is longer than the one before. Default 2. */
  readonly factor?: number | undefined
  /** The longest delay. Default 30 seconds. */
  readonly cap?: Duration.Input | undefined
  /** How each delay is spread. Default `full`. */
  readonly jitter?: Jitter | undefined
  /** How many tries in a row may fail after the first. Default: no limit. */
  readonly attempts?: number | undefined
  /** For how long tries in a row may go on; no try begins later. Default: no limit. */
  readonly elapsed?: Duration.Input | undefined
  /**
   * A connection that lived this long, counted from the start of its try, starts the backoff over. Default 1 minute. 0
   * starts over after every connection that opened: then a server that accepts and closes is dialled in a hot loop.
   */
  readonly resetAfter?: Duration.Input | undefined
  /** The longest delay that a server's advice may ask for, its spread included. Default 5 minutes; 0 ignores advice. */
  readonly maxAdvice?: Duration.Input | undefined
}

const openings = new Set<string>([
  "OpenFailed",
  "OpenTimeout",
  "HandshakeTimeout",
  "HandshakeFailed",
  "Refused",
  "UpgradeRefused"
])

// 200,000 years in milliseconds, and still exact: without a cap, a factor would make a delay infinite
const longest = Number.MAX_SAFE_INTEGER

/** A peer may send any number, NaN included. */
const clamp = (value: number, limit: number): number => Math.min(Math.max(0, value), limit) || 0

/** What HTTP advises is a moment, without a spread of its own, and may come with every refusal. */
const isMoment = (input: unknown): boolean =>
  input instanceof ConnectionError.ConnectionError && input.reason._tag === "UpgradeRefused"

/** Whether there was a connection at all: a dial that hangs for a minute is no stable minute. */
const wasOpen = (input: unknown): boolean =>
  !(input instanceof ConnectionError.ConnectionError && openings.has(input.reason._tag))

const jitters: ReadonlyArray<Jitter> = ["full", "equal", "decorrelated", "none"]

/**
 * Delays of `base × factor^n`, at most `cap`, spread by `jitter`.
 *
 * **Details**
 *
 * The input is the error of the last try, and the output is the delay. The attempt count starts over once a connection
 * lived for `resetAfter` between two failures, and never because one opened.
 *
 * The `advice` of an error (see `ConnectionError.Advice`) replaces one delay until the count starts over: that delay is
 * `after`, plus a random part of `spread`, and does not count as a try. Further advice can only make a delay longer, so a
 * server that accepts, advises and closes is not dialled in a hot loop. That of an `UpgradeRefused` (`Retry-After`) is the
 * earliest moment: the delay, spread by `jitter`, comes on top of it, and each counts as a try.
 *
 * **Gotchas**
 *
 * An option that makes no sense (negative, a factor under 1, a cap under the base) is a mistake in the program: it throws
 * a `RangeError` that names it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const exponential = (options?: Options): Schedule.Schedule<Duration.Duration, unknown> => {
  const base = Math.min(longest, millisOf("base", options?.base ?? 200))
  const cap = Math.min(longest, millisOf("cap", options?.cap ?? 30_000))
  const factor = atLeast(1, "factor", options?.factor ?? 2)
  const attempts = atLeast(0, "attempts", options?.attempts ?? Infinity)
  const elapsed = millisOf("elapsed", options?.elapsed ?? Infinity)
  const resetAfter = millisOf("resetAfter", options?.resetAfter ?? 60_000)
  const maxAdvice = millisOf("maxAdvice", options?.maxAdvice ?? 300_000)
  const jitter = options?.jitter ?? "full"
  if (base === 0) throw new RangeError("base must be more than 0")
  if (cap < base) throw new RangeError("cap must not be less than base")
  // no delay comes of a jitter that is none
  if (!jitters.includes(jitter)) throw new RangeError(`jitter must be one of ${jitters.join(", ")}, and not ${jitter}`)

  return Schedule.fromStep(
    Effect.zipWith(Random.Random, Clock.Clock, (random, clock) => {
      const steady = monotonic(clock)
      let tries = 0
      // the delay without jitter; multiplied up to the cap and no further, so that nothing overflows
      let next = base
      let previous = base
      let obeyed = false
      let streakSince: number | undefined
      let resumedAt: number | undefined

      const spread = (): number => {
        const r = random.nextDoubleUnsafe()
        switch (jitter) {
          case "none":
            return next
          case "full":
            return next * r
          case "equal":
            return next / 2 + (next / 2) * r
          case "decorrelated":
            return Math.min(cap, base + Math.max(0, previous * 3 - base) * r)
        }
      }

      const advised = (input: unknown): number | undefined => {
        const advice = input instanceof ConnectionError.ConnectionError ? input.advice : undefined
        if (advice === undefined) return undefined
        const after = clamp(advice.after, maxAdvice)
        const window = clamp(advice.spread, maxAdvice - after)
        return after + window > 0 ? after + window * random.nextDoubleUnsafe() : undefined
      }

      return (at, input) => {
        // what drives a schedule tells it the wall clock, which may be set: no time passes by that
        const now = at - clock.currentTimeMillisUnsafe() + Math.round(steady())
        if (resumedAt !== undefined && now - resumedAt >= resetAfter && wasOpen(input)) {
          tries = 0
          next = base
          previous = base
          obeyed = false
          streakSince = undefined
        }
        streakSince ??= now
        const asked = advised(input)
        let delay = asked ?? 0
        const moment = isMoment(input)
        if (asked !== undefined && !obeyed && !moment) {
          obeyed = true
        } else {
          if (tries >= attempts) return Cause.done(Duration.millis(previous))
          tries++
          previous = spread()
          next = Math.min(cap, next * factor)
          delay = moment ? delay + previous : Math.max(delay, previous)
        }
        if (now + delay - streakSince > elapsed) return Cause.done(Duration.millis(delay))
        resumedAt = now + delay
        const duration = Duration.millis(delay)
        return Effect.succeed([duration, duration])
      }
    })
  )
}

/**
 * The same delay every time, without jitter by default: for a single client on a link of its own. Options and errors are
 * those of `exponential`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const constant = (
  delay: Duration.Input,
  options?: Omit<Options, "base" | "factor" | "cap">
): Schedule.Schedule<Duration.Duration, unknown> =>
  exponential({ jitter: "none", ...options, base: delay, cap: delay, factor: 1 })

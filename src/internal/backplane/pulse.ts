/** Whether a connection to an engine still answers, and why it is of no use any more. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { monotonic } from "../scheduling/timers.ts"
import { BackplaneError } from "./engine.ts"

export const unreachable = (cause: unknown): BackplaneError => new BackplaneError({ reason: "unreachable", cause })

const silent = (timeout: number): BackplaneError => unreachable(`no answer for ${timeout} ms`)

/** Gives up after so many milliseconds. */
export const within =
  (timeout: number) => <A, R>(effect: Effect.Effect<A, BackplaneError, R>): Effect.Effect<A, BackplaneError, R> =>
    Effect.timeoutOrElse(effect, { duration: timeout, orElse: () => Effect.fail(silent(timeout)) })

type Resume<A> = (effect: Effect.Effect<A, BackplaneError>) => void

/** Questions to an engine that wait for their answers. Synchronous: one timer looks after all of them. */
export class Pulse {
  private error: BackplaneError | undefined
  private readonly now: () => number
  private readonly timeout: number
  private readonly cut = Latch.makeUnsafe(false)
  private readonly waiting = new Set<Resume<never>>()
  // when the last answer came, or the first of those was asked that wait
  private heardAt = 0

  constructor(clock: Clock.Clock, timeout: number) {
    this.now = monotonic(clock)
    this.timeout = timeout
  }

  /** The connection is of no use any more: all that wait fail. */
  end(error: BackplaneError): void {
    this.error ??= error
    const waiting = Array.from(this.waiting)
    this.waiting.clear()
    for (const resume of waiting) resume(Effect.fail(this.error))
    this.cut.openUnsafe()
  }

  /** Asks, where the answer or an error is told to `tell`. One that is interrupted is answered all the same. */
  ask<A>(asks: (tell: Resume<A>) => void): Effect.Effect<A, BackplaneError> {
    return Effect.callback<A, BackplaneError>((resume) => {
      if (this.error !== undefined) return resume(Effect.fail(this.error))
      if (this.waiting.size === 0) this.heardAt = this.now()
      this.waiting.add(resume)
      asks((answer) => {
        this.waiting.delete(resume)
        this.heardAt = this.now()
        resume(answer)
      })
    })
  }

  /** Asks what gives a promise, and never leaves that alone. */
  promise<A>(asks: () => Promise<A>): Effect.Effect<A, BackplaneError> {
    return this.ask<A>((tell) => {
      try {
        asks().then((answer) => tell(Effect.succeed(answer)), (cause) => tell(Effect.fail(unreachable(cause))))
      } catch (cause) {
        tell(Effect.fail(unreachable(cause)))
      }
    })
  }

  /** Succeeds with the reason once the connection was cut, and fails when it hangs. */
  get over(): Effect.Effect<BackplaneError, BackplaneError> {
    return Effect.raceFirst(Effect.map(this.cut.await, () => this.error!), this.stalled)
  }

  private get stalled(): Effect.Effect<never, BackplaneError> {
    const { now, timeout } = this
    const every = timeout / 4
    const look = (lookedAt: number): Effect.Effect<never, BackplaneError> =>
      Effect.suspend(() => {
        const at = now()
        // so late that this process stood still: answers that have come are read before the next look
        const isLate = at - lookedAt > 2 * every
        if (isLate || this.waiting.size === 0 || at - this.heardAt < timeout) {
          return Effect.andThen(Effect.sleep(every), look(at))
        }
        this.end(silent(timeout))
        return Effect.fail(silent(timeout))
      })
    return Effect.suspend(() => look(now()))
  }
}

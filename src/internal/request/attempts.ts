/** Sending a request, and sending it again over another connection where that is safe and can help. */
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"
import { guarded } from "../endings/defects.ts"
import { isRetryableBy, type RetryRules } from "../endings/retry.ts"
import { makeInFlight, type Outcome } from "./pipeline.ts"
import type { Pipelines } from "./pipelines.ts"

type Failure = ConnectionError.ConnectionError

export interface AttemptOptions<Out> extends RetryRules {
  /** Gives a request its id, where responses carry one. */
  readonly withId: ((message: Out, id: number) => Out) | undefined
  /** How often a request is sent again. */
  readonly retries: number
}

/** The error of a request that the peer may have seen. */
const unknown = (error: Failure): Failure =>
  error.reason._tag === "Defect" ? error : ConnectionError.make(new ConnectionError.OutcomeUnknown({ cause: error }))

export class Attempts<in out In, in out Out> {
  private readonly pipelines: Pipelines<In, Out>
  private readonly options: AttemptOptions<Out>
  private readonly isWorthIt: ReturnType<typeof isRetryableBy>
  private ids = 0

  constructor(pipelines: Pipelines<In, Out>, options: AttemptOptions<Out>) {
    this.pipelines = pipelines
    this.options = options
    this.isWorthIt = isRetryableBy(options)
  }

  /**
   * Asks until there is an answer, a reason not to ask again, or no more attempt `left`. `isSeen`: the peer may have seen it already,
   * whatever becomes of this attempt.
   */
  request(
    message: Out,
    idempotent: boolean,
    left = this.options.retries,
    isSeen = false
  ): Effect.Effect<In, Failure> {
    const attempt = isSeen ? Effect.mapError(this.once(message), unknown) : this.once(message)
    return Effect.flatMap(attempt, (outcome): Effect.Effect<In, Failure> => {
      if (outcome._tag === "Answered") return Effect.succeed(outcome.message)
      const { error, error: { reason }, written } = outcome
      // what threw once the peer may have seen the request would throw again
      const isFinal = written && reason._tag === "Defect"
      const isSafe = !written || idempotent
      if (left > 0 && isSafe && this.isWorthIt({ isRetryable: !isFinal, reason })) {
        return this.request(message, idempotent, left - 1, isSeen || written)
      }
      return Effect.fail(isSeen || written ? unknown(error) : error)
    })
  }

  private once(message: Out): Effect.Effect<Outcome<In>, Failure> {
    const { pipelines, options: { withId } } = this
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(pipelines.acquire(restore), (pipeline) => {
        const id = ++this.ids
        return Effect.onExit(
          withId === undefined
            ? pipeline.exchange(message, makeInFlight(id), restore)
            : Effect.flatMap(
              guarded("correlate", () => withId(message, id), pipeline.connection),
              (request) => pipeline.exchange(request, makeInFlight(id), restore)
            ),
          () => Effect.sync(() => pipelines.release(pipeline))
        )
      })
    )
  }
}

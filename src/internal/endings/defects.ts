/** Makes a `Defect` of what threw in a pool, a client, a server or a request, and logs it: once, here. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"
import { logError } from "../reasons/logs.ts"
import { spawn } from "../scheduling/supervised.ts"
import { fromCause } from "./fromCause.ts"

type Failure = ConnectionError.ConnectionError

/** Where it happened: a connection, or what is known where there is none. */
export interface Place {
  readonly id?: number | undefined
  readonly remote?: string | undefined
  readonly snapshot?: Effect.Effect<{ readonly remote: string | undefined }> | undefined
}

const isDefect = (error: unknown): boolean =>
  error instanceof ConnectionError.ConnectionError && error.reason._tag === "Defect"

/** One that was logged where it happened, and only passed on since, is not logged again. */
const isNew = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => reason._tag === "Die" && !isDefect(reason.defect))

/** Logs the defects in a cause, if there are any. */
export const logged = (by: string, cause: Cause.Cause<unknown>, place: Place = {}): Effect.Effect<void> => {
  if (!isNew(cause)) return Effect.void
  const connection = place.id === undefined ? "" : ` of connection ${place.id}`
  const write = (remote: string | undefined) =>
    logError(`a defect in ${by}${connection}${remote === undefined ? "" : ` (${remote})`}`, cause)
  return place.snapshot === undefined
    ? write(place.remote)
    : Effect.matchCauseEffect(place.snapshot, {
      onSuccess: ({ remote }) => write(remote),
      onFailure: () => write(place.remote)
    })
}

/** `logged`, from where there is no fiber. */
export const logNow = (
  context: Context.Context<never>,
  by: string,
  cause: Cause.Cause<unknown>,
  place?: Place
): void => {
  if (isNew(cause)) spawn(context, "log", logged(by, cause, place), () => {})
}

/** The error that a failure or a defect means. A typed failure beside a defect is the reason; both are told. */
export const errorOf = (by: string, cause: Cause.Cause<Failure>, place?: Place): Effect.Effect<Failure> =>
  Effect.as(logged(by, cause, place), fromCause(by, cause))

/** What an effect dies of is a `Defect` that it fails with. */
export const typed =
  (by: string, place?: Place) => <A, R>(effect: Effect.Effect<A, Failure, R>): Effect.Effect<A, Failure, R> =>
    Effect.catchCause(
      effect,
      (cause) => Cause.hasDies(cause) ? Effect.flatMap(errorOf(by, cause, place), Effect.fail) : Effect.failCause(cause)
    )

/** `errorOf`, from where there is no fiber. */
export const errorNow = (
  context: Context.Context<never>,
  by: string,
  cause: Cause.Cause<Failure>,
  place?: Place
): Failure => {
  logNow(context, by, cause, place)
  return fromCause(by, cause)
}

/** What a callback threw, or what it died of whatever it failed with, from where there is no fiber. */
export const defectNow = (
  context: Context.Context<never>,
  by: string,
  cause: Cause.Cause<unknown>,
  place?: Place
): Failure => {
  logNow(context, by, cause, place)
  return ConnectionError.make(new ConnectionError.Defect({ by, cause }))
}

/** `run`, a callback of an application without effects: what it throws is a `Defect`. */
export const guarded = <A>(by: string, run: () => A, place?: Place): Effect.Effect<A, Failure> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(run())
    } catch (thrown) {
      return Effect.flatMap(errorOf(by, Cause.die(thrown), place), Effect.fail)
    }
  })

/** Gives a connection its reason, and does not wait for its end: the scope that owns it closes next. */
export const condemn = (
  connection: { readonly closeWith: (reason: ConnectionError.Reason) => Effect.Effect<void> },
  error: Failure
): Effect.Effect<void> =>
  Effect.ignoreCause(Effect.raceFirst(Effect.suspend(() => connection.closeWith(error.reason)), Effect.void))

/** Tries several addresses, each a little after the one before, and takes the first that answers (RFC 8305, Happy Eyeballs). */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/** An address of a peer, with nothing to look up. */
export interface Target {
  readonly family: 4 | 6
  /** An IP address as text, with the name of its zone behind a `%` where it has one. */
  readonly host: string
  readonly port: number
}

/**
 * The order to try addresses in (RFC 8305, 4): the families take turns, beginning with that of the first address, and within
 * a family the order of the resolver stays.
 */
export const interleaved = (targets: ReadonlyArray<Target>): ReadonlyArray<Target> => {
  const first = targets.filter(({ family }) => family === targets[0]?.family)
  const others = targets.filter(({ family }) => family !== targets[0]?.family)
  return Array.from({ length: Math.max(first.length, others.length) }, (_, i) => [first[i], others[i]])
    .flat().filter((target) => target !== undefined)
}

/** When attempts begin and end, in milliseconds. */
export interface Pace {
  /** From the beginning of an attempt to that of the next one; less where the one before fails. */
  readonly attemptDelay: number
  /** How long one attempt may take; none is `Infinity`. */
  readonly attemptTimeout: number
}

/**
 * Connects to the first target that answers. An attempt goes on when the next one begins: slow is not dead. The others are
 * interrupted then. Where all fail, all errors come out, in the order of the targets.
 */
export const attempts = <A, E>(
  targets: ReadonlyArray<Target>,
  connect: (target: Target) => Effect.Effect<A, E>,
  { attemptDelay, attemptTimeout }: Pace,
  timedOut: (target: Target) => E
): Effect.Effect<A, ReadonlyArray<E>> => {
  const errors: Array<E> = []
  const from = (position: number): Effect.Effect<A, E> => {
    const target = targets[position]!
    const whole = connect(target)
    const limited = attemptTimeout === Infinity ? whole : Effect.timeoutOrElse(whole, {
      duration: attemptTimeout,
      orElse: () => Effect.fail(timedOut(target))
    })
    const one = Effect.tapError(limited, (error) => Effect.sync(() => void (errors[position] = error)))
    if (position === targets.length - 1) return one
    const failed = Latch.makeUnsafe(false)
    const turn = Effect.raceFirst(Effect.sleep(attemptDelay), failed.await)
    return Effect.race(
      Effect.tapError(one, () => failed.open),
      Effect.andThen(turn, Effect.suspend(() => from(position + 1)))
    )
  }
  return Effect.mapError(from(0), () => errors)
}

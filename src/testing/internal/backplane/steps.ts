/** What checks of engines are made of: nodes, bounded steps, and how a broken promise is reported. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Arrival, BackplaneError, Engine, Session } from "../../../Backplane.ts"
import { ContractViolation } from "../../Transport.ts"

/**
 * The engine under test.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subject {
  /** Starts every message of a violation: `redis`. */
  readonly name: string
  /** Begins an engine that knows nothing yet: a namespace of its own will do. */
  readonly open: Effect.Effect<Opened, unknown, Scope.Scope>
  /** The lease of nodes in the checks. Default 1 second, of the `Clock`. */
  readonly lease?: Duration.Input | undefined
  /** The longest one step of a check may take. Default 5 seconds, of the `Clock`. */
  readonly deadline?: Duration.Input | undefined
}

/**
 * An engine that runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Opened {
  /** What one node talks to the engine with; each node of a check has its own. */
  readonly connect: Effect.Effect<Engine, unknown, Scope.Scope>
  /** Makes the engine lose all that it knows, as one that comes back empty. Left out, that is not checked. */
  readonly wipe?: Effect.Effect<void> | undefined
}

/**
 * One promise of the contract, as something to run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Check {
  /** A sentence that is true of a conforming engine. Unique. */
  readonly name: string
  /** Fails with what is broken, within a minute of the `Clock`. */
  readonly run: (subject: Subject) => Effect.Effect<void, ContractViolation>
}

/** A promise that was not kept. */
export class Broken extends Data.TaggedError("Broken")<{ readonly expected: string; readonly seen: string }> {}

const text = (value: unknown): string =>
  JSON.stringify(value, (_, value) => value === Infinity ? "Infinity" : value) ?? "nothing"

/** Fails unless something holds. */
export const expect = (holds: boolean, expected: string, seen: unknown): Effect.Effect<void, Broken> =>
  holds ? Effect.void : Effect.fail(new Broken({ expected, seen: text(seen) }))

/** What a check has: nodes that join, and time. */
export interface Bench {
  readonly lease: number
  readonly wipe: Effect.Effect<void> | undefined
  /** A node of its own, with an engine of its own. */
  readonly join: (name: string) => Effect.Effect<Session, Broken, Scope.Scope>
  readonly engine: Engine
  /** A step that has to succeed in time. */
  readonly does: <A>(what: string, effect: Effect.Effect<A, BackplaneError>) => Effect.Effect<A, Broken>
  /** A step that has to fail in time; with why it failed. */
  readonly fails: (
    what: string,
    effect: Effect.Effect<unknown, BackplaneError>
  ) => Effect.Effect<BackplaneError["reason"], Broken>
  /** Takes until so many batches have come or are told as lost. */
  readonly take: (session: Session, count: number) => Effect.Effect<ReadonlyArray<Arrival>, Broken>
}

const minute = "1 minute"

const benchOf = (subject: Subject) =>
  Effect.gen(function*() {
    const deadline = Duration.fromInputUnsafe(subject.deadline ?? "5 seconds")
    const lease = Duration.toMillis(subject.lease ?? "1 second")
    const within = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>) =>
      Effect.timeoutOrElse(effect, {
        duration: deadline,
        orElse: () => Effect.fail(new Broken({ expected: what, seen: `nothing within ${Duration.format(deadline)}` }))
      })
    const does = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, Broken, R> =>
      Effect.catch(
        within(what, effect),
        (error) => Effect.fail(error instanceof Broken ? error : new Broken({ expected: what, seen: String(error) }))
      )
    const { connect, wipe } = yield* does("the engine to begin", subject.open)
    const engine = yield* does("a connection to the engine", connect)
    const bench: Bench = {
      lease,
      wipe,
      engine,
      join: (node) =>
        Effect.gen(function*() {
          const engine = yield* does("a connection to the engine", connect)
          return yield* does(`node ${node} to join`, engine.join({ node, lease }))
        }),
      does,
      fails: (what, effect) =>
        Effect.flatMap(Effect.result(within(what, effect)), (result) => {
          if (result._tag === "Success") return Effect.fail(new Broken({ expected: what, seen: "success" }))
          return result.failure instanceof Broken ? Effect.fail(result.failure) : Effect.succeed(result.failure.reason)
        }),
      take: (session, count) =>
        does(
          `${count} batches to come, or to be told as lost`,
          Effect.gen(function*() {
            const all: Array<Arrival> = []
            let seen = 0
            while (seen < count) {
              for (const arrival of yield* session.take) {
                all.push(arrival)
                seen += arrival._tag === "Batch" ? 1 : arrival.count ?? count
              }
            }
            return all
          })
        )
    }
    return bench
  })

/** Makes a check of its body. */
export const check = (name: string, body: (bench: Bench) => Effect.Effect<void, Broken, Scope.Scope>): Check => ({
  name,
  run: (subject) =>
    Effect.scoped(Effect.flatMap(benchOf(subject), body)).pipe(
      Effect.timeoutOrElse({
        duration: minute,
        orElse: () => Effect.fail(new Broken({ expected: "the check to end", seen: "that it runs for a minute" }))
      }),
      Effect.catchCause((cause) => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
        const failure = cause.reasons.find(Cause.isFailReason)?.error
        const { expected, seen } = failure ?? { expected: "no defect", seen: String(Cause.squash(cause)) }
        return Effect.fail(new ContractViolation({ transport: subject.name, check: name, expected, seen }))
      })
    )
})

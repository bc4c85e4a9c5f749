/** One session of a client: it dials, greets, and follows the connection to its end. */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import type { Policy } from "../../Policy.ts"
import { limitOf } from "../connection/core/limits.ts"
import { condemn, errorOf } from "../endings/defects.ts"
import { withinHandshake } from "../endings/timeLimit.ts"
import { restarted } from "../scheduling/supervised.ts"
import type { AnyConnection, ClientCells } from "./state.ts"

type Failure = ConnectionError.ConnectionError

export interface SessionOptions<in C, out R> {
  readonly policy: Policy
  readonly onConnect: ((connection: C) => Effect.Effect<unknown, unknown, R>) | undefined
}

/** How a session went. */
export interface SessionOutcome {
  readonly error: Failure
  /** For how long the connection was in use, in milliseconds; `undefined` when there was none. */
  readonly livedFor: number | undefined
}

const failedHandshake = (cause: unknown) => ConnectionError.make(new ConnectionError.HandshakeFailed({ cause }))

/** An interruption that `open` or `onConnect` brought about itself is a failed handshake. */
const endOf = (by: string, cause: Cause.Cause<Failure>): Effect.Effect<Failure> =>
  Cause.hasInterruptsOnly(cause) ? Effect.succeed(failedHandshake(Cause.squash(cause))) : errorOf(by, cause)

/** Runs `onConnect` within `Policy.handshake`. */
const greet = <C, R>(
  connection: C,
  { onConnect, policy }: SessionOptions<C, R>
): Effect.Effect<unknown, Failure, R> => {
  return onConnect === undefined ? Effect.void : withinHandshake(limitOf(policy, "handshake"))(onConnect(connection))
}

/** Follows a peer that asks us to leave: it gets no more messages, and `Policy.drain` to send its last answers and hang up. */
const hangUp = <C extends AnyConnection>(
  cells: ClientCells<C>,
  connection: C,
  drain: Duration.Duration
): Effect.Effect<never> =>
  connection.leaving.pipe(
    Effect.andThen(Effect.suspend(() => {
      cells.leave(connection)
      return Effect.sleep(drain)
    })),
    Effect.andThen(Effect.suspend(() => connection.closeWith(new ConnectionError.GoingAway({})))),
    Effect.catchCauseIf(Cause.hasDies, (cause) =>
      Effect.flatMap(errorOf("leaving", cause, connection), ({ reason }) => connection.closeWith(reason))),
    // the session follows the connection to its end
    Effect.andThen(Effect.never)
  )

/** Waits for the first sign of the end, which is enough to dial again; but a close of our own may flush. */
const ended = <C extends AnyConnection>(cells: ClientCells<C>, connection: C): Effect.Effect<never, Failure> =>
  Effect.catch(connection.ending, (ending) => {
    cells.current = undefined
    return Effect.flatMap(
      connection.snapshot,
      (snapshot) => snapshot.state === "closing" ? connection.closed : Effect.fail(ending)
    )
  })

/** Never fails: how it ended is its outcome. `now` is milliseconds of the monotonic clock. */
export const session = <C extends AnyConnection, R>(
  cells: ClientCells<C>,
  dial: Effect.Effect<C, Failure, R>,
  options: SessionOptions<C, R>,
  now: () => number
): Effect.Effect<SessionOutcome, never, Exclude<R, Scope.Scope>> =>
  Effect.suspend(() => {
    let opened: C | undefined
    let connectedAt: number | undefined
    cells.running = "open"
    return Effect.gen(function*() {
      const connection = yield* dial
      opened = connection
      cells.running = "onConnect"
      yield* greet(connection, options)
      cells.running = "ending"
      connectedAt = now()
      cells.connected = connection
      cells.current = connection
      cells.sources = [...cells.sources, connection]
      cells.publish({ _tag: "Connected", connection })
      yield* restarted("the leaving of a client", hangUp(cells, connection, options.policy.drain))
      return yield* ended(cells, connection)
    }).pipe(
      // while the scope is open: the connection ends with that reason, too
      Effect.catchCauseIf(Cause.hasDies, (cause) =>
        Effect.flatMap(errorOf(cells.running, cause, opened), (error) =>
          Effect.andThen(opened === undefined ? Effect.void : condemn(opened, error), Effect.fail(error)))),
      Effect.scoped,
      Effect.sandbox,
      Effect.flip,
      Effect.flatMap((cause) =>
        endOf(cells.running, cause)
      ),
      Effect.ensuring(Effect.suspend(() => {
        cells.connected = undefined
        cells.current = undefined
        return opened === undefined ? Effect.void : Effect.map(opened.snapshot, (snapshot) => {
          cells.lost += snapshot.lost
        })
      })),
      Effect.map((error) => ({ error, livedFor: connectedAt === undefined ? undefined : now() - connectedAt }))
    )
  })

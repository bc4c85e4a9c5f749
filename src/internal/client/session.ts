/** One session of a client: it dials, greets, and follows the connection to its end. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as ConnectionError from "../../ConnectionError.ts"
import type { Policy } from "../../Policy.ts"
import { limitOf } from "../connection/core/limits.ts"
import { TypeId } from "../connection/handle/internals.ts"
import { WhenOpen } from "../connection/handle/opening.ts"
import { condemn, errorOf } from "../endings/defects.ts"
import { inside } from "../endings/inside.ts"
import { within, withinHandshake } from "../endings/timeLimit.ts"
import { withoutStack } from "../reasons/reason.ts"
import { restarted } from "../scheduling/supervised.ts"
import { traced } from "../telemetry/spans.ts"
import { type Telemetry, timed } from "../telemetry/telemetry.ts"
import type { AnyConnection, ClientCells } from "./state.ts"

const dials = { counter: "client_dials_total", histogram: "client_dial_seconds", success: "opened" } as const

type Failure = ConnectionError.ConnectionError

export interface SessionOptions<in C, out R> {
  readonly policy: Policy
  /** Whether a connection is in use only once a byte of its peer has come. */
  readonly confirms: boolean
  readonly onConnect: ((connection: C) => Effect.Effect<unknown, unknown, R>) | undefined
  readonly telemetry: Telemetry | undefined
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

/** The end of what `Client.reconnect` replaces. */
export const renewed = withoutStack(() =>
  ConnectionError.make(new ConnectionError.Closed({ by: "local", note: "for a fresh connection" }))
)

/** Fails as soon as the client is asked to start over. */
const unlessRenewed = <C, A, E, R>(
  cells: ClientCells<C>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | Failure, R> =>
  Effect.suspend(() => {
    const asked = Deferred.makeUnsafe<never, Failure>()
    cells.renew = Effect.sync(() => {
      cells.isRenewing = true
      Deferred.doneUnsafe(asked, Exit.fail(renewed))
    })
    return Effect.raceFirst(effect, Deferred.await(asked))
  })

/** How long opening may take, whatever comes before the dial; and then what `open` does with a transport that is open. */
const open = <C, R>(dial: Effect.Effect<C, Failure, R>, policy: Policy): Effect.Effect<C, Failure, R> =>
  Effect.suspend(() => {
    const isOpen = Deferred.makeUnsafe<void>()
    const dialling = Effect.provideService(dial, WhenOpen, () => void Deferred.doneUnsafe(isOpen, Exit.void))
    const opening = within(ConnectionError.OpenTimeout, limitOf(policy, "open"))(Deferred.await(isOpen))
    const greeting = within(ConnectionError.HandshakeTimeout, limitOf(policy, "handshake"))(Effect.never)
    return Effect.raceFirst(dialling, Effect.andThen(opening, greeting))
  })

/**
 * Waits for the first byte. A ping is a word of ours that needs an answer: without one, a server that speaks when it is spoken to
 * stays silent. It passes data that waits, and what `onConnect` sent goes first.
 */
const firstByte = (connection: AnyConnection): Effect.Effect<void, Failure> =>
  Effect.suspend(() => {
    const { untilHeard } = connection[TypeId]
    if (untilHeard === undefined) return Effect.void
    const heard = Effect.callback<void>((resume) => untilHeard(() => resume(Effect.void)))
    return Effect.raceFirst(Effect.andThen(connection.flush, heard), connection.ending)
  })

/** Runs `onConnect`, and waits for the first byte where that is asked for, within `Policy.handshake`. */
const greet = <C extends AnyConnection, R>(
  cells: ClientCells<C>,
  connection: C,
  { confirms, onConnect, policy }: SessionOptions<C, R>
): Effect.Effect<unknown, Failure, R> => {
  if (onConnect === undefined && !confirms) return Effect.void
  const hook = onConnect === undefined ? Effect.void : Effect.suspend(() => onConnect(connection))
  const greeting = confirms ? Effect.andThen(hook, firstByte(connection)) : hook
  return unlessRenewed(cells, withinHandshake(limitOf(policy, "handshake"))(greeting))
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

/** Counts what the connection had accepted, and what of that cannot be known to have arrived. */
const count = <C extends AnyConnection>(cells: ClientCells<C>, connection: C): Effect.Effect<void> =>
  Effect.map(connection.snapshot, ({ dropped, lost, messagesOut }) => {
    cells.lost += lost
    if (connection[TypeId].untilHeard !== undefined) cells.unknown += messagesOut - dropped - lost
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
    cells.isRenewing = false
    const trying = Effect.gen(function*() {
      const connection = yield* unlessRenewed(
        cells,
        traced("holdfast.dial")(timed(options.telemetry, now, dials)(open(dial, options.policy)))
      )
      opened = connection
      cells.running = "onConnect"
      yield* greet(cells, connection, options)
      return connection
    })
    return Effect.gen(function*() {
      const connection = yield* inside(cells, trying)
      cells.running = "ending"
      cells.renew = Effect.suspend(() => {
        cells.isRenewing = true
        cells.leave(connection)
        return condemn(connection, renewed)
      })
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
        return opened === undefined ? Effect.void : count(cells, opened)
      })),
      Effect.map((error) => ({ error, livedFor: connectedAt === undefined ? undefined : now() - connectedAt }))
    )
  })

/** A limit on how long an effect may take, with the reason that it fails with beyond. */
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"

interface Limit {
  /** In milliseconds, as the reason says it. `Infinity` is none. */
  readonly limit: number
}

/** Fails with `Reason` once `limit` milliseconds have passed. */
export const within = (
  Reason: new(
    facts: Limit
  ) => ConnectionError.OpenTimeout | ConnectionError.HandshakeTimeout | ConnectionError.RequestTimeout,
  limit: number
) =>
<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | ConnectionError.ConnectionError, R> =>
  limit === Infinity ? effect : Effect.timeoutOrElse(effect, {
    duration: limit,
    orElse: () => Effect.fail(ConnectionError.make(new Reason({ limit })))
  })

/** What a handshake failed with: `HandshakeFailed`, unless it is a `ConnectionError` already. */
export const handshakeFailure = (cause: unknown): ConnectionError.ConnectionError =>
  cause instanceof ConnectionError.ConnectionError
    ? cause
    : ConnectionError.make(new ConnectionError.HandshakeFailed({ cause }))

/** Runs a handshake within its limit. */
export const withinHandshake =
  (limit: number) =>
  <A, E, R>(handshake: Effect.Effect<A, E, R>): Effect.Effect<A, ConnectionError.ConnectionError, R> =>
    Effect.mapError(within(ConnectionError.HandshakeTimeout, limit)(handshake), handshakeFailure)

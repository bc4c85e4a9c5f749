/** A limit on how long an effect may take, with the reason that it fails with beyond. */
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"

interface Limit {
  /** In milliseconds, as the reason says it. `Infinity` is none. */
  readonly limit: number
}

/** Fails with `Reason` once `limit` milliseconds have passed, of which `left` are left. */
export const within = (
  Reason: new(
    facts: Limit
  ) => ConnectionError.OpenTimeout | ConnectionError.HandshakeTimeout | ConnectionError.RequestTimeout,
  limit: number,
  left = limit
) =>
<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | ConnectionError.ConnectionError, R> =>
  limit === Infinity ? effect : Effect.timeoutOrElse(effect, {
    duration: Math.max(0, left),
    orElse: () => Effect.fail(ConnectionError.make(new Reason({ limit })))
  })

/** Runs a handshake within its limit. What it fails with is `HandshakeFailed`, unless it is a `ConnectionError` already. */
export const withinHandshake =
  (limit: number, left = limit) =>
  <A, E, R>(handshake: Effect.Effect<A, E, R>): Effect.Effect<A, ConnectionError.ConnectionError, R> =>
    Effect.mapError(
      within(ConnectionError.HandshakeTimeout, limit, left)(handshake),
      (cause) =>
        cause instanceof ConnectionError.ConnectionError
          ? cause
          : ConnectionError.make(new ConnectionError.HandshakeFailed({ cause }))
    )

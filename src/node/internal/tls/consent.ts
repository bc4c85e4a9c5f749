/** Waits until a server has taken our certificate, as far as that can be known. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import type * as Tls from "node:tls"
import { errorOf, openError } from "../stream/duplex.ts"
import { type Consents, isAsked } from "./refusals.ts"

/** Run when a dialler begins to wait for the answer to a certificate. */
export const OnWaiting: Context.Reference<Effect.Effect<void>> = Context.Reference<Effect.Effect<void>>(
  "holdfast/node/OnWaiting",
  { defaultValue: () => Effect.void }
)

const unanswered = "the server ended the connection without a word: it may not accept our certificate"

/** A byte of the server, or a session ticket, which a server gives to a client that it has accepted. */
const answer = (conn: Tls.TLSSocket, isDoubtful: boolean): Effect.Effect<void, Socket.SocketError> =>
  Effect.callback((resume) => {
    let later: NodeJS.Immediate | undefined
    const cleanup = (): void => {
      clearImmediate(later)
      conn.off("session", onSession)
      conn.off("readable", onReadable)
      conn.off("end", onEnd)
      conn.off("close", onEnd)
    }
    const done = (result: Effect.Effect<void, Socket.SocketError>): void => {
      cleanup()
      resume(result)
    }
    const failure = Effect.suspend(() => Effect.fail(openError(errorOf(conn, conn.errored ?? new Error(unanswered)))))
    // Node makes tickets before it looks at a certificate: an alert comes with them, and a stream goes over from `readable` to
    // `data` in the next tick
    const onSession = (): void => {
      conn.off("readable", onReadable)
      later ??= setImmediate(() => done(conn.destroyed ? failure : Effect.void))
    }
    const onReadable = (): void => {
      if (conn.readableLength > 0) onSession()
      // a stream tells of its end only to what reads it
      else conn.read()
    }
    const onEnd = (): void => done(failure)
    if (!isDoubtful) conn.once("session", onSession)
    conn.on("readable", onReadable)
    conn.once("end", onEnd)
    conn.once("close", onEnd)
    return Effect.sync(cleanup)
  })

/**
 * In TLS 1.3 a client is done before the server has looked at its certificate: where one was asked for, this waits until the
 * server has said something, at most for `limit` milliseconds. Silence is taken for consent then, which it need not be. Where a
 * connection before ended without a word, a session ticket is no answer, and a server of TLS 1.2 is waited for as well.
 */
export const consent = (
  conn: Tls.TLSSocket,
  limit: number,
  { isDoubtful }: Pick<Consents, "isDoubtful">
): Effect.Effect<void, Socket.SocketError> =>
  Effect.suspend(() => {
    if (limit === 0 || !isAsked(conn) || (conn.getProtocol() !== "TLSv1.3" && !isDoubtful)) return Effect.void
    return Effect.andThen(
      Effect.flatMap(OnWaiting, (tell) => tell),
      Effect.asVoid(Effect.timeoutOption(answer(conn, isDoubtful), limit))
    )
  })

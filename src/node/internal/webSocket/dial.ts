/** The client's side of an upgrade, on a connection that is open already. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Socket from "effect/socket/Socket"
import * as Crypto from "node:crypto"
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import type { Compression } from "../../../internal/transport/compression.ts"
import { agreedTo, offerOf } from "../deflate/negotiation.ts"
import type { Deflating } from "../deflate/options.ts"
import { errorOf, openError } from "../stream/duplex.ts"
import { listed } from "../upgrade/request.ts"
import type { Asking } from "./asking.ts"
import { acceptOf } from "./key.ts"
import { refusal, violation } from "./refusal.ts"

/** What to ask for, and of which host. */
export interface Target extends Asking {
  /** The header `Host`. */
  readonly host: string
  /** The path and the query. */
  readonly path: string
  /** What to offer of compression. */
  readonly deflate?: Deflating | undefined
}

/** A connection that was upgraded: what comes next on it are frames. Nothing reads from it. */
export interface Upgraded {
  readonly conn: Duplex
  /** The first bytes of the frames. */
  readonly head: Buffer
  /** The subprotocol that the server agreed to. */
  readonly protocol: string | undefined
  readonly headers: Http.IncomingHttpHeaders
  readonly compression: Compression | undefined
}

/** What is wrong with a 101 (RFC 6455, 4.1), as a sentence. */
const wrongIn = (
  headers: Http.IncomingHttpHeaders,
  key: string,
  offered: ReadonlyArray<string>
): string | undefined => {
  if (headers.upgrade?.toLowerCase() !== "websocket") return "the server upgrades to something else than a WebSocket"
  if (!listed(headers.connection).some((one) => one.toLowerCase() === "upgrade")) {
    return "the 101 upgrades no connection"
  }
  if (headers["sec-websocket-accept"] !== acceptOf(key)) return "the 101 answers another key (Sec-WebSocket-Accept)"
  const protocol = headers["sec-websocket-protocol"]
  return protocol !== undefined && !offered.includes(protocol)
    ? "the server chose a subprotocol that was not offered"
    : undefined
}

const headersOf = ({ deflate, headers, host, protocols }: Target, key: string): Http.OutgoingHttpHeaders => ({
  host,
  ...headers,
  connection: "Upgrade",
  upgrade: "websocket",
  "sec-websocket-key": key,
  "sec-websocket-version": "13",
  ...(protocols.length === 0 ? {} : { "sec-websocket-protocol": protocols.join(", ") }),
  ...(deflate === undefined ? {} : { "sec-websocket-extensions": offerOf(deflate) })
})

/**
 * Asks for the upgrade, and reads the answer. A connection that is not upgraded, by whatever cause, is destroyed; one that is
 * belongs to the caller, who also bounds the time.
 */
export const upgrade = (conn: Net.Socket, target: Target): Effect.Effect<Upgraded, Socket.SocketError> =>
  Effect.clockWith((clock: Clock.Clock) =>
    Effect.callback((resume) => {
      const key = Crypto.randomBytes(16).toString("base64")
      const fail = (error: Socket.SocketError): void => {
        conn.destroy()
        resume(Effect.fail(error))
      }
      // a request on it would hear of nothing
      if (conn.destroyed) return fail(openError(errorOf(conn, conn.errored ?? new Error("the connection ended"))))
      try {
        const request = Http.request({
          method: "GET",
          path: target.path,
          headers: headersOf(target, key),
          createConnection: () => conn
        })
        // also what goes wrong once the answer is known
        request.on("error", (cause) => fail(openError(errorOf(conn, conn.errored ?? cause))))
        request.once("response", (response) => {
          fail(
            response.statusCode === 101
              ? violation("the 101 upgrades no connection")
              : refusal(response, clock.currentTimeMillisUnsafe())
          )
        })
        request.once("upgrade", ({ headers }, stream, head) => {
          const wrong = wrongIn(headers, key, target.protocols)
          if (wrong !== undefined) return fail(violation(wrong))
          const agreed = agreedTo(target.deflate, headers["sec-websocket-extensions"])
          if (Result.isFailure(agreed)) return fail(violation(agreed.failure))
          const protocol = headers["sec-websocket-protocol"]
          resume(Effect.succeed({ conn: stream, head, protocol, headers, compression: agreed.success }))
        })
        request.end()
      } catch (cause) {
        fail(openError(cause))
      }
      return Effect.sync(() => conn.destroy())
    })
  )

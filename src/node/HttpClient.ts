/**
 * Sends HTTP requests over kept connections within the limits of a `Policy`.
 *
 * Requests are sent by undici, through Effect's `HttpClient`. Here are its settings in the words of a policy, and the
 * one thing a client of kept connections has to do: send again what met a connection that the server was just closing.
 *
 * @since 0.1.0
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import Undici, { type errors } from "@effect/platform-node/Undici"
import * as Effect from "effect/Effect"
import * as EffectHttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Tls from "node:tls"
import * as Policy from "../Policy.ts"
import * as Dialer from "./Dialer.ts"
import { limitOf, warnOf } from "./internal/options.ts"
import { setTcp, tcpOf } from "./internal/stream/tcp.ts"
import { tlsOptions } from "./internal/tls/material.ts"

/**
 * How to send. Every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * The limits. In the words of HTTP:
   *
   * - `open`: dialling, TLS included.
   * - `silence`: from the request until the head of the answer, and between two parts of its body; noticed up to a
   *   second late. Raise it, or turn it off, for answers that take long.
   * - `idle`: how long an unused connection is kept. Off, it is what the server says (`Keep-Alive: timeout`)
   *   less a second, or 4 seconds where it says nothing: less than the 5 seconds after which common servers close.
   *   `idle` bounds what the server says, too.
   * - `maxConnectionsPerAddress`: connections to one origin; further requests wait for one. 0 is no limit.
   * - `maxRequests`: requests of one connection.
   * - `maxHeader`: the longest head of an answer.
   * - `keepAlive`, `keepAliveInterval`, `keepAliveCount`, `noDelay`: of TCP.
   */
  readonly policy?: Policy.Patch | undefined
  /**
   * Whether the same request may reach the server twice, which decides whether it is sent again. Default: the methods
   * that RFC 9110 (9.2.2) says so of, and any request with an `Idempotency-Key` header.
   */
  readonly isIdempotent?: ((request: HttpClientRequest) => boolean) | undefined
  /** Certificates (PEM) of authorities to trust instead of Node's. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /** A client certificate, as PEM, for servers that ask for one; needs `key`. */
  readonly cert?: string | Uint8Array | undefined
  /** The private key of `cert`, as PEM. */
  readonly key?: string | Uint8Array | Redacted.Redacted<string | Uint8Array> | undefined
  /** Opens an encrypted `key`. */
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
}

// RFC 9110, 9.2.2
const idempotentMethods = new Set<string>(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])

const isIdempotentByName = (request: HttpClientRequest): boolean =>
  idempotentMethods.has(request.method) || request.headers["idempotency-key"] !== undefined

/** A stream may have been read already. */
const isReplayable = ({ body }: HttpClientRequest): boolean =>
  body._tag === "Empty" || body._tag === "Uint8Array" || body._tag === "FormData"

// less a second: what the server says has to travel, and our request as well
const margin = 1_000
// Node, Apache and others close after 5 seconds where they are not told otherwise
const unsaidIdle = 4_000
// undici's own bound on what a server may say
const longestIdle = 600_000

/**
 * Makes a client, whose connections are destroyed when the scope closes.
 *
 * **Details**
 *
 * - A connection is used for one request at a time, and then kept for the next one to the same origin.
 * - A server may close a kept connection in the moment in which a request is sent on it. Then it is unknown whether the
 *   server saw the request. An idempotent one whose body can be sent again (none, bytes, or a form) is sent once more;
 *   any other fails with an `HttpClientError` (`TransportError`), and so does one that fails on a fresh connection,
 *   or for the second time.
 *
 * A policy that makes no sense throws its `InvalidPolicy` here, before anything runs. Certificates and keys that cannot
 * be used fail with a `DialFailed` (`BadTls`).
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options = {}
): Effect.Effect<EffectHttpClient.HttpClient, Dialer.DialFailed, Scope.Scope> => {
  const policy = Policy.make(options.policy)
  const isIdempotent = options.isIdempotent ?? isIdempotentByName
  const tcp = tcpOf(policy)
  const idle = limitOf(policy.idle)
  const silence = limitOf(policy.silence)
  // errors of connections that had carried an answer before
  const onKept = new WeakSet<object>()

  const isReuseRace = ({ reason }: HttpClientError): boolean => {
    if (reason._tag !== "TransportError" || typeof reason.cause !== "object" || reason.cause === null) return false
    const cause = reason.cause as Partial<errors.SocketError>
    return onKept.has(cause) || (cause.code === "UND_ERR_SOCKET" && (cause.socket?.bytesRead ?? 0) > 0)
  }

  return Effect.gen(function*() {
    yield* warnOf(policy)
    const tls = yield* Effect.mapError(
      Effect.fromResult(tlsOptions(options)),
      (detail) => new Dialer.DialFailed({ url: "https://*", reason: "BadTls", detail })
    )
    const dial = Undici.buildConnector({
      ...tcp,
      secureContext: Tls.createSecureContext(tls),
      timeout: limitOf(policy.open),
      allowH2: false
    })
    const connect: typeof dial = (to, done) =>
      dial(to, (...result) => {
        const [, conn] = result
        if (conn) {
          // undici sets no more than when the first probe is sent
          setTcp(conn, tcp)
          conn.on("error", (error) => {
            if (conn.bytesRead > 0) onKept.add(error)
          })
        }
        done(...result)
      })
    const agent = yield* NodeHttpClient.makeDispatcherOptions({
      connect,
      pipelining: 1,
      connections: policy.maxConnectionsPerAddress || null,
      keepAliveTimeout: idle || unsaidIdle,
      keepAliveMaxTimeout: idle || longestIdle,
      keepAliveTimeoutThreshold: margin,
      maxRequestsPerClient: policy.maxRequests,
      maxHeaderSize: policy.maxHeader
    })
    // Effect's client sets both for each request
    const dispatcher = agent.compose((dispatch) => (request, handler) =>
      dispatch({ ...request, headersTimeout: silence, bodyTimeout: silence }, handler)
    )
    const client = yield* Effect.provideService(NodeHttpClient.makeUndici, NodeHttpClient.Dispatcher, dispatcher)
    return EffectHttpClient.transform(client, (attempt, request) =>
      isReplayable(request) && isIdempotent(request)
        ? Effect.catchIf(attempt, isReuseRace, () => attempt)
        : attempt)
  })
}

/**
 * Provides `HttpClient` of `effect/http`; see `make`.
 *
 * **Example** (A request with retries of one's own on top)
 *
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import * as Http from "effect/http/HttpClient"
 * import { HttpClient } from "holdfast/node"
 *
 * export const program = Effect.gen(function*() {
 *   const response = yield* Http.get("http://127.0.0.1:8080/health")
 *   yield* Effect.log(yield* response.text)
 * }).pipe(
 *   Effect.retry({ schedule: Schedule.exponential("100 millis"), times: 3 }),
 *   Effect.provide(HttpClient.layer({ policy: { maxConnectionsPerAddress: 8, silence: "10 seconds" } }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<EffectHttpClient.HttpClient, Dialer.DialFailed> =>
  Layer.effect(EffectHttpClient.HttpClient, make(options))

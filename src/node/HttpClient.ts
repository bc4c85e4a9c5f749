/**
 * Sends HTTP requests over kept connections within the limits of a `Policy`.
 *
 * Requests are sent by undici, through Effect's `HttpClient`. Here are its settings in the words of a policy, and the
 * one thing a client of kept connections has to do: send again what met a connection that the server was just closing.
 *
 * @since 0.1.0
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import Undici from "@effect/platform-node/Undici"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as EffectHttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Tls from "node:tls"
import * as Supervised from "../internal/scheduling/supervised.ts"
import * as Policy from "../Policy.ts"
import * as Dialer from "./Dialer.ts"
import * as Agent from "./internal/httpClient/agent.ts"
import { proxied } from "./internal/httpClient/proxied.ts"
import * as Unread from "./internal/httpClient/unread.ts"
import { limitOf, warnOf } from "./internal/options.ts"
import { setTcp, tcpOf } from "./internal/stream/tcp.ts"
import { tlsOptions } from "./internal/tls/material.ts"
import { environment } from "./internal/tunnel/environment.ts"
import { gateFor } from "./internal/tunnel/gate.ts"
import { gateOf } from "./internal/tunnel/through.ts"
import type * as Proxy from "./Proxy.ts"

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
   *   second late. Raise it, or turn it off, for answers that take long. Interim answers (1xx) and a head that comes
   *   byte by byte do not extend it. A body whose reading has not begun after `silence`, or at the latest after twice
   *   `silence`, and that fills its buffer (64 KiB) ends with its connection; that is logged. Once reading has begun,
   *   the application may take as long as it likes.
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
  /**
   * A proxy to dial each origin through, also those of `http`: with `CONNECT`, or SOCKS5. See `Proxy.Through`; `"environment"` is that
   * of `Dialer.DialOptions`, with `HTTPS_PROXY` for `https` and `HTTP_PROXY` for `http`. Default none.
   *
   * What the proxy says instead is a `Proxy.ProxyRefused` as the cause of the error, and never taken for an answer of the origin:
   * that is why a request of `http` goes through `CONNECT` as well, and is not sent to the proxy in absolute form (RFC 9112,
   * 3.2.2). A proxy that has `CONNECT` for port 443 alone (Squid, unless its `SSL_ports` say more) refuses it with 403.
   */
  readonly proxy?: string | Redacted.Redacted<string> | Proxy.Through | undefined
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
const noUndici = "this runtime (Bun) has no undici, whose connections `HttpClient` of holdfast/node keeps: " +
  "use `FetchHttpClient.layer` of effect/http"
// undici's own bound on what a server may say
const longestIdle = 600_000

/**
 * Makes a client, whose connections are destroyed when the scope closes.
 *
 * **Details**
 *
 * - A connection is used for one request at a time, and then kept for the next one to the same origin.
 * - A server may close a kept connection in the moment in which a request is sent on it. Then it is unknown whether the
 *   server saw the request. An idempotent one whose body can be sent again (none, bytes, or a form) is sent once more,
 *   where the connection had carried a complete answer before and not one byte of this answer came. Any other fails
 *   with an `HttpClientError` (`TransportError`), and reaches the server once: on a fresh connection, after the first
 *   byte (half a head, an interim answer), at a limit, at a fault of HTTP, or for the second time.
 * - A `100 Continue` that was not asked for is skipped. Other interim answers are skipped, too.
 *
 * A policy that makes no sense throws its `InvalidPolicy` here, before anything runs. Certificates and keys that cannot
 * be used fail with a `DialFailed` (`BadTls`).
 *
 * **Gotchas**
 *
 * Bun has a client of its own in place of undici, without its limits: there it fails with a `DialFailed` (`BadOption`). Use
 * `FetchHttpClient` of `effect/http`.
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
  const raced = new WeakSet<object>()

  const isReuseRace = ({ reason }: HttpClientError): boolean =>
    reason._tag === "TransportError" && typeof reason.cause === "object" && reason.cause !== null &&
    raced.has(reason.cause)

  return Effect.gen(function*() {
    yield* warnOf(policy)
    // undici is replaced by what cannot do it
    if (!("compose" in Undici.Agent.prototype)) {
      return yield* new Dialer.DialFailed({ url: "http://*", reason: "BadOption", detail: noUndici })
    }
    const tls = yield* Effect.mapError(
      Effect.fromResult(tlsOptions(options)),
      (detail) => new Dialer.DialFailed({ url: "https://*", reason: "BadTls", detail })
    )
    const variables = options.proxy === "environment" ? yield* environment : undefined
    // of one that was given each origin has the same
    const given = variables === undefined && options.proxy !== undefined
      ? yield* Effect.mapError(
        Effect.fromResult(gateOf(options.proxy)),
        (detail) => new Dialer.DialFailed({ url: "https://*", reason: "BadOption", detail: `\`proxy\` ${detail}` })
      )
      : undefined
    const dial = Undici.buildConnector({
      ...tcp,
      secureContext: Tls.createSecureContext(tls),
      timeout: limitOf(policy.open),
      allowH2: false
    })
    const context = yield* Effect.context<never>()
    const dialling = new Set<Fiber.Fiber<unknown, unknown>>()
    const through = options.proxy === undefined ? dial : proxied(
      dial,
      (address) => given === undefined ? gateFor(address, options.proxy, variables) : Result.succeed(given),
      { open: limitOf(policy.open), tcp },
      context,
      dialling
    )
    const connect: typeof dial = (to, done) =>
      through(to, (...result) => {
        const [, conn] = result
        if (conn) {
          // undici sets no more than when the first probe is sent
          setTcp(conn, tcp)
        }
        done(...result)
      })
    const agent = yield* Effect.acquireRelease(
      Effect.sync(() =>
        Agent.make({
          pipelining: 1,
          connections: policy.maxConnectionsPerAddress || null,
          keepAliveTimeout: idle || unsaidIdle,
          keepAliveMaxTimeout: idle || longestIdle,
          keepAliveTimeoutThreshold: margin,
          maxRequestsPerClient: policy.maxRequests,
          maxHeaderSize: policy.maxHeader
        }, { dial: connect, silence, raced, maxHeader: policy.maxHeader })
      ),
      (agent) =>
        Effect.promise(() => {
          for (const fiber of dialling) fiber.interruptUnsafe()
          return agent.destroy()
        })
    )
    Unread.follow(agent, silence, (message) => Supervised.log(context, message, Cause.empty))
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

/**
 * What says where the body of an answer ends.
 *
 * - `"None"`: there is no body (an answer to HEAD, 204, 304).
 * - `"Length"`: `Content-Length`. A shorter body fails.
 * - `"Chunks"`: `Transfer-Encoding: chunked`. A body without its last chunk fails.
 * - `"Connection"`: only the end of the connection (FIN). A body that was cut there looks complete.
 *
 * @category models
 * @since 0.1.0
 */
export type BodyEnd = "None" | "Length" | "Chunks" | "Connection"

/**
 * Says what ends the body of an answer: use it where a body that was cut must not be taken for a complete one.
 *
 * **Gotchas**
 *
 * With `"Connection"` nothing tells a complete body from a cut one: a server or a proxy that dies ends its connection in
 * the same way. Check what the body itself says (a closing bracket, a checksum), or refuse it. A connection that is
 * reset fails such a body with a `DecodeError`, as any other.
 *
 * **Example** (Refusing a body that may be cut)
 *
 * ```ts
 * import { Effect } from "effect"
 * import * as Http from "effect/http/HttpClient"
 * import { HttpClient } from "holdfast/node"
 *
 * export const program = Effect.gen(function*() {
 *   const response = yield* Http.get("http://127.0.0.1:8080/export")
 *   if (HttpClient.bodyEnd(response) === "Connection") return yield* Effect.fail("the export may be cut")
 *   return yield* response.text
 * })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const bodyEnd = ({ headers, request, status }: HttpClientResponse): BodyEnd => {
  if (request.method === "HEAD" || status === 204 || status === 304) return "None"
  // RFC 9112, 6.3: a transfer coding goes before a length, and one that is not chunked ends with the connection
  const coding = headers["transfer-encoding"]
  if (coding !== undefined) return /(?:^|,)\s*chunked\s*$/i.test(coding) ? "Chunks" : "Connection"
  return headers["content-length"] === undefined ? "Connection" : "Length"
}

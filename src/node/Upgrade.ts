/**
 * Requests to upgrade to a WebSocket, which the application sees, and may refuse, before they are answered.
 *
 * `make` takes a hook: it gets what is `Asking`, and returns the first facts of a session, or fails with a `Refused`, which the
 * peer gets as an HTTP answer. The same value gives the session to the handlers of a `Server`, and to the routes of HTTP.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SocketServer from "effect/socket/SocketServer"
import * as Http from "node:http"
import type { ConnectionError } from "../ConnectionError.ts"
import * as Defects from "../internal/endings/defects.ts"
import { OnPath } from "../internal/transport/accepted.ts"
import type { Compression } from "../internal/transport/compression.ts"
import { type Deflate, deflatingOf } from "./internal/deflate/options.ts"
import { compressionOf } from "./internal/deflate/zlib.ts"
import { Accepted } from "./internal/upgrade/accepted.ts"
import type { Origins } from "./internal/upgrade/origins.ts"
import { Asked, type Asking, type Request } from "./internal/upgrade/request.ts"

export type { Compression } from "../internal/transport/compression.ts"
export type { Deflate } from "./internal/deflate/options.ts"
export type { Certificate } from "./internal/upgrade/certificate.ts"
export type { Origins } from "./internal/upgrade/origins.ts"
export type { Asking, Request } from "./internal/upgrade/request.ts"

/**
 * Refuses a request with an answer of HTTP.
 *
 * **Details**
 *
 * `status` is from 300 to 599. `body` is plain text; without one it is what the status is called. The peer sees all of it.
 * A client of this library takes 408, 425, 429 and 5xx as a reason to come back, not before a `Retry-After` header says, and
 * gives up on all others.
 *
 * **Gotchas**
 *
 * A browser tells a page nothing of it, not even the status: where the page has to know why, let it in and close the
 * connection with a code.
 *
 * **Example** (Full, for a while)
 *
 * ```ts
 * import { Upgrade } from "holdfast/node"
 *
 * const full = new Upgrade.Refused({ status: 503, headers: { "Retry-After": "30" }, body: "full" })
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedError<Refused>()("UpgradeRefused", {
  status: Schema.Int.check(Schema.isBetween({ minimum: 300, maximum: 599 })),
  headers: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  body: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    return `refused with ${this.status} ${Http.STATUS_CODES[this.status] ?? ""}`.trim()
  }
}

/**
 * What an `Upgrade` may say about the requests that its hook gets.
 *
 * @category models
 * @since 0.1.0
 */
export interface Rules {
  /** Which pages may open a WebSocket. Default: what the server says (`Options.origins`). */
  readonly origins?: Origins | undefined
  /** The subprotocols to agree to. Default: what the server says (`Options.subprotocols`). */
  readonly subprotocols?: ReadonlyArray<string> | undefined
  /** Whether and how messages are compressed. Default: what the server says (`Options.deflate`). */
  readonly deflate?: boolean | Deflate | undefined
}

/**
 * Decides about requests, and gives what it found out to whatever handles them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Upgrade<out Session, out R = never> extends Rules {
  /** What `make` was given. */
  readonly hook: (request: Asking) => Effect.Effect<Session, Refused, R>
  /**
   * What the hook returned for the connection, or the route, that runs this: in `open`, `handshake`, `names` and `handle` of a
   * `Server`, in the handler of a `SocketServer`, and in a `route`.
   *
   * Anywhere else it fails with a `Defect`, which says what is missing, and is logged: a connection over `tcp://`, one that
   * another `Upgrade` let in, a fiber that no connection started.
   */
  readonly session: Effect.Effect<Session, ConnectionError>
  /**
   * A handler of HTTP requests that the hook has let in, with its session: for `HttpRouter.add`. A `Refused` is the answer.
   * `Rules` are not for it: they are about WebSockets.
   */
  readonly route: <E, R2>(
    handler: (session: Session) => Effect.Effect<HttpServerResponse.HttpServerResponse, E, R2>
  ) => Effect.Effect<HttpServerResponse.HttpServerResponse, E, R | R2 | HttpServerRequest.HttpServerRequest>
}

/**
 * How a server treats requests for a WebSocket: options of `Listener` and of `HttpServer`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<out R = never> {
  /** Decides about requests on the path of the server. Default: each one is let in, and has no session. */
  readonly upgrade?: Upgrade<unknown, R> | undefined
  /**
   * Further paths, each with what decides about it; other paths get 404. `at` takes the connections of one path, for a
   * codec and a handler of their own. A path is compared as it is, without the query.
   */
  readonly paths?: { readonly [path: `/${string}`]: Upgrade<unknown, R> } | undefined
  /**
   * Which pages may open a WebSocket; others get 403. Default `"same-host"`.
   *
   * Behind a proxy that ends TLS or changes `Host`, pass the header `Host` on as it came, or list the origins.
   */
  readonly origins?: Origins | undefined
  /**
   * The subprotocols to agree to, in order of preference: the first one that the peer offers is taken. Default: none, and
   * none is agreed to; a browser that offered some takes that for a failure.
   */
  readonly subprotocols?: ReadonlyArray<string> | undefined
  /**
   * Compresses messages (permessage-deflate, RFC 7692) on connections whose peer offers it, as browsers do. See `Deflate` for what it
   * costs and how. Default false.
   */
  readonly deflate?: boolean | Deflate | undefined
}

const noSession =
  "no session of this Upgrade: the connection came another way. Give it to the listener (`upgrade` or " +
  "`paths`), take connections of its path alone (`Upgrade.at`), or make the handler of HTTP with `route`"

/**
 * Makes an `Upgrade` of a hook.
 *
 * **Details**
 *
 * - The hook runs for each request that is sound, on a known path and from an allowed origin, within `Policy.handshake`, in a
 *   scope that closes when it returns. When the time is over, or the peer leaves, it is interrupted, and the connection
 *   destroyed.
 * - What it returns is the session: `upgrade.session` has it, typed, in every handler of the connection.
 * - A `Refused` is the answer to the peer. A defect is a 500 without any text of it, and is logged.
 * - What the peer sends behind its request waits.
 *
 * **Example** (A user of sockets and of HTTP, found by one hook)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 * import { Codec, Connection, Server } from "holdfast"
 * import { HttpServer, Upgrade } from "holdfast/node"
 *
 * const login = Upgrade.make((request) =>
 *   request.cookies["session"] === "of-ada"
 *     ? Effect.succeed({ name: "Ada" })
 *     : Effect.fail(new Upgrade.Refused({ status: 401 }))
 * )
 *
 * const http = HttpRouter.serve(
 *   HttpRouter.add("GET", "/me", login.route((user) => Effect.succeed(HttpServerResponse.text(user.name))))
 * )
 * const live = Server.layer({
 *   open: Connection.make({ codec: Codec.lines() }),
 *   handshake: () => login.session,
 *   handle: (connection, user) => connection.send(`hello ${user.name}`)
 * })
 *
 * const server = Layer.mergeAll(http, live).pipe(
 *   Layer.provide(HttpServer.layer("http://127.0.0.1:8080", { webSocket: "/live", upgrade: login }))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Session, R = never>(
  hook: (request: Asking) => Effect.Effect<Session, Refused, R>,
  rules: Rules = {}
): Upgrade<Session, Exclude<R, Scope.Scope>> => {
  const decide = (request: Asking) => Effect.scoped(Effect.suspend(() => hook(request)))
  const self: Upgrade<Session, Exclude<R, Scope.Scope>> = {
    ...rules,
    hook: decide,
    session: Effect.flatMap(Accepted, (accepted) =>
      accepted !== undefined && accepted.by === self
        ? Effect.succeed(accepted.session as Session)
        : Effect.flatMap(Defects.errorOf("handshake", Cause.die(new Error(noSession))), Effect.fail)),
    route: (handler) =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (asked) => {
        const request = requestOf(asked)
        return Effect.matchEffect(decide(request), {
          onFailure: ({ body, headers, status }) =>
            Effect.succeed(HttpServerResponse.text(body ?? Http.STATUS_CODES[status] ?? "", {
              status,
              headers: Headers.fromInput(headers ?? {})
            })),
          onSuccess: (session) =>
            Effect.provideService(Effect.suspend(() => handler(session)), Accepted, { request, by: self, session })
        })
      })
  }
  return self
}

/** What a hook gets of a route: headers and address are those that a middleware before it may have put right. */
const requestOf = (asked: HttpServerRequest.HttpServerRequest): Asked => {
  if (!(asked.source instanceof Http.IncomingMessage)) throw new TypeError("`route` is for the HTTP server of Node")
  return new Asked(asked.source, { remote: Option.getOrUndefined(asked.remoteAddress) }, asked.headers)
}

/**
 * What both ends come to that take `deflate` with these options, and have agreed: for `TestNetwork`, on which no upgrade agrees to
 * anything. Options that make no sense throw a `RangeError`.
 *
 * **Example** (Compressed messages on a simulated network)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Upgrade } from "holdfast/node"
 * import { TestNetwork } from "holdfast/testing"
 *
 * const compression = Upgrade.compression({ threshold: 0, contextTakeover: true })
 *
 * export const program = Effect.gen(function*() {
 *   const network = yield* TestNetwork.make()
 *   const listener = yield* network.host("server").listen(7000, { webSocket: true, compression })
 *   const socket = network.host("client").dial("server:7000", { webSocket: true, compression })
 *   return { listener, socket }
 * })
 * ```
 *
 * @category testing
 * @since 0.1.0
 */
export const compression = (deflate: boolean | Deflate = true): Compression => {
  const options = Result.getOrThrowWith(deflatingOf(deflate), (detail) => new RangeError(detail))
  if (options === undefined) throw new RangeError("`deflate` is false, which compresses nothing")
  const { contextTakeover: keeps, level, threshold, windowBits } = options
  return compressionOf({
    level,
    threshold,
    sentBits: windowBits,
    receivedBits: windowBits,
    keepsSent: keeps,
    keepsReceived: keeps
  })
}

/**
 * Lets every request in that `Options.origins` allows: what decides about one of several `paths` when nothing has to be found
 * out.
 *
 * @category constructors
 * @since 0.1.0
 */
export const open: Upgrade<void> = make(() => Effect.void)

/**
 * The request that the connection, or the route, came from which runs this; none for a connection that was not upgraded.
 *
 * @category accessors
 * @since 0.1.0
 */
export const request: Effect.Effect<Option.Option<Request>> = Effect.map(
  Accepted,
  (accepted) => Option.fromUndefinedOr(accepted?.request)
)

/**
 * The connections of one path of a listener, as a listener of their own: for a `Server` with the codec and the handler of that
 * path. Connections of paths that no `run` takes wait, as those of a listener that is not run do.
 *
 * **Example** (Two protocols on one port)
 *
 * ```ts
 * import { Effect, Layer, Stream } from "effect"
 * import { Codec, Connection, Server } from "holdfast"
 * import { Listener, Upgrade } from "holdfast/node"
 *
 * const chat = Server.layer({
 *   open: Connection.make({ codec: Codec.lines() }),
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 * })
 * const raw = Server.layer({
 *   open: Connection.make({ codec: Codec.bytes() }),
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 * })
 *
 * const both = Layer.mergeAll(
 *   Layer.provide(chat, Upgrade.layerAt("/chat")),
 *   Layer.provide(raw, Upgrade.layerAt("/raw"))
 * ).pipe(
 *   Layer.provide(Listener.layer("ws://127.0.0.1:8080", { paths: { "/chat": Upgrade.open, "/raw": Upgrade.open } }))
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const at = <Self extends SocketServer.SocketServer["Service"]>(listener: Self, path: `/${string}`): Self => ({
  ...listener,
  run: (handler) => listener.run(Object.assign(handler.bind(undefined), handler, { [OnPath]: path }))
})

/**
 * Provides `at` of the `SocketServer` that there is.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerAt = (
  path: `/${string}`
): Layer.Layer<SocketServer.SocketServer, never, SocketServer.SocketServer> =>
  Layer.fresh(Layer.effect(
    SocketServer.SocketServer,
    Effect.map(SocketServer.SocketServer, (listener) => at(listener, path))
  ))

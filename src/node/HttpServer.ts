/**
 * Serves HTTP within the limits of a `Policy`: Effect's `HttpServer` with deadlines, bounds and a drain.
 *
 * Requests are answered by Effect's own Node server. Around it: Node's deadlines set from the policy, what Node has no
 * deadline for (a peer that takes none of our bytes), limits on connections, a stop that ends idle connections and lets
 * the others finish, each connection in a `Registry`, and WebSockets of the same port as sockets for `Server.run`.
 *
 * @since 0.1.0
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as EffectHttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as SocketServer from "effect/socket/SocketServer"
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import { limitOf } from "../internal/connection/core/limits.ts"
import { budgetIn, watchBudget } from "../internal/memory/ofServer.ts"
import * as Supervised from "../internal/scheduling/supervised.ts"
import * as Policy from "../Policy.ts"
import type { Registry } from "../Registry.ts"
import * as Address from "./internal/addresses/address.ts"
import { listen } from "./internal/addresses/listen.ts"
import { worker } from "./internal/addresses/worker.ts"
import { Connections } from "./internal/http/connections.ts"
import { serverOf } from "./internal/http/nodeServer.ts"
import { type Event, Refusing } from "./internal/http/refusing.ts"
import { prepare } from "./internal/http/settings.ts"
import { intercept } from "./internal/http/upgrade.ts"
import * as Acceptor from "./internal/listening/acceptor.ts"
import { lastReads } from "./internal/listening/lastAccept.ts"
import * as NodeOptions from "./internal/options.ts"
import { nothing } from "./internal/proxy/behind.ts"
import { withClient } from "./internal/proxy/client.ts"
import { noop } from "./internal/stream/tcp.ts"
import { watchDescriptors } from "./internal/system/descriptors.ts"
import { clientCertificate as certificateOfClient } from "./internal/upgrade/certificate.ts"
import * as Listener from "./Listener.ts"
import type * as Proxy from "./Proxy.ts"
import type * as Upgrade from "./Upgrade.ts"

export type { Event } from "./internal/http/refusing.ts"

/**
 * How to serve. Every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in out In = never, in out Out = unknown, out R = never>
  extends Listener.TlsOptions, Listener.BindOptions, Upgrade.Options<R>, Proxy.Options
{
  /**
   * The limits. In the words of HTTP:
   *
   * - `handshake`: from the accept, or the first byte of a later request, until the head of the request is there; and
   *   the TLS handshake. Then 408.
   * - `frame`: from the first byte of a request until all of it is there, body included: raise it for long uploads. Then
   *   408, or the end of the connection where the answer has begun, and where the request asks for an upgrade.
   * - `idle`, or `silence` where that is off: how long a connection without a request is kept. The peer is told
   *   (`Keep-Alive: timeout`), and gets one second more, so that a request that is on its way is not lost.
   * - `writeStall`: the peer has to take some of an answer within this.
   * - `maxAge`: an idle connection of this age is ended; of a busy one the answer under way is the last, and has
   *   `maxAgeGrace` to end.
   * - `maxHeader`, `maxRequests`, `maxConnections`, `maxConnectionsPerAddress`, `acceptRate`, `whenFull`, `maxWaiting`:
   *   a larger head gets 431; a refused connection gets 503, over TLS nothing. On a Unix socket all peers have one
   *   address.
   * - `maxConcurrentRequests`: further requests that a peer pipelines wait, and reading with them, until an answer has left.
   *   What is read meanwhile is one read of Node, 64 KiB at most. That a peer leaves is seen at the next answer then.
   * - `memory`: what counts are requests that are not answered, what of their bodies was read and not received, heads that are
   *   not complete, and what of the answers has not left. `writeStall` is how long it may be tight; see `Memory`.
   * - `maxFrame`: the longest WebSocket message, for a program that receives from the socket by itself. A `Connection` has
   *   the limits of its own policy.
   * - `drain`: how long a stop waits for answers; see `make`.
   * - `keepAlive`, `keepAliveInterval`, `keepAliveCount`, `noDelay`: of TCP.
   *
   * `handshake`, `frame`, `writeStall` and `maxAge` are seen late by up to a quarter of the shortest of them, 5 seconds
   * at most.
   */
  readonly policy?: Policy.Policy | Policy.Patch | undefined
  /**
   * Where connections are registered while they live, with the tag `http`. They can be seen, asked to leave, and closed;
   * a broadcast to all counts them as failed. Any registry does which takes connections without a session.
   *
   * A connection that is not registered within `handshake` is ended, with `HandshakeTimeout`, and a warning is logged.
   */
  readonly registry?: Pick<Registry<In, Out, undefined>, "add"> | undefined
  /**
   * The path on which requests to upgrade become WebSockets for `Server.run`: provide `webSockets` to it, or the layer.
   * `upgrade` decides about them; `paths` has more of them. Requests on other paths are the HTTP application's.
   */
  readonly webSocket?: string | undefined
  /**
   * Called for each connection that is refused before its first request, and when memory gets tight and is no longer. It adds to what
   * the server logs: of refusals a line a second at most, with the numbers. What it fails with is logged. The end of the server waits 5
   * seconds for those that run before it interrupts them.
   */
  readonly onEvent?: ((event: Event) => Effect.Effect<void>) | undefined
  /**
   * How long a connection that we are done with waits for the peer to be done as well. Default 1 s. 0 destroys it at
   * once.
   *
   * It is how long a refused client gets to read why, and how long the closing of a WebSocket may take.
   */
  readonly linger?: Duration.Input | undefined
}

/**
 * A server that listens.
 *
 * @category models
 * @since 0.1.0
 */
export interface HttpServer {
  /** The URL as given, with the port that was really bound: `http://127.0.0.1:41234`. */
  readonly url: string
  /** Provide it as `HttpServer` of `effect/http`. */
  readonly http: EffectHttpServer.HttpServer["Service"]
  /** The WebSockets of `Options.webSocket`: provide it as `SocketServer` to `Server.run`. */
  readonly webSockets: Listener.Listener
}

/**
 * Listens on a URL (`http://127.0.0.1:8080`, `https://[::]:8443`, `unix:///run/app.sock`) until the scope closes.
 *
 * **Details**
 *
 * When the scope of `http.serve` closes, nothing new is accepted, idle connections are ended, and every answer under way
 * says `Connection: close`; those have `Policy.drain`, then their handlers are interrupted. What the application itself
 * upgraded to a WebSocket or another protocol is not waited for: its handlers are interrupted once the answers have left.
 * When the scope of `make` closes, every connection is destroyed, WebSockets included: release their `Server.run` first,
 * as layers do.
 *
 * A policy that makes no sense throws its `InvalidPolicy` here, before anything runs.
 *
 * **Gotchas**
 *
 * - A connection counts for `maxConnections` from its accept until it is closed, also while it is a WebSocket. The
 *   `Server.run` of those has limits of its own.
 * - A request that the peer sends in the very moment in which we end its idle connection is lost: it sees a reset.
 *   Clients send it again when it is idempotent (`HttpClient` does).
 * - A peer that ends its side (FIN) is taken to have left, as Node takes it: its requests are interrupted, and not answered.
 * - A stop waits for a handler that cannot be interrupted, beyond `drain`. The routes of `HttpRouter` can be, unless they are
 *   `uninterruptible`. Effect runs an application without a router uninterruptibly: wrap it in `Effect.interruptible`. The
 *   connection itself, also one that the application upgraded, is destroyed after `drain`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <In = never, Out = unknown, R = never>(
  url: string,
  options: Options<In, Out, R> = {}
): Effect.Effect<HttpServer, Listener.ListenFailed, Scope.Scope | R> => {
  const policy = Policy.make(options.policy)
  return Effect.gen(function*() {
    const prepared = yield* Effect.mapError(
      Effect.fromResult(prepare(url, policy, options)),
      (unusable) => new Listener.ListenFailed({ ...unusable })
    )
    const { address, behind, binding, rules, settings } = prepared
    yield* NodeOptions.warnOf(policy)
    const context = yield* Effect.context<never>()
    const server = serverOf(prepared, (conn) => connections.open.get(conn))

    // Node reads from a connection at once, whatever the limits; here it is paused until it is let in. `pauseOnConnect`
    // is an option of `net` which `http` does not pass on
    Object.assign(server, { pauseOnConnect: true })
    const accept = server.listeners("connection") as Array<(conn: Net.Socket) => void>
    server.removeAllListeners("connection")
    const refusing = new Refusing(settings, context, options.onEvent)
    yield* Effect.addFinalizer(() => refusing.end)
    const budget = budgetIn(context, limitOf(policy, "memory"), limitOf(policy, "writeStall"))
    const connections = new Connections(prepared, context, options.registry, refusing, budget, (conn) => {
      for (const listener of accept) listener.call(server, conn)
      conn.resume()
    })
    if (budget !== undefined) {
      yield* watchBudget(budget, {
        tight: () => refusing.memory("MemoryTight", budget),
        freed: () => {
          refusing.memory("MemoryFreed", budget)
          connections.memoryFreed()
        }
      })
    }
    server.on("connection", (conn) => connections.accept(conn))
    watchDescriptors(server, context)
    server.on("clientError", (cause, conn) => {
      const connection = connections.open.get(conn as Net.Socket)
      if (connection === undefined) conn.destroy()
      else connection.fail(cause)
    })
    server.on("dropRequest", (request) => connections.open.get(request.socket)?.drop())

    const acceptor = Acceptor.make({
      address: { ...address, scheme: address.scheme === "unix" ? "unix" : "tcp" } as Address.Address,
      ...NodeOptions.ofPolicy(policy),
      maxPending: policy.maxWaiting || 1,
      linger: settings.linger,
      securing: undefined,
      rules,
      behind: { ...nothing, forwarding: behind.forwarding },
      context
    })
    const upgrading = {
      rules,
      context,
      limit: settings.handshake || NodeOptions.longestTimer,
      linger: settings.linger,
      // it is read, whatever its requests waited for, so that its end is seen
      onTaken: (conn: Duplex) => connections.open.get(conn as Net.Socket)?.pipeline.abandon()
    }
    intercept(
      server,
      upgrading,
      acceptor.announce,
      (announced, conn, accepted, source) => {
        connections.upgraded(conn)
        acceptor.adopt(announced, accepted, source)
      },
      (request, response, dispatch) => {
        const connection = connections.open.get(request.socket)
        if (connection === undefined) dispatch()
        else connection.pipeline.enter(request, response, dispatch)
      },
      (conn, body) => connections.open.get(conn)?.account.lend(body)
    )

    let isStopping = false
    const stop = (): void => {
      if (isStopping) return
      isStopping = true
      server.close(noop)
      connections.stop()
    }
    yield* Supervised.restarted("the deadlines of an HTTP server", connections.watch)

    const release = yield* Effect.mapError(
      listen(server, address, binding),
      (refusal) => new Listener.ListenFailed({ url: prepared.url, ...refusal })
    )
    yield* Effect.addFinalizer(() => release)
    // it listens already; Effect's server would call it again, and knows neither stale socket files nor our errors
    Object.assign(server, {
      listen: (_: unknown, onListening: () => void) => {
        onListening()
        return server
      }
    })
    // what Effect's server acquires later, for a WebSocket of the application's, is released with it: it waits for its peers
    const within = yield* Scope.fork(yield* Effect.scope)
    const inner = yield* Effect.mapError(
      Scope.provide(NodeHttpServer.make(() => server, { disablePreemptiveShutdown: true }), within),
      (cause) => new Listener.ListenFailed({ url: prepared.url, reason: "Unknown", detail: cause.message, cause })
    )
    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        stop()
        for (const conn of connections.open.keys()) conn.destroy()
        yield* acceptor.close
        connections.destroyAll()
      })
    )

    const bound = server.address() as Net.AddressInfo | string
    const boundUrl = Address.formatUrl(address, typeof bound === "string" ? undefined : bound.port)
      .replace(/^tcp:/, "http:").replace(/^tls:/, "https:")
    // before Effect's own finalizer, which takes the handlers away
    const drain = Effect.andThen(
      lastReads(server, () => connections.count),
      Effect.andThen(Effect.sync(stop), connections.drained)
    )
    const named: <A, E, R>(
      handled: Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E, R | HttpServerRequest.HttpServerRequest> = behind.forwarding === undefined
      ? (handled) => handled
      : withClient(behind.forwarding, address.scheme === "unix" ? `unix:${address.path}` : undefined)
    return {
      url: boundUrl,
      http: EffectHttpServer.make({
        address: inner.address,
        serve: (app, middleware) =>
          Effect.andThen(
            middleware === undefined
              ? inner.serve(named(app))
              : inner.serve(app, (handled) => named(middleware(handled))),
            Effect.andThen(Effect.addFinalizer(() => drain), Effect.sync(() => worker()?.ready()))
          )
      }),
      webSockets: { url: boundUrl.replace(/^http/, "ws"), address: inner.address, run: acceptor.run }
    }
  })
}

/**
 * Provides `HttpServer` of `effect/http` and what its responses need, and the `SocketServer` of `Options.webSocket`; see
 * `make`.
 *
 * **Example** (HTTP and WebSocket on one port)
 *
 * ```ts
 * import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
 * import { Layer, Stream } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 * import { Codec, Connection, Server } from "holdfast"
 * import { HttpServer } from "holdfast/node"
 *
 * const chat = Connection.make({ codec: Codec.lines() })
 *
 * const http = HttpRouter.serve(HttpRouter.add("GET", "/health", HttpServerResponse.text("ok")))
 * const live = Server.layer({
 *   open: chat,
 *   handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 * })
 *
 * Layer.mergeAll(http, live).pipe(
 *   Layer.provide(HttpServer.layer("http://127.0.0.1:8080", { webSocket: "/live", policy: { idle: "75 seconds" } })),
 *   Layer.launch,
 *   NodeRuntime.runMain
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <In = never, Out = unknown, R = never>(
  url: string,
  options: Options<In, Out, R> = {}
): Layer.Layer<
  EffectHttpServer.HttpServer | SocketServer.SocketServer | Layer.Success<typeof NodeHttpServer.layerHttpServices>,
  Listener.ListenFailed,
  Exclude<R, Scope.Scope>
> => {
  const made = Effect.map(make(url, options), (server) =>
    Context.make(EffectHttpServer.HttpServer, server.http).pipe(
      Context.add(SocketServer.SocketServer, server.webSockets)
    ))
  return Layer.merge(Layer.effectContext(made), NodeHttpServer.layerHttpServices)
}

/**
 * The certificate that the client of a request has shown: in a handler of HTTP, and in a middleware. None without the option
 * `ca`, under `http`, and behind a proxy that ends TLS. Of a request to upgrade it is `Upgrade.Request.certificate`.
 *
 * **Example** (A page for devices alone)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 * import { HttpServer } from "holdfast/node"
 *
 * const page = Effect.map(HttpServer.clientCertificate, (certificate) =>
 *   Option.match(certificate, {
 *     onNone: () => HttpServerResponse.text("no certificate", { status: 403 }),
 *     onSome: ({ subject }) => HttpServerResponse.text(`hello ${subject["CN"]}`)
 *   }))
 *
 * export const route = HttpRouter.add("GET", "/device", page)
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const clientCertificate: Effect.Effect<
  Option.Option<Upgrade.Certificate>,
  never,
  HttpServerRequest.HttpServerRequest
> = Effect.map(HttpServerRequest.HttpServerRequest, ({ source }) =>
  source instanceof Http.IncomingMessage
    ? Option.fromUndefinedOr(certificateOfClient(source.socket))
    : Option.none())

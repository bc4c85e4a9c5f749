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
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as EffectHttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as SocketServer from "effect/socket/SocketServer"
import * as Http from "node:http"
import * as Https from "node:https"
import type * as Net from "node:net"
import * as ConnectionError from "../ConnectionError.ts"
import * as Defects from "../internal/reasons/defects.ts"
import * as Supervised from "../internal/scheduling/supervised.ts"
import * as Policy from "../Policy.ts"
import type { Registry } from "../Registry.ts"
import * as Acceptor from "./internal/acceptor.ts"
import * as Address from "./internal/address.ts"
import * as Handshakes from "./internal/handshakes.ts"
import { HttpConnection, responses, type Settings } from "./internal/httpConnection.ts"
import * as HttpGate from "./internal/httpGate.ts"
import { listen } from "./internal/listen.ts"
import * as NodeOptions from "./internal/options.ts"
import { noop, tcpOptions } from "./internal/stream.ts"
import * as Listener from "./Listener.ts"

/**
 * How to serve. Every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in out In = never, in out Out = unknown> {
  /**
   * The limits. In the words of HTTP:
   *
   * - `handshake`: from the accept, or the first byte of a later request, until the head of the request is there; and
   *   the TLS handshake. Then 408.
   * - `frame`: from the first byte of a request until all of it is there, body included: raise it for long uploads. Then
   *   408, or the end of the connection where the answer has begun.
   * - `idle`, or `silence` where that is off: how long a connection without a request is kept. The peer is told
   *   (`Keep-Alive: timeout`), and gets one second more, so that a request that is on its way is not lost.
   * - `writeStall`: the peer has to take some of an answer within this.
   * - `maxAge`: an idle connection of this age is ended; of a busy one the answer under way is the last, and has
   *   `maxAgeGrace` to end.
   * - `maxHeader`, `maxRequests`, `maxConnections`, `maxConnectionsPerAddress`, `acceptRate`, `whenFull`, `maxWaiting`:
   *   a larger head gets 431; who is refused gets 503.
   * - `maxFrame`: the longest WebSocket message.
   * - `drain`: how long a stop waits for answers; see `make`.
   * - `keepAlive`, `noDelay`: of TCP.
   *
   * `handshake`, `frame`, `writeStall` and `maxAge` are seen late by up to a quarter of the shortest of them, 5 seconds
   * at most.
   */
  readonly policy?: Policy.Policy | Policy.Patch | undefined
  /**
   * Where connections are registered while they live, with the tag `http`. They can be seen, asked to leave, and closed;
   * a broadcast to all counts them as failed.
   */
  readonly registry?: Registry<In, Out> | undefined
  /**
   * The path on which requests to upgrade become WebSockets for `Server.run`: provide `webSockets` to it, or the layer.
   * Requests on other paths are the HTTP application's.
   */
  readonly webSocket?: string | undefined
  /** The certificate of `https`, as PEM; intermediate certificates follow it in the same text. */
  readonly cert?: string | Uint8Array | undefined
  /** The private key of `cert`, as PEM. */
  readonly key?: string | Uint8Array | Redacted.Redacted<string | Uint8Array> | undefined
  /** When given, a client has to show a certificate that one of these authorities (PEM) signed. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /** Opens an encrypted `key`. */
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
  /**
   * The most connections that the kernel keeps and we did not accept yet. The default is Node's; the kernel cuts it to
   * `somaxconn`. Default 511.
   */
  readonly backlog?: number | undefined
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
 * says `Connection: close`; those have `Policy.drain`, then their handlers are interrupted. When the scope of `make`
 * closes, whatever is left is destroyed, WebSockets included: release their `Server.run` first, as layers do.
 *
 * A policy that makes no sense throws its `InvalidPolicy` here, before anything runs.
 *
 * **Gotchas**
 *
 * - A connection counts for `maxConnections` from its accept until it is closed, also while it is a WebSocket. The
 *   `Server.run` of those has limits of its own.
 * - A request that the peer sends in the very moment in which we end its idle connection is lost: it sees a reset.
 *   Clients send it again when it is idempotent (`HttpClient` does).
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <In = never, Out = unknown>(
  url: string,
  options: Options<In, Out> = {}
): Effect.Effect<HttpServer, Listener.ListenFailed, Scope.Scope> => {
  const policy = Policy.make(options.policy)
  return Effect.gen(function*() {
    const prepared = yield* Effect.fromResult(prepare(url, policy, options))
    const { address, backlog, settings, tls } = prepared
    const context = yield* Effect.context<Scope.Scope>()
    const clock = yield* Clock.Clock
    const connections = new Map<Net.Socket, HttpConnection>()
    const registrations = new WeakMap<HttpConnection, Scope.Closeable>()
    /** Everything accepted, in a TLS handshake or upgraded, too. */
    const raws = new Set<Net.Socket>()
    let stopping = false
    let onQuiet: (() => void) | undefined

    const period = checkEvery(settings)
    const node = {
      ...tcpOptions(NodeOptions.limitOf(policy.keepAlive), policy.noDelay),
      headersTimeout: settings.frame === 0 ? settings.handshake : Math.min(settings.handshake, settings.frame),
      requestTimeout: settings.frame,
      keepAliveTimeout: settings.idle,
      connectionsCheckingInterval: period,
      maxHeaderSize: policy.maxHeader,
      ServerResponse: responses((conn) => connections.get(conn))
    }
    const server: Http.Server = tls === undefined ? Http.createServer(node) : Https.createServer({
      ...node,
      ...tls,
      requestCert: tls.ca !== undefined,
      handshakeTimeout: settings.handshake || NodeOptions.longestTimer,
      ALPNProtocols: ["http/1.1"]
    })
    server.maxRequestsPerSocket = policy.maxRequests

    // -----------------------------------------------------------------------------------------------------------------
    // connections
    // -----------------------------------------------------------------------------------------------------------------

    const follow = (conn: Net.Socket): void => {
      const connection = new HttpConnection(conn, settings, clock.currentTimeMillisUnsafe())
      connections.set(conn, connection)
      conn.once("close", () => forget(conn))
      if (options.registry === undefined) return
      const scope = Scope.makeUnsafe()
      registrations.set(connection, scope)
      const { registry } = options
      const added = Effect.suspend(() => registry.add(connection.asConnection(), { tags: ["http"] }))
      Supervised.spawn(context, "registration of an HTTP connection", Scope.provide(added, scope), (exit) => {
        if (Exit.isSuccess(exit)) return
        Defects.logNow(context, "registry", exit.cause, { remote: Address.remoteOf(conn) })
        // one that is not registered cannot be seen, or asked to leave
        conn.destroy()
      })
    }
    /** It is closed, or something else now. */
    const forget = (conn: Net.Socket): void => {
      const connection = connections.get(conn)
      if (connection === undefined) return
      connections.delete(conn)
      const registration = registrations.get(connection)
      if (registration !== undefined) {
        const removed = Scope.close(registration, Exit.void)
        Supervised.spawn(context, "registration of an HTTP connection", removed, (exit) => {
          if (Exit.isFailure(exit)) Defects.logNow(context, "registry", exit.cause)
        })
      }
      if (connections.size === 0) onQuiet?.()
    }

    // Node reads from a connection at once, whatever the limits; here it is paused until it is let in. `pauseOnConnect`
    // is an option of `net` which `http` does not pass on
    Object.assign(server, { pauseOnConnect: true })
    const accept = server.listeners("connection") as Array<(conn: Net.Socket) => void>
    server.removeAllListeners("connection")
    const gate = HttpGate.make({
      policy,
      tells: tls === undefined,
      linger: settings.linger,
      admit: (conn) => {
        if (tls === undefined) follow(conn)
        for (const listener of accept) listener.call(server, conn)
        conn.resume()
      }
    })
    server.on("connection", (conn) => {
      conn.on("error", noop)
      if (stopping) {
        conn.destroy()
        return
      }
      raws.add(conn)
      conn.once("close", () => raws.delete(conn))
      gate.enter(conn)
    })
    server.prependListener("secureConnection", follow)
    server.on("tlsClientError", (_, conn) => conn.destroy())
    server.on("clientError", (cause, conn) => {
      const connection = connections.get(conn as Net.Socket)
      if (connection === undefined) conn.destroy()
      else connection.fail(cause)
    })
    server.on("dropRequest", (request) => connections.get(request.socket)?.drop())

    const watching = Effect.gen(function*() {
      let checked = performance.now()
      while (true) {
        yield* Effect.sleep(period)
        const at = performance.now()
        // so late that we were busy ourselves, and the peers could not show what they took
        const unfair = at - checked > 1.5 * period
        checked = at
        for (const connection of connections.values()) connection.check(at, unfair)
      }
    })

    // -----------------------------------------------------------------------------------------------------------------
    // WebSockets
    // -----------------------------------------------------------------------------------------------------------------

    const acceptor = Acceptor.make({
      address: { ...address, scheme: address.scheme === "unix" ? "unix" : "tcp" } as Address.Address,
      tcp: tcpOptions(NodeOptions.limitOf(policy.keepAlive), policy.noDelay),
      handshakeTimeout: settings.handshake || NodeOptions.longestTimer,
      maxFrame: policy.maxFrame,
      maxPending: policy.maxWaiting || 1,
      linger: settings.linger,
      tls: undefined
    })
    if (options.webSocket !== undefined) {
      const path = options.webSocket
      const sockets = Handshakes.webSockets({ maxFrame: policy.maxFrame, linger: settings.linger })
      intercept(server, (request) => isWebSocket(request, path), (request, conn, head) => {
        conn.on("error", noop)
        sockets.handleUpgrade(request, conn, head, (ws) => {
          ws.on("error", noop)
          ws.pause()
          connections.get(conn)?.upgraded()
          forget(conn)
          // ws has switched Nagle off
          if (!policy.noDelay) conn.setNoDelay(false)
          acceptor.adopt(conn, ws, request)
        })
      })
    }

    // -----------------------------------------------------------------------------------------------------------------
    // the end
    // -----------------------------------------------------------------------------------------------------------------

    const stop = (): void => {
      if (stopping) return
      stopping = true
      server.close(noop)
      gate.close()
      for (const connection of connections.values()) connection.leave(new ConnectionError.GoingAway({}), "draining")
    }
    const drained = Effect.callback<void>((resume) => {
      if (connections.size === 0) return resume(Effect.void)
      onQuiet = () => resume(Effect.void)
    })
    yield* Supervised.restarted("the deadlines of an HTTP server", watching)

    yield* Effect.mapError(
      listen(server, address, backlog),
      (refusal) => new Listener.ListenFailed({ url: prepared.url, ...refusal })
    )
    // it listens already; Effect's server would call it again, and knows neither stale socket files nor our errors
    Object.assign(server, {
      listen: (_: unknown, onListening: () => void) => {
        onListening()
        return server
      }
    })
    const inner = yield* Effect.mapError(
      NodeHttpServer.make(() => server, { disablePreemptiveShutdown: true }),
      (cause) => new Listener.ListenFailed({ url: prepared.url, reason: "Unknown", detail: cause.message, cause })
    )
    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        stop()
        for (const conn of connections.keys()) conn.destroy()
        yield* acceptor.close
        for (const conn of raws) conn.destroy()
      })
    )

    const bound = server.address() as Net.AddressInfo | string
    const boundUrl = Address.formatUrl(address, typeof bound === "string" ? undefined : bound.port)
      .replace(/^tcp:/, "http:").replace(/^tls:/, "https:")
    return {
      url: boundUrl,
      http: EffectHttpServer.make({
        address: inner.address,
        serve: (app, middleware) =>
          Effect.andThen(
            middleware === undefined ? inner.serve(app) : inner.serve(app, middleware),
            // before Effect's own, which takes the handlers away
            Effect.addFinalizer(() =>
              Effect.suspend(() => {
                stop()
                return settings.drain === 0 ? Effect.void : Effect.timeoutOption(drained, settings.drain)
              })
            )
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
 * import { NodeRuntime } from "@effect/platform-node"
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
export const layer = <In = never, Out = unknown>(
  url: string,
  options: Options<In, Out> = {}
): Layer.Layer<
  EffectHttpServer.HttpServer | SocketServer.SocketServer | Layer.Success<typeof NodeHttpServer.layerHttpServices>,
  Listener.ListenFailed
> => {
  const made = Effect.map(make(url, options), (server) =>
    Context.make(EffectHttpServer.HttpServer, server.http).pipe(
      Context.add(SocketServer.SocketServer, server.webSockets)
    ))
  return Layer.merge(Layer.effectContext(made), NodeHttpServer.layerHttpServices)
}

/** How often limits are looked at. */
const checkEvery = ({ frame, handshake, maxAge, writeStall }: Settings): number => {
  const shortest = Math.min(...[handshake, frame, writeStall, maxAge].filter((limit) => limit > 0))
  return Math.max(50, Math.min(5_000, Math.ceil(shortest / 4)))
}

const isWebSocket = (request: Http.IncomingMessage, path: string): boolean =>
  request.headers.upgrade?.toLowerCase() === "websocket" && (request.url ?? "").split("?", 1)[0] === path

/**
 * Takes some requests to upgrade away from a server. Listeners cannot stop each other, and Effect's would answer them:
 * so it is the emitting that changes.
 */
const intercept = (
  server: Http.Server,
  takes: (request: Http.IncomingMessage) => boolean,
  take: (request: Http.IncomingMessage, conn: Net.Socket, head: Buffer) => void
): void => {
  const emit = server.emit as (this: Http.Server, name: string, ...args: ReadonlyArray<unknown>) => boolean
  // without any listener Node answers such a request as if it asked for no upgrade
  server.on("upgrade", noop)
  Object.assign(server, {
    emit(name: string, ...args: ReadonlyArray<unknown>): boolean {
      if (name !== "upgrade") return emit.call(server, name, ...args)
      const [request, conn, head] = args as [Http.IncomingMessage, Net.Socket, Buffer]
      if (takes(request)) take(request, conn, head)
      // no HTTP application: nobody would answer
      else if (server.listenerCount("upgrade") === 1) conn.end(notFound)
      else return emit.call(server, name, ...args)
      return true
    }
  })
}

const notFound = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

interface Prepared {
  /** As it may appear in an error. */
  readonly url: string
  readonly address: Address.Address
  readonly backlog: number
  readonly settings: Settings
  readonly tls: NodeOptions.TlsOptions | undefined
}

const prepare = <In, Out>(
  rawUrl: string,
  policy: Policy.Policy,
  options: Options<In, Out>
): Result.Result<Prepared, Listener.ListenFailed> => {
  const url = Address.redactUrl(rawUrl)
  const as = (reason: Listener.ListenReason) =>
    Result.mapError((detail: string) => new Listener.ListenFailed({ url, reason, detail }))
  return Result.gen(function*() {
    if (!/^(https?|unix):\/\//i.test(rawUrl)) {
      return yield* as("BadUrl")(Result.fail("an HTTP server has an http://, https:// or unix:// URL"))
    }
    // the same rules as for what is below HTTP
    const address = yield* as("BadUrl")(Result.mapError(
      Address.parse(rawUrl.replace(/^https:/i, "tls:").replace(/^http:/i, "tcp:"), "listen"),
      (detail) => detail.replaceAll("tcp://", "http://").replaceAll("tls://", "https://")
    ))
    const linger = yield* as("BadOption")(NodeOptions.read("linger", options.linger))
    const backlog = yield* as("BadOption")(NodeOptions.read("backlog", options.backlog))
    if (options.webSocket !== undefined && !/^\/[^?#]*$/.test(options.webSocket)) {
      return yield* as("BadOption")(Result.fail("`webSocket` is a path that starts with a slash and has no ? and no #"))
    }
    const secure = address.scheme === "tls"
    if (secure && (options.cert === undefined || options.key === undefined)) {
      return yield* as("BadTls")(Result.fail("https:// needs the options `cert` and `key`"))
    }
    return {
      url,
      address,
      backlog,
      settings: {
        policy,
        handshake: NodeOptions.limitOf(policy.handshake),
        frame: NodeOptions.limitOf(policy.frame),
        idle: NodeOptions.limitOf(policy.idle) || NodeOptions.limitOf(policy.silence),
        writeStall: NodeOptions.limitOf(policy.writeStall),
        maxAge: NodeOptions.limitOf(policy.maxAge),
        maxAgeGrace: Duration.toMillis(policy.maxAgeGrace),
        drain: Duration.toMillis(policy.drain),
        linger
      },
      tls: secure ? yield* as("BadTls")(NodeOptions.tlsOptions(options)) : undefined
    }
  })
}

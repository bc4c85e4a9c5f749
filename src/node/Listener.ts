/**
 * Listens on an address and accepts sockets.
 *
 * One URL says everything about where: `tcp://127.0.0.1:7000`, `tls://[::]:7001`, `unix:///run/app.sock`,
 * `ws://0.0.0.0:8080/live`, `wss://0.0.0.0:8443/live`. What comes out is the `SocketServer` of `effect/socket`.
 *
 * @since 0.1.0
 */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as NodeWS from "@effect/platform-node/NodeWS"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Fs from "node:fs/promises"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Path from "node:path"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { describe, type Transport } from "../internal/transport.ts"
import * as Address from "./internal/address.ts"
import * as Options from "./internal/options.ts"
import { linger, noop, tcpOptions, unsent } from "./internal/stream.ts"
import * as WebSocket from "./internal/webSocket.ts"

/**
 * How to listen. Every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListenOptions {
  /** The certificate of `tls` and `wss`, as PEM; intermediate certificates follow it in the same text. */
  readonly cert?: string | Uint8Array | undefined
  /** The private key of `cert`, as PEM. */
  readonly key?: string | Uint8Array | Redacted.Redacted<string | Uint8Array> | undefined
  /** When given, a client has to show a certificate that one of these authorities (PEM) signed. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /** Opens an encrypted `key`. */
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
  /**
   * How long a TCP connection is silent before the kernel probes the peer, ten times, one second apart (libuv sets
   * that). Default 30 seconds, 0 is off, at most 32767 seconds (Linux). Nothing for Unix sockets.
   */
  readonly keepAlive?: Duration.Input | undefined
  /** Sends small writes at once (TCP_NODELAY). Default true. */
  readonly noDelay?: boolean | undefined
  /** How many connections the kernel keeps that we did not accept yet. Default 511 (Node's), cut to `somaxconn`. */
  readonly backlog?: number | undefined
  /**
   * From accepting a connection to the end of its TLS handshake and HTTP upgrade, and from the end of a handler to
   * somebody acquiring the reader. Then the connection is destroyed. Default 10 seconds.
   */
  readonly handshakeTimeout?: Duration.Input | undefined
  /** Longest WebSocket message, in bytes; a longer one closes its connection with 1009. Default 1 MiB. */
  readonly maxFrame?: number | undefined
  /**
   * How many connections may be in a TLS handshake, in an HTTP upgrade, or accepted while no `run` takes them, taken
   * together. One more is destroyed at once. Default 1024.
   */
  readonly maxPending?: number | undefined
  /**
   * How long a connection that we are done with waits for the peer to be done as well, before it is destroyed; and with
   * WebSocket, how long the closing handshake may take. Default 1 second.
   */
  readonly linger?: Duration.Input | undefined
}

/**
 * Why `make` could not listen.
 *
 * - `BadUrl`, `BadOption`, `BadTls`: what was asked for makes no sense; `BadTls` covers a missing, unreadable or
 *   mismatched certificate or key.
 * - `AddressInUse`: another socket has the port.
 * - `SocketFileInUse`: a process answers on the Unix socket file, or the file is no socket. (One that a dead process
 *   left behind is replaced.)
 * - `PermissionDenied`: ports below 1024, or a directory we may not write to.
 * - `AddressNotAvailable`: no interface of this machine has the address, or the directory does not exist.
 * - `HostNotFound`: the name does not resolve.
 * - `Unknown`: anything else; `cause` has it.
 *
 * @category errors
 * @since 0.1.0
 */
export const ListenReason = Schema.Literals([
  "BadUrl",
  "BadOption",
  "BadTls",
  "AddressInUse",
  "SocketFileInUse",
  "PermissionDenied",
  "AddressNotAvailable",
  "HostNotFound",
  "Unknown"
])

/**
 * @category errors
 * @since 0.1.0
 */
export type ListenReason = typeof ListenReason.Type

/**
 * The listener could not be opened. `message` is one line a person can act on and names the address.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenFailed extends Schema.TaggedError<ListenFailed>()("ListenFailed", {
  url: Schema.String,
  reason: ListenReason,
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    return `cannot listen on ${this.url}: ${this.detail}`
  }
  /** Whether the same call can succeed later, without anybody changing it. */
  get isRetryable(): boolean {
    return this.reason === "AddressInUse" || this.reason === "SocketFileInUse" ||
      this.reason === "AddressNotAvailable" || this.reason === "HostNotFound"
  }
}

/**
 * A `SocketServer` that knows its URL.
 *
 * @category models
 * @since 0.1.0
 */
export type Listener = SocketServer.SocketServer["Service"] & {
  /** The URL as given, with the port that was really bound: `tcp://127.0.0.1:41234`. */
  readonly url: string
}

/**
 * Listens on a URL until the scope closes.
 *
 * **Details**
 *
 * - `run(handler)` hands every connection to `handler`, in a fiber of its own, with `NodeSocket.NetSocket` in its
 *   context (`Socket.WebSocket` and `NodeSocketServer.IncomingMessage` for WebSocket). It never returns.
 * - Nothing is read from a connection before its socket's `reader` is acquired, so a client that is not served yet
 *   feels the kernel's back-pressure. (A TLS or WebSocket connection has been read for its handshake, and Node holds
 *   up to 64 KiB of what followed.)
 * - A connection lives as long as the scope in which its `reader` was acquired: a handler may pass the socket on and
 *   return. A handler that fails or is interrupted without having acquired it loses the connection at once, and one
 *   that returns loses it after `handshakeTimeout` unless somebody has acquired it by then. Wait for a permit inside
 *   the handler, not in a fiber it leaves behind, when the wait may be longer.
 * - When the reader's scope closes, what was written is flushed, the peer gets our FIN (or close frame), and input is
 *   discarded until the peer's FIN, at most for `linger`. This happens in the background.
 * - A peer that ends its side first still gets its answers (sockets are half-open).
 * - Interrupting `run` stops handing out; connections then wait, up to `maxPending`, for the next `run`. Handlers that
 *   are still running are interrupted; connections whose reader somebody acquired live on. So it is when `run` fails.
 * - Closing the listener's scope frees the address, destroys the connections whose reader nobody acquired, and waits
 *   for the lingering ones. Connections in use are left to their owners.
 *
 * **Gotchas**
 *
 * - `run` fails with a `SocketServerError` when accepting fails. The listener survives that: call `run` again after a
 *   pause. But Linux running out of file descriptors is *not* seen here: libuv accepts and closes such connections by
 *   itself (`uv__emfile_trick`) and Node is told nothing. Watch the number of descriptors instead.
 * - A WebSocket URL without a path means the path `/`. Other paths get 404, plain requests on the path 426.
 * - Two processes that start at the same moment on the same left-over socket file can both replace it; the last wins.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  url: string,
  options: ListenOptions = {}
): Effect.Effect<Listener, ListenFailed, Scope.Scope> =>
  Effect.gen(function*() {
    const settings = yield* Effect.fromResult(prepare(url, options))
    const { address } = settings
    const acceptor = makeAcceptor(settings)
    yield* Effect.acquireRelease(Effect.succeed(acceptor), (acceptor) => acceptor.close)
    yield* listen(acceptor.server, settings)
    const bound = acceptor.server.address() as Net.AddressInfo | string
    const socketAddress = typeof bound === "string"
      ? NetAddress.unixPathAddress(bound)
      : yield* Effect.mapError(
        Effect.fromResult(NetAddress.inetAddressFromIpString(bound.address, bound.port)),
        (cause) => new ListenFailed({ url: settings.url, reason: "Unknown", detail: cause.message, cause })
      )
    return {
      url: Address.formatUrl(address, typeof bound === "string" ? undefined : bound.port),
      address: socketAddress,
      run: acceptor.run
    }
  })

/**
 * Provides a `SocketServer` that listens on a URL; see `make`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  url: string,
  options: ListenOptions = {}
): Layer.Layer<SocketServer.SocketServer, ListenFailed> => Layer.effect(SocketServer.SocketServer, make(url, options))

// ---------------------------------------------------------------------------------------------------------------------
// settings
// ---------------------------------------------------------------------------------------------------------------------

interface Settings {
  readonly url: string
  readonly address: Address.Address
  readonly tcp: ReturnType<typeof tcpOptions>
  readonly backlog: number | undefined
  readonly handshakeTimeout: number
  readonly maxFrame: number
  readonly maxPending: number
  readonly linger: number
  readonly tls: Options.TlsOptions | undefined
}

const prepare = (rawUrl: string, options: ListenOptions): Result.Result<Settings, ListenFailed> => {
  const url = Address.redactUrl(rawUrl)
  const as = (reason: ListenReason) => Result.mapError((detail: string) => new ListenFailed({ url, reason, detail }))
  return Result.gen(function*() {
    const address = yield* as("BadUrl")(Address.parse(rawUrl, "listen"))
    const keepAlive = yield* as("BadOption")(Options.millis("keepAlive", options.keepAlive ?? "30 seconds"))
    const handshakeTimeout = yield* as("BadOption")(
      Options.millis("handshakeTimeout", options.handshakeTimeout ?? "10 seconds")
    )
    const linger = yield* as("BadOption")(Options.millis("linger", options.linger ?? "1 second"))
    const maxFrame = yield* as("BadOption")(Options.count("maxFrame", options.maxFrame ?? 1024 * 1024))
    const maxPending = yield* as("BadOption")(Options.count("maxPending", options.maxPending ?? 1024))
    const backlog = options.backlog === undefined
      ? undefined
      : yield* as("BadOption")(Options.count("backlog", options.backlog))
    const needsTls = address.scheme === "tls" || address.scheme === "wss"
    if (needsTls && (options.cert === undefined || options.key === undefined)) {
      const missing = options.cert === undefined
        ? options.key === undefined ? "both are" : "`cert` is"
        : "`key` is"
      const detail = `${address.scheme}:// needs the options \`cert\` and \`key\`, and ${missing} missing`
      return yield* as("BadTls")(Result.fail(detail))
    }
    return {
      url,
      address,
      tcp: tcpOptions(keepAlive, options.noDelay ?? true),
      backlog,
      handshakeTimeout,
      maxFrame,
      maxPending,
      linger,
      tls: needsTls ? yield* as("BadTls")(Options.tlsOptions(options)) : undefined
    }
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// listening
// ---------------------------------------------------------------------------------------------------------------------

// libuv says EACCES when the directory is missing (as Windows does)
const noDirectory = "ENOENT"

const explain = (address: Address.Address, code: string | undefined, text: string): readonly [ListenReason, string] => {
  const unix = address.scheme === "unix"
  switch (code) {
    case "EADDRINUSE":
      return unix
        ? ["SocketFileInUse", "another process is listening on this socket file"]
        : ["AddressInUse", `port ${address.port} is in use by another socket; stop it or choose another port`]
    case "EACCES":
    case "EPERM":
      return unix
        ? ["PermissionDenied", "no permission to make the socket file; check who owns its directory"]
        : ["PermissionDenied", `no permission to use port ${address.port}; ports below 1024 need a privilege`]
    case "EADDRNOTAVAIL":
      return ["AddressNotAvailable", "no network interface of this machine has this address"]
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return ["HostNotFound", "the host name does not resolve to an address"]
    case noDirectory:
      return ["AddressNotAvailable", "the directory of the socket file does not exist"]
    default:
      return ["Unknown", text]
  }
}

/** @internal the text for each error of the operating system, some of which a test cannot provoke */
export const listenFailed = (url: string, address: Address.Address, cause: NodeJS.ErrnoException): ListenFailed => {
  const [reason, detail] = explain(address, cause.code, cause.message)
  return new ListenFailed({ url, reason, detail, cause })
}

const tryListen = (server: Net.Server, settings: Settings): Effect.Effect<void, NodeJS.ErrnoException> =>
  Effect.callback((resume) => {
    const { address, backlog } = settings
    const done = () => {
      server.off("listening", onListening)
      server.off("error", onError)
    }
    const onListening = () => {
      done()
      resume(Effect.void)
    }
    const onError = (cause: NodeJS.ErrnoException) => {
      done()
      resume(Effect.fail(cause))
    }
    server.once("listening", onListening)
    server.once("error", onError)
    server.listen({
      ...(address.scheme === "unix" ? { path: address.path } : { host: address.host, port: address.port }),
      ...(backlog === undefined ? {} : { backlog })
    })
    return Effect.sync(done)
  })

const listen = (server: Net.Server, settings: Settings): Effect.Effect<void, ListenFailed> => {
  const { address, url } = settings
  return tryListen(server, settings).pipe(
    Effect.catchIf(
      (cause) => cause.code === "EADDRINUSE" && address.scheme === "unix",
      (cause) =>
        address.scheme !== "unix"
          ? Effect.fail(cause)
          : Effect.flatMap(
            Effect.promise(() => removeStale(address.path)),
            (obstacle) =>
              obstacle === undefined
                ? tryListen(server, settings)
                : Effect.fail(new ListenFailed({ url, reason: "SocketFileInUse", detail: obstacle, cause }))
          )
    ),
    Effect.catch((cause) =>
      Effect.gen(function*() {
        if (cause instanceof ListenFailed) return yield* cause
        const missing = address.scheme === "unix" && cause.code === "EACCES" &&
          !(yield* Effect.promise(() => exists(Path.dirname(address.path))))
        return yield* listenFailed(url, address, missing ? Object.assign(cause, { code: noDirectory }) : cause)
      })
    )
  )
}

const exists = (path: string): Promise<boolean> => Fs.access(path).then(() => true, () => false)

/** Removes a socket file which nobody listens on any more; otherwise says what is in the way. */
const removeStale = async (path: string): Promise<string | undefined> => {
  const before = await Fs.lstat(path).catch(() => undefined)
  if (before === undefined) return undefined
  // connecting to a plain file is refused as well: never remove one
  if (!before.isSocket()) return "there is a file of this name, and it is no socket; remove it or choose another path"
  const code = await new Promise<string>((resolve) => {
    const probe = Net.createConnection({ path })
    probe.once("connect", () => {
      probe.destroy()
      resolve("")
    })
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
  if (code === "") return "another process is listening on this socket file"
  if (code === "ENOENT") return undefined
  if (code !== "ECONNREFUSED") return `the socket file exists and cannot be checked (${code})`
  const after = await Fs.lstat(path).catch(() => undefined)
  if (after === undefined) return undefined
  if (after.ino !== before.ino) return "another process has just begun to listen on this socket file"
  return Fs.unlink(path).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => `the socket file of a dead process cannot be removed (${error.code})`
  )
}

// ---------------------------------------------------------------------------------------------------------------------
// accepting
// ---------------------------------------------------------------------------------------------------------------------

/** One accepted connection, from `accept` until its reader is acquired. */
interface Arrival {
  /** What was accepted: destroying it destroys whatever runs on top. */
  readonly raw: Net.Socket
  readonly addresses: Pick<Transport, "local" | "remote">
  timer: NodeJS.Timeout | undefined
  /** Set once the handshakes are done. */
  open: (() => Opened) | undefined
}

/** What a handler gets. */
interface Opened {
  readonly socket: Effect.Effect<Socket.Socket>
  readonly services: Context.Context<never>
}

/** Somebody's `run`. */
interface Consumer {
  readonly take: (arrival: Arrival, opened: Opened) => void
  readonly fail: (cause: Error) => void
}

const openError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })

/** Names a connection by both of its ends: no two living connections of a machine share them. */
const tuple = (conn: Net.Socket): string | undefined =>
  conn.remotePort === undefined
    ? undefined
    : `${conn.remoteAddress} ${conn.remotePort} ${conn.localAddress} ${conn.localPort}`

const makeAcceptor = (settings: Settings) => {
  const { address } = settings
  /** Accepted and not handed out; bounded by `maxPending`. */
  const pending = new Set<Arrival>()
  /** Handed out, reader not acquired yet. */
  const unclaimed = new Set<Arrival>()
  /** Released by their owner, not gone yet. */
  const lingering = new Set<Net.Socket>()
  /** Whom a TLS or HTTP server is talking to; each gives us back the connection, not what we accepted. */
  const securing = new Map<string, Arrival>()
  const upgrading = new WeakMap<Duplex, Arrival>()
  /** The last one gets the connections. */
  let consumers: ReadonlyArray<Consumer> = []
  let closed = false
  let whenQuiet: (() => void) | undefined

  const server = Net.createServer({
    allowHalfOpen: true,
    // the other schemes have to read for their handshakes
    pauseOnConnect: address.scheme === "tcp" || address.scheme === "unix",
    ...(address.scheme === "unix" ? {} : settings.tcp)
  })
  server.on("connection", accept)
  server.on("error", (cause) => {
    for (const consumer of consumers) consumer.fail(cause)
  })
  const tls = settings.tls === undefined ? undefined : makeTls(settings.tls)
  const http = address.scheme === "ws" || address.scheme === "wss" ? makeHttp(address.tail || "/") : undefined

  function accept(raw: Net.Socket): void {
    raw.on("error", noop)
    if (closed || pending.size >= settings.maxPending) {
      raw.destroy()
      return
    }
    const arrival: Arrival = {
      raw,
      addresses: address.scheme === "unix"
        ? { local: address.path, remote: `unix:${address.path}` }
        : { local: Address.localOf(raw), remote: Address.remoteOf(raw) },
      timer: undefined,
      open: undefined
    }
    pending.add(arrival)
    raw.once("close", () => forget(arrival))
    if (tls === undefined && http === undefined) return ready(arrival, () => openStream(arrival, raw))
    arrival.timer = setTimeout(() => raw.destroy(), settings.handshakeTimeout)
    if (tls !== undefined) {
      const key = tuple(raw)
      if (key === undefined) {
        raw.destroy()
        return
      }
      securing.set(key, arrival)
      // until it is secure, the peer's end is the end; TLS takes this over from what it runs on
      raw.allowHalfOpen = false
      raw.once("close", () => {
        if (securing.get(key) === arrival) securing.delete(key)
      })
      tls.emit("connection", raw)
    } else {
      upgrading.set(raw, arrival)
      http!.emit("connection", raw)
    }
  }

  function forget(arrival: Arrival): void {
    pending.delete(arrival)
    unclaimed.delete(arrival)
    clearTimeout(arrival.timer)
  }

  function ready(arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    clearTimeout(arrival.timer)
    arrival.open = open
    const consumer = consumers.at(-1)
    if (consumer !== undefined) hand(consumer, arrival, open)
  }

  function hand(consumer: Consumer, arrival: Arrival, open: NonNullable<Arrival["open"]>): void {
    pending.delete(arrival)
    unclaimed.add(arrival)
    consumer.take(arrival, open())
  }

  /** Passes the ownership to whoever acquires the reader. */
  function claim(arrival: Arrival): Effect.Effect<void, Socket.SocketError, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.suspend(() => {
        if (arrival.raw.destroyed) {
          return Effect.fail(openError(arrival.raw.errored ?? new Error("the connection ended before it was read")))
        }
        if (!unclaimed.has(arrival)) return Effect.fail(openError(new Error("the connection was read before")))
        forget(arrival)
        return Effect.void
      }),
      () =>
        Effect.sync(() => {
          if (arrival.raw.destroyed) return
          lingering.add(arrival.raw)
          arrival.raw.once("close", () => {
            lingering.delete(arrival.raw)
            if (lingering.size === 0) whenQuiet?.()
          })
        })
    )
  }

  function openStream(arrival: Arrival, conn: Net.Socket): Opened {
    return {
      socket: Effect.map(
        NodeSocket.fromDuplex(
          Effect.acquireRelease(
            Effect.as(claim(arrival), conn),
            (conn) => Effect.sync(() => linger(conn, settings.linger))
          ),
          { tlsServer: true }
        ),
        (socket) => describe(socket, { messages: false, ...arrival.addresses, unsent: () => unsent(conn) })
      ),
      services: Context.make(NodeSocket.NetSocket, conn)
    }
  }

  function openWebSocket(
    arrival: Arrival,
    ws: NodeWS.WebSocket,
    stream: Duplex,
    request: Http.IncomingMessage
  ): Opened {
    return {
      socket: WebSocket.make({
        acquire: Effect.as(claim(arrival), { ws, stream }),
        linger: settings.linger,
        addresses: arrival.addresses
      }),
      services: Context.make(NodeSocketServer.IncomingMessage, request).pipe(Context.add(Socket.WebSocket, ws))
    }
  }

  function makeTls(options: Options.TlsOptions): Tls.Server {
    const server = Tls.createServer({
      ...options,
      requestCert: options.ca !== undefined,
      handshakeTimeout: settings.handshakeTimeout,
      ...(address.scheme === "wss" ? { ALPNProtocols: ["http/1.1"] } : {})
    })
    server.on("tlsClientError", (_, conn) => conn.destroy())
    server.on("secureConnection", (conn) => {
      conn.on("error", noop)
      const key = tuple(conn)
      const arrival = key === undefined ? undefined : securing.get(key)
      if (key === undefined || arrival === undefined) {
        conn.destroy()
        return
      }
      securing.delete(key)
      conn.allowHalfOpen = true
      if (http !== undefined) {
        upgrading.set(conn, arrival)
        http.emit("connection", conn)
      } else {
        conn.pause()
        ready(arrival, () => openStream(arrival, conn))
      }
    })
    return server
  }

  function makeHttp(path: string): Http.Server {
    const sockets = new NodeWS.WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: settings.maxFrame,
      ...WebSocket.closeTimeout(settings.linger)
    })
    const status = (request: Http.IncomingMessage): 404 | 426 =>
      (request.url ?? "").split("?", 1)[0] === path ? 426 : 404
    const headers = {
      404: { "Content-Type": "text/plain", Connection: "close" },
      // RFC 9110, 15.5.22: what to upgrade to has to be said
      426: { "Content-Type": "text/plain", Connection: "close, Upgrade", Upgrade: "websocket" }
    }
    const server = Http.createServer((request, response) => {
      const code = status(request)
      response.writeHead(code, headers[code]).end(Http.STATUS_CODES[code])
    })
    server.on("upgrade", (request, stream, head) => {
      const arrival = upgrading.get(stream)
      if (arrival === undefined) {
        stream.destroy()
        return
      }
      if (status(request) === 404 || request.headers.upgrade?.toLowerCase() !== "websocket") {
        const code = status(request)
        const text = Http.STATUS_CODES[code]!
        const lines = Object.entries({ ...headers[code], "Content-Length": text.length }).map(([k, v]) =>
          `${k}: ${v}\r\n`
        )
        stream.end(`HTTP/1.1 ${code} ${text}\r\n${lines.join("")}\r\n${text}`)
        linger(stream, settings.linger)
        return
      }
      sockets.handleUpgrade(request, stream, head, (ws) => {
        ws.on("error", noop)
        ws.pause()
        if (!settings.tcp.noDelay) arrival.raw.setNoDelay(false)
        ready(arrival, () => openWebSocket(arrival, ws, stream, request))
      })
    })
    return server
  }

  const run = <R, E, _>(
    handler: (socket: Socket.Socket) => Effect.Effect<_, E, R>
  ): Effect.Effect<never, SocketServer.SocketServerError, R> =>
    Effect.gen(function*() {
      const context = Context.omit(Scope.Scope)(yield* Effect.context<R>()) as Context.Context<R>
      const scope = yield* Scope.make()
      const track = Fiber.runIn(scope)
      const take: Consumer["take"] = (arrival, { services, socket }) => {
        let failed = false
        const fiber = socket.pipe(
          Effect.flatMap(handler),
          Effect.onError(() =>
            Effect.sync(() => {
              failed = true
            })
          ),
          Effect.ignoreCause({ log: "Unhandled", message: "Unhandled error in SocketServer" }),
          Effect.runForkWith(Context.merge(context, services))
        )
        fiber.addObserver((exit) => {
          if (!unclaimed.has(arrival)) return
          if (failed || Exit.isFailure(exit)) arrival.raw.destroy()
          else arrival.timer = setTimeout(() => arrival.raw.destroy(), settings.handshakeTimeout).unref()
        })
        track(fiber)
      }
      let consumer: Consumer | undefined
      const leave = () => {
        consumers = consumers.filter((one) => one !== consumer)
      }
      return yield* Effect.callback<never, SocketServer.SocketServerError>((resume) => {
        consumer = {
          take,
          fail: (cause) => {
            leave()
            const reason = new SocketServer.SocketServerUnknownError({ cause })
            resume(Effect.fail(new SocketServer.SocketServerError({ reason })))
          }
        }
        consumers = [...consumers, consumer]
        for (const arrival of pending) {
          if (arrival.open !== undefined) hand(consumer, arrival, arrival.open)
        }
      }).pipe(
        Effect.ensuring(Effect.suspend(() => {
          leave()
          return Scope.close(scope, Exit.void)
        }))
      )
    })

  const close = Effect.callback<void>((resume) => {
    closed = true
    // frees the address at once; the callback would wait for every connection
    server.close(noop)
    for (const arrival of [...pending, ...unclaimed]) arrival.raw.destroy()
    if (lingering.size === 0) return resume(Effect.void)
    whenQuiet = () => resume(Effect.void)
  })

  return { server, run, close }
}

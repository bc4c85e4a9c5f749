/**
 * Listens on an address and accepts sockets.
 *
 * One URL says everything about where: `tcp://127.0.0.1:7000`, `tls://[::]:7001`, `unix:///run/app.sock`,
 * `ws://0.0.0.0:8080/live`, `wss://0.0.0.0:8443/live`. A link-local address names its interface (`tcp://[fe80::1%eth0]:7000`), and
 * `unix://@name` is an abstract name of Linux: it has no file, and any process of the machine (of the network namespace) may
 * connect to it. What comes out is the `SocketServer` of `effect/socket`.
 *
 * **Example** (Two addresses, one server)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { SocketServer } from "effect/socket"
 * import { Codec, Connection, Server } from "holdfast"
 * import { Listener } from "holdfast/node"
 *
 * const program = Effect.gen(function*() {
 *   const local = yield* Listener.make("unix:///run/app.sock", { mode: 0o660 })
 *   const web = yield* Listener.make("ws://0.0.0.0:8080/live")
 *   yield* Server.run({
 *     open: Connection.make({ codec: Codec.lines() }),
 *     handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 *   }).pipe(Effect.provideService(SocketServer.SocketServer, Listener.merge([local, web])))
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SocketServer from "effect/socket/SocketServer"
import type * as Net from "node:net"
import { type Accepting, LastAccept } from "../internal/transport/accepted.ts"
import * as Policy from "../Policy.ts"
import type { Certificates } from "./Certificates.ts"
import * as Address from "./internal/addresses/address.ts"
import { type Binding, listen } from "./internal/addresses/listen.ts"
import { inetAddressOf } from "./internal/addresses/zone.ts"
import * as Acceptor from "./internal/listening/acceptor.ts"
import * as Options from "./internal/options.ts"
import { behindOf } from "./internal/proxy/behind.ts"
import { securingOf } from "./internal/tls/securing.ts"
import { type Rules, rulesOf } from "./internal/webSocket/rules.ts"
import type * as Proxy from "./Proxy.ts"
import type * as Upgrade from "./Upgrade.ts"

/**
 * What a server shows in TLS, and what it asks of clients: options of `Listener` (`tls`, `wss`) and of `HttpServer` (`https`).
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsOptions {
  /** The certificate to show, as PEM; intermediate certificates follow it in the same text. */
  readonly cert?: string | Uint8Array | undefined
  /** The private key of `cert`, as PEM. */
  readonly key?: string | Uint8Array | Redacted.Redacted<string | Uint8Array> | undefined
  /** When given, a client has to show a certificate that one of these authorities (PEM) signed. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /** Opens an encrypted `key`. */
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
  /**
   * Certificates that are renewed while the listener runs, and those for several names (SNI), in place of `cert`, `key`, `ca` and
   * `passphrase`. Connections that live are not touched by a renewal.
   */
  readonly certificates?: Certificates<unknown> | undefined
  /** The lowest version of TLS that is spoken. Default Node's, which is TLS 1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
}

/**
 * How the address of a server is bound: options of `Listener` and of `HttpServer`.
 *
 * @category models
 * @since 0.1.0
 */
export interface BindOptions {
  /**
   * The most connections that the kernel keeps and we did not accept yet. The default is Node's; the kernel cuts it to
   * `somaxconn`. Default 511.
   */
  readonly backlog?: number | undefined
  /**
   * Several listeners may have the address at the same time, each with its share of the connections (SO_REUSEPORT): a
   * successor listens before the one before it has gone. Default false.
   *
   * All of them have to say so, or the second gets `AddressInUse`. Linux, FreeBSD and a few more. On a Unix socket the
   * listener takes the file over from the one that has it, whatever that said: clients of before stay with it, those from
   * then on come here.
   */
  readonly reusePort?: boolean | undefined
  /** An IPv6 address takes IPv6 connections alone; `[::]` leaves IPv4 to another listener of the port. Default false. */
  readonly ipv6Only?: boolean | undefined
  /**
   * Listens on a socket that this process inherited, and binds nothing: the URL says the scheme, and what the address is called.
   * Closed with the listener.
   *
   * - A number: the descriptor that a supervisor made.
   * - `"systemd"`: the socket that systemd passed (socket activation: `LISTEN_FDS`, `LISTEN_PID`), where it is the only one;
   *   `"systemd:web"`: the one whose unit says `FileDescriptorName=web`. None, several, or sockets for another process are a
   *   `BadOption` that says what to do. The variables are taken away, so that a program started from here does not
   *   read them.
   */
  readonly fd?: number | "systemd" | `systemd:${string}` | undefined
  /**
   * Who may connect to a Unix socket, as the mode of its file: `0o660` is its user and its group. Set before a client can
   * connect. Default what the umask of the process leaves of `0o777`.
   */
  readonly mode?: number | undefined
  /**
   * Whose the file of a Unix socket is, by the numbers that `id` prints; what is left out stays as it is. Set before a client can
   * connect. Default the user and the group of this process.
   *
   * Only root may name another user; others may name a group that they belong to. Else `PermissionDenied`.
   */
  readonly owner?: { readonly uid?: number | undefined; readonly gid?: number | undefined } | undefined
}

/**
 * How to listen. Every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListenOptions<out R = never> extends TlsOptions, BindOptions, Upgrade.Options<R>, Proxy.Options {
  /**
   * The protocols to agree to in the handshake (ALPN, RFC 7301), of `tls`, the one liked best first. A client that offers others
   * alone is refused with an alert. What was agreed to is `alpnProtocol` of `NodeSocket.NetSocket`. With `wss` it is
   * always `http/1.1`.
   */
  readonly alpn?: ReadonlyArray<string> | undefined
  /**
   * A policy, or the fields that differ from `Policy.defaults`. A field that makes no sense throws `InvalidPolicy`.
   *
   * Give it the value that the `Server` and the `Connection` have. Of it a listener takes:
   *
   * - `handshake`: from accepting a connection to the end of its TLS handshake and HTTP upgrade; and again from the end of
   *   a handler until the reader is acquired. Then the connection is destroyed.
   * - `maxFrame`: of a WebSocket message that a program receives from the socket by itself; a longer one closes with 1009.
   *   A `Connection` reads the frames below it, and has the limits of its own policy.
   * - `keepAlive`, `keepAliveInterval`, `keepAliveCount`, `noDelay`: of TCP.
   */
  readonly policy?: Policy.Patch | undefined
  /**
   * The most connections in a TLS handshake, in an HTTP upgrade or not taken by a `run`, together. Default 1024.
   *
   * One more is destroyed at once; a `Server` is told.
   */
  readonly maxPending?: number | undefined
  /**
   * How long a connection that we are done with waits for the peer to be done as well. Default 1 s. 0 destroys it at
   * once.
   *
   * Then it is destroyed. With WebSocket it is also how long the closing handshake may take.
   */
  readonly linger?: Duration.Input | undefined
}

/**
 * Why `make` could not listen.
 *
 * - `BadUrl`, `BadOption`, `BadTls`: what was asked for makes no sense; `BadTls` covers a missing, unreadable or
 *   mismatched certificate or key.
 * - `AddressInUse`: another socket has the port, or the abstract name.
 * - `SocketFileInUse`: a process answers on the Unix socket file, or the file is no socket. (One that a dead process
 *   left behind is replaced.)
 * - `PermissionDenied`: ports below 1024, a directory we may not write to, or an `owner` whom we may not give a file to.
 * - `AddressNotAvailable`: no interface of this machine has the address or the name of the zone, or the directory does not exist.
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
  /** Whether the same call, unchanged, can succeed later. */
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
 *   context, and for a WebSocket `NodeSocketServer.IncomingMessage`, which a `Server` does not keep: there,
 *   `Upgrade.request` is what was asked for. It never returns.
 * - A WebSocket is RFC 6455 on such a byte stream. A `Connection` hears every byte of it, also of messages that are not
 *   whole yet; for other programs the socket gives whole messages, and answers pings.
 * - Nothing is read from a connection before its socket's `reader` is acquired, so a client that is not served yet
 *   feels the kernel's back-pressure. (A TLS or WebSocket connection has been read for its handshake, and Node holds
 *   up to 64 KiB of what followed.)
 * - Limits of a `Server` count connections from their accept on, before TLS and upgrade, over all listeners of it. One over
 *   a limit is closed at once (a WebSocket client that asks within a second gets 503 with `Retry-After`), or waits unread. A
 *   handshake that fails or takes too long is a `Refused` event too. Without a `Server` there is `maxPending` alone.
 * - A connection lives as long as the scope in which its `reader` was acquired: a handler may pass the socket on and
 *   return. A handler that fails or is interrupted without having acquired it loses the connection at once, and one
 *   that returns loses it after `Policy.handshake` unless it is acquired by then. Wait for a permit inside
 *   the handler, not in a fiber it leaves behind, when the wait may be longer.
 * - When the reader's scope closes, what was written is flushed, the peer gets our FIN (or close frame), and input is
 *   discarded until the peer's FIN, at most for `linger`. This happens in the background.
 * - A peer that ends its side first still gets its answers (sockets are half-open).
 * - Interrupting `run` stops handing out; connections then wait, up to `maxPending`, for the next `run`. Handlers that
 *   are still running are interrupted; connections whose reader is acquired live on. So it is when `run` fails.
 * - When every `Server` that runs on it stops, it takes what the kernel has accepted, and gives the address back while they
 *   drain: clients that come are refused by the kernel, or find a successor. A `run` after that listens again; on an
 *   inherited descriptor it fails.
 * - Closing the listener's scope accepts what the kernel has accepted already, and frees the address. Connections whose
 *   reader is not acquired are closed: they get a FIN, and no reset. Then it waits for the lingering ones. Connections in use are left to their owners.
 *
 * **A restart without a gap**
 *
 * Let the successor listen before the process before it is asked to stop:
 *
 * 1. Both listen on one address: each with `fd`, a descriptor that a supervisor made and both inherited, or each with `reusePort`. With `fd` there is one queue, and nothing in it is ever lost.
 * 2. Start the successor, and wait until it listens. Then send SIGTERM to the one before.
 * 3. That takes what it had accepted, stops listening at once, and drains; from then on clients find the successor alone.
 *    Clients of the native protocol come back with one attempt each, and none of their requests is lost.
 *
 * **Gotchas**
 *
 * - A policy that makes no sense throws its `InvalidPolicy` here, before anything runs.
 * - `run` fails with a `SocketServerError` when accepting fails. The listener survives that: call `run` again after a
 *   pause. But Linux running out of file descriptors is *not* seen here: libuv accepts and closes such connections by
 *   itself (`uv__emfile_trick`) and Node is told nothing. A warning says when a connection has taken the last descriptor, once a
 *   minute at most; keep `maxConnections` below `ulimit -n`.
 * - A socket of a byte stream is an instance: wrap it with `Socket.make`, as a prototype or as a proxy, but do not spread it.
 * - A WebSocket URL without a path means the path `/`, or no path but those of `paths`. Other paths get 404, plain requests
 *   on a path 426, and a page of another host 403 (`origins`).
 * - Two processes that start at the same moment on the same left-over socket file can both replace it; the last wins. A
 *   listener never removes the socket file of another one.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <R = never>(
  url: string,
  options: ListenOptions<R> = {}
): Effect.Effect<Listener, ListenFailed, Scope.Scope | R> => {
  const policy = Policy.make(options.policy)
  return Effect.gen(function*() {
    const prepared = yield* Effect.fromResult(prepare(url, policy, options))
    yield* Options.warnOf(policy)
    const settings = { ...prepared, context: yield* Effect.context<never>() }
    const { address } = settings
    const acceptor = yield* Effect.acquireRelease(
      Effect.sync(() => Acceptor.make(settings)),
      (acceptor) => acceptor.close
    )
    let release = yield* Effect.mapError(
      listen(acceptor.server, address, settings.binding),
      (refusal) => new ListenFailed({ url: settings.url, ...refusal })
    )
    yield* Effect.addFinalizer(() => release)
    const bound = acceptor.server.address() as Net.AddressInfo | string
    const socketAddress = typeof bound === "string"
      ? NetAddress.unixPathAddress(bound)
      : yield* Effect.mapError(
        Effect.fromResult(inetAddressOf(bound.address, bound.port)),
        (cause) => new ListenFailed({ url: settings.url, reason: "Unknown", detail: cause.message, cause })
      )
    const boundTo = address.scheme === "unix" ? address : { ...address, port: (bound as Net.AddressInfo).port }
    // a server that stopped has ended the listening: for another one it begins again
    const listening = Effect.suspend(() => {
      if (acceptor.server.listening) return Effect.void
      const again = options.fd === undefined
        ? listen(acceptor.server, boundTo, settings.binding)
        : Effect.fail({
          cause: new Error(`the descriptor ${options.fd} was given back when the server before stopped`)
        })
      return Effect.matchEffect(again, {
        onFailure: ({ cause }) =>
          Effect.fail(
            new SocketServer.SocketServerError({ reason: new SocketServer.SocketServerOpenError({ cause }) })
          ),
        onSuccess: (next) =>
          Effect.sync(() => {
            release = next
          })
      })
    })
    const listener: Listener & Accepting = {
      url: Address.formatUrl(address, typeof bound === "string" ? undefined : bound.port),
      address: socketAddress,
      run: (handler) => Effect.andThen(listening, acceptor.run(handler)),
      [LastAccept]: acceptor.lastAccept
    }
    return listener
  })
}

/**
 * Several listeners as one, so that the limits of a server hold for all of them together.
 *
 * **Details**
 *
 * - `run` runs all of them. When one fails to accept, it fails with that error and interrupts the others.
 * - `address` and `url` are those of the first.
 *
 * @category combinators
 * @since 0.1.0
 */
export const merge = (listeners: NonEmptyReadonlyArray<Listener>): Listener => {
  const merged: Listener & Accepting = {
    url: listeners[0].url,
    address: listeners[0].address,
    run: (handler) => Effect.raceAllFirst(listeners.map((listener) => listener.run(handler))),
    [LastAccept]: (reception) =>
      Effect.forEach(
        listeners as NonEmptyReadonlyArray<Accepting>,
        (listener) => listener[LastAccept]?.(reception) ?? Effect.void,
        { concurrency: "unbounded", discard: true }
      )
  }
  return merged
}

/**
 * Provides a `SocketServer` that listens on a URL; see `make`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <R = never>(
  url: string,
  options: ListenOptions<R> = {}
): Layer.Layer<SocketServer.SocketServer, ListenFailed, Exclude<R, Scope.Scope>> =>
  Layer.effect(SocketServer.SocketServer, make(url, options))

interface Settings extends Omit<Acceptor.Settings, "context"> {
  /** As it may appear in an error. */
  readonly url: string
  readonly binding: Binding
}

const prepare = <R>(
  rawUrl: string,
  policy: Policy.Policy,
  options: ListenOptions<R>
): Result.Result<Settings, ListenFailed> => {
  const url = Address.redactUrl(rawUrl)
  const as = (reason: ListenReason) => Result.mapError((detail: string) => new ListenFailed({ url, reason, detail }))
  return Result.gen(function*() {
    const address = yield* as("BadUrl")(Address.parse(rawUrl, "listen"))
    const linger = yield* as("BadOption")(Options.read("linger", options.linger))
    const maxPending = yield* as("BadOption")(Options.read("maxPending", options.maxPending))
    const binding = yield* as("BadOption")(Options.bindingOf(address, options))
    const behind = yield* as("BadOption")(behindOf(options))
    const needsTls = address.scheme === "tls" || address.scheme === "wss"
    const isWeb = address.scheme === "ws" || address.scheme === "wss"
    // one path has no name when others have: `ws://host:port` with `paths` alone
    const home = isWeb && (address.tail !== "" || options.upgrade !== undefined || options.paths === undefined)
      ? address.tail || "/"
      : undefined
    const rules = yield* as("BadOption")(rulesOf(home, options))
    return {
      url,
      address,
      // its hooks run in the context of `make`
      rules: rules as Rules<never>,
      behind,
      binding,
      ...Options.ofPolicy(policy),
      maxPending,
      linger,
      securing: needsTls
        ? yield* as("BadTls")(securingOf(`${address.scheme}://`, options, isWeb ? ["http/1.1"] : options.alpn))
        : undefined
    }
  })
}

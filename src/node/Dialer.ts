/**
 * Opens sockets to an address.
 *
 * The URLs are those of `Listener`: `tcp://host:7000`, `tls://host:7001`, `unix:///run/app.sock`, `ws://host/live`,
 * `wss://host/live`.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { overStream } from "../internal/webSocket/socket.ts"
import * as Address from "./internal/addresses/address.ts"
import * as Options from "./internal/options.ts"
import { DialledSocket } from "./internal/stream/dialled.ts"
import { linger, setTcpOptions, type tcpOptions } from "./internal/stream/tcp.ts"
import * as Material from "./internal/tls/material.ts"
import * as Asking from "./internal/webSocket/asking.ts"
import type { Fresh } from "./internal/webSocket/asking.ts"
import { upgrade } from "./internal/webSocket/dial.ts"
import { maskKey } from "./internal/webSocket/maskKey.ts"
import { openError } from "./internal/webSocket/refusal.ts"

export type { Fresh } from "./internal/webSocket/asking.ts"

/**
 * How to dial. Every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface DialOptions {
  /** Whom to trust (`tls`, `wss`), as PEM, instead of Node's list of authorities. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /** A client certificate, as PEM; needs `key`. */
  readonly cert?: string | Uint8Array | undefined
  /** The private key of `cert`, as PEM. */
  readonly key?: string | Uint8Array | Redacted.Redacted<string | Uint8Array> | undefined
  /** Opens an encrypted `key`. */
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
  /** The name to ask for (SNI) and to find in the server's certificate. Default the host of the URL. */
  readonly servername?: string | undefined
  /** Whether a server whose certificate cannot be verified is refused. Default true. */
  readonly rejectUnauthorized?: boolean | undefined
  /**
   * How long a TCP connection is quiet before the kernel probes the peer. A second layer below `silence`. Default 30 s.
   * 0 is off.
   *
   * The kernel probes ten times, one second apart (libuv sets that). At most 32767 seconds (Linux). Nothing for Unix
   * sockets.
   */
  readonly keepAlive?: Duration.Input | undefined
  /** Small writes leave at once (TCP_NODELAY). Default true. */
  readonly noDelay?: boolean | undefined
  /** How long dialling may take, TLS and WebSocket upgrade included. Default 10 s. 0 is off. */
  readonly openTimeout?: Duration.Input | undefined
  /**
   * The longest frame, in bytes of payload. Checked before anything is allocated for it. Default 1 MiB.
   *
   * That of a WebSocket message; a longer one closes the connection with 1009.
   */
  readonly maxFrame?: number | undefined
  /** Headers of the request to upgrade to a WebSocket; an effect is run for every try. */
  readonly headers?: Fresh<Readonly<Record<string, string>>> | undefined
  /** Cookies of that request. */
  readonly cookies?: Fresh<Readonly<Record<string, string>>> | undefined
  /** The WebSocket subprotocols to offer, the one liked best first. A server that chooses another is not spoken with. */
  readonly protocols?: Fresh<string | ReadonlyArray<string>> | undefined
  /**
   * How long a connection that we are done with waits for the peer to be done as well. Default 1 s. 0 destroys it at
   * once.
   *
   * Then it is destroyed. With WebSocket it is also how long the closing handshake may take.
   */
  readonly linger?: Duration.Input | undefined
}

/**
 * Why no socket could be made. Only what was asked for is at fault here: a server that cannot be reached is a
 * `SocketError` of the reader.
 *
 * @category errors
 * @since 0.1.0
 */
export class DialFailed extends Schema.TaggedError<DialFailed>()("DialFailed", {
  url: Schema.String,
  reason: Schema.Literals(["BadUrl", "BadOption", "BadTls"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `cannot dial ${this.url}: ${this.detail}`
  }
  /** The same URL and options would fail again. */
  get isRetryable(): boolean {
    return false
  }
}

/**
 * Makes a socket that dials a URL when its `reader` is acquired.
 *
 * **Details**
 *
 * - Acquiring the reader fails with a `SocketOpenError` when the server cannot be reached, refuses, cannot be verified,
 *   or does not answer within `openTimeout`. A `Connection` makes `OpenFailed` of that, or `UpgradeRefused` where a
 *   server of WebSockets answered with another status.
 * - When the reader's scope closes, what was written is flushed, the server gets our FIN (or close frame), and input is
 *   discarded until the server's FIN, at most for `linger`, in the background.
 *
 * **Gotchas**
 *
 * Make a fresh socket for every connection: acquiring a second reader on one socket redirects the writer of the first.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (url: string, options: DialOptions = {}): Effect.Effect<Socket.Socket, DialFailed> =>
  Effect.map(Effect.fromResult(prepare(url, options)), (settings) => {
    const { address } = settings
    return address.scheme === "ws" || address.scheme === "wss"
      ? makeWebSocket(address, settings)
      : makeStream(address, settings)
  })

/**
 * Provides a `Socket` that dials a URL; see `make`.
 *
 * **When to use**
 *
 * Where a program says what it talks to (`Socket.Socket`, `Connection.make`) apart from where that is: another layer is
 * another address, another transport, or the socket of a test.
 *
 * **Details**
 *
 * Each build of the layer is a socket of its own: provided to the effect that opens one connection, it dials afresh each time,
 * as a `Client` and a `ConnectionPool` need. Building it dials nothing, and fails for a URL or options that make no sense.
 *
 * **Gotchas**
 *
 * Provided around a whole program it is one socket, for one connection at a time.
 *
 * **Example** (A pool of connections to wherever the layer says)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Socket } from "effect/socket"
 * import { Codec, Connection, ConnectionPool } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const chat = Effect.flatMap(Socket.Socket, Connection.make({ codec: Codec.lines() }))
 *
 * // a URL that makes no sense is a mistake in the program
 * const there = Layer.orDie(Dialer.layer("tcp://127.0.0.1:7000"))
 *
 * const program = ConnectionPool.make(Effect.provide(chat, there), { max: 4 })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (url: string, options: DialOptions = {}): Layer.Layer<Socket.Socket, DialFailed> =>
  // or connections would share the one of a layer that the program is provided with too
  Layer.fresh(Layer.effect(Socket.Socket, make(url, options)))

interface Settings {
  readonly address: Address.Address
  readonly tcp: ReturnType<typeof tcpOptions>
  readonly openTimeout: number
  readonly linger: number
  readonly maxFrame: number
  readonly asking: Asking.Given
  readonly tls: Tls.ConnectionOptions
}

const prepare = (rawUrl: string, options: DialOptions): Result.Result<Settings, DialFailed> => {
  const url = Address.redactUrl(rawUrl)
  const as = (reason: DialFailed["reason"]) =>
    Result.mapError((detail: string) => new DialFailed({ url, reason, detail }))
  return Result.gen(function*() {
    const address = yield* as("BadUrl")(Address.parse(rawUrl, "dial"))
    const tcp = yield* as("BadOption")(Options.readTcp(options))
    const openTimeout = yield* as("BadOption")(Options.read("openTimeout", options.openTimeout))
    const linger = yield* as("BadOption")(Options.read("linger", options.linger))
    const maxFrame = yield* as("BadOption")(Options.read("maxFrame", options.maxFrame))
    yield* as("BadOption")(Asking.check(options))
    const secure = address.scheme === "tls" || address.scheme === "wss"
    const tls: Tls.ConnectionOptions = !secure ? {} : {
      secureContext: Tls.createSecureContext(yield* as("BadTls")(Material.tlsOptions(options))),
      ...(options.servername === undefined ? {} : { servername: options.servername }),
      ...(options.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: options.rejectUnauthorized })
    }
    return {
      address,
      tcp,
      openTimeout,
      linger,
      maxFrame,
      asking: options,
      tls
    }
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// byte streams
// ---------------------------------------------------------------------------------------------------------------------

const connect = (address: Address.Address, settings: Settings): readonly [Net.Socket, "connect" | "secureConnect"] => {
  // the peer's FIN ends what it sends, not what we send: `Policy.halfClose` says for how long
  const allowHalfOpen = true
  if (address.scheme === "unix") return [Net.createConnection({ path: address.path, allowHalfOpen }), "connect"]
  const { host, port } = address
  if (address.scheme === "tcp" || address.scheme === "ws") {
    return [Net.createConnection({ host, port, allowHalfOpen, ...settings.tcp }), "connect"]
  }
  // an IP address is no server name (RFC 6066, 3)
  const servername = settings.tls.servername ?? (Net.isIP(host) === 0 ? host : "")
  // the types do not know that TLS has it too
  const secured: Tls.ConnectionOptions & { readonly allowHalfOpen: boolean } = {
    host,
    port,
    allowHalfOpen,
    ...settings.tls,
    servername
  }
  return [Tls.connect(secured), "secureConnect"]
}

/** A connection, which the scope lets linger once it is open. */
const connecting = (
  address: Address.Address,
  settings: Settings
): Effect.Effect<Net.Socket, Socket.SocketError, Scope.Scope> =>
  // NodeSocket.makeNet and makeTls keep the connection to themselves, and TLS leaves keep-alive and Nagle alone
  Effect.gen(function*() {
    let conn: Net.Socket | undefined
    let opened = false
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (conn === undefined) return
        if (opened) linger(conn, settings.linger)
        else conn.destroy()
      })
    )
    return yield* Effect.callback<Net.Socket, Socket.SocketError>((resume) => {
      try {
        const [dialled, event] = connect(address, settings)
        conn = dialled
        dialled.on("error", (cause) => resume(Effect.fail(openError(cause))))
        dialled.once("close", () => resume(Effect.fail(openError(new Error("the connection closed while it opened")))))
        dialled.once(event, () => {
          opened = true
          if (address.scheme !== "unix") setTcpOptions(dialled, settings.tcp)
          resume(Effect.succeed(dialled))
        })
      } catch (cause) {
        resume(Effect.fail(openError(cause)))
      }
    })
  })

const dialled = (
  address: Address.Address,
  settings: Settings,
  open: Effect.Effect<Net.Socket, Socket.SocketError, Scope.Scope>
): DialledSocket<Net.Socket> => {
  const unix = address.scheme === "unix"
  return new DialledSocket({
    open,
    openTimeout: settings.openTimeout,
    localOf: (conn) => unix ? `unix:${address.path}` : Address.localOf(conn),
    remote: unix ? address.path : Address.formatInet(address.host, address.port)
  })
}

const makeStream = (address: Address.Address, settings: Settings): Socket.Socket =>
  dialled(address, settings, connecting(address, settings))

// ---------------------------------------------------------------------------------------------------------------------
// WebSocket
// ---------------------------------------------------------------------------------------------------------------------

const makeWebSocket = (
  address: Exclude<Address.Address, { readonly scheme: "unix" }>,
  settings: Settings
): Socket.Socket => {
  const { host, port, scheme, tail } = address
  const isUsual = port === (scheme === "ws" ? 80 : 443)
  const target = {
    host: isUsual ? Address.formatHost(host) : Address.formatInet(host, port),
    path: tail.startsWith("/") ? tail : `/${tail}`
  }
  const open = Effect.gen(function*() {
    const asking = yield* Asking.evaluate(settings.asking)
    const conn = yield* connecting(address, settings)
    const { head } = yield* upgrade(conn, { ...target, ...asking })
    if (head.length > 0) conn.unshift(head)
    return conn
  })
  return overStream({ role: "client", stream: dialled(address, settings, open), maskKey }, settings)
}

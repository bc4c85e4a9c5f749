/**
 * Opens sockets to an address.
 *
 * The URLs are those of `Listener`: `tcp://host:7000`, `tls://host:7001`, `unix:///run/app.sock`, `ws://host/live`,
 * `wss://host/live`.
 *
 * @since 0.1.0
 */
import * as NodeWS from "@effect/platform-node/NodeWS"
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
import * as Policy from "../Policy.ts"
import * as Address from "./internal/addresses/address.ts"
import * as Options from "./internal/options.ts"
import { DialledSocket } from "./internal/stream/dialled.ts"
import { linger, noop, setTcp } from "./internal/stream/tcp.ts"
import * as Material from "./internal/tls/material.ts"
import * as WebSocket from "./internal/webSocket/socket.ts"

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
   * A policy, or the fields that differ from `Policy.defaults`. A field that makes no sense throws `InvalidPolicy`.
   *
   * Give it the value that the `Connection` and the `Client` have. Of it a dialler takes:
   *
   * - `open`: how long dialling may take, TLS and WebSocket upgrade included.
   * - `maxFrame`: of a WebSocket message; a longer one closes the connection with 1009.
   * - `keepAlive`, `keepAliveInterval`, `keepAliveCount`, `noDelay`: of TCP.
   */
  readonly policy?: Policy.Policy | Policy.Patch | undefined
  /** Headers of the WebSocket upgrade request. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** WebSocket subprotocols to offer. */
  readonly protocols?: string | ReadonlyArray<string> | undefined
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
 *   or does not answer within `Policy.open`.
 * - When the reader's scope closes, what was written is flushed, the server gets our FIN (or close frame), and input is
 *   discarded until the server's FIN, at most for `linger`, in the background.
 *
 * **Gotchas**
 *
 * - Make a fresh socket for every connection: acquiring a second reader on one socket redirects the writer of the first.
 * - A policy that makes no sense throws its `InvalidPolicy` here, before anything runs.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (url: string, options: DialOptions = {}): Effect.Effect<Socket.Socket, DialFailed> => {
  const policy = Policy.make(options.policy)
  const made = Effect.flatMap(Effect.fromResult(prepare(url, policy, options)), (settings) => {
    const { address } = settings
    return address.scheme === "ws" || address.scheme === "wss"
      ? makeWebSocket(url, settings)
      : Effect.succeed(makeStream(address, settings))
  })
  return Effect.tap(made, () => Options.warnOf(policy))
}

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

interface Settings extends Options.OfPolicy {
  readonly address: Address.Address
  readonly linger: number
  readonly headers: Readonly<Record<string, string>>
  readonly protocols: string | Array<string> | undefined
  readonly tls: Tls.ConnectionOptions
}

const prepare = (rawUrl: string, policy: Policy.Policy, options: DialOptions): Result.Result<Settings, DialFailed> => {
  const url = Address.redactUrl(rawUrl)
  const as = (reason: DialFailed["reason"]) =>
    Result.mapError((detail: string) => new DialFailed({ url, reason, detail }))
  return Result.gen(function*() {
    const address = yield* as("BadUrl")(Address.parse(rawUrl, "dial"))
    const linger = yield* as("BadOption")(Options.read("linger", options.linger))
    const secure = address.scheme === "tls" || address.scheme === "wss"
    const tls: Tls.ConnectionOptions = !secure ? {} : {
      secureContext: Tls.createSecureContext(yield* as("BadTls")(Material.tlsOptions(options))),
      ...(options.servername === undefined ? {} : { servername: options.servername }),
      ...(options.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: options.rejectUnauthorized })
    }
    return {
      address,
      ...Options.ofPolicy(policy),
      linger,
      headers: options.headers ?? {},
      protocols: options.protocols === undefined || typeof options.protocols === "string"
        ? options.protocols
        : [...options.protocols],
      tls
    }
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// byte streams
// ---------------------------------------------------------------------------------------------------------------------

const openError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })

const connect = (address: Address.Address, settings: Settings): readonly [Net.Socket, "connect" | "secureConnect"] => {
  // the peer's FIN ends what it sends, not what we send: `Policy.halfClose` says for how long
  const allowHalfOpen = true
  if (address.scheme === "unix") return [Net.createConnection({ path: address.path, allowHalfOpen }), "connect"]
  const { host, port } = address
  if (address.scheme === "tcp") {
    return [Net.createConnection({ host, port, allowHalfOpen }), "connect"]
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

const makeStream = (address: Address.Address, settings: Settings): Socket.Socket => {
  const unix = address.scheme === "unix"
  // NodeSocket.makeNet and makeTls keep the connection to themselves, and TLS leaves keep-alive and Nagle alone
  const open: Effect.Effect<Net.Socket, Socket.SocketError, Scope.Scope> = Effect.gen(function*() {
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
          if (!unix) setTcp(dialled, settings.tcp)
          resume(Effect.succeed(dialled))
        })
      } catch (cause) {
        resume(Effect.fail(openError(cause)))
      }
    })
  })
  return new DialledSocket({
    open,
    openTimeout: settings.open,
    localOf: (conn) => unix ? `unix:${address.path}` : Address.localOf(conn),
    remote: unix ? address.path : Address.formatInet(address.host, address.port)
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// WebSocket
// ---------------------------------------------------------------------------------------------------------------------

const makeWebSocket = (url: string, settings: Settings): Effect.Effect<Socket.Socket> => {
  const { address } = settings
  let local: string | undefined
  const acquire = Effect.try({
    try: (): WebSocket.Carrier => {
      const ws = new NodeWS.WebSocket(url, settings.protocols, {
        ...settings.tls,
        headers: { ...settings.headers },
        maxPayload: settings.maxFrame,
        perMessageDeflate: false,
        ...WebSocket.closeTimeout(settings.linger)
      })
      const carrier: WebSocket.Carrier = { ws, stream: undefined }
      ws.on("error", noop)
      ws.on("upgrade", ({ socket }) => {
        carrier.stream = socket
        local = Address.localOf(socket)
      })
      // ws switches Nagle off when it opens, after `upgrade`
      ws.on("open", () => {
        if (carrier.stream !== undefined) setTcp(carrier.stream as Net.Socket, settings.tcp)
      })
      return carrier
    },
    catch: openError
  })
  return WebSocket.make({
    acquire,
    openTimeout: settings.open,
    linger: settings.linger,
    addresses: {
      get local() {
        return local
      },
      remote: address.scheme === "unix" ? address.path : Address.formatInet(address.host, address.port)
    }
  })
}

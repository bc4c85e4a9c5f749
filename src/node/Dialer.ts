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
import type { AddressResolver } from "effect/net/AddressResolver"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Net from "node:net"
import * as Tls from "node:tls"
import type { Compression } from "../internal/transport/compression.ts"
import { overStream } from "../internal/webSocket/socket.ts"
import * as Policy from "../Policy.ts"
import * as Address from "./internal/addresses/address.ts"
import { withoutZone } from "./internal/addresses/zone.ts"
import { type Deflate, type Deflating, deflatingOf } from "./internal/deflate/options.ts"
import { connect, type Connecting } from "./internal/dialling/connecting.ts"
import * as Options from "./internal/options.ts"
import { DialledSocket } from "./internal/stream/dialled.ts"
import { openError } from "./internal/stream/duplex.ts"
import { linger } from "./internal/stream/tcp.ts"
import * as Material from "./internal/tls/material.ts"
import { Consents } from "./internal/tls/refusals.ts"
import { type Environment, environment } from "./internal/tunnel/environment.ts"
import { gateFor } from "./internal/tunnel/gate.ts"
import * as Asking from "./internal/webSocket/asking.ts"
import type { Fresh } from "./internal/webSocket/asking.ts"
import { upgrade } from "./internal/webSocket/dial.ts"
import { maskKey } from "./internal/webSocket/maskKey.ts"
import { followed, type Web } from "./internal/webSocket/redirects.ts"
import type * as Proxy from "./Proxy.ts"

export type { Deflate } from "./internal/deflate/options.ts"
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
  /** The lowest version of TLS that is spoken. Default Node's, which is TLS 1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
  /**
   * The protocols to offer in the handshake (ALPN, RFC 7301), of `tls`, the one liked best first. Default none. With `wss` none is
   * offered, which is taken for HTTP/1.1.
   */
  readonly alpn?: ReadonlyArray<string> | undefined
  /** The name to ask for (SNI) and to find in the server's certificate. Default the host of the URL. */
  readonly servername?: string | undefined
  /** Whether a server whose certificate cannot be verified is refused. Default true. */
  readonly rejectUnauthorized?: boolean | undefined
  /**
   * How long a server that asked for a certificate may say nothing, until its silence is taken for consent. Default
   * 1 s. 0 does not wait.
   *
   * In TLS 1.3 a client is done before the server has looked at its certificate. The first byte of the server, or a session
   * ticket, ends the wait; a server that ends the connection meanwhile is a failure to open it: `CertificateRefused` where it
   * said so in an alert. Silence need not be consent: a server may refuse later.
   *
   * Some servers end the connection without an alert, Node's for one. That is `OpenFailed`, and worth another try: a server that
   * is stopping does the same. The third such end in a row is `CertificateRefused`, where no byte has ever come to this
   * dialler: keep what `make` returns, and run it for every try.
   */
  readonly consent?: Duration.Input | undefined
  /**
   * A policy, or the fields that differ from `Policy.defaults`. A field that makes no sense throws `InvalidPolicy`.
   *
   * Give it the value that the `Connection` and the `Client` have. Of it a dialler takes:
   *
   * - `open`: how long dialling may take, TLS and WebSocket upgrade included.
   * - `maxFrame`: of a WebSocket message that a program receives from the socket by itself; a longer one closes with 1009.
   *   A `Connection` reads the frames below it, and has the limits of its own policy.
   * - `keepAlive`, `keepAliveInterval`, `keepAliveCount`, `noDelay`: of TCP.
   */
  readonly policy?: Policy.Patch | undefined
  /** Which addresses of a name are dialled: IPv4 alone, or IPv6 alone. Default both. */
  readonly family?: 4 | 6 | undefined
  /**
   * What finds the addresses of a name: any resolver of `effect/net`. It has to answer within `Policy.open`. Default what
   * the operating system says (`getaddrinfo`).
   */
  readonly lookup?: AddressResolver["Service"] | undefined
  /**
   * A proxy to dial through: its URL, or more about it; see `Proxy.Through`. Default none.
   *
   * `"environment"` goes by the variables `HTTPS_PROXY` (`tls`, `wss`), `HTTP_PROXY` (`ws`) and `ALL_PROXY` (all), and by
   * `NO_PROXY`, as curl does: read when `make` runs, the lower case first, and `HTTP_PROXY` in lower case alone where
   * `REQUEST_METHOD` is set. `NO_PROXY` has names, which their subdomains belong to, addresses, ranges, each with a port or
   * without, or `*`.
   *
   * `family`, `lookup` and `localAddress` are about the way to the proxy then, and the name of the peer is resolved at the proxy.
   * What it says instead is a `Proxy.ProxyRefused` as the cause of an error. `open` bounds all of it.
   */
  readonly proxy?: string | Redacted.Redacted<string> | Proxy.Through | undefined
  /** The IP address of this machine to dial from; only peers of its family are dialled. Default the system's choice. */
  readonly localAddress?: string | undefined
  /**
   * How long an address of a name is tried alone before the next one is tried beside it. The default is that of RFC
   * 8305 (Happy Eyeballs). Default 250 ms. 0 tries all at once.
   *
   * An attempt goes on when the next one begins: the first that connects is taken, and the others are given up then. An
   * address that fails makes way for the next one at once. The families take turns.
   */
  readonly attemptDelay?: Duration.Input | undefined
  /** How long one address of a name may take. `open` bounds all of them together. Default off (0). */
  readonly attemptTimeout?: Duration.Input | undefined
  /** Headers of the request to upgrade to a WebSocket; an effect is run for every try. */
  readonly headers?: Fresh<Readonly<Record<string, string>>> | undefined
  /** Cookies of that request. */
  readonly cookies?: Fresh<Readonly<Record<string, string>>> | undefined
  /** The WebSocket subprotocols to offer, the one liked best first. A server that chooses another is not spoken with. */
  readonly protocols?: Fresh<string | ReadonlyArray<string>> | undefined
  /**
   * Offers to compress the messages of a WebSocket (permessage-deflate, RFC 7692); a server that takes no part in it is spoken with
   * all the same. See `Deflate` for what it costs and how. Default false.
   */
  readonly deflate?: boolean | Deflate | undefined
  /**
   * How many times an upgrade goes where the server sends it (301, 302, 303, 307, 308). Default 0. 0 follows none.
   *
   * To another origin (scheme, host or port) go `protocols`, and none of `headers`, `cookies`, `cert` and `servername`. `open` bounds
   * all steps together. A step away from TLS, or to what is no WebSocket, is `HandshakeFailed`; one too many is the `UpgradeRefused`
   * that it is without this.
   */
  readonly followRedirects?: number | undefined
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
 *   or does not answer within `Policy.open`. A `Connection` makes `OpenFailed` of that, or `UpgradeRefused` where a
 *   server of WebSockets answered with another status.
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
  const consents = new Consents()
  const variables = options.proxy === "environment" ? environment : Effect.undefined
  const prepared = Effect.flatMap(
    variables,
    (variables) => Effect.fromResult(prepare(url, policy, options, consents, variables))
  )
  const made = Effect.map(prepared, (settings) => {
    const { address } = settings
    return address.scheme === "ws" || address.scheme === "wss"
      ? makeWebSocket(address, settings)
      : makeStream(address, settings)
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

interface Settings extends Options.OfPolicy, Connecting {
  readonly address: Address.Address
  readonly linger: number
  readonly asking: Asking.Given
  readonly deflate: Deflating | undefined
  readonly followRedirects: number
  /** How to connect to another origin, where a server sends us. */
  readonly elsewhere: (address: Address.Address) => Result.Result<Connecting, string>
}

/** What is wrong with the choice of addresses. */
const wrongChoice = (host: string | undefined, { family, localAddress }: DialOptions): string | undefined => {
  if (family !== undefined && family !== 4 && family !== 6) return `family is 4 or 6, it is ${String(family)}`
  if (localAddress !== undefined && Net.isIP(localAddress) === 0) {
    return `localAddress is no IP address: ${localAddress}`
  }
  const families = [
    family,
    localAddress === undefined ? undefined : Net.isIP(localAddress),
    host === undefined || Net.isIP(host) === 0 ? undefined : Net.isIP(host)
  ].filter((it) => it !== undefined)
  return families.every((it) => it === families[0])
    ? undefined
    : "the address, family and localAddress are not of one family: IPv4 reaches no IPv6, and IPv6 no IPv4"
}

const prepare = (
  rawUrl: string,
  policy: Policy.Policy,
  options: DialOptions,
  consents: Consents,
  variables: Environment | undefined
): Result.Result<Settings, DialFailed> => {
  const url = Address.redactUrl(rawUrl)
  const as = (reason: DialFailed["reason"]) =>
    Result.mapError((detail: string) => new DialFailed({ url, reason, detail }))
  return Result.gen(function*() {
    const address = yield* as("BadUrl")(Address.parse(rawUrl, "dial"))
    const linger = yield* as("BadOption")(Options.read("linger", options.linger))
    yield* as("BadOption")(Asking.check(options))
    const deflate = yield* as("BadOption")(deflatingOf(options.deflate))
    const attemptDelay = yield* as("BadOption")(Options.read("attemptDelay", options.attemptDelay))
    const attemptTimeout = yield* as("BadOption")(Options.read("attemptTimeout", options.attemptTimeout))
    const consent = yield* as("BadOption")(Options.read("consent", options.consent))
    const gate = yield* as("BadOption")(gateFor(address, options.proxy, variables))
    const direct = address.scheme === "unix" ? undefined : address.host
    const wrong = wrongChoice(gate?.host ?? direct, options)
    if (wrong !== undefined) return yield* as("BadOption")(Result.fail(wrong))
    const secure = address.scheme === "tls" || address.scheme === "wss"
    const tls: Tls.ConnectionOptions = !secure ? {} : {
      secureContext: Tls.createSecureContext({
        ...(yield* as("BadTls")(Material.tlsOptions(options))),
        ...(options.minVersion === undefined ? {} : { minVersion: options.minVersion })
      }),
      ...(options.alpn === undefined || address.scheme === "wss" ? {} : { ALPNProtocols: [...options.alpn] }),
      ...(options.servername === undefined ? {} : { servername: options.servername }),
      ...(options.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: options.rejectUnauthorized })
    }
    const followRedirects = yield* as("BadOption")(Options.read("followRedirects", options.followRedirects))
    const connecting: Connecting & Options.OfPolicy = {
      ...Options.ofPolicy(policy),
      family: options.family,
      lookup: options.lookup,
      localAddress: options.localAddress,
      attemptDelay,
      attemptTimeout: attemptTimeout === Options.longestTimer ? Infinity : attemptTimeout,
      tls,
      consent,
      consents,
      gate
    }
    const trust = followRedirects === 0 ? {} : yield* as("BadTls")(Material.tlsOptions({ ca: options.ca }))
    return {
      ...connecting,
      address,
      linger,
      asking: options,
      deflate,
      followRedirects,
      elsewhere: (address) =>
        Result.map(gateFor(address, options.proxy, variables), (gate) => ({
          ...connecting,
          gate,
          tls: {
            secureContext: Tls.createSecureContext(trust),
            ...(options.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: options.rejectUnauthorized })
          }
        }))
    }
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// byte streams
// ---------------------------------------------------------------------------------------------------------------------

const dialled = (
  address: Address.Address,
  settings: Settings,
  open: Effect.Effect<Net.Socket, Socket.SocketError, Scope.Scope>
): DialledSocket<Net.Socket> => {
  const unix = address.scheme === "unix"
  return new DialledSocket({
    open,
    openTimeout: settings.open,
    localOf: (conn) => unix ? `unix:${address.path}` : Address.localOf(conn),
    remote: unix ? address.path : Address.formatInet(address.host, address.port)
  })
}

// NodeSocket.makeNet and makeTls keep the connection to themselves, and TLS leaves keep-alive and Nagle alone
const connecting = (
  address: Address.Address,
  settings: Settings,
  how: Connecting = settings
): Effect.Effect<Net.Socket, Socket.SocketError, Scope.Scope> =>
  connect(address, how, (conn) => linger(conn, settings.linger))

const makeStream = (address: Address.Address, settings: Settings): Socket.Socket =>
  dialled(address, settings, connecting(address, settings))

// ---------------------------------------------------------------------------------------------------------------------
// WebSocket
// ---------------------------------------------------------------------------------------------------------------------

/** What is asked for, and of whom. */
const targetOf = ({ host, port, scheme, tail }: Web) => {
  // a zone means something on this machine alone
  const plain = withoutZone(host)
  const isUsual = port === (scheme === "ws" ? 80 : 443)
  return {
    host: isUsual ? Address.formatHost(plain) : Address.formatInet(plain, port),
    path: tail.startsWith("/") ? tail : `/${tail}`
  }
}

const makeWebSocket = (address: Web, settings: Settings): Socket.Socket => {
  const { deflate } = settings
  let compression: Compression | undefined
  const open = Effect.gen(function*() {
    const asking = yield* Asking.evaluate(settings.asking)
    const attempt = Effect.fnUntraced(function*(to: Web, isHome: boolean) {
      const how = isHome ? settings : yield* Effect.mapError(Effect.fromResult(settings.elsewhere(to)), openError)
      const conn = yield* connecting(to, settings, how)
      const { headers } = isHome ? asking : { headers: {} }
      const upgraded = yield* upgrade(conn, { ...targetOf(to), deflate, protocols: asking.protocols, headers })
      return { conn, upgraded }
    })
    const { conn, upgraded } = yield* followed(address, settings.followRedirects, attempt)
    if (upgraded.head.length > 0) conn.unshift(upgraded.head)
    compression = upgraded.compression
    return conn
  })
  const link = { role: "client", stream: dialled(address, settings, open), maskKey } as const
  return overStream(settings.deflate === undefined ? link : { ...link, compression: () => compression }, settings)
}

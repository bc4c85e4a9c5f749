/**
 * Proxies on both sides: what a proxy in front of a server says of its clients, and how a client dials through one.
 *
 * A server behind HAProxy, nginx or a cloud's load balancer sees the address of the proxy. `Listener` and `HttpServer` take the
 * client's address from what the proxy says (`Options`), and `header` is all of it, for the handlers of a `Server`. `Dialer` and
 * `HttpClient` go through an HTTP or a SOCKS5 proxy (`DialOptions.proxy`).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/**
 * Which proxies a server believes: options of `Listener` and of `HttpServer`.
 *
 * **Details**
 *
 * The address that a believed proxy names is the client's from then on: for `maxConnectionsPerAddress` (of IPv6 its network), in
 * logs, events and snapshots, in `Registry`, in `Upgrade.request`. An address is one (`"10.0.0.7"`, `"::1"`), a range
 * (`"10.0.0.0/8"`, `"fd00::/8"`), or `"unix"` for whatever connects to a Unix socket.
 *
 * **Gotchas**
 *
 * Name the addresses of your proxies and no others: a client within a range here can call itself what it likes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * From where each connection begins with a `PROXY` header, version 1 or 2. Default none.
   *
   * - It comes before TLS and before anything else, within `Policy.handshake`. A connection from there without one, or with one
   *   that is wrong, is refused with `HandshakeFailed`, and its cause is a `ProxyHeaderInvalid`; one that is late with
   *   `HandshakeTimeout`.
   * - Until then it is counted by `maxPending` alone.
   * - A connection from any other address has no header: one that it sends is the first bytes of what it says, believed by
   *   nothing. TLS and HTTP refuse it.
   * - `LOCAL` and `UNKNOWN`, with which proxies check a server, leave the address as it is: that of the proxy.
   * - Version 1 has 107 bytes at most (its specification), version 2 has 4096 here. A checksum (CRC32C) is checked where there is
   *   one.
   */
  readonly proxyProtocol?: ReadonlyArray<string> | undefined
  /**
   * From where a request to upgrade names its client in `forwardedHeader`. Default none.
   *
   * The header is read from its end: the client is the last address that is not one of these. What stands before that may be
   * invented. Where a part cannot be read, the address behind it is taken.
   *
   * A connection from there is counted as its client's when its request is read. Until then it is counted by `maxPending` alone.
   *
   * With `HttpServer` it is for all requests: `remoteAddress` of `HttpServerRequest` is the client's, `peerAddress` the proxy's (of
   * spans, which begin before that, the attribute stays the proxy's). `maxConnectionsPerAddress` does not count such a
   * connection: a proxy sends the requests of many clients over it.
   */
  readonly trustForwarded?: ReadonlyArray<string> | undefined
  /**
   * The header that the proxy writes; the other one is ignored, since a proxy that does not write it passes on what a client
   * invented. Default `"X-Forwarded-For"`. `"Forwarded"` is that of RFC 7239.
   */
  readonly forwardedHeader?: "X-Forwarded-For" | "Forwarded" | undefined
}

/**
 * What a proxy said of its client's TLS (`PP2_TYPE_SSL`).
 *
 * @category models
 * @since 0.1.0
 */
export interface HeaderTls {
  /** As `TLSv1.3`. */
  readonly version: string | undefined
  readonly cipher: string | undefined
  /** Whether the client showed a certificate, on this connection or on the one that it resumed. */
  readonly hasCertificate: boolean
  /** Whether the proxy found that certificate in order. */
  readonly isVerified: boolean
  /** The common name of that certificate. */
  readonly commonName: string | undefined
}

/**
 * A `PROXY` header, as a proxy sent it.
 *
 * **Gotchas**
 *
 * `authority` and `alpn` are what the client asked the proxy for: its word, passed on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Header {
  readonly version: 1 | 2
  /** The client's end, as text: `203.0.113.9:49152`, `unix:/run/app.sock`; none where the proxy speaks for itself. */
  readonly source: string | undefined
  /** What the client connected to, as text. */
  readonly destination: string | undefined
  /** The name that the client asked for (SNI), or the host of its request. */
  readonly authority: string | undefined
  /** The application protocol that was agreed to with the client. */
  readonly alpn: string | undefined
  /** Up to 128 bytes that name the connection in the logs of the proxy. */
  readonly uniqueId: Uint8Array | undefined
  /** Where the client speaks TLS with the proxy. */
  readonly tls: HeaderTls | undefined
}

/**
 * Given to the fibers of a connection whose proxy sent a header.
 *
 * @category services
 * @since 0.1.0
 */
export const CurrentHeader: Context.Reference<Header | undefined> = Context.Reference<Header | undefined>(
  "holdfast/node/Proxy/CurrentHeader",
  { defaultValue: () => undefined }
)

/**
 * The `PROXY` header of the connection that runs this: in `open`, `handshake`, `names` and `handle` of a `Server`, and in the
 * handler of a `SocketServer`. None where there was none.
 *
 * **Example** (Greeting by the name that the client asked the proxy for)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { SocketServer } from "effect/socket"
 * import { Codec, Connection, Server } from "holdfast"
 * import { Listener, Proxy } from "holdfast/node"
 *
 * const program = Effect.gen(function*() {
 *   const listener = yield* Listener.make("tcp://10.0.0.2:7000", { proxyProtocol: ["10.0.0.0/24"] })
 *   return yield* Server.run({
 *     open: Connection.make({ codec: Codec.lines() }),
 *     handle: (connection) =>
 *       Effect.gen(function*() {
 *         const header = yield* Proxy.header
 *         yield* connection.send(`this is ${Option.getOrUndefined(header)?.authority ?? "no name"}`)
 *       })
 *   }).pipe(Effect.provideService(SocketServer.SocketServer, listener))
 * })
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const header: Effect.Effect<Option.Option<Header>> = Effect.map(CurrentHeader, Option.fromUndefinedOr)

/**
 * Why a connection from a trusted proxy was refused: it did not begin with a `PROXY` header that can be read. The cause of a
 * `HandshakeFailed`.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProxyHeaderInvalid extends Schema.TaggedError<ProxyHeaderInvalid>()("ProxyHeaderInvalid", {
  detail: Schema.String
}) {
  override get message(): string {
    return `no PROXY header came from a proxy that is named to send one: ${this.detail}`
  }
}

/**
 * A proxy to dial through.
 *
 * - `http://host:3128`, `https://host:3129`: HTTP `CONNECT`; with `https` there is TLS to the proxy itself. The ports may be left
 *   out: 80 and 443.
 * - `socks5://host:1080`, `socks5h://host:1080`: SOCKS5 (RFC 1928). The port may be left out: 1080.
 *
 * Names are resolved at the proxy, with each of them. User and password may stand in the URL (`http://user:secret@host`, percent
 * encoded), or here; they are in no log and no text of ours. They go to the proxy unencrypted, but for `https`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Through {
  readonly url: string | Redacted.Redacted<string>
  readonly username?: string | undefined
  readonly password?: string | Redacted.Redacted<string> | undefined
  /** Whom to trust with an `https` proxy, as PEM, instead of Node's list of authorities. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
}

/**
 * Why a proxy did not connect us.
 *
 * - `AuthenticationRequired`: 407 or 401, or SOCKS5 has no method of ours; user and password are wrong or missing.
 * - `NotAllowed`: 403, or `connection not allowed by ruleset`.
 * - `NetworkUnreachable`, `HostUnreachable`, `ConnectionRefused`, `TtlExpired`, `GeneralFailure`, `CommandNotSupported`,
 *   `AddressTypeNotSupported`: the replies of SOCKS5 (RFC 1928, 6).
 * - `Status`: another status than 2xx; `status` has it.
 * - `Protocol`: it does not speak what its URL says.
 *
 * @category errors
 * @since 0.1.0
 */
export const ProxyReason = Schema.Literals([
  "AuthenticationRequired",
  "NotAllowed",
  "GeneralFailure",
  "NetworkUnreachable",
  "HostUnreachable",
  "ConnectionRefused",
  "TtlExpired",
  "CommandNotSupported",
  "AddressTypeNotSupported",
  "Status",
  "Protocol"
])

/**
 * @category errors
 * @since 0.1.0
 */
export type ProxyReason = typeof ProxyReason.Type

/**
 * A proxy did not connect us: the cause of an `OpenFailed`; of a `HandshakeFailed`, which no `Client` tries again, where it is
 * `AuthenticationRequired`, `NotAllowed` or `Protocol`.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProxyRefused extends Schema.TaggedError<ProxyRefused>()("ProxyRefused", {
  /** Its URL, without user and password. */
  proxy: Schema.String,
  /** What it was to connect to. */
  target: Schema.String,
  reason: ProxyReason,
  /** Of HTTP. */
  status: Schema.optionalKey(Schema.Int),
  detail: Schema.String
}) {
  override get message(): string {
    return `the proxy ${this.proxy} did not connect to ${this.target}: ${this.detail}`
  }
  /** Whether the same call, unchanged, can succeed later. */
  get isRetryable(): boolean {
    return this.reason !== "AuthenticationRequired" && this.reason !== "NotAllowed" && this.reason !== "Protocol"
  }
}

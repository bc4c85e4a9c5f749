/**
 * The types of `TestNetwork`: what can be set, the hosts and links that a test holds, and what it can look at.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import type { Compression } from "../internal/transport/compression.ts"

export type { Compression } from "../internal/transport/compression.ts"

/**
 * How long a packet travels, in whole milliseconds.
 *
 * - a duration: always that long;
 * - `uniform`: anything between the two, both included;
 * - `exponential`: `min` (default 0) and an exponential part with this mean, cut at `max`;
 * - `trace`: these, one after the other, over and over; each direction for itself.
 *
 * Packets of one connection never overtake each other.
 *
 * @category models
 * @since 0.1.0
 */
export type Latency =
  | Duration.Input
  | { readonly uniform: readonly [from: Duration.Input, to: Duration.Input] }
  | {
    readonly exponential: Duration.Input
    readonly min?: Duration.Input | undefined
    readonly max?: Duration.Input | undefined
  }
  | { readonly trace: ReadonlyArray<Duration.Input> }

/**
 * What a link, or one direction of it, does to packets.
 *
 * @category models
 * @since 0.1.0
 */
export interface LinkOptions {
  /** Default 0. A host reaches itself in no time, unless a link from it to itself says otherwise. */
  readonly latency?: Latency | undefined
  /** Bytes a second, shared by all connections of a direction; packets are then at most 1460 bytes. Default unlimited. */
  readonly bandwidth?: number | undefined
  /**
   * Cuts and merges what was written at random: a read then gives up to three pieces whose borders have nothing to do
   * with the writes, and not always all that is there. Where latency varies, parts of one write arrive at different
   * times. Default true; message transports keep their messages.
   */
  readonly slicing?: boolean | undefined
}

/**
 * What holds for one end of a connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface SocketOptions {
  /** Bytes written that a host keeps until they are acknowledged. Default 64 KiB; Linux begins with 16 KiB and grows. */
  readonly sendBuffer?: number | undefined
  /** Bytes received that a host keeps until they are read: the window. Default 64 KiB, with which Linux begins. */
  readonly receiveBuffer?: number | undefined
  /**
   * After the reader was released, for how long what still comes is discarded and not answered with a reset. Then the
   * connection is cut off, with whatever is not sent yet. Default 0: as the bare kernel does it. Holdfast's listener and
   * dialer linger for 1 second.
   *
   * It counts virtual time: to a peer that lingers on a link without latency, a program that writes in a loop writes for
   * ever, as no time passes. Give such a link 1 ms.
   */
  readonly linger?: Duration.Input | undefined
  /** Whether we may go on writing after the peer's FIN was read. Default true; false is what Node's client sockets do. */
  readonly halfOpen?: boolean | undefined
  /**
   * How long what was sent may stay unacknowledged before the connection ends with `ETIMEDOUT`. Default 924 seconds, what
   * `tcp_retries2 = 15` comes to on Linux.
   */
  readonly userTimeout?: Duration.Input | undefined
}

/**
 * What holds for a listener and the connections it accepts.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListenOptions extends SocketOptions {
  /** Connections waiting to be accepted; the first packet of one more is dropped. Default 511, as Node asks for. */
  readonly backlog?: number | undefined
  /**
   * Messages with borders and a closing handshake, instead of a stream of bytes: what a browser shows of a WebSocket. No
   * frames, no pings; see `webSocket` for those.
   */
  readonly messages?: boolean | undefined
  /**
   * The server's ends are WebSockets: frames of RFC 6455 on the stream of bytes, which a `Connection` reads and writes
   * itself, with its own limits. Default false. `messages` is not looked at then.
   *
   * - The upgrade is taken as done. There is none on the wire, so a client that dials without `webSocket` speaks in raw
   *   frames, as a test of what a server does with broken ones wants to.
   * - `linger` is 1 second where neither this nor the network says otherwise, and the closing handshake falls in it.
   * - Without a `Connection`, a message of the peer may have `Policy.maxFrame` bytes by default.
   */
  readonly webSocket?: boolean | undefined
  /**
   * With `webSocket`: messages are compressed as both ends have agreed to; give the dialler the same. `Upgrade.compression` of
   * `holdfast/node` makes it. Default none.
   */
  readonly compression?: Compression | undefined
}

/**
 * Whom the certificate of a client names; see `Connection.Snapshot`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Identity {
  readonly subject: Readonly<Record<string, ReadonlyArray<string>>>
  readonly alternativeNames: ReadonlyArray<string>
  readonly fingerprint: string
}

/**
 * What holds for a dialled connection, at the client's end.
 *
 * @category models
 * @since 0.1.0
 */
export interface DialOptions extends SocketOptions {
  /** Has to say the same as the listener; otherwise the connection is refused. `ws://` addresses say it as well. */
  readonly messages?: boolean | undefined
  /**
   * The client's end is a WebSocket: frames of RFC 6455 on the stream of bytes, masked from the seed of the network.
   * Default false, also for `ws://` addresses. See `ListenOptions.webSocket`.
   */
  readonly webSocket?: boolean | undefined
  /** With `webSocket`; see `ListenOptions.compression`. */
  readonly compression?: Compression | undefined
  /**
   * Whom our certificate names, were there TLS: the server has it as `identity` of the connection's snapshot, before its handshake
   * runs, as from `tls://` and `wss://`. For tests of what a server allows to whom. Default none.
   */
  readonly identity?: Identity | undefined
}

/**
 * Options of a network. Those of links and sockets are the defaults for all of them. An option that makes no sense
 * throws a `RangeError` that names it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends LinkOptions, SocketOptions {
  /** Everything random comes from it. Default: drawn from `Random`, so `Random.withSeed` does as well. */
  readonly seed?: string | number | undefined
  /** How long dialling tries in vain. Default 127 seconds, what `tcp_syn_retries = 6` comes to on Linux. */
  readonly connectTimeout?: Duration.Input | undefined
  /** The first wait before sending again, 1 ms or more, doubled each time, and the longest. Default 200 ms and 120 s, as on Linux. */
  readonly retransmit?: { readonly initial: Duration.Input; readonly max: Duration.Input } | undefined
  /** How long a released connection waits for the peer's FIN, 1 ms or more. Default 60 seconds, `tcp_fin_timeout` of Linux. */
  readonly finTimeout?: Duration.Input | undefined
  /** How many of the last events `Network.trace` keeps; `Infinity` for all. Default 0. */
  readonly trace?: number | undefined
}

/**
 * A packet stopped by a hold.
 *
 * @category models
 * @since 0.1.0
 */
export interface HeldPacket {
  readonly from: string
  readonly to: string
  /** The number that `Snapshot` gives the connection. */
  readonly connection: number
  readonly kind: "syn" | "syn-ack" | "ack" | "data" | "fin" | "reset" | "probe"
  readonly bytes: number
  /** What it carries, as one text. */
  readonly text: string
}

/**
 * Packets stopped at the far end of a link, in the order they came.
 *
 * @category models
 * @since 0.1.0
 */
export interface Hold {
  readonly packets: Effect.Effect<ReadonlyArray<HeldPacket>>
  /** Lets the first ones through; how many that were. */
  readonly deliver: (count: number) => Effect.Effect<number>
  /** Lets all of them through and stops none any more. */
  readonly release: Effect.Effect<void>
}

/**
 * How an address translator forgets.
 *
 * @category models
 * @since 0.1.0
 */
export interface NatOptions {
  /** How long a connection may be silent. Common: 350 s in clouds, 5 to 30 min at home, 124 min by RFC 5382. */
  readonly timeout: Duration.Input
  /** What comes after that is dropped without a word (default), or answered with a reset. */
  readonly expired?: "drop" | "reset" | undefined
}

/**
 * The ways between two hosts, or one of the two ways, or all ways of a host. Faults apply to all of them at once, also
 * to those that come to be later.
 *
 * @category models
 * @since 0.1.0
 */
export interface Link {
  readonly name: string
  /** The same link, but only packets that this host sends. A host that is none of its ends throws a `RangeError`. */
  readonly from: (host: string) => Link
  /** Sets other options, until the scope closes. The latest call counts. */
  readonly configure: (options: LinkOptions) => Effect.Effect<void, never, Scope.Scope>
  /** Loses every packet that leaves or arrives, until the scope closes. */
  readonly partition: Effect.Effect<void, never, Scope.Scope>
  /** Stops every packet at the far end, and lets all through when the scope closes: a jam, without loss. */
  readonly clog: Effect.Effect<void, never, Scope.Scope>
  /**
   * Stops every packet at the far end until the scope closes, to be looked at and let through one by one. Held packets
   * are not lost, so nothing is sent again and nothing times out. Of several holds the first one catches.
   */
  readonly hold: Effect.Effect<Hold, never, Scope.Scope>
  /** Puts an address translator between the hosts, until the scope closes. What it forgot stays forgotten. */
  readonly nat: (options: NatOptions) => Effect.Effect<void, never, Scope.Scope>
  /**
   * Gives every client a new address: what it sends is answered with a reset, what is sent to it is lost. Returns how
   * many connections that concerns, as do the other two.
   */
  readonly rebind: Effect.Effect<number>
  /** Resets every connection, at both ends, now. */
  readonly reset: Effect.Effect<number>
  /** Lets every connection vanish: no FIN, no RST, both ends hear nothing any more. */
  readonly vanish: Effect.Effect<number>
}

/**
 * A host of the network. It exists from the first time it is named.
 *
 * @category models
 * @since 0.1.0
 */
export interface Host {
  readonly name: string
  /** Its IP address, `10.x.y.z`, by which it can be dialled too. */
  readonly address: string
  /**
   * Listens on a port until the scope closes. Fails with `EADDRINUSE`, and with `ENETDOWN` on a host that is down.
   *
   * Connections wait in the backlog until `run` takes them; several `run` at once: the last one gets them. A handler may
   * hand its socket on and return. When the host crashes, `run` fails, and the port answers again after `restart`, as
   * soon as the application calls `run` again.
   */
  readonly listen: (
    port: number,
    options?: ListenOptions
  ) => Effect.Effect<SocketServer.SocketServer["Service"], SocketServer.SocketServerError, Scope.Scope>
  /** The same as a layer. */
  readonly layerServer: (
    port: number,
    options?: ListenOptions
  ) => Layer.Layer<SocketServer.SocketServer, SocketServer.SocketServerError>
  /**
   * A socket that connects to `host:port` whenever its reader is acquired. Also `tcp://host:port`, `ws://host:port/path`
   * (a message transport, unless `webSocket` is set), or the `address` of a server. Make a fresh one for every connection.
   */
  readonly dial: (address: string | NetAddress.SocketAddress, options?: DialOptions) => Socket.Socket
  /** The same as a layer. */
  readonly layerSocket: (
    address: string | NetAddress.SocketAddress,
    options?: DialOptions
  ) => Layer.Layer<Socket.Socket>
  /** The clock of this host: sleeps that end during a stall end when it is over; its wall clock can be wrong. */
  readonly clock: Clock.Clock
  /** Runs an effect on this host: with its clock, and interrupted when it crashes, or at once where it is down. */
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /**
   * Stops the event loop of this host, from now. Its sockets hand nothing to their applications and take nothing, while
   * its kernel goes on: buffers fill, acknowledgements leave. What runs on the host's `clock` sleeps on. Afterwards timers
   * come first, then sockets, as in Node.
   */
  readonly stall: (duration: Duration.Input) => Effect.Effect<void>
  /** Sets how far the wall clock of this host is ahead, or behind when negative. Monotonic time does not change. */
  readonly skew: (duration: Duration.Input) => Effect.Effect<void>
  /**
   * Takes the host down without a word: peers see silence, its own sockets fail (`ENETDOWN`), `run` is interrupted. What
   * is sent to it is lost.
   */
  readonly crash: Effect.Effect<void>
  /** Brings it back with none of its connections: what peers send on those is answered with a reset. */
  readonly restart: Effect.Effect<void>
  /** Answers dials to this port, or to any, with a reset, until the scope closes. */
  readonly refuse: (port?: number) => Effect.Effect<void, never, Scope.Scope>
  /** Lets every connection of this host vanish; it can open new ones. Returns how many. */
  readonly vanish: Effect.Effect<number>
  /** Resets every connection of this host: here now, at the peers when the packet arrives. Returns how many. */
  readonly reset: Effect.Effect<number>
  /** All its links. */
  readonly link: Link
}

/**
 * Which operations fail, and with what.
 *
 * @category models
 * @since 0.1.0
 */
export interface Injection {
  /** Only on this host. */
  readonly host?: string | undefined
  /**
   * - `listen`: fails with a `SocketServerError` whose reason is `SocketServerOpenError`.
   * - `dial`: acquiring a reader fails with a `SocketOpenError`.
   * - `accept`: `run` fails with a `SocketServerError` instead of accepting a connection, which waits for the next `run`.
   * - `read`, `write`: the operation fails with a `SocketReadError` or `SocketWriteError`, its connection is broken, and
   *   the peer gets a reset. A read that waits fails at once.
   */
  readonly operation: "listen" | "dial" | "accept" | "read" | "write"
  /** The `cause` of the failure. */
  readonly error: unknown
  /** How many operations fail. Default 1. */
  readonly times?: number | undefined
}

/**
 * One end of a connection. Sizes are bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndSnapshot {
  readonly address: string
  /**
   * As `netstat` says it; `GONE`: vanished, and neither application knows. `CLOSED` is an end that is over while the other one
   * is not.
   */
  readonly state: "SYN_SENT" | "SYN_RECV" | "ESTABLISHED" | "FIN_WAIT" | "CLOSE_WAIT" | "LAST_ACK" | "CLOSED" | "GONE"
  /** Received by the host and not read. */
  readonly receiveQueue: number
  /** In the send buffer: not sent, or not acknowledged. */
  readonly sendQueue: number
  /** Written, with no room in the send buffer. */
  readonly unsent: number
  /** Whether a pull waits for bytes. */
  readonly reading: boolean
  /** How many writes wait for room. */
  readonly writing: number
  /** Whether something of it was lost and will be sent again. */
  readonly retransmitting: boolean
}

/**
 * A network at one moment.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  /** Milliseconds since the network was made. */
  readonly at: number
  readonly hosts: ReadonlyArray<{
    readonly name: string
    readonly address: string
    readonly isUp: boolean
    readonly isStalled: boolean
  }>
  readonly listeners: ReadonlyArray<{
    readonly address: string
    /** Connections that wait to be accepted. */
    readonly queued: number
    readonly backlog: number
  }>
  /** Directions that packets have travelled, or could. */
  readonly links: ReadonlyArray<{
    readonly from: string
    readonly to: string
    readonly state: "open" | "cut" | "held"
    /** On their way. */
    readonly packets: number
    readonly bytes: number
    /** Stopped at the far end. */
    readonly held: number
  }>
  readonly connections: ReadonlyArray<{
    readonly id: number
    readonly client: EndSnapshot
    readonly server: EndSnapshot
  }>
}

/**
 * What can happen.
 *
 * @category models
 * @since 0.1.0
 */
export type EventKind =
  | "dial"
  | "refuse"
  | "open"
  | "accept"
  | "send"
  | "arrive"
  | "lose"
  | "retransmit"
  | "fin"
  | "reset"
  | "timeout"
  | "vanish"
  | "end"
  | "rule"
  | "host"

/**
 * One thing that happened. `at` is milliseconds since the network was made; `connection` is 0 for what concerns none.
 *
 * @category models
 * @since 0.1.0
 */
export interface TraceEvent {
  readonly at: number
  readonly kind: EventKind
  readonly connection: number
  readonly from: string
  readonly to: string
  readonly bytes: number
}

/**
 * A simulated network.
 *
 * @category models
 * @since 0.1.0
 */
export interface Network {
  /** What everything random came from: make a network with it to see the same again. */
  readonly seed: string
  /** The host of this name; it exists from now on. */
  readonly host: (name: string) => Host
  /**
   * The link between two hosts, all links of one host, or all links there are. One name may also be that of a link which
   * `name` gave.
   */
  readonly link: (host?: string, other?: string) => Link
  /** Names a link, for `link(name)`. */
  readonly name: (name: string, host: string, other: string) => Link
  /** Makes operations fail, until as many did or the scope closes. */
  readonly inject: (injection: Injection) => Effect.Effect<void, never, Scope.Scope>
  /** Resets one connection at both ends, by its number in the snapshot; whether there was one. */
  readonly reset: (connection: number) => Effect.Effect<boolean>
  /** Lets one connection vanish, by its number in the snapshot; whether there was one. */
  readonly vanish: (connection: number) => Effect.Effect<boolean>
  readonly snapshot: Effect.Effect<Snapshot>
  /** The last events, as many as `Options.trace` says. */
  readonly trace: Effect.Effect<ReadonlyArray<TraceEvent>>
  /** A hash of every event so far: the same seed and program give the same. */
  readonly fingerprint: Effect.Effect<string>
}

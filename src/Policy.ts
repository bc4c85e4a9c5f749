/**
 * Every limit and cadence of a connection and of a server, as data.
 *
 * A policy is read from JSON or from `Config`, validated with an error that names the field, patched on a live
 * connection, and shared: mechanisms live elsewhere.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { bytes, choice, count, duration, factor, fraction, toggle } from "./internal/limits/definition.ts"
import { limitSet, type PatchOf } from "./internal/limits/limitSet.ts"
import { retryRules } from "./internal/limits/retryRules.ts"

export type { RetryRule } from "./internal/endings/retry.ts"
export type { PatchOf } from "./internal/limits/limitSet.ts"

export {
  /**
   * Reads a number of bytes as people write it: `1048576`, `1MiB`, `64 KiB`, `10 MB`.
   *
   * @category parsing
   * @since 0.1.0
   */
  parseBytes,
  /**
   * Reads a duration as people write it: `25s`, `1m 30s`, `500 ms`, `25 seconds`, `Infinity`, or a bare number of
   * milliseconds.
   *
   * @category parsing
   * @since 0.1.0
   */
  parseDuration
} from "./internal/limits/definition.ts"

/**
 * What happens to a message that finds the outbox full.
 *
 * - `wait`: `send` waits for room, first come first served (back-pressure).
 * - `fail`: `send` fails with `OutboxFull`.
 * - `drop-newest`: the message is dropped and counted.
 * - `drop-oldest`: the oldest waiting messages make room, and are counted.
 * - `close`: the connection ends with `SlowConsumer`.
 *
 * @category models
 * @since 0.1.0
 */
export const Overflow = Schema.Literals(["wait", "fail", "drop-newest", "drop-oldest", "close"])

/**
 * @category models
 * @since 0.1.0
 */
export type Overflow = typeof Overflow.Type

const [serve, connect, both] = [["serve"], ["connect"], ["serve", "connect"]] as const

const firstDelay = { limit: "retryBase", follows: "both" } as const

/** How a client comes back. */
const reconnecting = {
  /** A client's first delay before it dials again, before jitter; at least 1 ms. Default 200 ms, at most `retryCap`. */
  retryBase: duration("retryBase", { default: "200ms", on: connect }).says(
    "A client's first delay before it dials again, before jitter; at least 1 ms"
  ),
  /** By how much each delay is longer than the one before, at least 1. Default 2. */
  retryFactor: factor("retryFactor", { default: 2 }).says(
    "By how much each delay is longer than the one before, at least 1"
  ),
  /** The longest delay before a client dials again. Default 30 s, at least `retryBase`. 0 is no limit. */
  retryCap: duration("retryCap", { default: "30s", zero: "no limit", on: connect, atLeast: firstDelay }).says(
    "The longest delay before a client dials again"
  ),
  /**
   * How delays are spread; see `Backoff.Jitter`. The default, anywhere from 0 to the delay, is the least load on a
   * server that comes back. Default `full`.
   */
  retryJitter: choice("retryJitter", ["full", "equal", "decorrelated", "none"], { default: "full" }).says(
    "How delays are spread; see `Backoff.Jitter`",
    "The default, anywhere from 0 to the delay, is the least load on a server that comes back"
  ),
  /** How many tries in a row may fail after the first. Default no limit (0). */
  retryAttempts: count("retryAttempts", { default: 0, minimum: 0, zero: "no limit" }).says(
    "How many tries in a row may fail after the first"
  ),
  /** For how long tries in a row may go on. Default no limit (0). */
  retryElapsed: duration("retryElapsed", { default: "0", zero: "no limit", on: connect }).says(
    "For how long tries in a row may go on"
  ),
  /**
   * A connection that lived this long starts the backoff over. That it opened does not. Default 1 m. 0 starts it over
   * at every connection that opened.
   */
  retryResetAfter: duration("retryResetAfter", {
    default: "1m",
    zero: "starts it over at every connection that opened",
    on: connect
  }).says("A connection that lived this long starts the backoff over", "That it opened does not"),
  /** The most that a server's advice may make a client wait. Default 5 m. 0 ignores advice. */
  retryMaxAdvice: duration("retryMaxAdvice", { default: "5m", zero: "ignores advice", on: connect }).says(
    "The most that a server's advice may make a client wait"
  ),
  /** Reasons and close codes after which a client dials again, whatever they say themselves. Default none. */
  retryOn: retryRules("retryOn", { on: connect }).says(
    "Reasons and close codes after which a client dials again, whatever they say themselves"
  ),
  /**
   * Reasons and close codes after which a client gives up, whatever they say themselves. Default none. Has no entry in
   * common with `retryOn`.
   */
  giveUpOn: retryRules("giveUpOn", { on: connect, apartFrom: "retryOn" }).says(
    "Reasons and close codes after which a client gives up, whatever they say themselves"
  ),
  /** What `Client.send` does while there is no connection: waits for one, or fails at once. Default `wait`. */
  whenOffline: choice("whenOffline", ["wait", "fail"], { default: "wait", on: connect, flag: "offline" }).says(
    "What `Client.send` does while there is no connection: waits for one, or fails at once"
  ),
  /** The most messages that wait for a connection; one more fails. Default 1024. */
  offlineMessages: count("offlineMessages", { default: 1024, minimum: 0 }).says(
    "The most messages that wait for a connection; one more fails"
  ),
  /** The most bytes of messages that wait for a connection. Default 1 MiB. */
  offlineBytes: bytes("offlineBytes", { default: "1 MiB" }).says(
    "The most bytes of messages that wait for a connection"
  )
}

// a default of `minPingEvery` leaves room for the pings of this policy, and for two in a silence
const leastPing = (times: number) => ({ limit: "minPingEvery", times, follows: "other" }) as const

/**
 * The limits and cadences of a connection and of a server.
 *
 * **Details**
 *
 * Durations are `Duration`s in code; in JSON and `Config` they are text (`"25s"`, `"25 seconds"`) or milliseconds. A
 * duration of 0 or `Infinity` turns its limit off, unless the field says otherwise; negative ones are rejected by name.
 * Sizes are bytes, in JSON also text (`"1 MiB"`).
 *
 * Use `make` to build one: it fills in the defaults. A default follows a limit that was given where its field says so
 * ("at least ..."), and limits of a preset are defaults. Two given limits that contradict each other are refused by name
 * wherever both are given: in data (`decode`, `config`, the command), in one `make` and in one `patch`. A program that means them
 * gives one after the other: `Policy.make({ silence: "5 seconds" }, Policy.make({ pingEvery: "1 minute" }))`.
 *
 * @category models
 * @since 0.1.0
 */
export class Policy extends Schema.Class<Policy>("holdfast/Policy")({
  /** How long dialling may take, TLS and WebSocket upgrade included. Default 10 s. 0 is off. */
  open: duration("open", { default: "10s", zero: "off", on: connect }).says(
    "How long dialling may take, TLS and WebSocket upgrade included"
  ),
  /**
   * How often we ping; only with a heartbeat. Default 25 s. 0 is off.
   *
   * Two pings fit into `silence`, and one into the 60 s (nginx, AWS ALB) at which common proxies cut a quiet
   * connection. Among 256 connections and more a ping may come a fiftieth of this early, together with others: a
   * wake-up for each costs more than the ping.
   */
  pingEvery: duration("pingEvery", { default: "25s", zero: "off", on: both, atLeast: leastPing(2) }).says(
    "How often we ping; only with a heartbeat"
  ),
  /**
   * Whether a quiet connection alone is pinged, or every one. Default `quiet`.
   *
   * `quiet`: a ping is left out while both directions carried bytes within `pingEvery`, so that we hear the peer and
   * it hears us. `always`: at every interval.
   */
  pingWhen: choice("pingWhen", ["quiet", "always"], { default: "quiet" }).says(
    "Whether a quiet connection alone is pinged, or every one"
  ),
  /**
   * The first ping comes up to this fraction of `pingEvery` early, at random. So peers do not ping in step. Default
   * 0.1.
   */
  pingJitter: fraction("pingJitter", { default: 0.1 }).says(
    "The first ping comes up to this fraction of `pingEvery` early, at random",
    "So peers do not ping in step"
  ),
  /** How long a pong may take. `silence` finds a dead peer also where it answers no pings. Default off (0). */
  pong: duration("pong", { default: "0", zero: "off", on: both }).says(
    "How long a pong may take",
    "`silence` finds a dead peer also where it answers no pings"
  ),
  /** How many pings in a row may stay unanswered beyond the first; only with `pong`. Default 0. */
  misses: count("misses", { default: 0, minimum: 0 }).says(
    "How many pings in a row may stay unanswered beyond the first; only with `pong`"
  ),
  /**
   * How long a peer may stay silent (bytes, not messages). The longest that a dead peer goes unnoticed. Default 1 m, at
   * least twice `pingEvery`. 0 is off.
   *
   * A shorter one leaves a default `pingEvery` as it is: give both, or a quiet peer ends before it is pinged.
   */
  silence: duration("silence", {
    default: "1m",
    zero: "off",
    on: both,
    atLeast: [{ limit: "pingEvery", times: 2, follows: "this" }, leastPing(4)]
  }).says("How long a peer may stay silent (bytes, not messages)", "The longest that a dead peer goes unnoticed"),
  /**
   * A peer whose heartbeat pings more often is closed at the third strike. In gRPC as well, it is what keeps a client
   * that pings all the time from costing a server more than the others. Default 5 s, at most half of `pingEvery`. 0 is
   * off.
   *
   * As a default it is in force at a server alone, and at most a quarter of `silence` as well: clients that ping as this policy says
   * are in good time. Given, it is in force at either end. Pings that come together (in one read, or while this process
   * stood still) are one strike at most, up to eight that a stall of the network held up are none, and a fiftieth early is in time.
   * The pings of the WebSocket protocol are no strikes: a flood of them costs its sender the reading, and `messageRate`.
   */
  minPingEvery: duration("minPingEvery", { default: "5s", zero: "off", off: 0, on: serve }).says(
    "A peer whose heartbeat pings more often is closed at the third strike",
    "In gRPC as well, it is what keeps a client that pings all the time from costing a server more than the others"
  ),
  /**
   * How long a peer may take none of our bytes while any wait. One that takes none is stuck, however lively its pongs.
   * Default 10 s. 0 is off.
   */
  writeStall: duration("writeStall", { default: "10s", zero: "off", on: both }).says(
    "How long a peer may take none of our bytes while any wait",
    "One that takes none is stuck, however lively its pongs"
  ),
  /**
   * How long a frame that was begun may take to arrive. One that trickles in for longer is an attack (slow-loris).
   * Default 1 m. 0 is off.
   */
  frame: duration("frame", { default: "1m", zero: "off", on: both, flag: "frame-deadline" }).says(
    "How long a frame that was begun may take to arrive",
    "One that trickles in for longer is an attack (slow-loris)"
  ),
  /** How long a connection may carry no message either way; heartbeats do not count. Default off (0). */
  idle: duration("idle", { default: "0", zero: "off", on: both }).says(
    "How long a connection may carry no message either way; heartbeats do not count"
  ),
  /**
   * At which age a connection is asked to leave, give or take 10 %, drawn once. Set it to rebalance behind a load
   * balancer. Default off (0).
   */
  maxAge: duration("maxAge", { default: "0", zero: "off", on: serve }).says(
    "At which age a connection is asked to leave, give or take 10 %, drawn once",
    "Set it to rebalance behind a load balancer"
  ),
  /** How long after `maxAge` it is ended. Default 30 s. 0 ends it at once. */
  maxAgeGrace: duration("maxAgeGrace", { default: "30s", zero: "ends it at once" }).says(
    "How long after `maxAge` it is ended"
  ),
  /**
   * How long a handshake may take, counted on a server from the accept. A peer that never authenticates must not hold a
   * connection. Default 10 s. 0 is off.
   */
  handshake: duration("handshake", { default: "10s", zero: "off", on: both }).says(
    "How long a handshake may take, counted on a server from the accept",
    "A peer that never authenticates must not hold a connection"
  ),
  /**
   * How long closing may take: flushing, and handlers that finish. A stop has to end within the 10 s (Docker) to 30 s
   * (Kubernetes) before SIGKILL. Default 5 s. 0 does not wait.
   */
  drain: duration("drain", { default: "5s", zero: "does not wait", on: both }).says(
    "How long closing may take: flushing, and handlers that finish",
    "A stop has to end within the 10 s (Docker) to 30 s (Kubernetes) before SIGKILL"
  ),
  /**
   * How long a peer is read after a server that stops has said goodbye; it counts in `drain`. Set it where peers finish
   * what they have begun once they hear it. Default 0. 0 reads what had come by then.
   *
   * What had reached us when the stop began is read and answered in any case. In the native protocol reading ends when the
   * client has heard the goodbye, after a second at the latest, or after this where it is longer.
   */
  stopGrace: duration("stopGrace", { default: "0", zero: "reads what had come by then", on: serve }).says(
    "How long a peer is read after a server that stops has said goodbye; it counts in `drain`",
    "Set it where peers finish what they have begun once they hear it"
  ),
  /**
   * How many of the last things that happened to a connection are kept, for `Connection.explain`. Default 12. 0 keeps
   * none.
   *
   * A connection that is in order has none, and takes no memory for it.
   */
  recentEvents: count("recentEvents", { default: 12, minimum: 0, zero: "keeps none" }).says(
    "How many of the last things that happened to a connection are kept, for `Connection.explain`"
  ),
  /** How long we may still answer a peer that has finished sending (FIN). Default 5 s. 0 ends at once. */
  halfClose: duration("halfClose", { default: "5s", zero: "ends at once", on: serve }).says(
    "How long we may still answer a peer that has finished sending (FIN)"
  ),
  /**
   * How long a TCP connection is quiet before the kernel probes the peer. A second layer below `silence`. Default 30 s.
   * 0 is off.
   *
   * A link that died while nothing was under way ends after `keepAlive`, and `keepAliveCount` times
   * `keepAliveInterval`, without any heartbeat: 40 s by default. (While bytes of ours wait, `writeStall` is what ends
   * it.) The kernel counts whole seconds, at least 1 and at most 32767 (Linux): a fraction is rounded up. Nothing for
   * Unix sockets.
   */
  keepAlive: duration("keepAlive", { default: "30s", zero: "off", on: both }).says(
    "How long a TCP connection is quiet before the kernel probes the peer",
    "A second layer below `silence`"
  ),
  /**
   * How long the kernel waits for the answer to a probe before the next one. The default is libuv's. Default 1 s.
   *
   * Whole seconds, as `keepAlive`. Node sets this from 24.19 on; on an older one it stays at 1 s, and a warning is logged
   * once.
   */
  keepAliveInterval: duration("keepAliveInterval", { default: "1s" }).says(
    "How long the kernel waits for the answer to a probe before the next one",
    "The default is libuv's"
  ),
  /**
   * How many probes may stay unanswered; then the connection ends. The default is libuv's. Default 10.
   *
   * At most 127 (Linux). Node sets this from 24.19 on; on an older one it stays at 10, and a warning is logged once.
   */
  keepAliveCount: count("keepAliveCount", { default: 10, minimum: 1 }).says(
    "How many probes may stay unanswered; then the connection ends",
    "The default is libuv's"
  ),
  /** Small writes leave at once (TCP_NODELAY). Default true. */
  noDelay: toggle("noDelay", { default: true }).says("Small writes leave at once (TCP_NODELAY)"),
  /** The longest frame, in bytes of payload. Checked before anything is allocated for it. Default 1 MiB. */
  maxFrame: bytes("maxFrame", { default: "1 MiB", on: both }).says(
    "The longest frame, in bytes of payload",
    "Checked before anything is allocated for it"
  ),
  /**
   * The most memory that one message may take once it is decoded, in bytes. JSON of `[{},{}]` takes 21 times its size,
   * MessagePack 64 times. Default 4 MiB, at least `maxFrame`.
   */
  maxDecoded: bytes("maxDecoded", { default: "4 MiB", atLeast: { limit: "maxFrame", follows: "this", times: 4 } }).says(
    "The most memory that one message may take once it is decoded, in bytes",
    "JSON of `[{},{}]` takes 21 times its size, MessagePack 64 times"
  ),
  /**
   * Decoding and reading stop at this many messages that are not received yet. Then the kernel tells the peer. Default
   * 1024.
   */
  inboxMessages: count("inboxMessages", { default: 1024, minimum: 1 }).says(
    "Decoding and reading stop at this many messages that are not received yet",
    "Then the kernel tells the peer"
  ),
  /**
   * Decoding and reading stop at this many bytes of messages that are not received yet. A message counts with its
   * bytes, 128 more, and what the values in it take in memory. Default 1 MiB.
   */
  inboxBytes: bytes("inboxBytes", { default: "1 MiB", on: serve }).says(
    "Decoding and reading stop at this many bytes of messages that are not received yet",
    "A message counts with its bytes, 128 more, and what the values in it take in memory"
  ),
  /**
   * The most bytes waiting to be written; a larger message is refused by size. One frame of the default `maxFrame`
   * fits. Default 2 MiB, at least `maxFrame`.
   *
   * A smaller one leaves a default `maxFrame` as it is: what arrives may be larger than what is sent.
   */
  outboxBytes: bytes("outboxBytes", { default: "2 MiB", on: both, atLeast: { limit: "maxFrame", follows: "this" } })
    .says(
      "The most bytes waiting to be written; a larger message is refused by size",
      "One frame of the default `maxFrame` fits"
    ),
  /** The most messages waiting to be written. Then `overflow` decides. Default 1024. */
  outboxMessages: count("outboxMessages", { default: 1024, minimum: 1, on: both }).says(
    "The most messages waiting to be written",
    "Then `overflow` decides"
  ),
  /**
   * The most messages that a peer may send in a second, over time: data, pings and pongs. `rateBurst` says how many may
   * come at once, and `overRate` what happens to a faster peer. Default no limit (0).
   */
  messageRate: count("messageRate", { default: 0, minimum: 0, zero: "no limit", on: serve }).says(
    "The most messages that a peer may send in a second, over time: data, pings and pongs",
    "`rateBurst` says how many may come at once, and `overRate` what happens to a faster peer"
  ),
  /** The most bytes that a peer may send in a second, over time. As `messageRate`. Default no limit (0). */
  byteRate: bytes("byteRate", { default: "0", minimum: 0, zero: "no limit", on: serve }).says(
    "The most bytes that a peer may send in a second, over time",
    "As `messageRate`"
  ),
  /**
   * How long a peer may send nothing and make up for it at once, with `messageRate` and `byteRate`. With 1 s, a
   * second's worth may come at once. Default 1 s. 0 lets nothing come at once.
   *
   * A pause is as long as what was read takes at the rate, and one read is up to 64 KiB: a `byteRate` under that makes
   * pauses of more than a second, in which the peer writes nothing and hears no pong. Keep them under its `writeStall`.
   */
  rateBurst: duration("rateBurst", { default: "1s", zero: "lets nothing come at once", on: serve }).says(
    "How long a peer may send nothing and make up for it at once, with `messageRate` and `byteRate`",
    "With 1 s, a second's worth may come at once"
  ),
  /**
   * Whether a peer over `messageRate` or `byteRate` is not read until its rate allows it, or closed. Default `pause`.
   *
   * While we pause, the kernel slows the peer down, and none of our deadlines counts: what we do not read is not held against the
   * peer. `close` ends the connection with `RateExceeded`, once what came before is handled.
   */
  overRate: choice("overRate", ["pause", "close"], { default: "pause", on: serve }).says(
    "Whether a peer over `messageRate` or `byteRate` is not read until its rate allows it, or closed"
  ),
  /** What happens to a message that finds the outbox full. Default `wait`. */
  overflow: choice("overflow", Overflow.literals, { default: "wait", on: serve }).says(
    "What happens to a message that finds the outbox full"
  ),
  /**
   * A connection that stopped being writable is writable again at this fraction of its bounds. So senders do not
   * flutter. Default 0.5.
   */
  lowWater: fraction("lowWater", { default: 0.5 }).says(
    "A connection that stopped being writable is writable again at this fraction of its bounds",
    "So senders do not flutter"
  ),
  /**
   * The most memory that all connections of a server hold together, in bytes. Default 0 B. 0 is a third of what is left
   * of the heap.
   *
   * What counts is what was read and not received, what was received last while its answer waits to be sent, unfinished
   * frames, what is to be sent, and what the transports hold of both; see `Memory`.
   */
  memory: bytes("memory", { default: "0", minimum: 0, zero: "is a third of what is left of the heap", on: serve }).says(
    "The most memory that all connections of a server hold together, in bytes"
  ),
  /**
   * The most connections of a server. Well under the 20,000 descriptors that a process commonly has. Default 10000. 0
   * is no limit.
   */
  maxConnections: count("maxConnections", { default: 10_000, minimum: 0, zero: "no limit", on: serve }).says(
    "The most connections of a server",
    "Well under the 20,000 descriptors that a process commonly has"
  ),
  /** The most connections from one address. Many users share an address behind NAT. Default no limit (0). */
  maxConnectionsPerAddress: count("maxConnectionsPerAddress", { default: 0, minimum: 0, zero: "no limit", on: serve })
    .says("The most connections from one address", "Many users share an address behind NAT"),
  /**
   * How many bits of an IPv6 address `maxConnectionsPerAddress` goes by. One customer commonly has a /64. Default 64.
   *
   * 128 counts each address by itself, 56 or 48 the network of a whole site. An IPv4 address that is mapped into IPv6
   * counts as the IPv4 address it is.
   */
  ipv6Prefix: count("ipv6Prefix", { default: 64, minimum: 1 }).says(
    "How many bits of an IPv6 address `maxConnectionsPerAddress` goes by",
    "One customer commonly has a /64"
  ),
  /**
   * The most connections a server takes in a second, on average. A second's worth may come at once. Default no limit
   * (0).
   */
  acceptRate: count("acceptRate", { default: 0, minimum: 0, zero: "no limit", on: serve }).says(
    "The most connections a server takes in a second, on average",
    "A second's worth may come at once"
  ),
  /** Whether a connection over a limit waits, unread, or is refused. Default `wait`. */
  whenFull: choice("whenFull", ["wait", "reject"], { default: "wait", on: serve }).says(
    "Whether a connection over a limit waits, unread, or is refused"
  ),
  /** The most connections that wait; one more is refused. Default 1024. */
  maxWaiting: count("maxWaiting", { default: 1024, minimum: 0 }).says(
    "The most connections that wait; one more is refused"
  ),
  /**
   * HTTP: the most requests of one connection; the last answer says `Connection: close`. Set it to rebalance behind a
   * load balancer. Default no limit (0).
   */
  maxRequests: count("maxRequests", { default: 0, minimum: 0, zero: "no limit" }).says(
    "HTTP: the most requests of one connection; the last answer says `Connection: close`",
    "Set it to rebalance behind a load balancer"
  ),
  /**
   * HTTP: the most requests of one connection that are with the application at a time. Further ones, which the peer
   * pipelined, wait until an answer has left, and nothing is read meanwhile. Default 10. 0 is no limit.
   */
  maxConcurrentRequests: count("maxConcurrentRequests", { default: 10, minimum: 0, zero: "no limit" }).says(
    "HTTP: the most requests of one connection that are with the application at a time",
    "Further ones, which the peer pipelined, wait until an answer has left, and nothing is read meanwhile"
  ),
  /**
   * HTTP: the longest head of a request (its line and its headers), in bytes. The default is Node's; a larger one is
   * answered with 431. Default 16 KiB.
   */
  maxHeader: bytes("maxHeader", { default: "16 KiB" }).says(
    "HTTP: the longest head of a request (its line and its headers), in bytes",
    "The default is Node's; a larger one is answered with 431"
  ),
  ...reconnecting
}) {}

type Fields = typeof Policy.fields

/**
 * Some fields of a policy, with durations as people write them in code (`"25 seconds"`, `25_000`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Patch extends PatchOf<Fields> {
  // an interface without a member of its own is called by its base in errors, with the schemas of all fields
  readonly open?: Duration.Input | undefined
}

/**
 * A policy that cannot be used; the message names every wrong field.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidPolicy extends Schema.TaggedError<InvalidPolicy>()("InvalidPolicy", {
  detail: Schema.String
}) {
  override get message() {
    return `invalid policy: ${this.detail}`
  }
}

// each limit is checked before by itself
const set = limitSet(Policy.fields, (values) => new Policy(values, { disableChecks: true }))

const failed = (detail: string): InvalidPolicy => new InvalidPolicy({ detail })

/**
 * The defaults, safe on the open internet and behind common proxies: a dead peer is gone after 60 s at the latest.
 *
 * @category presets
 * @since 0.1.0
 */
export const defaults: Policy = set.defaults

/**
 * Builds a policy: the defaults (or `from`) with some fields changed.
 *
 * **Gotchas**
 *
 * A field that makes no sense, and two given together that contradict each other, are a mistake in the program, so this throws an
 * `InvalidPolicy` that names them. For data from outside use `decode` or `config`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (patch?: Patch, from: Policy = defaults): Policy => {
  if (patch === undefined) return from
  if (patch instanceof Policy) return patch
  return Result.getOrThrowWith(set.change(from, patch, "code"), failed)
}

/**
 * Changes some fields of a policy, and no other, as an Effect that fails with an `InvalidPolicy` naming the wrong field.
 *
 * @category combinators
 * @since 0.1.0
 */
export const patch = (self: Policy, changes: Patch): Effect.Effect<Policy, InvalidPolicy> =>
  Effect.suspend(() => Effect.fromResult(Result.mapError(set.change(self, changes, "exact"), failed)))

/**
 * Between machines of one network: a dead peer is noticed within 10 s.
 *
 * @category presets
 * @since 0.1.0
 */
export const lan: Policy = set.preset({
  pingEvery: "5 seconds",
  pong: "5 seconds",
  silence: "15 seconds",
  minPingEvery: "2.5 seconds",
  open: "3 seconds"
})

/**
 * Phones: few wake-ups of the radio. The ping stays under the 5 minutes at which mobile carriers drop idle mappings
 * (RFC 5382 asks for two hours and four minutes; what is measured in the field starts at five).
 *
 * @category presets
 * @since 0.1.0
 */
export const mobile: Policy = set.preset({
  pingEvery: "4 minutes",
  pong: "30 seconds",
  silence: "10 minutes",
  open: "20 seconds",
  handshake: "20 seconds",
  writeStall: "30 seconds",
  keepAlive: 0
})

/**
 * Games and live prices: old news is worthless, so a full outbox drops its oldest message, and 3 s of silence is death.
 *
 * @category presets
 * @since 0.1.0
 */
export const realtime: Policy = set.preset({
  pingEvery: "1 second",
  pong: "2 seconds",
  silence: "5 seconds",
  minPingEvery: "500 millis",
  writeStall: "3 seconds",
  outboxMessages: 256,
  overflow: "drop-oldest"
})

const presets = { defaults, lan, mobile, realtime }

/**
 * Reads a policy from JSON data: an object with any of the fields, and optionally `preset` naming the one they change
 * (`defaults`, `lan`, `mobile`, `realtime`). Unknown fields are errors, but for `$schema`; every wrong field is named.
 * `holdfast policy --schema` prints the schema.
 *
 * @category data
 * @since 0.1.0
 */
export const decode = (input: unknown): Effect.Effect<Policy, InvalidPolicy> =>
  Effect.suspend(() => {
    if (typeof input !== "object" || input === null || Array.isArray(input)) {
      return Effect.fail(new InvalidPolicy({ detail: "expected an object with fields such as {\"silence\": \"60s\"}" }))
    }
    // an editor reads `$schema`
    const { $schema: _, preset, ...fields } = input as { readonly $schema?: unknown; readonly preset?: unknown }
    if (preset !== undefined && !(typeof preset === "string" && Object.hasOwn(presets, preset))) {
      return Effect.fail(new InvalidPolicy({ detail: `preset must be one of ${Object.keys(presets).join(", ")}` }))
    }
    const from = presets[(preset ?? "defaults") as keyof typeof presets]
    return Effect.fromResult(Result.mapError(set.read(from, fields), failed))
  })

/**
 * Writes a policy as JSON data that `decode` reads.
 *
 * @category data
 * @since 0.1.0
 */
export const encode: (policy: Policy) => typeof Policy.Encoded = Schema.encodeSync(Policy)

/**
 * Where a policy is in the configuration, and what it changes.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConfigOptions {
  /**
   * What the names of the variables begin with: with `"HOLDFAST"`, `HOLDFAST_PING_EVERY` sets `pingEvery`. Default: no
   * variables; fields are read by their own names (`pingEvery`), as a document has them.
   */
  readonly prefix?: string | undefined
  /** What a field has that is not set. Default `defaults`. */
  readonly from?: Policy | undefined
}

/**
 * Reads a policy from configuration; what is not set keeps its default, or is as in `from`.
 *
 * **When to use**
 *
 * To set limits where a program is deployed. With `prefix` it reads environment variables, and needs no `ConfigProvider` of
 * its own. Without, it reads the fields of a document by their own names (`ConfigProvider.fromUnknown`).
 *
 * **Details**
 *
 * A name is the prefix, and the field in SCREAMING_CASE: `HOLDFAST_MAX_FRAME=64KiB`. `Config.nested("APP")` around it puts
 * `APP_` before that. A value is written as in JSON: `20s`, `1 MiB`, `false`, `HandshakeFailed,4001`. A wrong value, and two
 * that contradict each other, fail with a `ConfigError` that names them. A policy in place of options is `from`.
 *
 * **Gotchas**
 *
 * A variable with the prefix that is no field is ignored, `HOLDFAST_PING_EVRY` too: a `Config` cannot list what its provider
 * has, and other variables may share the prefix. `Policy.decode` refuses unknown fields. In a provider with structure
 * (`fromUnknown`, `fromDir`) each word of the prefix is a level: `{ HOLDFAST: { PING_EVERY: "20s" } }`.
 *
 * **Example** (Limits from the environment)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Codec, Connection, Policy, Server } from "holdfast"
 *
 * // HOLDFAST_PING_EVERY=20s HOLDFAST_MAX_CONNECTIONS=5000 node server.ts
 * const server = Effect.gen(function*() {
 *   const policy = yield* Policy.config({ prefix: "HOLDFAST" })
 *   const chat = Connection.make({ codec: Codec.lines(), policy })
 *   return yield* Server.run({
 *     policy,
 *     open: chat,
 *     handle: (connection) => Stream.runForEach(Connection.messages(connection), connection.send)
 *   })
 * })
 * ```
 *
 * @category data
 * @since 0.1.0
 */
export const config = (options?: Policy | ConfigOptions): Config.Config<Policy> =>
  options instanceof Policy ? set.config(options, undefined) : set.config(options?.from ?? defaults, options?.prefix)

/**
 * Provides a policy, read from configuration, as a service.
 *
 * **When to use**
 *
 * Where several parts of a program have the same limits, and tests give them others (`Layer.succeed`).
 *
 * **Example** (One policy for a server and for its connections)
 *
 * ```ts
 * import { Context, Effect } from "effect"
 * import { Codec, Connection, Policy } from "holdfast"
 *
 * class Limits extends Context.Service<Limits, Policy.Policy>()("app/Limits") {
 *   static readonly layer = Policy.layer(Limits, { prefix: "HOLDFAST" })
 *   static readonly layerTest = Policy.layer(Limits, { from: Policy.lan })
 * }
 *
 * const chat = Effect.map(Limits, (policy) => Connection.make({ codec: Codec.lines(), policy }))
 *
 * const program = chat.pipe(Effect.provide(Limits.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <I>(
  service: Context.Key<I, Policy>,
  options?: Policy | ConfigOptions
): Layer.Layer<I, Config.ConfigError> => Layer.effect(service, config(options))

/**
 * Every limit and cadence of a connection and of a server, as data.
 *
 * A policy is read from JSON or from `Config`, validated with an error that names the field, patched on a live
 * connection, and shared: mechanisms live elsewhere.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import {
  bytes,
  configOf,
  count,
  fraction,
  limit,
  oneLine,
  type Patch as PatchOf,
  patcher
} from "./internal/limits/limits.ts"

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
} from "./internal/limits/limits.ts"

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

/**
 * The limits and cadences of a connection and of a server.
 *
 * **Details**
 *
 * Durations are `Duration`s in code; in JSON and `Config` they are text (`"25s"`, `"25 seconds"`) or milliseconds. A
 * duration of 0 or `Infinity` turns its limit off, unless the field says otherwise; negative ones are rejected by name.
 * Sizes are bytes, in JSON also text (`"1 MiB"`).
 *
 * Use `make` to build one: it fills in the defaults.
 *
 * @category models
 * @since 0.1.0
 */
export class Policy extends Schema.Class<Policy>("holdfast/Policy")({
  /** Dialling, TLS and WebSocket upgrade included. Default 10 s. */
  open: limit("open"),
  /** From accept until the server's handshake has succeeded. Default 10 s. */
  handshake: limit("handshake"),
  /**
   * How often we ping; only with a heartbeat. Default 25 s: two pings fit into `silence`, and one into the 60 s (nginx,
   * AWS ALB) at which common proxies cut a quiet connection. Among 256 connections and more a ping may come a fiftieth of
   * this early, together with others: a wake-up for each costs more than the ping.
   */
  pingEvery: limit("pingEvery"),
  /**
   * `quiet` (default): a ping is left out while both directions carried bytes within `pingEvery`, so that we hear the
   * peer and it hears us. `always`: at every interval.
   */
  pingWhen: Schema.Literals(["quiet", "always"]),
  /** The first ping comes up to this fraction of `pingEvery` early, at random, so that peers do not ping in step. */
  pingJitter: fraction("pingJitter"),
  /** How long a pong may take. Default off: `silence` bounds a dead peer also where it does not answer pings. */
  pong: limit("pong"),
  /** How many pings in a row may stay unanswered beyond the first. Default 0. Only with `pong`. */
  misses: count("misses", 0),
  /** The peer may not ping more often than this: the third strike ends the connection. Default off. */
  minPingEvery: limit("minPingEvery"),
  /** The peer may not stay silent for longer (bytes, not messages). Default 60 s. */
  silence: limit("silence"),
  /** The peer has to take some of our bytes within this while any wait. Default 10 s. */
  writeStall: limit("writeStall"),
  /** A frame that was begun has to be complete within this (slow-loris). Default 60 s. */
  frame: limit("frame"),
  /** Ends a connection that carried no message either way; heartbeats do not count. Default off. */
  idle: limit("idle"),
  /** The connection is asked to leave at this age, give or take 10 %, drawn once. Default off. */
  maxAge: limit("maxAge"),
  /** How long after `maxAge` it is ended. 0 ends it at once. Default 30 s. */
  maxAgeGrace: limit("maxAgeGrace"),
  /** How long we may still answer a peer that has finished sending (FIN). 0 ends at once. Default 5 s. */
  halfClose: limit("halfClose"),
  /** How long closing may take: flushing, and handlers that finish. 0 does not wait. Default 5 s. */
  drain: limit("drain"),
  /** The longest frame, in bytes of payload, checked before anything is allocated for it. Default 1 MiB. */
  maxFrame: bytes("maxFrame"),
  /** Reading stops at this many messages that nobody has received. Default 1024. */
  inboxMessages: count("inboxMessages", 1),
  /** Reading stops at this many bytes of messages that nobody has received. Default 1 MiB. */
  inboxBytes: bytes("inboxBytes"),
  /** The most messages waiting to be written. Default 1024. */
  outboxMessages: count("outboxMessages", 1),
  /** The most bytes waiting to be written; a larger message is refused by size. Default 2 MiB: one `maxFrame` fits. */
  outboxBytes: bytes("outboxBytes"),
  /** What happens at the bound of the outbox. Default `wait`. */
  overflow: Overflow,
  /** A connection that stopped being writable is writable again at this fraction of its bounds. Default 0.5. */
  lowWater: fraction("lowWater"),
  /** The most connections of a server; 0 is no limit. Default 10,000. */
  maxConnections: count("maxConnections", 0),
  /** The most connections from one address; 0 (default) is no limit. */
  maxConnectionsPerAddress: count("maxConnectionsPerAddress", 0),
  /**
   * The most connections a server takes in a second, on average: a second's worth may come at once. 0 (default) is no
   * limit.
   */
  acceptRate: count("acceptRate", 0),
  /** Whether a connection over a limit waits, unread, or is refused. Default `wait`. */
  whenFull: Schema.Literals(["wait", "reject"]),
  /** The most connections that wait; one more is refused. Default 1024. */
  maxWaiting: count("maxWaiting", 0),
  /** HTTP: the most requests of one connection; the last answer says `Connection: close`. 0 (default) is no limit. */
  maxRequests: count("maxRequests", 0),
  /** HTTP: the longest head of a request (its line and its headers), in bytes. Default 16 KiB, which is Node's. */
  maxHeader: bytes("maxHeader"),
  /** A client's first delay before it dials again. At least 1 ms. Default 200 ms. */
  retryBase: limit("retryBase"),
  /** By how much each delay is longer than the one before. At least 1. Default 2. */
  retryFactor: Schema.Number.check(
    Schema.makeFilter((n: number) => (n >= 1 ? undefined : "retryFactor must be at least 1"))
  ),
  /** The longest delay. Default 30 s. */
  retryCap: limit("retryCap"),
  /** How delays are spread; see `Backoff.Jitter`. Default `full`. */
  retryJitter: Schema.Literals(["full", "equal", "decorrelated", "none"]),
  /** How many tries in a row may fail after the first; 0 (default) is no limit. */
  retryAttempts: count("retryAttempts", 0),
  /** For how long tries in a row may go on; 0 (default) is no limit. */
  retryElapsed: limit("retryElapsed"),
  /** A connection that lived this long starts the backoff over. Default 1 m. */
  retryResetAfter: limit("retryResetAfter"),
  /** The most that a server's advice may make a client wait. 0 ignores advice. Default 5 m. */
  retryMaxAdvice: limit("retryMaxAdvice"),
  /** What `Client.send` does while there is no connection: `wait` (default) for one, or `fail` at once. */
  whenOffline: Schema.Literals(["wait", "fail"]),
  /** The most messages that wait for a connection; one more fails. Default 1024. */
  offlineMessages: count("offlineMessages", 0),
  /** The most bytes of messages that wait for a connection. Default 1 MiB. */
  offlineBytes: bytes("offlineBytes"),
  /** TCP keep-alive: the kernel's first probe after this much quiet. 0 leaves it off. Default 30 s. */
  keepAlive: limit("keepAlive"),
  /** TCP_NODELAY: small writes leave at once. Default true. */
  noDelay: Schema.Boolean
}) {}

type Fields = typeof Policy.fields

/**
 * Some fields of a policy, with durations as people write them in code (`"25 seconds"`, `25_000`).
 *
 * @category models
 * @since 0.1.0
 */
export type Patch = PatchOf<Fields>

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

const minute = 60_000
const mebibyte = 1024 * 1024

const base = {
  open: 10_000,
  handshake: 10_000,
  pingEvery: 25_000,
  pingWhen: "quiet",
  pingJitter: 0.1,
  pong: 0,
  misses: 0,
  minPingEvery: 0,
  silence: minute,
  writeStall: 10_000,
  frame: minute,
  idle: 0,
  maxAge: 0,
  maxAgeGrace: 30_000,
  halfClose: 5_000,
  drain: 5_000,
  maxFrame: mebibyte,
  inboxMessages: 1024,
  inboxBytes: mebibyte,
  outboxMessages: 1024,
  outboxBytes: 2 * mebibyte,
  overflow: "wait",
  lowWater: 0.5,
  maxConnections: 10_000,
  maxConnectionsPerAddress: 0,
  acceptRate: 0,
  whenFull: "wait",
  maxWaiting: 1024,
  maxRequests: 0,
  maxHeader: 16_384,
  retryBase: 200,
  retryFactor: 2,
  retryCap: 30_000,
  retryJitter: "full",
  retryAttempts: 0,
  retryElapsed: 0,
  retryResetAfter: minute,
  retryMaxAdvice: 5 * minute,
  whenOffline: "wait",
  offlineMessages: 1024,
  offlineBytes: mebibyte,
  keepAlive: 30_000,
  noDelay: true
} as const satisfies Patch

const durations = new Set<string>([
  "open",
  "handshake",
  "pingEvery",
  "pong",
  "minPingEvery",
  "silence",
  "writeStall",
  "frame",
  "idle",
  "maxAge",
  "maxAgeGrace",
  "retryBase",
  "retryCap",
  "retryElapsed",
  "retryResetAfter",
  "retryMaxAdvice",
  "halfClose",
  "drain",
  "keepAlive"
])

const decodeExact = Schema.decodeUnknownResult(Policy, { errors: "all", onExcessProperty: "error" })
const patched = patcher(Policy.fields, base, durations, (values) => new Policy(values))

const patchResult = (policy: object, patch: Patch): Result.Result<Policy, InvalidPolicy> =>
  Result.mapError(patched(policy, patch), (detail) => new InvalidPolicy({ detail }))

const must = (result: Result.Result<Policy, InvalidPolicy>): Policy => {
  if (Result.isFailure(result)) throw result.failure
  return result.success
}

/**
 * The defaults, safe on the open internet and behind common proxies: a dead peer is gone after 60 s at the latest.
 *
 * @category presets
 * @since 0.1.0
 */
export const defaults: Policy = must(
  patchResult(
    Object.fromEntries(
      Object.entries(base).map((
        [name, value]
      ) => [name, durations.has(name) ? Duration.millis(value as number) : value])
    ),
    {}
  )
)

/**
 * Builds a policy: the defaults (or `from`) with some fields changed.
 *
 * **Gotchas**
 *
 * A field that makes no sense is a mistake in the program, so this throws an `InvalidPolicy` that names it. For data
 * from outside use `decode` or `config`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (patch?: Patch, from: Policy = defaults): Policy =>
  patch === undefined ? from : patch instanceof Policy ? patch : must(patchResult(from, patch))

/**
 * Changes some fields of a policy, as an Effect that fails with an `InvalidPolicy` naming the wrong field.
 *
 * @category combinators
 * @since 0.1.0
 */
export const patch = (self: Policy, changes: Patch): Effect.Effect<Policy, InvalidPolicy> =>
  Effect.suspend(() => {
    const result = patchResult(self, changes)
    return Result.isFailure(result) ? Effect.fail(result.failure) : Effect.succeed(result.success)
  })

/**
 * Between machines of one network: a dead peer is noticed within 10 s.
 *
 * @category presets
 * @since 0.1.0
 */
export const lan: Policy = make({ pingEvery: "5 seconds", pong: "5 seconds", silence: "15 seconds", open: "3 seconds" })

/**
 * Phones: few wake-ups of the radio. The ping stays under the 5 minutes at which mobile carriers drop idle mappings
 * (RFC 5382 asks for two hours and four minutes; what is measured in the field starts at five).
 *
 * @category presets
 * @since 0.1.0
 */
export const mobile: Policy = make({
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
export const realtime: Policy = make({
  pingEvery: "1 second",
  pong: "2 seconds",
  silence: "5 seconds",
  writeStall: "3 seconds",
  outboxMessages: 256,
  overflow: "drop-oldest"
})

const presets = { defaults, lan, mobile, realtime }

/**
 * Reads a policy from JSON data: an object with any of the fields, and optionally `preset` naming the one they change
 * (`defaults`, `lan`, `mobile`, `realtime`). Unknown fields are errors; every wrong field is named.
 *
 * @category data
 * @since 0.1.0
 */
export const decode = (input: unknown): Effect.Effect<Policy, InvalidPolicy> =>
  Effect.suspend(() => {
    if (typeof input !== "object" || input === null || Array.isArray(input)) {
      return Effect.fail(new InvalidPolicy({ detail: "expected an object with fields such as {\"silence\": \"60s\"}" }))
    }
    const { preset, ...fields } = input as { readonly preset?: unknown }
    if (preset !== undefined && !(typeof preset === "string" && Object.hasOwn(presets, preset))) {
      return Effect.fail(new InvalidPolicy({ detail: `preset must be one of ${Object.keys(presets).join(", ")}` }))
    }
    const from = presets[(preset ?? "defaults") as keyof typeof presets]
    const result = decodeExact({ ...encode(from), ...fields })
    return Result.isFailure(result)
      ? Effect.fail(
        new InvalidPolicy({
          detail: oneLine(result.failure.message)
            .replace(/Expected no excess property at \["([^"]*)"\]/g, "there is no field \"$1\"")
        })
      )
      : Effect.succeed(result.success)
  })

/**
 * Writes a policy as JSON data that `decode` reads.
 *
 * @category data
 * @since 0.1.0
 */
export const encode: (policy: Policy) => typeof Policy.Encoded = Schema.encodeSync(Policy)

/**
 * Reads a policy from configuration; what is not set keeps its default.
 *
 * With `ConfigProvider.constantCase` and `Config.nested("HOLDFAST")`, `HOLDFAST_PING_EVERY=20s` sets `pingEvery`.
 *
 * @category data
 * @since 0.1.0
 */
export const config = (from: Policy = defaults): Config.Config<Policy> => {
  const read = Config.map(configOf(Policy.fields, encode(from)), (values) => new Policy(values))
  // below a name of which nothing is set there is not even an object to read
  return Config.withDefault(read, from)
}

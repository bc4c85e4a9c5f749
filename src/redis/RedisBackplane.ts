/**
 * Redis as the engine of a `Fleet`: nodes on many machines that share a Redis are one fleet.
 *
 * Needs the package `redis` beside this one, and a server of at least version 6 (Valkey is one as well).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { RedisClientOptions } from "redis"
import * as Backplane from "../Backplane.ts"
import { atLeast } from "../internal/arguments/atLeast.ts"
import { type Shared, Stay } from "./internal/session.ts"

/**
 * Where Redis is, and how it is used.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * `redis[s]://[[username][:password]@][host][:port][/db-number]`, or an effect that is asked before each connection: for an
   * address that changes, as behind Sentinel. Default: what `client` says, or `redis://localhost:6379`.
   */
  readonly url?: string | Effect.Effect<string, unknown> | undefined
  /**
   * Options of the client: credentials, and TLS as `socket: { tls: true, ca, cert, key }`. It is told not to connect again by
   * itself, and not to keep what it cannot send.
   */
  readonly client?: Omit<RedisClientOptions, "url" | "RESP"> | undefined
  /**
   * What the names of its keys and channels begin with: fleets with different ones do not know of each other. The number of a
   * database does not part them, for channels have none. Default `holdfast`.
   */
  readonly prefix?: string | undefined
  /**
   * How long a connection may take to open, and how long it may leave a command without an answer before it counts as cut.
   * Default 5 seconds.
   */
  readonly timeout?: Duration.Input | undefined
  /**
   * The largest batch, in bytes. Never more than `proto-max-bulk-len` of the server, where that tells it. Default 1 MiB; Redis
   * cuts a node that leaves more than `client-output-buffer-limit pubsub` (32 MiB) unread.
   */
  readonly largest?: number | undefined
}

/**
 * Makes an engine out of a Redis server. It connects when a fleet joins.
 *
 * **When to use**
 *
 * For an application that has a Redis already. NATS answers in less time for less work of the processors; see `holdfast/nats`.
 *
 * **Details**
 *
 * - Each node has one connection, one channel and one key with `PX`, its lease. The directory is one hash. Scripts make each
 *   claim one step. The newest login of a key that was given back is a key with `PX`, for a hundred leases.
 * - A connection that was cut is replaced once, at once: the inbox has a gap then. When that fails, the fleet joins again by its
 *   own policy. Redis counts nothing for its channels: the number of batches in a gap is not known.
 * - Each process of the server (its `run_id`) has its own epoch, whatever it has loaded from its files: these may be behind.
 * - The user of the server needs the commands `evalsha`, `eval`, `publish`, `subscribe`, `client|id`, those that the scripts
 *   call (`get`, `set`, `del`, `hget`, `hmget`, `hset`, `hdel`, `hincrby`, `hscan`, `sadd`, `srem`, `smembers`, `time`, `info`),
 *   and should have `config|get` and `client|kill`.
 *
 * **Gotchas**
 *
 * - **Sentinel**: `url` must ask for the master, see the example. A failover begins a new epoch. While a master that was cut off
 *   still takes writes, two logins of one key may be served for as long: `min-replicas-to-write 1` with a `min-replicas-max-lag`
 *   shorter than the lease ends that.
 * - **Cluster**: all keys of a fleet are in one slot, that of `{prefix}`. `url` must lead to the master of that slot; the client
 *   follows no redirection. A second fleet with another prefix may be in another slot.
 * - A server that evicts keys (`maxmemory-policy` other than `noeviction`) may forget the directory, which begins a new epoch.
 *
 * **Example** (A server whose Redis has a password and TLS)
 *
 * ```ts
 * import { RedisBackplane } from "holdfast/redis"
 *
 * const engine = RedisBackplane.layer({ url: "rediss://:secret@redis.example.com:6380", prefix: "chat" })
 * ```
 *
 * **Example** (The master that a Sentinel names)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { RedisBackplane } from "holdfast/redis"
 * import { createClient } from "redis"
 *
 * const master = Effect.acquireUseRelease(
 *   Effect.promise(() => createClient({ url: "redis://sentinel.example.com:26379" }).on("error", () => {}).connect()),
 *   (sentinel) =>
 *     Effect.map(
 *       Effect.tryPromise(() => sentinel.sendCommand(["SENTINEL", "get-master-addr-by-name", "mymaster"])),
 *       (address) => `redis://${(address as unknown as ReadonlyArray<string>).join(":")}`
 *     ),
 *   (sentinel) => Effect.sync(() => sentinel.destroy())
 * )
 *
 * const engine = RedisBackplane.layer({ url: master })
 * ```
 *
 * @category engines
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Backplane.Engine> =>
  Effect.sync(() => {
    const { client = {}, largest = 1_048_576, prefix = "holdfast", timeout = "5 seconds", url = "" } = options
    if (!/^[\w.:-]+$/.test(prefix)) throw new RangeError("prefix must be of the characters A-Z a-z 0-9 _ . : -")
    atLeast(1, "largest", largest)
    const millis = Duration.toMillis(timeout)
    if (!(millis > 0)) throw new RangeError("timeout must be more than 0")
    const shared: Shared = {
      url: typeof url === "string" ? Effect.succeed(url) : url,
      client,
      prefix,
      timeout: millis,
      largest,
      seen: 0
    }
    return {
      name: "redis",
      get largest() {
        return shared.largest
      },
      join: (joining) => Effect.suspend(() => new Stay(shared, joining).open)
    }
  })

/**
 * Provides Redis to the fleets that are made below.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<never> => Backplane.layer(make(options))

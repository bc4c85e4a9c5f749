/**
 * Histories in Redis: what one process appends, readers of all processes follow, and a reader comes back to any of them.
 *
 * Needs the package `redis` beside this one, and a server of at least version 6 (Valkey is one as well).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Codec from "../Codec.ts"
import type * as History from "../History.ts"
import { atLeast } from "../internal/arguments/atLeast.ts"
import { boundsOf } from "../internal/history/kept.ts"
import { link } from "../internal/history/link.ts"
import { isRefused, open } from "./internal/connection.ts"
import { Log } from "./internal/history.ts"
import type { Options as RedisOptions } from "./RedisBackplane.ts"

/**
 * Where Redis is, and how it is used.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Omit<RedisOptions, "largest"> {
  /** How often each history is compared with Redis, which finds a message that was not told. Default 10 seconds. */
  readonly check?: Duration.Input | undefined
}

/**
 * One history in Redis: its name, its bounds, and how its messages are written.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryOptions<in out A> extends History.Bounds {
  /** All processes that use this name have one history. Of the characters `A-Z a-z 0-9 _ . : -`. */
  readonly name: string
  /** The payload half of it writes messages. All processes have the same one. */
  readonly codec: Codec.Codec<A>
}

/**
 * The histories of one Redis, over one connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface Histories {
  /**
   * A history, which this process keeps up to date until the scope is closed. The bounds are those of the process that appends
   * or reads: give all the same. Fails with `unreachable` where there is no answer within `timeout`.
   */
  readonly history: <A>(
    options: HistoryOptions<A>
  ) => Effect.Effect<History.History<A>, History.HistoryError, Scope.Scope>
}

const characters = /^[\w.:-]+$/

/**
 * Connects to a Redis, and again when the connection is cut, until the scope is closed.
 *
 * **Details**
 *
 * - A history is a stream with the offsets as ids, a hash and a channel, all in the slot of `{prefix}`. A script appends, trims and
 *   publishes in one step. Each process keeps the newest messages as they are published, so that live readers ask Redis nothing.
 * - Each process of the server (its `run_id`) has its own epoch, whatever it has loaded from its files or its master: these may be
 *   behind. Readers are told `Gone` then, and go on with what is kept. So it is after a failover.
 * - A message that was published while the connection was cut is read from the stream. `follow` waits as long as Redis does not
 *   answer, and fails with `unreachable` where it has to ask and there is no answer within `timeout`.
 * - A history is deleted a week and its `age` after its last message, and one without any message after a day.
 *
 * **Gotchas**
 *
 * - A message of bytes takes a third more than its size; `bytes` counts what is stored.
 * - A user of the server needs `evalsha`, `eval`, `publish`, `subscribe`, and what the scripts call: `hget`, `hmget`, `hset`,
 *   `hexists`, `xadd`, `xdel`, `xlen`, `xrange`, `del`, `pexpire`, `persist`, `time`, `info`.
 * - Sentinel and Cluster are as for `RedisBackplane`.
 *
 * **Example** (A room that all processes of a chat have)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec } from "holdfast"
 * import { RedisHistory } from "holdfast/redis"
 *
 * const program = Effect.gen(function*() {
 *   const redis = yield* RedisHistory.make({ url: "redis://redis.example.com:6379" })
 *   const room = yield* redis.history({ name: "tea", codec: Codec.lines(), count: 10_000, age: "1 hour" })
 *   return yield* room.append("hello")
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Histories, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { check = "10 seconds", client = {}, prefix = "holdfast", timeout = "5 seconds", url = "" } = options
    if (!characters.test(prefix)) throw new RangeError("prefix must be of the characters A-Z a-z 0-9 _ . : -")
    const millis = atLeast(1, "timeout", Duration.toMillis(timeout))
    const made = yield* link({
      name: "holdfast.redis.history",
      open: open({ url: typeof url === "string" ? Effect.succeed(url) : url, client, timeout: millis }),
      isRefused,
      timeout: millis,
      check: atLeast(1, "check", Duration.toMillis(check))
    })
    return {
      history: <A>({ codec, name, ...bounds }: HistoryOptions<A>) =>
        Effect.suspend(() => {
          if (!characters.test(name)) throw new RangeError("name must be of the characters A-Z a-z 0-9 _ . : -")
          const log = new Log<A>(made, `{${prefix}}:history:${name}:`, Codec.payload(codec), boundsOf(bounds))
          return Effect.as(made.add(log), log)
        })
    }
  })

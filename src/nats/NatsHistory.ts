/**
 * Histories in NATS: what one process appends, readers of all processes follow, and a reader comes back to any of them.
 *
 * Needs the packages `@nats-io/transport-node` and `@nats-io/jetstream` beside this one, and a server of at least version 2.9
 * with JetStream (`nats-server -js`).
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
import { clientOf } from "./internal/dial.ts"
import { Log } from "./internal/history.ts"
import { isRefused, open } from "./internal/streams.ts"
import type { Options as NatsOptions } from "./NatsBackplane.ts"

/**
 * Where NATS is, and how it is used.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Omit<NatsOptions, "largest"> {
  /** How often each history is compared with NATS, which finds a message that was not told. Default 10 seconds. */
  readonly check?: Duration.Input | undefined
}

/**
 * One history in NATS: its name, its bounds, and how its messages are written.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryOptions<in out A> extends History.Bounds {
  /** All processes that use this name have one history. Of the characters `A-Z a-z 0-9 _ -`. */
  readonly name: string
  /** The payload half of it writes messages. All processes have the same one. */
  readonly codec: Codec.Codec<A>
}

/**
 * The histories of one NATS, over one connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface Histories {
  /**
   * A history, which this process keeps up to date until the scope is closed. The stream keeps what the process that came last
   * says: give all the same bounds. Fails with `unreachable` where there is no answer within `timeout`, or a refusal.
   */
  readonly history: <A>(
    options: HistoryOptions<A>
  ) => Effect.Effect<History.History<A>, History.HistoryError, Scope.Scope>
}

const characters = /^[\w-]+$/

/**
 * Connects to NATS, and again when the connection is cut, until the scope is closed.
 *
 * **When to use**
 *
 * Where NATS runs already, or is the engine of the `Fleet`. What it promises is what `RedisHistory` does.
 *
 * **Details**
 *
 * - A history is a stream `<prefix>_history_<name>` with the subject `<prefix>.history.<name>`; an offset is a sequence of it. Each
 *   process follows it with one consumer, and keeps the messages that it allows: readers ask NATS nothing, unless one comes back
 *   with a position that this process does not know.
 * - `append` is tried again on another connection when the first is cut, with one `Nats-Msg-Id`: the message is there once. It
 *   fails with `unreachable` after `timeout` (or `age`, if that is less), and may have appended then.
 * - Each process of a server has its own epoch, whatever it has loaded from its files: these may be behind. So has each stream, by
 *   when it was made. Readers are told `Gone` then, and go on with what is kept.
 * - In a cluster of servers a stream lasts while most of its replicas do: it keeps its epoch when one of them fails. There
 *   `replicas` is at least 3 and `storage` is `file`; anything else fails with `unreachable`, which says so.
 * - A message that was appended while the connection was cut is delivered after that. `follow` waits as long as NATS does not
 *   answer, and fails with `unreachable` where it has to ask and there is no answer within `timeout`.
 * - The user of the server needs to publish to `<prefix>.history.>`, `$JS.API.>` and `$JS.FC.>`, and to subscribe to `_INBOX.>`.
 *
 * **Gotchas**
 *
 * - A stream stays when its messages are gone: remove those that you do not need with `nats stream rm`. A stream that is removed
 *   and made again while processes use it is found with the next `check`, or `append`.
 * - Dial the servers that hold the streams, and not a leaf node of them: it is by the server of the connection that another epoch
 *   is found. A cluster that loses power as a whole may come back without its last messages. Processes that have seen these begin
 *   another epoch, others cannot: remove the streams then.
 * - A message is at most as large as `max_payload` of the server, less 256 bytes.
 *
 * **Example** (A room that all processes of a chat have)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec } from "holdfast"
 * import { NatsHistory } from "holdfast/nats"
 *
 * const program = Effect.gen(function*() {
 *   const nats = yield* NatsHistory.make({ servers: "nats://nats.example.com:4222" })
 *   const room = yield* nats.history({ name: "tea", codec: Codec.lines(), count: 10_000, age: "1 hour" })
 *   return yield* room.append("hello")
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Histories, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { check = "10 seconds", prefix = "holdfast", replicas = 1, storage = "file", timeout = "5 seconds" } = options
    if (!characters.test(prefix)) throw new RangeError("prefix must be of the characters A-Z a-z 0-9 _ -")
    const millis = atLeast(1, "timeout", Duration.toMillis(timeout))
    const client = clientOf(options.servers, options.client)
    const made = yield* link({
      name: "holdfast.nats.history",
      open: open({ client, storage, replicas: atLeast(1, "replicas", replicas), timeout: millis }),
      isRefused,
      timeout: millis,
      check: atLeast(1, "check", Duration.toMillis(check))
    })
    return {
      history: <A>({ codec, name, ...bounds }: HistoryOptions<A>) =>
        Effect.suspend(() => {
          if (!characters.test(name)) throw new RangeError("name must be of the characters A-Z a-z 0-9 _ -")
          const at = { stream: `${prefix}_history_${name}`, subject: `${prefix}.history.${name}` }
          const log = new Log<A>(made, at, Codec.payload(codec), boundsOf(bounds))
          return Effect.as(made.add(log), log)
        })
    }
  })

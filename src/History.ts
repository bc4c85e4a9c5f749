/**
 * What was said lately, by position: who comes back gets what it missed, or is told that it cannot.
 *
 * Each message of a history has a position. A reader says its last one when it comes back, and gets each message after it once
 * and in order. Where these are not kept any more, it is told `Gone`, and why. It is never taken for up to date on a guess.
 *
 * **When to use**
 *
 * For chats, feeds, documents and dashboards: one stream of messages, the same for many readers, whose connections come and go.
 * What has to reach one peer, however long it is away, belongs into a database.
 *
 * **Example** (A room that misses nothing across reconnects)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Client, Connection, History } from "holdfast"
 *
 * type Hello = { readonly position?: History.Position | undefined }
 *
 * // the server: it reads the room for each connection
 * const handle = (room: History.History<string>) =>
 *   Effect.fnUntraced(function*(connection: Connection.Connection<Hello, History.Event<string>>) {
 *     const { position } = yield* connection.receive
 *     const told = Stream.runForEachArray(History.follow(room, position), connection.sendAll)
 *     yield* Effect.raceAllFirst([told, connection.leaving, connection.ending])
 *   })
 *
 * // the client: it says how far it has come on each connection
 * const read = Effect.fnUntraced(function*(
 *   open: Effect.Effect<Connection.Connection<History.Event<string>, Hello>, never>
 * ) {
 *   const cursor = yield* History.cursor()
 *   const client = yield* Client.make(open, {
 *     onConnect: ({ send }) => Effect.flatMap(cursor.position, (position) => send({ position }))
 *   })
 *   while (true) {
 *     for (const event of yield* cursor.accept(yield* client.receive)) {
 *       if (event._tag === "Message") yield* Effect.log(event.message)
 *       if (event._tag === "Gone") yield* Effect.log("messages are missing here")
 *     }
 *   }
 * })
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { atLeast } from "./internal/arguments/atLeast.ts"
import { weightOf } from "./internal/bytes/sizes.ts"
import { Progress } from "./internal/history/cursor.ts"
import { Reader } from "./internal/history/following.ts"
import { joined } from "./internal/history/joining.ts"
import { boundsOf } from "./internal/history/kept.ts"
import type { Event, History, HistoryError, Message, Position } from "./internal/history/log.ts"
import * as InMemory from "./internal/history/memory.ts"

export {
  /** @since 0.1.0 */
  HistoryError
} from "./internal/history/log.ts"

export type {
  /** @since 0.1.0 */
  Ends,
  /** @since 0.1.0 */
  Event,
  /** @since 0.1.0 */
  Gone,
  /** @since 0.1.0 */
  History,
  /** @since 0.1.0 */
  Message,
  /** @since 0.1.0 */
  Missed,
  /** @since 0.1.0 */
  Position,
  /** @since 0.1.0 */
  Start
} from "./internal/history/log.ts"

/**
 * How much a history keeps. A message leaves when the first of the three bounds is passed, the oldest first.
 *
 * @category models
 * @since 0.1.0
 */
export interface Bounds {
  /** How many messages. At least 1. Default 1,000. */
  readonly count?: number | undefined
  /** How many bytes in all. A message larger than that fails with `size`. Default 1 MiB. */
  readonly bytes?: number | undefined
  /**
   * For how long: a message of this age is gone, to the millisecond. Longer than your clients are away. Default 5 minutes;
   * `Duration.infinity` for no bound.
   */
  readonly age?: Duration.Input | undefined
}

/**
 * What a history in memory keeps.
 *
 * @category models
 * @since 0.1.0
 */
export interface MemoryOptions<in A> extends Bounds {
  /**
   * Size of a message in bytes. Default: that of a text or of bytes, else that of the message as JSON. When it throws, or
   * returns no size, `append` fails with `data`.
   */
  readonly sizeOf?: ((message: A) => number) | undefined
}

/**
 * Where a reader reads from, and how.
 *
 * @category models
 * @since 0.1.0
 */
export interface FollowOptions {
  /**
   * Where a reader begins that has no position, and goes on after `Gone`: with all that is kept (`"oldest"`, the default), or
   * with what comes from now on (`"newest"`), for one that loads the rest from elsewhere.
   */
  readonly from?: "oldest" | "newest" | undefined
  /** How many messages it takes at once. At least 1. Default 256. */
  readonly batch?: number | undefined
}

/**
 * How `join` reads.
 *
 * @category models
 * @since 0.1.0
 */
export interface JoinOptions extends FollowOptions {
  /** How many live messages wait, during the replay and for a reader that is slow. At least 1. Default 1,024. */
  readonly queue?: number | undefined
}

/**
 * How far a reader at the other end of a connection has come.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cursor {
  /** After the last event that was accepted: what to say in `onConnect`. Plain data, to be stored for the next start. */
  readonly position: Effect.Effect<Position | undefined>
  /**
   * What is new about an event: nothing where it was seen before, such as a message that an ended connection had delivered; the
   * event itself; or `Gone` and then the event, where a message is missing before it.
   */
  readonly accept: <A>(event: Event<A>) => Effect.Effect<ReadonlyArray<Event<A>>>
}

/**
 * Makes a history in the memory of this process.
 *
 * **Details**
 *
 * Each has an epoch of its own, made at random: positions of the process before a restart are `Gone`, with `epoch`. Appending and
 * reading wait for nothing. What is too old is let go with the next call, and never given out.
 *
 * **Gotchas**
 *
 * Messages are kept as they are: do not change them. A bound that makes no sense throws.
 *
 * @category constructors
 * @since 0.1.0
 */
export const memory = <A>(options: MemoryOptions<A> = {}): Effect.Effect<History<A>> =>
  Effect.suspend(() => {
    const { sizeOf = weightOf, ...bounds } = options
    return InMemory.make(boundsOf(bounds), sizeOf)
  })

const readerOf = <A>(
  self: History<A>,
  position: Position | undefined,
  { batch = 256, from = "oldest" }: FollowOptions
) => new Reader(self, position, { batch: atLeast(1, "batch", batch), from })

/**
 * All messages after a position, for as long as it is read: what was missed, then what comes, each once and in order.
 *
 * **Details**
 *
 * - The first event of a reader without a position is `Start`. Send it to the peer too: it may be cut off before its first message.
 * - `Gone` stands in place of messages that are not kept any more, at the beginning or for a reader that is too slow. The stream
 *   goes on after it.
 * - The history is the queue: a reader holds a position, and one batch while it handles that. So live messages wait until the
 *   replay is out, and a reader that takes nothing costs nothing.
 *
 * **Gotchas**
 *
 * - Give a position of a peer as it is. One that makes no sense is `Gone`, with `unknown`.
 * - It never ends. A handler races it against `leaving` and `ending` of its connection, or a stop of the server waits for it.
 *
 * @category reading
 * @since 0.1.0
 */
export const follow = <A>(
  self: History<A>,
  position: Position | undefined,
  options: FollowOptions = {}
): Stream.Stream<Event<A>, HistoryError> => Stream.fromPull(Effect.sync(() => readerOf(self, position, options).pull))

/**
 * As `follow`, where live messages come by another way than the history: they wait until the replay is out, those that are
 * known already are dropped, and a hole between two of them is filled from the history.
 *
 * **When to use**
 *
 * When messages reach this process anyway, such as by a `PubSub`, and the history is a database that should not be asked for each of
 * them. For the histories of this library `follow` is simpler, and has no queue.
 *
 * **Details**
 *
 * `live` subscribes, and gives what comes from then on. It runs before the history is read. It may tell a message twice, late or
 * never, but none before the history has it; one that it does not tell is read with the next one.
 *
 * More than `queue` live messages that wait fail the stream with `behind`, after those that do fit. Close the connection of such a
 * reader: it comes back with its position.
 *
 * **Example** (A `PubSub` in front of a history)
 *
 * ```ts
 * import { Effect, PubSub, Stream } from "effect"
 * import { History } from "holdfast"
 *
 * const followed = (
 *   room: History.History<string>,
 *   live: PubSub.PubSub<History.Message<string>>,
 *   position: History.Position | undefined
 * ) => History.join(room, position, Effect.map(PubSub.subscribe(live), Stream.fromSubscription))
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const join = <A, E = never, R = never>(
  self: History<A>,
  position: Position | undefined,
  live: Effect.Effect<Stream.Stream<Message<A>, E, R>, E, R | Scope.Scope>,
  options: JoinOptions = {}
): Stream.Stream<Event<A>, E | HistoryError, Exclude<R, Scope.Scope>> =>
  Stream.suspend(() => joined(readerOf(self, position, options), live, atLeast(1, "queue", options.queue ?? 1024)))

/**
 * Makes a cursor, for a client that says how far it has come.
 *
 * **Details**
 *
 * `position` is where an earlier run has stopped. Without one, the server decides where the reader begins.
 *
 * **Gotchas**
 *
 * Accept events in the order in which the client receives them, one history a cursor. A `Client` receives what an ended connection had
 * read before anything of the next one, whose replay may bring the same messages: they are dropped here.
 *
 * @category reading
 * @since 0.1.0
 */
export const cursor = (position?: Position): Effect.Effect<Cursor> =>
  Effect.sync(() => {
    const progress = new Progress(position)
    return {
      position: Effect.sync(() => progress.position),
      accept: (event) => Effect.sync(() => progress.accept(event))
    }
  })

/**
 * The schema of a position, for a message that holds one.
 *
 * @category schemas
 * @since 0.1.0
 */
export const positionSchema = Schema.Struct({ epoch: Schema.String, offset: Schema.Number })

/**
 * The schema of the events of a history, for a codec whose messages are checked.
 *
 * **Example** (A server that sends events of a room as JSON)
 *
 * ```ts
 * import { Schema } from "effect"
 * import { Codec, History } from "holdfast"
 *
 * const Hello = Schema.Struct({ position: Schema.optional(History.positionSchema) })
 * const codec = Codec.lines().pipe(
 *   Codec.schema(Hello, History.eventSchema(Schema.String))
 * )
 * ```
 *
 * @category schemas
 * @since 0.1.0
 */
export const eventSchema = <S extends Schema.Top>(message: S) =>
  Schema.Union([
    Schema.TaggedStruct("Message", { position: positionSchema, message }),
    Schema.TaggedStruct("Gone", {
      why: Schema.Literals(["trimmed", "epoch", "unknown"]),
      position: positionSchema,
      missed: Schema.optional(Schema.Number)
    }),
    Schema.TaggedStruct("Start", { position: positionSchema })
  ])

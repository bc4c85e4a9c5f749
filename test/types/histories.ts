/** What histories infer, as a user's program sees them. Only compiled: here, and against the packed package. */
import { Effect, type PubSub, Schema, type Scope, Stream } from "effect"
import { Codec, Connection, History } from "holdfast"
import { NatsHistory } from "holdfast/nats"
import { RedisHistory } from "holdfast/redis"
import { expectTypeOf } from "vitest"

interface Said {
  readonly from: string
  readonly text: string
}

declare const room: History.History<Said>
declare const position: History.Position | undefined

// in memory
expectTypeOf(History.memory<Said>()).toEqualTypeOf<Effect.Effect<History.History<Said>>>()
expectTypeOf(History.memory<Said>({ count: 10, bytes: 1000, age: "1 hour", sizeOf: ({ text }) => text.length }))
  .toEqualTypeOf<Effect.Effect<History.History<Said>>>()
// @ts-expect-error a bound is a number
History.memory({ count: "10" })
// @ts-expect-error a size is a number
History.memory<Said>({ sizeOf: ({ text }) => text })
// @ts-expect-error messages have no such field
History.memory<Said>({ sizeOf: ({ texts }) => texts.length })

// its operations
expectTypeOf(room.append({ from: "ada", text: "hello" })).toEqualTypeOf<
  Effect.Effect<History.Position, History.HistoryError>
>()
expectTypeOf(room.since({ epoch: "e", offset: 1 }, 10)).toEqualTypeOf<
  Effect.Effect<History.Missed<Said> | History.Gone, History.HistoryError>
>()
expectTypeOf(room.ends).toEqualTypeOf<Effect.Effect<History.Ends, History.HistoryError>>()
// @ts-expect-error another message
room.append("hello")
// @ts-expect-error where a reader has no position is for `follow`
room.since(position)
// what was missed has to be told from what is gone
Effect.map(room.since({ epoch: "e", offset: 1 }), (found) => {
  // @ts-expect-error `Gone` has no messages
  const { messages } = found
  return found._tag === "Gone" ? found.why : messages
})
expectTypeOf<History.Gone["why"]>().toEqualTypeOf<"trimmed" | "epoch" | "unknown">()
expectTypeOf<History.HistoryError["reason"]>().toEqualTypeOf<"unreachable" | "size" | "data" | "behind">()

// a history takes all of its messages, and gives them: it is neither wider nor narrower
expectTypeOf<History.History<string>>().not.toExtend<History.History<string | number>>()
expectTypeOf<History.History<string | number>>().not.toExtend<History.History<string>>()

// readers
expectTypeOf(History.follow(room, position)).toEqualTypeOf<Stream.Stream<History.Event<Said>, History.HistoryError>>()
expectTypeOf(History.follow(room, undefined, { from: "newest", batch: 16 })).toEqualTypeOf<
  Stream.Stream<History.Event<Said>, History.HistoryError>
>()
// @ts-expect-error there is no such place to begin
History.follow(room, undefined, { from: "middle" })
declare const live: Effect.Effect<Stream.Stream<History.Message<Said>, "lost">, "refused", Scope.Scope>
expectTypeOf(History.join(room, position, live, { queue: 10 })).toEqualTypeOf<
  Stream.Stream<History.Event<Said>, "lost" | "refused" | History.HistoryError>
>()
declare const others: PubSub.Subscription<History.Message<string>>
// @ts-expect-error live messages are those of the history
History.join(room, position, Effect.succeed(Stream.fromSubscription(others)))

// the client's end
const cursor = History.cursor(position)
expectTypeOf(cursor).toEqualTypeOf<Effect.Effect<History.Cursor>>()
declare const event: History.Event<Said>
expectTypeOf(Effect.flatMap(cursor, ({ accept }) => accept(event))).toEqualTypeOf<
  Effect.Effect<ReadonlyArray<History.Event<Said>>>
>()
// an event is told by its tag, and only a message has one
if (event._tag === "Message") expectTypeOf(event.message).toEqualTypeOf<Said>()
else {
  expectTypeOf(event._tag).toEqualTypeOf<"Gone" | "Start">()
  expectTypeOf(event).not.toHaveProperty("message")
}

// on a connection
const Hello = Schema.Struct({ position: Schema.optional(History.positionSchema) })
const codec = Codec.lines().pipe(Codec.schema(Hello, History.eventSchema(Schema.Struct({ text: Schema.String }))))
expectTypeOf(Connection.make({ codec })).returns.toExtend<
  Effect.Effect<
    Connection.Connection<
      { readonly position?: History.Position | undefined },
      History.Event<{ readonly text: string }>
    >,
    unknown,
    unknown
  >
>()

// on the engines
const lines = Codec.lines()
expectTypeOf(RedisHistory.make({ url: "redis://a", check: "1 minute" })).toEqualTypeOf<
  Effect.Effect<RedisHistory.Histories, never, Scope.Scope>
>()
expectTypeOf(NatsHistory.make({ servers: ["nats://a", "tls://b"], replicas: 3, storage: "file" })).toEqualTypeOf<
  Effect.Effect<NatsHistory.Histories, never, Scope.Scope>
>()
for (const make of [RedisHistory.make(), NatsHistory.make()]) {
  expectTypeOf(Effect.flatMap(make, ({ history }) => history({ name: "tea", codec: lines, count: 10 }))).toEqualTypeOf<
    Effect.Effect<History.History<string>, History.HistoryError, Scope.Scope>
  >()
}
const schema = Codec.lines().pipe(Codec.schema(Schema.Struct({ from: Schema.String, text: Schema.String })))
expectTypeOf(Effect.flatMap(NatsHistory.make(), ({ history }) => history({ name: "tea", codec: schema })))
  .toEqualTypeOf<Effect.Effect<History.History<Said>, History.HistoryError, Scope.Scope>>()
// @ts-expect-error a history has a name
Effect.flatMap(NatsHistory.make(), ({ history }) => history({ codec: lines }))
// @ts-expect-error one codec writes and reads
Effect.flatMap(NatsHistory.make(), ({ history }) => history({ name: "tea", codec }))
// @ts-expect-error there is no batch to bound
NatsHistory.make({ largest: 10 })
// @ts-expect-error it connects again by itself
NatsHistory.make({ client: { reconnect: true } })
// @ts-expect-error the protocol is chosen by the engine
RedisHistory.make({ client: { RESP: 2 } })

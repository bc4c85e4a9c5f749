/** What `Connection` and `Protocol` infer, as a user's program sees it. Only compiled: here, and against the packed package. */
import type { Cause, Channel, Effect, Sink, Stream } from "effect"
import { Schema } from "effect"
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import { Codec, Connection, type ConnectionError, Heartbeat, Policy, Protocol } from "holdfast"
import { expectTypeOf } from "vitest"

type Failure = ConnectionError.ConnectionError
type Opened<In, Out = In> = Effect.Effect<Connection.Connection<In, Out>, Failure, Scope.Scope>

declare const socket: Socket.Socket

export const lines = Codec.lines()
export const Message = Schema.TaggedUnion({ Ping: {}, Pong: {}, Say: { text: Schema.String } })
export const tagged = Codec.lines().pipe(Codec.schema(Message))
export const words = Codec.lines().pipe(Codec.schema(Schema.Literals(["hello", "bye"])))
export const Command = Schema.TaggedUnion({ Join: { room: Schema.String }, Quit: {} })
export const Event = Schema.TaggedUnion({ Joined: { who: Schema.String }, Bye: { code: Schema.Literals([1, 2]) } })
export const twoWay = Codec.lines().pipe(Codec.schema(Command, Event))

// what make returns, in both of its forms
expectTypeOf(Connection.make({ codec: lines })).toEqualTypeOf<Connection.Open<string>>()
expectTypeOf(Connection.make({ codec: lines })).returns.toEqualTypeOf<Opened<string>>()
expectTypeOf(Connection.make({ codec: lines })).parameters.toEqualTypeOf<[socket: Socket.Socket]>()
expectTypeOf(Connection.make(socket, { codec: lines })).toEqualTypeOf<Opened<string>>()
expectTypeOf(Connection.make({ codec: twoWay })).returns.toEqualTypeOf<
  Opened<typeof Command.Type, typeof Event.Type>
>()
expectTypeOf(Connection.make({ codec: Codec.flip(twoWay) })).returns.toEqualTypeOf<
  Opened<typeof Event.Type, typeof Command.Type>
>()
// any function of the shape serves as one, and one serves as any function of the shape
expectTypeOf<(socket: Socket.Socket) => Opened<string>>().toExtend<Connection.Open<string>>()
expectTypeOf<Connection.Open<string>>().toExtend<(socket: Socket.Socket) => Opened<string>>()

// pings that a heartbeat knows are no messages
const heartbeat = Heartbeat.tagged("Ping", "Pong")
expectTypeOf(Connection.make({ codec: tagged, heartbeat })).returns.toEqualTypeOf<
  Opened<{ readonly _tag: "Say"; readonly text: string }, typeof Message.Type>
>()
expectTypeOf(Connection.make({ codec: lines, heartbeat: Heartbeat.text("ping", "pong"), policy: Policy.lan }))
  .toEqualTypeOf<Connection.Open<string>>()

// last words keep their literals, at every depth, and say nothing of what the messages are
type Words = "hello" | "bye"
expectTypeOf(Connection.make({ codec: words, farewell: () => "bye" })).toEqualTypeOf<Connection.Open<Words>>()
expectTypeOf(Connection.make({ codec: words, goodbye: () => "bye" })).toEqualTypeOf<Connection.Open<Words>>()
expectTypeOf(Connection.make({ codec: words, goodbye: "bye" })).toEqualTypeOf<Connection.Open<Words>>()
expectTypeOf(
  Connection.make({
    codec: words,
    goodbye: (reason) => (reason._tag === "GoingAway" ? "bye" : "hello"),
    farewell: (reason) => (reason._tag === "Closed" ? "bye" : undefined)
  })
).toEqualTypeOf<Connection.Open<Words>>()
expectTypeOf(
  Connection.make({
    codec: twoWay,
    goodbye: () => ({ _tag: "Bye", code: 1 }),
    farewell: () => {
      return { _tag: "Bye", code: 2 }
    }
  })
).toEqualTypeOf<Connection.Open<typeof Command.Type, typeof Event.Type>>()
expectTypeOf(Connection.make({ codec: twoWay, goodbye: { _tag: "Bye", code: 1 } })).toEqualTypeOf<
  Connection.Open<typeof Command.Type, typeof Event.Type>
>()
expectTypeOf(Connection.make(socket, { codec: words, goodbye: () => "bye", farewell: () => "bye" }))
  .toEqualTypeOf<Opened<Words>>()
// @ts-expect-error no word of the codec
Connection.make({ codec: words, farewell: () => "by" })
// @ts-expect-error no word of the codec
Connection.make({ codec: words, goodbye: () => "by" })
// @ts-expect-error no word of the codec
Connection.make({ codec: words, goodbye: "by" })
// @ts-expect-error a command is what this end reads
Connection.make({ codec: twoWay, farewell: () => ({ _tag: "Quit" }) })
// a program that is generic itself
export const wrapped = <A>(codec: Codec.Codec<A>, last: (tag: string) => A): Connection.Open<A> =>
  Connection.make<A, A>({ codec, goodbye: (reason) => last(reason._tag), farewell: (reason) => last(reason._tag) })

// a policy, or some of its fields
Connection.make({ codec: lines, policy: { silence: "3 seconds", maxFrame: 10, overflow: "fail" } })
// @ts-expect-error no such field
Connection.make({ codec: lines, policy: { silense: "3 seconds" } })
// @ts-expect-error no duration
Connection.make({ codec: lines, policy: { silence: true } })
// @ts-expect-error no choice
Connection.make({ codec: lines, policy: { overflow: "drop" } })

// what a connection does
declare const connection: Connection.Connection<"in", "out">
expectTypeOf(connection.receive).toEqualTypeOf<Effect.Effect<"in", Failure>>()
expectTypeOf(connection.receiveAll).toEqualTypeOf<Effect.Effect<NonEmptyReadonlyArray<"in">, Failure>>()
expectTypeOf(connection.send).toEqualTypeOf<(message: "out") => Effect.Effect<void, Failure>>()
expectTypeOf(connection.sendAll).toEqualTypeOf<(messages: Iterable<"out">) => Effect.Effect<void, Failure>>()
expectTypeOf(connection.flush).toEqualTypeOf<Effect.Effect<void, Failure>>()
expectTypeOf(connection.close).toEqualTypeOf<Effect.Effect<void>>()
expectTypeOf(connection.closed).toEqualTypeOf<Effect.Effect<never, Failure>>()
expectTypeOf(connection.ending).toEqualTypeOf<Effect.Effect<never, Failure>>()
expectTypeOf(connection.patch).returns.toEqualTypeOf<Effect.Effect<void, Policy.InvalidPolicy>>()
expectTypeOf(connection.snapshot).toEqualTypeOf<Effect.Effect<Connection.Snapshot>>()
// covariant in what it reads, contravariant in what it writes
expectTypeOf<Connection.Connection<"a", string>>().toExtend<Connection.Connection<string, "a">>()
expectTypeOf<Connection.Connection<string, "a">>().not.toExtend<Connection.Connection<"a", string>>()

expectTypeOf(Connection.messages(connection)).toEqualTypeOf<Stream.Stream<"in", Failure>>()
expectTypeOf(Connection.batches(connection)).toEqualTypeOf<Stream.Stream<NonEmptyReadonlyArray<"in">, Failure>>()
expectTypeOf(Connection.sink(connection)).toEqualTypeOf<Sink.Sink<void, "out", never, Failure>>()
expectTypeOf(Connection.channel<"in", "out", Cause.TimeoutError>(connection)).toEqualTypeOf<
  Channel.Channel<
    NonEmptyReadonlyArray<"in">,
    Failure | Cause.TimeoutError,
    void,
    NonEmptyReadonlyArray<"out">,
    Cause.TimeoutError
  >
>()
expectTypeOf(Connection.wrap(connection, { send: (message) => connection.send(message) })).toEqualTypeOf(connection)
expectTypeOf(Connection.fibers(connection)).toEqualTypeOf<Effect.Effect<ReadonlyArray<Connection.FiberReport>>>()

// the native protocol makes connections in the same shape
expectTypeOf(Protocol.client({ codec: Codec.flip(twoWay) })).toEqualTypeOf<
  Connection.Open<typeof Event.Type, typeof Command.Type>
>()
expectTypeOf(Protocol.server({ codec: twoWay })).toEqualTypeOf<
  Connection.Open<typeof Command.Type, typeof Event.Type>
>()

// the pings of WebSocket itself go with any messages, and are none of them
expectTypeOf(Connection.make({ codec: twoWay, heartbeat: Heartbeat.webSocket })).toEqualTypeOf<
  Connection.Open<typeof Command.Type, typeof Event.Type>
>()

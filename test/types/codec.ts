/** What `Codec`, `Heartbeat`, `Policy`, `Backoff` and `ConnectionError` infer. Only compiled: here, and against the packed package. */
import {
  type Config,
  Context,
  type Duration,
  type Effect,
  type Layer,
  type Result,
  type Schedule,
  Schema
} from "effect"
import type * as Socket from "effect/socket/Socket"
import { Backoff, Codec, ConnectionError, Heartbeat, Policy } from "holdfast"
import { expectTypeOf } from "vitest"
import { Command, Event, lines, type tagged, twoWay } from "./connection.ts"

expectTypeOf(Codec.lines()).toEqualTypeOf<Codec.Codec<string>>()
expectTypeOf(Codec.bytes()).toEqualTypeOf<Codec.Codec<Uint8Array>>()
expectTypeOf(Codec.lengthPrefix()).toEqualTypeOf<Codec.Codec<Uint8Array>>()
expectTypeOf(Codec.varint()).toEqualTypeOf<Codec.Codec<Uint8Array>>()
expectTypeOf(Codec.delimiter("\0")).toEqualTypeOf<Codec.Codec<Uint8Array>>()
expectTypeOf(Codec.fixed(8)).toEqualTypeOf<Codec.Codec<Uint8Array>>()
expectTypeOf(Codec.text(Codec.varint())).toEqualTypeOf<Codec.Codec<string>>()
expectTypeOf(Codec.json(Codec.lines())).toEqualTypeOf<Codec.Codec<unknown>>()
expectTypeOf(Codec.varint().pipe(Codec.msgpack)).toEqualTypeOf<Codec.Codec<unknown>>()
expectTypeOf(Codec.varint().pipe(Codec.msgpack, Codec.schema(Schema.Struct({ at: Schema.Date })))).toEqualTypeOf<
  Codec.Codec<{ readonly at: Date }>
>()
// @ts-expect-error text is no MessagePack
Codec.lines().pipe(Codec.msgpack)
expectTypeOf(Codec.lines().pipe(Codec.schema(Command, Event))).toEqualTypeOf<
  Codec.TwoWay<typeof Command.Type, typeof Event.Type>
>()
const pairs = Codec.bytes().pipe(Codec.map({
  decode: (bytes: Uint8Array): readonly [number, number] => [bytes[0], bytes[1]],
  encode: (pair: readonly [number, number]) => Uint8Array.from(pair)
}))
const Pair = Schema.Tuple([Schema.Number, Schema.Number])
expectTypeOf(pairs.pipe(Codec.schema(Pair))).toEqualTypeOf<Codec.Codec<readonly [number, number]>>()
expectTypeOf(pairs.pipe(Codec.schema(Pair, Pair))).toEqualTypeOf<
  Codec.TwoWay<readonly [number, number], readonly [number, number]>
>()
// @ts-expect-error it encodes to an object, and the map takes a pair
pairs.pipe(Codec.schema(Schema.Struct({ x: Schema.Number })))
// @ts-expect-error the other end would write objects
pairs.pipe(Codec.schema(Schema.Struct({ x: Schema.Number }), Pair))
expectTypeOf(Codec.flip(twoWay)).toEqualTypeOf<Codec.TwoWay<typeof Event.Type, typeof Command.Type>>()
expectTypeOf(Codec.flip(lines)).toEqualTypeOf<Codec.Codec<string>>()
expectTypeOf(twoWay.pipe(Codec.withMaxFrame(10))).toEqualTypeOf<typeof twoWay>()
expectTypeOf(
  Codec.lines().pipe(Codec.map({ decode: (text: string) => text.length, encode: (size: number) => "x".repeat(size) }))
).toEqualTypeOf<Codec.Codec<number>>()
expectTypeOf(Codec.encode(twoWay, { _tag: "Bye", code: 1 })).toEqualTypeOf<
  Result.Result<Uint8Array, ConnectionError.CodecReason>
>()
// @ts-expect-error what this end reads
Codec.encode(twoWay, { _tag: "Quit" })
expectTypeOf(Codec.encoder(twoWay)).toEqualTypeOf<
  (message: typeof Event.Type) => Result.Result<Uint8Array | string, ConnectionError.CodecReason>
>()
expectTypeOf(Codec.decoder(twoWay)).toEqualTypeOf<Codec.Decoder<typeof Command.Type>>()
expectTypeOf(Codec.payload(twoWay)).toEqualTypeOf<Codec.Payload<typeof Command.Type, typeof Event.Type>>()

expectTypeOf(Heartbeat.text("ping", "pong")).toEqualTypeOf<Heartbeat.Heartbeat<string, string>>()
expectTypeOf(Heartbeat.messages({ ping: 1, pong: 2 })).toEqualTypeOf<Heartbeat.Heartbeat<number, number>>()
expectTypeOf(Heartbeat.tagged("Ping", "Pong")).toExtend<
  Heartbeat.Heartbeat<
    { readonly _tag: string },
    { readonly _tag: "Ping" } | { readonly _tag: "Pong" },
    { readonly _tag: "Ping" | "Pong" }
  >
>()
type Message = typeof tagged extends Codec.Codec<infer In, infer _Out> ? In : never
type Say = Extract<Message, { readonly _tag: "Say" }>
declare const pong: Message
expectTypeOf(
  Heartbeat.make({
    ping: (): Message => ({ _tag: "Ping" }),
    isControl: (message: Message): message is Exclude<Message, Say> => message._tag !== "Say",
    read: ({ _tag }) => (_tag === "Ping" ? { _tag, answer: pong } : { _tag, token: undefined })
  })
).toEqualTypeOf<Heartbeat.Heartbeat<Message, Message, Exclude<Message, Say>>>()

expectTypeOf(Policy.make({ silence: "3 seconds" })).toEqualTypeOf<Policy.Policy>()
expectTypeOf(Policy.make(Policy.lan)).toEqualTypeOf<Policy.Policy>()
expectTypeOf(Policy.lan).toExtend<Policy.Patch>()
expectTypeOf<Policy.Patch["silence"]>().toEqualTypeOf<Duration.Input | undefined>()
expectTypeOf<Policy.Patch["open"]>().toEqualTypeOf<Duration.Input | undefined>()
expectTypeOf<keyof Policy.Patch>().toEqualTypeOf<keyof typeof Policy.Policy.fields>()
expectTypeOf<Policy.Policy["silence"]>().toEqualTypeOf<Duration.Duration>()
expectTypeOf(Policy.patch(Policy.lan, { silence: 3 })).toEqualTypeOf<
  Effect.Effect<Policy.Policy, Policy.InvalidPolicy>
>()
expectTypeOf(Policy.decode({})).toEqualTypeOf<Effect.Effect<Policy.Policy, Policy.InvalidPolicy>>()
expectTypeOf(Policy.config({ prefix: "APP" })).toEqualTypeOf<Config.Config<Policy.Policy>>()
class Limits extends Context.Service<Limits, Policy.Policy>()("Limits") {}
expectTypeOf(Policy.layer(Limits)).toEqualTypeOf<Layer.Layer<Limits, Config.ConfigError>>()
// @ts-expect-error no such field
Policy.make({ silense: "3 seconds" })
// @ts-expect-error no duration
Policy.make({ silence: true })

expectTypeOf(Backoff.exponential({ base: "1 second" })).toEqualTypeOf<Schedule.Schedule<Duration.Duration, unknown>>()

declare const failure: ConnectionError.ConnectionError
expectTypeOf(failure.reason).toEqualTypeOf<ConnectionError.Reason>()
expectTypeOf(failure.isRetryable).toEqualTypeOf<boolean>()
expectTypeOf(ConnectionError.fromSocketError).toEqualTypeOf<
  (error: Socket.SocketError) => ConnectionError.ConnectionError
>()

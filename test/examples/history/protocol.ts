/** What the nodes of the chat and its members speak: JSON in lines, with pings as members of the union. */
import { Schema } from "effect"
import { Codec, Heartbeat, History } from "holdfast"

/** A message of the room. `id` counts up for each user: what a node has appended twice is seen by it. */
export const Said = Schema.Struct({ from: Schema.String, id: Schema.Number, text: Schema.String })
export type Said = typeof Said.Type

const Ping = Schema.TaggedStruct("Ping", {})
const Pong = Schema.TaggedStruct("Pong", {})

/** First of all on each connection: who it is, and how far they have come. */
const Hello = Schema.TaggedStruct("Hello", {
  user: Schema.String,
  position: Schema.optional(History.positionSchema)
})
const Say = Schema.TaggedStruct("Say", { id: Schema.Number, text: Schema.String })
const Whisper = Schema.TaggedStruct("Whisper", { to: Schema.String, text: Schema.String })
const Command = Schema.Union([Hello, Say, Whisper, Ping, Pong])
export type Command = typeof Command.Type

const Whispered = Schema.TaggedStruct("Whispered", { from: Schema.String, text: Schema.String })
/** A whisper that may not have reached its user, and the outcome of `Fleet.send`. */
const NotWhispered = Schema.TaggedStruct("NotWhispered", { to: Schema.String, why: Schema.String })
const Event = Schema.Union([History.eventSchema(Said), Whispered, NotWhispered, Ping, Pong])
export type Event = typeof Event.Type

export const serverCodec = Codec.lines().pipe(Codec.schema(Command, Event))
export const memberCodec = Codec.flip(serverCodec)

/** How the messages of the room are kept, where that is on Redis or NATS. */
export const saidCodec = Codec.lines().pipe(Codec.schema(Said))

export const heartbeat = Heartbeat.tagged("Ping", "Pong")
export const policy = { pingEvery: "5 seconds", pong: "2 seconds", handshake: "2 seconds" } as const

/**
 * What the chat speaks, for its server (`chat.ts`) and for a page (`page.ts`): JSON in lines over TCP, and in
 * messages over WebSocket.
 */
import * as Schema from "effect/Schema"
import * as Codec from "holdfast/Codec"
import * as Heartbeat from "holdfast/Heartbeat"

/** What a client says: `Login` first. */
export const Command = Schema.TaggedUnion({
  Login: { token: Schema.NonEmptyString },
  Join: { room: Schema.NonEmptyString },
  Leave: { room: Schema.NonEmptyString },
  Say: { room: Schema.NonEmptyString, text: Schema.String },
  Tell: { to: Schema.NonEmptyString, text: Schema.String }
})
export type Command = typeof Command.Type

/** What the server says. */
export const Event = Schema.TaggedUnion({
  Welcome: { user: Schema.String },
  Members: { room: Schema.String, users: Schema.Array(Schema.String) },
  Came: { room: Schema.String, user: Schema.String },
  Went: { room: Schema.String, user: Schema.String },
  Said: { room: Schema.String, from: Schema.String, text: Schema.String },
  Told: { from: Schema.String, text: Schema.String },
  Undelivered: { to: Schema.String, why: Schema.Literals(["offline", "full"]) },
  Bye: { why: Schema.String }
})
export type Event = typeof Event.Type

/** What both ends send beside that. */
const Beat = Schema.TaggedUnion({ Ping: { token: Schema.Finite }, Pong: { token: Schema.Finite } })

/** The server's end: reads commands, writes events. */
export const serverCodec = Codec.lines().pipe(
  Codec.schema(Schema.Union([Command, Beat]), Schema.Union([Event, Beat]))
)

/** The other end: reads events, writes commands. */
export const clientCodec = Codec.flip(serverCodec)

/** Answers pings, and takes them out of what is received. */
export const heartbeat = Heartbeat.tagged("Ping", "Pong", { token: "token" })

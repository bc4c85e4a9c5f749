/** What the page and its server say to each other: JSON, a message of the WebSocket each. */
import * as Schema from "effect/Schema"
import * as Codec from "holdfast/Codec"
import * as Heartbeat from "holdfast/Heartbeat"

const Beat = { Ping: { token: Schema.Finite }, Pong: { token: Schema.Finite } }

/** What a page says. The buttons of this page play the faults of a network and of a server. */
export const Command = Schema.TaggedUnion({
  ...Beat,
  Say: { text: Schema.String },
  /** The server closes this connection: code 1012, "come back". */
  Drop: {},
  /** It closes this one, and refuses everyone for 10 seconds. */
  Down: {},
  /** It closes this connection with 1008: "do not come back". */
  Expel: {}
})
export type Command = typeof Command.Type

/** What the server says. */
export const Event = Schema.TaggedUnion({
  ...Beat,
  Tick: { count: Schema.Finite, pages: Schema.Finite },
  Heard: { text: Schema.String }
})
export type Event = typeof Event.Type

export const serverCodec = Codec.lines().pipe(Codec.schema(Command, Event))
export const clientCodec = Codec.flip(serverCodec)
export const heartbeat = Heartbeat.tagged("Ping", "Pong", { token: "token" })

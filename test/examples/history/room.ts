/** A room whose readers come and go: the server keeps what was said, each client says how far it has come. */
import { Effect, Schema, Stream } from "effect"
import { Client, Codec, Connection, type ConnectionError, Heartbeat, History, Server } from "holdfast"
import { Dialer } from "holdfast/node"

const Ping = Schema.TaggedStruct("Ping", {})
const Pong = Schema.TaggedStruct("Pong", {})
const Hello = Schema.TaggedStruct("Hello", { position: Schema.optional(History.positionSchema) })
const FromClient = Schema.Union([Hello, Ping, Pong])
const FromServer = Schema.Union([History.eventSchema(Schema.String), Ping, Pong])

const codec = Codec.lines().pipe(Codec.schema(FromClient, FromServer))
const policy = { pingEvery: "5 seconds", pong: "2 seconds", handshake: "2 seconds" } as const

const openServer = Connection.make({ codec, heartbeat: Heartbeat.tagged("Ping", "Pong"), policy })
const openClient = Connection.make({ codec: Codec.flip(codec), heartbeat: Heartbeat.tagged("Ping", "Pong"), policy })

/** Serves the room on the listener that is provided. */
export const serve = (room: History.History<string>) =>
  Server.run({
    open: openServer,
    handle: (connection) =>
      Effect.gen(function*() {
        const { position } = yield* connection.receive
        const told = Stream.runForEachArray(History.follow(room, position), connection.sendAll)
        // a handler that reads no more is told by these that the client, or the server, goes
        yield* Effect.raceAllFirst([told, connection.leaving, connection.ending])
      })
  })

/** What one client was told. */
export interface Told {
  messages: number
  gaps: number
  connections: number
}

/** Reads the room for ever: each message once and in order, or where messages are missing. */
export const read = Effect.fnUntraced(function*(
  url: string,
  told: Told,
  on: (event: History.Event<string>) => Effect.Effect<void>
) {
  const cursor = yield* History.cursor()
  const open = Effect.flatMap(Effect.orDie(Dialer.make(url)), openClient)
  const client = yield* Client.make(open, {
    policy: { retryBase: "50 millis", retryCap: "1 second" },
    onConnect: (connection) =>
      Effect.flatMap(cursor.position, (position) => {
        told.connections++
        return connection.send({ _tag: "Hello", position })
      })
  })
  const reading: Effect.Effect<never, ConnectionError.ConnectionError> = Effect.gen(function*() {
    while (true) {
      for (const event of yield* cursor.accept(yield* client.receive)) {
        if (event._tag === "Message") told.messages++
        if (event._tag === "Gone") told.gaps++
        yield* on(event)
      }
    }
  })
  return { client, reading }
})

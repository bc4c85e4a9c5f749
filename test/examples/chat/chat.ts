/**
 * A chat server: users log in with a token, talk in rooms and to each other, and see who comes and goes.
 *
 * What it shows: a login in the handshake, one connection a user (a newer one takes over), rooms as tags of a registry,
 * presence from its changes, broadcasts and direct messages that wait for no slow client, limits as data, and a stop that
 * answers first. The layer that listens decides whether it serves TCP, WebSocket or a simulated network:
 *
 * ```ts
 * chat.pipe(
 *   Layer.provide([Listener.layer("ws://127.0.0.1:7000/chat"), Layer.succeed(Users, users)]),
 *   Layer.launch,
 *   NodeRuntime.runMain
 * )
 * ```
 */
import { Context, Effect, Layer, Stream } from "effect"
import { Connection, Policy, Registry, Server } from "holdfast"
import { type Command, type Event, heartbeat, serverCodec } from "./protocol.ts"

/** Which user a token belongs to. */
export class Users extends Context.Service<Users, {
  readonly byToken: (token: string) => Effect.Effect<string | undefined>
}>()("chat/Users") {}

/** The connections that are logged in. The key is the user, a tag is a room, and the session is the user too. */
export class Clients extends Context.Service<Clients, Registry.Registry<Command, Event, string>>()("chat/Clients") {
  static readonly layer = Registry.layer(Clients)
}

/** What is changed from the defaults, and can be changed where it runs: `CHAT_MAX_CONNECTIONS=500`. */
export class Limits extends Context.Service<Limits, Policy.Policy>()("chat/Limits") {
  static readonly layer = Policy.layer(Limits, {
    prefix: "CHAT",
    from: Policy.make({
      maxFrame: 16 * 1024,
      handshake: "5 seconds",
      inboxMessages: 64,
      // a client that cannot follow is cut off, and comes back: it should not miss messages in silence
      outboxMessages: 200,
      overflow: "close",
      maxConnectionsPerAddress: 50
    })
  })
}

const handshake = Effect.fnUntraced(function*(connection: Connection.Connection<Command, Event>) {
  const users = yield* Users
  const command = yield* connection.receive
  const user = command._tag === "Login" ? yield* users.byToken(command.token) : undefined
  return user ?? (yield* Effect.fail("log in first, with a token that is known"))
})

/** What one user may do, until the connection ends. */
const converse = Effect.fnUntraced(function*(connection: Connection.Connection<Command, Event>, user: string) {
  const clients = yield* Clients
  const rooms = new Set<string>()
  yield* connection.send({ _tag: "Welcome", user })

  const obey = Effect.fnUntraced(function*(command: Command) {
    switch (command._tag) {
      case "Login":
        return
      case "Join": {
        rooms.add(command.room)
        yield* clients.tag(connection.id, { add: [command.room] })
        const entries = yield* clients.entries
        const users = entries.filter(({ tags }) => tags.has(command.room)).map(({ session }) => session)
        return yield* connection.send({ _tag: "Members", room: command.room, users })
      }
      case "Leave":
        rooms.delete(command.room)
        return yield* clients.tag(connection.id, { remove: [command.room] })
      case "Say": {
        if (!rooms.has(command.room)) return
        const said: Event = { _tag: "Said", room: command.room, from: user, text: command.text }
        return yield* clients.broadcast(said, { tag: command.room })
      }
      case "Tell": {
        const outcome = yield* clients.offer(command.to, { _tag: "Told", from: user, text: command.text })
        if (outcome !== "accepted") yield* connection.send({ _tag: "Undelivered", to: command.to, why: outcome })
      }
    }
  })
  yield* Stream.runForEach(Connection.messages(connection), obey)
})

/** Tells each room who comes and goes. */
const presence = Effect.gen(function*() {
  const clients = yield* Clients
  const tell = (_tag: "Came" | "Went", user: string, rooms: Iterable<string>) =>
    Effect.forEach(rooms, (room) => clients.broadcast({ _tag, room, user }, { tag: room }), { discard: true })
  yield* Effect.forkScoped(Stream.runForEach(clients.changes, (change) => {
    switch (change._tag) {
      case "Tagged":
        return Effect.andThen(
          tell("Came", change.session, change.added),
          tell("Went", change.session, change.removed)
        )
      case "Ended":
        return tell("Went", change.session, change.tags)
      default:
        return Effect.void
    }
  }))
})

const server = Effect.gen(function*() {
  const policy = yield* Limits
  const registry = yield* Clients
  return Server.layer({
    policy,
    registry,
    open: Connection.make({
      codec: serverCodec,
      heartbeat,
      policy,
      farewell: (reason) => ({ _tag: "Bye", why: reason.message })
    }),
    handshake,
    names: (_, user) => ({ key: user }),
    handle: converse
  })
}).pipe(Layer.unwrap)

/** All of it, but for the users and the address. */
export const chat = Layer.merge(server, Layer.effectDiscard(presence)).pipe(
  Layer.provideMerge(Clients.layer),
  Layer.provide(Limits.layer)
)

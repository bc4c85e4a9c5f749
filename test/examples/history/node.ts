/**
 * A node of the chat. All nodes have one room, which is a history, and find each other's users through the fleet: a member that
 * loses its node goes on with another one.
 */
import { Effect, Stream } from "effect"
import { Connection, type Fleet, History, Server } from "holdfast"
import { type Command, type Event, heartbeat, policy, type Said, serverCodec } from "./protocol.ts"

/** What a node serves: the room, and the users of all nodes. */
export interface Node {
  readonly room: History.History<Said>
  readonly fleet: Fleet.Fleet<Command, Event>
}

/** The first command says who it is, and how far they have come. */
const hello = Effect.fnUntraced(function*(connection: Connection.Connection<Command, Event>) {
  const command = yield* connection.receive
  return command._tag === "Hello" ? command : yield* Effect.fail("say Hello first")
})

const obey = Effect.fnUntraced(function*(
  { fleet, room }: Node,
  connection: Connection.Connection<Command, Event>,
  from: string,
  command: Command
) {
  // an append that fails ends the connection: the member comes back, and says again what it has not read
  if (command._tag === "Say") yield* room.append({ from, id: command.id, text: command.text })
  if (command._tag === "Whisper") {
    const why = yield* fleet.send(command.to, { _tag: "Whispered", from, text: command.text })
    if (why !== "accepted") yield* connection.send({ _tag: "NotWhispered", to: command.to, why })
  }
})

/** Serves members on the listener that is provided. */
export const serve = (node: Node) =>
  Server.run({
    open: Connection.make({ codec: serverCodec, heartbeat, policy }),
    policy,
    registry: node.fleet.registry,
    handshake: hello,
    names: (_, { user }) => ({ key: user }),
    handle: (connection, { position, user }) => {
      const { room } = node
      const told = Stream.runForEachArray(History.follow(room, position), connection.sendAll)
      const obeyed = Stream.runForEach(
        Connection.messages(connection),
        (command) => obey(node, connection, user, command)
      )
      return Effect.raceAllFirst([told, obeyed, connection.leaving, connection.ending])
    }
  })

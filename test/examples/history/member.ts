/** A member of the chat: reads each message of the room once and in order, whichever node it is connected to. */
import { Clock, Effect } from "effect"
import type { Socket } from "effect/socket"
import { Client, Connection, History } from "holdfast"
import { type Event, heartbeat, memberCodec, policy, type Said } from "./protocol.ts"

/** What a member is told: messages of the room, where some are missing, and whispers. */
export type Told = Said | History.Gone | Extract<Event, { readonly _tag: "Whispered" | "NotWhispered" }>

const openMember = Connection.make({ codec: memberCodec, heartbeat, policy })

/** Joins the chat through one node after the other, by sockets of its own, for as long as the scope is open. */
export const join = Effect.fnUntraced(function*(
  user: string,
  nodes: ReadonlyArray<Socket.Socket>,
  on: (told: Told) => Effect.Effect<void>
) {
  const cursor = yield* History.cursor()
  // what this user has said, and has not read in the room: a node may have died with it
  const unread = new Map<number, string>()
  // the last message of each user: what was said again on another connection may be in the room twice
  const last = new Map<string, number>()
  // after those of an earlier program of this user
  let id = yield* Clock.currentTimeMillis
  let dialled = 0
  const client = yield* Client.make(
    Effect.suspend(() => openMember(nodes[dialled++ % nodes.length]!)),
    {
      policy: { retryBase: "50 millis", retryCap: "1 second" },
      onConnect: (connection) =>
        Effect.flatMap(cursor.position, (position) =>
          connection.sendAll([
            { _tag: "Hello", user, position },
            ...Array.from(unread, ([id, text]) => ({ _tag: "Say", id, text }) as const)
          ]))
    }
  )
  const say = (text: string) =>
    Effect.suspend(() => {
      unread.set(++id, text)
      return client.send({ _tag: "Say", id, text })
    })
  const read = (said: Said): Effect.Effect<void> => {
    if (said.id <= (last.get(said.from) ?? 0)) return Effect.void
    last.set(said.from, said.id)
    if (said.from === user) unread.delete(said.id)
    return on(said)
  }
  const reading = Effect.forever(Effect.gen(function*() {
    const event = yield* client.receive
    switch (event._tag) {
      case "Message":
      case "Gone":
      case "Start":
        for (const news of yield* cursor.accept(event)) {
          if (news._tag === "Message") yield* read(news.message)
          if (news._tag === "Gone") yield* on(news)
        }
        return
      case "Whispered":
      case "NotWhispered":
        yield* on(event)
    }
  }))
  return { client, say, reading, position: cursor.position }
})

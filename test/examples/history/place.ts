/** Where the nodes of the chat find each other, and their room: in this process, or on a Redis or NATS that all processes reach. */
import { Effect } from "effect"
import { SocketServer } from "effect/socket"
import { Backplane, Fleet, History } from "holdfast"
import { NatsBackplane, NatsHistory } from "holdfast/nats"
import { Listener } from "holdfast/node"
import { RedisBackplane, RedisHistory } from "holdfast/redis"
import { serve } from "./node.ts"
import { type Command, type Event, type Said, saidCodec } from "./protocol.ts"

/** What the command line says: `--redis URL`, `--nats URL`, or neither. */
export interface Flags {
  readonly redis?: string | undefined
  readonly nats?: string | undefined
}

const bounds = { count: 10_000, age: "10 minutes" } as const

/** The engine of the fleet, and the room. */
export const place = Effect.fnUntraced(function*({ nats, redis }: Flags) {
  if (redis !== undefined) {
    const histories = yield* RedisHistory.make({ url: redis })
    const room = yield* histories.history({ name: "tea", codec: saidCodec, ...bounds })
    return { engine: yield* RedisBackplane.make({ url: redis }), room }
  }
  if (nats !== undefined) {
    const histories = yield* NatsHistory.make({ servers: nats })
    const room = yield* histories.history({ name: "tea", codec: saidCodec, ...bounds })
    return { engine: yield* NatsBackplane.make({ servers: nats }), room }
  }
  return { engine: yield* Backplane.memory, room: yield* History.memory<Said>(bounds) }
})

/** A node on a port of the loopback, until it is interrupted. */
export const node = (
  name: string,
  port: number,
  { engine, room }: { readonly engine: Backplane.Engine; readonly room: History.History<Said> }
) =>
  Effect.scoped(Effect.gen(function*() {
    const fleet = yield* Fleet.make<Command, Event>({ engine, name, lease: "2 seconds" })
    const listener = yield* Listener.make(`tcp://127.0.0.1:${port}`)
    yield* Effect.provideService(serve({ fleet, room }), SocketServer.SocketServer, listener)
  }))

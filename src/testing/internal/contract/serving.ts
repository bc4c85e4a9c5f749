/** The accept loop: who gets which connection, and what survives. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import type * as Socket from "effect/socket/Socket"
import type { Transport } from "../../Transport.ts"
import { toBytes } from "../fabric/chunk.ts"
import { arrives, connect, listen, open, type OpenSocket, run, send, start } from "./bench.ts"
import { beginScoped, type Body, type Broken, check, expect, within } from "./check.ts"

const greets = (transport: Transport, client: OpenSocket, server: OpenSocket) =>
  Effect.gen(function*() {
    yield* send(transport, client, toBytes("hello"))
    yield* arrives(transport, server, toBytes("hello"), "a greeting")
  })

const early: Body = (transport) =>
  Effect.gen(function*() {
    const { dial, server } = yield* listen(transport)
    const socket = yield* dial
    const opening = yield* beginScoped(
      Effect.tap(open(transport, socket, "a dial before the server runs"), (client) =>
        send(transport, client, toBytes("hello")))
    )
    yield* Effect.sleep(20)
    const accepted = yield* Queue.unbounded<Socket.Socket, Broken>()
    yield* run(server, accepted)
    const taken = yield* within(transport, "a connection made before `run` to be handed out", Queue.take(accepted))
    const end = yield* open(transport, taken, "the accepted end")
    yield* within(transport, "a dial before the server runs to succeed", Fiber.join(opening))
    yield* arrives(transport, end, toBytes("hello"), "what was sent before the server ran")
  })

const stopAndGo: Body = (transport) =>
  Effect.gen(function*() {
    const { dial, server } = yield* listen(transport)
    let interrupted = 0
    const arrived = yield* Queue.unbounded<void>()
    const handler = () =>
      Effect.andThen(Queue.offer(arrived, undefined), Effect.never).pipe(
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            interrupted++
          })
        )
      )
    const first = yield* beginScoped(server.run(handler))
    for (let i = 0; i < 3; i++) {
      const socket = yield* dial
      yield* beginScoped(Effect.exit(socket.reader))
      yield* within(transport, "a handler to run", Queue.take(arrived))
    }
    yield* within(transport, "the accept loop to be interruptible", Fiber.interrupt(first))
    yield* expect(
      interrupted === 3,
      "the 3 running handlers to be interrupted with the accept loop, and waited for",
      `${interrupted} interrupted`
    )
    const accepted = yield* Queue.unbounded<Socket.Socket, Broken>()
    yield* run(server, accepted)
    const [client, end] = yield* Effect.all([
      Effect.flatMap(dial, (socket) => open(transport, socket, "a dial to a server that runs again")),
      Effect.flatMap(
        within(transport, "a server that runs again to hand out connections", Queue.take(accepted)),
        (socket) => open(transport, socket, "the accepted end")
      )
    ], { concurrency: 2 })
    yield* greets(transport, client, end)
  })

const failingHandlers: Body = (transport) =>
  Effect.gen(function*() {
    const { dial, server } = yield* listen(transport)
    const accepted = yield* Queue.unbounded<Socket.Socket, Broken>()
    let count = 0
    const handler = (socket: Socket.Socket): Effect.Effect<unknown, string> => {
      count++
      if (count === 1) return Effect.fail("a handler that fails")
      if (count === 2) return Effect.die("a handler with a defect")
      if (count === 3) return Effect.scoped(Effect.andThen(Effect.ignore(socket.reader), Effect.fail("late")))
      return Effect.andThen(Queue.offer(accepted, socket), Effect.never)
    }
    const loop = yield* beginScoped(server.run(handler))
    for (let i = 0; i < 3; i++) {
      const socket = yield* dial
      // it may be refused, or open and end: either way it is over
      yield* within(
        transport,
        "the connection of a handler that failed to end",
        Effect.exit(Effect.scoped(Effect.flatMap(socket.reader, ({ pull }) => i === 2 ? pull : Effect.void)))
      )
    }
    yield* within(
      transport,
      "three handlers to have run",
      Effect.repeat(Effect.as(Effect.sleep(1), undefined), { until: () => count >= 3 })
    )
    yield* expect(loop.pollUnsafe() === undefined, "the accept loop to survive its handlers", "its end")
    const [client, end] = yield* Effect.all([
      Effect.flatMap(dial, (socket) => open(transport, socket, "a dial after failed handlers")),
      Effect.flatMap(
        within(transport, "a connection after failed handlers to be handed out", Queue.take(accepted)),
        (socket) => open(transport, socket, "the accepted end")
      )
    ], { concurrency: 2 })
    yield* greets(transport, client, end)
  })

const outlivesRun: Body = (transport) =>
  Effect.gen(function*() {
    const bench = yield* start(transport)
    const [client, server] = yield* connect(transport, bench)
    yield* greets(transport, client, server)
    yield* within(transport, "the accept loop to be interruptible", bench.stopAccepting)
    yield* greets(transport, client, server)
    yield* greets(transport, server, client)
  })

export const serving = [
  check("a connection made before the accept loop runs waits for it", early),
  check("stopping the accept loop interrupts its handlers, and it can run again", stopAndGo),
  check("a failing handler stops neither the accept loop nor the next connection", failingHandlers),
  check("a connection acquired elsewhere outlives the accept loop", outlivesRun)
]

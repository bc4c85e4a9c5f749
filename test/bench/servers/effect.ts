/** Effect's own socket server with the same framing by hand: no heartbeat, no deadlines, no limits. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"
import { onCommand } from "../support/commands.ts"
import { broadcastFrame, join, Splitter } from "./framing.ts"

const writers = new Set<Socket.Writer>()

// one generator function for all connections, as that of Holdfast
const echo = Effect.fnUntraced(
  function*(socket: Socket.Socket) {
    const { pull } = yield* socket.reader
    const writer = yield* socket.writer
    const splitter = new Splitter()
    writers.add(writer)
    yield* Effect.addFinalizer(() => Effect.sync(() => writers.delete(writer)))
    while (true) {
      const chunks = yield* pull
      const payloads: Array<Buffer> = []
      for (const chunk of chunks) splitter.push(chunk as Buffer, payloads)
      if (payloads.length > 0) yield* writer.writeAll(join(payloads))
    }
  },
  (effect) => Effect.ignore(Effect.scoped(effect))
)

const program = Effect.gen(function*() {
  const server = yield* NodeSocketServer.make({ host: "127.0.0.1", port: 0, noDelay: true })
  onCommand("broadcast", ({ bytes }: { readonly bytes: number }) => {
    const frame = broadcastFrame(bytes)
    return Effect.runPromise(Effect.gen(function*() {
      for (const writer of writers) yield* writer.write(frame)
    }))
  })
  console.log(`listening tcp://127.0.0.1:${(server.address as { readonly port: number }).port}`)
  return yield* server.run(echo)
})

NodeRuntime.runMain(Effect.scoped(program))

/**
 * An echo server of lines in a process of its own.
 *
 * in:  "report"
 * out: "listening PORT", "report JSON" with how many of each event there were
 */
import * as Effect from "effect/Effect"
import * as SocketServer from "effect/socket/SocketServer"
import * as Readline from "node:readline"
import { Codec, Connection, Registry, Server } from "../../../src/index.ts"
import { Listener } from "../../../src/node/index.ts"
import { echo } from "./kit.ts"

const main = Effect.gen(function*() {
  const listener = yield* Listener.make("tcp://127.0.0.1:0", { linger: "100 millis" })
  const registry = yield* Registry.make<string>()
  const counts = { Opened: 0, Closed: 0, Refused: 0, AcceptFailed: 0 }
  console.log(`listening ${listener.url.split(":").at(-1)}`)
  Readline.createInterface({ input: process.stdin }).on("line", () => {
    console.log(`report ${JSON.stringify({ ...counts, size: Effect.runSync(registry.size) })}`)
  }).on("close", () => process.exit())
  yield* Server.run({
    open: Connection.make({ codec: Codec.lines() }),
    registry,
    handle: echo,
    onEvent: (event) => Effect.sync(() => void counts[event._tag as keyof typeof counts]++)
  }).pipe(Effect.provideService(SocketServer.SocketServer, listener))
})

Effect.runFork(Effect.scoped(main))

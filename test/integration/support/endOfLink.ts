/**
 * One end of a quiet connection, in a process of its own: says when it is open, and after how many milliseconds of silence it
 * ended.
 *
 * usage: endOfLink.ts listen|dial URL
 * out: "listening", "open", "ended REASON MILLISECONDS"
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as SocketServer from "effect/socket/SocketServer"
import { Codec, Connection, type ConnectionError, Policy, Server } from "../../../src/index.ts"
import { Dialer, Listener } from "../../../src/node/index.ts"

const [role, url] = process.argv.slice(2) as [string, string]
// the kernel alone ends it
const policy = Policy.make({
  silence: 0,
  pingEvery: 0,
  keepAlive: "2 seconds",
  keepAliveInterval: "1 second",
  keepAliveCount: 2
})
const open = Connection.make({ codec: Codec.lines(), policy })

let since = 0
const opened = (): void => {
  since = performance.now()
  console.log("open")
}
const ended = (reason: ConnectionError.Reason | undefined): void =>
  console.log(`ended ${reason?._tag} ${Math.round(performance.now() - since)}`)

const main: Effect.Effect<void, unknown, Scope.Scope> = role === "listen"
  ? Effect.gen(function*() {
    const listener = yield* Listener.make(url, { policy })
    console.log("listening")
    yield* Server.run({
      open,
      policy,
      handle: () => Effect.never,
      onEvent: (event) =>
        Effect.sync(() => event._tag === "Opened" ? opened() : event._tag === "Closed" && ended(event.snapshot.reason))
    }).pipe(Effect.provideService(SocketServer.SocketServer, listener))
  })
  : Effect.gen(function*() {
    const connection = yield* open(yield* Dialer.make(url, { policy }))
    opened()
    ended((yield* Effect.flip(connection.receive)).reason)
  })

Effect.runFork(Effect.scoped(main))

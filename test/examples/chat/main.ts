/** The chat as a program: a page with its WebSocket, and lines of JSON over TCP. */
import { Console, Effect, Layer } from "effect"
import { SocketServer } from "effect/socket"
import { Listener } from "holdfast/node"
import * as Page from "../support/page.ts"
import { ports, run } from "../support/run.ts"
import { chat, Users } from "./chat.ts"

/** A real one asks a database. Here the token of `ada` is `token-ada`, and everyone may be a user. */
const users = Layer.succeed(Users, {
  byToken: (token) => Effect.succeed(/^token-(\w{1,20})$/.exec(token)?.[1])
})

const program = Effect.gen(function*() {
  const [port, next] = yield* ports(7100)
  const { page, url, webSockets } = yield* Page.make(port, new URL("./", import.meta.url))
  const tcp = yield* Listener.make(`tcp://127.0.0.1:${next}`)
  const sockets = Layer.succeed(SocketServer.SocketServer, Listener.merge([webSockets, tcp]))

  yield* Console.log(`open ${url}/#ada and ${url}/#ben in a browser, or from a terminal:
  nc ${tcp.url.slice("tcp://".length).replace(":", " ")}
  {"_tag":"Login","token":"token-cyd"}
  {"_tag":"Join","room":"tea"}
  {"_tag":"Say","room":"tea","text":"hello"}
Ctrl-C stops it.`)
  yield* Layer.launch(Layer.merge(page, chat.pipe(Layer.provide([sockets, users]))))
})

run(Effect.scoped(program))

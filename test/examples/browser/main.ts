/** The page and its server as a program. */
import { Console, Effect, Layer } from "effect"
import { SocketServer } from "effect/socket"
import * as Page from "../support/page.ts"
import { ports, run } from "../support/run.ts"
import * as Server from "./server.ts"

const program = Effect.gen(function*() {
  const [port] = yield* ports(7110)
  const { layer, upgrade } = Server.make()
  const { page, url, webSockets } = yield* Page.make(port, new URL("./", import.meta.url), { upgrade })
  yield* Console.log(`open ${url} in a browser, press its buttons, and stop and start this program\nCtrl-C stops it.`)
  const sockets = Layer.succeed(SocketServer.SocketServer, webSockets)
  yield* Layer.launch(Layer.merge(page, Layer.provide(layer, sockets)))
})

run(Effect.scoped(program))

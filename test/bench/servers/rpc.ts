/** An RPC server that echoes a text, over `holdfast/rpc` or over Effect's own socket protocol: the argument says which. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Rpc, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
import * as Schema from "effect/Schema"
import * as SocketServer from "effect/socket/SocketServer"
import * as Listener from "../../../src/node/Listener.ts"
import * as ServerProtocol from "../../../src/rpc/ServerProtocol.ts"

const Echo = Rpc.make("Echo", { payload: { text: Schema.String }, success: Schema.String })
const Calls = RpcGroup.make(Echo)

const program = Effect.gen(function*() {
  const isOurs = process.argv[2] === "holdfast"
  const server = yield* isOurs
    ? Listener.make("tcp://127.0.0.1:0")
    : NodeSocketServer.make({ host: "127.0.0.1", port: 0, noDelay: true })
  console.log(`listening tcp://127.0.0.1:${(server.address as { readonly port: number }).port}`)
  const protocol = isOurs ? ServerProtocol.layer() : RpcServer.layerProtocolSocketServer
  return yield* Layer.launch(
    RpcServer.layer(Calls).pipe(
      Layer.provide(Calls.toLayer({ Echo: ({ text }) => Effect.succeed(text) })),
      Layer.provide(protocol),
      Layer.provide(RpcSerialization.layerNdjson),
      Layer.provide(Layer.succeed(SocketServer.SocketServer, server))
    )
  )
})

NodeRuntime.runMain(Effect.scoped(program))

/** The socket of an accepted WebSocket. */
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import type * as NodeWS from "@effect/platform-node/NodeWS"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import type * as Http from "node:http"
import type { Duplex } from "node:stream"
import * as WebSocket from "../webSocket/socket.ts"
import type { Arrival, Opened } from "./arrival.ts"

export const openWebSocket = (
  arrival: Arrival,
  ws: NodeWS.WebSocket,
  stream: Duplex,
  request: Http.IncomingMessage
): Opened => {
  const { acceptor } = arrival
  const claim = Effect.suspend(() => {
    const failure = acceptor.claim(arrival, stream)
    return failure === undefined ? Effect.void : Effect.fail(failure)
  })
  const services = Context.make(NodeSocketServer.IncomingMessage, request).pipe(Context.add(Socket.WebSocket, ws))
  return {
    socket: WebSocket.make({
      acquire: Effect.as(Effect.acquireRelease(claim, () => Effect.sync(() => acceptor.release(arrival))), {
        ws,
        stream
      }),
      linger: acceptor.linger,
      addresses: arrival
    }),
    provide: Context.merge(services)
  }
}

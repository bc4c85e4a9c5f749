/** The socket of an accepted WebSocket. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Context from "effect/Context"
import type * as Net from "node:net"
import { overStream, type SocketOptions } from "../../../internal/webSocket/socket.ts"
import { Accepted } from "../upgrade/accepted.ts"
import { AcceptedStream } from "./acceptedStream.ts"
import type { Arrival, Opened } from "./arrival.ts"

export const openWebSocket = (
  arrival: Arrival,
  conn: Net.Socket,
  accepted: Accepted,
  options: SocketOptions
): Opened => {
  const services = Context.make(NodeSocketServer.IncomingMessage, accepted.request.source).pipe(
    Context.add(Accepted, accepted),
    Context.add(NodeSocket.NetSocket, conn)
  )
  const stream = new AcceptedStream(arrival, conn)
  return {
    socket: overStream({ role: "server", stream, maskKey: undefined }, options),
    provide: Context.merge(services)
  }
}

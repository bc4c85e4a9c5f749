/** The socket of an accepted WebSocket. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as Context from "effect/Context"
import type * as Http from "node:http"
import type * as Net from "node:net"
import { overStream, type SocketOptions } from "../../../internal/webSocket/socket.ts"
import { Accepted } from "../upgrade/accepted.ts"
import { AcceptedStream, withHeader } from "./acceptedStream.ts"
import type { Arrival, Opened } from "./arrival.ts"

const compressionOf = ({ compression }: Accepted) => compression === undefined ? {} : { compression: () => compression }

export const openWebSocket = (
  arrival: Arrival,
  conn: Net.Socket,
  accepted: Accepted,
  request: Http.IncomingMessage,
  options: SocketOptions
): Opened => {
  const stream = new AcceptedStream(arrival, conn)
  return {
    request,
    socket: overStream({ role: "server", stream, maskKey: undefined, ...compressionOf(accepted) }, options),
    // each adds to what all share: a merge would copy that for every connection
    provide: (context) =>
      withHeader(
        context.pipe(
          Context.add(Accepted, accepted),
          Context.add(NodeSocket.NetSocket, conn)
        ),
        arrival.header
      )
  }
}

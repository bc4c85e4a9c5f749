/** Takes the requests for a WebSocket away from an HTTP server, before its application sees them. */
import type * as NodeWS from "@effect/platform-node/NodeWS"
import type * as Http from "node:http"
import type * as Net from "node:net"
import { noop } from "../stream/tcp.ts"
import { webSockets } from "../webSocket/upgrade.ts"
import type { Settings } from "./settings.ts"

const notFound = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

/**
 * Upgrades the requests on one path; `onOpen` gets each WebSocket, paused. Requests on other paths go to the listeners of
 * the server. Listeners cannot stop each other, and Effect's would answer every request: so it is the emitting that changes.
 */
export const upgradeAt = (
  server: Http.Server,
  path: string,
  { linger, policy }: Settings,
  onOpen: (conn: Net.Socket, ws: NodeWS.WebSocket, request: Http.IncomingMessage) => void
): void => {
  const sockets = webSockets({ maxFrame: policy.maxFrame, linger })
  const emit = server.emit as (this: Http.Server, name: string, ...args: ReadonlyArray<unknown>) => boolean
  // without any listener Node answers such a request as if it asked for no upgrade
  server.on("upgrade", noop)
  Object.assign(server, {
    emit(name: string, ...args: ReadonlyArray<unknown>): boolean {
      if (name !== "upgrade") return emit.call(server, name, ...args)
      const [request, conn, head] = args as [Http.IncomingMessage, Net.Socket, Buffer]
      const isOurs = request.headers.upgrade?.toLowerCase() === "websocket" &&
        (request.url ?? "").split("?", 1)[0] === path
      if (isOurs) {
        conn.on("error", noop)
        sockets.handleUpgrade(request, conn, head, (ws) => {
          ws.on("error", noop)
          ws.pause()
          // ws has switched Nagle off
          if (!policy.noDelay) conn.setNoDelay(false)
          onOpen(conn, ws, request)
        })
      } else if (server.listenerCount("upgrade") === 1) {
        // there is no application that would answer
        conn.end(notFound)
      } else {
        return emit.call(server, name, ...args)
      }
      return true
    }
  })
}

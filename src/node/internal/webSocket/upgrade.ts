/** The server's side of WebSocket upgrades, on accepted connections. */
import * as NodeWS from "@effect/platform-node/NodeWS"
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import { linger, noop } from "../stream/tcp.ts"
import { closeTimeout } from "./socket.ts"

type OnOpen = (ws: NodeWS.WebSocket, stream: Duplex, request: Http.IncomingMessage) => void

const headers = {
  404: { "Content-Type": "text/plain", Connection: "close" },
  // RFC 9110, 15.5.22: what to upgrade to has to be said
  426: { "Content-Type": "text/plain", Connection: "close, Upgrade", Upgrade: "websocket" }
}

/** What answers requests to upgrade. */
export const webSockets = (
  options: { readonly maxFrame: number; readonly linger: number }
): NodeWS.WebSocketServer =>
  new NodeWS.WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: options.maxFrame,
    ...closeTimeout(options.linger)
  })

/**
 * Waits for a request to upgrade on the path and refuses any other. What comes out is paused. It ends with a call, or with the
 * connection destroyed: bounding its time is up to the caller.
 */
export const upgrades = (
  options: { readonly path: string; readonly maxFrame: number; readonly linger: number }
): (conn: Net.Socket, onOpen: OnOpen) => void => {
  const waiting = new WeakMap<Duplex, OnOpen>()
  const sockets = webSockets(options)
  const status = (request: Http.IncomingMessage): 404 | 426 =>
    (request.url ?? "").split("?", 1)[0] === options.path ? 426 : 404
  const server = Http.createServer((request, response) => {
    const code = status(request)
    response.writeHead(code, headers[code]).end(Http.STATUS_CODES[code])
  })
  server.on("upgrade", (request, stream, head) => {
    const onOpen = waiting.get(stream)
    if (onOpen === undefined) {
      stream.destroy()
      return
    }
    const code = status(request)
    if (code === 404 || request.headers.upgrade?.toLowerCase() !== "websocket") {
      const text = Http.STATUS_CODES[code]!
      const lines = Object.entries({ ...headers[code], "Content-Length": text.length })
        .map(([name, value]) => `${name}: ${value}\r\n`)
      stream.end(`HTTP/1.1 ${code} ${text}\r\n${lines.join("")}\r\n${text}`)
      linger(stream, options.linger)
      return
    }
    sockets.handleUpgrade(request, stream, head, (ws) => {
      ws.on("error", noop)
      ws.pause()
      onOpen(ws, stream, request)
    })
  })
  return (conn, onOpen) => {
    waiting.set(conn, onOpen)
    server.emit("connection", conn)
  }
}

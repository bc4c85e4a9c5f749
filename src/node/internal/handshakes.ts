/**
 * The server's side of TLS handshakes and WebSocket upgrades, on accepted connections.
 *
 * Each ends with a call, or with the connection destroyed. Bounding its time is up to the caller.
 */
import * as NodeWS from "@effect/platform-node/NodeWS"
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { linger, noop } from "./stream.ts"
import { closeTimeout } from "./webSocket.ts"

/** Names a connection by both of its ends: no two living connections of a machine share them. */
const tuple = (conn: Net.Socket): string | undefined =>
  conn.remotePort === undefined
    ? undefined
    : `${conn.remoteAddress} ${conn.remotePort} ${conn.localAddress} ${conn.localPort}`

/** Does the TLS handshake; what comes out is half-open. */
export const tls = (
  options: Tls.TlsOptions
): (raw: Net.Socket, onSecure: (conn: Tls.TLSSocket) => void) => void => {
  // the server gives us a connection, and not what it runs on
  const waiting = new Map<string, (conn: Tls.TLSSocket) => void>()
  const server = Tls.createServer(options)
  server.on("tlsClientError", (_, conn) => conn.destroy())
  server.on("secureConnection", (conn) => {
    conn.on("error", noop)
    const key = tuple(conn)
    const onSecure = key === undefined ? undefined : waiting.get(key)
    if (key === undefined || onSecure === undefined) {
      conn.destroy()
      return
    }
    waiting.delete(key)
    conn.allowHalfOpen = true
    onSecure(conn)
  })
  return (raw, onSecure) => {
    const key = tuple(raw)
    if (key === undefined) {
      raw.destroy()
      return
    }
    waiting.set(key, onSecure)
    // until it is secure, the peer's end is the end; TLS takes this over from what it runs on
    raw.allowHalfOpen = false
    raw.once("close", () => {
      if (waiting.get(key) === onSecure) waiting.delete(key)
    })
    server.emit("connection", raw)
  }
}

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

/** Waits for a request to upgrade on the path and refuses any other. What comes out is paused. */
export const upgrade = (
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

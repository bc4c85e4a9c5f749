/** The server's side of TLS handshakes, on accepted connections. */
import type * as Net from "node:net"
import * as Tls from "node:tls"
import { noop } from "../stream/tcp.ts"

/** Names a connection by both of its ends: no two living connections of a machine share them. */
export const tuple = (conn: Net.Socket): string | undefined =>
  conn.remotePort === undefined
    ? undefined
    : `${conn.remoteAddress} ${conn.remotePort} ${conn.localAddress} ${conn.localPort}`

/** What waits for the end of a handshake. */
interface Waiting {
  readonly onSecure: (conn: Tls.TLSSocket) => void
  readonly onFailure: (cause: Error) => void
}

/**
 * Does the TLS handshake; what comes out is half-open. It ends with a call, or with the connection destroyed: bounding its time
 * is up to the caller.
 */
export const handshakes = (
  options: Tls.TlsOptions
): (raw: Net.Socket, onSecure: (conn: Tls.TLSSocket) => void, onFailure: (cause: Error) => void) => void => {
  // the server gives us a connection, and not what it runs on
  const waiting = new Map<string, Waiting>()
  const server = Tls.createServer(options)
  server.on("tlsClientError", (cause, conn) => {
    waiting.get(tuple(conn) ?? "")?.onFailure(cause)
    conn.destroy()
  })
  server.on("secureConnection", (conn) => {
    conn.on("error", noop)
    const key = tuple(conn)
    const waits = key === undefined ? undefined : waiting.get(key)
    if (key === undefined || waits === undefined) {
      conn.destroy()
      return
    }
    waiting.delete(key)
    conn.allowHalfOpen = true
    waits.onSecure(conn)
  })
  return (raw, onSecure, onFailure) => {
    const key = tuple(raw)
    if (key === undefined) {
      raw.destroy()
      return
    }
    const waits: Waiting = { onSecure, onFailure }
    waiting.set(key, waits)
    // until it is secure, the peer's end is the end; TLS takes this over from what it runs on
    raw.allowHalfOpen = false
    raw.once("close", () => {
      if (waiting.get(key) === waits) waiting.delete(key)
    })
    server.emit("connection", raw)
  }
}

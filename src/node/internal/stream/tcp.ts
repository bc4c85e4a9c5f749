/** What both ends do to a Node stream that `effect/socket` leaves out. */
import type * as Net from "node:net"
import type { Duplex } from "node:stream"

export const noop = (): void => {}

// Linux takes at most this many seconds for TCP_KEEPIDLE and refuses the option beyond
const longestKeepAlive = 32_767_000

/** The keep-alive and Nagle settings as `net` wants them. 0 milliseconds leave keep-alive off. */
export const tcpOptions = (
  keepAlive: number,
  noDelay: boolean
): { readonly keepAlive: boolean; readonly keepAliveInitialDelay: number; readonly noDelay: boolean } => ({
  keepAlive: keepAlive > 0,
  keepAliveInitialDelay: Math.min(Math.max(keepAlive, 1000), longestKeepAlive),
  noDelay
})

/** Sets them on a socket that was made without them (TLS and WebSocket clients). */
export const setTcpOptions = (conn: Net.Socket, options: ReturnType<typeof tcpOptions>): void => {
  conn.setNoDelay(options.noDelay)
  if (options.keepAlive) conn.setKeepAlive(true, options.keepAliveInitialDelay)
}

/**
 * Ends our side of a connection that is no longer read, without taking our last bytes away from the peer.
 *
 * Closing a socket with unread input sends RST, and a peer that gets one may drop what it received from us and has not
 * read yet (RFC 1122, 4.2.2.13). So: flush, FIN, discard what still comes, and destroy at the peer's FIN or after
 * `limit` milliseconds. The timer does not keep the process alive; the socket does while it lingers.
 */
export const linger = (conn: Duplex, limit: number): void => {
  if (conn.destroyed) return
  if (conn.listenerCount("error") === 0) conn.on("error", noop)
  if (!conn.writableEnded) conn.end()
  // a FIN needs no wait, and a stream with both sides ended destroys itself; TLS has last words of its own
  if (conn.readableEnded && conn.writableLength === 0 && !("encrypted" in conn)) return
  const timer = setTimeout(() => conn.destroy(), limit)
  timer.unref()
  conn.once("close", () => clearTimeout(timer))
  // a stream with both sides ended destroys itself
  conn.on("data", noop)
  conn.resume()
}

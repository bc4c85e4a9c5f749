/** What both ends do to a Node stream that `effect/socket` leaves out. */
import * as Duration from "effect/Duration"
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import { release } from "../../../internal/bytes/memory.ts"
import type { Policy } from "../../../Policy.ts"
import { claimMemory } from "./duplex.ts"
import { startReading, stopReading } from "./handle.ts"

export const noop = (): void => {}

// what Linux takes for TCP_KEEPIDLE and TCP_KEEPINTVL, and for TCP_KEEPCNT; it refuses the options beyond
const mostSeconds = 32_767
const mostProbes = 127

/** The keep-alive and Nagle settings of a TCP connection, as the kernel can have them. */
export interface Tcp {
  readonly noDelay: boolean
  readonly keepAlive: boolean
  /** In milliseconds of whole seconds. */
  readonly keepAliveInitialDelay: number
  /** In milliseconds of whole seconds. */
  readonly keepAliveInterval: number
  readonly keepAliveCount: number
}

const wholeSeconds = (duration: Duration.Duration): number =>
  1000 * Math.min(Math.max(Math.ceil(Duration.toSeconds(duration)), 1), mostSeconds)

/** What a policy says of TCP. */
export const tcpOf = ({ keepAlive, keepAliveCount, keepAliveInterval, noDelay }: Policy): Tcp => ({
  noDelay,
  keepAlive: Duration.isFinite(keepAlive) && !Duration.isZero(keepAlive),
  keepAliveInitialDelay: wholeSeconds(keepAlive),
  keepAliveInterval: wholeSeconds(keepAliveInterval),
  keepAliveCount: Math.min(keepAliveCount, mostProbes)
})

/** Whether this Node sets the interval and the count of keep-alive probes. libuv has 1 s and 10 for the others. */
export const setsProbes = Net.Socket.prototype.setKeepAlive.length >= 4

/** Sets them on a connection. */
export const setTcp = (conn: Net.Socket, tcp: Tcp): void => {
  conn.setNoDelay(tcp.noDelay)
  if (tcp.keepAlive) {
    conn.setKeepAlive(true, tcp.keepAliveInitialDelay, tcp.keepAliveInterval, tcp.keepAliveCount)
  }
}

// how long a read is put off that discards what still comes
const pauseBetween = 2

/**
 * Discards what comes, a read at a time: libuv goes on reading as long as a peer goes on sending, up to 2 MiB in each turn of the
 * event loop, and other connections would wait for that. Between reads nothing is kept, nor left to be collected: thousands of
 * connections may linger.
 */
function discard(this: Duplex, chunk: Uint8Array): void {
  claimMemory(this, chunk)
  release(chunk)
  this.pause()
  stopReading(this)
  // a socket that is paused does not keep the process alive
  setTimeout(() => {
    startReading(this)
    this.resume()
  }, pauseBetween)
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
  conn.on("data", discard)
  conn.resume()
}

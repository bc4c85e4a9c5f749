/** What both ends do to a Node stream that `effect/socket` leaves out. */
import * as Socket from "effect/socket/Socket"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"

export const noop = (): void => {}

export type Chunk = Uint8Array | string

export const writeError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause }) })

interface Handle {
  readonly writeQueueSize?: number
  /** The TCP handle below a TLS one. */
  readonly _parent?: { readonly writeQueueSize?: number } | null
}

interface Internals {
  readonly _handle?: Handle | null
  readonly _writableState?: { readonly writelen?: number }
}

/**
 * Bytes given to a stream which the kernel has not taken.
 *
 * Measured on Node 24 with a slow reader and one 8 MiB write:
 * - `writableLength` stays at 8 MiB until the last byte is gone and then drops to 0, so alone it cannot tell slow from
 *   stalled;
 * - libuv's `writeQueueSize` of a TCP or Unix handle shrinks with every partial write, but knows nothing of what waits
 *   behind the write in progress;
 * - of a TLS handle `writeQueueSize` only grows, the one that shrinks is that of the TCP handle below it.
 *
 * So: what Node has not passed on yet (`writableLength` less the write in progress) and what libuv still has of that
 * write. The three fields are internal to Node; where they are missing this is `writableLength`.
 *
 * The kernel reports room only after a third of its send buffer is free, so this falls in steps of up to a third of
 * that buffer: more than 1 MiB on Linux loopback, tens to hundreds of KiB between machines.
 */
export const unsent = (conn: Duplex): number => {
  if (conn.writableLength === 0) return 0
  const { _handle: handle, _writableState: state } = conn as Duplex & Internals
  const queued = handle?._parent?.writeQueueSize ?? handle?.writeQueueSize
  return queued === undefined || state?.writelen === undefined
    ? conn.writableLength
    : conn.writableLength - state.writelen + queued
}

/** Whether a stream takes all of it and is still below the mark above which it wants to be waited for. */
const hasRoom = (conn: Duplex, chunks: ReadonlyArray<Chunk>): boolean => {
  if (!conn.writable) return false
  let size = conn.writableLength
  for (const chunk of chunks) size += typeof chunk === "string" ? chunk.length * 3 : chunk.byteLength
  return size < conn.writableHighWaterMark
}

/**
 * `Transport.writeNow` of a stream, or of what writes to it: as long as what the stream holds stays below the mark above
 * which it wants to be waited for.
 */
export const writeNow = (
  conn: Duplex,
  chunks: ReadonlyArray<Chunk>,
  write: (chunk: Chunk) => void = (chunk) => conn.write(chunk)
): boolean => {
  if (!hasRoom(conn, chunks)) return false
  if (chunks.length > 1) conn.cork()
  try {
    for (const chunk of chunks) write(chunk)
  } finally {
    if (chunks.length > 1) conn.uncork()
  }
  // a write that failed at once is reported by the next write
  return conn.errored === null
}

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

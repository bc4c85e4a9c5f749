/** What a Node stream does not say of the handle below it: names internal to Node, which may be missing. */
import * as Net from "node:net"
import type { Duplex } from "node:stream"

/** Ends a stream at once. Its peer is told by a reset where there is TCP below, and what was not taken is gone. */
export const drop = (conn: Duplex): void => {
  const below = "encrypted" in conn ? (conn as Duplex & NodeStream)._parent : conn
  // a Unix socket has no port, and knows no reset
  if (below instanceof Net.Socket && below.remotePort !== undefined) below.resetAndDestroy()
  conn.destroy()
}

// what starts a handle whose reading is stopped
const start = Symbol("holdfast/start")

interface LibuvHandle {
  reading?: boolean
  readonly readStop?: () => number
  readStart?: () => number
  [start]?: (() => number) | undefined
  readonly writeQueueSize?: number
  /** The TCP handle below a TLS one. */
  readonly _parent?: { readonly writeQueueSize?: number } | null
}

export interface NodeStream {
  /** What TLS runs on. */
  readonly _parent?: Duplex | null
  readonly _handle?: LibuvHandle | null
  readonly _writableState?: { readonly writelen?: number }
}

const readNothing = (): number => 0

/**
 * A stream that is paused has libuv read until its buffer is full: this keeps it from that, where it can. After each
 * event, and after each record of TLS, a stream asks for more in the next tick, paused or not: it is given nothing until
 * `startReading`. Internal to Node, as are its names.
 */
export const stopReading = (conn: Duplex): void => {
  const { _handle: handle } = conn as Duplex & NodeStream
  if (handle?.readStop === undefined || handle.readStart === undefined) return
  if (handle[start] === undefined) {
    handle[start] = handle.readStart
    handle.readStart = readNothing
  }
  handle.reading = false
  handle.readStop()
}

export const startReading = (conn: Duplex): void => {
  const { _handle: handle } = conn as Duplex & NodeStream
  if (handle?.[start] === undefined) return
  handle.readStart = handle[start]
  handle[start] = undefined
  handle.reading = true
  handle.readStart()
}

/** What a peer pipelines, as small reads: a parser makes requests of all that it is given, and a read of 64 KiB may be thousands. */
import type * as Net from "node:net"
import { noop } from "../stream/tcp.ts"

// a few requests, and a body of a megabyte in a thousand calls of the parser
const slice = 1024

/**
 * Has a connection of Node's HTTP server read in slices from now on: one that is paused between two of them parses no further.
 *
 * Node's parser reads from the socket by itself, all that a read brings, until there is another listener for data.
 */
export const readInSlices = (conn: Net.Socket): void => {
  conn.on("data", noop)
  conn.off("data", noop)
  const push = conn.push.bind(conn)
  conn.push = (chunk: unknown, encoding?: BufferEncoding) => {
    if (!(chunk instanceof Uint8Array) || chunk.length <= slice) return push(chunk, encoding)
    let goesOn = true
    for (let at = 0; at < chunk.length; at += slice) goesOn = push(chunk.subarray(at, at + slice))
    return goesOn
  }
}

/** What an HTTP server reads, in slices: a parser makes requests of all that it is given, and 64 KiB may be two thousand of them. */
import type * as Net from "node:net"

// a few requests; and of a body
const least = 1024
const most = 16 * 1024

const parsing = Symbol("holdfast/parsing")
type Parsed = Net.Socket & { [parsing]?: (slice: Uint8Array) => void }

/**
 * Has a connection of Node's HTTP server parse what it reads in slices: one that is paused between two of them parses no further.
 * `requests` counts those that have begun. While none begins, slices become larger: they are a body. `parsed` is called behind
 * each slice.
 *
 * Node's parser reads from the socket by itself, all that a read brings, until there is another listener for data: call this
 * once Node's server has the connection.
 */
export const readInSlices = (
  conn: Net.Socket,
  requests: () => number,
  parsed: (slice: Uint8Array) => void
): void => {
  const known: Parsed = conn
  known[parsing] = parsed
  conn.on("data", parsed)
  const push = conn.push.bind(conn)
  let slice = least
  conn.push = (chunk: unknown, encoding?: BufferEncoding) => {
    if (!(chunk instanceof Uint8Array)) return push(chunk, encoding)
    let goesOn = true
    for (let at = 0; at < chunk.length;) {
      const before = requests()
      const to = at + slice
      goesOn = push(at === 0 && to >= chunk.length ? chunk : chunk.subarray(at, to))
      at = to
      // what is paused is parsed later
      slice = conn.isPaused() || requests() > before ? least : Math.min(2 * slice, most)
    }
    return goesOn
  }
}

/** What is read from now on is for another protocol. */
export const readWhole = (conn: Net.Socket): void => {
  const parsed = (conn as Parsed)[parsing]
  if (parsed !== undefined) conn.off("data", parsed)
  Reflect.deleteProperty(conn, "push")
}

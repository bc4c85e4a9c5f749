/** Node's HTTP server, with the deadlines of a policy, and with responses that tell their connection. */
import * as Http from "node:http"
import type * as Net from "node:net"
import type { HttpConnection } from "./connection.ts"
import { checkEvery, type Prepared } from "./settings.ts"

type Done = (error: Error | null | undefined) => void
type Find = (conn: Net.Socket) => HttpConnection | undefined

/**
 * Responses that tell their connection when they have it, what they write, and when they are done; two listeners a
 * request would cost several times as much.
 */
const responses = (find: Find): typeof Http.ServerResponse =>
  class<R extends Http.IncomingMessage> extends Http.ServerResponse<R> {
    override assignSocket(conn: Net.Socket): void {
      // before what was written already is flushed
      find(conn)?.begin(this)
      super.assignSocket(conn)
    }
    override detachSocket(conn: Net.Socket): void {
      super.detachSocket(conn)
      find(conn)?.answered(this)
    }
    override write(chunk: unknown, encoding?: BufferEncoding | Done, done?: Done): boolean {
      // Node tells them apart
      const goesOn = super.write(chunk, encoding as BufferEncoding, done)
      find(this.req.socket)?.pipeline.wrote()
      return goesOn
    }
    override end(chunk?: unknown, encoding?: unknown, done?: () => void): this {
      super.end(chunk, encoding as BufferEncoding, done)
      find(this.req.socket)?.pipeline.wrote()
      return this
    }
  }

/** A server that does not listen yet, also of connections with TLS, which are secured before it gets them. `find` tells which connection a socket is. */
export const serverOf = ({ settings }: Prepared, find: Find): Http.Server => {
  const { frame, handshake, idle, policy } = settings
  const options = {
    noDelay: policy.noDelay,
    headersTimeout: frame === 0 ? handshake : Math.min(handshake, frame),
    requestTimeout: frame,
    keepAliveTimeout: idle,
    connectionsCheckingInterval: checkEvery(settings),
    maxHeaderSize: policy.maxHeader,
    ServerResponse: responses(find)
  }
  const server = Http.createServer(options)
  server.maxRequestsPerSocket = policy.maxRequests
  return server
}

/** A socket that is connected already: a listener hands it to a server, and a connection attaches to it, without a fiber. */
import type * as Context from "effect/Context"
import type * as Socket from "effect/socket/Socket"
import type { Transport } from "./transport.ts"

/**
 * A transport that is connected already. What a socket's reader and writer do in a scope needs no effect here, which is
 * half of what it costs to take a connection: the listener hands it to the server in the event that brings it, and the
 * connection attaches to it and lets it go, in one step each. A `SocketServer` or a `Socket` that is not ours goes the long
 * way, with the same tests.
 */
export interface Attachable extends Transport {
  /** Begins to read, or says why it cannot. */
  readonly attach: () => Socket.SocketError | undefined
  /** Reads no more; flushes and closes in the background. */
  readonly detach: () => void
  readonly pull: Socket.Reader["pull"]
  readonly write: Socket.Writer["write"]
  readonly writeAll: Socket.Writer["writeAll"]
}

/** Not of a socket that wraps one: its reader is another one. */
export const attachable = (socket: Socket.Socket, transport: Transport): Attachable | undefined =>
  "attach" in transport && (transport as unknown) === socket ? transport as Attachable : undefined

/**
 * A handler of sockets that can be called for one which is there, instead of being run in a fiber made for it: it makes
 * its own. `done` is called once, when the socket has an owner, or will not be read any more.
 */
export const Direct = "~holdfast/Direct"
/** The one path whose WebSockets a handler is for; without it, those of all paths. */
export const OnPath = "~holdfast/OnPath"
export interface Directly {
  readonly [OnPath]?: string
  readonly [Direct]?: (socket: Socket.Socket, context: Context.Context<never>, done: () => void) => void
}

/** What is known of a transport beyond what `effect/socket` says. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Context from "effect/Context"
import * as Socket from "effect/socket/Socket"

export const TypeId = "~holdfast/Transport"

/**
 * What is known of a transport beyond reading and writing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transport {
  /** One transport message is one frame (WebSocket): only the payload half of a codec applies. */
  readonly messages: boolean
  /** Our end, as text: `127.0.0.1:7000`, `/run/app.sock`. */
  readonly local?: string | undefined
  /** The peer's end, as text. */
  readonly remote?: string | undefined
  /**
   * Bytes taken by the transport which the kernel has not taken yet. It shrinks while the peer takes our bytes, which is
   * how a slow writer is told from a stalled one in the middle of a large write.
   */
  readonly unsent?: (() => number) | undefined
  /**
   * Writes all of it at once when the transport takes it without making anybody wait. False: nothing was written, and the
   * socket's writer has to do it, or to say why it cannot. A write without a fiber is what makes small messages cheap.
   */
  readonly writeNow?: ((chunks: NonEmptyReadonlyArray<Uint8Array | string>) => boolean) | undefined
  /**
   * Offers everything that is read to `take` as it comes. True: it was taken. False, as always while no pull waits: the next
   * pull gets it. A read without a fiber, as `writeNow` is a write without one.
   */
  readonly onRead?: ((take: (chunk: Uint8Array | string) => boolean) => void) | undefined
}

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

const stream: Transport = { messages: false }

/**
 * Adds what is known of a transport to its socket.
 *
 * @category transport
 * @since 0.1.0
 */
export const describe = (socket: Socket.Socket, transport: Transport): Socket.Socket =>
  Object.assign(Socket.make(socket), { [TypeId]: transport })

/** What is known of a socket; a socket nobody described is a byte stream. */
export const transportOf = (socket: Socket.Socket): Transport =>
  (socket as Socket.Socket & { readonly [TypeId]?: Transport })[TypeId] ?? stream

/**
 * A handler of sockets that can be called for one which is there, instead of being run in a fiber made for it: it makes
 * its own. `done` is called once, when the socket has an owner or nobody will read it any more.
 */
export const Direct = "~holdfast/Direct"
export interface Directly {
  readonly [Direct]?: (socket: Socket.Socket, context: Context.Context<never>, done: () => void) => void
}

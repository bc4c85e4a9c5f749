/** What is known of a transport beyond what `effect/socket` says. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Socket from "effect/socket/Socket"
import type { Compression } from "./compression.ts"

export const TypeId = "~holdfast/Transport"

/**
 * A WebSocket whose upgrade is done, over a stream of bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface WebSocketLink {
  /** The peer of a server masks its frames, and so does a client. */
  readonly role: "server" | "client"
  /** What the frames travel on. */
  readonly stream: Socket.Socket
  /**
   * Four bytes that the peer cannot foretell, as one number, for each frame of a client (RFC 6455, 5.3): one function for all
   * links of a kind. A server has none.
   */
  readonly maskKey: (() => number) | undefined
  /** What the upgrade came to about compression, once it is done; without it nothing is compressed. */
  readonly compression?: (() => Compression | undefined) | undefined
}

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
  /** Bytes that the transport has read and no pull has taken. */
  readonly unread?: (() => number) | undefined
  /** Reads nothing more, until the next pull: the kernel keeps what comes. */
  readonly pause?: (() => void) | undefined
  /** Reads on, for a pull that waited before the pause. */
  readonly resume?: (() => void) | undefined
  /** Lets go of what the kernel has not taken, and ends. */
  readonly drop?: (() => void) | undefined
  /**
   * Writes all of it at once when the transport takes it without a wait. False: nothing was written, and the
   * socket's writer has to do it, or to say why it cannot. A write without a fiber is what makes small messages cheap.
   */
  readonly writeNow?: ((chunks: NonEmptyReadonlyArray<Uint8Array | string>) => boolean) | undefined
  /**
   * Offers everything that is read to `take` as it comes. True: it was taken. False, as always while no pull waits: the next
   * pull gets it. A read without a fiber, as `writeNow` is a write without one.
   */
  readonly onRead?: ((take: (chunk: Uint8Array | string) => boolean) => void) | undefined
  /**
   * Why the connection is broken, as far as that shows without reading or sending anything; asked now and then while nothing is
   * read. A reset, or a link that the kernel has given up, then does not wait for the next read.
   */
  readonly fault?: (() => Socket.SocketError | undefined) | undefined
  /**
   * The transport keeps messages apart by the frames of a WebSocket, which the connection reads and writes itself: it hears
   * each byte, sees pings, and answers what came before a close frame. The socket's own reader and writer are not used then.
   */
  readonly webSocket?: WebSocketLink | undefined
}

const stream: Transport = { messages: false }

/**
 * Adds what is known of a transport to its socket.
 *
 * @category transport
 * @since 0.1.0
 */
export const describe = (socket: Socket.Socket, transport: Transport): Socket.Socket =>
  Object.assign(Socket.make(socket), { [TypeId]: transport })

/** What is known of a socket; a socket without a description is a byte stream. */
export const transportOf = (socket: Socket.Socket): Transport =>
  (socket as Socket.Socket & { readonly [TypeId]?: Transport })[TypeId] ?? stream

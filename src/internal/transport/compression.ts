/** What both ends of a WebSocket agreed to in permessage-deflate (RFC 7692), and what each keeps of earlier messages. */

/**
 * How the messages of a WebSocket are compressed. It holds nothing of a connection, so that all that agreed to the same share one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Compression {
  /** A message of fewer bytes leaves as it is. */
  readonly threshold: number
  /** Bytes of our earlier messages that the peer keeps, and that the next one may refer to. 0: none. */
  readonly sentContext: number
  /** The same of the peer's messages, for us to keep. */
  readonly receivedContext: number
  /** Compresses a message that follows a context; undefined where that makes it no shorter. */
  readonly deflate: (message: Uint8Array, context: Uint8Array) => Uint8Array | undefined
  /**
   * The message that compressed bytes stand for: undefined as soon as it is longer than `limit`, and a sentence where they stand for
   * none.
   */
  readonly inflate: (compressed: Uint8Array, context: Uint8Array, limit: number) => Uint8Array | string | undefined
}

const empty = new Uint8Array(0)

/** The end of what one side has sent compressed, as long as a window. */
export class CompressionContext {
  private readonly size: number
  bytes: Uint8Array = empty

  constructor(size: number) {
    this.size = size
  }

  /** Keeps the end of it, as a copy: a message belongs to the application. */
  add(message: Uint8Array): void {
    const { bytes, size } = this
    if (size === 0 || message.length === 0) return
    if (message.length >= size) {
      this.bytes = message.slice(message.length - size)
      return
    }
    const kept = Math.min(bytes.length, size - message.length)
    const next = new Uint8Array(kept + message.length)
    next.set(bytes.subarray(bytes.length - kept))
    next.set(message, kept)
    this.bytes = next
  }
}

/** What a connection reads its messages with. */
import type * as ConnectionError from "../../../ConnectionError.ts"
import type { FrameTooLong } from "../../../ConnectionError.ts"
import type { Room } from "../../codec/room.ts"
import type { Control } from "../../webSocket/decoder.ts"

/** Reads the messages of one connection: a codec's, or those in the frames of a WebSocket. */
export interface StreamDecoder<in out In> {
  /**
   * Adds the messages that a chunk completes, as long as there is room, and says what the stream cannot go on after. Not called
   * while it has more.
   */
  readonly append: (chunk: Uint8Array | string, messages: Array<In>, room: Room) => ConnectionError.Reason | undefined
  /** Goes on with what has come. */
  readonly more: (messages: Array<In>, room: Room) => ConnectionError.Reason | undefined
  /** Whether something has come that there was no room for; and its bytes. */
  readonly hasMore: boolean
  readonly undecoded: number
  /** Bytes that have come of the unfinished message. */
  readonly pending: number
  /** Over-long messages that were passed over. */
  skipped: Array<FrameTooLong>
  readonly end: () => ConnectionError.Reason | undefined
  /** How many messages were complete so far, and what else may be unfinished; where it is not the messages that say so. */
  readonly completed?: number
  /** Of a WebSocket: takes the control frames that have come. */
  readonly takeControls?: () => ReadonlyArray<Control>
}

/** How much of what is decoded there is room for: messages by number, and by what they weigh in memory. */

/**
 * What a message weighs besides its bytes on the wire and the values in it: a view of bytes, or an object with two fields, and
 * its place in an array. Measured on Node 24: 112 bytes for a view, 24 to 72 for others.
 */
export const messageWeight = 128

/** The most that one message may weigh where no policy says so. */
export const defaultMaxDecoded = 4 * 1024 * 1024

/**
 * What a payload weighs the values of a message with, while it decodes them. `Codec.json` and `Codec.msgpack` do; a payload of an
 * application whose messages are small on the wire and large in memory may.
 *
 * @category models
 * @since 0.1.0
 */
export interface Scale {
  /** The most that the values of one message may weigh, in bytes; what weighs more is refused before it is decoded. */
  readonly most: number
  /** What the values of the message weigh besides its bytes on the wire: payloads add to it. */
  weight: number
}

const mebibytes = (bytes: number): string => `${Math.ceil(bytes * 10 / 2 ** 20) / 10} MiB`

/** Why a message is not decoded, and what to do. */
export const tooHeavy = (weight: number, most: number): string =>
  `it takes about ${mebibytes(weight)} of memory when it is decoded, and maxDecoded is ${mebibytes(most)}: ` +
  "send it in smaller messages, or raise the limit"

/** What an inbox has left; used up while a chunk is decoded. */
export class Room implements Scale {
  messages: number
  left: number
  most: number
  weight = 0
  /** What has been taken. */
  charged = 0
  /** Work that the bytes on the wire do not show, as bytes: messages that are inflated. A turn has its share of it. */
  work = 0

  constructor(messages = Infinity, left = Infinity, most = defaultMaxDecoded) {
    this.messages = messages
    this.left = left
    this.most = most
  }

  /** There is so much room now, and nothing of it is taken. */
  renew(messages: number, left: number, most: number): void {
    this.messages = messages
    this.left = left
    this.most = most
    this.weight = this.charged = this.work = 0
  }

  /** Whether one more message has to wait. */
  get isFull(): boolean {
    return this.messages <= 0 || this.left <= 0
  }

  /** How many messages there is room for, if they weigh nothing by themselves. */
  get count(): number {
    return Math.min(this.messages, Math.ceil(this.left / messageWeight))
  }

  /** Takes so many messages, with what their values weigh. */
  take(count: number): void {
    const charge = count * messageWeight + this.weight
    this.messages -= count
    this.left -= charge
    this.charged += charge
    this.weight = 0
  }
}

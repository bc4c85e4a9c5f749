/** Frames that start with their length as a number of fixed width. */
import * as Result from "effect/Result"
import { FrameTooLong } from "../../../ConnectionError.ts"
import type { Framing, FramingOptions } from "../framing.ts"
import { integer, oneOf, ours, tooLongOf } from "../framing.ts"
import { type Header, refuse, sized } from "./sized.ts"

/**
 * Where the length is and what it counts, with the meanings of Netty's `LengthFieldBasedFrameDecoder`.
 *
 * @category framing
 * @since 0.1.0
 */
export interface LengthPrefixOptions extends FramingOptions {
  /** Width of the length field in bytes. Default 4. */
  readonly bytes?: 1 | 2 | 3 | 4 | 8 | undefined
  /** Byte order of the length field. Default `"big"`. */
  readonly endian?: "big" | "little" | undefined
  /** Bytes before the length field. Default 0. */
  readonly offset?: number | undefined
  /**
   * What to add to the length to get the number of bytes after the length field. Default 0; minus the size of the
   * header when the length counts the header too.
   */
  readonly adjustment?: number | undefined
  /** How many bytes at the front of a frame are not part of the payload. Default: the header, `offset + bytes`. */
  readonly strip?: number | undefined
}

/** Where the length is, and what of the frame is payload. */
interface Layout {
  readonly width: number
  readonly big: boolean
  readonly offset: number
  readonly adjustment: number
  readonly size: number
  readonly strip: number
}

class LengthHeader implements Header {
  private readonly layout: Layout
  readonly most: number
  size: number
  body = 0
  strip: number
  invalid: string | undefined

  constructor(layout: Layout) {
    this.layout = layout
    this.most = layout.size
    this.size = layout.size
    this.strip = layout.strip
  }

  read(bytes: Uint8Array, pos: number, end: number): boolean {
    const { adjustment, big, offset, size, strip, width } = this.layout
    if (end - pos < size) return false
    const at = pos + offset
    let length = 0
    // not by shifts alone: they are 32 bits wide and signed
    if (width === 4 && big) {
      length = bytes[at] * 0x1000000 + ((bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3])
    } else {
      for (let i = 0; i < width; i++) length = length * 256 + bytes[big ? at + i : at + width - 1 - i]
    }
    this.body = length + adjustment
    if (this.body < 0) {
      this.invalid = `length ${length} with adjustment ${adjustment} ends before its header`
    } else if (size + this.body < strip) {
      this.invalid = `a frame of ${size + this.body} bytes has no ${strip} bytes to strip`
    }
    return true
  }
}

export const lengthPrefix = (options: LengthPrefixOptions): Framing => {
  const width: number = oneOf("bytes", options.bytes ?? 4, [1, 2, 3, 4, 8])
  const big = oneOf("endian", options.endian ?? "big", ["big", "little"]) === "big"
  const offset = integer("offset", options.offset ?? 0, 0)
  const adjustment = integer("adjustment", options.adjustment ?? 0, Number.MIN_SAFE_INTEGER)
  const size = offset + width
  const strip = integer("strip", options.strip ?? size, 0)
  const policy = tooLongOf(options)
  const layout: Layout = { width, big, offset, adjustment, size, strip }
  const most = 2 ** (8 * width) - 1
  // the usual one is written without a loop
  const plain = width === 4 && big && offset === 0 && strip <= size

  const encodeInto = (payload: Uint8Array, target: Uint8Array, at: number): void => {
    const rest = strip + payload.length - size - adjustment
    if (!plain) target.fill(0, at, at + strip)
    // a payload may hold its header, which is written over
    target.set(payload, at + strip)
    writeLength(rest, target, at)
  }

  const writeLength = (length: number, target: Uint8Array, at: number): void => {
    let rest = length
    if (plain) {
      target[at] = rest >>> 24
      target[at + 1] = rest >>> 16
      target[at + 2] = rest >>> 8
      target[at + 3] = rest
      return
    }
    for (let i = 0; i < width; i++) {
      target[at + (big ? size - 1 - i : offset + i)] = rest % 256
      rest = Math.floor(rest / 256)
    }
  }

  return ours({
    name: "lengthPrefix",
    skips: policy.skips,
    decoder(limit) {
      return sized(new LengthHeader(layout), limit, policy)
    },
    encode(payload) {
      const total = strip + payload.length
      const length = total - size - adjustment
      if (total < size) {
        return refuse(`a payload of ${payload.length} bytes does not hold the ${size - strip} of its header`)
      }
      if (length < 0) return refuse(`a payload of ${payload.length} bytes would announce a length of ${length}`)
      if (length > most) {
        const limit = most + size + adjustment - strip
        return Result.fail(new FrameTooLong({ direction: "encode", size: payload.length, limit }))
      }
      const frame = new Uint8Array(total)
      encodeInto(payload, frame, 0)
      return Result.succeed(frame)
    },
    encodedSize(payload) {
      const total = strip + payload.length
      const length = total - size - adjustment
      return total < size || length < 0 || length > most ? -1 : total
    },
    encodeInto,
    encodeHeader: strip < size
      ? undefined
      : (payload, target, at) => {
        // the target may hold old bytes
        if (!plain) target.fill(0, at, at + strip)
        writeLength(strip + payload.length - size - adjustment, target, at)
      }
  })
}

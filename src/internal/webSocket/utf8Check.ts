/** Finds out whether bytes that come in pieces are UTF-8, as soon as they are not. */
import { textOf } from "../bytes/utf8.ts"

const lowest = 0x80
const highest = 0xbf

// from so many bytes on the platform's decoder is faster, although the text that it makes is thrown away
const leastDecoded = 512

/** Where the last character of a piece begins, if it is not in the piece as a whole; mostly the end. */
const lastWhole = (bytes: Uint8Array, to: number): number => {
  for (let at = to - 1; at >= to - 3; at--) if (bytes[at]! >= 0xc0) return at
  return to
}

/** Holds state between the pieces of one text. */
export class Utf8Check {
  // bytes that the character which has begun still needs, and between what the next one has to be
  private needed = 0
  private low = lowest
  private high = highest

  /** Whether a text may end here: no character has begun. */
  get isComplete(): boolean {
    return this.needed === 0
  }

  /** Goes on with a piece; false as soon as no text can begin like this. */
  write(bytes: Uint8Array, from: number, to: number): boolean {
    let { high, low, needed } = this
    let i = from
    while (i < to) {
      if (needed === 0) {
        for (
          const last = to - 7;
          i < last &&
          (bytes[i]! | bytes[i + 1]! | bytes[i + 2]! | bytes[i + 3]! | bytes[i + 4]! | bytes[i + 5]! | bytes[i + 6]! |
              bytes[i + 7]!) < 0x80;
        ) {
          i += 8
        }
        if (i === to) break
        if (to - i >= leastDecoded) {
          const end = lastWhole(bytes, to)
          if (textOf(bytes.subarray(i, end)) === undefined) return false
          i = end
          continue
        }
        const byte = bytes[i++]!
        if (byte < 0x80) continue
        // 0xc0 and 0xc1 begin overlong forms; what 0xf5 begins is over U+10FFFF
        if (byte < 0xc2 || byte > 0xf4) return false
        needed = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3
        // overlong forms, surrogates, and what is over U+10FFFF
        if (byte === 0xe0) low = 0xa0
        else if (byte === 0xed) high = 0x9f
        else if (byte === 0xf0) low = 0x90
        else if (byte === 0xf4) high = 0x8f
      } else {
        const byte = bytes[i++]!
        if (byte < low || byte > high) return false
        low = lowest
        high = highest
        needed--
      }
    }
    this.needed = needed
    this.low = low
    this.high = high
    return true
  }
}

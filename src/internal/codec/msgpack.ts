/** Whether bytes are a MessagePack value that is safe to decode. */
import { textOf } from "../bytes/utf8.ts"

/** The depth at which `@msgpack/msgpack` stops to encode by default; decoding gets the same bound. */
export const maxDepth = 100

/** Bytes of the number after the heads 0xc0 to 0xdf: how much a bin, ext, str, array or map holds. */
const widths = [0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4]

/** Bytes after them that no number counts: a float, an integer, an extension of fixed size, the type of another. */
const fixed = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17]

/** Short text is mostly ASCII, and a `TextDecoder` call costs more than to see that. */
const short = 64

const isUtf8 = (bytes: Uint8Array, from: number, to: number): boolean => {
  let pos = from
  if (to - from <= short) { while (pos < to && bytes[pos] < 0x80) pos++ }
  return pos === to || textOf(bytes.subarray(pos, to)) !== undefined
}

/**
 * Why the bytes are no MessagePack value that is safe to decode, or undefined. The decoder allocates an array by its
 * announced length, so what is announced is first compared with what is there: each value needs at least a byte. It
 * makes some text of any bytes, so strings have to be UTF-8.
 */
export const checkMsgpack = (bytes: Uint8Array): string | undefined => {
  const end = bytes.length
  // per level, how many values are still to come
  const levels = [1]
  let waiting = 1
  let pos = 0
  while (waiting > 0) {
    if (pos >= end) return "it ends inside a value"
    const head = bytes[pos++]
    waiting--
    levels[levels.length - 1]--
    let children = 0
    let text = 0
    if (head >= 0x80 && head < 0xe0) {
      if (head < 0x90) children = 2 * (head & 0x0f)
      else if (head < 0xa0) children = head & 0x0f
      else if (head < 0xc0) text = head & 0x1f
      else {
        let size = 0
        for (let i = widths[head - 0xc0]; i > 0; i--) size = size * 256 + (bytes[pos++] ?? 0)
        if (head >= 0xde) children = 2 * size
        else if (head >= 0xdc) children = size
        else if (head >= 0xd9) text = size
        else pos += size + fixed[head - 0xc0]
      }
    }
    if (text > 0) {
      if (pos + text <= end && !isUtf8(bytes, pos, pos + text)) return "a string is not UTF-8"
      pos += text
    }
    if (children > 0) {
      waiting += children
      if (waiting > end - pos) return "it announces more values than it has bytes"
      if (levels.push(children) > maxDepth) return `it is more than ${maxDepth} levels deep`
    }
    while (levels.length > 1 && levels[levels.length - 1] === 0) levels.pop()
  }
  return pos > end ? "it ends inside a value" : undefined
}

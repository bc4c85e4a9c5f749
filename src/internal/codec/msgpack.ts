/** Whether bytes are a MessagePack value that is safe to decode. */
import { textOf, utf8 } from "../bytes/utf8.ts"
import { classAfter, hashed, indexOf, placesFor, takenBy, takenByClass } from "./keys.ts"
import { type Scale, tooHeavy } from "./room.ts"

/** The depth at which `@msgpack/msgpack` stops to encode by default; decoding gets the same bound. */
export const maxDepth = 100

/** A key that the library does not read. */
const proto = utf8("__proto__")

const isProto = (bytes: Uint8Array, at: number, size: number): boolean => {
  if (size !== proto.length) return false
  let same = 0
  while (same < size && bytes[at + same] === proto[same]) same++
  return same === size
}

/** Bytes of the number after the heads 0xc0 to 0xdf: how much a bin, ext, str, array or map holds. */
const widths = [0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4]

/** Bytes after them that no number counts: a float, an integer, an extension of fixed size, the type of another. */
const fixed = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17]

/** Bytes of memory for a map, an array, a string, bytes, an extension, a number of its own, and for the place of any of them. */
const weights = { map: 56, array: 32, string: 24, bytes: 104, extension: 144, number: 16, place: 8 } as const

/** What a value weighs besides its place, by its head from 0xc0 on: bin, ext, float, integers, fixext, str, array, map. */
const weightOf = Array.from({ length: 0x20 }, (_, i) => {
  const head = 0xc0 + i
  if (head < 0xc4) return 0
  if (head < 0xc7) return weights.bytes
  if (head < 0xca || (head >= 0xd4 && head < 0xd9)) return weights.extension
  if (head < 0xd4) return weights.number
  return head < 0xdc ? weights.string : head < 0xde ? weights.array : weights.map
})

/** Short text is mostly ASCII, and a `TextDecoder` call costs more than to see that. */
const short = 64

const isUtf8 = (bytes: Uint8Array, from: number, to: number): boolean => {
  let pos = from
  if (to - from <= short) { while (pos < to && bytes[pos] < 0x80) pos++ }
  return pos === to || textOf(bytes.subarray(pos, to)) !== undefined
}

/** The level is no map. */
const noMap = -1

// per level of a map, which class it has by its keys that are no indices, and how many these are
const classes = new Int32Array(maxDepth)
const named = new Int32Array(maxDepth)

/** Reads a number that is a key: where its head says that it is one. */
const numbers: Record<number, (view: DataView, at: number) => number> = {
  0xca: (view, at) => view.getFloat32(at),
  0xcb: (view, at) => view.getFloat64(at),
  0xcc: (view, at) => view.getUint8(at),
  0xcd: (view, at) => view.getUint16(at),
  0xce: (view, at) => view.getUint32(at),
  0xcf: (view, at) => Number(view.getBigUint64(at)),
  0xd0: (view, at) => view.getInt8(at),
  0xd1: (view, at) => view.getInt16(at),
  0xd2: (view, at) => view.getInt32(at),
  0xd3: (view, at) => Number(view.getBigInt64(at))
}

/** The array index that a key from `at` to `end` is, or -1: a number, or text of digits. */
const indexKey = (bytes: Uint8Array, head: number, at: number, end: number): number => {
  if (head < 0x80) return head
  // most keys are text that does not end in a digit
  if (head < 0xc0 && (end === at || bytes[end - 1]! > 0x39)) return -1
  if (end > bytes.length) return -1
  const read = numbers[head]
  if (read !== undefined) return indexOf(read(new DataView(bytes.buffer, bytes.byteOffset), at))
  return digits(bytes, at + (head < 0xc0 ? 0 : widths[head - 0xc0]!), end)
}

/** The array index that text is, or -1: up to 10 digits, the first of several not 0. */
const digits = (bytes: Uint8Array, from: number, end: number): number => {
  const size = end - from
  if (size < 1 || size > 10 || (size > 1 && bytes[from] === 0x30)) return -1
  let index = 0
  for (let at = from; at < end; at++) {
    const digit = bytes[at]! - 0x30
    if (digit < 0 || digit > 9) return -1
    index = index * 10 + digit
  }
  return indexOf(index)
}

/**
 * Why the bytes are no MessagePack value that is safe to decode, or undefined. The decoder allocates an array by its
 * announced length, so what is announced is first compared with what is there: each value needs at least a byte. It
 * makes some text of any bytes, so strings have to be UTF-8. And a value of one byte is an object of 64: they are weighed.
 */
export const checkMsgpack = (bytes: Uint8Array, scale?: Scale): string | undefined => {
  const end = bytes.length
  // per level, how many values are still to come; and of a map how many keys are indices, and the places for them
  const levels = [1]
  const indices = [noMap]
  const places = [0]
  let waiting = 1
  let pos = 0
  let weight = 0
  while (waiting > 0) {
    if (pos >= end) return "it ends inside a value"
    const head = bytes[pos++]
    const start = pos
    const level = levels.length - 1
    const isKey = indices[level] !== noMap && (levels[level]! & 1) === 0
    waiting--
    weight += weights.place
    levels[level]--
    let children = 0
    let isMap = false
    let text = 0
    if (head >= 0x80 && head < 0xe0) {
      if (head < 0x90) {
        children = 2 * (head & 0x0f)
        isMap = true
        weight += weights.map
      } else if (head < 0xa0) {
        children = head & 0x0f
        weight += weights.array
      } else if (head < 0xc0) {
        text = head & 0x1f
        weight += weights.string
      } else {
        weight += weightOf[head - 0xc0]!
        let size = 0
        for (let i = widths[head - 0xc0]; i > 0; i--) size = size * 256 + (bytes[pos++] ?? 0)
        if (head >= 0xde) {
          children = 2 * size
          isMap = true
        } else if (head >= 0xdc) children = size
        else if (head >= 0xd9) text = size
        else pos += size + fixed[head - 0xc0]
      }
    }
    if (text > 0) {
      if (pos + text <= end && !isUtf8(bytes, pos, pos + text)) return "a string is not UTF-8"
      if (isKey && isProto(bytes, pos, text)) return "a key is __proto__"
      pos += text
    }
    if (isKey) {
      const index = indexKey(bytes, head, start, pos)
      if (index >= 0) {
        const used = ++indices[level]!
        const before = places[level]!
        const after = places[level] = placesFor(index, before, used)
        weight += takenBy(used, after) - takenBy(used - 1, before)
      } else if (pos <= end) {
        let key = 0
        for (let at = start; at < pos; at++) key = hashed(key, bytes[at]!)
        const before = classes[level]!
        const after = classes[level] = classAfter(before, key)
        weight += takenByClass(before, after, named[level]!++)
      }
    }
    if (children > 0) {
      waiting += children
      if (waiting > end - pos) return "it announces more values than it has bytes"
      if (levels.push(children) > maxDepth) return `it is more than ${maxDepth} levels deep`
      indices.push(isMap ? 0 : noMap)
      places.push(0)
      classes[levels.length - 1] = named[levels.length - 1] = 0
    }
    while (levels.length > 1 && levels[levels.length - 1] === 0) {
      levels.pop()
      indices.pop()
      places.pop()
    }
  }
  if (pos > end) return "it ends inside a value"
  if (scale === undefined) return undefined
  if (weight > scale.most) return tooHeavy(weight, scale.most)
  scale.weight += weight
  return undefined
}

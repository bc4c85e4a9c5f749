/** The parts of a WebSocket frame: opcodes, headers, masks (RFC 6455, 5.2 and 5.3). */

/** What a frame is. Those from 8 on are control frames. */
export const Opcode = {
  continuation: 0,
  text: 1,
  binary: 2,
  close: 8,
  ping: 9,
  pong: 10
} as const

/** The bits of the first byte besides the opcode. */
export const FIN = 0x80
export const RSV1 = 0x40
export const reservedBits = 0x70

/** The bit of the second byte that says that a masking key follows. */
export const MASK = 0x80

/** Bytes of the longest header. */
export const longestHeader = 14

/** The most bytes that the payload of a control frame may have (RFC 6455, 5.5). */
export const longestControl = 125

/** Bytes of the header in front of a payload of so many bytes. */
export const headerSize = (length: number, isMasked: boolean): number =>
  (length <= 125 ? 2 : length <= 0xffff ? 4 : 10) + (isMasked ? 4 : 0)

/**
 * Writes a header into `target` from `at`, and returns where it ends. `first` is the whole first byte: `FIN`, `RSV1` and the
 * opcode. `key` is the masking key as a number of 32 bits, the first byte on the wire highest; without one the frame is not
 * masked.
 */
export const writeHeader = (
  target: Uint8Array,
  at: number,
  first: number,
  length: number,
  key?: number
): number => {
  const bit = key === undefined ? 0 : MASK
  let next = at + 2
  target[at] = first
  if (length <= 125) target[at + 1] = bit | length
  else if (length <= 0xffff) {
    target[at + 1] = bit | 126
    target[at + 2] = length >>> 8
    target[at + 3] = length
    next = at + 4
  } else {
    target[at + 1] = bit | 127
    // shifts are 32 bits wide
    const high = Math.floor(length / 0x1_0000_0000)
    writeWord(target, at + 2, high)
    writeWord(target, at + 6, length)
    next = at + 10
  }
  if (key === undefined) return next
  writeWord(target, next, key)
  return next + 4
}

const writeWord = (target: Uint8Array, at: number, word: number): void => {
  target[at] = word >>> 24
  target[at + 1] = word >>> 16
  target[at + 2] = word >>> 8
  target[at + 3] = word
}

/** Reads 32 bits. The result may be negative. */
export const readWord = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!

// ---------------------------------------------------------------------------------------------------------------------
// masks
// ---------------------------------------------------------------------------------------------------------------------

const isLittle = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1

// a view of words costs about as much as so many bytes one by one
const leastWords = 128

/** The key for the bytes after the first `n`. */
export const advanceKey = (key: number, n: number): number => {
  const bits = (n & 3) << 3
  return bits === 0 ? key : (key << bits) | (key >>> (32 - bits))
}

const maskBytes = (
  source: Uint8Array,
  from: number,
  to: number,
  target: Uint8Array,
  at: number,
  key: number
): void => {
  const k0 = key >>> 24
  const k1 = (key >>> 16) & 0xff
  const k2 = (key >>> 8) & 0xff
  const k3 = key & 0xff
  let i = from
  let j = at
  for (const last = to - 3; i < last; i += 4, j += 4) {
    target[j] = source[i]! ^ k0
    target[j + 1] = source[i + 1]! ^ k1
    target[j + 2] = source[i + 2]! ^ k2
    target[j + 3] = source[i + 3]! ^ k3
  }
  if (i < to) target[j] = source[i]! ^ k0
  if (i + 1 < to) target[j + 1] = source[i + 1]! ^ k1
  if (i + 2 < to) target[j + 2] = source[i + 2]! ^ k2
}

/** Masks or unmasks `bytes` from `from` to `to` where they are. */
export const mask = (bytes: Uint8Array, from: number, to: number, key: number): void => {
  if (key === 0) return
  if (to - from < leastWords) return maskBytes(bytes, from, to, bytes, from, key)
  const start = bytes.byteOffset + from
  const lead = -start & 3
  if (lead > 0) maskBytes(bytes, from, from + lead, bytes, from, key)
  const wire = advanceKey(key, lead)
  const word = isLittle
    ? (wire >>> 24) | ((wire >>> 8) & 0xff00) | ((wire << 8) & 0xff0000) | (wire << 24)
    : wire
  const count = (to - from - lead) >>> 2
  const words = new Int32Array(bytes.buffer, start + lead, count)
  let i = 0
  for (const last = count - 3; i < last; i += 4) {
    words[i] = words[i]! ^ word
    words[i + 1] = words[i + 1]! ^ word
    words[i + 2] = words[i + 2]! ^ word
    words[i + 3] = words[i + 3]! ^ word
  }
  for (; i < count; i++) words[i] = words[i]! ^ word
  const rest = from + lead + 4 * count
  if (rest < to) maskBytes(bytes, rest, to, bytes, rest, wire)
}

/** Writes `source` from `from` to `to` into `target` from `at`, masked or unmasked. The source stays as it is. */
export const maskInto = (
  source: Uint8Array,
  from: number,
  to: number,
  target: Uint8Array,
  at: number,
  key: number
): void => {
  if (to - from < leastWords) return maskBytes(source, from, to, target, at, key)
  target.set(source.subarray(from, to), at)
  mask(target, at, at + to - from, key)
}

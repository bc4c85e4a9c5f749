/** What JSON text comes to before it is parsed: how deep its values are nested, and what they weigh. */
import { classAfter, hashed, mostListed, takenByClass } from "./keys.ts"
import { maxDepth } from "./msgpack.ts"

const quote = 0x22
const backslash = 0x5c
// with this bit set, `[` is `{` and `]` is `}`
const curly = 0x20
const opens = 0x7b
const closes = 0x7d
const square = 0x5b
const comma = 0x2c
const colon = 0x3a

/** What one character comes to at most: `{"1":{"1":1}}` has 146 bytes for six. Measured on Node 24. */
const mostWeight = 25

/** What a key that is an array index comes to: it is an entry of a dictionary, or a place among mostly empty ones. */
const indexWeight = 72

/** Whether a text in quotes may be an array index. */
const isIndex = (text: string, from: number, at: number): boolean => {
  const first = text.charCodeAt(from + 1)
  return first >= 0x30 && first <= 0x39 && at - from <= 11
}

/** A key of a dictionary, with the free entries between. */
const entryWeight = 56

/** A number that is no small integer, by itself. */
const boxWeight = 16

/** What a character is counted as where it is not looked at, in a text of few objects and arrays. */
const usualWeight = 5

/** Objects and arrays with so many characters each weigh no more than that. */
const sparse = 32

/** Whether a character is there more than `maxDepth / 2` times: `indexOf` passes over text many times as fast as a loop. */
const hasMany = (text: string, char: string): boolean => {
  let at = -1
  for (let seen = 0; seen <= maxDepth / 2; seen++) {
    at = text.indexOf(char, at + 1)
    if (at < 0) return false
  }
  return true
}

/** Whether arrays and objects lie in each other more than `maxDepth` deep. Text that is no JSON may be either. */
export const isTooDeep = (text: string): boolean => {
  // nothing shorter, and nothing with few brackets, is that deep
  if (text.length <= 2 * maxDepth || !(hasMany(text, "[") || hasMany(text, "{"))) return false
  const end = text.length
  let depth = 0
  for (let at = 0; at < end; at++) {
    const char = text.charCodeAt(at)
    if (char === quote) {
      let inside = 0
      while (++at < end && (inside = text.charCodeAt(at)) !== quote) if (inside === backslash) at++
    } else if ((char | curly) === opens) {
      if (++depth > maxDepth) return true
    } else if ((char | curly) === closes) depth--
  }
  return false
}

// what is open around a character: objects by their class so far, arrays by what of them is boxed if not all are numbers
const levels = 256
const classes = new Int32Array(levels)
const keys = new Int32Array(levels)
const boxes = new Int32Array(levels)
const isMixed = new Uint8Array(levels)
const isArray = new Uint8Array(levels)

const zero = 0x30
const nine = 0x39
const minus = 0x2d
const letterA = 0x61

/** Whether a number that this character follows is an integer: neither a point nor an exponent. */
const isWhole = (char: number): boolean => char !== 0x2e && (char | 0x20) !== 0x65

/** Where a number ends whose first digit is at `at`: negative where it does not fit into the place of a value. */
const numberEnd = (text: string, from: number): number => {
  let at = from
  let char = text.charCodeAt(at)
  while (char >= zero && char <= nine) char = text.charCodeAt(++at)
  const digits = at - from
  if (isWhole(char)) return digits < 10 ? at - 1 : 1 - at
  while ((char >= 0x2b && char <= nine && char !== comma) || (char | 0x20) === 0x65) char = text.charCodeAt(++at)
  return 1 - at
}

/** What the next key of the object at a level comes to, besides its text and the place of its value. */
const takenByKey = (text: string, from: number, to: number, level: number): number => {
  const others = keys[level]!++
  // a dictionary takes all that were there before
  if (others >= mostListed) return others === mostListed ? (mostListed + 1) * entryWeight : entryWeight
  let key = 0
  for (let at = from; at < to; at++) key = hashed(key, text.charCodeAt(at))
  const before = classes[level]!
  const after = classes[level] = classAfter(before, key)
  return takenByClass(before, after, others)
}

const opened = (level: number, array: number): void => {
  isArray[level] = array
  isMixed[level] = 0
  boxes[level] = 0
  keys[level] = 0
  classes[level] = 0
}

/** What the values weigh: 64 bytes for an object, 48 for an array, 8 for the place of each value, and what its keys come to. */
const weightOf = (text: string): number => {
  const end = text.length
  let weight = 0
  let last = 0
  let lastEnd = 0
  let level = 0
  opened(0, 0)
  for (let at = 0; at < end; at++) {
    const char = text.charCodeAt(at)
    if (char === quote) {
      let inside = 0
      last = at
      while (++at < end && (inside = text.charCodeAt(at)) !== quote) if (inside === backslash) at++
      lastEnd = at
      weight += at - last
      isMixed[level] = 1
    } else if (char === comma) weight += 8
    else if (char === colon) {
      weight += 8
      weight += isIndex(text, last, lastEnd) ? indexWeight : takenByKey(text, last + 1, lastEnd, level)
    } else if ((char | curly) === opens) {
      isMixed[level] = 1
      level = (level + 1) & (levels - 1)
      opened(level, char === square ? 1 : 0)
      weight += char === square ? 48 : 64
    } else if ((char | curly) === closes) {
      // an array of numbers alone has them in its places
      if (isArray[level] === 0 || isMixed[level] === 1) weight += boxWeight * boxes[level]!
      level = (level - 1) & (levels - 1)
    } else if (char >= zero && char <= nine) {
      const stop = numberEnd(text, at)
      if (stop < 0) boxes[level]!++
      at = Math.abs(stop)
    } else if (char === minus) {
      if (text.charCodeAt(at + 1) === zero && isWhole(text.charCodeAt(at + 2))) boxes[level]!++
    } else if (char >= letterA) isMixed[level] = 1
  }
  return weight
}

/** Whether a text has more than one such bracket for `sparse` characters. */
const isDense = (text: string, bracket: string): boolean => {
  let left = text.length / sparse
  for (let at = text.indexOf(bracket); at >= 0; at = text.indexOf(bracket, at + 1)) if (--left < 0) return true
  return false
}

/** What the values in a text weigh: exactly where it may be more than `most` or has many objects and arrays, else about. */
export const weigh = (text: string, most: number): number =>
  text.length * mostWeight > most || isDense(text, "{") || isDense(text, "[")
    ? weightOf(text)
    : text.length * usualWeight

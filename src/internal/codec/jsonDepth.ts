/** What JSON text comes to before it is parsed: how deep its values are nested, and what they weigh. */
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

/** What the values weigh: 64 bytes for an object, 48 for an array, 8 for the place of each value, and 72 for a key that is an index. */
const weightOf = (text: string): number => {
  const end = text.length
  let weight = 0
  let last = 0
  let lastEnd = 0
  for (let at = 0; at < end; at++) {
    const char = text.charCodeAt(at)
    if (char === quote) {
      let inside = 0
      last = at
      while (++at < end && (inside = text.charCodeAt(at)) !== quote) if (inside === backslash) at++
      lastEnd = at
      weight += at - last
    } else if (char === opens) weight += 64
    else if (char === square) weight += 48
    else if (char === comma) weight += 8
    else if (char === colon) weight += isIndex(text, last, lastEnd) ? 8 + indexWeight : 8
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

/** Whether JSON text is nested deeper than values may be. */
import { maxDepth } from "./msgpack.ts"

const quote = 0x22
const backslash = 0x5c
// with this bit set, `[` is `{` and `]` is `}`
const curly = 0x20
const opens = 0x7b
const closes = 0x7d

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

/** What V8 takes for the keys of an object. Those that are array indices have a place each up to the largest, or a dictionary. */
import { onRenew } from "../bytes/memory.ts"

/** Bytes of an entry in a dictionary, with the free ones between. */
const entry = 72
const place = 8

// what lies so far behind the last place makes a dictionary; a list of so few places does not become one
const farthest = 1024
const mostUnchecked = 5000

const lastIndex = 0xffff_fffe

/** A number as the array index that it is, or -1. */
export const indexOf = (key: number): number => Number.isInteger(key) && key >= 0 && key <= lastIndex ? key : -1

/** A dictionary has no places. */
export const dictionary = -1

/** Whether a dictionary is a sixth of the list, or less: its size is a power of two. */
const isSparse = (used: number, places: number): boolean => 6 * 2 ** Math.ceil(Math.log2(used * 1.5)) <= places

/**
 * How many places an object has with one key more, the last of `used`, where it had `places`. Measured on Node 24: a key 1023 by
 * itself takes 12 KiB.
 */
export const placesFor = (index: number, places: number, used: number): number => {
  if (places === dictionary || index < places) return places
  // half as many again, and some
  const next = index + 1 + ((index + 1) >>> 1) + 16
  return index - places >= farthest || (next > mostUnchecked && isSparse(used, next)) ? dictionary : next
}

/** What so many index keys take in an object with so many places, in bytes. */
export const takenBy = (used: number, places: number): number => places === dictionary ? entry * used : place * places

// ---------------------------------------------------------------------------------------------------------------------
// other keys
// ---------------------------------------------------------------------------------------------------------------------

// V8 has a hidden class for each sequence of keys, which all objects of it share: those that were met lately, by hash. In a table of
// so few, a class that is met again may be taken for a new one
const met = new Int32Array(16_384)

// after which one a new class came: its list of keys goes on
let newest = 0

onRenew(() => {
  met.fill(0)
  newest = 0
})

/** The text of a key, one character or byte after the other. */
export const hashed = (hash: number, char: number): number => Math.imul(hash ^ char, 0x0100_0193)

/** The class of an object of some class with one key more. */
export const classAfter = (before: number, key: number): number => {
  const hash = Math.imul(before ^ key, 0x9e37_79b1)
  return hash ^ (hash >>> 15)
}

/** A class, with its place among others and the key in its list; without the text of the key. Measured on Node 24. */
const classWeight = 104
/** A key in a list that is copied. */
const listed = 24
/** A key of a dictionary that no other object has. */
const uncommon = 32

/** An object with more keys is a dictionary. */
export const mostListed = 127

/** What a class takes that an object has with the key after so many others, in bytes: nothing where it was met before. */
export const takenByClass = (before: number, after: number, others: number): number => {
  const at = after >>> 18
  if (met[at] === after) return 0
  met[at] = after
  const copied = before === newest ? 0 : others
  newest = after
  return others < mostListed ? classWeight + listed * copied : uncommon
}

/**
 * An immutable map from whole numbers of 0 or more to values that know their number, in the order of the numbers: `set` and
 * `remove` return another map that shares all but a few nodes.
 *
 * A radix trie, 32 wide, in which a node that would have one child only is left out. So 100,000 numbers in a row are four
 * nodes deep, a number that stands alone has no node of its own, and a map of one value is that value.
 */

/** Between two and 32 parts of a range of numbers: part `i` holds those from `low + i * unit` on. */
class Branch<A> {
  readonly low: number
  readonly unit: number
  /** Bit `i` is set where part `i` is not empty. */
  readonly bitmap: number
  /** The parts that are not empty. */
  readonly parts: ReadonlyArray<A | Branch<A>>

  constructor(low: number, unit: number, bitmap: number, parts: ReadonlyArray<A | Branch<A>>) {
    this.low = low
    this.unit = unit
    this.bitmap = bitmap
    this.parts = parts
  }
}

export type Trie<A> = A | Branch<A> | undefined

const width = 32

const countBits = (bitmap: number): number => {
  let n = bitmap - ((bitmap >>> 1) & 0x55555555)
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333)
  return (((n + (n >>> 4)) & 0xf0f0f0f) * 0x1010101) >>> 24
}

const isWithin = ({ low, unit }: Branch<unknown>, number: number): boolean =>
  number >= low && number < low + unit * width

const bitOf = ({ low, unit }: Branch<unknown>, number: number): number => 1 << ((number - low) / unit)

/** Where in `parts` the part of this bit is, or would be. */
const indexOf = ({ bitmap }: Branch<unknown>, bit: number): number => countBits(bitmap & (bit - 1))

const replace = <A>(self: Branch<A>, index: number, part: A | Branch<A>): Branch<A> => {
  const parts = self.parts.slice()
  parts[index] = part
  return new Branch(self.low, self.unit, self.bitmap, parts)
}

const insert = <A>(self: Branch<A>, bit: number, index: number, part: A): Branch<A> => {
  const { length } = self.parts
  const parts = Array<A | Branch<A>>(length + 1)
  for (let i = 0; i < index; i++) parts[i] = self.parts[i]!
  parts[index] = part
  for (let i = index; i < length; i++) parts[i + 1] = self.parts[i]!
  return new Branch(self.low, self.unit, self.bitmap | bit, parts)
}

// a loop: `toSpliced` takes several times as long for so few
const without = <A>(self: Branch<A>, bit: number, index: number): Branch<A> => {
  const length = self.parts.length - 1
  const parts = Array<A | Branch<A>>(length)
  for (let i = 0; i < index; i++) parts[i] = self.parts[i]!
  for (let i = index; i < length; i++) parts[i] = self.parts[i + 1]!
  return new Branch(self.low, self.unit, self.bitmap & ~bit, parts)
}

/** Of two parts that lie apart: `one` holds `oneNumber`, `other` holds `otherNumber`. */
const join = <A>(one: A | Branch<A>, oneNumber: number, other: A, otherNumber: number): Branch<A> => {
  let unit = 1
  while (Math.floor(oneNumber / (unit * width)) !== Math.floor(otherNumber / (unit * width))) unit *= width
  const low = Math.floor(oneNumber / (unit * width)) * unit * width
  const bits = (1 << ((oneNumber - low) / unit)) | (1 << ((otherNumber - low) / unit))
  return new Branch(low, unit, bits, oneNumber < otherNumber ? [one, other] : [other, one])
}

/** The operations of maps whose values have their numbers from `numberOf`; the number of a value must not change. */
export const keyedBy = <A extends object>(numberOf: (value: A) => number) => {
  const get = (self: Trie<A>, number: number): A | undefined => {
    let node = self
    while (node instanceof Branch) {
      if (!isWithin(node, number)) return undefined
      const bit = bitOf(node, number)
      if ((node.bitmap & bit) === 0) return undefined
      node = node.parts[indexOf(node, bit)]
    }
    return node !== undefined && numberOf(node) === number ? node : undefined
  }

  const setAt = (self: Trie<A>, number: number, value: A): A | Branch<A> => {
    if (self === undefined) return value
    if (!(self instanceof Branch)) {
      const present = numberOf(self)
      return present === number ? value : join(self, present, value, number)
    }
    if (!isWithin(self, number)) return join(self, self.low, value, number)
    const bit = bitOf(self, number)
    const index = indexOf(self, bit)
    return (self.bitmap & bit) === 0
      ? insert(self, bit, index, value)
      : replace(self, index, setAt(self.parts[index], number, value))
  }

  /** Puts `value` under its number, in place of another value of that number. */
  const set = (self: Trie<A>, value: A): Trie<A> => setAt(self, numberOf(value), value)

  const remove = (self: Trie<A>, number: number): Trie<A> => {
    if (!(self instanceof Branch)) return self !== undefined && numberOf(self) === number ? undefined : self
    if (!isWithin(self, number)) return self
    const bit = bitOf(self, number)
    if ((self.bitmap & bit) === 0) return self
    const index = indexOf(self, bit)
    const part = self.parts[index]
    const left = remove(part, number)
    if (left === part) return self
    if (left !== undefined) return replace(self, index, left)
    if (self.parts.length === 2) return self.parts[1 - index]
    return without(self, bit, index)
  }

  return { get, set, remove }
}

const collect = <A>(self: A | Branch<A>, into: Array<A>): void => {
  if (!(self instanceof Branch)) into.push(self)
  else for (const part of self.parts) collect(part, into)
}

/** The values, in the order of their numbers. */
export const toArray = <A>(self: Trie<A>): Array<A> => {
  const values: Array<A> = []
  if (self !== undefined) collect(self, values)
  return values
}

/** The values, in the order of their numbers, without copying them. */
export const values = function*<A>(self: Trie<A>): Generator<A, void> {
  if (self === undefined) return
  // the next one is the last one
  const waiting: Array<A | Branch<A>> = [self]
  while (waiting.length > 0) {
    const node = waiting.pop()!
    if (!(node instanceof Branch)) {
      yield node
      continue
    }
    const { parts, unit } = node
    // the parts of the narrowest branches are values
    if (unit === 1) yield* parts as ReadonlyArray<A>
    else for (let i = parts.length - 1; i >= 0; i--) waiting.push(parts[i]!)
  }
}

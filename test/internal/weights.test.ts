/** What values of JSON are counted as, against what V8 makes of them, and what a process may hold. */
import { assert, describe, it } from "@effect/vitest"
import { encode } from "@msgpack/msgpack"
import { weigh } from "../../src/internal/codec/jsonDepth.ts"
import { checkMsgpack } from "../../src/internal/codec/msgpack.ts"
import { shareOfHeap } from "../../src/internal/memory/processShare.ts"

const most = 4 * 1024 * 1024
const list = (unit: string, count: number) => `[${Array.from({ length: count }, () => unit).join(",")}]`

/** Texts, and what their values weigh at least and at most: 64 bytes for an object, 48 for an array, 8 for each place. */
const cases: ReadonlyArray<readonly [name: string, text: string, least: number, most: number]> = [
  ["one object", "{}", 64, 64],
  ["5,000 objects", list("{}", 5000), 5000 * 72, 5000 * 73],
  ["5,000 arrays", list("[]", 5000), 5000 * 56, 5000 * 57],
  ["40 objects", list("{}", 40), 40 * 72, 41 * 73],
  ["records", list("{\"id\":1234,\"at\":5678}", 1000), 1000 * 88, 1000 * 120],
  ["numbers", list("1", 5000), 5000 * 8, 10_001 * 5],
  // V8 takes 216 bytes for each of the first, 112 for each of the second, and 160 for a key of the third
  ["objects with an index for a key", list("{\"16\":1}", 2000), 2000 * 150, 2000 * 220],
  ["objects with an index, and space behind it", list("{\"7\" :1}", 2000), 2000 * 110, 2000 * 220],
  [
    "many indices in one object",
    `{${Array.from({ length: 20_000 }, (_, i) => `"${20 * i}":1`).join()}}`,
    20_000 * 80,
    20_000 * 170
  ],
  ["a text", `"${"x".repeat(10_000)}"`, 10_000, 50_010],
  ["a text of brackets", `"${"{[".repeat(5000)}"`, 10_000, 10_100]
]

let unique = 0
const fresh = () => `k${unique++}_`
const objects = (keys: () => ReadonlyArray<string>, count: number) =>
  `[${Array.from({ length: count }, () => `{${keys().map((key) => `"${key}":1`).join(",")}}`).join(",")}]`
const known = (count: number) => Array.from({ length: count }, (_, i) => `n${i}`)

/** Objects by their keys, and what V8 makes of one, measured on Node 24. */
const shapes: ReadonlyArray<readonly [name: string, keys: () => ReadonlyArray<string>, bytes: number]> = [
  ["one new key", () => [fresh()], 187],
  ["two new keys", () => [fresh(), fresh()], 264],
  ["64 new keys", () => known(64).map(fresh), 9116],
  ["64 keys, of which the last is new", () => [...known(63), fresh()], 2226],
  ["64 keys, of which the first is new", () => [fresh(), ...known(63)], 7095],
  ["400 keys, which are those of others", () => known(400), 24_757],
  ["400 new keys", () => known(400).map(fresh), 37_475]
]

describe("B114 objects whose keys no other has weigh what V8 makes of them", () => {
  for (const [name, keys, bytes] of shapes) {
    it(`B114 objects of ${name}: to a third`, () => {
      // so little is allowed that each character is looked at
      weigh(objects(keys, 10), 1)
      const weight = weigh(objects(keys, 100), 1) / 100
      assert.isAtLeast(weight, bytes * 2 / 3)
      assert.isAtMost(weight, bytes * 3 / 2)
    })
  }

  it("B114 keys that were met before weigh their text and a place, in JSON and in MessagePack", () => {
    const text = list("{\"met\":1,\"before\":2}", 1000)
    weigh(text, most)
    assert.isAtMost(weigh(text, most), 1000 * 110)
    const wire = encode(Array.from({ length: 100 }, () => ({ met: 1, before: 2 })))
    const scale = { most, weight: 0 }
    checkMsgpack(wire, scale)
    scale.weight = 0
    checkMsgpack(wire, scale)
    assert.isAtMost(scale.weight, 100 * 160)
  })

  it("B114 MessagePack maps of one new key: as much as V8 makes of them, to a third", () => {
    const scale = { most, weight: 0 }
    checkMsgpack(encode(Array.from({ length: 1000 }, () => ({ [fresh()]: 1 }))), scale)
    assert.isAtLeast(scale.weight, 210_000 * 2 / 3)
    assert.isAtMost(scale.weight, 210_000 * 4 / 3)
  })

  it("B114 numbers that V8 makes objects of weigh 16 bytes more: in objects, and in arrays of other things too", () => {
    weigh("[{\"a\":1}]", 1)
    for (const number of ["9e9", "1.5", "-0", "-0.5", "5000000000", "0.25e-7"]) {
      const mixed = weigh(list(`[${number},null]`, 100), 1) - weigh(list("[1,null]", 100), 1)
      assert.strictEqual(mixed, 1600, number)
      const inObject = weigh(list(`{"a":${number}}`, 100), 1) - weigh(list("{\"a\":1}", 100), 1)
      assert.strictEqual(inObject, 1600, number)
      assert.strictEqual(weigh(list(`[${number},2]`, 100), 1), weigh(list("[1,2]", 100), 1), number)
    }
  })
})

describe("B114 what JSON weighs in memory", () => {
  for (const [name, text, least, greatest] of cases) {
    it(`${name}: as much as V8 makes of it`, () => {
      const weight = weigh(text, most)
      assert.isAtLeast(weight, least)
      assert.isAtMost(weight, greatest)
    })
  }
})

/** Lists of maps whose keys are array indices: what V8 makes of one, measured on Node 24, less and more a third of it. */
const maps: ReadonlyArray<readonly [name: string, map: Uint8Array, bytes: number]> = [
  ["0", Uint8Array.of(0x81, 0, 1), 214],
  ["100", Uint8Array.of(0x81, 100, 1), 1412],
  ["1023", Uint8Array.of(0x81, 0xcd, 3, 0xff, 1), 12_494],
  ["1023 as 64 bits", Uint8Array.of(0x81, 0xcf, 0, 0, 0, 0, 0, 0, 3, 0xff, 1), 12_494],
  ["1023 as a float", Uint8Array.of(0x81, 0xca, 0x44, 0x7f, 0xc0, 0, 1), 12_494],
  ["1023 as text", encode({ 1023: 1 }), 12_234],
  ["1023 as text of 8 bits' length", Uint8Array.of(0x81, 0xd9, 4, 0x31, 0x30, 0x32, 0x33, 1), 12_234],
  ["1023 and 2500", Uint8Array.of(0x82, 0xcd, 3, 0xff, 1, 0xcd, 9, 0xc4, 1), 30_213],
  [
    "1023, 2500 and 4800: a dictionary",
    Uint8Array.of(0x83, 0xcd, 3, 0xff, 1, 0xcd, 9, 0xc4, 1, 0xcd, 0x12, 0xc0, 1),
    220
  ],
  ["4800: a dictionary", Uint8Array.of(0x81, 0xcd, 0x12, 0xc0, 1), 167],
  ["1, 2 and 3", Uint8Array.of(0x83, 1, 1, 2, 1, 3, 1), 227],
  ["20,000 in a row", encode(Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [i, 1]))), 20_000 * 14]
]

describe("B114 what MessagePack weighs in memory", () => {
  for (const [name, map, bytes] of maps) {
    it(`a map with the key ${name}: as much as V8 makes of it, to a third`, () => {
      const wire = new Uint8Array(3 + 50 * map.length)
      wire.set([0xdc, 0, 50])
      for (let i = 0; i < 50; i++) wire.set(map, 3 + i * map.length)
      const scale = { most: 2 ** 30, weight: 0 }
      assert.strictEqual(checkMsgpack(wire, scale), undefined)
      assert.isAtLeast(scale.weight / 50, bytes * 2 / 3)
      // an entry of a map has 16 at least, wherever it is
      assert.isAtMost(scale.weight / 50, bytes * 4 / 3 + map.length * 10)
    })
  }
})

it("B115 connections may hold a third of what is left of the heap, and no less than a sixteenth of it", () => {
  const MiB = 2 ** 20
  assert.strictEqual(shareOfHeap(4288 * MiB, 96 * MiB), 4000 * MiB / 3)
  assert.strictEqual(shareOfHeap(256 * MiB, 60 * MiB), 16 * MiB)
})

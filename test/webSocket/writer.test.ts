import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { isCloseCode, readClose, writeClose } from "../../src/internal/webSocket/closing.ts"
import { advanceKey, headerSize, mask, maskInto, writeHeader } from "../../src/internal/webSocket/frames.ts"
import type { Role } from "../../src/internal/webSocket/header.ts"
import { Writer } from "../../src/internal/webSocket/writer.ts"
import * as Wire from "./support/wire.ts"

const { frame, hex } = Wire
const key = [0x37, 0xfa, 0x21, 0x3d]
const other = (role: Role): Role => role === "server" ? "client" : "server"
const make = (role: Role) => new Writer({ role, maskKey: () => 0x37fa213d })
const masks = (role: Role) => role === "client" ? { key } : {}

const texts = ["", "a", "Hello", "x".repeat(64), "x".repeat(65), "x".repeat(126), "κόσμε", "\u{1f600}", "é".repeat(100)]
const sizes = [0, 1, 125, 126, 127, 128, 65535, 65536]

describe.each(["server", "client"] as const)("what a %s writes", (role) => {
  const writer = make(role)

  it("is as the RFC has it", () => {
    for (const text of texts) {
      assert.strictEqual(
        hex(writer.encode(text)),
        hex(Uint8Array.from(frame({ opcode: 1, payload: text, ...masks(role) })))
      )
    }
    for (const size of sizes) {
      const payload = Uint8Array.from({ length: size }, (_, i) => i)
      const expected = hex(Uint8Array.from(frame({ opcode: 2, payload, ...masks(role) })))
      assert.strictEqual(hex(writer.encode(payload)), expected)
      // what was given stays as it is
      assert.isTrue(payload.every((byte, i) => byte === (i & 255)))
    }
    const control = [["ping", 9], ["pong", 10]] as const
    for (const [name, opcode] of control) {
      for (const payload of ["", "token", "x".repeat(125)]) {
        const expected = Uint8Array.from(frame({ opcode, payload, ...masks(role) }))
        assert.strictEqual(hex(writer[name](Wire.bytesOf(payload))), hex(expected))
      }
    }
  })

  it("is read by the other end, also by that of `ws`", () => {
    const bytes = [
      ...writer.encode("Hello"),
      ...writer.encode(new Uint8Array([1, 2])),
      ...writer.ping(new Uint8Array(3)),
      ...writer.close(4001, "token expired")
    ]
    const story = ["text \"Hello\"", "binary 0102", "ping 000000", "close 4001 \"token expired\""]
    assert.deepStrictEqual(Wire.ours(other(role), 100, Wire.pieces(bytes, Wire.everywhere)).story, story)
    assert.deepStrictEqual(Wire.theirs(other(role), 100, Wire.pieces(bytes, Wire.whole)), story)
  })

  it("goes behind what is there already, and no further than was announced", () => {
    const target = new Uint8Array(400).fill(0xee)
    let at = 3
    const expected: Array<number> = [0xee, 0xee, 0xee]
    for (const payload of ["ab", new Uint8Array([9]), "é".repeat(70), "x".repeat(30)]) {
      const size = writer.encodedSize(payload)
      writer.encodeInto(payload, target, at)
      at += size
      expected.push(...writer.encode(payload))
    }
    assert.strictEqual(hex(target.subarray(0, at)), hex(Uint8Array.from(expected)))
    assert.isTrue(target.subarray(at).every((byte) => byte === 0xee))
  })

  it("many messages are written in as few pieces as they need", () => {
    const payloads = ["a", new Uint8Array(3), "é".repeat(3000), new Uint8Array(5000), "b", "x".repeat(5000), "c", "d"]
    const pieces = writer.frames(payloads as never)
    const bytes = payloads.flatMap((payload) => [...writer.encode(payload)])
    assert.strictEqual(hex(Uint8Array.from(pieces.flatMap((piece) => [...piece]))), hex(Uint8Array.from(bytes)))
    assert.isAtMost(pieces.length, 7)
    assert.strictEqual(pieces.includes(payloads[3] as Uint8Array), writer.leavesPayload)
    for (const piece of writer.frames(["a", "b", "c"])) assert.strictEqual(piece.length, 3 * writer.encodedSize("a"))
  })

  it("measures the text that it writes, also when another one was measured in between", () => {
    const target = new Uint8Array(20)
    assert.strictEqual(writer.encodedSize("é"), headerSize(2, role === "client") + 2)
    writer.encodedSize("abc")
    writer.encodeInto("é", target, 0)
    assert.strictEqual(hex(target.subarray(0, writer.encodedSize("é"))), hex(writer.encode("é")))
  })

  it("is UTF-8 for halves of pairs as well", () => {
    for (const text of ["\ud800", "a\udc00b", `${"x".repeat(30)}\ud83d`]) {
      const { story } = Wire.ours(other(role), 100, [writer.encode(text)])
      assert.deepStrictEqual(story, [`text ${JSON.stringify(text.replaceAll(/[\ud800-\udfff]/g, "\ufffd"))}`])
    }
  })

  it("throws for control frames that are too long", () => {
    assert.throws(() => writer.ping(new Uint8Array(126)), RangeError)
  })
})

it("a server leaves a payload where it is, a client cannot", () => {
  const payload = new Uint8Array(70_000).fill(5)
  const [server, client] = [make("server"), make("client")]
  assert.deepStrictEqual([server.leavesPayload, client.leavesPayload], [true, false])
  const header = new Uint8Array(server.encodedSize(payload) - payload.length)
  assert.strictEqual(server.encodeHeader(payload, header, 0), payload)
  assert.deepStrictEqual(Wire.ours("client", 70_000, [header, payload.slice()]).story, [`binary ${hex(payload)}`])
  for (const text of ["a", "é".repeat(30), "é".repeat(3000)]) {
    const size = server.encodedSize(text) - Buffer.byteLength(text)
    const bytes = server.encodeHeader(text, header.fill(0), 0)
    assert.deepStrictEqual(Wire.ours("client", 70_000, [header.slice(0, size), bytes]).story, [`text "${text}"`])
  }
})

it("a client asks for a key for each frame", () => {
  let next = 0
  const writer = new Writer({ role: "client", maskKey: () => 0xffff_fff0 + next++ })
  const keys = [
    writer.encode("a"),
    writer.encode(new Uint8Array(200)),
    writer.ping(new Uint8Array(0)),
    writer.close(1000)
  ]
    .map((frame) => hex(frame.subarray(frame[1] === 0xfe ? 4 : 2)).slice(0, 8))
  assert.deepStrictEqual(keys, ["fffffff0", "fffffff1", "fffffff2", "fffffff3"])
})

describe("masks", () => {
  const int = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

  it.effect.prop("are laid byte by byte, at any place", [int(2 ** 32 - 1), int(9), int(9), int(600)], ([
    key,
    offset,
    from,
    size
  ]) =>
    Effect.sync(() => {
      const buffer = new ArrayBuffer(offset + from + size + 9)
      const bytes = new Uint8Array(buffer, offset)
      for (let i = 0; i < bytes.length; i++) bytes[i] = i * 31
      const plain = bytes.slice()
      const keys = [24, 16, 8, 0].map((shift) => (key >>> shift) & 255)
      const expected = plain.map((byte, i) => i < from || i >= from + size ? byte : byte ^ keys[(i - from) % 4]!)
      const copy = new Uint8Array(size + 3)
      maskInto(bytes, from, from + size, copy, 3, key)
      assert.strictEqual(hex(copy.subarray(3)), hex(expected.subarray(from, from + size)))
      assert.strictEqual(hex(bytes), hex(plain))
      mask(bytes, from, from + size, key)
      assert.strictEqual(hex(bytes), hex(expected))
      // in two pieces
      const cut = from + Math.floor(size / 3)
      mask(bytes, from, cut, key)
      mask(bytes, cut, from + size, advanceKey(key, cut - from))
      assert.strictEqual(hex(bytes), hex(plain))
    }))
})

it("headers have all lengths", () => {
  for (const length of [0, 125, 126, 65535, 65536, 2 ** 31, 2 ** 32 + 5, 2 ** 53 - 1]) {
    const target = new Uint8Array(14)
    assert.strictEqual(writeHeader(target, 0, 0xc2, length, 0x01020304), headerSize(length, true))
    const expected = Uint8Array.from(frame({ opcode: 2, rsv: 4, length, key: [1, 2, 3, 4] }))
    assert.strictEqual(hex(target.subarray(0, expected.length)), hex(expected))
  }
})

describe("close frames", () => {
  it("B128 carry 1000 to 1003, 1007 to 1014, 3000 to 4999", () => {
    const allowed = Array.from({ length: 65_536 }, (_, code) => code).filter(isCloseCode)
    const ranges = [[1000, 1003], [1007, 1014], [3000, 4999]] as const
    const expected = ranges.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i))
    assert.deepStrictEqual(allowed, expected)
    for (const code of [-1, 1000.5, 3000.1, Number.NaN, Infinity]) assert.isFalse(isCloseCode(code))
    for (const code of expected) assert.deepStrictEqual(readClose(writeClose(code, "é")), { code, reason: "é" })
  })

  it("have no payload without a code", () => {
    assert.strictEqual(writeClose(1005, "unsaid").length, 0)
    assert.deepStrictEqual(readClose(writeClose(1005)), { code: 1005, reason: "" })
  })

  it("cut a reason to 123 bytes, between two characters", () => {
    const cut = (reason: string) => {
      const payload = writeClose(1000, reason)
      assert.isAtMost(payload.length, 125)
      return (readClose(payload) as { readonly reason: string }).reason
    }
    assert.strictEqual(cut("x".repeat(123)), "x".repeat(123))
    assert.strictEqual(cut("x".repeat(124)), "x".repeat(123))
    assert.strictEqual(cut("é".repeat(62)), "é".repeat(61))
    assert.strictEqual(cut("€".repeat(42)), "€".repeat(41))
    for (const before of [0, 1, 2, 3]) {
      const reason = "x".repeat(before) + "\u{1f600}".repeat(100)
      assert.strictEqual(cut(reason), "x".repeat(before) + "\u{1f600}".repeat(Math.floor((123 - before) / 4)))
    }
    // a pair is not cut in two
    assert.strictEqual(cut("x".repeat(122) + "\u{1f600}"), "x".repeat(122))
    assert.strictEqual(cut("x".repeat(123) + "\u{1f600}"), "x".repeat(123))
  })
})

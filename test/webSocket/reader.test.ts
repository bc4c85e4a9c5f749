import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { setUnshared } from "../../src/internal/bytes/memory.ts"
import { lengthPrefix } from "../../src/internal/codec/framings/lengthPrefix.ts"
import { notText, violation } from "../../src/internal/webSocket/failure.ts"
import { RSV1 } from "../../src/internal/webSocket/frames.ts"
import { Reader } from "../../src/internal/webSocket/reader.ts"
import { cases, cuts } from "./support/cases.ts"
import * as Wire from "./support/wire.ts"

const { frame, hex } = Wire
const key = [0x37, 0xfa, 0x21, 0x3d]
const framed = (opcode: number, payload: string | Uint8Array, more: Partial<Wire.FrameOptions> = {}) =>
  Uint8Array.from(frame({ opcode, payload, key, ...more }))

describe("B126 the frames of a WebSocket: whole, in pieces of a byte, and cut at random", () => {
  it.each(cases)("$name", ({ bytes, maxFrame, pending, role, story }) => {
    for (const [how, cut] of cuts) {
      const read = Wire.ours(role, maxFrame, Wire.pieces(bytes, cut))
      assert.deepStrictEqual(read.story, story, how)
      if (pending !== undefined) assert.strictEqual(read.pending, pending, how)
    }
  })

  it.each(cases)("$name, as `ws` reads it", ({ bytes, maxFrame, role, story, ws }) => {
    for (const [how, cut] of cuts.slice(0, 3)) {
      assert.deepStrictEqual(Wire.theirs(role, maxFrame, Wire.pieces(bytes, cut)), ws ?? story, how)
    }
  })

  it("are at least 200 cases, and in at most one of five `ws` says something else", () => {
    assert.isAbove(cases.length, 200)
    assert.isBelow(cases.filter(({ ws }) => ws !== undefined).length, cases.length / 5)
  })
})

describe("any frames", () => {
  const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))
  const frames = Schema.Array(Schema.Struct({
    opcode: Schema.Literals([0, 0, 0, 1, 1, 2, 2, 8, 9, 10, 3]),
    fin: Schema.Literals([true, true, false]),
    size: Schema.Literals([0, 1, 2, 5, 125, 126, 300]),
    key: Schema.Tuple([upTo(255), upTo(255), upTo(255), upTo(255)]),
    fill: upTo(255)
  })).check(Schema.isMaxLength(12))
  const flips = Schema.Array(Schema.Struct({ at: upTo(600), to: upTo(255) })).check(Schema.isMaxLength(2))

  it.effect.prop("B126 are read as `ws` reads them, or found wrong no later", [frames, flips, upTo(1000)], ([
    frames,
    flips,
    seed
  ]) =>
    Effect.sync(() => {
      const bytes = frames.flatMap(({ fill, fin, key, opcode, size }) => {
        // close codes and UTF-8 that are right half of the time
        const payload = opcode === 8 ? [3, 232 + (fill & 31)].slice(0, size) : new Uint8Array(size).fill(fill)
        return frame({ opcode, fin: opcode > 7 || fin, payload, key })
      })
      for (const { at, to } of flips) if (at < bytes.length) bytes[at] = to
      const [one, ...others] = [Wire.whole, Wire.everywhere, Wire.seeded(seed)].map((cut) =>
        Wire.ours("server", 700, Wire.pieces(bytes, cut))
      )
      for (const other of others) assert.deepStrictEqual(other, one)
      const theirs = Wire.theirs("server", 700, Wire.pieces(bytes, Wire.whole))
      if (one.failure === undefined) return assert.deepStrictEqual(one.story, theirs)
      const before = one.story.slice(0, -1)
      assert.deepStrictEqual(theirs.slice(0, before.length), before)
      const verdict = theirs[before.length]
      // what `ws` does not look at, or later
      const isStricter = one.failure.code === 1007 || /is written in|highest bit/.test(one.failure.reason.message)
      if (!isStricter) assert.strictEqual(verdict, one.story.at(-1))
    }))
})

describe("what is held of a message", () => {
  const silent = { message: () => {}, ping: () => {}, pong: () => {}, close: () => {} }
  const nothing = new Uint8Array(0)
  const read = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
    let last: Uint8Array | string = nothing
    const reader = new Reader({ role: "server", maxFrame: 2 ** 24 }, {
      ...silent,
      message: (payload) => (last = payload)
    })
    for (const chunk of chunks) assert.isUndefined(reader.write(chunk))
    return last as Uint8Array
  }

  it("B120 a message that is most of its chunk is a view of it; a small one of a large chunk is a copy", () => {
    const large = framed(2, new Uint8Array(50_000))
    assert.strictEqual(read([large]).buffer, large.buffer)
    const few = Uint8Array.from([...framed(2, "abc"), ...framed(2, "def")])
    assert.strictEqual(read([few]).buffer, few.buffer)
    const many = new Uint8Array(65_536)
    const small = framed(2, new Uint8Array(100).fill(7))
    many.set(framed(2, new Uint8Array(65_536 - small.length - 8)))
    many.set(small, 65_536 - small.length)
    const last = read([many])
    assert.deepStrictEqual([last.length, last.buffer.byteLength], [100, 100])
    assert.isTrue(last.every((byte) => byte === 7))
  })

  it("B120 a control frame does not keep a large chunk", () => {
    const chunk = new Uint8Array(65_536)
    chunk.set(framed(9, "token"))
    chunk.set(framed(2, new Uint8Array(65_536 - 11 - 8)), 11)
    const pings: Array<Uint8Array> = []
    new Reader({ role: "server", maxFrame: 65_536 }, { ...silent, ping: (payload) => pings.push(payload) }).write(chunk)
    assert.deepStrictEqual(pings.map((payload) => [Buffer.from(payload).toString(), payload.buffer.byteLength]), [
      ["token", 5]
    ])
  })

  it("a large message is joined once, and the memory of its chunks is given back", () => {
    const payload = Uint8Array.from({ length: 3 * 65_536 }, (_, i) => i % 251)
    const bytes = framed(2, payload)
    const chunks = [0, 1, 2, 3].map((i) => bytes.slice(14 + (i - 1) * 65_536, 14 + i * 65_536))
    chunks[0] = bytes.slice(0, 14)
    for (const chunk of chunks.slice(1)) setUnshared(chunk)
    assert.strictEqual(hex(read(chunks)), hex(payload))
    assert.deepStrictEqual(chunks.slice(1).map((chunk) => chunk.length), [0, 0, 0])
  })

  it("B121 a frame in pieces of a byte costs what it costs on TCP", () => {
    const size = 2 ** 18
    const payload = new Uint8Array(size)
    // the same chunk each time: single bytes are not kept as views
    const chunk = new Uint8Array(1)
    const timed = (bytes: Uint8Array, write: (chunk: Uint8Array) => void): number => {
      const started = performance.now()
      for (const byte of bytes) {
        chunk[0] = byte
        write(chunk)
      }
      return performance.now() - started
    }
    const times = [1, 2, 3].map(() => {
      let got = 0
      const reader = new Reader({ role: "server", maxFrame: size }, {
        ...silent,
        message: (payload) => (got = payload.length)
      })
      const decoder = lengthPrefix({}).decoder(size)
      const frames: Array<Uint8Array> = []
      const prefixed = Uint8Array.from([0, 4, 0, 0, ...payload])
      const tcp = timed(prefixed, (chunk) => decoder.write(chunk, frames, []))
      const webSocket = timed(framed(2, payload), (chunk) => reader.write(chunk))
      assert.deepStrictEqual([got, frames[0]!.length], [size, size])
      return webSocket / tcp
    })
    assert.isBelow(Math.min(...times), 5)
  })

  it("a flood of empty fragments holds nothing, and is no end of the message", () => {
    const { reader, story } = Wire.tell({ role: "server", maxFrame: 10 })
    reader.write(framed(1, "a", { fin: false }))
    const empty = Uint8Array.from(Array.from({ length: 1000 }, () => frame({ opcode: 0, fin: false, key })).flat())
    const before = process.memoryUsage()
    for (let i = 0; i < 1000; i++) reader.write(empty)
    assert.strictEqual(reader.pending, 7 + 6_000_000)
    assert.isBelow(process.memoryUsage().arrayBuffers - before.arrayBuffers, 1_000_000)
    reader.write(framed(0, "b"))
    assert.deepStrictEqual([story, reader.pending], [["text \"ab\""], 0])
  })

  it("B123 what is pending began anew with each message, and each control frame between messages", () => {
    const { reader } = Wire.tell({ role: "server", maxFrame: 100 })
    const steps: ReadonlyArray<readonly [number, Partial<Wire.FrameOptions>, number]> = [
      [9, {}, 1],
      [1, {}, 2],
      [1, { fin: false }, 2],
      [9, {}, 2],
      [0, { fin: false }, 2],
      [10, {}, 2],
      [0, {}, 3],
      [10, {}, 4]
    ]
    for (const [opcode, options, completed] of steps) {
      const frame = framed(opcode, "ab", options)
      reader.write(frame.slice(0, 5))
      reader.write(frame.slice(5))
      assert.strictEqual(reader.completed, completed)
    }
    reader.write(Uint8Array.from([...framed(1, "ab"), ...framed(9, "ab"), ...framed(2, "ab"), 0x81]))
    assert.deepStrictEqual([reader.completed, reader.pending], [7, 1])
  })

  it("after a failure nothing is held, and every call says the same", () => {
    const { reader, story } = Wire.tell({ role: "server", maxFrame: 10_000 })
    assert.isUndefined(reader.write(framed(2, new Uint8Array(5000), { fin: false })))
    const failure = reader.write(framed(3, ""))
    assert.isDefined(failure)
    assert.strictEqual(reader.write(framed(1, "hi")), failure)
    assert.deepStrictEqual([reader.pending, story], [0, []])
  })
})

describe("what is wrong is said", () => {
  const said = (bytes: ReadonlyArray<number>, maxFrame = 1000) => {
    const { failure } = Wire.ours("server", maxFrame, [Uint8Array.from(bytes)])
    return [failure?.code, failure?.reason.message]
  }

  it("B126 with the reasons of TCP", () => {
    const f = (options: Wire.FrameOptions) => frame({ key, ...options })
    const violations: ReadonlyArray<readonly [ReadonlyArray<number>, string]> = [
      [f({ opcode: 1, rsv: 2 }), "a reserved bit is set"],
      [f({ opcode: 11 }), "opcode 11 is reserved"],
      [f({ opcode: 9, fin: false }), "a control frame is fragmented"],
      [f({ opcode: 9, payload: new Uint8Array(126) }), "a control frame is longer than 125 bytes"],
      [f({ opcode: 0 }), "a fragment continues no message"],
      [[...f({ opcode: 1, fin: false }), ...f({ opcode: 2 })], "a message begins inside another one"],
      [frame({ opcode: 1 }), "a frame of the client is not masked"],
      [f({ opcode: 1, bits: 16 }), "a length of 0 is written in 16 bits"],
      [f({ opcode: 2, length: 2n ** 63n }), "a length of 64 bits has its highest bit set"],
      [f({ opcode: 8, payload: [3, 237] }), "a close frame has the code 1005"]
    ]
    for (const [bytes, detail] of violations) {
      assert.deepStrictEqual(said(bytes), [1002, `protocol violation: ${detail}`])
    }
    assert.deepStrictEqual(said(f({ opcode: 2, length: 1001 })), [
      1009,
      "a frame of 1001 bytes is over the limit of 1000 bytes"
    ])
    assert.deepStrictEqual(said(f({ opcode: 1, payload: [255] })), [
      1007,
      "a frame is not valid UTF-8: the bytes are not UTF-8"
    ])
  })

  it("B123 in the header, before a byte of the payload came", () => {
    const header = frame({ opcode: 2, length: 1001, key })
    // the masking key has not come either
    assert.deepStrictEqual(said(header.slice(0, 4))[0], 1009)
    assert.deepStrictEqual(said(header.slice(0, 3))[0], undefined)
  })
})

describe("an extension", () => {
  const seen: Array<string> = []
  const options = {
    role: "server",
    maxFrame: 100,
    extension: {
      reserved: RSV1,
      decode: (payload: Uint8Array, limit: number) => {
        seen.push(`${hex(payload)} ${limit}`)
        if (payload.length === 0) return violation("nothing to decode")
        return payload[0] === 0xff ? payload : payload.map((byte) => byte + 1)
      }
    }
  } as const
  const told = (...frames: ReadonlyArray<Wire.FrameOptions>) => {
    seen.length = 0
    const { reader, story } = Wire.tell(options)
    const bytes = frames.flatMap((options) => frame({ key, ...options }))
    let failure = undefined
    for (const byte of bytes) failure = reader.write(Uint8Array.of(byte))
    const whole = Wire.tell(options)
    assert.deepStrictEqual(whole.reader.write(Uint8Array.from(bytes)), failure)
    assert.deepStrictEqual(whole.story, story)
    return [...story, failure?.code]
  }

  it("claims a reserved bit, and gets each message that has it in its first frame", () => {
    assert.deepStrictEqual(
      told(
        { opcode: 1, rsv: 4, payload: "HAL", fin: false },
        { opcode: 9 },
        { opcode: 0, payload: "hal" },
        { opcode: 1, payload: "plain" },
        { opcode: 2, rsv: 4, payload: [1, 2] }
      ),
      ["ping ", "text \"IBMibm\"", "text \"plain\"", "binary 0203", undefined]
    )
    assert.strictEqual(seen[0], `${Buffer.from("HALhal").toString("hex")} 100`)
  })

  it("does not claim it for control frames, later fragments, or the other bits", () => {
    assert.deepStrictEqual(told({ opcode: 9, rsv: 4 }), [1002])
    assert.deepStrictEqual(told({ opcode: 1, rsv: 4, fin: false }, { opcode: 0, rsv: 4 }), [1002])
    assert.deepStrictEqual(told({ opcode: 1, rsv: 2, payload: "a" }), [1002])
    assert.deepStrictEqual(told({ opcode: 1, rsv: 6, payload: "a" }), [1002])
  })

  it("may fail, and its text has to be UTF-8", () => {
    assert.deepStrictEqual(told({ opcode: 1, rsv: 4 }), [1002])
    assert.deepStrictEqual(told({ opcode: 1, rsv: 4, payload: [255] }), [notText().code])
  })
})

import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Codec from "../src/Codec.ts"
import type { CodecReason, InvalidMessage } from "../src/ConnectionError.ts"
import { FrameTooLong } from "../src/ConnectionError.ts"
import { ByteQueue } from "../src/internal/bytes/byteQueue.ts"
import { utf8Size } from "../src/internal/bytes/utf8.ts"
import { checkMsgpack } from "../src/internal/codec/msgpack.ts"

// ---------------------------------------------------------------------------------------------------------------------
// tools
// ---------------------------------------------------------------------------------------------------------------------

const utf8 = (text: string) => new TextEncoder().encode(text)
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

/** Bytes from numbers, texts and other bytes. */
const raw = (...parts: ReadonlyArray<number | string | Uint8Array>): Uint8Array =>
  concat(
    parts.map((part) =>
      typeof part === "number" ? new Uint8Array([part]) : typeof part === "string" ? utf8(part) : part
    )
  )

/** A generator with a fixed seed (mulberry32). */
const random = (seed: number) => {
  let a = seed
  const next = () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const int = (below: number) => Math.floor(next() * below)
  return { int, bytes: (n: number) => Uint8Array.from({ length: n }, () => int(256)) }
}
type Random = ReturnType<typeof random>

const splitRandomly = (wire: Uint8Array, r: Random, most: number): Array<Uint8Array> => {
  const chunks: Array<Uint8Array> = []
  for (let pos = 0; pos < wire.length;) {
    const n = 1 + r.int(most)
    chunks.push(wire.slice(pos, pos + n))
    pos += n
  }
  return chunks
}
const split = (wire: Uint8Array, size: number): Array<Uint8Array> =>
  Array.from({ length: Math.ceil(wire.length / size) }, (_, i) => wire.slice(i * size, (i + 1) * size))

interface Seen<A> {
  readonly messages: Array<A>
  readonly skipped: Array<FrameTooLong>
  error: CodecReason | undefined
  ended: CodecReason | undefined
}

/** Reads chunks one after another, copying bytes so that later writes cannot hide behind views. */
const read = <A, B>(
  codec: Codec.Codec<A, B>,
  chunks: ReadonlyArray<Uint8Array | string>,
  options?: Codec.Options
): Seen<A> => {
  const decoder = Codec.decoder(codec, options)
  const seen: Seen<A> = { messages: [], skipped: [], error: undefined, ended: undefined }
  for (const chunk of chunks) {
    const decoded = decoder.write(chunk)
    seen.messages.push(...decoded.messages)
    seen.skipped.push(...decoded.skipped)
    if (decoded.error !== undefined) {
      seen.error = decoded.error
      break
    }
  }
  seen.ended = decoder.end()
  return seen
}

const encoded = <A, B>(codec: Codec.Codec<A, B>, message: B, maxFrame?: number): Uint8Array =>
  Result.getOrThrow(Codec.encode(codec, message, { maxFrame }))
const refused = <A>(result: Result.Result<A, CodecReason>): CodecReason => {
  if (Result.isSuccess(result)) throw new Error("expected a failure")
  return result.failure
}
const invalidMessage = (reason: CodecReason | undefined): InvalidMessage => {
  if (reason?._tag !== "InvalidMessage") throw new Error(`expected InvalidMessage, got ${reason?._tag}`)
  return reason
}
const tooLong = (reason: CodecReason | undefined): { direction: string; size: number; limit: number } => {
  if (reason?._tag !== "FrameTooLong") throw new Error(`expected FrameTooLong, got ${reason?._tag}`)
  return { direction: reason.direction, size: reason.size, limit: reason.limit }
}

/** How many bytes `f` copies with `set`. */
const copied = (f: () => void): number => {
  const proto = Object.getPrototypeOf(Uint8Array.prototype) as { set: (source: ArrayLike<number>, at?: number) => void }
  const set = proto.set
  let total = 0
  proto.set = function(source, at) {
    total += source.length
    return set.call(this, source, at)
  }
  try {
    f()
  } finally {
    proto.set = set
  }
  return total
}

/** How many bytes `f` asks for with `new Uint8Array(n)`, and how often. */
const allocations = (f: () => void): { readonly bytes: number; readonly times: number } => {
  const Original = globalThis.Uint8Array
  let bytes = 0
  let times = 0
  globalThis.Uint8Array = new Proxy(Original, {
    construct(target, args) {
      if (typeof args[0] === "number") {
        bytes += args[0]
        times++
      }
      return Reflect.construct(target, args)
    }
  })
  try {
    f()
  } finally {
    globalThis.Uint8Array = Original
  }
  return { bytes, times }
}
const allocated = (f: () => void): number => allocations(f).bytes

/** `deepStrictEqual` for messages: chai takes milliseconds for bytes, so it is asked only about a difference. */
const same = (actual: ReadonlyArray<unknown>, expected: ReadonlyArray<unknown>, name?: string) => {
  const alike = (a: unknown, b: unknown) =>
    a === b ||
    (a instanceof Uint8Array && b instanceof Uint8Array && a.length === b.length && a.every((byte, i) => byte === b[i]))
  if (actual.length === expected.length && actual.every((a, i) => alike(a, expected[i]))) return
  assert.deepStrictEqual(actual, expected, name)
}

// every framing with a way to make a message of it
interface Case {
  readonly name: string
  readonly make: (options: Codec.FramingOptions) => Codec.Codec<Uint8Array> | Codec.Codec<string>
  readonly message: (r: Random) => Uint8Array | string
}

const someBytes = (r: Random): Uint8Array => r.bytes([0, 1, 5, 40, 540][r.int(5)] + r.int(3))
const letters = (r: Random, alphabet: string, n: number) =>
  Array.from({ length: n }, () => [...alphabet][r.int([...alphabet].length)]).join("")

const cases: ReadonlyArray<Case> = [
  { name: "fixed", make: (o) => Codec.fixed(7, o), message: (r) => r.bytes(7) },
  { name: "fixed of one byte", make: (o) => Codec.fixed(1, o), message: (r) => r.bytes(1) },
  {
    name: "delimiter of one byte",
    make: (o) => Codec.delimiter(new Uint8Array([0]), o),
    message: (r) => someBytes(r).map((byte) => byte === 0 ? 1 : byte)
  },
  {
    name: "delimiter of two bytes",
    make: (o) => Codec.delimiter("\r\n", o),
    message: (r) => utf8(letters(r, "ab\r", r.int(12)).replace(/\r+$/, ""))
  },
  {
    name: "delimiter that overlaps itself",
    make: (o) => Codec.delimiter("abab!", o),
    message: (r) => utf8(letters(r, "ab", r.int(12)))
  },
  {
    name: "delimiter of equal bytes",
    make: (o) => Codec.delimiter("aaa", o),
    message: (r) => utf8(letters(r, "bc", r.int(3)))
  },
  { name: "lines", make: (o) => Codec.lines(o), message: (r) => letters(r, "ab é€😀\u{feff}", r.int(30)) },
  {
    name: "lines with crlf",
    make: (o) => Codec.lines({ ...o, crlf: true }),
    message: (r) => letters(r, "ab \ré", r.int(30)).replace(/\r+$/, "")
  },
  {
    name: "lines as JSON text",
    make: (o) => Codec.lines(o).pipe(Codec.map({ decode: (s: string) => s, encode: (s: string) => s })),
    message: (r) => letters(r, "abé", r.int(200))
  },
  { name: "lengthPrefix", make: (o) => Codec.lengthPrefix(o), message: someBytes },
  ...([1, 2, 3, 4, 8] as const).flatMap((bytes) =>
    (["big", "little"] as const).map((endian): Case => ({
      name: `lengthPrefix ${bytes} ${endian}`,
      make: (o) => Codec.lengthPrefix({ ...o, bytes, endian }),
      message: (r) => bytes === 1 ? r.bytes(r.int(256)) : someBytes(r)
    }))
  ),
  {
    name: "lengthPrefix that counts itself",
    make: (o) => Codec.lengthPrefix({ ...o, adjustment: -4 }),
    message: someBytes
  },
  {
    name: "lengthPrefix with an offset and more after it",
    make: (o) => Codec.lengthPrefix({ ...o, offset: 2, bytes: 2, adjustment: 3 }),
    message: (r) => r.bytes(3 + r.int(600))
  },
  {
    name: "lengthPrefix that strips more than the header",
    make: (o) => Codec.lengthPrefix({ ...o, bytes: 2, strip: 5 }),
    message: someBytes
  },
  {
    name: "lengthPrefix that keeps its header",
    make: (o) => Codec.lengthPrefix({ ...o, offset: 1, bytes: 2, strip: 0 }),
    message: (r) => {
      const body = r.bytes(r.int(600))
      return raw(r.int(256), body.length >> 8, body.length & 0xff, body)
    }
  },
  { name: "varint", make: (o) => Codec.varint(o), message: someBytes }
]

const run = (one: Case, options: Codec.FramingOptions = {}): Codec.Codec<Uint8Array | string> =>
  one.make(options) as Codec.Codec<Uint8Array | string>

// ---------------------------------------------------------------------------------------------------------------------
// framing
// ---------------------------------------------------------------------------------------------------------------------

describe("Codec framing", () => {
  describe("B1 any split of the byte stream, down to single bytes, gives the same messages", () => {
    it.each(cases)("$name", (one) => {
      const codec = run(one)
      for (let seed = 1; seed <= 16; seed++) {
        const r = random(seed)
        const messages = Array.from({ length: r.int(9) + 1 }, () => one.message(r))
        const wire = concat(messages.map((message) => encoded(codec, message)))
        for (const chunks of [[wire], split(wire, 1), splitRandomly(wire, r, 3), splitRandomly(wire, r, 900)]) {
          const seen = read(codec, chunks)
          same(seen.messages, messages)
          assert.strictEqual(seen.error, undefined)
          assert.strictEqual(seen.ended, undefined)
          assert.deepStrictEqual(seen.skipped, [])
        }
      }
    })

    it.each(cases)("$name, with over-long frames among them that are skipped", (one) => {
      for (const report of ["header", "body"] as const) {
        const codec = run(one, { tooLong: "skip", report, maxFrame: 20 })
        const wide = run(one)
        for (let seed = 1; seed <= 12; seed++) {
          const r = random(seed)
          const messages = Array.from({ length: r.int(9) + 1 }, () => one.message(r))
          const size = (message: Uint8Array | string) =>
            typeof message === "string" ? utf8(message).length : message.length
          const short = messages.filter((message) => size(message) <= 20)
          const long = messages.filter((message) => size(message) > 20)
          const wire = concat(messages.map((message) => encoded(wide, message)))
          for (const chunks of [[wire], split(wire, 1), splitRandomly(wire, r, 3), splitRandomly(wire, r, 900)]) {
            const seen = read(codec, chunks)
            same(seen.messages, short)
            assert.strictEqual(seen.error, undefined)
            assert.strictEqual(seen.ended, undefined)
            assert.strictEqual(seen.skipped.length, long.length)
            if (report === "body") assert.deepStrictEqual(seen.skipped.map((error) => error.size), long.map(size))
          }
        }
      }
    })
  })

  it("B1 a stream without framing gives the same bytes for any split", () => {
    const wire = random(1).bytes(500)
    const seen = read(Codec.bytes(), splitRandomly(wire, random(2), 9), { maxFrame: 4 })
    assert.deepStrictEqual(concat(seen.messages), wire)
    assert.isTrue(seen.messages.every((message) => message.length <= 4))
    assert.strictEqual(seen.ended, undefined)
    assert.deepStrictEqual(read(Codec.bytes(), [new Uint8Array(0)]).messages, [])
  })

  it("B2 a frame over the limit whose body is all present: one error; when skipping, the next frame decodes", () => {
    const wire = raw(0, 0, 0, 1, "a", 0, 0, 0, 5, "bcdef", 0, 0, 0, 2, "gh")
    const failed = read(Codec.lengthPrefix(), [wire, wire], { maxFrame: 4 })
    assert.deepStrictEqual(failed.messages.map(textOf), ["a"])
    assert.deepStrictEqual(tooLong(failed.error), { direction: "decode", size: 5, limit: 4 })
    const skipped = read(Codec.lengthPrefix({ tooLong: "skip" }), [wire], { maxFrame: 4 })
    assert.deepStrictEqual(skipped.messages.map(textOf), ["a", "gh"])
    assert.deepStrictEqual(skipped.skipped.map(tooLong), [{ direction: "decode", size: 5, limit: 4 }])
  })

  it("B3 the same with the body in two chunks: one error only, the rest skipped, the next frame decodes", () => {
    const chunks = [raw(0, 0, 0, 5, "bc"), raw("def", 0, 0, 0, 2, "gh")]
    const skipped = read(Codec.lengthPrefix({ tooLong: "skip" }), chunks, { maxFrame: 4 })
    assert.deepStrictEqual(skipped.messages.map(textOf), ["gh"])
    assert.strictEqual(skipped.skipped.length, 1)
    const decoder = Codec.decoder(Codec.lengthPrefix(), { maxFrame: 4 })
    const first = decoder.write(chunks[0])
    assert.strictEqual(first.error?._tag, "FrameTooLong")
    assert.deepStrictEqual(decoder.write(chunks[1]).messages, [])
  })

  it("B4 fail-fast errors at the header, fail-slow only after the body; both recover twice in a row", () => {
    const header = raw(0, 0, 0, 5)
    for (const report of ["header", "body"] as const) {
      const decoder = Codec.decoder(Codec.lengthPrefix({ tooLong: "skip", report }), { maxFrame: 4 })
      for (let turn = 0; turn < 2; turn++) {
        const atHeader = decoder.write(header)
        assert.strictEqual(atHeader.skipped.length, report === "header" ? 1 : 0)
        assert.strictEqual(decoder.pending, 4)
        assert.strictEqual(decoder.write(raw("abcd")).skipped.length, 0)
        assert.strictEqual(decoder.pending, 8)
        const atEnd = decoder.write(raw("e"))
        assert.strictEqual(atEnd.skipped.length, report === "header" ? 0 : 1)
        assert.strictEqual(decoder.pending, 0)
      }
      assert.deepStrictEqual(decoder.write(raw(0, 0, 0, 1, "x")).messages.map(textOf), ["x"])
    }
    // "fail" ends the stream at the header, before the body came, also when the report is asked for at the body
    const decoder = Codec.decoder(Codec.lengthPrefix({ report: "body" }), { maxFrame: 4 })
    assert.strictEqual(decoder.write(header).error?._tag, "FrameTooLong")
  })

  it("B5 adjusted length before the end of the header, strip longer than the frame: a typed error, no hang", () => {
    const check = (options: Codec.LengthPrefixOptions, wire: Uint8Array, detail: RegExp) => {
      for (const chunks of [[wire], split(wire, 1)]) {
        for (const tooLong of ["fail", "skip"] as const) {
          const seen = read(Codec.lengthPrefix({ ...options, tooLong }), chunks)
          assert.strictEqual(seen.error?._tag, "InvalidLength")
          assert.match(seen.error?.message ?? "", detail)
          assert.deepStrictEqual(seen.messages, [])
        }
      }
    }
    check({ adjustment: -4 }, raw(0, 0, 0, 3, "abc"), /length 3 with adjustment -4/)
    check({ bytes: 1, offset: 2, adjustment: -3 }, raw(9, 9, 0), /length 0 with adjustment -3/)
    check({ bytes: 1, strip: 5 }, raw(3, "abc"), /4 bytes has no 5 bytes to strip/)
  })

  it("B5 an 8-byte length with its highest bit set is too long, not negative", () => {
    const seen = read(Codec.lengthPrefix({ bytes: 8 }), [raw(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)])
    assert.deepStrictEqual(tooLong(seen.error), { direction: "decode", size: 2 ** 64, limit: 1048576 })
  })

  it("B5 a varint of more than 64 bits is refused, one with needless zeros is read", () => {
    const ff = new Uint8Array(9).fill(0xff)
    for (const wire of [raw(ff, 0x02), raw(ff, 0x80, 0x01), raw(ff, 0xff)]) {
      for (const chunks of [[wire], split(wire, 1)]) {
        assert.strictEqual(read(Codec.varint(), chunks).error?._tag, "InvalidLength")
      }
    }
    assert.strictEqual(tooLong(read(Codec.varint(), [raw(ff, 0x01)]).error).size, 2 ** 64)
    assert.deepStrictEqual(read(Codec.varint(), [raw(0x81, 0x80, 0x00, "a")]).messages.map(textOf), ["a"])
    assert.deepStrictEqual(encoded(Codec.varint(), new Uint8Array(300)).subarray(0, 2), raw(0xac, 0x02))
  })

  describe("B6 widths, byte orders, adjustment and strip round trip", () => {
    for (const bytes of [1, 2, 3, 4, 8] as const) {
      for (const endian of ["big", "little"] as const) {
        it(`${bytes} bytes, ${endian}`, () => {
          for (const offset of [0, 1, 3]) {
            for (const adjustment of [-bytes - offset, -1, 0, 2]) {
              const size = offset + bytes
              for (const strip of [0, 1, offset, size, size + 2]) {
                const codec = Codec.lengthPrefix({ bytes, endian, offset, adjustment, strip })
                for (const length of [0, 1, 20, 100]) {
                  const total = size + length
                  if (total < strip || length - adjustment < 0) continue
                  const message = random(length).bytes(total - strip)
                  const wire = encoded(codec, message)
                  assert.strictEqual(wire.length, total)
                  const want = message.slice()
                  // where the message holds the length field, it is filled in
                  for (let i = offset; i < size; i++) if (i >= strip) want[i - strip] = wire[i]
                  for (const chunks of [[wire, wire], split(concat([wire, wire]), 1)]) {
                    same(read(codec, chunks).messages, [want, want])
                  }
                  // encoding what was decoded gives the same wire bytes
                  assert.deepStrictEqual(encoded(codec, want), wire)
                }
              }
            }
          }
        })
      }
    }

    it("writes exactly these bytes", () => {
      assert.deepStrictEqual(encoded(Codec.lengthPrefix(), utf8("ab")), raw(0, 0, 0, 2, "ab"))
      assert.deepStrictEqual(
        encoded(Codec.lengthPrefix({ bytes: 3, endian: "little" }), utf8("ab")),
        raw(2, 0, 0, "ab")
      )
      assert.deepStrictEqual(encoded(Codec.lengthPrefix({ bytes: 2, offset: 1 }), utf8("ab")), raw(0, 0, 2, "ab"))
      assert.deepStrictEqual(
        encoded(Codec.lengthPrefix({ bytes: 2, offset: 1, strip: 0 }), raw(7, 9, 9, "ab")),
        raw(7, 0, 2, "ab")
      )
      assert.deepStrictEqual(encoded(Codec.lengthPrefix({ bytes: 1, adjustment: 2 }), utf8("abc")), raw(1, "abc"))
    })
  })

  it("B7 a length that includes itself or not; a negative adjusted length is refused at encoding", () => {
    const including = Codec.lengthPrefix({ bytes: 2, adjustment: -2 })
    assert.deepStrictEqual(encoded(including, utf8("abc")), raw(0, 5, "abc"))
    assert.deepStrictEqual(read(including, [raw(0, 5, "abc", 0, 2)]).messages.map(textOf), ["abc", ""])
    const adjusted = Codec.lengthPrefix({ adjustment: 4 })
    assert.strictEqual(refused(Codec.encode(adjusted, utf8("abc")))._tag, "InvalidLength")
    assert.deepStrictEqual(encoded(adjusted, utf8("abcd")), raw(0, 0, 0, 0, "abcd"))
    const kept = Codec.lengthPrefix({ strip: 0 })
    assert.strictEqual(refused(Codec.encode(kept, utf8("abc")))._tag, "InvalidLength")
    const narrow = Codec.lengthPrefix({ bytes: 1, adjustment: -1 })
    assert.strictEqual(encoded(narrow, new Uint8Array(254)).length, 255)
    assert.deepStrictEqual(tooLong(refused(Codec.encode(narrow, new Uint8Array(255)))), {
      direction: "encode",
      size: 255,
      limit: 254
    })
    assert.strictEqual(refused(Codec.encode(Codec.fixed(3), utf8("ab")))._tag, "InvalidLength")
  })

  it("B8 lines with \\n and \\r\\n mixed; an empty line is an empty message", () => {
    const wire = raw("a\nb\r\n\n\r\nc\r\r\n\rd\n")
    for (const chunks of [[wire], split(wire, 1), split(wire, 2)]) {
      const seen = read(Codec.lines(), chunks)
      assert.deepStrictEqual(seen.messages, ["a", "b", "", "", "c\r", "\rd"])
      assert.strictEqual(seen.ended, undefined)
    }
    assert.deepStrictEqual(encoded(Codec.lines(), ""), raw("\n"))
    assert.deepStrictEqual(encoded(Codec.lines({ crlf: true }), "a"), raw("a\r\n"))
    for (const message of ["a\nb", "\n", "a\r", "\r"]) {
      for (const crlf of [false, true]) {
        const reason = invalidMessage(refused(Codec.encode(Codec.lines({ crlf }), message)))
        assert.strictEqual(reason.direction, "encode")
      }
    }
    assert.deepStrictEqual(encoded(Codec.lines(), "a\rb"), raw("a\rb\n"))
  })

  it("B9 \\r at the end of one chunk and \\n at the start of the next is one terminator", () => {
    assert.deepStrictEqual(read(Codec.lines(), [raw("ab\r"), raw("\ncd\r"), raw("\n")]).messages, ["ab", "cd"])
    // the waiting \r does not count for the limit, as it does not in one chunk
    const seen = read(Codec.lines(), [raw("abcd\r"), raw("\n")], { maxFrame: 4 })
    assert.deepStrictEqual(seen.messages, ["abcd"])
    // but it does as soon as it is known not to end the line
    assert.strictEqual(read(Codec.lines(), [raw("abcd\r"), raw("x")], { maxFrame: 4 }).error?._tag, "FrameTooLong")
  })

  it("B10 a line that is too long errors once, not on every chunk", () => {
    for (const report of ["header", "body"] as const) {
      const decoder = Codec.decoder(Codec.lines({ tooLong: "skip", report }), { maxFrame: 4 })
      for (let turn = 0; turn < 2; turn++) {
        const errors: Array<FrameTooLong> = []
        for (let i = 0; i < 50; i++) errors.push(...decoder.write(raw("xxx")).skipped)
        assert.strictEqual(errors.length, report === "header" ? 1 : 0)
        assert.strictEqual(decoder.pending, 150)
        const last = decoder.write(raw("\nok\n"))
        errors.push(...last.skipped)
        assert.deepStrictEqual(errors.map(tooLong), [{
          direction: "decode",
          size: report === "header" ? 6 : 150,
          limit: 4
        }])
        assert.deepStrictEqual(last.messages, ["ok"])
      }
    }
    const fatal = Codec.decoder(Codec.lines(), { maxFrame: 4 })
    assert.strictEqual(fatal.write(raw("abcd")).error, undefined)
    const error = fatal.write(raw("e")).error
    assert.deepStrictEqual(tooLong(error), { direction: "decode", size: 5, limit: 4 })
    assert.strictEqual(fatal.write(raw("\nok\n")).error, error)
  })

  it("B10 an over-long frame before a split delimiter is recovered from", () => {
    const codec = Codec.delimiter("--", { tooLong: "skip" })
    for (const chunks of [[raw("abcdefgh-"), raw("-ok--")], [raw("abcdefgh"), raw("-"), raw("-"), raw("ok--")]]) {
      const seen = read(codec, chunks, { maxFrame: 4 })
      assert.deepStrictEqual(seen.messages.map(textOf), ["ok"])
      assert.strictEqual(seen.skipped.length, 1)
    }
  })

  describe("B11 a decoder that produced a message does not ask for another read", () => {
    it.each(cases)("$name", (one) => {
      const codec = run(one)
      const r = random(5)
      const decoder = Codec.decoder(codec)
      for (let turn = 0; turn < 20; turn++) {
        const message = one.message(r)
        const wire = encoded(codec, message)
        for (let i = 0; i < wire.length - 1; i++) {
          const decoded = decoder.write(wire.slice(i, i + 1))
          same(decoded.messages, [])
          assert.strictEqual(decoder.pending, i + 1)
        }
        same(decoder.write(wire.slice(-1)).messages, [message])
        assert.strictEqual(decoder.pending, 0)
      }
    })
  })

  describe("B12 leftover bytes at the end of the stream are a truncated error, for a cut at every offset", () => {
    it.each(cases)("$name", (one) => {
      for (const options of [{}, { tooLong: "skip", maxFrame: 3 } as const]) {
        const codec = run(one, options)
        const wide = run(one)
        const r = random(3)
        const frames = Array.from({ length: 3 }, () => encoded(wide, one.message(r)))
        const ends = frames.reduce((all, frame) => [...all, all[all.length - 1] + frame.length], [0])
        const wire = concat(frames)
        for (let cut = 0; cut <= wire.length; cut++) {
          const begun = Math.max(...ends.filter((end) => end <= cut))
          const part = wire.slice(0, cut)
          for (const chunks of cut < 300 ? [[part], split(part, 1)] : [[part]]) {
            const ended = read(codec, chunks).ended
            if (begun === cut) assert.strictEqual(ended, undefined)
            else assert.strictEqual(ended?._tag === "Truncated" ? ended.leftover : ended, cut - begun)
          }
        }
      }
    })
  })

  it("B13 an announced length of 4 GiB or 2^63 allocates nothing before the limit check", () => {
    const announced = [
      [Codec.lengthPrefix(), raw(0xff, 0xff, 0xff, 0xff)],
      [Codec.lengthPrefix({ bytes: 8 }), raw(0x80, 0, 0, 0, 0, 0, 0, 0)],
      [Codec.lengthPrefix({ bytes: 8, endian: "little", tooLong: "skip" }), raw(0, 0, 0, 0, 0, 0, 0, 0x80)],
      [Codec.varint(), raw(new Uint8Array(9).fill(0xff), 1)]
    ] as const
    for (const [codec, header] of announced) {
      const total = allocated(() => {
        const seen = read(codec, [header])
        assert.strictEqual((seen.error ?? seen.skipped[0])._tag, "FrameTooLong")
      })
      assert.isBelow(total, 64)
    }
  })

  it("B13 under the limit no more is allocated than has arrived", () => {
    const header = raw(0x3f, 0xff, 0xff, 0xff)
    const total = allocated(() => {
      const decoder = Codec.decoder(Codec.lengthPrefix(), { maxFrame: 2 ** 30 })
      decoder.write(header)
      for (let i = 0; i < 10; i++) decoder.write(raw("some bytes"))
      assert.strictEqual(decoder.pending, 104)
    })
    // 11 chunks that the test itself makes are about 110 bytes
    assert.isBelow(total, 600)
  })

  describe("B14 a message exactly at the limit passes, one byte more fails with both sizes in the error", () => {
    const at = (one: Case, n: number): Uint8Array | string | undefined => {
      if (one.name.startsWith("lines")) return "x".repeat(n)
      if (one.name.startsWith("fixed")) return undefined
      return new Uint8Array(n).fill(1)
    }
    it.each(cases.filter((one) => at(one, 1) !== undefined))("$name", (one) => {
      for (
        const [codec, maxFrame] of [[run(one), 50], [run(one, { maxFrame: 50 }), undefined], [
          run(one).pipe(Codec.withMaxFrame(50)),
          1000
        ]] as const
      ) {
        const [fits, over] = [at(one, 50) ?? "", at(one, 51) ?? ""]
        const want = run(one)
        const wire = encoded(want, fits)
        for (const chunks of [[wire], split(wire, 1)]) {
          const seen = read(codec, chunks, { maxFrame })
          assert.strictEqual(seen.messages.length, 1)
          assert.strictEqual(seen.error, undefined)
        }
        for (const chunks of [[encoded(want, over)], split(encoded(want, over), 1)]) {
          const seen = read(codec, chunks, { maxFrame })
          assert.deepStrictEqual(tooLong(seen.error), { direction: "decode", size: 51, limit: 50 })
        }
        assert.isTrue(Result.isSuccess(Codec.encode(codec, fits, { maxFrame })))
        const reason = refused(Codec.encode(codec, over, { maxFrame }))
        assert.deepStrictEqual(tooLong(reason), { direction: "encode", size: 51, limit: 50 })
        assert.match(reason.message, /51 bytes.*50 bytes/)
      }
    })

    it("the default limit is 1 MiB", () => {
      const codec = Codec.lengthPrefix()
      assert.strictEqual(encoded(codec, new Uint8Array(1048576)).length, 1048580)
      assert.strictEqual(refused(Codec.encode(codec, new Uint8Array(1048577)))._tag, "FrameTooLong")
      assert.strictEqual(read(codec, [raw(0, 0x10, 0, 0)]).error, undefined)
      assert.strictEqual(read(codec, [raw(0, 0x10, 0, 1)]).error?._tag, "FrameTooLong")
    })

    it("the lower of the codec's and the caller's limit holds", () => {
      const codec = Codec.lengthPrefix({ maxFrame: 100 }).pipe(Codec.withMaxFrame(10))
      assert.strictEqual(tooLong(refused(Codec.encode(codec, new Uint8Array(11)))).limit, 10)
      assert.strictEqual(tooLong(refused(Codec.encode(codec, new Uint8Array(11), { maxFrame: 5 }))).limit, 5)
      const wide = Codec.lengthPrefix().pipe(Codec.withMaxFrame(2 ** 21))
      assert.strictEqual(encoded(wide, new Uint8Array(2 ** 21)).length, 2 ** 21 + 4)
    })

    it("a frame of fixed size over the limit", () => {
      assert.deepStrictEqual(tooLong(read(Codec.fixed(51), [raw(1)], { maxFrame: 50 }).error), {
        direction: "decode",
        size: 51,
        limit: 50
      })
    })

    it("a delimiter that may have begun does not count yet", () => {
      const codec = Codec.delimiter("abc")
      assert.deepStrictEqual(read(codec, [raw("xxab"), raw("c")], { maxFrame: 2 }).messages.map(textOf), ["xx"])
      assert.strictEqual(read(codec, [raw("xxaa")], { maxFrame: 2 }).error?._tag, "FrameTooLong")
    })
  })

  it("skips and counts a frame whose header is split as well", () => {
    const wire = concat([raw(0, 9, "123456789"), raw(0, 2, "ok")])
    for (const chunks of [split(wire, 1), split(wire, 3)]) {
      const seen = read(Codec.lengthPrefix({ bytes: 2, tooLong: "skip" }), chunks, { maxFrame: 4 })
      assert.deepStrictEqual(seen.messages.map(textOf), ["ok"])
      assert.strictEqual(seen.skipped.length, 1)
    }
  })

  it("a message that holds the delimiter, or ends early with it, is refused", () => {
    assert.strictEqual(invalidMessage(refused(Codec.encode(Codec.delimiter("--"), utf8("a--b")))).direction, "encode")
    assert.strictEqual(refused(Codec.encode(Codec.delimiter("abab"), utf8("ab")))._tag, "InvalidMessage")
    assert.strictEqual(refused(Codec.encode(Codec.delimiter("--"), utf8("a-")))._tag, "InvalidMessage")
    assert.deepStrictEqual(encoded(Codec.delimiter("aab"), utf8("a")), raw("aaab"))
    assert.deepStrictEqual(read(Codec.delimiter("aab"), [raw("aaab")]).messages.map(textOf), ["a"])
  })

  it("a dead decoder returns the same error for ever, and nothing else", () => {
    const dead: ReadonlyArray<readonly [Codec.Codec<unknown, never>, Uint8Array]> = [
      [Codec.lengthPrefix({ maxFrame: 4 }), raw(0, 0, 0, 9)],
      [Codec.lengthPrefix({ adjustment: -4 }), raw(0, 0, 0, 0)],
      [Codec.lines(), raw("ok\n", 0xff, "\n")],
      [Codec.lines().pipe(Codec.json), raw("1\n{\n2\n")]
    ]
    for (const [codec, wire] of dead) {
      const decoder = Codec.decoder(codec)
      const first = decoder.write(wire)
      assert.isDefined(first.error)
      for (let i = 0; i < 3; i++) {
        const again = decoder.write(raw("1\n"))
        assert.strictEqual(again.error, first.error)
        assert.deepStrictEqual([again.messages.length, again.skipped.length], [0, 0])
        assert.strictEqual(decoder.end(), first.error)
        assert.strictEqual(decoder.pending, 0)
      }
    }
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// copies
// ---------------------------------------------------------------------------------------------------------------------

describe("Codec copies", () => {
  it("many frames in one chunk are views of it", () => {
    for (
      const [codec, message] of [
        [Codec.lengthPrefix(), utf8("hello")],
        [Codec.varint(), utf8("hello")],
        [Codec.fixed(5), utf8("hello")],
        [Codec.delimiter("\r\n"), utf8("hello")],
        [Codec.lengthPrefix({ bytes: 1, strip: 0 }), raw(5, "hello")]
      ] as const
    ) {
      const frame = encoded(codec, message)
      const chunk = concat(Array.from({ length: 1000 }, () => frame))
      const decoder = Codec.decoder(codec)
      assert.strictEqual(
        copied(() => {
          const { messages } = decoder.write(chunk)
          assert.strictEqual(messages.length, 1000)
          assert.isTrue(messages.every((view) => view.buffer === chunk.buffer))
        }),
        0
      )
    }
  })

  it("a frame of 1 MiB in chunks of 1 KiB costs one copy", () => {
    for (
      const [codec, message, extra] of [
        [Codec.lengthPrefix(), new Uint8Array(1048576), 1024],
        [Codec.varint(), new Uint8Array(1048576), 1024],
        [Codec.delimiter("\0"), new Uint8Array(1048576).fill(1), 1024],
        [Codec.lines() as Codec.Codec<unknown, string>, "x".repeat(1048576), 1024]
      ] as ReadonlyArray<readonly [Codec.Codec<unknown, unknown>, unknown, number]>
    ) {
      const chunks = split(encoded(codec, message), 1024)
      const decoder = Codec.decoder(codec)
      const total = copied(() => {
        let messages = 0
        for (const chunk of chunks) messages += decoder.write(chunk).messages.length
        assert.strictEqual(messages, 1)
      })
      assert.isAtLeast(total, 1048576 - 1024)
      assert.isAtMost(total, 1048576 + extra)
    }
  })

  it("a frame of 100 KiB in single bytes costs two copies, and about its size in memory", () => {
    const chunks = split(encoded(Codec.lengthPrefix(), new Uint8Array(100_000)), 1)
    const decoder = Codec.decoder(Codec.lengthPrefix())
    let blocks = { bytes: 0, times: 0 }
    const total = copied(() => {
      blocks = allocations(() => {
        for (const chunk of chunks.slice(0, -1)) decoder.write(chunk)
      })
      decoder.write(chunks[chunks.length - 1])
    })
    assert.isAtMost(total, 210_000)
    assert.isAtMost(blocks.bytes, 120_000)
    assert.isAtMost(blocks.times, 30)
  })

  it("the last byte of a frame in a big chunk does not copy the frames after it", () => {
    const frame = encoded(Codec.lengthPrefix(), new Uint8Array(100))
    const wire = concat(Array.from({ length: 600 }, () => frame))
    const decoder = Codec.decoder(Codec.lengthPrefix())
    const total = copied(() => {
      decoder.write(wire.slice(0, 50))
      assert.strictEqual(decoder.write(wire.slice(50)).messages.length, 600)
    })
    assert.isBelow(total, 200)
  })

  it("a small leftover does not keep its big chunk, a big one is not copied", () => {
    const chunk = new Uint8Array(65536)
    const small = new ByteQueue()
    small.push(chunk.subarray(0, 600), 65536)
    assert.notStrictEqual(small.take(600).buffer, chunk.buffer)
    const big = new ByteQueue()
    big.push(chunk.subarray(0, 32768), 65536)
    assert.strictEqual(big.take(32768).buffer, chunk.buffer)
    assert.strictEqual(big.size, 0)
  })

  it("a delimiter is never searched for twice in the same bytes", () => {
    const proto = Object.getPrototypeOf(Uint8Array.prototype) as { indexOf: (item: number, from?: number) => number }
    const indexOf = proto.indexOf
    let searched = 0
    proto.indexOf = function(this: Uint8Array, item, from) {
      const at = indexOf.call(this, item, from)
      searched += (at < 0 ? this.length : at + 1) - (from ?? 0)
      return at
    }
    try {
      const decoder = Codec.decoder(Codec.delimiter("\r\n\r\n"))
      const chunk = utf8("a line of an endless header\r\nb")
      for (let i = 0; i < 2000; i++) decoder.write(chunk)
      assert.strictEqual(decoder.pending, 2000 * chunk.length)
      assert.isAtMost(searched, 2000 * chunk.length)
    } finally {
      proto.indexOf = indexOf
    }
  })

  it("skipping holds nothing", () => {
    const total = copied(() => {
      const decoder = Codec.decoder(Codec.lengthPrefix({ tooLong: "skip" }), { maxFrame: 10 })
      decoder.write(raw(0, 0x10, 0, 0))
      const chunk = new Uint8Array(100)
      for (let i = 0; i < 1000; i++) decoder.write(chunk)
      assert.strictEqual(decoder.pending, 100_004)
    })
    assert.isBelow(total, 100)
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// payloads
// ---------------------------------------------------------------------------------------------------------------------

describe("Codec payload", () => {
  it("B15 invalid UTF-8 in a text codec is a typed error that still delivers the messages before it", () => {
    for (const wire of [raw("one\ntwo\n", 0xc3, "\nfour\n"), raw("one\ntwo\n", 0xed, 0xa0, 0x80, "\n")]) {
      for (const chunks of [[wire], split(wire, 1), split(wire, 5)]) {
        const seen = read(Codec.lines(), chunks)
        assert.deepStrictEqual(seen.messages, ["one", "two"])
        const reason = invalidMessage(seen.error)
        assert.deepInclude(reason, { direction: "decode", format: "UTF-8" })
      }
    }
    const text = Codec.lengthPrefix({ bytes: 1 }).pipe(Codec.text)
    const seen = read(text, [raw(1, "a", 1, 0xff, 1, "b")])
    assert.deepStrictEqual(seen.messages, ["a"])
    assert.strictEqual(invalidMessage(seen.error).format, "UTF-8")
  })

  it("B15 a multi-byte character split over chunks is no error", () => {
    const wire = raw("a😀é\nb€\n")
    for (let cut = 0; cut <= wire.length; cut++) {
      assert.deepStrictEqual(read(Codec.lines(), [wire.slice(0, cut), wire.slice(cut)]).messages, ["a😀é", "b€"])
    }
  })

  it("B15 half a surrogate pair is refused at encoding, not replaced", () => {
    for (const codec of [Codec.lines(), Codec.lengthPrefix().pipe(Codec.text)]) {
      assert.deepInclude(invalidMessage(refused(Codec.encode(codec, "a\ud800"))), {
        direction: "encode",
        format: "UTF-8"
      })
    }
  })

  it("a byte order mark survives", () => {
    assert.deepStrictEqual(read(Codec.lines(), [raw("\ufeffa\n\ufeff\n")]).messages, ["\ufeffa", "\ufeff"])
    const text = Codec.varint().pipe(Codec.text)
    assert.deepStrictEqual(read(text, [encoded(text, "\ufeffa")]).messages, ["\ufeffa"])
  })

  it("B16 a JSON depth bomb is bounded by the frame limit", () => {
    const codec = Codec.lines().pipe(Codec.json)
    const seen = read(codec, split(raw("[".repeat(100_000)), 1000), { maxFrame: 10_000 })
    assert.deepInclude(tooLong(seen.error), { limit: 10_000 })
    // at the limit it is read, or refused, but never thrown
    const deep = "[".repeat(50_000) + "]".repeat(50_000)
    const recursive: Schema.Codec<unknown> = Schema.suspend((): Schema.Codec<unknown> =>
      Schema.Array(recursive) as Schema.Codec<unknown>
    )
    for (const one of [codec, Codec.lines().pipe(Codec.schema(recursive))]) {
      const result = read(one, [raw(deep, "\n")])
      assert.isTrue(result.messages.length === 1 || result.error?._tag === "InvalidMessage")
    }
  })

  it("B122 JSON of more than 100 levels is refused in both directions, brackets in strings do not count", () => {
    const codec = Codec.lines().pipe(Codec.json)
    const nested = (levels: number, inner: string) => "[{\"a\":".repeat(levels / 2) + inner + "}]".repeat(levels / 2)
    const values = ["1", "\"[[[[\"", "\"\\\\\"", JSON.stringify("\\\"[".repeat(200)), JSON.stringify("{\\".repeat(200))]
    for (const inner of values) {
      const fits = nested(100, inner)
      const seen = read(codec, [raw(fits, "\n")])
      assert.deepStrictEqual(seen.messages, [JSON.parse(fits)])
      assert.strictEqual(textOf(encoded(codec, seen.messages[0])), `${fits}\n`)
      for (const over of [`[${fits}]`, `{"x":[],"y":${fits}}`, `[[],"]]]]",${fits}]`]) {
        const detail = "it is more than 100 levels deep"
        const refusal = { format: "JSON", detail }
        assert.deepInclude(invalidMessage(read(codec, [raw(over, "\n")]).error), { ...refusal, direction: "decode" })
        const written = invalidMessage(refused(Codec.encode(codec, JSON.parse(over))))
        assert.deepInclude(written, { ...refusal, direction: "encode" })
      }
    }
    // many brackets that are not deep
    const wide = Array.from({ length: 500 }, () => [{ a: [] }])
    assert.deepStrictEqual(read(codec, [encoded(codec, wide)]).messages, [wide])
    for (const open of ["[", "{\"a\":"]) {
      assert.strictEqual(
        invalidMessage(read(codec, [raw(open.repeat(101), " ".repeat(200), "\n")]).error).format,
        "JSON"
      )
    }
  })

  it("B16 a schema mismatch names the path", () => {
    const Message = Schema.Struct({ user: Schema.Struct({ ages: Schema.Array(Schema.Number) }) })
    const codec = Codec.lines().pipe(Codec.schema(Message))
    const reason = invalidMessage(read(codec, [raw(`{"user":{"ages":[1,"x"]}}\n`)]).error)
    assert.deepStrictEqual(reason.path, ["user", "ages", "1"])
    assert.strictEqual(reason.detail, "Expected number")
    assert.strictEqual(reason.message, "a frame is not valid message at user.ages.1: Expected number")
    const named = Codec.lines().pipe(Codec.schema(Message.annotate({ identifier: "Ages" })))
    assert.strictEqual(invalidMessage(read(named, [raw("{}\n")]).error).format, "Ages")
    const wrong = { user: { ages: ["x" as unknown as number] } }
    const encode = invalidMessage(refused(Codec.encode(codec, wrong)))
    assert.deepStrictEqual([encode.direction, encode.path], ["encode", ["user", "ages", "0"]])
  })

  it("B16 a MessagePack that announces more than it has allocates nothing", () => {
    const codec = Codec.lengthPrefix().pipe(Codec.msgpack)
    const bomb = (wire: Uint8Array) => invalidMessage(read(codec, [encoded(Codec.lengthPrefix(), wire)]).error).detail
    // an array of 2^25 elements, a map of 2^32 - 1, and many nested ones
    assert.match(bomb(raw(0xdd, 2, 0, 0, 0)), /more values than/)
    assert.match(bomb(raw(0xdf, 0xff, 0xff, 0xff, 0xff)), /more values than/)
    const nested = new Uint8Array(300)
    for (let i = 0; i < 300; i += 3) nested.set([0xdc, 0, 250], i)
    assert.match(bomb(nested), /more values than/)
    assert.match(bomb(new Uint8Array(5000).fill(0x91)), /100 levels/)
    assert.match(bomb(raw(0xdb, 0xff, 0xff, 0xff, 0xff, "a")), /ends inside/)
    assert.match(bomb(raw(0x92, 1)), /more values than/)
    assert.match(bomb(raw(1, 1)), /extra|Extra/i)
    assert.strictEqual(invalidMessage(read(codec, [raw(0, 0, 0, 0)]).error).format, "MessagePack")
    assert.strictEqual(bomb(raw(0xc1)).length > 0, true)
  })

  it("B15 invalid UTF-8 in a MessagePack string or key is a typed error", () => {
    const codec = Codec.lengthPrefix().pipe(Codec.msgpack)
    // cut short, needlessly long, half a surrogate pair; in a short string, in a long one, and as a key
    for (const bad of [raw(0xc3), raw(0xc0, 0xaf), raw(0xed, 0xa0, 0x80)]) {
      const long = raw("x".repeat(200), bad)
      for (
        const wire of [raw(0xa0 + bad.length, bad), raw(0xd9, long.length, long), raw(0x81, 0xa0 + bad.length, bad, 1)]
      ) {
        const reason = invalidMessage(read(codec, [encoded(Codec.lengthPrefix(), wire)]).error)
        assert.deepInclude(reason, { format: "MessagePack", detail: "a string is not UTF-8" })
      }
    }
    assert.deepInclude(invalidMessage(refused(Codec.encode(codec, ["a\ud800"]))), { direction: "encode" })
    const texts = ["é", "€", "😀", "\ufeffa", "é".repeat(15), "😀".repeat(100), "x".repeat(64) + "é", "x".repeat(65)]
    const message = { texts, bytes: raw(0xff), "ké😀": 1 }
    assert.deepStrictEqual(read(codec, [encoded(codec, message)]).messages, [message])
  })

  it("B104 MessagePack does not write what it could not read, or would read as something else", () => {
    const codec = Codec.lengthPrefix().pipe(Codec.msgpack)
    const proto: unknown = JSON.parse("{\"__proto__\":1}")
    const none = [proto, [{ a: proto }], new Map([["a", 1]]), { a: new Set([1]) }, new Date(Number.NaN)]
    for (const message of none) {
      assert.deepInclude(invalidMessage(refused(Codec.encode(codec, message))), {
        direction: "encode",
        format: "MessagePack"
      })
    }
    assert.deepStrictEqual(read(codec, [encoded(codec, { a: "__proto__", __proto: 1 })]).messages, [
      { a: "__proto__", __proto: 1 }
    ])
    // later than a Date can be, and with more nanoseconds than a second has
    const times = [
      raw(0xc7, 12, 0xff, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 0),
      raw(0xd7, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
    ]
    for (const time of times) {
      const reason = invalidMessage(read(codec, [encoded(Codec.lengthPrefix(), time)]).error)
      assert.deepInclude(reason, { format: "MessagePack", detail: "a timestamp that is no time" })
    }
  })

  it("the check of MessagePack accepts all that the encoder writes", () => {
    const nest = (n: number): unknown => n === 0 ? 1 : [nest(n - 1)]
    const long = "x".repeat(70_000)
    const values: ReadonlyArray<unknown> = [
      null,
      true,
      false,
      0,
      127,
      128,
      255,
      256,
      65535,
      65536,
      2 ** 32,
      2 ** 40,
      -1,
      -32,
      -33,
      -129,
      -40000,
      -(2 ** 40),
      1.5,
      "",
      "a",
      "x".repeat(31),
      "x".repeat(32),
      "x".repeat(300),
      long,
      utf8("x"),
      new Uint8Array(300),
      utf8(long),
      [],
      {},
      [[]],
      Array.from({ length: 15 }, () => 1),
      Array.from({ length: 16 }, () => [{}]),
      Array.from({ length: 66_000 }, () => 1),
      Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i}`, i])),
      Object.fromEntries(Array.from({ length: 66_000 }, (_, i) => [`k${i}`, null])),
      new Date(0),
      new Date(1),
      new Date(2 ** 40),
      new Date(-1),
      nest(98)
    ]
    const codec = Codec.varint().pipe(Codec.msgpack)
    for (const value of values) {
      assert.deepStrictEqual(read(codec, [encoded(codec, value, 2 ** 22)], { maxFrame: 2 ** 22 }).messages, [value])
    }
    // encoding and decoding stop at the same depth
    assert.isTrue(Result.isSuccess(Codec.encode(codec, nest(99))))
    assert.strictEqual(read(codec, [encoded(codec, nest(99))]).error, undefined)
    assert.deepInclude(invalidMessage(refused(Codec.encode(codec, nest(100)))), { format: "MessagePack" })
    for (
      const [head, body] of [[0xc7, [1, 9, 9]], [0xc8, [0, 1, 9, 9]], [0xc9, [0, 0, 0, 1, 9, 9]], [0xd4, [9, 9]], [
        0xd5,
        [9, 9, 9]
      ]] as const
    ) {
      assert.strictEqual(checkMsgpack(raw(head, Uint8Array.from(body))), undefined)
      assert.isDefined(checkMsgpack(raw(head, Uint8Array.from(body.slice(1)))))
    }
  })

  it("JSON round trips on text and on bytes", () => {
    for (const codec of [Codec.lines().pipe(Codec.json), Codec.lengthPrefix().pipe(Codec.json)]) {
      for (const value of [null, 1, "a\nb\r", "\ud800", [1, { a: [] }], { b: "é" }]) {
        assert.deepStrictEqual(read(codec, [encoded(codec, value)]).messages, [value])
      }
      const seen = read(codec, [encoded(codec, 1), encoded(codec, 2)])
      assert.deepStrictEqual(seen.messages, [1, 2])
    }
    assert.deepStrictEqual(encoded(Codec.lengthPrefix({ bytes: 1 }).pipe(Codec.json), { a: 1 }), raw(7, `{"a":1}`))
  })

  it("what is no JSON, and what has none, is a typed error", () => {
    const codec = Codec.lines().pipe(Codec.json)
    const seen = read(codec, [raw("1\n\n2\n")])
    assert.deepStrictEqual(seen.messages, [1])
    assert.deepInclude(invalidMessage(seen.error), { format: "JSON", direction: "decode" })
    const cycle: { self?: unknown } = {}
    cycle.self = cycle
    const throws = (error: unknown) => ({
      toJSON: () => {
        throw error
      }
    })
    const nasty = {
      get message(): string {
        throw new Error("no")
      }
    }
    for (
      const value of [
        1n,
        cycle,
        undefined,
        () => 1,
        Symbol("a"),
        throws(new Error("no")),
        throws(undefined),
        throws(
          Object.create(null)
        ),
        throws(Object.assign(Object.create(Error.prototype), {})),
        throws(Object.setPrototypeOf(nasty, Error.prototype))
      ]
    ) {
      const reason = invalidMessage(refused(Codec.encode(codec, value)))
      assert.deepInclude(reason, { format: "JSON", direction: "encode" })
      assert.notInclude(reason.detail, "\n")
      assert.isAtMost(reason.detail.length, 203)
    }
  })

  it("msgpack: what has no such form is a typed error", () => {
    const codec = Codec.lengthPrefix().pipe(Codec.msgpack)
    const cycle: { self?: unknown } = {}
    cycle.self = cycle
    for (const value of [1n, cycle, () => 1, Symbol("a")]) {
      assert.deepInclude(invalidMessage(refused(Codec.encode(codec, value))), {
        format: "MessagePack",
        direction: "encode"
      })
    }
  })

  it("a schema reads JSON lines, JSON bytes and MessagePack into typed messages", () => {
    class Join
      extends Schema.Class<Join>("Join")({ room: Schema.String, at: Schema.Date, ids: Schema.Array(Schema.Int) })
    {}
    const join = new Join({ room: "a", at: new Date(1000), ids: [1, 2] })
    const codecs: ReadonlyArray<Codec.Codec<Join>> = [
      Codec.lines().pipe(Codec.schema(Join)),
      Codec.lines().pipe(Codec.json, Codec.schema(Join)),
      Codec.lengthPrefix().pipe(Codec.schema(Join)),
      Codec.lengthPrefix().pipe(Codec.text, Codec.schema(Join)),
      Codec.lengthPrefix().pipe(Codec.msgpack, Codec.schema(Join))
    ]
    for (const codec of codecs) {
      const [message] = read(codec, split(encoded(codec, join), 3)).messages
      assert.isTrue(message instanceof Join)
      assert.deepStrictEqual(message, join)
    }
    assert.strictEqual(
      textOf(encoded(codecs[0], join)),
      `{"room":"a","at":"1970-01-01T00:00:01.000Z","ids":[1,2]}\n`
    )
  })

  it("a schema whose effects do not finish at once is refused, not thrown", () => {
    const codec = Codec.lines().pipe(
      Codec.map({ decode: (text: string) => text, encode: (text: string) => text }),
      Codec.schema(Schema.Literals(["a", "b"]))
    )
    assert.deepStrictEqual(read(codec, [raw("a\n")]).messages, ["a"])
    assert.strictEqual(read(codec, [raw("c\n")]).error?._tag, "InvalidMessage")
  })

  it("map changes messages, and what its functions throw is a typed error", () => {
    const hex = Codec.lines().pipe(Codec.map({
      format: "hex",
      decode: (text: string) => {
        if (!/^[0-9a-f]+$/.test(text)) throw new Error("not hex")
        return parseInt(text, 16)
      },
      encode: (n: number) => {
        if (n < 0) throw new RangeError("negative")
        return n.toString(16)
      }
    }))
    assert.deepStrictEqual(read(hex, [encoded(hex, 255)]).messages, [255])
    const reason = invalidMessage(read(hex, [raw("zz\n")]).error)
    assert.deepStrictEqual([reason.format, reason.detail], ["hex", "not hex"])
    assert.strictEqual(invalidMessage(refused(Codec.encode(hex, -1))).detail, "negative")
  })

  it("mapResult fails with a sentence or with a reason", () => {
    const own = new FrameTooLong({ direction: "decode", size: 1, limit: 1 })
    const codec = Codec.lines().pipe(Codec.mapResult({
      format: "word",
      decode: (text: string) =>
        text === "a" ? Result.fail("no a") : text === "b" ? Result.fail(own) : Result.succeed(text),
      encode: (text: string) =>
        text === "t"
          ? (() => {
            throw new Error("oops")
          })()
          : Result.succeed(text)
    }))
    assert.deepStrictEqual(read(codec, [raw("x\n")]).messages, ["x"])
    assert.strictEqual(invalidMessage(read(codec, [raw("a\n")]).error).detail, "no a")
    assert.strictEqual(read(codec, [raw("b\n")]).error, own)
    assert.strictEqual(invalidMessage(refused(Codec.encode(codec, "t"))).detail, "oops")
  })

  it("json after map needs to be told what the messages are", () => {
    const flip = (bytes: Uint8Array) => bytes.map((byte) => byte ^ 0xff)
    const flipped = Codec.lengthPrefix().pipe(Codec.map({ content: "bytes", decode: flip, encode: flip }))
    for (const codec of [flipped.pipe(Codec.json), flipped.pipe(Codec.text, Codec.json), flipped.pipe(Codec.msgpack)]) {
      assert.deepStrictEqual(read(codec, [encoded(codec, { a: "é" })]).messages, [{ a: "é" }])
    }
    assert.strictEqual(encoded(flipped.pipe(Codec.json), 7)[4], 0x37 ^ 0xff)
    assert.throws(
      () => Codec.lengthPrefix().pipe(Codec.map({ decode: flip, encode: flip }), Codec.json),
      RangeError,
      /content/
    )
  })

  it("codecs of one's own are made of their halves", () => {
    const codec = Codec.make({ framing: Codec.varint().framing, payload: Codec.lines().payload, maxFrame: 5 })
    assert.deepStrictEqual(read(codec, [encoded(codec, "a\nb")]).messages, ["a\nb"])
    assert.strictEqual(refused(Codec.encode(codec, "abcdef"))._tag, "FrameTooLong")
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// transports that keep messages apart
// ---------------------------------------------------------------------------------------------------------------------

describe("Codec on a message transport", () => {
  const messages = { transport: "messages" } as const

  it("text travels as text without line ends, bytes as bytes without lengths", () => {
    const lines = Codec.lines()
    assert.deepStrictEqual(read(lines, ["hello", "", "a\nb"], messages).messages, ["hello", "", "a\nb"])
    assert.strictEqual(Result.getOrThrow(Codec.encoder(lines, messages)("hello")), "hello")
    assert.strictEqual(Result.getOrThrow(Codec.encoder(lines, messages)("a\nb")), "a\nb")
    assert.strictEqual(Result.getOrThrow(Codec.encoder(lines.pipe(Codec.json), messages)({ a: 1 })), `{"a":1}`)
    assert.strictEqual(
      Result.getOrThrow(Codec.encoder(Codec.lengthPrefix().pipe(Codec.json), messages)([1])),
      "[1]"
    )
    const prefixed = Codec.lengthPrefix()
    assert.deepStrictEqual(read(prefixed, [raw(1, 2, 3)], messages).messages, [raw(1, 2, 3)])
    assert.deepStrictEqual(Result.getOrThrow(Codec.encoder(prefixed, messages)(raw(1, 2))), raw(1, 2))
    const packed = prefixed.pipe(Codec.msgpack)
    assert.deepStrictEqual(Result.getOrThrow(Codec.encoder(packed, messages)(1)), raw(1))
  })

  it("takes the other kind of message as well", () => {
    assert.deepStrictEqual(read(Codec.lines(), [raw("hé")], messages).messages, ["hé"])
    assert.deepStrictEqual(read(Codec.lengthPrefix(), ["hé"], messages).messages, [raw("hé")])
    assert.deepStrictEqual(read(Codec.lines().pipe(Codec.json), [raw("[1]"), "2"], messages).messages, [[1], 2])
    assert.strictEqual(read(Codec.lines(), [raw(0xff)], messages).error?._tag, "InvalidMessage")
  })

  it("B14 the limit is for the UTF-8 size of a text message", () => {
    const limited = { ...messages, maxFrame: 6 }
    for (
      const [fits, over, size] of [["abcdef", "abcdefg", 7], ["ééé", "éééé", 8], ["€€", "€€€", 9], [
        "a😀",
        "😀😀",
        8
      ]] as const
    ) {
      assert.deepStrictEqual(read(Codec.lines(), [fits], limited).messages, [fits])
      assert.deepStrictEqual(tooLong(read(Codec.lines(), [over], limited).error), {
        direction: "decode",
        size,
        limit: 6
      })
      assert.isTrue(Result.isSuccess(Codec.encoder(Codec.lines(), limited)(fits)))
      assert.deepStrictEqual(tooLong(refused(Codec.encoder(Codec.lines(), limited)(over))), {
        direction: "encode",
        size,
        limit: 6
      })
    }
    assert.strictEqual(read(Codec.lengthPrefix(), [new Uint8Array(7)], limited).error?._tag, "FrameTooLong")
  })

  it("an over-long message is skipped when the codec says so, and the end is never inside a frame", () => {
    const seen = read(Codec.lines({ tooLong: "skip" }), ["toolong", "ok", "toolong", "ok"], {
      ...messages,
      maxFrame: 3
    })
    assert.deepStrictEqual(seen.messages, ["ok", "ok"])
    assert.strictEqual(seen.skipped.length, 2)
    assert.strictEqual(seen.ended, undefined)
    assert.strictEqual(Codec.decoder(Codec.lines(), messages).pending, 0)
  })

  it("a text chunk on a stream counts as its UTF-8 bytes", () => {
    assert.deepStrictEqual(read(Codec.lines(), ["h", "é\n"]).messages, ["hé"])
  })

  it("counts UTF-8 as the encoder does", () => {
    const r = random(9)
    const units = [0x41, 0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xd83d, 0xde00]
    for (let i = 0; i < 2000; i++) {
      const text = String.fromCharCode(...Array.from({ length: r.int(6) }, () => units[r.int(units.length)]))
      assert.strictEqual(utf8Size(text), utf8(text).length)
    }
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// anything at all
// ---------------------------------------------------------------------------------------------------------------------

describe("Codec fuzz", () => {
  const Message = Schema.Struct({ a: Schema.optionalKey(Schema.Number) })
  const codecs: ReadonlyArray<readonly [string, Codec.Codec<unknown, never>]> = [
    ["bytes", Codec.bytes()],
    ...cases.flatMap((one) =>
      (["fail", "skip"] as const).map((tooLong) => [`${one.name}, ${tooLong}`, one.make({ tooLong })] as const)
    ),
    ["lines json", Codec.lines().pipe(Codec.json)],
    ["lines schema", Codec.lines().pipe(Codec.schema(Message))],
    ["varint msgpack", Codec.varint().pipe(Codec.msgpack)],
    ["varint msgpack schema", Codec.varint().pipe(Codec.msgpack, Codec.schema(Message))],
    ["lengthPrefix text", Codec.lengthPrefix({ bytes: 1 }).pipe(Codec.text)]
  ]
  it.each(codecs)("random bytes never throw, end, and are held only up to the limit: %s", (_, codec) => {
    const maxFrame = 300
    for (let seed = 1; seed <= 16; seed++) {
      const r = random(seed)
      const noise = r.bytes(1 + r.int(2000))
      // half of the time small numbers, line ends and brackets: they look more like frames
      const likely = utf8("\r\n\0\0\0\u0001\u0002\u0003[]{}\"ab-")
      const wire = seed % 2 === 0 ? noise : noise.map((byte) => byte < 240 ? likely[byte % likely.length] : byte)
      for (const chunks of [[wire], splitRandomly(wire, random(seed), 5), splitRandomly(wire, random(seed), 400)]) {
        const held = allocated(() => {
          const decoder = Codec.decoder(codec, { maxFrame })
          let bytes = 0
          let pending = 0
          for (const chunk of chunks) {
            const decoded = decoder.write(chunk)
            for (const message of decoded.messages) if (message instanceof Uint8Array) bytes += message.length
            if (decoded.error !== undefined) {
              assert.strictEqual(decoder.write(chunk).error, decoded.error)
              break
            }
            pending = Math.max(pending, decoder.pending)
          }
          assert.isAtMost(pending, wire.length)
          assert.isAtMost(bytes, wire.length)
          decoder.end()
        })
        // blocks and joined frames: a small multiple of what came
        assert.isBelow(held, 16 * wire.length + 2000)
      }
    }
  })

  it("the split of random bytes does not change what is read", () => {
    for (const [name, codec] of codecs) {
      if (name === "bytes") continue
      for (let seed = 100; seed < 130; seed++) {
        const r = random(seed)
        const wire = r.bytes(r.int(400)).map((byte) => byte < 200 ? [0, 0, 1, 2, 13, 10, 97, 98, 33][byte % 9] : byte)
        const whole = read(codec, [wire], { maxFrame: 40 })
        for (const chunks of [split(wire, 1), splitRandomly(wire, r, 7)]) {
          const parts = read(codec, chunks, { maxFrame: 40 })
          same(parts.messages, whole.messages, name)
          assert.strictEqual(parts.error?._tag, whole.error?._tag, name)
          assert.strictEqual(parts.ended?._tag, whole.ended?._tag, name)
          // a message that is no message ends the stream, and frames skipped after it in the same chunk count too
          if (whole.error?._tag !== "InvalidMessage") {
            assert.strictEqual(parts.skipped.length, whole.skipped.length, name)
          }
        }
      }
    }
  })
})

describe("Codec options", () => {
  it("options that make no sense throw a RangeError that names the option", () => {
    const bad: ReadonlyArray<readonly [string, () => unknown]> = [
      ["size", () => Codec.fixed(0)],
      ["size", () => Codec.fixed(-1)],
      ["size", () => Codec.fixed(1.5)],
      ["size", () => Codec.fixed(NaN)],
      ["delimiter", () => Codec.delimiter("")],
      ["delimiter", () => Codec.delimiter(new Uint8Array(0))],
      ["bytes", () => Codec.lengthPrefix({ bytes: 5 as 4 })],
      ["endian", () => Codec.lengthPrefix({ endian: "middle" as "big" })],
      ["offset", () => Codec.lengthPrefix({ offset: -1 })],
      ["adjustment", () => Codec.lengthPrefix({ adjustment: 0.5 })],
      ["strip", () => Codec.lengthPrefix({ strip: -1 })],
      ["tooLong", () => Codec.varint({ tooLong: "never" as "skip" })],
      ["report", () => Codec.lines({ report: "later" as "body" })],
      ["maxFrame", () => Codec.lines({ maxFrame: 0 })],
      ["maxFrame", () => Codec.lengthPrefix().pipe(Codec.withMaxFrame(-1))],
      ["maxFrame", () => Codec.decoder(Codec.lines(), { maxFrame: Infinity })],
      ["maxFrame", () => Codec.encoder(Codec.lines(), { maxFrame: 1.5 })]
    ]
    for (const [option, f] of bad) assert.throws(f, RangeError, new RegExp(option))
  })

  it("a delimiter that is changed afterwards changes nothing", () => {
    const mark = utf8("|")
    const codec = Codec.delimiter(mark)
    mark[0] = 0
    assert.deepStrictEqual(read(codec, [raw("a|")]).messages.map(textOf), ["a"])
  })

  it("one codec serves many connections", () => {
    for (const one of cases) {
      const codec = run(one)
      const r = random(4)
      const [a, b] = [one.message(r), one.message(r)]
      const [x, y] = [Codec.decoder(codec), Codec.decoder(codec)]
      const [wireA, wireB] = [encoded(codec, a), encoded(codec, b)]
      const seen: Array<Array<unknown>> = [[], []]
      for (let i = 0; i < Math.max(wireA.length, wireB.length); i++) {
        if (i < wireA.length) seen[0].push(...x.write(wireA.slice(i, i + 1)).messages)
        if (i < wireB.length) seen[1].push(...y.write(wireB.slice(i, i + 1)).messages)
      }
      assert.deepStrictEqual(seen, [[a], [b]], one.name)
    }
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// two directions, and the payload alone
// ---------------------------------------------------------------------------------------------------------------------

describe("a codec of two directions", () => {
  const Command = Schema.TaggedUnion({ Join: { room: Schema.String }, Say: { text: Schema.String, at: Schema.Date } })
  const Event = Schema.TaggedUnion({ Joined: { who: Schema.String }, Count: { n: Schema.BigInt } })
  type Command = typeof Command.Type
  type Event = typeof Event.Type
  const commands: ReadonlyArray<Command> = [
    { _tag: "Join", room: "tea" },
    { _tag: "Say", text: "hello\nworld", at: new Date(0) }
  ]
  const events: ReadonlyArray<Event> = [{ _tag: "Joined", who: "ada" }, { _tag: "Count", n: 5n }]

  const servers: ReadonlyArray<readonly [string, Codec.TwoWay<Command, Event>]> = [
    ["JSON lines", Codec.lines().pipe(Codec.schema(Command, Event))],
    ["JSON after json", Codec.varint().pipe(Codec.json, Codec.schema(Command, Event))],
    ["JSON as text", Codec.lengthPrefix().pipe(Codec.text, Codec.schema(Command, Event))],
    ["with a limit", Codec.lines().pipe(Codec.schema(Command, Event), Codec.withMaxFrame(500))]
  ]

  for (const [name, server] of servers) {
    it(`${name}: what one end writes the other reads, and the own messages are refused`, () => {
      const client = Codec.flip(server)
      for (const transport of ["stream", "messages"] as const) {
        for (const command of commands) {
          const wire = Result.getOrThrow(Codec.encoder(client, { transport })(command))
          assert.deepStrictEqual(read(server, [wire], { transport }).messages, [command])
          assert.strictEqual(invalidMessage(read(client, [wire], { transport }).error).direction, "decode")
        }
        for (const event of events) {
          const wire = Result.getOrThrow(Codec.encoder(server, { transport })(event))
          assert.deepStrictEqual(read(client, [wire], { transport }).messages, [event])
          assert.strictEqual(invalidMessage(read(server, [wire], { transport }).error).direction, "decode")
        }
      }
      assert.strictEqual(invalidMessage(refused(Codec.encode(server, commands[0] as never))).direction, "encode")
      assert.strictEqual(invalidMessage(refused(Codec.encode(client, events[0] as never))).direction, "encode")
      assert.strictEqual(client.maxFrame, server.maxFrame)
      assert.strictEqual(client.maxFrame, name === "with a limit" ? 500 : undefined)
      assert.strictEqual(client.framing, server.framing)
    })

    it(`${name}: a flip of a flip is what it was`, () => {
      const again = Codec.flip(Codec.flip(server))
      assert.strictEqual(again.payload, server.payload)
      assert.strictEqual(again.flipped, server.flipped)
      assert.strictEqual(again.framing, server.framing)
    })
  }

  it("values of MessagePack go through the schemas of both ends", () => {
    const A = Schema.Struct({ a: Schema.Number })
    const B = Schema.Struct({ b: Schema.Uint8Array })
    const server = Codec.lengthPrefix().pipe(Codec.msgpack, Codec.schema(A, B))
    const client = Codec.flip(server)
    assert.deepStrictEqual(read(server, [encoded(client, { a: 1 })]).messages, [{ a: 1 }])
    assert.deepStrictEqual(read(client, [encoded(server, { b: raw(1, 2) })]).messages, [{ b: raw(1, 2) }])
  })

  it("an error names the schema of its direction", () => {
    const Ask = Schema.Struct({ ask: Schema.String }).annotate({ identifier: "Ask" })
    const Tell = Schema.Struct({ tell: Schema.String }).annotate({ identifier: "Tell" })
    const server = Codec.lines().pipe(Codec.schema(Ask, Tell))
    const client = Codec.flip(server)
    assert.strictEqual(invalidMessage(read(server, ["{}\n"]).error).format, "Ask")
    assert.strictEqual(invalidMessage(read(client, ["{}\n"]).error).format, "Tell")
    assert.strictEqual(invalidMessage(refused(Codec.encode(server, {} as never))).format, "Tell")
    assert.strictEqual(invalidMessage(refused(Codec.encode(client, {} as never))).format, "Ask")
  })

  it("a codec that is the same at both ends is its own flip", () => {
    const json = Codec.lines().pipe(Codec.json)
    assert.strictEqual(Codec.flip(json), json)
    const one: Codec.Codec<Command> = Codec.lines().pipe(Codec.schema(Command))
    assert.strictEqual(Codec.flip(one), one)
    const bytes: Codec.Codec<Uint8Array> = Codec.flip(Codec.varint())
    assert.deepStrictEqual(encoded(bytes, raw("a")), raw(1, "a"))
  })

  it("make with the payload of the other end", () => {
    const shout: Codec.Payload<string, number> = {
      form: "text",
      content: "value",
      decode: (frame) => Result.succeed(typeof frame === "string" ? frame : textOf(frame)),
      encode: (n) => Result.succeed(String(n))
    }
    const hear: Codec.Payload<number, string> = {
      form: "text",
      content: "value",
      decode: (frame) => Result.succeed(Number(typeof frame === "string" ? frame : textOf(frame))),
      encode: Result.succeed
    }
    const server = Codec.make({ framing: Codec.lines().framing, payload: shout, flipped: hear, maxFrame: 10 })
    const client = Codec.flip(server)
    assert.deepStrictEqual(read(client, [encoded(server, 7)]).messages, [7])
    assert.deepStrictEqual(read(server, [encoded(client, "seven")]).messages, ["seven"])
    assert.strictEqual(client.maxFrame, 10)
  })

  it("what is put on top of two different payloads is put on both", () => {
    const masked = (mask: number, unmask: number): Codec.Payload<Uint8Array> => ({
      form: "bytes",
      content: "bytes",
      decode: (frame) => Result.succeed((typeof frame === "string" ? utf8(frame) : frame).map((byte) => byte ^ unmask)),
      encode: (message) => Result.succeed(message.map((byte) => byte ^ mask))
    })
    const { framing } = Codec.varint()
    const raws = Codec.make({ framing, payload: masked(1, 2), flipped: masked(2, 1) })
    const stacks: ReadonlyArray<Codec.Codec<unknown>> = [
      Codec.json(raws),
      Codec.json(Codec.text(raws)),
      Codec.msgpack(raws),
      Codec.json(raws).pipe(Codec.schema(Schema.Unknown)),
      Codec.json(raws).pipe(Codec.schema(Schema.Unknown, Schema.Unknown))
    ]
    for (const server of stacks) {
      const client = Codec.flip(server)
      assert.notStrictEqual(client, server)
      assert.deepStrictEqual(read(client, [encoded(server, { a: 1 })]).messages, [{ a: 1 }])
      assert.deepStrictEqual(read(server, [encoded(client, { b: [2] })]).messages, [{ b: [2] }])
    }
  })

  it("map after two schemas is for one end: its flip is refused", () => {
    const A = Schema.Struct({ a: Schema.Number })
    const B = Schema.Struct({ b: Schema.Number })
    const server = Codec.lines().pipe(
      Codec.schema(A, B),
      Codec.map({ decode: ({ a }) => a, encode: (b: number) => ({ b }) })
    )
    assert.deepStrictEqual(read(server, ["{\"a\":1}\n"]).messages, [1])
    assert.strictEqual(textOf(encoded(server, 2)), "{\"b\":2}\n")
    assert.throws(() => Codec.flip(server), RangeError, "flip first")
    assert.throws(() => Codec.flip(server.pipe(Codec.withMaxFrame(9))), RangeError, "flip first")
  })

  it("types: what can be flipped, and what cannot", () => {
    const server = Codec.lines().pipe(Codec.schema(Command, Event))
    expectTypeOf(server).toEqualTypeOf<Codec.TwoWay<Command, Event>>()
    expectTypeOf(Codec.flip(server)).toEqualTypeOf<Codec.TwoWay<Event, Command>>()
    expectTypeOf(Codec.lines().pipe(Codec.schema(Command))).toEqualTypeOf<Codec.Codec<Command>>()
    expectTypeOf(Codec.flip(Codec.lines())).toEqualTypeOf<Codec.Codec<string>>()
    expectTypeOf(server.pipe(Codec.withMaxFrame(5))).toEqualTypeOf<Codec.TwoWay<Command, Event>>()
    expectTypeOf(Codec.lines().pipe(Codec.withMaxFrame(5))).toEqualTypeOf<Codec.Codec<string>>()
    const parsed = Codec.lines().pipe(Codec.map({ decode: Number, encode: (flag: boolean) => String(flag) }))
    expectTypeOf(parsed).toEqualTypeOf<Codec.Codec<number, boolean>>()
    // @ts-expect-error its functions read numbers and write booleans: none does the opposite
    Codec.flip(parsed)
    const narrower = Codec.lines().pipe(
      Codec.map({ decode: (): "a" => "a", encode: (flag: "a" | "b") => flag })
    )
    // @ts-expect-error it would read "b" too
    Codec.flip(narrower)
  })
})

describe("payload: the half that travels by other roads", () => {
  const Order = Schema.Struct({ item: Schema.String })

  it("has no framing, in the form that the payload has", () => {
    const json = Codec.payload(Codec.lengthPrefix().pipe(Codec.json, Codec.schema(Order)))
    assert.strictEqual(json.form, "text")
    assert.deepStrictEqual(json.encode({ item: "tea" }), Result.succeed("{\"item\":\"tea\"}"))
    for (const frame of ["{\"item\":\"tea\"}", utf8("{\"item\":\"tea\"}")]) {
      assert.deepStrictEqual(json.decode(frame), Result.succeed({ item: "tea" }))
    }
    const msgpack = Codec.payload(Codec.varint().pipe(Codec.msgpack))
    assert.strictEqual(msgpack.form, "bytes")
    assert.deepStrictEqual(msgpack.decode(Result.getOrThrow(msgpack.encode([1, 2]))), Result.succeed([1, 2]))
    assert.deepStrictEqual(Codec.payload(Codec.lines()).encode("a\nb"), Result.succeed("a\nb"))
    assert.strictEqual(invalidMessage(refused(json.decode("{}"))).direction, "decode")
    assert.strictEqual(invalidMessage(refused(json.encode({} as never))).direction, "encode")
  })

  it("holds the limit in both directions: the lower of the codec's and the option", () => {
    const limits = [[undefined, undefined, 1048576], [5, undefined, 5], [undefined, 5, 5], [5, 9, 5], [
      9,
      5,
      5
    ]] as const
    for (const [own, asked, limit] of limits) {
      const text = Codec.payload(Codec.lines({ maxFrame: own }), { maxFrame: asked })
      const bytes = Codec.payload(Codec.lengthPrefix({ maxFrame: own }), { maxFrame: asked })
      const most = "x".repeat(limit)
      const over = `${"x".repeat(limit - 1)}é`
      assert.deepStrictEqual(text.encode(most), Result.succeed(most))
      assert.deepStrictEqual(text.decode(most), Result.succeed(most))
      assert.deepStrictEqual(text.decode(utf8(most)), Result.succeed(most))
      same([Result.getOrThrow(bytes.decode(utf8(most)))], [utf8(most)])
      const tried = [
        text.encode(over),
        text.decode(over),
        text.decode(utf8(over)),
        bytes.encode(utf8(over)),
        bytes.decode(utf8(over))
      ]
      assert.deepStrictEqual(
        tried.map((result) => tooLong(refused<unknown>(result))),
        ["encode", "decode", "decode", "encode", "decode"].map((direction) => ({ direction, size: limit + 1, limit }))
      )
    }
    assert.throws(() => Codec.payload(Codec.lines(), { maxFrame: 0 }), RangeError)
  })
})

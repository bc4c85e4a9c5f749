/** Compressed messages (RFC 7692): what they are, what is none, what they may cost; beside `ws` and with each rule taken out. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Zlib from "node:zlib"
import type { Role } from "../../src/internal/webSocket/header.ts"
import * as Mutants from "../support/mutants.ts"
import { often } from "../support/often.ts"
import { deflated, framed, ours, sound, theirs } from "./support/deflated.ts"
import { everywhere, type FrameOptions, hex, pieces, seeded, type Story, whole } from "./support/wire.ts"

const roles = ["server", "client"] as const

interface Case {
  readonly name: string
  readonly frames: ReadonlyArray<FrameOptions>
  readonly story: Story
  /** What `ws` makes of it, where that is something else. */
  readonly ws?: Story
  readonly isContextKept?: boolean
  readonly skips?: boolean
}

const cases: Array<Case> = []
const limit = 2000

const text = (value: string) => `text ${JSON.stringify(value)}`
const binary = (...values: ReadonlyArray<number>) => `binary ${hex(Uint8Array.from(values))}`
const long = "the quick brown fox jumps over the lazy dog. ".repeat(20)
const packed = deflated(long)
const { Z_FINISH, Z_FULL_FLUSH, Z_FIXED, Z_HUFFMAN_ONLY } = Zlib.constants
/** A message that ends with a final block, and the byte that its padding has (RFC 7692, 7.2.3.4). */
const final = (value: string) => [...deflated(value, { finishFlush: Z_FINISH })]
const hi: FrameOptions = { opcode: 1, rsv: 0, payload: "hi" }

const add = (name: string, frames: ReadonlyArray<FrameOptions>, story: Story, more: Partial<Case> = {}) =>
  cases.push({ name, frames, story, ...more })

// 7.2.3: the examples of the RFC
add("an example of the RFC: one frame", [{ opcode: 1, payload: [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00] }], [
  text("Hello")
])
add("an example of the RFC: fragments", [
  { opcode: 1, payload: [0xf2, 0x48, 0xcd], fin: false },
  { opcode: 0, payload: [0xc9, 0xc9, 0x07, 0x00] }
], [text("Hello")])
add(
  "an example of the RFC: a context",
  [
    { opcode: 1, payload: [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00] },
    { opcode: 1, payload: [0xf2, 0x00, 0x11, 0x00, 0x00] }
  ],
  [text("Hello"), text("Hello")],
  { isContextKept: true }
)
add("an example of the RFC: no compression", [
  { opcode: 1, payload: [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00] }
], [text("Hello")])
add("an example of the RFC: a final block", [
  { opcode: 1, payload: [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00] }
], [text("Hello")])
add("an example of the RFC: two blocks", [
  { opcode: 1, payload: [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00] }
], [text("Hello")])

// messages
add("an empty message", [{ opcode: 1, payload: [0] }, { opcode: 2, payload: [0] }, hi], [
  text(""),
  binary(),
  text("hi")
])
add("a message without any bytes", [{ opcode: 1 }, { opcode: 2, payload: [] }, hi], [text(""), binary(), text("hi")])
add("fragments without any bytes", [
  { opcode: 1, fin: false },
  { opcode: 0, payload: packed, fin: false },
  { opcode: 0 }
], [text(long)])
add("one that is not compressed, between two that are", [{ opcode: 1, payload: packed }, hi, {
  opcode: 1,
  payload: packed
}], [
  text(long),
  text("hi"),
  text(long)
])
add("pings and pongs between fragments", [
  { opcode: 1, payload: packed.subarray(0, 9), fin: false },
  { opcode: 9, payload: [7] },
  { opcode: 0, payload: packed.subarray(9, 10), fin: false },
  { opcode: 10 },
  { opcode: 0, payload: packed.subarray(10) },
  { opcode: 9 }
], ["ping 07", "pong ", text(long), "ping "])
add("a close frame behind it", [{ opcode: 1, payload: packed }, { opcode: 8, payload: [3, 232] }], [
  text(long),
  "close 1000 \"\""
])
for (
  const [name, options] of [["stored", { level: 0 }], ["fixed", { strategy: Z_FIXED }], ["Huffman", {
    strategy: Z_HUFFMAN_ONLY
  }]] as const
) {
  add(`blocks of kind ${name}`, [{ opcode: 1, payload: deflated(long, options) }, hi], [text(long), text("hi")])
}
add("a full flush", [{ opcode: 1, payload: deflated(long, { finishFlush: Z_FULL_FLUSH }).subarray(0, -4) }], [
  text(long)
])
add("a final block, and nothing behind it", [{ opcode: 1, payload: final(long) }, hi], [text(long), text("hi")])
add("a final block of nothing", [{ opcode: 2, payload: [3, 0] }, { opcode: 2, payload: [3, 0, 0] }, hi], [
  binary(),
  binary(),
  text("hi")
])
add(
  "several final blocks, the later ones with the window of those before",
  [
    { opcode: 1, payload: [...final("Hello"), ...final(", "), ...final("world"), 0] }
  ],
  [text("Hello, world")],
  { ws: [text("Hello")] }
)
add(
  "a final block that a later block refers to",
  [
    { opcode: 1, payload: [...final("Hello"), 0xf2, 0x00, 0x11, 0x00, 0x00] }
  ],
  [text("HelloHello")],
  { ws: [text("Hello")] }
)
add("a final block, and one that is not", [{ opcode: 1, payload: [...final("Hello"), ...packed] }], [
  text(`Hello${long}`)
], {
  ws: [text("Hello")]
})
add(
  "a context beyond a final block",
  [
    { opcode: 1, payload: [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00] },
    { opcode: 1, payload: [0xf2, 0x00, 0x11, 0x00, 0x00] }
  ],
  [text("Hello"), text("Hello")],
  { isContextKept: true, ws: [text("Hello"), "fail 1007"] }
)

// what is wrong
add("a message that refers to a context that is not kept", [
  { opcode: 1, payload: [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00] },
  { opcode: 1, payload: [0xf2, 0x00, 0x11, 0x00, 0x00] }
], [text("Hello"), "fail 1007"])
add("no deflate", [hi, { opcode: 1, payload: [0xff, 0xff, 0xff] }, hi], [text("hi"), "fail 1007"])
add("text instead of it", [{ opcode: 1, payload: "hello, hello, hello" }], ["fail 1007"])
add("one wrong byte in the middle of a stored block's length", [
  { opcode: 2, payload: [0x00, 0x05, 0x00, 0xfb, 0xff, 1, 2, 3, 4, 5, 0] }
], ["fail 1007"])
add("a stored block of which more is to come", [{ opcode: 2, payload: [0x00, 0x64, 0x00, 0x9b, 0xff, 1, 2, 3] }], [
  "fail 1007"
], { ws: ["*"] })
// `ws` gives what had been inflated by then
for (const size of [1, 5, packed.length - 2]) {
  add(`a message that ends inside a block, after ${size} bytes`, [{ opcode: 2, payload: packed.subarray(0, size) }], [
    "fail 1007"
  ], { ws: ["*"] })
}
add(
  "what is no deflate behind a final block",
  [{ opcode: 1, payload: [...final("Hello"), 0xff, 0xff] }],
  ["fail 1007"],
  {
    ws: [text("Hello")]
  }
)
add(
  "more final blocks than any compressor makes",
  [
    { opcode: 2, payload: Array.from({ length: 80 }, (_, i) => i % 2 === 0 ? 3 : 0) }
  ],
  ["fail 1007"],
  { ws: [binary()] }
)
for (const bad of [[0x80], [0x61, 0xed, 0xa0, 0x80], [0xe2, 0x82]]) {
  add(`text that is not UTF-8 once it is inflated: ${hex(Uint8Array.from(bad))}`, [
    { opcode: 1, payload: deflated(bad) }
  ], ["fail 1007"])
}
add("a character that is cut between two fragments", [
  { opcode: 1, payload: deflated("é€😀").subarray(0, 4), fin: false },
  { opcode: 0, payload: deflated("é€😀").subarray(4) }
], [text("é€😀")])
add("the bit on a continuation", [{ opcode: 1, payload: packed.subarray(0, 9), fin: false }, {
  opcode: 0,
  rsv: 4,
  payload: packed.subarray(9)
}], ["fail 1002"])
add("the bit on a continuation of what is not compressed", [{ opcode: 1, rsv: 0, payload: "a", fin: false }, {
  opcode: 0,
  rsv: 4
}], ["fail 1002"])
for (const opcode of [8, 9, 10]) add(`the bit on opcode ${opcode}`, [{ opcode, rsv: 4 }], ["fail 1002"])
for (const rsv of [2, 1, 6, 5, 7]) add(`the bits ${rsv}`, [{ opcode: 1, rsv, payload: packed }], ["fail 1002"])

// the limit
add(
  "a byte behind a final block of as many as the limit",
  [
    { opcode: 2, payload: [...deflated(new Uint8Array(limit), { finishFlush: Z_FINISH }), ...deflated([0])] }
  ],
  ["fail 1009"],
  { ws: [binary(...new Uint8Array(limit))] }
)
const zeros = (size: number) => deflated(new Uint8Array(size))
add("as many bytes as the limit", [{ opcode: 2, payload: zeros(limit) }, hi], [
  binary(...new Uint8Array(limit)),
  text("hi")
])
add("one byte more", [hi, { opcode: 2, payload: zeros(limit + 1) }, hi], [text("hi"), "fail 1009"])
add("a bomb", [{ opcode: 2, payload: zeros(1_000_000) }], ["fail 1009"])
add("a bomb in fragments", [
  { opcode: 2, payload: zeros(1_000_000).subarray(0, 500), fin: false },
  { opcode: 0, payload: zeros(1_000_000).subarray(500) }
], ["fail 1009"])
add("a bomb behind a final block", [{ opcode: 2, payload: [...final("a"), ...zeros(1_000_000)] }], ["fail 1009"], {
  ws: [binary(0x61)]
})
add(
  "final blocks that pass the limit together",
  [
    { opcode: 2, payload: [...deflated(new Uint8Array(1500), { finishFlush: Z_FINISH }), ...zeros(501)] }
  ],
  ["fail 1009"],
  { ws: [binary(...new Uint8Array(1500))] }
)
const noise = Uint8Array.from({ length: limit }, (_, i) => (i * i * 31 + (i >> 3) * 17) & 255)
add("as many bytes as the limit, in more on the wire", [{ opcode: 2, payload: deflated(noise, { level: 0 }) }], [
  binary(...noise)
], { ws: ["fail 1009"] })
add("on the wire more than any compressor makes of the limit", [
  { opcode: 2, length: limit + limit / 8 + 65 }
], ["fail 1009"])
add("skipped: one byte too many once it is inflated", [{ opcode: 2, payload: zeros(limit + 1) }, hi], [
  `skip ${limit + 1}`,
  text("hi")
], { skips: true, ws: ["fail 1009"] })
add(
  "skipped: too many on the wire",
  [
    { opcode: 2, payload: new Uint8Array(2500), fin: false },
    { opcode: 9 },
    { opcode: 0, payload: packed },
    hi
  ],
  ["ping ", `skip ${2500 + packed.length}`, text("hi")],
  { skips: true, ws: ["fail 1009"] }
)
add("not skipped where the next message may refer to it", [hi, { opcode: 2, payload: zeros(limit + 1) }, hi], [
  text("hi"),
  "fail 1009"
], { skips: true, isContextKept: true })
add(
  "not skipped there on the wire either, but what is not compressed is",
  [
    { opcode: 2, rsv: 0, payload: new Uint8Array(limit + 1) },
    { opcode: 2, length: 2500 }
  ],
  [`skip ${limit + 1}`, "fail 1009"],
  { skips: true, isContextKept: true, ws: ["fail 1009"] }
)

const chunksOf = (role: Role, { frames }: Case, cut = whole) => pieces(frames.flatMap((one) => framed(role, one)), cut)

describe("a reader of compressed messages", () => {
  for (const role of roles) {
    for (const one of cases) {
      it(`a ${role}: ${one.name}`, async () => {
        const reading = { role, maxFrame: limit, ...one }
        for (const cut of [whole, everywhere, seeded(1)]) {
          assert.deepStrictEqual(ours(reading, chunksOf(role, one, cut)), one.story)
        }
        const theirStory = await theirs(reading, chunksOf(role, one))
        if (one.ws?.[0] !== "*") assert.deepStrictEqual(theirStory, one.ws ?? one.story, "ws")
      })
    }
  }
})

describe("beside ws", () => {
  const random = (seed: number) => {
    let state = seed * 2654435761 + 1
    return (n: number) => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % n
  }

  /** Messages in fragments, with control frames between them; some with a byte changed. */
  const streamOf = (seed: number): { readonly frames: Array<FrameOptions>; readonly isContextKept: boolean } => {
    const draw = random(seed)
    const isContextKept = draw(2) === 1
    const frames: Array<FrameOptions> = []
    let context = Buffer.alloc(0)
    for (let n = 1 + draw(5); n > 0; n--) {
      const value = Array.from({ length: draw(3) === 0 ? draw(300) : draw(12) }, () => `${draw(99)}`).join(",")
      if (draw(4) === 0) {
        frames.push({ opcode: 1, rsv: 0, payload: value })
        continue
      }
      const payload = deflated(value, {
        level: draw(10),
        ...(isContextKept && context.length > 0 && draw(2) === 0 ? { dictionary: context } : {})
      })
      context = Buffer.concat([context, Buffer.from(value)])
      let opcode = 1
      for (let at = 0; at < payload.length || opcode === 1;) {
        const size = Math.min(payload.length - at, draw(3) === 0 ? draw(5) : 1 + draw(payload.length + 1))
        const fin = at + size === payload.length
        frames.push({ opcode, payload: payload.subarray(at, at + size), fin })
        if (draw(6) === 0) frames.push({ opcode: 9, payload: [draw(256)] })
        at += size
        opcode = 0
        if (fin) break
      }
    }
    return { frames, isContextKept }
  }

  it("random streams are read alike", async () => {
    for (let seed = 1; seed <= often(150, 5000); seed++) {
      const { frames, isContextKept } = streamOf(seed)
      const role = roles[seed % 2]!
      const reading = { role, maxFrame: limit, isContextKept }
      const chunks = () => pieces(frames.flatMap((one) => framed(role, one)), seeded(seed))
      assert.deepStrictEqual(ours(reading, chunks()), await theirs(reading, chunks()), `seed ${seed}`)
    }
  })

  it("with one byte changed anywhere, what ws refuses is refused, and what is let through is the same", async () => {
    const different: Array<number> = []
    for (let seed = 1; seed <= often(150, 5000); seed++) {
      const draw = random(seed)
      const role = roles[seed % 2]!
      const changed = [...packed]
      changed[draw(changed.length)]! ^= 1 << draw(8)
      const reading = { role, maxFrame: limit }
      const chunks = () => pieces(framed(role, { opcode: 2, payload: changed }), whole)
      const [mine, his] = [ours(reading, chunks()), await theirs(reading, chunks())]
      // `ws` lets through what ends inside a block
      const isRefused = mine[0] === "fail 1007" && !his[0]!.startsWith("fail")
      if (!isRefused && JSON.stringify(mine) !== JSON.stringify(his)) different.push(seed)
    }
    assert.deepStrictEqual(different, [])
  })
})

describe("a reader that is broken is noticed", () => {
  const loaded = {
    inZlib: "src/node/internal/deflate/zlib.ts",
    inDecoder: "src/internal/webSocket/decoder.ts",
    inReader: "src/internal/webSocket/reader.ts"
  }
  type Part = readonly [module: string, mutant: Mutants.Mutant]
  const inFile = (module: string, file = module) => (find: string, replace: string): Part => [
    module,
    { file, find, replace }
  ]
  const inZlib = inFile(loaded.inZlib)
  const inDecoder = inFile(loaded.inDecoder)
  const inReader = inFile(loaded.inReader)
  const inHeader = inFile(loaded.inReader, "src/internal/webSocket/header.ts")
  const inContext = inFile(loaded.inDecoder, "src/internal/transport/compression.ts")

  const mutants: ReadonlyArray<readonly [string, Part]> = [
    [
      "nothing stops it from inflating",
      inZlib("Math.min(Math.max(1, limit), buffers.MAX_LENGTH)", "buffers.MAX_LENGTH")
    ],
    ["each final block may pass the limit by a byte", inZlib("if (total > limit) return undefined", "")],
    ["what follows a final block is not read", inZlib("if (at >= end) return trimmed", "if (at > 0) return trimmed")],
    ["its final blocks have no bound", inZlib("if (blocks === mostFinalBlocks)", "if (false)")],
    ["a message may end inside a block", inZlib("    info: true,", "    info: true,\n    finishFlush: flush,")],
    ["a message of no bytes is none", inZlib("if (compressed.length === 0) return compressed", "")],
    ["the window ends with a final block", inZlib("Buffer.concat([context, ...parts])", "Buffer.concat([])")],
    [
      "what is not deflate is thrown",
      inZlib("if (code === \"Z_DATA_ERROR\"", "if (false && code === \"Z_DATA_ERROR\"")
    ],
    ["contexts are not kept", inDecoder("      context.add(message)\n", "")],
    ["a context is kept where none was agreed to", inDecoder("(compression.receivedContext)", "(32768)")],
    ["the newest message is not in the context", inContext("next.set(message, kept)", "")],
    ["later fragments may have the bit", inHeader("~(begins ? this.allowed : 0)", "~this.allowed")],
    ["the wire has the limit of what is inflated", inDecoder("    longest,\n", "")],
    ["the wire has no limit", inDecoder("limit + (limit >>> 3) + 64", "Infinity")],
    ["what a context needs is skipped", inReader("skips && extension?.keepsContext !== true", "skips")],
    [
      "text is not looked at once it is inflated",
      inReader("if (isText) this.deliverText(decoded, inflated)\n", "if (false) ;\n")
    ],
    ["what is too long is never skipped", inReader("this.skips && decoded.reason", "false && decoded.reason")]
  ]

  const fails = (made: Parameters<typeof ours>[2] & object) => (one: Case): boolean =>
    [whole, seeded(1)].some((cut) => {
      try {
        const story = ours({ role: "server", maxFrame: limit, ...one }, chunksOf("server", one, cut), made)
        return JSON.stringify(story) !== JSON.stringify(one.story)
      } catch {
        return true
      }
    })

  it.effect.each(mutants)("%s", ([, [module, mutant]]) =>
    Effect.gen(function*() {
      const broken = yield* Mutants.load<Partial<Parameters<typeof ours>[2]>>(mutant, module)
      assert.isDefined(cases.find(fails({ ...sound, ...broken })))
    }))
})

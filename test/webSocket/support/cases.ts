/** Bytes, and what has to come of them: written from RFC 6455, each with the verdict of the `ws` package where it differs. */
import type { Role } from "../../../src/internal/webSocket/header.ts"
import { bytesOf, type Cut, everywhere, frame, type FrameOptions, hex, seeded, type Story, whole } from "./wire.ts"

// the long ones are cut in their headers, and at a few places more
const cutBy = (short: Cut, step: number): Cut => (length) =>
  length < 2000 ? short(length) : everywhere(length).filter((at) => at < 20 || at % step === 0)

/** How the bytes of a case come. */
export const cuts: ReadonlyArray<readonly [string, Cut]> = [
  ["whole", whole],
  ["in pieces of a byte", cutBy(everywhere, 997)],
  ["cut at random", cutBy(seeded(1), 5003)],
  ["cut at random again", cutBy(seeded(2), 4096)],
  ["cut at random once more", cutBy(seeded(3), 16_384)]
]

export interface Case {
  readonly name: string
  readonly role: Role
  readonly maxFrame: number
  readonly bytes: ReadonlyArray<number>
  readonly story: Story
  /** What `ws` makes of it where this reader is stricter, or sooner. */
  readonly ws?: Story | undefined
  /** Bytes of the unfinished message at the end. */
  readonly pending?: number | undefined
}

type Build = (options: FrameOptions) => ReadonlyArray<number>

interface More {
  readonly maxFrame?: number
  readonly ws?: Story
  /** The same for both roles, or by how many bytes of masking keys it is more for a server. */
  readonly pending?: number
  readonly keys?: number
}

const key = [0x37, 0xfa, 0x21, 0x3d]

export const cases: Array<Case> = []

/** A case for each role: what a client sends to a server is masked. */
const both = (
  name: string,
  build: (f: Build) => ReadonlyArray<ReadonlyArray<number>>,
  story: Story,
  more: More = {}
) => {
  for (const role of ["server", "client"] as const) {
    const masks = role === "server" ? { key } : {}
    cases.push({
      name: `${name} (${role})`,
      role,
      maxFrame: more.maxFrame ?? 1000,
      bytes: build((options) => frame({ ...masks, ...options })).flat(),
      story,
      ws: more.ws,
      pending: more.pending === undefined ? undefined : more.pending + (role === "server" ? 4 * (more.keys ?? 0) : 0)
    })
  }
}

const only = (
  role: Role,
  name: string,
  bytes: ReadonlyArray<number>,
  story: Story,
  more: More = {}
) => {
  cases.push({ name, role, maxFrame: more.maxFrame ?? 1000, bytes, story, ws: more.ws, pending: more.pending })
}

const [continuation, text, binary, close, ping, pong] = [0, 1, 2, 8, 9, 10]

const filled = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => (i * 7 + 1) & 0xff)
const binaryOf = (payload: Uint8Array | ReadonlyArray<number>): string => `binary ${hex(bytesOf(payload))}`
const textOf = (payload: string): string => `text ${JSON.stringify(payload)}`
const hi = (f: Build) => f({ opcode: text, payload: "hi" })

// ---------------------------------------------------------------------------------------------------------------------
// 5.7: the examples of the RFC
// ---------------------------------------------------------------------------------------------------------------------

only("client", "5.7 a text of one frame", [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], [textOf("Hello")])
only(
  "server",
  "5.7 a text of one frame, masked",
  [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
  [textOf("Hello")]
)
only("client", "5.7 a text of two", [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f], [textOf("Hello")])
only("client", "5.7 a ping", [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], ["ping 48656c6c6f"])
only(
  "server",
  "5.7 a masked pong",
  [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
  ["pong 48656c6c6f"]
)

// ---------------------------------------------------------------------------------------------------------------------
// 5.2: lengths
// ---------------------------------------------------------------------------------------------------------------------

for (const size of [0, 1, 2, 3, 4, 5, 7, 8, 9, 124, 125, 126, 127, 128, 129, 255, 256, 65535, 65536, 65537]) {
  both(
    `a binary message of ${size} bytes`,
    (f) => [f({ opcode: binary, payload: filled(size) }), hi(f)],
    [binaryOf(filled(size)), textOf("hi")],
    { maxFrame: 70_000 }
  )
}
for (const size of [0, 1, 125, 126, 65536]) {
  both(
    `a text of ${size} bytes`,
    (f) => [f({ opcode: text, payload: "x".repeat(size) }), hi(f)],
    [textOf("x".repeat(size)), textOf("hi")],
    { maxFrame: 70_000 }
  )
}
// the minimal number of bytes must be used; `ws` does not look
for (
  const [bits, size] of [[16, 0], [16, 1], [16, 125], [64, 0], [64, 1], [64, 125], [64, 126], [64, 65535]] as const
) {
  both(
    `a length of ${size} in ${bits} bits`,
    (f) => [hi(f), f({ opcode: binary, payload: filled(size), bits })],
    [textOf("hi"), "fail 1002"],
    { maxFrame: 70_000, ws: [textOf("hi"), binaryOf(filled(size))] }
  )
}
// the most significant bit must be 0; `ws` says that it is too long
for (const length of [2n ** 63n, 2n ** 64n - 1n]) {
  both(`a length of ${length}`, (f) => [f({ opcode: binary, length })], ["fail 1002"], { ws: ["fail 1009"] })
}

// ---------------------------------------------------------------------------------------------------------------------
// limits
// ---------------------------------------------------------------------------------------------------------------------

for (
  const length of [1001n, 65535n, 65536n, 2n ** 31n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 62n, 2n ** 63n - 1n]
) {
  both(`a message of ${length} bytes, announced`, (f) => [hi(f), f({ opcode: binary, length })], [
    textOf("hi"),
    "fail 1009"
  ])
}
both(
  "a message as long as the limit",
  (f) => [f({ opcode: binary, payload: filled(1000) })],
  [binaryOf(filled(1000))]
)
both("a short message over a small limit", (f) => [f({ opcode: text, payload: "four" })], ["fail 1009"], {
  maxFrame: 3
})
both("an empty message under the smallest limit", (f) => [f({ opcode: text })], [textOf("")], { maxFrame: 1 })
both(
  "fragments as long as the limit together",
  (f) => [
    f({ opcode: binary, payload: filled(500), fin: false }),
    f({ opcode: continuation, payload: filled(500), fin: false }),
    f({ opcode: continuation })
  ],
  [binaryOf([...filled(500), ...filled(500)])]
)
both(
  "fragments over the limit together",
  (f) => [
    f({ opcode: binary, payload: filled(500), fin: false }),
    f({ opcode: continuation, payload: filled(500), fin: false }),
    f({ opcode: continuation, length: 1, fin: false })
  ],
  ["fail 1009"]
)
both(
  "the limit begins anew with each message",
  (f) => [f({ opcode: binary, payload: filled(900) }), f({ opcode: binary, payload: filled(900) })],
  [binaryOf(filled(900)), binaryOf(filled(900))]
)
both(
  "control frames do not count",
  (f) => [
    f({ opcode: binary, payload: [1, 2], fin: false }),
    f({ opcode: ping, payload: filled(100) }),
    f({ opcode: continuation, payload: [3] })
  ],
  [`ping ${hex(filled(100))}`, binaryOf([1, 2, 3])],
  { maxFrame: 3 }
)

// ---------------------------------------------------------------------------------------------------------------------
// 5.1, 5.3: masks
// ---------------------------------------------------------------------------------------------------------------------

for (const [name, opcode] of Object.entries({ text, binary, close, ping, pong })) {
  only("server", `an unmasked ${name} frame to a server`, frame({ opcode, payload: [] }), ["fail 1002"])
  only("client", `a masked ${name} frame to a client`, frame({ opcode, payload: [], key }), ["fail 1002"])
}
for (const odd of [[0, 0, 0, 0], [255, 255, 255, 255], [1, 0, 0, 0], [0, 0, 0, 128], [128, 127, 1, 254]]) {
  for (const size of [1, 6, 131, 259]) {
    const payload = filled(size)
    only("server", `${size} bytes masked with ${odd.join(" ")}`, frame({ opcode: binary, payload, key: odd }), [
      binaryOf(payload)
    ])
  }
}
only(
  "server",
  "each frame has its own key",
  [
    ...frame({ opcode: text, payload: "abcdefg", fin: false, key: [1, 2, 3, 4] }),
    ...frame({ opcode: ping, payload: "12345", key: [9, 8, 7, 6] }),
    ...frame({ opcode: continuation, payload: "hij", key: [50, 60, 70, 80] })
  ],
  ["ping 3132333435", textOf("abcdefghij")]
)
only(
  "server",
  "the second frame is not masked",
  [...frame({ opcode: text, payload: "a", key }), ...frame({ opcode: text, payload: "b" })],
  [textOf("a"), "fail 1002"]
)
only(
  "server",
  "a fragment is not masked",
  [...frame({ opcode: text, payload: "a", key, fin: false }), ...frame({ opcode: continuation, payload: "b" })],
  ["fail 1002"]
)

// ---------------------------------------------------------------------------------------------------------------------
// 5.2: reserved bits and opcodes
// ---------------------------------------------------------------------------------------------------------------------

for (const rsv of [1, 2, 3, 4, 5, 6, 7]) {
  for (const [name, opcode] of Object.entries({ text, binary, close, ping, pong })) {
    both(`${name} with reserved bits ${rsv}`, (f) => [hi(f), f({ opcode, rsv })], [textOf("hi"), "fail 1002"])
  }
  both(
    `a continuation with reserved bits ${rsv}`,
    (f) => [f({ opcode: text, payload: "a", fin: false }), f({ opcode: continuation, rsv, payload: "b" })],
    ["fail 1002"]
  )
}
for (const opcode of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) {
  both(`opcode ${opcode}`, (f) => [hi(f), f({ opcode, payload: "x" }), hi(f)], [textOf("hi"), "fail 1002"])
  both(
    `opcode ${opcode} inside a message`,
    (f) => [f({ opcode: text, payload: "a", fin: false }), f({ opcode })],
    ["fail 1002"]
  )
}

// ---------------------------------------------------------------------------------------------------------------------
// 5.4: fragments
// ---------------------------------------------------------------------------------------------------------------------

const fragments = (f: Build, opcode: number, parts: ReadonlyArray<string | Uint8Array>) =>
  parts.map((payload, i) => f({ opcode: i === 0 ? opcode : continuation, payload, fin: i === parts.length - 1 }))

for (
  const parts of [
    ["ab", "cd"],
    ["a", "b", "c", "d"],
    ["", "abcd"],
    ["abcd", ""],
    ["", "", "abcd", "", ""],
    ["ab", "", "cd"],
    ["", "ab", "cd"]
  ]
) {
  const name = parts.map((part) => part.length).join("+")
  both(`a text in ${name} bytes`, (f) => [...fragments(f, text, parts), hi(f)], [textOf("abcd"), textOf("hi")])
  both(`a binary message in ${name} bytes`, (f) => [...fragments(f, binary, parts), hi(f)], [
    "binary 61626364",
    textOf("hi")
  ])
}
both("a message of empty fragments", (f) => fragments(f, text, ["", "", ""]), [textOf("")])
both("a binary message of empty fragments", (f) => fragments(f, binary, ["", "", ""]), [binaryOf([])])
both(
  "200 fragments",
  (f) => fragments(f, binary, Array.from({ length: 200 }, (_, i) => Uint8Array.of(i))),
  [binaryOf(Array.from({ length: 200 }, (_, i) => i))]
)
both(
  "fragments of all kinds of lengths",
  (f) => fragments(f, binary, [filled(125), filled(126), filled(700), filled(1), filled(48)]),
  [binaryOf([filled(125), filled(126), filled(700), filled(1), filled(48)].flatMap((part) => [...part]))]
)
both("a continuation of nothing", (f) => [f({ opcode: continuation, payload: "x" })], ["fail 1002"])
both("an unfinished continuation of nothing", (f) => [f({ opcode: continuation, fin: false })], ["fail 1002"])
both("a continuation after a message", (f) => [hi(f), f({ opcode: continuation })], [textOf("hi"), "fail 1002"])
both(
  "a continuation after fragments",
  (f) => [...fragments(f, text, ["a", "b"]), f({ opcode: continuation })],
  [textOf("ab"), "fail 1002"]
)
for (const second of [text, binary]) {
  both(
    `opcode ${second} inside a message`,
    (f) => [f({ opcode: text, payload: "a", fin: false }), f({ opcode: second, payload: "b" })],
    ["fail 1002"]
  )
  both(
    `opcode ${second} after an empty fragment`,
    (f) => [f({ opcode: binary, fin: false }), f({ opcode: second, fin: false })],
    ["fail 1002"]
  )
}
both("a message that has begun", (f) => [f({ opcode: text, payload: "abc", fin: false })], [], { pending: 5, keys: 1 })
both(
  "a message that has begun, and a ping",
  (f) => [f({ opcode: text, payload: "abc", fin: false }), f({ opcode: ping, payload: "p" })],
  ["ping 70"],
  { pending: 5, keys: 1 }
)
both(
  "two fragments and a header",
  (f) => [
    f({ opcode: text, payload: "abc", fin: false }),
    f({ opcode: continuation, fin: false }),
    f({ opcode: continuation, length: 9 })
  ],
  [],
  { pending: 9, keys: 3 }
)
both("one byte", () => [[0x81]], [], { pending: 1 })
both("a ping that has begun", (f) => [f({ opcode: ping, length: 4, payload: "ab" })], [], { pending: 4, keys: 1 })
both("nothing is left between messages", (f) => [hi(f), f({ opcode: ping })], [textOf("hi"), "ping "], { pending: 0 })

// ---------------------------------------------------------------------------------------------------------------------
// 5.5: control frames
// ---------------------------------------------------------------------------------------------------------------------

for (const [name, opcode] of Object.entries({ ping, pong })) {
  for (const size of [0, 1, 8, 124, 125]) {
    both(`a ${name} of ${size} bytes`, (f) => [f({ opcode, payload: filled(size) }), hi(f)], [
      `${name} ${hex(filled(size))}`,
      textOf("hi")
    ])
  }
}
for (const [name, opcode] of Object.entries({ close, ping, pong })) {
  for (const [size, bits] of [[126, 16], [65536, 64], [5, 16], [5, 64]] as const) {
    both(
      `a ${name} with a length of ${size} in ${bits} bits`,
      (f) => [f({ opcode, payload: filled(size), bits })],
      ["fail 1002"]
    )
  }
  both(`a fragmented ${name}`, (f) => [f({ opcode, fin: false }), f({ opcode: continuation })], ["fail 1002"])
  both(
    `a fragmented ${name} inside a message`,
    (f) => [f({ opcode: text, fin: false, payload: "a" }), f({ opcode, fin: false })],
    ["fail 1002"]
  )
}
both(
  "pings and pongs between all fragments",
  (f) =>
    fragments(f, text, ["a", "", "b"]).flatMap((part, i) => [
      f({ opcode: ping, payload: `${i}` }),
      f({ opcode: pong }),
      part
    ]),
  ["ping 30", "pong ", "ping 31", "pong ", "ping 32", "pong ", textOf("ab")]
)
both(
  "ten pings in a row",
  (f) => Array.from({ length: 10 }, (_, i) => f({ opcode: ping, payload: [i] })),
  Array.from({ length: 10 }, (_, i) => `ping 0${i}`)
)

// ---------------------------------------------------------------------------------------------------------------------
// 5.5.1, 7.4: close frames
// ---------------------------------------------------------------------------------------------------------------------

const closing = (
  code: number,
  reason: string | ReadonlyArray<number> = ""
) => [code >> 8, code & 255, ...bytesOf(reason)]

both("a close frame without a code", (f) => [f({ opcode: close }), hi(f)], ["close 1005 \"\""], { pending: 0 })
both("a close frame with half a code", (f) => [f({ opcode: close, payload: [3] })], ["fail 1002"])
for (
  const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4001, 4999]
) {
  both(`close code ${code}`, (f) => [hi(f), f({ opcode: close, payload: closing(code) }), hi(f)], [
    textOf("hi"),
    `close ${code} ""`
  ])
}
for (
  const code of [0, 1, 255, 256, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 5001, 32768, 65535]
) {
  both(`close code ${code}`, (f) => [f({ opcode: close, payload: closing(code, "why") })], ["fail 1002"])
}
for (const reason of ["bye", "é", "\u{1f600} gone", "x".repeat(123), ""]) {
  both(`the reason ${JSON.stringify(reason.slice(0, 9))}`, (f) => [
    f({ opcode: close, payload: closing(1000, reason) })
  ], [`close 1000 ${JSON.stringify(reason)}`])
}
for (const reason of [[0xff], [0xc3], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0x61, 0xf4, 0x90, 0x80, 0x80]]) {
  both(`the reason ${hex(bytesOf(reason))}`, (f) => [f({ opcode: close, payload: closing(1000, reason) })], [
    "fail 1007"
  ])
}
both(
  "a close frame inside a message",
  (f) => [f({ opcode: text, payload: "a", fin: false }), f({ opcode: close, payload: closing(1001) })],
  ["close 1001 \"\""],
  { pending: 0 }
)
both(
  "bytes after a close frame",
  (f) => [f({ opcode: close, payload: closing(1000) }), [255, 255, 255], hi(f), f({ opcode: close })],
  ["close 1000 \"\""],
  { pending: 0 }
)
both("messages after a failure", (f) => [f({ opcode: 3 }), hi(f), f({ opcode: close })], ["fail 1002"], { pending: 0 })

// ---------------------------------------------------------------------------------------------------------------------
// 8.1: UTF-8
// ---------------------------------------------------------------------------------------------------------------------

const valid = [
  "κόσμε",
  "\u0000",
  "\u007f\u0080",
  "\u07ff\u0800",
  "\uffff\u{10000}",
  "\ud7ff\ue000\ufffd",
  "\u{10ffff}",
  "\ufeffbom",
  "Hello-µ@ßöäüàá-UTF-8!!",
  "日本語",
  "\u{1f600}\u{1f468}\u200d\u{1f469}"
]
for (const value of valid) {
  const bytes = bytesOf(value)
  both(`the text ${JSON.stringify(value)}`, (f) => [f({ opcode: text, payload: bytes }), hi(f)], [
    textOf(value),
    textOf("hi")
  ])
  both(
    `the text ${JSON.stringify(value)} byte by byte`,
    (f) => [...fragments(f, text, Array.from(bytes, (byte) => Uint8Array.of(byte))), hi(f)],
    [textOf(value), textOf("hi")]
  )
}

// the bytes up to the first wrong one, and what may come after it
const invalid: ReadonlyArray<readonly [ReadonlyArray<number>, ReadonlyArray<number>]> = [
  [[0x80], []],
  [[0xbf], [0x61]],
  [[0xc0], [0x80]],
  [[0xc1], [0xbf]],
  [[0xc3, 0x28], []],
  [[0xc3, 0xc3], [0xa9]],
  [[0xe0, 0x80], [0x80]],
  [[0xe0, 0x9f], [0xbf]],
  [[0xe2, 0x28], [0xa1]],
  [[0xe2, 0x82, 0x28], []],
  [[0xed, 0xa0], [0x80]],
  [[0xed, 0xbf], [0xbf]],
  [[0xed, 0xa1], [0x8c, 0xed, 0xbe, 0xb4]],
  [[0xf0, 0x80], [0x80, 0x80]],
  [[0xf0, 0x8f], [0xbf, 0xbf]],
  [[0xf0, 0x28], [0x8c, 0xbc]],
  [[0xf0, 0x90, 0x28], [0xbc]],
  [[0xf0, 0x90, 0x8c, 0x28], []],
  [[0xf4, 0x90], [0x80, 0x80]],
  [[0xf5], [0x80, 0x80, 0x80]],
  [[0xf8], [0x88, 0x80, 0x80, 0x80]],
  [[0xfc], [0x84, 0x80, 0x80, 0x80, 0x80]],
  [[0xfe], []],
  [[0xff], [0xff]],
  [[...bytesOf("κόσμε"), 0xed, 0xa0], [0x80, ...bytesOf("edited")]]
]
for (const [bad, rest] of invalid) {
  const name = hex(bytesOf([...bad, ...rest]))
  const before = [...bytesOf("ok ")]
  both(`the bytes ${name}`, (f) => [hi(f), f({ opcode: text, payload: [...before, ...bad, ...rest] }), hi(f)], [
    textOf("hi"),
    "fail 1007"
  ])
  // `ws` looks when it has all of a message
  both(
    `the bytes ${name} in a fragment, and no more`,
    (f) => [f({ opcode: text, payload: [...before, ...bad], fin: false })],
    ["fail 1007"],
    { ws: [] }
  )
  both(
    `the bytes ${name} byte by byte`,
    (f) => fragments(f, text, Array.from([...bad, ...rest], (byte) => Uint8Array.of(byte))),
    ["fail 1007"]
  )
  both(
    `the bytes ${name} in a frame that is not complete`,
    (f) => [f({ opcode: text, payload: [...before, ...bad], length: 900 })],
    ["fail 1007"],
    { ws: [] }
  )
  both(`the bytes ${name} are no text, and need not be`, (f) => [
    ...fragments(f, binary, [Uint8Array.from(bad), Uint8Array.from(rest)])
  ], [binaryOf([...bad, ...rest])])
}
// 6.4.x of the Autobahn suite: a control frame after the wrong byte comes too late
both(
  "a ping after a wrong byte",
  (f) => [f({ opcode: text, payload: [0xf4, 0x90], fin: false }), f({ opcode: ping })],
  ["fail 1007"],
  { ws: ["ping "] }
)
for (const value of ["é", "€", "\u{1f600}"]) {
  const bytes = bytesOf(value)
  for (let size = 1; size < bytes.length; size++) {
    const begun = bytes.subarray(0, size)
    both(`a text that ends inside ${value}, after ${size}`, (f) => [f({ opcode: text, payload: begun })], ["fail 1007"])
    both(
      `fragments that end inside ${value}, after ${size}`,
      (f) => fragments(f, text, ["ab", begun, ""]),
      ["fail 1007"]
    )
    both(
      `a fragment that ends inside ${value}, after ${size}`,
      (f) => [...fragments(f, text, [begun, bytes.subarray(size)]), hi(f)],
      [textOf(value), textOf("hi")]
    )
    both(
      `a message that has begun with ${size} of ${value}`,
      (f) => [
        f({ opcode: text, payload: begun, fin: false })
      ],
      [],
      { pending: 2 + size, keys: 1 }
    )
    both(`a text after one that ended inside ${value}, after ${size}`, (f) => [
      ...fragments(f, text, [begun, "x"]),
      f({ opcode: text, payload: bytes.subarray(size) })
    ], ["fail 1007"])
  }
}

/** F15: a WebSocket peer that makes much of little, on the loopback device. */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as Zlib from "node:zlib"
import * as Node from "../../src/node/index.ts"
import { assertCaught, type Broken, expect, patience } from "../simulation/scenarios/kit.ts"
import * as Mutants from "../support/mutants.ts"
import { type Client, client, until } from "./fixtures/kit.ts"

const text = 1
const more = 0
const fin = 0x80
const compressed = 0x40

/** A frame as a client sends it: masked, with zeros. */
const frame = (first: number, payload: Uint8Array): Buffer => {
  const { length } = payload
  const head = Buffer.alloc(length < 126 ? 6 : length < 65_536 ? 8 : 14)
  head[0] = first
  head[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127)
  if (head.length === 8) head.writeUInt16BE(length, 2)
  if (head.length === 14) head.writeBigUInt64BE(BigInt(length), 2)
  return Buffer.concat([head, payload])
}

const upgrade = [
  "GET / HTTP/1.1",
  "Host: 127.0.0.1",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  "Sec-WebSocket-Extensions: permessage-deflate",
  "\r\n"
].join("\r\n")

/** The code of the close frame that came after the answer to the upgrade. */
const closeCode = ({ text }: Client): number | undefined => {
  const at = text.indexOf("\r\n\r\n") + 4
  return at > 4 && text.length >= at + 4 && text.charCodeAt(at) === (fin | 8)
    ? text.charCodeAt(at + 2) * 256 + text.charCodeAt(at + 3)
    : undefined
}

/** What comes of these frames: a message, or the code that the connection is closed with. */
const fate = Effect.fnUntraced(function*({ Listener }: typeof Node, frames: ReadonlyArray<Buffer>) {
  const sizes: Array<number> = []
  const listener = yield* Listener.make("ws://127.0.0.1:0", { policy: { maxFrame: 1024 * 1024 } })
  const receive = (socket: Socket.Socket) =>
    Effect.gen(function*() {
      const { pull } = yield* socket.reader
      while (true) for (const message of yield* pull) sizes.push(message.length)
    }).pipe(Effect.scoped, Effect.ignore)
  yield* Effect.forkScoped(listener.run(receive), { startImmediately: true })
  const peer = yield* client(listener)
  peer.conn.write(upgrade)
  peer.conn.write(Buffer.concat(frames))
  yield* until("a message, or a close", () => sizes.length > 0 || closeCode(peer) !== undefined, 10_000)
  return sizes.length > 0 ? `a message of ${sizes[0]} bytes` : `closed with ${closeCode(peer)}`
})

const mebibyte = 1024 * 1024

const run = (node: typeof Node): Effect.Effect<void, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    // 20,000 pieces of a byte each are kept as the bytes that they are
    const crumbs = Array.from({ length: 20_000 }, (_, i) => frame(i === 0 ? text : more, Buffer.from("x")))
    const many = yield* fate(node, [...crumbs, frame(fin | more, Buffer.from("x"))])
    yield* expect("many fragments", many, "a message of 20001 bytes")
    const above = yield* fate(node, [
      ...crumbs,
      ...Array.from({ length: 60 }, () => frame(more, Buffer.alloc(20_000))),
      frame(fin | more, Buffer.from("x"))
    ])
    yield* expect("fragments without end", above, "closed with 1009")
    // 64 MiB of one letter in 64 KiB. Compression was offered and is not agreed on
    const bomb = Zlib.deflateRawSync(Buffer.alloc(64 * mebibyte, "x"))
    yield* expect("a decompression bomb", yield* fate(node, [frame(fin | compressed | text, bomb)]), "closed with 1002")
    // none of them is too long, and together they are
    const half = Buffer.alloc(0.75 * mebibyte, "x")
    const together = yield* fate(node, [frame(text, half), frame(fin | more, half)])
    yield* expect("fragments that are too long together", together, "closed with 1009")
    yield* expect(
      "an honest message",
      yield* fate(node, [frame(fin | text, Buffer.from("hello"))]),
      "a message of 5 bytes"
    )
  })

const file = "src/internal/webSocket/header.ts"

const broken: { readonly [bug: string]: Broken } = {
  "the limit is one of fragments": {
    file,
    find: "const total = begun.size + length",
    replace: "const total = length",
    caughtBy: "fragments without end"
  },
  "a reserved bit is overlooked": {
    file,
    find: "(first & reservedBits & ~(begins ? this.allowed : 0)) !== 0",
    replace: "false",
    caughtBy: "a decompression bomb"
  }
}

const name = "F15 fragments without end, or a decompression bomb"
it.live(name, () => run(Node), patience)
for (const [bug, mutant] of Object.entries(broken)) {
  it.live(`${name} is caught when broken: ${bug}`, () =>
    Effect.gen(function*() {
      const node = yield* Mutants.load<typeof Node>(mutant, "src/node/index.ts")
      assertCaught(yield* Effect.exit(Effect.scoped(run(node))), mutant.caughtBy)
    }), patience)
}

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
  const head = Buffer.alloc(14)
  head[0] = first
  head[1] = 0x80 | 127
  head.writeBigUInt64BE(BigInt(payload.length), 2)
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
    // 20,000 pieces of a byte each: small, and still as many objects
    const crumbs = Array.from({ length: 20_000 }, (_, i) => frame(i === 0 ? text : more, Buffer.from("x")))
    const tooMany = yield* fate(node, [...crumbs, frame(fin | more, Buffer.from("x"))])
    yield* expect("too many fragments", tooMany, "closed with 1008")
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

const file = "src/node/internal/webSocket/upgrade.ts"
const limit = "maxPayload: options.maxFrame"

const broken: { readonly [bug: string]: Broken } = {
  "fragments are not counted": {
    file,
    find: limit,
    replace: `${limit}, maxFragments: 0`,
    caughtBy: "too many fragments"
  },
  "the limit is one of fragments": {
    file,
    find: limit,
    replace: "maxPayload: 0",
    caughtBy: "fragments that are too long together"
  },
  "whatever is compressed is inflated": {
    file,
    find: limit,
    replace: "maxPayload: 100 * options.maxFrame, perMessageDeflate: true",
    caughtBy: "a decompression bomb"
  }
}

const name = "F15 too many fragments, or a decompression bomb"
it.live(name, () => run(Node), patience)
for (const [bug, mutant] of Object.entries(broken)) {
  it.live(`${name} is caught when broken: ${bug}`, () =>
    Effect.gen(function*() {
      const node = yield* Mutants.load<typeof Node>(mutant, "src/node/index.ts")
      assertCaught(yield* Effect.exit(Effect.scoped(run(node))), mutant.caughtBy)
    }), patience)
}

/** What a peer can make a connection hold: bounded by what it is in memory, not by its bytes on the wire. */
import { assert, describe, it } from "@effect/vitest"
import { encode as msgpackEncode } from "@msgpack/msgpack"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { Codec, Connection, Heartbeat, type Policy } from "../src/index.ts"
import { frameOf } from "../src/internal/webSocket/encoding.ts"
import { Opcode } from "../src/internal/webSocket/frames.ts"
import { TestSocket } from "../src/testing/index.ts"
import * as Endpoint from "./webSocket/support/endpoint.ts"

const quiet: Policy.Patch = { pingJitter: 0, pingEvery: 0, silence: 0, writeStall: 0, frame: 0, drain: 0 }

const settle = Effect.repeat(Effect.yieldNow, { times: 40 })

const utf8 = (text: string) => new TextEncoder().encode(text)
const times = (count: number, bytes: Uint8Array) => {
  const all = new Uint8Array(count * bytes.length)
  for (let i = 0; i < count; i++) all.set(bytes, i * bytes.length)
  return all
}

const open = <In, Out>(codec: Codec.Codec<In, Out>, policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const c = yield* Connection.make({ codec, policy: { ...quiet, ...policy } })(peer.socket)
    return { c: c as Connection.Connection<unknown>, peer }
  })

const sendFrame = (opcode: number, text: string) => frameOf(opcode, utf8(text), () => 0x01020304)

/** A framing of an application: a message ends with a zero. */
const zeroEnded: Codec.Codec<Uint8Array> = Codec.make({
  framing: {
    name: "zeroEnded",
    skips: false,
    decoder: () => {
      let held: Array<number> = []
      return {
        get pending() {
          return held.length
        },
        write(chunk, frames) {
          for (const byte of chunk) {
            if (byte !== 0) held.push(byte)
            else {
              frames.push(Uint8Array.from(held))
              held = []
            }
          }
          return undefined
        }
      }
    },
    encode: (payload) => Result.succeed(Uint8Array.from([...payload, 0]))
  },
  payload: Codec.bytes().payload
})

const kinds: ReadonlyArray<
  readonly [name: string, codec: Codec.Codec<unknown, never>, frame: Uint8Array, most?: number]
> = [
  ["empty frames with a length", Codec.lengthPrefix(), Uint8Array.of(0, 0, 0, 0)],
  ["empty frames with a length of one byte", Codec.lengthPrefix({ bytes: 1 }), Uint8Array.of(0)],
  ["empty frames with a varint", Codec.varint(), Uint8Array.of(0)],
  ["empty frames with a delimiter", Codec.delimiter("|"), utf8("|")],
  ["frames of one byte", Codec.fixed(1), Uint8Array.of(7)],
  ["bytes of one byte each", Codec.bytes().pipe(Codec.withMaxFrame(1)), Uint8Array.of(7)],
  ["lines", Codec.lines(), utf8("ab\n")],
  ["empty lines", Codec.lines(), utf8("\n")],
  ["lines that end with a return", Codec.lines(), utf8("a\r\n")],
  ["lines of JSON", Codec.lines().pipe(Codec.json), utf8("{}\n")],
  ["lines with a schema", Codec.lines().pipe(Codec.schema(Schema.Struct({}))), utf8("{}\n")],
  ["JSON with a length", Codec.lengthPrefix({ bytes: 1 }).pipe(Codec.json), Uint8Array.of(2, 0x7b, 0x7d)],
  ["MessagePack", Codec.varint().pipe(Codec.msgpack), Uint8Array.of(1, 0x80)],
  [
    "messages of an application",
    Codec.varint().pipe(Codec.map({ decode: (b) => ({ b }), encode: ({ b }) => b })),
    Uint8Array.of(0)
  ],
  // all that it makes of 4 KiB is kept
  ["a framing of an application", zeroEnded, Uint8Array.of(0), 100 + 4096]
]

const count = 5000

describe("B114 what an inbox holds", () => {
  for (const [name, codec, frame, most = 100] of kinds) {
    it.effect(`B114 ${name}: decoding stops at inboxMessages, and goes on when they are received`, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open(codec, { inboxMessages: 100 })
        yield* peer.send(times(count, frame))
        yield* settle
        const { inbox, messagesIn } = yield* c.snapshot
        assert.isAtLeast(inbox.messages, 100)
        assert.isAtMost(inbox.messages, most)
        assert.strictEqual(messagesIn, inbox.messages)
        // all of them come, some at a time
        let received = 0
        while (received < count) {
          const batch = yield* c.receiveAll
          assert.isAtMost(batch.length, most)
          received += batch.length
        }
        yield* settle
        assert.strictEqual(received, count)
        assert.deepStrictEqual((yield* c.snapshot).inbox, { messages: 0, bytes: 0 })
        assert.strictEqual((yield* c.snapshot).messagesIn, count)
        // and the next one
        yield* peer.send(frame)
        yield* c.receive
      }))

    it.effect(`B114 ${name}: decoding stops at what they weigh, however many may wait`, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open(codec, { inboxMessages: 1e9, inboxBytes: 64 * 1024 })
        yield* peer.send(times(count, frame))
        yield* settle
        const { inbox } = yield* c.snapshot
        // 128 bytes for each, and more for values
        assert.isAbove(inbox.messages, 300)
        assert.isAtMost(inbox.messages, 512 + most - 100)
      }))
  }

  for (
    const [name, opcode, codec] of [
      ["empty text", Opcode.text, Codec.lines()],
      ["empty bytes", Opcode.binary, Codec.lengthPrefix()],
      ["JSON", Opcode.text, Codec.lines().pipe(Codec.json)]
    ] as const
  ) {
    it.effect(`B114 WebSocket frames of ${name}: decoding stops at inboxMessages, and goes on when they are received`, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* Endpoint.open({ inboxMessages: 100 }, { codec: codec as never })
        yield* peer.send(times(5000, sendFrame(opcode, name === "JSON" ? "{}" : "")))
        yield* settle
        assert.strictEqual((yield* c.snapshot).inbox.messages, 100)
        let received = 0
        while (received < 5000) received += (yield* c.receiveAll).length
        assert.strictEqual((yield* c.snapshot).messagesIn, 5000)
      }))
  }

  it.effect("B114 messages keep their order, whatever is cut by the bound, by reads, and by unfinished frames", () =>
    Effect.gen(function*() {
      for (const codec of [Codec.lines(), Codec.lengthPrefix().pipe(Codec.text), Codec.lines().pipe(Codec.json)]) {
        const { c, peer } = yield* open(codec, { inboxMessages: 7 })
        const sent = Array.from({ length: 1000 }, (_, i) => `${i}${"x".repeat(i % 50)}`)
        const wire = sent.map((text) => Result.getOrThrow(Codec.encode(codec as Codec.Codec<string>, text)))
        const all = Uint8Array.from(wire.flatMap((bytes) => [...bytes]))
        const received: Array<unknown> = []
        const receiver = yield* Effect.forkChild(Effect.gen(function*() {
          while (received.length < sent.length) {
            received.push(yield* c.receive)
            if (received.length % 11 === 0) yield* Effect.yieldNow
          }
        }))
        for (let at = 0; at < all.length; at += 997) yield* peer.send(all.slice(at, at + 997))
        yield* Fiber.join(receiver)
        assert.deepStrictEqual(received, sent)
      }
    }))

  it.effect("B114 what is not decoded is received before the end of the stream, and half a message behind it is told", () =>
    Effect.gen(function*() {
      for (const [last, tag] of [["", "Closed"], ["half", "Truncated"]] as const) {
        const { c, peer } = yield* open(Codec.lines(), { inboxMessages: 10, halfClose: "5 seconds" })
        yield* peer.send(times(1000, utf8("ab\n")), last)
        yield* peer.end
        yield* settle
        // the bytes before the end are ours to decode: it is no end yet
        assert.strictEqual((yield* c.snapshot).state, "open")
        let received = 0
        while (received < 1000) {
          yield* c.receive
          received++
        }
        const error = yield* Effect.flip(c.receive)
        assert.strictEqual(error.reason._tag, tag)
      }
    }))

  it.effect("B114 a receiver that takes nothing holds a stream that has ended for twice halfClose, to the millisecond", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open(Codec.lines(), { inboxMessages: 10, halfClose: "5 seconds" })
      yield* peer.send(times(1000, utf8("ab\n")))
      yield* peer.end
      yield* settle
      yield* TestClock.adjust(4999)
      assert.strictEqual((yield* c.snapshot).state, "open")
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* c.snapshot).state, "draining")
      yield* TestClock.adjust(4999)
      assert.strictEqual((yield* c.snapshot).state, "draining")
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* c.snapshot).state, "ended")
      // and still has all of it
      for (let i = 0; i < 1000; i++) assert.strictEqual(yield* c.receive, "ab")
      assert.strictEqual((yield* Effect.flip(c.receive)).reason._tag, "Closed")
    }))

  it.effect("B114 B109 a WebSocket close behind what is not decoded: all of it is received, and answered, first", () =>
    Effect.gen(function*() {
      const { c, from, peer, sent } = yield* Endpoint.open({
        inboxMessages: 10,
        halfClose: "5 seconds",
        drain: "5 seconds"
      })
      yield* peer.send(times(1000, from.text("a")), from.close(1000))
      yield* peer.end
      yield* settle
      assert.strictEqual((yield* c.snapshot).state, "open")
      for (let i = 0; i < 1000; i++) yield* c.send(yield* c.receive)
      yield* settle
      const error = yield* Effect.flip(c.receive)
      assert.strictEqual(error.reason._tag, "Closed")
      yield* c.close
      const said = yield* sent
      assert.strictEqual(said.filter((frame) => frame === "text a").length, 1000)
      assert.strictEqual(said.at(-1), "close 1000")
    }))

  it.effect("B114 B106 messages before a bad frame that was not decoded are received, and then its reason", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open(Codec.lines(), { inboxMessages: 10, maxFrame: 4, drain: "5 seconds" })
      yield* peer.send(times(100, utf8("ab\n")), "too long\nab\n")
      yield* settle
      for (let i = 0; i < 100; i++) assert.strictEqual(yield* c.receive, "ab")
      assert.strictEqual((yield* Effect.flip(c.receive)).reason._tag, "FrameTooLong")
    }))

  it.effect("B114 a reset behind what is not decoded ends the connection at once, and takes none of it away", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open(Codec.lines(), { inboxMessages: 10 })
      yield* peer.send(times(100, utf8("ab\n")))
      yield* settle
      yield* peer.reset
      yield* settle
      assert.strictEqual((yield* c.snapshot).state, "ended")
      for (let i = 0; i < 100; i++) assert.strictEqual(yield* c.receive, "ab")
      assert.strictEqual((yield* Effect.flip(c.receive)).reason._tag, "Reset")
    }))

  it.effect("B114 a pong that is not decoded is not missed: the limit begins when it can be seen, to the millisecond", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const c = yield* Connection.make({
        codec: Codec.lines(),
        heartbeat: Heartbeat.text("ping", "pong"),
        policy: {
          ...quiet,
          inboxMessages: 10,
          pingEvery: "10 seconds",
          pong: "2 seconds",
          misses: 0,
          pingWhen: "always"
        }
      })(peer.socket)
      yield* TestClock.adjust(10_000)
      yield* peer.send(times(20, utf8("ab\n")), "pong\n")
      yield* TestClock.adjust(9999)
      assert.strictEqual((yield* c.snapshot).state, "open")
      for (let i = 0; i < 20; i++) yield* c.receive
      yield* settle
      assert.strictEqual((yield* c.snapshot).state, "open")
      // the next ping, which nothing answers
      yield* TestClock.adjust(1)
      yield* TestClock.adjust(1999)
      assert.strictEqual((yield* c.snapshot).state, "open")
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* c.snapshot).state, "ended")
    }))

  it.effect("B114 the frame limit does not count bytes that we have not decoded", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open(Codec.lines(), { inboxMessages: 10, frame: "2 seconds" })
      yield* peer.send(times(20, utf8("ab\n")), "half")
      yield* TestClock.adjust(10_000)
      assert.strictEqual((yield* c.snapshot).state, "open")
      for (let i = 0; i < 20; i++) yield* c.receive
      yield* settle
      yield* TestClock.adjust(1999)
      assert.strictEqual((yield* c.snapshot).state, "open")
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* c.snapshot).state, "ended")
      assert.strictEqual((yield* Effect.flip(c.receive)).reason._tag, "FrameTimeout")
    }))

  it.effect("B114 a policy that makes room has more decoded", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open(Codec.lines(), { inboxMessages: 10 })
      yield* peer.send(times(100, utf8("ab\n")))
      yield* settle
      yield* c.patch({ inboxMessages: 50 })
      yield* settle
      assert.strictEqual((yield* c.snapshot).inbox.messages, 50)
    }))
})

describe("B114 one message that expands", () => {
  const objects = 350_000
  const json = `[${Array.from({ length: objects }, () => "{}").join()}]`
  const packed = new Uint8Array(5 + objects)
  packed.fill(0x80)
  packed[0] = 0xdd
  new DataView(packed.buffer).setUint32(1, objects)

  const invalid = (codec: Codec.Codec<unknown>, wire: Uint8Array | string, options?: Codec.Options) => {
    const { error, messages } = Codec.decoder(codec, { maxFrame: 2 ** 24, ...options }).write(wire)
    return error?._tag === "InvalidMessage" ? error.detail : messages.length
  }

  const onWire = (payload: Uint8Array) => {
    const wire = new Uint8Array(4 + payload.length)
    new DataView(wire.buffer).setUint32(0, payload.length)
    wire.set(payload, 4)
    return wire
  }

  for (
    const [name, codec, wire] of [
      ["JSON lines", Codec.lines().pipe(Codec.json), `${json}\n`],
      ["JSON with a length", Codec.lengthPrefix().pipe(Codec.json), onWire(utf8(json))],
      ["JSON through a schema", Codec.lines().pipe(Codec.schema(Schema.Unknown)), `${json}\n`],
      ["MessagePack", Codec.lengthPrefix().pipe(Codec.msgpack), onWire(packed)]
    ] as ReadonlyArray<readonly [string, Codec.Codec<unknown>, Uint8Array | string]>
  ) {
    it(`B114 ${name} of 350,000 objects is refused before it is decoded, with what to do`, () => {
      const refused = invalid(codec, wire, { maxDecoded: 4 * 1024 * 1024 })
      assert.match(
        String(refused),
        /^it takes about 2\d(\.\d)? MiB of memory when it is decoded, and maxDecoded is 4 MiB: send it in smaller messages, or raise the limit$/
      )
      assert.strictEqual(invalid(codec, wire, { maxDecoded: 30 * 1024 * 1024 }), 1)
      // follows maxFrame
      assert.strictEqual(invalid(codec, wire), 1)
    })
  }

  it("B114 MessagePack whose keys make long lists of small maps is refused: 5 bytes would take 12 KiB", () => {
    const lists = (count: number) => {
      const wire = new Uint8Array(3 + 5 * count)
      wire.set([0xdc, count >>> 8, count])
      for (let i = 0; i < count; i++) wire.set([0x81, 0xcd, 0x03, 0xff, 1], 3 + 5 * i)
      return onWire(wire)
    }
    const codec = Codec.lengthPrefix().pipe(Codec.msgpack)
    assert.match(
      String(invalid(codec, lists(1000), { maxDecoded: 2 ** 22 })),
      /^it takes about 1\d(\.\d)? MiB of memory when it is decoded/
    )
    assert.strictEqual(invalid(codec, lists(300), { maxDecoded: 2 ** 22 }), 1)
  })

  it("B114 what is in strings weighs what it is: no bracket in them is an object", () => {
    const codec = Codec.lines().pipe(Codec.json)
    assert.strictEqual(invalid(codec, `"${"[{,\\\"".repeat(200_000)}"\n`, { maxDecoded: 2 ** 20 * 2 }), 1)
  })

  it("B114 a record of the usual kind fits, as large as a frame may be", () => {
    const records = Array.from(
      { length: 15_000 },
      (_, id) => ({ id, name: `user number ${id}`, text: "hello there", at: 1.5 })
    )
    const text = JSON.stringify(records)
    assert.isAbove(text.length, 900_000)
    assert.isBelow(text.length, Codec.defaultMaxFrame)
    assert.strictEqual(Codec.decoder(Codec.lines().pipe(Codec.json)).write(`${text}\n`).messages.length, 1)
    const bytes = msgpackEncode(records.slice(0, 12_000))
    assert.strictEqual(Codec.decoder(Codec.lengthPrefix().pipe(Codec.msgpack)).write(onWire(bytes)).messages.length, 1)
  })

  it.effect("B114 by the policy of a connection, over a WebSocket too; a given maxFrame takes it along", () =>
    Effect.gen(function*() {
      const codec = Codec.lines().pipe(Codec.json)
      const { c, peer } = yield* open(codec)
      yield* peer.send(`${json.slice(0, 900_000)},{}]\n`.replace(/\{?,,/, ","))
      assert.strictEqual((yield* Effect.flip(c.receive)).reason._tag, "InvalidMessage")
      const ws = yield* Endpoint.open({ maxFrame: 2 ** 21, maxDecoded: 2 ** 22 }, { codec: codec as never })
      yield* ws.peer.send(ws.from.text(json))
      assert.strictEqual((yield* Effect.flip(ws.c.receive)).reason._tag, "InvalidMessage")
      const { c: large, peer: sender } = yield* open(codec, { maxFrame: 2 ** 24 })
      assert.strictEqual((yield* large.policy).maxDecoded, 2 ** 26)
      yield* sender.send(`${json}\n`)
      yield* large.receive
    }))
})

describe("B120 a small message", () => {
  const message = utf8("a message")
  for (
    const [name, codec] of [
      ["with a length", Codec.lengthPrefix()],
      ["with a varint", Codec.varint()],
      ["with a delimiter", Codec.delimiter("\r\n")],
      ["of fixed size", Codec.fixed(message.length)],
      [
        "of an application",
        Codec.lengthPrefix().pipe(Codec.map({ decode: (b: Uint8Array) => b, encode: (b: Uint8Array) => b }))
      ]
    ] as ReadonlyArray<readonly [string, Codec.Codec<Uint8Array>]>
  ) {
    it.effect(`B120 ${name} keeps 4 KiB of the chunk that it came in, and a larger one four times its size`, () =>
      Effect.gen(function*() {
        const frame = Result.getOrThrow(Codec.encode(codec, message))
        const { c, peer } = yield* open(codec, { inboxMessages: 10_000 })
        const chunk = times(Math.floor(65_536 / frame.length), frame)
        yield* peer.send(chunk.slice(0, 5), chunk.slice(5))
        yield* settle
        const received = (yield* c.receiveAll) as ReadonlyArray<Uint8Array>
        assert.strictEqual(received.length, chunk.length / frame.length)
        for (const bytes of received) {
          assert.deepStrictEqual(Array.from(bytes), Array.from(message))
          assert.isAtMost(bytes.buffer.byteLength, 4096)
        }
      }))
  }

  it.effect("B120 of any size, in a chunk of 64 KiB", () =>
    Effect.gen(function*() {
      const sizes = [10, 100, 1000, 1024, 2000, 5000, 10_000, 20_000, 20, 300, 700]
      const { c, peer } = yield* open(Codec.lengthPrefix())
      const wire = sizes.map((size) =>
        Result.getOrThrow(Codec.encode(Codec.lengthPrefix(), new Uint8Array(size).fill(size)))
      )
      yield* peer.send(Uint8Array.from([...wire.flatMap((bytes) => [...bytes]), ...new Uint8Array(20_000)]))
      yield* settle
      for (const size of sizes) {
        const bytes = (yield* c.receive) as Uint8Array
        assert.strictEqual(bytes.length, size)
        assert.isTrue(bytes.every((byte) => byte === (size & 255)))
        assert.isAtMost(bytes.buffer.byteLength, Math.max(4096, size * 4))
      }
    }))
})

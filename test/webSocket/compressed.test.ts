/** A connection whose messages are compressed: its limits, its order, what it holds, on a clock that a test moves. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { Codec, type Policy } from "../../src/index.ts"
import type { Compression } from "../../src/internal/transport/compression.ts"
import { messageFrameOf } from "../../src/internal/webSocket/encoding.ts"
import { Opcode } from "../../src/internal/webSocket/frames.ts"
import { compressionOf } from "../../src/node/internal/deflate/zlib.ts"
import { agreed, compression, ours, withContexts } from "./support/deflated.ts"
import { endsAfter, every, open as openPlain, reasonOf, type Role, settle, utf8 } from "./support/endpoint.ts"

const roles = ["server", "client"] as const

const open = (
  policy: Policy.Patch,
  more: NonNullable<Parameters<typeof openPlain>[1]> = {}
) => openPlain(policy, { compression, ...more })

/** A compressed text, as the peer of an end of this role sends it. */
const packed = (role: Role, text: string, by: Compression = compression): Uint8Array =>
  messageFrameOf(Opcode.text, utf8(text), role === "server" ? () => 0x01020304 : undefined, by)

const long = "the quick brown fox jumps over the lazy dog. "

describe("limits", () => {
  for (const role of roles) {
    it.effect(`B123 at a ${role}: a compressed frame that trickles in ends at exactly \`frame\``, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ frame: "1 second" }, { role })
        const whole = packed(role, Array.from({ length: 100 }, (_, i) => `${i * i}`).join())
        assert.isAbove(whole.length, 100)
        yield* peer.send(whole.subarray(0, 10))
        yield* settle
        yield* every(100, 9, (n) => peer.send(whole.subarray(n * 10, n * 10 + 10)))
        assert.strictEqual(yield* endsAfter(c, 100), "FrameTimeout")
      }))

    it.effect(`B124 at a ${role}: bytes of a compressed message are signs of life`, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ silence: "2 seconds" }, { role })
        const whole = packed(role, long.repeat(10))
        for (const bytes of [whole.subarray(0, 7), whole.subarray(7, 20), whole.subarray(20)]) {
          yield* TestClock.adjust(1999)
          yield* peer.send(bytes)
          yield* settle
        }
        assert.strictEqual(yield* endsAfter(c, 2000), "SilenceTimeout")
      }))

    it.effect(`F15 at a ${role}: a message that inflates to more than \`maxFrame\` ends it, told as 1009`, () =>
      Effect.gen(function*() {
        const { c, peer, sent } = yield* open({ maxFrame: 10_000 }, { role })
        yield* peer.send(packed(role, "x".repeat(10_000)), packed(role, "x".repeat(10_001)))
        yield* settle
        assert.strictEqual(yield* c.receive, "x".repeat(10_000))
        yield* settle
        assert.strictEqual(yield* reasonOf(c), "FrameTooLong")
        assert.match((yield* sent)[0]!, /^close 1009/)
      }))

    it.effect(`at a ${role}: what is not deflate ends it, told as 1007, behind the answers to what came before`, () =>
      Effect.gen(function*() {
        const { c, peer, sent } = yield* open({ drain: "5 seconds" }, { role })
        const bad = packed(role, long.repeat(10))
        const masked = role === "server" ? 8 : 4
        yield* peer.send(packed(role, long.repeat(3)), bad.fill(0xff, masked))
        yield* settle
        assert.strictEqual(yield* c.receive, long.repeat(3))
        yield* c.send("an answer")
        yield* TestClock.adjust(5000)
        yield* settle
        assert.strictEqual(yield* reasonOf(c), "InvalidMessage")
        const said = yield* sent
        assert.strictEqual(said[0], "text an answer")
        assert.match(said[1]!, /^close 1007/)
      }))
  }
})

describe("what is held", () => {
  it.effect("B114 `inboxBytes` counts what messages inflate to: what there is no room for stays compressed", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ inboxBytes: 100_000 })
      const one = packed("server", "x".repeat(50_000))
      assert.isBelow(one.length, 100)
      yield* peer.send(...Array.from({ length: 100 }, () => one))
      yield* settle
      // two fill it, and no third is inflated
      assert.isAtMost((yield* c.snapshot).inbox.messages, 3)
      for (let n = 0; n < 100; n++) assert.lengthOf(yield* c.receive, 50_000)
      yield* settle
      assert.strictEqual((yield* c.snapshot).inbox.messages, 0)
      assert.isUndefined(yield* reasonOf(c))
    }))

  it.effect("B114 pings behind a full inbox are answered, and a close frame is taken behind all messages", () =>
    Effect.gen(function*() {
      const { c, from, peer, sent } = yield* open({ inboxBytes: 100_000, halfClose: "3 seconds" })
      const one = packed("server", "x".repeat(50_000))
      yield* peer.send(Buffer.concat([one, one, from.ping("1"), one, from.close(1000)]))
      yield* settle
      assert.deepStrictEqual(yield* sent, ["pong 1"])
      for (let n = 0; n < 3; n++) assert.lengthOf(yield* c.receive, 50_000)
      yield* settle
      // there is an answer to be expected so long
      assert.strictEqual(yield* endsAfter(c, 3000), "Closed")
      assert.strictEqual((yield* sent)[1], "close 1000")
    }))

  it.effect("a turn inflates its share: other connections have theirs in between", () =>
    Effect.gen(function*() {
      let inflated = 0
      const counting: Compression = {
        ...compression,
        inflate: (...args) => {
          inflated++
          return compression.inflate(...args)
        }
      }
      const { peer } = yield* open({ inboxBytes: 100_000_000, inboxMessages: 10_000 }, { compression: counting })
      const one = packed("server", "x".repeat(60_000))
      yield* peer.send(Buffer.concat(Array.from({ length: 50 }, () => one)))
      const seen: Array<number> = []
      for (let n = 0; n < 400; n++) {
        const before = inflated
        yield* Effect.yieldNow
        if (inflated > before) seen.push(inflated - before)
      }
      assert.strictEqual(inflated, 50)
      assert.isAtMost(Math.max(...seen), 2)
    }))

  it.effect("`tooLong: \"skip\"` passes over what inflates to too much, and counts it", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ maxFrame: 10_000 }, { codec: Codec.lines({ tooLong: "skip" }) })
      yield* peer.send(packed("server", "x".repeat(10_001)), packed("server", long), packed("server", "y".repeat(1e6)))
      yield* settle
      assert.strictEqual(yield* c.receive, long)
      yield* settle
      assert.strictEqual((yield* c.snapshot).skipped, 2)
      assert.isUndefined(yield* reasonOf(c))
    }))
})

describe("what is sent", () => {
  /** As the peer reads it. */
  const readBy = (role: Role, chunks: ReadonlyArray<Uint8Array | string>, isContextKept = false) =>
    ours(
      { role: role === "server" ? "client" : "server", maxFrame: 1_000_000, isContextKept },
      chunks.map((chunk) => typeof chunk === "string" ? utf8(chunk) : new Uint8Array(chunk))
    )

  for (const role of roles) {
    it.effect(`a ${role}'s messages are compressed from the threshold on, in order, and what gets no shorter is not`, () =>
      Effect.gen(function*() {
        const threshold = 100
        const { c, peer } = yield* open({}, { role, compression: compressionOf({ ...agreed, threshold }) })
        const texts = [long.repeat(20), "x".repeat(99), "x".repeat(100), long.repeat(500), "b"]
        for (const text of texts) yield* c.send(text)
        yield* settle
        const chunks = yield* peer.written
        assert.deepStrictEqual(readBy(role, chunks), texts.map((text) => `text ${JSON.stringify(text)}`))
        assert.isBelow(chunks.reduce((size, chunk) => size + chunk.length, 0), 800)
      }))

    it.effect(`a ${role} with contexts: what is dropped before it leaves is nothing that later messages refer to`, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ outboxMessages: 2, overflow: "drop-oldest" }, {
          role,
          compression: withContexts
        })
        const text = (n: number) => `${n} ${long.repeat(n)}`
        yield* c.send(text(1))
        yield* settle
        yield* peer.window(0)
        for (let n = 2; n < 9; n++) {
          yield* c.send(text(n))
          if (n === 2) yield* settle
        }
        yield* peer.window(Infinity)
        yield* settle
        yield* c.send(text(9))
        yield* settle
        const { dropped } = yield* c.snapshot
        assert.isAbove(dropped, 0)
        const story = readBy(role, yield* peer.written, true)
        assert.lengthOf(story, 9 - dropped)
        assert.deepStrictEqual(story.at(-1), `text ${JSON.stringify(text(9))}`)
        assert.notInclude(story.join(), "fail")
      }))
  }

  it.effect("control frames and the close are never compressed", () =>
    Effect.gen(function*() {
      const { c, from, peer } = yield* open({})
      yield* peer.send(from.ping("a".repeat(120)))
      yield* settle
      yield* Effect.forkScoped(c.close)
      yield* settle
      for (const chunk of yield* peer.written) assert.strictEqual((chunk as Uint8Array)[0]! & 0x70, 0)
    }))
})

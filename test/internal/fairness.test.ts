/** What lets one connection take the turn of others, piece by piece: control frames, streams that were paused, the memory of a turn. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { PassThrough } from "node:stream"
import { Codec } from "../../src/index.ts"
import { Room } from "../../src/internal/codec/room.ts"
import { Budget, type Holder } from "../../src/internal/memory/budget.ts"
import { unqueued } from "../../src/internal/scheduling/fifo.ts"
import type { Timers } from "../../src/internal/scheduling/timers.ts"
import type { Turns } from "../../src/internal/scheduling/turns.ts"
import { webSocketDecoderOf } from "../../src/internal/webSocket/decoder.ts"
import { Stream } from "../../src/node/internal/stream/duplex.ts"
import { framesOf } from "../webSocket/support/endpoint.ts"

describe("control frames of one read", () => {
  const from = framesOf("client")
  const decoderOf = () => webSocketDecoderOf(Codec.lines(), "server", { maxFrame: 1000 })
  const pings = (count: number) => Buffer.concat(Array.from({ length: count }, () => from.ping("p")))

  it("B116 are looked at 512 at a time", () => {
    const decoder = decoderOf()
    const messages: Array<string> = []
    const seen: Array<number> = []
    assert.isUndefined(decoder.append(Buffer.concat([pings(1100), from.text("a")]), messages, new Room()))
    for (;;) {
      seen.push(decoder.takeControls!().length)
      if (!decoder.hasMore) break
      assert.isTrue(decoder.isAtControl)
      assert.lengthOf(messages, 0)
      assert.isUndefined(decoder.more(messages, new Room()))
    }
    assert.deepStrictEqual(seen, [512, 512, 76])
    assert.deepStrictEqual(messages, ["a"])
    assert.isFalse(decoder.isAtControl)
  })

  it("B116 are looked at behind an inbox that is full, and messages are not", () => {
    const decoder = decoderOf()
    const messages: Array<string> = []
    decoder.append(Buffer.concat([pings(600), from.text("a"), pings(1)]), messages, new Room())
    assert.strictEqual(decoder.takeControls!().length, 512)
    decoder.more(messages, new Room(0))
    assert.strictEqual(decoder.takeControls!().length, 88)
    assert.deepStrictEqual(messages, [])
    assert.isTrue(decoder.hasMore)
    assert.isFalse(decoder.isAtControl)
  })
})

describe("a stream that was paused for what its reader had", () => {
  it.live("B115 reads on when the reader pulls and nothing has come", () =>
    Effect.gen(function*() {
      const pipe = new PassThrough()
      const stream = new Stream()
      stream.start(pipe)
      stream.pause()
      setImmediate(() => pipe.write("hello"))
      const chunks = yield* Effect.timeoutOrElse(stream.pull, {
        duration: "2 seconds",
        orElse: () => Effect.succeed(["nothing"])
      })
      assert.strictEqual(String(chunks[0]), "hello")
      stream.stop()
    }))
})

describe("the memory that a turn may use", () => {
  const limit = 64e6
  const begin = () => {
    const ends: Array<() => void> = []
    const budget = new Budget(limit, Infinity)
    const timers = { now: () => 0, at: () => ({ cancel: () => {} }) } as unknown as Timers
    const turns = { after: (_: number, task: () => void) => void ends.push(task), count: 0 }
    let held = 0
    const holder: Holder = {
      ...unqueued,
      heldBytes: () => held,
      counted: 0,
      waiting: 0,
      awaitsMemory: false,
      pause: () => {},
      memoryFreed: () => {},
      holdsTooMuch: () => {}
    }
    budget.add(holder, timers, turns as unknown as Turns)
    return {
      budget,
      holds: (bytes: number) => {
        held = bytes
        budget.count(holder)
      },
      endTurn: () => {
        turns.count++
        ends.splice(0).forEach((end) => end())
      }
    }
  }

  it("B115 when it is used up, large reads wait for the next turn; small ones have as much again", () => {
    const { budget, endTurn, holds } = begin()
    holds(limit / 2 + 1)
    assert.isTrue(budget.isTight)
    // what made it tight came in a turn before
    endTurn()
    holds(limit / 2 + limit / 32)
    assert.isFalse(budget.isSpentFor(64 * 1024))
    holds(limit / 2 + limit / 16 + 1)
    assert.isTrue(budget.isSpentFor(64 * 1024))
    // what they may weigh at the most is a 256th of the limit
    assert.isTrue(budget.isSpentFor(limit / 256 / 64 + 1))
    assert.isFalse(budget.isSpentFor(limit / 256 / 64))
    holds(limit / 2 + limit / 8 + 2)
    assert.isTrue(budget.isSpentFor(1))
    endTurn()
    assert.isFalse(budget.isSpentFor(64 * 1024))
  })

  it("B115 that is so where there is enough: what was received at once is still in the hands of its receivers", () => {
    const { budget, endTurn, holds } = begin()
    const most = limit / 16
    for (let turn = 0; turn < 3; turn++) {
      holds(most / 2)
      // received
      holds(0)
      assert.isFalse(budget.isSpentFor(64 * 1024))
      holds(most / 2)
      assert.isTrue(budget.isSpentFor(64 * 1024))
      assert.isFalse(budget.isTight)
      holds(0)
      endTurn()
      // a turn with less
      assert.isFalse(budget.isSpentFor(64 * 1024))
      holds(most / 2)
      holds(0)
      endTurn()
    }
  })
})

describe("text that is encoded", () => {
  it("is a copy, however short", () => {
    for (const codec of [Codec.lines(), Codec.lengthPrefix().pipe(Codec.text), Codec.varint().pipe(Codec.text)]) {
      const encode = Codec.encoder(codec)
      const texts = [
        "a",
        "bb",
        "ü",
        "\u{1f600}",
        "x".repeat(47),
        `${"x".repeat(47)}é`,
        "y".repeat(1024),
        "z".repeat(1025)
      ]
      const frames = texts.map((text) => Result.getOrThrow(encode(text)))
      const decoder = Codec.decoder(codec)
      const read = frames.flatMap((frame) => decoder.write(Buffer.from(frame)).messages)
      assert.deepStrictEqual(read, texts)
    }
  })
})

/** Every limit of a connection over a WebSocket, on a clock that a test moves, to the millisecond. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Random, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Connection, type Policy } from "../../src/index.ts"
import { endsAfter, every, open, reasonOf, settle } from "./support/endpoint.ts"

const roles = ["server", "client"] as const

describe("silence", () => {
  for (const role of roles) {
    it.effect(`B123 a ${role} ends at exactly the limit after the last byte, whatever it was of`, () =>
      Effect.gen(function*() {
        const { c, from, peer } = yield* open({ silence: "2 seconds" }, { role })
        const message = from.text("hello")
        // a byte of a header, the rest of it, a ping, a pong of nothing: each is a sign of life
        for (const bytes of [message.subarray(0, 1), message.subarray(1), from.ping(), from.pong()]) {
          yield* TestClock.adjust(1999)
          yield* peer.send(bytes)
          yield* settle
        }
        assert.strictEqual(yield* endsAfter(c, 2000), "SilenceTimeout")
      }))
  }

  it.effect("B126 the peer is told, by a close frame and nothing behind it", () =>
    Effect.gen(function*() {
      const { c, sent } = yield* open({ silence: "2 seconds" })
      yield* endsAfter(c, 2000)
      const said = yield* sent
      assert.lengthOf(said, 1)
      assert.match(said[0]!, /^close \d{4}/)
    }))
})

describe("pong", () => {
  for (const role of roles) {
    it.effect(`B123 a ${role} waits exactly so long for the pong of a protocol ping`, () =>
      Effect.gen(function*() {
        const { c, from, peer, sent } = yield* open({ pingEvery: "10 seconds", pong: "3 seconds" }, { role })
        yield* TestClock.adjust(10_000)
        yield* settle
        assert.deepStrictEqual(yield* sent, ["ping 0,0,0,1"])
        yield* TestClock.adjust(2999)
        yield* peer.send(from.pong(0, 0, 0, 1))
        yield* settle
        assert.deepStrictEqual((yield* c.snapshot).rtt, { last: 2999, smoothed: 2999 })
        // the next ping leaves at 20,000; it is 12,999 now
        yield* TestClock.adjust(7001)
        yield* settle
        assert.deepStrictEqual(yield* sent, ["ping 0,0,0,1", "ping 0,0,0,2"])
        assert.strictEqual(yield* endsAfter(c, 3000), "PongTimeout")
      }))
  }

  it.effect("B124 a pong that nothing asked for, or with bytes of another length, answers no ping", () =>
    Effect.gen(function*() {
      const { c, from, peer } = yield* open({ pingEvery: "10 seconds", pong: "3 seconds" })
      yield* peer.send(from.fragment("x", true))
      yield* TestClock.adjust(10_000)
      for (const pong of [from.pong(0, 0, 0, 7), from.pong(1), from.pong(0, 0, 0, 1, 0), from.pong()]) {
        yield* TestClock.adjust(500)
        yield* peer.send(pong)
        yield* settle
      }
      assert.strictEqual(yield* endsAfter(c, 1000), "PongTimeout")
    }))

  it.effect("B124 messages, part of one, and pings show that the peer still answers", () =>
    Effect.gen(function*() {
      const { c, from, peer } = yield* open({ pingEvery: "10 seconds", pong: "3 seconds", pingWhen: "always" })
      yield* TestClock.adjust(10_000)
      const message = from.text("0123456789")
      const signs = [
        from.ping(),
        message.subarray(0, 10),
        message.subarray(10),
        Buffer.concat([from.pong(9), from.ping()])
      ]
      for (const bytes of signs) {
        yield* TestClock.adjust(2000)
        yield* peer.send(bytes)
        yield* settle
      }
      assert.strictEqual(yield* endsAfter(c, 3000), "PongTimeout")
    }))
})

describe("idle", () => {
  it.effect("B123 counts messages: neither pings nor pongs nor part of a message put it off", () =>
    Effect.gen(function*() {
      const { c, from, peer } = yield* open({ idle: "5 seconds", pingEvery: "1 second" })
      yield* TestClock.adjust(1000)
      yield* peer.send(from.text("hello"))
      yield* settle
      yield* every(1000, 4, (n) => peer.send(from.ping(), from.pong(0, 0, 0, n), from.fragment("x", n === 1)))
      assert.strictEqual(yield* endsAfter(c, 1000), "IdleTimeout")
    }))
})

describe("frame", () => {
  for (const role of roles) {
    it.effect(`B123 at a ${role}: 4,000 bytes at 100 bytes each 100 ms with \`silence: 0\` end at exactly 1 s`, () =>
      Effect.gen(function*() {
        const { c, from, peer } = yield* open({ silence: 0, frame: "1 second" }, { role })
        const whole = from.text("x".repeat(3992))
        yield* peer.send(whole.subarray(0, 100))
        yield* settle
        yield* every(100, 9, (n) => peer.send(whole.subarray(n * 100, n * 100 + 100)))
        assert.strictEqual(yield* endsAfter(c, 100), "FrameTimeout")
      }))
  }

  it.effect("B123 fragments of one message have it together, and pings between them give it no more", () =>
    Effect.gen(function*() {
      const { c, from, peer } = yield* open({ frame: "1 second" })
      yield* peer.send(from.fragment("a", true))
      yield* settle
      yield* every(300, 3, () => peer.send(from.ping(), from.fragment("b", false), from.pong()))
      assert.strictEqual(yield* endsAfter(c, 100), "FrameTimeout")
    }))

  it.effect("B123 each message has it anew, also where one ends and the next begins in one read", () =>
    Effect.gen(function*() {
      const { c, from, peer } = yield* open({ frame: "1 second" })
      const bytes = Buffer.concat([from.text("0123456789"), from.text("0123456789"), from.text("0123456789")])
      yield* peer.send(bytes.subarray(0, 10))
      yield* TestClock.adjust(999)
      yield* peer.send(bytes.subarray(10, 20))
      yield* TestClock.adjust(999)
      yield* peer.send(bytes.subarray(20, 40))
      yield* settle
      assert.strictEqual(yield* endsAfter(c, 1000), "FrameTimeout")
    }))
})

describe("halfClose", () => {
  it.effect("B109 after the peer's close frame a handler has exactly so long to answer", () =>
    Effect.gen(function*() {
      const { c, from, peer, sent } = yield* open({ halfClose: "3 seconds" })
      const answering = yield* Effect.forkScoped(Effect.flip(Effect.andThen(c.receive, Effect.never)))
      yield* peer.send(from.text("question"), from.close(4000, "done"))
      yield* settle
      yield* c.send("at once")
      assert.strictEqual(yield* endsAfter(c, 3000), "Closed")
      assert.deepStrictEqual(yield* sent, ["text at once", "close 4000"])
      yield* Fiber.interrupt(answering)
    }))
})

describe("writeStall", () => {
  for (const role of roles) {
    it.effect(`B44 a ${role} ends when its peer takes nothing for exactly so long; one byte begins it anew`, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ writeStall: "4 seconds" }, { role })
        yield* peer.window(0)
        yield* c.send("x".repeat(1000))
        yield* settle
        // progress is seen at looks, each a quarter of the limit apart
        yield* TestClock.adjust(3000)
        yield* peer.window(1)
        yield* settle
        yield* TestClock.adjust(1000)
        assert.isUndefined(yield* reasonOf(c))
        assert.strictEqual(yield* endsAfter(c, 4000), "WriteStalled")
      }))
  }

  it.effect("B44 pings of a peer that takes nothing do not save it", () =>
    Effect.gen(function*() {
      const { c, from, peer } = yield* open({ writeStall: "4 seconds" })
      yield* peer.window(0)
      yield* c.send("x")
      yield* settle
      yield* every(1000, 3, () => peer.send(from.ping()))
      assert.strictEqual(yield* endsAfter(c, 1000), "WriteStalled")
    }))
})

describe("maxAge", () => {
  // no jitter: the draw is in the middle
  const middling: typeof Random.Random["Service"] = { nextDoubleUnsafe: () => 0.5, nextIntUnsafe: () => 0 }

  it.effect("asks at the age, and ends when the grace is over, with a close frame", () =>
    Effect.gen(function*() {
      const { c, sent } = yield* Effect.provideService(
        open({ maxAge: "1 minute", maxAgeGrace: "10 seconds" }),
        Random.Random,
        middling
      )
      const leaving = yield* Effect.forkScoped(c.leaving, { startImmediately: true })
      yield* TestClock.adjust(59_999)
      assert.isUndefined(leaving.pollUnsafe())
      yield* TestClock.adjust(1)
      yield* settle
      assert.isDefined(leaving.pollUnsafe())
      assert.deepStrictEqual(yield* sent, [])
      assert.strictEqual(yield* endsAfter(c, 10_000), "MaxAge")
      const said = yield* sent
      assert.lengthOf(said, 1)
      assert.match(said[0]!, /^close 1\d{3}/)
    }))
})

describe("drain", () => {
  it.effect("B126 what was sent and does not leave holds a close up for exactly so long", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ drain: "5 seconds" })
      yield* peer.window(0)
      yield* c.send("x")
      yield* settle
      const closing = yield* Effect.forkScoped(c.close, { startImmediately: true })
      yield* TestClock.adjust(4999)
      yield* settle
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust(1)
      yield* settle
      assert.isDefined(closing.pollUnsafe())
    }))

  it.effect("B126 the close frame comes behind what was sent, as soon as the peer has taken that", () =>
    Effect.gen(function*() {
      const { c, peer, sent } = yield* open({ drain: "5 seconds" })
      yield* peer.window(0)
      for (const n of [1, 2, 3]) yield* c.send(`${n}`)
      yield* settle
      const closing = yield* Effect.forkScoped(c.close, { startImmediately: true })
      yield* TestClock.adjust(4000)
      yield* peer.window(Infinity)
      yield* TestClock.adjust(20)
      yield* settle
      assert.isDefined(closing.pollUnsafe())
      assert.deepStrictEqual(yield* sent, ["text 1", "text 2", "text 3", "close 1000"])
    }))
})

describe("minPingEvery", () => {
  for (const role of roles) {
    it.effect(`B125 protocol pings are no strike at a ${role}, however many and however fast`, () =>
      Effect.gen(function*() {
        const { c, from, peer, sent } = yield* open({ minPingEvery: "5 seconds" }, { role })
        yield* every(1, 200, (n) => peer.send(from.ping(`${n}`)))
        assert.strictEqual((yield* c.snapshot).state, "open")
        assert.deepStrictEqual(yield* sent, Array.from({ length: 200 }, (_, n) => `pong ${n + 1}`))
      }))
  }
})

describe("overflow", () => {
  /** A peer that takes nothing: message 0 is being written, and the outbox behind it has room for two. */
  const flood = (overflow: Policy.Overflow) =>
    Effect.gen(function*() {
      const { c, from, peer, sent } = yield* open({ outboxMessages: 2, overflow })
      yield* peer.window(0)
      yield* c.send("0")
      yield* settle
      const outcomes: Array<string> = []
      for (const n of [1, 2, 3]) {
        yield* c.send(`${n}`).pipe(
          Effect.match({
            onSuccess: () => void outcomes.push(`${n} taken`),
            onFailure: ({ reason }) => void outcomes.push(`${n} ${reason._tag}`)
          }),
          Effect.forkScoped({ startImmediately: true })
        )
        yield* settle
      }
      // a pong is no message: it waits beside the outbox, whatever that does
      yield* peer.send(from.ping("?"))
      yield* settle
      const before = outcomes.slice()
      yield* peer.window(Infinity)
      yield* settle
      return { before, after: outcomes, sent: yield* sent, reason: yield* reasonOf(c) }
    })

  const taken = ["1 taken", "2 taken"]
  const whole = ["text 0", "pong ?", "text 1", "text 2", "text 3"]
  for (
    const [overflow, before, after, sent] of [
      ["wait", taken, [...taken, "3 taken"], whole],
      ["fail", [...taken, "3 OutboxFull"], undefined, whole.slice(0, 4)],
      ["drop-newest", [...taken, "3 taken"], undefined, whole.slice(0, 4)],
      ["drop-oldest", [...taken, "3 taken"], undefined, ["text 0", "pong ?", "text 2", "text 3"]]
    ] as ReadonlyArray<[Policy.Overflow, Array<string>, Array<string> | undefined, Array<string>]>
  ) {
    it.effect(`B123 \`${overflow}\` does over frames what it does over lines`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* flood(overflow), { before, after: after ?? before, sent, reason: undefined })
      }))
  }

  it.effect("B123 `close` ends it as a slow consumer", () =>
    Effect.gen(function*() {
      const { before, reason } = yield* flood("close")
      assert.deepStrictEqual(before, [...taken, "3 SlowConsumer"])
      assert.strictEqual(reason, "SlowConsumer")
    }))
})

describe("inbox", () => {
  it.effect("a peer that is not read from is not silent, and its pings wait with its messages", () =>
    Effect.gen(function*() {
      const { c, from, peer, sent } = yield* open({ inboxMessages: 1, silence: "2 seconds" })
      yield* peer.send(from.text("1"))
      yield* settle
      yield* peer.send(from.ping("?"))
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(yield* reasonOf(c))
      assert.deepStrictEqual(yield* sent, [])
      yield* Effect.forkScoped(Effect.ignore(Stream.runDrain(Connection.messages(c))))
      yield* settle
      assert.deepStrictEqual(yield* sent, ["pong ?"])
      assert.strictEqual(yield* endsAfter(c, 2000), "SilenceTimeout")
    }))
})

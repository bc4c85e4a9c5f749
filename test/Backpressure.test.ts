import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { Codec, Connection, type ConnectionError, Heartbeat, type Policy } from "../src/index.ts"
import { ShortCuts } from "../src/internal/connection/fiberShortCuts.ts"
import { TestSocket } from "../src/testing/index.ts"

type Chat = Connection.Connection<string, string>

/** Everything that ends a connection is off, so that a test shows the one limit it turns on. */
const quiet: Policy.Patch = { pingJitter: 0, pingEvery: 0, silence: 0, writeStall: 0, frame: 0, drain: 0 }

const open = (policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const c = yield* Connection.make({
      codec: Codec.lines(),
      heartbeat: Heartbeat.text("ping", "pong"),
      policy: { ...quiet, ...policy }
    })(peer.socket)
    return { c, peer }
  })

/** A connection whose peer reads nothing: one message is being written, and the outbox behind it is empty. */
const openBlocked = (policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const { c, peer } = yield* open(policy)
    yield* peer.window(0)
    yield* c.send("0")
    yield* settle
    assert.deepStrictEqual((yield* c.snapshot).outbox, { messages: 0, bytes: 0 })
    return { c, peer }
  })

const reasonOf = (c: Chat): Effect.Effect<ConnectionError.Reason["_tag"] | undefined> =>
  Effect.map(c.snapshot, ({ reason, state }) => (state === "ended" ? reason!._tag : undefined))

/** Lets everybody who can run do so. */
const settle = Effect.repeat(Effect.yieldNow, { times: 10 })

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`)
const lines = (messages: ReadonlyArray<string>) => messages.map((message) => `${message}\n`).join("")

describe("writability", () => {
  it.effect("B72 has hysteresis: false when full, true again at the low water mark only", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxMessages: 10, lowWater: 0.5 })
      yield* c.sendAll(numbers(1, 9))
      assert.isTrue(yield* c.isWritable)
      yield* c.send("10")
      assert.isFalse(yield* c.isWritable)
      const waiting = yield* Effect.forkChild(c.awaitWritable, { startImmediately: true })
      // the writer takes all that fits into one write: the rest of the outbox at once
      yield* peer.window(1)
      yield* settle
      assert.isFalse(yield* c.isWritable)
      assert.isUndefined(waiting.pollUnsafe())
      yield* peer.window(1)
      yield* settle
      assert.isTrue(yield* c.isWritable)
      assert.isDefined(waiting.pollUnsafe())
    }))

  it.effect("B72 in bytes: false above, still false just above the low water mark, true at it", () =>
    Effect.gen(function*() {
      // messages of 64 KiB, so that each is a write of its own
      const message = "x".repeat(64 * 1024 - 1)
      const { c, peer } = yield* openBlocked({ outboxBytes: 4 * 64 * 1024, lowWater: 0.5 })
      for (let i = 0; i < 4; i++) yield* c.send(message)
      assert.isFalse(yield* c.isWritable)
      yield* peer.window(2)
      yield* settle
      // three are left: 192 KiB
      assert.strictEqual((yield* c.snapshot).outbox.messages, 3)
      assert.isFalse(yield* c.isWritable)
      yield* c.send(message)
      assert.isFalse(yield* c.isWritable)
      yield* peer.window(2 * 64 * 1024)
      yield* settle
      assert.strictEqual((yield* c.snapshot).outbox.messages, 2)
      assert.isTrue(yield* c.isWritable)
    }))

  it.effect("B72 a sender that is turned away is not told to go on: no busy loop of fail and awaitWritable", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxBytes: 100, overflow: "fail" })
      yield* c.send("x".repeat(59))
      // 60 of 100 bytes: not full, but this one does not fit
      let tries = 0
      const sending = yield* Effect.forkChild(
        Effect.suspend(() => {
          tries++
          return c.send("y".repeat(59))
        }).pipe(Effect.tapError(() => c.awaitWritable), Effect.eventually)
      )
      yield* settle
      assert.strictEqual(tries, 1)
      assert.isFalse(yield* c.isWritable)
      yield* peer.window(Infinity)
      yield* Fiber.join(sending)
      assert.strictEqual(tries, 2)
    }))

  it.effect("B72 bounds lowered on a live connection count at once, raised ones too", () =>
    Effect.gen(function*() {
      const { c } = yield* openBlocked({ outboxMessages: 10 })
      yield* c.sendAll(numbers(1, 5))
      assert.isTrue(yield* c.isWritable)
      yield* c.patch({ outboxMessages: 3 })
      assert.isFalse(yield* c.isWritable)
      const waiting = yield* Effect.forkChild(c.send("6"), { startImmediately: true })
      yield* settle
      assert.isUndefined(waiting.pollUnsafe())
      yield* c.patch({ outboxMessages: 100 })
      yield* settle
      assert.isDefined(waiting.pollUnsafe())
      assert.isTrue(yield* c.isWritable)
    }))

  it.effect("ends with the connection: false, and nobody waits", () =>
    Effect.gen(function*() {
      const { c } = yield* openBlocked({ outboxMessages: 1 })
      yield* c.send("1")
      const waiting = yield* Effect.forkChild(c.awaitWritable, { startImmediately: true })
      yield* c.close
      yield* Fiber.join(waiting)
      assert.isFalse(yield* c.isWritable)
    }))
})

describe("B73 a peer that never reads", () => {
  const message = "x".repeat(999)
  /** 5,000 messages of 1000 bytes for an outbox of 20; while they are sent another connection must answer as ever. */
  const flood = (overflow: Policy.Overflow) =>
    Effect.gen(function*() {
      const { c } = yield* openBlocked({ outboxMessages: 100, outboxBytes: 20_000, overflow })
      const other = yield* open()
      let most = 0
      let failed = 0
      const sending = yield* Effect.forkChild(
        Effect.gen(function*() {
          for (let i = 0; i < 5000; i++) {
            yield* Effect.catch(c.send(message), () =>
              Effect.sync(() => {
                failed++
              }))
            const { outbox } = yield* c.snapshot
            most = Math.max(most, outbox.bytes)
          }
        }),
        { startImmediately: true }
      )
      for (let i = 0; i < 100; i++) {
        yield* other.c.send(`${i}`)
        assert.strictEqual(yield* other.peer.take, `${i}\n`)
        yield* other.peer.send(`${i}\n`)
        assert.strictEqual(yield* other.c.receive, `${i}`)
      }
      // nothing of it took any time
      assert.strictEqual((yield* other.c.snapshot).age, 0)
      assert.isAtMost(most, 20_000)
      return { c, failed: () => failed, sending, snapshot: yield* c.snapshot }
    })

  it.effect("wait: the sender waits, 20 messages are held", () =>
    Effect.gen(function*() {
      const { c, failed, sending, snapshot } = yield* flood("wait")
      assert.isUndefined(sending.pollUnsafe())
      assert.deepStrictEqual(snapshot.outbox, { messages: 20, bytes: 20_000 })
      assert.strictEqual(snapshot.dropped, 0)
      assert.strictEqual(failed(), 0)
      yield* c.close
      yield* Fiber.join(sending)
      assert.strictEqual(failed(), 5000 - 20)
    }))

  it.effect("fail: the sender is told, 20 messages are held", () =>
    Effect.gen(function*() {
      const { c, failed, sending, snapshot } = yield* flood("fail")
      yield* Fiber.join(sending)
      assert.deepStrictEqual(snapshot.outbox, { messages: 20, bytes: 20_000 })
      assert.strictEqual(failed(), 4980)
      assert.strictEqual(snapshot.state, "open")
      const error = yield* Effect.flip(c.send(message))
      assert.deepInclude(error.reason, { _tag: "OutboxFull", messages: 20, bytes: 20_000 })
    }))

  it.effect("drop-newest: what came first is held, the rest is counted", () =>
    Effect.gen(function*() {
      const { failed, sending, snapshot } = yield* flood("drop-newest")
      yield* Fiber.join(sending)
      assert.deepStrictEqual(snapshot.outbox, { messages: 20, bytes: 20_000 })
      assert.strictEqual(snapshot.dropped, 4980)
      assert.strictEqual(failed(), 0)
    }))

  it.effect("drop-oldest: what came last is held, the rest is counted", () =>
    Effect.gen(function*() {
      const { failed, sending, snapshot } = yield* flood("drop-oldest")
      yield* Fiber.join(sending)
      assert.deepStrictEqual(snapshot.outbox, { messages: 20, bytes: 20_000 })
      assert.strictEqual(snapshot.dropped, 4980)
      assert.strictEqual(failed(), 0)
    }))

  it.effect("close: the connection ends with SlowConsumer", () =>
    Effect.gen(function*() {
      const { c, failed, sending } = yield* flood("close")
      yield* Fiber.join(sending)
      assert.strictEqual(failed(), 4980)
      const { lost, outbox, reason, state } = yield* c.snapshot
      assert.strictEqual(state, "ended")
      assert.deepInclude(reason, { _tag: "SlowConsumer", messages: 20, bytes: 20_000 })
      // 20 that waited and the one that was being written
      assert.strictEqual(lost, 21)
      assert.deepStrictEqual(outbox, { messages: 0, bytes: 0 })
      assert.strictEqual((yield* Effect.flip(c.send("x"))).reason._tag, "SlowConsumer")
    }))

  it.effect("which message each policy keeps", () =>
    Effect.gen(function*() {
      const sent = (overflow: Policy.Overflow) =>
        Effect.gen(function*() {
          const { c, peer } = yield* openBlocked({ outboxMessages: 3, overflow })
          for (const message of numbers(1, 6)) yield* Effect.ignore(c.send(message))
          yield* peer.window(Infinity)
          yield* c.flush
          return yield* peer.text
        })
      assert.strictEqual(yield* sent("fail"), lines(["0", "1", "2", "3"]))
      assert.strictEqual(yield* sent("drop-newest"), lines(["0", "1", "2", "3"]))
      assert.strictEqual(yield* sent("drop-oldest"), lines(["0", "4", "5", "6"]))
    }))

  it.effect("a burst on a connection whose peer reads is not a slow peer, whatever the policy", () =>
    Effect.gen(function*() {
      for (const overflow of ["wait", "fail", "drop-newest", "drop-oldest", "close"] as const) {
        const { c, peer } = yield* open({ outboxMessages: 10, overflow })
        yield* c.sendAll(numbers(1, 500))
        for (const message of numbers(501, 1000)) yield* c.send(message)
        yield* c.flush
        assert.strictEqual(yield* peer.text, lines(numbers(1, 1000)), overflow)
        assert.strictEqual((yield* c.snapshot).dropped, 0)
      }
    }))

  it.effect("drop-oldest drops as many as a large message needs", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxBytes: 10, overflow: "drop-oldest" })
      yield* c.sendAll(["1", "2", "3", "4", "5"])
      yield* c.send("x".repeat(6))
      assert.strictEqual((yield* c.snapshot).dropped, 4)
      yield* peer.window(Infinity)
      yield* c.flush
      assert.strictEqual(yield* peer.text, lines(["0", "5", "xxxxxx"]))
    }))

  it.effect("drop-oldest drops the oldest of those that were sent in one turn, in frames of their own", () =>
    Effect.gen(function*() {
      const large = numbers(1, 6).map((message) => message.repeat(5000))
      const { c, peer } = yield* openBlocked({ outboxMessages: 3, overflow: "drop-oldest" })
      for (const message of large) yield* c.send(message)
      yield* peer.window(Infinity)
      yield* c.flush
      assert.strictEqual(yield* peer.text, lines(["0", ...large.slice(3)]))
    }))

  it.effect("a sendAll that fails takes back what it has put into several buffers, and no more", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({})
      yield* c.send("before")
      const error = yield* Effect.flip(c.sendAll([...Array.from({ length: 100 }, () => "x".repeat(200)), "two\nlines"]))
      assert.strictEqual(error.reason._tag, "InvalidMessage")
      yield* c.send("after")
      yield* c.flush
      assert.strictEqual(yield* peer.text, lines(["before", "after"]))
    }))

  it.effect("what was dropped is not lost as well", () =>
    Effect.gen(function*() {
      const { c } = yield* openBlocked({ outboxMessages: 3, overflow: "drop-oldest" })
      yield* c.sendAll(numbers(1, 10))
      yield* c.close
      const { dropped, lost } = yield* c.snapshot
      assert.strictEqual(dropped, 7)
      // three that waited and the one that was being written
      assert.strictEqual(lost, 4)
    }))

  it.effect("F11 a slow reader with live pongs does not grow memory, and B78 is found by writeStall", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({
        outboxMessages: 10,
        overflow: "drop-newest",
        writeStall: "10 seconds",
        silence: "60 seconds",
        pingEvery: "1 second",
        pong: "5 seconds"
      })
      for (let i = 0; i < 9; i++) {
        yield* TestClock.adjust("1 second")
        yield* peer.send("pong\nping\n")
        yield* c.sendAll(numbers(1, 100))
        assert.strictEqual((yield* c.snapshot).outbox.messages, 10)
      }
      yield* TestClock.adjust(999)
      assert.isUndefined(yield* reasonOf(c))
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* reasonOf(c), "WriteStalled")
    }))
})

describe("sending", () => {
  it.effect("B74 control frames pass a full data queue", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxMessages: 5, pingEvery: "10 seconds" })
      yield* c.sendAll(numbers(1, 5))
      yield* peer.send("ping\n")
      yield* TestClock.adjust("10 seconds")
      yield* peer.window(Infinity)
      yield* settle
      assert.strictEqual(yield* peer.text, lines(["0", "pong", "ping", ...numbers(1, 5)]))
    }))

  it.effect("B74 but never break into a frame", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      yield* peer.window(0)
      const large = "x".repeat(300 * 1024)
      yield* c.sendAll([large, "after"])
      yield* settle
      yield* peer.send("ping\n")
      yield* settle
      yield* peer.window(Infinity)
      yield* settle
      assert.deepStrictEqual(
        (yield* peer.text).split("\n").map((line) => line === large ? "large" : line),
        ["large", "pong", "after", ""]
      )
    }))

  it.effect("B75 close with queued data delivers all of it", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ drain: "5 seconds" })
      yield* c.sendAll(numbers(1, 100))
      const closing = yield* Effect.forkChild(c.close, { startImmediately: true })
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* peer.window(Infinity)
      yield* Fiber.join(closing)
      assert.strictEqual(yield* peer.text, lines(numbers(0, 100)))
      assert.strictEqual((yield* c.snapshot).lost, 0)
      assert.strictEqual(yield* peer.finished, true)
    }))

  it.effect("B75 or fails each send that was waiting", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxMessages: 2, drain: "5 seconds" })
      const sending = yield* Effect.forEach(
        numbers(1, 10),
        (message) => Effect.forkChild(Effect.exit(c.send(message)), { startImmediately: true })
      )
      yield* settle
      const closing = yield* Effect.forkChild(c.close, { startImmediately: true })
      const exits = yield* Fiber.joinAll(sending)
      assert.deepStrictEqual(exits.map((exit) => exit._tag), [
        "Success",
        "Success",
        ...Array.from({ length: 8 }, () => "Failure")
      ])
      yield* peer.window(Infinity)
      yield* Fiber.join(closing)
      assert.strictEqual(yield* peer.text, lines(["0", "1", "2"]))
    }))

  it.effect("B76 send after close fails with the stored reason; it never hangs", () =>
    Effect.gen(function*() {
      const { c } = yield* openBlocked({ drain: "5 seconds", outboxMessages: 1 })
      yield* c.send("1")
      const closing = yield* Effect.forkChild(c.close, { startImmediately: true })
      // while it is still flushing, and when it has ended
      const early = yield* Effect.flip(c.send("2"))
      assert.deepInclude(early.reason, { _tag: "Closed", by: "local" })
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
      assert.strictEqual(yield* Effect.flip(c.send("3")), early)
      assert.strictEqual(yield* Effect.flip(c.sendAll(["4", "5"])), early)
      assert.strictEqual(yield* Effect.flip(c.flush), early)
      assert.strictEqual(yield* Effect.flip(c.closed), early)
      assert.isFalse(yield* c.offerFrame(new Uint8Array([0x36, 0x0a])))
    }))

  it.effect("B79b one message larger than the byte bound is refused by size, whatever the policy", () =>
    Effect.gen(function*() {
      for (const overflow of ["wait", "fail", "drop-newest", "drop-oldest", "close"] as const) {
        const { c, peer } = yield* open({ outboxBytes: 100, overflow })
        const error = yield* Effect.flip(c.send("x".repeat(100)))
        assert.deepInclude(error.reason, { _tag: "MessageTooLarge", size: 101, limit: 100 })
        // exactly the bound passes
        yield* c.send("x".repeat(99))
        assert.strictEqual(yield* peer.take, "x".repeat(99) + "\n")
        assert.isUndefined(yield* reasonOf(c))
      }
    }))

  it.effect("F12 an oversized message waits behind nothing and drops nothing", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxBytes: 100, overflow: "drop-oldest" })
      yield* c.sendAll(numbers(1, 5))
      yield* Effect.flip(c.send("x".repeat(1000)))
      assert.strictEqual((yield* c.snapshot).dropped, 0)
      yield* peer.window(Infinity)
      yield* c.flush
      assert.strictEqual(yield* peer.text, lines(numbers(0, 5)))
    }))

  it.effect("F12 a message that waits is refused when the bound sinks below it, and the next one goes on", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxBytes: 100 })
      yield* c.send("x".repeat(99))
      const large = yield* Effect.forkChild(Effect.flip(c.send("y".repeat(79))), { startImmediately: true })
      const small = yield* Effect.forkChild(c.send("z"), { startImmediately: true })
      yield* c.patch({ outboxBytes: 50 })
      assert.strictEqual((yield* Fiber.join(large)).reason._tag, "MessageTooLarge")
      assert.isUndefined(small.pollUnsafe())
      yield* peer.window(Infinity)
      yield* Fiber.join(small)
      yield* c.flush
      assert.strictEqual(yield* peer.text, lines(["0", "x".repeat(99), "z"]))
    }))

  it.effect("waiting senders are served first come, first served; a small one does not overtake a large one", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxBytes: 10 })
      yield* c.send("x".repeat(7))
      const order: Array<string> = []
      const sizes = ["a".repeat(8), "b", "c".repeat(5), "d", "e"]
      for (const message of sizes) {
        yield* Effect.forkChild(
          Effect.andThen(
            c.send(message),
            Effect.sync(() => order.push(message))
          ),
          { startImmediately: true }
        )
      }
      yield* settle
      assert.deepStrictEqual(order, [])
      yield* peer.window(Infinity)
      yield* settle
      yield* c.flush
      assert.deepStrictEqual(order, sizes)
      assert.strictEqual(yield* peer.text, lines(["0", "x".repeat(7), ...sizes]))
    }))

  it.effect("F20 fifty senders at once: frames leave whole, each sender's in its order", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxMessages: 7 })
      const frame = (sender: number, i: number) => `${sender}:${i}:${"x".repeat((sender * 7 + i) % 50)}`
      const senders = yield* Effect.forEach(Array.from({ length: 50 }, (_, s) => s), (s) =>
        Effect.forkChild(Effect.forEach(
          [0, 1, 2],
          (part) =>
            c.sendAll([0, 1, 2, 3].map((i) => frame(s, part * 4 + i))),
          { discard: true }
        )))
      // a peer that takes a few bytes at a time
      while (
        senders.some((fiber) =>
          fiber.pollUnsafe() === undefined
        )
      ) {
        yield* peer.window(13)
        yield* settle
      }
      yield* peer.window(Infinity)
      yield* c.flush
      const got = (yield* peer.text).split("\n").slice(1, -1)
      assert.strictEqual(got.length, 600)
      for (let s = 0; s < 50; s++) {
        assert.deepStrictEqual(
          got.filter((line) => line.startsWith(`${s}:`)),
          Array.from({ length: 12 }, (_, i) => frame(s, i))
        )
      }
    }))

  it.effect("interrupting a waiting send takes it out of the queue and loses nothing else", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxBytes: 10 })
      yield* c.send("x".repeat(7))
      const large = yield* Effect.forkChild(c.send("y".repeat(9)), { startImmediately: true })
      const small = yield* Effect.forkChild(c.send("z"), { startImmediately: true })
      yield* settle
      assert.isUndefined(small.pollUnsafe())
      // the one behind it is smaller, and fits
      yield* Fiber.interrupt(large)
      yield* Fiber.join(small)
      yield* peer.window(Infinity)
      yield* c.flush
      assert.strictEqual(yield* peer.text, lines(["0", "x".repeat(7), "z"]))
      assert.strictEqual((yield* c.snapshot).messagesOut, 3)
    }))

  it.effect("sendAll encodes all or sends nothing", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const error = yield* Effect.flip(c.sendAll(["fine", "two\nlines", "fine"]))
      assert.deepInclude(error.reason, { _tag: "InvalidMessage", direction: "encode" })
      yield* c.send("next")
      assert.strictEqual(yield* peer.take, "next\n")
      assert.strictEqual((yield* c.snapshot).messagesOut, 1)
    }))

  it.effect("small frames leave in one write, in order with large ones between them", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const small = numbers(1, 5000)
      const large = "x".repeat(5000)
      yield* c.sendAll(small.slice(0, 100))
      yield* c.send(large)
      yield* c.sendAll([...small.slice(100, 200), large, "end"])
      const expected = lines([...small.slice(0, 100), large, ...small.slice(100, 200), large, "end"])
      assert.deepInclude((yield* c.snapshot).outbox, { messages: 203, bytes: expected.length })
      yield* settle
      assert.strictEqual(yield* peer.text, expected)
      assert.isBelow((yield* peer.written).length, 15)
      assert.deepInclude((yield* c.snapshot).outbox, { messages: 0, bytes: 0 })
    }))

  it.effect("what a failed sendAll took is given back, whatever was there before", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      yield* c.send("before")
      const { outbox } = yield* c.snapshot
      const bad = [...numbers(1, 1000), "a\nb"]
      assert.strictEqual((yield* Effect.flip(c.sendAll(bad))).reason._tag, "InvalidMessage")
      const exit = yield* Effect.exit(Effect.suspend(() =>
        c.sendAll((function*() {
          yield* numbers(1, 1000)
          throw new Error("an iterable of the program's")
        })())
      ))
      assert.strictEqual(exit._tag, "Failure")
      assert.deepStrictEqual((yield* c.snapshot).outbox, outbox)
      assert.strictEqual((yield* c.snapshot).messagesOut, 1)
      yield* c.send("after")
      yield* settle
      assert.strictEqual(yield* peer.text, "before\nafter\n")
    }))

  it.effect("a buffer that was written into before leaves no trace in the bytes before a length", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const codec = Codec.lengthPrefix({ offset: 2, bytes: 2, maxFrame: 10 })
      const c = yield* Connection.make(peer.socket, { codec, policy: quiet })
      const full = new Uint8Array(10).fill(255)
      assert.strictEqual(
        (yield* Effect.flip(c.sendAll([full, full, new Uint8Array(11)]))).reason._tag,
        "FrameTooLong"
      )
      yield* c.send(new Uint8Array([7]))
      yield* settle
      assert.deepStrictEqual(Array.from((yield* peer.written)[0] as Uint8Array), [0, 0, 0, 1, 7])
    }))

  it.effect("sendAll of more than the outbox holds waits for room, and interrupted sends a prefix", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxMessages: 4 })
      const sending = yield* Effect.forkChild(c.sendAll(numbers(1, 10)), { startImmediately: true })
      yield* settle
      assert.isUndefined(sending.pollUnsafe())
      yield* Fiber.interrupt(sending)
      yield* peer.window(Infinity)
      yield* c.flush
      assert.strictEqual(yield* peer.text, lines(numbers(0, 4)))
    }))

  it.effect("a bad message fails its sender with the codec's reason and nobody else", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ maxFrame: 10 })
      const error = yield* Effect.flip(c.send("x".repeat(11)))
      assert.deepInclude(error.reason, { _tag: "FrameTooLong", direction: "encode", size: 11, limit: 10 })
      yield* c.send("x".repeat(10))
      assert.strictEqual(yield* peer.take, "x".repeat(10) + "\n")
    }))

  it.effect("offerFrame never waits and says whether it was taken", () =>
    Effect.gen(function*() {
      const frame = new TextEncoder().encode("f\n")
      for (const overflow of ["wait", "fail", "drop-newest", "drop-oldest", "close"] as const) {
        const { c } = yield* openBlocked({ outboxMessages: 1, overflow })
        assert.isTrue(yield* c.offerFrame(frame))
        assert.strictEqual(yield* c.offerFrame(frame), overflow === "drop-oldest")
        yield* settle
        assert.strictEqual(yield* reasonOf(c), overflow === "close" ? "SlowConsumer" : undefined)
      }
    }))
})

describe("flush", () => {
  it.effect("waits for what was accepted before it, not for what comes after", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      yield* c.flush
      yield* peer.window(0)
      // each is a write of its own
      const message = "x".repeat(64 * 1024 - 1)
      yield* c.sendAll([message, message])
      const flushing = yield* Effect.forkChild(c.flush, { startImmediately: true })
      yield* c.sendAll([message, message])
      yield* settle
      yield* peer.window(64 * 1024)
      yield* settle
      assert.isUndefined(flushing.pollUnsafe())
      yield* peer.window(64 * 1024)
      yield* settle
      assert.isDefined(flushing.pollUnsafe())
      assert.strictEqual((yield* c.snapshot).outbox.messages, 1)
    }))

  it.effect("knows a message that went out in the same write as the beginning of a large one", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      yield* peer.window(0)
      yield* c.send("small")
      const flushing = yield* Effect.forkChild(c.flush, { startImmediately: true })
      yield* c.send("x".repeat(200 * 1024))
      yield* settle
      yield* peer.window(6 + 64 * 1024)
      yield* settle
      assert.isDefined(flushing.pollUnsafe())
      const rest = yield* Effect.forkChild(c.flush, { startImmediately: true })
      yield* settle
      assert.isUndefined(rest.pollUnsafe())
      yield* peer.window(Infinity)
      yield* Fiber.join(rest)
    }))

  it.effect("with drop-oldest is over when its messages are gone, dropped or not", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ outboxMessages: 2, overflow: "drop-oldest" })
      yield* c.sendAll(["1", "2"])
      const flushing = yield* Effect.forkChild(c.flush, { startImmediately: true })
      yield* c.sendAll(["3", "4"])
      yield* settle
      // what it waits for is dropped, but for the write in progress
      assert.isUndefined(flushing.pollUnsafe())
      yield* peer.window(2)
      yield* settle
      assert.isDefined(flushing.pollUnsafe())
      const later = yield* Effect.forkChild(c.flush, { startImmediately: true })
      yield* settle
      assert.isUndefined(later.pollUnsafe())
      yield* peer.window(Infinity)
      yield* Fiber.join(later)
      assert.strictEqual(yield* peer.text, lines(["0", "3", "4"]))
    }))

  it.effect("fails with the reason when the connection ends before, and afterwards", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked()
      const flushing = yield* Effect.forkChild(Effect.flip(c.flush), { startImmediately: true })
      yield* peer.reset
      const error = yield* Fiber.join(flushing)
      assert.strictEqual(error.reason._tag, "Reset")
      assert.strictEqual(yield* Effect.flip(c.flush), error)
    }))

  it.effect("while closing waits for the rest", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openBlocked({ drain: "5 seconds" })
      yield* Effect.forkChild(c.close, { startImmediately: true })
      const flushing = yield* Effect.forkChild(c.flush, { startImmediately: true })
      yield* settle
      assert.isUndefined(flushing.pollUnsafe())
      yield* peer.window(Infinity)
      yield* Fiber.join(flushing)
    }))
})

describe("receiving", () => {
  it.effect("B78 a slow consumer is not a dead peer: hours in a handler, and the connection lives", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({
        inboxMessages: 2,
        silence: "60 seconds",
        pingEvery: "20 seconds",
        pong: "10 seconds",
        frame: "30 seconds",
        idle: "1 minute"
      })
      yield* peer.send("1\n2\n")
      yield* settle
      yield* peer.send("3\n4\n")
      yield* settle
      assert.isTrue((yield* c.snapshot).paused)
      yield* TestClock.adjust("3 hours")
      assert.isUndefined(yield* reasonOf(c))
      for (const message of numbers(1, 4)) assert.strictEqual(yield* c.receive, message)
      assert.isFalse((yield* c.snapshot).paused)
      // from here on silence counts again, from the start
      yield* TestClock.adjust(9_999)
      assert.isUndefined(yield* reasonOf(c))
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* reasonOf(c), "PongTimeout")
    }))

  it.effect("B78 silence counts from the moment we read again", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ inboxMessages: 1, silence: "60 seconds" })
      yield* peer.send("1\n")
      yield* settle
      yield* peer.send("2\n")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* c.receive, "1")
      yield* settle
      yield* TestClock.adjust(59_999)
      assert.isUndefined(yield* reasonOf(c))
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* reasonOf(c), "SilenceTimeout")
      assert.strictEqual(yield* c.receive, "2")
    }))

  it.effect("the inbox is bounded in messages: reading stops one read behind it and goes on with room", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ inboxMessages: 10 })
      for (let i = 1; i <= 100; i++) {
        yield* peer.send(`${i}\n`)
        yield* settle
      }
      assert.strictEqual((yield* c.snapshot).inbox.messages, 10)
      assert.strictEqual((yield* c.snapshot).messagesIn, 10)
      const got: Array<string> = []
      while (got.length < 100) got.push(yield* c.receive)
      assert.deepStrictEqual(got, numbers(1, 100))
      assert.deepStrictEqual((yield* c.snapshot).inbox, { messages: 0, bytes: 0 })
    }))

  it.effect("the inbox is bounded in bytes, all bytes of a message that came in many reads", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ inboxBytes: 100_000 })
      const large = "x".repeat(9_999)
      for (let i = 0; i < 100; i++) {
        yield* peer.send(large)
        yield* settle
        // the last read of each message is one byte
        yield* peer.send("\n")
        yield* settle
      }
      const { inbox } = yield* c.snapshot
      assert.deepStrictEqual(inbox, { messages: 10, bytes: 100_000 })
      for (let i = 0; i < 100; i++) assert.strictEqual(yield* c.receive, large)
      assert.deepStrictEqual((yield* c.snapshot).inbox, { messages: 0, bytes: 0 })
    }))

  it.effect("bounds lowered on a live connection stop reading, raised ones start it again", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ inboxMessages: 100 })
      yield* peer.send("1\n2\n3\n")
      yield* settle
      yield* c.patch({ inboxMessages: 2 })
      yield* peer.send("4\n")
      yield* settle
      assert.isTrue((yield* c.snapshot).paused)
      assert.strictEqual((yield* c.snapshot).messagesIn, 3)
      yield* c.patch({ inboxMessages: 10 })
      yield* settle
      assert.isFalse((yield* c.snapshot).paused)
      assert.deepStrictEqual<ReadonlyArray<string>>(yield* c.receiveAll, numbers(1, 4))
    }))

  it.effect("B77 a paused reader still notices the peer's FIN", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ inboxMessages: 2, halfClose: "5 seconds" })
      yield* peer.send("1\n2\n")
      yield* settle
      assert.strictEqual((yield* c.snapshot).inbox.messages, 2)
      yield* peer.end
      yield* settle
      assert.strictEqual((yield* c.snapshot).state, "draining")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* reasonOf(c), "Closed")
      assert.deepStrictEqual(yield* c.receiveAll, ["1", "2"])
    }))

  it.effect("B77 and a reset", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ inboxMessages: 2 })
      yield* peer.send("1\n2\n")
      yield* settle
      yield* peer.reset
      yield* settle
      assert.strictEqual(yield* reasonOf(c), "Reset")
      assert.deepStrictEqual(yield* c.receiveAll, ["1", "2"])
      yield* peer.released
    }))

  it.effect("closing while paused ends the connection, and what was read can be received", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ inboxMessages: 1 })
      yield* peer.send("1\n")
      yield* settle
      yield* peer.send("2\n")
      yield* settle
      yield* c.close
      yield* peer.released
      assert.strictEqual(yield* c.receive, "1")
      assert.strictEqual((yield* Effect.flip(c.receive)).reason._tag, "Closed")
    }))

  it.effect("F22 one read is not one message: three in one read, one in three reads", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      yield* peer.send("a\nb\nc\nd")
      assert.strictEqual(yield* c.receive, "a")
      assert.deepStrictEqual(yield* c.receiveAll, ["b", "c"])
      yield* peer.send("d")
      yield* peer.send("d\n")
      assert.deepStrictEqual(yield* c.receiveAll, ["ddd"])
    }))

  it.effect("several receivers get each message once", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const receivers = yield* Effect.forEach(
        numbers(1, 10),
        () => Effect.forkChild(c.receive, { startImmediately: true })
      )
      yield* peer.send(lines(numbers(1, 10)))
      assert.deepStrictEqual((yield* Fiber.joinAll(receivers)).toSorted(), numbers(1, 10).toSorted())
    }))
})

describe("a transport that takes a write at once", () => {
  /** What it takes without anybody waiting, and what the writer of its socket gets. */
  const openNow = (takes: (bytes: number) => boolean) =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const now: Array<string> = []
      const socket = Connection.describe(peer.socket, {
        messages: false,
        writeNow: (chunks) => {
          const text = chunks.map((chunk) => Buffer.from(chunk).toString()).join("")
          return takes(text.length) && now.push(text) > 0
        }
      })
      const c = yield* Connection.make({ codec: Codec.lines(), policy: quiet })(socket).pipe(
        Effect.provideService(ShortCuts, true)
      )
      return { c, peer, now }
    })

  it.effect("is written to without the writer, what one turn sends in one write", () =>
    Effect.gen(function*() {
      const { c, now, peer } = yield* openNow(() => true)
      yield* c.sendAll(["1", "2"])
      yield* c.send("3")
      yield* c.flush
      yield* c.send("4")
      yield* c.flush
      assert.deepStrictEqual(now, ["1\n2\n3\n", "4\n"])
      assert.strictEqual(yield* peer.text, "")
      const { bytesOut, outbox } = yield* c.snapshot
      assert.deepStrictEqual([bytesOut, outbox.messages], [8, 0])
    }))

  it.effect("leaves to the writer what it does not take, and the order stays", () =>
    Effect.gen(function*() {
      const { c, now, peer } = yield* openNow((bytes) => bytes < 4)
      yield* c.send("1")
      yield* c.flush
      yield* peer.window(0)
      yield* c.send("too much")
      yield* settle
      yield* c.send("2")
      yield* settle
      assert.deepStrictEqual(now, ["1\n"])
      yield* peer.window(Infinity)
      yield* c.flush
      yield* c.send("3")
      yield* c.flush
      assert.strictEqual(yield* peer.text, "too much\n2\n")
      assert.deepStrictEqual(now, ["1\n", "3\n"])
    }))

  it.effect("does not hide a write that fails: the writer says why", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openNow(() => false)
      yield* peer.reset
      yield* c.send("1").pipe(Effect.ignore)
      yield* settle
      assert.strictEqual(yield* reasonOf(c as Chat), "Reset")
    }))
})

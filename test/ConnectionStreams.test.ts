/** A connection as streams, a sink and a channel. */
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Option, Queue, Stream } from "effect"
import { Codec, Connection, ConnectionError, type Policy } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"

const quiet: Policy.Patch = { pingEvery: 0, silence: 0, writeStall: 0, frame: 0 }
const started = { startImmediately: true } as const
const settle = Effect.repeat(Effect.yieldNow, { times: 40 })

const open = (policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const c = yield* Connection.make(peer.socket, { codec: Codec.lines(), policy: { ...quiet, ...policy } })
    return { c, peer }
  })

/** A connection whose inbox holds `a`, `b` and `c`, which came in one read. */
const filled = Effect.gen(function*() {
  const { c, peer } = yield* open()
  yield* peer.send("a\nb\nc\n")
  yield* settle
  assert.strictEqual((yield* c.snapshot).inbox.messages, 3)
  return { c, peer }
})

const rest = (c: Connection.Connection<string>) => Effect.map(c.receiveAll, (all) => all.join())

const tagOf = <A, E>(exit: Exit.Exit<A, E>): string | undefined => {
  const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  return error instanceof ConnectionError.ConnectionError ? error.reason._tag : error as string | undefined
}

describe("streams", () => {
  it.effect("B110 a stream that ends early leaves the rest to the next receiver", () =>
    Effect.gen(function*() {
      const first = yield* filled
      assert.deepStrictEqual(yield* Stream.runHead(Connection.messages(first.c)), Option.some("a"))
      assert.strictEqual(yield* rest(first.c), "b,c")

      const second = yield* filled
      const two = yield* Stream.runCollect(Stream.take(Connection.messages(second.c), 2))
      assert.deepStrictEqual(two, ["a", "b"])
      assert.strictEqual(yield* second.c.receive, "c")
    }))

  it.effect("B110 a handler that fails, and one that is interrupted, leave the rest too", () =>
    Effect.gen(function*() {
      const first = yield* filled
      const handled = Stream.runForEach(Connection.messages(first.c), (message) => Effect.fail(message))
      assert.strictEqual(yield* Effect.flip(handled), "a")
      assert.strictEqual(yield* rest(first.c), "b,c")

      const second = yield* filled
      const handling = yield* Effect.forkChild(
        Stream.runForEach(Connection.messages(second.c), () => Effect.never),
        started
      )
      yield* Fiber.interrupt(handling)
      assert.strictEqual(yield* rest(second.c), "b,c")
    }))

  it.effect("B110 a wrapped connection is received from with what it replaces", () =>
    Effect.gen(function*() {
      const { c } = yield* filled
      const loud = Connection.wrap(c, { receive: Effect.map(c.receive, (message) => message.toUpperCase()) })
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(Connection.messages(loud), 2)), ["A", "B"])
      assert.deepStrictEqual(yield* Stream.runHead(Connection.batches(loud)), Option.some(["C"] as const))
    }))

  it.effect("B110 whatever ends a stream early, of messages, of batches, of a channel", () =>
    Effect.gen(function*() {
      const ways: ReadonlyArray<
        (c: Connection.Connection<string>) => readonly [run: Effect.Effect<unknown, unknown>, left: string]
      > = [
        (c) => [Stream.runDrain(Stream.takeUntil(Connection.messages(c), (message) => message === "b")), "c"],
        (c) => [Stream.runForEachWhile(Connection.messages(c), (message) => Effect.succeed(message !== "b")), "c"],
        (c) => [Stream.runDrain(Stream.take(Stream.mapEffect(Connection.messages(c), Effect.succeed), 1)), "b,c"],
        (c) => [Stream.runHead(Stream.filter(Connection.messages(c), (message) => message === "b")), "c"],
        (c) => [Stream.runHead(Stream.fromEffectRepeat(c.receive)), "b,c"],
        (c) => [Stream.runHead(Stream.pipeThroughChannel(Stream.never, Connection.channel(c))), "b,c"]
      ]
      for (const way of ways) {
        const { c } = yield* filled
        const [run, left] = way(c)
        yield* run
        assert.strictEqual(yield* rest(c), left)
      }
      const { c, peer } = yield* filled
      yield* Stream.runHead(Connection.batches(c))
      yield* peer.send("d\n")
      yield* settle
      assert.strictEqual(yield* rest(c), "d")
    }))

  it.effect("batches are all that is there, and then the reason", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* filled
      const got: Array<ReadonlyArray<string>> = []
      const reading = yield* Effect.forkChild(
        Effect.flip(Stream.runForEach(Connection.batches(c), (batch) => Effect.sync(() => got.push(batch)))),
        started
      )
      yield* peer.send("d\ne\n")
      yield* settle
      yield* peer.reset
      assert.strictEqual((yield* Fiber.join(reading)).reason._tag, "Reset")
      assert.deepStrictEqual(got, [["a", "b", "c"], ["d", "e"]])
    }))
})

describe("sink", () => {
  it.effect("sends every element, and ends with the stream", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const fed = yield* Stream.run(Stream.fromArrays(["a", "b"], ["c"]), Connection.sink(c))
      assert.isUndefined(fed)
      yield* c.flush
      assert.strictEqual(yield* peer.text, "a\nb\nc\n")
      // and leaves the connection open
      yield* c.send("d")
    }))

  it.effect("a full outbox holds the stream back", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ outboxMessages: 2 })
      yield* peer.window(0)
      let asked = 0
      const stream = Stream.map(Stream.range(1, 100, 1), (n) => {
        asked++
        return `${n}`
      })
      const feeding = yield* Effect.forkChild(Stream.run(stream, Connection.sink(c)), started)
      yield* settle
      assert.isBelow(asked, 10)
      yield* peer.window(Infinity)
      yield* Fiber.join(feeding)
      assert.strictEqual(asked, 100)
    }))

  it.effect("fails as soon as the connection ends, while the stream has nothing to give", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const queue = yield* Queue.unbounded<string>()
      const feeding = yield* Effect.forkChild(
        Effect.exit(Stream.run(Stream.fromQueue(queue), Connection.sink(c))),
        started
      )
      yield* Queue.offer(queue, "a")
      yield* settle
      assert.isUndefined(feeding.pollUnsafe())
      yield* peer.reset
      assert.strictEqual(tagOf(yield* Fiber.join(feeding)), "Reset")
    }))

  it.effect("fails with the reason of a message that is refused; the connection survives", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ maxFrame: 4 })
      const exit = yield* Effect.exit(
        Stream.run(Stream.fromArrays(["a"], ["b", "too long"], ["c"]), Connection.sink(c))
      )
      assert.strictEqual(tagOf(exit), "FrameTooLong")
      yield* c.send("d")
      yield* c.flush
      assert.strictEqual(yield* peer.text, "a\nd\n")
    }))
})

describe("channel", () => {
  it.effect("sends its input and gives out what is received; the end of the input ends nothing", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const asking = yield* Effect.forkChild(
        Stream.make("who?", "when?").pipe(
          Stream.pipeThroughChannel(Connection.channel(c)),
          Stream.take(2),
          Stream.runCollect
        ),
        started
      )
      yield* settle
      assert.strictEqual(yield* peer.text, "who?\nwhen?\n")
      yield* peer.send("me\nnow\nleft\n")
      assert.deepStrictEqual(yield* Fiber.join(asking), ["me", "now"])
      // B110
      assert.strictEqual(yield* c.receive, "left")
    }))

  it.effect("its end interrupts the input", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const gone = yield* Deferred.make<void>()
      const input = Stream.fromEffect(Effect.onInterrupt(Effect.never, () => Deferred.succeed(gone, undefined)))
      yield* peer.send("a\n")
      const head = yield* Stream.runHead(Stream.pipeThroughChannel(input, Connection.channel(c)))
      assert.deepStrictEqual(head, Option.some("a"))
      assert.isTrue(yield* Deferred.isDone(gone))
    }))

  it.effect("a failure of the input fails it while it waits for a message; the connection stays open", () =>
    Effect.gen(function*() {
      const { c } = yield* open()
      const gate = yield* Deferred.make<void>()
      const input: Stream.Stream<string, "broken"> = Stream.fromEffect(
        Effect.andThen(Deferred.await(gate), Effect.fail("broken" as const))
      )
      const running = yield* Effect.forkChild(
        Effect.exit(Stream.runDrain(Stream.pipeThroughChannel(input, Connection.channel(c)))),
        started
      )
      yield* settle
      assert.isUndefined(running.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(tagOf(yield* Fiber.join(running)), "broken")
      yield* c.send("still open")
    }))

  it.effect("what was read before the end is given out, and then the reason", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ halfClose: 0 })
      const queue = yield* Queue.unbounded<string>()
      yield* peer.send("a\nb\n")
      yield* peer.end
      yield* settle
      const got: Array<string> = []
      yield* Queue.offer(queue, "too late")
      const exit = yield* Stream.fromQueue(queue).pipe(
        Stream.pipeThroughChannel(Connection.channel(c)),
        Stream.runForEach((message) => Effect.sync(() => got.push(message))),
        Effect.exit
      )
      assert.deepStrictEqual(got, ["a", "b"])
      assert.strictEqual(tagOf(exit), "Closed")
    }))

  it("its type has the error of its input, and its messages", () => {
    type Broken = Stream.Stream<number, "broken" | ConnectionError.ConnectionError>
    const through = (input: Stream.Stream<string, "broken">, c: Connection.Connection<number, string>) => [
      Stream.pipeThroughChannel(input, Connection.channel(c)),
      input.pipe(Stream.pipeThroughChannel(Connection.channel(c))),
      input.pipe(Stream.pipeThroughChannelOrFail(Connection.channel(c)))
    ]
    expectTypeOf(through).returns.toEqualTypeOf<Array<Broken>>()
    const fed = (input: Stream.Stream<string, "broken">, c: Connection.Connection<number, string>) =>
      Stream.run(input, Connection.sink(c))
    expectTypeOf(fed).returns.toEqualTypeOf<Effect.Effect<void, "broken" | ConnectionError.ConnectionError>>()
  })

  it.effect("two connections are a relay", () =>
    Effect.gen(function*() {
      const left = yield* open()
      const right = yield* open()
      const there = Stream.pipeThroughChannel(Connection.messages(left.c), Connection.channel(right.c))
      const relay = Stream.run(there, Connection.sink(left.c))
      yield* Effect.forkChild(Effect.exit(relay), started)
      yield* left.peer.send("to the right\n")
      yield* right.peer.send("to the left\n")
      yield* settle
      assert.strictEqual(yield* right.peer.text, "to the right\n")
      assert.strictEqual(yield* left.peer.text, "to the left\n")
    }))
})

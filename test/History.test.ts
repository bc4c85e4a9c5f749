/** A history keeps what its bounds allow, gives each reader each message once and in order, or says that it cannot. */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber, PubSub, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Codec, History } from "holdfast"
import { it } from "holdfast/testing/vitest"
import { table } from "./integration/support/historyTable.ts"

type Event = History.Event<string>

const said = (events: ReadonlyArray<Event>): ReadonlyArray<string> =>
  events.map((event) => {
    const { offset } = event.position
    switch (event._tag) {
      case "Message":
        return `${offset} ${event.message}`
      case "Gone":
        return `${event.why} ${event.missed ?? "?"} -> ${offset}`
      case "Start":
        return `start ${offset}`
    }
  })

const appendAll = (history: History.History<string>, ...messages: ReadonlyArray<string>) =>
  Effect.forEach(messages, (message) => history.append(message))

const since = (history: History.History<string>, position: History.Position, limit?: number) =>
  Effect.map(history.since(position, limit), (replay) => said(replay._tag === "Gone" ? [replay] : replay.messages))

/** What a stream has given by now. */
const collecting = <E>(stream: Stream.Stream<Event, E>) =>
  Effect.gen(function*() {
    const events: Array<Event> = []
    const fiber = yield* Effect.forkChild(
      Stream.runForEach(stream, (event) => Effect.sync(() => events.push(event))),
      { startImmediately: true }
    )
    return { fiber, said: Effect.map(TestClock.adjust(0), () => said(events)) }
  })

describe("History.memory", () => {
  it.effect("positions count up from 1 in one epoch; each history has its own", () =>
    Effect.gen(function*() {
      const one = yield* History.memory<string>()
      const other = yield* History.memory<string>()
      const [a, b] = yield* appendAll(one, "a", "b")
      assert.deepStrictEqual([a!.offset, b!.offset], [1, 2])
      assert.strictEqual(a!.epoch, b!.epoch)
      const ends = yield* other.ends
      assert.strictEqual(ends.newest.offset, 0)
      assert.notStrictEqual(ends.newest.epoch, a!.epoch)
    }))

  it.effect("what was missed comes in order, and no more than asked for", () =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>()
      const [a, b, c] = yield* appendAll(history, "a", "b", "c")
      assert.deepStrictEqual(yield* since(history, { ...a!, offset: 0 }), ["1 a", "2 b", "3 c"])
      assert.deepStrictEqual(yield* since(history, a!), ["2 b", "3 c"])
      assert.deepStrictEqual(yield* since(history, c!), [])
      const page = yield* history.since({ ...a!, offset: 0 }, 2)
      assert.deepStrictEqual(page, {
        _tag: "Missed",
        messages: (page as History.Missed<string>).messages,
        position: b!
      })
      assert.deepStrictEqual(yield* since(history, page.position, 2), ["3 c"])
    }))

  it.effect("a position that is not its own is Gone, with why", () =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>({ count: 2 })
      const [a] = yield* appendAll(history, "a", "b", "c")
      const { epoch } = a!
      const asked = (position: unknown) => since(history, position as History.Position)
      assert.deepStrictEqual(yield* asked({ epoch, offset: 0 }), ["trimmed 1 -> 1"])
      assert.deepStrictEqual(yield* asked({ epoch, offset: 1 }), ["2 b", "3 c"])
      assert.deepStrictEqual(yield* asked({ epoch, offset: 4 }), ["unknown ? -> 1"])
      assert.deepStrictEqual(yield* asked({ epoch: "another", offset: 3 }), ["epoch ? -> 1"])
      const nonsense = [{ epoch, offset: 1.5 }, { epoch, offset: -1 }, { epoch, offset: "2" }, { epoch, offset: NaN }]
      for (const position of [...nonsense, { offset: 2 }, undefined, null, "2", 2, []]) {
        assert.deepStrictEqual(yield* asked(position), ["unknown ? -> 1"], JSON.stringify(position))
      }
    }))

  it.effect("it keeps so many messages, so many bytes, and no message that is larger than that", () =>
    Effect.gen(function*() {
      const counted = yield* History.memory<string>({ count: 100 })
      for (let i = 1; i <= 1000; i++) yield* counted.append(`${i}`)
      const { newest, oldest } = yield* counted.ends
      assert.deepStrictEqual([oldest.offset, newest.offset], [900, 1000])
      assert.deepStrictEqual((yield* since(counted, oldest)).slice(0, 2), ["901 901", "902 902"])

      const weighed = yield* History.memory<string>({ bytes: 10 })
      const [first] = yield* appendAll(weighed, "éé", "1234", "12")
      assert.deepStrictEqual((yield* weighed.ends).oldest.offset, 0)
      yield* weighed.append("1")
      assert.deepStrictEqual(yield* since(weighed, { ...first!, offset: 0 }), ["trimmed 1 -> 1"])
      const error = yield* Effect.flip(weighed.append("12345678901"))
      assert.strictEqual(error.reason, "size")
      assert.strictEqual((yield* weighed.ends).newest.offset, 4)
      // the largest that fits leaves room for no other
      yield* weighed.append("1234567890")
      assert.strictEqual((yield* weighed.ends).oldest.offset, 4)
    }))

  it.effect("a message is there for its age, and gone with the millisecond", () =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>({ age: "1 minute" })
      const a = yield* history.append("a")
      yield* TestClock.adjust("10 seconds")
      yield* history.append("b")
      yield* TestClock.adjust(49_999)
      const start = { ...a, offset: 0 }
      assert.deepStrictEqual(yield* since(history, start), ["1 a", "2 b"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* since(history, start), ["trimmed 1 -> 1"])
      assert.deepStrictEqual(yield* since(history, a), ["2 b"])
      yield* TestClock.adjust(9999)
      assert.deepStrictEqual(yield* since(history, a), ["2 b"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* since(history, a), ["trimmed 1 -> 2"])
      // nothing is missing after the newest, however old it was
      assert.deepStrictEqual(yield* since(history, { ...a, offset: 2 }), [])
      assert.strictEqual((yield* history.append("c")).offset, 3)
    }))

  it.effect("bounds that make no sense are refused", () =>
    Effect.gen(function*() {
      for (const options of [{ count: 0 }, { bytes: NaN }, { age: 0 }, { age: "-1 second" as const }]) {
        const exit = yield* Effect.exit(History.memory(options))
        assert.strictEqual(exit._tag, "Failure", JSON.stringify(options))
      }
      yield* History.memory({ age: Infinity, count: Infinity, bytes: Infinity })
    }))

  it.effect("a message that cannot be weighed is an error of its append", () =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>({
        sizeOf: () => {
          throw new Error("no size")
        }
      })
      const error = yield* Effect.flip(history.append("a"))
      assert.strictEqual(error.reason, "data")
      assert.include(error.message, "no size")
    }))

  it.effect("a size that is none is an error of its append, and nothing that was appended is lost by it", () =>
    Effect.gen(function*() {
      const sizes: Record<string, number> = { nan: NaN, negative: -1, endless: Infinity }
      const history = yield* History.memory<string>({ bytes: 10, sizeOf: (message) => sizes[message] ?? 1 })
      const from = yield* history.append("a")
      const errors = yield* Effect.forEach(Object.keys(sizes), (message) => Effect.flip(history.append(message)))
      assert.deepStrictEqual(errors.map(({ reason }) => reason), ["data", "data", "size"])
      assert.include(errors[0]!.message, "sizeOf has to return a number of bytes, and returned NaN")
      yield* history.append("b")
      const replay = yield* history.since(from)
      assert.deepStrictEqual(replay._tag === "Missed" && replay.messages.map(({ message }) => message), ["b"])
    }))
})

describe("History.memory keeps the contract of all histories", () => {
  const histories = new Map<string, History.History<string>>()
  table((name, bounds) =>
    Effect.gen(function*() {
      const history = histories.get(name) ?? (yield* History.memory<string>(bounds))
      histories.set(name, history)
      return history
    }), false)
})

describe("History.follow", () => {
  it.effect("what was missed, then what comes, without a hole", () =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>()
      const [a] = yield* appendAll(history, "a", "b", "c")
      const reader = yield* collecting(History.follow(history, a, { batch: 1 }))
      assert.deepStrictEqual(yield* reader.said, ["2 b", "3 c"])
      yield* appendAll(history, "d", "e")
      assert.deepStrictEqual(yield* reader.said, ["2 b", "3 c", "4 d", "5 e"])
      yield* Fiber.interrupt(reader.fiber)
    }))

  it.effect("a reader without a position is told where it begins", () =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>({ count: 2 })
      yield* appendAll(history, "a", "b", "c")
      const all = yield* collecting(History.follow(history, undefined))
      const fresh = yield* collecting(History.follow(history, undefined, { from: "newest" }))
      assert.deepStrictEqual(yield* all.said, ["start 1", "2 b", "3 c"])
      assert.deepStrictEqual(yield* fresh.said, ["start 3"])
      yield* history.append("d")
      assert.deepStrictEqual(yield* fresh.said, ["start 3", "4 d"])
      assert.deepStrictEqual(yield* all.said, ["start 1", "2 b", "3 c", "4 d"])
    }))

  it.effect("a reader that is too slow is told how many it has missed, and goes on", () =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>({ count: 3 })
      const go = yield* PubSub.unbounded<void>()
      const turn = yield* PubSub.subscribe(go)
      const [a] = yield* appendAll(history, "a", "b")
      const slow = (from: "oldest" | "newest") =>
        collecting(Stream.tap(History.follow(history, a, { batch: 1, from }), () => PubSub.take(turn)))
      const oldest = yield* slow("oldest")
      assert.deepStrictEqual(yield* oldest.said, [])
      yield* appendAll(history, "c", "d", "e", "f", "g")
      yield* PubSub.publishAll(go, [undefined, undefined, undefined])
      assert.deepStrictEqual(yield* oldest.said, ["2 b", "trimmed 2 -> 4", "5 e"])
      yield* Fiber.interrupt(oldest.fiber)
      const newest = yield* collecting(History.follow(history, a, { from: "newest" }))
      yield* history.append("h")
      assert.deepStrictEqual(yield* newest.said, ["trimmed 6 -> 7", "8 h"])
    }))

  it.effect("a position of another process goes on with all that is kept", () =>
    Effect.gen(function*() {
      const before = yield* History.memory<string>()
      const position = yield* before.append("a")
      const history = yield* History.memory<string>()
      yield* appendAll(history, "b")
      const reader = yield* collecting(History.follow(history, position))
      assert.deepStrictEqual(yield* reader.said, ["epoch ? -> 0", "1 b"])
    }))
})

describe("History.join", () => {
  const world = (count = 100) =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>({ count })
      const live = yield* PubSub.unbounded<History.Message<string>>()
      const append = (message: string) =>
        Effect.map(history.append(message), (position) => ({ _tag: "Message", position, message }) as const)
      const say = (message: string) =>
        Effect.flatMap(append(message), (message) => Effect.as(PubSub.publish(live, message), message))
      const subscribe = Effect.map(PubSub.subscribe(live), Stream.fromSubscription)
      return { append, history, live, say, subscribe }
    })

  it.effect("live messages wait until the replay is out, and those that it had are dropped", () =>
    Effect.gen(function*() {
      const { history, say, subscribe } = yield* world()
      const { position } = yield* say("a")
      yield* say("b")
      // both are in the replay and in the queue
      const live = Effect.tap(subscribe, () => Effect.andThen(say("c"), say("d")))
      const reader = yield* collecting(History.join(history, position, live, { batch: 1 }))
      assert.deepStrictEqual(yield* reader.said, ["2 b", "3 c", "4 d"])
      yield* say("e")
      assert.deepStrictEqual(yield* reader.said, ["2 b", "3 c", "4 d", "5 e"])
    }))

  it.effect("what live messages leave out is read from the history; what they repeat or tell late is dropped", () =>
    Effect.gen(function*() {
      const { append, history, live, say, subscribe } = yield* world()
      const a = yield* append("a")
      const reader = yield* collecting(History.join(history, a.position, subscribe))
      const b = yield* append("b")
      const c = yield* append("c")
      yield* PubSub.publishAll(live, [c, b, a])
      assert.deepStrictEqual(yield* reader.said, ["2 b", "3 c"])
      yield* PubSub.publishAll(live, [b, c])
      yield* say("d")
      assert.deepStrictEqual(yield* reader.said, ["2 b", "3 c", "4 d"])
      // of another epoch: the history says that nothing has changed
      yield* PubSub.publish(live, { ...c, position: { epoch: "another", offset: 5 } })
      yield* say("e")
      assert.deepStrictEqual(yield* reader.said, ["2 b", "3 c", "4 d", "5 e"])
    }))

  it.effect("one that waits too much fails with behind, after what did fit", () =>
    Effect.gen(function*() {
      const { history, say, subscribe } = yield* world()
      const { position } = yield* say("a")
      const go = yield* PubSub.unbounded<void>()
      const turn = yield* PubSub.subscribe(go)
      const slow = Stream.tap(History.join(history, position, subscribe, { queue: 2 }), () => PubSub.take(turn))
      const events: Array<Event> = []
      const fiber = yield* Effect.forkChild(
        Effect.flip(Stream.runForEach(slow, (event) => Effect.sync(() => events.push(event)))),
        { startImmediately: true }
      )
      yield* say("b")
      yield* TestClock.adjust(0)
      yield* say("c")
      yield* say("d")
      yield* TestClock.adjust(0)
      assert.isUndefined(fiber.pollUnsafe())
      yield* say("e")
      yield* TestClock.adjust(0)
      yield* PubSub.publishAll(go, [undefined, undefined, undefined, undefined])
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error.reason, "behind")
      assert.deepStrictEqual(said(events), ["2 b", "3 c", "4 d"])
    }))

  it.effect("it ends and fails as its live messages do", () =>
    Effect.gen(function*() {
      const history = yield* History.memory<string>()
      const { epoch } = yield* history.append("a")
      const start = { epoch, offset: 0 }
      const ended = yield* Stream.runCollect(History.join(history, start, Effect.succeed(Stream.empty)))
      assert.deepStrictEqual(said(ended), ["1 a"])
      const failed = History.join(history, start, Effect.succeed(Stream.fail("no")))
      assert.strictEqual(yield* Effect.flip(Stream.runDrain(failed)), "no")
      const refused = History.join(history, start, Effect.fail("no"))
      assert.strictEqual(yield* Effect.flip(Stream.runDrain(refused)), "no")
    }))
})

describe("History.cursor", () => {
  const at = (offset: number, epoch = "e") => ({ epoch, offset })
  const message = (offset: number, epoch = "e"): Event => ({
    _tag: "Message",
    position: at(offset, epoch),
    message: "m"
  })
  const gone = (offset: number, epoch = "e"): Event => ({ _tag: "Gone", why: "trimmed", position: at(offset, epoch) })
  const start = (offset: number, epoch = "e"): Event => ({ _tag: "Start", position: at(offset, epoch) })

  const timeline = (from: History.Position | undefined, steps: ReadonlyArray<[Event, ReadonlyArray<string>]>) =>
    Effect.gen(function*() {
      const cursor = yield* History.cursor(from)
      for (const [event, expected] of steps) {
        assert.deepStrictEqual(said(yield* cursor.accept(event)), expected)
      }
      return yield* cursor.position
    })

  it.effect("drops what it has seen, and tells a hole", () =>
    Effect.gen(function*() {
      const position = yield* timeline(undefined, [
        [start(3), ["start 3"]],
        [message(4), ["4 m"]],
        [message(4), []],
        [message(3), []],
        [message(5), ["5 m"]],
        [message(8), ["unknown 2 -> 7", "8 m"]],
        [message(9), ["9 m"]]
      ])
      assert.deepStrictEqual(position, at(9))
    }))

  it.effect("goes on after a gap; one that lies behind was told before", () =>
    Effect.gen(function*() {
      yield* timeline(at(3), [
        [gone(7), ["trimmed ? -> 7"]],
        [gone(5), []],
        [message(6), []],
        [message(8), ["8 m"]],
        [gone(0, "f"), ["trimmed ? -> 0"]],
        [message(1, "f"), ["1 m"]],
        [gone(0, "f"), []],
        [message(1, "f"), []],
        [message(2, "f"), ["2 m"]]
      ])
    }))

  it.effect("is never moved to another place without a word", () =>
    Effect.gen(function*() {
      yield* timeline(at(3), [[message(4, "f"), ["unknown ? -> 3", "4 m"]]])
      yield* timeline(at(3), [[start(3), []], [start(7), ["unknown ? -> 7"]], [start(0, "f"), ["unknown ? -> 0"]]])
    }))
})

describe("the schemas of History", () => {
  it.effect("carry events and positions as JSON", () =>
    Effect.gen(function*() {
      const codec = Codec.lines().pipe(Codec.schema(History.eventSchema(Schema.String)))
      const payload = Codec.payload(codec)
      const position = { epoch: "e", offset: 3 }
      const events: ReadonlyArray<Event> = [
        { _tag: "Message", position, message: "m" },
        { _tag: "Gone", why: "trimmed", position, missed: 2 },
        { _tag: "Gone", why: "epoch", position },
        { _tag: "Start", position }
      ]
      for (const event of events) {
        const text = yield* Effect.fromResult(payload.encode(event))
        assert.deepStrictEqual(yield* Effect.fromResult(payload.decode(text)), event)
      }
    }))
})

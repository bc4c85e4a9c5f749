/** What every history has to do, wherever its messages are: in memory, or in a real server that several processes share. */
import { assert, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { History } from "../../../src/index.ts"
import { long, often } from "../../support/often.ts"

export type Event = History.Event<string>

/** Opens a history of this name in a process of its own. A history in memory has one process. */
export type Opens = (
  name: string,
  bounds?: History.Bounds
) => Effect.Effect<History.History<string>, History.HistoryError, Scope.Scope>

/** Events as words. */
export const said = (events: ReadonlyArray<Event>): ReadonlyArray<string> =>
  events.map((event) => {
    const { offset } = event.position
    if (event._tag === "Message") return `${offset} ${event.message}`
    return event._tag === "Gone" ? `${event.why} ${event.missed ?? "?"} -> ${offset}` : `start ${offset}`
  })

/** What a stream has given by now. */
export const collecting = <E>(stream: Stream.Stream<Event, E>) =>
  Effect.gen(function*() {
    const events: Array<Event> = []
    const reading = Stream.runForEach(stream, (event) => Effect.sync(() => events.push(event)))
    const fiber = yield* Effect.forkChild(reading, { startImmediately: true })
    return { events, fiber }
  })

/** Waits until that is so. */
export const eventually = (what: string, condition: () => boolean, within = 15_000) =>
  Effect.gen(function*() {
    const deadline = performance.now() + within
    while (!condition()) {
      if (performance.now() > deadline) return yield* Effect.die(new Error(`in vain: ${what}`))
      yield* Effect.sleep("5 millis")
    }
  })

const since = (history: History.History<string>, position: History.Position, limit?: number) =>
  Effect.map(history.since(position, limit), (found) => said(found._tag === "Gone" ? [found] : found.messages))

const appendAll = (history: History.History<string>, ...messages: ReadonlyArray<string>) =>
  Effect.forEach(messages, (message) => history.append(message))

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

let histories = 0

/** The tests. Age is a matter of a second in real time: a history in memory has its own timeline. */
export const table = (opens: Opens, isAgeTried = true): void => {
  const test = (
    title: string,
    run: (
      open: (bounds?: History.Bounds) => ReturnType<Opens>
    ) => Effect.Effect<void, unknown, Scope.Scope>
  ) =>
    it.live(title, () => {
      const name = `history${histories++}`
      return run((bounds) => opens(name, bounds))
    }, long(30_000))

  test("positions count up from 1 in one epoch; what one process appends, another one follows and is asked for", (open) =>
    Effect.gen(function*() {
      const here = yield* open()
      const there = yield* open()
      const start = (yield* here.ends).newest
      assert.strictEqual(start.offset, 0)
      const reader = yield* collecting(History.follow(there, undefined))
      yield* eventually("a start", () => reader.events.length === 1)
      const positions = yield* appendAll(here, "a", "b", "c")
      assert.deepStrictEqual(positions, numbers(1, 3).map((offset) => ({ epoch: start.epoch, offset })))
      yield* eventually("three messages", () => reader.events.length === 4)
      assert.deepStrictEqual(said(reader.events), ["start 0", "1 a", "2 b", "3 c"])
      // a process that has come later
      const late = yield* open()
      assert.deepStrictEqual(yield* since(late, positions[0]!), ["2 b", "3 c"])
      assert.deepStrictEqual(yield* since(late, start, 2), ["1 a", "2 b"])
      assert.deepStrictEqual(yield* late.since(start, 2), {
        _tag: "Missed",
        messages: yield* Effect.map(
          late.since(start),
          (found) => (found as History.Missed<string>).messages.slice(0, 2)
        ),
        position: positions[1]!
      })
      assert.deepStrictEqual(yield* since(late, positions[2]!), [])
      assert.deepStrictEqual(yield* late.ends, { oldest: start, newest: positions[2]! })
    }))

  test("B34 a limit of 0 gives nothing, a broken one its whole messages, and what is no number of messages is refused by name", (open) =>
    Effect.gen(function*() {
      const here = yield* open()
      const start = (yield* here.ends).newest
      yield* appendAll(here, "a", "b", "c")
      // one that has to ask for what it was not told
      for (const process of [here, yield* open()]) {
        assert.deepStrictEqual(yield* process.since(start, 0), { _tag: "Missed", messages: [], position: start })
        assert.deepStrictEqual(yield* since(process, start, 1.5), ["1 a"])
        assert.deepStrictEqual(yield* since(process, start, Infinity), ["1 a", "2 b", "3 c"])
        for (const limit of [-1, Number.NaN]) {
          const cause = yield* Effect.sandbox(Effect.flip(Effect.sandbox(process.since(start, limit))))
          assert.include(String(Cause.squash(cause)), "limit must be at least 0")
        }
      }
    }))

  test("a position that another process has just given is never Gone", (open) =>
    Effect.gen(function*() {
      const here = yield* open()
      const there = yield* open()
      for (let i = 0; i < 50; i++) {
        const position = yield* here.append(`${i}`)
        assert.deepStrictEqual(yield* since(there, position), [])
        assert.deepStrictEqual((yield* there.ends).newest, position)
      }
    }))

  test("a position that is not its own is Gone, with why", (open) =>
    Effect.gen(function*() {
      const history = yield* open({ count: 2 })
      const [a] = yield* appendAll(history, "a", "b", "c")
      const { epoch } = a!
      const other = yield* open({ count: 2 })
      for (const process of [history, other]) {
        const asked = (position: unknown) => since(process, position as History.Position)
        assert.deepStrictEqual(yield* asked({ epoch, offset: 0 }), ["trimmed 1 -> 1"])
        assert.deepStrictEqual(yield* asked({ epoch, offset: 1 }), ["2 b", "3 c"])
        assert.deepStrictEqual(yield* asked({ epoch, offset: 4 }), ["unknown ? -> 1"])
        assert.deepStrictEqual(yield* asked({ epoch: "another", offset: 3 }), ["epoch ? -> 1"])
        const nonsense = [{ epoch, offset: 1.5 }, { epoch, offset: -1 }, { epoch, offset: "2" }, { epoch, offset: NaN }]
        for (const position of [...nonsense, { offset: 2 }, undefined, null, "2", 2, []]) {
          assert.deepStrictEqual(yield* asked(position), ["unknown ? -> 1"], JSON.stringify(position))
        }
      }
    }))

  test("it is bounded by a count and by bytes, in each process alike; what is too large is not appended", (open) =>
    Effect.gen(function*() {
      // a message takes one byte more in Redis
      const bounds = { count: 8, bytes: 100 }
      const here = yield* open(bounds)
      const there = yield* open(bounds)
      const large = "1".repeat(19)
      for (let i = 1; i <= 30; i++) yield* here.append(large)
      const late = yield* open(bounds)
      const start = { ...(yield* here.ends).newest, offset: 0 }
      for (const process of [here, there, late]) {
        assert.deepStrictEqual(yield* since(process, start), ["trimmed 25 -> 25"])
        assert.strictEqual((yield* process.ends).oldest.offset, 25)
      }
      for (let i = 1; i <= 30; i++) yield* here.append("1")
      for (const process of [here, there, yield* open(bounds)]) {
        assert.deepStrictEqual(yield* since(process, start), ["trimmed 52 -> 52"])
      }
      assert.strictEqual((yield* Effect.flip(here.append("1".repeat(101)))).reason, "size")
      assert.strictEqual((yield* here.ends).newest.offset, 60)
    }))

  if (isAgeTried) {
    test("what is too old is gone for all", (open) =>
      Effect.gen(function*() {
        const bounds = { age: "600 millis" } as const
        const here = yield* open(bounds)
        const there = yield* open(bounds)
        const start = (yield* here.ends).newest
        const [, last] = yield* appendAll(here, "a", "b")
        for (const process of [here, there]) {
          const reader = yield* collecting(History.follow(process, start))
          yield* eventually("both", () => reader.events.length === 2)
          yield* Fiber.interrupt(reader.fiber)
        }
        yield* Effect.sleep("1 second")
        const late = yield* open(bounds)
        for (const process of [here, there, late]) {
          assert.deepStrictEqual(yield* since(process, start), ["trimmed 2 -> 2"])
          // nothing is missing after the newest, however old it was
          assert.deepStrictEqual(yield* since(process, last!), [])
        }
        assert.strictEqual((yield* there.append("c")).offset, 3)
        // another process is told a moment later
        const told = Effect.andThen(late.awaitAfter(last!), since(late, last!))
        assert.deepStrictEqual(yield* Effect.repeat(told, { until: ({ length }) => length > 0 }), ["3 c"])
      }))
  }

  test("what many append at once has one order, which all readers see, each message once", (open) =>
    Effect.gen(function*() {
      const [here, there] = [yield* open(), yield* open()]
      const start = (yield* here.ends).newest
      const early = yield* Effect.forEach([here, there], (process) => collecting(History.follow(process, start)))
      const appending = yield* Effect.forkChild(Effect.forEach(
        numbers(1, 300),
        (i) => Effect.map((i % 2 === 0 ? here : there).append(`${i}`), ({ offset }) => `${offset} ${i}`),
        { concurrency: 20 }
      ))
      yield* eventually("some", () => early.every(({ events }) => events.length > 50))
      const middle = early[0]!.events[40]!.position
      const late = yield* collecting(History.follow(there, middle, { batch: 7 }))
      const expected = (yield* Fiber.join(appending)).toSorted((a, b) => Number.parseInt(a) - Number.parseInt(b))
      yield* eventually("all", () => late.events.length === 259 && early.every(({ events }) => events.length === 300))
      assert.deepStrictEqual(expected.map((word) => Number.parseInt(word)), numbers(1, 300))
      for (const { events } of early) assert.deepStrictEqual(said(events), expected)
      assert.deepStrictEqual(said(late.events), expected.slice(41))
    }))

  test("live messages wait until the replay is out, and those that it had are dropped", (open) =>
    Effect.gen(function*() {
      const [here, there] = [yield* open(), yield* open()]
      const live = yield* PubSub.unbounded<History.Message<string>>()
      const say = (message: string) =>
        Effect.flatMap(here.append(message), (position) => {
          const said = { _tag: "Message", position, message } as const
          return Effect.as(PubSub.publish(live, said), said)
        })
      const { position } = yield* say("a")
      yield* say("b")
      // both are in the replay and in the queue
      const subscribe = Effect.map(PubSub.subscribe(live), Stream.fromSubscription)
      const subscribed = Effect.tap(subscribe, () => Effect.andThen(say("c"), say("d")))
      const reader = yield* collecting(History.join(there, position, subscribed, { batch: 1 }))
      yield* eventually("the replay", () => reader.events.length === 3)
      yield* here.append("not told")
      yield* say("f")
      yield* eventually("all", () => reader.events.length === 5)
      assert.deepStrictEqual(said(reader.events), ["2 b", "3 c", "4 d", "5 not told", "6 f"])
    }))

  const clients = often(200, 2000)
  test(`${clients} readers that come back see each of 50 messages that they missed once and in order, or are told`, (open) =>
    Effect.gen(function*() {
      const bounds = { count: 1000 }
      const here = yield* open(bounds)
      const start = (yield* here.ends).newest
      const last = yield* Effect.forEach(numbers(1, 10), (i) => here.append(`${i}`))
      yield* Effect.forEach(numbers(11, 60), (i) => here.append(`${i}`))
      // their process has just started
      const there = yield* open(bounds)
      const began = performance.now()
      // the position of one in ten is of another memory
      const lost = (i: number) => i % 10 === 0
      const readers = yield* Effect.forEach(
        numbers(1, clients),
        (i) => collecting(History.follow(there, lost(i) ? { ...start, epoch: "other" } : last.at(-1)))
      )
      yield* Effect.forEach(numbers(61, 70), (i) => here.append(`${i}`))
      yield* eventually("all", () => readers.every(({ events }, i) => events.length >= (lost(i + 1) ? 71 : 60)))
      assert.isBelow(performance.now() - began, 10_000)
      const all = numbers(1, 70).map((i) => `${i} ${i}`)
      for (const [i, { events }] of readers.entries()) {
        assert.deepStrictEqual(said(events), lost(i + 1) ? ["epoch ? -> 0", ...all] : all.slice(10))
      }
    }))
}

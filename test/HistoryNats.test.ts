/** A history in NATS over a connection that a real server does not give: messages that are lost, late, or not there any more. */
import { assert, describe } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Codec, History } from "holdfast"
import { it } from "holdfast/testing/vitest"
import { link } from "../src/internal/history/link.ts"
import { Log } from "../src/nats/internal/history.ts"
import type { Connection, Delivered, State } from "../src/nats/internal/streams.ts"
import { collecting, said } from "./integration/support/historyTable.ts"
import { settable } from "./support/clocks.ts"

const text = new TextEncoder()

/** A server with one stream, whose answers and deliveries are what the test says. */
class Server {
  state: State = { epoch: "e", oldest: 0, newest: 0, at: 0 }
  told: ((delivered: Delivered) => void) | undefined
  followed: Array<number> = []
  stopped = 0
  asked = 0
  appended: Array<string> = []
  answers: Array<{ readonly seq: number; readonly duplicate: boolean }> = []

  readonly connection = {
    largest: 1000,
    over: Effect.never,
    state: () =>
      Effect.sync(() => {
        this.asked++
        return this.state
      }),
    follow: (_: string, from: number, told: (delivered: Delivered) => void) =>
      Effect.sync(() => {
        this.followed.push(from)
        this.told = told
        const stop = () => {
          this.stopped++
        }
        return { connection: this.connection as unknown as Connection, stop }
      }),
    append: (_: string, bytes: Uint8Array, id: string) =>
      Effect.sync(() => {
        this.appended.push(`${new TextDecoder().decode(bytes)} ${id}`)
        return this.answers.shift()!
      })
  }

  /** Delivers a message, and has it. */
  tell(offset: number, at = 0): void {
    this.state = { ...this.state, newest: Math.max(this.state.newest, offset), at }
    this.told!({ offset, at, bytes: text.encode(`m${offset}`) })
  }
}

const opened = (
  bounds: { readonly count?: number; readonly age?: number } = {},
  payload = Codec.payload(Codec.lines())
) =>
  Effect.gen(function*() {
    const server = new Server()
    const made = yield* link<Connection>({
      name: "test",
      open: Effect.succeed(server.connection as unknown as Connection),
      timeout: 5000,
      check: 10_000
    })
    const log = new Log<string>(
      made,
      { stream: "s", subject: "s" },
      payload,
      { count: 100, bytes: 1000, age: Infinity, ...bounds }
    )
    yield* made.add(log)
    return { history: log as History.History<string>, server }
  })

const following = (history: History.History<string>, position: History.Position | undefined) =>
  Effect.map(collecting(History.follow(history, position)), ({ events }) => ({
    said: Effect.map(TestClock.adjust(0), () => said(events))
  }))

describe("a history in NATS", () => {
  it.effect("a message that the stream has not any more when it is delivered is Gone for its readers", () =>
    Effect.gen(function*() {
      const { history, server } = yield* opened()
      const reader = yield* following(history, undefined)
      yield* reader.said
      server.tell(1)
      yield* reader.said
      server.tell(4)
      server.tell(5)
      assert.deepStrictEqual(yield* reader.said, ["start 0", "1 m1", "trimmed 2 -> 3", "4 m4", "5 m5"])
      // what is told twice, or late, is known
      server.tell(4)
      server.tell(2)
      server.tell(6)
      assert.deepStrictEqual((yield* reader.said).slice(5), ["6 m6"])
    }))

  it.effect("a stream that has less than it has told is another epoch, also once it has as much again", () =>
    Effect.gen(function*() {
      const { history, server } = yield* opened()
      const reader = yield* following(history, undefined)
      yield* reader.said
      for (let i = 1; i <= 5; i++) server.tell(i)
      yield* reader.said
      const { newest } = yield* history.ends
      server.state = { ...server.state, newest: 3 }
      // a leader may be behind for a moment: it is asked again before that is believed
      yield* TestClock.adjust(10_000)
      const before = server.asked
      yield* TestClock.adjust(500)
      assert.strictEqual(server.asked, before + 2)
      assert.lengthOf(yield* reader.said, 6)
      yield* TestClock.adjust(250)
      assert.deepStrictEqual(server.followed, [1, 1])
      assert.strictEqual(server.stopped, 1)
      for (let i = 1; i <= 6; i++) server.tell(i)
      assert.deepStrictEqual((yield* reader.said).slice(6), [
        "epoch ? -> 0",
        ...[1, 2, 3, 4, 5, 6].map((i) => `${i} m${i}`)
      ])
      const stale = yield* history.since(newest)
      assert.strictEqual(stale._tag === "Gone" && stale.why, "epoch")
    }))

  it.effect("a leader that is behind for a moment costs nothing", () =>
    Effect.gen(function*() {
      const { history, server } = yield* opened()
      const reader = yield* following(history, undefined)
      yield* reader.said
      for (let i = 1; i <= 5; i++) server.tell(i)
      yield* reader.said
      server.state = { ...server.state, newest: 3 }
      yield* TestClock.adjust(10_250)
      server.state = { ...server.state, newest: 5 }
      yield* TestClock.adjust(10_000)
      server.tell(6)
      assert.deepStrictEqual((yield* reader.said).slice(5), ["5 m5", "6 m6"])
      assert.deepStrictEqual(server.followed, [1])
    }))

  it.effect("what is not delivered within 250 ms is followed anew, from where the process is", () =>
    Effect.gen(function*() {
      const { history, server } = yield* opened()
      server.tell(1)
      server.state = { ...server.state, newest: 2 }
      const asking = yield* Effect.forkChild(history.ends)
      yield* TestClock.adjust(249)
      assert.deepStrictEqual(server.followed, [1])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(server.followed, [1, 2])
      assert.strictEqual(server.stopped, 1)
      server.tell(2)
      assert.strictEqual((yield* Fiber.join(asking)).newest.offset, 2)
    }))

  it.effect("what has expired before it was delivered is not waited for", () =>
    Effect.gen(function*() {
      const { history, server } = yield* opened()
      server.tell(1)
      server.state = { ...server.state, newest: 3 }
      const asking = yield* Effect.forkChild(history.ends)
      yield* TestClock.adjust(100)
      server.state = { ...server.state, oldest: 3 }
      yield* TestClock.adjust(150)
      const { newest, oldest } = yield* Fiber.join(asking)
      assert.deepStrictEqual([oldest.offset, newest.offset], [3, 3])
    }))

  it.effect("age is by the clock of the server, whatever that shows", () =>
    Effect.gen(function*() {
      const { history, server } = yield* opened({ age: 1000 })
      // an hour ahead
      const hour = 3_600_000
      const start = (yield* history.ends).newest
      server.tell(1, hour)
      yield* TestClock.adjust(600)
      server.tell(2, hour + 600)
      // it was under way for 300 ms
      yield* TestClock.adjust(300)
      server.tell(3, hour + 600)
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(yield* since(history, start), ["1 m1", "2 m2", "3 m3"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* since(history, start), ["trimmed 1 -> 1"])
      yield* TestClock.adjust(600)
      assert.deepStrictEqual(yield* since(history, start), ["trimmed 3 -> 3"])
    }))

  it.effect("B36 the wall clock of this process is set back and right again: its messages are as young as before", () =>
    Effect.gen(function*() {
      const { clock, set } = yield* settable
      yield* Effect.gen(function*() {
        const { history, server } = yield* opened({ age: 1000 })
        const start = (yield* history.ends).newest
        set(-3_600_000)
        server.tell(1)
        set(0)
        server.tell(2)
        assert.deepStrictEqual(yield* since(history, start), ["1 m1", "2 m2"])
      }).pipe(Effect.provideService(Clock.Clock, clock))
    }))

  it.effect("B100 a codec that throws costs its message: the connection and the others go on", () =>
    Effect.gen(function*() {
      const { decode, ...rest } = Codec.payload(Codec.lines())
      const { history, server } = yield* opened({}, {
        ...rest,
        decode: (frame) => {
          const read = decode(frame)
          if (read._tag === "Success" && read.success === "m2") throw new Error("boom")
          return read
        }
      })
      const start = (yield* history.ends).newest
      for (const offset of [1, 2, 3]) server.tell(offset)
      const error = yield* Effect.flip(history.since(start))
      assert.strictEqual(error.reason, "data")
      assert.include(error.message, "boom")
      assert.deepStrictEqual(yield* since(history, { ...start, offset: 2 }), ["3 m3"])
    }))

  it.effect("B100 a codec that throws while it writes is an error of that append", () =>
    Effect.gen(function*() {
      const { history } = yield* opened({}, {
        ...Codec.payload(Codec.lines()),
        encode: () => {
          throw new Error("boom")
        }
      })
      const error = yield* Effect.flip(history.append("a"))
      assert.strictEqual(error.reason, "data")
      assert.include(error.message, "boom")
    }))

  it.effect("an answer that cannot be of the stream that was followed: it is asked which one has the message", () =>
    Effect.gen(function*() {
      const { history, server } = yield* opened()
      for (let i = 1; i <= 5; i++) server.tell(i)
      server.answers = [{ seq: 2, duplicate: false }, { seq: 2, duplicate: true }]
      server.state = { epoch: "f", oldest: 2, newest: 2, at: 0 }
      assert.deepStrictEqual(yield* history.append("a"), { epoch: "f", offset: 2 })
      assert.strictEqual(server.appended.length, 2)
      assert.strictEqual(server.appended[0], server.appended[1])
    }))
})

const since = (history: History.History<string>, position: History.Position) =>
  Effect.map(history.since(position), (found) => said(found._tag === "Gone" ? [found] : found.messages))

import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Socket from "effect/socket/Socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, type ConnectionError, Heartbeat, Policy } from "../src/index.ts"
import { AtServer } from "../src/internal/connection/core/limits.ts"
import { TestSocket } from "../src/testing/index.ts"
import * as Clocks from "./support/clocks.ts"
import { countingClock } from "./support/countingClock.ts"
import { long, often } from "./support/often.ts"

type Chat = Connection.Connection<string, string>

/** Everything that ends a connection is off, so that a test shows the one limit it turns on. */
const quiet: Policy.Patch = { pingJitter: 0, pingEvery: 0, silence: 0, writeStall: 0, frame: 0, drain: 0 }

const open = (policy?: Policy.Patch, heartbeat = Heartbeat.text("ping", "pong"), socket?: Socket.Socket) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const chat = Connection.make({ codec: Codec.lines(), heartbeat, policy: { ...quiet, ...policy } })
    const c = yield* chat(socket ?? peer.socket)
    return { c, peer }
  })

const reasonOf = (c: Chat): Effect.Effect<ConnectionError.Reason["_tag"] | undefined> =>
  Effect.map(c.snapshot, ({ reason, state }) => (state === "ended" ? reason!._tag : undefined))

/** At `millis` - 1 from now it lives, one millisecond later it has ended. */
const endsAfter = (c: Chat, millis: number) =>
  Effect.gen(function*() {
    yield* TestClock.adjust(millis - 1)
    assert.isUndefined(yield* reasonOf(c), `ended before ${millis} ms`)
    yield* TestClock.adjust(1)
    const reason = yield* reasonOf(c)
    assert.isDefined(reason, `still alive after ${millis} ms`)
    return reason
  })

/** Lets time pass in steps, doing something at the end of each. */
const every = <E>(step: number, times: number, act: Effect.Effect<unknown, E>) =>
  Effect.gen(function*() {
    for (let i = 0; i < times; i++) {
      yield* TestClock.adjust(step)
      yield* act
    }
  })

/** Lets everybody who can run do so. */
const settle = Effect.repeat(Effect.yieldNow, { times: 10 })

const countOf = (text: string, word: string) => text.split("\n").filter((line) => line === word).length

describe("Heartbeat", () => {
  describe("what a ping and a pong look like", () => {
    it("B34 a ping that is its own answer is refused by name: both ends would answer for ever", () => {
      assert.throws(() => Heartbeat.text("beat", "beat"), /ping and pong must differ/)
      assert.throws(() => Heartbeat.text("beat", "beat", { token: true }), /ping and pong must differ/)
      assert.throws(() => Heartbeat.tagged("Beat", "Beat"), /ping and pong must differ/)
      assert.throws(() => Heartbeat.messages({ ping: { a: 1 }, pong: { a: 1 } }), /ping and pong must differ/)
    })

    it("text, without a token", () => {
      const { ping, reader } = Heartbeat.text("ping", "pong")
      const read = reader()
      assert.strictEqual(ping(7), "ping")
      assert.deepStrictEqual(read("ping"), { _tag: "Ping", answer: "pong" })
      assert.deepStrictEqual(read("pong"), { _tag: "Pong", token: undefined })
      for (const other of ["", "Ping", "ping ", "ping 1", "pong 1", "hello"]) assert.isUndefined(read(other))
    })

    it("text with a token: the answer carries it, and what is no token is a message", () => {
      const { ping, reader } = Heartbeat.text("ping", "pong", { token: true })
      const read = reader()
      assert.strictEqual(ping(7), "ping 7")
      assert.deepStrictEqual(read("ping 7"), { _tag: "Ping", answer: "pong 7" })
      assert.deepStrictEqual(read("pong 7"), { _tag: "Pong", token: 7 })
      assert.deepStrictEqual(read("ping"), { _tag: "Ping", answer: "pong" })
      assert.deepStrictEqual(read("pong"), { _tag: "Pong", token: undefined })
      for (const other of ["ping  7", "ping x", "ping 7 ", "pong -1", `ping ${"1".repeat(17)}`, "pinger 1"]) {
        assert.isUndefined(read(other))
      }
    })

    it("messages, compared by structure", () => {
      const { ping, reader } = Heartbeat.messages<unknown>({ ping: { type: "ping" }, pong: { type: "pong" } })
      const read = reader()
      assert.deepStrictEqual(ping(1), { type: "ping" })
      assert.deepStrictEqual(read({ type: "ping" }), { _tag: "Ping", answer: { type: "pong" } })
      assert.deepStrictEqual(read({ type: "pong" }), { _tag: "Pong", token: undefined })
      assert.isUndefined(read({ type: "ping", extra: 1 }))
    })

    it.effect("a protocol of your own: a structured ping is answered, and neither is received", () =>
      Effect.gen(function*() {
        const peer = yield* TestSocket.make()
        const heartbeat = Heartbeat.make<unknown, unknown>({
          ping: (n) => ({ ping: n }),
          read: (message) => {
            const { ping, pong } = message as { readonly ping?: number; readonly pong?: number }
            return ping !== undefined
              ? { _tag: "Ping", answer: { pong: ping } }
              : pong !== undefined
              ? { _tag: "Pong", token: pong }
              : undefined
          }
        })
        const c = yield* Connection.make({
          codec: Codec.lines().pipe(Codec.json),
          heartbeat,
          policy: { ...quiet, pingEvery: "10 seconds" }
        })(peer.socket)
        yield* peer.send("{\"ping\":5}\n{\"a\":1}\n{\"pong\":9}\n{\"b\":2}\n")
        assert.strictEqual(yield* peer.take, "{\"pong\":5}\n")
        assert.deepStrictEqual(yield* c.receiveAll, [{ a: 1 }, { b: 2 }])
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* peer.take, "{\"ping\":1}\n")
      }))
  })

  describe("when to ping", () => {
    it.effect("B23 ping cadence is the interval, not interval plus timeout", () =>
      Effect.gen(function*() {
        const { peer } = yield* open({ pingEvery: "15 seconds", pong: "10 seconds" })
        for (let n = 1; n <= 20; n++) {
          yield* TestClock.adjust(n === 1 ? 14_999 : 15_000 - 9_000 - 1)
          assert.strictEqual(countOf(yield* peer.text, "ping"), n - 1)
          yield* TestClock.adjust(1)
          assert.strictEqual(countOf(yield* peer.text, "ping"), n)
          // the answer takes 9 s, which must not move the next ping
          yield* TestClock.adjust("9 seconds")
          yield* peer.send("pong\n")
        }
      }))

    it.effect("the first ping comes early by up to pingJitter, at random; the others keep the interval", () =>
      Effect.gen(function*() {
        const firsts = new Set<number>()
        for (let i = 0; i < 20; i++) {
          const { c, peer } = yield* open({ pingEvery: 1000, pingJitter: 0.5 })
          let at = 0
          while ((yield* peer.text) === "") {
            yield* TestClock.adjust(1)
            at++
          }
          assert.isAtLeast(at, 500)
          assert.isAtMost(at, 1000)
          firsts.add(at)
          yield* TestClock.adjust(999)
          assert.strictEqual(countOf(yield* peer.text, "ping"), 1)
          yield* TestClock.adjust(1)
          assert.strictEqual(countOf(yield* peer.text, "ping"), 2)
          yield* c.close
        }
        assert.isAbove(firsts.size, 5)
      }))

    it.effect("B28 traffic that resets the timer causes at most one extra ping", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "10 seconds" })
        // both directions carry something each 3 s for 10 min: nobody has to be asked
        yield* every(3_000, 200, Effect.andThen(c.send("x"), peer.send("x\n")))
        assert.isAtMost(countOf(yield* peer.text, "ping"), 1)
        const before = countOf(yield* peer.text, "ping")
        // and then it falls silent: one ping an interval after the last traffic
        yield* TestClock.adjust("9999 millis")
        assert.strictEqual(countOf(yield* peer.text, "ping"), before)
        yield* TestClock.adjust(1)
        assert.strictEqual(countOf(yield* peer.text, "ping"), before + 1)
      }))

    it.effect("with pingWhen \"always\" traffic does not suppress a ping", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "10 seconds", pingWhen: "always" })
        yield* every(1_000, 100, Effect.andThen(c.send("x"), peer.send("x\n")))
        assert.strictEqual(countOf(yield* peer.text, "ping"), 10)
      }))

    it.effect("in a crowd pings come together, and whoever was busy is asked an interval after it fell silent", () =>
      Effect.gen(function*() {
        const all = yield* Effect.replicateEffect(open({ pingEvery: "10 seconds" }), 300)
        yield* TestClock.adjust("3 seconds")
        for (const { c, peer } of all) {
          yield* TestClock.adjust(1)
          yield* c.send("x")
          yield* peer.send("x\n")
        }
        const pinged = Effect.map(
          Effect.forEach(all, ({ peer }) => peer.text),
          (texts) => texts.map((text) => countOf(text, "ping"))
        )
        // their first pings were due, and put off
        yield* TestClock.adjust("9700 millis")
        assert.deepStrictEqual(new Set(yield* pinged), new Set([0]))
        // at most a fiftieth of the interval early
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* pinged).lastIndexOf(1), 200)
        yield* TestClock.adjust(300)
        assert.deepStrictEqual(new Set(yield* pinged), new Set([1]))
      }))

    it.effect("a connection that is idle wakes up for its pings, and for nothing else", () =>
      Effect.gen(function*() {
        const { clock, slept } = yield* countingClock
        const { c, peer } = yield* open({ pingEvery: "25 seconds", silence: "90 seconds", writeStall: "30 seconds" })
          .pipe(
            Effect.provideService(Clock.Clock, clock)
          )
        yield* TestClock.adjust("25 seconds")
        const before = slept()
        for (let i = 0; i < 20; i++) {
          yield* peer.send("pong\n")
          yield* TestClock.adjust("25 seconds")
        }
        assert.strictEqual(countOf(yield* peer.text, "ping"), 21)
        assert.strictEqual(slept() - before, 20)
        assert.isUndefined(yield* reasonOf(c))
      }))

    it.effect("B30 endless inbound traffic does not suppress our pings", () =>
      Effect.gen(function*() {
        const { peer } = yield* open({ pingEvery: "10 seconds" })
        yield* every(1_000, 100, peer.send("x\n"))
        assert.strictEqual(countOf(yield* peer.text, "ping"), 10)
      }))

    it.effect("F17 outbound traffic alone does not suppress a ping", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "10 seconds" })
        yield* every(1_000, 100, c.send("x"))
        assert.strictEqual(countOf(yield* peer.text, "ping"), 10)
      }))

    it.effect("B37 the interval changed on a live connection takes effect now, not after the old sleep", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "1 hour" })
        yield* TestClock.adjust("10 seconds")
        yield* c.patch({ pingEvery: "30 seconds" })
        yield* TestClock.adjust(19_999)
        assert.strictEqual(yield* peer.text, "")
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* peer.text, "ping\n")
        // shorter than what has passed already: at once
        yield* TestClock.adjust("10 seconds")
        yield* c.patch({ pingEvery: "5 seconds" })
        yield* settle
        assert.strictEqual(yield* peer.text, "ping\nping\n")
        // longer: counted from the last ping
        yield* c.patch({ pingEvery: "1 minute" })
        yield* TestClock.adjust(59_999)
        assert.strictEqual(countOf(yield* peer.text, "ping"), 2)
        yield* TestClock.adjust(1)
        assert.strictEqual(countOf(yield* peer.text, "ping"), 3)
        // off, and on again
        yield* c.patch({ pingEvery: 0 })
        yield* TestClock.adjust("1 day")
        assert.strictEqual(countOf(yield* peer.text, "ping"), 3)
        yield* c.patch({ pingEvery: "1 second" })
        yield* settle
        assert.strictEqual(countOf(yield* peer.text, "ping"), 4)
      }))

    it.effect("the first ping is jittered also when pings are turned on later", () =>
      Effect.gen(function*() {
        const firsts = new Set<number>()
        for (let i = 0; i < 10; i++) {
          const { c, peer } = yield* open({ pingJitter: 0.5 })
          yield* c.patch({ pingEvery: 1000 })
          yield* settle
          let first = 0
          while ((yield* peer.text) === "") {
            yield* TestClock.adjust(1)
            first++
          }
          assert.isAtLeast(first, 500)
          assert.isAtMost(first, 1000)
          firsts.add(first)
        }
        assert.isAbove(firsts.size, 3)
      }))

    it.effect("an interval that is shortened is no stall: the silence limit does not move", () =>
      Effect.gen(function*() {
        const { c } = yield* open({ pingEvery: "1 hour" })
        yield* c.patch({ silence: "60 seconds" })
        yield* TestClock.adjust("50 seconds")
        yield* c.patch({ pingEvery: "5 seconds" })
        assert.strictEqual(yield* endsAfter(c, 10_000), "SilenceTimeout")
      }))
  })

  describe("a schedule of pings of its own", () => {
    /** Opens a connection with this schedule, whose peer answers while it should; tells when pings came. */
    const pinged = (pings: Connection.Options<string, string>["pings"], policy: Policy.Patch) =>
      Effect.gen(function*() {
        const peer = yield* TestSocket.make()
        const c = yield* Connection.make(peer.socket, {
          codec: Codec.lines(),
          heartbeat: Heartbeat.text("ping", "pong"),
          pings,
          policy: { ...quiet, pingWhen: "always", ...policy }
        })
        const times: Array<number> = []
        let answers = true
        const watch = yield* Effect.forkChild(
          Effect.forever(Effect.gen(function*() {
            yield* peer.take
            times.push(yield* Clock.currentTimeMillis)
            if (answers) yield* peer.send("pong\n")
          })),
          { startImmediately: true }
        )
        return {
          c,
          times,
          answer: (does: boolean) => {
            answers = does
          },
          watch
        }
      })

    it.effect("adaptive: longer while they are answered, half as long after a miss, within its bounds, to the ms", () =>
      Effect.gen(function*() {
        const { answer, c, times } = yield* pinged(
          Heartbeat.adaptive({ min: "10 seconds", max: "60 seconds", growth: 2 }),
          {
            pingEvery: "10 seconds"
          }
        )
        yield* TestClock.adjust("9999 millis")
        assert.deepStrictEqual(times, [])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(times, [10_000])
        // 10 s, 10 s, then 20, 40 and 60
        yield* TestClock.adjust("190 seconds")
        assert.deepStrictEqual(times, [10_000, 20_000, 40_000, 80_000, 140_000, 200_000])
        answer(false)
        // 260 s is not answered: known at 320 s, from where it is 30, 15 and 10
        yield* TestClock.adjust("120 seconds")
        assert.deepStrictEqual(times.slice(6), [260_000, 320_000])
        yield* TestClock.adjust("29999 millis")
        assert.strictEqual(times.length, 8)
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(times.slice(8), [350_000])
        yield* TestClock.adjust("35 seconds")
        assert.deepStrictEqual(times.slice(9), [365_000, 375_000, 385_000])
        answer(true)
        yield* TestClock.adjust("10 seconds")
        // 395 s is answered: known at 405 s
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(times.slice(12), [395_000, 405_000, 425_000])
        assert.isUndefined((yield* c.snapshot).reason)
      }))

    it.effect("adaptive: pings stay off where the policy turns them off, and a patch turns them on", () =>
      Effect.gen(function*() {
        const { c, times } = yield* pinged(Heartbeat.adaptive({ min: "10 seconds", max: "60 seconds" }), {
          pingEvery: 0
        })
        yield* TestClock.adjust("5 minutes")
        assert.deepStrictEqual(times, [])
        yield* c.patch({ pingEvery: "1 second" })
        yield* TestClock.adjust("1 millis")
        // `min` has passed long ago
        assert.deepStrictEqual(times, [300_000])
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(times, [300_000, 310_000])
      }))

    it("adaptive: an option that makes no sense throws, and is named", () => {
      assert.throws(() => Heartbeat.adaptive({ min: 0, max: "1 second" }), RangeError, "min")
      assert.throws(() => Heartbeat.adaptive({ min: "2 seconds", max: "1 second" }), RangeError, "max")
      assert.throws(() => Heartbeat.adaptive({ min: "soon" as "1 second", max: "1 second" }), RangeError, "min")
      assert.throws(() => Heartbeat.adaptive({ min: 1, max: 2, growth: 0.5 }), RangeError, "growth")
    })

    it.effect("any schedule drives them, and is told what the pings before did", () =>
      Effect.gen(function*() {
        const beats: Array<Heartbeat.Beat> = []
        const pings = Schedule.fromStep(Effect.succeed((_: number, beat: Heartbeat.Beat) => {
          beats.push(beat)
          return Effect.succeed([0, Duration.seconds(beat.count + 1)] as [number, Duration.Duration])
        }))
        const { answer, times } = yield* pinged(pings, { pingEvery: "25 seconds" })
        yield* TestClock.adjust("3 seconds")
        answer(false)
        yield* TestClock.adjust("7 seconds")
        assert.deepStrictEqual(times, [1000, 3000, 6000, 10_000])
        assert.deepStrictEqual(beats.map(({ count, every, unanswered }) => [count, every, unanswered]), [
          [0, 25_000, 0],
          [1, 25_000, 0],
          [2, 25_000, 0],
          [3, 25_000, 0],
          [4, 25_000, 1]
        ])
      }))
  })

  describe("who is dead", () => {
    it.effect("B21 a client that connects and never answers is closed; a responsive one stays", () =>
      Effect.gen(function*() {
        const dead = yield* open({ pingEvery: "25 seconds", silence: "60 seconds" })
        assert.strictEqual(yield* endsAfter(dead.c, 60_000), "SilenceTimeout")
        yield* dead.peer.released
        assert.strictEqual(countOf(yield* dead.peer.text, "ping"), 2)

        const live = yield* open({ pingEvery: "25 seconds", silence: "60 seconds" })
        yield* Effect.forkScoped(Effect.forever(Effect.andThen(live.peer.take, live.peer.send("pong\n"))))
        yield* TestClock.adjust("10 minutes")
        assert.isUndefined(yield* reasonOf(live.c))
      }))

    it.effect("B22 a client closes a server that went silent", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "25 seconds", silence: "60 seconds" })
        yield* every(5_000, 20, peer.send("tick\n"))
        assert.isUndefined(yield* reasonOf(c))
        // 60 s after the last byte, not after a multiple of anything
        yield* TestClock.adjust("7 seconds")
        yield* peer.send("ti")
        assert.strictEqual(yield* endsAfter(c, 60_000), "SilenceTimeout")
      }))

    it.effect("B25 ping at 15 s; still open 14.999 s later; closed at 15 s", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "15 seconds", pong: "15 seconds" })
        yield* TestClock.adjust("15 seconds")
        assert.strictEqual(yield* peer.text, "ping\n")
        assert.strictEqual(yield* endsAfter(c, 15_000), "PongTimeout")
        const { reason } = yield* c.snapshot
        assert.include(reason!.message, "15 s")
      }))

    it.effect("B25 a pong after 14 s keeps it open", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "15 seconds", pong: "15 seconds" })
        yield* TestClock.adjust("29 seconds")
        yield* peer.send("pong\n")
        // the next ping is at 30 s
        assert.strictEqual(yield* endsAfter(c, 1_000 + 15_000), "PongTimeout")
      }))

    it.effect("B27 a ping whose write blocks still times out", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "15 seconds", pong: "5 seconds" })
        yield* peer.window(0)
        assert.strictEqual(yield* endsAfter(c, 20_000), "PongTimeout")
        assert.strictEqual(yield* peer.text, "")
      }))

    it.effect("B29 endless outbound traffic into a black hole is still detected", () =>
      Effect.gen(function*() {
        const { c } = yield* open({ pingEvery: "25 seconds", silence: "60 seconds" })
        yield* every(1_000, 59, c.send("x"))
        assert.strictEqual(yield* endsAfter(c, 1_000), "SilenceTimeout")
      }))

    it.effect("F1 writes do not prolong the pong deadline", () =>
      Effect.gen(function*() {
        const { c } = yield* open({ pingEvery: "15 seconds", pong: "5 seconds" })
        yield* every(1_000, 19, c.send("x"))
        assert.strictEqual(yield* endsAfter(c, 1_000), "PongTimeout")
      }))

    it.effect("F19 sending a ping proves nothing: 60 s of silence end it, whatever the number of pings", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "1 second", silence: "60 seconds" })
        assert.strictEqual(yield* endsAfter(c, 60_000), "SilenceTimeout")
        assert.isAtLeast(countOf(yield* peer.text, "ping"), 59)
      }))

    it.effect("B31 a pong with the wrong token does not clear the outstanding ping", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open(
          { pingEvery: "15 seconds", pong: "10 seconds" },
          Heartbeat.text("ping", "pong", { token: true })
        )
        yield* TestClock.adjust("15 seconds")
        assert.strictEqual(yield* peer.text, "ping 1\n")
        yield* every(1_000, 9, peer.send("pong 99\n"))
        assert.strictEqual(yield* endsAfter(c, 1_000), "PongTimeout")
      }))

    it.effect("B31 the right token clears it and all before it; an unsolicited pong is harmless", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open(
          { pingEvery: "15 seconds", pong: "20 seconds" },
          Heartbeat.text("ping", "pong", { token: true })
        )
        yield* peer.send("pong 1\npong\npong 0\n")
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual(yield* peer.text, "ping 1\nping 2\n")
        yield* peer.send("pong 2\nhello\n")
        assert.strictEqual(yield* c.receive, "hello")
        // answering the second ping answered the first: the next deadline is that of the ping at 45 s
        assert.strictEqual(yield* endsAfter(c, 15_000 + 20_000), "PongTimeout")
        assert.deepInclude((yield* c.snapshot).reason, { unanswered: 2 })
      }))

    it.effect("data proves that the peer lives while its pong is outstanding", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "15 seconds", pong: "10 seconds" })
        yield* TestClock.adjust("24 seconds")
        yield* peer.send("data\n")
        assert.strictEqual(yield* endsAfter(c, 10_000), "PongTimeout")
      }))

    it.effect("B33 a pong deadline shorter than the interval fires", () =>
      Effect.gen(function*() {
        const { c } = yield* open({ pingEvery: "30 seconds", pong: "5 seconds" })
        assert.strictEqual(yield* endsAfter(c, 35_000), "PongTimeout")
      }))

    it.effect("B33 a pong deadline longer than the interval fires", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "10 seconds", pong: "35 seconds" })
        assert.strictEqual(yield* endsAfter(c, 45_000), "PongTimeout")
        assert.strictEqual(countOf(yield* peer.text, "ping"), 4)
      }))

    it.effect("B33 a silence shorter and one longer than the interval fire", () =>
      Effect.gen(function*() {
        const short = yield* open({ pingEvery: "60 seconds" })
        yield* short.c.patch({ silence: "7 seconds" })
        assert.strictEqual(yield* endsAfter(short.c, 7_000), "SilenceTimeout")
        const long = yield* open({ pingEvery: "7 seconds", silence: "60 seconds" })
        assert.strictEqual(yield* endsAfter(long.c, 60_000), "SilenceTimeout")
      }))

    it.effect("misses: as many more pings may stay unanswered", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "10 seconds", pong: "5 seconds", misses: 2 })
        // pings at 10, 20 and 30 s; the third is overdue at 35 s
        assert.strictEqual(yield* endsAfter(c, 35_000), "PongTimeout")
        const { reason } = yield* c.snapshot
        assert.deepInclude(reason, { limit: 5_000, unanswered: 3 })
        assert.strictEqual(countOf(yield* peer.text, "ping"), 3)
      }))

    it.effect("the round-trip time of a ping, and its smoothed mean", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: "10 seconds" }, Heartbeat.text("ping", "pong", { token: true }))
        assert.isUndefined((yield* c.snapshot).rtt)
        yield* TestClock.adjust(10_080)
        yield* peer.send("pong 1\n")
        yield* settle
        assert.deepStrictEqual((yield* c.snapshot).rtt, { last: 80, smoothed: 80 })
        yield* TestClock.adjust(9_920 + 160)
        yield* peer.send("pong 2\n")
        yield* settle
        assert.deepStrictEqual((yield* c.snapshot).rtt, { last: 160, smoothed: 90 })
      }))

    it.effect("an interval that passes without a pong costs no memory: the oldest tokens are forgotten", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ pingEvery: 1_000 }, Heartbeat.text("ping", "pong", { token: true }))
        yield* TestClock.adjust(100_000)
        yield* peer.send("pong 1\n")
        yield* settle
        assert.isUndefined((yield* c.snapshot).rtt)
        yield* peer.send("pong 100\n")
        yield* settle
        assert.deepStrictEqual((yield* c.snapshot).rtt, { last: 0, smoothed: 0 })
      }))
  })

  describe("the peer's pings", () => {
    it.effect("are answered ahead of waiting data, in order, and never received", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({}, Heartbeat.text("ping", "pong", { token: true }))
        yield* peer.window(0)
        yield* c.send("first")
        yield* settle
        yield* c.sendAll(["second", "third"])
        yield* peer.send("ping 1\nping 2\nhello\n")
        assert.strictEqual(yield* c.receive, "hello")
        yield* peer.window(Infinity)
        yield* settle
        assert.strictEqual(yield* peer.text, "first\npong 1\npong 2\nsecond\nthird\n")
      }))

    it.effect("are answered while our own inbox is full and nobody receives", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ inboxMessages: 1 })
        yield* peer.send("a\nping\n")
        assert.strictEqual(yield* peer.take, "pong\n")
        assert.strictEqual(yield* c.receive, "a")
      }))

    it.effect("also behind one message more than there is room for, by number and by weight, and no further", () =>
      Effect.gen(function*() {
        const ofWeight = { inboxMessages: 1000, inboxBytes: 1, maxFrame: 100 } as const
        for (const bounds of [{ inboxMessages: 1 }, ofWeight]) {
          const { c, peer } = yield* open(bounds)
          yield* peer.send("a\nping\nping\nb\nping\n")
          yield* settle
          assert.strictEqual(yield* peer.text, "pong\npong\n")
          assert.strictEqual((yield* c.snapshot).inbox.messages, 2)
          assert.strictEqual(yield* c.receive, "a")
          assert.strictEqual(yield* c.receive, "b")
          yield* settle
          assert.strictEqual(yield* peer.text, "pong\npong\npong\n")
        }
      }))

    it.effect("what is for us takes no room: messages between many pings come", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ inboxMessages: 8, outboxMessages: 1000 })
        yield* peer.send(`a\n${"pong\n".repeat(50)}b\n${"pong\n".repeat(50)}c\n`)
        yield* settle
        assert.deepStrictEqual(yield* c.receiveAll, ["a", "b", "c"])
      }))

    it.effect("B24 the third ping that comes too early closes with too many pings", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ minPingEvery: "10 seconds" })
        yield* peer.send("ping\n")
        yield* every(1_000, 2, peer.send("ping\n"))
        yield* settle
        assert.isUndefined(yield* reasonOf(c))
        assert.strictEqual(yield* peer.text, "pong\npong\npong\n")
        // a fiftieth early is in time
        yield* TestClock.adjust(9_799)
        yield* peer.send("before\nping\nafter\n")
        assert.strictEqual(yield* c.receive, "before")
        const error = yield* Effect.flip(c.receive)
        assert.strictEqual(error.reason._tag, "TooManyPings")
        assert.include(error.message, "10 s")
      }))

    it.effect("B24 an obedient client survives, and one ping in good time forgives two early ones", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ minPingEvery: "10 seconds" })
        yield* every(10_000, 100, peer.send("ping\n"))
        for (let i = 0; i < 20; i++) {
          yield* peer.send("ping\nping\n")
          yield* TestClock.adjust("10 seconds")
          yield* peer.send("ping\n")
        }
        yield* settle
        assert.isUndefined(yield* reasonOf(c))
      }))

    it.effect("B24 pings that a stall of the network held up are no strikes, as far as they were due", () =>
      Effect.gen(function*() {
        for (const [together, strikesLeft] of [[8, 3], [9, 2], [10, 2], [11, 2], [1000, 2]] as const) {
          const { c, peer } = yield* open({ minPingEvery: "10 seconds" })
          yield* peer.send("ping\n")
          yield* TestClock.adjust("20 minutes")
          // eight of them were due; more are one strike
          yield* peer.send("ping\n".repeat(together))
          for (let strike = 1; strike <= strikesLeft; strike++) {
            yield* settle
            assert.isUndefined(yield* reasonOf(c), `${together}`)
            yield* TestClock.adjust(100)
            yield* peer.send("ping\n")
          }
          yield* settle
          assert.strictEqual(yield* reasonOf(c), "TooManyPings", `${together}`)
        }
      }))

    it.effect("B125 pings that come together are one strike at most: in one read, or in many after a stall of ours", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ minPingEvery: "10 seconds" })
        yield* peer.send("ping\n")
        yield* TestClock.adjust("30 seconds")
        for (const strike of [1, 2, 3]) {
          // half of them in one read, and half one by one
          yield* peer.send("ping\n".repeat(100))
          for (let n = 0; n < 99; n++) {
            yield* peer.send("ping\n")
            if (n % 10 === 0) yield* TestClock.adjust(1)
          }
          yield* settle
          assert.strictEqual(yield* reasonOf(c), strike < 3 ? undefined : "TooManyPings", `strike ${strike}`)
          yield* TestClock.adjust(100)
        }
      }))

    it.effect("B24 a peer that pings at the very interval is in time for days, though its clock is a little fast", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open({ minPingEvery: "5 seconds" })
        yield* every(4_999, 20_000, peer.send("ping\n"))
        assert.isUndefined(yield* reasonOf(c))
      }))

    it.effect("B24 as a default it is in force at a server alone, and given at either end", () =>
      Effect.gen(function*() {
        const pings = (policy: Policy.Patch | Policy.Policy, atServer: boolean) =>
          Effect.gen(function*() {
            const peer = yield* TestSocket.make()
            const heartbeat = Heartbeat.text("ping", "pong")
            const c = yield* Connection.make({ codec: Codec.lines(), heartbeat, policy })(peer.socket).pipe(
              Effect.provideService(AtServer, atServer ? { lateness: undefined } : undefined)
            )
            yield* every(1_000, 20, peer.send("ping\n"))
            return yield* reasonOf(c)
          })
        assert.isUndefined(yield* pings({}, false))
        assert.strictEqual(yield* pings({}, true), "TooManyPings")
        assert.strictEqual(yield* pings({ minPingEvery: "5 seconds" }, false), "TooManyPings")
        // it follows the pings that the policy itself sends
        assert.isUndefined(yield* pings({ pingEvery: "2 seconds" }, true))
        assert.isUndefined(yield* pings(Policy.realtime, true))
        assert.isUndefined(yield* pings({ minPingEvery: 0 }, true))
      }))

    it.effect("B34 minPingEvery 0 and Infinity are off", () =>
      Effect.gen(function*() {
        for (const minPingEvery of [0, Infinity]) {
          const { c, peer } = yield* open({ minPingEvery })
          for (let i = 0; i < 50; i++) yield* peer.send("ping\n")
          yield* settle
          assert.isUndefined(yield* reasonOf(c))
        }
      }))

    it.effect("that get no room to be answered are bounded: 64 answers wait at the most", () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open()
        yield* peer.window(0)
        for (let i = 0; i < 1000; i++) yield* peer.send("ping\n")
        yield* settle
        assert.isAtMost(peer.unsent(), 65 * 5)
        yield* peer.window(Infinity)
        yield* settle
        assert.isAtMost(countOf(yield* peer.text, "pong"), 128)
        assert.isUndefined(yield* reasonOf(c))
      }))
  })

  describe("a clock that is not ours alone", () => {
    /**
     * A clock and a socket of a process that can be stopped: time passes, but nobody wakes. When it goes on, timers run
     * first and what came from the peer a turn later, which is the order of an event loop.
     */
    const stoppable = Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const gate = Latch.makeUnsafe(true)
      const peer = yield* TestSocket.make()
      const gated: Clock.Clock = { ...clock, sleep: (duration) => Effect.andThen(clock.sleep(duration), gate.await) }
      const socket = Socket.make({
        reader: Effect.map(peer.socket.reader, (reader) => ({
          ...reader,
          pull: Effect.tap(reader.pull, () => gate.isOpen() ? Effect.void : Effect.andThen(gate.await, Effect.yieldNow))
        })),
        writer: peer.socket.writer
      })
      return {
        peer,
        open: (policy: Policy.Patch, heartbeat?: Heartbeat.Heartbeat<string, string>) =>
          Effect.map(
            Effect.provideService(open(policy, heartbeat, socket), Clock.Clock, gated),
            ({ c }) => c
          ),
        /** Stands still for that long; `meanwhile` is what the network does. */
        stall: (millis: number, meanwhile: Effect.Effect<unknown> = Effect.void) =>
          Effect.gen(function*() {
            gate.closeUnsafe()
            yield* TestClock.adjust(millis / 2)
            yield* meanwhile
            yield* TestClock.adjust(millis / 2)
            yield* gate.open
            yield* settle
          })
      }
    })

    it.effect("B35 after a stall the peer gets a probe and is not condemned", () =>
      Effect.gen(function*() {
        const { open, peer, stall } = yield* stoppable
        const c = yield* open({ pingEvery: "20 seconds", silence: "60 seconds" })
        yield* TestClock.adjust("10 seconds")
        yield* peer.send("x\n")
        yield* stall(100_000)
        assert.isUndefined(yield* reasonOf(c))
        // it was asked, and has half the limit to answer
        assert.isAtLeast(countOf(yield* peer.text, "ping"), 1)
        yield* TestClock.adjust(29_999)
        assert.isUndefined(yield* reasonOf(c))
        yield* peer.send("pong\n")
        yield* TestClock.adjust("59 seconds")
        assert.isUndefined(yield* reasonOf(c))
      }))

    it.effect("B35 a timer that comes late by more than half its limit asks first, and gives the other half", () =>
      Effect.gen(function*() {
        const { open, peer, stall } = yield* stoppable
        const c = yield* open({ pingEvery: "1 hour" })
        yield* c.patch({ silence: "60 seconds" })
        yield* TestClock.adjust("10 seconds")
        yield* stall(100_000)
        assert.isUndefined(yield* reasonOf(c))
        assert.strictEqual(yield* peer.text, "ping\n")
        assert.strictEqual(yield* endsAfter(c, 30_000), "SilenceTimeout")
      }))

    it.effect("B35 after a stall every limit has half of itself left, and not what another one was given", () =>
      Effect.gen(function*() {
        const { open, stall } = yield* stoppable
        // 34 s without an answer to the ping of second 24
        const c = yield* open({ pingEvery: "24 seconds", pong: "10 seconds", misses: 1, silence: "60 seconds" })
        yield* TestClock.adjust("47 seconds")
        yield* stall(23_000)
        assert.isUndefined(yield* reasonOf(c))
        assert.strictEqual(yield* endsAfter(c, 17_000), "PongTimeout")
      }))

    it.effect("B35 a peer that stays silent after the stall is found dead in bounded time", () =>
      Effect.gen(function*() {
        const { open, stall } = yield* stoppable
        const c = yield* open({ pingEvery: "20 seconds", silence: "60 seconds" })
        yield* stall(100_000)
        assert.isUndefined(yield* reasonOf(c))
        yield* TestClock.adjust("100 seconds")
        assert.strictEqual(yield* reasonOf(c), "SilenceTimeout")
      }))

    it.effect("B35 input that waits is processed before the peer is condemned", () =>
      Effect.gen(function*() {
        for (const policy of [{ silence: "30 seconds" }, { pingEvery: "10 seconds", pong: "20 seconds" }] as const) {
          const { open, peer, stall } = yield* stoppable
          const c = yield* open(policy)
          yield* TestClock.adjust("29 seconds")
          // late by 1 s only: no stall to speak of, but the answer is here
          yield* stall(2_000, peer.send("pong\n"))
          assert.isUndefined(yield* reasonOf(c), JSON.stringify(policy))
          yield* TestClock.adjust("15 seconds")
          assert.isUndefined(yield* reasonOf(c), JSON.stringify(policy))
        }
      }))

    it.effect("B35 no stall of 20 s, whenever it comes, kills a peer that answers", () =>
      Effect.gen(function*() {
        const policies: ReadonlyArray<Policy.Patch> = [
          { pingEvery: "25 seconds", silence: "60 seconds" },
          { pingEvery: "5 seconds", silence: "15 seconds", pong: "5 seconds" },
          { pingEvery: "10 seconds", silence: "30 seconds" },
          { pingEvery: "25 seconds", silence: "30 seconds" },
          { pingEvery: "1 second", silence: "5 seconds", pong: "2 seconds" }
        ]
        for (const policy of policies) {
          for (let at = 0; at <= 32_000; at += often(1000, 250)) {
            const { open, peer, stall } = yield* stoppable
            const c = yield* open(policy, Heartbeat.text("ping", "pong", { token: true }))
            const answering = yield* Effect.forkChild(Effect.forever(Effect.gen(function*() {
              const text = yield* peer.take
              yield* Effect.sleep("200 millis")
              yield* peer.send(text.replaceAll("ping", "pong"))
            })))
            yield* TestClock.adjust(at)
            yield* stall(20_000)
            yield* TestClock.adjust("2 minutes")
            assert.isUndefined(yield* reasonOf(c), `${JSON.stringify(policy)} stalled at ${at}`)
            answering.interruptUnsafe()
            yield* c.close
          }
        }
      }), long(120_000))

    it.effect("F3 one pong missed through a stall of 5 s is not death", () =>
      Effect.gen(function*() {
        const { open, peer, stall } = yield* stoppable
        const c = yield* open({ pingEvery: "5 seconds", pong: "5 seconds" })
        yield* TestClock.adjust(5_100)
        assert.strictEqual(yield* peer.text, "ping\n")
        yield* stall(5_000, peer.send("pong\n"))
        assert.isUndefined(yield* reasonOf(c))
      }))

    it.effect("B35 a stall that began long before the limit and ends after it is ours all the same", () =>
      Effect.gen(function*() {
        const { open, stall } = yield* stoppable
        const c = yield* open({ silence: "60 seconds" })
        yield* TestClock.adjust("5 seconds")
        yield* stall(60_000)
        assert.isUndefined(yield* reasonOf(c))
        assert.strictEqual(yield* endsAfter(c, 30_000), "SilenceTimeout")
      }))

    it.effect("B35 a stall is no stalled peer either: it gets half of writeStall", () =>
      Effect.gen(function*() {
        const { open, peer, stall } = yield* stoppable
        const c = yield* open({ writeStall: "10 seconds" })
        yield* peer.window(0)
        yield* c.send("x")
        yield* stall(60_000)
        assert.isUndefined(yield* reasonOf(c))
        assert.strictEqual(yield* endsAfter(c, 5_000), "WriteStalled")
      }))

    /** Connections on a clock whose wall time somebody can set. */
    const settable = Effect.map(Clocks.settable, ({ clock, set }) => ({
      clock,
      open: (policy: Policy.Patch) => Effect.provideService(open(policy), Clock.Clock, clock),
      set
    }))

    it.effect("B36 the wall clock jumps forward: a probe at the next look, nobody condemned", () =>
      Effect.gen(function*() {
        const { open, set } = yield* settable
        const { c, peer } = yield* open({ pingEvery: "1 hour", writeStall: "10 seconds" })
        yield* c.patch({ silence: "60 seconds" })
        yield* TestClock.adjust("5 seconds")
        set(8 * 3_600_000)
        assert.strictEqual(yield* peer.text, "")
        // the deadlines are looked at at least every 30 seconds
        yield* TestClock.adjust("25 seconds")
        assert.strictEqual(yield* peer.text, "ping\n")
        yield* TestClock.adjust("29999 millis")
        assert.isUndefined(yield* reasonOf(c))
        // one jump, one probe
        assert.strictEqual(yield* peer.text, "ping\n")
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* reasonOf(c), "SilenceTimeout")
      }))

    it.effect("B36 the wall clock jumps in the moment a ping is due: it is the probe, and is sent once", () =>
      Effect.gen(function*() {
        const { open, set } = yield* settable
        const { peer } = yield* open({ pingEvery: "10 seconds" })
        yield* TestClock.adjust("5 seconds")
        set(8 * 3_600_000)
        yield* TestClock.adjust("4999 millis")
        assert.strictEqual(yield* peer.text, "")
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* peer.text, "ping\n")
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* peer.text, "ping\nping\n")
      }))

    it.effect("B36 the wall clock jumps, and there is no heartbeat: nothing to ask, nobody condemned", () =>
      Effect.gen(function*() {
        const { clock, set } = yield* settable
        const peer = yield* TestSocket.make()
        const c = yield* Connection.make(peer.socket, { codec: Codec.lines(), policy: { silence: "60 seconds" } }).pipe(
          Effect.provideService(Clock.Clock, clock)
        )
        yield* TestClock.adjust("5 seconds")
        set(8 * 3_600_000)
        yield* TestClock.adjust("54999 millis")
        assert.strictEqual((yield* c.snapshot).state, "open")
        assert.strictEqual(yield* peer.text, "")
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* c.snapshot).reason?._tag, "SilenceTimeout")
      }))

    it.effect("B36 the wall clock goes back: deadlines are those of the monotonic clock", () =>
      Effect.gen(function*() {
        const { open, set } = yield* settable
        const { c, peer } = yield* open({ pingEvery: "20 seconds", silence: "60 seconds" })
        yield* TestClock.adjust("5 seconds")
        set(-8 * 3_600_000)
        yield* TestClock.adjust("15 seconds")
        assert.strictEqual(yield* peer.text, "ping\n")
        assert.strictEqual(yield* endsAfter(c, 40_000), "SilenceTimeout")
      }))
  })

  describe("a heartbeat that is wrong", () => {
    const text = Heartbeat.text("ping", "pong")
    const boom = () => {
      throw new Error("boom")
    }
    const cases: ReadonlyArray<readonly [string, Heartbeat.Heartbeat<string, string>, ConnectionError.Reason["_tag"]]> =
      [
        ["ping throws", { ...text, ping: boom }, "Defect"],
        ["read throws", { ...text, reader: () => boom }, "Defect"],
        ...["x", true, {}, { _tag: "Nonsense" }, Promise.resolve()].map((garbage) =>
          [
            `B100 read returns what is no signal (${typeof garbage} ${JSON.stringify(garbage)})`,
            { ...text, reader: () => () => garbage as never },
            "Defect"
          ] as const
        ),
        ["a ping cannot be encoded", { ...text, ping: () => "two\nlines" }, "InvalidMessage"],
        ["a pong cannot be encoded", {
          ...text,
          reader: () => () => ({ _tag: "Ping", answer: "x".repeat(2_000_000) })
        }, "FrameTooLong"]
      ]
    for (const [name, heartbeat, tag] of cases) {
      it.effect(`${name}: its connection ends with a reason, the next one is untouched`, () =>
        Effect.gen(function*() {
          const wrong = yield* open({ pingEvery: "10 seconds" }, heartbeat)
          const right = yield* open({ pingEvery: "10 seconds" })
          yield* TestClock.adjust("9 seconds")
          yield* wrong.peer.send("hi\n")
          yield* right.peer.send("hi\n")
          yield* TestClock.adjust("1 second")
          assert.strictEqual(yield* reasonOf(wrong.c), tag)
          const error = yield* Effect.flip(wrong.c.send("x"))
          assert.strictEqual(error.reason._tag, tag)
          assert.strictEqual(yield* right.c.receive, "hi")
          assert.isUndefined(yield* reasonOf(right.c))
        }))
    }
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// pings that are members of a union
// ---------------------------------------------------------------------------------------------------------------------

describe("pings and pongs of a tagged union", () => {
  const Message = Schema.TaggedUnion({
    Ping: { n: Schema.Finite },
    Pong: { n: Schema.Finite },
    Say: { text: Schema.String }
  })
  type Message = typeof Message.Type
  type Say = Extract<Message, { readonly _tag: "Say" }>
  const codec = Codec.lines().pipe(Codec.schema(Message))

  it("tagged: without a token, with one, and with another key", () => {
    const plain = Heartbeat.tagged("Ping", "Pong")
    assert.deepStrictEqual(plain.ping(7), { _tag: "Ping" })
    const read = plain.reader()
    assert.deepStrictEqual(read({ _tag: "Ping" }), { _tag: "Ping", answer: { _tag: "Pong" } })
    assert.deepStrictEqual(read({ _tag: "Pong" }), { _tag: "Pong", token: undefined })
    for (const other of ["ping", "", undefined, null, 1]) assert.isUndefined(read({ _tag: other }))

    const counted = Heartbeat.tagged("ping", "pong", { key: "type", token: "n" })
    assert.deepStrictEqual(counted.ping(7), { type: "ping", n: 7 })
    const readCounted = counted.reader()
    const message = (type: string, n: unknown) => ({ type, n, _tag: "Ping" })
    assert.deepStrictEqual(readCounted(message("ping", 3)), { _tag: "Ping", answer: { type: "pong", n: 3 } })
    assert.deepStrictEqual(readCounted(message("pong", 3)), { _tag: "Pong", token: 3 })
    assert.deepStrictEqual(readCounted(message("pong", "3")), { _tag: "Pong", token: undefined })
    assert.isUndefined(readCounted(message("say", 3)))
  })

  it.effect("a connection answers them, matches its own, and receives the union without them", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const heartbeat = Heartbeat.tagged("Ping", "Pong", { token: "n" })
      const c = yield* Connection.make(peer.socket, { codec, heartbeat, policy: { ...quiet, pingEvery: "1 second" } })
      expectTypeOf(c).toEqualTypeOf<Connection.Connection<Say, Message>>()
      yield* peer.send("{\"_tag\":\"Ping\",\"n\":9}\n{\"_tag\":\"Say\",\"text\":\"hi\"}\n")
      // a `switch` has no case for a ping: `text` is there
      assert.strictEqual((yield* c.receive).text, "hi")
      assert.strictEqual(yield* peer.text, "{\"_tag\":\"Pong\",\"n\":9}\n")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* peer.text, "{\"_tag\":\"Pong\",\"n\":9}\n{\"_tag\":\"Ping\",\"n\":1}\n")
      assert.isUndefined((yield* c.snapshot).rtt)
      yield* TestClock.adjust(20)
      yield* peer.send("{\"_tag\":\"Pong\",\"n\":1}\n")
      yield* settle
      assert.strictEqual((yield* c.snapshot).rtt?.last, 20)
      assert.strictEqual((yield* c.snapshot).inbox.messages, 0)
    }))

  it.effect("isControl: read is asked only about these, and none of them is received", () =>
    Effect.gen(function*() {
      class Ping extends Schema.TaggedClass<Ping>()("Ping", { n: Schema.Finite }) {}
      class Pong extends Schema.TaggedClass<Pong>()("Pong", { n: Schema.Finite }) {}
      class Say extends Schema.TaggedClass<Say>()("Say", { text: Schema.String }) {}
      const asked: Array<string> = []
      const peer = yield* TestSocket.make()
      const c = yield* Connection.make(peer.socket, {
        codec: Codec.lines().pipe(Codec.schema(Schema.Union([Ping, Pong, Say]))),
        heartbeat: Heartbeat.make({
          ping: (n): Ping | Pong => new Ping({ n }),
          isControl: Schema.is(Schema.Union([Ping, Pong])),
          read: ({ _tag, n }) => {
            asked.push(_tag)
            return _tag === "Ping" ? { _tag, answer: new Pong({ n }) } : { _tag, token: n }
          }
        }),
        policy: quiet
      })
      expectTypeOf(c).toEqualTypeOf<Connection.Connection<Say, Ping | Pong | Say>>()
      yield* peer.send(
        "{\"_tag\":\"Say\",\"text\":\"a\"}\n{\"_tag\":\"Ping\",\"n\":9}\n{\"_tag\":\"Say\",\"text\":\"b\"}\n"
      )
      assert.strictEqual((yield* c.receive).text, "a")
      assert.strictEqual((yield* c.receive).text, "b")
      assert.deepStrictEqual(asked, ["Ping"])
      assert.strictEqual(yield* peer.text, "{\"_tag\":\"Pong\",\"n\":9}\n")
    }))

  it("types: what is taken out, and what is not", () => {
    const tagged = Heartbeat.tagged("Ping", "Pong", { token: "n" })
    const received = <In, Out>(
      _: (socket: Socket.Socket) => Effect.Effect<Connection.Connection<In, Out>, unknown, unknown>
    ): { in: In; out: Out } => undefined as never
    // the two ends of one protocol
    const Event = Schema.TaggedUnion({ Ping: { n: Schema.Finite }, Pong: { n: Schema.Finite }, Said: {} })
    const server = Codec.lines().pipe(Codec.schema(Message, Event))
    const served = received(Connection.make({ codec: server, heartbeat: tagged }))
    expectTypeOf(served).toEqualTypeOf<{ in: Say; out: typeof Event.Type }>()
    const dialed = received(Connection.make({ codec: Codec.flip(server), heartbeat: tagged }))
    expectTypeOf(dialed).toEqualTypeOf<{ in: { readonly _tag: "Said" }; out: Message }>()
    // nothing is taken out where a heartbeat has no type of its own
    const text = received(Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong") }))
    expectTypeOf(text).toEqualTypeOf<{ in: string; out: string }>()
    expectTypeOf(received(Connection.make({ codec }))).toEqualTypeOf<{ in: Message; out: Message }>()
    const json = received(Connection.make({ codec: Codec.lines().pipe(Codec.json) }))
    expectTypeOf(json).toEqualTypeOf<{ in: unknown; out: unknown }>()
    const byHand: Heartbeat.Heartbeat<Message, Message> = tagged
    expectTypeOf(received(Connection.make({ codec, heartbeat: byHand }))).toEqualTypeOf<{ in: Message; out: Message }>()
    const oneWay = Codec.lines().pipe(Codec.schema(Message, Schema.Struct({ a: Schema.String })))
    // @ts-expect-error the messages that are written have no pings
    Connection.make({ codec: oneWay, heartbeat: tagged })
    // @ts-expect-error the token is no property of these pings
    Connection.make({ codec, heartbeat: Heartbeat.tagged("Ping", "Pong") })
  })
})

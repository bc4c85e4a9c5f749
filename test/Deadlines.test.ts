import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, Heartbeat, type Policy } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"
import { countingClock } from "./support/countingClock.ts"

type Chat = Connection.Connection<string, string>

/** Everything that ends a connection is off, so that a test shows the one limit it turns on. */
const quiet: Policy.Patch = { pingJitter: 0, pingEvery: 0, silence: 0, writeStall: 0, frame: 0, drain: 0 }

const chat = (policy?: Policy.Patch, goodbye?: string) =>
  Connection.make({
    codec: Codec.lines(),
    heartbeat: Heartbeat.text("ping", "pong"),
    policy: { ...quiet, ...policy },
    goodbye
  })

const open = (policy?: Policy.Patch, goodbye?: string) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const c = yield* chat(policy, goodbye)(peer.socket)
    return { c, peer }
  })

/** A socket that tells how many bytes the kernel still holds. */
const openTelling = (policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const socket = Connection.describe(peer.socket, { messages: false, unsent: peer.unsent })
    const c = yield* chat(policy)(socket)
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

const stateOf = (c: Chat) => Effect.map(c.snapshot, ({ state }) => state)

const random = (value: number): typeof Random.Random["Service"] => ({
  nextDoubleUnsafe: () => value,
  nextIntUnsafe: () => Math.floor(value * Number.MAX_SAFE_INTEGER)
})

describe("opening", () => {
  /** A socket that dials until it is told how that went. */
  const dialling = Effect.gen(function*() {
    const answer = yield* Deferred.make<void, Socket.SocketError>()
    const peer = yield* TestSocket.make()
    let held = 0
    const socket = Socket.make({
      reader: Effect.acquireRelease(
        Effect.sync(() => {
          held++
        }),
        () =>
          Effect.sync(() => {
            held--
          })
      ).pipe(Effect.andThen(Deferred.await(answer)), Effect.andThen(peer.socket.reader)),
      writer: peer.socket.writer
    })
    return { answer, held: () => held, peer, socket }
  })

  it.effect("ends with OpenTimeout at exactly the limit, and nothing stays behind", () =>
    Effect.gen(function*() {
      const { held, socket } = yield* dialling
      const { clock, sleeping } = yield* countingClock
      const scope = yield* Scope.make()
      const opening = yield* chat({ open: "10 seconds" })(socket).pipe(
        Effect.flip,
        Scope.provide(scope),
        Effect.provideService(Clock.Clock, clock),
        Effect.forkChild
      )
      yield* TestClock.adjust(9_999)
      assert.isUndefined(opening.pollUnsafe())
      assert.strictEqual(held(), 1)
      yield* TestClock.adjust(1)
      const error = yield* Fiber.join(opening)
      assert.deepInclude(error.reason, { _tag: "OpenTimeout", limit: 10_000 })
      assert.isTrue(error.isRetryable)
      // although the scope it was opened in is still there
      assert.strictEqual(held(), 0)
      assert.strictEqual(sleeping(), 0)
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("opens one millisecond before the limit, and the limit no longer counts", () =>
    Effect.gen(function*() {
      const { answer, socket } = yield* dialling
      const opening = yield* Effect.forkChild(Effect.scoped(Effect.gen(function*() {
        const c = yield* chat({ open: "10 seconds" })(socket)
        yield* Effect.sleep("1 minute")
        return yield* stateOf(c)
      })))
      yield* TestClock.adjust(9_999)
      yield* Deferred.succeed(answer, undefined)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(opening), "open")
    }))

  it.effect("B34 open 0 is no limit", () =>
    Effect.gen(function*() {
      const { held, socket } = yield* dialling
      const opening = yield* Effect.forkChild(Effect.scoped(chat({ open: 0 })(socket)))
      yield* TestClock.adjust("1 day")
      assert.isUndefined(opening.pollUnsafe())
      yield* Fiber.interrupt(opening)
      assert.strictEqual(held(), 0)
    }))

  it.effect("fails with OpenFailed when the transport does, and nothing stays behind", () =>
    Effect.gen(function*() {
      const { answer, held, socket } = yield* dialling
      const scope = yield* Scope.make()
      yield* Deferred.fail(
        answer,
        new Socket.SocketError({
          reason: new Socket.SocketOpenError({ kind: "Unknown", cause: new Error("connect ECONNREFUSED") })
        })
      )
      const error = yield* Effect.flip(Scope.provide(chat()(socket), scope))
      assert.strictEqual(error.reason._tag, "OpenFailed")
      assert.include(error.message, "ECONNREFUSED")
      assert.strictEqual(held(), 0)
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("interrupted, lets go of the transport although its scope lives on", () =>
    Effect.gen(function*() {
      const { held, socket } = yield* dialling
      const { clock, sleeping } = yield* countingClock
      const scope = yield* Scope.make()
      const opening = yield* chat()(socket).pipe(
        Scope.provide(scope),
        Effect.provideService(Clock.Clock, clock),
        Effect.forkChild({ startImmediately: true })
      )
      assert.strictEqual(held(), 1)
      yield* Fiber.interrupt(opening)
      assert.strictEqual(held(), 0)
      assert.strictEqual(sleeping(), 0)
      yield* Scope.close(scope, Exit.void)
    }))
})

describe("silence", () => {
  it.effect("B38 a byte at half the limit postpones it by exactly the limit", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ silence: "60 seconds" })
      yield* TestClock.adjust("30 seconds")
      yield* peer.send("x")
      assert.strictEqual(yield* endsAfter(c, 60_000), "SilenceTimeout")
      assert.strictEqual((yield* c.snapshot).age, 90_000)
    }))

  it.effect("F2 patching a limit each second does not re-arm it", () =>
    Effect.gen(function*() {
      const { c } = yield* open({ silence: "60 seconds" })
      for (let i = 1; i < 60; i++) {
        yield* TestClock.adjust("1 second")
        yield* c.patch({ silence: "60 seconds", drain: i })
      }
      assert.strictEqual(yield* endsAfter(c, 1_000), "SilenceTimeout")
    }))

  it.effect("F5 a huge frame that arrives slowly is not silence", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ silence: "10 seconds" })
      yield* every(9_999, 100, peer.send("x".repeat(1000)))
      assert.isUndefined(yield* reasonOf(c))
      yield* peer.send("\n")
      assert.strictEqual((yield* c.receive).length, 100_000)
      assert.strictEqual(yield* endsAfter(c, 10_000), "SilenceTimeout")
    }))

  it.effect("a limit shortened on a live connection counts from what was last heard", () =>
    Effect.gen(function*() {
      const { c } = yield* open({ silence: "1 hour" })
      yield* TestClock.adjust("10 seconds")
      yield* c.patch({ silence: "15 seconds" })
      assert.strictEqual(yield* endsAfter(c, 5_000), "SilenceTimeout")
    }))

  it.effect("a limit that has passed already when it is set ends the connection at once", () =>
    Effect.gen(function*() {
      const { c } = yield* open()
      yield* TestClock.adjust("10 seconds")
      yield* c.patch({ silence: "5 seconds" })
      yield* settle
      assert.strictEqual(yield* reasonOf(c), "SilenceTimeout")
    }))

  it.effect("a limit turned off on a live connection never fires", () =>
    Effect.gen(function*() {
      const { c } = yield* open({ silence: "10 seconds" })
      yield* TestClock.adjust(9_999)
      yield* c.patch({ silence: 0 })
      yield* TestClock.adjust("1 day")
      assert.isUndefined(yield* reasonOf(c))
    }))
})

describe("a frame", () => {
  it.effect("B46 that arrives one byte at a time is cut at the frame deadline, although bytes keep coming", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ frame: "60 seconds", silence: "10 seconds" })
      yield* TestClock.adjust("5 seconds")
      yield* peer.send("x")
      yield* every(1_000, 59, peer.send("x"))
      assert.strictEqual(yield* endsAfter(c, 1_000), "FrameTimeout")
      assert.deepInclude((yield* c.snapshot).reason, { limit: 60_000, received: 60 })
    }))

  it.effect("that is completed in time is not cut, and the next one has its own deadline", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ frame: "60 seconds" })
      yield* peer.send("a")
      yield* TestClock.adjust(59_999)
      yield* peer.send("a\nb")
      assert.strictEqual(yield* c.receive, "aa")
      assert.strictEqual(yield* endsAfter(c, 60_000), "FrameTimeout")
    }))

  it.effect("has no deadline between frames", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ frame: "1 second" })
      yield* peer.send("a\n")
      yield* TestClock.adjust("10 minutes")
      assert.isUndefined(yield* reasonOf(c))
    }))

  it.effect("is not held against the peer while our own inbox is full", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ frame: "10 seconds", inboxMessages: 1 })
      yield* peer.send("a\nb")
      yield* TestClock.adjust("9 seconds")
      yield* peer.send("b")
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(yield* reasonOf(c))
      assert.strictEqual(yield* c.receive, "a")
      yield* settle
      assert.strictEqual(yield* endsAfter(c, 10_000), "FrameTimeout")
    }))
})

describe("idle", () => {
  it.effect("B19 an idle connection is closed at its idle limit, a busy one is not", () =>
    Effect.gen(function*() {
      const idle = yield* open({ idle: "30 seconds" })
      assert.strictEqual(yield* endsAfter(idle.c, 30_000), "IdleTimeout")

      const receiving = yield* open({ idle: "30 seconds" })
      yield* every(29_999, 20, receiving.peer.send("x\n"))
      assert.isUndefined(yield* reasonOf(receiving.c))
      assert.strictEqual(yield* endsAfter(receiving.c, 30_000), "IdleTimeout")

      const sending = yield* open({ idle: "30 seconds" })
      yield* every(29_999, 20, sending.c.send("x"))
      assert.isUndefined(yield* reasonOf(sending.c))
      assert.strictEqual(yield* endsAfter(sending.c, 30_000), "IdleTimeout")
    }))

  it.effect("B19 pings, pongs and half a message are not business", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ idle: "30 seconds", pingEvery: "5 seconds" })
      yield* every(5_000, 5, peer.send("pong\nping\n"))
      yield* peer.send("hal")
      assert.strictEqual(yield* endsAfter(c, 5_000), "IdleTimeout")
    }))
})

describe("age", () => {
  for (const [drawn, age] of [[0, 54_000], [0.5, 60_000], [0.75, 63_000]] as const) {
    it.effect(`B20 asked to leave at ${age} ms of 60 s, drawn once; forced after the grace`, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* Effect.provideService(
          open({ maxAge: "60 seconds", maxAgeGrace: "30 seconds" }, "bye"),
          Random.Random,
          random(drawn)
        )
        const leaving = yield* Effect.forkChild(c.leaving, { startImmediately: true })
        yield* TestClock.adjust(age - 1)
        assert.isUndefined(leaving.pollUnsafe())
        assert.strictEqual(yield* peer.text, "")
        yield* TestClock.adjust(1)
        assert.isDefined(leaving.pollUnsafe())
        assert.strictEqual(yield* peer.text, "bye\n")
        // business as usual until the grace is over
        yield* peer.send("more\n")
        assert.strictEqual(yield* c.receive, "more")
        yield* c.send("answer")
        assert.strictEqual(yield* endsAfter(c, 30_000), "MaxAge")
        assert.strictEqual(yield* peer.text, "bye\nanswer\n")
      }))
  }

  it.effect("B20 the jitter is drawn once: patching the age does not draw again", () =>
    Effect.gen(function*() {
      let draws = 0
      const counted: typeof Random.Random["Service"] = {
        nextDoubleUnsafe: () => {
          draws++
          return 0.5
        },
        nextIntUnsafe: () => 0
      }
      const { c } = yield* Effect.provideService(open({ maxAge: "1 hour", maxAgeGrace: 0 }), Random.Random, counted)
      const before = draws
      yield* TestClock.adjust("10 seconds")
      for (let i = 0; i < 10; i++) yield* c.patch({ maxAge: "1 minute" })
      assert.strictEqual(draws, before)
      assert.strictEqual(yield* endsAfter(c, 50_000), "MaxAge")
    }))

  it.effect("B20 without a grace it is asked and ended at once; a drain still lets answers leave", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* Effect.provideService(
        open({ maxAge: "60 seconds", maxAgeGrace: 0, drain: "5 seconds" }, "bye"),
        Random.Random,
        random(0.5)
      )
      yield* peer.send("question\n")
      yield* TestClock.adjust("60 seconds")
      yield* c.leaving
      assert.strictEqual(yield* peer.text, "bye\n")
      assert.strictEqual(yield* stateOf(c), "draining")
      assert.strictEqual(yield* c.receive, "question")
      assert.strictEqual((yield* Effect.flip(c.receive)).reason._tag, "MaxAge")
      yield* c.send("answer")
      assert.strictEqual(yield* endsAfter(c, 5_000), "MaxAge")
      assert.strictEqual(yield* peer.text, "bye\nanswer\n")
    }))

  it.effect("a handler that leaves when it is asked ends its connection without an error", () =>
    Effect.gen(function*() {
      const { c } = yield* Effect.provideService(open({ maxAge: "60 seconds" }), Random.Random, random(0.5))
      yield* Effect.forkChild(Effect.andThen(c.leaving, c.close))
      assert.strictEqual(yield* endsAfter(c, 60_000), "Closed")
    }))
})

describe("a peer that takes our bytes slowly", () => {
  it.effect("B39 and makes progress is not stalled; no progress is", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ writeStall: "10 seconds" })
      yield* peer.window(0)
      // five writes of 64 KiB, each of which takes 9.999 s to leave
      yield* c.send("x".repeat(5 * 64 * 1024 - 1))
      for (let i = 0; i < 4; i++) {
        yield* TestClock.adjust(9_999)
        assert.isUndefined(yield* reasonOf(c))
        yield* peer.window(64 * 1024)
      }
      assert.strictEqual(yield* endsAfter(c, 10_000), "WriteStalled")
      assert.include((yield* c.snapshot).reason!.message, "10 s")
    }))

  it.effect("B39 never took anything: cut at the limit", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ writeStall: "10 seconds" })
      yield* TestClock.adjust("3 seconds")
      yield* peer.window(0)
      yield* c.send("x")
      yield* settle
      assert.strictEqual(yield* endsAfter(c, 10_000), "WriteStalled")
      assert.strictEqual((yield* c.snapshot).lost, 1)
    }))

  it.effect("B39 it is the writing that counts, not the time between writes", () =>
    Effect.gen(function*() {
      const { c } = yield* openTelling({ writeStall: "10 seconds" })
      for (let i = 0; i < 20; i++) {
        yield* TestClock.adjust(9_900)
        yield* c.send("x")
        yield* settle
      }
      yield* TestClock.adjust("1 day")
      assert.isUndefined(yield* reasonOf(c))
    }))

  it.effect("B44 one byte each limit - 1 survives", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openTelling({ writeStall: "10 seconds" })
      yield* peer.window(0)
      yield* c.send("x".repeat(200))
      for (let i = 0; i < 100; i++) {
        yield* TestClock.adjust(9_999)
        assert.isUndefined(yield* reasonOf(c), `byte ${i}`)
        yield* peer.window(1)
      }
      yield* peer.window(Infinity)
      assert.strictEqual(yield* peer.take, "x".repeat(200) + "\n")
      yield* TestClock.adjust("1 day")
      assert.isUndefined(yield* reasonOf(c))
    }))

  it.effect("B44 a stall from the first byte closes at exactly the limit", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openTelling({ writeStall: "10 seconds" })
      // an earlier write that went well has nothing to do with it
      yield* c.send("before")
      yield* TestClock.adjust("24 seconds")
      yield* peer.window(0)
      yield* c.send("x".repeat(200))
      yield* settle
      assert.strictEqual(yield* endsAfter(c, 10_000), "WriteStalled")
    }))

  it.effect("B44 a stall in the middle closes after the limit, and at most a quarter of it later", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openTelling({ writeStall: "10 seconds" })
      yield* peer.window(0)
      yield* c.send("x".repeat(200))
      for (let i = 0; i < 20; i++) {
        yield* TestClock.adjust(1_300)
        yield* peer.window(1)
      }
      const stalledAt = (yield* c.snapshot).age
      yield* TestClock.adjust(9_999)
      assert.isUndefined(yield* reasonOf(c))
      yield* TestClock.adjust(2_501)
      assert.strictEqual(yield* reasonOf(c), "WriteStalled")
      assert.isAtMost((yield* c.snapshot).age - stalledAt, 12_500)
    }))

  it.effect("B44 so does one that begins right after its write, and one after an idle hour", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openTelling({ writeStall: "10 seconds" })
      for (const idle of ["1 milli", "1 hour"] as const) {
        yield* TestClock.adjust(idle)
        yield* c.send("taken at once")
        yield* TestClock.adjust(1)
        yield* peer.window(0)
        yield* c.send("x".repeat(200))
        yield* settle
        yield* TestClock.adjust(1)
        yield* peer.window(100)
        yield* TestClock.adjust(9_999)
        assert.isUndefined(yield* reasonOf(c))
        yield* TestClock.adjust(2_000)
        yield* peer.window(Infinity)
        yield* settle
        assert.isUndefined(yield* reasonOf(c))
      }
      yield* peer.window(0)
      yield* c.send("x".repeat(200))
      yield* settle
      yield* TestClock.adjust(1)
      yield* peer.window(100)
      yield* TestClock.adjust(9_999)
      assert.isUndefined(yield* reasonOf(c))
      yield* TestClock.adjust(2_501)
      assert.strictEqual(yield* reasonOf(c), "WriteStalled")
    }))

  it.effect("B44 progress in the first quarter counts, although nothing follows in the others", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openTelling({ writeStall: "10 seconds" })
      yield* TestClock.adjust("3 seconds")
      yield* peer.window(0)
      yield* c.send("x".repeat(200))
      yield* TestClock.adjust("2 seconds")
      yield* peer.window(1)
      yield* TestClock.adjust(9_999)
      assert.isUndefined(yield* reasonOf(c))
      yield* TestClock.adjust(2_501)
      assert.strictEqual(yield* reasonOf(c), "WriteStalled")
    }))

  it.effect("looking for progress costs a timer each quarter of the limit, not one a message", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let sleeps = 0
      const counted: Clock.Clock = {
        ...clock,
        sleep: (duration) => {
          sleeps++
          return clock.sleep(duration)
        }
      }
      const { c } = yield* Effect.provideService(openTelling({ writeStall: "10 seconds" }), Clock.Clock, counted)
      yield* every(10, 2_000, Effect.andThen(c.send("x"), settle))
      // 20 s of a message each 10 ms: one look at the start, the first write, and eight quarters
      assert.isAtMost(sleeps, 12)
    }))

  it.effect("B44 a write that begins where an earlier one ended has the whole limit", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openTelling({ writeStall: "10 seconds" })
      // one that is taken at once, just after the deadlines were looked at; nobody looks before the next one stalls
      yield* c.send("first")
      yield* settle
      yield* TestClock.adjust("9 seconds")
      yield* peer.window(0)
      yield* c.send("second")
      yield* settle
      yield* TestClock.adjust(9_999)
      assert.isUndefined(yield* reasonOf(c))
      // here progress of the first is seen when the second is looked at
      yield* TestClock.adjust(2_500)
      assert.strictEqual(yield* reasonOf(c), "WriteStalled")
    }))
})

describe("half-close", () => {
  it.effect("the peer's FIN: buffered messages are received, answers leave, and it ends after halfClose", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ halfClose: "5 seconds" })
      yield* peer.send("a\nb\n")
      yield* peer.end
      yield* settle
      assert.strictEqual(yield* stateOf(c), "draining")
      assert.strictEqual(yield* c.receive, "a")
      assert.strictEqual(yield* c.receive, "b")
      const error = yield* Effect.flip(c.receive)
      assert.deepInclude(error.reason, { _tag: "Closed", by: "peer" })
      yield* c.send("A")
      assert.strictEqual(yield* peer.take, "A\n")
      yield* TestClock.adjust(4_999)
      yield* c.send("B")
      assert.strictEqual(yield* peer.take, "B\n")
      assert.isUndefined(yield* reasonOf(c))
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* reasonOf(c), "Closed")
      assert.strictEqual(yield* Effect.flip(c.send("C")), error)
    }))

  it.effect("close after the peer's FIN ends it without waiting for the rest of halfClose", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ halfClose: "5 seconds", drain: "5 seconds" })
      yield* peer.end
      yield* settle
      yield* c.send("last")
      yield* c.close
      assert.strictEqual(yield* peer.text, "last\n")
      assert.deepInclude((yield* c.snapshot).reason, { _tag: "Closed", by: "peer" })
    }))

  it.effect("halfClose 0 ends at once, and what came before is received", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ halfClose: 0 })
      yield* peer.send("a\n")
      yield* peer.end
      yield* settle
      assert.strictEqual(yield* reasonOf(c), "Closed")
      assert.strictEqual(yield* c.receive, "a")
      assert.strictEqual((yield* Effect.flip(c.send("x"))).reason._tag, "Closed")
    }))

  it.effect("halfClose 0 does not cut off a close that is flushing, nor a drain", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ halfClose: 0, drain: "5 seconds" })
      yield* peer.window(0)
      yield* c.sendAll(["1", "2"])
      yield* settle
      yield* Effect.forkChild(c.close, { startImmediately: true })
      yield* peer.end
      yield* settle
      assert.strictEqual(yield* stateOf(c), "closing")
      yield* peer.window(Infinity)
      yield* settle
      assert.strictEqual(yield* peer.text, "1\n2\n")
      assert.deepInclude((yield* c.snapshot).reason, { _tag: "Closed", by: "local" })

      const drained = yield* open({ halfClose: 0, drain: "5 seconds" })
      yield* drained.c.drainWith(new ConnectionError.GoingAway({}))
      yield* drained.peer.end
      yield* settle
      yield* drained.c.send("answer")
      assert.strictEqual(yield* drained.peer.take, "answer\n")
      assert.strictEqual(yield* endsAfter(drained.c, 5_000), "GoingAway")
    }))

  it.effect("a FIN inside a frame is Truncated, and answers still leave", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ halfClose: "5 seconds" })
      yield* peer.send("a\nhal")
      yield* peer.end
      assert.strictEqual(yield* c.receive, "a")
      assert.deepInclude((yield* Effect.flip(c.receive)).reason, { _tag: "Truncated", leftover: 3 })
      yield* c.send("A")
      assert.strictEqual(yield* peer.take, "A\n")
    }))

  it.effect("no reading limit counts any more once the peer has finished", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({
        halfClose: "1 hour",
        silence: "10 seconds",
        frame: "10 seconds",
        idle: "10 seconds",
        pingEvery: "3 seconds",
        pong: "2 seconds"
      })
      yield* peer.end
      assert.strictEqual(yield* endsAfter(c, 3_600_000), "Closed")
      // and nobody is pinged who cannot answer
      assert.strictEqual(yield* peer.text, "")
    }))
})

describe("draining and closing", () => {
  it.effect("drainWith: goodbye, nothing new is received, answers leave, ends after drain", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ drain: "5 seconds" }, "bye")
      const leaving = yield* Effect.forkChild(c.leaving, { startImmediately: true })
      yield* peer.send("before\n")
      yield* settle
      yield* c.drainWith(new ConnectionError.GoingAway({}))
      assert.strictEqual(yield* peer.take, "bye\n")
      assert.isDefined(leaving.pollUnsafe())
      // whatever it is: a message, a ping, or nothing the codec would take
      yield* peer.send("after\nping\n", "x".repeat(2_000_000))
      yield* settle
      assert.strictEqual(yield* c.receive, "before")
      assert.strictEqual((yield* Effect.flip(c.receive)).reason._tag, "GoingAway")
      yield* c.send("answer")
      assert.strictEqual(yield* peer.take, "answer\n")
      assert.strictEqual(yield* endsAfter(c, 5_000), "GoingAway")
      assert.strictEqual(yield* peer.text, "bye\nanswer\n")
    }))

  it.effect("drainWith twice says goodbye once, and the first reason and deadline stay", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ drain: "5 seconds" }, "bye")
      yield* c.drainWith(new ConnectionError.GoingAway({}))
      yield* TestClock.adjust("3 seconds")
      yield* c.drainWith(new ConnectionError.Swept({}))
      assert.strictEqual(yield* endsAfter(c, 2_000), "GoingAway")
      assert.strictEqual(yield* peer.text, "bye\n")
    }))

  it.effect("F4 close on a dead link ends at the drain deadline", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ drain: "5 seconds" })
      yield* peer.window(0)
      yield* c.send("x")
      yield* settle
      const closing = yield* Effect.forkChild(c.close, { startImmediately: true })
      assert.strictEqual(yield* stateOf(c), "closing")
      assert.strictEqual(yield* endsAfter(c, 5_000), "Closed")
      assert.isDefined(closing.pollUnsafe())
      yield* peer.released
      assert.strictEqual((yield* c.snapshot).lost, 1)
    }))

  it.effect("F4 a peer that stops taking bytes while closing is cut at writeStall when that is sooner", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ drain: "1 hour", writeStall: "10 seconds" })
      yield* peer.window(0)
      yield* c.send("x")
      yield* settle
      yield* Effect.forkChild(c.close)
      assert.strictEqual(yield* endsAfter(c, 10_000), "Closed")
    }))

  /** A transport that takes every write at once and holds it until the peer takes it, as a stream of Node does. */
  const openHolding = (policy?: Policy.Patch) =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      let held = 0
      const socket = Socket.make({
        reader: peer.socket.reader,
        writer: Effect.map(peer.socket.writer, (writer) => ({
          ...writer,
          writeAll: (chunks) =>
            Effect.suspend(() => {
              for (const chunk of chunks) held += chunk.length
              return writer.writeAll(chunks)
            })
        }))
      })
      const c = yield* chat(policy)(Connection.describe(socket, { messages: false, unsent: () => held }))
      return {
        c,
        peer,
        taken: Effect.sync(() => {
          held = 0
        })
      }
    })

  it.effect("B75 close waits until the transport has nothing left, and ends within 20 ms of it", () =>
    Effect.gen(function*() {
      const { c, peer, taken } = yield* openHolding({ drain: "5 seconds" })
      yield* c.send("last words")
      const closing = yield* Effect.forkChild(c.close, { startImmediately: true })
      yield* TestClock.adjust("4900 millis")
      // all is written and flushed, but the peer has none of it
      assert.strictEqual(yield* peer.text, "last words\n")
      assert.isUndefined(closing.pollUnsafe())
      assert.strictEqual(yield* peer.finished, false)
      yield* taken
      yield* TestClock.adjust(20)
      assert.isDefined(closing.pollUnsafe())
      assert.strictEqual(yield* reasonOf(c), "Closed")
      assert.strictEqual(yield* peer.finished, true)
    }))

  it.effect("B75 but no longer than the drain, and not with a peer that is gone", () =>
    Effect.gen(function*() {
      const slow = yield* openHolding({ drain: "5 seconds" })
      yield* slow.c.send("last words")
      yield* Effect.forkChild(slow.c.close, { startImmediately: true })
      assert.strictEqual(yield* endsAfter(slow.c, 5_000), "Closed")

      const gone = yield* openHolding({ drain: "5 seconds" })
      yield* gone.c.send("last words")
      yield* Effect.forkChild(gone.c.close, { startImmediately: true })
      yield* TestClock.adjust("1 second")
      yield* gone.peer.reset
      yield* settle
      assert.strictEqual(yield* reasonOf(gone.c), "Closed")
    }))

  it.effect("B41 closing unblocks a waiting receive with the closed reason, not a timeout", () =>
    Effect.gen(function*() {
      const { c } = yield* open({ silence: "60 seconds" })
      const waiting = yield* Effect.forkChild(Effect.flip(c.receive))
      const waitingForAll = yield* Effect.forkChild(Effect.flip(c.receiveAll))
      yield* TestClock.adjust("59 seconds")
      yield* c.close
      for (const error of [yield* Fiber.join(waiting), yield* Fiber.join(waitingForAll)]) {
        assert.deepInclude(error.reason, { _tag: "Closed", by: "local" })
      }
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* reasonOf(c), "Closed")
    }))

  it.effect("B40 nothing fires after close: no timer and no finalizer is left", () =>
    Effect.gen(function*() {
      const { clock, sleeping } = yield* countingClock
      const scope = yield* Scope.make()
      const ways: ReadonlyArray<(c: Chat, peer: TestSocket.Peer) => Effect.Effect<unknown>> = [
        (c) => c.close,
        (c) => c.closeWith(new ConnectionError.Swept({})),
        (_, peer) => peer.reset,
        (_, peer) => peer.send("x".repeat(2_000_000)),
        () => TestClock.adjust("60 seconds"),
        (_, peer) => Effect.andThen(peer.end, TestClock.adjust("5 seconds"))
      ]
      const everything: Policy.Patch = {
        pingEvery: "25 seconds",
        pong: "40 seconds",
        silence: "60 seconds",
        writeStall: "10 seconds",
        frame: "60 seconds",
        idle: "1 hour",
        maxAge: "1 day",
        drain: "5 seconds"
      }
      for (const [i, end] of ways.entries()) {
        const peer = yield* TestSocket.make()
        const c = yield* chat(everything)(peer.socket).pipe(
          Scope.provide(scope),
          Effect.provideService(Clock.Clock, clock)
        )
        yield* settle
        // pings and deadlines share a sleep
        assert.strictEqual(sleeping(), 1)
        yield* end(c, peer)
        yield* settle
        assert.strictEqual(yield* stateOf(c), "ended", `way ${i}`)
        yield* peer.released
        assert.strictEqual(sleeping(), 0, `way ${i}`)
        // the scope is still open, and what it holds of a connection that has ended is its close, which does nothing
        const { state } = scope
        assert.strictEqual(state._tag === "Open" ? state.finalizers?.size ?? 1 : -1, i + 1)
        const before = yield* c.snapshot
        yield* TestClock.adjust("2 days")
        assert.deepStrictEqual(yield* c.snapshot, before)
      }
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("B40 a connection made late still arms", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("400 days")
      const { c } = yield* open({ silence: "60 seconds" })
      assert.strictEqual(yield* endsAfter(c, 60_000), "SilenceTimeout")
    }))
})

describe("limits", () => {
  it.effect("that are no whole number of milliseconds are rounded up to one, not slept away in crumbs", () =>
    Effect.gen(function*() {
      const { c } = yield* open({ silence: 1000 / 3, frame: 10_000 / 7 })
      assert.strictEqual(yield* endsAfter(c, 334), "SilenceTimeout")
      assert.strictEqual((yield* c.snapshot).age, 334)
    }))

  it("B34 negative limits are rejected by name", () => {
    for (
      const name of [
        "pingEvery",
        "pong",
        "silence",
        "writeStall",
        "frame",
        "idle",
        "maxAge",
        "halfClose",
        "drain"
      ] as const
    ) {
      assert.throws(() => chat({ [name]: -1 }), new RegExp(`invalid policy.*${name}`))
    }
  })

  it.effect("B34 0 and Infinity are off where documented: a year without a byte, and a peer that takes none", () =>
    Effect.gen(function*() {
      for (const off of [0, Infinity]) {
        const { c, peer } = yield* openTelling({
          pingEvery: off,
          pong: off,
          silence: off,
          writeStall: off,
          frame: off,
          idle: off,
          maxAge: off
        })
        yield* peer.send("half a mess")
        yield* peer.window(0)
        yield* c.send("x")
        yield* TestClock.adjust("365 days")
        assert.isUndefined(yield* reasonOf(c))
      }
    }))

  it.effect("B42 setting limits concurrently with reads and writes 1000 times is safe", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ pingEvery: "10 seconds", silence: "60 seconds", writeStall: "10 seconds" })
      const patching = yield* Effect.forkChild(Effect.forEach(
        Array.from({ length: 1000 }, (_, i) => i),
        (i) =>
          Effect.andThen(
            c.patch({
              silence: 30_000 + i,
              pingEvery: 10_000 + i,
              outboxMessages: 1 + (i % 50),
              inboxMessages: 1 + (i % 50),
              outboxBytes: 64 + i,
              idle: i % 2 === 0 ? 0 : 40_000
            }),
            Effect.yieldNow
          ),
        { concurrency: 50, discard: true }
      ))
      const sending = yield* Effect.forkChild(Effect.forEach(
        Array.from({ length: 1000 }, (_, i) => i),
        (i) => c.send(`out ${i}`),
        { discard: true }
      ))
      const feeding = yield* Effect.forkChild(Effect.forEach(
        Array.from({ length: 1000 }, (_, i) => i),
        (i) => Effect.andThen(peer.send(`in ${i}\n`), Effect.yieldNow),
        { discard: true }
      ))
      const received: Array<string> = []
      while (received.length < 1000) received.push(...yield* c.receiveAll)
      yield* Fiber.join(patching)
      yield* Fiber.join(sending)
      yield* Fiber.join(feeding)
      yield* c.flush
      assert.deepStrictEqual(received, Array.from({ length: 1000 }, (_, i) => `in ${i}`))
      assert.strictEqual(yield* peer.text, Array.from({ length: 1000 }, (_, i) => `out ${i}\n`).join(""))
      assert.deepInclude(yield* c.policy, { outboxMessages: 50, inboxMessages: 50 })
      // and the limit that was set last is the one that holds
      yield* c.patch({ idle: 0, pingEvery: 0 })
      assert.strictEqual(yield* endsAfter(c, 30_999), "SilenceTimeout")
    }))

  it.effect("an invalid patch fails by name and changes nothing", () =>
    Effect.gen(function*() {
      const { c } = yield* open({ silence: "60 seconds" })
      const before = yield* c.policy
      const error = yield* Effect.flip(c.patch({ silence: "10 seconds", outboxMessages: 0 }))
      assert.include(error.message, "outboxMessages")
      assert.strictEqual(yield* c.policy, before)
      assert.strictEqual(yield* endsAfter(c, 60_000), "SilenceTimeout")
    }))
})

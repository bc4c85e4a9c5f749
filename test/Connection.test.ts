import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, Heartbeat, type Policy } from "../src/index.ts"
import { TypeId } from "../src/internal/connection/handle/internals.ts"
import { TestSocket } from "../src/testing/index.ts"
import { countingClock } from "./support/countingClock.ts"

type Chat = Connection.Connection<string, string>

/** Everything that ends a connection is off, so that a test shows the one limit it turns on. */
const quiet: Policy.Patch = { pingJitter: 0, pingEvery: 0, silence: 0, writeStall: 0, frame: 0 }

const chat = (policy?: Policy.Patch) =>
  Connection.make({
    codec: Codec.lines(),
    heartbeat: Heartbeat.text("ping", "pong"),
    policy: { ...quiet, ...policy }
  })

const open = (policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const c = yield* chat(policy)(peer.socket)
    return { c, peer }
  })

/** A connection in a scope of its own. */
const openIn = (policy?: Policy.Patch) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const { c, peer } = yield* Scope.provide(open(policy), scope)
    return { c, peer, scope }
  })

const reasonOf = (c: Chat): Effect.Effect<ConnectionError.Reason["_tag"] | undefined> =>
  Effect.map(c.snapshot, ({ reason, state }) => (state === "ended" ? reason!._tag : undefined))

/** Lets everybody who can run do so. */
const settle = Effect.repeat(Effect.yieldNow, { times: 10 })

const started = { startImmediately: true } as const

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`)
const lines = (messages: ReadonlyArray<string>) => messages.map((message) => `${message}\n`).join("")

describe("an iterable that is sent", () => {
  for (
    const [what, inner, seen] of [["little", "in", "in\n"], [
      "much",
      "x".repeat(100_000),
      `${"x".repeat(100_000)}\n`
    ]] as const
  ) {
    it.effect(`B104 may send ${what} by itself before it throws: that is sent, and nothing of its own`, () =>
      Effect.gen(function*() {
        const { c, peer } = yield* open()
        const messages = function*() {
          yield "mine"
          Effect.runSync(c.send(inner))
          yield "mine too"
          throw new Error("bug")
        }
        const exit = yield* Effect.exit(c.sendAll(messages()))
        assert.isTrue(Exit.hasDies(exit))
        yield* settle
        yield* c.flush
        assert.strictEqual(yield* peer.text, seen)
        const { messagesOut, outbox } = yield* c.snapshot
        assert.deepStrictEqual([messagesOut, outbox], [1, { messages: 0, bytes: 0 }])
      }))
  }

  it.effect("B104 a message that sends while it is encoded, and throws then, spoils no count", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const c = yield* Connection.make({ codec: Codec.lines().pipe(Codec.json) as Codec.Codec<unknown> })(peer.socket)
      const toJSON = () => {
        Effect.runSync(c.send("inner"))
        throw new Error("bug")
      }
      assert.strictEqual((yield* Effect.flip(c.sendAll([1, { toJSON }]))).reason._tag, "InvalidMessage")
      yield* c.send(2)
      yield* c.flush
      assert.strictEqual(yield* peer.text, "1\n\"inner\"\n2\n")
      assert.deepStrictEqual((yield* c.snapshot).outbox, { messages: 0, bytes: 0 })
    }))
})

describe("a conversation", () => {
  it.effect("both ways, pings in between, close with a half-close", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ pingEvery: "25 seconds" })
      yield* peer.send("hello\nwor", "ld\n")
      assert.deepStrictEqual(yield* c.receiveAll, ["hello", "world"])
      yield* c.send("hi")
      assert.strictEqual(yield* peer.take, "hi\n")
      yield* TestClock.adjust("25 seconds")
      assert.strictEqual(yield* peer.take, "ping\n")
      yield* peer.send("ping\n")
      assert.strictEqual(yield* peer.take, "pong\n")
      yield* c.close
      assert.deepInclude((yield* Effect.flip(c.receive)).reason, { _tag: "Closed", by: "local" })
      assert.strictEqual(yield* peer.finished, true)
      yield* peer.released
    }))

  it.effect("make takes the socket first, too, and a policy that makes no sense throws by name", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const c = yield* Connection.make(peer.socket, { codec: Codec.lines() })
      yield* c.send("x")
      assert.strictEqual(yield* peer.take, "x\n")
      assert.throws(() => chat({ lowWater: 2 }), /lowWater/)
    }))

  it.effect("ids count up and are never reused", () =>
    Effect.gen(function*() {
      const first = yield* open()
      yield* first.c.close
      const second = yield* open()
      const third = yield* open()
      assert.strictEqual(second.c.id, first.c.id + 1)
      assert.strictEqual(third.c.id, first.c.id + 2)
    }))

  it.effect("connections of one make share their wire, of another make they do not", () =>
    Effect.gen(function*() {
      const make = chat()
      const [a, b] = [yield* make((yield* TestSocket.make()).socket), yield* make((yield* TestSocket.make()).socket)]
      assert.strictEqual(a.wire, b.wire)
      assert.notStrictEqual(a.wire, (yield* open()).c.wire)
      const frame = Result.getOrThrow(a.wire.encode("x"))
      assert.isTrue(yield* a.offerFrame(frame))
      assert.isTrue(yield* b.offerFrame(frame))
    }))

  it.effect("messages is a stream of all of them, and then the reason", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ halfClose: 0 })
      yield* peer.send("a\nb\n")
      yield* peer.send("c\n")
      yield* peer.end
      const got: Array<string> = []
      const error = yield* Effect.flip(Stream.runForEach(Connection.messages(c), (message) =>
        Effect.sync(() => {
          got.push(message)
        })))
      assert.deepStrictEqual(got, ["a", "b", "c"])
      assert.deepInclude(error.reason, { _tag: "Closed", by: "peer" })
    }))

  it.effect("the snapshot knows addresses, times, bytes and messages", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      yield* TestClock.adjust("1 hour")
      const c = yield* chat({ inboxMessages: 2 })(
        Connection.describe(peer.socket, { messages: false, local: "here:1", remote: "there:2" })
      )
      yield* TestClock.adjust("10 seconds")
      yield* peer.send("ä\nb")
      yield* c.sendAll(["ä", "out"])
      yield* settle
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* c.snapshot, {
        id: c.id,
        state: "open",
        local: "here:1",
        remote: "there:2",
        openedAt: 3_600_000,
        age: 15_000,
        quietFor: 5_000,
        bytesIn: 4,
        bytesOut: 7,
        messagesIn: 1,
        messagesOut: 2,
        inbox: { messages: 1, bytes: 3 },
        outbox: { messages: 0, bytes: 0 },
        dropped: 0,
        skipped: 0,
        lost: 0,
        paused: false,
        rtt: undefined,
        reason: undefined
      })
      yield* peer.window(0)
      yield* c.send("x")
      yield* settle
      yield* c.send("yy")
      assert.deepStrictEqual((yield* c.snapshot).outbox, { messages: 1, bytes: 3 })
      yield* peer.window(Infinity)
    }))

  it.effect("over-long frames that the codec passes over are counted", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const c = yield* Connection.make({ codec: Codec.lines({ tooLong: "skip", maxFrame: 5 }), policy: quiet })(
        peer.socket
      )
      yield* peer.send("123456\nok\n1234567\n")
      assert.strictEqual(yield* c.receive, "ok")
      assert.strictEqual((yield* c.snapshot).skipped, 2)
    }))
})

describe("the end", () => {
  it.effect("B26 a lost connection fails everything in flight with the same stored reason", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ outboxMessages: 1 })
      yield* peer.window(0)
      yield* c.send("being written")
      yield* settle
      yield* c.send("waiting")
      const fibers = yield* Effect.forEach(
        [c.receive, c.receive, c.receiveAll, c.send("x"), c.sendAll(["y", "z"]), c.flush, c.closed],
        (effect) =>
          Effect.forkChild(Effect.flip(effect as Effect.Effect<unknown, ConnectionError.ConnectionError>), started)
      )
      const writable = yield* Effect.forkChild(c.awaitWritable, started)
      const leaving = yield* Effect.forkChild(c.leaving, started)
      yield* settle
      assert.isTrue(fibers.every((fiber) => fiber.pollUnsafe() === undefined))
      yield* peer.reset
      const errors = yield* Fiber.joinAll(fibers)
      assert.strictEqual(new Set(errors).size, 1)
      const error = errors[0] as ConnectionError.ConnectionError
      assert.strictEqual(error.reason._tag, "Reset")
      assert.strictEqual((yield* c.snapshot).reason, error.reason)
      yield* Fiber.join(writable)
      yield* Fiber.join(leaving)
      // and whatever comes later
      for (const effect of [c.receive, c.receiveAll, c.send("x"), c.sendAll([]), c.flush, c.closed]) {
        assert.strictEqual(yield* Effect.flip(effect as Effect.Effect<unknown, ConnectionError.ConnectionError>), error)
      }
    }))

  it.effect("B43 a reset is a different reason from an end of stream", () =>
    Effect.gen(function*() {
      const fin = yield* open({ halfClose: 0 })
      yield* fin.peer.send("last words\n")
      yield* fin.peer.end
      yield* settle
      const closed = yield* Effect.flip(fin.c.closed)
      assert.deepInclude(closed.reason, { _tag: "Closed", by: "peer" })
      assert.strictEqual(yield* fin.c.receive, "last words")

      const rst = yield* open()
      yield* rst.peer.reset
      const reset = yield* Effect.flip(rst.c.closed)
      assert.strictEqual(reset.reason._tag, "Reset")
      assert.include(reset.message, "ECONNRESET")
    }))

  it.effect("B43 a reset while writing is a reset as well", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      yield* peer.window(0)
      yield* c.send("x")
      yield* settle
      yield* peer.reset
      assert.strictEqual((yield* Effect.flip(c.closed)).reason._tag, "Reset")
    }))

  it.effect("B47 after a write failed the connection is never used again", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      let writes = 0
      const failure = new Socket.SocketError({
        reason: new Socket.SocketWriteError({ cause: new Error("no buffer space") })
      })
      const socket = Socket.make({
        reader: peer.socket.reader,
        writer: Effect.map(peer.socket.writer, (writer) => ({
          ...writer,
          writeAll: () =>
            Effect.suspend(() => {
              writes++
              return Effect.fail(failure)
            })
        }))
      })
      const c = yield* chat({ pingEvery: "10 seconds" })(socket)
      yield* c.send("1")
      const error = yield* Effect.flip(c.closed)
      assert.deepInclude(error.reason, { _tag: "TransportFailed", operation: "write" })
      assert.include(error.message, "no buffer space")
      assert.strictEqual(yield* Effect.flip(c.send("2")), error)
      yield* peer.send("ping\n")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(writes, 1)
      yield* peer.released
      assert.strictEqual((yield* c.snapshot).lost, 1)
    }))

  it.effect("a frame that does not follow the codec ends it, and what came before it is received", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ maxFrame: 10 })
      yield* peer.send("before\n" + "x".repeat(11))
      assert.strictEqual(yield* c.receive, "before")
      const error = yield* Effect.flip(c.receive)
      assert.deepInclude(error.reason, { _tag: "FrameTooLong", direction: "decode", limit: 10 })
      yield* peer.released
    }))

  it.effect("closeWith: the reason is the first one, everywhere, and close after it changes nothing", () =>
    Effect.gen(function*() {
      const { c } = yield* open()
      const reason = new ConnectionError.Superseded({ key: "ada" })
      yield* c.closeWith(reason)
      yield* c.closeWith(new ConnectionError.Swept({}))
      yield* c.close
      yield* c.drainWith(new ConnectionError.GoingAway({}))
      const error = yield* Effect.flip(c.receive)
      assert.strictEqual(error.reason, reason)
      assert.isFalse(error.isRetryable)
      for (const effect of [c.send("x"), c.flush, c.closed]) {
        assert.strictEqual(yield* Effect.flip(effect as Effect.Effect<unknown, ConnectionError.ConnectionError>), error)
      }
      assert.strictEqual((yield* c.snapshot).reason, reason)
    }))

  it.effect("close is safe anywhere: in the handler of a message, in many fibers at once, again and again", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const handler = yield* Effect.forkChild(Effect.exit(
        Stream.runForEach(Connection.messages(c), (message) => message === "quit" ? c.close : c.send(message))
      ))
      yield* peer.send("a\nquit\nb\n")
      const exit = yield* Fiber.join(handler)
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(yield* peer.text, "a\n")
      yield* Effect.all(Array.from({ length: 20 }, () => c.close), { concurrency: "unbounded" })
      assert.strictEqual(yield* reasonOf(c), "Closed")

      const many = yield* open()
      yield* many.c.send("x")
      yield* Effect.all(Array.from({ length: 20 }, () => many.c.close), { concurrency: "unbounded" })
      assert.strictEqual(yield* many.peer.text, "x\n")
    }))

  it.effect("an interrupted close goes on by itself", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      yield* peer.window(0)
      yield* c.send("x")
      yield* settle
      const closing = yield* Effect.forkChild(c.close, started)
      yield* Fiber.interrupt(closing)
      yield* peer.window(Infinity)
      yield* settle
      assert.strictEqual(yield* reasonOf(c), "Closed")
      assert.strictEqual(yield* peer.text, "x\n")
    }))

  it.effect("drain 0: close does not wait, and what was accepted is counted as lost", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ drain: 0 })
      yield* peer.window(0)
      yield* c.sendAll(["1", "2", "3"])
      yield* c.close
      assert.strictEqual(yield* reasonOf(c), "Closed")
      assert.strictEqual((yield* c.snapshot).lost, 3)
      yield* peer.released
    }))

  it.effect("drain 0: what the transport takes at once still leaves", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ drain: 0 })
      yield* c.sendAll(["1", "2", "3"])
      yield* c.close
      assert.strictEqual(yield* peer.text, lines(["1", "2", "3"]))
      assert.strictEqual((yield* c.snapshot).lost, 0)
    }))

  it.effect("the scope closing with success flushes", () =>
    Effect.gen(function*() {
      const { c, peer, scope } = yield* openIn()
      yield* peer.window(0)
      yield* c.sendAll(numbers(1, 50))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), started)
      yield* settle
      assert.isUndefined(closing.pollUnsafe())
      yield* peer.window(Infinity)
      yield* Fiber.join(closing)
      assert.strictEqual(yield* peer.text, lines(numbers(1, 50)))
      assert.strictEqual(yield* peer.finished, true)
      yield* peer.released
    }))

  it.effect("the scope closing with a failure or an interruption does not", () =>
    Effect.gen(function*() {
      for (const exit of [Exit.fail("boom"), Exit.die("boom"), Exit.interrupt()]) {
        const { c, peer, scope } = yield* openIn()
        yield* peer.window(0)
        yield* c.send("x")
        yield* settle
        const waiting = yield* Effect.forkChild(Effect.flip(c.flush), started)
        yield* Scope.close(scope, exit)
        yield* peer.released
        assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "Closed")
        assert.strictEqual((yield* c.snapshot).lost, 1)
      }
    }))

  it.effect("its handler is told that it is gone: at the end when nothing is left to receive, a drain later otherwise", () =>
    Effect.gen(function*() {
      const empty = yield* open()
      let gone = 0
      empty.c[TypeId].handledBy({ fiber: undefined, connectionGone: () => gone++ })
      yield* empty.c.close
      yield* settle
      assert.strictEqual(gone, 1)
      // somebody who comes late is told at once
      empty.c[TypeId].handledBy({ fiber: undefined, connectionGone: () => gone++ })
      assert.strictEqual(gone, 2)

      const full = yield* open({ drain: "5 seconds" })
      yield* full.peer.send("x\n")
      yield* settle
      full.c[TypeId].handledBy({ fiber: undefined, connectionGone: () => gone++ })
      yield* full.c.close
      yield* TestClock.adjust(4_999)
      assert.strictEqual(gone, 2)
      yield* TestClock.adjust(1)
      assert.strictEqual(gone, 3)
    }))
})

describe("what breaks in somebody else's code", () => {
  const throwing = (where: "decode" | "encode") =>
    Codec.make<string>({
      framing: Codec.lines().framing,
      payload: {
        form: "text",
        content: "text",
        decode: (frame) => {
          const text = typeof frame === "string" ? frame : new TextDecoder().decode(frame)
          if (where === "decode" && text === "boom") throw new Error("boom")
          return Result.succeed(text)
        },
        encode: (message) => {
          if (where === "encode" && message === "boom") throw new Error("boom")
          return Result.succeed(message)
        }
      }
    })

  it.effect("a codec that throws while decoding ends its connection, with what was thrown, and no other", () =>
    Effect.gen(function*() {
      const make = Connection.make({ codec: throwing("decode"), policy: quiet })
      const [bad, good] = [yield* TestSocket.make(), yield* TestSocket.make()]
      const a = yield* make(bad.socket)
      const b = yield* make(good.socket)
      yield* bad.send("fine\n")
      assert.strictEqual(yield* a.receive, "fine")
      yield* bad.send("boom\n")
      yield* good.send("fine\n")
      const error = yield* Effect.flip(a.receive)
      assert.strictEqual(error.reason._tag, "Defect")
      assert.include(error.message, "boom")
      assert.strictEqual(yield* b.receive, "fine")
      yield* bad.released
    }))

  it.effect("a codec that throws while encoding is a defect of the sender, and the connection lives", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const c = yield* Connection.make({ codec: throwing("encode"), policy: quiet })(peer.socket)
      assert.isTrue(Exit.hasDies(yield* Effect.exit(c.send("boom"))))
      yield* c.send("fine")
      assert.strictEqual(yield* peer.take, "fine\n")
    }))

  it.effect("a codec that throws is a defect of the fiber, and nothing to catch with `try`", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const c = yield* Connection.make({ codec: throwing("encode"), policy: quiet })(peer.socket)
      let caught = false
      const exit = yield* Effect.exit(Effect.gen(function*() {
        try {
          yield* c.send("fine")
          yield* c.send("boom")
        } catch {
          caught = true
        }
      }))
      assert.isTrue(Exit.hasDies(exit))
      assert.isFalse(caught)
      assert.strictEqual(yield* peer.take, "fine\n")
    }))

  it.effect("a framing that throws when a connection begins opens nothing", () =>
    Effect.gen(function*() {
      const codec = throwing("encode")
      let dialled = false
      const peer = yield* TestSocket.make()
      const socket = Socket.make({
        reader: Effect.suspend(() => {
          dialled = true
          return peer.socket.reader
        }),
        writer: peer.socket.writer
      })
      const broken = Codec.make({
        payload: codec.payload,
        framing: {
          ...codec.framing,
          decoder: () => {
            throw new Error("boom")
          }
        }
      })
      const exit = yield* Effect.exit(Connection.make({ codec: broken, policy: quiet })(socket))
      assert.isTrue(Exit.hasDies(exit))
      assert.isFalse(dialled)
    }))

  it("a goodbye that cannot be encoded is a mistake in the program and throws when it is made", () => {
    assert.throws(() => Connection.make({ codec: Codec.lines(), goodbye: "two\nlines" }), /cannot be written/)
  })

  it.effect("a transport that dies while reading, writing or closing leaves nobody waiting", () =>
    Effect.gen(function*() {
      const ways: ReadonlyArray<(peer: TestSocket.Peer) => Socket.Socket> = [
        (peer) =>
          Socket.make({
            reader: Effect.map(peer.socket.reader, (reader) => ({ ...reader, pull: Effect.die("boom") })),
            writer: peer.socket.writer
          }),
        (peer) =>
          Socket.make({
            reader: peer.socket.reader,
            writer: Effect.map(peer.socket.writer, (writer) => ({ ...writer, writeAll: () => Effect.die("boom") }))
          }),
        (peer) =>
          Socket.make({
            reader: Effect.tap(peer.socket.reader, () => Effect.addFinalizer(() => Effect.die("boom"))),
            writer: peer.socket.writer
          }),
        (peer) =>
          Socket.make({
            reader: peer.socket.reader,
            writer: Effect.tap(peer.socket.writer, () => Effect.addFinalizer(() => Effect.die("boom")))
          })
      ]
      for (const way of ways) {
        const peer = yield* TestSocket.make()
        const c = yield* chat()(way(peer))
        yield* Effect.ignore(c.send("x"))
        yield* settle
        yield* c.close
        assert.strictEqual((yield* c.snapshot).state, "ended")
        yield* Effect.flip(c.closed)
        yield* Effect.flip(c.receive)
        yield* peer.released
      }
    }))
})

describe("in a generator", () => {
  const neverWaiting: Record<string, (c: Chat) => Effect.Effect<void, ConnectionError.ConnectionError>> = {
    "one message": (c) => c.send("x"),
    "some messages": (c) => c.sendAll(["x", "y"]),
    "no messages": (c) => c.sendAll([])
  }
  for (const [what, send] of Object.entries(neverWaiting)) {
    it.effect(`who sends ${what}, and never waits because nothing is kept, gives way to others`, () =>
      Effect.gen(function*() {
        for (const overflow of ["drop-newest", "drop-oldest"] as const) {
          const { c, peer } = yield* open({ overflow, outboxMessages: 10, drain: 0 })
          yield* peer.window(0)
          yield* c.send("being written")
          yield* settle
          yield* c.sendAll(numbers(1, 10))
          const others = { ran: false }
          yield* Effect.forkChild(Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => {
              others.ran = true
            })
          ))
          let sent = 0
          while (!others.ran && sent < 100_000) {
            yield* send(c)
            sent++
          }
          assert.isTrue(others.ran, `${overflow}: sent ${sent} times in a row`)
          assert.strictEqual((yield* c.snapshot).outbox.messages, 10)
        }
      }))
  }

  it.effect("one `send` is one message each time it is run, and one `receive` for each fiber that runs it", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const again = c.send("again")
      for (let i = 0; i < 3; i++) yield* again
      yield* again.pipe(Effect.asVoid)
      assert.strictEqual(yield* peer.take, lines(["again", "again", "again", "again"]))
      yield* peer.send(lines(numbers(1, 6)))
      yield* settle
      const got: Array<string> = []
      const two = Effect.gen(function*() {
        for (let i = 0; i < 3; i++) {
          got.push(yield* c.receive)
          yield* Effect.yieldNow
        }
      })
      yield* Effect.all([two, two], { concurrency: 2 })
      assert.sameMembers(got, numbers(1, 6))
      // made, and not run
      c.send("never")
      yield* settle
      assert.strictEqual((yield* c.snapshot).messagesOut, 4)
    }))

  it.effect("whoever is woken is given what came, also when it ended", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const got: Array<string> = []
      const fiber = yield* Effect.forkChild(
        Effect.gen(function*() {
          while (true) got.push(yield* c.receive)
        }),
        started
      )
      yield* peer.send(lines(numbers(1, 100)))
      yield* peer.end
      const exit = yield* Fiber.await(fiber)
      assert.deepStrictEqual(got, numbers(1, 100))
      assert.isTrue(Exit.isFailure(exit) && !Exit.hasDies(exit))
    }))
})

describe("a WebSocket", () => {
  const openMessages = <A>(codec: Codec.Codec<A>, policy?: Policy.Patch, heartbeat?: Heartbeat.Heartbeat<A, A>) =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make({ messages: true })
      const socket = Connection.describe(peer.socket, { messages: true })
      const c = yield* Connection.make({ codec, heartbeat, policy: { ...quiet, ...policy } })(socket)
      return { c, peer }
    })

  it.effect("carries text as text, without the newline of the framing", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openMessages(Codec.lines())
      yield* peer.send("hello", "two\nlines", "")
      assert.deepStrictEqual(yield* c.receiveAll, ["hello", "two\nlines", ""])
      yield* c.sendAll(["hi", "there"])
      yield* c.flush
      assert.deepStrictEqual(yield* peer.written, ["hi", "there"])
    }))

  it.effect("carries JSON as text and MessagePack as bytes", () =>
    Effect.gen(function*() {
      const json = yield* openMessages(Codec.lines().pipe(Codec.schema(Schema.Struct({ a: Schema.Number }))))
      yield* json.peer.send("{\"a\":1}")
      assert.deepStrictEqual(yield* json.c.receive, { a: 1 })
      yield* json.c.send({ a: 2 })
      yield* json.c.flush
      assert.deepStrictEqual(yield* json.peer.written, ["{\"a\":2}"])

      const binary = yield* openMessages(Codec.lengthPrefix().pipe(Codec.msgpack))
      yield* binary.c.send([1, "x"])
      yield* binary.c.flush
      const [frame] = yield* binary.peer.written
      assert.instanceOf(frame, Uint8Array)
      yield* binary.peer.send(frame!)
      assert.deepStrictEqual(yield* binary.c.receive, [1, "x"])
    }))

  it.effect("is recognised by the transport option, too", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make({ messages: true })
      const c = yield* Connection.make({ codec: Codec.lines(), policy: quiet, transport: "messages" })(peer.socket)
      yield* peer.send("hello")
      assert.strictEqual(yield* c.receive, "hello")
    }))

  it.effect("an over-long message ends it with 1009", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openMessages(Codec.lines(), { maxFrame: 5 })
      yield* peer.send("12345", "123456")
      assert.strictEqual(yield* c.receive, "12345")
      assert.deepInclude((yield* Effect.flip(c.receive)).reason, { _tag: "FrameTooLong", size: 6, limit: 5 })
      // an answer to the message before it leaves first
      yield* Effect.flip(c.closed)
      assert.deepInclude(yield* peer.finished, { code: 1009 })
    }))

  it.effect("sizes of text are bytes", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openMessages(Codec.lines())
      yield* peer.send("ä€😀")
      yield* settle
      assert.strictEqual((yield* c.snapshot).bytesIn, 9)
      assert.deepStrictEqual((yield* c.snapshot).inbox, { messages: 1, bytes: 9 })
      yield* c.send("ä€😀")
      yield* c.flush
      assert.strictEqual((yield* c.snapshot).bytesOut, 9)
    }))

  const ends: ReadonlyArray<
    readonly [
      name: string,
      code: number,
      (c: Connection.Connection<unknown>, peer: TestSocket.Peer) => Effect.Effect<unknown>
    ]
  > = [
    ["our close", 1000, (c) => c.close],
    ["a takeover", 1008, (c) => c.closeWith(new ConnectionError.Superseded({ key: "k" }))],
    ["a sweep", 1001, (c) => c.closeWith(new ConnectionError.Swept({}))],
    ["going away", 1001, (c) => c.closeWith(new ConnectionError.GoingAway({}))],
    ["a refusal", 1013, (c) => c.closeWith(new ConnectionError.Refused({ limit: "maxConnections", allowed: 1 }))],
    ["invalid JSON", 1007, (_, peer) => peer.send("{")],
    ["a frame too long", 1009, (_, peer) => peer.send("x".repeat(2000))],
    ["silence", 1001, () => TestClock.adjust("60 seconds")],
    [
      "too many pings",
      1008,
      (_, peer) => Effect.repeat(Effect.andThen(peer.send("1"), TestClock.adjust(100)), { times: 3 })
    ],
    ["a slow consumer", 1013, (c, peer) => Effect.andThen(peer.window(0), Effect.ignore(c.sendAll(numbers(1, 10))))]
  ]
  for (const [name, code, end] of ends) {
    it.effect(`tells the peer with its close code: ${name} is ${code}`, () =>
      Effect.gen(function*() {
        const heartbeat = Heartbeat.make<unknown, unknown>({
          ping: () => 0,
          read: (message) => message === 1 ? { _tag: "Ping", answer: 2 } : undefined
        })
        const { c, peer } = yield* openMessages(Codec.lines().pipe(Codec.json), {
          maxFrame: 1000,
          silence: "60 seconds",
          minPingEvery: "10 seconds",
          outboxMessages: 3,
          overflow: "close"
        }, heartbeat)
        yield* end(c, peer)
        yield* settle
        assert.strictEqual((yield* c.snapshot).state, "ended")
        const finished = yield* peer.finished
        assert.deepInclude(finished, { code })
        // RFC 6455, 5.5.1: 125 bytes with the code
        const reason = (finished as Socket.CloseEvent).reason ?? ""
        assert.isAtMost(new TextEncoder().encode(reason).byteLength, 123)
        if (code !== 1000) assert.include((yield* c.snapshot).reason!.message, reason)
      }))
  }

  it.effect("a scope that closes with a failure or a defect is told as such, an interrupted one is not", () =>
    Effect.gen(function*() {
      for (
        const [exit, code] of [[Exit.fail("oops"), 1011], [Exit.die("oops"), 1011], [Exit.interrupt(1), 1000]] as const
      ) {
        const scope = yield* Scope.make()
        const { c, peer } = yield* Scope.provide(openMessages(Codec.lines()), scope)
        yield* Scope.close(scope, exit)
        assert.deepInclude(yield* peer.finished, { code })
        assert.deepInclude((yield* c.snapshot).reason, code === 1000 ? { by: "local" } : { by: "local", code })
      }
    }))

  it.effect("a long reason with wide characters still fits into a close frame", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openMessages(Codec.lines())
      yield* c.closeWith(new ConnectionError.Superseded({ key: "€".repeat(200) }))
      const finished = (yield* peer.finished) as Socket.CloseEvent
      assert.isAtMost(new TextEncoder().encode(finished.reason).byteLength, 123)
      assert.notInclude(finished.reason, "\ufffd")
    }))

  it.effect("the peer's close code and text are in the reason, and nothing more can be sent", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openMessages(Codec.lines())
      yield* peer.send("last")
      yield* peer.close(4001, "go elsewhere")
      assert.strictEqual(yield* c.receive, "last")
      const error = yield* Effect.flip(c.receive)
      assert.deepInclude(error.reason, { _tag: "Closed", by: "peer", code: 4001, note: "go elsewhere" })
      assert.strictEqual(yield* Effect.flip(c.send("x")), error)
      yield* peer.released
    }))

  it.effect("what was accepted leaves before the close frame", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* openMessages(Codec.lines())
      yield* peer.window(0)
      yield* c.sendAll(["1", "2"])
      const closing = yield* Effect.forkChild(c.close, started)
      yield* settle
      assert.strictEqual(yield* peer.finished, false)
      yield* peer.window(Infinity)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* peer.written, ["1", "2"])
      assert.deepInclude(yield* peer.finished, { code: 1000 })
    }))

  it.effect("F4 a socket whose writes suspend (it is not connected any more) does not hold up the end", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make({ messages: true })
      const socket = Socket.make({
        reader: peer.socket.reader,
        writer: Effect.succeed({ write: () => Effect.never, writeAll: () => Effect.never })
      })
      const c = yield* Connection.make({ codec: Codec.lines(), policy: quiet, transport: "messages" })(socket)
      yield* peer.reset
      yield* Effect.flip(c.closed)
      assert.strictEqual(yield* reasonOf(c), "Reset")
      yield* peer.released
    }))
})

describe("interrupted at every yield point", () => {
  /**
   * Runs `f` with every budget of operations from 3 to 64, interrupting what it gets after 0 to 8 turns: wherever a
   * fiber can yield, it is interrupted there.
   */
  const sweep = <E>(
    f: (
      interrupted: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Exit.Exit<A, E>, never, R>
    ) => Effect.Effect<unknown, E, Scope.Scope>
  ) =>
    Effect.gen(function*() {
      for (let budget = 3; budget <= 64; budget++) {
        for (let turns = 0; turns <= 8; turns++) {
          yield* Effect.scoped(f((effect) =>
            Effect.gen(function*() {
              const fiber = yield* Effect.forkChild(
                Effect.provideService(effect, Scheduler.MaxOpsBeforeYield, budget),
                started
              )
              for (let i = 0; i < turns; i++) yield* Effect.yieldNow
              yield* Fiber.interrupt(fiber)
              return yield* Fiber.await(fiber)
            })
          ))
        }
      }
    })

  it.effect("make leaves neither a transport nor a timer behind", () =>
    Effect.gen(function*() {
      let opened = 0
      let interruptions = 0
      yield* sweep((interrupted) =>
        Effect.gen(function*() {
          const peer = yield* TestSocket.make()
          const { clock, sleeping } = yield* countingClock
          const scope = yield* Scope.make()
          let held = 0
          const socket = Socket.make({
            // takes a few turns
            reader: Effect.acquireRelease(
              Effect.sync(() => {
                held++
              }),
              () =>
                Effect.sync(() => {
                  held--
                })
            ).pipe(Effect.andThen(Effect.yieldNow), Effect.andThen(peer.socket.reader)),
            writer: peer.socket.writer
          })
          const exit = yield* interrupted(
            chat({ pingEvery: "10 seconds", silence: "60 seconds" })(socket).pipe(
              Scope.provide(scope),
              Effect.provideService(Clock.Clock, clock)
            )
          )
          yield* settle
          if (Exit.isSuccess(exit)) {
            opened++
            assert.strictEqual(held, 1)
          } else {
            interruptions++
          }
          // it is either gone, or open with an owner
          const owned = scope.state._tag === "Open" ? scope.state.finalizers?.size ?? 1 : 0
          if (held === 0) {
            assert.strictEqual(sleeping(), 0)
            assert.strictEqual(owned, 0)
          } else {
            // one for the heartbeat and the deadlines, or two where the heartbeat yielded before its first sleep
            assert.include([1, 2], sleeping())
            // the close
            assert.strictEqual(owned, 1)
          }
          yield* Scope.close(scope, Exit.interrupt())
          assert.strictEqual(held, 0)
          assert.strictEqual(sleeping(), 0)
        })
      )
      assert.isAbove(opened, 100)
      assert.isAbove(interruptions, 100)
    }), 60_000)

  it.effect(
    "send and sendAll send all, nothing or a prefix, once; and the connection goes on",
    () =>
      sweep((interrupted) =>
        Effect.gen(function*() {
          const { c, peer } = yield* open({ outboxMessages: 2, drain: 0 })
          yield* peer.window(0)
          yield* c.send("first")
          yield* settle
          const other = yield* Effect.forkChild(c.sendAll(["o1", "o2", "o3"]), started)
          const mine = yield* Effect.forkChild(interrupted(c.sendAll(["m1", "m2", "m3"])), started)
          yield* Effect.yieldNow
          yield* peer.window(Infinity)
          const exit = yield* Fiber.join(mine)
          yield* Fiber.join(other)
          yield* c.send("last")
          yield* c.flush
          const got = (yield* peer.text).split("\n").slice(0, -1)
          assert.deepStrictEqual(got.filter((m) => !m.startsWith("m")), ["first", "o1", "o2", "o3", "last"])
          const sent = got.filter((m) => m.startsWith("m"))
          assert.deepStrictEqual(sent, ["m1", "m2", "m3"].slice(0, sent.length))
          if (Exit.isSuccess(exit)) assert.strictEqual(sent.length, 3)
          assert.deepStrictEqual((yield* c.snapshot).outbox, { messages: 0, bytes: 0 })
          assert.strictEqual((yield* c.snapshot).messagesOut, got.length)
        })
      ),
    60_000
  )

  it.effect("a small budget everywhere duplicates and loses nothing", () =>
    Effect.gen(function*() {
      for (let budget = 3; budget <= 64; budget++) {
        yield* Effect.gen(function*() {
          const { c, peer } = yield* open({ outboxMessages: 2, inboxMessages: 2 })
          const sending = yield* Effect.forEach([0, 1, 2, 3], (s) =>
            Effect.forkChild(Effect.forEach(numbers(1, 8), (n) => c.send(`${s}${n}`), { discard: true })))
          const feeding = yield* Effect.forkChild(
            Effect.forEach(numbers(1, 30), (n) =>
              Effect.andThen(peer.send(`${n}\n`), Effect.yieldNow), { discard: true })
          )
          const got: Array<string> = []
          while (got.length < 30) got.push(yield* c.receive)
          yield* Fiber.joinAll(sending)
          yield* Fiber.join(feeding)
          yield* c.flush
          assert.deepStrictEqual(got, numbers(1, 30))
          const sent = (yield* peer.text).split("\n").slice(0, -1)
          assert.strictEqual(sent.length, 32)
          for (const s of [0, 1, 2, 3]) {
            assert.deepStrictEqual(sent.filter((m) => m.startsWith(`${s}`)), numbers(1, 8).map((n) => `${s}${n}`))
          }
        }).pipe(Effect.scoped, Effect.provideService(Scheduler.MaxOpsBeforeYield, budget))
      }
    }), 60_000)

  it.effect(
    "flush, receive, awaitWritable and close leave nothing waiting",
    () =>
      sweep((interrupted) =>
        Effect.gen(function*() {
          const { c, peer } = yield* open({ outboxMessages: 1 })
          yield* peer.window(0)
          yield* c.send("1")
          yield* settle
          yield* c.send("2")
          for (const effect of [c.flush, c.receive, c.awaitWritable, c.closed]) yield* interrupted(Effect.exit(effect))
          // a message that comes now is received by who asks now
          yield* peer.send("in\n")
          assert.strictEqual(yield* c.receive, "in")
          const flushing = yield* Effect.forkChild(c.flush, started)
          yield* interrupted(c.close)
          yield* peer.window(Infinity)
          yield* c.close
          yield* Fiber.join(flushing)
          assert.strictEqual(yield* peer.text, "1\n2\n")
          assert.strictEqual(yield* reasonOf(c), "Closed")
          yield* peer.released
        })
      ),
    60_000
  )

  it.effect(
    "a scope closed while its connection opens, flushes or ends always comes to an end",
    () =>
      sweep((interrupted) =>
        Effect.gen(function*() {
          const peer = yield* TestSocket.make()
          const { clock, sleeping } = yield* countingClock
          const gate = yield* Deferred.make<void>()
          yield* interrupted(
            Effect.gen(function*() {
              const c = yield* chat({ silence: "60 seconds" })(peer.socket)
              yield* peer.window(0)
              yield* c.sendAll(["1", "2"])
              yield* Deferred.succeed(gate, undefined)
              yield* c.receive
            }).pipe(Effect.scoped, Effect.provideService(Clock.Clock, clock))
          )
          yield* settle
          assert.strictEqual(sleeping(), 0)
          if (yield* Deferred.isDone(gate)) yield* peer.released
        })
      ),
    60_000
  )
})

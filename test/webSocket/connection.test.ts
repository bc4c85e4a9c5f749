import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Schema, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Codec, Connection, ConnectionError, Heartbeat } from "../../src/index.ts"
import type { Policy } from "../../src/index.ts"
import { frameOf } from "../../src/internal/webSocket/encoding.ts"
import { Opcode } from "../../src/internal/webSocket/frames.ts"
import { TestSocket } from "../../src/testing/index.ts"

const settle = Effect.forEach(Array.from({ length: 40 }), () => Effect.yieldNow, { discard: true })

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

const maskKey = () => 0x01020304

/** A frame as a client sends it. */
const from = {
  text: (text: string) => frameOf(Opcode.text, utf8(text), maskKey),
  binary: (...bytes: ReadonlyArray<number>) => frameOf(Opcode.binary, Uint8Array.from(bytes), maskKey),
  ping: (text: string) => frameOf(Opcode.ping, utf8(text), maskKey),
  pong: (payload: Uint8Array) => frameOf(Opcode.pong, payload, maskKey),
  close: (code: number, reason = "") =>
    frameOf(Opcode.close, Uint8Array.from([code >> 8, code & 255, ...utf8(reason)]), maskKey)
}

/** A frame with this first byte, as a client sends it. */
const rawFrame = (first: number, payload: Uint8Array): Uint8Array => {
  const frame = frameOf(Opcode.binary, payload, maskKey)
  frame[0] = first
  return frame
}

/** What a server sent, in words: frames of one length byte. */
const read = (chunks: ReadonlyArray<Uint8Array | string>): Array<string> => {
  const bytes = Buffer.concat(chunks.map((chunk) => typeof chunk === "string" ? utf8(chunk) : chunk))
  const frames: Array<string> = []
  for (let at = 0; at < bytes.length;) {
    const length = bytes[at + 1]!
    const payload = bytes.subarray(at + 2, at + 2 + length)
    const name = { 0x81: "text", 0x82: "binary", 0x88: "close", 0x89: "ping", 0x8a: "pong" }[bytes[at]!]
    const said = name === "close" && length > 0
      ? `${payload.readUInt16BE()} ${payload.subarray(2)}`.trim()
      : name === "ping"
      ? Array.from(payload).join()
      : `${payload}`
    frames.push(`${name} ${said}`.trim())
    at += 2 + length
  }
  return frames
}

/** The server's end of a WebSocket whose upgrade is done. */
const open = Effect.fnUntraced(function*(
  policy: Policy.Patch = {},
  more: Partial<Connection.Options<string, string>> = {}
) {
  yield* TestClock.adjust(0)
  const peer = yield* TestSocket.make()
  const socket = Connection.describe(peer.socket, {
    messages: true,
    webSocket: { role: "server", stream: peer.socket, maskKey: undefined }
  })
  const scope = yield* Scope.make()
  const c = yield* Scope.provide(
    Connection.make(socket, { codec: Codec.lines(), policy: { pingJitter: 0, ...policy }, ...more }),
    scope
  )
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.interrupt(0)))
  const sent = Effect.map(peer.written, read)
  return { c, peer, scope, sent, reason: Effect.map(c.snapshot, ({ reason }) => reason) }
})

const echo = (c: Connection.Connection<string>) => Stream.runForEach(Connection.messages(c), c.send)

describe("messages", () => {
  it.effect("travel in frames, without the framing of the codec, text as text", () =>
    Effect.gen(function*() {
      const { c, peer, sent } = yield* open()
      yield* peer.send(from.text("hello"), from.binary(0x68, 0x69))
      assert.deepStrictEqual(yield* c.receiveAll, ["hello", "hi"])
      yield* c.send("good\nday")
      yield* settle
      assert.deepStrictEqual(yield* sent, ["text good\nday"])
    }))

  it.effect("B127 that are too long are skipped by a codec that skips, whole, in fragments and byte by byte", () =>
    Effect.gen(function*() {
      const { c, peer, reason } = yield* open({ maxFrame: 8, silence: "10 seconds", frame: "3 seconds" }, {
        codec: Codec.lines({ tooLong: "skip" })
      })
      const long = from.text("too long for it")
      const fragments = [
        rawFrame(0x01, utf8("five ")),
        from.ping("in between"),
        rawFrame(0x00, utf8("more")),
        // not UTF-8, and of no interest
        rawFrame(0x80, Uint8Array.of(0xff))
      ]
      yield* peer.send(from.text("a"), long, from.text("b"), ...fragments, from.text("c"))
      assert.deepStrictEqual(yield* c.receiveAll, ["a", "b", "c"])
      for (const byte of long) yield* peer.send(Uint8Array.of(byte))
      yield* peer.send(from.text("12345678"))
      assert.deepStrictEqual(yield* c.receiveAll, ["12345678"])
      assert.strictEqual((yield* c.snapshot).skipped, 3)
      // what is skipped has to come in time, too
      yield* peer.send(long.subarray(0, 10))
      for (let i = 0; i < 2; i++) {
        yield* TestClock.adjust(1000)
        yield* peer.send(long.subarray(10 + i, 11 + i))
      }
      yield* TestClock.adjust(999)
      assert.strictEqual(yield* reason, undefined)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* reason)?._tag, "FrameTimeout")
    }))

  it.effect("B123 bytes of an unfinished message prove life, and count against `frame`", () =>
    Effect.gen(function*() {
      const { c, peer, reason } = yield* open({ silence: "2 seconds", frame: "10 seconds", pingEvery: 0 })
      const whole = from.text("x".repeat(100))
      yield* peer.send(whole.subarray(0, 20))
      for (let second = 0; second < 9; second++) {
        yield* TestClock.adjust("1 second")
        yield* peer.send(whole.subarray(20 + second, 21 + second))
      }
      yield* TestClock.adjust(999)
      assert.strictEqual((yield* c.snapshot).state, "open")
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* reason)?._tag, "FrameTimeout")
    }))

  it.effect("B123 pings that each begin in one segment and end in the next are no slow frame", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ frame: "1 second", pingEvery: 0 })
      const pings = Buffer.concat(Array.from({ length: 20 }, () => from.ping("0123456789")))
      for (let at = 0; at < pings.length; at += 20) {
        yield* peer.send(pings.subarray(at, at + 20))
        yield* TestClock.adjust(700)
      }
      assert.strictEqual((yield* c.snapshot).state, "open")
    }))

  const wrong: ReadonlyArray<readonly [name: string, Uint8Array, tag: string, code: number]> = [
    ["a message over the limit", from.text("x".repeat(101)), "FrameTooLong", 1009],
    ["text that is not UTF-8", frameOf(Opcode.text, Uint8Array.of(0xff), maskKey), "InvalidMessage", 1007],
    ["a frame without a mask", frameOf(Opcode.text, utf8("hi"), undefined), "ProtocolViolation", 1002],
    ["a close code that is none", from.close(1005), "ProtocolViolation", 1002]
  ]
  for (const [name, bytes, tag, code] of wrong) {
    it.effect(`B126 ${name} is ${tag}, not retried, and told with ${code}; what came before is answered`, () =>
      Effect.gen(function*() {
        const { c, peer, reason, sent } = yield* open({ maxFrame: 100 })
        yield* Effect.forkScoped(echo(c), { startImmediately: true })
        yield* peer.send(from.text("one"), bytes, from.text("two"))
        yield* settle
        yield* settle
        const ended = (yield* reason)!
        assert.strictEqual(ended._tag, tag)
        assert.isFalse(ended.isRetryable)
        const said = yield* sent
        assert.strictEqual(said[0], "text one")
        assert.match(said[1]!, new RegExp(`^close ${code}`))
        assert.lengthOf(said, 2)
      }))
  }
})

describe("pings", () => {
  it.effect("are answered behind a full inbox, up to the message that there is no room for", () =>
    Effect.gen(function*() {
      const { c, peer, sent } = yield* open({ inboxMessages: 1, pingEvery: 0 })
      yield* peer.send(Buffer.concat([from.text("a"), from.ping("1"), from.text("b"), from.ping("2")]))
      yield* settle
      assert.deepStrictEqual(yield* sent, ["pong 1"])
      assert.strictEqual(yield* c.receive, "a")
      assert.strictEqual(yield* c.receive, "b")
      yield* settle
      assert.deepStrictEqual(yield* sent, ["pong 1", "pong 2"])
    }))

  it.effect("a heartbeat that prefers frames pings with them on a WebSocket, and answers the pings of its messages; on a stream it is as it was", () =>
    Effect.gen(function*() {
      const heartbeat = Heartbeat.preferFrames(Heartbeat.text("ping", "pong"))
      const { c, peer, reason, sent } = yield* open({ silence: "15 seconds", pingEvery: "10 seconds" }, { heartbeat })
      yield* peer.send(from.text("ping"))
      yield* settle
      assert.deepStrictEqual(yield* sent, ["text pong"])
      for (let n = 1; n <= 3; n++) {
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual((yield* sent).slice(n), [`ping 0,0,0,${n}`])
        yield* peer.send(from.pong(Uint8Array.of(0, 0, 0, n)))
      }
      assert.strictEqual((yield* c.snapshot).state, "open")
      yield* TestClock.adjust("15 seconds")
      assert.strictEqual((yield* reason)?._tag, "SilenceTimeout")

      const stream = yield* TestSocket.make()
      const policy = { pingEvery: "10 seconds", pingJitter: 0 } as const
      yield* Connection.make(stream.socket, { codec: Codec.lines(), heartbeat, policy })
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(Buffer.concat((yield* stream.written).map((part) => Buffer.from(part))).toString(), "ping\n")
    }))

  it.effect("are sent by the protocol where the options name no heartbeat, and measure the round trip", () =>
    Effect.gen(function*() {
      const { c, peer, reason, sent } = yield* open({ silence: "30 seconds", pingEvery: "10 seconds", pong: 0 })
      yield* TestClock.adjust(9999)
      assert.deepStrictEqual(yield* sent, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* sent, ["ping 0,0,0,1"])
      yield* TestClock.adjust(7)
      yield* peer.send(from.pong(Uint8Array.of(0, 0, 0, 9)), from.pong(Uint8Array.of(0, 0, 0, 1)))
      yield* settle
      assert.deepStrictEqual((yield* c.snapshot).rtt, { last: 7, smoothed: 7 })
      // a peer that only answers pings is alive
      for (let n = 2; n < 12; n++) {
        yield* TestClock.adjust("10 seconds")
        yield* peer.send(from.pong(Uint8Array.of(0, 0, 0, n)))
        yield* settle
      }
      assert.strictEqual((yield* c.snapshot).state, "open")
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* reason)?._tag, "SilenceTimeout")
    }))

  it.effect("`Heartbeat.webSocket` says so by name, is nothing on a stream, and `pingEvery: 0` turns it off", () =>
    Effect.gen(function*() {
      const named = yield* open({ pingEvery: "10 seconds", pong: 0 }, { heartbeat: Heartbeat.webSocket })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* named.sent, ["ping 0,0,0,1"])
      const off = yield* open({ pingEvery: 0 })
      const peer = yield* TestSocket.make()
      yield* Connection.make(peer.socket, {
        codec: Codec.lines(),
        heartbeat: Heartbeat.webSocket,
        policy: { pingEvery: "10 seconds", pingJitter: 0 }
      })
      yield* TestClock.adjust("50 seconds")
      assert.deepStrictEqual(yield* off.sent, [])
      assert.strictEqual(yield* peer.text, "")
    }).pipe(Effect.scoped))

  it.effect("B124 of a peer prove that it lives, and are answered beside a heartbeat of the application", () =>
    Effect.gen(function*() {
      const heartbeat = Heartbeat.text("ping", "pong")
      const { c, peer, sent } = yield* open({ silence: "3 seconds", pingEvery: 0 }, { heartbeat })
      for (let n = 0; n < 10; n++) {
        yield* TestClock.adjust("2 seconds")
        yield* peer.send(from.ping(`${n}`))
        yield* settle
      }
      assert.strictEqual((yield* c.snapshot).state, "open")
      assert.deepStrictEqual(yield* sent, Array.from({ length: 10 }, (_, n) => `pong ${n}`))
    }))

  for (const [count, answers] of [[1, 1], [10, 10], [32, 32], [33, 33], [61, 33], [10_000, 33]] as const) {
    it.effect(`B125 ${count} in one read get ${answers} pongs, the last of them the newest, and end nothing`, () =>
      Effect.gen(function*() {
        const { c, peer, sent } = yield* open({ minPingEvery: "5 seconds" })
        const all = Array.from({ length: count }, (_, n) => from.ping(`${n}`))
        yield* peer.send(Buffer.concat(all))
        yield* settle
        const pongs = yield* sent
        assert.lengthOf(pongs, answers)
        assert.deepStrictEqual(
          pongs.slice(0, 32),
          Array.from({ length: Math.min(32, count) }, (_, n) => `pong ${n}`)
        )
        assert.strictEqual(pongs.at(-1), `pong ${count - 1}`)
        assert.strictEqual((yield* c.snapshot).state, "open")
      }))
  }

  it.effect("B125 while no pong can leave, 32 wait and the newest", () =>
    Effect.gen(function*() {
      const { peer, sent } = yield* open({ writeStall: 0 })
      yield* peer.window(0)
      for (let n = 0; n < 100; n++) {
        yield* peer.send(from.ping(`${n}`))
        yield* settle
      }
      yield* peer.window(100_000)
      yield* settle
      const pongs = yield* sent
      assert.isAtMost(pongs.length, 34)
      assert.strictEqual(pongs.at(-1), "pong 99")
    }))
})

describe("the close", () => {
  for (const count of [1, 10, 100, 1000, 20_000]) {
    it.effect(`B109 ${count} messages and a close frame in one segment: every answer, then our close frame`, () =>
      Effect.gen(function*() {
        const { c, peer, reason, sent } = yield* open({ halfClose: "10 seconds" })
        const done = yield* Effect.forkScoped(Effect.andThen(Effect.exit(echo(c)), c.close), { startImmediately: true })
        const all = Array.from({ length: count }, (_, n) => from.text(`${n}`))
        yield* peer.send(Buffer.concat([...all, from.close(1000, "done"), from.text("late")]))
        yield* Fiber.await(done)
        const said = yield* sent
        assert.lengthOf(said, count + 1)
        assert.strictEqual(said[count - 1], `text ${count - 1}`)
        assert.strictEqual(said[count], "close 1000")
        assert.deepStrictEqual(yield* reason, new ConnectionError.Closed({ by: "peer", code: 1000, note: "done" }))
      }))
  }

  it.effect("B109 a handler that takes its time answers within `halfClose`, and no longer", () =>
    Effect.gen(function*() {
      for (
        const [takes, answers] of [[2999, ["text late", "close 4000"]], [3001, ["close 4000"]]] as ReadonlyArray<
          [number, Array<string>]
        >
      ) {
        const { c, peer, sent } = yield* open({ halfClose: "3 seconds" })
        yield* Effect.forkScoped(
          Effect.gen(function*() {
            yield* c.receive
            yield* Effect.sleep(takes)
            yield* c.send("late")
            yield* c.close
          }),
          { startImmediately: true }
        )
        yield* peer.send(from.text("question"), from.close(4000))
        yield* settle
        yield* TestClock.adjust(takes)
        yield* settle
        assert.deepStrictEqual(yield* sent, answers)
      }
    }))

  it.effect("B128 of the application travels with its code and its text", () =>
    Effect.gen(function*() {
      const { c, sent } = yield* open()
      yield* c.closeWith(new ConnectionError.Closed({ by: "local", code: 4001, note: "token expired" }))
      assert.deepStrictEqual(yield* sent, ["close 4001 token expired"])
      for (const code of [999, 1004, 1005, 1006, 1015, 1016, 2999, 5000]) {
        assert.throws(() => new ConnectionError.Closed({ by: "local", code }), /1000-1003, 1007-1014 or 3000-4999/)
      }
    }))

  it.effect("B128 a code of the peer says whether another try can help", () =>
    Effect.gen(function*() {
      const retried = new Set([1001, 1011, 1012, 1013, 1014, 3000, 4001, 4999])
      for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4001, 4999]) {
        const { c, peer } = yield* open()
        yield* peer.send(from.close(code))
        const error = yield* Effect.flip(c.receive)
        assert.strictEqual(error.isRetryable, retried.has(code), `${code}`)
      }
      // none at all, and no close frame
      for (const bytes of [frameOf(Opcode.close, utf8(""), maskKey), undefined]) {
        const { c, peer } = yield* open()
        yield* bytes === undefined ? peer.end : peer.send(bytes)
        const error = yield* Effect.flip(c.receive)
        if (bytes === undefined) assert.strictEqual(error.reason._tag, "Reset")
        else assert.deepInclude(error.reason, { by: "peer", code: 1005 })
        assert.isTrue(error.isRetryable)
      }
    }))

  it.effect("B131 no text of the application's errors leaves, and all of it is known here", () =>
    Effect.gen(function*() {
      const failed = yield* open()
      yield* failed.c.closeWith(new ConnectionError.HandshakeFailed({ cause: new Error("db password=hunter2") }))
      assert.deepStrictEqual(yield* failed.sent, ["close 1008 the handshake failed"])
      assert.include((yield* failed.reason)!.message, "hunter2")

      const codec = Codec.lines().pipe(Codec.schema(Schema.Struct({ token: Schema.Literal("s3cret") })))
      const peer = yield* TestSocket.make()
      const c = yield* Connection.make(
        Connection.describe(peer.socket, {
          messages: true,
          webSocket: { role: "server", stream: peer.socket, maskKey: undefined }
        }),
        { codec }
      )
      yield* peer.send(from.text(JSON.stringify({ token: "guess" })))
      yield* settle
      assert.deepStrictEqual(read(yield* peer.written), ["close 1007 a frame is not valid"])
      assert.include((yield* c.snapshot).reason!.message, "s3cret")
    }).pipe(Effect.scoped))

  it.effect("a defect and a failure are told with 1011, a text of the application by no word", () =>
    Effect.gen(function*() {
      const { scope, sent } = yield* open()
      yield* Scope.close(scope, Exit.failCause(Cause.die("db password")))
      assert.deepStrictEqual(yield* sent, ["close 1011"])
    }))
})

/** What a connection costs the others, and how fast its peer may send, on a clock that a test moves, to the millisecond. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Codec, Connection, Heartbeat, type Policy, Protocol } from "../src/index.ts"
import { Pongs, pongsOneByOne } from "../src/internal/transport/pongs.ts"
import { TestSocket } from "../src/testing/index.ts"
import { open as openWebSocket, quiet, settle } from "./webSocket/support/endpoint.ts"

type Chat = Connection.Connection<string, string>
type Bytes = Uint8Array

const concat = (parts: ReadonlyArray<Bytes>): Bytes => Buffer.concat(parts)
const times = <A>(count: number, make: (n: number) => A): Array<A> => Array.from({ length: count }, (_, n) => make(n))

/** A connection of some protocol, and a peer that speaks it by hand. */
interface End {
  readonly c: Chat
  readonly peer: TestSocket.Peer
  /** One message, and one ping, as they travel. */
  readonly message: (text: string) => Bytes
  readonly ping: (n: number) => Bytes
  /** The numbers of the pongs so far. */
  readonly pongs: Effect.Effect<ReadonlyArray<number>>
}

interface Way {
  readonly name: string
  readonly open: (policy: Policy.Patch) => Effect.Effect<End, unknown, Scope.Scope>
}

const tcp: Way = {
  name: "TCP, text pings",
  open: Effect.fnUntraced(function*(policy) {
    const peer = yield* TestSocket.make()
    const heartbeat = Heartbeat.text("ping", "pong", { token: true })
    const chat = Connection.make({ codec: Codec.lines(), heartbeat, policy: { ...quiet, ...policy } })
    const pongs = Effect.map(peer.text, (text) => Array.from(text.matchAll(/pong (\d+)\n/g), ([, n]) => Number(n)))
    const c = yield* chat(peer.socket)
    return {
      c,
      peer,
      message: (text) => Buffer.from(`${text}\n`),
      ping: (n) => Buffer.from(`ping ${n}\n`),
      pongs
    }
  })
}

const webSocket = (name: string, heartbeat?: Heartbeat.Heartbeat<string, string>): Way => ({
  name,
  open: Effect.fnUntraced(function*(policy) {
    const { c, from, peer, sent } = yield* openWebSocket(policy, heartbeat === undefined ? {} : { heartbeat })
    const pongs = Effect.map(
      sent,
      (frames) => frames.filter((frame) => frame.startsWith("pong")).map((frame) => Number(frame.slice(5)))
    )
    return { c, peer, message: from.text, ping: (n) => from.ping(`${n}`), pongs }
  })
})

const frame = (type: number, payload: Bytes): Bytes => {
  const header = Buffer.alloc(5)
  header.writeUInt32BE(1 + payload.length)
  header[4] = type
  return concat([header, payload])
}

const u32 = (...numbers: ReadonlyArray<number>): Bytes => {
  const bytes = Buffer.alloc(4 * numbers.length)
  numbers.forEach((n, i) => bytes.writeUInt32BE(n, 4 * i))
  return bytes
}

const native: Way = {
  name: "the native protocol",
  open: Effect.fnUntraced(function*(policy) {
    const peer = yield* TestSocket.make()
    yield* peer.send(frame(1, concat([Buffer.from([0x48, 0x46, 1, 1]), u32(0, 0)])))
    const c = yield* Protocol.server({ codec: Codec.lines(), policy: { ...quiet, ...policy } })(peer.socket)
    const pongs = Effect.map(peer.written, (chunks) => {
      const bytes = Buffer.concat(chunks as Array<Bytes>)
      const numbers: Array<number> = []
      for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32BE(at)) {
        if (bytes[at + 4] === 4) numbers.push(bytes.readUInt32BE(at + 5))
      }
      return numbers
    })
    return {
      c,
      peer,
      message: (text) => frame(5, Buffer.from(text)),
      ping: (n) => frame(3, u32(n, 0, 0)),
      pongs
    }
  })
}

const ways = [
  tcp,
  webSocket("WebSocket, its own pings"),
  webSocket("WebSocket, beside `preferFrames`", Heartbeat.preferFrames(Heartbeat.text("ping", "pong"))),
  native
]

const reasonOf = (c: Chat) => Effect.map(c.snapshot, ({ reason, state }) => (state === "ended" ? reason : undefined))

/** How many messages came to be received in this moment. */
const waiting = (c: Chat) => Effect.map(Effect.andThen(settle, c.snapshot), ({ messagesIn }) => messagesIn)

/** Long enough for the bucket to be full again after a greeting. */
const begin = (way: Way, policy: Policy.Patch) =>
  Effect.tap(way.open({ minPingEvery: 0, ...policy }), () => TestClock.adjust("1 minute"))

describe("which pings are answered", () => {
  it("B125 the first 32 while no pong leaves, and the newest of the others", () => {
    const pongs = new Pongs<number>()
    assert.isUndefined(pongs.leave())
    for (let i = 1; i <= 100; i++) assert.strictEqual(pongs.answers(i), i <= pongsOneByOne)
    assert.strictEqual(pongs.owed, 100)
    assert.strictEqual(pongs.leave(), 100)
    assert.strictEqual(pongs.owed, 0)
    assert.isTrue(pongs.answers(101))
    assert.isUndefined(pongs.leave())
  })

  for (const way of ways) {
    it.effect(`B125 ${way.name}: of 200 in a turn 33, the last of them the newest`, () =>
      Effect.gen(function*() {
        const { c, peer, ping, pongs } = yield* begin(way, { outboxMessages: 20_000 })
        yield* peer.send(concat(times(200, (n) => ping(n + 1))))
        yield* settle
        assert.deepStrictEqual(yield* pongs, [...times(32, (n) => n + 1), 200])
        assert.isUndefined(yield* reasonOf(c))
      }))

    it.effect(`B116 ${way.name}: pongs that the peer does not take count to its outbox, and reading pauses`, () =>
      Effect.gen(function*() {
        const { c, message, peer, ping, pongs } = yield* begin(way, { outboxMessages: 50, writeStall: "1 hour" })
        yield* peer.window(0)
        for (let n = 1; n <= 1000; n++) {
          yield* peer.send(ping(n))
          yield* settle
        }
        yield* peer.send(message("behind"))
        yield* settle
        const { bytesIn, messagesIn, paused } = yield* c.snapshot
        assert.isTrue(paused)
        assert.strictEqual(messagesIn, way === native ? 1 : 0)
        assert.isBelow(bytesIn, 60 * ping(1000).length + 200)
        yield* peer.window(Infinity)
        assert.strictEqual(yield* c.receive, "behind")
        yield* settle
        assert.isFalse((yield* c.snapshot).paused)
        assert.strictEqual((yield* pongs).at(-1), 1000)
      }))

    it.effect(`B116 ${way.name}: a peer that pings and never takes a pong ends by \`writeStall\`, however it pings`, () =>
      Effect.gen(function*() {
        const { c, peer, ping } = yield* begin(way, { outboxMessages: 50, writeStall: "10 seconds" })
        yield* peer.window(0)
        yield* peer.send(ping(1))
        for (let ms = 100; ms < 10_000; ms += 100) {
          yield* TestClock.adjust(100)
          yield* peer.send(ping(ms))
        }
        assert.isUndefined(yield* reasonOf(c))
        yield* TestClock.adjust(3000)
        assert.strictEqual((yield* reasonOf(c))?._tag, "WriteStalled")
      }))
  }

  it.effect("B116 no pong is encoded for nothing", () =>
    Effect.gen(function*() {
      let encoded = 0
      const lines = Codec.lines()
      const peer = yield* TestSocket.make()
      const codec = Codec.make<string, string>({
        ...lines,
        payload: {
          ...lines.payload,
          encode: (text) => {
            encoded++
            return lines.payload.encode(text)
          }
        }
      })
      yield* Connection.make(peer.socket, { codec, heartbeat: Heartbeat.text("ping", "pong"), policy: quiet })
      yield* peer.send("ping\n".repeat(200))
      yield* settle
      assert.strictEqual(encoded, 33)
    }))
})

describe("messageRate and byteRate", () => {
  for (const way of ways) {
    it.effect(`${way.name}: reading pauses until the rate allows what came, to the millisecond`, () =>
      Effect.gen(function*() {
        const { c, message, peer, ping } = yield* begin(way, { messageRate: 10, rateBurst: "1 second" })
        const before = yield* waiting(c)
        // ten may come at once; a ping is as good as a message
        yield* peer.send(concat([...times(9, (n) => message(`${n}`)), ping(1)]))
        assert.strictEqual(yield* waiting(c), before + 9)
        assert.isFalse((yield* c.snapshot).paused)
        // these fifteen would have come within the next 1.5 s, and one second's worth may come at once
        yield* peer.send(concat(times(15, (n) => message(`${n}`))))
        assert.strictEqual(yield* waiting(c), before + 24)
        yield* peer.send(message("later"))
        assert.strictEqual(yield* waiting(c), before + 24)
        assert.isTrue((yield* c.snapshot).paused)
        yield* TestClock.adjust(1499)
        assert.strictEqual(yield* waiting(c), before + 24)
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* waiting(c), before + 25)
        // the sustained rate: one every 100 ms
        for (let n = 0; n < 20; n++) {
          yield* peer.send(message("more"))
          yield* TestClock.adjust(99)
          assert.strictEqual(yield* waiting(c), before + 25 + n)
          yield* TestClock.adjust(1)
          assert.strictEqual(yield* waiting(c), before + 26 + n)
        }
      }))

    it.effect(`${way.name}: bytes as well, headers and all`, () =>
      Effect.gen(function*() {
        const { c, message, peer } = yield* begin(way, { byteRate: 1000, rateBurst: "500 millis" })
        const before = yield* waiting(c)
        const overhead = message("x").length - 1
        const large = message("x".repeat(100 - overhead))
        assert.strictEqual(large.length, 100)
        yield* peer.send(concat(times(30, () => large)))
        yield* waiting(c)
        yield* peer.send(large)
        yield* TestClock.adjust(2499)
        assert.strictEqual(yield* waiting(c), before + 30)
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* waiting(c), before + 31)
      }))

    it.effect(`${way.name}: \`close\` ends with the reason, once what came is handled`, () =>
      Effect.gen(function*() {
        const { c, message, peer } = yield* begin(way, { messageRate: 10, overRate: "close", drain: "1 second" })
        yield* peer.send(concat(times(10, (n) => message(`${n}`))))
        yield* settle
        assert.isUndefined(yield* reasonOf(c))
        yield* TestClock.adjust(99)
        yield* peer.send(message("early"))
        for (let n = 0; n < 10; n++) assert.strictEqual(yield* c.receive, `${n}`)
        assert.strictEqual(yield* c.receive, "early")
        const { reason } = yield* Effect.flip(c.receive)
        assert.deepInclude(reason, { _tag: "RateExceeded", limit: "messageRate", allowed: 10 })
      }))

    it.effect(`${way.name}: a pause of ours is no silence of the peer, and no deadline counts in it`, () =>
      Effect.gen(function*() {
        const { c, message, peer } = yield* begin(way, {
          messageRate: 1,
          rateBurst: 0,
          silence: "2 minutes",
          frame: "1 second",
          idle: "90 seconds"
        })
        yield* c.patch({ silence: "2 seconds", idle: "2 seconds" })
        // the beginning of a message behind ten, and nothing more
        yield* peer.send(concat([...times(10, (n) => message(`${n}`)), message("cut").subarray(0, 1)]))
        yield* waiting(c)
        yield* peer.send(message("cut").subarray(1))
        yield* TestClock.adjust(9_999)
        assert.isTrue((yield* c.snapshot).paused)
        yield* TestClock.adjust(1)
        assert.isUndefined(yield* reasonOf(c))
        assert.strictEqual((yield* c.receiveAll).at(-1), "cut")
        // what comes is heard again from here on
        yield* TestClock.adjust(1_999)
        assert.isUndefined(yield* reasonOf(c))
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* reasonOf(c))?._tag, "SilenceTimeout")
      }))

    it.effect(`${way.name}: a pause ends when the rate is lifted, and with the connection`, () =>
      Effect.gen(function*() {
        const { c, message, peer } = yield* begin(way, { messageRate: 1, rateBurst: 0 })
        const before = yield* waiting(c)
        yield* peer.send(concat(times(1000, (n) => message(`${n}`))))
        yield* waiting(c)
        yield* peer.send(message("behind"))
        assert.strictEqual(yield* waiting(c), before + 1000)
        yield* c.patch({ messageRate: 0 })
        assert.strictEqual(yield* waiting(c), before + 1001)
        yield* c.patch({ messageRate: 1 })
        yield* peer.send(concat(times(1000, (n) => message(`${n}`))))
        yield* waiting(c)
        yield* peer.send(message("never"))
        yield* settle
        yield* c.close
        yield* peer.released
      }))
  }
})

describe("a turn of the event loop", () => {
  for (const way of ways) {
    it.effect(`B116 ${way.name}: takes a share of what one peer sent, and the others have theirs before the rest`, () =>
      Effect.gen(function*() {
        const flooder = yield* begin(way, { inboxMessages: 100_000, inboxBytes: 100_000_000 })
        const honest = yield* begin(way, {})
        const before = (yield* flooder.c.snapshot).messagesIn
        // in one read, and in many
        yield* flooder.peer.send(concat(times(3000, () => flooder.message("x"))))
        for (let n = 0; n < 30; n++) yield* flooder.peer.send(concat(times(100, () => flooder.message("y"))))
        yield* honest.peer.send(honest.message("a"))
        assert.strictEqual(yield* honest.c.receive, "a")
        assert.isAtMost((yield* flooder.c.snapshot).messagesIn - before, 2 * 256)
        // a share in each turn, and nothing is lost
        const seen: Array<number> = []
        for (let left = 6000; left > 0;) {
          const batch = yield* flooder.c.receiveAll
          seen.push(batch.length)
          left -= batch.length
        }
        assert.strictEqual(seen.reduce((sum, n) => sum + n), 6000)
        assert.isAtMost(Math.max(...seen), 3 * 256)
      }))
  }
})

/**
 * The native protocol, byte by byte. The bytes are written from the documentation of the module and not by its encoder,
 * so that the documentation is what is tested.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { Client, Codec, Connection, ConnectionError, type Policy, Protocol, Registry, Server } from "../src/index.ts"
import { TestSocket } from "../src/testing/index.ts"

// ---------------------------------------------------------------------------------------------------------------------
// bytes, by hand
// ---------------------------------------------------------------------------------------------------------------------

type Bytes = ReadonlyArray<number>

const n4 = (n: number): Bytes => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255]
const ascii = (text: string): Bytes => Array.from(text, (char) => char.charCodeAt(0))
const advice = (after = 0, spread = 0): Bytes => [...n4(after), ...n4(spread)]

const hello = (options: { lowest?: number; highest?: number; pingEvery?: number; silence?: number } = {}): Bytes => [
  1,
  0x48,
  0x46,
  options.lowest ?? 1,
  options.highest ?? 1,
  ...n4(options.pingEvery ?? 25_000),
  ...n4(options.silence ?? 60_000)
]
const welcome = (
  options: { version?: number; pingEvery?: number; minPingEvery?: number; advice?: Bytes } = {}
): Bytes => [
  2,
  options.version ?? 1,
  ...n4(options.pingEvery ?? 25_000),
  ...n4(options.minPingEvery ?? 0),
  ...(options.advice ?? advice())
]
const ping = (token: number, given: Bytes = advice()): Bytes => [3, ...n4(token), ...given]
const pong = (token: number): Bytes => [4, ...n4(token)]
const data = (text: string): Bytes => [5, ...ascii(text)]
const goingAway = (given: Bytes, text: string): Bytes => [6, ...given, ...ascii(text)]
const close = (code: number, retry: boolean, text = "", given: Bytes = advice()): Bytes => [
  7,
  code,
  retry ? 1 : 0,
  ...given,
  ...ascii(text)
]

const framed = (...bodies: ReadonlyArray<Bytes>): Uint8Array =>
  Uint8Array.from(bodies.flatMap((body) => [...n4(body.length), ...body]))
const fromHex = (text: string): Uint8Array =>
  Uint8Array.from(text.trim().split(/\s+/), (pair) => Number.parseInt(pair, 16))

const names = ["?", "HELLO", "WELCOME", "PING", "PONG", "DATA", "GOING_AWAY", "CLOSE"]

/** A frame as a person reads it: its name, its numbers by the table, its text. */
const show = (body: Bytes): string => {
  const bytes = Uint8Array.from(body)
  const view = new DataView(bytes.buffer)
  const layout = ["", "21144", "14444", "444", "4", "", "44", "1144"][body[0]!]!
  const numbers: Array<number> = []
  let at = 1
  for (const width of layout) {
    numbers.push(width === "1" ? view.getUint8(at) : width === "2" ? view.getUint16(at) : view.getUint32(at))
    at += Number(width)
  }
  const text = new TextDecoder().decode(bytes.subarray(at))
  return [names[body[0]!], ...numbers, ...(text === "" ? [] : [text])].join(" ")
}

// ---------------------------------------------------------------------------------------------------------------------
// ends
// ---------------------------------------------------------------------------------------------------------------------

/** The far end of a test socket, in frames. */
interface Far {
  readonly peer: TestSocket.Peer
  readonly send: (...bodies: ReadonlyArray<Bytes>) => Effect.Effect<void>
  /** What was written since the last look, one line a frame. */
  readonly said: Effect.Effect<ReadonlyArray<string>>
}

const far = (peer: TestSocket.Peer, messages: boolean): Far => {
  let seen = 0
  return {
    peer,
    send: (...bodies) =>
      messages ? peer.send(...bodies.map((body) => Uint8Array.from(body))) : peer.send(framed(...bodies)),
    said: Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const written = (yield* peer.written).slice(seen) as ReadonlyArray<Uint8Array>
      seen += written.length
      if (messages) return written.map((message) => show([...message]))
      const all = written.flatMap((chunk) => [...chunk])
      const lines: Array<string> = []
      while (all.length > 0) {
        const [a, b, c, d] = all.splice(0, 4)
        lines.push(show(all.splice(0, ((a! * 256 + b!) * 256 + c!) * 256 + d!)))
      }
      return lines
    })
  }
}

interface Opened<A> extends Far {
  /** What opening came to. */
  readonly fiber: Fiber.Fiber<Connection.Connection<A>, ConnectionError.ConnectionError>
  readonly connection: Effect.Effect<Connection.Connection<A>, ConnectionError.ConnectionError>
}

interface Settings<A> {
  readonly codec?: Codec.Codec<A>
  readonly policy?: Policy.Patch
  readonly messages?: boolean
  readonly advise?: (connections: number) => ConnectionError.Advice
}

const ends = { client: Protocol.client, server: Protocol.server }

const calm = { pingJitter: 0, halfClose: 0 } as const

const open = (role: "client" | "server") =>
  Effect.fnUntraced(function*<A = string>(
    settings: Settings<A> = {}
  ): Effect.fn.Return<Opened<A>, never, Scope.Scope> {
    const messages = settings.messages === true
    const peer = yield* TestSocket.make({ messages })
    const socket = messages ? Connection.describe(peer.socket, { messages }) : peer.socket
    const fiber = yield* Effect.forkChild(
      ends[role]<A, A>({
        codec: settings.codec ?? (Codec.lines() as Codec.Codec<unknown> as Codec.Codec<A>),
        policy: { ...calm, ...settings.policy },
        ...(settings.advise === undefined ? {} : { advise: settings.advise })
      })(socket)
    )
    yield* TestClock.adjust(0)
    return { ...far(peer, messages), fiber, connection: Fiber.join(fiber) }
  })
const openClient = open("client")
const openServer = open("server")

/** Past the greeting, with what it said taken. */
const greetedServer = Effect.fnUntraced(function*<A = string>(settings: Settings<A> = {}) {
  const end = yield* openServer(settings)
  yield* end.send(hello())
  const connection = yield* end.connection
  yield* end.said
  return { ...end, connection }
})
const greetedClient = Effect.fnUntraced(function*<A = string>(settings: Settings<A> = {}, given: Bytes = welcome()) {
  const end = yield* openClient(settings)
  yield* end.send(given)
  const connection = yield* end.connection
  yield* end.said
  return { ...end, connection }
})

/** A reason as plain data; the cause of an error is not enumerable. */
const facts = (reason: ConnectionError.Reason | undefined): Record<string, unknown> => ({
  ...reason,
  ...(reason?._tag === "HandshakeFailed" ? { cause: reason.cause } : {})
})

const reasonOf = <A>(operation: Effect.Effect<A, ConnectionError.ConnectionError>) =>
  Effect.map(Effect.flip(operation), (error) => facts(error.reason))

const roles = ["client", "server"] as const
const greeted = { client: greetedClient, server: greetedServer }

describe("greeting", () => {
  it.effect("a client says HELLO at once, and is open when WELCOME comes", () =>
    Effect.gen(function*() {
      const { connection, fiber, said, send } = yield* openClient()
      assert.deepStrictEqual(yield* said, ["HELLO 18502 1 1 25000 60000"])
      assert.isUndefined(fiber.pollUnsafe())
      yield* send(welcome())
      yield* (yield* connection).send("hello")
      assert.deepStrictEqual(yield* said, ["DATA hello"])
    }))

  it.effect("a server says nothing until HELLO comes, and then WELCOME", () =>
    Effect.gen(function*() {
      const { connection, fiber, said, send } = yield* openServer()
      yield* TestClock.adjust(9999)
      assert.deepStrictEqual(yield* said, [])
      assert.isUndefined(fiber.pollUnsafe())
      yield* send(hello())
      yield* connection
      assert.deepStrictEqual(yield* said, ["WELCOME 1 25000 5000 0 0"])
    }))

  it.effect("the example of the documentation, byte by byte", () =>
    Effect.gen(function*() {
      const client = yield* openClient()
      const server = yield* openServer({ advise: () => ({ after: 0, spread: 20_000 }) })
      const written = (end: Far) =>
        Effect.map(end.peer.written, (all) => all.flatMap((chunk) => [...chunk as Uint8Array]))
      const bytes = (text: string) => [...fromHex(text)]
      assert.deepStrictEqual(yield* written(client), bytes("00 00 00 0d 01 48 46 01 01 00 00 61 a8 00 00 ea 60"))
      yield* server.peer.send(fromHex("00 00 00 0d 01 48 46 01 01 00 00 61 a8 00 00 ea 60"))
      const theirs = yield* server.connection
      const greeting = "00 00 00 12 02 01 00 00 61 a8 00 00 13 88 00 00 00 00 00 00 4e 20"
      assert.deepStrictEqual(yield* written(server), bytes(greeting))
      yield* client.peer.send(fromHex(greeting))
      const ours = yield* client.connection
      yield* ours.send("hello")
      yield* TestClock.adjust(0)
      assert.deepStrictEqual((yield* written(client)).slice(17), bytes("00 00 00 06 05 68 65 6c 6c 6f"))
      yield* server.peer.send(fromHex("00 00 00 06 05 68 65 6c 6c 6f"))
      assert.strictEqual(yield* theirs.receive, "hello")
      yield* TestClock.adjust(25_000)
      const pinged = "00 00 00 0d 03 00 00 00 01 00 00 00 00 00 00 4e 20"
      assert.deepStrictEqual((yield* written(server)).slice(22), bytes(pinged))
      yield* client.peer.send(fromHex(pinged))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual((yield* written(client)).slice(-9), bytes("00 00 00 05 04 00 00 00 01"))
      yield* theirs.closeWith(new ConnectionError.Superseded({ key: "me" }))
      const last = "00 00 00 0d 07 05 00 00 00 00 00 00 00 4e 20 6d 65"
      assert.deepStrictEqual((yield* written(server)).slice(39), bytes(last))
      yield* client.peer.send(fromHex(last))
      const error = yield* Effect.flip(ours.closed)
      assert.deepStrictEqual([facts(error.reason), error.advice, error.isRetryable], [
        { _tag: "Superseded", key: "me" } as never,
        { after: 0, spread: 20_000 },
        false
      ])
    }))

  it.effect("B45 a server closes with 8 at the handshake deadline, and the client may come back", () =>
    Effect.gen(function*() {
      const { fiber, peer, said, send } = yield* openServer({ policy: { handshake: "3 seconds" } })
      yield* peer.send(framed(hello()).slice(0, 12))
      yield* TestClock.adjust(2999)
      assert.deepStrictEqual(yield* said, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* said, ["CLOSE 8 1 0 0 the peer did not finish its handshake within 3 s"])
      assert.deepStrictEqual(yield* reasonOf(Fiber.join(fiber)), { _tag: "HandshakeTimeout", limit: 3000 })
      assert.isTrue(yield* peer.finished)
      yield* send(hello())
    }))

  it.effect("B80 a client closes with 8 at the handshake deadline", () =>
    Effect.gen(function*() {
      const { fiber, said } = yield* openClient()
      yield* said
      yield* TestClock.adjust(9999)
      assert.deepStrictEqual(yield* said, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* said, ["CLOSE 8 1 0 0 the peer did not finish its handshake within 10 s"])
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.deepStrictEqual([error.reason._tag, error.isRetryable], ["HandshakeTimeout", true])
    }))

  it.effect("handshake: 0 waits as long as silence allows", () =>
    Effect.gen(function*() {
      const { fiber } = yield* openServer({ policy: { handshake: 0 } })
      yield* TestClock.adjust(59_999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* reasonOf(Fiber.join(fiber)))._tag, "SilenceTimeout")
    }))

  it.effect("no ping passes the greeting, however long it takes", () =>
    Effect.gen(function*() {
      for (const role of roles) {
        const end = yield* open(role)({ policy: { pingEvery: "100 millis", pingWhen: "always" } })
        yield* end.said
        yield* TestClock.adjust(5000)
        assert.deepStrictEqual(yield* end.said, [], role)
        yield* end.send(role === "client" ? welcome({ pingEvery: 1000 }) : hello())
        yield* end.connection
        const first = yield* end.said
        assert.deepStrictEqual(first.slice(0, 1), role === "client" ? ["PING 1 0 0"] : ["WELCOME 1 25000 50 0 0"])
      }
    }))

  it.effect("a peer that ends before its greeting is Closed, one that resets is Reset: both retryable", () =>
    Effect.gen(function*() {
      for (const role of roles) {
        for (const how of ["end", "reset"] as const) {
          const { fiber, peer } = yield* open(role)()
          yield* peer[how]
          const error = yield* Effect.flip(Fiber.join(fiber))
          assert.deepStrictEqual([error.reason._tag, error.isRetryable], [how === "end" ? "Closed" : "Reset", true])
        }
      }
    }))
})

describe("versions", () => {
  const common: ReadonlyArray<readonly [number, number]> = [[1, 1], [0, 1], [1, 255], [0, 7]]
  const foreign: ReadonlyArray<readonly [number, number]> = [[2, 2], [2, 255], [0, 0], [3, 1]]

  it.effect("a server picks the highest that both speak", () =>
    Effect.gen(function*() {
      for (const [lowest, highest] of common) {
        const { connection, said, send } = yield* openServer()
        yield* send(hello({ lowest, highest }))
        yield* connection
        assert.deepStrictEqual(yield* said, ["WELCOME 1 25000 5000 0 0"])
      }
    }))

  it.effect("without one it closes with 2, says what it speaks, and knows what the client speaks", () =>
    Effect.gen(function*() {
      for (const [lowest, highest] of foreign) {
        const { fiber, said, send } = yield* openServer()
        yield* send(hello({ lowest, highest }))
        assert.deepStrictEqual(yield* reasonOf(Fiber.join(fiber)), {
          _tag: "UnsupportedVersion",
          lowest,
          highest,
          ours: "1-1"
        })
        assert.deepStrictEqual(yield* said, ["CLOSE 2 0 0 0 1-1"])
      }
    }))

  it.effect("a client is told what the server speaks, and does not come back", () =>
    Effect.gen(function*() {
      const { fiber, send } = yield* openClient()
      yield* send(close(2, false, "2-3"))
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.deepStrictEqual(
        facts(error.reason),
        { _tag: "UnsupportedVersion", lowest: 2, highest: 3, ours: "1-1" } as never
      )
      assert.isFalse(error.isRetryable)
    }))

  it.effect("a client closes with 2 when WELCOME has a version it did not offer", () =>
    Effect.gen(function*() {
      for (const version of [0, 2, 255]) {
        const { fiber, said, send } = yield* openClient()
        yield* said
        yield* send(welcome({ version }))
        assert.strictEqual((yield* reasonOf(Fiber.join(fiber)))._tag, "UnsupportedVersion")
        assert.deepStrictEqual(yield* said, ["CLOSE 2 0 0 0 1-1"])
      }
    }))

  it.effect("a CLOSE with 2 whose text is no range is Closed with its code, and not retryable", () =>
    Effect.gen(function*() {
      const { fiber, send } = yield* openClient()
      yield* send(close(2, false, "whatever"))
      assert.deepStrictEqual(yield* reasonOf(Fiber.join(fiber)), {
        _tag: "Closed",
        by: "peer",
        retryable: false,
        code: 2,
        note: "whatever"
      })
    }))
})

describe("data", () => {
  const codecs: ReadonlyArray<readonly [string, Codec.Codec<any>, unknown, Bytes]> = [
    ["bytes", Codec.lengthPrefix(), new Uint8Array([0, 255, 10]), [0, 255, 10]],
    ["no bytes", Codec.lengthPrefix(), new Uint8Array(0), []],
    ["text with newlines", Codec.lines(), "a\nb é", [97, 10, 98, 32, 0xc3, 0xa9]],
    ["JSON", Codec.lines().pipe(Codec.json), { a: [1] }, ascii("{\"a\":[1]}")],
    ["MessagePack", Codec.lengthPrefix().pipe(Codec.msgpack), { a: [1] }, [0x81, 0xa1, 0x61, 0x91, 0x01]]
  ]
  for (const [name, codec, message, bytes] of codecs) {
    for (const messages of [false, true]) {
      it.effect(`${name}, both ways, over ${messages ? "messages" : "a stream"}`, () =>
        Effect.gen(function*() {
          for (const role of roles) {
            const { connection, peer, send } = yield* greeted[role]({ codec, messages })
            yield* send([5, ...bytes])
            assert.deepStrictEqual(yield* connection.receive, message)
            yield* connection.send(message)
            yield* TestClock.adjust(0)
            const last = (yield* peer.written).at(-1)
            assert.deepStrictEqual(last, messages ? Uint8Array.from([5, ...bytes]) : framed([5, ...bytes]))
          }
        }))
    }
  }

  it.effect("B1 split into single bytes, and all at once", () =>
    Effect.gen(function*() {
      const conversation = framed(hello(), data("one"), ping(7), data(""), data("two"))
      for (const chunks of [[conversation], Array.from(conversation, (byte) => Uint8Array.of(byte))]) {
        const { connection, peer, said, send } = yield* openServer()
        for (const chunk of chunks) yield* peer.send(chunk)
        const server = yield* connection
        assert.deepStrictEqual([yield* server.receive, yield* server.receive, yield* server.receive], [
          "one",
          "",
          "two"
        ])
        assert.deepStrictEqual((yield* said).toSorted(), ["PONG 7", "WELCOME 1 25000 5000 0 0"])
        yield* send(close(0, false))
        assert.strictEqual((yield* reasonOf(server.receive))._tag, "Closed")
      }
      const { connection, peer } = yield* openClient()
      for (const byte of framed(welcome(), data("x"))) yield* peer.send(Uint8Array.of(byte))
      assert.strictEqual(yield* (yield* connection).receive, "x")
    }))

  it.effect("a message that cannot be encoded fails its sender and nothing else", () =>
    Effect.gen(function*() {
      const { connection, said } = yield* greetedClient({
        codec: Codec.lines().pipe(Codec.json) as Codec.Codec<unknown>
      })
      assert.strictEqual((yield* reasonOf(connection.send(1n)))._tag, "InvalidMessage")
      yield* connection.send(1)
      assert.deepStrictEqual(yield* said, ["DATA 1"])
    }))

  it.effect("a message that cannot be decoded is a violation with the codec's reason", () =>
    Effect.gen(function*() {
      const { connection, said, send } = yield* greetedServer({
        codec: Codec.lines().pipe(Codec.json) as Codec.Codec<unknown>
      })
      yield* send(data("{"))
      assert.strictEqual((yield* reasonOf(connection.closed))._tag, "InvalidMessage")
      assert.match((yield* said)[0]!, /^CLOSE 3 0 0 0 a frame is not valid JSON/)
    }))

  for (const messages of [false, true]) {
    for (const maxFrame of [10, 2000]) {
      it.effect(`B14 a message of ${maxFrame} bytes passes, one more fails with both sizes (messages: ${messages})`, () =>
        Effect.gen(function*() {
          for (const role of roles) {
            const { connection, said, send } = yield* greeted[role]({ policy: { maxFrame }, messages })
            const most = "m".repeat(maxFrame)
            yield* send(data(most))
            assert.strictEqual(yield* connection.receive, most)
            yield* connection.send(most)
            assert.deepStrictEqual(yield* said, [`DATA ${most}`])
            // the type counts
            const limits = { size: maxFrame + 2, limit: maxFrame + 1 }
            assert.deepStrictEqual(yield* reasonOf(connection.send(`${most}m`)), {
              _tag: "FrameTooLong",
              direction: "encode",
              ...limits
            })
            yield* send(data(`${most}m`))
            assert.deepStrictEqual(yield* reasonOf(connection.closed), {
              _tag: "FrameTooLong",
              direction: "decode",
              ...limits
            })
            assert.deepStrictEqual(yield* said, [
              `CLOSE 3 0 0 0 a frame of ${maxFrame + 2} bytes is over the limit of ${maxFrame + 1} bytes`
            ])
          }
        }))
    }
  }

  it.effect("the limit of the codec holds where it is the lower one", () =>
    Effect.gen(function*() {
      const { connection } = yield* greetedClient({ codec: Codec.lines({ maxFrame: 3 }) })
      yield* connection.send("abc")
      assert.strictEqual((yield* reasonOf(connection.send("abcd")))._tag, "FrameTooLong")
    }))

  it.effect("B13 a length of 4 GiB ends the connection at its header", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* greetedServer()
      yield* peer.send(Uint8Array.of(255, 255, 255, 255))
      assert.deepStrictEqual(yield* reasonOf(connection.closed), {
        _tag: "FrameTooLong",
        direction: "decode",
        size: 0xffff_ffff,
        limit: 1024 * 1024 + 1
      })
    }))

  it.effect("any limit of a policy can be used", () =>
    Effect.gen(function*() {
      const { connection, said } = yield* greetedClient({ policy: { maxFrame: Number.MAX_SAFE_INTEGER } })
      yield* connection.send("a")
      assert.deepStrictEqual(yield* said, ["DATA a"])
    }))

  it.effect("B12 an end inside a frame is Truncated", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* greetedServer()
      yield* peer.send(framed(data("hello")).slice(0, 7))
      yield* peer.end
      assert.deepStrictEqual(yield* reasonOf(connection.receive), { _tag: "Truncated", leftover: 7 })
    }))

  it.effect("an Effect WebSocket that does not say what it is can be named", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make({ messages: true })
      const fiber = yield* Effect.forkChild(
        Protocol.client({ codec: Codec.lines(), policy: calm, transport: "messages" })(peer.socket)
      )
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([...(yield* peer.written)[0] as Uint8Array], [...hello()])
      yield* peer.send(Uint8Array.from(welcome()))
      yield* Fiber.join(fiber)
    }))
})

describe("violations end with a reason on both ends", () => {
  type Case = readonly [name: string, body: Bytes, detail: string]
  const anyTime: ReadonlyArray<Case> = [
    ["type 0", [0], "a frame of the unknown type 0"],
    ["type 8", [8, 1, 2], "a frame of the unknown type 8"],
    ["type 255", [255], "a frame of the unknown type 255"],
    ["no type", [], "an empty frame"],
    ["a short HELLO", hello().slice(0, 12), "a frame of type 1 with 12 bytes; it needs 13"],
    ["a short WELCOME", welcome().slice(0, 17), "a frame of type 2 with 17 bytes; it needs 18"],
    ["a short PING", ping(1).slice(0, 12), "a frame of type 3 with 12 bytes; it needs 13"],
    ["a short PONG", pong(1).slice(0, 4), "a frame of type 4 with 4 bytes; it needs 5"],
    ["a short GOING_AWAY", goingAway(advice(), "").slice(0, 8), "a frame of type 6 with 8 bytes; it needs 9"],
    ["a short CLOSE", close(0, false).slice(0, 10), "a frame of type 7 with 10 bytes; it needs 11"],
    ["other magic", [1, 0x48, 0x54, 1, 1, ...advice()], "a HELLO without its magic bytes"]
  ]
  const first = {
    client: [
      ["HELLO", hello(), "HELLO came before WELCOME"],
      ["PING", ping(1), "PING came before WELCOME"],
      ["PONG", pong(1), "PONG came before WELCOME"],
      ["DATA", data("x"), "DATA came before WELCOME"],
      ["GOING_AWAY", goingAway(advice(), ""), "GOING_AWAY came before WELCOME"]
    ],
    server: [
      ["WELCOME", welcome(), "WELCOME came before HELLO"],
      ["PING", ping(1), "PING came before HELLO"],
      ["PONG", pong(1), "PONG came before HELLO"],
      ["DATA", data("x"), "DATA came before HELLO"],
      ["GOING_AWAY", goingAway(advice(), ""), "GOING_AWAY came before HELLO"]
    ]
  } satisfies Record<string, ReadonlyArray<Case>>
  const later = {
    client: [
      ["a second WELCOME", welcome(), "WELCOME came after the greeting"],
      ["HELLO", hello(), "HELLO came after the greeting"]
    ],
    server: [
      ["a second HELLO", hello(), "HELLO came after the greeting"],
      ["WELCOME", welcome(), "WELCOME came after the greeting"],
      ["GOING_AWAY", goingAway(advice(), ""), "GOING_AWAY came from a client"]
    ]
  } satisfies Record<string, ReadonlyArray<Case>>

  for (const role of roles) {
    for (const messages of [false, true]) {
      const where = `a ${role}${messages ? " over messages" : ""}`
      it.effect(`${where}: instead of the greeting`, () =>
        Effect.gen(function*() {
          for (const [name, body, detail] of [...anyTime, ...first[role]]) {
            const end = yield* open(role)({ messages })
            yield* end.said
            yield* end.send(body, data("never seen"))
            assert.deepStrictEqual(yield* reasonOf(end.connection), { _tag: "ProtocolViolation", detail }, name)
            assert.deepStrictEqual((yield* end.said).slice(0, 1), [`CLOSE 3 0 0 0 ${detail}`], name)
          }
        }))

      it.effect(`${where}: after it`, () =>
        Effect.gen(function*() {
          for (const [name, body, detail] of [...anyTime, ...later[role]]) {
            const { connection, said, send } = yield* greeted[role]({ messages })
            yield* send(data("before"), body, data("after"))
            assert.strictEqual(yield* connection.receive, "before", name)
            assert.deepStrictEqual(yield* reasonOf(connection.receive), { _tag: "ProtocolViolation", detail }, name)
            assert.deepStrictEqual((yield* said).slice(0, 1), [`CLOSE 3 0 0 0 ${detail}`], name)
          }
        }))
    }

    it.effect(`a ${role}: a text message of a WebSocket`, () =>
      Effect.gen(function*() {
        const { connection, peer, said } = yield* greeted[role]({ messages: true })
        yield* peer.send("\u0005hello")
        assert.deepStrictEqual(yield* reasonOf(connection.closed), {
          _tag: "ProtocolViolation",
          detail: "a text message"
        })
        assert.deepStrictEqual(yield* said, ["CLOSE 3 0 0 0 a text message"])
        const finished = yield* peer.finished
        assert.isTrue(Socket.isCloseEvent(finished) && finished.code === 1008)
      }))
  }

  it.effect("bytes beyond the fields are ignored", () =>
    Effect.gen(function*() {
      const { connection, said, send } = yield* openServer()
      yield* send([...hello(), 1, 2, 3])
      const server = yield* connection
      yield* send([...ping(9), 0], [...pong(1), 0])
      assert.deepStrictEqual(yield* said, ["WELCOME 1 25000 5000 0 0", "PONG 9"])
      const client = yield* greetedClient({}, [...welcome(), 7])
      yield* server.send("x")
      yield* client.connection.send("y")
    }))
})

describe("closes", () => {
  type Sent = readonly [reason: ConnectionError.Reason, frame: string]
  const sent: ReadonlyArray<Sent> = [
    [new ConnectionError.Closed({ by: "local" }), "CLOSE 0 1 0 0"],
    [new ConnectionError.Closed({ by: "local", note: "bye", retryable: false }), "CLOSE 0 0 0 0 bye"],
    [new ConnectionError.GoingAway({}), "CLOSE 1 1 0 0 this end is shutting down"],
    [new ConnectionError.MaxAge({ limit: 1000 }), "CLOSE 1 1 0 0 the connection reached its maximum age of 1 s"],
    [new ConnectionError.Swept({}), "CLOSE 1 1 0 0 removed by a sweep of the registry"],
    [new ConnectionError.UnsupportedVersion({ lowest: 2, highest: 3, ours: "1-1" }), "CLOSE 2 0 0 0 1-1"],
    [new ConnectionError.ProtocolViolation({ detail: "so" }), "CLOSE 3 0 0 0 so"],
    [
      new ConnectionError.FrameTooLong({ direction: "decode", size: 9, limit: 8 }),
      "CLOSE 3 0 0 0 a frame of 9 bytes is over the limit of 8 bytes"
    ],
    [
      new ConnectionError.Truncated({ leftover: 1 }),
      "CLOSE 3 1 0 0 the stream ended inside a frame; 1 bytes of it had come"
    ],
    [
      new ConnectionError.TooManyPings({ minimum: 5000 }),
      "CLOSE 4 0 0 0 too many pings: the minimum interval is 5 s"
    ],
    [new ConnectionError.Superseded({ key: "ada" }), "CLOSE 5 0 0 0 ada"],
    [new ConnectionError.DuplicateKey({ key: "ada" }), "CLOSE 6 0 0 0 ada"],
    [new ConnectionError.Refused({ limit: "maxConnections", allowed: 3 }), "CLOSE 7 1 0 0 maxConnections"],
    [new ConnectionError.HandshakeFailed({ cause: "bad token" }), "CLOSE 8 0 0 0"],
    [
      new ConnectionError.HandshakeTimeout({ limit: 1000 }),
      "CLOSE 8 1 0 0 the peer did not finish its handshake within 1 s"
    ],
    [new ConnectionError.SilenceTimeout({ limit: 1000 }), "CLOSE 9 1 0 0 the peer sent nothing for 1 s"],
    [new ConnectionError.IdleTimeout({ limit: 1000 }), "CLOSE 9 1 0 0 no message in either direction for 1 s"],
    [
      new ConnectionError.SlowConsumer({ messages: 2, bytes: 3 }),
      "CLOSE 10 1 0 0 the peer reads too slowly: 2 messages (3 bytes) were waiting for it"
    ],
    [
      new ConnectionError.MessageTooLarge({ size: 9, limit: 8 }),
      "CLOSE 11 1 0 0 a message of 9 bytes is larger than the outbox may hold (8 bytes)"
    ],
    [
      new ConnectionError.FrameTooLong({ direction: "encode", size: 9, limit: 8 }),
      "CLOSE 11 1 0 0 a frame of 9 bytes is over the limit of 8 bytes"
    ]
  ]

  for (const role of roles) {
    it.effect(`a ${role} closes with the code, the flag and the text of its reason, and then FIN`, () =>
      Effect.gen(function*() {
        for (const [reason, frame] of sent) {
          const { connection, peer, said } = yield* greeted[role]()
          yield* connection.send("last")
          yield* connection.closeWith(reason)
          assert.deepStrictEqual(yield* said, ["DATA last", frame], reason._tag)
          assert.isTrue(yield* peer.finished)
        }
      }))
  }

  const violation = (detail: string) => ({ _tag: "ProtocolViolation", detail })
  const closed = (code: number, retryable: boolean, note?: string) => ({
    _tag: "Closed",
    by: "peer",
    retryable,
    ...(code === 0 ? {} : { code }),
    ...(note === undefined ? {} : { note })
  })
  const received: ReadonlyArray<readonly [frame: Bytes, reason: Record<string, unknown>]> = [
    [close(0, false), closed(0, false)],
    [close(0, true, "bye"), closed(0, true, "bye")],
    [close(1, true, "stopping"), closed(1, true, "stopping")],
    [close(2, false, "2-4"), { _tag: "UnsupportedVersion", lowest: 2, highest: 4, ours: "1-1" }],
    [close(3, false, "so"), violation("the peer says: so")],
    [close(3, true, "cut"), closed(3, true, "cut")],
    [close(4, false, "why"), { _tag: "TooManyPings", minimum: 0 }],
    [close(5, false, "ada"), { _tag: "Superseded", key: "ada" }],
    [close(6, false, "ada"), { _tag: "DuplicateKey", key: "ada" }],
    [close(7, true, "maxConnections"), { _tag: "Refused", limit: "maxConnections" }],
    [close(7, true, "stopping"), { _tag: "Refused", limit: "stopping" }],
    [close(7, true, "moon phase"), closed(7, true, "moon phase")],
    [close(7, false, "maxConnections"), closed(7, false, "maxConnections")],
    [close(8, false, "bad token"), { _tag: "HandshakeFailed", cause: "the peer says: bad token" }],
    [close(8, true, "late"), closed(8, true, "late")],
    [close(9, true, "silence"), closed(9, true, "silence")],
    [close(10, true, "slow"), closed(10, true, "slow")],
    [close(11, true, "oops"), closed(11, true, "oops")],
    [close(99, true, "new"), closed(99, true, "new")],
    [close(99, false), closed(99, false)],
    // flags of later versions
    [[7, 1, 0xfe, ...advice()], closed(1, false)],
    [[7, 1, 0xff, ...advice()], closed(1, true)]
  ]

  const textOf = (frame: Bytes): string => new TextDecoder().decode(Uint8Array.from(frame.slice(11)))

  for (const role of roles) {
    it.effect(`a ${role} is told by CLOSE, answers none, and knows whether to come back by the flag`, () =>
      Effect.gen(function*() {
        for (const [frame, given] of received) {
          // B132 limits, keys and credentials are not a client's to judge
          const reason = role === "server" && frame[1]! >= 4 && frame[1]! <= 8
            ? closed(frame[1]!, (frame[2]! & 1) === 1, textOf(frame))
            : given
          const { connection, peer, said, send } = yield* greeted[role]()
          yield* send(data("last"), frame, data("too late"))
          assert.strictEqual(yield* connection.receive, "last")
          const error = yield* Effect.flip(connection.closed)
          assert.deepStrictEqual(facts(error.reason), reason as never)
          assert.strictEqual(error.isRetryable, (frame[2]! & 1) === 1)
          assert.deepStrictEqual(yield* said, [])
          assert.isTrue(yield* peer.finished)
        }
      }))
  }

  it.effect("CLOSE instead of WELCOME is what opening fails with", () =>
    Effect.gen(function*() {
      for (const [frame, reason] of received) {
        const { fiber, send } = yield* openClient()
        yield* send(frame)
        assert.deepStrictEqual(yield* reasonOf(Fiber.join(fiber)), reason)
      }
    }))

  it.effect("a text is cut between two characters at 500 bytes, and a CLOSE fits whatever the limit", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* greetedServer({ policy: { maxFrame: 1 } })
      yield* connection.closeWith(new ConnectionError.Superseded({ key: `x${"😀".repeat(300)}` }))
      const last = [...(yield* peer.written).at(-1) as Uint8Array]
      assert.deepStrictEqual(last.slice(0, 7), [0, 0, ...n4(11 + 497).slice(2), 7, 5, 0])
      const text = new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(last.slice(15)))
      assert.strictEqual(text, `x${"😀".repeat(124)}`)
    }))

  it.effect("a server that ends by an interruption does not keep its clients away", () =>
    Effect.gen(function*() {
      const { peer, said, send } = far(yield* TestSocket.make(), false)
      const scope = yield* Scope.make()
      const fiber = yield* Effect.forkChild(
        Protocol.server({ codec: Codec.lines(), policy: calm })(peer.socket).pipe(Scope.provide(scope))
      )
      yield* send(hello())
      yield* Fiber.join(fiber)
      yield* said
      yield* Scope.close(scope, Exit.die("a bug in a handler"))
      assert.deepStrictEqual(yield* said, ["CLOSE 0 1 0 0"])
    }))

  it.effect("drainWith says GOING_AWAY, lets answers leave, and CLOSE with 1 comes last", () =>
    Effect.gen(function*() {
      const { connection, said, send } = yield* greetedServer({ advise: () => ({ after: 100, spread: 900 }) })
      yield* send(data("question"))
      yield* TestClock.adjust(0)
      yield* connection.drainWith(new ConnectionError.GoingAway({}))
      assert.deepStrictEqual(yield* said, ["GOING_AWAY 100 900 this end is shutting down"])
      assert.strictEqual(yield* connection.receive, "question")
      yield* connection.send("answer")
      yield* connection.close
      assert.deepStrictEqual(yield* said, ["DATA answer", "CLOSE 1 1 100 900 this end is shutting down"])
    }))

  it.effect("a client that is drained says only CLOSE", () =>
    Effect.gen(function*() {
      const { connection, said } = yield* greetedClient()
      yield* connection.drainWith(new ConnectionError.GoingAway({}))
      yield* connection.close
      assert.deepStrictEqual(yield* said, ["CLOSE 1 1 0 0 this end is shutting down"])
    }))

  it.effect("GOING_AWAY asks a client to leave and keeps the connection", () =>
    Effect.gen(function*() {
      const { connection, said, send } = yield* greetedClient()
      const leaving = yield* Effect.forkChild(connection.leaving)
      yield* TestClock.adjust(0)
      assert.isUndefined(leaving.pollUnsafe())
      yield* send(goingAway(advice(1, 2), "update"), data("last"))
      yield* Fiber.join(leaving)
      assert.strictEqual(yield* connection.receive, "last")
      assert.deepStrictEqual(yield* said, [])
    }))
})

describe("heartbeat", () => {
  // [client's pingEvery, server's silence, server's minPingEvery] -> WELCOME.pingEvery
  const clientPings: ReadonlyArray<readonly [number, number, number, number]> = [
    [25_000, 60_000, 0, 25_000],
    [40_000, 60_000, 0, 30_000],
    [0, 60_000, 0, 30_000],
    [0, 0, 0, 0],
    [25_000, 0, 0, 25_000],
    [1000, 60_000, 10_000, 11_000],
    [25_000, 60_000, 10_000, 25_000],
    [10_500, 60_000, 10_000, 11_000],
    [25_000, 3, 0, 2],
    [0, 0, 10_000, 0],
    [0xffff_ffff, 0, 0, 0xffff_ffff]
  ]
  for (const [wanted, silence, minPingEvery, agreed] of clientPings) {
    it.effect(`a client wants ${wanted}, the server bears ${silence} and no less than ${minPingEvery}: ${agreed}`, () =>
      Effect.gen(function*() {
        const { connection, said, send } = yield* openServer({ policy: { silence, minPingEvery } })
        yield* send(hello({ pingEvery: wanted }))
        yield* connection
        assert.deepStrictEqual(yield* said, [`WELCOME 1 ${agreed} ${minPingEvery} 0 0`])
      }))
  }

  // [server's pingEvery, client's silence] -> how often the server pings
  const serverPings: ReadonlyArray<readonly [number, number, number]> = [
    [25_000, 60_000, 25_000],
    [25_000, 20_000, 10_000],
    [25_000, 0, 25_000],
    [0, 60_000, 30_000],
    [0, 0, 0],
    // nobody makes us ping more than ten times a second
    [25_000, 1, 100],
    [50, 1, 50]
  ]
  for (const [own, silence, every] of serverPings) {
    it.effect(`a server pings every ${own}, its client bears ${silence}: ${every}`, () =>
      Effect.gen(function*() {
        const { connection, send } = yield* openServer({ policy: { pingEvery: own } })
        yield* send(hello({ silence }))
        const policy = yield* (yield* connection).policy
        assert.strictEqual(Duration.toMillis(policy.pingEvery), every)
      }))
  }

  // [client's pingEvery, WELCOME.pingEvery] -> how often the client pings
  const obeyed: ReadonlyArray<readonly [number, number, number]> = [
    [25_000, 25_000, 25_000],
    [25_000, 40_000, 40_000],
    [25_000, 5000, 5000],
    [25_000, 0, 0],
    [0, 7000, 7000],
    [25_000, 1, 100],
    [40, 1, 40]
  ]
  for (const [own, told, every] of obeyed) {
    it.effect(`a client would ping every ${own} and is told ${told}: ${every}`, () =>
      Effect.gen(function*() {
        const { connection } = yield* greetedClient({ policy: { pingEvery: own } }, welcome({ pingEvery: told }))
        assert.strictEqual(Duration.toMillis((yield* connection.policy).pingEvery), every)
      }))
  }

  it.effect("durations that are off or finer than a millisecond", () =>
    Effect.gen(function*() {
      const off = yield* openClient({ policy: { pingEvery: "Infinity", silence: "Infinity" } })
      assert.deepStrictEqual(yield* off.said, ["HELLO 18502 1 1 0 0"])
      // 0 would be for ever
      const fine = yield* openClient({ policy: { silence: 0.2 } })
      assert.deepStrictEqual((yield* fine.said).slice(0, 1), ["HELLO 18502 1 1 25000 1"])
      const long = yield* openClient({ policy: { silence: "100 days" } })
      assert.deepStrictEqual(yield* long.said, ["HELLO 18502 1 1 25000 4294967295"])
    }))

  it.effect("B23 a client pings at the agreed interval to the millisecond, and matches pongs by their token", () =>
    Effect.gen(function*() {
      const { connection, said, send } = yield* greetedClient(
        { policy: { pingWhen: "always" } },
        welcome({ pingEvery: 5000 })
      )
      yield* TestClock.adjust(4999)
      assert.deepStrictEqual(yield* said, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* said, ["PING 1 0 0"])
      yield* TestClock.adjust(20)
      yield* send(pong(77), pong(1))
      yield* TestClock.adjust(0)
      assert.strictEqual((yield* connection.snapshot).rtt?.last, 20)
      yield* TestClock.adjust(4980)
      assert.deepStrictEqual(yield* said, ["PING 2 0 0"])
    }))

  it.effect("B31 a pong with another token is harmless and proves nothing", () =>
    Effect.gen(function*() {
      const { connection, send } = yield* greetedServer({ policy: { pong: "2 seconds", pingEvery: "5 seconds" } })
      yield* TestClock.adjust(5000)
      yield* send(pong(2))
      yield* TestClock.adjust(1999)
      assert.strictEqual((yield* connection.snapshot).state, "open")
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* reasonOf(connection.closed))._tag, "PongTimeout")
    }))

  it.effect("a ping is answered with its token, whatever it is, ahead of data that waits", () =>
    Effect.gen(function*() {
      for (const role of roles) {
        const { connection, peer, said, send } = yield* greeted[role]()
        yield* peer.window(0)
        yield* connection.send("first")
        yield* TestClock.adjust(0)
        yield* connection.send("second")
        yield* send(ping(0xffff_ffff, role === "client" ? advice(1, 2) : advice()), ping(0))
        yield* TestClock.adjust(0)
        yield* peer.window(Infinity)
        assert.deepStrictEqual(yield* said, ["DATA first", "PONG 4294967295", "PONG 0", "DATA second"])
      }
    }))

  it.effect("B24 a third ping in a row that is too early is TooManyPings; the client is told so for good", () =>
    Effect.gen(function*() {
      const { connection, said, send } = yield* greetedServer({ policy: { minPingEvery: "10 seconds" } })
      yield* send(ping(1))
      for (const token of [2, 3]) {
        yield* TestClock.adjust(9799)
        yield* send(ping(token))
      }
      assert.deepStrictEqual(yield* said, ["PONG 1", "PONG 2", "PONG 3"])
      yield* TestClock.adjust(9799)
      yield* send(ping(4))
      assert.deepStrictEqual(yield* reasonOf(connection.closed), { _tag: "TooManyPings", minimum: 10_000 })
      assert.deepStrictEqual(
        (yield* said).filter((line) => line.startsWith("CLOSE")),
        ["CLOSE 4 0 0 0 too many pings: the minimum interval is 10 s"]
      )
      const client = yield* greetedClient({}, welcome({ minPingEvery: 10_000 }))
      yield* client.send(close(4, false, "too many"))
      const error = yield* Effect.flip(client.connection.closed)
      assert.deepStrictEqual(facts(error.reason), { _tag: "TooManyPings", minimum: 10_000 } as never)
      assert.isFalse(error.isRetryable)
    }))

  it.effect("B24 one ping in good time forgives the others", () =>
    Effect.gen(function*() {
      const { connection, send } = yield* greetedServer({ policy: { minPingEvery: "10 seconds" } })
      for (let i = 0; i < 20; i++) {
        yield* send(ping(i))
        yield* TestClock.adjust(i % 3 === 2 ? 10_000 : 9999)
      }
      assert.strictEqual((yield* connection.snapshot).state, "open")
    }))

  it.effect("a client does not punish pings: the same policy serves both ends", () =>
    Effect.gen(function*() {
      const { connection, send } = yield* greetedClient({ policy: { minPingEvery: "1 minute" } })
      for (let i = 0; i < 5; i++) yield* send(ping(i))
      yield* TestClock.adjust(0)
      assert.strictEqual((yield* connection.snapshot).state, "open")
    }))

  it.effect("B22 silence ends a client with code 9", () =>
    Effect.gen(function*() {
      const { connection, said } = yield* greetedClient()
      yield* TestClock.adjust(59_999)
      assert.deepStrictEqual(yield* said, ["PING 1 0 0", "PING 2 0 0"])
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* reasonOf(connection.closed))._tag, "SilenceTimeout")
      assert.deepStrictEqual(yield* said, ["CLOSE 9 1 0 0 the peer sent nothing for 60 s"])
    }))
})

describe("advice", () => {
  it.effect("the last one counts, from any frame that has it; zero changes nothing", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [ReadonlyArray<Bytes>, ConnectionError.Advice | undefined]> = [
        [[welcome()], undefined],
        [[welcome({ advice: advice(1, 2) })], { after: 1, spread: 2 }],
        [[welcome({ advice: advice(0, 2) })], { after: 0, spread: 2 }],
        [[welcome({ advice: advice(1, 2) }), ping(1, advice(3, 4))], { after: 3, spread: 4 }],
        [[welcome({ advice: advice(1, 2) }), ping(1)], { after: 1, spread: 2 }],
        [[welcome(), goingAway(advice(5, 0), "")], { after: 5, spread: 0 }],
        [[welcome({ advice: advice(1, 2) }), close(1, true, "", advice(7, 8))], { after: 7, spread: 8 }],
        [[welcome({ advice: advice(1, 2) }), close(1, true)], { after: 1, spread: 2 }],
        [[welcome({ advice: advice(0xffff_ffff, 0xffff_ffff) })], { after: 0xffff_ffff, spread: 0xffff_ffff }]
      ]
      for (const [frames, expected] of cases) {
        const { connection, peer, send } = yield* openClient()
        yield* send(...frames)
        const client = yield* connection
        yield* TestClock.adjust(0)
        yield* peer.reset
        assert.deepStrictEqual((yield* Effect.flip(client.closed)).advice, expected)
      }
    }))

  it.effect("a client gives none, and a server takes none", () =>
    Effect.gen(function*() {
      const { connection, peer, send } = yield* greetedServer()
      yield* send(ping(1, advice(1, 2)))
      yield* TestClock.adjust(0)
      yield* peer.reset
      assert.isUndefined((yield* Effect.flip(connection.closed)).advice)
      const told = yield* greetedServer()
      yield* told.send(close(0, true, "", advice(1, 2)))
      assert.isUndefined((yield* Effect.flip(told.connection.closed)).advice)
    }))

  it.effect("B84 a server works it out from its connections and its accept rate, and renews it with every ping", () =>
    Effect.gen(function*() {
      const make = Protocol.server({ codec: Codec.lines(), policy: { ...calm, acceptRate: 10, silence: 0 } })
      const join = Effect.gen(function*() {
        const peer = yield* TestSocket.make()
        const scope = yield* Scope.make()
        const fiber = yield* Effect.forkChild(Scope.provide(make(peer.socket), scope))
        const end = far(peer, false)
        yield* end.send(hello({ silence: 0 }))
        yield* Fiber.join(fiber)
        return { ...end, leave: Scope.close(scope, Exit.void) }
      })
      const first = yield* join
      assert.deepStrictEqual(yield* first.said, ["WELCOME 1 25000 5000 0 100"])
      const second = yield* join
      assert.deepStrictEqual(yield* second.said, ["WELCOME 1 25000 5000 0 200"])
      yield* TestClock.adjust(25_000)
      assert.deepStrictEqual(yield* first.said, ["PING 1 0 200"])
      yield* second.leave
      assert.deepStrictEqual((yield* second.said).at(-1), "CLOSE 0 1 0 200")
      yield* TestClock.adjust(25_000)
      assert.deepStrictEqual(yield* first.said, ["PING 2 0 100"])
      yield* first.leave
    }))

  it.effect("a server of one's own says when; what is no number of milliseconds is none", () =>
    Effect.gen(function*() {
      let given: ConnectionError.Advice = { after: 0, spread: 0 }
      const counts: Array<number> = []
      const { connection, said } = yield* greetedServer({
        advise: (connections) => {
          counts.push(connections)
          return given
        },
        policy: { pingWhen: "always", silence: 0 }
      })
      for (
        const [after, spread, frame] of [
          [1.2, 0.1, "2 1"],
          [NaN, -5, "0 0"],
          [Infinity, 2 ** 40, "4294967295 4294967295"]
        ] as const
      ) {
        given = { after, spread }
        yield* TestClock.adjust(25_000)
        assert.match((yield* said)[0]!, new RegExp(`^PING \\d ${frame}$`))
      }
      yield* connection.close
      assert.deepStrictEqual([...new Set(counts)], [1])
    }))

  it("spread is what brings all back at the rate", () => {
    assert.deepStrictEqual(Protocol.spread(20_000, 1000), { after: 0, spread: 20_000 })
    assert.deepStrictEqual(Protocol.spread(1, 3), { after: 0, spread: 334 })
    assert.deepStrictEqual(Protocol.spread(5, 0), { after: 0, spread: 0 })
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// two ends
// ---------------------------------------------------------------------------------------------------------------------

/** Carries what one end writes to the other, as it is, until it ends. */
const pump = (from: TestSocket.Peer, to: TestSocket.Peer) =>
  Effect.gen(function*() {
    let carried = 0
    while (true) {
      yield* from.take
      const all = yield* from.written
      for (const chunk of all.slice(carried)) yield* to.send(chunk)
      carried = all.length
      if ((yield* from.finished) !== false) return yield* to.end
    }
  })

const world = Effect.fnUntraced(function*(options: {
  readonly policy?: Policy.Patch
  readonly advise?: (connections: number) => ConnectionError.Advice
  readonly duplicates?: "takeover" | "reject"
  readonly handshake?: Effect.Effect<void, string>
  readonly handle?: (
    connection: Connection.Connection<string>
  ) => Effect.Effect<unknown, ConnectionError.ConnectionError>
}) {
  const listener = yield* TestSocket.makeServer()
  const registry = yield* Registry.make<string>(
    options.duplicates === undefined ? {} : { duplicates: options.duplicates }
  )
  const server = yield* Server.run({
    open: Protocol.server({
      codec: Codec.lines(),
      policy: { ...calm, ...options.policy },
      ...(options.advise === undefined ? {} : { advise: options.advise })
    }),
    policy: { ...calm, ...options.policy },
    registry,
    names: () => options.duplicates === undefined ? {} : { key: "ada" },
    ...(options.handshake === undefined ? {} : { handshake: () => options.handshake! }),
    onEvent: () => Effect.void,
    handle: options.handle ??
      ((connection) => Effect.forever(Effect.flatMap(connection.receive, connection.send)))
  }).pipe(
    Effect.provideService(SocketServer.SocketServer, listener.server),
    Effect.forkChild({ startImmediately: true })
  )
  const lines: Array<readonly [TestSocket.Peer, TestSocket.Peer]> = []
  const dial = Effect.gen(function*() {
    const near = yield* TestSocket.make()
    const remote = yield* listener.connect
    lines.push([near, remote])
    yield* Effect.forkDetach(pump(near, remote))
    yield* Effect.forkDetach(pump(remote, near))
    return yield* Protocol.client({ codec: Codec.lines(), policy: calm })(near.socket)
  })
  const join = Client.make(dial, { policy: { retryJitter: "none" } })
  /** All lines break, as when the machine of the server loses its power. */
  const crash = Effect.suspend(() =>
    Effect.forEach(lines.splice(0), ([near, remote]) => Effect.andThen(near.reset, remote.reset), { discard: true })
  )
  return { crash, dials: () => lines.length, dial, join, registry, server }
})

/** Waits until a client waits for its next try. */
const waiting = <A>(client: Client.Client<A>) =>
  Effect.gen(function*() {
    const state = yield* Stream.runHead(Stream.filter(client.changes, ({ _tag }) => _tag === "Waiting"))
    assert.ok(state._tag === "Some" && state.value._tag === "Waiting")
    return state.value
  })

describe("a server's limit counts from the accept, that of the greeting from when its transport is open", () => {
  it.effect("B139 a greeting that begins late is cut at the server's limit, and the client hears why", () =>
    Effect.gen(function*() {
      for (const token of [0, 2000]) {
        const listener = yield* TestSocket.makeServer()
        const refused: Array<string> = []
        const greet = Protocol.server({ codec: Codec.lines(), policy: { handshake: "3 seconds" } })
        const server = yield* Server.run({
          open: (socket) => Effect.andThen(Effect.sleep(token), greet(socket)),
          policy: { handshake: "3 seconds" },
          onEvent: (event) => Effect.sync(() => void (event._tag === "Refused" && refused.push(event.reason._tag))),
          handle: () => Effect.never
        }).pipe(
          Effect.provideService(SocketServer.SocketServer, listener.server),
          Effect.forkDetach({ startImmediately: true })
        )
        const { peer, said } = far(yield* listener.connect, false)
        yield* TestClock.adjust(token)
        yield* TestClock.adjust(2999 - token)
        assert.deepStrictEqual([yield* said, refused], [[], []])
        yield* TestClock.adjust(1)
        yield* peer.released
        assert.deepStrictEqual(yield* said, ["CLOSE 8 1 0 0 the peer did not finish its handshake within 3 s"])
        assert.deepStrictEqual(refused, ["HandshakeTimeout"])
        server.interruptUnsafe()
      }
    }))
})

describe("Client, Server and Registry over it", () => {
  it.effect("talk, and a close by the client is known as such", () =>
    Effect.gen(function*() {
      const { join, registry } = yield* world({})
      const client = yield* join
      yield* client.send("hello")
      assert.strictEqual(yield* client.receive, "hello")
      yield* registry.broadcast("all")
      assert.strictEqual(yield* client.receive, "all")
      yield* client.close
      yield* TestClock.adjust(0)
      const [last] = yield* registry.history
      assert.deepStrictEqual(
        facts(last?.snapshot.reason),
        { _tag: "Closed", by: "peer", retryable: true } as never
      )
    }))

  it.effect("B84 a crash: the client comes back by the advice of the last ping, to the millisecond", () =>
    Effect.gen(function*() {
      let after = 3000
      const { crash, join } = yield* world({ advise: () => ({ after, spread: 0 }) })
      const client = yield* join
      yield* TestClock.adjust(1)
      after = 7000
      yield* TestClock.adjust(30_000)
      yield* crash
      yield* waiting(client)
      yield* TestClock.adjust(6999)
      assert.strictEqual((yield* client.state)._tag, "Waiting")
      yield* TestClock.adjust(1)
      assert.notStrictEqual((yield* client.state)._tag, "Waiting")
      yield* client.send("again")
      assert.strictEqual(yield* client.receive, "again")
      yield* client.close
    }))

  it.effect("a server that stops sends its clients away by its advice", () =>
    Effect.gen(function*() {
      const { join, server } = yield* world({ advise: () => ({ after: 2000, spread: 0 }) })
      const client = yield* join
      yield* client.send("x")
      assert.strictEqual(yield* client.receive, "x")
      yield* Effect.forkChild(Fiber.interrupt(server))
      const state = yield* waiting(client)
      assert.deepStrictEqual(
        facts(state.error.reason),
        { _tag: "Closed", by: "peer", retryable: true, code: 1, note: "this end is shutting down" } as never
      )
      assert.deepStrictEqual(state.error.advice, { after: 2000, spread: 0 })
    }))

  it.effect("B95 a refused client has a typed reason, and comes back", () =>
    Effect.gen(function*() {
      const { dial, join } = yield* world({ policy: { maxConnections: 1, whenFull: "reject" } })
      const client = yield* join
      yield* client.connection
      // B108: in place of the WELCOME
      const error = yield* Effect.flip(dial)
      assert.deepStrictEqual(facts(error.reason), { _tag: "Refused", limit: "maxConnections" } as never)
      assert.isTrue(error.isRetryable)
      yield* client.close
    }))

  it.effect("B88 a client that is superseded stops for good", () =>
    Effect.gen(function*() {
      const { join } = yield* world({ duplicates: "takeover" })
      const first = yield* join
      yield* first.connection
      yield* TestClock.adjust(1)
      const second = yield* join
      assert.deepStrictEqual(yield* reasonOf(first.closed), { _tag: "Superseded", key: "ada" })
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual((yield* second.state)._tag, "Connected")
      yield* second.close
    }))

  it.effect("B88 a client whose key is taken stops for good", () =>
    Effect.gen(function*() {
      const { join } = yield* world({ duplicates: "reject" })
      const first = yield* join
      yield* first.connection
      yield* TestClock.adjust(1)
      const second = yield* join
      assert.deepStrictEqual(yield* reasonOf(second.closed), { _tag: "DuplicateKey", key: "ada" })
      assert.strictEqual((yield* first.state)._tag, "Connected")
      yield* first.close
    }))

  it.effect("B88 a client that failed the application's handshake stops with its reason", () =>
    Effect.gen(function*() {
      const { join } = yield* world({ handshake: Effect.fail("bad token") })
      const client = yield* join
      // B131 the text of the application's error stays where it is
      assert.deepStrictEqual(yield* reasonOf(client.closed), {
        _tag: "HandshakeFailed",
        cause: "the peer gives no reason"
      })
    }))

  it.effect("a handler that dies does not keep its client away", () =>
    Effect.gen(function*() {
      const { join } = yield* world({ handle: () => Effect.die("a bug") })
      const client = yield* join
      assert.isTrue((yield* waiting(client)).error.isRetryable)
      yield* client.close
    }))

  it.effect("B21 both ends stay quiet for an hour and alive", () =>
    Effect.gen(function*() {
      const { join, registry } = yield* world({ policy: { minPingEvery: "20 seconds" } })
      const client = yield* join
      const connection = yield* client.connection
      for (let minute = 0; minute < 60; minute++) yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* connection.snapshot).state, "open")
      assert.strictEqual(yield* registry.size, 1)
      yield* client.close
    }))
})

// ---------------------------------------------------------------------------------------------------------------------
// anything
// ---------------------------------------------------------------------------------------------------------------------

/** Numbers in [0, 1) that are the same in every run (mulberry32). */
const dice = (seed: number): () => number => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

describe("anything a peer may send gives a typed reason", () => {
  const valid = {
    server: [hello(), ping(1), data("{\"a\":1}"), pong(1), data("[]"), close(5, true, "key")],
    client: [
      welcome({ advice: advice(1, 2) }),
      ping(1, advice(3, 4)),
      data("{}"),
      pong(1),
      goingAway(advice(5, 6), "why"),
      close(7, true, "maxConnections")
    ]
  }

  type Make = (next: () => number) => ReadonlyArray<Uint8Array>
  const noise: Make = (next) => [Uint8Array.from({ length: Math.floor(next() * 64) }, () => next() * 256)]
  /** Frames of noise, with likely types. */
  const frames: Make = (next) =>
    Array.from({ length: 4 }, () => Uint8Array.of(Math.floor(next() * 9), ...noise(next)[0]!))
  const mutated = (role: "client" | "server"): Make => (next) =>
    valid[role].map((body) => {
      const bytes = Uint8Array.from(body)
      if (next() < 0.3) bytes[Math.floor(next() * bytes.length)] = next() * 256
      return next() < 0.1 ? bytes.subarray(0, Math.floor(next() * bytes.length)) : bytes
    })

  for (const role of roles) {
    for (const [name, make] of [["noise", noise], ["frames", frames], ["mutations", mutated(role)]] as const) {
      for (const messages of [false, true]) {
        it.effect(`a ${role}: 60 times ${name}${messages ? " as messages" : ""}`, () =>
          Effect.gen(function*() {
            const tags = new Set<string>()
            for (let seed = 1; seed <= 60; seed++) {
              const next = dice(seed)
              const { fiber, peer } = yield* open(role)({
                codec: Codec.lines().pipe(Codec.json) as Codec.Codec<unknown>,
                messages,
                policy: { handshake: "1 second" }
              })
              const bodies = make(next)
              // after a greeting every other time, or little would get past it
              const started = name !== "mutations" && seed % 2 === 0
              const all = started ? [Uint8Array.from(role === "server" ? hello() : welcome()), ...bodies] : bodies
              // also lengths that are wrong
              const bytes = name === "noise"
                ? all.flatMap((body, i) => [...(started && i === 0 ? framed([...body]) : body)])
                : all.flatMap((body) => [...n4(next() < 0.1 ? next() * 100 : body.length), ...body])
              if (messages) yield* peer.send(...all)
              else {
                for (let at = 0, size = 0; at < bytes.length; at += size) {
                  size = 1 + Math.floor(next() * 40)
                  yield* peer.send(Uint8Array.from(bytes.slice(at, at + size)))
                }
              }
              yield* TestClock.adjust(0)
              yield* messages ? peer.close(1000) : peer.end
              yield* TestClock.adjust(1000)
              const exit = fiber.pollUnsafe()
              assert.ok(exit !== undefined, `seed ${seed}`)
              // messages before what is wrong are received, and then the end
              const error = Exit.isSuccess(exit)
                ? yield* Effect.flip(
                  Effect.andThen(Effect.exit(Effect.forever(exit.value.receiveAll)), exit.value.closed)
                )
                : yield* Effect.flip(Fiber.join(fiber))
              assert.instanceOf(error, ConnectionError.ConnectionError, `seed ${seed}`)
              // what a defect would become
              assert.notStrictEqual(error.reason._tag, "Defect", `seed ${seed}`)
              tags.add(error.reason._tag)
            }
            assert.include([...tags], name === "noise" && !messages ? "FrameTooLong" : "ProtocolViolation")
          }))
      }
    }
  }
})

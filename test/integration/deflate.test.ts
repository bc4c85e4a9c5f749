/** permessage-deflate with `ws` at the other end, in both roles: as groups 12 and 13 of the Autobahn suite do it, and worse. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Net from "node:net"
import * as Zlib from "node:zlib"
import { type PerMessageDeflateOptions, WebSocket, WebSocketServer } from "ws"
import { Codec, Connection } from "../../src/index.ts"
import { Dialer, HttpServer, Listener, Upgrade } from "../../src/node/index.ts"
import { isLong, long } from "../support/often.ts"
import { certificate, dice, serve, take, until } from "./support/kit.ts"

const host = "127.0.0.1"
const bytes = { codec: Codec.bytes(), policy: { maxFrame: 200_000 } } as const

// ---------------------------------------------------------------------------------------------------------------------
// what is sent
// ---------------------------------------------------------------------------------------------------------------------

const random = dice(7692)

const contents = {
  json: (size: number) =>
    Buffer.from(
      JSON.stringify(Array.from({ length: size / 16 + 1 }, (_, i) => ({ id: i, at: Math.floor(random() * 9999) })))
    ).subarray(0, size),
  zeros: (size: number) => Buffer.alloc(size),
  noise: (size: number) => Buffer.from(Array.from({ length: size }, () => Math.floor(random() * 256)))
}

/** The sizes of the suite's cases, and those around the forms of a length. */
const sizes = isLong
  ? [0, 1, 16, 64, 125, 126, 256, 1024, 4096, 8192, 16_384, 32_768, 65_535, 65_536, 131_072]
  : [0, 1, 16, 125, 126, 1024, 16_384, 65_536]

const messages = sizes.flatMap((size) => [contents.json(size), contents.zeros(size), contents.noise(size)])

/** `ws` sends it in fragments of so many bytes. */
const sendIn = (ws: WebSocket, message: Buffer, size: number): void => {
  for (let at = 0; at === 0 || at < message.length; at += size) {
    ws.send(message.subarray(at, at + size), { binary: true, compress: true, fin: at + size >= message.length })
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// the two ends
// ---------------------------------------------------------------------------------------------------------------------

interface Theirs {
  readonly ws: WebSocket
  readonly messages: Array<Buffer>
  closed: number | undefined
}

const watched = (ws: WebSocket): Theirs => {
  const self: Theirs = { ws, messages: [], closed: undefined }
  ws.on("message", (data) => self.messages.push(data as Buffer))
  ws.on("close", (code) => self.closed = code)
  ws.on("error", () => {})
  return self
}

const theirClient = (
  url: string,
  perMessageDeflate: PerMessageDeflateOptions | boolean
): Effect.Effect<Theirs, never, Scope.Scope> =>
  Effect.tap(
    Effect.acquireRelease(
      Effect.sync(() => watched(new WebSocket(url, { perMessageDeflate }))),
      ({ ws }) => Effect.sync(() => ws.terminate())
    ),
    ({ ws }) => until("it opens", () => ws.readyState === WebSocket.OPEN)
  )

/** A server of `ws`, and the connections that it got. */
const theirServer = (perMessageDeflate: PerMessageDeflateOptions | boolean) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() =>
        new Promise<{ readonly server: WebSocketServer; readonly clients: Array<Theirs> }>((resolve) => {
          const clients: Array<Theirs> = []
          const server = new WebSocketServer({ host, port: 0, perMessageDeflate, maxPayload: 1_000_000 })
          server.on("connection", (ws) => clients.push(watched(ws)))
          server.on("listening", () => resolve({ server, clients }))
        })
      ),
      ({ server }) =>
        Effect.sync(() => {
          for (const ws of server.clients) ws.terminate()
          server.close()
        })
    ),
    ({ clients, server }) => ({ clients, url: `ws://${host}:${(server.address() as Net.AddressInfo).port}/` })
  )

const same = (got: ReadonlyArray<Uint8Array>, sent: ReadonlyArray<Uint8Array>): void => {
  assert.deepStrictEqual(got.map((one) => one.length), sent.map((one) => one.length))
  got.forEach((one, i) => assert.ok(Buffer.compare(one, sent[i]!) === 0, `message ${i} of ${one.length} bytes differs`))
}

// ---------------------------------------------------------------------------------------------------------------------
// the tables
// ---------------------------------------------------------------------------------------------------------------------

type Ours = NonNullable<Dialer.DialOptions["deflate"]>

const ours: ReadonlyArray<readonly [string, Ours]> = [
  ["by default", true],
  ["with contexts", { contextTakeover: true, threshold: 0 }],
  ["with small windows", { windowBits: 9, threshold: 0, level: 9 }],
  ["with small contexts", { contextTakeover: true, windowBits: 10, threshold: 0, level: 6 }]
]

const theirs: ReadonlyArray<readonly [string, PerMessageDeflateOptions]> = [
  ["contexts", { threshold: 0 }],
  ["no contexts", { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true }],
  ["small windows", { threshold: 0, serverMaxWindowBits: 9, clientMaxWindowBits: 9 }]
]

// bytes of a fragment
const fragments = isLong ? [Infinity, 100] : [4096]

const isCompressing = ({ ws }: Theirs): boolean => ws.extensions.startsWith("permessage-deflate")

for (const [how, deflate] of ours) {
  for (const [offer, perMessageDeflate] of theirs) {
    for (const fragment of fragments) {
      const size = fragment === Infinity ? "whole" : `in fragments of ${fragment}`
      it.live(`a server ${how}, and a client with ${offer}: all sizes, ${size}`, () =>
        Effect.gen(function*() {
          const listener = yield* Listener.make(`ws://${host}:0`, { deflate })
          yield* serve(listener, bytes)
          const peer = yield* theirClient(listener.url, perMessageDeflate)
          assert.ok(isCompressing(peer), peer.ws.extensions)
          for (const message of messages) sendIn(peer.ws, message, fragment)
          const isOver = () => peer.messages.length === messages.length || peer.closed !== undefined
          yield* until("the echoes", isOver, 30_000)
          same(peer.messages, messages)
        }), long(60_000))

      it.live(`a client ${how}, and a server with ${offer}: all sizes, ${size}`, () =>
        Effect.gen(function*() {
          const { clients, url } = yield* theirServer(perMessageDeflate)
          const connection = yield* Connection.make(yield* Dialer.make(url, { deflate }), bytes)
          yield* until("it is there", () => clients.length === 1)
          const [peer] = clients
          assert.ok(isCompressing(peer!), peer!.ws.extensions)
          for (const message of messages) sendIn(peer!.ws, message, fragment)
          const got = yield* take(connection, messages.length)
          same(got, messages)
          yield* connection.sendAll(messages)
          const isOver = () => peer!.messages.length === messages.length || peer!.closed !== undefined
          yield* until("they came", isOver, 30_000)
          same(peer!.messages, messages)
        }), long(60_000))
    }
  }
}

describe("two ends of ours", () => {
  for (const [how, deflate] of ours) {
    it.live(`${how}: all sizes, and far fewer bytes than were sent`, () =>
      Effect.gen(function*() {
        const listener = yield* Listener.make(`ws://${host}:0`, { deflate })
        const served = yield* serve(listener, bytes)
        const connection = yield* Connection.make(yield* Dialer.make(listener.url, { deflate }), bytes)
        yield* Effect.forkScoped(connection.sendAll(messages))
        same(yield* take(connection, messages.length), messages)
        const { bytesIn } = yield* served.connections[0]!.snapshot
        const noise = sizes.reduce((a, b) => a + b)
        // a third of it is noise, a third zeros, a third JSON
        assert.isBelow(bytesIn, noise * 1.6)
        assert.isAbove(bytesIn, noise)
      }))
  }

  it.live("contexts make small messages that are alike much smaller", () =>
    Effect.gen(function*() {
      const small = Array.from({ length: 100 }, (_, i) =>
        Buffer.from(JSON.stringify({ user: `user-${i}`, online: i % 2 })))
      const size = (deflate: Ours | false) =>
        Effect.scoped(Effect.gen(function*() {
          const listener = yield* Listener.make(`ws://${host}:0`, { deflate })
          const served = yield* serve(listener, bytes)
          const connection = yield* Connection.make(yield* Dialer.make(listener.url, { deflate }), bytes)
          yield* connection.sendAll(small)
          same(yield* take(connection, small.length), small)
          return (yield* served.connections[0]!.snapshot).bytesIn
        }))
      const plain = yield* size(false)
      const alone = yield* size({ threshold: 0 })
      const after = yield* size({ threshold: 0, contextTakeover: true })
      assert.isAtMost(alone, plain)
      assert.isBelow(after, alone * 0.6)
    }))
})

describe("in the upgrade", () => {
  /** The WebSocket of this Node, which is the one of a browser, and offers it by itself. */
  const browser = (url: string) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const ws = new globalThis.WebSocket(url)
        const messages: Array<unknown> = []
        ws.addEventListener("message", (event) => messages.push(event.data))
        return { ws, messages }
      }),
      ({ ws }) => Effect.sync(() => ws.close())
    )

  const lines = { codec: Codec.lines() }
  const long = "the quick brown fox jumps over the lazy dog. ".repeat(200)

  const listeners = {
    "a listener": Effect.map(Listener.make(`ws://${host}:0`, { deflate: true }), (listener) => listener),
    "an HTTP server": Effect.map(
      HttpServer.make(`http://${host}:0`, { webSocket: "/", deflate: true }),
      ({ webSockets }) => webSockets
    ),
    "one path of a listener": Effect.map(
      Listener.make(`ws://${host}:0/other`, { paths: { "/": Upgrade.make(() => Effect.void, { deflate: true }) } }),
      (listener) => ({ ...listener, url: listener.url.replace("other", "") })
    )
  }
  for (const [name, make] of Object.entries(listeners)) {
    it.live(`${name} agrees with a browser`, () =>
      Effect.gen(function*() {
        const listener = yield* make
        const served = yield* serve(listener, lines)
        const { messages, ws } = yield* browser(listener.url)
        yield* until("it opens", () => ws.readyState === ws.OPEN)
        assert.match(ws.extensions, /^permessage-deflate/)
        ws.send(long)
        yield* until("the echo", () => messages.length === 1)
        assert.deepStrictEqual(messages, [long])
        assert.isBelow((yield* served.connections[0]!.snapshot).bytesOut, long.length / 10)
      }))
  }

  it.live("one end alone: nothing is compressed, and all is understood", () =>
    Effect.gen(function*() {
      for (const [mine, yours] of [[true, false], [false, true]]) {
        const listener = yield* Listener.make(`ws://${host}:0`, { deflate: mine })
        const served = yield* serve(listener, lines)
        const connection = yield* Connection.make(yield* Dialer.make(listener.url, { deflate: yours }), lines)
        yield* connection.send(long)
        assert.strictEqual(yield* connection.receive, long)
        assert.isAbove((yield* served.connections[0]!.snapshot).bytesIn, long.length)
      }
    }))

  it.live("the sockets of a program without connections: both ways, and far more than is inflated at a time", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`wss://${host}:0`, { deflate: true, ...certificate() })
      yield* Effect.forkScoped(listener.run((socket) =>
        Effect.scoped(Effect.gen(function*() {
          const reader = yield* socket.reader
          const writer = yield* socket.writer
          while (true) yield* writer.writeAll(yield* reader.pull)
        })).pipe(Effect.ignore)
      ))
      const socket = yield* Dialer.make(listener.url, { deflate: true, rejectUnauthorized: false })
      const reader = yield* socket.reader
      const writer = yield* socket.writer
      const sent = Array.from({ length: 40 }, (_, i) => `${i} ${long.repeat(10)}`)
      yield* Effect.forkScoped(writer.writeAll([sent[0]!, ...sent.slice(1)]))
      const got: Array<string | Uint8Array> = []
      let most = 0
      while (got.length < sent.length) {
        const pulled = yield* reader.pull
        most = Math.max(most, pulled.length)
        got.push(...pulled)
      }
      assert.deepStrictEqual(got, sent)
      // of 90 KB each
      assert.isAtMost(most, 13)
    }))
})

describe("a bomb", () => {
  // 1 GiB of zeros
  const bomb = Zlib.deflateRawSync(Buffer.alloc(1 << 20), { finishFlush: Zlib.constants.Z_SYNC_FLUSH })

  it.live("F15 1 GiB in 1 MiB is cut at the limit: the memory is level, and others are served", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make(`ws://${host}:0`, { deflate: true })
      const served = yield* serve(listener, { codec: Codec.bytes() })
      const other = yield* Connection.make(yield* Dialer.make(listener.url), { codec: Codec.bytes() })
      yield* other.send(Buffer.from("before"))
      yield* other.receive
      // a thousand MiB, one behind the other; what stands in front of a part is not part of it
      const whole = Buffer.concat(Array.from({ length: 1024 }, () => bomb))
      assert.isAbove(whole.length, 1_000_000)
      const before = process.memoryUsage().rss
      for (let n = 0; n < 20; n++) {
        const peer = yield* theirClient(listener.url, true)
        const raw = (peer.ws as unknown as { readonly _socket: Net.Socket })._socket
        const key = Buffer.from([0, 0, 0, 0])
        const header = Buffer.alloc(10)
        header[0] = 0xc2
        header[1] = 0xff
        header.writeUInt32BE(whole.length, 6)
        raw.write(Buffer.concat([header, key, whole]))
        yield* until("its end", () => peer.closed !== undefined)
        assert.strictEqual(peer.closed, 1009)
        const started = performance.now()
        yield* other.send(Buffer.from(`${n}`))
        assert.strictEqual(`${Buffer.from(yield* other.receive)}`, `${n}`)
        assert.isBelow(performance.now() - started, 1000)
      }
      assert.isBelow(process.memoryUsage().rss - before, 200 * 2 ** 20)
      assert.isAbove(served.connections.length, 0)
    }))
})

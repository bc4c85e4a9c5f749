/** A stream that is paused for memory reads no more, at once; and one that holds the most is gone at once, whatever it runs on. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as SocketServer from "effect/socket/SocketServer"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { Codec, Connection, type ConnectionError, Memory, type Policy, Registry, Server } from "../../src/index.ts"
import { Listener } from "../../src/node/index.ts"
import { startReading, stopReading } from "../../src/node/internal/stream/handle.ts"
import { certificate, client, tempDir, until } from "./fixtures/kit.ts"

const most = 64 * 1024 * 1024
const mebibyte = new Uint8Array(1024 * 1024)

const transports = [["tcp", "tcp://127.0.0.1:0"], ["tls", "tls://127.0.0.1:0"], ["unix", "unix://"]] as const

/** A server of its own registry, whose connections have this memory. */
const serving = Effect.fnUntraced(function*(
  [name, of]: (typeof transports)[number],
  memory: Memory.Memory,
  codec: Codec.Codec<Uint8Array>,
  policy: Policy.Patch,
  handle: (connection: Connection.Connection<Uint8Array>) => Effect.Effect<unknown, ConnectionError.ConnectionError>
) {
  const url = of === "unix://" ? `unix://${yield* tempDir}/s` : of
  const listener = yield* Listener.make(url, name === "tls" ? certificate() : {})
  const registry = yield* Registry.make<Uint8Array>()
  yield* Server.run({ open: Connection.make({ codec, policy }), registry, handle, logs: false }).pipe(
    Effect.provideService(SocketServer.SocketServer, listener),
    memory.provide,
    Effect.forkScoped
  )
  yield* Effect.yieldNow
  return { url: listener.url, registry }
})

describe("a stream that is paused", () => {
  for (const [name, most] of [["tcp", 0], ["tls", 64 * 1024]] as const) {
    it.live(`B115 ${name}: in the event of a read, it reads no more: not until its buffer is full, and goes on later`, () =>
      Effect.gen(function*() {
        const server = name === "tls"
          ? Tls.createServer({ ...certificate(), allowHalfOpen: true })
          : Net.createServer({ allowHalfOpen: true })
        yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
        let accepted: Net.Socket | undefined
        let read = 0
        server.on(name === "tls" ? "secureConnection" : "connection", (conn: Net.Socket) => {
          accepted = conn
          conn.on("error", () => {})
          conn.on("data", (chunk) => {
            const isFirst = read === 0
            read += chunk.length
            if (!isFirst) return
            conn.pause()
            stopReading(conn)
          })
        })
        server.listen(0, "127.0.0.1")
        yield* until("it listens", () => server.listening)
        const { port } = server.address() as Net.AddressInfo
        const peer = yield* client({ url: `${name}://127.0.0.1:${port}` })
        peer.conn.write(mebibyte)
        yield* until("the first read", () => read > 0)
        yield* Effect.sleep(30)
        assert.isAtMost(read, 64 * 1024)
        // a read of TLS is several records, which are told one after the other
        assert.isAtMost(accepted!.readableLength, most)
        startReading(accepted!)
        accepted!.resume()
        yield* until("all of it", () => read === mebibyte.length)
      }))
  }

  for (const transport of transports) {
    const [name] = transport
    it.effect(`B115 ${name}: a connection that holds the most ends, whatever its peer did not take`, () =>
      Effect.gen(function*() {
        const memory = Memory.make({ limit: 1e6, patience: "1 second" })
        const policy = { maxFrame: most, outboxBytes: most, writeStall: 0 }
        const { registry, url } = yield* serving(
          transport,
          memory,
          Codec.bytes(),
          policy,
          (connection) => Effect.andThen(connection.send(new Uint8Array(16 * mebibyte.length)), connection.receive)
        )
        const peer = yield* client({ url }, { flowing: false })
        yield* until("it is tight", () => Effect.runSync(memory.isTight))
        yield* TestClock.adjust(1000)
        yield* until("it has ended", () => Effect.runSync(registry.history).length === 1)
        const [entry] = yield* registry.history
        assert.deepInclude(entry!.snapshot.reason, { _tag: "Refused", limit: "memory" })
        assert.strictEqual(yield* memory.held, 0)
        yield* TestClock.adjust(1000)
        assert.isFalse(yield* memory.isTight)
        peer.conn.resume()
        yield* until("its peer sees it", () => peer.closed || peer.ended)
      }))

    it.effect(`B115 ${name}: while memory is tight, one that sends on and on is read once`, () =>
      Effect.gen(function*() {
        const memory = Memory.make({ limit: 6e5, patience: "1 minute" })
        const policy = { maxFrame: most, frame: 0, silence: 0, drain: 0, stopGrace: 0 }
        const { registry, url } = yield* serving(
          transport,
          memory,
          Codec.lengthPrefix(),
          policy,
          (connection) => connection.receive
        )
        const peers = yield* Effect.forEach(Array.from({ length: 41 }), () => client({ url }))
        yield* until("all are there", () => Effect.runSync(registry.size) === peers.length)
        const [heavy, ...others] = peers
        // the start of a frame of 64 MiB: more than half of the limit
        const begun = new Uint8Array(3.3e5)
        new DataView(begun.buffer).setUint32(0, most - 4)
        heavy!.conn.write(begun)
        yield* until("it is tight", () => Effect.runSync(memory.isTight))
        for (const { conn } of others) conn.write(begun)
        const read = () => Effect.runSync(registry.snapshots).filter(({ bytesIn }) => bytesIn > 0).length
        yield* until("each was read", () => read() === peers.length)
        yield* TestClock.adjust(5000)
        yield* Effect.promise(() => new Promise(setImmediate))
        // TLS may have a record left of what it read before
        const oneRead = name === "tls" ? 80 * 1024 : 64 * 1024
        assert.isAtMost(yield* memory.held, begun.length + others.length * oneRead)
      }))
  }
})

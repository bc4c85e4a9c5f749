/** The same conversation over every transport: our own, and Effect's sockets as they are. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Codec, Connection, Heartbeat } from "../../src/index.ts"
import {
  arrival,
  dice,
  ending,
  eventually,
  handlerFailures,
  reasonOf,
  serve,
  take,
  takeRest,
  until
} from "./support/kit.ts"
import { type Ends, type Raw, reset, type Way, ways } from "./support/ways.ts"

const lines = { codec: Codec.lines() }
const frames = { codec: Codec.lengthPrefix() }
const mebibyte = 1024 * 1024

/** A connection of ours to the other end. */
const connect = <A>(way: Way, ends: Ends, options: Connection.Options<A, A>) =>
  Effect.flatMap(ends.dial, Connection.make({ ...options, ...way.client }))

/** An orderly end: on a message transport with the code that says so (B128). */
const closedBy = (way: Way) => ({ _tag: "Closed", by: "peer", ...(way.messages ? { code: 1000 } : {}) }) as never

const sizeOf = (raw: Raw): number => raw.chunks.reduce((sum, chunk) => sum + chunk.length, 0)

/** A line as a raw client writes it: on a message transport as a masked text frame (RFC 6455, 5.2). */
const written = (way: Way, text: string | Buffer): Buffer => {
  const payload = Buffer.from(text)
  if (!way.messages) return Buffer.concat([payload, Buffer.from("\n")])
  assert.ok(payload.length < 126)
  // masked with zeros, which changes nothing
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload])
}

describe.each(ways)("$name", (way) => {
  it.live("echoes, with the same figures at both ends", () =>
    Effect.gen(function*() {
      const ends = yield* way.make
      const served = yield* serve(ends.server, lines)
      const client = yield* connect(way, ends, lines)
      for (const text of ["hello", "", "héllo wörld ✓", "x".repeat(70_000)]) {
        yield* client.send(text)
        assert.strictEqual(yield* client.receive, text)
      }
      const here = yield* client.snapshot
      const there = yield* (yield* arrival(served, 0)).snapshot
      assert.deepStrictEqual([here.messagesIn, here.messagesOut, there.messagesIn, there.messagesOut], [4, 4, 4, 4])
      assert.deepStrictEqual([here.bytesIn, here.bytesOut], [there.bytesOut, there.bytesIn])
      assert.strictEqual(yield* served.registry.size, 1)
      yield* client.close
      yield* until("the server is told", () => served.events.some((event) => event._tag === "Closed"))
      assert.strictEqual(yield* served.registry.size, 0)
      assert.deepStrictEqual(handlerFailures(served.events), [])
    }))

  it.live("B1/F22 1000 messages, sliced in any way, arrive whole and in order", () =>
    Effect.gen(function*() {
      const ends = yield* way.make
      const served = yield* serve(ends.server, lines)
      for (const seed of [1, 2, 3, 4]) {
        const next = dice(seed)
        const messages = Array.from({ length: 1000 }, (_, i) => `${i} ${"é✓x".repeat(Math.floor(next() ** 4 * 200))}`)
        yield* Effect.gen(function*() {
          const client = yield* connect(way, ends, lines)
          const sending = yield* Effect.forkChild(Effect.gen(function*() {
            for (let at = 0; at < messages.length;) {
              const size = 1 + Math.floor(next() ** 3 * 300)
              yield* client.sendAll(messages.slice(at, at + size))
              at += size
            }
          }))
          assert.deepStrictEqual(yield* take(client, messages.length), messages)
          yield* Fiber.join(sending)
          if (way.messages) return
          // what a client of ours cannot do: cut anywhere, down to single bytes and up to more than one read
          const raw = yield* ends.raw()
          const bytes = Buffer.from(messages.map((line, i) => line + (i % 2 === 0 ? "\n" : "\r\n")).join(""))
          for (let at = 0; at < bytes.length;) {
            const size = Math.max(1, Math.floor(next() ** 6 * 200_000))
            if (!raw.top.write(bytes.subarray(at, at + size))) {
              yield* until("the kernel takes more", () => !raw.top.writableNeedDrain)
            }
            if (size % 3 === 0) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
            at += size
          }
          const expected = `${messages.join("\n")}\n`
          yield* until("the echo", () => sizeOf(raw) >= Buffer.byteLength(expected))
          assert.strictEqual(Buffer.concat(raw.chunks).toString(), expected)
        }).pipe(Effect.scoped)
      }
      assert.deepStrictEqual(handlerFailures(served.events), [])
    }))

  it.live("carries a frame of 1 MiB there and back", () =>
    Effect.gen(function*() {
      const ends = yield* way.make
      yield* serve(ends.server, frames)
      const client = yield* connect(way, ends, frames)
      const frame = Uint8Array.from({ length: mebibyte }, (_, i) => (i * 31 + (i >> 8)) % 256)
      yield* client.send(frame)
      const back = yield* client.receive
      assert.ok(Buffer.from(frame).equals(back))
    }))

  it.live("pings and measures the round trip at both ends", () =>
    Effect.gen(function*() {
      const ends = yield* way.make
      const options = {
        codec: Codec.lines(),
        heartbeat: Heartbeat.text("ping", "pong", { token: true }),
        policy: { pingEvery: "30 millis", pingWhen: "always" } as const
      }
      const served = yield* serve(ends.server, options)
      const client = yield* connect(way, ends, options)
      const server = yield* arrival(served, 0)
      for (const end of [client, server]) {
        const deadline = performance.now() + 5000
        let seen = yield* end.snapshot
        while (seen.rtt === undefined && performance.now() < deadline) {
          yield* Effect.sleep(5)
          seen = yield* end.snapshot
        }
        assert.ok(seen.rtt !== undefined && seen.rtt.last > 0 && seen.rtt.last < 1000 && seen.rtt.smoothed > 0)
      }
      // neither a ping nor a pong is ever a message
      yield* client.send("hello")
      assert.strictEqual(yield* client.receive, "hello")
      assert.deepStrictEqual([(yield* client.snapshot).messagesIn, (yield* server.snapshot).messagesIn], [1, 1])
    }))

  if (way.halfClose) {
    it.live("still answers a peer that has finished sending", () =>
      Effect.gen(function*() {
        const ends = yield* way.make
        const served = yield* serve(ends.server, {
          ...lines,
          handle: (connection) =>
            Effect.gen(function*() {
              while (true) {
                const message = yield* connection.receive
                yield* Effect.sleep(20)
                yield* connection.send(`${message}!`)
              }
            })
        })
        const raw = yield* ends.raw()
        raw.top.end("a\nb\nc\n")
        yield* until("our FIN is answered by theirs", () => raw.ended)
        assert.strictEqual(Buffer.concat(raw.chunks).toString(), "a!\nb!\nc!\n")
        const closed = yield* ending(served.connections[0])
        assert.deepStrictEqual({ ...closed }, closedBy(way))
      }))
  }

  it.live("B75 an orderly close delivers everything that was queued, both ways", () =>
    Effect.gen(function*() {
      const count = 900
      const messages = Array.from({ length: count }, (_, i) => `${i} ${"x".repeat(1500)}`)
      const ends = yield* way.make
      const received: Array<string> = []
      const served = yield* serve(ends.server, {
        ...lines,
        handle: (connection) =>
          Effect.gen(function*() {
            if ((yield* connection.receive) === "pull") {
              yield* connection.sendAll(messages)
              return yield* connection.close
            }
            yield* connection.send("go")
            while (true) received.push(...(yield* connection.receiveAll))
          })
      })
      const puller = yield* connect(way, ends, { ...lines, policy: { inboxMessages: 10 } })
      yield* puller.send("pull")
      // the client takes nothing more until everything is accepted and the close has begun
      const server = yield* arrival(served, 0)
      yield* eventually(server, ({ state }) => state === "closing" || state === "ended")
      const { messages: got, reason } = yield* takeRest(puller)
      assert.deepStrictEqual(got, messages)
      yield* ending(server)
      assert.strictEqual((yield* server.snapshot).lost, 0)
      assert.deepStrictEqual({ ...reason }, closedBy(way))

      const pusher = yield* connect(way, ends, lines)
      yield* pusher.send("push")
      // an answer read: Effect's TLS client destroys its socket, and session tickets left unread would make that a reset
      assert.strictEqual(yield* pusher.receive, "go")
      yield* pusher.sendAll(messages)
      yield* pusher.close
      yield* until("all is received", () => received.length === count)
      assert.deepStrictEqual(received, messages)
    }))

  it.live("B41 closing unblocks a waiting receive, here and there", () =>
    Effect.gen(function*() {
      const ends = yield* way.make
      const served = yield* serve(ends.server, lines)
      const client = yield* connect(way, ends, lines)
      const server = yield* arrival(served, 0)
      const waiting = yield* Effect.forkChild(reasonOf(client.receive), { startImmediately: true })
      yield* client.close
      assert.deepStrictEqual({ ...(yield* Fiber.join(waiting)) }, { _tag: "Closed", by: "local" } as never)
      assert.deepStrictEqual({ ...(yield* ending(server)) }, closedBy(way))
      assert.strictEqual((yield* reasonOf(client.send("late")))._tag, "Closed")
    }))

  it.live("B43 a reset and an end of stream are different reasons", () =>
    Effect.gen(function*() {
      const ends = yield* way.make
      const served = yield* serve(ends.server, lines)
      const cut = yield* ends.raw({ flowing: false })
      // so much that some of the echo stays in the kernel: only then is the end of a Unix socket a reset
      cut.top.write(Buffer.concat(Array.from({ length: 4000 }, () => written(way, "x".repeat(100)))))
      const first = yield* arrival(served, 0)
      yield* eventually(first, ({ bytesOut }) => bytesOut > 150_000)
      reset(cut)
      const broken = yield* ending(first)
      assert.strictEqual(broken._tag, "Reset", broken.message)

      const polite = yield* connect(way, ends, lines)
      const second = yield* arrival(served, 1)
      yield* polite.close
      assert.deepStrictEqual({ ...(yield* ending(second)) }, closedBy(way))
    }))

  it.live("ends with a typed reason when the bytes are no message, and tells the peer", () =>
    Effect.gen(function*() {
      const ends = yield* way.make
      const served = yield* serve(ends.server, { codec: Codec.lines().pipe(Codec.json) })
      const client = yield* connect(way, ends, lines)
      yield* client.sendAll(["{\"fine\":true}", "{oops", "{\"never\":\"read\"}"])
      const server = yield* arrival(served, 0)
      const reason = yield* ending(server)
      assert.deepStrictEqual(
        reason._tag === "InvalidMessage" ? [reason.direction, reason.format] : reason,
        ["decode", "JSON"]
      )
      assert.strictEqual((yield* server.snapshot).messagesIn, 1)
      const { reason: told } = yield* takeRest(client)
      assert.deepStrictEqual(
        told._tag === "Closed" ? [told.by, told.code] : told,
        ["peer", way.messages ? 1007 : undefined]
      )
    }))

  it.live("B14 a frame of exactly the limit passes, one byte more fails with both sizes", () =>
    Effect.gen(function*() {
      const ends = yield* way.make
      const served = yield* serve(ends.server, { ...frames, policy: { maxFrame: 1000 } })
      const client = yield* connect(way, ends, frames)
      yield* client.send(new Uint8Array(1000))
      assert.strictEqual((yield* client.receive).length, 1000)
      yield* client.send(new Uint8Array(1001))
      const reason = yield* ending(yield* arrival(served, 0))
      assert.deepStrictEqual(
        { ...reason },
        { _tag: "FrameTooLong", direction: "decode", size: 1001, limit: 1000 } as never
      )
      const { reason: told } = yield* takeRest(client)
      assert.deepStrictEqual(
        told._tag === "Closed" ? [told.by, told.code] : told,
        ["peer", way.messages ? 1009 : undefined]
      )
      // our own end refuses to send what it may not receive
      const small = yield* connect(way, ends, { ...frames, policy: { maxFrame: 1000 } })
      const refused = yield* reasonOf(small.send(new Uint8Array(1001)))
      assert.deepStrictEqual(
        refused._tag === "FrameTooLong" ? [refused.direction, refused.size, refused.limit] : refused,
        ["encode", 1001, 1000]
      )
      yield* small.send(new Uint8Array(3))
      assert.strictEqual((yield* small.receive).length, 3)
    }))
})

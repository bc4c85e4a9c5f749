import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import { TestClock } from "effect/testing"
import type { ConnectionError } from "../../src/index.ts"
import type { Role } from "../../src/internal/webSocket/header.ts"
import { overStream } from "../../src/internal/webSocket/socket.ts"
import { SocketContract, TestSocket } from "../../src/testing/index.ts"
import * as Memory from "../testing/support/memory.ts"
import { violation } from "../testing/support/runVirtual.ts"
import * as Wire from "./support/wire.ts"

const key = [0x37, 0xfa, 0x21, 0x3d]
const over = (stream: Socket.Socket, role: Role) =>
  overStream({ role, stream, maskKey: role === "client" ? () => 0x37fa213d : undefined }, {
    maxFrame: 1_000_000,
    linger: 1000
  })

/** A WebSocket over streams in memory. */
const transport = (): SocketContract.Transport => {
  const below = Memory.make({ messages: false })
  const streams = new WeakMap<Socket.Socket, Socket.Socket>()
  return {
    ...below,
    name: "WebSocket",
    messages: true,
    halfClose: false,
    abort: (accepted) => below.abort!(streams.get(accepted)!),
    listen: Effect.map(below.listen, ({ dial, server }) => ({
      dial: Effect.map(dial, (stream) => over(stream, "client")),
      server: {
        ...server,
        run: (handler) =>
          server.run((stream) => {
            const socket = over(stream, "server")
            streams.set(socket, stream)
            return handler(socket)
          })
      }
    }))
  }
}

describe("a WebSocket over a byte stream keeps the contract of sockets", () => {
  it.each(SocketContract.checksFor(transport()))("$name", (check) => {
    assert.strictEqual(violation(check, transport())?.message, undefined)
  })
})

/** The same stream, which counts its pulls, and dies of two at once. */
const counted = (stream: Socket.Socket) => {
  const pulls = { begun: 0, running: 0 }
  const reader = Effect.map(stream.reader, ({ pull, upgrade }) => ({
    upgrade,
    pull: Effect.suspend(() => {
      pulls.begun++
      if (++pulls.running > 1) return Effect.die(new Error("two pulls at once"))
      return Effect.ensuring(pull, Effect.sync(() => pulls.running--))
    })
  }))
  return { pulls, stream: Socket.make({ reader, writer: stream.writer }) }
}

/** A server's end and its peer, which writes frames by hand. */
const server = Effect.gen(function*() {
  const peer = yield* TestSocket.make()
  const scope = yield* Scope.make()
  const { pulls, stream } = counted(peer.socket)
  const socket = over(stream, "server")
  const { pull } = yield* Scope.provide(socket.reader, scope)
  const writer = yield* Scope.provide(socket.writer, scope)
  const send = (...frames: ReadonlyArray<Wire.FrameOptions>) =>
    peer.send(Uint8Array.from(frames.flatMap((options) => Wire.frame({ key, ...options }))))
  /** What came to the peer so far, as a client reads it. */
  const said = Effect.map(
    peer.written,
    (chunks) => Wire.ours("client", 1_000_000, chunks.map((chunk) => Wire.bytesOf(chunk))).story
  )
  return {
    peer,
    pulls,
    pull,
    writer,
    send,
    said,
    release: (exit: Exit.Exit<unknown, unknown>) => Scope.close(scope, exit)
  }
})

const closing = (code: number, reason = "") => ({
  opcode: 8,
  payload: [code >> 8, code & 255, ...Wire.bytesOf(reason)]
})

const reasonOf = (error: Socket.SocketError) =>
  error.reason._tag === "SocketCloseError"
    ? `${error.reason.code} ${error.reason.closeReason ?? ""}`
    : error.reason._tag

describe("a WebSocket over a byte stream", () => {
  it.effect("B109 the answer to a message comes before the answer to a close frame that came with it", () =>
    Effect.gen(function*() {
      const { peer, pull, release, said, send, writer } = yield* server
      yield* send({ opcode: 1, payload: "a" }, { opcode: 2, payload: [1] }, closing(4001, "token expired"))
      const messages = yield* pull
      assert.deepStrictEqual(messages, ["a", new Uint8Array([1])])
      yield* writer.writeAll(messages)
      assert.deepStrictEqual(yield* said, ["text \"a\"", "binary 01"])
      assert.strictEqual(reasonOf(yield* Effect.flip(pull)), "4001 token expired")
      assert.deepStrictEqual(yield* said, ["text \"a\"", "binary 01", "close 4001 \"\""])
      assert.strictEqual(reasonOf(yield* Effect.flip(pull)), "4001 token expired")
      assert.strictEqual((yield* Effect.flip(writer.write("late"))).reason._tag, "SocketWriteError")
      // a close frame is said once
      const { length } = yield* peer.written
      yield* writer.write(new Socket.CloseEvent(1000))
      yield* release(Exit.void)
      assert.strictEqual((yield* peer.written).length, length)
    }))

  it.effect("B126 what breaks the protocol fails the reader, after the messages before it, and the peer is told the code", () =>
    Effect.gen(function*() {
      for (
        const [frame, code, tag] of [
          [{ opcode: 3 }, 1002, "ProtocolViolation"],
          [{ opcode: 1, payload: [255] }, 1007, "InvalidMessage"],
          [{ opcode: 2, length: 1_000_001 }, 1009, "FrameTooLong"]
        ] as const
      ) {
        const { pull, said, send } = yield* server
        yield* send({ opcode: 1, payload: "a" }, frame)
        assert.deepStrictEqual(yield* pull, ["a"])
        const { reason } = yield* Effect.flip(pull)
        assert.strictEqual(reason._tag, "SocketReadError")
        const cause = (reason as Socket.SocketReadError).cause as ConnectionError.ConnectionError
        assert.strictEqual(cause.reason._tag, tag)
        assert.match((yield* said).join(), new RegExp(`^close ${code} `))
      }
    }))

  it.effect("B125 pings are answered in order; while the peer takes no pongs, 32 of them and the newest", () =>
    Effect.gen(function*() {
      const { peer, pull, said, send } = yield* server
      const ping = (i: number) => ({ opcode: 9, payload: [i] })
      const pongs = (...numbers: ReadonlyArray<number>) => numbers.map((i) => `pong ${i.toString(16).padStart(2, "0")}`)
      const numbers = (n: number) => Array.from({ length: n }, (_, i) => i)
      const pulling = yield* Effect.forkChild(pull)
      yield* send(...numbers(10).map(ping))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* said, pongs(...numbers(10)))
      yield* peer.window(0)
      yield* send(ping(10))
      yield* TestClock.adjust(0)
      for (let i = 11; i < 200; i++) yield* send(ping(i))
      yield* TestClock.adjust(0)
      // reading goes on meanwhile
      yield* send({ opcode: 1, payload: "a" })
      assert.deepStrictEqual(yield* Fiber.join(pulling), ["a"])
      yield* peer.window(Infinity)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* said, pongs(...numbers(43), 199))
    }))

  it.effect("B116 a peer that pings and takes no pongs is not read on, and is read again once it takes them", () =>
    Effect.gen(function*() {
      const { peer, pull, pulls, said, send } = yield* server
      const pulling = yield* Effect.forkChild(pull)
      yield* peer.window(0)
      for (let i = 0; i < 3000; i++) {
        yield* send({ opcode: 9, payload: [i >> 8, i & 255] })
        yield* TestClock.adjust(0)
      }
      // the first was on its way out when it stopped
      assert.isAtMost(pulls.begun, 1027)
      yield* send({ opcode: 1, payload: "a" })
      yield* peer.window(Infinity)
      assert.deepStrictEqual(yield* Fiber.join(pulling), ["a"])
      yield* TestClock.adjust(0)
      const pongs = yield* said
      assert.strictEqual(pongs.at(-1), "pong 0bb7")
      assert.isAtMost(pongs.length, 200)
    }))

  it.effect("B128 a close event waits for the peer's close frame, and no longer than it may linger", () =>
    Effect.gen(function*() {
      const { pull, said, send, writer } = yield* server
      const writing = yield* Effect.forkChild(writer.write(new Socket.CloseEvent(4001, "token expired")))
      yield* TestClock.adjust(500)
      assert.deepStrictEqual(yield* said, ["close 4001 \"token expired\""])
      assert.isUndefined(writing.pollUnsafe())
      yield* send({ opcode: 1, payload: "on its way" }, closing(4001))
      yield* TestClock.adjust(0)
      assert.isDefined(writing.pollUnsafe())
      // what came before it is still received
      assert.deepStrictEqual(yield* pull, ["on its way"])
      assert.strictEqual(reasonOf(yield* Effect.flip(pull)), "4001 ")
      assert.strictEqual((yield* said).length, 1)

      const silent = yield* server
      const waiting = yield* Effect.forkChild(silent.writer.write(new Socket.CloseEvent(1000)))
      const pulling = yield* Effect.forkChild(Effect.flip(silent.pull))
      yield* TestClock.adjust(999)
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.isDefined(waiting.pollUnsafe())
      assert.strictEqual(reasonOf(yield* Fiber.join(pulling)), "1006 ")
      assert.strictEqual(reasonOf(yield* Effect.flip(silent.pull)), "1006 ")
      yield* silent.peer.released
    }))

  it.effect("a close event sent while a pull waits: the messages before the peer's close frame go to the pull", () =>
    Effect.gen(function*() {
      const { peer, pull, send, writer } = yield* server
      const first = yield* Effect.forkChild(pull)
      yield* TestClock.adjust(0)
      const writing = yield* Effect.forkChild(writer.write(new Socket.CloseEvent(1000)))
      yield* TestClock.adjust(0)
      yield* send({ opcode: 1, payload: "a" })
      assert.deepStrictEqual(yield* Fiber.join(first), ["a"])
      const last = yield* Effect.forkChild(Effect.flip(pull))
      yield* TestClock.adjust(500)
      yield* send(closing(1000))
      yield* TestClock.adjust(0)
      assert.strictEqual(reasonOf(yield* Fiber.join(last)), "1000 ")
      yield* Fiber.join(writing)
      // one close frame, which the peer answered
      assert.strictEqual((yield* peer.written).length, 1)
    }))

  it.effect("a closing handshake reads 64 KiB for an application that does not read, and no more", () =>
    Effect.gen(function*() {
      const { pulls, send, writer } = yield* server
      const writing = yield* Effect.forkChild(writer.write(new Socket.CloseEvent(1000)))
      for (let i = 0; i < 20; i++) {
        yield* send({ opcode: 2, payload: new Uint8Array(10_000) })
        yield* TestClock.adjust(0)
      }
      assert.strictEqual(pulls.begun, 7)
      yield* TestClock.adjust(1000)
      yield* Fiber.join(writing)
    }))

  it.effect("nothing is read while nothing is pulled", () =>
    Effect.gen(function*() {
      const { pull, pulls, send } = yield* server
      yield* send({ opcode: 1, payload: "a" }, { opcode: 9 })
      yield* TestClock.adjust(1000)
      assert.strictEqual(pulls.begun, 0)
      assert.deepStrictEqual(yield* pull, ["a"])
      assert.strictEqual(pulls.begun, 1)
    }))

  it.effect("B128 a code that may not be sent is never sent", () =>
    Effect.gen(function*() {
      for (const code of [0, 999, 1004, 1005, 1006, 1015, 2000, 5000, 1000.5]) {
        const { said, writer } = yield* server
        yield* Effect.forkChild(writer.write(new Socket.CloseEvent(code)), { startImmediately: true })
        assert.deepStrictEqual(yield* said, [`close ${code === 0 || code === 1005 ? 1000 : 1011} ""`])
      }
    }))

  it.effect("a stream that ends without a close frame has ended with 1006", () =>
    Effect.gen(function*() {
      const { peer, pull, send } = yield* server
      yield* send({ opcode: 1, payload: "a" })
      yield* peer.end
      assert.deepStrictEqual(yield* pull, ["a"])
      assert.strictEqual(reasonOf(yield* Effect.flip(pull)), "1006 ")
    }))

  it.effect("releasing the reader says why: 1000, 1001 interrupted, 1011 failed", () =>
    Effect.gen(function*() {
      for (const [exit, code] of [[Exit.void, 1000], [Exit.interrupt(), 1001], [Exit.fail("x"), 1011]] as const) {
        const { said, release } = yield* server
        yield* release(exit)
        assert.deepStrictEqual(yield* said, [`close ${code} ""`])
      }
    }))

  it.effect("a peer that takes nothing does not hold up an end for longer than it may linger", () =>
    Effect.gen(function*() {
      const { peer, pull, send } = yield* server
      yield* peer.window(0)
      yield* send(closing(1000))
      const pulling = yield* Effect.forkChild(Effect.flip(pull))
      yield* TestClock.adjust(999)
      assert.isUndefined(pulling.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(reasonOf(yield* Fiber.join(pulling)), "1000 ")
    }))
})

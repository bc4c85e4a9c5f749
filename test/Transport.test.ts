/** Transports that hand over reads and take writes without a fiber, as those of `holdfast/node` do. */
import { assert, describe, it } from "@effect/vitest"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Socket from "effect/socket/Socket"
import { Codec, Connection } from "../src/index.ts"
import { ShortCuts } from "../src/internal/connection/fiberShortCuts.ts"
import { countingClock } from "./support/countingClock.ts"

/** These are about the short cuts, also where all else is tested without them. */
const openDirect = <In, Out>(socket: Socket.Socket, options: Connection.Options<In, Out>) =>
  Effect.provideService(Connection.make(socket, options), ShortCuts, true)

type Chunk = Uint8Array | string
type Read = Effect.Effect<NonEmptyReadonlyArray<Chunk>, Socket.SocketError>

const closeError = (code: number) => new Socket.SocketError({ reason: new Socket.SocketCloseError({ code }) })

const settle = Effect.gen(function*() {
  for (let i = 0; i < 20; i++) yield* Effect.yieldNow
})

/** A stream that offers what it reads, and keeps what nobody takes. */
const make = () => {
  let take: ((chunk: Chunk) => boolean) | undefined
  let waiter: ((read: Read) => void) | undefined
  let kept: Array<Chunk> = []
  let failure: Socket.SocketError | undefined
  const written: Array<Chunk> = []
  const state = { pulled: 0, direct: true, takesWrites: true }
  const wake = (): void => {
    const read: Read | undefined = kept.length > 0
      ? Effect.succeed(kept as unknown as NonEmptyReadonlyArray<Chunk>)
      : failure === undefined
      ? undefined
      : Effect.fail(failure)
    if (waiter === undefined || read === undefined) return
    if (kept.length > 0) state.pulled += kept.length
    kept = []
    const resume = waiter
    waiter = undefined
    resume(read)
  }
  const plain = Socket.make({
    reader: Effect.succeed({
      pull: Effect.callback<NonEmptyReadonlyArray<Chunk>, Socket.SocketError>((resume) => {
        waiter = resume
        wake()
      }),
      upgrade: Socket.SocketUpgradeError.unsupported
    }),
    writer: Effect.succeed({
      write: () => Effect.void,
      writeAll: (chunks: NonEmptyReadonlyArray<Chunk>) =>
        Effect.sync(() => {
          written.push(...chunks)
        })
    })
  })
  const socket = Connection.describe(plain, {
    messages: false,
    writeNow: (chunks) => {
      if (state.takesWrites) written.push(...chunks)
      return state.takesWrites
    },
    onRead: (taker) => take = taker
  })
  return {
    socket,
    state,
    written,
    give: (text: string) => {
      const chunk = new TextEncoder().encode(text)
      if (state.direct && take?.(chunk) === true) return
      kept.push(chunk)
      wake()
    },
    end: (code = 1000) => {
      failure = closeError(code)
      wake()
    }
  }
}

const lines = Codec.lines()

describe("a transport that offers its reads", () => {
  it.effect("a heartbeat that throws when its reader is made leaves nothing open", () =>
    Effect.gen(function*() {
      let held = 0
      const peer = make()
      const socket = Socket.make({
        reader: Effect.andThen(
          Effect.acquireRelease(Effect.sync(() => held++), () => Effect.sync(() => held--)),
          peer.socket.reader
        ),
        writer: peer.socket.writer
      })
      const heartbeat = {
        ping: () => "ping",
        reader: () => {
          throw new Error("no")
        }
      }
      const exit = yield* Effect.exit(Effect.suspend(() => openDirect(socket, { codec: lines, heartbeat })))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(held, 0)
    }))

  it.effect("two that wait differently: what wakes one may send the other away, and nothing is lost", () =>
    Effect.gen(function*() {
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec: lines })
      const all = yield* Effect.forkChild(connection.receiveAll, { startImmediately: true })
      const received: Array<string> = []
      const one = yield* Effect.forkChild(
        Effect.tap(connection.receive, (text) =>
          Effect.sync(() => {
            received.push(text)
            all.interruptUnsafe()
          })),
        { startImmediately: true }
      )
      peer.give("a\nb\n")
      yield* Fiber.join(one)
      received.push(yield* connection.receive)
      assert.deepStrictEqual(received, ["a", "b"])
    }))

  it.effect("closed with messages that nobody receives, nothing waits for anybody", () =>
    Effect.gen(function*() {
      const { clock, sleeping } = yield* countingClock
      const peer = make()
      yield* Effect.scoped(Effect.andThen(
        openDirect(peer.socket, { codec: lines }),
        Effect.suspend(() => {
          peer.give("a\n")
          return settle
        })
      )).pipe(Effect.provideService(Clock.Clock, clock))
      yield* settle
      assert.strictEqual(sleeping(), 0)
    }))

  it.effect("messages come in order, also those that had to be pulled", () =>
    Effect.gen(function*() {
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec: lines, policy: { inboxMessages: 4 } })
      const sent = Array.from({ length: 50 }, (_, i) => `${i}`)
      const received: Array<string> = []
      for (const [i, text] of sent.entries()) {
        peer.give(`${text}\n`)
        // nobody receives for a while: the inbox is full, and the rest waits to be pulled
        if (i % 10 === 9) {
          while (received.length <= i) received.push(yield* connection.receive)
          assert.isFalse((yield* connection.snapshot).paused)
        }
      }
      assert.deepStrictEqual(received, sent)
      assert.isAbove(peer.state.pulled, 5)
      // and after that reads are taken again
      yield* settle
      const before = peer.state.pulled
      peer.give("last\n")
      assert.strictEqual(yield* connection.receive, "last")
      assert.strictEqual(peer.state.pulled, before)
    }))

  it.effect("what waits to be pulled is not overtaken when there is room again", () =>
    Effect.gen(function*() {
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec: lines, policy: { inboxMessages: 2 } })
      for (let i = 0; i < 5; i++) peer.give(`${i}\n`)
      yield* settle
      // room, and the reader has not had its turn
      const received = [yield* connection.receive, yield* connection.receive]
      peer.give("5\n")
      while (received.length < 6) received.push(yield* connection.receive)
      assert.deepStrictEqual(received, ["0", "1", "2", "3", "4", "5"])
    }))

  it.effect("a bound of the inbox holds: one read more is kept, the rest is left to the transport", () =>
    Effect.gen(function*() {
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec: lines, policy: { inboxMessages: 2 } })
      for (let i = 0; i < 20; i++) peer.give(`${i}\n`)
      yield* settle
      const { inbox, messagesIn, paused } = yield* connection.snapshot
      assert.deepStrictEqual([inbox.messages, messagesIn, paused], [2, 2, true])
    }))

  it.effect("what came right before the end is received before it", () =>
    Effect.gen(function*() {
      for (const code of [1000, 1006]) {
        const peer = make()
        const connection = yield* openDirect(peer.socket, { codec: lines })
        peer.give("a\nb\n")
        peer.give("c\n")
        peer.end(code)
        assert.deepStrictEqual(yield* connection.receiveAll, ["a", "b", "c"])
        const error = yield* Effect.flip(connection.receive)
        assert.strictEqual(error.reason._tag, code === 1000 ? "Closed" : "Reset")
      }
    }))

  it.effect("an unfinished line at the end is an error", () =>
    Effect.gen(function*() {
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec: lines })
      peer.give("a\nb")
      peer.end()
      assert.strictEqual(yield* connection.receive, "a")
      const { reason } = yield* Effect.flip(connection.receive)
      assert.deepInclude(reason, { _tag: "Truncated", leftover: 1 })
    }))

  it.effect("a frame that is too long ends it with that reason, after the messages before", () =>
    Effect.gen(function*() {
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec: lines, policy: { maxFrame: 10 } })
      peer.give(`a\n${"x".repeat(11)}`)
      assert.strictEqual(yield* connection.receive, "a")
      // an answer to it may still leave, until the receiver is told the end
      assert.strictEqual((yield* Effect.flip(connection.receive)).reason._tag, "FrameTooLong")
      assert.strictEqual((yield* Effect.flip(connection.closed)).reason._tag, "FrameTooLong")
    }))

  it.effect("a codec that throws ends its connection, and nothing else", () =>
    Effect.gen(function*() {
      const thrown = new Error("no")
      const codec = Codec.make<string>({
        framing: {
          ...lines.framing,
          decoder: () => ({
            pending: 0,
            write: () => {
              throw thrown
            }
          })
        },
        payload: lines.payload
      })
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec })
      peer.give("a\n")
      const { reason } = yield* Effect.flip(connection.closed)
      assert.deepInclude(reason, { _tag: "Defect", by: "codec", cause: Cause.die(thrown) })
    }))
})

describe("a transport that takes writes", () => {
  it.effect("one that throws ends its connection with that reason, and nothing else", () =>
    Effect.gen(function*() {
      const thrown = new Error("no")
      const peer = make()
      const socket = Connection.describe(peer.socket, {
        messages: false,
        writeNow: () => {
          throw thrown
        }
      })
      const connection = yield* openDirect(socket, { codec: lines })
      yield* connection.send("a")
      const { reason } = yield* Effect.flip(connection.closed)
      assert.deepInclude(reason, { _tag: "Defect", by: "writer", cause: Cause.die(thrown) })
      assert.strictEqual((yield* Effect.flip(connection.flush)).reason, reason)
    }))

  it.effect("what a header has no use for is zero, whatever was written there before", () =>
    Effect.gen(function*() {
      const dirty = make()
      const wide = make()
      const one = yield* openDirect(dirty.socket, { codec: Codec.lengthPrefix() })
      const other = yield* openDirect(wide.socket, { codec: Codec.lengthPrefix({ bytes: 4, strip: 12 }) })
      const secret = new Uint8Array(100).fill(255)
      // taken back because one of them cannot be encoded
      const broken = Array.from({ length: 3 }, () => secret).concat(new Uint8Array(2_000_000))
      for (const size of [10, 4090, 5000]) {
        // the first one stays, and what was taken back was written behind it
        yield* one.send(new Uint8Array(1))
        assert.isDefined(yield* Effect.flip(one.sendAll(broken)))
        yield* one.flush
        yield* other.send(new Uint8Array(size))
        yield* other.flush
        const header = (wide.written.splice(0)[0] as Uint8Array).slice(0, 12)
        assert.deepStrictEqual(Array.from(header.subarray(4)), Array.from({ length: 8 }, () => 0), `${size}`)
      }
    }))

  it.effect("what is sent in one turn is one write", () =>
    Effect.gen(function*() {
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec: lines })
      for (const text of ["a", "b", "c"]) yield* connection.send(text)
      yield* connection.flush
      assert.deepStrictEqual(peer.written.map((chunk) => new TextDecoder().decode(chunk as Uint8Array)), ["a\nb\nc\n"])
    }))

  it.effect("what it does not take at once is written with its fiber, and keeps no large buffer alive", () =>
    Effect.gen(function*() {
      const peer = make()
      peer.state.takesWrites = false
      const connection = yield* openDirect(peer.socket, { codec: Codec.lengthPrefix() })
      yield* connection.send(new Uint8Array(10))
      yield* connection.flush
      assert.lengthOf(peer.written, 1)
      assert.strictEqual((peer.written[0] as Uint8Array).buffer.byteLength, 14)
    }))

  it.effect("a large message is written as it was given, behind its header", () =>
    Effect.gen(function*() {
      for (const takesWrites of [true, false]) {
        const peer = make()
        peer.state.takesWrites = takesWrites
        const connection = yield* openDirect(peer.socket, { codec: Codec.lengthPrefix() })
        const message = new Uint8Array(4096)
        yield* connection.sendAll([message, new Uint8Array([7])])
        yield* connection.flush
        assert.deepStrictEqual(peer.written.map((chunk) => chunk.length), [4, 4096, 5])
        assert.deepStrictEqual(Array.from(peer.written[0] as Uint8Array), [0, 0, 16, 0])
        assert.strictEqual(peer.written[1], message)
        assert.deepStrictEqual(Array.from(peer.written[2] as Uint8Array), [0, 0, 0, 1, 7])
        const { bytesOut, messagesOut, outbox } = yield* connection.snapshot
        assert.deepStrictEqual([bytesOut, messagesOut, outbox.messages, outbox.bytes], [4 + 4096 + 5, 2, 0, 0])
      }
    }))

  it.effect("close flushes and ends without waiting where there is nothing to wait for", () =>
    Effect.gen(function*() {
      const peer = make()
      const connection = yield* openDirect(peer.socket, { codec: lines })
      yield* connection.send("bye")
      const closing = yield* Effect.forkChild(connection.close)
      yield* Fiber.join(closing)
      assert.lengthOf(peer.written, 1)
      assert.strictEqual((yield* connection.snapshot).lost, 0)
    }))
})

/**
 * An in-memory socket whose far end is in the hands of a test.
 *
 * Nothing here takes time: what the test sends is there at once, and what the code under test writes is taken at once,
 * unless the test closes the window. That makes a conversation with a fake peer exact on a `TestClock`.
 *
 * **Example** (A conversation)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection } from "holdfast"
 * import { TestSocket } from "holdfast/testing"
 *
 * const program = Effect.gen(function*() {
 *   const peer = yield* TestSocket.make()
 *   const connection = yield* Connection.make(peer.socket, { codec: Codec.lines() })
 *   yield* peer.send("hello\nwor", "ld\n")
 *   const heard = [yield* connection.receive, yield* connection.receive] // "hello", "world"
 *   yield* connection.send("bye")
 *   return [heard, yield* peer.take] // "bye\n"
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { spawnIn } from "../internal/scheduling/supervised.ts"
import { sizeOf, textOf, toBytes } from "./internal/fabric/chunk.ts"
import { closeError, openError, readError, systemError, writeError } from "./internal/fabric/failures.ts"
import { countOrAll } from "./internal/fabric/settings.ts"

/**
 * The far end of a test socket.
 *
 * @category models
 * @since 0.1.0
 */
export interface Peer {
  /** The socket to give to the code under test. It opens when its reader is acquired, and can be used once. */
  readonly socket: Socket.Socket
  /** Sends bytes, or text: UTF-8 on a stream, one text message each on a message transport. */
  readonly send: (...data: ReadonlyArray<Uint8Array | string>) => Effect.Effect<void>
  /** Finishes sending (FIN); what was sent before is still read. */
  readonly end: Effect.Effect<void>
  /** Breaks the connection in both directions (RST); what was not read yet is lost. */
  readonly reset: Effect.Effect<void>
  /** Closes with a code and a text, as a WebSocket does. */
  readonly close: (code: number, reason?: string) => Effect.Effect<void>
  /** Takes everything written since the last take, as text; waits until there is something. Empty after the end. */
  readonly take: Effect.Effect<string>
  /** Everything written so far, as text. */
  readonly text: Effect.Effect<string>
  /** Everything written so far, one element a write of a frame. */
  readonly written: Effect.Effect<ReadonlyArray<Uint8Array | string>>
  /** Stops taking bytes (0), takes that many more, or everything again (`Infinity`, as it starts). */
  readonly window: (bytes: number) => Effect.Effect<void>
  /** Bytes written and not taken: what a kernel would still hold. */
  readonly unsent: () => number
  /** Whether the code under test has finished sending: its half-close, or the close event it wrote. */
  readonly finished: Effect.Effect<Socket.CloseEvent | boolean>
  /** Waits until the code under test has released the socket. */
  readonly released: Effect.Effect<void>
}

const resetCause = () => systemError("read", "ECONNRESET")

/**
 * Makes a socket and its far end.
 *
 * `messages` keeps text sent by the peer as text messages, as a WebSocket does. `halfOpen: false` makes writes fail once
 * the peer has ended.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: {
  readonly messages?: boolean | undefined
  readonly halfOpen?: boolean | undefined
}): Effect.Effect<Peer> =>
  Effect.gen(function*() {
    const incoming = yield* Queue.unbounded<Uint8Array | string, Socket.SocketError>()
    const written: Array<Uint8Array | string> = []
    const arrived = Latch.makeUnsafe(false)
    const credited = Latch.makeUnsafe(true)
    const released = Latch.makeUnsafe(false)
    let used = false
    let taken = 0
    let credit = Infinity
    let unsent = 0
    let broken: Socket.SocketError | undefined
    let finished: Socket.CloseEvent | boolean = false

    const write = (chunk: Uint8Array | string | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> =>
      Effect.suspend(() => {
        if (!Socket.isCloseEvent(chunk)) return writeAll([chunk])
        if (broken !== undefined) return Effect.fail(broken)
        if (finished !== false) return Effect.fail(writeError(new Error("write after end")))
        finished = chunk
        arrived.openUnsafe()
        return Effect.asVoid(Queue.fail(incoming, closeError(chunk.code, chunk.reason)))
      })
    const take = (left: number): Effect.Effect<void, Socket.SocketError> =>
      Effect.suspend(() => {
        if (broken !== undefined) return Effect.fail(broken)
        const now = Math.min(left, credit)
        credit -= now
        unsent -= now
        if (now === left) return Effect.void
        credited.closeUnsafe()
        return Effect.andThen(credited.await, take(left - now))
      })
    // like a kernel's socket, it has all of a batch at once and passes it on as the window allows
    const writeAll = (chunks: NonEmptyReadonlyArray<Uint8Array | string>): Effect.Effect<void, Socket.SocketError> =>
      Effect.suspend(() => {
        if (broken !== undefined) return Effect.fail(broken)
        if (finished !== false) return Effect.fail(writeError(new Error("write after end")))
        for (const chunk of chunks) unsent += sizeOf(chunk)
        return Effect.forEach(chunks, deliver, { discard: true })
      })
    const deliver = (chunk: Uint8Array | string): Effect.Effect<void, Socket.SocketError> =>
      Effect.andThen(
        take(sizeOf(chunk)),
        // the effect: `openUnsafe` would run a waiting fiber in the middle of this write
        Effect.suspend(() => {
          written.push(chunk)
          return Effect.asVoid(arrived.open)
        })
      )

    const breakWith = (read: Socket.SocketError, write: Socket.SocketError, lose: boolean) =>
      Effect.gen(function*() {
        if (lose) yield* Effect.ignore(Queue.clear(incoming))
        broken = write
        credited.openUnsafe()
        yield* Queue.fail(incoming, read)
      })

    const socket = Socket.make({
      reader: Effect.gen(function*() {
        if (used) {
          return yield* openError(new Error("this test socket was used before: make a fresh one for every connection"))
        }
        used = true
        // the reader contract: closing the scope fails a suspended pull
        yield* Effect.addFinalizer(() =>
          Effect.suspend(() => {
            if (finished === false) finished = true
            arrived.openUnsafe()
            released.openUnsafe()
            return Queue.fail(incoming, closeError(1006))
          })
        )
        return { pull: Queue.takeAll(incoming), upgrade: Socket.SocketUpgradeError.unsupported }
      }),
      // a WebSocket has no half-close
      writer: Effect.acquireRelease(Effect.succeed({ write, writeAll }), () =>
        Effect.sync(() => {
          if (finished === false && options?.messages !== true) finished = true
          arrived.openUnsafe()
        }))
    })

    const takeText: Effect.Effect<string> = Effect.suspend(() => {
      if (written.length === taken && finished === false && broken === undefined) {
        arrived.closeUnsafe()
        return Effect.andThen(arrived.await, takeText)
      }
      const text = textOf(written.slice(taken))
      taken = written.length
      return Effect.succeed(text)
    })

    return {
      socket,
      send: (...data) =>
        Effect.asVoid(Queue.offerAll(
          incoming,
          options?.messages === true
            ? data
            // a reader may change what it gets
            : data.map((chunk) => new Uint8Array(toBytes(chunk)))
        )),
      end: Effect.suspend(() => {
        if (options?.halfOpen === false) {
          broken = writeError(new Error("This socket has been ended by the other party"))
        }
        return Effect.asVoid(Queue.fail(incoming, closeError(1000)))
      }),
      reset: breakWith(
        readError(resetCause()),
        writeError(resetCause()),
        true
      ),
      close: (code, reason) => breakWith(closeError(code, reason), closeError(code, reason), false),
      take: takeText,
      text: Effect.sync(() => textOf(written)),
      written: Effect.sync(() => written.slice()),
      window: (bytes) =>
        Effect.sync(() => {
          credit = countOrAll("window", bytes, 0)
          credited.openUnsafe()
        }),
      unsent: () => unsent,
      finished: Effect.sync(() => finished),
      released: released.await
    }
  })

/**
 * A server to which a test connects peers.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  /** Provide it as `SocketServer.SocketServer` to the code under test. */
  readonly server: SocketServer.SocketServer["Service"]
  /** Connects a fake peer. It waits in the backlog until the server runs. */
  readonly connect: Effect.Effect<Peer>
  /** Makes the running accept loop fail, as when file descriptors run out; it can be run again. */
  readonly failAccept: (cause: unknown) => Effect.Effect<void>
  /** How often `run` was started. */
  readonly runs: Effect.Effect<number>
}

/**
 * Makes a server to which a test connects peers. `wrap` may describe a socket before the server sees it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeServer = (options?: {
  readonly wrap?: ((socket: Socket.Socket, index: number) => Socket.Socket) | undefined
  readonly messages?: boolean | undefined
}): Effect.Effect<Server> =>
  Effect.gen(function*() {
    const backlog = yield* Queue.unbounded<Socket.Socket, SocketServer.SocketServerError>()
    let current = backlog
    let runs = 0
    let index = 0
    return {
      server: {
        address: NetAddress.inetAddressFromIpStringUnsafe("127.0.0.1", 7),
        run: (handler) =>
          Effect.gen(function*() {
            runs++
            const scope = yield* Scope.make()
            return yield* Effect.gen(function*() {
              while (true) {
                const socket = yield* Queue.take(current)
                // what a handler fails with ends it alone
                yield* spawnIn(scope, "handler", Effect.ignoreCause(handler(socket)), () => {}, {
                  startImmediately: true
                })
              }
            }).pipe(Effect.ensuring(Scope.close(scope, Exit.void)))
          })
      },
      connect: Effect.gen(function*() {
        const peer = yield* make({ messages: options?.messages })
        const socket = options?.wrap === undefined ? peer.socket : options.wrap(peer.socket, index++)
        yield* Queue.offer(current, socket)
        return peer
      }),
      failAccept: (cause) =>
        Effect.gen(function*() {
          const failing = current
          current = yield* Queue.unbounded<Socket.Socket, SocketServer.SocketServerError>()
          yield* Queue.fail(
            failing,
            new SocketServer.SocketServerError({ reason: new SocketServer.SocketServerUnknownError({ cause }) })
          )
        }),
      runs: Effect.sync(() => runs)
    }
  })

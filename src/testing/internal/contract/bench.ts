/** What a check holds: a server, the open sockets of both ends of a connection, and bytes to send over it. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import type { Transport } from "../../Transport.ts"
import { toBytes } from "../fabric/chunk.ts"
import { beginScoped, Broken, broken, describeExit, settle, succeeds, within } from "./check.ts"

/** One end of a live connection. */
export interface OpenSocket {
  readonly socket: Socket.Socket
  readonly pull: Effect.Effect<NonEmptyReadonlyArray<Uint8Array | string>, Socket.SocketError>
  readonly writer: Socket.Writer
  /** Releases the writer. */
  readonly finish: Effect.Effect<void>
  /** Releases the writer and then the reader, as a scope that holds both does. */
  readonly close: Effect.Effect<void>
  /** Releases the reader alone. */
  readonly closeReader: Effect.Effect<void>
  /** Pulled and not asked for yet. */
  rest: Array<Uint8Array | string>
}

/** A scope of its own inside the check's. */
const subScope: Effect.Effect<Scope.Closeable, never, Scope.Scope> = Effect.acquireRelease(
  Scope.make(),
  (scope, exit) => Scope.close(scope, exit)
)

/** Acquires both sides of a socket. */
export const open = (
  transport: Transport,
  socket: Socket.Socket,
  who: string
): Effect.Effect<OpenSocket, Broken, Scope.Scope> =>
  Effect.gen(function*() {
    const readerScope = yield* subScope
    const writerScope = yield* subScope
    const { pull } = yield* succeeds(
      transport,
      `the reader of ${who} to be acquired`,
      Scope.provide(socket.reader, readerScope)
    )
    const writer = yield* Scope.provide(socket.writer, writerScope)
    return {
      socket,
      pull,
      writer,
      finish: Scope.close(writerScope, Exit.void),
      close: Effect.andThen(Scope.close(writerScope, Exit.void), Scope.close(readerScope, Exit.void)),
      closeReader: Scope.close(readerScope, Exit.void),
      rest: []
    }
  })

/** A server whose connections wait in a queue. */
export interface Bench {
  /** Makes a socket to the server, not dialled yet. */
  readonly dial: Effect.Effect<Socket.Socket, Broken, Scope.Scope>
  /** The next connection that the server handed out. */
  readonly accept: Effect.Effect<Socket.Socket, Broken>
  /** The same, if there is one. */
  readonly poll: Effect.Effect<Socket.Socket | undefined>
  /** Stops the accept loop. */
  readonly stopAccepting: Effect.Effect<void>
  /** Closes the listener, and the accept loop with it. */
  readonly stop: Effect.Effect<void>
}

const failWith = (expected: string) => (cause: Cause.Cause<unknown>): Effect.Effect<never, Broken> =>
  broken(expected, describeExit(Exit.failCause(cause)))

/** Listens, without an accept loop. */
export const listen = (transport: Transport) =>
  Effect.gen(function*() {
    const scope = yield* subScope
    const { dial, server } = yield* within(
      transport,
      "to listen",
      Effect.catchCause(Scope.provide(transport.listen, scope), failWith("to listen"))
    )
    return {
      server,
      dial: Effect.catchCause(dial, failWith("a socket to be made")) as Effect.Effect<
        Socket.Socket,
        Broken,
        Scope.Scope
      >,
      stop: Scope.close(scope, Exit.void)
    }
  })

/** Listens, and accepts every connection. The handlers never end by themselves: the checks own the sockets. */
export const start = (transport: Transport): Effect.Effect<Bench, Broken, Scope.Scope> =>
  Effect.gen(function*() {
    const { dial, server, stop } = yield* listen(transport)
    const accepted = yield* Queue.unbounded<Socket.Socket, Broken>()
    const fiber = yield* run(server, accepted)
    return {
      dial,
      accept: within(transport, "the server to hand out a connection", Queue.take(accepted)),
      poll: Effect.map(
        Effect.orElseSucceed(Queue.poll(accepted), () => undefined),
        (taken) => taken?._tag === "Some" ? taken.value : undefined
      ),
      stopAccepting: Effect.asVoid(Fiber.interrupt(fiber)),
      stop: Effect.andThen(Fiber.interrupt(fiber), stop)
    }
  })

/** Runs an accept loop that puts its sockets into a queue, and fails the queue when it fails itself. */
export const run = (
  server: SocketServer.SocketServer["Service"],
  accepted: Queue.Queue<Socket.Socket, Broken>
): Effect.Effect<Fiber.Fiber<unknown, unknown>, never, Scope.Scope> =>
  server.run((socket) => Effect.andThen(Queue.offer(accepted, socket), Effect.never)).pipe(
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : Queue.fail(
        accepted,
        new Broken({ expected: "the accept loop to run on", seen: describeExit(Exit.failCause(cause)) })
      )
    ),
    beginScoped
  )

/** One more connection: the dialling end and the accepted one. */
export const connect = (
  transport: Transport,
  bench: Bench,
  dial: Bench["dial"] = bench.dial
): Effect.Effect<readonly [client: OpenSocket, server: OpenSocket], Broken, Scope.Scope> =>
  Effect.gen(function*() {
    const socket = yield* dial
    return yield* Effect.all([
      open(transport, socket, "the dialling end"),
      Effect.flatMap(bench.accept, (socket) => open(transport, socket, "the accepted end"))
    ], { concurrency: 2 })
  })

/** A connection of its own. */
export const pair = (transport: Transport) => Effect.flatMap(start(transport), (bench) => connect(transport, bench))

// ---------------------------------------------------------------------------------------------------------------------
// reading
// ---------------------------------------------------------------------------------------------------------------------

const pullInto = (transport: Transport, end: OpenSocket, expected: string): Effect.Effect<void, Broken> =>
  Effect.flatMap(succeeds(transport, expected, end.pull), (batch) => {
    if (batch.length === 0) return broken("a pull to bring at least one chunk", "an empty batch")
    end.rest.push(...batch)
    return Effect.void
  })

/** The next `size` bytes, messages joined. What came with them is kept for the next call. */
export const receive = (transport: Transport, end: OpenSocket, size: number): Effect.Effect<Uint8Array, Broken> =>
  Effect.gen(function*() {
    const parts: Array<Uint8Array> = []
    let missing = size
    while (missing > 0) {
      while (end.rest.length === 0) {
        yield* pullInto(transport, end, `${size} bytes, of which ${size - missing} came`)
      }
      const part = toBytes(end.rest.shift()!)
      if (part.byteLength > missing) end.rest.unshift(part.subarray(missing))
      parts.push(part.subarray(0, missing))
      missing -= Math.min(missing, part.byteLength)
    }
    return concat(parts)
  })

/**
 * The next bytes have to be these. In blocks, so that the first wrong byte is told and not the bytes that are missing at
 * the end because of it.
 */
export const arrives = (
  transport: Transport,
  end: OpenSocket,
  wanted: Uint8Array,
  expected: string
): Effect.Effect<void, Broken> =>
  Effect.gen(function*() {
    for (let at = 0; at < wanted.byteLength; at += 4096) {
      const block = wanted.subarray(at, at + 4096)
      const seen = yield* receive(transport, end, block.byteLength)
      yield* expectBytes(seen, block, at === 0 ? expected : `${expected}; behind ${at} bytes that did arrive`)
    }
  })

/** The next messages, as they are. */
export const receiveMessages = (
  transport: Transport,
  end: OpenSocket,
  count: number
): Effect.Effect<ReadonlyArray<Uint8Array | string>, Broken> =>
  Effect.gen(function*() {
    while (end.rest.length < count) {
      yield* pullInto(transport, end, `${count} messages, of which ${end.rest.length} came`)
    }
    return end.rest.splice(0, count)
  })

/** Everything up to the end, and the end. */
export const receiveRest = (
  transport: Transport,
  end: OpenSocket,
  expected: string = "the connection to end"
): Effect.Effect<readonly [Uint8Array, Socket.SocketError], Broken> =>
  Effect.gen(function*() {
    const parts = end.rest.splice(0).map(toBytes)
    while (true) {
      const exit = yield* settle(transport, expected, end.pull)
      if (Exit.isFailure(exit)) return [concat(parts), Cause.squash(exit.cause) as Socket.SocketError] as const
      parts.push(...exit.value.map(toBytes))
    }
  })

/** Writes that have to succeed. */
export const send = (
  transport: Transport,
  end: OpenSocket,
  ...chunks: NonEmptyReadonlyArray<Uint8Array | string>
): Effect.Effect<void, Broken> => succeeds(transport, "a write to be taken", end.writer.writeAll(chunks))

/** Whether an error is the orderly end of a stream. */
export const isEnd = ({ reason }: Socket.SocketError): boolean =>
  reason._tag === "SocketCloseError" && reason.code === 1000

// ---------------------------------------------------------------------------------------------------------------------
// bytes
// ---------------------------------------------------------------------------------------------------------------------

export const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const out = new Uint8Array(parts.reduce((size, part) => size + part.byteLength, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.byteLength
  }
  return out
}

// Knuth's multiplicative hash: neighbours differ, and nothing repeats within a block
const byteAt = (seed: number, position: number): number => Math.imul(position + seed * 7919, 2_654_435_761) >>> 24

/** Bytes `from` to `from + size` of the endless sequence that belongs to a seed. */
export const pattern = (seed: number, size: number, from: number = 0): Uint8Array => {
  const out = new Uint8Array(size)
  for (let i = 0; i < size; i++) out[i] = byteAt(seed, from + i)
  return out
}

/** How bytes differ from what they should be, or undefined. */
export const difference = (seen: Uint8Array, wanted: Uint8Array): string | undefined => {
  const size = Math.min(seen.byteLength, wanted.byteLength)
  for (let i = 0; i < size; i++) {
    if (seen[i] !== wanted[i]) return `byte ${i} of ${wanted.byteLength} to be ${seen[i]} instead of ${wanted[i]}`
  }
  return seen.byteLength === wanted.byteLength ? undefined : `${seen.byteLength} bytes instead of ${wanted.byteLength}`
}

/** Fails unless these are the bytes. */
export const expectBytes = (seen: Uint8Array, wanted: Uint8Array, expected: string): Effect.Effect<void, Broken> => {
  const problem = difference(seen, wanted)
  return problem === undefined ? Effect.void : broken(expected, problem)
}

/** Both ends of conversations over a test network, in the hands of one test. */
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue, Scope } from "effect"
import type { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import { TestNetwork } from "../../../src/testing/index.ts"

const decoder = new TextDecoder()

export const bytes = (size: number, value = 0): Uint8Array => new Uint8Array(size).fill(value)

export const text = (batch: ReadonlyArray<Uint8Array | string>): string =>
  batch.map((chunk) => typeof chunk === "string" ? chunk : decoder.decode(chunk)).join("")

export const size = (batch: ReadonlyArray<Uint8Array | string>): number =>
  batch.reduce((sum, chunk) => sum + chunk.length, 0)

export const causeCode = ({ reason }: Socket.SocketError): unknown =>
  "cause" in reason ? (reason.cause as { readonly code?: unknown }).code : undefined

/** How an operation failed: the kind of error, and the system's code or the close code. */
export const failure = (error: Socket.SocketError): readonly [string, unknown] => [
  error.reason._tag,
  error.reason._tag === "SocketCloseError" ? error.reason.code : causeCode(error)
]

export interface End {
  readonly socket: Socket.Socket
  readonly pull: Socket.Reader["pull"]
  readonly write: Socket.Writer["write"]
  readonly writeAll: Socket.Writer["writeAll"]
  /** Half-closes. */
  readonly finish: Effect.Effect<void>
  /** Releases the writer and then the reader. */
  readonly close: Effect.Effect<void>
  /** Releases the reader first: closes without having half-closed. */
  readonly drop: Effect.Effect<void>
}

/** Opens a socket in a scope of its own within the present one. */
export const open = (socket: Socket.Socket): Effect.Effect<End, Socket.SocketError, Scope.Scope> =>
  Effect.gen(function*() {
    const outer = yield* Effect.scope
    const scope = yield* Scope.fork(outer)
    const writing = yield* Scope.fork(scope)
    const { pull } = yield* Scope.provide(socket.reader, scope)
    const { write, writeAll } = yield* Scope.provide(socket.writer, writing)
    const finish = Scope.close(writing, Exit.void)
    const drop = Scope.close(scope, Exit.void)
    return { socket, pull, write, writeAll, finish, drop, close: Effect.andThen(finish, drop) }
  })

/** Accepts everything on a port of a host. */
export const accepting = (host: TestNetwork.Host, port: number, options?: TestNetwork.ListenOptions) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const server = yield* host.listen(port, options)
    const queue = yield* Queue.unbounded<End>()
    let count = 0
    yield* Effect.forkScoped(
      server.run((socket) =>
        Effect.gen(function*() {
          count++
          yield* Queue.offer(queue, yield* Scope.provide(open(socket), scope))
        })
      ),
      { startImmediately: true }
    )
    return { server, take: Queue.take(queue), count: () => count }
  })

/** A client and a server in conversation; it is 1 second past the beginning, and nothing is on its way. */
export const connected = (
  options?: TestNetwork.Options,
  ends?: { readonly listen?: TestNetwork.ListenOptions; readonly dial?: TestNetwork.DialOptions }
) =>
  Effect.gen(function*() {
    const network = yield* TestNetwork.make({ seed: "test", ...options })
    const accepted = yield* accepting(network.host("server"), 7, ends?.listen)
    const dial = Effect.gen(function*() {
      const opening = yield* Effect.forkScoped(open(network.host("client").dial("server:7", ends?.dial)))
      yield* TestClock.adjust(1000)
      return [yield* Fiber.join(opening), yield* accepted.take] as const
    })
    const [client, server] = yield* dial
    return { network, client, server, dial, link: network.link("client", "server") }
  })

/** Lets everything happen that takes no time. */
export const settle = Effect.forEach(Array.from({ length: 30 }), () => Effect.yieldNow, { discard: true })

/** Runs an effect, and says that it takes exactly this long. */
export const takes = <A, E, R>(millis: number, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    if (millis > 0) {
      yield* TestClock.adjust(millis - 1)
      assert.isUndefined(fiber.pollUnsafe(), `over before ${millis} ms`)
      yield* TestClock.adjust(1)
    } else yield* TestClock.adjust(0)
    yield* settle
    assert.isDefined(fiber.pollUnsafe(), `not over after ${millis} ms`)
    return yield* Fiber.join(fiber)
  })

/** Says that an effect does not end in this time, and interrupts it. */
export const waits = <A, E, R>(millis: number, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    yield* TestClock.adjust(millis)
    assert.isUndefined(fiber.pollUnsafe(), `over within ${millis} ms`)
    yield* Fiber.interrupt(fiber)
  })

/** A fault that the test ends itself. */
export const during = <A>(fault: Effect.Effect<A, never, Scope.Scope>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    return [yield* Scope.provide(fault, scope), Scope.close(scope, Exit.void)] as const
  })

/** Reads until the end; what was read, and how it ended. */
export const readAll = (end: Pick<End, "pull">): Effect.Effect<readonly [string, Socket.SocketError]> =>
  Effect.gen(function*() {
    let all = ""
    while (true) {
      const result = yield* Effect.result(end.pull)
      if (result._tag === "Failure") return [all, result.failure] as const
      all += text(result.success)
    }
  })

/** Reads until this many bytes are there. */
export const readBytes = (end: Pick<End, "pull">, count: number): Effect.Effect<string, Socket.SocketError> =>
  Effect.gen(function*() {
    let all = ""
    while (all.length < count) all += text(yield* end.pull)
    return all
  })

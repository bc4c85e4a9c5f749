/** Both ends of conversations over a test network, in the hands of one test. */
import { Effect, Queue, Scope } from "effect"
import type { Socket } from "effect/socket"
import type { TestNetwork } from "../../../src/testing/index.ts"

const decoder = new TextDecoder()

export const bytes = (size: number, value = 0): Uint8Array => new Uint8Array(size).fill(value)

export const text = (batch: ReadonlyArray<Uint8Array | string>): string =>
  batch.map((chunk) => typeof chunk === "string" ? chunk : decoder.decode(chunk)).join("")

export const size = (batch: ReadonlyArray<Uint8Array | string>): number =>
  batch.reduce((sum, chunk) => sum + chunk.length, 0)

export const causeCode = ({ reason }: Socket.SocketError): unknown =>
  "cause" in reason ? (reason.cause as { readonly code?: unknown }).code : undefined

export interface End {
  readonly pull: Socket.Reader["pull"]
  readonly write: Socket.Writer["write"]
  readonly writeAll: Socket.Writer["writeAll"]
  /** Half-closes. */
  readonly finish: Effect.Effect<void>
  /** Releases writer and reader. */
  readonly close: Effect.Effect<void>
}

/** Opens a socket in a scope of its own within the present one. */
export const open = (socket: Socket.Socket): Effect.Effect<End, Socket.SocketError, Scope.Scope> =>
  Effect.gen(function*() {
    const outer = yield* Effect.scope
    const scope = yield* Scope.fork(outer)
    const writing = yield* Scope.fork(scope)
    const { pull } = yield* Scope.provide(socket.reader, scope)
    const { write, writeAll } = yield* Scope.provide(socket.writer, writing)
    const finish = Scope.close(writing, { _tag: "Success" } as never)
    return {
      pull,
      write,
      writeAll,
      finish,
      close: Effect.andThen(finish, Scope.close(scope, { _tag: "Success" } as never))
    }
  })

/** Accepts everything on a port of a host. */
export const accepting = (host: TestNetwork.Host, port: number, options?: TestNetwork.ListenOptions) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const server = yield* host.listen(port, options)
    const queue = yield* Queue.unbounded<End>()
    let count = 0
    yield* Effect.forkScoped(server.run((socket) =>
      Effect.gen(function*() {
        count++
        yield* Queue.offer(queue, yield* Scope.provide(open(socket), scope))
      })
    ))
    return { server, take: Queue.take(queue), count: () => count }
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

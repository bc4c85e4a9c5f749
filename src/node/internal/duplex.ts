/**
 * A socket of `effect/socket` over a Node stream.
 *
 * `NodeSocket.fromDuplex` reads paused: each read waits for `readable` in a tick of its own, joins what came into one
 * chunk, and stops and starts the kernel's reading around large ones. Here the stream flows, and is paused when nobody
 * reads: what comes can be taken in the event that brings it (`Transport.onRead`), without waking a fiber. And writes to a
 * stream that is gone fail, where NodeSocket waits for events that a destroyed stream has emitted long ago.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { Duplex } from "node:stream"
import { describe, type Transport } from "../../internal/transport.ts"
import { type Chunk, type Sink, writeError } from "./stream.ts"

// what is read ahead of whoever pulls: the mark of Node's own streams
const readAhead = 64 * 1024

const closed = (code: number): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code }) })

// the same for every connection: making an error costs more than everything else that happens at the end
const ended = closed(1000)
const aborted = closed(1006)

const readError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause }) })

type Pull = Effect.Effect<NonEmptyReadonlyArray<Chunk>, Socket.SocketError>

/** Reads a stream until `stop`. */
const read = (conn: Duplex, sink: Sink): { readonly pull: Pull; readonly stop: () => void } => {
  let chunks: Array<Chunk> = []
  let ahead = 0
  let failure: Socket.SocketError | undefined
  let waiter: ((result: Pull) => void) | undefined

  const settle = (): void => {
    if (waiter === undefined) return
    const result: Pull | undefined = chunks.length > 0
      ? Effect.succeed(chunks as unknown as NonEmptyReadonlyArray<Chunk>)
      : failure === undefined
      ? undefined
      : Effect.fail(failure)
    if (result === undefined) return
    if (chunks.length > 0) chunks = []
    const resume = waiter
    waiter = undefined
    // before what it wakes: that may pull again, and pause
    if (ahead >= readAhead) conn.resume()
    ahead = 0
    resume(result)
  }
  const onData = (chunk: Chunk): void => {
    if (sink.take?.(chunk) === true) return
    chunks.push(chunk)
    if (waiter !== undefined) return settle()
    ahead += chunk.length
    if (ahead >= readAhead) conn.pause()
  }
  const end = (error: Socket.SocketError): void => {
    failure ??= error
    settle()
  }
  /** What was read and not pulled is lost. */
  const abort = (error: Socket.SocketError): void => {
    chunks = []
    end(error)
  }
  const onEnd = (): void => end(ended)
  const onError = (cause: unknown): void => abort(readError(cause))
  const onClose = (): void => conn.errored === null ? end(ended) : abort(aborted)

  // what has happened already is not told again
  if (conn.errored !== null) onError(conn.errored)
  else if (conn.destroyed || conn.readableEnded) onEnd()
  conn.on("data", onData)
  conn.on("end", onEnd)
  conn.on("error", onError)
  conn.on("close", onClose)
  conn.resume()
  const gone = Effect.sync(() => {
    waiter = undefined
  })
  return {
    pull: Effect.callback((resume) => {
      waiter = resume
      settle()
      return waiter === resume ? gone : undefined
    }),
    stop() {
      // a pull in another fiber ends
      abort(aborted)
      sink.take = undefined
      conn.off("data", onData)
      conn.off("end", onEnd)
      conn.off("error", onError)
      conn.off("close", onClose)
    }
  }
}

/** Waits until a stream that is full has room again. */
const drained = (conn: Duplex): Effect.Effect<void, Socket.SocketError> =>
  Effect.callback((resume) => {
    const cleanup = (): void => {
      conn.off("drain", onDrain)
      conn.off("error", onError)
      conn.off("close", onClose)
    }
    const settle = (result: Effect.Effect<void, Socket.SocketError>): void => {
      cleanup()
      resume(result)
    }
    const onDrain = (): void => settle(Effect.void)
    const onError = (cause: unknown): void => settle(Effect.fail(writeError(cause)))
    const onClose = (): void => settle(Effect.fail(writeError(new Error("the connection is closed"))))
    conn.on("drain", onDrain)
    conn.on("error", onError)
    conn.on("close", onClose)
    return Effect.sync(cleanup)
  })

const write = (conn: Duplex, chunks: ReadonlyArray<Chunk>): Effect.Effect<void, Socket.SocketError> => {
  if (conn.destroyed) return Effect.fail(writeError(conn.errored ?? new Error("the connection is closed")))
  conn.cork()
  try {
    for (const chunk of chunks) conn.write(chunk)
  } catch (cause) {
    return Effect.fail(writeError(cause))
  } finally {
    conn.uncork()
  }
  // one that failed at once emits its error in the next tick
  return conn.writableNeedDrain || conn.errored !== null ? drained(conn) : Effect.void
}

const timedOut = (): Effect.Effect<never, Socket.SocketError> => {
  const reason = new Socket.SocketOpenError({ kind: "Timeout", cause: new Error("Connection timed out") })
  return Effect.fail(new Socket.SocketError({ reason }))
}

/**
 * Makes the socket. `open` is run when its reader is acquired. With an `openTimeout`, in milliseconds, it may take its time,
 * can be interrupted, and releases its stream itself when the scope closes; without one it has the stream already, which is
 * for `release`.
 */
export const makeSocket = <R extends Duplex>(
  options: {
    readonly open: Effect.Effect<R, Socket.SocketError, Scope.Scope>
    readonly openTimeout?: number
    readonly release?: (conn: R) => void
  },
  transport: Transport
): Socket.Socket => {
  let current: R | undefined
  const sink: Sink = { take: undefined }
  const connected = Latch.makeUnsafe(false)
  const take = (conn: R, scope: Scope.Scope): Effect.Effect<Socket.Reader> => {
    const { pull, stop } = read(conn, sink)
    const stopped = Effect.sync(() => {
      stop()
      connected.closeUnsafe()
      current = undefined
      options.release?.(conn)
    })
    current = conn
    connected.openUnsafe()
    return Effect.as(Scope.addFinalizer(scope, stopped), { pull, upgrade: Socket.SocketUpgradeError.unsupported })
  }
  // only dialling can be interrupted: nothing comes between having a stream and owning it
  const { open, openTimeout } = options
  const dialled = openTimeout === undefined || openTimeout === Infinity
    ? open
    : Effect.timeoutOrElse(open, { duration: openTimeout, orElse: timedOut })
  const reader = Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.scope,
      (scope) => Effect.flatMap(openTimeout === undefined ? dialled : restore(dialled), (conn) => take(conn, scope))
    )
  )
  const writeAll = (chunks: NonEmptyReadonlyArray<Chunk>): Effect.Effect<void, Socket.SocketError> =>
    Effect.suspend(() => current === undefined ? connected.whenOpen(writeAll(chunks)) : write(current, chunks))
  const writeOne = (chunk: Chunk | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> =>
    Socket.isCloseEvent(chunk)
      ? Effect.suspend(() => {
        if (current === undefined) return connected.whenOpen(writeOne(chunk))
        current.destroy(chunk.code > 1000 ? new Error(`closed with code ${chunk.code}`) : undefined)
        return Effect.void
      })
      : writeAll([chunk])
  const writer = Effect.acquireRelease(Effect.succeed({ write: writeOne, writeAll }), () =>
    Effect.sync(() => {
      if (current !== undefined && !current.writableEnded) current.end()
    }))
  return describe(
    Socket.make({ reader, writer }),
    Object.assign(transport, {
      onRead(take: (chunk: Chunk) => boolean) {
        sink.take = take
      }
    })
  )
}

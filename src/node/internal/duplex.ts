/**
 * A socket of `effect/socket` over a Node stream.
 *
 * `NodeSocket.fromDuplex` reads paused: each read waits for `readable` in a tick of its own, joins what came into one
 * chunk, and stops and starts the kernel's reading around large ones. Here the stream flows, and is paused while no reader
 * pulls: what comes can be taken in the event that brings it (`Transport.onRead`), without waking a fiber. And writes to a
 * stream that is gone fail, where NodeSocket waits for events that a destroyed stream has emitted long ago.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { Duplex } from "node:stream"
import { isWhole, setShared } from "../../internal/bytes/memory.ts"
import { type Transport, TypeId } from "../../internal/transport/transport.ts"
import { type Chunk, unsent, writeError, writeNow } from "./stream.ts"

// bytes read ahead of the reader's pull: the mark of Node's own streams
const readAhead = 64 * 1024

const closed = (code: number): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code }) })

// the same for every connection: making an error costs more than everything else that happens at the end
const ended = closed(1000)
const aborted = closed(1006)

const readError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause }) })

type Pull = Effect.Effect<NonEmptyReadonlyArray<Chunk>, Socket.SocketError>

const none: Array<Chunk> = []

// who reads a stream: the listeners are the same functions for all of them
const reading = Symbol("holdfast/reading")
type Read = Duplex & { [reading]?: Stream | undefined }

function onData(this: Read, chunk: Chunk): void {
  this[reading]?.received(chunk)
}
function onEnd(this: Read): void {
  this[reading]?.end(ended)
}
function onError(this: Read, cause: unknown): void {
  this[reading]?.abort(readError(cause))
}
function onClose(this: Read): void {
  if (this.errored === null) this[reading]?.end(ended)
  else this[reading]?.abort(aborted)
}

/** One byte stream, from `start` to `stop`. */
export class Stream {
  private conn: Read | undefined
  private chunks = none
  private ahead = 0
  private failure: Socket.SocketError | undefined
  private waiter: ((result: Pull) => void) | undefined
  private take: ((chunk: Chunk) => boolean) | undefined
  // made by a write before there is a stream
  private connected: Latch.Latch | undefined

  get isStarted(): boolean {
    return this.conn !== undefined
  }

  // -------------------------------------------------------------------------------------------------------------------
  // reading
  // -------------------------------------------------------------------------------------------------------------------

  start(conn: Read): void {
    // as new, where another stream was read before
    this.failure = undefined
    this.ahead = 0
    this.conn = conn
    // what has happened already is not told again
    if (conn.errored !== null) this.abort(readError(conn.errored))
    else if (conn.destroyed || conn.readableEnded) this.end(ended)
    conn[reading] = this
    conn.on("data", onData)
    conn.on("end", onEnd)
    conn.on("error", onError)
    conn.on("close", onClose)
    conn.resume()
    this.connected?.openUnsafe()
  }

  stop(): void {
    const { conn } = this
    if (conn === undefined) return
    // a pull in another fiber ends
    this.abort(aborted)
    this.take = undefined
    this.connected = undefined
    this.conn = undefined
    conn[reading] = undefined
    conn.off("data", onData)
    conn.off("end", onEnd)
    conn.off("error", onError)
    conn.off("close", onClose)
  }

  /** @internal */
  received(chunk: Chunk): void {
    if (this.take !== undefined && this.offer(chunk, this.take)) return
    if (this.chunks === none) this.chunks = [chunk]
    else this.chunks.push(chunk)
    if (this.waiter !== undefined) return this.settle()
    this.ahead += chunk.length
    if (this.ahead >= readAhead) this.conn!.pause()
  }

  /** Offers a chunk to the connection, which may release the memory of a large one unless another listener shares it. */
  private offer(chunk: Chunk, take: (chunk: Chunk) => boolean): boolean {
    if (typeof chunk === "string" || !isWhole(chunk) || this.conn!.listenerCount("data") > 1) return take(chunk)
    setShared(chunk, false)
    if (take(chunk)) return true
    setShared(chunk, true)
    return false
  }

  /** @internal */
  end(error: Socket.SocketError): void {
    this.failure ??= error
    this.settle()
  }

  /**
   * What was read and not pulled is lost.
   *
   * @internal
   */
  abort(error: Socket.SocketError): void {
    this.chunks = none
    this.end(error)
  }

  private settle(): void {
    const { chunks, failure, waiter } = this
    if (waiter === undefined || (chunks.length === 0 && failure === undefined)) return
    this.chunks = none
    this.waiter = undefined
    // before what it wakes: that may pull again, and pause
    if (this.ahead >= readAhead) this.conn?.resume()
    this.ahead = 0
    waiter(
      chunks.length > 0 ? Effect.succeed(chunks as unknown as NonEmptyReadonlyArray<Chunk>) : Effect.fail(failure!)
    )
  }

  get pull(): Pull {
    return Effect.callback((resume) => {
      this.waiter = resume
      this.settle()
      if (this.waiter !== resume) return
      return Effect.sync(() => {
        this.waiter = undefined
      })
    })
  }

  onRead(take: (chunk: Chunk) => boolean): void {
    this.take = take
  }

  // -------------------------------------------------------------------------------------------------------------------
  // writing
  // -------------------------------------------------------------------------------------------------------------------

  unsent(): number {
    return this.conn === undefined ? 0 : unsent(this.conn)
  }

  writeNow(chunks: NonEmptyReadonlyArray<Chunk>): boolean {
    return this.conn !== undefined && writeNow(this.conn, chunks)
  }

  private whenConnected<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    this.connected ??= Latch.makeUnsafe(false)
    return this.connected.whenOpen(effect)
  }

  /** Waits until there is a stream. */
  writeAll(chunks: NonEmptyReadonlyArray<Chunk>): Effect.Effect<void, Socket.SocketError> {
    const writing: Effect.Effect<void, Socket.SocketError> = Effect.suspend(() =>
      this.conn === undefined ? this.whenConnected(writing) : write(this.conn, chunks)
    )
    return writing
  }

  write(chunk: Chunk | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> {
    if (!Socket.isCloseEvent(chunk)) return this.writeAll([chunk])
    const closing: Effect.Effect<void> = Effect.suspend(() => {
      if (this.conn === undefined) return this.whenConnected(closing)
      this.conn.destroy(chunk.code > 1000 ? new Error(`closed with code ${chunk.code}`) : undefined)
      return Effect.void
    })
    return closing
  }

  /** Ends our side. */
  finish(): void {
    if (this.conn !== undefined && !this.conn.writableEnded) this.conn.end()
  }
}

export const readerOf = ({ pull }: Stream): Socket.Reader => ({ pull, upgrade: Socket.SocketUpgradeError.unsupported })

export const writerOf = (stream: Pick<Stream, "finish" | "write" | "writeAll">): Socket.Socket["writer"] => {
  const writer: Socket.Writer = {
    write: (chunk) => stream.write(chunk),
    writeAll: (chunks) => stream.writeAll(chunks)
  }
  return Effect.acquireRelease(Effect.succeed(writer), () => Effect.sync(() => stream.finish()))
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

/** What leads to a stream, and takes its time. It can be interrupted, and releases the stream when its scope closes. */
export interface Dialling<R extends Duplex> {
  readonly open: Effect.Effect<R, Socket.SocketError, Scope.Scope>
  /** In milliseconds. */
  readonly openTimeout: number
  readonly localOf: (conn: R) => string | undefined
  readonly remote: string | undefined
}

/** A stream that is dialled when its reader is acquired, each time anew. What is written goes to the latest one. */
export class DialledSocket<R extends Duplex> implements Socket.Socket, Transport {
  readonly [Socket.TypeId]: typeof Socket.TypeId = Socket.TypeId
  readonly [TypeId] = this
  readonly messages = false
  private readonly dialling: Dialling<R>
  private dialled: R | undefined
  private stream = new Stream()

  constructor(dialling: Dialling<R>) {
    this.dialling = dialling
  }

  get local(): string | undefined {
    return this.dialled === undefined ? undefined : this.dialling.localOf(this.dialled)
  }

  get remote(): string | undefined {
    return this.dialling.remote
  }

  unsent(): number {
    return this.stream.unsent()
  }

  writeNow(chunks: NonEmptyReadonlyArray<Chunk>): boolean {
    return this.stream.writeNow(chunks)
  }

  onRead(take: (chunk: Chunk) => boolean): void {
    this.stream.onRead(take)
  }

  write(chunk: Chunk | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> {
    return Effect.suspend(() => this.stream.write(chunk))
  }

  writeAll(chunks: NonEmptyReadonlyArray<Chunk>): Effect.Effect<void, Socket.SocketError> {
    return Effect.suspend(() => this.stream.writeAll(chunks))
  }

  finish(): void {
    this.stream.finish()
  }

  get reader(): Effect.Effect<Socket.Reader, Socket.SocketError, Scope.Scope> {
    const { open, openTimeout } = this.dialling
    const dialled = openTimeout === Infinity
      ? open
      : Effect.timeoutOrElse(open, { duration: openTimeout, orElse: timedOut })
    // only dialling can be interrupted: nothing comes between having a stream and owning it
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.scope, (scope) =>
        Effect.flatMap(restore(dialled), (conn) => {
          if (this.stream.isStarted) this.stream = new Stream()
          const { stream } = this
          this.dialled = conn
          stream.start(conn)
          return Effect.as(Scope.addFinalizer(scope, Effect.sync(() => stream.stop())), readerOf(stream))
        }))
    )
  }

  get writer(): Socket.Socket["writer"] {
    return writerOf(this)
  }
}

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
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Socket from "effect/socket/Socket"
import type { Duplex } from "node:stream"
import { balance, isWhole, setUnshared } from "../../../internal/bytes/memory.ts"
import type { Pulled, Reading, Source, Taker } from "../../../internal/transport/accepted.ts"
import { drop, type NodeStream, startReading, stopReading } from "./handle.ts"

export type Chunk = Uint8Array | string

/** Why a connection could not be opened: a `ConnectionError` is the reason itself. */
export const openError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })

export const writeError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause }) })

// bytes read ahead of the reader's pull: the mark of Node's own streams
const readAhead = 64 * 1024

const closed = (code: number): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code }) })

// the same for every connection: making an error costs more than everything else that happens at the end
const ended = closed(1000)
const aborted = closed(1006)

const readError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause }) })

/** Of a stream that knows what its errors mean: a `ConnectionError`, or nothing where it does not know. */
export const Meaning = Symbol("holdfast/meaning")
type Meaningful = Duplex & { readonly [Meaning]?: (cause: unknown) => unknown }

/** What an error of a stream means. */
export const errorOf = (conn: Duplex, cause: unknown): unknown => (conn as Meaningful)[Meaning]?.(cause) ?? cause

type Pull = Effect.Effect<NonEmptyReadonlyArray<Chunk>, Socket.SocketError>

const none: Array<Chunk> = []
const nothing = new Uint8Array(0)

// who reads a stream, or null: the listeners are the same functions for all of them
const reading = Symbol("holdfast/reading")
const owner = Symbol("holdfast/owner")
type ReadStream = Duplex & { [reading]?: Stream | null; [owner]?: Closing }

/** What is told that a stream is closed. */
export interface Closing {
  readonly closed: () => void
}

function onData(this: ReadStream, chunk: Chunk): void {
  this[reading]?.received(chunk)
}
function onEnd(this: ReadStream): void {
  this[reading]?.end(ended)
}
function onError(this: ReadStream, cause: unknown): void {
  this[reading]?.abort(readError(errorOf(this, cause)))
}
function onClose(this: ReadStream): void {
  this[owner]?.closed()
  if (this.errored === null) this[reading]?.end(ended)
  else this[reading]?.abort(aborted)
}

/** From now on no error of a stream is unheard: who reads it then is told of it, and of its end. */
export const hear = (conn: ReadStream): void => {
  conn[reading] = null
  conn.on("error", onError)
  conn.on("close", onClose)
}

/** Tells `by` when a stream is closed. */
export const own = (conn: ReadStream, by: Closing): void => {
  if (conn[reading] === undefined) hear(conn)
  conn[owner] = by
}

/** Says that the memory of a chunk may be released, if it is large and no other listener shares it. */
export const claimMemory = (conn: Duplex, chunk: Chunk): void => {
  if (typeof chunk !== "string" && isWhole(chunk) && conn.listenerCount("data") === 1) setUnshared(chunk)
}

/** One byte stream, from `start` to `stop`. */
export class Stream implements Source {
  private conn: ReadStream | undefined
  private chunks = none
  private ahead = 0
  private isPaused = false
  private failure: Socket.SocketError | undefined
  private waiter: ((result: Effect.Effect<never, never>) => void) | undefined
  // what the waiter goes on with; without one it takes what it pulled itself
  private into: Reading<unknown> | undefined
  private taker: Taker | undefined
  // made by a write before there is a stream
  private connected: Latch.Latch | undefined

  get isStarted(): boolean {
    return this.conn !== undefined
  }

  // -------------------------------------------------------------------------------------------------------------------
  // reading
  // -------------------------------------------------------------------------------------------------------------------

  start(conn: ReadStream): void {
    // as new, where another stream was read before
    this.failure = undefined
    this.ahead = 0
    this.isPaused = false
    this.conn = conn
    // what has happened already is not told again
    if (conn.errored !== null) this.abort(readError(errorOf(conn, conn.errored)))
    else if (conn.destroyed || conn.readableEnded) this.end(ended)
    if (conn[reading] === undefined) hear(conn)
    conn[reading] = this
    conn.on("data", onData)
    conn.on("end", onEnd)
    conn.resume()
    this.connected?.openUnsafe()
  }

  stop(): void {
    const { conn } = this
    if (conn === undefined) return
    // a pull in another fiber ends
    this.abort(aborted)
    this.taker = undefined
    this.connected = undefined
    this.resume()
    this.conn = undefined
    conn[reading] = null
    conn.off("data", onData)
    conn.off("end", onEnd)
  }

  /** @internal */
  received(chunk: Chunk): void {
    balance(chunk.length)
    if (this.taker !== undefined) {
      // the connection may release it now, or when it pulls what it does not take
      claimMemory(this.conn!, chunk)
      if (this.taker.takes(chunk)) return
    }
    if (this.chunks === none) this.chunks = [chunk]
    else this.chunks.push(chunk)
    if (this.waiter !== undefined) return this.settle()
    this.ahead += chunk.length
    if (this.ahead >= readAhead) this.conn!.pause()
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
    const { chunks, failure, into, waiter } = this
    if (waiter === undefined || (chunks.length === 0 && failure === undefined)) return
    this.chunks = none
    this.waiter = this.into = undefined
    // before what it wakes: that may pull again, and pause
    if (this.isPaused) this.resume()
    else if (this.ahead >= readAhead) this.conn?.resume()
    this.ahead = 0
    const pulled: Pulled = chunks.length > 0
      ? Exit.succeed(chunks as unknown as NonEmptyReadonlyArray<Chunk>)
      : Exit.fail(failure!)
    waiter((into === undefined ? pulled : Effect.suspend(() => into.pulled(pulled))) as Effect.Effect<never, never>)
  }

  private wait(waiter: NonNullable<Stream["waiter"]>, into?: Reading<unknown>): boolean {
    this.waiter = waiter
    this.into = into
    this.settle()
    if (this.waiter !== waiter) return false
    // it was paused for what the reader had, and nothing came meanwhile
    this.resume()
    return true
  }

  get pull(): Pull {
    return Effect.callback((resume) =>
      this.wait(resume)
        ? Effect.sync(() => {
          this.waiter = undefined
        })
        : undefined
    )
  }

  /** The fiber has nothing on its stack while it waits. One that is interrupted pulls no more. */
  pullInto<E>(reading: Reading<E>): Effect.Effect<never, E> {
    return Effect.callback((resume) => void this.wait(resume, reading))
  }

  onRead(takes: Taker["takes"]): void {
    this.offerTo({ takes })
  }

  offerTo(taker: Taker): void {
    this.taker = taker
  }

  /** Bytes that were read and not pulled. */
  unread(): number {
    return this.conn === undefined ? 0 : this.ahead + this.conn.readableLength
  }

  pause(): void {
    const { conn } = this
    if (conn === undefined || this.isPaused || conn.destroyed) return
    this.isPaused = true
    conn.pause()
    stopReading(conn)
  }

  resume(): void {
    const { conn } = this
    if (conn === undefined || !this.isPaused) return
    this.isPaused = false
    startReading(conn)
    conn.resume()
  }

  /** The peer is told by a reset. */
  drop(): void {
    if (this.conn !== undefined) drop(this.conn)
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

  /**
   * A stream that is paused is told of no reset: libuv asks the kernel about nothing then. A write of nothing has it say what it
   * knows, and sends nothing.
   */
  fault(): Socket.SocketError | undefined {
    const { conn, failure } = this
    if (failure !== undefined) return failure === ended ? undefined : failure
    if (conn === undefined || !conn.writable || conn.writableLength > 0) return undefined
    // a write of nothing stays in TLS, and is heard where that has a listener for errors
    const below = (conn as Duplex & NodeStream)._parent
    if (below === undefined || below === null) conn.write(nothing)
    else if (below.writable && below.listenerCount("error") > 0) below.write(nothing)
    return undefined
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

// ---------------------------------------------------------------------------------------------------------------------
// writing
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Bytes given to a stream which the kernel has not taken.
 *
 * Measured on Node 24 with a slow reader and one 8 MiB write:
 * - `writableLength` stays at 8 MiB until the last byte is gone and then drops to 0, so alone it cannot tell slow from
 *   stalled;
 * - libuv's `writeQueueSize` of a TCP or Unix handle shrinks with every partial write, but knows nothing of what waits
 *   behind the write in progress;
 * - of a TLS handle `writeQueueSize` only grows, the one that shrinks is that of the TCP handle below it.
 *
 * So: what Node has not passed on yet (`writableLength` less the write in progress) and what libuv still has of that
 * write. The three fields are internal to Node; where they are missing this is `writableLength`.
 *
 * The kernel reports room only after a third of its send buffer is free, so this falls in steps of up to a third of
 * that buffer: more than 1 MiB on Linux loopback, tens to hundreds of KiB between machines.
 */
export const unsent = (conn: Duplex): number => {
  if (conn.writableLength === 0) return 0
  const { _handle: handle, _writableState: state } = conn as Duplex & NodeStream
  const queued = handle?._parent?.writeQueueSize ?? handle?.writeQueueSize
  return queued === undefined || state?.writelen === undefined
    ? conn.writableLength
    : conn.writableLength - state.writelen + queued
}

/** Whether a stream takes all of it and is still below the mark above which it wants to be waited for. */
const hasRoom = (conn: Duplex, chunks: ReadonlyArray<Chunk>): boolean => {
  if (!conn.writable) return false
  let size = conn.writableLength
  for (const chunk of chunks) size += typeof chunk === "string" ? chunk.length * 3 : chunk.byteLength
  return size < conn.writableHighWaterMark
}

/**
 * `Transport.writeNow` of a stream, or of what writes to it: as long as what the stream holds stays below the mark above
 * which it wants to be waited for.
 */
export const writeNow = (
  conn: Duplex,
  chunks: ReadonlyArray<Chunk>,
  write: (chunk: Chunk) => void = (chunk) => conn.write(chunk)
): boolean => {
  if (!hasRoom(conn, chunks)) return false
  if (chunks.length > 1) conn.cork()
  try {
    for (const chunk of chunks) write(chunk)
  } finally {
    if (chunks.length > 1) conn.uncork()
  }
  // a write that failed at once is reported by the next write
  return conn.errored === null
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
    const onError = (cause: unknown): void => settle(Effect.fail(writeError(errorOf(conn, cause))))
    const onClose = (): void => settle(Effect.fail(writeError(new Error("the connection is closed"))))
    conn.on("drain", onDrain)
    conn.on("error", onError)
    conn.on("close", onClose)
    return Effect.sync(cleanup)
  })

const write = (conn: Duplex, chunks: ReadonlyArray<Chunk>): Effect.Effect<void, Socket.SocketError> => {
  if (conn.destroyed) {
    return Effect.fail(writeError(errorOf(conn, conn.errored ?? new Error("the connection is closed"))))
  }
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

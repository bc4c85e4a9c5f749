/** A socket over a stream that is dialled when its reader is acquired. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { Duplex } from "node:stream"
import { type Transport, TypeId } from "../../../internal/transport/transport.ts"
import { type Chunk, readerOf, Stream, writerOf } from "./duplex.ts"

export const timedOut = (): Effect.Effect<never, Socket.SocketError> => {
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

  unread(): number {
    return this.stream.unread()
  }

  pause(): void {
    this.stream.pause()
  }

  resume(): void {
    this.stream.resume()
  }

  drop(): void {
    this.stream.drop()
  }

  unsent(): number {
    return this.stream.unsent()
  }

  fault(): Socket.SocketError | undefined {
    return this.stream.fault()
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
